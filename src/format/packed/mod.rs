//! Matrices whose weights are integers in groups that share a scale, as GPTQ, AWQ and compressed-tensors store them in
//! Hugging Face files: several tensors ("pieces") hold one matrix.
//!
//! Weight `w[o, i]` of row `o` (output) and column `i` (input) is, with the group `g = i / group`,
//!
//! ```text
//! w[o, i] = (q[o, i] - z[o, g]) s[o, g],    0 <= q, z < 2^bits
//! ```
//!
//! computed in `f32` and rounded to the type of the scales, as all loaders do that make floats of such files. Symmetric
//! grids have `z = 2^(bits - 1)`.
//!
//! | layout | codes | zero points | scales | besides |
//! |---|---|---|---|---|
//! | [`Rows`](Layout::Rows), compressed-tensors `pack-quantized` | i32 `[out, in bits / 32]` | i32 `[out bits / 32, groups]` | `[out, groups]` | i64 `[2]`: the shape |
//! | [`Bytes`](Layout::Bytes), compressed-tensors `int-quantized` | i8 `[out, in]` | i8 `[out, groups]` | `[out, groups]` | |
//! | [`Gptq`](Layout::Gptq) | i32 `[in bits / 32, out]` | i32 `[groups, out bits / 32]` | `[groups, out]` | i32 `[in]`: the group of each column |
//! | [`Awq`](Layout::Awq), GEMM version | i32 `[in, out bits / 32]` | i32 `[groups, out bits / 32]` | `[groups, out]` | |
//!
//! The lowest bits of a word hold its first number. A word of AWQ holds columns of the transposed matrix in the order 0, 2,
//! 4, 6, 1, 3, 5, 7. compressed-tensors stores codes and zero points as signed numbers, `q - 2^(bits - 1)`, and packs them
//! with that added again. GPTQ stores `z - 1` in its first version and `z` in its second.
//!
//! Sources: compressed-tensors 0.20 (`pack_quantized/helpers.py`), AutoAWQ 0.2.9 (`WQLinear_GEMM`), GPTQModel 7
//! (`BaseQuantLinear`).

mod decode;
mod encode;

pub use self::decode::Held;
pub use self::encode::{Rounded, round_to_nearest};
use crate::{Error, Result};

/// How a matrix is divided into pieces. See the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Codes along the rows, packed into words: `pack-quantized`.
    Rows,
    /// Each code a byte: `int-quantized`.
    Bytes,
    /// Transposed, codes packed along the columns. `less_one`: zero points are stored less one, as in the first version.
    Gptq {
        /// Whether zero points are stored less one.
        less_one: bool,
    },
    /// Transposed, codes packed along the rows in turns.
    Awq,
}

/// How the weights of a matrix are rounded and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Division into pieces.
    pub layout: Layout,
    /// Bits of a code: 4 or 8; 4 in AWQ's layout.
    pub bits: u32,
    /// Columns that share a scale; `None` for all columns of a row.
    pub group: Option<usize>,
    /// Whether zero points are all `2^(bits - 1)`. The layouts of compressed-tensors do not store them then.
    pub symmetric: bool,
}

/// A tensor that holds a part of a packed matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Piece {
    /// Codes of the weights.
    Codes,
    /// Scales of the groups.
    Scales,
    /// Zero points of the groups.
    Zeros,
    /// Group of each column.
    Groups,
    /// Shape of the matrix.
    Shape,
}

/// Numbers that a piece consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Signed, 8 bits.
    I8,
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
    /// A float, of the type in which the weights are computed.
    Float,
}

impl Number {
    /// Returns the bytes of a number, of which one of a float takes `float`.
    pub fn bytes(self, float: u64) -> u64 {
        match self {
            Number::I8 => 1,
            Number::I32 => 4,
            Number::I64 => 8,
            Number::Float => float,
        }
    }
}

