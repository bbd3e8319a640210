//! The inner loops of [`panels`](super): blocks of sums that stay in registers.
//!
//! WebAssembly gets this file twice: within the engine, and within a module of a kilobyte (`www/engine/fused.rs`) whose
//! multiply-adds are fused, by relaxed vector instructions that not every browser has.

/// Rows of the left side in a panel.
pub const LEFT: usize = 3;

/// Rows of the right side in a panel: three vectors of four. With `LEFT` it makes nine vectors of sums, as many as
/// hide the latency of a fused multiply-add, and few enough that compilers of WebAssembly spill none.
pub const RIGHT: usize = 12;

/// Panels of both sides, all of the same depth, and where their products go.
#[derive(Debug)]
pub struct Block<'a> {
    /// Panels of [`LEFT`] rows, one after the other, each column by column.
    pub left: &'a [[f32; LEFT]],
    /// Panels of [`RIGHT`] rows.
    pub right: &'a [[f32; RIGHT]],
    /// Columns of a panel.
    pub depth: usize,
    /// The corner of the sums that the first panels belong to; ends with the last row.
    pub y: &'a mut [f32],
    /// The width of `y`.
    pub n_columns: usize,
    /// Columns of `y` from the corner on that `right` has rows for: the last panel may be filled up.
    pub width: usize,
    /// Of a lower triangle, the column of the corner: panels that lie above the diagonal as a whole are left out.
    pub lower: Option<usize>,
}

/// `y[i][j] += sum_k left[i][k] right[j][k]`.
pub fn add_products(block: Block<'_>) {
    let Block { left, right, depth, y, n_columns, width, lower } = block;
    let rows = y.chunks_mut(LEFT * n_columns.max(1));
    for (i, (x, y)) in left.chunks_exact(depth.max(1)).zip(rows).enumerate() {
        for (w, column) in right.chunks_exact(depth.max(1)).zip((0..width).step_by(RIGHT)) {
            if lower.is_some_and(|first| first + column >= (i + 1) * LEFT) {
                break;
            }
            let sums = sums(x, w);
            for (y, sums) in y.chunks_mut(n_columns.max(1)).zip(&sums) {
                let y = y.get_mut(column..width.min(column + RIGHT)).unwrap_or_default();
                match y.first_chunk_mut::<RIGHT>() {
                    Some(y) => y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                    None => y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                }
            }
        }
    }
}

/// `sums[i][j] = sum_k x[k][i] w[k][j]`.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn sums(x: &[[f32; LEFT]], w: &[[f32; RIGHT]]) -> [[f32; RIGHT]; LEFT] {
    let mut sums = [[0.0f32; RIGHT]; LEFT];
    for (x, w) in x.iter().zip(w) {
        for (row, x) in sums.iter_mut().zip(x) {
            for (sum, w) in row.iter_mut().zip(w) {
                *sum += x * w;
            }
        }
    }
    sums
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn sums(x: &[[f32; LEFT]], w: &[[f32; RIGHT]]) -> [[f32; RIGHT]; LEFT] {
    use core::arch::wasm32::{f32x4, f32x4_extract_lane as lane, f32x4_relaxed_madd, f32x4_splat};

    let mut sums = [[f32x4_splat(0.0); RIGHT / 4]; LEFT];
    for (x, w) in x.iter().zip(w) {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = w;
        let w = [f32x4(a, b, c, d), f32x4(e, f, g, h), f32x4(i, j, k, l)];
        for (row, x) in sums.iter_mut().zip(x) {
            for (sum, w) in row.iter_mut().zip(w) {
                *sum = f32x4_relaxed_madd(f32x4_splat(*x), w, *sum);
            }
        }
    }
    sums.map(|[a, b, c]| {
        let [a, b, c] = [a, b, c].map(|v| [lane::<0>(v), lane::<1>(v), lane::<2>(v), lane::<3>(v)]);
        let mut row = [0.0; RIGHT];
        for (to, from) in row.iter_mut().zip(a.iter().chain(&b).chain(&c)) {
            *to = *from;
        }
        row
    })
}
