//! Text to token ids, by the tokenizer that comes with the model.

pub mod gguf;

use tokenizers::Tokenizer as HfTokenizer;

use super::config::{Config, Upstream};
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// The conventional file name.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

/// What transformers wants to know besides.
pub const TOKENIZER_CONFIG_NAME: &str = "tokenizer_config.json";

/// A tokenizer that fits its model.
pub struct Tokenizer {
    inner: HfTokenizer,
}

impl Tokenizer {
    /// Parses `tokenizer.json` and checks that every id it can produce is a row of the embedding.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is not a tokenizer, or belongs to another vocabulary.
    pub fn parse(json: &[u8], config: &Config) -> Result<Self> {
        let inner = HfTokenizer::from_bytes(json).map_err(|e| {
            Error::Format(format!("{TOKENIZER_NAME}: not a tokenizer ({e}); download it again"))
        })?;
        Self::fitting(TOKENIZER_NAME, inner, config)
    }

    /// The tokenizer that the metadata of the GGUF file `file` describes.
    ///
    /// # Errors
    /// As [`gguf::from_metadata`], and [`Error::Format`] if it belongs to another vocabulary.
    pub fn from_config(file: &str, config: &Config) -> Result<Self> {
        let none = Metadata::default();
        let metadata = match &config.upstream {
            Upstream::Gguf(metadata) => metadata,
            Upstream::HuggingFace(_) => &none,
        };
        Self::fitting(file, gguf::from_metadata(file, metadata)?, config)
    }

    fn fitting(file: &str, mut inner: HfTokenizer, config: &Config) -> Result<Self> {
        // Files carry the padding and truncation of whoever saved them; calibration wants neither.
        inner.with_padding(None);
        // A text that spells a special token is about it, and gives the same ids whatever file the model is in.
        inner.set_encode_special_tokens(true);
        inner.with_truncation(None).map_err(|e| Error::Format(format!("{file}: {e}")))?;
        let largest = inner.get_vocab(true).values().copied().max();
        match largest {
            Some(largest) if (largest as usize) < config.vocab_size => Ok(Self { inner }),
            Some(largest) => Err(Error::Format(format!(
                "{file}: token {largest} is outside the model's vocabulary of {}; this \
                 tokenizer belongs to another model",
                config.vocab_size
            ))),
            None => Err(Error::Format(format!("{file}: its vocabulary is empty"))),
        }
    }

    /// Token ids of `text`, without special tokens.
    ///
    /// # Errors
    /// [`Error::Format`] if the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::Format(format!("the tokenizer cannot encode the text ({e})")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`; special tokens are kept.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    /// The files of a Hugging Face folder for a model that comes from a GGUF file; none for one that brings
    /// them.
    ///
    /// # Errors
    /// [`Error::Format`] if one cannot be written.
    pub fn new_files(&self, config: &Config) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Upstream::Gguf(metadata) = &config.upstream else {
            return Ok(Vec::new());
        };
        let json = self.inner.to_string(true);
        let json = json.map_err(|e| Error::Format(format!("{TOKENIZER_NAME}: cannot be written ({e})")))?;
        let settings = gguf::tokenizer_config(metadata, config.context)?;
        Ok(vec![(TOKENIZER_NAME, json.into_bytes()), (TOKENIZER_CONFIG_NAME, settings)])
    }
}
