//! Tokenizers in GGUF metadata, read and written.
//!
//! Three kinds occur, told apart by `tokenizer.ggml.model`:
//!
//! - `gpt2`: byte-level BPE, with its merges and the name of a pre-tokenizer in `tokenizer.ggml.pre`;
//! - `llama`: SentencePiece BPE, where spaces are `▁`, merges follow from the scores of the pieces, and
//!   characters without a piece are spelled in bytes;
//! - `gemma4`: the same, with merges that are listed, and with nothing before a text but BOS.
//!
//! All become a Hugging Face tokenizer that gives llama.cpp's ids (`src/llama-vocab.cpp`) for plain
//! text. The name of a control token in a text is plain text, as with llama.cpp's `parse_special = false`,
//! and user-defined tokens are cut out before any other step. Three differences remain. In each, llama.cpp
//! departs from the model's own tokenizer, and we follow the model's own:
//!
//! - llama.cpp's pre-tokenizers `tekken` and `gpt-4o` know the case of ASCII letters only, and their `'s` is
//!   ASCII, while Unicode's case folding also has `'ſ`;
//! - llama.cpp merges two adjacent pieces that together spell a control token; SentencePiece never does;
//! - llama.cpp merges pieces with equal scores from left to right; here they are merged in the order of the
//!   Hugging Face converter. Llama 2's sequences of spaces have one score and give the same ids either way.
//!
//! Unicode is not normalised: Qwen's own `tokenizer.json` composes characters (NFC), but llama.cpp does not.

mod hugging_face;
mod kind;
mod merges;
mod pre_tokenizers;
mod vocabulary;
mod write;

use serde_json::json;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, Tokenizer};

use self::kind::Kind;
use self::vocabulary::{Algorithm, Vocabulary};
use crate::format::gguf::{Metadata, Value};
use crate::{Error, Result};

pub use self::write::{to_metadata, to_metadata_with_merges};
pub use crate::model::config::special::SpecialIds;

/// Metadata key of the chat template.
pub const CHAT_TEMPLATE_KEY: &str = key::CHAT_TEMPLATE;

/// Value of [`key::MODEL`](crate::model::config::special::key::MODEL) for vocabularies over characters whose merges are
/// listed.
const LISTED: &str = "gemma4";

/// The character that SentencePiece writes for a space.
const SPACE: &str = "▁";

/// Metadata keys of the tokenizer.
pub(super) mod key {
    pub use crate::model::config::special::key::*;

    pub const PRE: &str = "tokenizer.ggml.pre";
    pub const SCORES: &str = "tokenizer.ggml.scores";
    pub const TYPES: &str = "tokenizer.ggml.token_type";
    pub const MERGES: &str = "tokenizer.ggml.merges";
    pub const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
    pub const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
    pub const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
}

/// Builds the tokenizer that the metadata of the GGUF file `file` describe.
///
/// # Errors
/// [`Error::Unsupported`], naming the tokenizer model or pre-tokenizer, if it is unknown; [`Error::Format`],
/// naming the key, for lists of different lengths, tokens that occur twice, scores that are no numbers,
/// merges that name no token, and ids out of range.
pub fn from_metadata(file: &str, metadata: &Metadata) -> Result<Tokenizer> {
    let vocabulary = Vocabulary::read(file, metadata)?;
    let mut tokenizer = match vocabulary.algorithm {
        Algorithm::SentencePiece => {
            let pairs = merges::from_scores(&vocabulary.tokens, &vocabulary.kinds, &vocabulary.scores);
            let pairs = pairs.into_iter().map(|(left, right)| (left.to_owned(), right.to_owned()));
            over_characters(&vocabulary, pairs.collect())?
        }
        Algorithm::Listed => over_characters(&vocabulary, vocabulary.merges(metadata)?)?,
        Algorithm::ByteLevel(pre) => {
            let merges = vocabulary.merges(metadata)?;
            byte_level(&vocabulary, pre, merges)?
        }
    };
    tokenizer.add_tokens(&added_tokens(&vocabulary, metadata));
    tokenizer.with_post_processor(template(&vocabulary)?);
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

/// Returns the chat template in Jinja, if the metadata hold one.
pub fn chat_template(metadata: &Metadata) -> Option<&str> {
    metadata.get(key::CHAT_TEMPLATE).and_then(Value::as_str)
}

/// Makes the `tokenizer_config.json` that goes with the `tokenizer.json` of [`from_metadata`], for a model
/// with a context of `model_max_length` tokens.
///
/// # Errors
/// Those of [`from_metadata`] except the ones about merges, and [`Error::Format`] if the file cannot be
/// written as JSON.
pub fn tokenizer_config(metadata: &Metadata, model_max_length: usize) -> Result<Vec<u8>> {
    let vocabulary = Vocabulary::read("the GGUF file", metadata)?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
        "clean_up_tokenization_spaces": false,
        "model_max_length": model_max_length,
    });
    let special = [
        ("bos_token", vocabulary.bos),
        ("eos_token", vocabulary.eos),
        ("unk_token", vocabulary.unknown),
        ("pad_token", vocabulary.padding),
    ];
    let tokens = special.iter().filter_map(|(name, id)| Some((*name, vocabulary.token((*id)?)?)));
    if let Some(entries) = config.as_object_mut() {
        entries.extend(tokens.map(|(name, token)| (name.to_owned(), json!(token))));
        entries.extend(chat_template(metadata).map(|text| ("chat_template".to_owned(), json!(text))));
    }
    serde_json::to_vec_pretty(&config)
        .map_err(|e| Error::Format(format!("tokenizer_config.json: cannot be written ({e})")))
}

