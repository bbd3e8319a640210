//! Encoding of whole tensors: what is refused, and which encoder gets which blocks.

use super::{BlockType, k_encode, lookup_encode, search, simple};
use crate::{Error, Result};

/// Magnitude that no block type but MXFP4 can store: the largest, of Q6_K, is `65504 * 128 * 32`.
const BEYOND_ALL_TYPES: f32 = 1e9;

impl BlockType {
    /// Encodes weights without importances.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weights are not a whole number of blocks; [`Error::Numeric`] if a weight is
    /// NaN, infinite, or so large that the scale of its block exceeds the largest that the type can store.
    pub fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        self.check_values(values, self.weights())?;
        match self {
            Self::Q4_0 => self.encode_each(values, simple::encode_q4_0),
            Self::Q4_1 => self.encode_each(values, simple::encode_q4_1),
            Self::Q5_0 => self.encode_each(values, simple::encode_q5_0),
            Self::Q5_1 => self.encode_each(values, simple::encode_q5_1),
            Self::Q8_0 => self.encode_each(values, simple::encode_q8_0),
            Self::Q2K => self.encode_each(values, k_encode::encode_q2_k),
            Self::Q3K => self.encode_each(values, k_encode::encode_q3_k),
            Self::Q4K => self.encode_each(values, k_encode::encode_q4_k),
            Self::Q5K => self.encode_each(values, k_encode::encode_q5_k),
            Self::Q6K => self.encode_each(values, k_encode::encode_q6_k),
            Self::Iq4Nl => self.encode_eights(values, |x| lookup_encode::encode_iq4_nl(x, None)),
            Self::Iq4Xs => self.encode_each(values, |x| lookup_encode::encode_iq4_xs(x, None)),
            Self::Mxfp4 => self.encode_each(values, lookup_encode::encode_mxfp4),
        }
    }

    /// Returns whether [`encode_weighted`](Self::encode_weighted) takes notice of importances.
    pub const fn is_weighted(self) -> bool {
        !matches!(self, Self::Q8_0 | Self::Mxfp4)
    }

    /// Encodes the rows of a matrix, whose columns have importances: the weighted squared error of a row is
    /// made small, where an error in a column counts in proportion to the column's importance (usually the
    /// mean square of what the column is multiplied by).
    ///
    /// `importance` has one number for each column, so its length is the length of a row; `values` are whole
    /// rows. A common factor of all importances changes nothing. Q8_0 and MXFP4 take no notice of
    /// importances.
    ///
    /// The bytes are those of llama.cpp with an importance matrix, with two exceptions:
    ///
    /// - Where no weight of a group with its own scale is in a column of importance above zero, llama.cpp
    ///   stores zeros in the types without offsets, and it does for such a block of Q2_K, Q4_K and Q5_K. Here
    ///   the weights are encoded as if equally important.
    /// - If the largest importance is above 1e9 or below 1e-9, products of llama.cpp's overflow or vanish.
    ///   Here all importances are divided by a power of two first.
    ///
    /// ```
    /// use laminate::format::blocks::BlockType;
    ///
    /// let row: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
    /// let importance: Vec<f32> = (0..256).map(|i| if i < 8 { 100.0 } else { 1.0 }).collect();
    /// let error = |bytes: Vec<u8>| {
    ///     let mut decoded = [0.0; 256];
    ///     BlockType::Q2K.decode(&bytes, &mut decoded).unwrap();
    ///     row.iter().zip(decoded).take(8).map(|(x, y)| (x - y).powi(2)).sum::<f32>()
    /// };
    /// let weighted = error(BlockType::Q2K.encode_weighted(&row, &importance)?);
    /// assert!(weighted < error(BlockType::Q2K.encode(&row)?));
    /// # Ok::<(), laminate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if a row is not a whole number of blocks, or the weights are not a whole number of
    /// rows; [`Error::Numeric`] if an importance is negative, NaN or infinite, and as for
    /// [`encode`](Self::encode).
    pub fn encode_weighted(self, values: &[f32], importance: &[f32]) -> Result<Vec<u8>> {
        let width = importance.len();
        if width == 0 || !width.is_multiple_of(self.weights()) {
            return Err(Error::Shape(format!(
                "a row of {width} importances is not a whole number of {self} blocks of {}",
                self.weights()
            )));
        }
        self.check_values(values, width)?;
        if let Some((column, h)) = importance.iter().enumerate().find(|(_, h)| !h.is_finite() || **h < 0.0) {
            return Err(Error::Numeric(format!(
                "importance {column} is {h} and must be a finite number that is not negative"
            )));
        }
        let importance = &in_range(importance);
        match self {
            Self::Q4_0 => self.weigh_eights(values, importance, simple::weigh_q4_0),
            Self::Q4_1 => self.weigh_eights(values, importance, simple::weigh_q4_1),
            Self::Q5_0 => self.weigh_eights(values, importance, simple::weigh_q5_0),
            Self::Q5_1 => self.weigh_eights(values, importance, simple::weigh_q5_1),
            Self::Q2K => self.weigh_each(values, importance, k_encode::weigh_q2_k),
            Self::Q3K => self.weigh_each(values, importance, k_encode::weigh_q3_k),
            Self::Q4K => self.weigh_each(values, importance, k_encode::weigh_q4_k),
            Self::Q5K => self.weigh_each(values, importance, k_encode::weigh_q5_k),
            Self::Q6K => self.weigh_each(values, importance, k_encode::weigh_q6_k),
            Self::Iq4Nl => {
                self.weigh_eights(values, importance, |x, h, _| lookup_encode::encode_iq4_nl(x, Some(h)))
            }
            Self::Iq4Xs => {
                self.weigh_each(values, importance, |x, h| lookup_encode::encode_iq4_xs(x, Some(h)))
            }
            Self::Q8_0 | Self::Mxfp4 => self.encode(values),
        }
    }

    /// Checks that weights are finite and a whole number of `width`, which is one block or more.
    fn check_values(self, values: &[f32], width: usize) -> Result<()> {
        if !values.len().is_multiple_of(width) {
            let whole = if width == self.weights() {
                format!("{self} blocks of {width}")
            } else {
                format!("rows of {width} for {self}")
            };
            return Err(Error::Shape(format!("{} weights are not a whole number of {whole}", values.len())));
        }
        // No early exit, so that the pass is vectorised.
        if !values.iter().fold(true, |finite, x| finite & x.is_finite()) {
            let index = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
            return Err(Error::Numeric(format!(
                "weight {index} is {} and cannot be stored as {self}",
                values.get(index).copied().unwrap_or(f32::NAN)
            )));
        }
        Ok(())
    }

    /// Refuses what no block can store, so that no sum of squares overflows and spoils the blocks beside it.
    fn check_magnitudes(self, values: &[f32]) -> Result<()> {
        let is_beyond = |block: &[f32]| block.iter().fold(false, |any, x| any | (x.abs() > BEYOND_ALL_TYPES));
        let beyond = values.chunks(self.weights()).enumerate().find(|(_, block)| is_beyond(block));
        beyond.map_or(Ok(()), |(index, block)| Err(self.too_large(index, block)))
    }

    fn encode_each<const W: usize, const B: usize>(
        self,
        values: &[f32],
        encode: impl Fn(&[f32; W]) -> Option<[u8; B]>,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() / W * B);
        for block in values.as_chunks().0 {
            self.append(&mut bytes, block, encode(block))?;
        }
        Ok(bytes)
    }

    /// Encodes blocks of 32 weights, eight at a time.
    fn encode_eights<const B: usize>(
        self,
        values: &[f32],
        encode: impl Fn(&[f32; 256]) -> simple::Eight<B>,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() / 32 * B);
        for blocks in values.chunks(256) {
            for (block, encoded) in blocks.chunks(32).zip(encode(&padded(blocks))) {
                self.append(&mut bytes, block, encoded)?;
            }
        }
        Ok(bytes)
    }

    fn weigh_each<const B: usize>(
        self,
        values: &[f32],
        importance: &[f32],
        encode: impl Fn(&[f32; 256], &[f32; 256]) -> Option<[u8; B]>,
    ) -> Result<Vec<u8>> {
        self.check_magnitudes(values)?;
        let mut bytes = Vec::with_capacity(values.len() / 256 * B);
        for row in values.chunks_exact(importance.len()) {
            for (block, importance) in row.as_chunks().0.iter().zip(importance.as_chunks().0) {
                self.append(&mut bytes, block, encode(block, importance))?;
            }
        }
        Ok(bytes)
    }

    /// Encodes blocks of 32 weights, eight of a row at a time. `encode` gets the mean square of the row.
    fn weigh_eights<const B: usize>(
        self,
        values: &[f32],
        importance: &[f32],
        encode: impl Fn(&[f32; 256], &[f32; 256], f32) -> simple::Eight<B>,
    ) -> Result<Vec<u8>> {
        self.check_magnitudes(values)?;
        let mut bytes = Vec::with_capacity(values.len() / 32 * B);
        for row in values.chunks_exact(importance.len()) {
            let mean_square = search::sum_of_squares(row) / row.len() as f32;
            for (blocks, importance) in row.chunks(256).zip(importance.chunks(256)) {
                let encoded = encode(&padded(blocks), &padded(importance), mean_square);
                for (block, encoded) in blocks.chunks(32).zip(encoded) {
                    self.append(&mut bytes, block, encoded)?;
                }
            }
        }
        Ok(bytes)
    }

    /// Appends an encoded block, or says why there is none.
    fn append<const B: usize>(
        self,
        bytes: &mut Vec<u8>,
        block: &[f32],
        encoded: Option<[u8; B]>,
    ) -> Result<()> {
        let encoded = encoded.ok_or_else(|| self.too_large(bytes.len() / B, block))?;
        bytes.extend_from_slice(&encoded);
        Ok(())
    }

    fn too_large(self, index: usize, block: &[f32]) -> Error {
        let most = if self == Self::Mxfp4 { "2^125" } else { "65504" };
        let largest = block.iter().fold(0f32, |max, x| max.max(x.abs()));
        Error::Numeric(format!(
            "block {index} of {self} has a weight of magnitude {largest:e}, with which its scale is beyond {most}, \
             the largest that the type can store"
        ))
    }
}

/// Returns up to 256 numbers with zeros after them.
fn padded(values: &[f32]) -> [f32; 256] {
    let mut padded = [0.0; 256];
    padded.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
    padded
}

/// Returns importances as they are if the largest is of usual size, and else divided by the power of two that
/// brings the largest between 1 and 2. The division is exact and keeps the products of a search from overflow
/// and underflow. Importances of usual size are left alone because some of llama.cpp's products overflow for
/// them too, with a wide range of weights, and the bytes shall be the same.
fn in_range(importance: &[f32]) -> Vec<f32> {
    const USUAL: std::ops::RangeInclusive<f32> = 1e-9..=1e9;
    let largest = importance.iter().fold(0f32, |most, h| most.max(*h));
    if largest == 0.0 || USUAL.contains(&largest) {
        return importance.to_vec();
    }
    // The bits of the exponent alone.
    let power = f32::from_bits(largest.to_bits() & f32::INFINITY.to_bits()).max(f32::MIN_POSITIVE);
    importance.iter().map(|h| h / power).collect()
}
