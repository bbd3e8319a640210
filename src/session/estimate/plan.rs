//! Estimates of the time and memory of a plan: selecting layers, merging them and measuring the result.
//!
//! Work is counted in passes over layers, sums and solutions ([`Work`]), and one of each is timed on this
//! device. The layers are not selected yet, so spans are taken to be as long as they may be.

use serde::Serialize;
use web_time::Instant;

use super::{Estimate, LayerTiming, decoded_bytes, largest_layer};
use crate::Result;
use crate::device::Accelerator;
use crate::forward::sequences::Sequences;
use crate::forward::stream::{shared_key_bytes, state_bytes};
use crate::maths::least_squares::{Normal, eliminate};
use crate::methods::work::{Task, Work};
use crate::methods::{importances, operators, outcome, quantise, selection, sizing};
use crate::model::config::LayerKind;
use crate::model::{Config, Model};
use crate::plan::PlanOptions;
use crate::protocol::options::{TextOptions, WriteOptions};

/// Rows and columns of the sums that are timed: large enough for the speed of larger sums.
const TIMED: usize = 1024;
/// Regressors of the elimination that is timed.
const TIMED_ELIMINATION: usize = 512;

/// Time and memory of a plan: selecting layers, merging them and measuring the result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PlanEstimate {
    /// Time in seconds.
    pub seconds: f64,
    /// Peak memory in bytes.
    pub peak_bytes: u64,
}

/// Time that grows with the number of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Duration {
    /// Seconds that do not depend on the number of sequences.
    pub fixed: f64,
    /// Seconds for each sequence.
    pub per_sequence: f64,
}

impl Duration {
    /// Returns the seconds for `n` sequences.
    pub fn of(self, n: usize) -> f64 {
        self.fixed + self.per_sequence * n as f64
    }
}

impl std::ops::Add for Duration {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { fixed: self.fixed + other.fixed, per_sequence: self.per_sequence + other.per_sequence }
    }
}

/// Time of least-squares arithmetic on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitTiming {
    /// Seconds of a multiply-add in sums.
    sum: f64,
    /// Seconds of a multiply-add in a solution in `f32`.
    solution: f64,
}

impl FitTiming {
    /// Measures the time of the sums and of an elimination on a small problem.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if there is no memory even for this problem.
    pub fn measure() -> Result<Self> {
        let time = |m: usize| -> Result<(Normal, f64)> {
            // Any values serve that are not zero and have full rank with a ridge.
            let rows: Vec<f32> = (0..TIMED * m).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect();
            let mut normal = Normal::new(m, 1)?;
            let start = Instant::now();
            normal.add(&rows, &vec![1.0; TIMED], &vec![1.0; TIMED])?;
            Ok((normal, start.elapsed().as_secs_f64()))
        };
        let sums = (TIMED * TIMED * TIMED / 2) as f64;
        let sum = time(TIMED)?.1 / sums;
        let (normal, _) = time(TIMED_ELIMINATION)?;
        let start = Instant::now();
        eliminate(&normal, TIMED_ELIMINATION / 2, 1, 1.0)?;
        let solutions = (TIMED_ELIMINATION as f64).powi(3) / 3.0;
        Ok(Self { sum, solution: start.elapsed().as_secs_f64() / solutions })
    }
}

/// A row of a comparison of methods.
pub struct ComparedPlan {
    /// Options by which its layers are selected and merged.
    pub plan: PlanOptions,
    /// Whether the row's time includes the selection of layers, which no earlier row has made.
    pub selects: bool,
    /// How its model is stored.
    pub output: WriteOptions,
}

/// Inputs of an estimate of a plan.
#[derive(Clone, Copy)]
pub struct PlanBasis<'a> {
    /// Original model.
    pub model: &'a Model,
    /// Device that runs the arithmetic.
    pub accelerator: &'a Accelerator,
    /// Sequences of the calibration text.
    pub sequences: &'a Sequences,
    /// Options by which layers are selected and merged.
    pub options: &'a PlanOptions,
    /// Text on which fitted models are measured.
    pub judge_on: &'a TextOptions,
    /// Most bytes of the least-squares problems of a span (see
    /// [`Resources::fit_bytes`](crate::methods::Resources::fit_bytes)).
    pub fit_bytes: u64,
    /// Whether finished layers wait elsewhere than in memory.
    pub spills: bool,
    /// How the result is stored, if importances of its columns are collected where that profits.
    pub collecting: Option<&'a WriteOptions>,
    /// How the result is stored.
    pub output: &'a WriteOptions,
}

