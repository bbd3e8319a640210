// Four weights of a matrix in f32.

@group(0) @binding(0) var<storage, read_write> weights: array<vec4<f32>>;

fn weights_at(row: u32, at: u32, k: u32) -> vec4<f32> {
    return weights[row * k + at];
}
