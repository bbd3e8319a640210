//! Matrix products for one thread without fused multiply-add, such as WebAssembly's.
//!
//! Both sides are repacked so that the inner loop reads memory in order: [`LEFT`] rows of `x` interleaved,
//! [`RIGHT`] rows of `W` interleaved, and a block of `LEFT x RIGHT` sums that stays in registers. The block is
//! smaller than the sixteen vector registers would hold, since compilers of WebAssembly keep some for
//! themselves and spill the rest: 4 x 8 runs 1.2 times as fast as the 4 x 12 of the gemm crate.

/// Rows of `x` in a panel.
const LEFT: usize = 4;

/// Rows of `W` in a panel: two vectors of four.
const RIGHT: usize = 8;

/// Columns that are multiplied at a time: a panel of each side fits in the first-level cache.
const DEPTH: usize = 512;

/// Panels of `W` that are used against one of `x` before the next: together they fit in the second-level cache.
const PANELS: usize = 8;

/// Rows `x` `[n, width]`, repacked.
pub struct Packed {
    rows: usize,
    width: usize,
    /// For each stretch of [`DEPTH`] columns, for each [`LEFT`] rows, column by column; zeros for missing rows.
    panels: Vec<[f32; LEFT]>,
}

impl Packed {
    /// Repacks row-major `x`.
    pub fn new(x: &[f32], width: usize) -> Self {
        let rows = x.len() / width.max(1);
        let mut panels = Vec::with_capacity(rows.div_ceil(LEFT) * width);
        for stretch in stretches(width) {
            for group in x.chunks(LEFT * width.max(1)) {
                interleave(group, width, &stretch, &mut panels);
            }
        }
        Self { rows, width, panels }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Their width.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds `x W^T` for row-major rows `w` of `W` to the columns of `y` `[rows, n_columns]` from `first` on.
    pub fn multiply(&self, w: &[f32], y: &mut [f32], n_columns: usize, first: usize) {
        let n_groups = self.rows.div_ceil(LEFT);
        let mut right: Vec<[f32; RIGHT]> = Vec::with_capacity(PANELS * DEPTH);
        for stretch in stretches(self.width) {
            let depth = stretch.len();
            let left = self.panels.get(stretch.start * n_groups..).unwrap_or_default();
            for (block, rows) in w.chunks(PANELS * RIGHT * self.width).enumerate() {
                right.clear();
                for group in rows.chunks(RIGHT * self.width) {
                    interleave(group, self.width, &stretch, &mut right);
                }
                let n_rows = rows.len() / self.width;
                for (i, x) in left.chunks_exact(depth).take(n_groups).enumerate() {
                    for (j, w) in right.chunks_exact(depth).enumerate() {
                        let column = first + (block * PANELS + j) * RIGHT;
                        let width = RIGHT.min(n_rows - j * RIGHT);
                        let corner = y.get_mut(i * LEFT * n_columns + column..).unwrap_or_default();
                        add(corner, n_columns, width, &sums(x, w));
                    }
                }
            }
        }
    }
}

/// Adds `A^T B` for row-major `a` `[n, p]` and `b` `[n, q]` to row-major `y` `[p, q]`; where `lower`, only to what is
/// below the diagonal, on it, or less than a panel above it.
pub fn add_transposed_product([a, b]: [&[f32]; 2], [p, q]: [usize; 2], lower: bool, y: &mut [f32]) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (a, b) in a.chunks(DEPTH * p.max(1)).zip(b.chunks(DEPTH * q.max(1))) {
        let depth = a.len() / p;
        left.clear();
        (0..p).step_by(LEFT).for_each(|first| stripe(a, p, first, &mut left));
        for block in (0..q).step_by(PANELS * RIGHT) {
            right.clear();
            let columns = (block..(block + PANELS * RIGHT).min(q)).step_by(RIGHT);
            columns.clone().for_each(|first| stripe(b, q, first, &mut right));
            for (i, x) in left.chunks_exact(depth).enumerate() {
                for (column, w) in columns.clone().zip(right.chunks_exact(depth)) {
                    if lower && column >= (i + 1) * LEFT {
                        break;
                    }
                    let corner = y.get_mut(i * LEFT * q + column..).unwrap_or_default();
                    add(corner, q, RIGHT.min(q - column), &sums(x, w));
                }
            }
        }
    }
}

