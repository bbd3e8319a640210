//! Mahalanobis distance of paired points under the pooled covariance of two layers.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Llt;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, MatRef, Par, Side};

use crate::error::{Error, Result};
use crate::maths::manifold::{Normalise, Points, mirror, varied_gram};

/// Share `gamma` of a scaled identity in the covariance. There are far fewer points than dimensions, so the
/// covariance alone has no inverse.
pub const SHRINKAGE: f64 = 0.1;

/// Centred points of one layer, with the data that every pair needs of them.
#[derive(Debug, Clone)]
pub(super) struct CentredLayer {
    layer: usize,
    n_points: usize,
    /// Centred points, `n x D`, row-major.
    rows: Vec<f64>,
    /// Mean of the points, subtracted from `rows`.
    mean: Vec<f64>,
    /// Gram matrix `X X^T` of the centred rows.
    gram: Mat<f64>,
}

impl CentredLayer {
    pub(super) fn new(points: &Points, layer: usize, normalise: Normalise) -> Result<Self> {
        let scales = points.scales(layer, normalise)?;
        let mut gram = varied_gram(points, &scales, layer)?;
        mirror(&mut gram);
        let n = points.n_points();
        let mut mean = vec![0.0; points.dim()];
        for (row, scale) in points.rows().zip(&scales) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x * scale);
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        let mut rows = Vec::with_capacity(n * points.dim());
        for (row, scale) in points.rows().zip(&scales) {
            rows.extend(row.iter().zip(&mean).map(|(x, m)| x * scale - m));
        }
        Ok(CentredLayer { layer, n_points: n, rows, mean, gram })
    }

    fn matrix(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.rows, self.n_points, self.mean.len())
    }
}

/// Computes `1/n sum_i sqrt(v_i^T C^-1 v_i)` with `v_i = x_i - y_i` and
///
/// ```text
/// C = (1 - gamma) S + gamma tr(S)/D I,   S = (X^T X + Y^T Y) / (2n - 2) of centred X, Y
/// ```
///
/// `C` is `D x D`, but consists of a matrix of rank `2n - 2` plus a multiple of the identity. With
/// `Z = [X; Y]`, `a = gamma tr(S)/D`, `b = (1 - gamma)/(2n - 2)`, the matrix inversion lemma gives
///
/// ```text
/// v^T C^-1 v = (|v|^2 - w^T M^-1 w) / a   with  w = Z v,  M = Z Z^T + (a/b) I
/// ```
///
/// so that only `2n x 2n` matrices are built: `n^2 D + (2n)^3` multiply-adds per pair.
///
/// # Errors
/// [`Error::Numeric`], naming both layers, if the factorisation fails.
pub(super) fn mean_mahalanobis(x: &CentredLayer, y: &CentredLayer) -> Result<f64> {
    let (n, dim) = (x.n_points, x.mean.len());
    let freedom = (2 * n).saturating_sub(2) as f64;
    let trace: f64 = (0..n).map(|i| x.gram[(i, i)] + y.gram[(i, i)]).sum::<f64>() / freedom;
    let a = SHRINKAGE * trace / dim as f64;
    let b = (1.0 - SHRINKAGE) / freedom;

    // Z Z^T from its four blocks, of which two are known.
    let mut cross = Mat::<f64>::zeros(n, n);
    matmul(cross.as_mut(), Accum::Replace, x.matrix(), y.matrix().transpose(), 1.0, Par::Seq);
    let gram = Mat::from_fn(2 * n, 2 * n, |i, j| match (i < n, j < n) {
        (true, true) => x.gram[(i, j)],
        (true, false) => cross[(i, j - n)],
        (false, true) => cross[(j, i - n)],
        (false, false) => y.gram[(i - n, j - n)],
    });

    // v_i = z_i - z_{n+i} + shift, so w_i is a difference of columns of Z Z^T plus Z shift.
    let shift: Vec<f64> = x.mean.iter().zip(&y.mean).map(|(p, q)| p - q).collect();
    let along: Vec<f64> = [x, y]
        .iter()
        .flat_map(|layer| layer.rows.chunks_exact(dim))
        .map(|row| row.iter().zip(&shift).map(|(z, s)| z * s).sum())
        .collect();
    let mut w = Mat::from_fn(2 * n, n, |r, i| gram[(r, i)] - gram[(r, n + i)] + along[r]);

    let mut regularised = gram;
    for i in 0..2 * n {
        regularised[(i, i)] += a / b;
    }
    // w^T M^-1 w = |L^-1 w|^2 with M = L L^T.
    let factor = Llt::new(regularised.as_ref(), Side::Lower).map_err(|_| {
        Error::Numeric(format!("the pooled covariance of layers {} and {} has no inverse", x.layer, y.layer))
    })?;
    solve_lower_triangular_in_place(factor.L(), w.as_mut(), Par::Seq);

    let pairs = x.rows.chunks_exact(dim).zip(y.rows.chunks_exact(dim));
    let sum: f64 = pairs
        .enumerate()
        .map(|(i, (p, q))| {
            let v2: f64 = p.iter().zip(q).zip(&shift).map(|((p, q), s)| (p - q + s).powi(2)).sum();
            let explained: f64 = w.col_as_slice(i).iter().map(|x| x * x).sum();
            ((v2 - explained).max(0.0) / a).sqrt()
        })
        .sum();
    Ok(sum / n as f64)
}
