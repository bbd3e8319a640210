//! Text to token ids, by the `tokenizer.json` that comes with the model.

use tokenizers::Tokenizer as HfTokenizer;

use super::Config;
use crate::{Error, Result};

/// The conventional file name.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

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
        let mut inner = HfTokenizer::from_bytes(json).map_err(|e| {
            Error::Format(format!("{TOKENIZER_NAME}: not a tokenizer ({e}); download it again"))
        })?;
        // Files carry the padding and truncation of whoever saved them; calibration wants neither.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::Format(format!("{TOKENIZER_NAME}: {e}")))?;
        let largest = inner.get_vocab(true).values().copied().max();
        match largest {
            Some(largest) if (largest as usize) < config.vocab_size => Ok(Self { inner }),
            Some(largest) => Err(Error::Format(format!(
                "{TOKENIZER_NAME}: token {largest} is outside the model's vocabulary of {}; this \
                 tokenizer belongs to another model",
                config.vocab_size
            ))),
            None => Err(Error::Format(format!("{TOKENIZER_NAME}: its vocabulary is empty"))),
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
            .map_err(|e| Error::Format(format!("{TOKENIZER_NAME}: cannot encode the text ({e})")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`; special tokens are kept.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }
}
