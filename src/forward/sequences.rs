//! Token sequences that go through the model, cut from a text.

use crate::model::Config;
use crate::model::open::Model;
use crate::protocol::options::TextOptions;
use crate::protocol::text::{Draw, TextReport};
use crate::{Error, Result};

/// Sequences of token ids, all of the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Token ids, row-major `[count, tokens]`.
    ids: Vec<u32>,
    count: usize,
    tokens: usize,
    has_bos: bool,
}

impl Sequences {
    /// Cuts the first `count` sequences from `text_ids` (see [`Sequences::draw`]).
    ///
    /// # Errors
    /// Those of [`Sequences::draw`].
    pub fn cut(config: &Config, text_ids: &[u32], count: usize, tokens: usize) -> Result<Self> {
        Self::draw(config, text_ids, count, tokens, Draw::First)
    }

    /// Cuts `text_ids` into pieces that fill a sequence of `tokens` tokens each, and takes the `count` pieces
    /// that `draw` chooses, or all if there are fewer. With `T = tokens`, the sequence of piece `i` is BOS
    /// followed by `text_ids[i (T - 1) .. (i + 1) (T - 1)]`; without a BOS token it is
    /// `text_ids[i T .. (i + 1) T]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if `count` is 0, or if `tokens` is less than 2 or more than the model's context;
    /// [`Error::Limit`] if the text does not fill one sequence; [`Error::Format`] if a token is outside the model's vocabulary.
    pub fn draw(config: &Config, text_ids: &[u32], count: usize, tokens: usize, draw: Draw) -> Result<Self> {
        if tokens < 2 || tokens > config.context {
            return Err(Error::Usage(format!(
                "sequences of {tokens} tokens are not possible; this model takes 2 to {}",
                config.context
            )));
        }
        if count == 0 {
            return Err(Error::Usage(
                "no sequence is asked for: give a number of samples of at least 1".to_owned(),
            ));
        }
        let from_text = tokens - usize::from(config.bos_token_id.is_some());
        let mut ids = Vec::new();
        let pieces = draw.pieces(text_ids.len() / from_text, count);
        let n = pieces.len();
        for piece in pieces {
            ids.extend(config.bos_token_id);
            ids.extend(text_ids.iter().skip(piece * from_text).take(from_text));
        }
        if n == 0 {
            return Err(Error::Limit(format!(
                "the text has {} tokens, which does not fill one sequence of {tokens}; give a longer \
                 text or shorter sequences",
                text_ids.len()
            )));
        }
        check_vocabulary(config, &ids)?;
        Ok(Self { ids, count: n, tokens, has_bos: config.bos_token_id.is_some() })
    }

    /// Pads each of `sequences` with `pad` at its end to the length of the longest. In a causal model,
    /// padding does not change the hidden states before it; the hidden states of the padding itself mean
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are no sequences, one is empty, or one is longer than the model's context;
    /// [`Error::Format`] if a token is outside the model's vocabulary.
    pub fn padded(config: &Config, sequences: &[Vec<u32>], pad: u32) -> Result<Self> {
        let tokens = sequences.iter().map(Vec::len).max().unwrap_or(0);
        if sequences.iter().any(Vec::is_empty) || tokens == 0 || tokens > config.context {
            return Err(Error::Usage(format!(
                "sequences of up to {tokens} tokens are not possible; this model takes 1 to {}",
                config.context
            )));
        }
        let fill = |sequence: &Vec<u32>| {
            sequence.iter().copied().chain(std::iter::repeat(pad)).take(tokens).collect::<Vec<_>>()
        };
        let ids: Vec<u32> = sequences.iter().flat_map(fill).collect();
        check_vocabulary(config, &ids)?;
        let begins = |bos| sequences.iter().all(|sequence| sequence.first() == Some(&bos));
        let has_bos = config.bos_token_id.is_some_and(begins);
        Ok(Self { ids, count: sequences.len(), tokens, has_bos })
    }

    /// Returns all token ids, row-major `[count, tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Returns the number of sequences.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the number of tokens in each sequence.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the first `count` sequences, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.count);
        let ids = self.ids.iter().take(count * self.tokens).copied().collect();
        Self { ids, count, ..*self }
    }

    /// Returns `count` sequences at even distances over all sequences, or all if there are fewer.
    #[must_use]
    pub fn spread(&self, count: usize) -> Self {
        self.at(&Draw::Spread.pieces(self.count, count))
    }

    /// Returns the sequences with the indices `places`. Indices past the end are left out.
    #[must_use]
    pub fn at(&self, places: &[usize]) -> Self {
        let ids: Vec<u32> = places.iter().flat_map(|place| self.get(*place)).copied().collect();
        let count = ids.len() / self.tokens.max(1);
        Self { ids, count, ..*self }
    }

    /// Returns the tokens of sequence `index`; empty past the end.
    pub fn get(&self, index: usize) -> &[u32] {
        self.ids.chunks(self.tokens).nth(index).unwrap_or_default()
    }

    /// Returns the tokens of each sequence, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks(self.tokens)
    }

    /// Returns whether every sequence begins with the model's BOS token.
    pub fn has_bos(&self) -> bool {
        self.has_bos
    }
}

fn check_vocabulary(config: &Config, ids: &[u32]) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= config.vocab_size) {
        None => Ok(()),
        Some(id) => Err(Error::Format(format!(
            "the tokenizer gave token {id}, outside the model's vocabulary of {}; it belongs to another model",
            config.vocab_size
        ))),
    }
}

/// Largest text in bytes; a text is tokenised whole.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Tokenises the text of `options` and cuts it into sequences.
///
/// # Errors
/// [`Error::Limit`] if the text is larger than 64 MiB; those of
/// [`Tokenizer::encode`](crate::model::tokenizer::Tokenizer::encode) and [`Sequences::draw`].
pub fn sequences(model: &Model, options: &TextOptions) -> Result<(Sequences, TextReport)> {
    let (text, name) = options.text_and_name();
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::Limit(format!(
            "the text has {} MB; {} are enough for any calibration: give a part of it",
            text.len() >> 20,
            MAX_TEXT_BYTES >> 20
        )));
    }
    let ids = model.tokenizer.encode(text)?;
    let sequences = Sequences::draw(&model.config, &ids, options.samples, options.tokens, options.draw)?;
    let report = TextReport {
        name: name.to_owned(),
        sequences: sequences.count(),
        tokens_per_sequence: sequences.tokens(),
        tokens_scored: (sequences.count() * (sequences.tokens() - 1)) as u64,
    };
    Ok((sequences, report))
}
