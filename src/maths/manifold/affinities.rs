//! Affinities of the points of a layer, which t-SNE keeps.

use super::kernel::{SquaredDistances, exp_of_negative};
use crate::kernels::threads;

/// Effective number of neighbours that each point has among the affinities, if there are at least three times as many
/// other points; else a third of the other points.
pub const PERPLEXITY: f64 = 30.0;

/// Largest difference of an entropy, in nats, from that of the perplexity.
const TOLERANCE: f64 = 1e-12;

/// Symmetric affinities `p_ij` of the points of a layer: `p_ii = 0`, and all together sum to 1.
///
/// ```text
/// p_j|i = exp(-b_i d2_ij) / sum_k exp(-b_i d2_ik),   - sum_j p_j|i ln p_j|i = ln(perplexity)
/// p_ij  = (p_j|i + p_i|j) / 2n
/// ```
///
/// Each `b_i` is found to an entropy within `1e-12` of that of the perplexity. A point with more equally near
/// neighbours than the perplexity has them alone, in equal parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinities {
    n: usize,
    perplexity: f64,
    /// Row-major, `n x n`.
    p: Vec<f64>,
}

impl Affinities {
    /// Computes the affinities for the perplexity `min(30, (n - 1) / 3)`.
    ///
    /// Cost: about ten exponentials for each pair of points.
    pub fn new(distances: &SquaredDistances) -> Self {
        let n = distances.n_points();
        let perplexity = PERPLEXITY.min((n as f64 - 1.0) / 3.0);
        let mut d2 = vec![0.0; n * n];
        for (j, column) in distances.columns().enumerate() {
            for (i, value) in (j + 1..).zip(column) {
                d2[i * n + j] = *value;
                d2[j * n + i] = *value;
            }
        }
        let rows = threads::map_rows(n, |i| conditional(&d2[i * n..(i + 1) * n], i, perplexity));
        let mut p = d2;
        for (i, row) in rows.iter().enumerate() {
            for (j, other) in rows.iter().enumerate() {
                p[i * n + j] = (row[j] + other[i]) / (2.0 * n as f64);
            }
        }
        Affinities { n, perplexity, p }
    }

    /// Returns `p_ij`, or `None` past the end.
    pub fn between(&self, i: usize, j: usize) -> Option<f64> {
        if i < self.n && j < self.n { self.p.get(i * self.n + j).copied() } else { None }
    }

    /// Returns the perplexity: the effective number of neighbours of each point.
    pub fn perplexity(&self) -> f64 {
        self.perplexity
    }

    /// Returns the number of points.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Returns `p_ij` for all `j`; `i` must be below [`n`](Self::n).
    pub(super) fn row(&self, i: usize) -> &[f64] {
        &self.p[i * self.n..(i + 1) * self.n]
    }
}

/// Computes the row `p_j|i` of point `at` from its squared distances `d2`.
///
/// Newton's method on `ln b` finds the entropy, whose derivative is `-b^2` times the variance of the squared
/// distances; a step that leaves the interval in which the solution lies is replaced by the middle.
fn conditional(d2: &[f64], at: usize, perplexity: f64) -> Vec<f64> {
    let others = || d2.iter().enumerate().filter(|(j, _)| *j != at);
    let nearest = others().map(|(_, d)| *d).fold(f64::INFINITY, f64::min);
    let mean = others().map(|(_, d)| d - nearest).sum::<f64>() / (d2.len() as f64 - 1.0);
    if mean <= 0.0 {
        // All others are equally far.
        let share = 1.0 / (d2.len() as f64 - 1.0);
        return (0..d2.len()).map(|j| if j == at { 0.0 } else { share }).collect();
    }
    let away: Vec<f64> = d2.iter().map(|d| (d - nearest) / mean).collect();
    let target = perplexity.ln();
    let mut p = vec![0.0; d2.len()];
    let (mut low, mut high) = (-30.0_f64, 60.0_f64);
    let mut log_b = 0.0_f64;
    for _ in 0..100 {
        let b = log_b.exp();
        p.iter_mut().zip(&away).for_each(|(p, d)| *p = exp_of_negative(-b * d));
        p[at] = 0.0;
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        let first: f64 = p.iter().zip(&away).map(|(p, d)| p * d).sum();
        let second: f64 = p.iter().zip(&away).map(|(p, d)| p * (d - first) * (d - first)).sum();
        let excess = sum.ln() + b * first - target;
        if excess.abs() <= TOLERANCE || high - low < 1e-14 {
            break;
        }
        if excess > 0.0 {
            low = log_b;
        } else {
            high = log_b;
        }
        let next = log_b + excess / (b * b * second);
        log_b = if next > low && next < high { next } else { 0.5 * (low + high) };
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maths::manifold::{Normalise, Points, squared_distances};

    fn curved(n: usize, dim: usize) -> Points {
        let value = |i: usize, j: usize| {
            let t = i as f64 * 0.37;
            (t * (1.0 + j as f64 * 0.3)).sin() + 0.3 * (t * t * (j as f64 + 1.0)).cos() + 0.01 * t
        };
        Points::from_f64(0, n, dim, (0..n * dim).map(|k| value(k / dim, k % dim)).collect()).unwrap()
    }

    fn affinities(n: usize) -> Affinities {
        Affinities::new(&squared_distances(&curved(n, 6), 0, Normalise::None).unwrap())
    }

    #[test]
    fn every_row_has_the_entropy_of_the_perplexity() {
        for n in [7, 20, 91, 150] {
            let points = curved(n, 6);
            let distances = squared_distances(&points, 0, Normalise::None).unwrap();
            let perplexity = PERPLEXITY.min((n as f64 - 1.0) / 3.0);
            for i in 0..n {
                let d2: Vec<f64> = (0..n).map(|j| distances.between(i, j).unwrap()).collect();
                let p = conditional(&d2, i, perplexity);
                let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
                assert!((entropy - perplexity.ln()).abs() < 1e-11, "{n} {i}: {entropy}");
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-14 && p[i] == 0.0);
                // Nearer points are not less likely.
                for (a, p_a) in d2.iter().zip(&p) {
                    let wrong = d2.iter().zip(&p).any(|(b, p_b)| *b > 0.0 && *a > 0.0 && a < b && p_a < p_b);
                    assert!(!wrong);
                }
            }
            assert_eq!(affinities(n).perplexity(), perplexity);
        }
    }

    #[test]
    fn affinities_are_symmetric_and_sum_to_one() {
        let found = affinities(61);
        let mut sum = 0.0;
        for i in 0..61 {
            assert_eq!(found.between(i, i), Some(0.0));
            for j in 0..61 {
                assert_eq!(found.between(i, j), found.between(j, i));
                sum += found.between(i, j).unwrap();
            }
        }
        assert!((sum - 1.0).abs() < 1e-13, "{sum}");
        assert_eq!([found.between(61, 0), found.between(0, 61)], [None, None]);
    }

    #[test]
    fn more_equal_points_than_neighbours_share_the_affinity() {
        let d2: Vec<f64> = (0..40).map(|j| if j < 20 { 0.0 } else { f64::from(j) }).collect();
        let p = conditional(&d2, 0, 5.0);
        assert!(p[1..20].iter().all(|p| (p - 1.0 / 19.0).abs() < 1e-12), "{p:?}");
        let equal = conditional(&[0.0, 2.0, 2.0, 2.0], 0, 1.5);
        assert!(equal[1..].iter().all(|p| *p == 1.0 / 3.0) && equal[0] == 0.0);
    }
}
