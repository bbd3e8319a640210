//! Backward elimination: keeps the regressors whose removal would cost the most error after a refit.
//!
//! Removing the regressors `R` from the solution `B = G^-1 C` of a least-squares problem and refitting the
//! others raises the error by `tr(B_R' ((G^-1)_RR)^-1 B_R)`: the "optimal brain surgeon" (Hassibi and Stork,
//! NIPS 1992).

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::traits::RealField;
use faer::{Accum, Par};

use super::factor::{PANEL, cholesky, inverse, inverse_diagonal, par_for, solve};
use super::matrix::Matrix;
use super::normal::Normal;
use crate::error::{Error, Result};

/// Selects the `keep` regressors that remain after `rounds` rounds of elimination, in ascending order. Each
/// round but the last removes half of the surplus. `lambda`, a share of the mean of the diagonal of `G` (0.01
/// is usual), is added to the diagonal.
///
/// The cost of a regressor is that of removing it alone, `|B_j|^2 / (G^-1)_jj`. Two similar regressors may
/// therefore both be removed in one round; more rounds make that rarer. Of equal costs the later regressor is
/// removed.
///
/// Each round factors the remaining problem anew: `n^3 / 3 + n^2 d` multiply-adds and one `n x n` matrix.
/// With half of the surplus removed at a time, this is cheaper than downdating an inverse, which would be
/// needed in full. The arithmetic is `f32`, which decides differently from `f64` only between nearly equal
/// costs (tested to `1e-3` of the error left). It is `f64` if rounding hides that a matrix is positive
/// definite.
///
/// # Errors
/// [`Error::Usage`] if `keep` is 0 or exceeds the number of regressors, if `rounds` is 0, if there are no
/// targets, or if `lambda` is negative or not finite; [`Error::Numeric`] if `G + lambda` has no inverse or a
/// sum overflowed; [`Error::Limit`] if there is no memory for [`eliminate_bytes`].
pub fn eliminate(normal: &Normal, keep: usize, rounds: usize, lambda: f64) -> Result<Vec<usize>> {
    check_targets(normal)?;
    check_keep(keep, normal.n_regressors(), "regressors")?;
    if rounds == 0 {
        return Err(Error::Usage("elimination needs at least one round".into()));
    }
    let shift = checked_shift(normal, lambda)?;
    let mut kept: Vec<usize> = (0..normal.n_regressors()).collect();
    for round in 1..=rounds {
        let surplus = kept.len() - keep;
        if surplus == 0 {
            break;
        }
        let target = if round == rounds { keep } else { keep + surplus / 2 };
        let costs = removal_costs(normal, &kept, shift)?;
        kept = highest(&costs, target).into_iter().filter_map(|place| kept.get(place).copied()).collect();
    }
    Ok(kept)
}

/// Returns the bytes that [`eliminate`] needs besides the problem, for `m` regressors: one `m x m` matrix and
/// a panel, in `f32`. If rounding forces the fallback to `f64`, it needs twice as many.
pub fn eliminate_bytes(m: usize) -> u64 {
    let [m, panel] = [m, PANEL].map(|x| u64::try_from(x).unwrap_or(u64::MAX));
    m.saturating_mul(m.saturating_add(panel)).saturating_mul(4)
}

/// Returns the cost `|B_j|^2 / (G^-1)_jj` of removing each of the regressors `kept`.
fn removal_costs(normal: &Normal, kept: &[usize], shift: f64) -> Result<Vec<f64>> {
    match removal_costs_in::<f32>(normal, kept, shift) {
        Err(Error::Numeric(_)) => removal_costs_in::<f64>(normal, kept, shift),
        costs => costs,
    }
}

/// Computes [`removal_costs`] in the type `T`.
fn removal_costs_in<T>(normal: &Normal, kept: &[usize], shift: f64) -> Result<Vec<f64>>
where
    T: RealField + Copy + Default + From<f32> + Into<f64>,
{
    let factor = factored::<T>(normal, kept, shift)?;
    let mut costs = vec![0.0; kept.len()];
    for first in (0..normal.n_targets()).step_by(PANEL) {
        let mut b = correlations::<T>(normal, kept, first, PANEL.min(normal.n_targets() - first))?;
        solve(factor.view(), b.view_mut());
        for column in b.columns() {
            let squares = column.iter().map(|b| (*b).into() * (*b).into());
            costs.iter_mut().zip(squares).for_each(|(cost, square)| *cost += square);
        }
    }
    let inverse = inverse_diagonal(factor.view())?;
    costs.iter_mut().zip(&inverse).for_each(|(cost, inverse)| *cost /= inverse);
    all_finite(&costs)?;
    Ok(costs)
}

