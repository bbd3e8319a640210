//! Codecs of quantisation blocks: the quantised types of GGUF files, to `f32` and back.
//!
//! A quantised tensor is a sequence of blocks. A block holds 32 or 256 weights of one row in a fixed number
//! of bytes. Decoding is exact: values equal those of gguf-py to the last bit. Encoding chooses the scales as
//! llama.cpp does with or without an importance matrix, and yields the same bytes.

mod encode;
mod fields;
pub mod grid;
mod k_decode;
mod k_encode;
mod k_layout;
mod lanes;
mod lookup;
mod lookup_encode;
mod search;
mod simple;

use std::fmt;
use std::str::FromStr;

use self::fields::halves_are_finite;
use crate::{Error, Result};

/// Quantised type of GGUF files: a fixed number of weights shares a block of a fixed number of bytes.
///
/// ```
/// use laminate::format::blocks::BlockType;
///
/// let weights = [0.5f32; 64];
/// let bytes = BlockType::Q8_0.encode(&weights)?;
/// assert_eq!(bytes.len(), 2 * BlockType::Q8_0.bytes());
/// let mut decoded = [0.0; 64];
/// BlockType::Q8_0.decode(&bytes, &mut decoded)?;
/// assert!(decoded.iter().all(|x| (x - 0.5).abs() < 1e-3));
/// # Ok::<(), laminate::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockType {
    /// 4-bit codes; a scale per 32 weights.
    Q4_0,
    /// 4-bit codes; a scale and an offset per 32 weights.
    Q4_1,
    /// 5-bit codes; a scale per 32 weights.
    Q5_0,
    /// 5-bit codes; a scale and an offset per 32 weights.
    Q5_1,
    /// 8-bit codes; a scale per 32 weights.
    Q8_0,
    /// 2-bit codes; a scale and an offset per 16 weights, 256 weights per block.
    Q2K,
    /// 3-bit codes; a scale per 16 weights, 256 weights per block.
    Q3K,
    /// 4-bit codes; a scale and an offset per 32 weights, 256 weights per block.
    Q4K,
    /// 5-bit codes; a scale and an offset per 32 weights, 256 weights per block.
    Q5K,
    /// 6-bit codes; a scale per 16 weights, 256 weights per block.
    Q6K,
    /// 4-bit indices into 16 unevenly spaced values; a scale per 32 weights.
    Iq4Nl,
    /// 4-bit indices into 16 unevenly spaced values; a scale per 32 weights, 256 weights per block.
    Iq4Xs,
    /// 4-bit floats; a power of two per 32 weights.
    Mxfp4,
}

struct Properties {
    name: &'static str,
    ggml_id: u32,
    weights: usize,
    bytes: usize,
    /// Position in the order of [`BlockType::wider`].
    rank: u8,
}