/// Place in a word of AWQ, from the lowest bits, of each of eight neighbouring numbers.
const AWQ_PLACES: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Scheme {
    /// Returns the pieces that hold a matrix, in the order in which they are written.
    pub fn pieces(self) -> &'static [Piece] {
        use Piece::{Codes, Groups, Scales, Shape, Zeros};
        match (self.layout, self.symmetric) {
            (Layout::Rows, true) => &[Codes, Scales, Shape],
            (Layout::Rows, false) => &[Codes, Scales, Shape, Zeros],
            (Layout::Bytes, true) => &[Codes, Scales],
            (Layout::Bytes, false) => &[Codes, Scales, Zeros],
            (Layout::Gptq { .. }, _) => &[Groups, Codes, Zeros, Scales],
            (Layout::Awq, _) => &[Codes, Zeros, Scales],
        }
    }

    /// Returns whether a matrix can be read without `piece`.
    pub fn is_optional(self, piece: Piece) -> bool {
        piece == Piece::Groups
    }

    /// Returns whether whole rows of the matrix lie together, so that a few of them can be read without the others.
    pub fn has_rows_together(self) -> bool {
        matches!(self.layout, Layout::Rows | Layout::Bytes)
    }

    /// Returns the kind of the numbers of `piece`.
    pub fn number(self, piece: Piece) -> Number {
        match (piece, self.layout) {
            (Piece::Scales, _) => Number::Float,
            (Piece::Shape, _) => Number::I64,
            (Piece::Codes | Piece::Zeros, Layout::Bytes) => Number::I8,
            _ => Number::I32,
        }
    }

    /// Returns the number of groups of a row of `columns` weights.
    pub fn groups(self, columns: usize) -> usize {
        self.group.map_or(1, |group| columns.div_ceil(group.max(1)))
    }

    /// Returns what keeps this scheme from holding a matrix of `rows` by `columns`, in words; `None` if nothing does.
    pub fn misfit(self, [rows, columns]: [usize; 2]) -> Option<String> {
        let per_word = self.per_word();
        match self.group {
            Some(0) => return Some("groups of no weights are impossible".to_owned()),
            Some(group) if !columns.is_multiple_of(group) => {
                return Some(format!("groups of {group} do not divide its width of {columns}"));
            }
            _ => {}
        }
        let whole = |what: &str, n: usize| {
            (!n.is_multiple_of(per_word)).then(|| format!("its {n} {what} are no whole words of {per_word}"))
        };
        match self.layout {
            Layout::Rows | Layout::Bytes => None,
            Layout::Gptq { .. } => whole("columns", columns).or_else(|| whole("rows", rows)),
            Layout::Awq => whole("rows", rows),
        }
    }

    /// Returns the shape of `piece` of a matrix of `rows` by `columns` that the scheme can hold
    /// ([`misfit`](Self::misfit)).
    pub fn shape(self, piece: Piece, [rows, columns]: [usize; 2]) -> Vec<u64> {
        let (groups, packed) = (self.groups(columns), |n: usize| n.div_ceil(self.per_word()));
        let shape = match (piece, self.layout) {
            (Piece::Shape, _) => vec![2],
            (Piece::Groups, _) => vec![columns],
            (Piece::Codes, Layout::Rows) => vec![rows, packed(columns)],
            (Piece::Codes, Layout::Bytes) => vec![rows, columns],
            (Piece::Codes, Layout::Gptq { .. }) => vec![packed(columns), rows],
            (Piece::Codes, Layout::Awq) => vec![columns, packed(rows)],
            (Piece::Zeros, Layout::Rows) => vec![packed(rows), groups],
            (Piece::Scales, Layout::Rows | Layout::Bytes) | (Piece::Zeros, Layout::Bytes) => {
                vec![rows, groups]
            }
            (Piece::Scales, Layout::Gptq { .. } | Layout::Awq) => vec![groups, rows],
            (Piece::Zeros, Layout::Gptq { .. } | Layout::Awq) => vec![groups, packed(rows)],
        };
        shape.into_iter().map(|n| n as u64).collect()
    }

    /// Returns the zero point of a symmetric grid, `2^(bits - 1)`.
    pub fn middle(self) -> u8 {
        1 << (self.bits.clamp(1, 8) - 1)
    }

    /// Returns the largest code.
    pub fn largest(self) -> u8 {
        u8::MAX >> (8 - self.bits.clamp(1, 8))
    }

    /// Returns the smallest zero point that can be told apart when it is read.
    fn smallest_zero(self) -> u8 {
        // Less one, 0 would be the largest number.
        u8::from(matches!(self.layout, Layout::Gptq { less_one: true }))
    }

    /// Returns how many codes a word holds.
    fn per_word(self) -> usize {
        (32 / self.bits.clamp(1, 32)) as usize
    }

    /// Returns how far the number at place `place` of those that share a word of the zero points and of AWQ's codes is
    /// shifted.
    fn shift_across(self, place: usize) -> u32 {
        let place = place % self.per_word();
        match self.layout {
            Layout::Awq if self.bits == 4 => AWQ_PLACES.get(place).copied().unwrap_or(0) * self.bits,
            _ => place as u32 * self.bits,
        }
    }
}

