//! `tokenizer.json` to metadata.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value as Json;

use super::vocabulary::Kind;
use super::{SPACE, SpecialIds, key, merges, pre_tokenizers};
use crate::format::gguf::{Array, Value, ValueType};
use crate::{Error, Result};

const FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

/// The metadata that describes a Hugging Face tokenizer to llama.cpp, for a model with `vocab_size` rows of
/// embeddings; rows without a token get an unused one.
///
/// What llama.cpp's `parse_special = false` makes of plain text is what the tokenizer makes of it, up to the
/// differences that [`super`] names. The metadata cannot say that a token which is no control token swallows
/// the spaces around it.
///
/// # Errors
/// [`Error::Format`] for files that are no tokenizer, or one with tokens beyond `vocab_size`;
/// [`Error::Unsupported`] for a tokenizer that llama.cpp could not reproduce: another algorithm than BPE, a
/// pre-tokenizer without a name there, or merges that do not follow from scores.
pub fn to_metadata(
    tokenizer_json: &[u8],
    tokenizer_config_json: Option<&[u8]>,
    vocab_size: usize,
    special: SpecialIds,
) -> Result<Vec<(String, Value)>> {
    let file = parse(tokenizer_json)?;
    let config: Config = match tokenizer_config_json {
        Some(json) => serde_json::from_slice(json)
            .map_err(|e| Error::Format(format!("{CONFIG_FILE}: not understood ({e}); download it again")))?,
        None => Config::default(),
    };
    let (tokens, kinds) = tokens_and_kinds(&file, vocab_size)?;
    let pairs = file.merges()?;

    let mut entries = Entries::default();
    if pre_tokenizers::is_byte_level(&file.pre_tokenizer) {
        let pre = byte_level(&file)?;
        entries.text(key::MODEL, "gpt2");
        entries.text(key::PRE, pre);
        let lines = pairs.iter().map(|(left, right)| format!("{left} {right}"));
        entries.add(key::MERGES, Value::strings(lines));
    } else {
        let add_space_prefix = space_prefix(&file)?;
        let scores = merges::to_scores(&tokens, &kinds, &pairs)
            .ok_or_else(|| unsupported("merges do not follow from scores, which llama.cpp goes by"))?;
        entries.text(key::MODEL, "llama");
        entries.text(key::PRE, "default");
        entries.list(key::SCORES, ValueType::F32, scores.into_iter().map(Value::F32));
        entries.add(key::ADD_SPACE_PREFIX, Value::Bool(add_space_prefix));
    }
    entries.list(key::TYPES, ValueType::I32, kinds.iter().map(|kind| Value::I32(*kind as i32)));
    special_tokens(&mut entries, &file, &config, &tokens, special)?;
    if let Some(template) = config.template() {
        entries.text(key::CHAT_TEMPLATE, template);
    }
    entries.add(key::TOKENS, Value::strings(tokens));
    Ok(entries.0)
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!("{FILE}: its {what}; write a Hugging Face folder instead"))
}

fn bad(what: &str) -> Error {
    Error::Format(format!("{FILE}: {what}; download it again"))
}

#[derive(Default)]
struct Entries(Vec<(String, Value)>);

impl Entries {
    fn add(&mut self, key: &str, value: Value) {
        self.0.push((key.to_owned(), value));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.add(key, Value::String(text.to_owned()));
    }

    fn list(&mut self, key: &str, of: ValueType, items: impl Iterator<Item = Value>) {
        self.add(key, Value::Array(Array { of, items: items.collect() }));
    }
}

/// `tokenizer.json`.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// One of the two ways to write a merge.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

fn parse(json: &[u8]) -> Result<File> {
    /// What tells BPE from other algorithms, whose vocabularies look different.
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
        // Older files do not say.
        None | Some("BPE") => {}
        Some(other) => return Err(unsupported(&format!("algorithm is {other}, not BPE"))),
    }
    let file: File = serde_json::from_slice(json).map_err(failed)?;
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if is_set(&file.model.continuing_subword_prefix) || is_set(&file.model.end_of_word_suffix) {
        return Err(unsupported("pieces have a mark within or after words"));
    }
    Ok(file)
}

impl File {
    fn merges(&self) -> Result<Vec<(String, String)>> {
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
}

/// `tokenizer_config.json`.
#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    bos_token: Json,
    #[serde(default)]
    eos_token: Json,
    #[serde(default)]
    unk_token: Json,
    #[serde(default)]
    pad_token: Json,
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default)]
    add_eos_token: Option<bool>,
    #[serde(default)]
    chat_template: Json,
}

impl Config {
    /// The template, or of several the default one.
    fn template(&self) -> Option<&str> {
        let named = |entry: &&Json| entry.get("name").and_then(Json::as_str) == Some("default");
        match &self.chat_template {
            Json::Array(several) => several.iter().find(named)?.get("template")?.as_str(),
            one => one.as_str(),
        }
    }
}

