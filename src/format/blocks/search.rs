//! Searches for the scales of sub-blocks, all sub-blocks of a block at once ([`Lanes`]).
//!
//! The encoders of llama.cpp round the values of a sub-block in several ways, and keep the way that a scale
//! (and an offset) fits with the least weighted squared error. The searches here are those of
//! `make_qx_quants`, `make_q3_quants`, `make_qkx2_quants`, `make_qkx3_quants` and `make_qp_quants` in
//! ggml-quants.c. The results are identical, because every sum is taken in the same order. Two things differ:
//! all sub-blocks of a block are searched at once, and a search keeps the divisor that gave the best codes
//! instead of the codes.

use super::lanes::{Lanes, both};

/// Magnitude below which scales, and sub-blocks of values, count as zero.
pub(super) const NEGLIGIBLE: f32 = 1e-15;

/// Returns the weights of values in a search: the importance of a value's column times `sqrt(s + x^2)`,
/// where `s` is `mean_square`, a multiple of the mean of `x^2`. A large value so counts more than a small
/// one, but not by as much as if `|x|` were the weight.
pub(super) fn weighed<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    importance: &[Lanes<N>; LEN],
    mean_square: Lanes<N>,
) -> [Lanes<N>; LEN] {
    std::array::from_fn(|i| importance[i] * (mean_square + x[i] * x[i]).map(f32::sqrt))
}

/// Returns the sum of `x^2`, added in order.
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}

/// Returns the sum of rows, added in order.
pub(super) fn sum<const N: usize, const LEN: usize>(rows: &[Lanes<N>; LEN]) -> Lanes<N> {
    rows.iter().fold(Lanes::ZERO, |sum, row| sum + *row)
}

/// Returns the value of largest magnitude of each sub-block, with its sign.
pub(super) fn farthest<const N: usize, const LEN: usize>(x: &[Lanes<N>; LEN]) -> Lanes<N> {
    x.iter().fold(Lanes::ZERO, |far, x| x.or(far.abs().less(x.abs()), far))
}

/// Result of [`best_scale`]: one lane per sub-block.
pub(super) struct Scaled<const N: usize> {
    /// Scale of the best codes.
    pub scale: Lanes<N>,
    /// The best codes are `x divisor`, rounded.
    pub divisor: Lanes<N>,
}

/// Finds, for every sub-block, the scale `s` with the least `sum w (s q - x)^2`, over codes `q` that come
/// from the divisor `first` and from those of `trials`. `sums` returns `sum w q x` and `sum w q^2` of a
/// divisor. For given codes the best scale is the quotient of the sums, which lowers the error of a zero
/// scale by `(sum w q x)^2 / sum w q^2`.
#[inline(always)]
pub(super) fn best_scale<const N: usize>(
    first: Lanes<N>,
    trials: impl Iterator<Item = Lanes<N>>,
    sums: impl Fn(Lanes<N>) -> [Lanes<N>; 2],
) -> Scaled<N> {
    let mut divisor = first;
    let [sum_qx, sum_qq] = sums(divisor);
    let mut scale = (sum_qx / sum_qq).or(Lanes::ZERO.less(sum_qq), Lanes::ZERO);
    let mut gain = scale * sum_qx;
    for trial in trials {
        let [sum_qx, sum_qq] = sums(trial);
        let more = (gain * sum_qq).less(sum_qx * sum_qx);
        let better = both(Lanes::ZERO.less(sum_qq), more);
        divisor = trial.or(better, divisor);
        scale = (sum_qx / sum_qq).or(better, scale);
        gain = (scale * sum_qx).or(better, gain);
    }
    Scaled { scale, divisor }
}

/// Result of [`search_symmetric`]: one lane per sub-block.
pub(super) struct Symmetric<const N: usize> {
    /// Zero for a sub-block without a value of [`NEGLIGIBLE`] magnitude.
    pub scale: Lanes<N>,
    divisor: Lanes<N>,
    empty: [bool; N],
    top: f32,
}

impl<const N: usize> Symmetric<N> {
    /// Returns the best codes of values as they are stored, from 0 to `2 top - 1`. They are zeros in a
    /// sub-block that is too small to be searched.
    #[inline(always)]
    pub(super) fn codes(&self, x: Lanes<N>) -> Lanes<N> {
        Lanes::ZERO.or(self.empty, offset_code(x * self.divisor, self.top))
    }
}

