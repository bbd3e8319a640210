//! How files hold the numbers of a tensor where the arithmetic wants them otherwise: rows of heads in another order,
//! norms whose weights are stored less one.

use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::model::tensors::Role;
use crate::{Error, Result};

/// Order of the rows of a rotated (query or key) projection within a head of which `2 n` rows are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Row `j` is rotated together with row `j + n`, as in transformers.
    Halves,
    /// Row `2 j` is rotated together with row `2 j + 1`, as in llama.cpp.
    Pairs,
}

/// Heads of a rotated projection, whose rows stand head by head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadRows {
    /// Number of heads.
    pub heads: usize,
    /// Rows of each head; even.
    pub width: usize,
    /// Rows of each head that are rotated, which are its first in files; even.
    pub rotated: usize,
}

/// How a file holds the numbers of a tensor.
///
/// The arithmetic rotates row `j` of a head together with row `j + width / 2`, and rotates rows that are not to be
/// rotated by an angle of zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// As the arithmetic reads the tensor.
    Plain,
    /// Rows of heads in this order, those that are not rotated after the others.
    Rows(HeadRows, RowOrder),
    /// Less this number.
    Less(f32),
    /// The logarithm of the negative number.
    Logarithm,
}

impl HeadRows {
    /// Returns how a file holds rows in `order`.
    pub fn form(self, order: RowOrder) -> Form {
        match order {
            RowOrder::Halves if self.rotated == self.width => Form::Plain,
            _ => Form::Rows(self, order),
        }
    }

    /// Returns, for each row of a head in the order of the arithmetic, its place in a head in `order`.
    fn places(self, order: RowOrder) -> Vec<usize> {
        let (half, turning) = (self.width / 2, self.rotated / 2);
        let place = |row: usize| match (row % half, row / half) {
            (j, side) if j < turning => match order {
                RowOrder::Halves => j + side * turning,
                RowOrder::Pairs => 2 * j + side,
            },
            // Those that are not rotated stay in order: first the one half of them, then the other.
            (j, side) => 2 * turning + (j - turning) + side * (half - turning),
        };
        (0..self.width).map(place).collect()
    }

    /// Reorders rows from the order of the arithmetic to `order`, or back if `back`. A row is a whole number of
    /// quantisation blocks, so quantised weights are moved without being decoded.
    fn reorder(self, bytes: &[u8], order: RowOrder, back: bool) -> Result<Vec<u8>> {
        let n_rows = self.heads * self.width;
        let even =
            self.width.is_multiple_of(2) && self.rotated.is_multiple_of(2) && self.rotated <= self.width;
        if n_rows == 0 || !bytes.len().is_multiple_of(n_rows) || !even {
            return Err(Error::Shape(format!("{} bytes are not the rows of {self:?}", bytes.len())));
        }
        let row = bytes.len() / n_rows;
        let places = self.places(order);
        let mut out = vec![0; bytes.len()];
        for (from, to) in bytes.chunks(self.width * row).zip(out.chunks_mut(self.width * row)) {
            for (ours, theirs) in places.iter().enumerate() {
                let (read, write) = if back { (*theirs, ours) } else { (ours, *theirs) };
                let from = from.get(read * row..(read + 1) * row);
                let to = to.get_mut(write * row..(write + 1) * row);
                let (to, from) = to.zip(from).or_internal("a row of a head is missing")?;
                to.copy_from_slice(from);
            }
        }
        Ok(out)
    }
}

impl Form {
    /// Changes numbers as a file holds them to numbers as the arithmetic reads them.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bytes are not a whole number of equal rows, or a head has an odd number of rows; those of
    /// [`Stored::to_f32`].
    pub fn read(self, stored: Stored) -> Result<Stored> {
        match self {
            Form::Plain => Ok(stored),
            Form::Rows(rows, order) => {
                Ok(Stored { bytes: rows.reorder(&stored.bytes, order, true)?, ..stored })
            }
            Form::Less(number) => changed(&stored, |x| x + number),
            Form::Logarithm => changed(&stored, |x| -x.exp()),
        }
    }

