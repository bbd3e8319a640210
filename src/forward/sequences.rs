//! What goes through the model: text cut into sequences, and which of their states are points.

use crate::model::Config;
use crate::model::open::Model;
use crate::protocol::options::TextOptions;
use crate::protocol::text::{Draw, TextReport};
use crate::{Error, Result};

/// Sequences of token ids, all of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Row-major `[count, tokens]`.
    ids: Vec<u32>,
    count: usize,
    tokens: usize,
    has_bos: bool,
}

impl Sequences {
    /// The first `count` of the pieces that [`Sequences::draw`] cuts.
    ///
    /// # Errors
    /// As [`Sequences::draw`].
    pub fn cut(config: &Config, text_ids: &[u32], count: usize, tokens: usize) -> Result<Self> {
        Self::draw(config, text_ids, count, tokens, Draw::First)
    }

    /// Cuts `text_ids` into pieces and takes `count` of them, or all: piece `i` of `tokens` tokens is BOS followed
    /// by `text_ids[i (T - 1) .. (i + 1) (T - 1)]`, or without a BOS token `text_ids[i T .. (i + 1) T]`.
    ///
    /// # Errors
    /// [`Error::Limit`] if the text does not fill one sequence, [`Error::Usage`] for fewer than two
    /// tokens or more than the model's context.
    pub fn draw(config: &Config, text_ids: &[u32], count: usize, tokens: usize, draw: Draw) -> Result<Self> {
        if tokens < 2 || tokens > config.context {
            return Err(Error::Usage(format!(
                "sequences of {tokens} tokens are not possible; this model takes 2 to {}",
                config.context
            )));
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

    /// Sequences as they are, each filled with `pad` at its end to the length of the longest. A causal model
    /// gives the same states before the filling as without it; what it gives on the filling means nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty sequence or none, or one longer than the model's context;
    /// [`Error::Format`] for a token outside its vocabulary.
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

    /// All ids, row-major `[count, tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Tokens in each.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The first `count` of them, or all.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.count);
        let ids = self.ids.iter().take(count * self.tokens).copied().collect();
        Self { ids, count, ..*self }
    }

    /// So many of them, evenly from first to last, or all.
    #[must_use]
    pub fn spread(&self, count: usize) -> Self {
        self.at(&Draw::Spread.pieces(self.count, count))
    }

    /// Those at `places`. Places that do not exist are left out.
    #[must_use]
    pub fn at(&self, places: &[usize]) -> Self {
        let ids: Vec<u32> = places.iter().flat_map(|place| self.get(*place)).copied().collect();
        let count = ids.len() / self.tokens.max(1);
        Self { ids, count, ..*self }
    }

    /// One sequence.
    pub fn get(&self, index: usize) -> &[u32] {
        self.ids.chunks(self.tokens).nth(index).unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks(self.tokens)
    }

    /// Every sequence begins with the model's BOS token.
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

/// Longest text in bytes: it is tokenised whole.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Tokenises a text and cuts it.
///
/// # Errors
/// [`Error::Limit`] for an empty, too short or too long text.
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
