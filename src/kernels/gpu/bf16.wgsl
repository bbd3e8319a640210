const BLOCK = 64u;
const GROUPS = 1u;
const SIZE = 32u;

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(1.0, 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    let at = block + 2u * i;
    return bitcast<f32>((byte(at) << 16u) | (byte(at + 1u) << 24u));
}