    /// Changes numbers as the arithmetic reads them to numbers as a file holds them.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn write(self, stored: Stored) -> Result<Stored> {
        match self {
            Form::Plain => Ok(stored),
            Form::Rows(rows, order) => {
                Ok(Stored { bytes: rows.reorder(&stored.bytes, order, false)?, ..stored })
            }
            Form::Less(number) => changed(&stored, |x| x - number),
            Form::Logarithm => changed(&stored, |x| (-x).ln()),
        }
    }

    /// Returns how the numbers stand in which tensors of several layers are mixed, of what `role` is: as a file holds them,
    /// but with what they are stored less, and the negative decays of a Mamba mixer as logarithms.
    pub fn mixed(self, role: Role) -> Form {
        match self {
            Form::Less(_) => Form::Plain,
            Form::Plain if role == Role::MambaDecay => Form::Logarithm,
            form => form,
        }
    }

    /// Changes numbers in this form to numbers in the form `to`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn change(self, stored: Stored, to: Form) -> Result<Stored> {
        if self == to { Ok(stored) } else { to.write(self.read(stored)?) }
    }

    /// Returns whether the numbers of a file can be changed only all together, not a few rows at a time.
    pub fn needs_all_rows(self) -> bool {
        matches!(self, Form::Rows(..))
    }
}

fn changed(stored: &Stored, f: impl Fn(f32) -> f32) -> Result<Stored> {
    let values: Vec<f32> = stored.to_f32()?.into_iter().map(f).collect();
    Ok(Stored::from_f32(&values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::element::Element;

    fn bytes(form: Form, bytes: &[u8], write: bool) -> Vec<u8> {
        let stored = Stored { element: Element::F32, bytes: bytes.to_vec() };
        if write { form.write(stored).unwrap().bytes } else { form.read(stored).unwrap().bytes }
    }

    #[test]
    fn orders_of_rows_undo_each_other() {
        // Two heads of four one-byte rows: in the order `Halves` (0 1 2 3), row j is rotated with row j + 2.
        let halves: Vec<u8> = (0..8).collect();
        let rows = HeadRows { heads: 2, width: 4, rotated: 4 };
        assert_eq!(rows.form(RowOrder::Halves), Form::Plain);
        let form = rows.form(RowOrder::Pairs);
        let pairs = bytes(form, &halves, true);
        assert_eq!(pairs, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(bytes(form, &pairs, false), halves);
        let three = HeadRows { heads: 3, ..rows }.form(RowOrder::Pairs);
        assert!(three.read(Stored { element: Element::F32, bytes: halves }).is_err());
    }

    #[test]
    fn rows_that_are_not_rotated_share_the_halves() {
        // Of eight rows, the first four are rotated.
        let rows = HeadRows { heads: 1, width: 8, rotated: 4 };
        let of_file: Vec<u8> = (0..8).collect();
        for (order, ours) in
            [(RowOrder::Halves, [0, 1, 4, 5, 2, 3, 6, 7]), (RowOrder::Pairs, [0, 2, 4, 5, 1, 3, 6, 7])]
        {
            let form = rows.form(order);
            assert_eq!(bytes(form, &of_file, false), ours);
            assert_eq!(bytes(form, &ours, true), of_file);
        }
    }

    #[test]
    fn decays_are_stored_as_logarithms() {
        let stored = Stored::from_f32(&[0.0, 2f32.ln()]);
        let read = Form::Logarithm.read(stored.clone()).unwrap().to_f32().unwrap();
        assert!((read[0] + 1.0).abs() < 1e-6 && (read[1] + 2.0).abs() < 1e-6);
        let back = Form::Logarithm.write(Stored::from_f32(&read)).unwrap().to_f32().unwrap();
        assert!(back.iter().zip(stored.to_f32().unwrap()).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn norms_less_one_are_read_with_it() {
        let stored = Stored::from_f32(&[-0.25, 0.5]);
        let read = Form::Less(1.0).read(stored.clone()).unwrap();
        assert_eq!(read.to_f32().unwrap(), [0.75, 1.5]);
        assert_eq!(Form::Less(1.0).write(read).unwrap().bytes, stored.bytes);
    }
}
