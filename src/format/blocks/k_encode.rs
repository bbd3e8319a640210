//! Encoders of the "k" types: a search for the scale of each group, then rounding of the scales.
//!
//! Without importances the method is that of `quantize_row_q4_K_ref` and its siblings in ggml-quants.c, with
//! them that of `quantize_row_q4_K_impl` and its siblings. The bytes are identical. The two differ in more
//! than the importances:
//!
//! | type | weights of a search | search | scales of the block |
//! |---|---|---|---|
//! | Q2_K | `abs(x)`, for magnitudes of errors | affine, 16 trials | the largest is 15 |
//! | Q3_K | `x^2` | descent | the largest is -32 |
//! | Q4_K, Q5_K | `rms(x) + abs(x)` | affine, 21 and 16 trials | the largest is 63 |
//! | Q6_K | `x^2` | symmetric | the largest is -128 |
//! | Q2_K, importances `h` | `h sqrt(mean(x^2) + x^2)` | affine, 37 trials | fitted with the sums of the weights |
//! | Q4_K and Q5_K, importances | `h sqrt(2 mean(x^2) + x^2)` | affine, 37 trials | the same |
//! | Q3_K, importances | `h sqrt(2 mean(x^2) + x^2)` | symmetric | the same |
//! | Q6_K, importances | `h` | symmetric | the largest is -128 |
//!
//! `mean(x^2)` is that of the block, `rms(x)` that of the group. The codes are always rounded anew at the
//! end, to the scales as they are stored.
//!
//! A block that has no importance above zero is encoded as if all were equal, and a group that has none in
//! such a block of Q3_K or Q6_K likewise, but for the scale of the block, on which it has no say. llama.cpp
//! stores zeros for such blocks and groups.

use half::f16;

use super::fields::{finite_half, set};
use super::k_layout::{
    bit_of_groups, from_eight_scales, from_four_bits, from_sixteen_scales, from_two_bits, low_four_bits,
    upper_two_bits,
};
use super::lanes::{Lanes, codes, rows};
use super::search::{
    Affine, NEGLIGIBLE, Symmetric, Trials, descend, multiples, offset_code, search_affine, search_symmetric,
    square, sum, sum_of_squares, weighed, weighted_multiples,
};

/// The trials of an affine search with importances.
pub(super) const WEIGHTED_TRIALS: Trials = Trials { first: -0.9, by: 0.05, last: 36 };

/// Encodes a block. All encoders of this file return `None` if the scale or the offset is beyond binary16.
pub(super) fn encode_q2_k(x: &[f32; 256]) -> Option<[u8; 84]> {
    let x = rows::<16, 16>(x);
    let trials = Trials { first: -0.5, by: 0.1, last: 15 };
    let found = search_affine(&x, &x.map(Lanes::abs), 3.0, &trials, Lanes::abs);
    pack_q2_k(&x, &found, multiples(found.scale, 15.0)?, multiples(found.min, 15.0)?)
}

/// Encodes a block whose columns have importances, finite and not negative, as do the other functions of the
/// form `weigh_*`.
pub(super) fn weigh_q2_k(x: &[f32; 256], importance: &[f32; 256]) -> Option<[u8; 84]> {
    let mean_square = sum_of_squares(x) / 256.0;
    let x = rows::<16, 16>(x);
    let w = weighed(&x, &rows(&or_equal(importance)), Lanes::splat(mean_square));
    let found = search_affine(&x, &w, 3.0, &WEIGHTED_TRIALS, square);
    let fit = |of| weighted_multiples(of, sum(&w), 15.0);
    pack_q2_k(&x, &found, fit(found.scale)?, fit(found.min)?)
}

pub(super) fn encode_q3_k(x: &[f32; 256]) -> Option<[u8; 110]> {
    let x = rows::<16, 16>(x);
    let (scale, searched) = descend(&x, 4.0);
    let (d, multiple) = match largest_magnitude(scale)? {
        0.0 => (f16::ZERO, Lanes::ZERO),
        largest => {
            let divisor = -32.0 / largest;
            (finite_half(1.0 / divisor)?, offset_code(Lanes::splat(divisor) * scale, 32.0))
        }
    };
    Some(pack_q3_k(&x, &searched, d, multiple))
}

pub(super) fn weigh_q3_k(x: &[f32; 256], importance: &[f32; 256]) -> Option<[u8; 110]> {
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let x = rows::<16, 16>(x);
    let importance = rows(&or_equal(importance));
    let important = has_importance(&importance);
    let w = weighed(&x, &ones_unless(important, &importance), Lanes::splat(mean_square));
    let found = search_symmetric(&x, &w, 4.0);
    // The scales are themselves encoded as one group of sixteen values.
    let deciding = deciding(important, found.scale);
    let fitted = found.scale.or(deciding, Lanes::ZERO).0.map(|s| Lanes([s]));
    let scales: Symmetric<1> = search_symmetric(&fitted, &sum(&w).0.map(|w| Lanes([w])), 32.0);
    let [d] = scales.scale.0;
    let multiple = Lanes(fitted.map(|s| scales.codes(s).0[0]));
    let d = finite_half(d)?;
    let nearest = offset_code(found.scale / Lanes::splat(d.to_f32()), 32.0);
    let searched = x.map(|x| found.codes(x));
    Some(pack_q3_k(&x, &searched, d, multiple.or(deciding, nearest)))
}

