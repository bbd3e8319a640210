//! Gradients of products `y = x W^T`, with `W` in its stored form: `dx = dy W` and `dW = dy^T x`.

use std::borrow::Cow;

use crate::Result;
use crate::format::element::Element;
use crate::format::stored::Stored;
use crate::kernels::threads;

/// Decoded values of a tile of `W`, which all cores share.
const TILE_VALUES: usize = 1 << 21;

/// Rows that a core decodes at a time.
const DECODED_ROWS: usize = 64;

/// Computes `dx = dy W` `[n, n_in]` from `dy` `[n, n_out]` and `weight` `[n_out, n_in]`, of which a tile of rows is decoded
/// at a time.
///
/// # Errors
/// Those of [`Stored::rows`].
pub fn of_input(dy: &[f32], weight: &Stored, [n_out, n_in]: [usize; 2]) -> Result<Vec<f32>> {
    let n = dy.len() / n_out.max(1);
    let mut dx = vec![0.0; n * n_in];
    let tile = (TILE_VALUES / n_in.max(1)).clamp(1, n_out.max(1));
    for first in (0..n_out).step_by(tile) {
        let count = tile.min(n_out - first);
        let rows = decoded(weight, first, count, n_in)?;
        add_product(dy, [n, n_out], [first, count], &rows, n_in, &mut dx);
    }
    Ok(dx)
}

/// Decodes rows of `weight` on all cores.
fn decoded(weight: &Stored, first: usize, count: usize, width: usize) -> Result<Cow<'_, [f32]>> {
    if weight.element == Element::F32 || count <= DECODED_ROWS {
        return weight.rows(first, count, width);
    }
    let piece = |place: usize| {
        let start = place * DECODED_ROWS;
        weight.rows(first + start, DECODED_ROWS.min(count - start), width)
    };
    let pieces = threads::map_all(count.div_ceil(DECODED_ROWS), piece);
    let mut rows = Vec::with_capacity(count * width);
    for piece in pieces {
        rows.extend_from_slice(&piece?);
    }
    Ok(Cow::Owned(rows))
}

/// Adds to `dx` `[n, n_in]` the product of the columns `first .. first + count` of `dy` `[n, n_out]` with `rows`
/// `[count, n_in]`.
fn add_product(
    dy: &[f32],
    [n, n_out]: [usize; 2],
    [first, count]: [usize; 2],
    rows: &[f32],
    n_in: usize,
    dx: &mut [f32],
) {
    #[cfg(target_arch = "wasm32")]
    {
        let mut columns = vec![0.0; count * n];
        for (place, row) in dy.chunks(n_out.max(1)).enumerate() {
            let own = row.get(first..first + count).unwrap_or_default();
            columns.iter_mut().skip(place).step_by(n.max(1)).zip(own).for_each(|(to, from)| *to = *from);
        }
        crate::kernels::panels::add_transposed_product([&columns, rows], [n, n_in], false, dx);
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use faer::linalg::matmul::matmul;
        use faer::{Accum, MatMut, MatRef};

        let dy = MatRef::from_row_major_slice(dy, n, n_out).subcols(first, count);
        let rows = MatRef::from_row_major_slice(rows, count, n_in);
        let dx = MatMut::from_row_major_slice_mut(dx, n, n_in);
        matmul(dx, Accum::Add, dy, rows, 1.0, threads::whole_machine());
    }
}

/// Computes `dW = dy^T x` `[n_out, n_in]` from `dy` `[n, n_out]` and `x` `[n, n_in]`.
pub fn of_weight(dy: &[f32], x: &[f32], [n_out, n_in]: [usize; 2]) -> Vec<f32> {
    let mut dw = vec![0.0; n_out * n_in];
    #[cfg(target_arch = "wasm32")]
    crate::kernels::panels::add_transposed_product([dy, x], [n_out, n_in], false, &mut dw);
    #[cfg(not(target_arch = "wasm32"))]
    {
        use faer::linalg::matmul::matmul;
        use faer::{Accum, MatMut, MatRef};

        let n = x.len() / n_in.max(1);
        let (dy, x) = (MatRef::from_row_major_slice(dy, n, n_out), MatRef::from_row_major_slice(x, n, n_in));
        let dw = MatMut::from_row_major_slice_mut(&mut dw, n_out, n_in);
        matmul(dw, Accum::Replace, dy.transpose(), x, 1.0, threads::whole_machine());
    }
    dw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blocks::BlockType;
    use crate::format::element::{decode, encode};
    use crate::kernels::backward::differences::{assert_close, gradient, noise, single};

    #[test]
    fn products_go_back_through_every_kind_of_storage() {
        for element in
            [Element::F32, Element::Bf16, Element::Block(BlockType::Q4_1), Element::Block(BlockType::Q4K)]
        {
            for [n, n_in, n_out] in [[1, 256, 3], [3, 256, 70], [2, 512, 5]] {
                let weight = encode(element, &single(&noise(n_out * n_in, 57))).unwrap();
                let stored = Stored { element, bytes: weight };
                let w: Vec<f64> =
                    decode("w", element, &stored.bytes).unwrap().iter().map(|w| f64::from(*w)).collect();
                let (x, dy) = (noise(n * n_in, 31), noise(n * n_out, 83));
                let loss = |x: &[f64], w: &[f64]| -> f64 {
                    let at = |i: usize, j: usize| {
                        (0..n_in).map(|k| x[i * n_in + k] * w[j * n_in + k]).sum::<f64>()
                    };
                    (0..n * n_out).map(|i| dy[i] * at(i / n_out, i % n_out)).sum()
                };
                let dx = of_input(&single(&dy), &stored, [n_out, n_in]).unwrap();
                assert_close(&format!("dx, {element}"), &dx, &gradient(&x, |x| loss(x, &w)), 1e-5);
                if n_out < 10 {
                    let dw = of_weight(&single(&dy), &single(&x), [n_out, n_in]);
                    assert_close(&format!("dW, {element}"), &dw, &gradient(&w, |w| loss(&x, w)), 1e-5);
                }
            }
        }
    }

    /// Tiles of fewer rows than the matrix has, of which each core decodes some.
    #[test]
    fn tiles_add_up_to_the_whole() {
        let (n, n_in, n_out) = (3, 1 << 14, 200);
        let weights: Vec<f32> =
            (0..n_out * n_in).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect();
        let stored = Stored {
            element: Element::Block(BlockType::Q8_0),
            bytes: encode(Element::Block(BlockType::Q8_0), &weights).unwrap(),
        };
        let w = stored.to_f32().unwrap();
        let dy = single(&noise(n * n_out, 31));
        let exact: Vec<f64> = (0..n * n_in)
            .map(|i| {
                (0..n_out)
                    .map(|j| f64::from(dy[i / n_in * n_out + j]) * f64::from(w[j * n_in + i % n_in]))
                    .sum()
            })
            .collect();
        assert_close("dx", &of_input(&dy, &stored, [n_out, n_in]).unwrap(), &exact, 1e-5);
    }
}
