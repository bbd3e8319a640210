//! safetensors headers: parsing and writing.
//!
//! A file consists of the header's length (`u64`, little-endian), the header as JSON, and the data. The JSON
//! is `{"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {}}`,
//! with offsets relative to the end of the header, without holes or overlaps.
//!
//! The `safetensors` crate keeps offsets in `usize`, so on wasm32 it refuses the 5 GB shards that model hubs
//! serve; this reader keeps offsets in `u64`. Element types are the crate's [`Dtype`], and a test reads the
//! output of [`header_bytes`] with the crate.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Error, Result};

/// Longest header that is accepted, in bytes; the reference implementation has the same limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Size in bytes of the length field at the start of a file, which precedes the JSON.
pub const LENGTH_BYTES: u64 = 8;

/// Element type, shape and location of one tensor in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type, as the file names it.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Offset of the first byte from the start of the file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Parsed header: tensors in the order of their data, and free-form metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Names and locations of the tensors, in the order of their data.
    pub tensors: Vec<(String, TensorInfo)>,
    /// The `__metadata__` map.
    pub metadata: BTreeMap<String, String>,
}

/// Most dimensions of a tensor. A list without end would take many times the memory of its text.
const MAX_DIMENSIONS: usize = 64;

/// Key of the free-form metadata.
const METADATA_KEY: &str = "__metadata__";

