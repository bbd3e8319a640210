//! What a model is worth on a text and on questions, and what a compressed one lost.

pub mod answers;
pub mod questions;
pub mod sample;
pub mod score;

pub use answers::MmluReport;
pub use sample::sample;
pub use score::{Output, Prediction, Scores, predict, score, score_all};
use serde::{Deserialize, Serialize};

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