/// Selects the `keep` groups of `group_size` consecutive regressors that remain after the cheapest group is
/// removed, one at a time; returns them in ascending order. `lambda` is that of [`eliminate`]. Of equal costs
/// the earlier group is removed.
///
/// The cost of a group `R` is `tr(B_R' ((G^-1)_RR)^-1 B_R)`. The inverse is computed once, in `f64`
/// (`m^3 / 2` multiply-adds), and each removal downdates it by a Schur complement (`m^2 group_size`):
///
/// ```text
/// (G_SS)^-1 = (G^-1)_SS - (G^-1)_SR ((G^-1)_RR)^-1 (G^-1)_RS
/// ```
///
/// # Errors
/// [`Error::Usage`] if the regressors are not a whole number of groups, if there are no targets, if `keep` is
/// 0 or exceeds the number of groups, or if `lambda` is negative or not finite; [`Error::Numeric`] if
/// `G + lambda` has no inverse or a sum overflowed; [`Error::Limit`] if there is no memory for
/// [`eliminate_groups_bytes`].
pub fn eliminate_groups(normal: &Normal, group_size: usize, keep: usize, lambda: f64) -> Result<Vec<usize>> {
    let m = normal.n_regressors();
    if group_size == 0 || !m.is_multiple_of(group_size) {
        return Err(Error::Usage(format!("elimination: {m} regressors are not groups of {group_size}")));
    }
    check_targets(normal)?;
    let n_groups = m / group_size;
    check_keep(keep, n_groups, "groups")?;
    let shift = checked_shift(normal, lambda)?;
    let all: Vec<usize> = (0..m).collect();
    let inverse = inverse(factored::<f64>(normal, &all, shift)?)?;
    let mut b = Matrix::zeros(m, normal.n_targets())?;
    let c = correlations::<f64>(normal, &all, 0, normal.n_targets())?;
    matmul(b.view_mut(), Accum::Replace, inverse.view(), c.view(), 1.0, par_for(c.values().len() * m));
    let mut state = Groups { inverse, b, size: group_size };

    let mut kept: Vec<usize> = (0..n_groups).collect();
    while kept.len() > keep {
        let costs = kept.iter().map(|group| state.cost(*group)).collect::<Result<Vec<f64>>>()?;
        all_finite(&costs)?;
        let Some(cheapest) = (0..kept.len()).min_by(|a, b| f64::total_cmp(&costs[*a], &costs[*b])) else {
            break;
        };
        state.remove(kept.remove(cheapest))?;
    }
    Ok(kept)
}

/// Returns the bytes that [`eliminate_groups`] needs besides the problem, for `m` regressors and `d` targets:
/// two `m x m` and two `m x d` matrices, in `f64`.
pub fn eliminate_groups_bytes(m: usize, d: usize) -> u64 {
    let [m, d] = [m, d].map(|x| u64::try_from(x).unwrap_or(u64::MAX));
    m.saturating_mul(m.saturating_add(d)).saturating_mul(16)
}

/// Inverse and solution for the groups that remain. Rows and columns of removed groups are meaningless.
struct Groups {
    /// Inverse `(G^-1)_SS`, `m x m`, both triangles.
    inverse: Matrix<f64>,
    /// Solution `B`, `m x d`.
    b: Matrix<f64>,
    size: usize,
}

impl Groups {
    /// Computes the Cholesky factor of `(G^-1)_RR`.
    fn factor(&self, group: usize) -> Result<Matrix<f64>> {
        let (first, size) = (group * self.size, self.size);
        let mut block = Matrix::zeros(size, size)?;
        block.view_mut().copy_from(self.inverse.view().submatrix(first, first, size, size));
        if cholesky(block.view_mut()) { Ok(block) } else { Err(no_inverse()) }
    }

