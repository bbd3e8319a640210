//! Encoders of Q4_K, Q5_K and Q6_K: a search for the scale of each group, then rounding of the scales.
//!
//! The method is that of `quantize_row_q4_K_ref` and its siblings, `make_qkx2_quants` and `make_qx_quants` in
//! ggml-quants.c (without an importance matrix). The bytes are identical, because every sum is taken in the
//! same order. Two things differ: all groups of a block are searched at once ([`Lanes`]), and the search
//! keeps the divisor that gave the best codes instead of the codes.

use super::fields::{finite_half, set};
use super::k_layout::{bit_of_groups, from_eight_scales, from_four_bits, low_four_bits, upper_two_bits};
use super::lanes::{Lanes, codes, rows};

/// Magnitude below which scales, and groups of values, count as zero.
const NEGLIGIBLE: f32 = 1e-15;

/// Encodes a block. All encoders of this file return `None` if the scale or the offset is beyond binary16.
pub(super) fn encode_q4_k(x: &[f32; 256]) -> Option<[u8; 144]> {
    let (head, codes) = affine_block(x, 15.0, -1.0, 20)?;
    let mut block = [0; 144];
    set::<0, 16, _>(&mut block, head);
    set::<16, 128, _>(&mut block, from_four_bits(&codes));
    Some(block)
}

pub(super) fn encode_q5_k(x: &[f32; 256]) -> Option<[u8; 176]> {
    let (head, codes) = affine_block(x, 31.0, -0.5, 15)?;
    let mut block = [0; 176];
    set::<0, 16, _>(&mut block, head);
    set::<16, 32, _>(&mut block, bit_of_groups(&codes, 4));
    set::<48, 128, _>(&mut block, from_four_bits(&codes));
    Some(block)
}

pub(super) fn encode_q6_k(x: &[f32; 256]) -> Option<[u8; 210]> {
    let x = rows::<16, 16>(x);
    let found = search_symmetric(&x);
    let mut block = [0; 210];
    let largest = found.scale.0.into_iter().fold(0f32, |far, s| if s.abs() > far.abs() { s } else { far });
    if !found.scale.0.iter().all(|s| s.is_finite()) {
        return None;
    }
    if largest.abs() < NEGLIGIBLE {
        return Some(block);
    }
    let divisor = -128.0 / largest;
    let d = finite_half(1.0 / divisor)?;
    let scales = (Lanes::splat(divisor) * found.scale).nearest().clamp(-128.0, 127.0);
    let scale = Lanes::splat(d.to_f32()) * scales;
    // A group whose scale was rounded to zero decodes to zeros with any codes. The codes of the search are
    // stored, or zeros for a group too small to be searched.
    let rounded_away = scale.0.map(|s| s == 0.0);
    let empty = found.farthest.abs().less(Lanes::splat(NEGLIGIBLE));
    let codes = codes(&x.map(|x| {
        let searched = Lanes::ZERO.or(empty, offset_code(x * found.divisor));
        searched.or(rounded_away, offset_code(x / scale))
    }));
    set::<0, 128, _>(&mut block, low_four_bits(&codes));
    set::<128, 64, _>(&mut block, upper_two_bits(&codes));
    set::<192, 16, _>(&mut block, scales.0.map(|s| (s as i8).cast_unsigned()));
    set::<208, 2, _>(&mut block, d.to_le_bytes());
    Some(block)
}

/// Encodes the first 16 bytes of Q4_K and Q5_K (scale, offset and their multiples) and the codes, from 0 to
/// `top`.
fn affine_block(x: &[f32; 256], top: f32, first: f32, steps: u8) -> Option<([u8; 16], [u8; 256])> {
    let x = rows::<8, 32>(x);
    let found = search_affine(&x, top, first, steps);
    let (d, scales) = six_bits(found.scale)?;
    let (m, mins) = six_bits(found.min)?;
    let scale = Lanes::splat(d.to_f32()) * scales;
    let min = Lanes::splat(m.to_f32()) * mins;
    // A group whose scale was rounded to zero keeps the codes of the search, as in `encode_q6_k`.
    let rounded_away = scale.0.map(|s| s == 0.0);
    let codes = codes(&x.map(|x| {
        let searched = ((x - found.low) * found.divisor).nearest().clamp(0.0, top);
        searched.or(rounded_away, ((x + min) / scale).nearest().clamp(0.0, top))
    }));
    let mut head = [0; 16];
    set::<0, 2, _>(&mut head, d.to_le_bytes());
    set::<2, 2, _>(&mut head, m.to_le_bytes());
    set::<4, 12, _>(&mut head, from_eight_scales(scales.0, mins.0));
    Some((head, codes))
}

