//! Row order of the query and key projections, which differs between GGUF files and the arithmetic.

use crate::{Error, Result};

/// Order of the rows of a rotated (query or key) projection within a head of `2 n` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Row `j` is rotated together with row `j + n`, as in transformers.
    Halves,
    /// Row `2 j` is rotated together with row `2 j + 1`, as in llama.cpp.
    Pairs,
}

/// Reorders the rows of a `[heads * head_dim, width]` tensor from the other [`RowOrder`] to `to`, head by
/// head. A row is a whole number of quantisation blocks, so quantised weights are moved without being
/// decoded.
///
/// # Errors
/// [`Error::Shape`] if `bytes` are not a whole number of equal rows, if `heads` or `head_dim` is zero, or if
/// `head_dim` is odd.
pub fn reorder(bytes: &[u8], heads: usize, head_dim: usize, to: RowOrder) -> Result<Vec<u8>> {
    let n_rows = heads * head_dim;
    if n_rows == 0 || !bytes.len().is_multiple_of(n_rows) || !head_dim.is_multiple_of(2) {
        return Err(Error::Shape(format!("{} bytes are not {n_rows} rows", bytes.len())));
    }
    let row = bytes.len() / n_rows;
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks(head_dim * row) {
        for place in 0..head_dim {
            let from = match to {
                RowOrder::Halves => 2 * (place % half) + place / half,
                RowOrder::Pairs => place / 2 + half * (place % 2),
            };
            out.extend_from_slice(head.get(from * row..(from + 1) * row).unwrap_or_default());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_halves_undo_each_other() {
        // Two heads of four one-byte rows: in the order `Halves` (0 1 2 3), row j is rotated with row j + 2.
        let halves: Vec<u8> = (0..8).collect();
        let pairs = reorder(&halves, 2, 4, RowOrder::Pairs).unwrap();
        assert_eq!(pairs, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(reorder(&pairs, 2, 4, RowOrder::Halves).unwrap(), halves);
        assert!(reorder(&halves, 3, 4, RowOrder::Pairs).is_err());
    }
}
