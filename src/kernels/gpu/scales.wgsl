// Reads the scale and the minimum of a group of Q4_K or Q5_K, six bits each, from twelve bytes.
fn six_bits(block: u32, group: u32) -> vec2<f32> {
    let at = block + 4u;
    let j = group & 3u;
    let low = byte(at + j);
    let middle = byte(at + 4u + j);
    if group < 4u {
        return vec2(f32(low & 63u), f32(middle & 63u));
    }
    let high = byte(at + 8u + j);
    return vec2(f32((high & 15u) | ((low >> 6u) << 4u)), f32((high >> 4u) | ((middle >> 6u) << 4u)));
}

fn scale(block: u32, group: u32) -> vec2<f32> {
    return vec2(half(block), half(block + 2u)) * six_bits(block, group);
}
