//! Inner loops of [`panels`](super): blocks of sums that stay in registers.
//!
//! WebAssembly contains this file twice: within the engine, and within a module of a kilobyte
//! (`www/engine/fused.rs`) whose multiply-adds are fused, by relaxed vector instructions that not every
//! browser has.

/// Rows of the left operand in a panel.
pub const LEFT: usize = 3;

/// Rows of the right operand in a panel: three vectors of four. `LEFT x RIGHT` sums are nine vectors: enough
/// to hide the latency of a fused multiply-add, and few enough that WebAssembly compilers spill none.
pub const RIGHT: usize = 12;

/// Panels of both operands, all of equal depth, and the sums to which their products are added.
#[derive(Debug)]
pub struct Block<'a> {
    /// Panels of [`LEFT`] rows, one after the other, each column by column.
    pub left: &'a [[f32; LEFT]],
    /// Panels of [`RIGHT`] rows, laid out like `left`.
    pub right: &'a [[f32; RIGHT]],
    /// Number of columns of a panel.
    pub depth: usize,
    /// Sums, row-major, from the entry that belongs to the first row of both operands to the end of the last
    /// row.
    pub y: &'a mut [f32],
    /// Row length of the matrix that `y` is a part of.
    pub n_columns: usize,
    /// Number of columns of `y`, from its first entry on, for which `right` has rows; the last panel may be
    /// filled up with zeros.
    pub width: usize,
    /// If only a lower triangle is wanted, the column of the first entry of `y`: panels entirely above the
    /// diagonal are skipped.
    pub lower: Option<usize>,
}

/// Fills `panels`, each of which holds `lanes` rows column by column and is `depth` columns deep, with rows of a matrix of
/// which row `i` and column `k` is `values[i * row + k * column]`. Of `rows` rows, those that the last panel lacks are zeros.
pub fn pack(values: &[f32], [rows, row, column]: [usize; 3], depth: usize, lanes: usize, panels: &mut [f32]) {
    for (place, panel) in panels.chunks_exact_mut((depth * lanes).max(1)).enumerate() {
        for lane in 0..lanes {
            let row_of_lane = place * lanes + lane;
            let values = if row_of_lane < rows { values } else { &[] };
            let mut from = row_of_lane * row;
            let mut to = lane;
            for _ in 0..depth {
                if let Some(slot) = panel.get_mut(to) {
                    *slot = values.get(from).copied().unwrap_or(0.0);
                }
                from += column;
                to += lanes;
            }
        }
    }
}

/// Computes `y[i][j] += sum_k left[i][k] right[j][k]`.
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

/// Returns `sums[i][j] = sum_k x[k][i] w[k][j]`.
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
