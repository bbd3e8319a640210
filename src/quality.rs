//! Quality of a model on a text, and the quality that a compressed model lost.

use serde::{Deserialize, Serialize};

/// Sums over the scored tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Number of tokens scored: all but the first of each sequence.
    pub tokens: u64,
    /// Sum of the negative log-likelihoods in nats.
    pub nll: f64,
    /// Sum of the original's negative log-likelihoods in nats; `None` without an original to compare with.
    pub original_nll: Option<f64>,
    /// Sum of `KL(original || compressed)` in nats; `None` without an original to compare with.
    pub kl: Option<f64>,
    /// Number of tokens whose most likely successor agrees with the original's; `None` without an original.
    pub agreements: Option<u64>,
    /// Mean KL divergence of the tokens of each sequence, in nats; empty without an original.
    pub kl_by_sequence: Vec<f64>,
}

impl Scores {
    /// Returns the perplexity, `exp(nll / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// Returns the original's perplexity on the same tokens; `None` without an original.
    pub fn original_perplexity(&self) -> Option<f64> {
        self.original_nll.map(|nll| (nll / self.tokens as f64).exp())
    }

    /// Returns the mean KL divergence in nats per token, never negative; `None` without an original.
    pub fn mean_kl(&self) -> Option<f64> {
        // Rounding can push the divergence of equal models a hair below zero.
        self.kl.map(|kl| (kl / self.tokens as f64).max(0.0))
    }

    /// Returns the share of agreeing tokens, 0 to 1; `None` without an original.
    pub fn top1_agreement(&self) -> Option<f64> {
        self.agreements.map(|n| n as f64 / self.tokens as f64)
    }
}

/// Multiple of the original's perplexity above which a compressed model is called collapsed.
pub const COLLAPSE_FACTOR: f64 = 10.0;

/// Quality of a model on a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Quality {
    /// Perplexity: `exp` of the mean negative log-likelihood in nats per token.
    pub perplexity: f64,
    /// Mean `KL(original || compressed)` in nats per token; `None` for the original itself.
    pub kl: Option<f64>,
    /// Share of tokens, 0 to 1, whose most likely successor is that of the original; `None` for the original
    /// itself.
    pub top1_agreement: Option<f64>,
    /// Whether the perplexity is above [`COLLAPSE_FACTOR`] times the original's, or NaN.
    pub collapsed: bool,
}

impl Quality {
    /// Returns the quality of an original model.
    pub fn original(scores: &Scores) -> Self {
        Self { perplexity: scores.perplexity(), kl: None, top1_agreement: None, collapsed: false }
    }

    /// Returns the quality of a compressed model; `original` is the perplexity of its original.
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

/// Returns whether `perplexity` exceeds [`COLLAPSE_FACTOR`] times `original`, or is NaN.
pub fn is_collapsed(perplexity: f64, original: f64) -> bool {
    perplexity.is_nan() || perplexity > COLLAPSE_FACTOR * original
}

/// Returns the mean of `x` and its standard error; `None` for fewer than two numbers.
pub fn mean_and_error(x: &[f64]) -> Option<(f64, f64)> {
    let n = x.len() as f64;
    if x.len() < 2 {
        return None;
    }
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, (variance / n).sqrt()))
}
