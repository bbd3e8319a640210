//! Distances between layers, and their conversion to similarities.

use crate::maths::manifold::{Points, median_of};

/// Computes the mean distance `1/n sum_i |x_i - y_i|`.
pub(super) fn mean_euclidean(x: &Points, y: &Points) -> f64 {
    let sum: f64 = x
        .rows()
        .zip(y.rows())
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt())
        .sum();
    sum / x.n_points() as f64
}

/// Computes `1 / (1 + x / median)` for each entry `x` of the rows `0..=l` of a distance matrix. The median is
/// taken over pairs of different layers.
///
/// If the median is zero (most layers are equal), the limit is taken: 1 for distance zero, else 0.
pub(super) fn similarities(distances: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut pairs: Vec<f64> =
        distances.iter().enumerate().flat_map(|(l, row)| row.iter().take(l).copied()).collect();
    let median = median_of(&mut pairs).unwrap_or(1.0);
    let similarity = |x: f64| {
        if x == 0.0 { 1.0 } else { 1.0 / (1.0 + x / median) }
    };
    distances.iter().map(|row| row.iter().map(|&x| similarity(x)).collect()).collect()
}
