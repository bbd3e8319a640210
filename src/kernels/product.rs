//! Products `x W^T` on the CPU, with `W` in its stored form.
//!
//! Rows of `W` are decoded a tile at a time, so that a quantised matrix never exists in `f32` as a whole, and
//! each tile is multiplied while it is in the cache. Native code multiplies by faer on all cores, WebAssembly
//! by the kernel of [`panels`](crate::kernels::panels), on as many threads as the page has.

use crate::Result;
use crate::format::stored::Stored;

/// Decoded values per tile: about a core's share of the last-level cache.
const TILE_VALUES: usize = 1 << 19;

/// Least number of rows in a tile: fewer rows are not worth a tile of their own.
const LEAST_ROWS: usize = 64;

/// Multiplies `x` `[n, n_in]` by the transpose of each weight `[n_out, n_in]`, given as `(weight, n_out)`.
/// Returns one row-major product `[n, n_out]` per weight.
///
/// # Errors
/// Those of [`Stored::rows`]: [`Error::Shape`](crate::Error::Shape) if a weight has fewer than `n_out` rows,
/// or if the rows are not a whole number of blocks.
pub fn products(x: &[f32], n_in: usize, weights: &[(&Stored, usize)]) -> Result<Vec<Vec<f32>>> {
    #[cfg(target_arch = "wasm32")]
    return by_panels(x, n_in, weights);
    #[cfg(not(target_arch = "wasm32"))]
    weights.iter().map(|(weight, n_out)| native::on_all_cores(x, n_in, weight, *n_out)).collect()
}

/// Returns the rows per tile of a weight `[n_out, n_in]` that `n_workers` workers share.
fn tile_rows(n_in: usize, n_out: usize, n_workers: usize) -> usize {
    let fair = n_out.div_ceil(n_workers.max(1));
    (TILE_VALUES / n_in.max(1)).min(fair).max(LEAST_ROWS)
}

/// Returns the bytes of all decoded tiles that exist at a time.
pub fn host_tile_bytes() -> u64 {
    #[cfg(target_arch = "wasm32")]
    let n_workers = 1;
    #[cfg(not(target_arch = "wasm32"))]
    let n_workers = rayon::current_num_threads();
    (4 * TILE_VALUES * n_workers) as u64
}

/// Decoded values of a tile that several threads multiply.
#[cfg(any(target_arch = "wasm32", test))]
const SHARED_TILE_VALUES: usize = 1 << 21;

/// Returns the bytes of the memory that the threads of a page share while they multiply `[rows, n_in]` by the transpose of
/// `[n_out, n_in]`; 0 where a product is made in this process's memory alone.
pub fn shared_bytes([rows, n_in, n_out]: [usize; 3]) -> u64 {
    #[cfg(not(target_arch = "wasm32"))]
    let _ = [rows, n_in, n_out];
    #[cfg(not(target_arch = "wasm32"))]
    return 0;
    #[cfg(target_arch = "wasm32")]
    match crate::kernels::panels::pool::threads() {
        1 => 0,
        _ => arena_bytes([rows, n_in, n_out]),
    }
}

/// Returns the bytes of the operands and sums of a product that threads share: the left operand in panels, and beside it the
/// same as it came, or a tile of the right operand, as it came and in panels, with its sums.
#[cfg(any(target_arch = "wasm32", test))]
fn arena_bytes([rows, n_in, n_out]: [usize; 3]) -> u64 {
    let tile =
        crate::kernels::panels::whole_blocks((SHARED_TILE_VALUES / n_in.max(1)).clamp(1, n_out.max(1)));
    let left = (rows * n_in) as u64;
    let right = (2 * tile * n_in + rows * tile) as u64;
    4 * (left + left.max(right))
}

