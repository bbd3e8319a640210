// Multiplies x [n, k] by the transpose of weights [m, k]: a workgroup computes a tile of ROWS x COLUMNS of the product, an
// invocation SUMS rows of 8 columns of the tile. DEPTH columns of x and of the weights are in workgroup memory at a time,
// turned so that four rows lie in a vector. Each sum is over k in ascending order, whatever the tile.
//
// What precedes this file says the sizes of the tile, and `weights_at`: four weights of a row.

// n, m, and k in vectors.
@group(0) @binding(1) var<storage, read_write> sizes: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const DEPTH = 16u;
const THREADS = (ROWS / SUMS) * (COLUMNS / 8u);

var<workgroup> left: array<vec4<f32>, DEPTH * ROWS / 4u>;
var<workgroup> right: array<vec4<f32>, DEPTH * COLUMNS / 4u>;
var<workgroup> shape: vec3<u32>;

fn x_at(row: u32, at: u32, n: u32, k: u32) -> vec4<f32> {
    if row < n && at < k {
        return x[row * k + at];
    }
    return vec4(0.0);
}

fn w_at(row: u32, at: u32, m: u32, k: u32) -> vec4<f32> {
    if row < m && at < k {
        return weights_at(row, at, k);
    }
    return vec4(0.0);
}

fn store(row: u32, column: u32, n: u32, m: u32, sums: vec4<f32>) {
    if row < n {
        for (var i = 0u; i < 4u; i++) {
            if column + i < m {
                y[row * m + column + i] = sums[i];
            }
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if local == 0u {
        shape = vec3(sizes[0], sizes[1], sizes[2]);
    }
    // All invocations see the same numbers, so that they meet at the same barriers.
    let whole = workgroupUniformLoad(&shape);
    let n = whole.x;
    let m = whole.y;
    let k = whole.z;
    let top = tile.y * ROWS;
    let start = tile.x * COLUMNS;
    let across = local % (COLUMNS / 8u);
    let down = local / (COLUMNS / 8u);
    SUMS_AT_ZERO
    for (var first = 0u; first < k; first += DEPTH / 4u) {
        for (var i = local; i < ROWS; i += THREADS) {
            let group = i % (ROWS / 4u);
            let part = i / (ROWS / 4u);
            let row = top + 4u * group;
            let at = first + part;
            let block = transpose(mat4x4<f32>(x_at(row, at, n, k), x_at(row + 1u, at, n, k), x_at(row + 2u, at, n, k), x_at(row + 3u, at, n, k)));
            left[(4u * part) * (ROWS / 4u) + group] = block[0];
            left[(4u * part + 1u) * (ROWS / 4u) + group] = block[1];
            left[(4u * part + 2u) * (ROWS / 4u) + group] = block[2];
            left[(4u * part + 3u) * (ROWS / 4u) + group] = block[3];
        }
        for (var i = local; i < COLUMNS; i += THREADS) {
            let group = i % (COLUMNS / 4u);
            let part = i / (COLUMNS / 4u);
            let row = start + 4u * group;
            let at = first + part;
            let block = transpose(mat4x4<f32>(w_at(row, at, m, k), w_at(row + 1u, at, m, k), w_at(row + 2u, at, m, k), w_at(row + 3u, at, m, k)));
            right[(4u * part) * (COLUMNS / 4u) + group] = block[0];
            right[(4u * part + 1u) * (COLUMNS / 4u) + group] = block[1];
            right[(4u * part + 2u) * (COLUMNS / 4u) + group] = block[2];
            right[(4u * part + 3u) * (COLUMNS / 4u) + group] = block[3];
        }
        workgroupBarrier();
        for (var j = 0u; j < DEPTH; j++) {
            let b0 = right[j * (COLUMNS / 4u) + 2u * across];
            let b1 = right[j * (COLUMNS / 4u) + 2u * across + 1u];
            ADD_PRODUCTS
        }
        workgroupBarrier();
    }
    STORE_SUMS
}
