//! Which neurons to keep without looking at a target, and the repair of what the others carried.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef};

use super::eliminate::{check_keep, checked_shift, factored, highest};
use super::factor::{inverse_diagonal, par_for, solve};
use super::matrix::Matrix;
use super::normal::Normal;
use crate::error::{Error, Result};

/// Which of `m` neurons stay, and how the others pass to them: with `W_D` the down projection, a row per
/// neuron,
///
/// ```text
/// W_D <- W_D[kept] + transfer W_D[dropped]
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// Ascending.
    pub kept: Vec<usize>,
    /// The others, ascending.
    pub dropped: Vec<usize>,
    /// Column-major `[kept, dropped]`: the share of each kept neuron in a dropped one.
    pub transfer: Vec<f32>,
}

/// The `keep` neurons of the highest ridge-leverage score and the Nystrom repair, as in FlattenGPT.
///
/// `C` is the Gram matrix of the activations; targets are not looked at, so `normal` may have none. With
/// `lam = factor * trace(C) / m` (a `factor` of 10 is usual) the scores are `s_i = [C (C + lam I)^-1]_ii`, in
/// `[0, 1]`, and the transfer is `(C_kk + lam I)^-1 C_kr`. Of equal scores the earlier neuron stays.
///
/// Computed in `f64`: `m^3 / 3` multiply-adds for the scores and `k^3 / 6 + k^2 (m - k)` for the transfer.
///
/// # Errors
/// [`Error::Usage`] where `keep` is 0 or more than there are or `factor` is negative or not finite;
/// [`Error::Numeric`] where all activations are zero, where they depend on one another and `factor` is 0, or
/// a sum overflowed; [`Error::Limit`] where there is no memory for [`leverage_bytes`].
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

/// Bytes that [`leverage_keep`] needs beside the Gram matrix, whatever it keeps: 8 for each entry of an `m x
/// m` matrix, and a panel.
pub fn leverage_bytes(m: usize) -> u64 {
    super::eliminate_bytes(m).saturating_mul(2)
}

/// `s_i = [C (C + lam I)^-1]_ii = 1 - lam [(C + lam I)^-1]_ii`.
fn scores(normal: &Normal, all: &[usize], shift: f64) -> Result<Vec<f64>> {
    let factor = factored::<f64>(normal, all, shift)?;
    let inverse = inverse_diagonal(factor.view())?;
    Ok(inverse.into_iter().map(|x| 1.0 - shift * x).collect())
}

impl Repair {
    /// The down projection of the kept neurons with the others passed to them, row-major `[d, kept]`, from
    /// that of all neurons, row-major `[d, m]` as a model stores it. `f32`.
    ///
    /// # Errors
    /// [`Error::Usage`] where `down` has no whole number of rows, [`Error::Limit`] where there is no memory.
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
