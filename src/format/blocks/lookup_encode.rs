//! Encoders of the types of `lookup.rs`, with and without importances.
//!
//! The method is that of `quantize_row_iq4_nl_impl` (with seven trials to each side) and
//! `quantize_row_mxfp4_ref` in ggml-quants.c, and so are the bytes.

use super::fields::{finite_half, from_nibbles, set};
use super::k_encode::{deciding, has_importance, largest_magnitude, ones_unless, or_equal};
use super::lanes::{Lanes, rows};
use super::lookup::{E2M1, IQ4, LARGEST_EXPONENT, exponential};
use super::search::{NEGLIGIBLE, best_scale, farthest, sum_of_squares, weighed};
use super::simple::{Eight, blocks};

/// Encodes eight blocks. The weight of a value `x` is `x^2`, or with an importance `h` of its column
/// `h sqrt(2 mean(x^2) + x^2)`, where the mean is that of the block. A block that has no importance above
/// zero is encoded as if all were equal; llama.cpp stores zeros for it.
pub(super) fn encode_iq4_nl(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Eight<18> {
    let x = rows::<8, 32>(x);
    let w = match importance {
        None => x.map(|x| x * x),
        Some(importance) => {
            let squares = x.iter().fold(Lanes::ZERO, |sum, x| sum + *x * *x);
            let importance = rows(importance);
            let importance = ones_unless(has_importance(&importance), &importance);
            weighed(&x, &importance, squares * Lanes::splat(2.0 / 32.0))
        }
    };
    let scale = search(&x, &w);
    let codes = blocks(&nearest_codes(&x, scale));
    std::array::from_fn(|lane| {
        let mut block = [0; 18];
        set::<0, 2, _>(&mut block, finite_half(scale.0[lane])?.to_le_bytes());
        set::<2, 16, _>(&mut block, from_nibbles(&codes[lane]));
        Some(block)
    })
}

/// Encodes a block, whose weights are those of [`encode_iq4_nl`]. The scale of largest magnitude gets the
/// multiple -32. A group that has no importance above zero is searched as if all were equal, but has no say
/// on the scale of the block; llama.cpp stores zeros for it.
pub(super) fn encode_iq4_xs(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Option<[u8; 136]> {
    let mean_square = sum_of_squares(x) * (2.0 / 256.0);
    let x = rows::<8, 32>(x);
    let (w, important) = match importance {
        None => (x.map(|x| x * x), [true; 8]),
        Some(importance) => {
            let importance = rows(&or_equal(importance));
            let important = has_importance(&importance);
            (weighed(&x, &ones_unless(important, &importance), Lanes::splat(mean_square)), important)
        }
    };
    let found = search(&x, &w);
    let largest = largest_magnitude(found.or(deciding(important, found), Lanes::ZERO))?;
    let d = largest / -32.0;
    let divisor = if d == 0.0 { 0.0 } else { 1.0 / d };
    let multiple = (Lanes::splat(divisor) * found).nearest().clamp(-32.0, 31.0);
    // As in ggml-quants.c, the codes are those of `d` before it is rounded to binary16.
    let codes = blocks(&nearest_codes(&x, Lanes::splat(d) * multiple));
    let (mut low, mut high) = (0u32, 0u16);
    for (g, multiple) in multiple.0.into_iter().enumerate() {
        let stored = (multiple + 32.0) as u8;
        low |= u32::from(stored & 15) << (4 * g);
        high |= u16::from(stored >> 4) << (2 * g);
    }
    let mut block = [0; 136];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    set::<2, 2, _>(&mut block, high.to_le_bytes());
    set::<4, 4, _>(&mut block, low.to_le_bytes());
    for (bytes, codes) in block[8..].as_chunks_mut().0.iter_mut().zip(&codes) {
        *bytes = from_nibbles::<32, 16>(codes);
    }
    Some(block)
}

/// Encodes a block by the exponent with which the largest magnitude lies in the last octave of the E2M1
/// numbers, from 4 up to 8, of which the largest is 6. `None` if the exponent is not below the largest.
pub(super) fn encode_mxfp4(x: &[f32; 32]) -> Option<[u8; 17]> {
    let largest = x.iter().fold(0f32, |far, x| far.max(x.abs()));
    let exponent = if largest > 0.0 {
        // The logarithm is rounded to f32, as in C: just below a power of two, it reaches the power.
        (f64::from(largest).log2() as f32).floor() - 2.0 + 127.0
    } else {
        0.0
    };
    let e = exponent as u8;
    if e > LARGEST_EXPONENT {
        return None;
    }
    let d = exponential(e);
    let mut block = [e; 17];
    set::<1, 16, _>(&mut block, from_nibbles(&x.map(|x| nearest_e2m1(x, d))));
    Some(block)
}

/// Returns the code whose value, times `d`, is nearest to `x`; the first of two that are as near.
fn nearest_e2m1(x: f32, d: f32) -> u8 {
    let errors = E2M1.iter().map(|value| (value * d - x).abs()).zip(0..);
    errors.fold((f32::INFINITY, 0), |best, each| if each.0 < best.0 { each } else { best }).1
}

/// Finds, for every group, the scale with the least weighted squared error over 16 ways to round: the value
/// of largest magnitude becomes 127, or another of 15 numbers from -120 to -134.
fn search(x: &[Lanes<8>; 32], w: &[Lanes<8>; 32]) -> Lanes<8> {
    let farthest = farthest(x);
    let first = Lanes::splat(1.0) / (farthest / Lanes::splat(-IQ4[0]));
    let trials = (-7..=7).map(|step| Lanes::splat(step as f32 + IQ4[0]) / farthest);
    let found = best_scale(first, trials, |divisor| value_sums(x, w, divisor));
    Lanes::ZERO.or(farthest.abs().less(Lanes::splat(NEGLIGIBLE)), found.scale)
}

/// Returns the sums of `w q x` and `w q^2`, where `q` is the value nearest to `x divisor`.
// Not inlined, for the same reason as the sums of `search.rs`.
#[inline(never)]
fn value_sums(x: &[Lanes<8>; 32], w: &[Lanes<8>; 32], divisor: Lanes<8>) -> [Lanes<8>; 2] {
    let (mut sum_qx, mut sum_qq) = (Lanes::ZERO, Lanes::ZERO);
    for (x, w) in x.iter().zip(w) {
        let q = look_up(divisor * *x, IQ4[0], |[below, above]| above - below);
        let wq = *w * q;
        sum_qx = sum_qx + wq * *x;
        sum_qq = sum_qq + wq * q;
    }
    [sum_qx, sum_qq]
}

/// Returns the codes of the values nearest to `x / scale`, or to zero where the scale is zero.
fn nearest_codes(x: &[Lanes<8>; 32], scale: Lanes<8>) -> [Lanes<8>; 32] {
    let inverse = scale.map(|scale| if scale == 0.0 { 0.0 } else { 1.0 / scale });
    x.map(|x| look_up(inverse * x, 0.0, |_| 1.0))
}

/// Returns `first`, plus `step` of each pair of neighbours in the table whose middle is not above `x`: with
/// the differences of the values as steps, the value nearest to `x`; with ones, its index.
#[inline(always)]
fn look_up(x: Lanes<8>, first: f32, step: impl Fn([f32; 2]) -> f32) -> Lanes<8> {
    let twice = x + x;
    let mut found = Lanes::splat(first);
    for pair in 0..15 {
        let (below, above) = (IQ4[pair], IQ4[pair + 1]);
        let short = twice.less(Lanes::splat(below + above));
        found = found + Lanes::ZERO.or(short, Lanes::splat(step([below, above])));
    }
    found
}
