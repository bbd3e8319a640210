//! What goes through the model: text cut into sequences, and which of their states are points.

use std::str::FromStr;

use crate::model::Config;
use crate::random::draw;
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

/// Which pieces of a text are taken where it has more than are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Draw {
    /// The first.
    #[default]
    First,
    /// Evenly from the whole text.
    Spread,
    /// By lot, from this seed.
    Random(u64),
}

impl Draw {
    /// `count` of the pieces `0..n`, or all.
    fn pieces(self, n: usize, count: usize) -> Vec<usize> {
        let count = count.min(n);
        match self {
            Draw::First => (0..count).collect(),
            Draw::Spread => (0..count).map(|i| (i as u128 * n as u128 / count as u128) as usize).collect(),
            Draw::Random(seed) => draw((0..n).collect(), count, seed),
        }
    }
}

impl FromStr for Draw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("random:").map(str::parse)) {
            ("first", _) => Ok(Draw::First),
            ("spread", _) => Ok(Draw::Spread),
            (_, Some(Ok(seed))) => Ok(Draw::Random(seed)),
            _ => Err(Error::Usage(format!("draw {text} is not first, spread or random:SEED"))),
        }
    }
}

impl std::fmt::Display for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Draw::First => f.write_str("first"),
            Draw::Spread => f.write_str("spread"),
            Draw::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

/// Which hidden states of a sequence are points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PointRule {
    /// The last token's.
    #[default]
    Last,
    /// The mean over the tokens after BOS.
    Mean,
    /// So many evenly spaced positions, the last one included, BOS excluded.
    Tokens(usize),
}

impl PointRule {
    /// Positions taken in a sequence of `tokens` tokens; empty for the mean.
    ///
    /// # Errors
    /// [`Error::Usage`] for more positions than there are.
    pub fn positions(self, tokens: usize, has_bos: bool) -> Result<Vec<usize>> {
        let first = usize::from(has_bos);
        let available = tokens.saturating_sub(first);
        match self {
            PointRule::Last => Ok(vec![tokens.saturating_sub(1)]),
            PointRule::Mean => Ok(Vec::new()),
            PointRule::Tokens(k) if k >= 1 && k <= available => {
                Ok((1..=k).map(|j| first + j * available / k - 1).collect())
            }
            PointRule::Tokens(k) => Err(Error::Usage(format!(
                "{k} points cannot be taken from sequences with {available} tokens after BOS"
            ))),
        }
    }

    /// Points that each sequence gives.
    pub fn per_sequence(self) -> usize {
        match self {
            PointRule::Last | PointRule::Mean => 1,
            PointRule::Tokens(k) => k,
        }
    }
}

impl FromStr for PointRule {
    type Err = Error;

    fn from_str(rule: &str) -> Result<Self> {
        match (rule, rule.strip_prefix("tokens:").map(str::parse)) {
            ("last", _) => Ok(PointRule::Last),
            ("mean", _) => Ok(PointRule::Mean),
            (_, Some(Ok(k))) if k > 0 => Ok(PointRule::Tokens(k)),
            _ => Err(Error::Usage(format!("points {rule} is not last, mean or tokens:K"))),
        }
    }
}

impl std::fmt::Display for PointRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PointRule::Last => f.write_str("last"),
            PointRule::Mean => f.write_str("mean"),
            PointRule::Tokens(k) => write!(f, "tokens:{k}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_spaced_evenly_and_skip_bos() {
        assert_eq!(PointRule::Last.positions(48, true).unwrap(), [47]);
        assert_eq!(PointRule::Tokens(1).positions(48, true).unwrap(), [47]);
        assert_eq!(PointRule::Tokens(4).positions(9, true).unwrap(), [2, 4, 6, 8]);
        assert_eq!(PointRule::Tokens(3).positions(4, true).unwrap(), [1, 2, 3]);
        assert_eq!(PointRule::Tokens(4).positions(4, false).unwrap(), [0, 1, 2, 3]);
        assert!(PointRule::Tokens(4).positions(4, true).is_err());
    }

    #[test]
    fn pieces_come_from_where_they_are_asked_to() {
        assert_eq!(Draw::First.pieces(10, 3), [0, 1, 2]);
        assert_eq!(Draw::Spread.pieces(10, 3), [0, 3, 6]);
        assert_eq!(Draw::Spread.pieces(3, 5), [0, 1, 2]);
        assert_eq!(Draw::Spread.pieces(0, 5), [0usize; 0]);
        assert_eq!(Draw::Random(1).pieces(10, 3).len(), 3);
        assert_ne!(Draw::Random(1).pieces(100, 9), Draw::Random(2).pieces(100, 9));
    }

    #[test]
    fn draws_survive_text() {
        for draw in ["first", "spread", "random:0", "random:18446744073709551615"] {
            assert_eq!(draw.parse::<Draw>().unwrap().to_string(), draw);
        }
        for draw in ["", "last", "random", "random:", "random:-1", "random:x"] {
            assert!(draw.parse::<Draw>().is_err(), "{draw}");
        }
    }

    #[test]
    fn point_rules_survive_text() {
        for rule in ["last", "mean", "tokens:7"] {
            assert_eq!(rule.parse::<PointRule>().unwrap().to_string(), rule);
        }
        for rule in ["", "tokens:0", "tokens:x", "first"] {
            assert!(rule.parse::<PointRule>().is_err(), "{rule}");
        }
    }
}
