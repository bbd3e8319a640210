//! Threads that multiply together: products large enough to be worth waking others for.
//!
//! WebAssembly has no threads of its own here. The page gives a [`Pool`] (`www/engine/pool.ts`) whose workers run the same
//! inner loops in a memory that they share, into which operands are copied. Sums are added in the same order as on one
//! thread, so that the bits are the same whatever the number of threads.

use std::cell::RefCell;

/// Least number of multiply-adds of a product that is shared: about 3 ms of one thread, where waking others takes up to
/// 0.1 ms.
const WORTH_SHARING: usize = 1 << 27;

/// A matrix in memory: the number in row `i` and column `k` is `values[i * row + k * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// Numbers from the first one on.
    pub values: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Distance from one row to the next.
    pub row: usize,
    /// Distance from one column to the next: 1, or `row` is 1.
    pub column: usize,
}

/// Threads that multiply together. Where a method returns false, the threads cannot do it, now or at all, and the caller
/// multiplies alone; `y` is as it was.
pub trait Pool {
    /// Returns the number of threads.
    fn threads(&self) -> usize;

    /// Takes the left operand, of `depth` columns, of the products that follow. `stretch` columns at a time are summed.
    fn left(&self, left: Operand<'_>, depth: usize, stretch: usize) -> bool;

    /// Begins the product of the left operand and the transpose of `right`, which is added to the columns `y` of rows of
    /// length `n_columns`, or to zeros. With `lower`, the index of the first row of `right` among the columns of a
    /// triangle, nothing need be added above the diagonal.
    fn begin(&self, right: Operand<'_>, y: Option<(&[f32], usize)>, lower: Option<usize>) -> bool;

    /// Waits for the product that was begun, and writes it to the columns `y` of rows of length `n_columns`.
    fn end(&self, y: &mut [f32], n_columns: usize) -> bool;
}

thread_local! {
    static POOL: RefCell<Option<Box<dyn Pool>>> = const { RefCell::new(None) };
}

/// Sets the threads that share large products of this thread from now on.
pub fn multiply_with(pool: impl Pool + 'static) {
    POOL.set(Some(Box::new(pool)));
}

/// Returns the number of threads that share large products, at least 1.
pub fn threads() -> usize {
    POOL.with_borrow(|pool| pool.as_ref().map_or(1, |pool| pool.threads().max(1)))
}

/// Calls `f` with the threads, if there are any and a product of so many multiply-adds is worth sharing.
pub fn shared<R>(multiply_adds: usize, f: impl FnOnce(&dyn Pool) -> R) -> Option<R> {
    POOL.with_borrow(|pool| pool.as_deref().filter(|_| multiply_adds >= WORTH_SHARING).map(f))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernels::panels::kernel::{Block, LEFT, RIGHT, add_products, pack};

    /// A pool that multiplies by itself what it is given, as the page's does, and counts the products. It fails from the one
    /// with the index `fails` on.
    #[derive(Default)]
    pub(crate) struct Alone {
        left: RefCell<(Vec<Vec<f32>>, usize, usize)>,
        sums: RefCell<(Vec<f32>, usize)>,
        pub(crate) products: std::rc::Rc<std::cell::Cell<usize>>,
        fails: Option<usize>,
    }

    impl Alone {
        pub(crate) fn failing(fails: Option<usize>) -> Self {
            Self { fails, ..Self::default() }
        }
    }

    fn panels(of: Operand<'_>, depth: usize, stretch: usize, lanes: usize) -> Vec<Vec<f32>> {
        let stretches = (0..depth).step_by(stretch);
        let of_stretch = |start: usize| {
            let depth = stretch.min(depth - start);
            let mut panels = vec![0.0; of.rows.div_ceil(lanes) * depth * lanes];
            let values = &of.values[start * of.column..];
            pack(values, [of.rows, of.row, of.column], depth, lanes, &mut panels);
            panels
        };
        stretches.map(of_stretch).collect()
    }

    impl Pool for Alone {
        fn threads(&self) -> usize {
            2
        }

        fn left(&self, left: Operand<'_>, depth: usize, stretch: usize) -> bool {
            self.left.replace((panels(left, depth, stretch, LEFT), left.rows, stretch));
            true
        }

        fn begin(&self, right: Operand<'_>, y: Option<(&[f32], usize)>, lower: Option<usize>) -> bool {
            let (left, rows, stretch) = &*self.left.borrow();
            let depth: usize = left.iter().map(|panels| panels.len() / (rows.div_ceil(LEFT) * LEFT)).sum();
            let mut sums = vec![0.0; rows * right.rows];
            if let Some((y, n_columns)) = y {
                for (sums, y) in sums.chunks_mut(right.rows).zip(y.chunks(n_columns)) {
                    sums.copy_from_slice(&y[..right.rows]);
                }
            }
            for (left, right_panels) in left.iter().zip(panels(right, depth, *stretch, RIGHT)) {
                add_products(Block {
                    left: left.as_chunks().0,
                    right: right_panels.as_chunks().0,
                    depth: left.len() / (rows.div_ceil(LEFT) * LEFT),
                    y: &mut sums,
                    n_columns: right.rows,
                    width: right.rows,
                    lower,
                });
            }
            self.sums.replace((sums, right.rows));
            self.products.set(self.products.get() + 1);
            self.fails.is_none_or(|fails| self.products.get() <= fails)
        }

        fn end(&self, y: &mut [f32], n_columns: usize) -> bool {
            let (sums, width) = &*self.sums.borrow();
            for (sums, y) in sums.chunks(*width).zip(y.chunks_mut(n_columns)) {
                y[..*width].copy_from_slice(sums);
            }
            true
        }
    }

    #[test]
    fn only_what_is_large_is_shared_and_without_a_pool_nothing() {
        assert_eq!((threads(), shared(usize::MAX, |_| ())), (1, None));
        multiply_with(Alone::default());
        assert_eq!(threads(), 2);
        assert_eq!(shared(WORTH_SHARING, |pool| pool.threads()), Some(2));
        assert_eq!(shared(WORTH_SHARING - 1, |_| ()), None);
    }
}
