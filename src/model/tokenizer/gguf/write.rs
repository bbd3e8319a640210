//! Conversion of `tokenizer.json` to GGUF metadata.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::hugging_face::{Added, Config, File, bad, unsupported};
use super::kind::Kind;
use super::{LISTED, SpecialIds, key, merges};
use crate::format::gguf::{Array, Value, ValueType};
use crate::model::config::special::SENTENCE_PIECE;
use crate::{Error, Result};

/// Makes the GGUF metadata that describe a Hugging Face tokenizer to llama.cpp, for a model whose embedding
/// has `vocab_size` rows. Rows without a token get an unused token, and special tokens without a row are left
/// out.
///
/// From plain text, llama.cpp with `parse_special = false` makes the same tokens as the tokenizer, up to the
/// differences that [`super`] names. Two properties are lost, as in llama.cpp's own converter, because the
/// metadata cannot express them: that a token which is no control token swallows the spaces around it, and
/// that `Metaspace` puts no space before a text that begins with one.
///
/// # Errors
/// [`Error::Format`] if a file is not what its name says, or a token's id is not below `vocab_size`;
/// [`Error::Unsupported`] if llama.cpp could not reproduce the tokenizer: another algorithm than BPE, a
/// pre-tokenizer without a name in llama.cpp, or merges that do not follow from scores.
pub fn to_metadata(
    tokenizer_json: &[u8],
    tokenizer_config_json: Option<&[u8]>,
    vocab_size: usize,
    special: SpecialIds,
) -> Result<Vec<(String, Value)>> {
    metadata(tokenizer_json, tokenizer_config_json, vocab_size, special, false)
}

/// Makes such metadata as [`to_metadata`] does, but with the merges of a tokenizer over characters in a list.
///
/// # Errors
/// Those of [`to_metadata`], but for merges that do not follow from scores; [`Error::Unsupported`] for such a tokenizer
/// that puts a space before a text.
pub fn to_metadata_with_merges(
    tokenizer_json: &[u8],
    tokenizer_config_json: Option<&[u8]>,
    vocab_size: usize,
    special: SpecialIds,
) -> Result<Vec<(String, Value)>> {
    metadata(tokenizer_json, tokenizer_config_json, vocab_size, special, true)
}

fn metadata(
    tokenizer_json: &[u8],
    tokenizer_config_json: Option<&[u8]>,
    vocab_size: usize,
    special: SpecialIds,
    lists_merges: bool,
) -> Result<Vec<(String, Value)>> {
    let file = File::parse(tokenizer_json)?;
    let config = Config::parse(tokenizer_config_json)?;
    let (tokens, kinds) = tokens_and_kinds(&file, vocab_size)?;
    let pairs = file.merges()?;

    let mut entries = Entries::default();
    if file.is_byte_level() {
        entries.text(key::MODEL, "gpt2");
        entries.text(key::PRE, file.pre_tokenizer_name()?);
        entries.add(key::MERGES, listed(&pairs)?);
    } else if lists_merges {
        if file.space_prefix()? {
            return Err(unsupported(
                "texts begin with a space, which llama.cpp does not put before one here",
            ));
        }
        entries.text(key::MODEL, LISTED);
        entries.add(key::ADD_SPACE_PREFIX, Value::Bool(false));
        entries.add(key::MERGES, listed(&pairs)?);
    } else {
        entries.text(key::MODEL, SENTENCE_PIECE);
        entries.text(key::PRE, "default");
        entries.add(key::ADD_SPACE_PREFIX, Value::Bool(file.space_prefix()?));
        let scores = merges::to_scores(&tokens, &kinds, &pairs)
            .ok_or_else(|| unsupported("merges do not follow from scores, which llama.cpp goes by"))?;
        entries.list(key::SCORES, ValueType::F32, scores.into_iter().map(Value::F32));
    }
    entries.list(key::TYPES, ValueType::I32, kinds.iter().map(|kind| Value::I32(*kind as i32)));
    special_tokens(&mut entries, &file, &config, &tokens, special)?;
    if let Some(template) = config.template() {
        entries.text(key::CHAT_TEMPLATE, template);
    }
    entries.add(key::TOKENS, Value::strings(tokens));
    Ok(entries.0)
}

/// Returns merges as a list of lines.
fn listed(pairs: &[(String, String)]) -> Result<Value> {
    if pairs.iter().any(|(left, right)| left.contains(' ') || right.contains(' ')) {
        return Err(unsupported("merges have spaces within tokens, which llama.cpp puts between them"));
    }
    Ok(Value::strings(pairs.iter().map(|(left, right)| format!("{left} {right}"))))
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

fn tokens_and_kinds(file: &File, vocab_size: usize) -> Result<(Vec<String>, Vec<Kind>)> {
    let mut slots: Vec<Option<(&str, Kind)>> = vec![None; vocab_size];
    // Byte-level BPE can spell everything, so a token that such a file calls unknown is a control token.
    let unknown = file.model.unk_token.as_deref().filter(|_| !file.is_byte_level());
    let known = file.model.vocab.iter().map(|(token, id)| {
        let is_byte = file.model.byte_fallback && is_byte(token);
        (token.as_str(), *id, if is_byte { Kind::Byte } else { Kind::Normal })
    });
    // A special token without a row comes out of no text, so that a model does without it.
    let has_use = |token: &&Added| !token.special || (token.id as usize) < vocab_size;
    let added = file.added_tokens.iter().filter(has_use).map(|token| {
        let kind = if token.special { Kind::Control } else { Kind::UserDefined };
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
            Some(slot) => *slot = Some((token, if Some(token) == unknown { Kind::Unknown } else { kind })),
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

/// Whether a token has the form of a byte, such as `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

fn special_tokens(
    entries: &mut Entries,
    file: &File,
    config: &Config,
    tokens: &[String],
    special: SpecialIds,
) -> Result<()> {
    // A special token is given by name, or as an object with the name as "content".
    let name = |json: &Json| json.get("content").unwrap_or(json).as_str().map(str::to_owned);
    let by_name = |name: String| tokens.iter().position(|token| *token == name);
    let named = |json| name(json).and_then(by_name).and_then(|id| u32::try_from(id).ok());
    let unknown = file.model.unk_token.clone().map(Json::String).unwrap_or_default();
    let bos = special.bos.or_else(|| named(&config.bos_token));
    // An EOS outside the vocabulary is never used; BOS begins every text.
    let eos = special.eos.filter(|id| (*id as usize) < tokens.len()).or_else(|| named(&config.eos_token));
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
    let (before, after) = file.adds_around();
    // llama.cpp refuses a file that asks for a token but does not name it.
    entries.add(key::ADD_BOS, Value::Bool(config.add_bos_token.unwrap_or(before) && bos.is_some()));
    entries.add(key::ADD_EOS, Value::Bool(config.add_eos_token.unwrap_or(after) && eos.is_some()));
    Ok(())
}
