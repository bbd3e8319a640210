//! Pieces to weights.

use super::{Layout, Scheme};
use crate::error::OrInternal;
use crate::format::element::{Element, decode_into, encode};
use crate::{Error, Result};

/// Rows of a transposed matrix that are decoded together, so that the words of a column that hold them lie together.
const ROWS_TOGETHER: usize = 64;

/// Bytes of the pieces of a packed matrix.
///
/// Where rows lie together ([`Scheme::has_rows_together`]), codes and scales may be of some rows only, from row `from` on;
/// all other pieces are whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held<'a> {
    /// Row of the matrix that is the first whose codes and scales are here; 0 in transposed layouts.
    pub from: usize,
    /// Codes.
    pub codes: &'a [u8],
    /// Scales, in the element type in which the weights are made.
    pub scales: &'a [u8],
    /// Zero points; `None` if they are not stored.
    pub zeros: Option<&'a [u8]>,
    /// Group of each column; `None` if groups follow each other.
    pub groups: Option<&'a [u8]>,
}

/// Pieces of a transposed matrix: the group of each column, the words of the codes, and the scales and zero points
/// `[groups, rows]`.
#[derive(Clone, Copy)]
struct Across<'a> {
    groups: &'a [usize],
    codes: &'a [u8],
    scales: &'a [f32],
    zeros: &'a [u8],
}

impl Scheme {
    /// Makes the weights of rows `first .. first + count` of a matrix of `rows` by `columns`, row-major, encoded in
    /// `element`, the type of the scales.
    ///
    /// # Errors
    /// [`Error::Shape`] if a column is of a group that does not exist, or a piece is too short.
    pub fn decode(
        self,
        element: Element,
        [rows, columns]: [usize; 2],
        first: usize,
        count: usize,
        held: Held<'_>,
    ) -> Result<Vec<u8>> {
        let groups = self.groups_of_columns(columns, held.groups)?;
        let mut values = vec![0.0; count * columns];
        let shape = [rows, columns];
        if self.has_rows_together() {
            self.decode_rows(element, shape, first, &groups, held, &mut values)?;
        } else {
            let mut scales = vec![0.0; self.groups(columns) * rows];
            decode_into(element, held.scales, &mut scales)?;
            let zeros = match held.zeros {
                Some(zeros) => self.zeros_across(zeros, self.groups(columns), rows)?,
                None => vec![self.middle(); scales.len()],
            };
            let across = Across { groups: &groups, codes: held.codes, scales: &scales, zeros: &zeros };
            for (tile, out) in values.chunks_mut((ROWS_TOGETHER * columns).max(1)).enumerate() {
                self.decode_tile(shape, first + tile * ROWS_TOGETHER, across, out)?;
            }
        }
        encode(element, &values)
    }