/// Appends `N` columns from `first` on of row-major rows, row by row; zeros for missing columns.
fn stripe<const N: usize>(rows: &[f32], width: usize, first: usize, panels: &mut Vec<[f32; N]>) {
    panels.extend(rows.chunks_exact(width).map(|row| {
        let values = row.get(first..).unwrap_or_default();
        values.first_chunk().copied().unwrap_or_else(|| {
            let mut panel = [0.0; N];
            panel.iter_mut().zip(values).for_each(|(slot, value)| *slot = *value);
            panel
        })
    }));
}

/// Ranges of at most [`DEPTH`] columns.
fn stretches(width: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..width).step_by(DEPTH).map(move |start| start..(start + DEPTH).min(width))
}

/// Appends the columns `stretch` of up to `N` rows, column by column.
fn interleave<const N: usize>(
    rows: &[f32],
    width: usize,
    stretch: &std::ops::Range<usize>,
    panels: &mut Vec<[f32; N]>,
) {
    let start = panels.len();
    panels.resize(start + stretch.len(), [0.0; N]);
    for (lane, row) in rows.chunks_exact(width.max(1)).enumerate() {
        let values = row.get(stretch.clone()).unwrap_or_default();
        for (panel, value) in panels.iter_mut().skip(start).zip(values) {
            if let Some(slot) = panel.get_mut(lane) {
                *slot = *value;
            }
        }
    }
}

/// The inner loop: `sums[i][j] = sum_k x[k][i] w[k][j]`.
#[inline(never)]
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

/// Adds the first `width` columns of a block to `y`, as far as `y` has rows.
fn add(y: &mut [f32], n_columns: usize, width: usize, sums: &[[f32; RIGHT]; LEFT]) {
    for (row, sums) in y.chunks_mut(n_columns).zip(sums) {
        match (row.first_chunk_mut::<RIGHT>(), width) {
            (Some(row), RIGHT) => row.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
            _ => row.iter_mut().zip(sums).take(width).for_each(|(y, sum)| *y += sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transposed_product_is_the_naive_sum() {
        let noise = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * seed) % 1009) as f32 / 500.0 - 1.0).collect()
        };
        for (n, p, q) in [(1, 1, 1), (7, 5, 9), (513, 66, 130), (1030, 70, 3)] {
            let (a, b) = (noise(n * p, 31), noise(n * q, 57));
            let naive = |i: usize, j: usize| -> f64 {
                (0..n).map(|k| f64::from(a[k * p + i]) * f64::from(b[k * q + j])).sum()
            };
            let mut y = vec![1.0; p * q];
            add_transposed_product([&a, &b], [p, q], false, &mut y);
            for (place, y) in y.iter().enumerate() {
                assert!((f64::from(*y) - 1.0 - naive(place / q, place % q)).abs() < 3e-4, "{n} {p} {q}");
            }
        }
    }

    #[test]
    fn the_lower_half_is_that_of_the_whole() {
        for n in [3, 8, 70, 131] {
            let a: Vec<f32> = (0..600 * n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
            let (mut whole, mut half) = (vec![0.0; n * n], vec![0.0; n * n]);
            add_transposed_product([&a, &a], [n, n], false, &mut whole);
            add_transposed_product([&a, &a], [n, n], true, &mut half);
            assert!(
                (0..n * n).filter(|place| place % n <= place / n).all(|place| whole[place] == half[place])
            );
        }
    }
}