impl PlanBasis<'_> {
    /// Returns the time of the plan, and the larger of its peak memory and that of the similarity stage.
    pub fn estimate(&self, similarity: &Estimate, layer: LayerTiming, fit: FitTiming) -> PlanEstimate {
        PlanEstimate {
            seconds: self.duration(layer, fit, self.sequences.count()).of(self.sequences.count()),
            peak_bytes: similarity.peak_bytes.max(self.bytes(similarity)),
        }
    }

    /// Returns the time of selecting, merging and measuring with the first `n_sequences` of the sequences.
    pub fn duration(&self, layer: LayerTiming, fit: FitTiming, n_sequences: usize) -> Duration {
        let task = Task { sequences: n_sequences, ..self.task() };
        let work =
            selection::work(&task) + operators::work(&task) + outcome::work(&task, self.judge_tokens());
        self.seconds(work + self.importances(&task) + self.rounding(&task), layer, fit)
    }

    /// Returns the time of finding the best model of a size with the first `n_sequences` of the sequences. Half of the layers
    /// that may go are taken to go, if the options do not say how many do.
    pub fn best_of_size(&self, layer: LayerTiming, fit: FitTiming, n_sequences: usize) -> Duration {
        let usual = PlanOptions { remove: Some(self.model.config.n_layers / 4), ..self.options.clone() };
        let options = if self.options.goal().is_some() { self.options } else { &usual };
        let task = Task { sequences: n_sequences, options, ..self.task() };
        let plan = selection::work(&task)
            + operators::work(&task)
            + outcome::work(&task, self.judge_tokens())
            + self.importances(&task);
        let removes = options.goal() != Some(0);
        self.seconds(sizing::work(self.model.config.n_layers, removes, plan), layer, fit)
    }

    /// Returns the seconds of a comparison of `plans` with the first `n_sequences` of the sequences, of which the
    /// original's run on the evaluation text is a part.
    pub fn compare(
        &self,
        plans: &[ComparedPlan],
        layer: LayerTiming,
        fit: FitTiming,
        n_sequences: usize,
    ) -> f64 {
        let original = Work::layers(self.model.config.n_layers as f64) + Work::heads(1.0);
        let original = self.seconds(original.of_tokens(self.judge_tokens()), layer, fit);
        let rows = plans.iter().map(|ComparedPlan { plan, selects, output }| {
            // Each file type has importances of its own to collect, or none.
            let basis = PlanBasis { options: plan, collecting: self.collecting.map(|_| output), ..*self };
            let task = Task { sequences: n_sequences, ..basis.task() };
            let selection = if *selects { selection::work(&task) } else { Work::default() };
            let work = selection + operators::work(&task) + outcome::row_work(&task, self.judge_tokens());
            self.seconds(work + basis.importances(&task) + basis.rounding(&task), layer, fit)
        });
        rows.fold(original, |sum, row| sum + row).of(n_sequences)
    }

    /// Returns the peak memory in bytes, 0 if no layer is removed and none is rounded by what its inputs are. For operators
    /// that fit to activations, the peak is in the fit of the longest span; for others, in the similarity stage. Where
    /// matrices are rounded by what their inputs are, it may be there.
    pub fn bytes(&self, similarity: &Estimate) -> u64 {
        let of_rounding = match self.rounding(&self.task()).bytes {
            0 => 0,
            bytes => similarity.peak_bytes + bytes,
        };
        self.bytes_of_plan(similarity).max(of_rounding)
    }

    fn bytes_of_plan(&self, similarity: &Estimate) -> u64 {
        let task = self.task();
        let Some(longest) = task.spans().into_iter().max() else { return 0 };
        if !self.options.operator.needs_activations() {
            return similarity.peak_bytes;
        }
        let states = state_bytes(self.model, self.sequences);
        let shared_keys = shared_key_bytes(self.model, self.sequences);
        // The peak holds the hidden states around the span in both models (three times `states`), and the
        // inputs and outputs of the layers of the span (`read`).
        let read = ((longest as u64 + 1) * states).min(self.fit_bytes / 3);
        let weights = 8 * self.model.config.held_parameters_per_layer() * longest as u64
            + decoded_bytes(self.accelerator);
        let waiting = if self.spills { 1 } else { task.spans().len() as u64 };
        let fitted = waiting * largest_layer(self.model);
        let operators = operators::work(&task).bytes;
        similarity.state_bytes + 3 * (states + shared_keys) + read + weights + fitted + operators
    }

    /// Returns the work of collecting importances, if they are collected.
    fn importances(&self, task: &Task<'_>) -> Work {
        self.collecting.map_or_else(Work::default, |output| importances::work(task, self.model, output))
    }

    /// Returns the work of rounding matrices by what their inputs are, if they are.
    fn rounding(&self, task: &Task<'_>) -> Work {
        quantise::work(task, self.model, self.output, self.judge_tokens())
    }

    fn task(&self) -> Task<'_> {
        Task {
            config: &self.model.config,
            options: self.options,
            sequences: self.sequences.count(),
            tokens: self.sequences.tokens(),
            fit_bytes: self.fit_bytes,
            spills: self.spills,
        }
    }

    fn judge_tokens(&self) -> usize {
        self.judge_on.samples.saturating_mul(self.judge_on.tokens)
    }

    /// Returns the time of `work` on this device. The head is one product, timed by its share of the
    /// arithmetic of a layer.
    fn seconds(&self, work: Work, layer: LayerTiming, fit: FitTiming) -> Duration {
        let tokens = self.sequences.tokens();
        let head = head_layers(&self.model.config, tokens);
        let aside = (work.token_passes + head * work.token_heads) / tokens as f64;
        Duration {
            fixed: work.uploads * layer.upload + work.solutions * fit.solution + aside * layer.per_sequence,
            per_sequence: (work.passes + head * work.heads) * layer.per_sequence
                + work.sums * tokens as f64 * fit.sum,
        }
    }
}

/// Returns the floating-point operations of a layer for each token, in sequences of `tokens` tokens.
pub fn layer_flop(config: &Config, tokens: usize) -> f64 {
    let of_heads = |kind: &LayerKind| config.n_heads * config.head_width(*kind);
    let heads = config.layers.iter().map(of_heads).sum::<usize>() as f64 / config.layers.len().max(1) as f64;
    let attention = 4.0 * tokens as f64 * heads;
    2.0 * config.active_parameters_per_layer() as f64 + attention
}

/// Returns the arithmetic of the head, in layers.
pub fn head_layers(config: &Config, tokens: usize) -> f64 {
    2.0 * (config.hidden_size * config.vocab_size) as f64 / layer_flop(config, tokens)
}
