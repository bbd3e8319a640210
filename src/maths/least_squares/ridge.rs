//! Ridge regression about a given solution, with the strength chosen by held-out rows.

use faer::MatRef;

use super::factor::PANEL;
use super::matrix::{Matrix, dot};
use super::normal::Normal;
use crate::error::{Error, Result};

/// Ridge strengths that are tried, as shares of the mean of the diagonal of `G`, weakest first.
pub const LAMBDAS: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// Result of [`ridge`].
#[derive(Debug, Clone, PartialEq)]
pub struct Refit {
    /// `B` transposed, row-major `[d, m]`; all values are finite.
    pub b: Vec<f32>,
    /// Chosen strength, an element of the given list; `None` if `B0` was kept.
    pub lambda: Option<f64>,
    /// Share of the held-out error of `B0` that `B` removes, in `[0, 1]`; exactly 0 if `B0` was kept.
    pub gain: f64,
    /// Share of the held-out targets that `B0` leaves unexplained, `|w (Y - Z B0)|^2 / |wY|^2`: at least 0,
    /// and above 1 if `B0` is worse than `B = 0`.
    pub unexplained: f64,
}

/// Computes `B = argmin |w (Z B - Y)|^2 + lambda s |B - B0|^2` over the rows of `fit`, with `s` the mean of
/// the diagonal of `G`. `lambda` is the element of `lambdas` (see [`LAMBDAS`]) with the least error on the
/// rows of `held_out`.
///
/// The solver computes the difference `D = (G + lambda s I)^-1 (C - G B0)`, which changes the held-out error
/// by
///
/// ```text
/// -2 <D, C_v - G_v B0> + <D, G_v D>
/// ```
///
/// The search takes `lambdas` in the given order. Once a strength has improved on `B0`, it ends at the first
/// strength that is no better than the best so far. `B0` is kept if no strength improves on it. A strength is
/// skipped if `G + lambda s I` is not positive definite in `f64` either. `b0` is transposed, row-major
/// `[d, m]`.
///
/// `fit` lends the unused half of its matrix to the factor; its sums are unchanged afterwards.
///
/// Cost: `m^2 d` multiply-adds for each of the two problems, and `m^3 / 6 + 2 m^2 d` for each strength, in
/// `f32`. With several times as many rows as regressors, `B` is within `1e-4` of the `f64` solution at every
/// strength of [`LAMBDAS`] (`2e-5` measured at a condition of some thousand). If only the ridge bounds the
/// condition, `B` is within `2e-3` and the share it leaves unexplained within `5e-6`: the directions that
/// lose digits hardly change `Z B`. `gain` and `unexplained` are within `1e-5` of the exact shares.
///
/// # Errors
/// [`Error::Usage`] if the shapes do not fit or a strength is negative or not finite; [`Error::Numeric`] if
/// `b0` or a sum is not finite; [`Error::Limit`] if there is no memory for [`ridge_bytes`].
pub fn ridge(fit: &mut Normal, held_out: &Normal, b0: &[f32], lambdas: &[f64]) -> Result<Refit> {
    let (m, d) = (fit.n_regressors(), fit.n_targets());
    if [held_out.n_regressors(), held_out.n_targets()] != [m, d] || m.checked_mul(d) != Some(b0.len()) {
        return Err(Error::Usage(format!(
            "ridge: the fit has {m} regressors and {d} targets, the held-out rows {} and {}, and B0 {} entries",
            held_out.n_regressors(),
            held_out.n_targets(),
            b0.len()
        )));
    }
    if let Some(lambda) = lambdas.iter().find(|lambda| !(lambda.is_finite() && **lambda >= 0.0)) {
        return Err(Error::Usage(format!("ridge: the strength {lambda} is not a number from 0 up")));
    }
    if b0.iter().any(|x| !x.is_finite()) {
        return Err(Error::Numeric("ridge: the weights to start from are not all finite".into()));
    }
    let scale = fit.scale()?;
    held_out.scale()?;
    let start = MatRef::from_column_major_slice(b0, m, d);
    let held_out_residual = held_out.residual(start)?;
    let energy = held_out.energy_left(b0, &held_out_residual);
    let best = try_strengths(fit, held_out, &fit.residual(start)?, &held_out_residual, scale, lambdas)?;

    let (b, lambda, change) = match best {
        Some(Step { difference, lambda, change }) => {
            let sum = difference.values().iter().zip(b0).map(|(d, b)| b + d).collect();
            (sum, Some(lambda), change)
        }
        None => (b0.to_vec(), None, 0.0),
    };
    Ok(Refit {
        b,
        lambda,
        gain: if energy > 0.0 { (change.abs() / energy).min(1.0) } else { 0.0 },
        unexplained: if held_out.target_energy() > 0.0 { energy / held_out.target_energy() } else { 0.0 },
    })
}

