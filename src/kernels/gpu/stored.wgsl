// Four weights of a quantised matrix, which share a scale.

fn weights_at(row: u32, at: u32, k: u32) -> vec4<f32> {
    let first = 4u * (row * k + at);
    let index = first / SIZE;
    let block = index / GROUPS * BLOCK;
    let group = index % GROUPS;
    let factor = scale(block, group);
    let i = group * SIZE + first % SIZE;
    let codes = vec4(code(block, i), code(block, i + 1u), code(block, i + 2u), code(block, i + 3u));
    return factor.x * codes - vec4(factor.y);
}
