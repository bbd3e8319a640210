//! Positions of the codes and scales of the "k" types in their blocks, for unpacking and packing.
//!
//! A byte that holds parts of several codes holds them for weights that lie 32 or 64 apart, so that a row of
//! 32 bytes unpacks into rows of 32 weights by one shift each.

use super::fields::{field, from_nibbles, nibbles};

/// Unpacks 2-bit codes: bits `2s` and `2s + 1` of byte `l` of half `h` are the code of weight
/// `128 h + 32 s + l`.
pub(super) fn two_bits(bytes: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    let halves = codes.as_chunks_mut::<128>().0;
    for (codes, bytes) in halves.iter_mut().zip(bytes.as_chunks::<32>().0) {
        for (s, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (2 * s) & 3;
            }
        }
    }
    codes
}

/// Unpacks 4-bit codes: byte `l` of quarter `c` has weight `64 c + l` in its low half and weight
/// `64 c + 32 + l` in its high half.
pub(super) fn four_bits(bytes: &[u8; 128]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (codes, bytes) in codes.as_chunks_mut::<64>().0.iter_mut().zip(bytes.as_chunks::<32>().0) {
        *codes = nibbles(bytes);
    }
    codes
}

/// Adds one bit to every code: bit `g` of byte `l` becomes bit `place` of the code of weight `32 g + l`.
pub(super) fn add_bit(bytes: &[u8; 32], place: u8, codes: &mut [u8; 256]) {
    for (g, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            *code |= (byte >> g & 1) << place;
        }
    }
}

/// Unpacks 6-bit codes: weight `128 h + 32 s + l` has its low four bits in half `s / 2` of byte
/// `64 h + 32 (s % 2) + l` of `low`, and its upper two bits in bits `2s` and `2s + 1` of byte `32 h + l` of
/// `high`.
pub(super) fn six_bits(low: &[u8; 128], high: &[u8; 64]) -> [u8; 256] {
    let mut codes = two_bits(high);
    for (codes, low) in codes.as_chunks_mut::<128>().0.iter_mut().zip(low.as_chunks::<64>().0) {
        let low: [u8; 128] = nibbles(low);
        for (code, low) in codes.iter_mut().zip(low) {
            *code = *code << 4 | low;
        }
    }
    codes
}

/// Unpacks eight scales and eight minima of six bits. The first four scales and minima are the low six bits
/// of bytes 0 to 3 and 4 to 7. The last four have their low four bits in the low and high halves of bytes 8
/// to 11, and their upper two bits in the upper two bits of bytes 0 to 3 and 4 to 7.
pub(super) fn eight_scales(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let [s0, s1, s2, s3, m0, m1, m2, m3, h0, h1, h2, h3] = bytes.map(u32::from);
    // Four numbers are unpacked at once, one per byte of a word.
    let word = |bytes: [u32; 4]| bytes.iter().rev().fold(0, |word, byte| word << 8 | byte);
    let (s, m, h) = (word([s0, s1, s2, s3]), word([m0, m1, m2, m3]), word([h0, h1, h2, h3]));
    let pair = |first: u32, last: u32| (u64::from(last) << 32 | u64::from(first)).to_le_bytes();
    let (low, upper, half) = (0x3f3f_3f3f, 0x3030_3030, 0x0f0f_0f0f);
    (pair(s & low, h & half | s >> 2 & upper), pair(m & low, h >> 4 & half | m >> 2 & upper))
}

/// Unpacks sixteen scales of six bits. The low four bits of the first eight scales are in the low halves of
/// bytes 0 to 7, those of the last eight in the high halves. The upper two bits of scale `i` are in bits
/// `2 (i / 4)` and up of byte `8 + i % 4`.
pub(super) fn sixteen_scales(bytes: &[u8; 12]) -> [u8; 16] {
    let mut scales: [u8; 16] = nibbles(field::<0, 8, _>(bytes));
    for (shift, scales) in scales.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for (scale, high) in scales.iter_mut().zip(field::<8, 4, _>(bytes)) {
            *scale |= (high >> (2 * shift) & 3) << 4;
        }
    }
    scales
}

