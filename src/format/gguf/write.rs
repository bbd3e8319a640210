//! Encoding of GGUF headers for new files.

use super::value::write_string;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, Metadata, SPLIT_KEYS, VERSION, Value, id_of};
use crate::format::element::Element;

/// Name, element type, shape and size of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTensor {
    /// Tensor name.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Size in bytes, without padding.
    pub bytes: u64,
}

/// Encodes the header of a file that holds `tensors` in this order, each followed by [`padding`]. The result
/// is padded up to the start of the data.
pub fn header_bytes(metadata: &Metadata, tensors: &[OutputTensor]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.entries.len() as u64).to_le_bytes());
    for (key, value) in &metadata.entries {
        write_string(key.as_bytes(), &mut out);
        out.extend((value.kind() as u32).to_le_bytes());
        value.write(&mut out);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        write_string(tensor.name.as_bytes(), &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(id_of(tensor.element).to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes + padding(metadata, tensor.bytes);
    }
    let zeros = padding(metadata, out.len() as u64);
    out.resize(out.len() + zeros as usize, 0);
    out
}

/// Returns the number of zero bytes that must follow `bytes` bytes of data, by the alignment in `metadata`.
pub fn padding(metadata: &Metadata, bytes: u64) -> u64 {
    let alignment = metadata.get(ALIGNMENT_KEY).and_then(Value::as_u64).unwrap_or(DEFAULT_ALIGNMENT).max(1);
    bytes.next_multiple_of(alignment) - bytes
}

/// Returns the metadata of file `number` (counted from 0) of `count`: all entries in the first file, the
/// alignment alone in the others, and the [`SPLIT_KEYS`] in every file. `n_tensors` is the number of tensors
/// in all files.
pub fn split_metadata(metadata: &Metadata, number: u16, count: u16, n_tensors: i32) -> Metadata {
    let mut own = if number == 0 {
        metadata.clone()
    } else {
        let alignment = metadata.get(ALIGNMENT_KEY).map(|value| (ALIGNMENT_KEY.to_owned(), value.clone()));
        Metadata { entries: alignment.into_iter().collect() }
    };
    let values = [Value::U16(number), Value::U16(count), Value::I32(n_tensors)];
    for (key, value) in SPLIT_KEYS.into_iter().zip(values) {
        own.set(key, value);
    }
    own
}

/// Returns the conventional name of file `number` (counted from 0) of `count`: `stem-00001-of-00003.gguf`.
pub fn split_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{:05}-of-{count:05}.gguf", number + 1)
}

/// Parses a name made by [`split_name`] into stem, number (counted from 0) and count; `None` for other names.
pub fn parse_split_name(name: &str) -> Option<(&str, usize, usize)> {
    let (front, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = front.rsplit_once('-')?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse::<usize>().ok()).flatten();
    let (number, count) = (digits(number)?, digits(count)?);
    (1..=count).contains(&number).then(|| (stem, number - 1, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_names_are_one_based_and_survive_parsing() {
        assert_eq!(split_name("a-b", 0, 3), "a-b-00001-of-00003.gguf");
        assert_eq!(parse_split_name("a-b-00001-of-00003.gguf"), Some(("a-b", 0, 3)));
        for name in ["a.gguf", "a-00004-of-00003.gguf", "a-00000-of-00003.gguf", "a-1-of-3.gguf"] {
            assert_eq!(parse_split_name(name), None, "{name}");
        }
    }
}
