const BLOCK = 210u;
const GROUPS = 16u;
const SIZE = 16u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(half(block + 208u) * signed_byte(block + 192u + group), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    let half_block = i >> 7u;
    let row = (i >> 5u) & 3u;
    let column = i & 31u;
    let low = (byte(block + 64u * half_block + 32u * (row & 1u) + column) >> (4u * (row >> 1u))) & 15u;
    let high = (byte(block + 128u + 32u * half_block + column) >> (2u * row)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}
