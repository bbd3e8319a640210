//! Rounding of a matrix to a grid of groups such that its products with given inputs change little (GPTQ).
//!
//! Of the weights `w` of a row, one after the other is rounded, and those that follow make up for the error as well as they
//! can. With the Gram matrix `H = X'X` of the inputs, and `F` the columns that are not rounded yet, `i` the first of them,
//!
//! ```text
//! w_F -= (w_i - q_i) / [H_F^-1]_ii * [H_F^-1]_i
//! ```
//!
//! All these inverses come from one factor: with `L L' = H^-1`, row `i` of `H_F^-1` divided by its first entry is column `i` of
//! `L` divided by `L_ii`. The scale of a group is found when its first column is reached, for the weights as they are by then.
//!
//! Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
//! Transformers", ICLR 2023, and its code (`gptq.py`).

use super::factor::{cholesky, inverse};
use super::matrix::Matrix;
use crate::error::OrInternal;
use crate::format::element::Element;
use crate::format::packed::{Rounded, Scheme, round_to_nearest};
use crate::kernels::threads;
use crate::{Error, Result};

/// Share of the mean of the diagonal that is added to the diagonal, as in the source.
const DAMPING: f64 = 0.01;

/// Rows that are rounded together, so that a column of the factor is read once for all of them.
const ROWS: usize = 16;

/// Rounds `weights` `[rows, columns]`, row-major, to the grid of `scheme` with scales of the type `element`, such that `tr(D H D')`
/// is small, where `D` is what rounding changes and `H` the Gram matrix `gram` `[columns, columns]` of the inputs.
/// `tr(D H D')` is at most that of [`round_to_nearest`]: rows for which that is better are rounded so.
///
/// A column that no input uses has a zero on the diagonal of `gram`, and its weights are rounded to nearest.
///
/// Takes `columns^3` multiply-adds and `2 rows columns^2`, and memory for `20 columns^2` bytes.
///
/// # Errors
/// [`Error::Numeric`] if `gram` is not positive semidefinite or not finite, and those of [`round_to_nearest`];
/// [`Error::Internal`] if `gram` has another shape; [`Error::Limit`] if there is no memory.
pub fn gptq(
    scheme: Scheme,
    element: Element,
    columns: usize,
    weights: &[f32],
    gram: &[f32],
) -> Result<Rounded> {
    if Some(gram.len()) != columns.checked_mul(columns) {
        return Err(Error::internal("a Gram matrix has another width than the weights"));
    }
    let factor = factor(columns, gram)?;
    let pieces: Vec<&[f32]> = weights.chunks((ROWS * columns).max(1)).collect();
    let rounded = threads::map(&pieces, |weights| {
        let nearest = round_to_nearest(scheme, element, columns, weights)?;
        let compensated = compensated(scheme, element, columns, weights, &factor)?;
        better(scheme, columns, weights, gram, [nearest, compensated])
    });
    Rounded::stack(rounded)
}

/// Returns the columns of `L` with `L L' = (H + damping)^-1`, each divided by its entry on the diagonal, from that entry on.
fn factor(columns: usize, gram: &[f32]) -> Result<Vec<Vec<f32>>> {
    let bad = || {
        Error::Numeric(
            "the Gram matrix of the inputs of a projection is not positive; the activations are not finite, or too few"
                .to_owned(),
        )
    };
    let mut h = Matrix::<f64>::zeros(columns, columns)?;
    h.values_mut().iter_mut().zip(gram).for_each(|(h, g)| *h = f64::from(*g));
    let diagonal = || gram.iter().step_by(columns + 1).map(|x| f64::from(*x));
    let mean = diagonal().sum::<f64>() / columns.max(1) as f64;
    for (h, own) in h.values_mut().iter_mut().step_by(columns + 1).zip(diagonal()) {
        // What no input uses is far from all others.
        *h = if own == 0.0 { 1.0 } else { own } + DAMPING * mean;
    }
    if !cholesky(h.view_mut()) {
        return Err(bad());
    }
    let mut inverse = inverse(h)?;
    if !cholesky(inverse.view_mut()) {
        return Err(bad());
    }
    let columns = inverse.columns().enumerate().map(|(i, column)| {
        let own = column.get(i..).unwrap_or_default();
        let first = own.first().copied().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(bad)?;
        Ok(own.iter().map(|x| (x / first) as f32).collect())
    });
    columns.collect()
}

