const BLOCK = 144u;
const GROUPS = 8u;
const SIZE = 32u;

fn code(block: u32, i: u32) -> f32 {
    return f32((byte(block + 16u + 32u * (i >> 6u) + (i & 31u)) >> (4u * ((i >> 5u) & 1u))) & 15u);
}
