//! Decoders of the "k" types: blocks of 256 weights in groups of 16 or 32, where the scale of a group is a
//! small integer times a binary16 scale of the whole block.
//!
//! | type | bytes | layout (bytes) | value |
//! |---|---|---|---|
//! | Q2_K | 84 | scales 16, codes 64, `d` 2, `m` 2 | `(d s) q - m t` |
//! | Q3_K | 110 | third bits 32, codes 64, scales 12, `d` 2 | `(d (s - 32)) (q - 4)` |
//! | Q4_K | 144 | `d` 2, `m` 2, scales 12, codes 128 | `(d s) q - m t` |
//! | Q5_K | 176 | `d` 2, `m` 2, scales 12, fifth bits 32, codes 128 | `(d s) q - m t` |
//! | Q6_K | 210 | low bits 128, upper bits 64, scales 16, `d` 2 | `(d s) (q - 32)` |
//!
//! All fields are little-endian. Q4_K and Q5_K have 8 groups of 32 weights, the other types 16 groups of 16.
//! `s` and `t` are integers of the group: in Q2_K the low and high half of a byte, in Q6_K (`s` only) a
//! signed byte. `k_layout.rs` documents how twelve bytes hold them in the other types, and how codes are
//! packed. Sources: `block_q2_K` and its siblings in ggml-common.h, `dequantize_row_q2_K` and its siblings in
//! ggml-quants.c.

use super::fields::{field, half_at};
use super::k_layout::{add_bit, eight_scales, four_bits, six_bits, sixteen_scales, two_bits};

pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half_at::<80, _>(block), half_at::<82, _>(block));
    let codes = two_bits(field::<16, 64, _>(block));
    let groups = codes.as_chunks::<16>().0.iter().zip(field::<0, 16, _>(block));
    for (out, (codes, scale)) in out.as_chunks_mut().0.iter_mut().zip(groups) {
        affine(d * f32::from(scale & 15), m * f32::from(scale >> 4), codes, out);
    }
}

pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at::<108, _>(block);
    let mut codes = two_bits(field::<32, 64, _>(block));
    add_bit(field::<0, 32, _>(block), 2, &mut codes);
    let scales = sixteen_scales(field::<96, 12, _>(block));
    let groups = codes.as_chunks::<16>().0.iter().zip(scales);
    for (out, (codes, scale)) in out.as_chunks_mut().0.iter_mut().zip(groups) {
        symmetric(d * (f32::from(scale) - 32.0), 4, codes, out);
    }
}

pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, m) = (half_at::<0, _>(block), half_at::<2, _>(block));
    let (scales, mins) = eight_scales(field::<4, 12, _>(block));
    affine_groups(d, m, &scales, &mins, &four_bits(field::<16, 128, _>(block)), out);
}

pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, m) = (half_at::<0, _>(block), half_at::<2, _>(block));
    let (scales, mins) = eight_scales(field::<4, 12, _>(block));
    let mut codes = four_bits(field::<48, 128, _>(block));
    add_bit(field::<16, 32, _>(block), 4, &mut codes);
    affine_groups(d, m, &scales, &mins, &codes, out);
}

pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at::<208, _>(block);
    let codes = six_bits(field::<0, 128, _>(block), field::<128, 64, _>(block));
    let groups = codes.as_chunks::<16>().0.iter().zip(field::<192, 16, _>(block));
    for (out, (codes, scale)) in out.as_chunks_mut().0.iter_mut().zip(groups) {
        symmetric(d * f32::from(scale.cast_signed()), 32, codes, out);
    }
}

fn affine_groups(d: f32, m: f32, scales: &[u8; 8], mins: &[u8; 8], codes: &[u8; 256], out: &mut [f32; 256]) {
    let groups = codes.as_chunks::<32>().0.iter().zip(scales.iter().zip(mins));
    for (out, (codes, (scale, min))) in out.as_chunks_mut().0.iter_mut().zip(groups) {
        affine(d * f32::from(*scale), m * f32::from(*min), codes, out);
    }
}

// If inlined, the function is vectorised over groups instead of within a group, at half the speed.
#[inline(never)]
fn affine<const N: usize>(scale: f32, min: f32, codes: &[u8; N], out: &mut [f32; N]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = scale * f32::from(*code) - min;
    }
}

#[inline(never)]
fn symmetric<const N: usize>(scale: f32, zero: u8, codes: &[u8; N], out: &mut [f32; N]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = scale * (f32::from(*code) - f32::from(zero));
    }
}
