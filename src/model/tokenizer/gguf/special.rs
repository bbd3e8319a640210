//! The tokens that begin and end a text.

use super::vocabulary::bad;
use super::{SENTENCE_PIECE, key};
use crate::Result;
use crate::format::gguf::Metadata;

/// Special tokens that the model's configuration names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
}

impl SpecialIds {
    /// Those of the metadata of `file`, whose model has `n_tokens` tokens. Where they are not named, a SentencePiece
    /// vocabulary has its own order, as llama.cpp takes it.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) naming the key for an id out of range.
    pub fn read(file: &str, metadata: &Metadata, n_tokens: usize) -> Result<Self> {
        let of = |key, usual| id_or(file, metadata, key, usual, n_tokens);
        Ok(Self { bos: of(key::BOS, 1)?, eos: of(key::EOS, 2)? })
    }
}

/// The id of a special token, if the metadata names one.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) for one out of range.
pub(super) fn id(file: &str, metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    // Converters write -1, signed or not, for a token that there is none of.
    if value.as_i64() == Some(-1) || value.as_u64() == Some(u64::from(u32::MAX)) {
        return Ok(None);
    }
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < n_tokens);
    id.map(Some).ok_or_else(|| bad(file, key, &format!("is {value}, but there are {n_tokens} tokens")))
}

/// As [`id`], or where SentencePiece has it.
pub(super) fn id_or(
    file: &str,
    metadata: &Metadata,
    key: &str,
    usual: u32,
    n_tokens: usize,
) -> Result<Option<u32>> {
    let sentence_piece = metadata.get(key::MODEL).and_then(|value| value.as_str()) == Some(SENTENCE_PIECE);
    let usual = (sentence_piece && (usual as usize) < n_tokens).then_some(usual);
    Ok(id(file, metadata, key, n_tokens)?.or(usual))
}
