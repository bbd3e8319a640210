//! Special tokens of a GGUF file, such as BOS and EOS, and the metadata keys that name them.

use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Value of [`key::MODEL`] for SentencePiece vocabularies.
pub const SENTENCE_PIECE: &str = "llama";

/// Metadata keys of the kind of tokenizer and of the special tokens.
pub mod key {
    /// Kind of tokenizer: `llama` for SentencePiece, `gpt2` for byte-level BPE.
    pub const MODEL: &str = "tokenizer.ggml.model";
    /// List of all tokens.
    pub const TOKENS: &str = "tokenizer.ggml.tokens";
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
    /// Reads the ids from the metadata of the GGUF file `file`, whose embedding has `n_rows` rows. If the
    /// metadata of a SentencePiece vocabulary name no id, or one outside the vocabulary, BOS is 1 and EOS is
    /// 2, as in llama.cpp.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key, if a value is no id, or if the BOS of another vocabulary is outside
    /// the vocabulary: there is none to take instead, and every sequence begins with BOS.
    pub fn read(file: &str, metadata: &Metadata, n_rows: usize) -> Result<Self> {
        let n_tokens = metadata.get(key::TOKENS).and_then(|list| list.as_array()).map_or(n_rows, <[_]>::len);
        let of = |key, usual| id_or(file, metadata, key, usual, n_tokens);
        let (bos, eos) = (of(key::BOS, 1)?, of(key::EOS, 2)?);
        match (bos, given(file, metadata, key::BOS)?) {
            (None, Some(id)) => {
                Err(bad(file, key::BOS, &format!("is {id}, but there are {n_tokens} tokens")))
            }
            _ => Ok(Self { bos, eos }),
        }
    }
}

/// Reads the id of the special token under `key`; `None` if the metadata name no token, or one that is not below
/// `n_tokens`: llama.cpp ignores such an id.
///
/// # Errors
/// [`Error::Format`], naming the key, if the value is no id.
pub fn id(file: &str, metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>> {
    let id = given(file, metadata, key)?.and_then(|id| u32::try_from(id).ok());
    Ok(id.filter(|id| (*id as usize) < n_tokens))
}

/// Reads the number under `key`; `None` if the metadata name no token.
fn given(file: &str, metadata: &Metadata, key: &str) -> Result<Option<u64>> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    // Converters write -1, signed or unsigned, for a token that the model does not have.
    if value.as_i64() == Some(-1) || value.as_u64() == Some(u64::from(u32::MAX)) {
        return Ok(None);
    }
    value.as_u64().map(Some).ok_or_else(|| bad(file, key, &format!("is {value}, not the number of a token")))
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

/// Returns a note, in a sentence, for each special token that the metadata name by an id outside the vocabulary, and
/// that is therefore ignored as in llama.cpp. The model's embedding has `n_rows` rows.
pub fn notes_on_ids(metadata: &Metadata, n_rows: usize) -> Vec<String> {
    let n_tokens = metadata.get(key::TOKENS).and_then(|list| list.as_array()).map_or(n_rows, <[_]>::len);
    let note = |key: &str| {
        let given = given("", metadata, key).ok()??;
        (given >= n_tokens as u64).then(|| {
            format!("{key} is {given}, but there are {n_tokens} tokens: it is ignored, as llama.cpp does.")
        })
    };
    [key::BOS, key::EOS, key::UNKNOWN, key::PADDING].into_iter().filter_map(note).collect()
}

/// Makes the [`Error::Format`] that says what is wrong with `key` in `file`.
pub fn bad(file: &str, key: &str, what: &str) -> Error {
    Error::Format(format!("{file}: {key} {what}; convert the model anew"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::gguf::Value;

    #[test]
    fn ids_that_are_ignored_are_said() {
        let mut metadata = Metadata::default();
        metadata.set(key::TOKENS, Value::strings(["a".to_owned(), "b".to_owned()]));
        metadata.set(key::BOS, Value::U32(1));
        metadata.set(key::UNKNOWN, Value::I32(-1));
        metadata.set(key::EOS, Value::U32(2));
        let notes = notes_on_ids(&metadata, 512);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].starts_with("tokenizer.ggml.eos_token_id is 2, but there are 2 tokens"),
            "{notes:?}"
        );
    }
}
