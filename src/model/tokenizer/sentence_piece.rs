//! SentencePiece models (`tokenizer.model`), which some directories hold in the place of `tokenizer.json`.
//!
//! The fields are those of `sentencepiece_model.proto` (<https://github.com/google/sentencepiece>). A model becomes the
//! metadata by which a GGUF file describes the same vocabulary, and these a `tokenizer.json`. Behind an added token the text
//! begins anew with a space, as in llama.cpp and in transformers' older tokenizers.

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;
use serde_json::Value as Json;

use super::gguf::{from_metadata, key};
use super::{TOKENIZER_CONFIG_NAME, TOKENIZER_NAME};
use crate::format::gguf::{Array, Metadata, Value, ValueType};
use crate::model::config::special::SENTENCE_PIECE;
use crate::{Error, Result};

/// Name of the file with a SentencePiece model.
pub const SENTENCE_PIECE_NAME: &str = "tokenizer.model";

/// Name of the file with tokens that were added to a SentencePiece model, by name.
pub const ADDED_TOKENS_NAME: &str = "added_tokens.json";

/// Number of the algorithm that is read among those of SentencePiece: BPE.
const BPE: i32 = 2;

/// Number of the kind of special tokens that are added; others, and places between them, have their own.
const CONTROL: i32 = 3;
/// See [`CONTROL`].
const USER_DEFINED: i32 = 4;
/// See [`CONTROL`].
const UNUSED: i32 = 5;

/// Most tokens of a vocabulary; more would be garbage.
const MAX_TOKENS: u32 = 1 << 24;

/// The model.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

/// A piece of the vocabulary.
#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    /// Number of the kind, as in GGUF metadata.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

/// How the vocabulary was made.
#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    algorithm: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unknown: Option<i32>,
    #[prost(int32, optional, tag = "41")]
    bos: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos: Option<i32>,
    #[prost(int32, optional, tag = "43")]
    padding: Option<i32>,
}

/// What is done to a text first.
#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    characters: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    space_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    removes_spaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escapes_spaces: Option<bool>,
}

/// Settings in `tokenizer_config.json` that change the vocabulary or the tokens around a text.
#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, AddedToken>,
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default)]
    add_eos_token: Option<bool>,
    #[serde(default)]
    add_prefix_space: Option<bool>,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    #[serde(default)]
    special: bool,
}

/// Makes the `tokenizer.json` of the SentencePiece model `model`, with the tokens and settings of `settings`
/// (`tokenizer_config.json`) and the tokens of `added` (`added_tokens.json`), where there are such files.
///
/// # Errors
/// [`Error::Format`], naming the file, if it is not what its name says, and those of
/// [`from_metadata`](super::gguf::from_metadata); [`Error::Unsupported`] for another algorithm than BPE and for texts that
/// are changed before they are cut.
pub fn to_json(model: &[u8], settings: Option<&[u8]>, added: Option<&[u8]>) -> Result<Vec<u8>> {
    let tokenizer = from_metadata(SENTENCE_PIECE_NAME, &metadata(model, settings, added)?)?;
    let json = tokenizer.to_string(false);
    let json = json.map_err(|e| Error::Format(format!("{TOKENIZER_NAME}: cannot be made ({e})")))?;
    Ok(json.into_bytes())
}

