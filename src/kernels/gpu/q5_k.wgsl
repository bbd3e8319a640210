const BLOCK = 176u;
const GROUPS = 8u;
const SIZE = 32u;

fn code(block: u32, i: u32) -> f32 {
    let low = (byte(block + 48u + 32u * (i >> 6u) + (i & 31u)) >> (4u * ((i >> 5u) & 1u))) & 15u;
    let fifth = (byte(block + 16u + (i & 31u)) >> (i >> 5u)) & 1u;
    return f32(low | (fifth << 4u));
}
