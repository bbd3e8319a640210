//! Parsing of `tokenizer.json` and `tokenizer_config.json`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{SPACE, pre_tokenizers};
use crate::{Error, Result};

const FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

/// Contents of `tokenizer.json`, as far as they are used.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    pub model: Model,
}

#[derive(Deserialize)]
pub(super) struct Added {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
}

#[derive(Deserialize)]
pub(super) struct Model {
    pub vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge in one of its two spellings: `"left right"` or `["left", "right"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl File {
    /// Parses `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Format`] if `json` is not a tokenizer, [`Error::Unsupported`] if its algorithm is not plain
    /// BPE.
    pub fn parse(json: &[u8]) -> Result<Self> {
        /// The name of the algorithm, read first: the vocabularies of algorithms other than BPE have another
        /// form.
        #[derive(Deserialize)]
        struct Kind {
            model: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "type")]
            name: Option<String>,
        }
        let failed = |e: serde_json::Error| bad(&format!("not a tokenizer ({e})"));
        let kind: Kind = serde_json::from_slice(json).map_err(failed)?;
        match kind.model.name.as_deref() {
            // Older files do not name their algorithm.
            None | Some("BPE") => {}
            Some(other) => return Err(unsupported(&format!("algorithm is {other}, not BPE"))),
        }
        let file: Self = serde_json::from_slice(json).map_err(failed)?;
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if is_set(&file.model.continuing_subword_prefix) || is_set(&file.model.end_of_word_suffix) {
            return Err(unsupported("pieces have a mark within or after words"));
        }
        Ok(file)
    }

    /// Returns the merges in their order.
    ///
    /// # Errors
    /// [`Error::Format`] if a merge names or makes a token that is not in the vocabulary.
    pub fn merges(&self) -> Result<Vec<(String, String)>> {
        let vocab = &self.model.vocab;
        let pair = |merge: &Merge| {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Text(text) => text.split_once(' ')?,
            };
            let joined = format!("{left}{right}");
            let all = vocab.contains_key(left) && vocab.contains_key(right) && vocab.contains_key(&joined);
            all.then(|| (left.to_owned(), right.to_owned()))
        };
        self.model.merges.iter().map(|m| pair(m).ok_or_else(|| bad("a merge names no token"))).collect()
    }

    /// Whether the tokenizer is byte-level, which writes bytes as letters. Otherwise it can only be
    /// SentencePiece.
    pub fn is_byte_level(&self) -> bool {
        pre_tokenizers::is_byte_level(&self.pre_tokenizer)
    }

    /// Returns llama.cpp's name for the pre-tokenizer of a byte-level tokenizer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if llama.cpp has no equal of the normalizer or no name for the pre-tokenizer.
    pub fn pre_tokenizer_name(&self) -> Result<&'static str> {
        // NFC, which Qwen's normalizer applies, is accepted although llama.cpp leaves it out.
        if !matches!(self.normalizer.get("type").and_then(Json::as_str), None | Some("NFC")) {
            return Err(unsupported("normalizer has no equal in llama.cpp"));
        }
        pre_tokenizers::name_of(&self.pre_tokenizer, self.model.ignore_merges)
            .ok_or_else(|| unsupported("pre-tokenizer has no name in llama.cpp that we know"))
    }

    /// Whether a SentencePiece tokenizer, which writes spaces as `▁`, puts a space before a text.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if normalizer and pre-tokenizer are not those of SentencePiece.
    pub fn space_prefix(&self) -> Result<bool> {
        let other = || unsupported("normalizer and pre-tokenizer are neither byte-level nor SentencePiece's");
        let text = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
        let kind = |json: &Json| text(json, "type");
        // Where the normaliser leaves no space, cutting at spaces cuts nothing.
        let cuts_nothing = kind(&self.pre_tokenizer).as_deref() == Some("Split")
            && self.pre_tokenizer.get("pattern").and_then(|pattern| text(pattern, "String")).as_deref()
                == Some(" ")
            && !self.normalizer.is_null();
        if self.pre_tokenizer.is_null() || cuts_nothing {
            let steps = self.normalizer.get("normalizers").and_then(Json::as_array).map(Vec::as_slice);
            let (prefix, spaces) = match steps.unwrap_or(std::slice::from_ref(&self.normalizer)) {
                [prefix, spaces] => (Some(prefix), spaces),
                [spaces] => (None, spaces),
                _ => return Err(other()),
            };
            let from = spaces.get("pattern").and_then(|pattern| text(pattern, "String"));
            let fits = kind(spaces).as_deref() == Some("Replace")
                && from.as_deref() == Some(" ")
                && text(spaces, "content").as_deref() == Some(SPACE)
                && prefix.is_none_or(|json| text(json, "prepend").as_deref() == Some(SPACE));
            return if fits { Ok(prefix.is_some()) } else { Err(other()) };
        }
        let metaspace = &self.pre_tokenizer;
        let whole = metaspace.get("split").and_then(Json::as_bool) == Some(false);
        if kind(metaspace).as_deref() != Some("Metaspace") || !whole || !self.normalizer.is_null() {
            return Err(other());
        }
        match text(metaspace, "prepend_scheme").as_deref() {
            Some("first" | "always") => Ok(true),
            Some("never") => Ok(false),
            _ => Err(other()),
        }
    }

    /// Whether the tokenizer puts a token before a text, and whether it puts one after.
    pub fn adds_around(&self) -> (bool, bool) {
        around(&self.post_processor)
    }
}

/// Contents of `tokenizer_config.json`, as far as they are used.
#[derive(Deserialize, Default)]
pub(super) struct Config {
    #[serde(default)]
    pub bos_token: Json,
    #[serde(default)]
    pub eos_token: Json,
    #[serde(default)]
    pub unk_token: Json,
    #[serde(default)]
    pub pad_token: Json,
    #[serde(default)]
    pub add_bos_token: Option<bool>,
    #[serde(default)]
    pub add_eos_token: Option<bool>,
    #[serde(default)]
    chat_template: Json,
}

impl Config {
    /// Parses `tokenizer_config.json`; `None` gives a configuration in which nothing is set.
    ///
    /// # Errors
    /// [`Error::Format`] if `json` cannot be parsed.
    pub fn parse(json: Option<&[u8]>) -> Result<Self> {
        let Some(json) = json else {
            return Ok(Self::default());
        };
        serde_json::from_slice(json)
            .map_err(|e| Error::Format(format!("{CONFIG_FILE}: not understood ({e}); download it again")))
    }

    /// Returns the chat template; of several templates, the one named `default`.
    pub fn template(&self) -> Option<&str> {
        let named = |entry: &&Json| entry.get("name").and_then(Json::as_str) == Some("default");
        match &self.chat_template {
            Json::Array(several) => several.iter().find(named)?.get("template")?.as_str(),
            one => one.as_str(),
        }
    }
}

/// Whether the post-processor `json` puts a token before a text, and whether it puts one after.
fn around(json: &Json) -> (bool, bool) {
    if let Some(steps) = json.get("processors").and_then(Json::as_array) {
        let each = steps.iter().map(around);
        return each.fold((false, false), |all, one| (all.0 || one.0, all.1 || one.1));
    }
    let Some(template) = json.get("single").and_then(Json::as_array) else {
        return (false, false);
    };
    let is_token = |piece: Option<&Json>| piece.is_some_and(|piece| piece.get("SpecialToken").is_some());
    (is_token(template.first()), is_token(template.last()))
}

/// Makes the error for a property of the tokenizer that llama.cpp cannot reproduce.
pub(super) fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!("{FILE}: its {what}; write a Hugging Face folder instead"))
}

/// Makes the error for a file that contradicts itself.
pub(super) fn bad(what: &str) -> Error {
    Error::Format(format!("{FILE}: {what}; download it again"))
}
