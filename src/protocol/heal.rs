//! Options and report of healing: distillation of the original into the layers that were made of several.
//!
//! JSON keys are stable: keys are added, never renamed.

use serde::{Deserialize, Serialize};

use crate::protocol::text::TextReport;
use crate::quality::Quality;
use crate::{Error, Result};

/// Most that a step may change a weight by, where nothing else is asked for.
const RATE: f64 = 4e-4;

/// Sequences of a step, where nothing else is asked for.
const SEQUENCES: usize = 4;

/// Times that the model is measured, where nothing else is asked for.
const CHECKS: usize = 12;

/// How a compressed model is healed. What is not given is as usual ([`HealOptions::default`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct HealOptions {
    /// Number of tokens to train on, text that is seen again included; `None` if `seconds` says when to end.
    #[cfg_attr(test, ts(optional = nullable))]
    pub tokens: Option<u64>,
    /// Time to train for, in seconds; `None` if `tokens` says when to end.
    #[cfg_attr(test, ts(optional = nullable))]
    pub seconds: Option<f64>,
    /// Largest rate of Adam, which falls to zero with a cosine.
    #[cfg_attr(test, ts(as = "Option<f64>", optional))]
    pub rate: f64,
    /// Number of sequences of a step.
    #[cfg_attr(test, ts(as = "Option<usize>", optional))]
    pub sequences: usize,
    /// Number of times that the model is measured on the text that models are judged on.
    #[cfg_attr(test, ts(as = "Option<usize>", optional))]
    pub checks: usize,
    /// Seed of the order of the sequences.
    #[cfg_attr(test, ts(as = "Option<u64>", optional))]
    pub seed: u64,
}

impl Default for HealOptions {
    /// Returns the options without an end.
    fn default() -> Self {
        Self { tokens: None, seconds: None, rate: RATE, sequences: SEQUENCES, checks: CHECKS, seed: 0 }
    }
}

impl HealOptions {
    /// Checks the options by themselves.
    ///
    /// # Errors
    /// [`Error::Usage`] if not exactly one of tokens and seconds is given, or if a number is not above zero.
    pub fn check(&self) -> Result<()> {
        let refused = |what: &str| Err(Error::Usage(format!("healing needs {what}")));
        match (self.tokens, self.seconds) {
            (Some(1..), None) => {}
            (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => {}
            _ => return refused("either a number of tokens or a time, above 0"),
        }
        if !(self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1.0) {
            return refused("a rate above 0, at most 1");
        }
        if self.sequences == 0 || self.checks == 0 {
            return refused("at least one sequence in a step, and one check");
        }
        Ok(())
    }
}

impl HealReport {
    /// Returns the options that repeat the healing: as many tokens as there were, if time said when to end.
    pub fn repeated(&self) -> HealOptions {
        HealOptions {
            tokens: Some(self.options.tokens.unwrap_or(self.tokens)),
            seconds: None,
            ..self.options.clone()
        }
    }
}

/// State of a model that is being healed, measured on the text that models are judged on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct HealPoint {
    /// Number of tokens that the model was trained on so far.
    pub tokens: u64,
    /// Mean divergence of the model's next-word distribution from the original's on the text of the steps since the last
    /// point, in nats per token; `None` before the first step.
    pub loss: Option<f64>,
    /// Quality of the model as a file would hold it.
    pub quality: Quality,
    /// Time since the healing began, in seconds.
    pub seconds: f64,
}

/// Report of healing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct HealReport {
    /// How the model was healed.
    pub options: HealOptions,
    /// Text that the model was trained on.
    pub text: TextReport,
    /// Places of the layers that were trained, in the new model.
    pub layers: Vec<usize>,
    /// Number of parameters that were trained.
    pub parameters: u64,
    /// Number of tokens that the model was trained on.
    pub tokens: u64,
    /// Measurements, of which the first is of the model before it was healed.
    pub points: Vec<HealPoint>,
    /// Index of the point whose model was kept.
    pub best: usize,
    /// Why the healing ended before it was to, in a sentence; `None` if it did not.
    pub stopped: Option<String>,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}
