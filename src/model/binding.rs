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
    /// Rows that follow those of each head and are no part of it.
    pub followed_by: usize,
}

/// Value heads of a gated delta net, of which each key head serves as many: the place of head `i` of those of key head `j`,
/// of `n` key heads with `r` value heads each, is `j r + i` ([`ByKey`](HeadOrder::ByKey)) or `i n + j`
/// ([`InTurns`](HeadOrder::InTurns)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueHeads {
    /// Number of key heads.
    pub key_heads: usize,
    /// Number of value heads of each key head.
    pub of_each: usize,
    /// Rows or columns of a value head.
    pub width: usize,
    /// Rows before those of the value heads.
    pub after: usize,
    /// Whether the heads are columns of each row instead of rows; the rows are as long as the heads together.
    pub columns: bool,
    /// Order in the file; the arithmetic reads the other.
    pub order: HeadOrder,
}

/// Order of the value heads of a gated delta net. See [`ValueHeads`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadOrder {
    /// Those of one key head after those of another, as in transformers.
    #[default]
    ByKey,
    /// The first of each key head, then the second of each, as in llama.cpp.
    InTurns,
}

/// How a file holds a tensor: in which order, and by which numbers.
///
/// The arithmetic rotates row `j` of a head together with row `j + width / 2`, and rotates rows that are not to be
/// rotated by an angle of zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// Order of rows or columns.
    pub order: Order,
    /// What numbers stand for.
    pub numbers: Numbers,
}

/// Order in which a file holds the rows or columns of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// That in which the arithmetic reads them.
    Plain,
    /// Rows of heads in this order, those that are not rotated after the others.
    Rows(HeadRows, RowOrder),
    /// Value heads of a gated delta net in the other order.
    ValueHeads(ValueHeads),
}

/// By which numbers a file holds those of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numbers {
    /// As the arithmetic reads them.
    Plain,
    /// Less this number.
    Less(f32),
    /// The logarithm of the negative number.
    Logarithm,
}

impl HeadRows {
    /// Returns the order in which a file holds rows in `order`.
    pub fn order(self, order: RowOrder) -> Order {
        match order {
            RowOrder::Halves if self.rotated == self.width => Order::Plain,
            _ => Order::Rows(self, order),
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
        (0..self.width).map(place).chain(self.width..self.width + self.followed_by).collect()
    }
}

impl ValueHeads {
    /// Returns, for each head in the order of the arithmetic, its place in the file.
    fn places(self) -> Vec<usize> {
        let Self { key_heads, of_each, order, .. } = self;
        let place = |head: usize| match order {
            // The arithmetic reads them in turns.
            HeadOrder::ByKey => head % key_heads * of_each + head / key_heads,
            HeadOrder::InTurns => head % of_each * key_heads + head / of_each,
        };
        (0..key_heads * of_each).map(place).collect()
    }
}

impl Order {
    /// Reorders from the order of the arithmetic to that of the file, or back if `back`. Rows of quantised weights are
    /// moved without being decoded, since a row is a whole number of quantisation blocks; columns are decoded.
    fn reorder(self, stored: Stored, back: bool) -> Result<Stored> {
        let (places, heads, width, after) = match self {
            Order::Plain => return Ok(stored),
            Order::Rows(rows, order) => {
                let HeadRows { heads, width, rotated, followed_by } = rows;
                if !(width.is_multiple_of(2) && rotated.is_multiple_of(2) && rotated <= width) {
                    return Err(Error::Shape(format!("{rows:?} cannot be rotated")));
                }
                // Single rows change places within each head.
                return permuted(stored, heads * (width + followed_by), 0, 1, &rows.places(order), back);
            }
            Order::ValueHeads(heads) => {
                (heads.places(), heads.key_heads * heads.of_each, heads.width, heads.after)
            }
        };
        match self {
            Order::ValueHeads(ValueHeads { columns: true, .. }) => {
                let values = Stored::from_f32(&stored.to_f32()?);
                let rows = values.len() / (heads * width).max(1);
                permuted(values, rows * heads, 0, 1, &places, back)
            }
            _ => permuted(stored, after + heads * width, after, width, &places, back),
        }
    }
}

/// Moves groups of `width` of the `n` equal parts of `stored`, but for the first `after` parts: of every `places.len()`
/// groups, group `i` goes to place `places[i]`, or back.
fn permuted(
    stored: Stored,
    n: usize,
    after: usize,
    width: usize,
    places: &[usize],
    back: bool,
) -> Result<Stored> {
    let bytes = &stored.bytes;
    let block = places.len() * width;
    if n == 0 || block == 0 || !bytes.len().is_multiple_of(n) || !(n - after.min(n)).is_multiple_of(block) {
        return Err(Error::Shape(format!("{} bytes are not {n} rows of heads", bytes.len())));
    }
    let part = bytes.len() / n;
    let (kept, moved) = bytes.split_at_checked(after * part).or_internal("rows before heads are missing")?;
    let group = width * part;
    let mut out = vec![0; moved.len()];
    for (from, to) in moved.chunks(block * part).zip(out.chunks_mut(block * part)) {
        for (ours, theirs) in places.iter().enumerate() {
            let (read, write) = if back { (*theirs, ours) } else { (ours, *theirs) };
            let from = from.get(read * group..(read + 1) * group);
            let to = to.get_mut(write * group..(write + 1) * group);
            let (to, from) = to.zip(from).or_internal("a row of a head is missing")?;
            to.copy_from_slice(from);
        }
    }
    Ok(Stored { bytes: [kept, &out].concat(), ..stored })
}

impl Numbers {
    fn read(self, stored: Stored) -> Result<Stored> {
        match self {
            Numbers::Plain => Ok(stored),
            Numbers::Less(number) => changed(&stored, |x| x + number),
            Numbers::Logarithm => changed(&stored, |x| -x.exp()),
        }
    }