pub(super) fn encode_q4_k(x: &[f32; 256]) -> Option<[u8; 144]> {
    let (head, codes) = affine_block(x, 15.0, &Trials { first: -1.0, by: 0.1, last: 20 })?;
    Some(pack_q4_k(head, &codes))
}

pub(super) fn weigh_q4_k(x: &[f32; 256], importance: &[f32; 256]) -> Option<[u8; 144]> {
    let (head, codes) = weighted_affine_block(x, importance, 15.0)?;
    Some(pack_q4_k(head, &codes))
}

pub(super) fn encode_q5_k(x: &[f32; 256]) -> Option<[u8; 176]> {
    let (head, codes) = affine_block(x, 31.0, &Trials { first: -0.5, by: 0.1, last: 15 })?;
    Some(pack_q5_k(head, &codes))
}

pub(super) fn weigh_q5_k(x: &[f32; 256], importance: &[f32; 256]) -> Option<[u8; 176]> {
    let (head, codes) = weighted_affine_block(x, importance, 31.0)?;
    Some(pack_q5_k(head, &codes))
}

pub(super) fn encode_q6_k(x: &[f32; 256]) -> Option<[u8; 210]> {
    let x = rows::<16, 16>(x);
    let found = search_symmetric(&x, &x.map(|x| x * x), 32.0);
    pack_q6_k(&x, &found, [true; 16])
}

pub(super) fn weigh_q6_k(x: &[f32; 256], importance: &[f32; 256]) -> Option<[u8; 210]> {
    let x = rows::<16, 16>(x);
    let w = rows(&or_equal(importance));
    let important = has_importance(&w);
    let found = search_symmetric(&x, &ones_unless(important, &w), 32.0);
    pack_q6_k(&x, &found, important)
}

/// Returns importances, or equal ones if none is above zero.
pub(super) fn or_equal<const W: usize>(importance: &[f32; W]) -> [f32; W] {
    if importance.iter().any(|h| *h > 0.0) { *importance } else { [1.0; W] }
}

/// Returns in which sub-blocks an importance is above zero.
pub(super) fn has_importance<const N: usize, const LEN: usize>(rows: &[Lanes<N>; LEN]) -> [bool; N] {
    Lanes::ZERO.less(rows.iter().fold(Lanes::ZERO, |most, row| row.max(most)))
}

/// Returns importances in the `important` sub-blocks, and ones in the others.
pub(super) fn ones_unless<const N: usize, const LEN: usize>(
    important: [bool; N],
    importance: &[Lanes<N>; LEN],
) -> [Lanes<N>; LEN] {
    importance.map(|h| h.or(important, Lanes::splat(1.0)))
}

/// Returns which sub-blocks set the scale of their block: the important ones if one of them has a scale, else
/// all.
pub(super) fn deciding<const N: usize>(important: [bool; N], scale: Lanes<N>) -> [bool; N] {
    let any = scale.0.iter().zip(important).any(|(s, important)| important && *s != 0.0);
    if any { important } else { [true; N] }
}

/// Returns the number of largest magnitude, with its sign; `None` if a number is not finite.
pub(super) fn largest_magnitude<const N: usize>(x: Lanes<N>) -> Option<f32> {
    let finite = x.0.iter().all(|x| x.is_finite());
    finite.then(|| x.0.into_iter().fold(0f32, |far, x| if x.abs() > far.abs() { x } else { far }))
}

/// Encodes the first 16 bytes of Q4_K and Q5_K (scale, offset and their multiples) and the codes, from 0 to
/// `top`.
fn affine_block(x: &[f32; 256], top: f32, trials: &Trials) -> Option<([u8; 16], [u8; 256])> {
    let x = rows::<8, 32>(x);
    let squares = x.iter().fold(Lanes::ZERO, |sum, x| sum + *x * *x);
    let rms = (squares / Lanes::splat(32.0)).map(f32::sqrt);
    let found = search_affine(&x, &x.map(|x| rms + x.abs()), top, trials, square);
    round_block(&x, &found, multiples(found.scale, 63.0)?, multiples(found.min, 63.0)?)
}

/// Does the same as [`affine_block`], with importances.
fn weighted_affine_block(x: &[f32; 256], importance: &[f32; 256], top: f32) -> Option<([u8; 16], [u8; 256])> {
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let x = rows::<8, 32>(x);
    let w = weighed(&x, &rows(&or_equal(importance)), Lanes::splat(mean_square));
    let found = search_affine(&x, &w, top, &WEIGHTED_TRIALS, square);
    let fit = |of| weighted_multiples(of, sum(&w), 63.0);
    round_block(&x, &found, fit(found.scale)?, fit(found.min)?)
}

