//! Selection of neurons by ridge-leverage score, without a target, and the Nystrom repair that passes dropped
//! neurons on to kept ones.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef};

use super::eliminate::{check_keep, checked_shift, factored, highest};
use super::factor::{inverse_diagonal, par_for, solve};
use super::matrix::Matrix;
use super::normal::Normal;
use crate::error::{Error, Result};

/// Neurons to keep out of `m`, and how the dropped neurons pass to them. With `W_D` the down projection, a
/// row per neuron:
///
/// ```text
/// W_D <- W_D[kept] + transfer W_D[dropped]
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// Kept neurons, ascending.
    pub kept: Vec<usize>,
    /// Dropped neurons, ascending.
    pub dropped: Vec<usize>,
    /// Share of each kept neuron in each dropped neuron, column-major `[kept, dropped]`.
    pub transfer: Vec<f32>,
}

/// Selects the `keep` neurons of highest ridge-leverage score and computes the Nystrom repair, as in
/// FlattenGPT.
///
/// `C` is the Gram matrix of the activations. Targets are not read, so `normal` may have none. With
/// `lam = factor * trace(C) / m` (a `factor` of 10 is usual) the scores are `s_i = [C (C + lam I)^-1]_ii`, in
/// `[0, 1]`, and the transfer is `(C_kk + lam I)^-1 C_kr`, for kept neurons `k` and dropped neurons `r`. Of
/// equal scores the earlier neuron is kept.
///
/// All is computed in `f64`: `m^3 / 3` multiply-adds for the scores and `k^3 / 6 + k^2 (m - k)` for the
/// transfer.
///
/// # Errors
/// [`Error::Usage`] if `keep` is 0 or exceeds the number of neurons, or if `factor` is negative or not
/// finite; [`Error::Numeric`] if all activations are zero, if they depend on one another and `factor` is 0,
/// or if a sum overflowed; [`Error::Limit`] if there is no memory for [`leverage_bytes`].
pub fn leverage_keep(normal: &Normal, keep: usize, factor: f64) -> Result<Repair> {
    let m = normal.n_regressors();
    check_keep(keep, m, "neurons")?;
    let shift = checked_shift(normal, factor)?;
    let all: Vec<usize> = (0..m).collect();
    let kept = highest(&scores(normal, &all, shift)?, keep);
    let dropped: Vec<usize> = all.into_iter().filter(|i| kept.binary_search(i).is_err()).collect();

    let factor = factored::<f64>(normal, &kept, shift)?;
    let mut transfer = Matrix::<f64>::zeros(kept.len(), dropped.len())?;
    for (column, j) in transfer.columns_mut().zip(&dropped) {
        let entries = kept.iter().map(|i| normal.gram(*i, *j).unwrap_or_default());
        column.iter_mut().zip(entries).for_each(|(to, c)| *to = f64::from(c));
    }
    solve(factor.view(), transfer.view_mut());
    let transfer = transfer.into_values().into_iter().map(|x| x as f32).collect();
    Ok(Repair { kept, dropped, transfer })
}

/// Returns the bytes that [`leverage_keep`] needs besides the Gram matrix of `m` neurons, however many are
/// kept: 8 for each entry of an `m x m` matrix, and a panel.
pub fn leverage_bytes(m: usize) -> u64 {
    super::eliminate_bytes(m).saturating_mul(2)
}

/// Computes `s_i = [C (C + lam I)^-1]_ii = 1 - lam [(C + lam I)^-1]_ii`.
fn scores(normal: &Normal, all: &[usize], shift: f64) -> Result<Vec<f64>> {
    let factor = factored::<f64>(normal, all, shift)?;
    let inverse = inverse_diagonal(factor.view())?;
    Ok(inverse.into_iter().map(|x| 1.0 - shift * x).collect())
}

impl Repair {
    /// Computes the down projection of the kept neurons with the dropped neurons passed on to them, row-major
    /// `[d, kept]`, in `f32`. `down` is the projection of all neurons, row-major `[d, m]` as a model stores
    /// it.
    ///
    /// # Errors
    /// [`Error::Usage`] if `down` is not a whole number of rows, or if the repair does not name the neurons
    /// of `0..m`.
    pub fn apply(&self, down: &[f32]) -> Result<Vec<f32>> {
        let (k, r) = (self.kept.len(), self.dropped.len());
        let m = k + r;
        let d = down.len() / m.max(1);
        if d * m != down.len() || self.transfer.len() != k * r {
            return Err(Error::Usage(format!("{} weights are not rows for {m} neurons", down.len())));
        }
        let pick = |indices: &[usize]| -> Vec<f32> {
            let rows = down.chunks_exact(m.max(1));
            rows.flat_map(|row| indices.iter().filter_map(|i| row.get(*i).copied())).collect()
        };
        let (mut kept, dropped) = (pick(&self.kept), pick(&self.dropped));
        if kept.len() != d * k || dropped.len() != d * r {
            return Err(Error::Usage(format!("the repair names neurons that are not among {m}")));
        }
        matmul(
            MatMut::from_column_major_slice_mut(&mut kept, k, d),
            Accum::Add,
            MatRef::from_column_major_slice(&self.transfer, k, r),
            MatRef::from_column_major_slice(&dropped, r, d),
            1.0,
            par_for(k * r * d),
        );
        Ok(kept)
    }
}
