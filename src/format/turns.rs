//! Matrices whose rows lie in turns with those of others, as GPT-OSS holds its experts in Hugging Face files.
//!
//! | what | layout of `n` matrices `[rows, columns]` |
//! |---|---|
//! | floats | `[columns, rows n]`: column by column, of each column the first number of each matrix, then the second |
//! | MXFP4, blocks | `[rows n, columns / 32, 16]` bytes: the first row of each matrix, then the second |
//! | MXFP4, exponents | `[rows n, columns / 32]` bytes, likewise |
//!
//! A block of MXFP4 has two codes in each byte: those of weights `2j` and `2j + 1` in the low and the high half of byte
//! `j`. In [`BlockType::Mxfp4`](super::blocks::BlockType::Mxfp4), which is ggml's, the exponent is the first byte, and
//! byte `j` holds the codes of weights `j` and `j + 16`. Both have the same exponents and codes. Source:
//! `convert_moe_packed_tensors` of transformers.

use crate::error::OrInternal;
use crate::{Error, Result};

/// Weights of a block of MXFP4.
pub const MXFP4_WEIGHTS: u64 = 32;

/// Bytes of the codes of a block.
const CODES: usize = 16;

/// Takes matrix `turn` of `n`, with numbers of `width` bytes, out of `bytes` `[columns, rows n]`; the result is
/// `[rows, columns]`.
///
/// # Errors
/// [`Error::Internal`] if `bytes` are not whole columns.
pub fn taken_out(bytes: &[u8], [columns, n, turn]: [usize; 3], width: usize) -> Result<Vec<u8>> {
    let column = bytes.len() / columns.max(1);
    let rows = column / (n * width).max(1);
    check(bytes.len(), rows * columns * n * width)?;
    let mut out = Vec::with_capacity(bytes.len() / n.max(1));
    for row in 0..rows {
        let within = (row * n + turn) * width;
        for column_bytes in bytes.chunks(column.max(1)) {
            let number = column_bytes.get(within..within + width);
            out.extend_from_slice(number.or_internal("a number of a transposed matrix is missing")?);
        }
    }
    Ok(out)
}

/// Undoes [`taken_out`] for all `matrices` `[rows, columns]` together, with numbers of `width` bytes.
///
/// # Errors
/// [`Error::Internal`] if the matrices are not of one size.
pub fn put_together(matrices: &[&[u8]], columns: usize, width: usize) -> Result<Vec<u8>> {
    let size = matrices.first().map_or(0, |matrix| matrix.len());
    let row = columns * width;
    let rows = size / row.max(1);
    for matrix in matrices {
        check(matrix.len(), rows * row)?;
    }
    let mut out = Vec::with_capacity(size * matrices.len());
    for column in 0..columns {
        let within = column * width;
        for row in (0..rows).map(|place| place * row + within) {
            for matrix in matrices {
                let number = matrix.get(row..row + width);
                out.extend_from_slice(number.or_internal("a number of a transposed matrix is missing")?);
            }
        }
    }
    Ok(out)
}

/// Makes blocks of ggml's MXFP4, row-major, of matrix `turn` of `n`, of which `blocks` and `exponents` hold all rows in
/// turns; a row has `per_row` blocks.
///
/// # Errors
/// [`Error::Internal`] if there are not as many exponents as blocks.
pub fn blocks_taken_out(blocks: &[u8], exponents: &[u8], [per_row, n, turn]: [usize; 3]) -> Result<Vec<u8>> {
    check(blocks.len(), exponents.len() * CODES)?;
    let rows = blocks.chunks(per_row.max(1) * CODES).zip(exponents.chunks(per_row.max(1)));
    let mut out = Vec::with_capacity(exponents.len() / n.max(1) * (CODES + 1));
    for (blocks, exponents) in rows.skip(turn).step_by(n.max(1)) {
        for (codes, exponent) in blocks.as_chunks::<CODES>().0.iter().zip(exponents) {
            out.push(*exponent);
            out.extend(halves_apart(codes));
        }
    }
    Ok(out)
}

