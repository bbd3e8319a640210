//! Scales of the columns of matrices that are rounded to nearest, and limits of their weights, such that products with
//! given inputs change little (AWQ).
//!
//! Columns `j` of the matrices `W` that read the inputs `X` are multiplied by `s_j`, and the inputs divided by it. What a
//! product loses is then `|X (Q(W s) / s - W)'|^2 = tr(D G D')` with the Gram matrix `G = X'X`. Tried are
//!
//! ```text
//! s_j = x_j^r / (w_j^(1 - r) + 1e-4),   divided by sqrt(max s min s),   r = 0, 0.05, .., 0.95
//! ```
//!
//! with the mean magnitude `x_j` of the inputs, and the mean `w_j` of the magnitudes of the weights, each divided by the
//! largest of its group; and no scales at all.
//!
//! Source: Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, "AWQ: Activation-aware Weight Quantization for LLM
//! Compression and Acceleration", MLSys 2024, and AutoAWQ 0.2.9 (`quantizer.py`). There, the loss is that of the output of
//! a whole attention or MLP, and no scales at all are not among what is tried.

use super::normal::Normal;
use crate::error::OrInternal;
use crate::format::element::Element;
use crate::format::packed::{Rounded, Scheme};
use crate::{Error, Result};

/// Number of exponents that are tried.
const EXPONENTS: usize = 20;

/// Number of scales that are tried, with none at all.
pub const CANDIDATES: usize = EXPONENTS + 1;

/// Number of limits that are tried.
pub const LIMITS: usize = 10;

/// Steps of limits from all down to nothing.
const LIMIT_STEPS: f32 = 20.0;

/// Sums of the magnitudes of weights, each divided by the largest of its group.
pub struct Magnitudes {
    group: usize,
    sums: Vec<f64>,
    rows: u64,
}

impl Magnitudes {
    /// Begins the sums of matrices of `columns` columns in groups of `group`.
    pub fn new(columns: usize, group: usize) -> Self {
        Self { group: group.max(1), sums: vec![0.0; columns], rows: 0 }
    }

    /// Adds `weights`, whole rows.
    pub fn add(&mut self, weights: &[f32]) {
        for row in weights.chunks(self.sums.len().max(1)) {
            for (weights, sums) in row.chunks(self.group).zip(self.sums.chunks_mut(self.group)) {
                let largest = weights.iter().fold(0.0f32, |most, x| most.max(x.abs())) + 1e-6;
                sums.iter_mut().zip(weights).for_each(|(sum, x)| *sum += f64::from(x.abs() / largest));
            }
            self.rows += 1;
        }
    }

    /// Returns the means.
    pub fn means(&self) -> Vec<f32> {
        self.sums.iter().map(|sum| (sum / self.rows.max(1) as f64) as f32).collect()
    }
}

/// Returns the scales of columns that are tried for inputs with the mean magnitudes `inputs` and weights with the means
/// `weights` of [`Magnitudes`]: none at all first, then by exponents from 0 on.
pub fn awq_candidates(inputs: &[f32], weights: &[f32]) -> Vec<Vec<f32>> {
    let of_exponent = |step: usize| {
        let r = step as f32 / EXPONENTS as f32;
        let scale = |(x, w): (&f32, &f32)| (x.powf(r) / (w.powf(1.0 - r) + 1e-4)).max(1e-4);
        let scales: Vec<f32> = inputs.iter().zip(weights).map(scale).collect();
        let (least, most) =
            scales.iter().fold((f32::INFINITY, 0.0f32), |(least, most), s| (least.min(*s), most.max(*s)));
        let middle = (least * most).sqrt();
        let usable = |s: f32| if s.is_finite() && s > 0.0 { s } else { 1.0 };
        scales.into_iter().map(|s| usable(s / middle)).collect()
    };
    std::iter::once(vec![1.0; inputs.len()]).chain((0..EXPONENTS).map(of_exponent)).collect()
}

/// Computes what products of inputs with the Gram matrix `gram` lose where the rows `weights` are rounded to nearest on
/// the grid of `scheme`, of scales of the type `element`, after their columns were multiplied by `scales`.
///
/// # Errors
/// Those of [`Scheme::held_grid`] and [`Normal::cost`].
pub fn awq_loss(
    scheme: Scheme,
    element: Element,
    weights: &[f32],
    scales: &[f32],
    gram: &Normal,
) -> Result<f64> {
    let columns = scales.len();
    let group = scheme.group.unwrap_or(columns).max(1);
    let mut changes = Vec::with_capacity(weights.len());
    for row in weights.chunks(columns.max(1)) {
        for (weights, scales) in row.chunks(group).zip(scales.chunks(group)) {
            let scaled: Vec<f32> = weights.iter().zip(scales).map(|(w, s)| w * s).collect();
            let (scale, zero) = scheme.held_grid(element, &scaled, 1.0)?;
            let number = |x: &f32| scheme.number_of(scheme.code(*x, scale, zero), scale, zero);
            changes.extend(scaled.iter().zip(scales).zip(weights).map(|((x, s), w)| number(x) / s - w));
        }
    }
    gram.cost(&changes)
}