/// Finds, for every sub-block, the scale `s` with the least `sum w (s q - x)^2` over 19 ways to round `x` to
/// codes from `-top` to `top - 1`: the value of largest magnitude becomes `-top`, or another of 18 numbers
/// from `-top + 0.9` to `-top - 0.9`.
pub(super) fn search_symmetric<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    w: &[Lanes<N>; LEN],
    top: f32,
) -> Symmetric<N> {
    let farthest = farthest(x);
    let sums = |divisor: Lanes<N>| {
        let (mut sum_qx, mut sum_qq) = (Lanes::ZERO, Lanes::ZERO);
        for (x, w) in x.iter().zip(w) {
            let q = code(divisor * *x, top);
            sum_qx = sum_qx + *w * *x * q;
            sum_qq = sum_qq + *w * q * q;
        }
        [sum_qx, sum_qq]
    };
    let steps = (-9..=9).filter(|step| *step != 0);
    let trials = steps.map(|step| Lanes::splat(-(top + 0.1 * step as f32)) / farthest);
    let Scaled { scale, divisor } = best_scale(Lanes::splat(-top) / farthest, trials, sums);
    let empty = farthest.abs().less(Lanes::splat(NEGLIGIBLE));
    Symmetric { scale: Lanes::ZERO.or(empty, scale), divisor, empty, top }
}

/// Rounds to codes from `-top` to `top - 1`.
#[inline(always)]
fn code<const N: usize>(x: Lanes<N>, top: f32) -> Lanes<N> {
    x.nearest().clamp(-top, top - 1.0)
}

/// Rounds to codes as they are stored, from 0 to `2 top - 1`.
#[inline(always)]
pub(super) fn offset_code<const N: usize>(x: Lanes<N>, top: f32) -> Lanes<N> {
    code(x, top) + Lanes::splat(top)
}

/// Finds, for every sub-block, codes `q` from `-top` to `top - 1` and a scale with little
/// `sum w (s q - x)^2`, `w = x^2`, by descent: in up to five rounds, each code in turn takes the value that
/// is best with the other codes as they are, if that lowers the error. Returns the scales, and the codes as
/// they are stored, from 0. Both are zero in a sub-block without a value of [`NEGLIGIBLE`] magnitude.
///
/// The sum of `w q x` is above zero only where the value of largest magnitude is negative, because that
/// value's code is `-top`. As in llama.cpp, the codes of other sub-blocks stay as they were rounded first.
pub(super) fn descend<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    top: f32,
) -> (Lanes<N>, [Lanes<N>; LEN]) {
    let farthest = farthest(x);
    let divisor = Lanes::splat(-top) / farthest;
    let mut codes = x.map(|x| code(divisor * x, top));
    let (mut sum_qx, mut sum_qq) = (Lanes::ZERO, Lanes::ZERO);
    for (x, q) in x.iter().zip(&codes) {
        let w = *x * *x;
        sum_qx = sum_qx + w * *x * *q;
        sum_qq = sum_qq + w * *q * *q;
    }
    // A sub-block that no round changes any more is the same after all rounds.
    for _ in 0..5 {
        for (x, q) in x.iter().zip(&mut codes) {
            let w = *x * *x;
            let (others_qx, others_qq) = (sum_qx - w * *x * *q, sum_qq - w * *q * *q);
            let trial = code(*x * others_qq / others_qx, top);
            let (trial_qx, trial_qq) = (others_qx + w * *x * trial, others_qq + w * trial * trial);
            let solved = both(Lanes::ZERO.less(others_qx), Lanes::ZERO.less(trial_qq));
            let changed = std::array::from_fn(|lane| trial.0[lane] != q.0[lane]);
            let more = (sum_qx * sum_qx * trial_qq).less(trial_qx * trial_qx * sum_qq);
            let better = both(both(solved, changed), more);
            *q = trial.or(better, *q);
            sum_qx = trial_qx.or(better, sum_qx);
            sum_qq = trial_qq.or(better, sum_qq);
        }
    }
    let empty = farthest.abs().less(Lanes::splat(NEGLIGIBLE));
    let scale = (sum_qx / sum_qq).or(Lanes::ZERO.less(sum_qq), Lanes::ZERO);
    let codes = codes.map(|q| Lanes::ZERO.or(empty, q + Lanes::splat(top)));
    (Lanes::ZERO.or(empty, scale), codes)
}