/// Fits like [`ridge`], then solves once more with the chosen strength on the rows of both problems, so that
/// the rows that chose the strength are not lost to the fit. `gain` and `unexplained` are those of the first
/// fit, which has not seen the held-out rows. If the second fit cannot be solved, the `B` of the first fit is
/// returned. Unless `B0` was kept, `fit` has the rows of both problems afterwards.
///
/// # Errors
/// Those of [`ridge`].
pub fn ridge_on_all(fit: &mut Normal, held_out: &Normal, b0: &[f32], lambdas: &[f64]) -> Result<Refit> {
    let chosen = ridge(fit, held_out, b0, lambdas)?;
    let Some(lambda) = chosen.lambda else { return Ok(chosen) };
    fit.add_all(held_out)?;
    let shift = lambda * fit.scale()?;
    let mut difference =
        fit.residual(MatRef::from_column_major_slice(b0, fit.n_regressors(), fit.n_targets()))?;
    let solved = fit.solve_shifted(shift, &mut difference);
    let b: Vec<f32> = difference.values().iter().zip(b0).map(|(d, b)| b + d).collect();
    if solved && b.iter().all(|x| x.is_finite()) { Ok(Refit { b, ..chosen }) } else { Ok(chosen) }
}

/// Returns the bytes that [`ridge`] needs besides the two problems and `b0`: five `m x d` matrices and a
/// panel. If rounding forces the fallback to `f64`, it takes `8 m (m + d)` more, if they are available.
pub fn ridge_bytes(m: usize, d: usize) -> u64 {
    let [m, d, panel] = [m, d, PANEL].map(|x| u64::try_from(x).unwrap_or(u64::MAX));
    m.saturating_mul(d.saturating_mul(5).saturating_add(panel)).saturating_mul(4)
}

/// Difference from `B0` that lowers the held-out error.
struct Step {
    /// `B - B0`, `m x d`.
    difference: Matrix<f32>,
    lambda: f64,
    /// Change of the held-out error; negative.
    change: f64,
}

/// Returns the best step over `lambdas`, or `None` if no strength improves on `B0`.
fn try_strengths(
    fit: &mut Normal,
    held_out: &Normal,
    residual: &Matrix<f32>,
    held_out_residual: &Matrix<f32>,
    scale: f64,
    lambdas: &[f64],
) -> Result<Option<Step>> {
    let mut best: Option<Step> = None;
    for &lambda in lambdas {
        let mut difference = residual.clone();
        if !fit.solve_shifted(lambda * scale, &mut difference) {
            continue;
        }
        let change = change_of_error(held_out, &difference, held_out_residual)?;
        // An overflow in the difference makes the change NaN or infinite.
        let to_beat = best.as_ref().map_or(0.0, |best| best.change);
        if change.is_finite() && change < to_beat {
            best = Some(Step { difference, lambda, change });
        } else if best.is_some() {
            break;
        }
    }
    Ok(best)
}

/// Computes `-2 <D, R> + <D, G D>`, the change of the error `|w (Z B - Y)|^2` from `B` to `B + D`, where `R`
/// is the residual correlation at `B`.
fn change_of_error(normal: &Normal, difference: &Matrix<f32>, residual: &Matrix<f32>) -> Result<f64> {
    let (m, d) = (normal.n_regressors(), normal.n_targets());
    let mut product = Matrix::zeros(m, PANEL.min(d))?;
    let mut change = 0.0;
    for first in (0..d).step_by(PANEL) {
        let columns = difference.view().subcols(first, PANEL.min(d - first));
        normal.gram_times(columns, &mut product);
        let pairs = difference.columns().zip(residual.columns()).skip(first).zip(product.columns());
        change += pairs.map(|((d, r), gd)| dot(d, gd) - 2.0 * dot(d, r)).sum::<f64>();
    }
    Ok(change)
}
