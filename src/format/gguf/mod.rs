//! GGUF headers: parsing and writing.
//!
//! A file begins with the magic `GGUF`, `u32` version, `u64` number of tensors and `u64` number of metadata
//! entries. The metadata entries follow (`string` key, `u32` type, value), then for each tensor its name,
//! `u32` number of dimensions, as many `u64` dimensions with the row length first, `u32` type and `u64`
//! offset. The data begins at the next multiple of `general.alignment`, and offsets are relative to its
//! start. All numbers are little-endian (ggml's `docs/gguf.md`).
//!
//! A model split over several files has its metadata in the first file; the other files have only the
//! `split.*` keys.

mod value;
mod write;

use std::collections::HashSet;

use value::{Cursor, Trouble};

use super::blocks::BlockType;
use super::element::Element;
use crate::{Error, Result};

pub use value::{Array, Value, ValueType};
pub use write::{OutputTensor, header_bytes, padding, parse_split_name, split_metadata, split_name};

/// First bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Version that is written. Version 2 has the same layout and is read too.
pub const VERSION: u32 = 3;

/// Longest header that is read, in bytes. The largest vocabularies in use take about 20 MB.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Most bytes of memory for the contents of a header. The largest vocabularies in use take less than 100 MB.
pub const MAX_HEADER_MEMORY: u64 = 512 << 20;

/// Alignment of tensors in bytes, unless the file specifies another.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Metadata key of the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Metadata keys of a file of a split model: its number (counted from 0), the number of files, and the number
/// of tensors in all files.
pub const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// Largest number of dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// Metadata entries in the order of the file; every key occurs once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Keys and values.
    pub entries: Vec<(String, Value)>,
}

impl Metadata {
    /// Returns the value of `key`, or `None` if the key is absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Sets the value of `key`: in place if the key exists, else in a new entry at the end.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }

    /// Removes the entry of `key`, if it exists.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|(k, _)| k != key);
    }
}

/// Name, element type, shape and location of one tensor in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Tensor name.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Dimensions, outermost first (the file stores them innermost first).
    pub shape: Vec<u64>,
    /// Offset of the first byte from the start of the file.
    pub offset: u64,
    /// Size in bytes, without padding.
    pub bytes: u64,
}

/// Place of a file among the files of a split model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Number of this file, counted from 0.
    pub number: u64,
    /// Number of files.
    pub count: u64,
    /// Number of tensors in all files; 0 if the file does not say.
    pub tensors: u64,
}

/// Parsed header: metadata, and tensors in the order of their data.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// All metadata entries.
    pub metadata: Metadata,
    /// Tensors in the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// Place among the files of a split model; `None` if the model has a single file.
    pub split: Option<Split>,
}

/// Returns whether a file that starts with `first_bytes` is a GGUF file.
pub fn is_gguf(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(&MAGIC)
}

/// Parses the header of a file of `file_bytes` bytes from its first bytes, `front`. Returns `None` if `front`
/// ends before the header does: the caller must try again with more bytes.
///
/// # Errors
/// [`Error::Format`], with the name `file` and the key or tensor, if counts, lengths or offsets exceed the
/// file, if a value type is unknown, a key or tensor occurs twice, tensors overlap or are not aligned, if the
/// alignment is not a power of two, or if the header is longer than [`MAX_HEADER_BYTES`];
/// [`Error::Unsupported`] for a version or tensor type that is not handled; [`Error::Limit`], naming the key or
/// tensor, if the contents of the header would take more than [`MAX_HEADER_MEMORY`].
pub fn parse_header(file: &str, front: &[u8], file_bytes: u64) -> Result<Option<Header>> {
    let whole = |cursor: &mut Cursor<'_>| read_header(cursor);
    parse(file, front, file_bytes, whole)?.map(|raw| raw.check(file, file_bytes)).transpose()
}

/// Parses the metadata of a file as [`parse_header`] does, and looks at no tensor.
///
/// # Errors
/// Those of [`parse_header`] that are not about tensors.
pub fn parse_metadata(file: &str, front: &[u8], file_bytes: u64) -> Result<Option<Metadata>> {
    parse(file, front, file_bytes, |cursor| read_metadata(cursor).map(|(metadata, _)| metadata))
}