impl BlockType {
    /// All types, in the order of their numbers in GGUF files.
    pub const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
    ];

    const fn properties(self) -> Properties {
        let (name, ggml_id, weights, bytes, rank) = match self {
            Self::Q4_0 => ("Q4_0", 2, 32, 18, 3),
            Self::Q4_1 => ("Q4_1", 3, 32, 20, 4),
            Self::Q5_0 => ("Q5_0", 6, 32, 22, 8),
            Self::Q5_1 => ("Q5_1", 7, 32, 24, 9),
            Self::Q8_0 => ("Q8_0", 8, 32, 34, 12),
            Self::Q2K => ("Q2_K", 10, 256, 84, 0),
            Self::Q3K => ("Q3_K", 11, 256, 110, 1),
            Self::Q4K => ("Q4_K", 12, 256, 144, 7),
            Self::Q5K => ("Q5_K", 13, 256, 176, 10),
            Self::Q6K => ("Q6_K", 14, 256, 210, 11),
            Self::Iq4Nl => ("IQ4_NL", 20, 32, 18, 6),
            Self::Iq4Xs => ("IQ4_XS", 23, 256, 136, 5),
            Self::Mxfp4 => ("MXFP4", 39, 32, 17, 2),
        };
        Properties { name, ggml_id, weights, bytes, rank }
    }

    /// Returns the name as ggml spells it, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.properties().name
    }

    /// Returns the number of the type in GGUF files (`ggml_type`).
    pub const fn ggml_id(self) -> u32 {
        self.properties().ggml_id
    }

    /// Returns the type with the given number in GGUF files, or `None` if no supported type has it.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.ggml_id() == id)
    }

    /// Returns the weights per block.
    pub const fn weights(self) -> usize {
        self.properties().weights
    }

    /// Returns the bytes per block.
    pub const fn bytes(self) -> usize {
        self.properties().bytes
    }

    /// Returns the bits per weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.bytes() as f64 / self.weights() as f64
    }

    /// Returns the more precise of two types, which does not always have more bits per weight.
    ///
    /// The order is that of the RMS error of llama.cpp's encoding on normally distributed weights of RMS 1;
    /// weights of Laplace's and Student's distributions give the same order:
    ///
    /// ```text
    /// Q2_K 0.297  Q3_K 0.151  MXFP4 0.114  Q4_0 0.086  Q4_1 0.078  IQ4_XS 0.077  IQ4_NL 0.076
    /// Q4_K 0.071  Q5_0 0.043  Q5_1 0.038  Q5_K 0.036  Q6_K 0.018  Q8_0 0.005
    /// ```
    pub fn wider(self, other: Self) -> Self {
        if other.properties().rank > self.properties().rank { other } else { self }
    }

    /// Returns the type in which merged values of this type are stored again if no other type is asked for:
    /// the type itself, or a more precise type with as many weights per block (a row of 32-weight blocks need
    /// not be a multiple of 256).
    ///
    /// | type | stored as | because |
    /// |---|---|---|
    /// | Q2_K, Q3_K | Q4_K | files of these types are made with importances that they do not contain |
    /// | MXFP4 | Q5_0 | its steps next to zero are 1/12 of the largest value, the steps of Q4_0 1/8 |
    ///
    /// Without importances, the errors of Q2_K and Q3_K are four and two times that of Q4_K.
    pub fn stored_as(self) -> Self {
        match self {
            Self::Q2K | Self::Q3K => Self::Q4K,
            Self::Mxfp4 => Self::Q5_0,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Iq4Nl => self,
            Self::Q8_0 | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => self,
        }
    }

    /// Returns the type with blocks of 32 weights that takes the place of a type with blocks of 256 where a row is not a
    /// whole number of these, as in `llama-quantize` (`tensor_type_fallback` in llama.cpp's `src/llama-quant.cpp`); `None`
    /// for a type whose blocks are no larger than 32.
    pub fn in_smaller_blocks(self) -> Option<Self> {
        match self {
            Self::Q2K | Self::Q3K => Some(Self::Q4_0),
            Self::Iq4Xs => Some(Self::Iq4Nl),
            Self::Q4K => Some(Self::Q5_0),
            Self::Q5K => Some(Self::Q5_1),
            Self::Q6K => Some(Self::Q8_0),
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl | Self::Mxfp4 => {
                None
            }
        }
    }

    /// Decodes whole blocks into `out`.
    ///
    /// Values equal those of gguf-py, bit for bit. Any bytes can be decoded; if a scale is not finite,
    /// neither are the values of its block (see [`first_not_finite`](Self::first_not_finite)).
    ///
    /// # Errors
    /// [`Error::Shape`] if `bytes` is not a whole number of blocks or `out` does not have exactly their
    /// number of weights.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        let blocks = bytes.len() / self.bytes();
        if !bytes.len().is_multiple_of(self.bytes())
            || !out.len().is_multiple_of(self.weights())
            || out.len() / self.weights() != blocks
        {
            return Err(Error::Shape(format!(
                "{} bytes are not the {} blocks ({} bytes for {} weights) of {} weights",
                bytes.len(),
                self,
                self.bytes(),
                self.weights(),
                out.len()
            )));
        }
        match self {
            Self::Q4_0 => decode_each(bytes, out, simple::decode_q4_0),
            Self::Q4_1 => decode_each(bytes, out, simple::decode_q4_1),
            Self::Q5_0 => decode_each(bytes, out, simple::decode_q5_0),
            Self::Q5_1 => decode_each(bytes, out, simple::decode_q5_1),
            Self::Q8_0 => decode_each(bytes, out, simple::decode_q8_0),
            Self::Q2K => decode_each(bytes, out, k_decode::decode_q2_k),
            Self::Q3K => decode_each(bytes, out, k_decode::decode_q3_k),
            Self::Q4K => decode_each(bytes, out, k_decode::decode_q4_k),
            Self::Q5K => decode_each(bytes, out, k_decode::decode_q5_k),
            Self::Q6K => decode_each(bytes, out, k_decode::decode_q6_k),
            Self::Iq4Nl => decode_each(bytes, out, lookup::decode_iq4_nl),
            Self::Iq4Xs => decode_each(bytes, out, lookup::decode_iq4_xs),
            Self::Mxfp4 => decode_each(bytes, out, lookup::decode_mxfp4),
        }
        Ok(())
    }

    /// Returns the index of the first whole block with an infinite or NaN scale or offset. Only scales and
    /// offsets are read. If the result is `None`, every decoded value is finite.
    ///
    /// An exponent of MXFP4 with which the largest code overflows counts as infinite.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Q4_0 | Self::Iq4Nl => first_bad::<18>(bytes, halves_are_finite::<18, 0, 0>),
            Self::Q4_1 => first_bad::<20>(bytes, halves_are_finite::<20, 0, 2>),
            Self::Q5_0 => first_bad::<22>(bytes, halves_are_finite::<22, 0, 0>),
            Self::Q5_1 => first_bad::<24>(bytes, halves_are_finite::<24, 0, 2>),
            Self::Q8_0 => first_bad::<34>(bytes, halves_are_finite::<34, 0, 0>),
            Self::Q2K => first_bad::<84>(bytes, halves_are_finite::<84, 80, 82>),
            Self::Q3K => first_bad::<110>(bytes, halves_are_finite::<110, 108, 108>),
            Self::Q4K => first_bad::<144>(bytes, halves_are_finite::<144, 0, 2>),
            Self::Q5K => first_bad::<176>(bytes, halves_are_finite::<176, 0, 2>),
            Self::Q6K => first_bad::<210>(bytes, halves_are_finite::<210, 208, 208>),
            Self::Iq4Xs => first_bad::<136>(bytes, halves_are_finite::<136, 0, 0>),
            Self::Mxfp4 => first_bad::<17>(bytes, lookup::mxfp4_is_finite),
        }
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BlockType {
    type Err = Error;

    /// Parses ggml's name of a type, ignoring case.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with all known names, for an unknown name.
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            Error::Unsupported(format!("quantised type {name} is not supported; {} are", names.join(", ")))
        })
    }
}

fn decode_each<const B: usize, const W: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; W]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

fn first_bad<const B: usize>(bytes: &[u8], is_finite: impl Fn(&[u8; B]) -> bool) -> Option<usize> {
    bytes.as_chunks().0.iter().position(|block| !is_finite(block))
}
