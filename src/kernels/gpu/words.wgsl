// Reads blocks of quantised weights.
//
// The source of each type precedes this file: BLOCK bytes hold GROUPS groups of SIZE weights; `scale` returns the factor of
// a group and the offset to subtract, `code` the number of a weight.

// The number of groups, then the bytes of the blocks, little-endian.
@group(0) @binding(0) var<storage, read_write> words: array<u32>;

fn byte(at: u32) -> u32 {
    return (words[1u + (at >> 2u)] >> (8u * (at & 3u))) & 0xffu;
}

fn signed_byte(at: u32) -> f32 {
    return f32(bitcast<i32>(byte(at) << 24u) >> 24u);
}

// Reads a binary16 number. Its bits are taken apart here because a GPU may treat subnormal numbers, which
// scales often are, as zero.
fn half(at: u32) -> f32 {
    let bits = byte(at) | (byte(at + 1u) << 8u);
    let exponent = (bits >> 10u) & 31u;
    let fraction = bits & 1023u;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (fraction << 13u));
    let magnitude = select(normal, f32(fraction) / 16777216.0, exponent == 0u);
    return select(magnitude, -magnitude, (bits & 0x8000u) != 0u);
}

// Reads code i of 32 codes in 16 bytes: the low halves first.
fn nibble(at: u32, i: u32) -> u32 {
    return (byte(at + (i & 15u)) >> (4u * (i >> 4u))) & 15u;
}

fn bit(at: u32, i: u32) -> u32 {
    return (byte(at + (i >> 3u)) >> (i & 7u)) & 1u;
}