/// Reads the first bytes of a file, `front`, by `read`; `None` if they end too early.
fn parse<T>(
    file: &str,
    front: &[u8],
    file_bytes: u64,
    read: impl FnOnce(&mut Cursor<'_>) -> std::result::Result<T, Problem>,
) -> Result<Option<T>> {
    let bad = |what: String| Error::Format(format!("{file}: {what}; download the file again"));
    if front.len() as u64 >= MAX_HEADER_BYTES {
        return Err(bad(format!("its header is longer than {} MB", MAX_HEADER_BYTES >> 20)));
    }
    match read(&mut Cursor::new(front, file_bytes, MAX_HEADER_MEMORY)) {
        Ok(read) => Ok(Some(read)),
        Err(Problem::Trouble(Trouble::Short)) if (front.len() as u64) < file_bytes => Ok(None),
        Err(Problem::Trouble(Trouble::Short)) => Err(bad("it ends within its header".to_owned())),
        Err(Problem::Trouble(Trouble::Lie(what))) => Err(bad(what)),
        Err(Problem::Trouble(Trouble::Large(what))) => Err(Error::Limit(format!(
            "{file}: up to {what}, its header takes more than {} MB of memory, which no model needs; convert the \
             model anew",
            MAX_HEADER_MEMORY >> 20
        ))),
        Err(Problem::Unsupported(what)) => Err(Error::Unsupported(format!("{file}: {what}"))),
    }
}

enum Problem {
    Trouble(Trouble),
    Unsupported(String),
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        Problem::Trouble(trouble)
    }
}

/// Tensor entry as the file stores it.
struct RawTensor {
    name: String,
    /// Dimensions, row length first.
    dimensions: Vec<u64>,
    kind: u32,
    offset: u64,
}

struct RawHeader {
    metadata: Metadata,
    tensors: Vec<RawTensor>,
    end: u64,
}

fn read_header(cursor: &mut Cursor<'_>) -> std::result::Result<RawHeader, Problem> {
    let (metadata, n_tensors) = read_metadata(cursor)?;
    let mut tensors = Vec::new();
    for index in 0..n_tensors {
        tensors.push(read_tensor(cursor, index)?);
    }
    Ok(RawHeader { metadata, tensors, end: cursor.position() })
}

/// Reads everything before the list of tensors, and returns it with the number of tensors.
fn read_metadata(cursor: &mut Cursor<'_>) -> std::result::Result<(Metadata, usize), Problem> {
    let magic = cursor.u32("its magic number")?.to_le_bytes();
    if magic != MAGIC {
        return Err(Trouble::Lie("it is not a GGUF file".to_owned()).into());
    }
    let version = cursor.u32("its version")?;
    if !(2..=VERSION).contains(&version) {
        let big_endian = if version.swap_bytes() <= VERSION { " (it is big-endian)" } else { "" };
        return Err(Problem::Unsupported(format!(
            "GGUF version {version}{big_endian} is not supported; versions 2 and 3 are: convert the model anew"
        )));
    }
    // The smallest tensor entry has an empty name, no dimensions, a type and an offset; the smallest metadata
    // entry has an empty key, a type and a value of one byte.
    let n_tensors = cursor.count(8 + 4 + 4 + 8, "its list of tensors")?;
    let n_entries = cursor.count(8 + 4 + 1, "its metadata")?;
    let mut metadata = Metadata::default();
    let mut seen = HashSet::new();
    for _ in 0..n_entries {
        let key = cursor.string("a metadata key")?;
        let what = format!("metadata key {key}");
        // The key is there twice while keys are compared.
        cursor.spend(size_of::<(String, Value)>() + size_of::<String>() + key.len(), &what)?;
        let value = cursor.typed_value(&what)?;
        if !seen.insert(key.clone()) {
            return Err(Trouble::Lie(format!("metadata key {key} occurs twice")).into());
        }
        metadata.entries.push((key, value));
    }
    Ok((metadata, n_tensors))
}

fn read_tensor(cursor: &mut Cursor<'_>, index: usize) -> std::result::Result<RawTensor, Problem> {
    let name = cursor.string(&format!("the name of tensor {index}"))?;
    let what = format!("tensor {name}");
    // Name and dimensions are there twice when the entry is checked.
    let lists = 2 * MAX_DIMENSIONS as usize * size_of::<u64>();
    cursor.spend(size_of::<RawTensor>() + size_of::<TensorInfo>() + lists + name.len(), &what)?;
    let n_dimensions = cursor.u32(&what)?;
    if n_dimensions > MAX_DIMENSIONS {
        return Err(Trouble::Lie(format!("{what} claims {n_dimensions} dimensions")).into());
    }
    let dimensions =
        (0..n_dimensions).map(|_| cursor.u64(&what)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RawTensor { name, dimensions, kind: cursor.u32(&what)?, offset: cursor.u64(&what)? })
}

