//! The tokens that begin and end a text, and the keys of a GGUF file that name them.

use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// The tokenizer model of SentencePiece vocabularies.
pub const SENTENCE_PIECE: &str = "llama";

/// Keys of the metadata.
pub mod key {
    /// What kind of tokenizer it is.
    pub const MODEL: &str = "tokenizer.ggml.model";
    /// The token that begins a text.
    pub const BOS: &str = "tokenizer.ggml.bos_token_id";
    /// The token that ends a text.
    pub const EOS: &str = "tokenizer.ggml.eos_token_id";
    /// The token that stands for characters without one.
    pub const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    /// The token that fills sequences up.
    pub const PADDING: &str = "tokenizer.ggml.padding_token_id";
}

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
    /// [`Error::Format`] naming the key for an id out of range.
    pub fn read(file: &str, metadata: &Metadata, n_tokens: usize) -> Result<Self> {
        let of = |key, usual| id_or(file, metadata, key, usual, n_tokens);
        Ok(Self { bos: of(key::BOS, 1)?, eos: of(key::EOS, 2)? })
    }
}

/// The id of a special token, if the metadata names one.
///
/// # Errors
/// [`Error::Format`] for one out of range.
pub fn id(file: &str, metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>> {
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
pub fn id_or(file: &str, metadata: &Metadata, key: &str, usual: u32, n_tokens: usize) -> Result<Option<u32>> {
    let sentence_piece = metadata.get(key::MODEL).and_then(|value| value.as_str()) == Some(SENTENCE_PIECE);
    let usual = (sentence_piece && (usual as usize) < n_tokens).then_some(usual);
    Ok(id(file, metadata, key, n_tokens)?.or(usual))
}

/// What is wrong with a key of `file`.
pub fn bad(file: &str, key: &str, what: &str) -> Error {
    Error::Format(format!("{file}: {key} {what}; convert the model anew"))
}
