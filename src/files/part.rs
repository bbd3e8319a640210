//! Part of a checkpoint: a safetensors file that says what it belongs to and ends with a checksum.
//!
//! `__metadata__` has the version of the format, the hashes of the model and of the text, and the kind of
//! device that computed the part. The last tensor, `checksum`, is the CRC-32 of all bytes before it. Any
//! reader of safetensors opens a part; all numbers are little-endian.

use safetensors::Dtype;

use super::parts::PartStore;
use super::source::{SharedSource, read_checked};
use crate::format::safetensors::{
    Header, LENGTH_BYTES, OutputTensor, header_bytes_with, header_length, parse_header,
};
use crate::{Error, Result};

/// Version of the format; a reader refuses any other version.
const VERSION: &str = "1";

/// Metadata key of the version.
const VERSION_KEY: &str = "laminate_checkpoint";

/// Name of the last tensor, the checksum.
const CHECKSUM: &str = "checksum";

/// Size of the checksum in bytes.
const CHECKSUM_BYTES: u64 = 4;

/// Number of bytes read at a time when a part is verified.
const PIECE_BYTES: u64 = 8 << 20;

/// Writer of one part, tensor after tensor.
pub struct PartWriter<'a> {
    store: &'a mut dyn PartStore,
    checksum: crc32fast::Hasher,
    bytes: u64,
}

impl<'a> PartWriter<'a> {
    /// Begins the part `name` with the given `tensors`: name, element type and shape of each. Their values
    /// must be appended in the same order. `about` are pairs of key and value for the part's metadata, which
    /// say what the part belongs to.
    ///
    /// # Errors
    /// Those of [`PartStore::create`] and [`PartStore::write`].
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

    /// Appends bytes of the tensors' values.
    ///
    /// # Errors
    /// Those of [`PartStore::write`].
    pub async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.store.write(bytes).await
    }

    /// Writes the checksum, closes the part and returns its size in bytes.
    ///
    /// # Errors
    /// Those of [`PartStore::write`] and [`PartStore::close`].
    pub async fn finish(self) -> Result<u64> {
        let checksum = self.checksum.finalize().to_le_bytes();
        self.store.write(&checksum).await?;
        self.store.close().await?;
        Ok(self.bytes + CHECKSUM_BYTES)
    }
}

/// Part that was read back and is whole.
pub struct Part {
    source: SharedSource,
    header: Header,
}

impl Part {
    /// Opens the part `name` and compares its version and its checksum.
    ///
    /// # Errors
    /// [`Error::Format`], in one clause without the name, if the part is damaged or from another version of
    /// the program; those of [`PartStore::open`] and [`read_checked`].
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

    /// Returns the metadata value of `key`; empty if the part has none.
    pub fn about(&self, key: &str) -> &str {
        self.header.metadata.get(key).map(String::as_str).unwrap_or_default()
    }

    /// Returns the names of the tensors, without the checksum.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.iter().map(|(name, _)| name.as_str()).filter(|name| *name != CHECKSUM)
    }

    /// Returns the shape of a tensor.
    ///
    /// # Errors
    /// [`Error::Format`] if the part has no such tensor.
    pub fn shape(&self, tensor: &str) -> Result<&[u64]> {
        self.info(tensor).map(|info| info.shape.as_slice())
    }

    /// Reads `length` bytes of a tensor from byte `from` on.
    ///
    /// # Errors
    /// [`Error::Format`] if the part has no such tensor or the tensor is too short; those of
    /// [`read_checked`].
    pub async fn bytes(&self, tensor: &str, from: u64, length: u64) -> Result<Vec<u8>> {
        let info = self.info(tensor)?;
        if from.checked_add(length).is_none_or(|end| end > info.bytes) {
            return Err(damaged(&format!("{tensor} is too short")));
        }
        read_checked(self.source.as_ref(), info.offset + from, length).await
    }

    /// Reads all bytes of a tensor.
    ///
    /// # Errors
    /// Those of [`Part::bytes`].
    pub async fn all_bytes(&self, tensor: &str) -> Result<Vec<u8>> {
        self.bytes(tensor, 0, self.info(tensor)?.bytes).await
    }

    fn info(&self, tensor: &str) -> Result<&crate::format::safetensors::TensorInfo> {
        let found = self.header.tensors.iter().find(|(name, _)| name == tensor);
        found.map(|(_, info)| info).ok_or_else(|| damaged(&format!("{tensor} is missing")))
    }
}

/// Makes the error of a part whose bytes are not those that were written; `why` is a clause.
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
