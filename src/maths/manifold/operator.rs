//! Diffusion operator of one layer.

use faer::{Mat, MatRef};

use super::kernel::{SquaredDistances, squared_distances};
use super::options::ValidDiffusionOptions;
use super::points::Points;
use crate::error::Result;

/// Markov matrix `P = D^-1 W` of one layer, kept as its symmetric conjugate `A = D^-1/2 W D^-1/2`.
///
/// `W` is the Gaussian kernel after density normalisation, and `D` the diagonal matrix of its row sums. `A`
/// and `P` have the same eigenvalues; if `A u = lambda u`, then `P psi = lambda psi` with `psi = D^-1/2 u`.
/// `A` is positive semidefinite, and its leading pair is known without solving: `lambda_0 = 1`,
/// `u_0 = D^1/2 1 / |D^1/2 1|`.
#[derive(Debug, Clone)]
pub struct DiffusionOperator {
    pub(super) conjugate: Mat<f64>,
    /// `sqrt(D_ii)`, all positive.
    pub(super) root_degree: Vec<f64>,
    pub(super) epsilon: f64,
    pub(super) representative: Vec<usize>,
}

/// Builds the diffusion operator of a layer. `layer` is used in messages.
///
/// With `d2` from [`squared_distances`](super::squared_distances), and `epsilon` the fixed bandwidth or the
/// median of `d2`:
///
/// ```text
/// W_ij = exp(-d2_ij / epsilon)
/// q_i  = sum_j W_ij,   W_ij <- W_ij / (q_i q_j)^density
/// D_ii = sum_j W_ij,   A_ij = W_ij / sqrt(D_ii D_jj)
/// ```
///
/// # Errors
/// [`Error::Limit`](crate::error::Error::Limit) for fewer than two points,
/// [`Error::Numeric`](crate::error::Error::Numeric) if points cannot be normalised, all are equal, or so many
/// coincide that the median is zero. All name the layer.
pub fn diffusion_operator(
    points: &Points,
    layer: usize,
    options: &ValidDiffusionOptions,
) -> Result<DiffusionOperator> {
    DiffusionOperator::of_distances(squared_distances(points, layer, options.normalise())?, layer, options)
}

impl DiffusionOperator {
    /// Builds the operator of points whose distances are given.
    pub(super) fn of_distances(
        distances: SquaredDistances,
        layer: usize,
        options: &ValidDiffusionOptions,
    ) -> Result<Self> {
        let epsilon = match options.bandwidth() {
            Some(fixed) => fixed,
            None => distances.median(layer)?,
        };
        let representative = distances.representative().to_vec();
        let mut w = distances.into_gaussian(epsilon);
        if options.density() > 0.0 {
            // Row sums are at least 1, the value on the diagonal, so no power or division below can fail.
            let factors: Vec<f64> = row_sums(&w).iter().map(|q| q.powf(-options.density())).collect();
            scale_both_sides(&mut w, &factors);
        }
        let root_degree: Vec<f64> = row_sums(&w).iter().map(|d| d.sqrt()).collect();
        let inverse: Vec<f64> = root_degree.iter().map(|r| r.recip()).collect();
        scale_both_sides(&mut w, &inverse);
        Ok(DiffusionOperator { conjugate: w, root_degree, epsilon, representative })
    }

    /// Returns the number of points.
    pub fn n_points(&self) -> usize {
        self.root_degree.len()
    }

    /// Returns the bandwidth of the kernel.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Returns `P_ij`, the probability of a step from point `i` to point `j`; `None` past the end. Rows sum
    /// to 1.
    pub fn transition(&self, i: usize, j: usize) -> Option<f64> {
        let (from, to) = (self.root_degree.get(i)?, self.root_degree.get(j)?);
        Some(self.conjugate[(i, j)] * to / from)
    }

    /// Returns `A`, symmetric, `n x n`.
    pub(super) fn conjugate(&self) -> MatRef<'_, f64> {
        self.conjugate.as_ref()
    }

    /// Computes `u_0`, the unit eigenvector of `lambda_0 = 1`; all entries are positive.
    pub(super) fn leading_vector(&self) -> Vec<f64> {
        let norm = self.root_degree.iter().map(|r| r * r).sum::<f64>().sqrt();
        self.root_degree.iter().map(|r| r / norm).collect()
    }
}

/// Computes the row sums of a symmetric matrix, which is read by columns.
fn row_sums(w: &Mat<f64>) -> Vec<f64> {
    (0..w.ncols()).map(|j| w.col_as_slice(j).iter().sum()).collect()
}

/// Computes `w_ij <- w_ij f_i f_j`; the result is exactly symmetric if `w` is.
fn scale_both_sides(w: &mut Mat<f64>, factors: &[f64]) {
    for (j, f_j) in factors.iter().enumerate() {
        for (x, f_i) in w.col_as_slice_mut(j).iter_mut().zip(factors) {
            *x *= f_i * f_j;
        }
    }
}
