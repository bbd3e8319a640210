//! Weights to pieces, each rounded to the nearest number of its group.

use super::{Layout, Piece, Scheme};
use crate::error::OrInternal;
use crate::format::element::{Element, decode_into, encode};
use crate::{Error, Result};

/// Scales of a group that are tried, from the one that holds its largest weight down.
const TRIALS: u32 = 13;

/// Share of the largest scale by which neighbouring trials differ.
const TRIAL_STEP: f32 = 0.025;

/// A matrix on the grid of a [`Scheme`], row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rounded {
    /// Code of each weight.
    pub codes: Vec<u8>,
    /// Scale of each group, `[rows, groups]`; each a number of the element type that scales are stored in.
    pub scales: Vec<f32>,
    /// Zero point of each group, likewise.
    pub zeros: Vec<u8>,
}

impl Rounded {
    /// Returns the matrix, whose rows have `columns` weights, with its rows in another order: `places[i]` is the row that
    /// becomes row `i`.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no such row.
    pub fn reordered(&self, columns: usize, places: &[usize]) -> Result<Self> {
        let rows = self.codes.len() / columns.max(1);
        let groups = self.scales.len() / rows.max(1);
        fn rows_at<T: Copy>(values: &[T], width: usize, places: &[usize]) -> Option<Vec<T>> {
            let mut all = Vec::with_capacity(values.len());
            for place in places {
                all.extend_from_slice(values.get(place * width..(place + 1) * width)?);
            }
            Some(all)
        }
        let missing = "a row of a rounded matrix is missing";
        Ok(Self {
            codes: rows_at(&self.codes, columns, places).or_internal(missing)?,
            scales: rows_at(&self.scales, groups, places).or_internal(missing)?,
            zeros: rows_at(&self.zeros, groups, places).or_internal(missing)?,
        })
    }

    /// Puts the pieces of a matrix, each of whole rows, one below the other.
    ///
    /// # Errors
    /// That of the first piece that has one.
    pub fn stack(pieces: impl IntoIterator<Item = Result<Self>>) -> Result<Self> {
        let mut whole = Self::default();
        for piece in pieces {
            let Self { codes, scales, zeros } = piece?;
            whole.codes.extend(codes);
            whole.scales.extend(scales);
            whole.zeros.extend(zeros);
        }
        Ok(whole)
    }
}

/// Rounds each weight of `values` `[rows, columns]` to the nearest number of its group. The scale of a group is the one with
/// the least squared error among 13: that with which the grid reaches the group's largest weight, and smaller ones, down
/// to 0.7 of it. `element` is the type of the scales.
///
/// Rows do not depend on each other.
///
/// # Errors
/// [`Error::Numeric`] if a scale is too large for `element`; [`Error::Shape`] if `values` are no whole rows of groups.
pub fn round_to_nearest(scheme: Scheme, element: Element, columns: usize, values: &[f32]) -> Result<Rounded> {
    let group = scheme.group.unwrap_or(columns);
    if columns == 0 || group == 0 || !values.len().is_multiple_of(columns) || !columns.is_multiple_of(group) {
        return Err(Error::Shape(format!(
            "{} weights in rows of {columns} are no groups of {group}",
            values.len()
        )));
    }
    let mut rounded = Rounded { codes: Vec::with_capacity(values.len()), ..Rounded::default() };
    for weights in values.chunks(group) {
        let (scale, zero) = scheme.best_scale(element, weights)?;
        rounded.codes.extend(weights.iter().map(|x| scheme.code(*x, scale, zero)));
        rounded.scales.push(scale);
        rounded.zeros.push(zero);
    }
    Ok(rounded)
}

impl Scheme {
    /// Returns the scale, a number of the type `element`, and the zero point with which `weights` have the least squared
    /// error.
    pub(crate) fn best_scale(self, element: Element, weights: &[f32]) -> Result<(f32, u8)> {
        let low = weights.iter().copied().fold(0.0, f32::min);
        let high = weights.iter().copied().fold(0.0, f32::max);
        let largest = match self.symmetric {
            true => high.max(-low) / f32::from(self.middle() - 1),
            false => (high - low) / f32::from(self.largest() - self.smallest_zero()),
        };
        let mut best: Option<(f64, f32, u8)> = None;
        for trial in 0..TRIALS {
            let (scale, zero) = self.grid(element, largest * (1.0 - TRIAL_STEP * trial as f32), low)?;
            let error: f64 = weights.iter().map(|x| f64::from(self.error(*x, scale, zero)).powi(2)).sum();
            if best.is_none_or(|(least, ..)| error < least) {
                best = Some((error, scale, zero));
            }
        }
        best.map(|(_, scale, zero)| (scale, zero)).or_internal("no scale was tried")
    }

