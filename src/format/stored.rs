//! Tensor values in their stored form: the bytes that a file holds.

use std::borrow::Cow;

use super::element::{Element, decode_into};
use crate::{Error, Result};

/// A tensor's values in their stored form, row-major, with rows in the engine's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Element type.
    pub element: Element,
    /// Encoded values, row-major.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Stores `f32` values without conversion.
    pub fn from_f32(values: &[f32]) -> Self {
        Self { element: Element::F32, bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.element.values(self.bytes.len() as u64) as usize
    }

    /// Returns whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Decodes all values; meant for small tensors such as norm weights.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bytes are not a whole number of blocks.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.rows(0, self.len(), 1).map(Cow::into_owned)
    }

    /// Decodes rows `first .. first + count` of `width` values each, row-major. Values stored as `f32` are
    /// borrowed where the machine's byte order and alignment allow.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows do not start and end at block boundaries, or exceed the tensor.
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

    /// Returns the stored bytes of rows `first .. first + count` of `width` values each.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows do not start and end at block boundaries, or exceed the tensor.
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
