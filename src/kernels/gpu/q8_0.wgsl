const BLOCK = 34u;
const GROUPS = 1u;
const SIZE = 32u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(half(block), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    return signed_byte(block + 2u + i);
}
