//! Element types of tensors (floats and quantisation blocks), and their conversion to and from `f32`.

use std::fmt;
use std::str::FromStr;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::blocks::BlockType;
use crate::{Error, Result};

/// Element type of a tensor: a float type or a type of quantisation blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper 16 bits of a binary32.
    Bf16,
    /// Quantisation blocks of the given type.
    Block(BlockType),
}

impl Element {
    /// All float types.
    pub const FLOATS: [Self; 3] = [Element::F32, Element::F16, Element::Bf16];

    /// Returns the weights per quantisation block and the bytes per block; a float counts as a block of one.
    pub fn block(self) -> (u64, u64) {
        match self {
            Element::F32 => (1, 4),
            Element::F16 | Element::Bf16 => (1, 2),
            Element::Block(block) => (block.weights() as u64, block.bytes() as u64),
        }
    }

    /// Returns the bytes that `values` values take; `None` if they are not a whole number of blocks or if 64
    /// bits cannot count the bytes.
    pub fn bytes(self, values: u64) -> Option<u64> {
        let (weights, bytes) = self.block();
        values.is_multiple_of(weights).then(|| (values / weights).checked_mul(bytes)).flatten()
    }

    /// Returns the number of values in the whole blocks of `bytes` bytes.
    pub fn values(self, bytes: u64) -> u64 {
        let (weights, size) = self.block();
        bytes / size * weights
    }

    /// Returns the more precise of two types: the float of a float and a block type, the more precise of two
    /// block types ([`BlockType::wider`]), and `F32` of two different floats, because `F16` and `BF16` do not
    /// contain each other.
    pub fn wider(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Element::Block(a), Element::Block(b)) => Element::Block(a.wider(b)),
            (float, Element::Block(_)) | (Element::Block(_), float) => float,
            _ => Element::F32,
        }
    }

    /// Returns the type in which computed values of this type are stored, in rows of `row` values, if no
    /// other type is asked for: the type itself if it is a float, else [`BlockType::stored_as`], or a type that fits
    /// ([`fitting`](Self::fitting)) if a row is not a whole number of blocks.
    pub fn storable(self, row: u64) -> Self {
        match self {
            Element::Block(block) => Element::Block(block.stored_as()).fitting(row),
            float => float,
        }
    }

    /// Returns this type, or, if a row of `row` values is not a whole number of its blocks, the type of smaller blocks
    /// that takes its place ([`BlockType::in_smaller_blocks`]), or else `F16`.
    pub fn fitting(self, row: u64) -> Self {
        let fits = |element: &Self| row.is_multiple_of(element.block().0);
        let smaller = match self {
            Element::Block(block) => block.in_smaller_blocks().map(Element::Block),
            _ => None,
        };
        Some(self).filter(fits).or(smaller.filter(fits)).unwrap_or(Element::F16)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
            Element::Block(block) => block.name(),
        })
    }
}

impl FromStr for Element {
    type Err = Error;

    /// Parses a type's name as in file headers and on the command line, ignoring case.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with all known names, for an unknown name.
    fn from_str(name: &str) -> Result<Self> {
        let float = Element::FLOATS.into_iter().find(|each| each.to_string().eq_ignore_ascii_case(name));
        let block = || name.parse::<BlockType>().ok().map(Element::Block);
        float.or_else(block).ok_or_else(|| {
            let known = Element::FLOATS.map(|each| each.to_string()).into_iter();
            let known: Vec<_> = known.chain(BlockType::ALL.map(|each| each.name().to_owned())).collect();
            Error::Unsupported(format!("type {name} is not supported; {} are", known.join(", ")))
        })
    }
}

/// Decodes a tensor's bytes to `f32`, exactly. `tensor` is its name in messages.
///
/// # Errors
/// [`Error::Shape`] if `bytes` is not a whole number of blocks; [`Error::Numeric`], with the tensor's name
/// and the index of the first such value, if a value is NaN or infinite.
pub fn decode(tensor: &str, element: Element, bytes: &[u8]) -> Result<Vec<f32>> {
    check_whole(tensor, element, bytes)?;
    let mut values = vec![0.0; element.values(bytes.len() as u64) as usize];
    decode_into(element, bytes, &mut values)?;
    // No early exit, so that the pass is vectorised.
    if !values.iter().fold(true, |finite, x| finite & x.is_finite()) {
        let index = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
        return Err(not_finite(tensor, index, values.get(index).copied().unwrap_or(f32::NAN)));
    }
    Ok(values)
}

