//! Report of the quality of a model on a text.

use serde::Serialize;

use super::answers::MmluReport;
use super::model::ModelReport;
use super::text::TextReport;
use crate::device::DeviceReport;

/// Quality of a model on a text, alone or against its original.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluateReport {
    /// Model that was measured.
    pub model: ModelReport,
    /// Text that the model was measured on.
    pub text: TextReport,
    /// `exp` of the mean negative log-likelihood in nats per token.
    pub perplexity: f64,
    /// Number of tokens scored.
    pub tokens: u64,
    /// Perplexity of the original on the same text, if an original was given.
    pub original_perplexity: Option<f64>,
    /// Mean `KL(original || model)` in nats per token, if an original was given.
    pub kl: Option<f64>,
    /// Share of tokens, 0 to 1, whose most likely successor is the same as the original's, if an original was
    /// given.
    pub top1_agreement: Option<f64>,
    /// Whether the perplexity is more than ten times the original's.
    pub collapsed: bool,
    /// Answers of the model to multiple-choice questions, if any were asked.
    pub mmlu: Option<MmluReport>,
    /// Answers of the original to the same questions.
    pub original_mmlu: Option<MmluReport>,
    /// Prompts and their continuations.
    pub samples: Vec<Sample>,
    /// Device that ran the evaluation.
    pub device: DeviceReport,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}

/// A prompt and how models continue it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Text to continue.
    pub prompt: String,
    /// Continuation by the original, if an original was given.
    pub original: Option<String>,
    /// Continuation by the model.
    pub model: String,
}
