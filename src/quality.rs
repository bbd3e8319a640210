//! What a model is worth on a text, and how much of that a compressed model lost.

use serde::{Deserialize, Serialize};

/// Sums over the scored tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Tokens scored: all after the first of each sequence.
    pub tokens: u64,
    /// Summed negative log-likelihood in nats.
    pub nll: f64,
    /// The original's own, where there was one to compare with.
    pub original_nll: Option<f64>,
    /// Summed `KL(original || this)` in nats, likewise.
    pub kl: Option<f64>,
    /// Tokens whose most likely successor agrees with the original's.
    pub agreements: Option<u64>,
    /// Mean divergence of the tokens of each sequence in nats; empty where there was no original.
    pub kl_by_sequence: Vec<f64>,
}

impl Scores {
    /// `exp(nll / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// The original's perplexity on the same tokens.
    pub fn original_perplexity(&self) -> Option<f64> {
        self.original_nll.map(|nll| (nll / self.tokens as f64).exp())
    }

    /// Mean divergence in nats per token, never negative.
    pub fn mean_kl(&self) -> Option<f64> {
        // Rounding can push the divergence of equal models a hair below zero.
        self.kl.map(|kl| (kl / self.tokens as f64).max(0.0))
    }

    /// Share of agreeing tokens, 0 to 1.
    pub fn top1_agreement(&self) -> Option<f64> {
        self.agreements.map(|n| n as f64 / self.tokens as f64)
    }
}

/// A compressed model whose perplexity exceeds the original's this many times is called collapsed.
pub const COLLAPSE_FACTOR: f64 = 10.0;

/// The quality of a model on some text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// `exp` of the mean negative log-likelihood in nats per token.
    pub perplexity: f64,
    /// Mean `KL(original || this)` in nats per token; `None` for the original itself.
    pub kl: Option<f64>,
    /// Share of tokens, 0 to 1, whose most likely successor is the same as in the original.
    pub top1_agreement: Option<f64>,
    /// Perplexity above [`COLLAPSE_FACTOR`] times the original's, or not a number at all.
    pub collapsed: bool,
}

impl Quality {
    /// The quality of an original.
    pub fn original(scores: &Scores) -> Self {
        Self { perplexity: scores.perplexity(), kl: None, top1_agreement: None, collapsed: false }
    }

    /// The quality of a compressed model whose original has perplexity `original`.
    pub fn compressed(scores: &Scores, original: f64) -> Self {
        let perplexity = scores.perplexity();
        Self {
            perplexity,
            kl: scores.mean_kl(),
            top1_agreement: scores.top1_agreement(),
            collapsed: is_collapsed(perplexity, original),
        }
    }
}

/// Whether `perplexity` exceeds [`COLLAPSE_FACTOR`] times `original`; a NaN does.
pub fn is_collapsed(perplexity: f64, original: f64) -> bool {
    perplexity.is_nan() || perplexity > COLLAPSE_FACTOR * original
}

/// The mean of some numbers and its standard error; `None` for fewer than two.
pub fn mean_and_error(x: &[f64]) -> Option<(f64, f64)> {
    let n = x.len() as f64;
    if x.len() < 2 {
        return None;
    }
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, (variance / n).sqrt()))
}