/// Packs 4-bit codes, the inverse of [`four_bits`]; a fifth bit is dropped.
pub(super) fn from_four_bits(codes: &[u8; 256]) -> [u8; 128] {
    let mut bytes = [0; 128];
    for (bytes, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0) {
        *bytes = from_nibbles(codes);
    }
    bytes
}

/// Packs bit `place` of the codes in the layout that [`add_bit`] reads.
pub(super) fn bit_of_groups(codes: &[u8; 256], place: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (g, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (byte, code) in bytes.iter_mut().zip(codes) {
            *byte |= (code >> place & 1) << g;
        }
    }
    bytes
}

/// Packs the low four bits of 6-bit codes in the layout that [`six_bits`] reads.
pub(super) fn low_four_bits(codes: &[u8; 256]) -> [u8; 128] {
    let mut bytes = [0; 128];
    for (bytes, codes) in bytes.as_chunks_mut::<64>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        *bytes = from_nibbles(codes);
    }
    bytes
}

/// Packs the upper two bits of 6-bit codes in the layout that [`six_bits`] reads.
pub(super) fn upper_two_bits(codes: &[u8; 256]) -> [u8; 64] {
    from_two_bits(&codes.map(|code| code >> 4))
}

/// Packs the low two bits of codes, the inverse of [`two_bits`]; a third bit is dropped.
pub(super) fn from_two_bits(codes: &[u8; 256]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        for (s, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= (code & 3) << (2 * s);
            }
        }
    }
    bytes
}

/// Packs scales, integers from 0 to 63: the inverse of [`sixteen_scales`].
pub(super) fn from_sixteen_scales(scales: [f32; 16]) -> [u8; 12] {
    let scales = scales.map(|s| s as u8);
    let low: [u8; 8] = from_nibbles(&scales);
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&low);
    for (shift, scales) in scales.as_chunks::<4>().0.iter().enumerate() {
        for (byte, scale) in bytes[8..].iter_mut().zip(scales) {
            *byte |= (scale >> 4) << (2 * shift);
        }
    }
    bytes
}

/// Packs scales and minima, integers from 0 to 63: the inverse of [`eight_scales`].
pub(super) fn from_eight_scales(scales: [f32; 8], mins: [f32; 8]) -> [u8; 12] {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = scales.map(|s| s as u8);
    let [m0, m1, m2, m3, m4, m5, m6, m7] = mins.map(|m| m as u8);
    let with_upper = |first: u8, last: u8| first | last >> 4 << 6;
    let halves = |scale: u8, min: u8| scale & 15 | min << 4;
    [
        with_upper(s0, s4),
        with_upper(s1, s5),
        with_upper(s2, s6),
        with_upper(s3, s7),
        with_upper(m0, m4),
        with_upper(m1, m5),
        with_upper(m2, m6),
        with_upper(m3, m7),
        halves(s4, m4),
        halves(s5, m5),
        halves(s6, m6),
        halves(s7, m7),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_unpacking_are_inverse() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 64) as u8);
        assert_eq!(six_bits(&low_four_bits(&codes), &upper_two_bits(&codes)), codes);
        let mut unpacked = two_bits(&from_two_bits(&codes));
        add_bit(&bit_of_groups(&codes, 2), 2, &mut unpacked);
        assert_eq!(unpacked, codes.map(|q| q & 7));
        let codes = codes.map(|q| q >> 1);
        let mut unpacked = four_bits(&from_four_bits(&codes));
        add_bit(&bit_of_groups(&codes, 4), 4, &mut unpacked);
        assert_eq!(unpacked, codes);
        for i in 0..64u8 {
            let scales: [u8; 8] = std::array::from_fn(|g| (i + g as u8 * 9) % 64);
            let mins = scales.map(|s| 63 - s);
            let packed = from_eight_scales(scales.map(f32::from), mins.map(f32::from));
            assert_eq!(eight_scales(&packed), (scales, mins));
            let scales: [u8; 16] = std::array::from_fn(|g| (i + g as u8 * 9) % 64);
            assert_eq!(sixteen_scales(&from_sixteen_scales(scales.map(f32::from))), scales);
        }
    }
}
