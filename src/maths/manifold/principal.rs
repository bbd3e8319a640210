//! Principal coordinates of the points of a layer, from the distances between them.

use faer::Mat;

use super::eigen::leading_pairs;
use super::kernel::{SquaredDistances, mirror};
use super::map::fix_sign;
use crate::error::Result;

/// Computes the leading principal coordinates, at most `count` of them and fewer than there are points, each with its
/// value at every point.
///
/// The centred Gram matrix follows from the squared distances alone (Torgerson, Psychometrika 17, 1952), and its
/// eigenpairs `(lambda_k, u_k)` give the coordinates:
///
/// ```text
/// g_ij = -(d2_ij - m_i - m_j + m) / 2,   c_k = sqrt(lambda_k) u_k     m: means of rows, and of all
/// ```
///
/// These are the coordinates of a principal component analysis of the points. They do not change when all points are
/// turned or shifted. The entry of largest magnitude of each is positive.
///
/// # Errors
/// [`Error::Numeric`](crate::Error::Numeric), naming the layer, if the eigenvalues do not converge.
pub(super) fn principal_coordinates(
    distances: &SquaredDistances,
    count: usize,
    layer: usize,
) -> Result<Vec<Vec<f64>>> {
    let n = distances.n_points();
    let mut gram = Mat::<f64>::zeros(n, n);
    let mut means = vec![0.0; n];
    for (j, column) in distances.columns().enumerate() {
        gram.col_as_slice_mut(j)[j + 1..].copy_from_slice(column);
        means[j] += column.iter().sum::<f64>();
        means[j + 1..].iter_mut().zip(column).for_each(|(m, d2)| *m += d2);
    }
    means.iter_mut().for_each(|m| *m /= n as f64);
    let mean = means.iter().sum::<f64>() / n as f64;
    // The trace of the Gram matrix, by which it is divided: its eigenvalues are then at most 1.
    let trace: f64 = means.iter().map(|m| m - 0.5 * mean).sum();
    for j in 0..n {
        let at = means[j];
        let column = gram.col_as_slice_mut(j);
        for (g, m) in column.iter_mut().zip(&means).skip(j) {
            *g = -0.5 * (*g - m - at + mean) / trace;
        }
    }
    mirror(&mut gram);

    // A vector of equal entries is the eigenvector of eigenvalue 0 that centring leaves.
    let u0 = vec![(n as f64).sqrt().recip(); n];
    let count = count.min(n.saturating_sub(1));
    let pairs = leading_pairs(gram.as_ref(), &u0, count, count, layer)?;
    let coordinate = |(k, value): (usize, &f64)| {
        let factor = (value.max(0.0) * trace).sqrt();
        let mut coordinate: Vec<f64> = pairs.vectors.col_as_slice(k).iter().map(|u| factor * u).collect();
        fix_sign(&mut coordinate);
        coordinate
    };
    Ok(pairs.values.iter().enumerate().map(coordinate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maths::manifold::{Normalise, Points, squared_distances};

    #[test]
    fn as_many_coordinates_as_dimensions_keep_every_distance() {
        let (n, dim) = (40, 5);
        let data = (0..n * dim).map(|i| (i as f64 * 1.7).sin() * (1.0 + (i % dim) as f64) + 3.0).collect();
        let points = Points::from_f64(0, n, dim, data).unwrap();
        let distances = squared_distances(&points, 0, Normalise::None).unwrap();
        let coordinates = principal_coordinates(&distances, dim, 0).unwrap();
        for k in 0..dim {
            let square = |c: &Vec<f64>| c.iter().map(|x| x * x).sum::<f64>();
            assert!(coordinates[k].iter().sum::<f64>().abs() < 1e-9);
            assert!(k == 0 || square(&coordinates[k]) <= square(&coordinates[k - 1]));
        }
        for i in 0..n {
            for j in 0..i {
                let found: f64 = coordinates.iter().map(|c| (c[i] - c[j]).powi(2)).sum();
                let expected = distances.between(i, j).unwrap();
                assert!((found - expected).abs() < 1e-9 * (1.0 + expected), "{i} {j}: {found} {expected}");
            }
        }
    }
}
