//! Types whose 4-bit codes are indices into a table of 16 values.
//!
//! | type | weights | bytes | layout | value |
//! |---|---|---|---|---|
//! | IQ4_NL | 32 | 18 | binary16 `d`, 16 bytes of codes | `d IQ4[q]` |
//! | IQ4_XS | 256 | 136 | binary16 `d`, `h` 2, `l` 4, 8 x 16 bytes of codes | `(d (s_g - 32)) IQ4[q]` |
//! | MXFP4 | 32 | 17 | E8M0 exponent `e`, 16 bytes of codes | `2^(e - 128) E2M1[q]` |
//!
//! All fields are little-endian. Codes are packed as in the other types of 32 weights: weight `j` in the low
//! half of byte `j`, weight `j + 16` in its high half. Scale `s_g` of group `g` of IQ4_XS has six bits: the
//! low four in half `g % 2` of byte `g / 2` of `l`, the upper two in bits `2g` and `2g + 1` of `h`. The table
//! of MXFP4 holds twice the E2M1 numbers, which makes them integers; the exponent `e - 128` compensates for
//! the factor. Sources: `block_iq4_nl`, `block_iq4_xs`, `block_mxfp4`, `kvalues_iq4nl` and `kvalues_mxfp4` in
//! ggml-common.h; OCP Microscaling Formats v1.0 for E8M0 and E2M1.

use super::fields::{field, half_at, nibbles};

pub(super) const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// Twice the E2M1 numbers. Code 8 is minus zero in E2M1, but ggml's table holds integers, and its zero has no
/// sign.
pub(super) const E2M1: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Largest exponent with which every value is finite: the largest value is `12 * 2^(e - 128)`.
pub(super) const LARGEST_EXPONENT: u8 = 252;

pub(super) fn decode_iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    look_up(half_at::<0, _>(block), &IQ4, field::<2, 16, _>(block), out);
}

pub(super) fn decode_iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let groups = field::<8, 128, _>(block).as_chunks().0.iter().zip(scales_of_iq4_xs(block));
    for ((codes, scale), out) in groups.zip(out.as_chunks_mut().0) {
        look_up(scale, &IQ4, codes, out);
    }
}

/// Returns the scales of the groups of a block of IQ4_XS.
pub(super) fn scales_of_iq4_xs(block: &[u8; 136]) -> [f32; 8] {
    let d = half_at::<0, _>(block);
    let high = u16::from_le_bytes(*field::<2, 2, _>(block));
    let low = u32::from_le_bytes(*field::<4, 4, _>(block));
    std::array::from_fn(|g| {
        let scale = (low >> (4 * g)) as u8 & 15 | ((high >> (2 * g)) as u8 & 3) << 4;
        d * (f32::from(scale) - 32.0)
    })
}

pub(super) fn decode_mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    look_up(exponential(block[0]), &E2M1, field::<1, 16, _>(block), out);
}

/// Returns whether all values are finite with any codes. Exponent 255 stands for NaN in E8M0.
pub(super) fn mxfp4_is_finite(block: &[u8; 17]) -> bool {
    block[0] <= LARGEST_EXPONENT
}

/// Returns `2^(e - 128)`, which is subnormal for `e = 0` and `e = 1`.
pub(super) fn exponential(e: u8) -> f32 {
    f32::from_bits(match e {
        0 => 1 << 21,
        1 => 1 << 22,
        _ => (u32::from(e) - 1) << 23,
    })
}

fn look_up(d: f32, table: &[f32; 16], codes: &[u8; 16], out: &mut [f32; 32]) {
    let codes: [u8; 32] = nibbles(codes);
    for (out, code) in out.iter_mut().zip(codes) {
        *out = d * table[usize::from(code & 15)];
    }
}
