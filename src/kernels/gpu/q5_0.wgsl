const BLOCK = 22u;
const GROUPS = 1u;
const SIZE = 32u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(half(block), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    return f32(nibble(block + 6u, i) | (bit(block + 2u, i) << 4u)) - 16.0;
}
