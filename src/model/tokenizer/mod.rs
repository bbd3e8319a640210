//! Conversion of text to token ids and back, by the tokenizer that comes with the model.

pub mod gguf;
pub mod sentence_piece;

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use tokenizers::Tokenizer as HfTokenizer;

use super::config::hugging_face::AroundText;
use super::config::{Config, Upstream};
use crate::format::Container;
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Name of the tokenizer file of a Hugging Face model.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

/// Name of the file with the tokenizer's settings, which transformers reads beside [`TOKENIZER_NAME`].
pub const TOKENIZER_CONFIG_NAME: &str = "tokenizer_config.json";

/// A tokenizer whose ids are all rows of the model's embedding.
pub struct Tokenizer {
    inner: HfTokenizer,
    /// Id of the token that the tokenizer puts before a text, if any.
    begins_with: Option<u32>,
    /// Names of the special tokens whose ids are no rows of the embedding.
    beyond: Vec<String>,
}

/// Settings in `tokenizer_config.json` about the tokens around a text.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    bos_token: Option<Json>,
    #[serde(default, deserialize_with = "present")]
    eos_token: Option<Json>,
}

/// Deserializes a value that may be null, which is not the same as an absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl Tokenizer {
    /// Parses `tokenizer.json` and checks that every id it can produce is a row of the embedding.
    ///
    /// # Errors
    /// [`Error::Format`] if `json` is not a tokenizer, its vocabulary is empty, or a text can give an id outside
    /// the model's vocabulary.
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
        // A special token comes out of no text, so that it needs no row. llama.cpp wants a row for each token.
        let may_lack_rows = config.container() == Container::Safetensors;
        let special: HashMap<u32, String> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && may_lack_rows)
            .map(|(id, token)| (id, token.content))
            .collect();
        let vocabulary = inner.get_vocab(true);
        let has_row = |id: u32| (id as usize) < config.vocab_size;
        let largest =
            vocabulary.values().copied().filter(|id| has_row(*id) || !special.contains_key(id)).max();
        match largest {
            Some(largest) if has_row(largest) => {}
            Some(largest) => {
                return Err(Error::Format(format!(
                    "{file}: token {largest} is outside the model's vocabulary of {}; this \
                     tokenizer belongs to another model",
                    config.vocab_size
                )));
            }
            None => return Err(Error::Format(format!("{file}: its vocabulary is empty"))),
        }
        let mut beyond: Vec<_> = special.into_iter().filter(|(id, _)| !has_row(*id)).collect();
        beyond.sort_unstable();
        let beyond = beyond.into_iter().map(|(_, name)| name).collect();
        let begins_with = begins_with(&inner);
        Ok(Self { inner, begins_with, beyond })
    }

    /// Applies the settings of `tokenizer_config.json`, if there is one, which say whether a text begins with
    /// BOS, and returns what the tokenizer says about the tokens around a text.
    ///
    /// # Errors
    /// [`Error::Format`] if `settings` are not the JSON of such a file.
    pub fn around_text(&mut self, settings: Option<&[u8]>) -> Result<AroundText> {
        let settings: Settings = match settings {
            None => Settings::default(),
            Some(json) => serde_json::from_slice(json).map_err(|e| {
                Error::Format(format!(
                    "{TOKENIZER_CONFIG_NAME}: not the settings of a tokenizer ({e}); download it again"
                ))
            })?,
        };
        // A special token is given by name, or as an object with the name as "content".
        let id = |json: &Json| self.inner.token_to_id(json.get("content").unwrap_or(json).as_str()?);
        let [bos, eos] = [&settings.bos_token, &settings.eos_token].map(|token| token.as_ref().map(id));
        self.begins_with = match settings.add_bos_token {
            Some(false) => None,
            Some(true) => self.begins_with.or(bos.flatten()),
            None => self.begins_with,
        };
        Ok(AroundText { begins_with: self.begins_with, bos, eos })
    }

    /// Returns the id of the token that the model's own tokenizer puts before a text; `None` if it puts none.
    /// [`encode`](Self::encode) puts none.
    pub fn begins_with(&self) -> Option<u32> {
        self.begins_with
    }

    /// Returns the names of the special tokens whose ids are no rows of the embedding. No text gives them.
    pub fn beyond_vocabulary(&self) -> &[String] {
        &self.beyond
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

/// Returns the token that `tokenizer` puts before a text, if any.
fn begins_with(tokenizer: &HfTokenizer) -> Option<u32> {
    let encode =
        |special| tokenizer.encode_fast("a", special).map(|e| e.get_ids().to_vec()).unwrap_or_default();
    let (with, without) = (encode(true), encode(false));
    let nothing = !without.is_empty() && with.starts_with(&without);
    if nothing { None } else { with.first().copied() }
}