fn metadata(model: &[u8], settings: Option<&[u8]>, added: Option<&[u8]>) -> Result<Metadata> {
    let model = ModelProto::decode(model).map_err(|e| {
        Error::Format(format!("{SENTENCE_PIECE_NAME}: not a SentencePiece model ({e}); download it again"))
    })?;
    let trainer = model.trainer.unwrap_or_default();
    let normalizer = model.normalizer.unwrap_or_default();
    let refuse = |what: &str| {
        Err(Error::Unsupported(format!(
            "{SENTENCE_PIECE_NAME}: {what}, which is not supported; make {TOKENIZER_NAME} by transformers: \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )))
    };
    match trainer.algorithm.unwrap_or(1) {
        BPE => {}
        other => refuse(&format!("its algorithm has the number {other} and is not BPE"))?,
    }
    if normalizer.characters.is_some_and(|characters| !characters.is_empty()) {
        refuse("it replaces characters of a text")?;
    }
    if normalizer.removes_spaces.unwrap_or(true) {
        refuse("it removes spaces of a text")?;
    }
    if !normalizer.escapes_spaces.unwrap_or(true) {
        refuse("it does not mark spaces")?;
    }
    let settings: Settings = parsed(TOKENIZER_CONFIG_NAME, settings)?.unwrap_or_default();
    let mut pieces: Vec<(String, f32, i32)> = Vec::with_capacity(model.pieces.len());
    for Piece { piece, score, kind } in model.pieces {
        pieces.push((piece.unwrap_or_default(), score.unwrap_or(0.0), kind.unwrap_or(1)));
    }
    for (id, (name, kind)) in added_tokens(&settings, added)? {
        // Tokens that the model has already are named again.
        if (id as usize) < pieces.len() {
            continue;
        }
        while pieces.len() < id as usize {
            pieces.push((format!("<unused{}>", pieces.len()), 0.0, UNUSED));
        }
        pieces.push((name, 0.0, kind));
    }
    let mut metadata = Metadata::default();
    let list = |of, items| Value::Array(Array { of, items });
    metadata.set(key::MODEL, Value::String(SENTENCE_PIECE.to_owned()));
    metadata.set(key::TOKENS, Value::strings(pieces.iter().map(|(piece, ..)| piece.clone())));
    let scores = pieces.iter().map(|(_, score, _)| Value::F32(*score)).collect();
    metadata.set(key::SCORES, list(ValueType::F32, scores));
    let kinds = pieces.iter().map(|(.., kind)| Value::I32(*kind)).collect();
    metadata.set(key::TYPES, list(ValueType::I32, kinds));
    for (key, id, usual) in [
        (key::UNKNOWN, trainer.unknown, 0),
        (key::BOS, trainer.bos, 1),
        (key::EOS, trainer.eos, 2),
        (key::PADDING, trainer.padding, -1),
    ] {
        metadata.set(key, Value::I32(id.unwrap_or(usual)));
    }
    let prefix = settings.add_prefix_space.or(normalizer.space_prefix).unwrap_or(true);
    metadata.set(key::ADD_SPACE_PREFIX, Value::Bool(prefix));
    metadata.set(key::ADD_BOS, Value::Bool(settings.add_bos_token.unwrap_or(true)));
    metadata.set(key::ADD_EOS, Value::Bool(settings.add_eos_token.unwrap_or(false)));
    Ok(metadata)
}

/// Returns the tokens that were added to the model, by id: their names and kinds.
fn added_tokens(settings: &Settings, added: Option<&[u8]>) -> Result<BTreeMap<u32, (String, i32)>> {
    let bad = |file: &str, id: &str| {
        Error::Format(format!("{file}: {id:?} is not the number of a token; download it again"))
    };
    let mut tokens = BTreeMap::new();
    let by_name: BTreeMap<String, Json> = parsed(ADDED_TOKENS_NAME, added)?.unwrap_or_default();
    for (name, id) in by_name {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id < MAX_TOKENS);
        let number = number.ok_or_else(|| bad(ADDED_TOKENS_NAME, &id.to_string()))?;
        tokens.insert(number, (name, CONTROL));
    }
    for (id, AddedToken { content, special }) in &settings.added_tokens_decoder {
        let number = id.parse::<u32>().ok().filter(|id| *id < MAX_TOKENS);
        let number = number.ok_or_else(|| bad(TOKENIZER_CONFIG_NAME, id))?;
        tokens.insert(number, (content.clone(), if *special { CONTROL } else { USER_DEFINED }));
    }
    Ok(tokens)
}

/// Parses the JSON file `name`, if it is there.
fn parsed<T: for<'a> Deserialize<'a>>(name: &str, json: Option<&[u8]>) -> Result<Option<T>> {
    let parse = |json| serde_json::from_slice(json);
    json.map(parse)
        .transpose()
        .map_err(|e| Error::Format(format!("{name}: not understood ({e}); download it again")))
}