/// Multiplies by panels, as WebAssembly does: with all threads that there are, where that is worth while.
#[cfg(any(target_arch = "wasm32", test))]
fn by_panels(x: &[f32], n_in: usize, weights: &[(&Stored, usize)]) -> Result<Vec<Vec<f32>>> {
    use crate::kernels::panels::Packed;
    use crate::kernels::panels::pool::{Operand, shared};
    use crate::kernels::panels::stretch;

    let rows = x.len() / n_in.max(1);
    let left = Operand { values: x, rows, row: n_in, column: 1 };
    let largest = weights.iter().map(|(_, n_out)| *n_out).max().unwrap_or(0);
    let shares = shared(rows * n_in * largest, |pool| pool.left(left, n_in, stretch(n_in)));
    let mut packed = None;
    let mut products = Vec::with_capacity(weights.len());
    for (weight, n_out) in weights {
        let together = match shares {
            Some(true) => shared(rows * n_in * n_out, |pool| together(pool, [rows, n_in], weight, *n_out)),
            _ => None,
        };
        products.push(match together.transpose()?.flatten() {
            Some(product) => product,
            None => on_one_thread(packed.get_or_insert_with(|| Packed::new(x, n_in)), weight, *n_out)?,
        });
    }
    Ok(products)
}

/// Multiplies the left operand that `pool` has, `[rows, n_in]`, by the transpose of `weight`. While the threads multiply by
/// a tile, the next one is decoded. `None` if they cannot.
#[cfg(any(target_arch = "wasm32", test))]
fn together(
    pool: &dyn crate::kernels::panels::pool::Pool,
    [rows, n_in]: [usize; 2],
    weight: &Stored,
    n_out: usize,
) -> Result<Option<Vec<f32>>> {
    use crate::kernels::panels::{pool::Operand, whole_blocks};

    let mut y = vec![0.0; rows * n_out];
    let tile = whole_blocks((SHARED_TILE_VALUES / n_in.max(1)).clamp(1, n_out.max(1)));
    let mut begun = None;
    for first in (0..n_out).step_by(tile) {
        let count = tile.min(n_out - first);
        let values = weight.rows(first, count, n_in)?;
        if let Some(before) = begun.replace(first)
            && !pool.end(y.get_mut(before..).unwrap_or_default(), n_out)
        {
            return Ok(None);
        }
        if !pool.begin(Operand { values: &values, rows: count, row: n_in, column: 1 }, None, None) {
            return Ok(None);
        }
    }
    let last = begun.unwrap_or(0);
    let ended = n_out == 0 || pool.end(y.get_mut(last..).unwrap_or_default(), n_out);
    Ok(ended.then_some(y))
}

