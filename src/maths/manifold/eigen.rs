//! Leading eigenpairs of a diffusion operator.
//!
//! Only a handful of the `n` pairs is used, so a Krylov method ([`super::lanczos`]) finds them, and a proof
//! confirms that they are the leading ones. If the proof or the iteration fails (eigenvalues of high
//! multiplicity, no gap to converge across), the whole spectrum is computed instead. Both solvers see the
//! same matrix.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as cholesky;
use faer::{Mat, MatRef, Par};

use super::lanczos;
use super::points::dot;
use crate::error::{Error, Result};
use crate::maths::manifold::dense::{EigenPairs, symmetric_evd};

/// Number of points below which the whole spectrum costs less than a Krylov iteration and its checks.
const DENSE_BELOW: usize = 96;

/// Computes `lambda_1 >= .. >= lambda_m` and their eigenvectors for the symmetric positive semidefinite `a`,
/// whose leading pair `(lambda_0, u_0)` is given.
///
/// The first `n_exact` vectors have a residual `|a u - lambda u|` below `1e-12 lambda_1`. The other
/// eigenvalues are exact to `1e-10` relative (at worst, all are exact to the rounding of `a`). `n_pairs` must
/// be below `n`.
///
/// # Errors
/// [`Error::Numeric`], naming the layer, if not even the dense solver converges.
pub(super) fn leading_pairs(
    a: MatRef<'_, f64>,
    u0: &[f64],
    n_pairs: usize,
    n_exact: usize,
    layer: usize,
) -> Result<EigenPairs> {
    let n = a.nrows();
    if n >= DENSE_BELOW
        && let Some(pairs) = lanczos::leading_pairs(a, u0, n_pairs, n_exact)
        && are_leading(a, u0, &pairs)
    {
        return Ok(pairs);
    }
    dense(a, u0, n_pairs, layer)
}

/// Computes leading pairs like [`leading_pairs`], but without the proof, and only as exactly as a picture
/// needs. The iteration begins with the vectors `start`, if vectors near the eigenvectors are known.
///
/// # Errors
/// Those of [`leading_pairs`].
pub(super) fn sketched_pairs(
    a: MatRef<'_, f64>,
    u0: &[f64],
    n_pairs: usize,
    n_exact: usize,
    start: Option<MatRef<'_, f64>>,
    layer: usize,
) -> Result<EigenPairs> {
    if a.nrows() >= DENSE_BELOW
        && let Some(pairs) = lanczos::sketched_pairs(a, u0, n_pairs, n_exact, start)
    {
        return Ok(pairs);
    }
    dense(a, u0, n_pairs, layer)
}

/// Computes all eigenpairs and keeps the leading `n_pairs`.
fn dense(a: MatRef<'_, f64>, u0: &[f64], n_pairs: usize, layer: usize) -> Result<EigenPairs> {
    let n = a.nrows();
    // The eigenvalue of the known pair is moved from 1 to -1, where it sorts last: `a` has no negative
    // eigenvalues.
    let deflated = Mat::from_fn(n, n, |i, j| a[(i, j)] - 2.0 * u0[i] * u0[j]);
    let (values, vectors) = symmetric_evd(deflated.as_ref()).ok_or_else(|| {
        Error::Numeric(format!("layer {layer}: the eigenvalues of its points did not converge"))
    })?;
    let vectors = Mat::from_fn(n, n_pairs, |i, k| vectors[(i, n - 1 - k)]);
    Ok(EigenPairs { values: values.into_iter().rev().take(n_pairs).collect(), vectors })
}

/// Returns whether the pairs are proved to be the leading ones: no eigenvalue above the last is missing.
///
/// The matrix `(lambda_m + tolerance) I - (a - sum of the found pairs)` is positive definite exactly if all
/// other eigenvalues are below `lambda_m + tolerance`, and a matrix has a Cholesky factorisation exactly if
/// it is positive definite (Sylvester's law of inertia). Cost: `n^3 / 6` multiply-adds.
fn are_leading(a: MatRef<'_, f64>, u0: &[f64], pairs: &EigenPairs) -> bool {
    let n = a.nrows();
    let Some(last) = pairs.values.last() else {
        return true;
    };
    // Rounding of the factorisation is about n * 2^-53 of the norm, which is below 1 + lambda_m.
    let bound = last * (1.0 + 1e-9) + 1e-13;
    let mut shifted = Mat::<f64>::zeros(n, n);
    for (j, source) in a.col_iter().enumerate() {
        let column = shifted.col_as_slice_mut(j);
        column.iter_mut().zip(source.iter()).skip(j).for_each(|(x, a)| *x = -a);
        let found = pairs.values.iter().enumerate().map(|(k, value)| (*value, pairs.vectors.col_as_slice(k)));
        for (value, u) in found.chain([(1.0, u0)]) {
            let factor = value * u[j];
            column[j..].iter_mut().zip(&u[j..]).for_each(|(x, u)| *x += factor * u);
        }
        column[j] += bound;
    }
    let scratch = cholesky::cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default());
    cholesky::cholesky_in_place(
        shifted.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .is_ok()
}