    /// Returns the scale, a number of the type `element`, and the zero point of the grid that reaches from the smallest to
    /// the largest of `weights`, or of zero, where all are held within `share` of their largest magnitude.
    ///
    /// # Errors
    /// [`Error::Numeric`] if the scale is too large for `element`.
    pub fn held_grid(self, element: Element, weights: &[f32], share: f32) -> Result<(f32, u8)> {
        let most = share * weights.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let low = weights.iter().copied().fold(0.0, f32::min).max(-most);
        let high = weights.iter().copied().fold(0.0, f32::max).min(most);
        let scale = match self.symmetric {
            true => high.max(-low) / f32::from(self.middle() - 1),
            false => (high - low) / f32::from(self.largest() - self.smallest_zero()),
        };
        self.grid(element, scale, low)
    }

    /// Returns the grid with the scale nearest to `scale` that `element` has, and the zero point with which the grid
    /// begins at `low`. Where weights are so small that the scale would be zero, all of them become zero.
    fn grid(self, element: Element, scale: f32, low: f32) -> Result<(f32, u8)> {
        let mut rounded = [0.0];
        decode_into(element, &encode(element, &[scale])?, &mut rounded)?;
        let [scale] = rounded;
        if !scale.is_finite() {
            return Err(Error::Numeric(format!(
                "a group of weights needs a scale that {element} does not reach; store the model in another type"
            )));
        }
        let scale = if scale == 0.0 { 1.0 } else { scale };
        let zero = match self.symmetric {
            true => self.middle(),
            // Saturates.
            false => ((-low / scale).round_ties_even() as u8).clamp(self.smallest_zero(), self.largest()),
        };
        Ok((scale, zero))
    }

    /// Returns the code of the number nearest to `x`.
    pub fn code(self, x: f32, scale: f32, zero: u8) -> u8 {
        ((x / scale).round_ties_even() + f32::from(zero)).clamp(0.0, f32::from(self.largest())) as u8
    }

    /// Returns the number that `code` stands for.
    pub fn number_of(self, code: u8, scale: f32, zero: u8) -> f32 {
        f32::from(i16::from(code) - i16::from(zero)) * scale
    }

    fn error(self, x: f32, scale: f32, zero: u8) -> f32 {
        x - self.number_of(self.code(x, scale, zero), scale, zero)
    }

    /// Returns the weights of `rounded`, whose rows have `columns` weights, encoded in `element`: what
    /// [`decode`](Self::decode) makes of the pieces.
    ///
    /// # Errors
    /// [`Error::Internal`] if `rounded` is not of such rows.
    pub fn weights(self, element: Element, columns: usize, rounded: &Rounded) -> Result<Vec<u8>> {
        let group = self.group.unwrap_or(columns).max(1);
        self.check(columns, rounded)?;
        let groups = rounded.codes.chunks(group).zip(rounded.scales.iter().zip(&rounded.zeros));
        let values: Vec<f32> = groups
            .flat_map(|(codes, (scale, zero))| codes.iter().map(|code| self.number_of(*code, *scale, *zero)))
            .collect();
        encode(element, &values)
    }

    /// Makes the pieces of `rounded`, whose rows have `columns` weights, in the order of [`pieces`](Self::pieces). Groups
    /// follow each other.
    ///
    /// # Errors
    /// [`Error::Internal`] if `rounded` is not of such rows.
    pub fn assemble(
        self,
        element: Element,
        columns: usize,
        rounded: &Rounded,
    ) -> Result<Vec<(Piece, Vec<u8>)>> {
        let rows = self.check(columns, rounded)?;
        let groups = self.groups(columns);
        let make = |piece: &Piece| {
            let bytes = match piece {
                Piece::Shape => [rows, columns].iter().flat_map(|n| (*n as i64).to_le_bytes()).collect(),
                Piece::Groups => {
                    let group = self.group.unwrap_or(columns).max(1);
                    (0..columns).flat_map(|column| ((column / group) as i32).to_le_bytes()).collect()
                }
                Piece::Codes => self.assemble_codes([rows, columns], &rounded.codes),
                Piece::Zeros => self.assemble_zeros([rows, groups], &rounded.zeros),
                Piece::Scales if self.has_rows_together() => encode(element, &rounded.scales)?,
                Piece::Scales => encode(element, &transposed([rows, groups], &rounded.scales))?,
            };
            Ok((*piece, bytes))
        };
        self.pieces().iter().map(make).collect()
    }

