//! Types of 32 weights with one binary16 scale `d` and, for some, a binary16 offset `m`.
//!
//! | type | bytes | layout | value |
//! |---|---|---|---|
//! | Q4_0 | 18 | `d`, 16 bytes of codes | `d (q - 8)` |
//! | Q4_1 | 20 | `d`, `m`, 16 bytes of codes | `d q + m` |
//! | Q5_0 | 22 | `d`, 4 bytes of fifth bits, 16 bytes of codes | `d (q - 16)` |
//! | Q5_1 | 24 | `d`, `m`, 4 bytes of fifth bits, 16 bytes of codes | `d q + m` |
//! | Q8_0 | 34 | `d`, 32 signed bytes | `d q` |
//!
//! All fields are little-endian. Byte `j` of the codes has weight `j` in its low half and weight `j + 16` in
//! its high half; bit `j` of the fifth bits is bit 4 of code `j`. Sources: `block_q4_0` and its siblings in
//! ggml-common.h, `dequantize_row_*`, `quantize_row_*_ref` and `quantize_row_*_impl` in ggml-quants.c. The
//! encoders yield the same bytes as `quantize_row_*_ref`, and with importances as `quantize_row_*_impl`.

use super::fields::{field, finite_half, from_nibbles, half_at, nibbles, set};
use super::k_encode::{WEIGHTED_TRIALS, has_importance, ones_unless};
use super::lanes::{Lanes, rows};
use super::search::{search_affine, search_symmetric, square, weighed};

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    scale(half_at::<0, _>(block), 8, &nibbles(field::<2, 16, _>(block)), out);
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at::<0, _>(block), half_at::<2, _>(block));
    scale_and_shift(d, m, &nibbles(field::<4, 16, _>(block)), out);
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let codes = five_bits(field::<2, 4, _>(block), field::<6, 16, _>(block));
    scale(half_at::<0, _>(block), 16, &codes, out);
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at::<0, _>(block), half_at::<2, _>(block));
    let codes = five_bits(field::<4, 4, _>(block), field::<8, 16, _>(block));
    scale_and_shift(d, m, &codes, out);
}

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at::<0, _>(block);
    for (out, code) in out.iter_mut().zip(field::<2, 32, _>(block)) {
        *out = f32::from(code.cast_signed()) * d;
    }
}

fn scale(d: f32, zero: u8, codes: &[u8; 32], out: &mut [f32; 32]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = d * (f32::from(*code) - f32::from(zero));
    }
}

fn scale_and_shift(d: f32, m: f32, codes: &[u8; 32], out: &mut [f32; 32]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = d * f32::from(*code) + m;
    }
}

/// Returns the codes of which `low` has four bits and `fifth` the fifth.
pub(super) fn five_bits(fifth: &[u8; 4], low: &[u8; 16]) -> [u8; 32] {
    let fifth = u32::from_le_bytes(*fifth);
    let mut codes = nibbles(low);
    // A mask and a comparison replace a shift by j, because SSE2 cannot shift lanes by different counts.
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= if fifth & (1 << j) == 0 { 0 } else { 16 };
    }
    codes
}

/// Returns the fifth bits of codes, as [`five_bits`] reads them.
pub(super) fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    codes.iter().rev().fold(0u32, |bits, code| bits << 1 | u32::from(code >> 4)).to_le_bytes()
}

/// Encodes a block. All encoders of this file return `None` if the scale or the offset is beyond binary16.
pub(super) fn encode_q4_0(x: &[f32; 32]) -> Option<[u8; 18]> {
    let (d, codes) = symmetric::<8>(x);
    pack_q4_0(d, &codes)
}

pub(super) fn encode_q4_1(x: &[f32; 32]) -> Option<[u8; 20]> {
    let (d, m, codes) = affine::<15>(x);
    pack_q4_1(d, m, &codes)
}

pub(super) fn encode_q5_0(x: &[f32; 32]) -> Option<[u8; 22]> {
    let (d, codes) = symmetric::<16>(x);
    pack_q5_0(d, &codes)
}

pub(super) fn encode_q5_1(x: &[f32; 32]) -> Option<[u8; 24]> {
    let (d, m, codes) = affine::<31>(x);
    pack_q5_1(d, m, &codes)
}

/// Encodes eight blocks of a row whose columns have importances, finite and not negative; `mean_square` is
/// that of the whole row. So do the other functions of the form `weigh_*`.
pub(super) fn weigh_q4_0(x: &[f32; 256], importance: &[f32; 256], mean_square: f32) -> Eight<18> {
    let (d, codes) = weighted_symmetric::<8>(x, importance, mean_square);
    std::array::from_fn(|block| pack_q4_0(d[block], &codes[block]))
}

pub(super) fn weigh_q4_1(x: &[f32; 256], importance: &[f32; 256], mean_square: f32) -> Eight<20> {
    let (d, m, codes) = weighted_affine::<15>(x, importance, mean_square);
    std::array::from_fn(|block| pack_q4_1(d[block], m[block], &codes[block]))
}

pub(super) fn weigh_q5_0(x: &[f32; 256], importance: &[f32; 256], mean_square: f32) -> Eight<22> {
    let (d, codes) = weighted_symmetric::<16>(x, importance, mean_square);
    std::array::from_fn(|block| pack_q5_0(d[block], &codes[block]))
}

pub(super) fn weigh_q5_1(x: &[f32; 256], importance: &[f32; 256], mean_square: f32) -> Eight<24> {
    let (d, m, codes) = weighted_affine::<31>(x, importance, mean_square);
    std::array::from_fn(|block| pack_q5_1(d[block], m[block], &codes[block]))
}

