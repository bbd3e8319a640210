const BLOCK = 17u;
const GROUPS = 1u;
const SIZE = 32u;

// Twice the E2M1 numbers; the exponent compensates for the factor.
const VALUES = array<f32, 16>(
    0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0
);

fn scale(block: u32, group: u32) -> vec2<f32> {
    let exponent = byte(block);
    // For exponents below 2 the factor is subnormal, 2^-127 at most, and a GPU may treat it as zero.
    let bits = select((exponent - 1u) << 23u, (exponent + 1u) << 21u, exponent < 2u);
    return vec2(bitcast<f32>(bits), 0.0);
}

fn code(block: u32, i: u32) -> f32 {
    var values = VALUES;
    return values[nibble(block + 1u, i)];
}
