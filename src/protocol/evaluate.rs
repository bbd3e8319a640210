//! What a model is worth on a text, as reports say it.

use serde::Serialize;

use super::answers::MmluReport;
use super::model::ModelReport;
use super::text::TextReport;
use crate::device::DeviceReport;

/// What a model is worth on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluateReport {
    /// The model.
    pub model: ModelReport,
    /// The text.
    pub text: TextReport,
    /// `exp` of the mean negative log-likelihood in nats per token.
    pub perplexity: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Perplexity of the original on the same text, if one was given.
    pub original_perplexity: Option<f64>,
    /// Mean `KL(original || model)` in nats per token.
    pub kl: Option<f64>,
    /// Share of tokens whose most likely successor is the original's, 0 to 1.
    pub top1_agreement: Option<f64>,
    /// Perplexity more than ten times the original's.
    pub collapsed: bool,
    /// Answers to multiple-choice questions, if any were asked.
    pub mmlu: Option<MmluReport>,
    /// The original's answers to the same questions.
    pub original_mmlu: Option<MmluReport>,
    /// Texts that were to be continued.
    pub samples: Vec<Sample>,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// A text and how models continue it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The text.
    pub prompt: String,
    /// What the original continues with, if there was one to compare with.
    pub original: Option<String>,
    /// What the model continues with.
    pub model: String,
}