    /// Returns the number of rows.
    fn check(self, columns: usize, rounded: &Rounded) -> Result<usize> {
        let Rounded { codes, scales, zeros } = rounded;
        let rows = codes.len() / columns.max(1);
        let groups = rows * self.groups(columns);
        if codes.len() != rows * columns || [scales.len(), zeros.len()] != [groups; 2] {
            return Err(Error::internal("a rounded matrix has other scales or codes than its shape"));
        }
        Ok(rows)
    }

    fn assemble_codes(self, [rows, columns]: [usize; 2], codes: &[u8]) -> Vec<u8> {
        match self.layout {
            Layout::Bytes => codes.iter().map(|code| code.wrapping_sub(self.middle())).collect(),
            Layout::Rows => codes.chunks(columns.max(1)).flat_map(|row| self.words(row, 1)).collect(),
            // Words along the columns, one row of the matrix after the other.
            Layout::Gptq { .. } => self.words(&transposed([rows, columns], codes), rows),
            Layout::Awq => {
                let columns = transposed([rows, columns], codes);
                columns.chunks(rows.max(1)).flat_map(|column| self.words(column, 1)).collect()
            }
        }
    }

    fn assemble_zeros(self, [rows, groups]: [usize; 2], zeros: &[u8]) -> Vec<u8> {
        match self.layout {
            Layout::Bytes => zeros.iter().map(|zero| zero.wrapping_sub(self.middle())).collect(),
            Layout::Rows => self.words(zeros, groups),
            Layout::Gptq { less_one } => {
                let less: Vec<u8> = zeros.iter().map(|zero| zero.wrapping_sub(u8::from(less_one))).collect();
                let groups = transposed([rows, groups], &less);
                groups.chunks(rows.max(1)).flat_map(|group| self.words(group, 1)).collect()
            }
            Layout::Awq => {
                let groups = transposed([rows, groups], zeros);
                groups.chunks(rows.max(1)).flat_map(|group| self.words(group, 1)).collect()
            }
        }
    }

    /// Packs `numbers` `[n, width]` into words `[ceil(n / per word), width]`, of which each holds neighbours along the first
    /// dimension.
    fn words(self, numbers: &[u8], width: usize) -> Vec<u8> {
        let (per_word, mask) = (self.per_word(), u32::from(self.largest()));
        let mut bytes = Vec::with_capacity(numbers.len().div_ceil(per_word) * 4);
        for block in numbers.chunks((per_word * width).max(1)) {
            let mut words = vec![0u32; width];
            for (place, row) in block.chunks(width.max(1)).enumerate() {
                let shift = self.shift_across(place);
                for (word, number) in words.iter_mut().zip(row) {
                    *word |= (u32::from(*number) & mask) << shift;
                }
            }
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        bytes
    }
}

/// Returns `[columns, rows]` of `values` `[rows, columns]`.
fn transposed<T: Copy>([_, columns]: [usize; 2], values: &[T]) -> Vec<T> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Held;
    use super::*;

    fn schemes() -> Vec<Scheme> {
        let mut all = Vec::new();
        for layout in [
            Layout::Rows,
            Layout::Bytes,
            Layout::Gptq { less_one: true },
            Layout::Gptq { less_one: false },
            Layout::Awq,
        ] {
            for bits in [4, 8] {
                for group in [None, Some(16), Some(8)] {
                    for symmetric in [true, false] {
                        all.push(Scheme { layout, bits, group, symmetric });
                    }
                }
            }
        }
        all
    }

