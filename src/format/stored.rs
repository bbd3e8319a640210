//! A tensor's values in the bytes in which a file holds them.

use std::borrow::Cow;

use super::element::{Element, decode_into};
use crate::{Error, Result};

/// A tensor's bytes as they are stored, rows in the engine's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How they are stored.
    pub element: Element,
    /// Row-major.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Values as they are.
    pub fn from_f32(values: &[f32]) -> Self {
        Self { element: Element::F32, bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.element.values(self.bytes.len() as u64) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All values; for small tensors such as norms.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bytes are no whole number of blocks.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.rows(0, self.len(), 1).map(Cow::into_owned)
    }

    /// Rows `first .. first + count` of `width` values; borrowed where they are stored as they are used.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows that are no whole number of blocks, or that are not there.
    pub fn rows(&self, first: usize, count: usize, width: usize) -> Result<Cow<'_, [f32]>> {
        let bytes = self.row_bytes(first, count, width)?;
        if self.element == Element::F32
            && cfg!(target_endian = "little")
            && bytes.len() == 4 * count * width
            && let Ok(values) = bytemuck::try_cast_slice(bytes)
        {
            return Ok(Cow::Borrowed(values));
        }
        let mut values = vec![0.0; count * width];
        decode_into(self.element, bytes, &mut values)?;
        Ok(Cow::Owned(values))
    }

    /// The bytes of rows `first .. first + count` of `width` values.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows that are no whole number of blocks, or that are not there.
    pub fn row_bytes(&self, first: usize, count: usize, width: usize) -> Result<&[u8]> {
        let at = |row: usize| self.element.bytes((row * width) as u64).and_then(|n| usize::try_from(n).ok());
        let range = at(first).zip(at(first + count)).map(|(start, end)| start..end);
        range.and_then(|range| self.bytes.get(range)).ok_or_else(|| {
            Error::Shape(format!(
                "{count} rows of {width} from row {first} are not among {} bytes of {}",
                self.bytes.len(),
                self.element
            ))
        })
    }
}