fn tokens_and_kinds(file: &File, vocab_size: usize) -> Result<(Vec<String>, Vec<Kind>)> {
    let mut slots: Vec<Option<(&str, Kind)>> = vec![None; vocab_size];
    let unknown = file.model.unk_token.as_deref();
    let known = file.model.vocab.iter().map(|(token, id)| {
        let kind = if file.model.byte_fallback && is_byte(token) { Kind::Byte } else { Kind::Normal };
        (token.as_str(), *id, kind)
    });
    let added = file.added_tokens.iter().map(|token| {
        // Byte-level BPE can spell everything: what such a file calls unknown is a control token.
        let is_unknown = file.model.byte_fallback && Some(token.content.as_str()) == unknown;
        let kind = match (token.special, is_unknown) {
            (_, true) => Kind::Unknown,
            (true, _) => Kind::Control,
            (false, _) => Kind::UserDefined,
        };
        (token.content.as_str(), token.id, kind)
    });
    for (token, id, kind) in known.chain(added) {
        match slots.get_mut(id as usize) {
            None => {
                return Err(bad(&format!("token {token:?} is {id}, but the model has {vocab_size} tokens")));
            }
            Some(Some((other, _))) if *other != token => {
                return Err(bad(&format!("tokens {other:?} and {token:?} are both {id}")));
            }
            Some(slot) => *slot = Some((token, kind)),
        }
    }
    let unused = |id| (format!("[PAD{id}]"), Kind::Unused);
    let (tokens, kinds): (Vec<_>, Vec<_>) = slots
        .into_iter()
        .enumerate()
        .map(|(id, slot)| slot.map_or_else(|| unused(id), |(token, kind)| (token.to_owned(), kind)))
        .unzip();
    let mut seen = HashSet::new();
    if let Some(twice) = tokens.iter().map(String::as_str).find(|token| !seen.insert(*token)) {
        return Err(bad(&format!("token {twice:?} occurs twice")));
    }
    Ok((tokens, kinds))
}

/// Whether a token looks like `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The name of the pre-tokenizer.
fn byte_level(file: &File) -> Result<&'static str> {
    // Composing characters (Qwen) is what llama.cpp leaves out.
    if !matches!(file.normalizer.get("type").and_then(Json::as_str), None | Some("NFC")) {
        return Err(unsupported("normalizer has no equal in llama.cpp"));
    }
    pre_tokenizers::name_of(&file.pre_tokenizer, file.model.ignore_merges)
        .ok_or_else(|| unsupported("pre-tokenizer has no name in llama.cpp that we know"))
}

/// Whether a space is put before a text, by a tokenizer that writes spaces as `▁`.
fn space_prefix(file: &File) -> Result<bool> {
    let other = || unsupported("normalizer and pre-tokenizer are neither byte-level nor SentencePiece's");
    let text = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
    let kind = |json: &Json| text(json, "type");
    if file.pre_tokenizer.is_null() {
        let steps = file.normalizer.get("normalizers").and_then(Json::as_array).map(Vec::as_slice);
        let (prefix, spaces) = match steps.unwrap_or(std::slice::from_ref(&file.normalizer)) {
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
    let metaspace = &file.pre_tokenizer;
    let whole = metaspace.get("split").and_then(Json::as_bool) == Some(false);
    if kind(metaspace).as_deref() != Some("Metaspace") || !whole || !file.normalizer.is_null() {
        return Err(other());
    }
    match text(metaspace, "prepend_scheme").as_deref() {
        Some("first" | "always") => Ok(true),
        Some("never") => Ok(false),
        _ => Err(other()),
    }
}

fn special_tokens(
    entries: &mut Entries,
    file: &File,
    config: &Config,
    tokens: &[String],
    special: SpecialIds,
) -> Result<()> {
    // The name of a token, or an object with its name as "content".
    let name = |json: &Json| json.get("content").unwrap_or(json).as_str().map(str::to_owned);
    let by_name = |name: String| tokens.iter().position(|token| *token == name);
    let named = |json| name(json).and_then(by_name).and_then(|id| u32::try_from(id).ok());
    let unknown = file.model.unk_token.clone().map(Json::String).unwrap_or_default();
    let bos = special.bos.or_else(|| named(&config.bos_token));
    let eos = special.eos.or_else(|| named(&config.eos_token));
    for (key, id) in [
        (key::BOS, bos),
        (key::EOS, eos),
        (key::UNKNOWN, named(&config.unk_token).or_else(|| named(&unknown))),
        (key::PADDING, named(&config.pad_token)),
    ] {
        let Some(id) = id else { continue };
        if id as usize >= tokens.len() {
            return Err(Error::Format(format!(
                "config.json: a special token is {id}, but the model has {} tokens; download it again",
                tokens.len()
            )));
        }
        entries.add(key, Value::U32(id));
    }
    let (before, after) = around(&file.post_processor);
    // Without the token llama.cpp refuses the file.
    entries.add(key::ADD_BOS, Value::Bool(config.add_bos_token.unwrap_or(before) && bos.is_some()));
    entries.add(key::ADD_EOS, Value::Bool(config.add_eos_token.unwrap_or(after) && eos.is_some()));
    Ok(())
}

/// Whether a post-processor puts tokens before and after a text.
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
