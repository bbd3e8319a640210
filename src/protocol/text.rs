//! Rules for the parts of a text that are used and for the hidden states that are points, and reports of
//! both.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::maths::random::draw;
use crate::{Error, Result};

/// Rule that chooses pieces of a text which has more pieces than are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Draw {
    /// The first pieces.
    #[default]
    First,
    /// Pieces at even distances over the whole text.
    Spread,
    /// Pieces drawn at random, from this seed.
    Random(u64),
}

impl Draw {
    /// Returns the indices of `count` of the pieces `0..n`, or of all pieces if there are fewer.
    pub fn pieces(self, n: usize, count: usize) -> Vec<usize> {
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

/// Rule that chooses the hidden states of a sequence that are points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PointRule {
    /// Hidden state of the last token.
    #[default]
    Last,
    /// Mean of the hidden states of the tokens after BOS.
    Mean,
    /// Hidden states at this number of evenly spaced positions, the last one included, BOS excluded.
    Tokens(usize),
}

impl PointRule {
    /// Returns the positions that are points in a sequence of `tokens` tokens; empty for [`PointRule::Mean`].
    ///
    /// # Errors
    /// [`Error::Usage`] if [`PointRule::Tokens`] asks for no position, or for more than the sequence has
    /// after BOS.
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

    /// Returns the number of points that each sequence gives.
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

/// A text that something was measured on, and its sequences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TextReport {
    /// Name of the text.
    pub name: String,
    /// Number of sequences cut from the text.
    pub sequences: usize,
    /// Number of tokens in each sequence.
    pub tokens_per_sequence: usize,
    /// Number of tokens scored: all after the first of each sequence.
    pub tokens_scored: u64,
}

impl TextReport {
    /// Makes the report of no text, for a model that was not calibrated.
    pub fn none() -> Self {
        Self { name: "none".to_owned(), sequences: 0, tokens_per_sequence: 0, tokens_scored: 0 }
    }
}

/// Rule and number of the points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PointsReport {
    /// Rule as the command line writes it.
    #[cfg_attr(test, ts(as = "super::text::PointRule"))]
    pub rule: String,
    /// Number of points, N.
    pub count: usize,
}

/// Origin of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PointReport {
    /// Index of the point's sequence.
    pub sequence: usize,
    /// Position in the sequence, -1 for a mean over positions.
    pub position: i64,
    /// Text before the point, up to and including its token; for a mean over positions, the beginning of the
    /// sequence.
    pub text: String,
    /// Text of the point's own token, with which `text` ends; empty for a mean over positions.
    #[cfg_attr(test, ts(as = "Option<String>", optional))]
    pub token: String,
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