/// The ways to round that [`search_affine`] tries after the first: the range from the offset to the largest
/// value has `top + first`, `top + first + by`, ... `top + first + by last` steps.
pub(super) struct Trials {
    pub first: f32,
    pub by: f32,
    pub last: u8,
}

/// The loss of most affine searches.
#[inline(always)]
pub(super) fn square<const N: usize>(error: Lanes<N>) -> Lanes<N> {
    error * error
}

/// Result of [`search_affine`]: one lane per sub-block.
pub(super) struct Affine<const N: usize> {
    pub scale: Lanes<N>,
    /// Offset that is subtracted, never negative.
    pub min: Lanes<N>,
    low: Lanes<N>,
    divisor: Lanes<N>,
    /// Largest code.
    pub top: f32,
}

impl<const N: usize> Affine<N> {
    /// Returns the best codes of values: `(x - low) divisor`, rounded, where `low` is the value of code 0.
    #[inline(always)]
    pub(super) fn codes(&self, x: Lanes<N>) -> Lanes<N> {
        ((x - self.low) * self.divisor).nearest().clamp(0.0, self.top)
    }
}

/// Finds, for every sub-block, the scale `s` and the offset `-min` with the least weighted sum of `loss` of
/// `s q + offset - x`, over several ways to round `x` to codes `q` from 0 to `top`. The first way spans the
/// range from the smallest value (or 0) to the largest in `top` steps. The others span the range from the
/// best offset so far to the largest value. For given codes, `s` and the offset come from a weighted linear
/// regression of `x` on `q`; an offset above zero cannot be stored and is replaced by zero.
pub(super) fn search_affine<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    w: &[Lanes<N>; LEN],
    top: f32,
    trials: &Trials,
    loss: impl Fn(Lanes<N>) -> Lanes<N> + Copy,
) -> Affine<N> {
    let (mut sum_w, mut sum_x) = (Lanes::ZERO, Lanes::ZERO);
    let (mut low, mut high) = (Lanes::ZERO, Lanes::splat(f32::MIN));
    for (x, w) in x.iter().zip(w) {
        low = x.min(low);
        high = x.max(high);
        sum_w = sum_w + *w;
        sum_x = sum_x + *w * *x;
    }
    let mut q = [Lanes::ZERO; LEN];
    // In a sub-block of equal values that are not above zero, the divisor is infinite and the codes and the
    // scale are zero. No trial then has a determinant above zero, so the loop keeps this first solution, as it
    // does where all weights are zero.
    let mut divisor = Lanes::splat(top) / (high - low);
    let (mut scale, mut offset) = (Lanes::splat(1.0) / divisor, low);
    for (q, x) in q.iter_mut().zip(x) {
        *q = (divisor * (*x - low)).nearest().clamp(0.0, top);
    }
    let mut least = weighted_error(x, w, &q, scale, offset, loss);
    for step in 0..=trials.last {
        let steps = trials.first + trials.by * f32::from(step) + top;
        let trial = Lanes::splat(steps) / (high - offset);
        let [sum_q, sum_qq, sum_qx] = round_and_sum(x, w, trial, offset, top, &mut q);
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        let regressed = (sum_w * sum_qx - sum_x * sum_q) / determinant;
        let intercept = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
        let above_zero = Lanes::ZERO.less(intercept);
        let trial_scale = (sum_qx / sum_qq).or(above_zero, regressed);
        let trial_offset = Lanes::ZERO.or(above_zero, intercept);
        let error = weighted_error(x, w, &q, trial_scale, trial_offset, loss);
        let better = both(Lanes::ZERO.less(determinant), error.less(least));
        least = error.or(better, least);
        divisor = trial.or(better, divisor);
        low = offset.or(better, low);
        scale = trial_scale.or(better, scale);
        offset = trial_offset.or(better, offset);
    }
    Affine { scale, min: Lanes::ZERO - offset, low, divisor, top }
}