    /// Returns the group of each column.
    fn groups_of_columns(self, columns: usize, stored: Option<&[u8]>) -> Result<Vec<usize>> {
        let count = self.groups(columns);
        let Some(stored) = stored else {
            let group = self.group.unwrap_or(columns).max(1);
            return Ok((0..columns).map(|column| column / group).collect());
        };
        let groups = stored.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word));
        let groups = groups.map(|group| usize::try_from(group).ok().filter(|group| *group < count));
        let groups: Option<Vec<usize>> = groups.collect();
        match groups {
            Some(groups) if groups.len() == columns => Ok(groups),
            _ => Err(Error::Shape(format!(
                "a column is of a group that is not among the {count}; the file is damaged: download it again"
            ))),
        }
    }

    fn decode_rows(
        self,
        element: Element,
        [rows, columns]: [usize; 2],
        first: usize,
        groups: &[usize],
        held: Held<'_>,
        values: &mut [f32],
    ) -> Result<()> {
        let n_groups = self.groups(columns);
        let count = values.len() / columns.max(1);
        let skipped =
            first.checked_sub(held.from).or_internal("rows before those that are held are decoded")?;
        let scale_bytes = element.bytes(n_groups as u64).or_internal("scales are blocks")? as usize;
        let scales_here = held.scales.get(skipped * scale_bytes..(skipped + count) * scale_bytes);
        let mut scales = vec![0.0; count * n_groups];
        decode_into(element, scales_here.ok_or_else(short)?, &mut scales)?;
        let zeros = self.zeros_of_rows(held.zeros, [rows, n_groups], first, count)?;
        let (per_word, mask) = (self.per_word(), u32::from(self.largest()));
        let row_bytes = match self.layout {
            Layout::Bytes => columns,
            _ => 4 * columns.div_ceil(per_word),
        };
        let codes = held.codes.get(skipped * row_bytes..(skipped + count) * row_bytes).ok_or_else(short)?;
        let middle = self.middle();
        let rows = values.chunks_mut(columns.max(1)).zip(codes.chunks(row_bytes.max(1)));
        let of_groups = scales.chunks(n_groups.max(1)).zip(zeros.chunks(n_groups.max(1)));
        for ((out, codes), (scales, zeros)) in rows.zip(of_groups) {
            let mut set = |column: usize, code: u8| -> Result<()> {
                let group = groups.get(column).copied().or_internal("a column has no group")?;
                let scale = scales.get(group).or_internal("a group has no scale")?;
                let zero = zeros.get(group).or_internal("a group has no zero point")?;
                let value = out.get_mut(column).or_internal("a column is missing")?;
                *value = f32::from(i16::from(code) - i16::from(*zero)) * scale;
                Ok(())
            };
            match self.layout {
                Layout::Bytes => {
                    // Stored signed.
                    for (column, code) in codes.iter().enumerate() {
                        set(column, code.wrapping_add(middle))?;
                    }
                }
                _ => {
                    for (column, place) in (0..columns).zip((0..per_word).cycle()) {
                        let word = codes.as_chunks::<4>().0.get(column / per_word).ok_or_else(short)?;
                        let code = (u32::from_le_bytes(*word) >> (place as u32 * self.bits)) & mask;
                        set(column, code as u8)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the zero points of rows `first .. first + count`, row-major, of a layout whose rows lie together.
    fn zeros_of_rows(
        self,
        stored: Option<&[u8]>,
        [rows, n_groups]: [usize; 2],
        first: usize,
        count: usize,
    ) -> Result<Vec<u8>> {
        let middle = self.middle();
        let Some(stored) = stored else { return Ok(vec![middle; count * n_groups]) };
        if first + count > rows {
            return Err(short());
        }
        let mask = u32::from(self.largest());
        let mut zeros = Vec::with_capacity(count * n_groups);
        for row in first..first + count {
            for group in 0..n_groups {
                zeros.push(match self.layout {
                    Layout::Bytes => {
                        stored.get(row * n_groups + group).ok_or_else(short)?.wrapping_add(middle)
                    }
                    _ => {
                        let at = row / self.per_word() * n_groups + group;
                        let word = stored.as_chunks::<4>().0.get(at).ok_or_else(short)?;
                        ((u32::from_le_bytes(*word) >> self.shift_across(row)) & mask) as u8
                    }
                });
            }
        }
        Ok(zeros)
    }

    /// Returns the zero points `[groups, rows]` of a transposed layout.
    fn zeros_across(self, stored: &[u8], n_groups: usize, rows: usize) -> Result<Vec<u8>> {
        let (per_row, mask) = (rows.div_ceil(self.per_word()), u32::from(self.largest()));
        let words = stored.as_chunks::<4>().0;
        let mut zeros = Vec::with_capacity(n_groups * rows);
        for group in 0..n_groups {
            for row in 0..rows {
                let word = words.get(group * per_row + row / self.per_word()).ok_or_else(short)?;
                let stored = (u32::from_le_bytes(*word) >> self.shift_across(row)) & mask;
                let zero = match self.layout {
                    Layout::Gptq { less_one: true } => (stored + 1) & mask,
                    _ => stored,
                };
                zeros.push(zero as u8);
            }
        }
        Ok(zeros)
    }

    /// Decodes the rows from `first` on that fit in `out` of a transposed layout.
    fn decode_tile(
        self,
        [rows, columns]: [usize; 2],
        first: usize,
        across: Across<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let Across { groups, codes, scales, zeros } = across;
        let (per_word, mask) = (self.per_word(), u32::from(self.largest()));
        let count = out.len() / columns.max(1);
        let words = codes.as_chunks::<4>().0;
        for (column, group) in groups.iter().enumerate() {
            let here = group * rows + first..group * rows + first + count;
            let scales = scales.get(here.clone()).ok_or_else(short)?;
            let zeros = zeros.get(here).ok_or_else(short)?;
            let code = |row: usize| match self.layout {
                Layout::Awq => {
                    let word = words.get(column * rows.div_ceil(per_word) + row / per_word)?;
                    Some((u32::from_le_bytes(*word) >> self.shift_across(row)) & mask)
                }
                _ => {
                    let word = words.get(column / per_word * rows + row)?;
                    Some((u32::from_le_bytes(*word) >> ((column % per_word) as u32 * self.bits)) & mask)
                }
            };
            for (place, (scale, zero)) in scales.iter().zip(zeros).enumerate() {
                let code = code(first + place).ok_or_else(short)?;
                let value = out.get_mut(place * columns + column).ok_or_else(short)?;
                *value = (code as i32 - i32::from(*zero)) as f32 * scale;
            }
        }
        Ok(())
    }
}

fn short() -> Error {
    Error::Shape("a piece of a packed matrix is too short".to_owned())
}
