//! Block Lanczos with full reorthogonalisation and Rayleigh-Ritz extraction.
//!
//! ```text
//! Q <- random block, orthonormal
//! repeat
//!     W <- A Q_last                    one product with the matrix
//!     T <- Q^T A Q                     its new columns are Q^T W
//!     W <- W - Q (Q^T W), twice        "twice is enough" (Parlett, The Symmetric Eigenvalue Problem, 6.9)
//!     Q_next R = W
//!     (theta, s) of T are converged when |R s_last| is small
//! ```
//!
//! A block of vectors is needed, because a single vector sees only one copy of a multiple eigenvalue.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::dense::{EigenPairs, symmetric_evd};
use super::points::dot;

/// Number of vectors added per step.
const BLOCK: usize = 2;

/// Size of the basis at which a dense solver is about as fast.
const MAX_BASIS: usize = 160;

/// Tolerances and limits of the iteration.
struct Effort {
    /// Largest residual of a pair whose eigenvector is used, relative to the largest eigenvalue.
    vector_tolerance: f64,
    /// Largest residual of a pair of which only the eigenvalue is used, relative to that eigenvalue; bounds
    /// the eigenvalue's error.
    value_tolerance: f64,
    /// Size of the basis at which convergence is checked for the first time.
    first_check: usize,
    /// Largest size of the basis.
    max_basis: usize,
    /// Whether the best pairs of the largest basis are returned even if they have not converged.
    take_best: bool,
}

/// Effort for a picture: the error of a vector is about the residual over the gap to the next eigenvalue.
const SKETCH: Effort =
    Effort { vector_tolerance: 1e-4, value_tolerance: 1e-2, first_check: 8, max_basis: 48, take_best: true };

/// Norm that rounding alone leaves of a unit vector, after orthogonalisation against a basis that spans it.
const RANK_TOLERANCE: f64 = 1e-13;

/// Computes the leading pairs in the complement of `u0`, or returns `None` if they have not converged before
/// the basis is so large that a dense solver is cheaper.
///
/// The result is eigenpairs to the tolerances above. They are likely to be the *leading* ones, but the caller
/// must prove that.
pub(super) fn leading_pairs(
    a: MatRef<'_, f64>,
    u0: &[f64],
    n_pairs: usize,
    n_exact: usize,
) -> Option<EigenPairs> {
    let exact = Effort {
        vector_tolerance: 1e-12,
        value_tolerance: 1e-10,
        first_check: 24.max(4 * n_pairs),
        max_basis: MAX_BASIS,
        take_best: false,
    };
    iterate(a, u0, n_pairs, n_exact, random_block(u0.len()), &exact)
}

/// Computes pairs that are good enough for a picture, starting from vectors near them if `start` has any.
/// Returns `None` only if the rank of the matrix is too low.
pub(super) fn sketched_pairs(
    a: MatRef<'_, f64>,
    u0: &[f64],
    n_pairs: usize,
    n_exact: usize,
    start: Option<MatRef<'_, f64>>,
) -> Option<EigenPairs> {
    let block = match start {
        Some(near) if near.nrows() == u0.len() => near.to_owned(),
        _ => random_block(u0.len()),
    };
    iterate(a, u0, n_pairs, n_exact, block, &SKETCH)
}

fn iterate(
    a: MatRef<'_, f64>,
    u0: &[f64],
    n_pairs: usize,
    n_exact: usize,
    mut start: Mat<f64>,
    effort: &Effort,
) -> Option<EigenPairs> {
    let n = a.nrows();
    let capacity = (n / 2).min(effort.max_basis);
    let with_next = capacity + start.ncols();
    let mut basis = Basis::new(u0, with_next);
    let mut projected = Mat::<f64>::zeros(with_next, with_next);
    basis.remove_from(&mut start, None);
    basis.extend(&mut start);

    let mut first = 0;
    let mut check_at = effort.first_check;
    while first < basis.len && basis.len <= capacity {
        let last = basis.len;
        let mut image = Mat::zeros(n, last - first);
        matmul(image.as_mut(), Accum::Replace, a, basis.columns(first, last), 1.0, Par::Seq);
        basis.remove_from(&mut image, Some((&mut projected, first)));
        let coupling = basis.extend(&mut image);

        let is_invariant = basis.len == last;
        let is_largest = effort.take_best && basis.len > capacity;
        if last >= check_at || is_invariant || is_largest {
            let (theta, s) = symmetric_evd(projected.submatrix(0, 0, last, last))?;
            if last < n_pairs {
                return None;
            }
            let largest = theta.last().copied()?.abs();
            let converged = (0..n_pairs).all(|k| {
                let at = last - 1 - k;
                let tolerance = if k < n_exact {
                    effort.vector_tolerance * largest
                } else {
                    effort.value_tolerance * theta[at].abs()
                };
                let tail = s.submatrix(first, at, last - first, 1);
                (&coupling * tail).norm_l2() <= tolerance.max(2.0 * f64::EPSILON)
            });
            if converged || is_largest {
                let leading = Mat::from_fn(last, n_pairs, |i, k| s[(i, last - 1 - k)]);
                let mut vectors = Mat::zeros(n, n_pairs);
                matmul(vectors.as_mut(), Accum::Replace, basis.columns(0, last), &leading, 1.0, Par::Seq);
                let values = theta.iter().rev().take(n_pairs).copied().collect();
                return Some(EigenPairs { values, vectors });
            }
            check_at = last + (last / 5).max(BLOCK);
        }
        first = last;
    }
    None
}