fn byte_level(
    vocabulary: &Vocabulary<'_>,
    pre: &pre_tokenizers::PreTokenizer,
    merges: Vec<(String, String)>,
) -> Result<Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids(), merges)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(|e| vocabulary.bad(key::MERGES, &format!("does not fit the vocabulary ({e})")))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre.build().map_err(|e| vocabulary.bad(key::PRE, &e))?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

fn over_characters(vocabulary: &Vocabulary<'_>, pairs: Vec<(String, String)>) -> Result<Tokenizer> {
    let byte_fallback = vocabulary.has_bytes()?;
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.ids(), pairs)
        .byte_fallback(byte_fallback)
        // Adjacent unknown characters become one unknown token.
        .fuse_unk(true);
    if let Some(unknown) = vocabulary.unknown.and_then(|id| vocabulary.token(id)) {
        model = model.unk_token(unknown.to_owned());
    }
    let failed = |e: tokenizers::Error| vocabulary.bad(key::TOKENS, &format!("is no vocabulary ({e})"));
    let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);

    let prefix = vocabulary.add_space_prefix.then(|| Prepend::new(SPACE.to_owned()).into());
    let spaces: NormalizerWrapper = Replace::new(" ", SPACE).map_err(failed)?.into();
    tokenizer.with_normalizer(Some(NormalizerSequence::new(prefix.into_iter().chain([spaces]).collect())));

    let mut decoders: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if vocabulary.add_space_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(tokenizer)
}

/// Returns the tokens that are matched in a text before any merge: user-defined tokens, and control tokens if
/// a caller asks for them.
fn added_tokens(vocabulary: &Vocabulary<'_>, metadata: &Metadata) -> Vec<AddedToken> {
    // The file does not say which tokens swallow the spaces after them; llama.cpp goes by the model's name.
    let name = metadata.get("general.name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let is_phi_3 = name.contains("phi-3") || name.contains("phi3");
    let tokens = vocabulary.tokens.iter().zip(&vocabulary.kinds);
    let added = tokens.filter_map(|(token, kind)| {
        let special = match kind {
            Kind::Control | Kind::Unknown => true,
            Kind::UserDefined => false,
            Kind::Normal | Kind::Unused | Kind::Byte => return None,
        };
        let strips = is_phi_3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&token.as_ref());
        Some(AddedToken::from(token.as_ref(), special).normalized(false).rstrip(strips))
    });
    added.collect()
}

/// Makes the post-processor that puts BOS before and EOS after a text; `None` if the metadata ask for
/// neither.
fn template(vocabulary: &Vocabulary<'_>) -> Result<Option<TemplateProcessing>> {
    let around = |wanted: bool, id: Option<u32>| {
        let id = id.filter(|_| wanted)?;
        vocabulary.token(id).map(|token| (token, id))
    };
    let bos = around(vocabulary.add_bos, vocabulary.bos);
    let eos = around(vocabulary.add_eos, vocabulary.eos);
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    let one = |sequence: &str, type_id: u32| {
        let token = |(token, _): (&str, u32)| json!({"SpecialToken": {"id": token, "type_id": type_id}});
        let text = json!({"Sequence": {"id": sequence, "type_id": type_id}});
        bos.map(token).into_iter().chain([text]).chain(eos.map(token)).collect::<Vec<_>>()
    };
    let special: serde_json::Map<_, _> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|(token, id)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let pair = [one("A", 0), one("B", 1)].concat();
    let processor = json!({
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": pair,
        "special_tokens": special,
    });
    serde_json::from_value(processor)
        .map(Some)
        .map_err(|e| vocabulary.bad(key::BOS, &format!("cannot be put before a text ({e})")))
}