/// Rounds some rows, column by column.
fn compensated(
    scheme: Scheme,
    element: Element,
    columns: usize,
    weights: &[f32],
    factor: &[Vec<f32>],
) -> Result<Rounded> {
    let mut left = weights.to_vec();
    let group = scheme.group.unwrap_or(columns).max(1);
    let (rows, groups) = (weights.len() / columns.max(1), scheme.groups(columns));
    let mut rounded = Rounded {
        codes: vec![0; rows * columns],
        scales: vec![0.0; rows * groups],
        zeros: vec![0; rows * groups],
    };
    for (i, of_column) in factor.iter().enumerate() {
        let Rounded { codes, scales, zeros } = &mut rounded;
        let rows = left.chunks_mut(columns).zip(codes.chunks_mut(columns));
        for (row, (left, codes)) in rows.enumerate() {
            let place = row * groups + i / group;
            if i % group == 0 {
                let of_group = left.get(i..(i + group).min(columns)).or_internal("a group is missing")?;
                let (scale, zero) = scheme.best_scale(element, of_group)?;
                *scales.get_mut(place).or_internal("a scale is missing")? = scale;
                *zeros.get_mut(place).or_internal("a zero point is missing")? = zero;
            }
            let (scale, zero) = scales.get(place).zip(zeros.get(place)).or_internal("a group is missing")?;
            let rest = left.get_mut(i..).or_internal("a column is missing")?;
            let weight = rest.first().copied().or_internal("a column is missing")?;
            let code = scheme.code(weight, *scale, *zero);
            *codes.get_mut(i).or_internal("a code is missing")? = code;
            let error = weight - scheme.number_of(code, *scale, *zero);
            for (weight, share) in rest.iter_mut().zip(of_column) {
                *weight -= error * share;
            }
        }
    }
    Ok(rounded)
}

/// Returns of each row the one of two roundings with the smaller `d H d'`.
fn better(
    scheme: Scheme,
    columns: usize,
    weights: &[f32],
    gram: &[f32],
    [nearest, mut best]: [Rounded; 2],
) -> Result<Rounded> {
    let groups = scheme.groups(columns);
    for (row, weights) in weights.chunks(columns.max(1)).enumerate() {
        let of_row = |rounded: &Rounded| -> Option<Rounded> {
            let groups = row * groups..(row + 1) * groups;
            Some(Rounded {
                codes: rounded.codes.get(row * columns..(row + 1) * columns)?.to_vec(),
                scales: rounded.scales.get(groups.clone())?.to_vec(),
                zeros: rounded.zeros.get(groups)?.to_vec(),
            })
        };
        let rows = of_row(&nearest).zip(of_row(&best));
        let (nearest, compensated) = rows.or_internal("a rounded row is missing")?;
        let error = |rounded: &Rounded| change(scheme, columns, weights, gram, rounded);
        if error(&nearest) < error(&compensated) {
            let replaced = (|| {
                best.codes.get_mut(row * columns..(row + 1) * columns)?.copy_from_slice(&nearest.codes);
                best.scales.get_mut(row * groups..(row + 1) * groups)?.copy_from_slice(&nearest.scales);
                best.zeros.get_mut(row * groups..(row + 1) * groups)?.copy_from_slice(&nearest.zeros);
                Some(())
            })();
            replaced.or_internal("a rounded row is missing")?;
        }
    }
    Ok(best)
}