/// Rounds the rows `weights` to nearest on the grid of `scheme`, of scales of the type `element`, after their columns were
/// multiplied by `scales`. Where `corners` are given, the Gram matrices of the columns of each group, weights are held
/// within that share of the largest of their group, from 1 down to 0.55 in steps of 0.05, with which the group's part of
/// the products loses least.
///
/// # Errors
/// Those of [`Scheme::held_grid`]; [`Error::Internal`] if corners are missing.
pub fn awq_round(
    scheme: Scheme,
    element: Element,
    weights: &[f32],
    scales: &[f32],
    corners: Option<&[Vec<f32>]>,
) -> Result<Rounded> {
    let columns = scales.len();
    let group = scheme.group.unwrap_or(columns).max(1);
    if columns == 0 || !weights.len().is_multiple_of(columns) {
        return Err(Error::internal("weights are no whole rows"));
    }
    let mut rounded = Rounded::default();
    for row in weights.chunks(columns) {
        for (place, (weights, scales)) in row.chunks(group).zip(scales.chunks(group)).enumerate() {
            let scaled: Vec<f32> = weights.iter().zip(scales).map(|(w, s)| w * s).collect();
            let mut best = scheme.held_grid(element, &scaled, 1.0)?;
            if let Some(corners) = corners {
                let corner = corners.get(place).or_internal("the Gram matrix of a group is missing")?;
                let mut least = f64::INFINITY;
                for step in 0..LIMITS {
                    let grid = scheme.held_grid(element, &scaled, 1.0 - step as f32 / LIMIT_STEPS)?;
                    let lost = |(x, s): (&f32, &f32)| {
                        (scheme.number_of(scheme.code(*x, grid.0, grid.1), grid.0, grid.1) - x) / s
                    };
                    let changes: Vec<f32> = scaled.iter().zip(scales).map(lost).collect();
                    let loss = squared(&changes, corner);
                    if loss < least {
                        (least, best) = (loss, grid);
                    }
                }
            }
            rounded.codes.extend(scaled.iter().map(|x| scheme.code(*x, best.0, best.1)));
            rounded.scales.push(best.0);
            rounded.zeros.push(best.1);
        }
    }
    Ok(rounded)
}

/// Computes `d G d'`.
fn squared(d: &[f32], gram: &[f32]) -> f64 {
    let rows = gram.chunks(d.len().max(1)).zip(d);
    rows.map(|(row, x)| f64::from(*x) * f64::from(row.iter().zip(d).map(|(g, y)| g * y).sum::<f32>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::packed::Layout;

    const SCHEME: Scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(8), symmetric: false };

    /// Inputs of which one column is much larger, and weights.
    fn problem() -> (Normal, Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut state = 5u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let rows: Vec<f32> =
            (0..48 * 16).map(|place| if place % 16 == 3 { 20.0 } else { 1.0 } * draw()).collect();
        let mut gram = Normal::new(16, 0).unwrap();
        gram.add(&rows, &[], &[1.0; 48]).unwrap();
        let means =
            (0..16).map(|j| rows.iter().skip(j).step_by(16).map(|x| x.abs()).sum::<f32>() / 48.0).collect();
        (gram, rows, means, (0..12 * 16).map(|_| draw()).collect())
    }

    #[test]
    fn the_loss_is_that_of_the_products() {
        let (gram, rows, means, weights) = problem();
        let mut magnitudes = Magnitudes::new(16, 8);
        magnitudes.add(&weights);
        let mut losses = Vec::new();
        for scales in awq_candidates(&means, &magnitudes.means()) {
            let loss = awq_loss(SCHEME, Element::F32, &weights, &scales, &gram).unwrap();
            let rounded = awq_round(SCHEME, Element::F32, &weights, &scales, None).unwrap();
            let mut direct = 0.0;
            for x in rows.chunks(16) {
                for (row, weights) in weights.chunks(16).enumerate() {
                    let lost = |j: usize| {
                        let place = row * 2 + j / 8;
                        let (scale, zero) = (rounded.scales[place], rounded.zeros[place]);
                        let number = SCHEME.number_of(rounded.codes[row * 16 + j], scale, zero);
                        f64::from(x[j]) * f64::from(number / scales[j] - weights[j])
                    };
                    direct += (0..16).map(lost).sum::<f64>().powi(2);
                }
            }
            assert!((loss / direct - 1.0).abs() < 1e-4, "{loss}, not {direct}");
            losses.push(loss);
        }
        assert_eq!(losses.len(), 21);
        let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(best < 0.6 * losses[0], "a column that carries much is worth scaling: {losses:?}");
    }

    #[test]
    fn limits_never_lose_more_within_groups() {
        let (gram, _, _, weights) = problem();
        let corners = [gram.corner(0, 8).unwrap(), gram.corner(8, 8).unwrap()];
        let ones = [1.0; 16];
        let plain = awq_round(SCHEME, Element::F32, &weights, &ones, None).unwrap();
        let held = awq_round(SCHEME, Element::F32, &weights, &ones, Some(&corners)).unwrap();
        let loss = |rounded: &Rounded| -> f64 {
            let mut loss = 0.0;
            for (place, (weights, codes)) in weights.chunks(8).zip(rounded.codes.chunks(8)).enumerate() {
                let (scale, zero) = (rounded.scales[place], rounded.zeros[place]);
                let changes: Vec<f32> =
                    codes.iter().zip(weights).map(|(c, w)| SCHEME.number_of(*c, scale, zero) - w).collect();
                loss += squared(&changes, &corners[place % 2]);
            }
            loss
        };
        assert!(loss(&held) < loss(&plain), "{} {}", loss(&held), loss(&plain));
        assert!(gram.corner(9, 8).is_err());
    }
}