/// Approximates non-negative numbers by one binary16 scale times integers from 0 to 63.
fn six_bits(x: Lanes<8>) -> Option<(half::f16, Lanes<8>)> {
    if !x.0.iter().all(|x| x.is_finite()) {
        return None;
    }
    let largest = x.0.into_iter().fold(0f32, f32::max);
    let divisor = if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let multiples = (Lanes::splat(divisor) * x).nearest().clamp(0.0, 63.0);
    Some((finite_half(largest / 63.0)?, multiples))
}

/// Result of [`search_affine`]: one lane per group.
struct Affine {
    scale: Lanes<8>,
    /// Offset that is subtracted, never negative.
    min: Lanes<8>,
    /// Value of code 0 in the best rounding: the codes are `(x - low) divisor`, rounded.
    low: Lanes<8>,
    divisor: Lanes<8>,
}

/// Finds, for every group, the scale `s` and the offset `-min` with the least `sum w (s q + offset - x)^2`,
/// `w = rms(x) + |x|`, over several ways to round `x` to codes `q`. The first way spans the range from the
/// smallest value (or 0) to the largest in `top` steps. The others span the range from the best offset so far
/// to the largest value in `top + first`, `top + first + 0.1`, ... `top + first + 0.1 steps` steps. For given
/// codes, `s` and the offset come from a weighted linear regression of `x` on `q`; an offset above zero
/// cannot be stored and is replaced by zero.
fn search_affine(x: &[Lanes<8>; 32], top: f32, first: f32, steps: u8) -> Affine {
    let squares = x.iter().fold(Lanes::ZERO, |sum, x| sum + *x * *x);
    let rms = (squares / Lanes::splat(32.0)).map(f32::sqrt);
    let w = x.map(|x| rms + x.abs());
    let (mut sum_w, mut sum_x) = (Lanes::ZERO, Lanes::ZERO);
    let (mut low, mut high) = (Lanes::ZERO, Lanes::splat(f32::MIN));
    for (x, w) in x.iter().zip(&w) {
        low = x.min(low);
        high = x.max(high);
        sum_w = sum_w + *w;
        sum_x = sum_x + *w * *x;
    }
    let mut q = [Lanes::ZERO; 32];
    // In a group of equal values the divisor is infinite, the scale zero and every error NaN. A NaN is never
    // less than another error, so the loop keeps this first solution.
    let mut divisor = Lanes::splat(top) / (high - low);
    let (mut scale, mut offset) = (Lanes::splat(1.0) / divisor, low);
    for (q, x) in q.iter_mut().zip(x) {
        *q = (divisor * (*x - low)).nearest().clamp(0.0, top);
    }
    let mut least = weighted_error(x, &w, &q, scale, offset);
    for step in 0..=steps {
        let trial = Lanes::splat(first + 0.1 * f32::from(step) + top) / (high - offset);
        let [sum_q, sum_qq, sum_qx] = round_and_sum(x, &w, trial, offset, top, &mut q);
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        let regressed = (sum_w * sum_qx - sum_x * sum_q) / determinant;
        let intercept = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
        let above_zero = Lanes::ZERO.less(intercept);
        let trial_scale = (sum_qx / sum_qq).or(above_zero, regressed);
        let trial_offset = Lanes::ZERO.or(above_zero, intercept);
        let error = weighted_error(x, &w, &q, trial_scale, trial_offset);
        let (solved, less) = (Lanes::ZERO.less(determinant), error.less(least));
        let better = std::array::from_fn(|lane| solved[lane] & less[lane]);
        least = error.or(better, least);
        divisor = trial.or(better, divisor);
        low = offset.or(better, low);
        scale = trial_scale.or(better, scale);
        offset = trial_offset.or(better, offset);
    }
    Affine { scale, min: Lanes::ZERO - offset, low, divisor }
}

