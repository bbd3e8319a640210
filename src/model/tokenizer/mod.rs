//! Conversion of text to token ids and back, by the tokenizer that comes with the model.

pub mod gguf;

use tokenizers::Tokenizer as HfTokenizer;

use super::config::{Config, Upstream};
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Name of the tokenizer file of a Hugging Face model.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

/// Name of the file with the tokenizer's settings, which transformers reads beside [`TOKENIZER_NAME`].
pub const TOKENIZER_CONFIG_NAME: &str = "tokenizer_config.json";

/// A tokenizer whose ids are all rows of the model's embedding.
pub struct Tokenizer {
    inner: HfTokenizer,
}

impl Tokenizer {
    /// Parses `tokenizer.json` and checks that every id it can produce is a row of the embedding.
    ///
    /// # Errors
    /// [`Error::Format`] if `json` is not a tokenizer, its vocabulary is empty, or it has an id outside the
    /// model's vocabulary.
    pub fn parse(json: &[u8], config: &Config) -> Result<Self> {
        let inner = HfTokenizer::from_bytes(json).map_err(|e| {
            Error::Format(format!("{TOKENIZER_NAME}: not a tokenizer ({e}); download it again"))
        })?;
        Self::fitting(TOKENIZER_NAME, inner, config)
    }

    /// Builds the tokenizer that the metadata of the GGUF file `file` describe.
    ///
    /// # Errors
    /// Those of [`gguf::from_metadata`], and [`Error::Format`] if the tokenizer has an id outside the model's
    /// vocabulary.
    pub fn from_config(file: &str, config: &Config) -> Result<Self> {
        let none = Metadata::default();
        let metadata = match &config.upstream {
            Upstream::Gguf(metadata) => metadata,
            Upstream::HuggingFace(_) => &none,
        };
        Self::fitting(file, gguf::from_metadata(file, metadata)?, config)
    }

    fn fitting(file: &str, mut inner: HfTokenizer, config: &Config) -> Result<Self> {
        // Files carry the padding and truncation of whoever saved them; calibration needs neither.
        inner.with_padding(None);
        // The name of a special token in a text is encoded as plain text, so that the ids are the same for
        // both kinds of file.
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

    /// Encodes `text` as token ids, without adding special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::Format(format!("the tokenizer cannot encode the text ({e})")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Decodes `ids` to text and keeps special tokens. Ids that cannot be decoded give an empty text.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    /// Makes the tokenizer files of a Hugging Face folder, as names and contents, for a model from a GGUF
    /// file. A Hugging Face model brings these files along, so the list is empty.
    ///
    /// # Errors
    /// [`Error::Format`] if a file cannot be written as JSON, and those of [`gguf::tokenizer_config`].
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