/// Computes the Rayleigh quotient `u^T a u` of a unit vector.
pub(super) fn rayleigh(a: MatRef<'_, f64>, u: &[f64]) -> f64 {
    let au: Vec<f64> = a
        .col_iter()
        .map(|column| match column.try_as_col_major() {
            Some(column) => dot(column.as_slice(), u),
            None => column.iter().zip(u).map(|(x, y)| x * y).sum(),
        })
        .collect();
    dot(&au, u)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes `Q diag(values) Q^T`, with `Q` a product of fixed reflections, and its first eigenvector.
    fn with_spectrum(values: &[f64]) -> (Mat<f64>, Vec<f64>) {
        let n = values.len();
        let mut q = Mat::<f64>::identity(n, n);
        for r in 1..4 {
            let v: Vec<f64> = (0..n).map(|i| ((i * (2 * r + 1) + r) as f64).sin()).collect();
            let norm2 = dot(&v, &v);
            for j in 0..n {
                let column = q.col_as_slice_mut(j);
                let along = 2.0 * dot(column, &v) / norm2;
                column.iter_mut().zip(&v).for_each(|(x, v)| *x -= along * v);
            }
        }
        let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * values[j]);
        let mut a = &scaled * q.transpose();
        crate::maths::manifold::kernel::mirror(&mut a);
        (a, q.col_as_slice(0).to_vec())
    }

    /// Makes a spectrum that begins with 1 and the given values and then falls slowly.
    fn spectrum(n: usize, leading: &[f64]) -> Vec<f64> {
        let least = leading.iter().copied().fold(1.0, f64::min);
        let tail = (0..n).map(|i| 0.9 * least / (1.0 + 0.1 * i as f64));
        [1.0].into_iter().chain(leading.iter().copied()).chain(tail).take(n).collect()
    }

    const SPECTRA: [&[f64]; 7] = [
        &[0.3, 0.2, 0.1, 0.05],
        &[0.1, 0.1 - 1e-12, 0.05, 0.04],
        &[0.2, 0.2, 0.2, 0.2],
        &[0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2],
        &[0.999_999_999, 0.5, 0.5, 1e-3],
        &[1e-6, 9e-7, 8e-7, 7e-7],
        &[0.02, 0.0199, 0.0198, 0.0197, 0.0196, 0.0195, 0.0194, 0.0193],
    ];

    #[test]
    fn leading_pairs_are_found_whatever_the_spectrum() {
        for leading in SPECTRA {
            for n in [40, 96, 211] {
                let values = spectrum(n, leading);
                let (a, u0) = with_spectrum(&values);
                let pairs = leading_pairs(a.as_ref(), &u0, 4, 2, 0).unwrap();
                for k in 0..4 {
                    let error = (pairs.values[k] - values[k + 1]).abs();
                    assert!(
                        error <= 1e-10 * values[k + 1] + 1e-15,
                        "{leading:?}, n = {n}, pair {k}: {error:e}"
                    );
                    let u = pairs.vectors.col_as_slice(k);
                    assert!((dot(u, u) - 1.0).abs() < 1e-12 && dot(u, &u0).abs() < 1e-12);
                    assert!((rayleigh(a.as_ref(), u) - values[k + 1]).abs() < 1e-10);
                }
            }
        }
    }

    #[test]
    fn krylov_and_dense_solver_agree_where_both_converge() {
        for n in [96, 211, 400] {
            let (a, u0) = with_spectrum(&spectrum(n, &[0.3, 0.2, 0.1, 0.05]));
            let krylov = lanczos::leading_pairs(a.as_ref(), &u0, 4, 2).unwrap();
            let dense = dense(a.as_ref(), &u0, 4, 0).unwrap();
            for k in 0..4 {
                assert!((krylov.values[k] - dense.values[k]).abs() < 1e-11, "n = {n}, pair {k}");
                if k < 2 {
                    let cosine = dot(krylov.vectors.col_as_slice(k), dense.vectors.col_as_slice(k)).abs();
                    assert!((cosine - 1.0).abs() < 1e-13, "n = {n}, pair {k}");
                }
            }
        }
    }

    #[test]
    fn a_missing_pair_is_noticed() {
        let (a, u0) = with_spectrum(&spectrum(120, &[0.3, 0.2, 0.2, 0.1, 0.05]));
        let all = dense(a.as_ref(), &u0, 5, 0).unwrap();
        assert!(are_leading(a.as_ref(), &u0, &all));
        for missing in 0..4 {
            let kept: Vec<usize> = (0..5).filter(|k| *k != missing).collect();
            let vectors = Mat::from_fn(120, 4, |i, k| all.vectors[(i, kept[k])]);
            let pairs = EigenPairs { values: kept.iter().map(|&k| all.values[k]).collect(), vectors };
            assert!(!are_leading(a.as_ref(), &u0, &pairs), "without pair {missing}");
        }
    }
}
