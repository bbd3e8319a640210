//! Products `x W^T` on the CPU, with `W` in its stored form.
//!
//! Rows of `W` are decoded a tile at a time, so that a quantised matrix never exists in `f32` as a whole, and
//! each tile is multiplied while it is in the cache. Native code multiplies by faer on all cores, WebAssembly
//! by the kernel of [`panels`](crate::kernels::panels).

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
    let multiply = {
        let packed = crate::kernels::panels::Packed::new(x, n_in);
        move |weight: &Stored, n_out| on_one_thread(&packed, weight, n_out)
    };
    #[cfg(not(target_arch = "wasm32"))]
    let multiply = |weight: &Stored, n_out| native::on_all_cores(x, n_in, weight, n_out);
    weights.iter().map(|(weight, n_out)| multiply(weight, *n_out)).collect()
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

/// Multiplies by panels on one thread, as WebAssembly does.
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

    #[test]
    fn rows_that_are_not_there_are_an_error() {
        let weight = Stored::from_f32(&[0.0; 8]);
        assert!(weight.rows(1, 2, 4).is_err());
        let block = Stored { element: Element::Block(BlockType::Q8_0), bytes: vec![0; 34] };
        assert!(block.rows(0, 1, 16).is_err());
    }
}
