//! Special tokens of a GGUF file, such as BOS and EOS, and the metadata keys that name them.

use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Value of [`key::MODEL`] for SentencePiece vocabularies.
pub const SENTENCE_PIECE: &str = "llama";

/// Metadata keys of the kind of tokenizer and of the special tokens.
pub mod key {
    /// Kind of tokenizer: `llama` for SentencePiece, `gpt2` for byte-level BPE.
    pub const MODEL: &str = "tokenizer.ggml.model";
    /// Id of the token that begins a text.
    pub const BOS: &str = "tokenizer.ggml.bos_token_id";
    /// Id of the token that ends a text.
    pub const EOS: &str = "tokenizer.ggml.eos_token_id";
    /// Id of the token that replaces characters without a token.
    pub const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    /// Id of the token that pads sequences.
    pub const PADDING: &str = "tokenizer.ggml.padding_token_id";
}

/// Ids of the tokens that begin and end a text, where the model names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Id of the token that begins a text.
    pub bos: Option<u32>,
    /// Id of the token that ends a text.
    pub eos: Option<u32>,
}

impl SpecialIds {
    /// Reads the ids from the metadata of the GGUF file `file`, whose vocabulary has `n_tokens` tokens. If
    /// the metadata of a SentencePiece vocabulary name no id, BOS is 1 and EOS is 2, as in llama.cpp.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key, if a value is not an id below `n_tokens`.
    pub fn read(file: &str, metadata: &Metadata, n_tokens: usize) -> Result<Self> {
        let of = |key, usual| id_or(file, metadata, key, usual, n_tokens);
        Ok(Self { bos: of(key::BOS, 1)?, eos: of(key::EOS, 2)? })
    }
}

/// Reads the id of the special token under `key`; `None` if the metadata name no token.
///
/// # Errors
/// [`Error::Format`], naming the key, if the value is not an id below `n_tokens`.
pub fn id(file: &str, metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    // Converters write -1, signed or unsigned, for a token that the model does not have.
    if value.as_i64() == Some(-1) || value.as_u64() == Some(u64::from(u32::MAX)) {
        return Ok(None);
    }
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < n_tokens);
    id.map(Some).ok_or_else(|| bad(file, key, &format!("is {value}, but there are {n_tokens} tokens")))
}

/// Reads an id as [`id`] does. If the metadata of a SentencePiece vocabulary name no id, returns `usual`,
/// SentencePiece's id for the token.
///
/// # Errors
/// Those of [`id`].
pub fn id_or(file: &str, metadata: &Metadata, key: &str, usual: u32, n_tokens: usize) -> Result<Option<u32>> {
    let sentence_piece = metadata.get(key::MODEL).and_then(|value| value.as_str()) == Some(SENTENCE_PIECE);
    let usual = (sentence_piece && (usual as usize) < n_tokens).then_some(usual);
    Ok(id(file, metadata, key, n_tokens)?.or(usual))
}

/// Makes the [`Error::Format`] that says what is wrong with `key` in `file`.
pub fn bad(file: &str, key: &str, what: &str) -> Error {
    Error::Format(format!("{file}: {key} {what}; convert the model anew"))
}