/// Eight blocks side by side, each `None` if it cannot be stored.
pub(super) type Eight<const B: usize> = [Option<[u8; B]>; 8];

fn pack_q4_0(d: f32, codes: &[u8; 32]) -> Option<[u8; 18]> {
    let mut block = [0; 18];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    set::<2, 16, _>(&mut block, from_nibbles(codes));
    Some(block)
}

fn pack_q4_1(d: f32, m: f32, codes: &[u8; 32]) -> Option<[u8; 20]> {
    let mut block = [0; 20];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    set::<2, 2, _>(&mut block, finite_half(m)?.to_le_bytes());
    set::<4, 16, _>(&mut block, from_nibbles(codes));
    Some(block)
}

fn pack_q5_0(d: f32, codes: &[u8; 32]) -> Option<[u8; 22]> {
    let mut block = [0; 22];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    set::<2, 4, _>(&mut block, fifth_bits(codes));
    set::<6, 16, _>(&mut block, from_nibbles(codes));
    Some(block)
}

fn pack_q5_1(d: f32, m: f32, codes: &[u8; 32]) -> Option<[u8; 24]> {
    let mut block = [0; 24];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    set::<2, 2, _>(&mut block, finite_half(m)?.to_le_bytes());
    set::<4, 4, _>(&mut block, fifth_bits(codes));
    set::<8, 16, _>(&mut block, from_nibbles(codes));
    Some(block)
}

pub(super) fn encode_q8_0(x: &[f32; 32]) -> Option<[u8; 34]> {
    let d = x.iter().fold(0f32, |max, x| if x.abs() > max { x.abs() } else { max }) / 127.0;
    let inverse = inverse(d);
    let mut block = [0; 34];
    set::<0, 2, _>(&mut block, finite_half(d)?.to_le_bytes());
    // Halves are rounded away from zero, by truncation after adding the largest number below a half:
    // `f32::round` is a call into the C library on targets without an instruction for it.
    let codes = x.map(|x| {
        let x = x * inverse;
        ((x + 0.499_999_97f32.copysign(x)) as i8).cast_unsigned()
    });
    set::<2, 32, _>(&mut block, codes);
    Some(block)
}

/// Returns `1 / d`, or 0 if `d` is 0, so that all codes are equal. As in ggml-quants.c, `d` is the scale
/// itself and not the binary16 number that is stored.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Quantises to `2 ZERO` codes around zero, and returns the scale and the codes. The value of largest
/// magnitude gets code 0 and is met exactly (before the scale is rounded): there is one more code on its side
/// of zero than on the other, so the whole range is used. A value of equal magnitude and opposite sign is
/// clamped.
fn symmetric<const ZERO: u8>(x: &[f32; 32]) -> (f32, [u8; 32]) {
    let farthest = x.iter().fold(0f32, |far, x| if x.abs() > far.abs() { *x } else { far });
    let zero = f32::from(ZERO);
    let d = farthest / -zero;
    let inverse = inverse(d);
    // `as` saturates, so that the infinite inverse of a subnormal scale gives some code and no error; a
    // subnormal scale is stored as zero.
    (d, x.map(|x| ((x * inverse + (zero + 0.5)) as u8).min(2 * ZERO - 1)))
}

/// Quantises the range from the smallest to the largest value in `MAX` steps, and returns scale, offset and
/// codes.
fn affine<const MAX: u8>(x: &[f32; 32]) -> (f32, f32, [u8; 32]) {
    let low = x.iter().fold(f32::MAX, |low, x| if *x < low { *x } else { low });
    let high = x.iter().fold(f32::MIN, |high, x| if *x > high { *x } else { high });
    let d = (high - low) / f32::from(MAX);
    let inverse = inverse(d);
    (d, low, x.map(|x| (((x - low) * inverse + 0.5) as u8).min(MAX)))
}

/// Quantises each of eight blocks to `2 ZERO` codes around zero by a search, and returns the scales and the
/// codes. A block that has no importance above zero is searched as if all were equal; llama.cpp stores zeros
/// for it.
fn weighted_symmetric<const ZERO: u8>(
    x: &[f32; 256],
    importance: &[f32; 256],
    mean_square: f32,
) -> ([f32; 8], [[u8; 32]; 8]) {
    let (x, importance) = (rows::<8, 32>(x), rows(importance));
    let importance = ones_unless(has_importance(&importance), &importance);
    let found = search_symmetric(&x, &weighed(&x, &importance, Lanes::splat(mean_square)), f32::from(ZERO));
    (found.scale.0, blocks(&x.map(|x| found.codes(x))))
}

/// Quantises each of eight blocks to codes from 0 to `MAX` by a search, and returns scales, offsets and
/// codes. A block that has no importance above zero gets the range from its smallest value, or 0, to its
/// largest.
fn weighted_affine<const MAX: u8>(
    x: &[f32; 256],
    importance: &[f32; 256],
    mean_square: f32,
) -> ([f32; 8], [f32; 8], [[u8; 32]; 8]) {
    let x = rows::<8, 32>(x);
    let w = weighed(&x, &rows(importance), Lanes::splat(mean_square));
    let found = search_affine(&x, &w, f32::from(MAX), &WEIGHTED_TRIALS, square);
    let offset = Lanes::ZERO - found.min;
    (found.scale.0, offset.0, blocks(&x.map(|x| found.codes(x))))
}

/// Returns rows of codes as the codes of eight blocks.
pub(super) fn blocks(rows: &[Lanes<8>; 32]) -> [[u8; 32]; 8] {
    std::array::from_fn(|lane| rows.map(|row| row.0[lane] as u8))
}
