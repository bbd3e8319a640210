//! Shard index `model.safetensors.index.json`, which says which shard holds which tensor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Conventional file name of the shard index.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// Conventional file name of a model in a single safetensors file.
pub const SINGLE_NAME: &str = "model.safetensors";

/// Shard index in the format of `transformers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// Free-form metadata of a new index: `total_size`, the bytes of all tensors. That of a file is not read, because
    /// generic JSON takes up to 16 times the memory of its text.
    #[serde(skip_deserializing)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// File name of the shard that holds each tensor, by tensor name.
    pub weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses the JSON of an index file.
    ///
    /// # Errors
    /// [`Error::Format`], with the name `file`, if `json` is not a shard index.
    pub fn parse(file: &str, json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|e| Error::Format(format!("{file}: not a shard index ({e}); download it again")))
    }

    /// Builds the index of a sharded model with `total_bytes` bytes of tensor data.
    pub fn new(total_bytes: u64, weight_map: BTreeMap<String, String>) -> Self {
        let mut metadata = serde_json::Map::new();
        metadata.insert("total_size".into(), total_bytes.into());
        Self { metadata, weight_map }
    }

    /// Returns the file names of all shards, sorted and without duplicates.
    pub fn shards(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Returns the file name of shard `index` (counted from 0) of `count`. The name counts from 1; a single shard
/// is called [`SINGLE_NAME`].
pub fn shard_name(index: usize, count: usize) -> String {
    if count == 1 {
        SINGLE_NAME.to_owned()
    } else {
        format!("model-{:05}-of-{count:05}.safetensors", index + 1)
    }
}

/// Splits tensors of the given sizes in bytes into consecutive shards of at most `max_bytes` of data each,
/// and returns the number of tensors per shard. A tensor larger than `max_bytes` gets a shard of its own.
pub fn split_into_shards(sizes: &[u64], max_bytes: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut bytes) = (0usize, 0u64);
    for size in sizes {
        if count > 0 && bytes.checked_add(*size).is_none_or(|sum| sum > max_bytes) {
            counts.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes = bytes.saturating_add(*size);
    }
    if count > 0 {
        counts.push(count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_at_most_the_limit_and_every_tensor_once() {
        assert_eq!(split_into_shards(&[3, 3, 3], 6), [2, 1]);
        assert_eq!(split_into_shards(&[9, 1, 1], 6), [1, 2]);
        assert_eq!(split_into_shards(&[1, 9], 6), [1, 1]);
        assert_eq!(split_into_shards(&[], 6), Vec::<usize>::new());
        assert_eq!(split_into_shards(&[u64::MAX, u64::MAX], u64::MAX), [1, 1]);
    }

    #[test]
    fn names_follow_transformers() {
        assert_eq!(shard_name(0, 1), "model.safetensors");
        assert_eq!(shard_name(1, 3), "model-00002-of-00003.safetensors");
    }
}