/// Packs scale, offset and their multiples as Q4_K and Q5_K do, and rounds the codes to them.
fn round_block(
    x: &[Lanes<8>; 32],
    found: &Affine<8>,
    scale: (f32, Lanes<8>),
    min: (f32, Lanes<8>),
) -> Option<([u8; 16], [u8; 256])> {
    let (d, m) = (finite_half(scale.0)?, finite_half(min.0)?);
    let mut head = [0; 16];
    set::<0, 2, _>(&mut head, d.to_le_bytes());
    set::<2, 2, _>(&mut head, m.to_le_bytes());
    set::<4, 12, _>(&mut head, from_eight_scales(scale.1.0, min.1.0));
    Some((head, round_affine(x, found, (d, scale.1), (m, min.1))))
}

/// Rounds values to codes of the scales and offsets that are stored: binary16 numbers times multiples.
fn round_affine<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    found: &Affine<N>,
    scale: (f16, Lanes<N>),
    min: (f16, Lanes<N>),
) -> [u8; 256] {
    let scale = Lanes::splat(scale.0.to_f32()) * scale.1;
    let min = Lanes::splat(min.0.to_f32()) * min.1;
    // A group whose scale was rounded to zero decodes to its offset with any codes. The codes of the search
    // are stored.
    let rounded_away = scale.0.map(|s| s == 0.0);
    codes(&x.map(|x| {
        let nearest = ((x + min) / scale).nearest().clamp(0.0, found.top);
        found.codes(x).or(rounded_away, nearest)
    }))
}

fn pack_q2_k(
    x: &[Lanes<16>; 16],
    found: &Affine<16>,
    scale: (f32, Lanes<16>),
    min: (f32, Lanes<16>),
) -> Option<[u8; 84]> {
    let (d, m) = (finite_half(scale.0)?, finite_half(min.0)?);
    let codes = round_affine(x, found, (d, scale.1), (m, min.1));
    let pairs = std::array::from_fn(|g| scale.1.0[g] as u8 | (min.1.0[g] as u8) << 4);
    let mut block = [0; 84];
    set::<0, 16, _>(&mut block, pairs);
    set::<16, 64, _>(&mut block, from_two_bits(&codes));
    set::<80, 2, _>(&mut block, d.to_le_bytes());
    set::<82, 2, _>(&mut block, m.to_le_bytes());
    Some(block)
}

/// Packs scales, whose multiples of `d` are stored from 0 to 63, and rounds the codes to them. `searched` are
/// the codes of groups whose scale was rounded to zero.
fn pack_q3_k(x: &[Lanes<16>; 16], searched: &[Lanes<16>; 16], d: f16, multiple: Lanes<16>) -> [u8; 110] {
    let scale = Lanes::splat(d.to_f32()) * (multiple - Lanes::splat(32.0));
    let rounded_away = scale.0.map(|s| s == 0.0);
    let nearest = x.map(|x| offset_code(x / scale, 4.0));
    let chosen: [_; 16] = std::array::from_fn(|i| searched[i].or(rounded_away, nearest[i]));
    let codes = codes(&chosen);
    let mut block = [0; 110];
    set::<0, 32, _>(&mut block, bit_of_groups(&codes, 2));
    set::<32, 64, _>(&mut block, from_two_bits(&codes));
    set::<96, 12, _>(&mut block, from_sixteen_scales(multiple.0));
    set::<108, 2, _>(&mut block, d.to_le_bytes());
    block
}

fn pack_q4_k(head: [u8; 16], codes: &[u8; 256]) -> [u8; 144] {
    let mut block = [0; 144];
    set::<0, 16, _>(&mut block, head);
    set::<16, 128, _>(&mut block, from_four_bits(codes));
    block
}

fn pack_q5_k(head: [u8; 16], codes: &[u8; 256]) -> [u8; 176] {
    let mut block = [0; 176];
    set::<0, 16, _>(&mut block, head);
    set::<16, 32, _>(&mut block, bit_of_groups(codes, 4));
    set::<48, 128, _>(&mut block, from_four_bits(codes));
    block
}

/// Rounds the scales, of which those of `important` groups set the scale of the block, and the codes to them.
fn pack_q6_k(x: &[Lanes<16>; 16], found: &Symmetric<16>, important: [bool; 16]) -> Option<[u8; 210]> {
    let mut block = [0; 210];
    let largest = largest_magnitude(found.scale.or(deciding(important, found.scale), Lanes::ZERO))?;
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
    let codes = codes(&x.map(|x| found.codes(x).or(rounded_away, offset_code(x / scale, 32.0))));
    set::<0, 128, _>(&mut block, low_four_bits(&codes));
    set::<128, 64, _>(&mut block, upper_two_bits(&codes));
    set::<192, 16, _>(&mut block, scales.0.map(|s| (s as i8).cast_unsigned()));
    set::<208, 2, _>(&mut block, d.to_le_bytes());
    Some(block)
}