/// Decodes a tensor's bytes into `values` without a check for NaN and infinity.
///
/// # Errors
/// [`Error::Shape`] if `bytes` does not hold exactly `values.len()` values.
pub fn decode_into(element: Element, bytes: &[u8], values: &mut [f32]) -> Result<()> {
    if element.bytes(values.len() as u64) != Some(bytes.len() as u64) {
        return Err(Error::Shape(format!(
            "{} bytes of {element} are not {} values",
            bytes.len(),
            values.len()
        )));
    }
    match element {
        Element::F32 => {
            for (value, word) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*word);
            }
        }
        Element::F16 => bits_from_le(bytes).reinterpret_cast::<f16>().convert_to_f32_slice(values),
        Element::Bf16 => {
            for (value, word) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
            }
        }
        Element::Block(block) => block.decode(bytes, values)?,
    }
    Ok(())
}

/// Checks a tensor's bytes for NaN and infinity. Of quantised blocks, only the scales and offsets are read.
///
/// # Errors
/// [`Error::Shape`] if `bytes` is not a whole number of blocks; [`Error::Numeric`], with the tensor's name
/// and the index of the first such value or block, if a value or a scale is NaN or infinite.
pub fn check_finite(tensor: &str, element: Element, bytes: &[u8]) -> Result<()> {
    check_whole(tensor, element, bytes)?;
    match element {
        Element::Block(block) => match block.first_not_finite(bytes) {
            None => Ok(()),
            Some(at) => Err(Error::Numeric(format!(
                "tensor {tensor}: the scale of block {at} is not a finite number; {DAMAGED}"
            ))),
        },
        // A float is NaN or infinite exactly if all bits of its exponent are set.
        Element::F32 if !any(bytes.as_chunks().0, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000) => {
            Ok(())
        }
        Element::F16 if !any(bytes.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00) => Ok(()),
        Element::Bf16 if !any(bytes.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80) => Ok(()),
        _ => decode(tensor, element, bytes).map(drop),
    }
}

/// Returns whether `bad` holds for any word. The loop has no early exit, so that it is vectorised.
fn any<const N: usize>(words: &[[u8; N]], bad: impl Fn([u8; N]) -> bool) -> bool {
    words.iter().fold(false, |found, word| found | bad(*word))
}

fn check_whole(tensor: &str, element: Element, bytes: &[u8]) -> Result<()> {
    let (weights, size) = element.block();
    if (bytes.len() as u64).is_multiple_of(size) {
        return Ok(());
    }
    let what = if weights == 1 { "elements" } else { "blocks" };
    let n = bytes.len();
    Err(Error::Shape(format!("tensor {tensor}: {n} bytes are not a whole number of {element} {what}")))
}

const DAMAGED: &str = "the file is damaged or the model diverged in training: use another copy";

fn not_finite(tensor: &str, index: usize, value: f32) -> Error {
    Error::Numeric(format!("tensor {tensor}: element {index} is {value}; {DAMAGED}"))
}

fn bits_from_le(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

/// Encodes `f32` values. Floats are rounded to nearest, ties to even.
///
/// # Errors
/// Those of [`BlockType::encode`]; float types never fail.
pub fn encode(element: Element, values: &[f32]) -> Result<Vec<u8>> {
    Ok(match element {
        Element::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Element::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            halves.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        Element::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Element::Block(block) => block.encode(values)?,
    })
}

/// Encodes the rows of a matrix whose columns have these importances, if they have any: see
/// [`BlockType::encode_weighted`]. Float types take no notice of importances.
///
/// # Errors
/// Those of [`BlockType::encode`] and [`BlockType::encode_weighted`].
pub fn encode_weighted(element: Element, values: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>> {
    match (element, importance) {
        (Element::Block(block), Some(importance)) => block.encode_weighted(values, importance),
        _ => encode(element, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_a_round_trip() {
        for element in [Element::F16, Element::Bf16] {
            let finite: Vec<u8> = (0..=u16::MAX)
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
                .chunks(2)
                .filter(|b| decode("t", element, b).is_ok())
                .flatten()
                .copied()
                .collect();
            assert!(finite.len() > 100_000);
            let values = decode("t", element, &finite).unwrap();
            assert_eq!(encode(element, &values).unwrap(), finite);
            assert!(check_finite("t", element, &finite).is_ok());
        }
    }

    #[test]
    fn nan_and_infinite_weights_are_named() {
        for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
            for element in [Element::F32, Element::F16, Element::Bf16] {
                let bytes = encode(element, &[0.0, 1.0, bad, f32::NAN]).unwrap();
                let errors = [
                    decode("layer.weight", element, &bytes).unwrap_err(),
                    check_finite("layer.weight", element, &bytes).unwrap_err(),
                ];
                for message in errors.map(|e| e.to_string()) {
                    assert!(message.contains("layer.weight: element 2"), "{message}");
                    assert!(message.contains(shown), "{message}");
                }
            }
        }
    }
}
