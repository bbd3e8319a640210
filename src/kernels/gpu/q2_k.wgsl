const BLOCK = 84u;
const GROUPS = 16u;
const SIZE = 16u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    let both = byte(block + group);
    return vec2(half(block + 80u) * f32(both & 15u), half(block + 82u) * f32(both >> 4u));
}

fn code(block: u32, i: u32) -> f32 {
    return f32((byte(block + 16u + 32u * (i >> 7u) + (i & 31u)) >> (2u * ((i >> 5u) & 3u))) & 3u);
}
