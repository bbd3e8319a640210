//! The vocabulary that GGUF metadata describe, checked.

use std::borrow::Cow;
use std::collections::HashSet;

use tokenizers::models::bpe::Vocab;

use super::kind::Kind;
use super::pre_tokenizers::{self, PreTokenizer};
use super::{LISTED, key};
use crate::format::gguf::{Metadata, Value};
use crate::model::config::special::{self, SENTENCE_PIECE, SpecialIds, bad};
use crate::{Error, Result};

/// Longest allowed piece of a SentencePiece vocabulary, in bytes. SentencePiece makes pieces of at most 16
/// characters, and Gemma has some of 31. Every split of a piece is looked up, so the cost grows with the
/// square of the length.
const MAX_PIECE_BYTES: usize = 256;

/// Algorithm that turns text into tokens.
#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    /// BPE over characters, with `▁` for spaces; merges follow from scores.
    SentencePiece,
    /// The same with merges that are listed.
    Listed,
    /// BPE over bytes, within the pieces that the pre-tokenizer cuts.
    ByteLevel(&'static PreTokenizer),
}

/// Vocabulary of a GGUF file and the settings of its tokenizer.
pub(super) struct Vocabulary<'a> {
    file: &'a str,
    pub algorithm: Algorithm,
    pub tokens: Vec<Cow<'a, str>>,
    /// Kind of each token.
    pub kinds: Vec<Kind>,
    /// Score of each token of a SentencePiece vocabulary; empty for a byte-level one.
    pub scores: Vec<f32>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
}

impl<'a> Vocabulary<'a> {
    /// Reads and checks everything but the merges.
    ///
    /// # Errors
    /// Those of [`super::from_metadata`].
    pub fn read(file: &'a str, metadata: &'a Metadata) -> Result<Self> {
        let reader = Reader { file, metadata };
        let algorithm = reader.algorithm()?;
        let sentence_piece = matches!(algorithm, Algorithm::SentencePiece);
        let tokens = reader.tokens()?;
        let scores = if sentence_piece { reader.scores(tokens.len())? } else { Vec::new() };
        let SpecialIds { bos, eos } = SpecialIds::read(file, metadata, tokens.len())?;
        let unknown = special::id_or(file, metadata, key::UNKNOWN, 0, tokens.len())?;
        let padding = special::id(file, metadata, key::PADDING, tokens.len())?;
        let kinds = reader.kinds(&tokens, [bos, eos, unknown, padding])?;
        // A template that is no text would be lost on the way to a Hugging Face folder.
        reader.text(key::CHAT_TEMPLATE)?;
        if let Some(long) = tokens.iter().position(|token| token.len() > MAX_PIECE_BYTES)
            && !matches!(algorithm, Algorithm::ByteLevel(_))
        {
            return Err(reader.bad(key::TOKENS, &format!("has a piece, {long}, longer than any text needs")));
        }
        let add_bos = match algorithm {
            Algorithm::SentencePiece | Algorithm::Listed => true,
            Algorithm::ByteLevel(pre) => pre.adds_bos,
        };
        Ok(Self {
            file,
            algorithm,
            kinds,
            scores,
            bos,
            eos,
            unknown,
            padding,
            // llama.cpp puts BOS before a text whatever a file with listed merges says.
            add_bos: reader.flag(key::ADD_BOS, add_bos)? || matches!(algorithm, Algorithm::Listed),
            add_eos: reader.flag(key::ADD_EOS, false)?,
            add_space_prefix: reader.flag(key::ADD_SPACE_PREFIX, sentence_piece)?
                && !matches!(algorithm, Algorithm::Listed),
            tokens,
        })
    }

    /// Returns the text of token `id`.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(AsRef::as_ref)
    }

    /// Returns the map from tokens to ids.
    pub fn ids(&self) -> Vocab {
        self.tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), id)).collect()
    }

    /// Whether characters without a piece are spelled in bytes.
    ///
    /// # Errors
    /// [`Error::Format`] if only some of the 256 bytes have a token, or if none has one and there is no
    /// unknown token either.
    pub fn has_bytes(&self) -> Result<bool> {
        let tokens: HashSet<&str> = self.tokens.iter().map(AsRef::as_ref).collect();
        match (0u8..=255).filter(|byte| tokens.contains(format!("<0x{byte:02X}>").as_str())).count() {
            256 => Ok(true),
            0 if self.unknown.is_some() => Ok(false),
            n => Err(self.bad(key::TOKENS, &format!("has {n} of the 256 bytes, and must have them all"))),
        }
    }

    /// Returns the pairs of tokens in the order in which they are merged. Whether the tokens exist is not
    /// checked here.
    ///
    /// # Errors
    /// [`Error::Format`] if the merges are missing or a merge is not a pair of tokens.
    pub fn merges(&self, metadata: &Metadata) -> Result<Vec<(String, String)>> {
        let reader = Reader { file: self.file, metadata };
        let list = reader.list(key::MERGES)?.ok_or_else(|| self.bad(key::MERGES, "is missing"))?;
        let mut seen = HashSet::new();
        let mut merges = Vec::with_capacity(list.len());
        for (index, merge) in list.iter().enumerate() {
            let text = merge.as_str();
            let pair = text.and_then(|text| {
                // A token may begin with a space; otherwise tokens of a byte-level vocabulary contain no
                // space.
                let at = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                let (left, right) = text.split_at_checked(at)?;
                let right = right.strip_prefix(' ').filter(|right| !right.is_empty())?;
                Some((left, right))
            });
            let Some((left, right)) = pair else {
                return Err(
                    self.bad(key::MERGES, &format!("has {merge} at {index}, which is no pair of tokens"))
                );
            };
            // Of equal merges the first counts, as in llama.cpp.
            if seen.insert((left, right)) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
        Ok(merges)
    }

    /// Makes an error about `key` in the file.
    pub fn bad(&self, key: &str, what: &str) -> Error {
        bad(self.file, key, what)
    }
}