    /// Computes `L^-1 B_R`, `size x d`, whose squares sum to the cost of the group.
    fn whitened(&self, group: usize, factor: &Matrix<f64>) -> Result<Matrix<f64>> {
        let d = self.b.view().ncols();
        let mut rows = Matrix::zeros(self.size, d)?;
        rows.view_mut().copy_from(self.b.view().subrows(group * self.size, self.size));
        solve_lower_triangular_in_place(factor.view(), rows.view_mut(), Par::Seq);
        Ok(rows)
    }

    fn cost(&self, group: usize) -> Result<f64> {
        let whitened = self.whitened(group, &self.factor(group)?)?;
        Ok(whitened.values().iter().map(|x| x * x).sum())
    }

    fn remove(&mut self, group: usize) -> Result<()> {
        let m = self.inverse.rows();
        let factor = self.factor(group)?;
        let b = self.whitened(group, &factor)?;
        let mut rows = Matrix::zeros(self.size, m)?;
        rows.view_mut().copy_from(self.inverse.view().subrows(group * self.size, self.size));
        let par = par_for(self.size * m * m);
        solve_lower_triangular_in_place(factor.view(), rows.view_mut(), par);
        let columns = rows.view().transpose();
        matmul(self.b.view_mut(), Accum::Add, columns, b.view(), -1.0, par);
        matmul(self.inverse.view_mut(), Accum::Add, columns, rows.view(), -1.0, par);
        Ok(())
    }
}

/// Returns the indices of the `count` highest numbers, in ascending order; of equal numbers the earlier.
pub(super) fn highest(numbers: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    // The sort is stable.
    places.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]));
    places.truncate(count);
    places.sort_unstable();
    places
}

/// Checks that `keep` of `n` items can be kept.
///
/// # Errors
/// [`Error::Usage`] if `keep` is not in `1..=n`.
pub(super) fn check_keep(keep: usize, n: usize, what: &str) -> Result<()> {
    if (1..=n).contains(&keep) {
        return Ok(());
    }
    Err(Error::Usage(format!("elimination cannot keep {keep} of {n} {what}")))
}

/// Checks that the problem has targets.
///
/// # Errors
/// [`Error::Usage`] if there are none.
fn check_targets(normal: &Normal) -> Result<()> {
    if normal.n_targets() > 0 {
        return Ok(());
    }
    Err(Error::Usage("elimination needs targets".into()))
}

/// Returns `lambda` times the mean of the diagonal of `G`, after checking `lambda`.
pub(super) fn checked_shift(normal: &Normal, lambda: f64) -> Result<f64> {
    if lambda.is_finite() && lambda >= 0.0 {
        return Ok(lambda * normal.scale()?);
    }
    Err(Error::Usage(format!("elimination: the strength {lambda} is not a number from 0 up")))
}

/// Computes the Cholesky factor of `G_SS + shift I`, for the regressors `indices`.
pub(super) fn factored<T>(normal: &Normal, indices: &[usize], shift: f64) -> Result<Matrix<T>>
where
    T: RealField + Copy + Default + From<f32>,
{
    let mut factor = normal.shifted(indices, shift)?;
    if cholesky(factor.view_mut()) { Ok(factor) } else { Err(no_inverse()) }
}

/// Returns rows `indices` of `C`, for `count` targets from `first` on.
fn correlations<T>(normal: &Normal, indices: &[usize], first: usize, count: usize) -> Result<Matrix<T>>
where
    T: Copy + Default + From<f32>,
{
    let mut rows = Matrix::<T>::zeros(indices.len(), count)?;
    let columns = normal.correlations().subcols(first, count);
    for (to, from) in rows.columns_mut().zip(columns.col_iter()) {
        to.iter_mut().zip(indices).for_each(|(to, index)| *to = T::from(from[*index]));
    }
    Ok(rows)
}

fn all_finite(costs: &[f64]) -> Result<()> {
    if costs.iter().all(|cost| cost.is_finite()) { Ok(()) } else { Err(no_inverse()) }
}

fn no_inverse() -> Error {
    Error::Numeric(
        "elimination: the regressors depend on one another too closely or are all zero; use a larger strength"
            .into(),
    )
}