/// Rounds `(x - offset) divisor` to codes `q`, and returns the sums of `w q`, `w q^2` and `w q x`.
// Not inlined, like `weighted_error`: within the search, the compiler would split the lanes.
#[inline(never)]
fn round_and_sum<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    w: &[Lanes<N>; LEN],
    divisor: Lanes<N>,
    offset: Lanes<N>,
    top: f32,
    q: &mut [Lanes<N>; LEN],
) -> [Lanes<N>; 3] {
    let (mut sum_q, mut sum_qq, mut sum_qx) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    for ((q, x), w) in q.iter_mut().zip(x).zip(w) {
        *q = (divisor * (*x - offset)).nearest().clamp(0.0, top);
        let wq = *w * *q;
        sum_q = sum_q + wq;
        sum_qq = sum_qq + wq * *q;
        sum_qx = sum_qx + wq * *x;
    }
    [sum_q, sum_qq, sum_qx]
}

/// Returns the weighted sum of the losses of `scale q + offset - x`.
#[inline(never)]
fn weighted_error<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    w: &[Lanes<N>; LEN],
    q: &[Lanes<N>; LEN],
    scale: Lanes<N>,
    offset: Lanes<N>,
    loss: impl Fn(Lanes<N>) -> Lanes<N>,
) -> Lanes<N> {
    let mut sum = Lanes::ZERO;
    for ((x, w), q) in x.iter().zip(w).zip(q) {
        sum = sum + *w * loss(scale * *q + offset - *x);
    }
    sum
}

/// Approximates non-negative numbers by a scale times integers from 0 to `top`, so that the largest number
/// is met. Returns the scale and the integers; `None` if a number is not finite.
pub(super) fn multiples<const N: usize>(x: Lanes<N>, top: f32) -> Option<(f32, Lanes<N>)> {
    if !x.0.iter().all(|x| x.is_finite()) {
        return None;
    }
    let largest = x.0.into_iter().fold(0f32, f32::max);
    let divisor = if largest > 0.0 { top / largest } else { 0.0 };
    Some((largest / top, (Lanes::splat(divisor) * x).nearest().clamp(0.0, top)))
}

/// Approximates non-negative numbers `x` by a scale `s` times integers `q` from 0 to `top` with little
/// `sum w (s q - x)^2`. Returns the scale and the integers; `None` if a number is not finite.
///
/// The best of nine ways to round, from `top - 0.4` to `top + 0.4` steps to the largest number, is the start.
/// Then follow up to five rounds in which each integer in turn takes the value that is best with the others
/// as they are, if that raises `(sum w q x)^2 / sum w q^2`. Where no number above zero has a weight, the
/// numbers are those of [`multiples`]; llama.cpp stores zeros for them.
pub(super) fn weighted_multiples<const N: usize>(
    x: Lanes<N>,
    w: Lanes<N>,
    top: f32,
) -> Option<(f32, Lanes<N>)> {
    let plain = multiples(x, top)?;
    let largest = x.0.into_iter().fold(0f32, f32::max);
    if largest < NEGLIGIBLE {
        return Some((0.0, Lanes::ZERO));
    }
    let rounded = |divisor: f32| (Lanes::splat(divisor) * x).nearest().clamp(0.0, top);
    let in_order = |terms: Lanes<N>| terms.0.into_iter().fold(0f32, |sum, term| sum + term);
    let error = |divisor: f32| {
        let difference = x - Lanes::splat(1.0 / divisor) * rounded(divisor);
        in_order(w * difference * difference)
    };
    let mut divisor = top / largest;
    let mut least = error(divisor);
    for step in (-4..=4).filter(|step| *step != 0) {
        let trial = (0.1 * step as f32 + top) / largest;
        let trial_error = error(trial);
        if trial_error < least {
            (least, divisor) = (trial_error, trial);
        }
    }
    let mut codes = rounded(divisor);
    let (mut sum_qx, mut sum_qq) = (in_order(w * x * codes), in_order(w * codes * codes));
    for _ in 0..5 {
        let mut changed = false;
        for ((q, x), w) in codes.0.iter_mut().zip(x.0).zip(w.0) {
            let (others_qx, others_qq) = (sum_qx - w * x * *q, sum_qq - w * *q * *q);
            if others_qx > 0.0 && others_qq > 0.0 {
                let [trial] = Lanes([x * others_qq / others_qx]).nearest().clamp(0.0, top).0;
                let (trial_qx, trial_qq) = (others_qx + w * x * trial, others_qq + w * trial * trial);
                if trial != *q && trial_qx * trial_qx * sum_qq > sum_qx * sum_qx * trial_qq {
                    (*q, sum_qx, sum_qq) = (trial, trial_qx, trial_qq);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    Some(if sum_qq > 0.0 { (sum_qx / sum_qq, codes) } else { plain })
}