/// Rounds `(x - offset) divisor` to codes `q`, and returns the sums of `w q`, `w q^2` and `w q x`.
// Not inlined, like `weighted_error`: within the search, the compiler would split the lanes.
#[inline(never)]
fn round_and_sum(
    x: &[Lanes<8>; 32],
    w: &[Lanes<8>; 32],
    divisor: Lanes<8>,
    offset: Lanes<8>,
    top: f32,
    q: &mut [Lanes<8>; 32],
) -> [Lanes<8>; 3] {
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

/// Returns `sum w (scale q + offset - x)^2`.
#[inline(never)]
fn weighted_error(
    x: &[Lanes<8>; 32],
    w: &[Lanes<8>; 32],
    q: &[Lanes<8>; 32],
    scale: Lanes<8>,
    offset: Lanes<8>,
) -> Lanes<8> {
    let mut error = Lanes::ZERO;
    for ((x, w), q) in x.iter().zip(w).zip(q) {
        let difference = scale * *q + offset - *x;
        error = error + *w * (difference * difference);
    }
    error
}

/// Result of [`search_symmetric`]: one lane per group.
struct Symmetric {
    scale: Lanes<16>,
    /// The codes are `x divisor`, rounded.
    divisor: Lanes<16>,
    /// Value of largest magnitude, with its sign.
    farthest: Lanes<16>,
}

/// Finds, for every group, the scale `s` with the least `sum w (s q - x)^2`, `w = x^2`, over 19 ways to round
/// `x` to codes from -32 to 31: the value of largest magnitude becomes -32, or another of 18 numbers from
/// -31.1 to -32.9. For given codes the best scale is `sum w q x / sum w q^2`, which lowers the error of a
/// zero scale by `(sum w q x)^2 / sum w q^2`.
fn search_symmetric(x: &[Lanes<16>; 16]) -> Symmetric {
    let farthest = x.iter().fold(Lanes::ZERO, |far, x| x.or(far.abs().less(x.abs()), far));
    let w = x.map(|x| x * x);
    let sums = |divisor: Lanes<16>| {
        let (mut sum_qx, mut sum_qq) = (Lanes::ZERO, Lanes::ZERO);
        for (x, w) in x.iter().zip(&w) {
            let q = code(divisor * *x);
            sum_qx = sum_qx + *w * *x * q;
            sum_qq = sum_qq + *w * q * q;
        }
        (sum_qx, sum_qq)
    };
    let mut divisor = Lanes::splat(-32.0) / farthest;
    let (sum_qx, sum_qq) = sums(divisor);
    let mut scale = (sum_qx / sum_qq).or(Lanes::ZERO.less(sum_qq), Lanes::ZERO);
    let mut gain = scale * sum_qx;
    for step in (-9..=9).filter(|step| *step != 0) {
        let trial = Lanes::splat(-(32.0 + 0.1 * step as f32)) / farthest;
        let (sum_qx, sum_qq) = sums(trial);
        let more = (gain * sum_qq).less(sum_qx * sum_qx);
        let some = Lanes::ZERO.less(sum_qq);
        let better = std::array::from_fn(|lane| some[lane] & more[lane]);
        divisor = trial.or(better, divisor);
        scale = (sum_qx / sum_qq).or(better, scale);
        gain = (scale * sum_qx).or(better, gain);
    }
    let empty = farthest.abs().less(Lanes::splat(NEGLIGIBLE));
    Symmetric { scale: Lanes::ZERO.or(empty, scale), divisor, farthest }
}

fn code(x: Lanes<16>) -> Lanes<16> {
    x.nearest().clamp(-32.0, 31.0)
}

/// Rounds to codes as they are stored, from 0 to 63.
fn offset_code(x: Lanes<16>) -> Lanes<16> {
    code(x) + Lanes::splat(32.0)
}
