const BLOCK = 20u;
const GROUPS = 1u;
const SIZE = 32u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(half(block), -half(block + 2u));
}

fn code(block: u32, i: u32) -> f32 {
    return f32(nibble(block + 4u, i));
}