struct Reader<'a> {
    file: &'a str,
    metadata: &'a Metadata,
}

impl<'a> Reader<'a> {
    fn bad(&self, key: &str, what: &str) -> Error {
        bad(self.file, key, what)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.bad(key, &format!("is {value}, not text")))
    }

    fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        value.as_array().map(Some).ok_or_else(|| self.bad(key, &format!("is {value}, not a list")))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(default);
        };
        value.as_bool().ok_or_else(|| self.bad(key, &format!("is {value}, neither true nor false")))
    }

    fn algorithm(&self) -> Result<Algorithm> {
        let unsupported = |what: String| Err(Error::Unsupported(format!("{}: {what}", self.file)));
        match self.text(key::MODEL)? {
            None => Err(self.bad(key::MODEL, "is missing")),
            Some(SENTENCE_PIECE) => Ok(Algorithm::SentencePiece),
            Some(LISTED) => Ok(Algorithm::Listed),
            Some("gpt2") => {
                let name = self.text(key::PRE)?.unwrap_or("default");
                match pre_tokenizers::by_name(name) {
                    Some(pre) => Ok(Algorithm::ByteLevel(pre)),
                    None => unsupported(format!("the pre-tokenizer {name:?} is not supported")),
                }
            }
            Some(other) => unsupported(format!(
                "the tokenizer model {other:?} is not supported; \"llama\", \"gemma4\" and \"gpt2\" are"
            )),
        }
    }

    fn tokens(&self) -> Result<Vec<Cow<'a, str>>> {
        let list = self.list(key::TOKENS)?.ok_or_else(|| self.bad(key::TOKENS, "is missing"))?;
        if list.is_empty() || u32::try_from(list.len()).is_err() {
            return Err(self.bad(key::TOKENS, &format!("has {} entries", list.len())));
        }
        let mut tokens = Vec::with_capacity(list.len());
        for (id, value) in list.iter().enumerate() {
            tokens.push(match value.as_str() {
                None => return Err(self.bad(key::TOKENS, &format!("has {value} at {id}, not text"))),
                // llama.cpp's name for an empty token.
                Some("") => Cow::Owned(format!("[EMPTY_{id}]")),
                Some(token) => Cow::Borrowed(token),
            });
        }
        let mut seen = HashSet::with_capacity(tokens.len());
        let twice = tokens.iter().map(AsRef::as_ref).find(|token: &&str| !seen.insert(*token));
        match twice {
            Some(twice) => Err(self.bad(key::TOKENS, &format!("has {twice:?} twice"))),
            None => Ok(tokens),
        }
    }

    fn scores(&self, n_tokens: usize) -> Result<Vec<f32>> {
        let list = self.list(key::SCORES)?.ok_or_else(|| self.bad(key::SCORES, "is missing"))?;
        self.check_length(key::SCORES, list, n_tokens)?;
        let number = |(id, value): (usize, &Value)| {
            let score = value.as_f64().or_else(|| value.as_i64().map(|n| n as f64));
            let score = score.filter(|score| !score.is_nan());
            let bad = || self.bad(key::SCORES, &format!("has {value} at {id}, not a number"));
            // Adding zero turns -0 into 0, so that the two sort as equal.
            score.map(|score| score as f32 + 0.0).ok_or_else(bad)
        };
        list.iter().enumerate().map(number).collect()
    }

    fn kinds(&self, tokens: &[Cow<'a, str>], special: [Option<u32>; 4]) -> Result<Vec<Kind>> {
        let Some(list) = self.list(key::TYPES)? else {
            let kind = |id| if special.contains(&Some(id)) { Kind::Control } else { Kind::Normal };
            return Ok((0..).map(kind).take(tokens.len()).collect());
        };
        self.check_length(key::TYPES, list, tokens.len())?;
        let kind = |(id, (value, token)): (usize, (&Value, &Cow<'a, str>))| {
            let kind = value.as_i64().and_then(|number| Kind::of(token, number));
            kind.ok_or_else(|| self.bad(key::TYPES, &format!("has {value} at {id}, which is no type")))
        };
        list.iter().zip(tokens).enumerate().map(kind).collect()
    }

    fn check_length(&self, key: &str, list: &[Value], n_tokens: usize) -> Result<()> {
        if list.len() == n_tokens {
            return Ok(());
        }
        Err(self.bad(key, &format!("has {} entries for {n_tokens} tokens", list.len())))
    }
}