    fn write(self, stored: Stored) -> Result<Stored> {
        match self {
            Numbers::Plain => Ok(stored),
            Numbers::Less(number) => changed(&stored, |x| x - number),
            Numbers::Logarithm => changed(&stored, |x| (-x).ln()),
        }
    }
}

impl Form {
    /// As the arithmetic reads the tensor.
    pub const PLAIN: Form = Form { order: Order::Plain, numbers: Numbers::Plain };

    /// Changes a tensor as a file holds it to one as the arithmetic reads it.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bytes are not a whole number of equal rows, or a head has an odd number of rows; those of
    /// [`Stored::to_f32`].
    pub fn read(self, stored: Stored) -> Result<Stored> {
        self.numbers.read(self.order.reorder(stored, true)?)
    }

    /// Changes a tensor as the arithmetic reads it to one as a file holds it.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn write(self, stored: Stored) -> Result<Stored> {
        self.order.reorder(self.numbers.write(stored)?, false)
    }

    /// Returns the form in which the tensors of `role` of several layers are mixed: in the order of the file, but with what
    /// their numbers are stored less, and negative decays as logarithms.
    pub fn mixed(self, role: Role) -> Form {
        Form { numbers: if role.is_decay() { Numbers::Logarithm } else { Numbers::Plain }, ..self }
    }

