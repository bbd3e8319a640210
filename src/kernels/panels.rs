//! Matrix products without the widest vectors, such as WebAssembly's.
//!
//! Both operands are repacked so that the inner loop ([`kernel`]) reads memory in order: [`LEFT`] rows of `x`
//! interleaved, [`RIGHT`] rows of `W` interleaved, and a block of `LEFT x RIGHT` sums that stays in
//! registers. [`add_products_by`] replaces the loop by the same loop compiled for instructions that not every
//! machine has. Other threads, if there are any, share large products ([`pool`]).

pub mod kernel;
pub mod pool;

use std::cell::RefCell;
use std::ops::Range;

use kernel::{Block, LEFT, RIGHT, pack};
use pool::{Operand, shared};

/// Largest number of columns multiplied at a time: enough that adding the sums to `y` costs little in
/// comparison.
const DEPTH: usize = 768;

/// Number of panels of `W` that are multiplied by a panel of `x` before the next panel of `x`; together they
/// fit in the second-level cache.
const PANELS: usize = 8;

/// Sums of a product that exist twice at a time, where other threads add to them.
const SHARED_SUMS: usize = 1 << 22;

/// Least number of panels of `x` that is worth a call out of the engine.
const WORTH_A_CALL: usize = 4;

/// Function that adds the products of a block, like [`kernel::add_products`].
type AddProducts = Box<dyn Fn(Block<'_>)>;

thread_local! {
    static FUSED: RefCell<Option<AddProducts>> = const { RefCell::new(None) };
}

/// Sets the function that adds the products of large blocks on this thread from now on: `add`, compiled for
/// instructions that not every machine has.
pub fn add_products_by(add: impl Fn(Block<'_>) + 'static) {
    FUSED.set(Some(Box::new(add)));
}

/// Returns whether this thread adds products by a function given to [`add_products_by`].
pub fn are_fused() -> bool {
    FUSED.with_borrow(Option::is_some)
}

/// Rounds a number of rows of `W` up so that only the last panel of the whole matrix is filled up with zeros.
pub fn whole_blocks(rows: usize) -> usize {
    rows.next_multiple_of(PANELS * RIGHT)
}

/// Adds the products of a block by the fastest kernel for its size.
fn add(block: Block<'_>) {
    FUSED.with_borrow(|fused| match fused {
        Some(fused) if block.left.len() >= WORTH_A_CALL * block.depth => fused(block),
        _ => kernel::add_products(block),
    });
}

/// Rows `x` `[n, width]`, repacked into panels.
pub struct Packed {
    rows: usize,
    width: usize,
    /// For each stretch of columns and each group of [`LEFT`] rows, the values column by column; missing rows
    /// are zeros.
    panels: Vec<[f32; LEFT]>,
}

impl Packed {
    /// Repacks row-major `x` `[n, width]`.
    pub fn new(x: &[f32], width: usize) -> Self {
        let rows = x.len() / width.max(1);
        let mut panels = Vec::with_capacity(rows.div_ceil(LEFT) * width);
        for stretch in stretches(width) {
            let from = x.get(stretch.start..).unwrap_or_default();
            append(from, [rows, width, 1], stretch.len(), &mut panels);
        }
        Self { rows, width, panels }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the width of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds `x W^T`, for row-major rows `w` of `W`, to the columns of `y` `[rows, n_columns]` from `first`
    /// on.
    pub fn multiply(&self, w: &[f32], y: &mut [f32], n_columns: usize, first: usize) {
        let n_groups = self.rows.div_ceil(LEFT);
        let mut right: Vec<[f32; RIGHT]> = Vec::new();
        for stretch in stretches(self.width) {
            let depth = stretch.len();
            let left = stretch.start * n_groups..stretch.end * n_groups;
            let left = self.panels.get(left).unwrap_or_default();
            for (block, rows) in w.chunks(PANELS * RIGHT * self.width).enumerate() {
                let width = rows.len() / self.width;
                right.clear();
                let from = rows.get(stretch.start..).unwrap_or_default();
                append(from, [width, self.width, 1], depth, &mut right);
                let y = y.get_mut(first + block * PANELS * RIGHT..).unwrap_or_default();
                add(Block { left, right: &right, depth, y, n_columns, width, lower: None });
            }
        }
    }
}

/// Adds `A^T B` for row-major `a` `[n, p]` and `b` `[n, q]` to row-major `y` `[p, q]`, by all threads. With `lower`, only
/// entries below the diagonal, on it, or less than a block above it are changed.
pub fn add_transposed_product([a, b]: [&[f32]; 2], [p, q]: [usize; 2], lower: bool, y: &mut [f32]) {
    let n = a.len() / p.max(1);
    let multiply_adds = if lower { n * p * q / 2 } else { n * p * q };
    let done = shared(multiply_adds, |pool| {
        if !pool.left(Operand { values: a, rows: p, row: 1, column: p }, n, stretch(n)) {
            return 0;
        }
        let piece = whole_blocks((SHARED_SUMS / p.max(1)).max(1));
        for first in (0..q).step_by(piece) {
            let rows = piece.min(q - first);
            let right = Operand { values: b.get(first..).unwrap_or_default(), rows, row: 1, column: q };
            let Some(y) = y.get_mut(first..) else { return first };
            if !pool.begin(right, Some((y, q)), lower.then_some(first)) || !pool.end(y, q) {
                return first;
            }
        }
        q
    });
    add_alone([a, b], [p, q], done.unwrap_or(0), lower, y);
}

/// Adds the columns of the product from `start` on, on one thread.
fn add_alone([a, b]: [&[f32]; 2], [p, q]: [usize; 2], start: usize, lower: bool, y: &mut [f32]) {
    if start >= q {
        return;
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for rows in stretches(a.len() / p.max(1)) {
        let depth = rows.len();
        let [a, b] = [(a, p), (b, q)]
            .map(|(of, width)| of.get(rows.start * width..rows.end * width).unwrap_or_default());
        left.clear();
        append(a, [p, 1, p], depth, &mut left);
        for first in (start..q).step_by(PANELS * RIGHT) {
            let width = (PANELS * RIGHT).min(q - first);
            right.clear();
            append(b.get(first..).unwrap_or_default(), [width, 1, q], depth, &mut right);
            let y = y.get_mut(first..).unwrap_or_default();
            let lower = lower.then_some(first);
            add(Block { left: &left, right: &right, depth, y, n_columns: q, width, lower });
        }
    }
}

/// Appends panels of the rows of a matrix (see [`pack`]).
fn append<const N: usize>(
    values: &[f32],
    [rows, row, column]: [usize; 3],
    depth: usize,
    panels: &mut Vec<[f32; N]>,
) {
    let start = panels.len();
    panels.resize(start + rows.div_ceil(N) * depth, [0.0; N]);
    let panels = panels.get_mut(start..).unwrap_or_default();
    pack(values, [rows, row, column], depth, N, panels.as_flattened_mut());
}

/// Returns the number of columns that are summed at a time, of `width`.
pub fn stretch(width: usize) -> usize {
    width.div_ceil(width.div_ceil(DEPTH).max(1)).max(1)
}

/// Splits `0 .. width` into ranges of at most [`DEPTH`] columns, as equal as possible.
fn stretches(width: usize) -> impl Iterator<Item = Range<usize>> {
    let depth = stretch(width);
    (0..width).step_by(depth).map(move |start| start..(start + depth).min(width))
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
    fn another_kernel_does_what_is_worth_a_call() {
        use std::cell::Cell;
        use std::rc::Rc;

        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let noise: Vec<f32> = (0..800 * 31).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let product = |rows: usize| {
            let mut y = vec![0.0; rows * 31];
            Packed::new(&noise[..rows * 800], 800).multiply(&noise, &mut y, 31, 0);
            y
        };
        let before = [product(1), product(20)];
        add_products_by(move |block| {
            counted.set(counted.get() + 1);
            kernel::add_products(block);
        });
        assert_eq!(product(1), before[0]);
        assert_eq!(calls.get(), 0);
        assert_eq!(product(20), before[1]);
        assert_eq!(calls.get(), 2);
        assert!(are_fused());
    }

    #[test]
    fn threads_together_make_the_sums_of_one() {
        use pool::tests::Alone;

        let noise = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect() };
        let (n, p, q) = (800, 500, 9000);
        let (a, b, y) = (noise(n * p), noise(n * q), noise(p * q));
        let product = |lower: bool| {
            let mut y = y.clone();
            add_transposed_product([&a, &b], [p, q], lower, &mut y);
            y
        };
        let alone = [product(false), product(true)];
        let of_lower = |y: &[f32]| -> Vec<f32> {
            let is_lower = |place: &usize| place % q <= place / q;
            (0..p * q).filter(is_lower).map(|place| y[place]).collect()
        };
        for fails in [None, Some(1)] {
            let pool = Alone::failing(fails);
            let products = pool.products.clone();
            pool::multiply_with(pool);
            assert_eq!(product(false), alone[0]);
            assert_eq!(products.take(), 2);
            assert_eq!(of_lower(&product(true)), of_lower(&alone[1]));
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