/// Computes `d H d'` of a row.
fn change(scheme: Scheme, columns: usize, weights: &[f32], gram: &[f32], rounded: &Rounded) -> f64 {
    let group = scheme.group.unwrap_or(columns).max(1);
    let grids = rounded.scales.iter().zip(&rounded.zeros);
    let numbers =
        rounded.codes.chunks(group).zip(grids).flat_map(|(codes, (scale, zero))| {
            codes.iter().map(|code| scheme.number_of(*code, *scale, *zero))
        });
    let d: Vec<f64> = weights.iter().zip(numbers).map(|(w, q)| f64::from(w - q)).collect();
    let products =
        gram.chunks(columns.max(1)).map(|h| h.iter().zip(&d).map(|(h, d)| f64::from(*h) * d).sum::<f64>());
    products.zip(&d).map(|(product, d)| product * d).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::packed::Layout;

    fn draws(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        }
    }

    /// Correlated inputs and weights.
    fn problem(seed: u64, rows: usize, columns: usize) -> (Vec<f32>, Vec<f32>) {
        let mut draw = draws(seed);
        let weights = (0..rows * columns).map(|_| draw()).collect();
        let mut gram = vec![0.0f32; columns * columns];
        for _ in 0..3 * columns {
            let common = draw();
            let x: Vec<f32> = (0..columns).map(|_| common + 0.4 * draw()).collect();
            for i in 0..columns {
                for j in 0..columns {
                    gram[i * columns + j] += x[i] * x[j];
                }
            }
        }
        (weights, gram)
    }

    fn error(scheme: Scheme, columns: usize, weights: &[f32], gram: &[f32], rounded: &Rounded) -> f64 {
        let groups = scheme.groups(columns);
        weights
            .chunks(columns)
            .enumerate()
            .map(|(row, weights)| {
                let of_row = Rounded {
                    codes: rounded.codes[row * columns..(row + 1) * columns].to_vec(),
                    scales: rounded.scales[row * groups..(row + 1) * groups].to_vec(),
                    zeros: rounded.zeros[row * groups..(row + 1) * groups].to_vec(),
                };
                change(scheme, columns, weights, gram, &of_row)
            })
            .sum()
    }

    /// Inverse by Gauss and Jordan.
    fn inverse_of(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let n = a.len();
        for (i, row) in a.iter_mut().enumerate() {
            row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
        }
        for i in 0..n {
            let pivot = a[i][i];
            a[i].iter_mut().for_each(|x| *x /= pivot);
            let own = a[i].clone();
            for (_, row) in a.iter_mut().enumerate().filter(|(k, _)| *k != i) {
                let factor = row[i];
                row.iter_mut().zip(&own).for_each(|(x, o)| *x -= factor * o);
            }
        }
        a.into_iter().map(|row| row[n..].to_vec()).collect()
    }

    /// By the formula, with a new inverse for every column.
    fn naive(scheme: Scheme, columns: usize, weights: &[f32], gram: &[f32]) -> Vec<u8> {
        let mean = (0..columns).map(|i| f64::from(gram[i * columns + i])).sum::<f64>() / columns as f64;
        let group = scheme.group.unwrap_or(columns);
        let mut codes = Vec::new();
        for row in weights.chunks(columns) {
            let mut w: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let mut grid = (0.0, 0);
            for i in 0..columns {
                if i % group == 0 {
                    let of_group: Vec<f32> = w[i..i + group].iter().map(|x| *x as f32).collect();
                    grid = scheme.best_scale(Element::F32, &of_group).unwrap();
                }
                let left = (i..columns).map(|a| {
                    let damped =
                        |b| f64::from(gram[a * columns + b]) + if a == b { 0.01 * mean } else { 0.0 };
                    (i..columns).map(damped).collect()
                });
                let inverse = inverse_of(left.collect());
                let code = scheme.code(w[i] as f32, grid.0, grid.1);
                let error = (w[i] - f64::from(scheme.number_of(code, grid.0, grid.1))) / inverse[0][0];
                for j in i..columns {
                    w[j] -= error * inverse[0][j - i];
                }
                codes.push(code);
            }
        }
        codes
    }

    fn schemes() -> impl Iterator<Item = Scheme> {
        [(4, Some(8), true), (4, None, false), (8, Some(16), true)]
            .into_iter()
            .map(|(bits, group, symmetric)| Scheme { layout: Layout::Rows, bits, group, symmetric })
    }

    #[test]
    fn codes_are_those_of_the_formula() {
        for scheme in schemes() {
            for seed in 0..4 {
                let (rows, columns) = (5, 32);
                let (weights, gram) = problem(seed, rows, columns);
                let factor = factor(columns, &gram).unwrap();
                let ours = compensated(scheme, Element::F32, columns, &weights, &factor).unwrap();
                let theirs = naive(scheme, columns, &weights, &gram);
                let differ = ours.codes.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                // A weight may lie halfway between two codes, and changes those that follow it.
                assert!(differ * 100 <= theirs.len(), "{scheme:?}, {seed}: {differ} of {}", theirs.len());
            }
        }
    }

    #[test]
    fn the_error_is_below_that_of_rounding_to_nearest() {
        for scheme in schemes() {
            for seed in 10..14 {
                let (rows, columns) = (37, 48);
                let (weights, gram) = problem(seed, rows, columns);
                let ours = gptq(scheme, Element::F16, columns, &weights, &gram).unwrap();
                let nearest = round_to_nearest(scheme, Element::F16, columns, &weights).unwrap();
                let [ours, nearest] =
                    [ours, nearest].map(|rounded| error(scheme, columns, &weights, &gram, &rounded));
                assert!(ours > 0.0 && ours < 0.6 * nearest, "{scheme:?}, {seed}: {ours} {nearest}");
            }
        }
    }

    #[test]
    fn inputs_that_are_not_correlated_change_nothing() {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(8), symmetric: true };
        let (weights, _) = problem(3, 9, 16);
        let nearest = round_to_nearest(scheme, Element::F16, 16, &weights).unwrap();
        for diagonal in [0.0, 2.0] {
            let mut gram = vec![0.0; 256];
            gram.iter_mut().step_by(17).for_each(|x| *x = diagonal);
            assert_eq!(gptq(scheme, Element::F16, 16, &weights, &gram).unwrap(), nearest);
        }
    }

    #[test]
    fn gram_matrices_that_are_none_are_refused() {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(8), symmetric: true };
        let weights = [0.5; 16];
        let mut gram = vec![0.0; 256];
        gram.iter_mut().step_by(17).for_each(|x| *x = 1.0);
        gram[0] = -3.0;
        assert!(matches!(gptq(scheme, Element::F16, 16, &weights, &gram), Err(Error::Numeric(_))));
        gram[0] = f32::NAN;
        assert!(matches!(gptq(scheme, Element::F16, 16, &weights, &gram), Err(Error::Numeric(_))));
        assert!(matches!(gptq(scheme, Element::F16, 16, &weights, &gram[1..]), Err(Error::Internal(_))));
        assert!(gptq(scheme, Element::F16, 16, &weights[1..], &[1.0; 256]).is_err());
    }
}