/// Multiplies by panels on one thread.
#[cfg(any(target_arch = "wasm32", test))]
fn on_one_thread(x: &crate::kernels::panels::Packed, weight: &Stored, n_out: usize) -> Result<Vec<f32>> {
    let mut y = vec![0.0; x.rows() * n_out];
    let tile = crate::kernels::panels::whole_blocks(tile_rows(x.width(), n_out, 1));
    for first in (0..n_out).step_by(tile) {
        let count = tile.min(n_out - first);
        let rows = weight.rows(first, count, x.width())?;
        x.multiply(&rows, &mut y, n_out, first);
    }
    Ok(y)
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use faer::linalg::matmul::matmul;
    use faer::{Accum, MatMut, MatRef, Par};
    use rayon::prelude::*;

    use super::tile_rows;
    use crate::Result;
    use crate::format::stored::Stored;

    /// Multiplies on all cores: each tile of rows of `weight` is decoded and multiplied by one core.
    pub fn on_all_cores(x: &[f32], n_in: usize, weight: &Stored, n_out: usize) -> Result<Vec<f32>> {
        let n = x.len() / n_in.max(1);
        let mut y = vec![0.0f32; n * n_out];
        let x = MatRef::from_row_major_slice(x, n, n_in);
        let tile = tile_rows(n_in, n_out, rayon::current_num_threads());
        let y_tiles = MatMut::from_row_major_slice_mut(&mut y, n, n_out).par_col_chunks_mut(tile);
        y_tiles.enumerate().try_for_each(|(place, y)| -> Result<()> {
            let rows = weight.rows(place * tile, y.ncols(), n_in)?;
            let w = MatRef::from_row_major_slice(&rows, y.ncols(), n_in);
            matmul(y, Accum::Replace, x, w.transpose(), 1.0, Par::Seq);
            Ok(())
        })?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blocks::BlockType;
    use crate::format::element::{Element, decode, encode};
    use crate::kernels::panels::Packed;

    fn noise(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * seed) % 1009) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn both_ways_are_the_naive_sum_for_every_kind_of_storage() {
        let elements = [Element::F32, Element::F16, Element::Bf16]
            .into_iter()
            .chain([BlockType::Q8_0, BlockType::Q4_1, BlockType::Q4K, BlockType::Q6K].map(Element::Block));
        for (element, (n, n_in, n_out)) in
            elements.flat_map(|e| [(1, 256, 3), (5, 512, 77), (66, 256, 130)].map(|shape| (e, shape)))
        {
            let (x, w) = (noise(n * n_in, 31), noise(n_out * n_in, 57));
            let weight = Stored { element, bytes: encode(element, &w).unwrap() };
            let w = decode("w", element, &weight.bytes).unwrap();
            let native = products(&x, n_in, &[(&weight, n_out)]).unwrap().remove(0);
            let panels = on_one_thread(&Packed::new(&x, n_in), &weight, n_out).unwrap();
            for i in 0..n * n_out {
                let (row, column) = (&x[i / n_out * n_in..][..n_in], &w[i % n_out * n_in..][..n_in]);
                let exact: f64 = row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                for (way, y) in [("native", native[i]), ("panels", panels[i])] {
                    let error = (f64::from(y) - exact).abs();
                    assert!(error < 2e-4, "{element} {n}x{n_in}x{n_out} {way}: {error} at {i}");
                }
            }
        }
    }

    /// The largest product of an 8B model stays below what a browser grants, which grows with the rows and not with `W`.
    #[test]
    fn shared_memory_is_that_of_operands_and_one_tile() {
        let largest = arena_bytes([2048, 14_336, 4096]);
        let left = 4 * 2048 * 14_336;
        assert!(largest >= 2 * left && largest < 512 << 20, "{largest}");
        assert_eq!(arena_bytes([2048, 4096, 128_256]), arena_bytes([2048, 4096, 4096]));
        // A small product needs its operands, however large a tile may be.
        assert!(
            arena_bytes([64, 64, 64]) < 4 * (3 * 64 * 64 + 2 * 64 * 256 + 64 * 256),
            "{}",
            arena_bytes([64, 64, 64])
        );
        assert_eq!(shared_bytes([2048, 4096, 4096]), 0);
    }

    #[test]
    fn threads_together_make_the_bits_of_one() {
        use crate::kernels::panels::pool::multiply_with;
        use crate::kernels::panels::pool::tests::Alone;

        let (rows, n_in, n_out) = (70, 800, 6400);
        let (x, w) = (noise(rows * n_in, 31), noise(n_out * n_in, 57));
        let large = Stored::from_f32(&w);
        let small = Stored::from_f32(&w[..4 * n_in]);
        let weights = [(&large, n_out), (&small, 4), (&large, n_out)];
        let alone = by_panels(&x, n_in, &weights).unwrap();
        let pool = Alone::default();
        let products = pool.products.clone();
        multiply_with(pool);
        assert_eq!(by_panels(&x, n_in, &weights).unwrap(), alone);
        // Three tiles of each large weight.
        assert_eq!(products.get(), 6);
        // Threads that are lost with a tile leave all to one.
        let pool = Alone::failing(Some(1));
        let products = pool.products.clone();
        multiply_with(pool);
        assert_eq!(by_panels(&x, n_in, &weights).unwrap(), alone);
        assert_eq!(products.get(), 3);
    }

    #[test]
    fn rows_that_are_not_there_are_an_error() {
        let weight = Stored::from_f32(&[0.0; 8]);
        assert!(weight.rows(1, 2, 4).is_err());
        let block = Stored { element: Element::Block(BlockType::Q8_0), bytes: vec![0; 34] };
        assert!(block.rows(0, 1, 16).is_err());
    }
}
