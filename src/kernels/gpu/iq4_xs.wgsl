const BLOCK = 136u;
const GROUPS = 8u;
const SIZE = 32u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    let low = (byte(block + 4u + (group >> 1u)) >> (4u * (group & 1u))) & 15u;
    let high = (byte(block + 2u + (group >> 2u)) >> (2u * (group & 3u))) & 3u;
    return vec2(half(block) * (f32(low | (high << 4u)) - 32.0), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    return value(nibble(block + 8u + 16u * (i >> 5u), i & 31u));
}