fn random_block(n: usize) -> Mat<f64> {
    let mut random = SplitMix64(0x1a31_4a7e);
    Mat::from_fn(n, BLOCK, |_, _| random.symmetric())
}

/// Orthonormal columns: `u0`, then the Krylov basis. `len` counts the vectors of the Krylov basis only.
struct Basis {
    columns: Mat<f64>,
    len: usize,
}

impl Basis {
    fn new(u0: &[f64], capacity: usize) -> Self {
        let mut columns = Mat::zeros(u0.len(), capacity + 1);
        columns.col_as_slice_mut(0).copy_from_slice(u0);
        Basis { columns, len: 0 }
    }

    /// Returns the Krylov vectors `from..to`.
    fn columns(&self, from: usize, to: usize) -> MatRef<'_, f64> {
        self.columns.as_ref().subcols(from + 1, to - from)
    }

    /// Subtracts from `block` its projection on all columns, and writes the Krylov part of the coefficients
    /// to the columns and rows of `projected` that start at the given index.
    fn remove_from(&self, block: &mut Mat<f64>, mut projected: Option<(&mut Mat<f64>, usize)>) {
        let all = self.columns.as_ref().subcols(0, self.len + 1);
        let mut coefficients = Mat::zeros(self.len + 1, block.ncols());
        for pass in 0..2 {
            matmul(coefficients.as_mut(), Accum::Replace, all.transpose(), &*block, 1.0, Par::Seq);
            matmul(block.as_mut(), Accum::Add, all, &coefficients, -1.0, Par::Seq);
            if let Some((projected, first)) = projected.as_mut()
                && pass == 0
            {
                for c in 0..block.ncols() {
                    for i in 0..self.len {
                        let t = coefficients[(i + 1, c)];
                        projected[(i, *first + c)] = t;
                        projected[(*first + c, i)] = t;
                    }
                }
            }
        }
    }

    /// Orthonormalises `block` and appends its linearly independent columns; returns `R` with
    /// `block = appended R`.
    fn extend(&mut self, block: &mut Mat<f64>) -> Mat<f64> {
        let before = self.len;
        let mut r = Mat::<f64>::zeros(block.ncols(), block.ncols());
        for c in 0..block.ncols() {
            let column = block.col_as_slice_mut(c);
            for _ in 0..2 {
                for (k, at) in (before..self.len).enumerate() {
                    let q = self.columns.col_as_slice(at + 1);
                    let along = dot(q, column);
                    column.iter_mut().zip(q).for_each(|(x, q)| *x -= along * q);
                    r[(k, c)] += along;
                }
            }
            let norm = dot(column, column).sqrt();
            if norm > RANK_TOLERANCE && self.len + 1 < self.columns.ncols() {
                r[(self.len - before, c)] = norm;
                self.len += 1;
                let target = self.columns.col_as_slice_mut(self.len);
                target.iter_mut().zip(&*column).for_each(|(q, x)| *q = x / norm);
            }
        }
        r
    }
}

/// Fixed stream of pseudorandom numbers (Steele, Lea, Flood 2014). The start of the iteration must be
/// generic, not unpredictable, and the same points must give the same digits on every run.
struct SplitMix64(u64);

impl SplitMix64 {
    /// Returns the next number, uniform in [-1, 1).
    fn symmetric(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