    fn weights(n: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.4
        };
        (0..n).map(|_| draw() * draw()).collect()
    }

    fn find(pieces: &[(Piece, Vec<u8>)], piece: Piece) -> Option<&[u8]> {
        pieces.iter().find(|(each, _)| *each == piece).map(|(_, bytes)| bytes.as_slice())
    }

    #[test]
    fn what_is_assembled_is_decoded() {
        let (rows, columns) = (24, 48);
        let values = weights(rows * columns);
        for scheme in schemes() {
            for element in [Element::F16, Element::Bf16, Element::F32] {
                let rounded = round_to_nearest(scheme, element, columns, &values).unwrap();
                let pieces = scheme.assemble(element, columns, &rounded).unwrap();
                for (piece, bytes) in &pieces {
                    let numbers: u64 = scheme.shape(*piece, [rows, columns]).iter().product();
                    let float = element.bytes(1).unwrap();
                    assert_eq!(
                        bytes.len() as u64,
                        numbers * scheme.number(*piece).bytes(float),
                        "{scheme:?} {piece:?}"
                    );
                }
                let held = Held {
                    from: 0,
                    codes: find(&pieces, Piece::Codes).unwrap(),
                    scales: find(&pieces, Piece::Scales).unwrap(),
                    zeros: find(&pieces, Piece::Zeros),
                    groups: find(&pieces, Piece::Groups),
                };
                let decoded = scheme.decode(element, [rows, columns], 0, rows, held).unwrap();
                assert_eq!(decoded, scheme.weights(element, columns, &rounded).unwrap(), "{scheme:?}");
                // Some rows in the middle are the same as among all.
                let some = scheme.decode(element, [rows, columns], 5, 11, held).unwrap();
                let row = decoded.len() / rows;
                assert_eq!(some, decoded[5 * row..16 * row], "{scheme:?}");
            }
        }
    }

    #[test]
    fn no_weight_is_further_than_the_grid_allows() {
        let (rows, columns) = (16, 32);
        let values = weights(rows * columns);
        for scheme in schemes() {
            let rounded = round_to_nearest(scheme, Element::F32, columns, &values).unwrap();
            let bytes = scheme.weights(Element::F32, columns, &rounded).unwrap();
            let mut decoded = vec![0.0; values.len()];
            decode_into(Element::F32, &bytes, &mut decoded).unwrap();
            let group = scheme.group.unwrap_or(columns);
            for (place, (weight, number)) in values.iter().zip(&decoded).enumerate() {
                let (scale, zero) = (rounded.scales[place / group], rounded.zeros[place / group]);
                let reach = [0, scheme.largest()].map(|code| scheme.number_of(code, scale, zero));
                let within = weight.clamp(reach[0], reach[1]);
                assert!(
                    (within - number).abs() <= 0.5001 * scale,
                    "{scheme:?} {place}: {weight} {number} {scale}"
                );
            }
            // No scale of the trials has a smaller error, that of the largest weight among them.
            let error: f64 = values.iter().zip(&decoded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let plain: f64 = values
                .chunks(group)
                .map(|weights| {
                    let (low, high) = (
                        weights.iter().copied().fold(0.0, f32::min),
                        weights.iter().copied().fold(0.0, f32::max),
                    );
                    let span = if scheme.symmetric {
                        high.max(-low) / f32::from(scheme.middle() - 1)
                    } else {
                        (high - low) / f32::from(scheme.largest() - scheme.smallest_zero())
                    };
                    let (scale, zero) = scheme.grid(Element::F32, span, low).unwrap();
                    weights.iter().map(|x| f64::from(scheme.error(*x, scale, zero)).powi(2)).sum::<f64>()
                })
                .sum();
            assert!(error <= plain, "{scheme:?}: {error} {plain}");
        }
    }

    #[test]
    fn zeros_and_tiny_weights_stay_finite() {
        for scheme in schemes() {
            for weight in [0.0, 1e-12, -1e-12] {
                let rounded = round_to_nearest(scheme, Element::F16, 16, &[weight; 32]).unwrap();
                let bytes = scheme.weights(Element::F16, 16, &rounded).unwrap();
                assert!(bytes.iter().all(|byte| byte & 0x7f == 0), "{scheme:?}");
            }
            assert!(round_to_nearest(scheme, Element::F16, 16, &[3e38; 16]).is_err());
            assert!(round_to_nearest(scheme, Element::F16, 16, &[1.0; 17]).is_err());
        }
    }

    #[test]
    fn columns_may_be_of_any_group() {
        let scheme =
            Scheme { layout: Layout::Gptq { less_one: true }, bits: 4, group: Some(8), symmetric: true };
        let rounded = round_to_nearest(scheme, Element::F32, 16, &weights(8 * 16)).unwrap();
        let pieces = scheme.assemble(Element::F32, 16, &rounded).unwrap();
        let [codes, scales] = [Piece::Codes, Piece::Scales].map(|piece| find(&pieces, piece).unwrap());
        let order: Vec<usize> = (0..16).map(|column| (column * 7 + 3) % 2).collect();
        let groups: Vec<u8> = order.iter().flat_map(|group| (*group as i32).to_le_bytes()).collect();
        let held = Held { codes, scales, zeros: find(&pieces, Piece::Zeros), groups: Some(&groups), from: 0 };
        let decoded = scheme.decode(Element::F32, [8, 16], 0, 8, held).unwrap();
        for (place, number) in decoded.as_chunks::<4>().0.iter().enumerate() {
            let (row, column) = (place / 16, place % 16);
            let scale = rounded.scales[row * 2 + order[column]];
            assert_eq!(f32::from_le_bytes(*number), (f32::from(rounded.codes[place]) - 8.0) * scale);
        }
        let wrong = 2i32.to_le_bytes().repeat(16);
        assert!(scheme.decode(Element::F32, [8, 16], 0, 8, Held { groups: Some(&wrong), ..held }).is_err());
        assert!(scheme.decode(Element::F32, [8, 16], 0, 8, Held { codes: &codes[..8], ..held }).is_err());
    }
}