    /// Changes a tensor in this form to one in the form `to`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn change(self, stored: Stored, to: Form) -> Result<Stored> {
        if self == to {
            return Ok(stored);
        }
        if self.order == to.order {
            return to.numbers.write(self.numbers.read(stored)?);
        }
        to.write(self.read(stored)?)
    }

    /// Changes one number for each column of a tensor, in the order of the arithmetic, to the order of the file.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many numbers as columns.
    pub fn columns_written(self, columns: &[f32]) -> Result<Vec<f32>> {
        self.columns(columns, false)
    }

    /// Changes one number for each column of a tensor, in the order of the file, to the order of the arithmetic.
    ///
    /// # Errors
    /// Those of [`columns_written`](Self::columns_written).
    pub fn columns_read(self, columns: &[f32]) -> Result<Vec<f32>> {
        self.columns(columns, true)
    }

    fn columns(self, columns: &[f32], back: bool) -> Result<Vec<f32>> {
        match self.order {
            Order::ValueHeads(ValueHeads { columns: true, .. }) => {
                self.order.reorder(Stored::from_f32(columns), back)?.to_f32()
            }
            _ => Ok(columns.to_vec()),
        }
    }

    /// Returns whether a file's tensor can be changed only as a whole, not a few rows at a time.
    pub fn needs_all_rows(self) -> bool {
        self.order != Order::Plain
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

    fn bytes(order: Order, bytes: &[u8], write: bool) -> Vec<u8> {
        let form = Form { order, ..Form::PLAIN };
        let stored = Stored { element: Element::F32, bytes: bytes.to_vec() };
        if write { form.write(stored).unwrap().bytes } else { form.read(stored).unwrap().bytes }
    }

    #[test]
    fn orders_of_rows_undo_each_other() {
        // Two heads of four one-byte rows: in the order `Halves` (0 1 2 3), row j is rotated with row j + 2.
        let halves: Vec<u8> = (0..8).collect();
        let rows = HeadRows { heads: 2, width: 4, rotated: 4, followed_by: 0 };
        assert_eq!(rows.order(RowOrder::Halves), Order::Plain);
        let form = rows.order(RowOrder::Pairs);
        let pairs = bytes(form, &halves, true);
        assert_eq!(pairs, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(bytes(form, &pairs, false), halves);
        let three = Form { order: HeadRows { heads: 3, ..rows }.order(RowOrder::Pairs), ..Form::PLAIN };
        assert!(three.read(Stored { element: Element::F32, bytes: halves }).is_err());
    }

    #[test]
    fn rows_that_are_not_rotated_share_the_halves() {
        // Of eight rows, the first four are rotated.
        let rows = HeadRows { heads: 1, width: 8, rotated: 4, followed_by: 0 };
        let of_file: Vec<u8> = (0..8).collect();
        for (order, ours) in
            [(RowOrder::Halves, [0, 1, 4, 5, 2, 3, 6, 7]), (RowOrder::Pairs, [0, 2, 4, 5, 1, 3, 6, 7])]
        {
            let form = rows.order(order);
            assert_eq!(bytes(form, &of_file, false), ours);
            assert_eq!(bytes(form, &ours, true), of_file);
        }
    }

    #[test]
    fn decays_are_stored_as_logarithms() {
        let stored = Stored::from_f32(&[0.0, 2f32.ln()]);
        let read = Numbers::Logarithm.read(stored.clone()).unwrap().to_f32().unwrap();
        assert!((read[0] + 1.0).abs() < 1e-6 && (read[1] + 2.0).abs() < 1e-6);
        let back = Numbers::Logarithm.write(Stored::from_f32(&read)).unwrap().to_f32().unwrap();
        assert!(back.iter().zip(stored.to_f32().unwrap()).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn norms_less_one_are_read_with_it() {
        let stored = Stored::from_f32(&[-0.25, 0.5]);
        let read = Numbers::Less(1.0).read(stored.clone()).unwrap();
        assert_eq!(read.to_f32().unwrap(), [0.75, 1.5]);
        assert_eq!(Numbers::Less(1.0).write(read).unwrap().bytes, stored.bytes);
    }

    #[test]
    fn rows_that_follow_a_head_stay() {
        let rows = HeadRows { heads: 2, width: 4, rotated: 4, followed_by: 2 };
        let pairs = bytes(rows.order(RowOrder::Pairs), &(0..12).collect::<Vec<u8>>(), true);
        assert_eq!(pairs, [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
    }

    #[test]
    fn value_heads_change_places_and_back() {
        // Two key heads with three value heads of two rows each, after one row. By key: a0 a1 a2 b0 b1 b2.
        let heads = ValueHeads {
            key_heads: 2,
            of_each: 3,
            width: 2,
            after: 1,
            columns: false,
            order: HeadOrder::InTurns,
        };
        let by_key: Vec<u8> = (0..13).collect();
        let in_turns = bytes(Order::ValueHeads(heads), &by_key, true);
        assert_eq!(in_turns, [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12]);
        assert_eq!(bytes(Order::ValueHeads(heads), &in_turns, false), by_key);
        let other = ValueHeads { order: HeadOrder::ByKey, ..heads };
        assert_eq!(bytes(Order::ValueHeads(other), &in_turns, true), by_key);
        // The same as columns of two rows.
        let columns = ValueHeads { after: 0, columns: true, width: 1, ..heads };
        let form = Form { order: Order::ValueHeads(columns), ..Form::PLAIN };
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let moved = form.write(Stored::from_f32(&values)).unwrap();
        assert_eq!(moved.to_f32().unwrap(), [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.]);
        assert_eq!(form.read(moved).unwrap().to_f32().unwrap(), values);
    }
}