impl RawHeader {
    fn check(self, file: &str, file_bytes: u64) -> Result<Header> {
        let bad = |what: String| Error::Format(format!("{file}: {what}; download the file again"));
        let alignment = alignment(&self.metadata).map_err(bad)?;
        let data_start = self.end.next_multiple_of(alignment);
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        for raw in &self.tensors {
            if !names.insert(raw.name.as_str()) {
                return Err(bad(format!("tensor {} occurs twice", raw.name)));
            }
            let element = element_of(raw.kind).ok_or_else(|| unsupported_type(file, raw))?;
            tensors.push(placed(raw, element, data_start, alignment, file_bytes).map_err(bad)?);
        }
        tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
        for pair in tensors.windows(2) {
            if let [before, after] = pair
                && before.offset.saturating_add(before.bytes) > after.offset
            {
                return Err(bad(format!("tensors {} and {} overlap", before.name, after.name)));
            }
        }
        let split = split(&self.metadata).map_err(bad)?;
        Ok(Header { metadata: self.metadata, tensors, split })
    }
}

type Checked<T> = std::result::Result<T, String>;

/// Returns the alignment that the metadata specifies, or a message if it is not a power of two up to 2^20.
fn alignment(metadata: &Metadata) -> Checked<u64> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.as_u64() {
        Some(n) if n.is_power_of_two() && n <= 1 << 20 => Ok(n),
        _ => Err(format!("{ALIGNMENT_KEY} is {value}, not a power of two")),
    }
}

fn placed(
    raw: &RawTensor,
    element: Element,
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Checked<TensorInfo> {
    let name = &raw.name;
    let row = raw.dimensions.first().copied().unwrap_or(1);
    let elements = raw
        .dimensions
        .iter()
        .try_fold(1u64, |product, n| product.checked_mul(*n))
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("tensor {name} has dimensions {:?}, which cannot be", raw.dimensions))?;
    let (weights, _) = element.block();
    if !row.is_multiple_of(weights) {
        return Err(format!("tensor {name} has rows of {row}, no whole blocks of {element}"));
    }
    let bytes = element.bytes(elements).ok_or_else(|| format!("tensor {name} is impossibly large"))?;
    if !raw.offset.is_multiple_of(alignment) {
        return Err(format!("tensor {name} begins at {}, not at a multiple of {alignment}", raw.offset));
    }
    let offset = data_start.checked_add(raw.offset);
    let end = offset.and_then(|offset| offset.checked_add(bytes));
    match (offset, end) {
        (Some(offset), Some(end)) if end <= file_bytes => Ok(TensorInfo {
            name: name.clone(),
            element,
            shape: raw.dimensions.iter().rev().copied().collect(),
            offset,
            bytes,
        }),
        _ => Err(format!(
            "tensor {name} runs past the end of the file, which has {file_bytes} bytes; it is truncated"
        )),
    }
}

fn split(metadata: &Metadata) -> Checked<Option<Split>> {
    let number = |key: &str| match metadata.get(key) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{key} is {value}, not a number")),
    };
    let [place, count, tensors] = SPLIT_KEYS.map(number);
    match (place?, count?, tensors?) {
        (_, None | Some(0 | 1), _) => Ok(None),
        (Some(number), Some(count), tensors) if number < count => {
            Ok(Some(Split { number, count, tensors: tensors.unwrap_or(0) }))
        }
        (number, Some(count), _) => {
            let number = number.map_or("missing".to_owned(), |n| n.to_string());
            Err(format!("its {} is {number}, but there are {count} files", SPLIT_KEYS[0]))
        }
    }
}

/// Numbers of the float types in GGUF files.
const FLOATS: [(Element, u32); 3] = [(Element::F32, 0), (Element::F16, 1), (Element::Bf16, 30)];

fn element_of(id: u32) -> Option<Element> {
    let float = FLOATS.iter().find(|(_, number)| *number == id).map(|(element, _)| *element);
    float.or_else(|| BlockType::from_ggml_id(id).map(Element::Block))
}

/// Returns the number of a type in GGUF files.
fn id_of(element: Element) -> u32 {
    match element {
        Element::Block(block) => block.ggml_id(),
        float => FLOATS.iter().find(|(each, _)| *each == float).map_or(0, |(_, id)| *id),
    }
}

/// Numbers and names of types that are not supported, for messages.
const REFUSED: [(u32, &str); 21] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
];

fn unsupported_type(file: &str, tensor: &RawTensor) -> Error {
    let known = REFUSED.iter().find(|(id, _)| *id == tensor.kind).map(|(_, name)| (*name).to_owned());
    let name = known.unwrap_or_else(|| format!("number {}", tensor.kind));
    let ours: Vec<&str> = BlockType::ALL.iter().map(|block| block.name()).collect();
    Error::Unsupported(format!(
        "{file}: tensor {} is of type {name}, which is not supported; F32, F16, BF16, {} are",
        tensor.name,
        ours.join(", ")
    ))
}
