//! Which parts of a text are used, which hidden states are points, and what is said of both.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::maths::random::draw;
use crate::{Error, Result};

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

/// The text that something was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextReport {
    /// Its name.
    pub name: String,
    /// Sequences cut from it.
    pub sequences: usize,
    /// Tokens in each.
    pub tokens_per_sequence: usize,
    /// Tokens scored: all after the first of each sequence.
    pub tokens_scored: u64,
}

impl TextReport {
    /// Nothing was measured.
    pub fn none() -> Self {
        Self { name: "none".to_owned(), sequences: 0, tokens_per_sequence: 0, tokens_scored: 0 }
    }
}

/// Which states are points, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointsReport {
    /// The rule as the command line writes it.
    pub rule: String,
    /// Number of points, N.
    pub count: usize,
}

/// Where a point comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointReport {
    /// Index of its sequence.
    pub sequence: usize,
    /// Position in the sequence, -1 for a mean over positions.
    pub position: i64,
    /// Some text up to and including the point.
    pub text: String,
    /// The point's own token, with which the text ends; empty for a mean over positions.
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
