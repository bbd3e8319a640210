//! The table of the embeddings of tokens that are a part of the inputs of layers: of each row, a slice belongs to a layer.
//! It may be the largest tensor of a model and is never held: single slices of some rows are read, or a piece of rows.

use crate::Result;
use crate::error::OrInternal;
use crate::format::element::{Element, encode};
use crate::format::stored::Stored;
use crate::maths::mix::{Accumulator, Mix};

/// A run of columns of rows, as the file holds them: whole blocks that cover the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// First byte in a row.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Number of values before the first column.
    before: usize,
}

impl Columns {
    /// Finds `count` columns from `first` on in rows of `element`.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if they are too many to be counted.
    pub fn of(element: Element, first: usize, count: usize) -> Result<Self> {
        let block = element.block().0.max(1) as usize;
        let (begin, end) = (first / block * block, (first + count).next_multiple_of(block));
        let bytes = |values: usize| element.bytes(values as u64).or_internal("columns are no whole blocks");
        Ok(Self { offset: bytes(begin)?, bytes: bytes(end - begin)?, before: first - begin })
    }

    /// Decodes `count` columns from the bytes of a row that these columns are of.
    ///
    /// # Errors
    /// Those of [`Stored::to_f32`], and [`Error::Internal`](crate::Error::Internal) if bytes are missing.
    pub fn decode(self, element: Element, bytes: &[u8], count: usize) -> Result<Vec<f32>> {
        let values = Stored { element, bytes: bytes.to_vec() }.to_f32()?;
        let found = values.get(self.before..self.before + count);
        found.map(<[f32]>::to_vec).or_internal("columns of a row are missing")
    }
}

/// Makes the slices of `width` values of one row that belong to new layers: each is mixed of those of the original as one of
/// `mixes` says, and stored as `to`. `row` are the bytes of the row, stored as `from`. A slice that is a copy, of the same
/// type and of whole blocks, is the original's byte for byte.
///
/// # Errors
/// Those of [`Columns::of`], [`Columns::decode`], [`Accumulator::add`] and [`encode`].
pub fn sliced(row: &[u8], [from, to]: [Element; 2], mixes: &[Mix], width: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for mix in mixes {
        let slice = |layer: usize| -> Result<(Columns, &[u8])> {
            let columns = Columns::of(from, layer * width, width)?;
            let (first, length) = (columns.offset as usize, columns.bytes as usize);
            Ok((columns, row.get(first..first + length).or_internal("a row of a table is too short")?))
        };
        if let (Some(layer), true) = (mix.unchanged(), from == to && from.bytes(width as u64).is_some()) {
            bytes.extend_from_slice(slice(layer)?.1);
            continue;
        }
        let mut sum = Accumulator::default();
        for (layer, weight) in mix.parts() {
            let (columns, stored) = slice(*layer)?;
            sum.add("of embeddings of layers", *weight, columns.decode(from, stored, width)?)?;
        }
        bytes.extend(encode(to, &sum.finish()?)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blocks::BlockType;

    fn row(values: usize) -> Vec<f32> {
        (0..values).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// Slices of whole blocks are copied, others are decoded; mixes are those of the decoded values.
    #[test]
    fn slices_are_cut_and_mixed() {
        let [q8, q4] = [BlockType::Q8_0, BlockType::Q4_0].map(Element::Block);
        for (from, width, n) in
            [(Element::F32, 3, 4), (Element::Bf16, 8, 4), (q8, 32, 3), (q4, 64, 2), (q8, 8, 8)]
        {
            let stored = Stored { element: from, bytes: encode(from, &row(width * n)).unwrap() };
            let all = stored.to_f32().unwrap();
            let part = |layer: usize| &all[layer * width..(layer + 1) * width];
            let pair = Mix::original(0).merge(&Mix::original(1), 0.25);
            let mixes = [Mix::original(n - 1), pair, Mix::original(0)];
            let bytes = sliced(&stored.bytes, [from, Element::F32], &mixes, width).unwrap();
            let new = Stored { element: Element::F32, bytes }.to_f32().unwrap();
            assert_eq!(&new[..width], part(n - 1), "{from}");
            for (i, value) in new[width..2 * width].iter().enumerate() {
                let mixed = 0.25 * part(0)[i] + 0.75 * part(1)[i];
                assert!((value - mixed).abs() < 1e-6, "{from}: {value}, not {mixed}");
            }
            if width % 32 == 0 {
                let copied = sliced(&stored.bytes, [from; 2], &[Mix::original(1)], width).unwrap();
                let columns = Columns::of(from, width, width).unwrap();
                let first = columns.offset as usize;
                assert_eq!(copied, stored.bytes[first..first + columns.bytes as usize], "{from}");
            }
        }
    }
}
