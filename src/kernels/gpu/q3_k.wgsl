const BLOCK = 110u;
const GROUPS = 16u;
const SIZE = 16u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    let low = (byte(block + 96u + (group & 7u)) >> (4u * (group >> 3u))) & 15u;
    let high = (byte(block + 104u + (group & 3u)) >> (2u * (group >> 2u))) & 3u;
    return vec2(half(block + 108u) * (f32(low | (high << 4u)) - 32.0), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    let low = (byte(block + 32u + 32u * (i >> 7u) + (i & 31u)) >> (2u * ((i >> 5u) & 3u))) & 3u;
    let third = (byte(block + (i & 31u)) >> (i >> 5u)) & 1u;
    return f32(low | (third << 2u)) - 4.0;
}
