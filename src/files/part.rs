//! One part of a checkpoint: a safetensors file that says what it belongs to and ends in a checksum.
//!
//! `__metadata__` has the version of the format, the hashes of the model and of the text, and the kind of device
//! that computed it. The last tensor, `checksum`, is the CRC-32 of every byte before it. Any reader of safetensors
//! opens such a file; all numbers are little-endian.

use safetensors::Dtype;

use super::parts::PartStore;
use super::source::{SharedSource, read_checked};
use crate::format::safetensors::{
    Header, LENGTH_BYTES, OutputTensor, header_bytes_with, header_length, parse_header,
};
use crate::{Error, Result};

/// Version of the format; a reader refuses any other.
const VERSION: &str = "1";

/// The key of the metadata that holds the version.
const VERSION_KEY: &str = "laminate_checkpoint";

/// The last tensor.
const CHECKSUM: &str = "checksum";

/// Its size.
const CHECKSUM_BYTES: u64 = 4;

/// Parts are verified in pieces of this many bytes.
const PIECE_BYTES: u64 = 8 << 20;

/// Writes one part, tensor after tensor.
pub struct PartWriter<'a> {
    store: &'a mut dyn PartStore,
    checksum: crc32fast::Hasher,
    bytes: u64,
}

impl<'a> PartWriter<'a> {
    /// Begins the part `name` with `tensors` of these shapes, whose values follow in the same order. The part's
    /// metadata says `about` it what it belongs to, as pairs of key and value.
    ///
    /// # Errors
    /// What [`PartStore::create`] and [`PartStore::write`] give.
    pub async fn begin(
        store: &'a mut dyn PartStore,
        name: &str,
        about: &[(&str, &str)],
        tensors: &[(&str, Dtype, Vec<u64>)],
    ) -> Result<Self> {
        let last = (CHECKSUM, Dtype::U32, vec![1]);
        let outputs: Vec<OutputTensor> = tensors
            .iter()
            .chain(std::iter::once(&last))
            .map(|(name, dtype, shape)| OutputTensor {
                name: (*name).to_owned(),
                dtype: *dtype,
                shape: shape.clone(),
                bytes: shape.iter().product::<u64>() * (dtype.bitsize() as u64 / 8),
            })
            .collect();
        let metadata: Vec<(&str, &str)> =
            std::iter::once((VERSION_KEY, VERSION)).chain(about.iter().copied()).collect();
        store.create(name).await?;
        let mut writer = Self { store, checksum: crc32fast::Hasher::new(), bytes: 0 };
        writer.append(&header_bytes_with(&outputs, &metadata)).await?;
        Ok(writer)
    }

    /// Appends values.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.store.write(bytes).await
    }

    /// Ends the part and gives its size in bytes.
    pub async fn finish(self) -> Result<u64> {
        let checksum = self.checksum.finalize().to_le_bytes();
        self.store.write(&checksum).await?;
        self.store.close().await?;
        Ok(self.bytes + CHECKSUM_BYTES)
    }
}

/// A part that was read back and is whole.
pub struct Part {
    source: SharedSource,
    header: Header,
}

impl Part {
    /// Opens the part `name` and compares its version and its checksum.
    ///
    /// # Errors
    /// [`Error::Format`] in one clause without the name, for a part that is damaged or of another version of the
    /// program; what [`PartStore::open`] and reading give.
    pub async fn open(store: &dyn PartStore, name: &str) -> Result<Self> {
        let source = store.open(name).await?;
        let bad = |_| damaged("its header cannot be read");
        let first = read_checked(source.as_ref(), 0, LENGTH_BYTES.min(source.size())).await?;
        let length = header_length(name, &first, source.size()).map_err(bad)?;
        let json = read_checked(source.as_ref(), LENGTH_BYTES, length).await?;
        let header = parse_header(name, &json, source.size()).map_err(bad)?;
        if header.metadata.get(VERSION_KEY).map(String::as_str) != Some(VERSION) {
            let message = "it was kept by another version of this program";
            return Err(Error::Format(message.to_owned()));
        }
        if !is_whole(&source, &header).await? {
            return Err(damaged("its checksum differs"));
        }
        Ok(Self { source, header })
    }

    /// What the metadata of the part says under `key`; empty where the part says nothing.
    pub fn about(&self, key: &str) -> &str {
        self.header.metadata.get(key).map(String::as_str).unwrap_or_default()
    }

    /// The names of its tensors, but for the checksum.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.iter().map(|(name, _)| name.as_str()).filter(|name| *name != CHECKSUM)
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: &str) -> Result<&[u64]> {
        self.info(tensor).map(|info| info.shape.as_slice())
    }

    /// So many bytes of a tensor from `from` on.
    pub async fn bytes(&self, tensor: &str, from: u64, length: u64) -> Result<Vec<u8>> {
        let info = self.info(tensor)?;
        if from.checked_add(length).is_none_or(|end| end > info.bytes) {
            return Err(damaged(&format!("{tensor} is too short")));
        }
        read_checked(self.source.as_ref(), info.offset + from, length).await
    }

    /// All bytes of a tensor.
    pub async fn all_bytes(&self, tensor: &str) -> Result<Vec<u8>> {
        self.bytes(tensor, 0, self.info(tensor)?.bytes).await
    }

    fn info(&self, tensor: &str) -> Result<&crate::format::safetensors::TensorInfo> {
        let found = self.header.tensors.iter().find(|(name, _)| name == tensor);
        found.map(|(_, info)| info).ok_or_else(|| damaged(&format!("{tensor} is missing")))
    }
}

/// A part whose bytes are not what was written.
pub fn damaged(why: &str) -> Error {
    Error::Format(format!("it is damaged ({why})"))
}

async fn is_whole(source: &SharedSource, header: &Header) -> Result<bool> {
    let Some((name, last)) = header.tensors.last() else { return Ok(false) };
    if name != CHECKSUM || last.bytes != CHECKSUM_BYTES {
        return Ok(false);
    }
    let mut checksum = crc32fast::Hasher::new();
    let mut at = 0;
    while at < last.offset {
        let length = PIECE_BYTES.min(last.offset - at);
        checksum.update(&read_checked(source.as_ref(), at, length).await?);
        at += length;
    }
    let stored = read_checked(source.as_ref(), last.offset, CHECKSUM_BYTES).await?;
    Ok(stored == checksum.finalize().to_le_bytes())
}