#[derive(Deserialize)]
struct RawInfo {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Dimensions, at most [`MAX_DIMENSIONS`].
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_DIMENSIONS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = list.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(de::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    shape.push(dimension);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

/// A header as its JSON has it. Entries are read as what they are, because generic JSON takes up to 16 times the memory
/// of its text.
#[derive(Default)]
struct RawHeader {
    tensors: BTreeMap<String, RawInfo>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA_KEY {
                        let bad =
                            |e| de::Error::custom(format!("its {METADATA_KEY} is not a map of strings: {e}"));
                        header.metadata = map.next_value().map_err(bad)?;
                        continue;
                    }
                    let bad =
                        |e| de::Error::custom(format!("the header entry of tensor {name} is malformed: {e}"));
                    let info = map.next_value().map_err(bad)?;
                    header.tensors.insert(name, info);
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads the header's length in bytes from `first_bytes`, the first eight bytes of a file of `file_bytes`
/// bytes.
///
/// # Errors
/// [`Error::Format`], with the name `file`, if `first_bytes` are not eight bytes, if the header is longer
/// than [`MAX_HEADER_BYTES`], or if the file is shorter than its header says.
pub fn header_length(file: &str, first_bytes: &[u8], file_bytes: u64) -> Result<u64> {
    let Ok(bytes) = <[u8; LENGTH_BYTES as usize]>::try_from(first_bytes) else {
        return Err(Error::Format(format!("{file}: too short to be a safetensors file; download it again")));
    };
    let length = u64::from_le_bytes(bytes);
    if length > MAX_HEADER_BYTES {
        return Err(Error::Format(format!(
            "{file}: its header claims {length} bytes, more than the {MAX_HEADER_BYTES} allowed; it \
             is not a safetensors file or is damaged"
        )));
    }
    if length > file_bytes.saturating_sub(LENGTH_BYTES) {
        return Err(Error::Format(format!(
            "{file}: its header claims {length} bytes but the file has {file_bytes}; it is \
             truncated: download it again"
        )));
    }
    Ok(length)
}

/// Parses the JSON of a header and checks every offset against the file's size in bytes, `file_bytes`.
///
/// # Errors
/// [`Error::Format`], with the names of `file` and tensor, if the JSON is not a safetensors header, if
/// offsets overlap, leave holes, run backwards or exceed the file, or if a size contradicts element type and
/// shape.
pub fn parse_header(file: &str, json: &[u8], file_bytes: u64) -> Result<Header> {
    let bad = |what: String| Error::Format(format!("{file}: {what}; download the file again"));
    let raw: RawHeader = serde_json::from_slice(json)
        .map_err(|e| bad(format!("its header is not the JSON of a safetensors file ({e})")))?;
    let data_start = LENGTH_BYTES + json.len() as u64;
    let data_bytes = file_bytes.saturating_sub(data_start);
    let mut header = Header { tensors: Vec::new(), metadata: raw.metadata };
    for (name, raw) in raw.tensors {
        let info = checked_info(&name, raw, data_start, data_bytes).map_err(bad)?;
        header.tensors.push((name, info));
    }
    header.tensors.sort_by_key(|(_, info)| (info.offset, info.bytes));
    let mut end = data_start;
    for (name, info) in &header.tensors {
        if info.offset != end {
            let what =
                if info.offset < end { "overlaps the one before it" } else { "leaves a hole before it" };
            return Err(bad(format!("the data of tensor {name} {what}")));
        }
        end = info.offset.saturating_add(info.bytes);
    }
    if end != file_bytes {
        return Err(bad(format!("its tensors end at byte {end} but the file has {file_bytes}")));
    }
    Ok(header)
}

fn checked_info(
    name: &str,
    raw: RawInfo,
    data_start: u64,
    data_bytes: u64,
) -> std::result::Result<TensorInfo, String> {
    let RawInfo { dtype, shape: Shape(shape), data_offsets: (begin, end) } = raw;
    if begin > end || end > data_bytes {
        return Err(format!("tensor {name} claims bytes {begin} to {end} of {data_bytes} bytes of data"));
    }
    let bits = shape
        .iter()
        .try_fold(dtype.bitsize() as u64, |n, d| n.checked_mul(*d))
        .ok_or_else(|| format!("tensor {name} has an impossible shape {shape:?}"))?;
    if bits % 8 != 0 || bits / 8 != end - begin {
        return Err(format!(
            "tensor {name} is {:?} of shape {:?}, which is {} bytes, but its data has {}",
            dtype,
            shape,
            bits / 8,
            end - begin
        ));
    }
    Ok(TensorInfo { dtype, shape, offset: data_start + begin, bytes: end - begin })
}

/// Name, element type, shape and size of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTensor {
    /// Name in the new file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Size in bytes.
    pub bytes: u64,
}

/// Encodes the header of a file that holds `tensors` in this order: length and JSON, padded with spaces so
/// that the data starts at a multiple of eight bytes.
pub fn header_bytes(tensors: &[OutputTensor]) -> Vec<u8> {
    // transformers refuses a file without the "format" entry.
    header_bytes_with(tensors, &[("format", "pt")])
}

/// Encodes a header like [`header_bytes`], with the given entries in the `__metadata__` map.
pub fn header_bytes_with(tensors: &[OutputTensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut map = serde_json::Map::new();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).into()));
    map.insert("__metadata__".into(), serde_json::Value::Object(metadata.collect()));
    let mut begin = 0;
    for tensor in tensors {
        let end = begin + tensor.bytes;
        let entry = serde_json::json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]
        });
        map.insert(tensor.name.clone(), entry);
        begin = end;
    }
    let mut json = serde_json::Value::Object(map).to_string().into_bytes();
    while !json.len().is_multiple_of(8) {
        json.push(b' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str, data_bytes: u64) -> Result<Header> {
        parse_header("m.safetensors", json.as_bytes(), 8 + json.len() as u64 + data_bytes)
    }

    #[track_caller]
    fn refused(json: &str, data_bytes: u64, expected: &str) {
        let message = parse(json, data_bytes).unwrap_err().to_string();
        assert!(message.starts_with("m.safetensors: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn header_longer_than_the_file_is_refused() {
        let message = header_length("m", &1000u64.to_le_bytes(), 100).unwrap_err().to_string();
        assert!(message.contains("claims 1000 bytes but the file has 100"), "{message}");
        assert!(header_length("m", &u64::MAX.to_le_bytes(), 100).is_err());
        assert!(header_length("m", &[0; 3], 3).is_err());
    }

    #[test]
    fn overlapping_tensors_are_refused() {
        refused(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "tensor b overlaps",
        );
    }

    #[test]
    fn holes_between_tensors_are_refused() {
        refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "tensor a leaves a hole");
    }

    #[test]
    fn offsets_out_of_the_file_are_refused() {
        refused(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            4,
            "tensor a claims bytes 0 to 8",
        );
        refused(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            8,
            "tensor a claims bytes 8 to 0",
        );
    }

    #[test]
    fn sizes_that_contradict_the_shape_are_refused() {
        refused(
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
            "which is 12 bytes, but its data has 8",
        );
        refused(
            r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#,
            8,
            "impossible shape",
        );
    }

    #[test]
    fn bytes_after_the_last_tensor_are_refused() {
        refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, "but the file has");
    }

    #[test]
    fn json_that_is_no_header_is_refused() {
        refused("[1,2]", 0, "not the JSON");
        refused(r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#, 8, "tensor a is malformed");
        refused(r#"{"a":7}"#, 8, "tensor a is malformed");
        refused(r#"{"__metadata__":{"a":1}}"#, 8, "__metadata__ is not a map of strings");
        let long = vec!["1"; 100_000].join(",");
        let json = format!(r#"{{"a":{{"dtype":"F32","shape":[{long}],"data_offsets":[0,4]}}}}"#);
        refused(&json, 4, "at most 64 dimensions");
    }

    #[test]
    fn the_reference_crate_reads_our_headers() {
        let tensor = |name: &str, shape: &[u64], bytes| OutputTensor {
            name: name.into(),
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            bytes,
        };
        let tensors = [tensor("z", &[2, 3], 12), tensor("a", &[4], 8)];
        let mut file = header_bytes(&tensors);
        assert_eq!(file.len() % 8, 0);
        let json = file[8..].to_vec();
        file.extend(0..20u8);
        let theirs = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().data(), (12..20).collect::<Vec<u8>>());
        assert_eq!(theirs.tensor("z").unwrap().shape(), [2, 3]);
        let ours = parse_header("f", &json, file.len() as u64).unwrap();
        assert_eq!(ours.tensors[1].0, "a");
        assert_eq!(ours.tensors[1].1.offset, file.len() as u64 - 8);
        assert_eq!(ours.metadata["format"], "pt");
    }

    #[test]
    fn shards_beyond_four_gigabytes_are_read() {
        let json = r#"{"a":{"dtype":"F16","shape":[4000000000],"data_offsets":[0,8000000000]}}"#;
        let header = parse(json, 8_000_000_000).unwrap();
        assert_eq!(header.tensors[0].1.bytes, 8_000_000_000);
    }
}
