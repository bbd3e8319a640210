//! Tensor elements: the three float types of model files, to `f32` and back.

use std::fmt;
use std::str::FromStr;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::{Error, Result};

/// A float type that model files store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Element {
    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }

    /// The type that represents the values of both: the more precise one, `F32` for `F16` with
    /// `BF16`, which do not contain each other.
    pub fn wider(self, other: Self) -> Self {
        if self == other { self } else { Element::F32 }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
        })
    }
}

impl FromStr for Element {
    type Err = Error;

    /// Accepts the names of safetensors headers and of the command line, in either case.
    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "f32" => Ok(Element::F32),
            "f16" => Ok(Element::F16),
            "bf16" => Ok(Element::Bf16),
            _ => Err(Error::Unsupported(format!(
                "element type {name} is not supported; F32, F16 and BF16 are"
            ))),
        }
    }
}

/// Decodes little-endian elements to `f32`, exactly.
///
/// # Errors
/// [`Error::Shape`] if the length of `bytes` is not a multiple of the element size,
/// [`Error::Numeric`] naming `tensor` and the first bad index if a value is NaN or infinite.
pub fn decode(tensor: &str, element: Element, bytes: &[u8]) -> Result<Vec<f32>> {
    if !bytes.len().is_multiple_of(element.size()) {
        return Err(Error::Shape(format!(
            "tensor {tensor}: {} bytes are not a whole number of {element} elements",
            bytes.len()
        )));
    }
    let values: Vec<f32> = match element {
        Element::F32 => {
            let words = bytes.as_chunks::<4>().0;
            words.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
        Element::F16 => {
            let mut values = vec![0.0; bytes.len() / 2];
            bits_from_le(bytes).reinterpret_cast::<f16>().convert_to_f32_slice(&mut values);
            values
        }
        Element::Bf16 => {
            let words = bytes.as_chunks::<2>().0;
            words.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)).collect()
        }
    };
    // No early exit, so that the pass is vectorised.
    if !values.iter().fold(true, |finite, x| finite & x.is_finite()) {
        return Err(not_finite(tensor, &values));
    }
    Ok(values)
}

fn not_finite(tensor: &str, values: &[f32]) -> Error {
    let index = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Error::Numeric(format!(
        "tensor {tensor}: element {index} is {}; the file is damaged or the model diverged in \
         training: use another copy",
        values.get(index).copied().unwrap_or(f32::NAN)
    ))
}

fn bits_from_le(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

/// Encodes `f32` values as little-endian elements, rounding to nearest, ties to even.
pub fn encode(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Element::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            halves.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        Element::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

/// Rounds `values` in place to what `element` can hold.
pub fn round(element: Element, values: &mut [f32]) {
    match element {
        Element::F32 => {}
        Element::F16 => values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        Element::Bf16 => values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
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
            assert_eq!(encode(element, &values), finite);
            let mut rounded = values.clone();
            round(element, &mut rounded);
            assert_eq!(rounded, values);
        }
    }

    #[test]
    fn nan_and_infinite_weights_are_named() {
        for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
            for element in [Element::F32, Element::F16, Element::Bf16] {
                let bytes = encode(element, &[0.0, 1.0, bad, f32::NAN]);
                let message = decode("layer.weight", element, &bytes).unwrap_err().to_string();
                assert!(message.contains("layer.weight: element 2"), "{message}");
                assert!(message.contains(shown), "{message}");
            }
        }
    }
}
