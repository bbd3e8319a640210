// Decodes blocks of quantised weights to f32. Each invocation decodes one group of SIZE weights, which share a scale.

@group(0) @binding(1) var<storage, read_write> weights: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = id.y * workgroups.x * 64u + id.x;
    if index >= words[0] {
        return;
    }
    let block = index / GROUPS * BLOCK;
    let group = index % GROUPS;
    let factor = scale(block, group);
    for (var i = 0u; i < SIZE; i++) {
        weights[index * SIZE + i] = factor.x * code(block, group * SIZE + i) - factor.y;
    }
}