/// Undoes [`blocks_taken_out`] for all `matrices` together; returns the blocks and the exponents.
///
/// # Errors
/// [`Error::Internal`] if the matrices are not of one size.
pub fn blocks_put_together(matrices: &[&[u8]], per_row: usize) -> Result<[Vec<u8>; 2]> {
    let size = matrices.first().map_or(0, |matrix| matrix.len());
    let row = per_row.max(1) * (CODES + 1);
    for matrix in matrices {
        check(matrix.len(), size / row * row)?;
    }
    let (mut blocks, mut exponents) = (Vec::new(), Vec::new());
    for first in (0..size).step_by(row) {
        for matrix in matrices {
            let row = matrix.get(first..first + row).or_internal("a row of blocks is missing")?;
            for [exponent, codes @ ..] in row.as_chunks::<{ CODES + 1 }>().0 {
                exponents.push(*exponent);
                blocks.extend(in_pairs(codes));
            }
        }
    }
    Ok([blocks, exponents])
}

/// Returns code `i` of bytes in which two codes follow each other.
fn code_in_pairs(codes: &[u8; CODES], i: usize) -> u8 {
    codes.get(i / 2).map_or(0, |byte| byte >> (4 * (i % 2)) & 15)
}

/// Puts codes that follow each other in pairs into halves of bytes that are 16 codes apart.
fn halves_apart(codes: &[u8; CODES]) -> [u8; CODES] {
    std::array::from_fn(|j| code_in_pairs(codes, j) | code_in_pairs(codes, j + CODES) << 4)
}

/// Undoes [`halves_apart`].
fn in_pairs(codes: &[u8; CODES]) -> [u8; CODES] {
    let code = |i: usize| codes.get(i % CODES).map_or(0, |byte| byte >> (4 * (i / CODES)) & 15);
    std::array::from_fn(|j| code(2 * j) | code(2 * j + 1) << 4)
}

fn check(given: usize, expected: usize) -> Result<()> {
    match given == expected {
        true => Ok(()),
        false => Err(Error::internal(format!("{given} bytes of matrices in turns, not {expected}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::element::{Element, decode};

    #[test]
    fn matrices_are_taken_out_and_put_together() {
        // Two matrices of two rows and three columns, with numbers of one byte.
        let bytes = [1, 11, 4, 14, 2, 12, 5, 15, 3, 13, 6, 16];
        let first = taken_out(&bytes, [3, 2, 0], 1).unwrap();
        let second = taken_out(&bytes, [3, 2, 1], 1).unwrap();
        assert_eq!(
            (first.as_slice(), second.as_slice()),
            (&[1, 2, 3, 4, 5, 6][..], &[11, 12, 13, 14, 15, 16][..])
        );
        assert_eq!(put_together(&[&first, &second], 3, 1).unwrap(), bytes);
        assert_eq!(taken_out(&bytes, [3, 1, 0], 2).unwrap(), [1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16]);
        assert!(taken_out(&bytes, [5, 2, 0], 1).is_err());
    }

    #[test]
    fn blocks_have_the_same_numbers_in_both_layouts() {
        // Codes 0, 1, ... 15 and again, in pairs; exponent 127 is a factor of 1.
        let pairs: Vec<u8> = (0..16u8).map(|j| ((2 * j) & 15) | (((2 * j + 1) & 15) << 4)).collect();
        let blocks = [pairs.clone(), vec![0x21; 16], pairs.clone(), vec![0x43; 16]].concat();
        let exponents = [127, 128, 126, 129];
        let second = blocks_taken_out(&blocks, &exponents, [1, 2, 1]).unwrap();
        let first = blocks_taken_out(&blocks, &exponents, [1, 2, 0]).unwrap();
        let element = "MXFP4".parse::<Element>().unwrap();
        let numbers = decode("t", element, &first).unwrap();
        let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
        assert_eq!(numbers.len(), 64);
        for (i, number) in numbers.iter().enumerate() {
            assert_eq!(*number, e2m1[i % 16] * if i < 32 { 1.0 } else { 0.5 }, "{i}");
        }
        let numbers = decode("t", element, &second).unwrap();
        assert_eq!(numbers[..4], [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(numbers[32..36], [6.0, 8.0, 6.0, 8.0]);
        let [again, exponents_again] = blocks_put_together(&[&first, &second], 1).unwrap();
        assert_eq!((again, exponents_again.as_slice()), (blocks, &exponents[..]));
    }
}
