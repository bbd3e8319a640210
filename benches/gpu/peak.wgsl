// Multiply-adds in registers that wait for nothing but each other: what a device can do at most.

@group(0) @binding(0) var<storage, read_write> rounds: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let x = vec4<f32>(f32(id.x & 7u)) * 1e-3 + vec4<f32>(0.1, 0.2, 0.3, 0.4);
    let factor = vec4<f32>(0.999);
    var a = x;
    var b = x + 1.0;
    var c = x + 2.0;
    var d = x + 3.0;
    var e = x + 4.0;
    var f = x + 5.0;
    var g = x + 6.0;
    var h = x + 7.0;
    for (var round = 0u; round < rounds[0]; round++) {
        a = fma(a, factor, x);
        b = fma(b, factor, x);
        c = fma(c, factor, x);
        d = fma(d, factor, x);
        e = fma(e, factor, x);
        f = fma(f, factor, x);
        g = fma(g, factor, x);
        h = fma(h, factor, x);
    }
    sums[id.x] = dot(a + b + c + d + e + f + g + h, vec4<f32>(1.0));
}
