//! GPTQ on the grids of quantisation blocks: scales and offsets are those that encoding finds, and codes are chosen such that
//! products with given inputs change little.

use super::{Compensated, Curvature, ROWS, compensated};
use crate::error::OrInternal;
use crate::format::blocks::BlockType;
use crate::format::blocks::grid::{Grid, Gridded};
use crate::format::element::{Element, decode_into};
use crate::kernels::threads;
use crate::{Error, Result};

/// Encodes a matrix of `rows` rows as `block`, such that `tr(D H D')` is small, where `D` is what encoding changes and `H` the
/// damped Gram matrix of `curvature`. `read` returns rows of the matrix, row-major, given the first and their number, and
/// `encode` their plain encoding, given the first and their numbers.
///
/// The plain encoding has the scales and offsets. These stay, and the codes are chosen column by column, each for its weight
/// made up for the errors of the columns before it (see [`gptq`](super::gptq())). A row for which that costs more than its
/// plain encoding keeps the plain one.
///
/// Takes `2 rows columns^2` multiply-adds besides the encoding, and memory for 64 rows on each thread. Returns the blocks.
///
/// # Errors
/// Those of `read` and `encode`; [`Error::Internal`] if the rows have another width than the inputs; [`Error::Shape`] if they
/// are encoded to another number of blocks; [`Error::Limit`] if there is no memory.
pub fn gptq_blocks(
    block: BlockType,
    rows: usize,
    read: impl Fn(usize, usize) -> Result<Vec<f32>> + Send + Sync,
    encode: impl Fn(usize, &[f32]) -> Result<Vec<u8>> + Send + Sync,
    curvature: &Curvature,
) -> Result<Vec<u8>> {
    let pieces = threads::map_all(rows.div_ceil(ROWS), |piece| {
        let first = piece * ROWS;
        let count = ROWS.min(rows - first);
        let weights = read(first, count)?;
        if weights.len() != count * curvature.columns() {
            return Err(Error::internal("a Gram matrix has another width than the weights"));
        }
        some_rows(block, encode(first, &weights)?, &weights, curvature)
    });
    Ok(pieces.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn some_rows(
    block: BlockType,
    mut bytes: Vec<u8>,
    weights: &[f32],
    curvature: &Curvature,
) -> Result<Vec<u8>> {
    let columns = curvature.columns();
    let mut plain = vec![0.0; weights.len()];
    decode_into(Element::Block(block), &bytes, &mut plain)?;
    let changes: Vec<f32> = weights.iter().zip(&plain).map(|(w, q)| w - q).collect();
    let Gridded { grids, codes } = block.gridded(&bytes)?;
    let width = block.weights_per_grid();
    // One group: the grids of a row are known from the start.
    let grid = |row: &usize, column: usize, target: f32| -> Result<(u8, f32)> {
        let place = row * columns + column;
        let grid: &Grid = grids.get(place / width).or_internal("a grid is missing")?;
        let own = codes.get(place).copied().or_internal("a code is missing")?;
        let code = grid.nearest(target).unwrap_or(own);
        Ok((code, grid.number(code)))
    };
    let Compensated { codes, costs, .. } = compensated(weights, columns, curvature, |row, _| Ok(row), grid)?;
    let row_bytes = columns / block.weights() * block.bytes();
    let rows = bytes.chunks_exact_mut(row_bytes.max(1)).zip(codes.chunks_exact(columns.max(1)));
    for ((bytes, codes), (plain, own)) in rows.zip(curvature.costs(&changes)?.into_iter().zip(costs)) {
        if own < plain {
            block.put_codes(codes, bytes)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Normal;
    use super::super::tests::{draws, inverse_of, problem};
    use super::*;
    use crate::format::element::encode_weighted;

    fn decoded(block: BlockType, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / block.bytes() * block.weights()];
        block.decode(bytes, &mut values).unwrap();
        values
    }

    fn encoded(block: BlockType, importances: Option<&[f32]>, weights: &[f32], gram: &Normal) -> Vec<u8> {
        let columns = gram.n_regressors();
        let read =
            |first: usize, count: usize| Ok(weights[first * columns..(first + count) * columns].to_vec());
        let encode = |_, weights: &[f32]| encode_weighted(Element::Block(block), weights, importances);
        let curvature = Curvature::of(gram.clone()).unwrap();
        gptq_blocks(block, weights.len() / columns, read, encode, &curvature).unwrap()
    }

    /// `H` with what is added to its diagonal, in `f64`.
    fn damped(gram: &Normal) -> Vec<Vec<f64>> {
        let n = gram.n_regressors();
        let of = |i, j| f64::from(gram.gram(i, j).unwrap());
        let mean = (0..n).map(|i| of(i, i)).sum::<f64>() / n as f64;
        (0..n).map(|i| (0..n).map(|j| of(i, j) + if i == j { 0.01 * mean } else { 0.0 }).collect()).collect()
    }

    /// `d H d'` of each row by the definition.
    fn costs(h: &[Vec<f64>], weights: &[f32], numbers: &[f32]) -> Vec<f64> {
        let n = h.len();
        let row = |(weights, numbers): (&[f32], &[f32])| {
            let d: Vec<f64> = weights.iter().zip(numbers).map(|(w, q)| f64::from(w - q)).collect();
            (0..n).map(|i| (0..n).map(|j| d[i] * h[i][j] * d[j]).sum::<f64>()).sum()
        };
        weights.chunks(n).zip(numbers.chunks(n)).map(row).collect()
    }

    /// Codes by the formula of GPTQ on the grids of the plain encoding, with the inverse of what is left of `h` in `f64`, from
    /// which each column is eliminated once it is rounded.
    fn naive(block: BlockType, importances: Option<&[f32]>, weights: &[f32], h: &[Vec<f64>]) -> Vec<u8> {
        let n = h.len();
        let plain = encode_weighted(Element::Block(block), weights, importances).unwrap();
        let Gridded { grids, mut codes } = block.gridded(&plain).unwrap();
        let mut inverse = inverse_of(h.to_vec());
        let mut w: Vec<f64> = weights.iter().map(|x| f64::from(*x)).collect();
        for i in 0..n {
            for (row, w) in w.chunks_mut(n).enumerate() {
                let place = row * n + i;
                let grid = grids[place / block.weights_per_grid()];
                codes[place] = grid.nearest(w[i] as f32).unwrap_or(codes[place]);
                let error = (w[i] - f64::from(grid.number(codes[place]))) / inverse[i][i];
                for j in i..n {
                    w[j] -= error * inverse[i][j];
                }
            }
            let own = inverse[i].clone();
            for (j, row) in inverse.iter_mut().enumerate().skip(i) {
                let factor = own[j] / own[i];
                row.iter_mut().zip(&own).for_each(|(x, o)| *x -= factor * o);
            }
        }
        codes
    }

    #[test]
    fn codes_are_those_of_the_formula_and_never_cost_more_than_plain_ones() {
        let mut better = 0;
        for block in BlockType::ALL {
            let (rows, columns) = (3, block.weights().max(64));
            let (weights, gram) = problem(11, rows, columns);
            let importances: Vec<f32> = (0..columns).map(|i| gram.gram(i, i).unwrap()).collect();
            let h = damped(&gram);
            for importances in [None, Some(importances.as_slice())] {
                let plain = encode_weighted(Element::Block(block), &weights, importances).unwrap();
                let ours = encoded(block, importances, &weights, &gram);
                let [of_ours, of_plain] =
                    [&ours, &plain].map(|bytes| costs(&h, &weights, &decoded(block, bytes)));
                for (ours, plain) in of_ours.iter().zip(&of_plain) {
                    assert!(*ours <= plain * (1.0 + 1e-4), "{block}: {ours}, plain {plain}");
                }
                let [of_ours, of_plain] = [of_ours, of_plain].map(|costs| costs.iter().sum::<f64>());
                better += usize::from(of_ours < 0.9 * of_plain);
                let theirs = naive(block, importances, &weights, &h);
                let [ours, plain] = [&ours, &plain].map(|bytes| block.gridded(bytes).unwrap().codes);
                let rows = ours.chunks(columns).zip(plain.chunks(columns)).zip(theirs.chunks(columns));
                let rounded: Vec<_> = rows.filter(|((ours, plain), _)| ours != plain).collect();
                let pairs = rounded.iter().flat_map(|((ours, _), theirs)| ours.iter().zip(*theirs));
                let differ = pairs.filter(|(a, b)| a != b).count();
                // A weight may lie halfway between two codes, and changes those that follow it.
                assert!(
                    differ * 50 <= rounded.len() * columns,
                    "{block}: {differ} in {} rows",
                    rounded.len()
                );
            }
        }
        // What a grid does not reach cannot be made up for.
        assert!(better * 2 > BlockType::ALL.len(), "{better}");
    }

    /// Inputs that are not correlated leave nothing to make up for, and then the plain codes are nearest already, but where
    /// an encoder stores others.
    #[test]
    fn no_row_costs_more_where_inputs_are_not_correlated() {
        let columns = 256;
        let mut draw = draws(5);
        let weights: Vec<f32> = (0..70 * columns).map(|_| draw()).collect();
        let mut gram = Normal::new(columns, 0).unwrap();
        for i in 0..columns {
            let x: Vec<f32> = (0..columns).map(|j| if i == j { 1.0 + draw().abs() } else { 0.0 }).collect();
            gram.add(&x, &[], &[1.0]).unwrap();
        }
        let h = damped(&gram);
        for block in BlockType::ALL {
            let plain = block.encode(&weights).unwrap();
            let ours = encoded(block, None, &weights, &gram);
            let [of_ours, of_plain] =
                [&ours, &plain].map(|bytes| costs(&h, &weights, &decoded(block, bytes)));
            for (ours, plain) in of_ours.iter().zip(&of_plain) {
                assert!(*ours <= plain * (1.0 + 1e-5), "{block}: {ours}, plain {plain}");
            }
            let differ = ours.iter().zip(&plain).filter(|(a, b)| a != b).count();
            assert!(differ * 10 <= plain.len(), "{block}: {differ} of {}", plain.len());
        }
    }

    #[test]
    fn scales_stay_and_zeros_stay_zeros() {
        for block in BlockType::ALL {
            let columns = block.weights().max(64);
            let (weights, gram) = problem(3, 2, columns);
            let plain = block.gridded(&block.encode(&weights).unwrap()).unwrap().grids;
            assert_eq!(
                block.gridded(&encoded(block, None, &weights, &gram)).unwrap().grids,
                plain,
                "{block}"
            );
            let zeros = vec![0.0; 2 * columns];
            assert!(
                decoded(block, &encoded(block, None, &zeros, &gram)).iter().all(|x| *x == 0.0),
                "{block}"
            );
        }
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let (_, gram) = problem(3, 1, 64);
        let curvature = Curvature::of(gram).unwrap();
        let encode = |_, weights: &[f32]| BlockType::Q4_0.encode(weights);
        let short = |_, _| Ok(vec![0.5; 32]);
        let refused = gptq_blocks(BlockType::Q4_0, 1, short, encode, &curvature);
        assert!(matches!(refused, Err(Error::Internal(_))));
        let (read, few) =
            (|_, _| Ok(vec![0.5; 64]), |_, weights: &[f32]| BlockType::Q4_0.encode(&weights[32..]));
        assert!(matches!(gptq_blocks(BlockType::Q4_0, 1, read, few, &curvature), Err(Error::Shape(_))));
    }
}