/// A type that the matrices of a Hugging Face folder can be packed in on request.
///
/// | name | stored as |
/// |---|---|
/// | `int4` | compressed-tensors' `pack-quantized` with 4 bits, in groups of columns |
/// | `gptq-int4` | the same numbers in the layout of GPTQ |
/// | `int8` | compressed-tensors' `int-quantized` with 8 bits, a scale for each row; what a product reads is rounded to 8 bits too, each token by itself (W8A8) |
///
/// The first two have groups of the largest of [`GROUPS`](Self::GROUPS) that divides all widths, or of a size that
/// the name says: `int4-g128` and its likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedType {
    /// How codes are stored.
    pub codes: Codes,
    /// Columns that share a scale; `None` for the largest of [`GROUPS`](Self::GROUPS) that divides all widths, or for
    /// whole rows.
    pub group: Option<usize>,
}

/// Codes of a [`PackedType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// 4 bits, as compressed-tensors stores them.
    Int4,
    /// 4 bits, as GPTQ stores them.
    GptqInt4,
    /// 8 bits, a byte each.
    Int8,
}

impl Codes {
    fn name(self) -> &'static str {
        match self {
            Codes::Int4 => "int4",
            Codes::GptqInt4 => "gptq-int4",
            Codes::Int8 => "int8",
        }
    }
}

impl PackedType {
    /// Sizes of groups, which all loaders know.
    pub const GROUPS: [usize; 3] = [128, 64, 32];

    /// Returns the scheme for matrices of the widths `widths`, with zero points unless `symmetric`. Where no group divides
    /// all widths, the scheme has the smallest group and does not fit ([`Scheme::misfit`]).
    pub fn scheme(self, widths: impl Iterator<Item = usize> + Clone, symmetric: bool) -> Scheme {
        let [.., smallest] = Self::GROUPS;
        let fits = |group: &usize| widths.clone().all(|width| width.is_multiple_of(*group));
        let group = self.group.or_else(|| Self::GROUPS.into_iter().find(fits)).unwrap_or(smallest);
        match self.codes {
            Codes::Int4 => Scheme { layout: Layout::Rows, bits: 4, group: Some(group), symmetric },
            Codes::GptqInt4 => {
                Scheme { layout: Layout::Gptq { less_one: true }, bits: 4, group: Some(group), symmetric }
            }
            Codes::Int8 => Scheme { layout: Layout::Bytes, bits: 8, group: None, symmetric },
        }
    }

    /// Returns all types.
    pub fn all() -> impl Iterator<Item = Self> {
        let groups = || std::iter::once(None).chain(Self::GROUPS.map(Some));
        let of_groups = [Codes::Int4, Codes::GptqInt4].into_iter();
        let of_groups = of_groups.flat_map(move |codes| groups().map(move |group| Self { codes, group }));
        of_groups.chain([Self { codes: Codes::Int8, group: None }])
    }
}

impl std::fmt::Display for PackedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.codes.name())?;
        match self.group {
            None => Ok(()),
            Some(group) => write!(f, "-g{group}"),
        }
    }
}

impl std::str::FromStr for PackedType {
    type Err = Error;

    /// Parses the name of a type, ignoring case.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with all names, for an unknown name.
    fn from_str(name: &str) -> Result<Self> {
        Self::all().find(|each| each.to_string().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|each| each.to_string()).collect();
            Error::Unsupported(format!("type {name} is not supported; {} are", names.join(", ")))
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "int{}", self.bits)?;
        match self.group {
            Some(group) => write!(f, " in groups of {group}"),
            None => f.write_str(" in rows"),
        }
    }
}
