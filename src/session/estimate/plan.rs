//! What choosing layers, joining them and measuring the result will need, before it starts.
//!
//! Counted in passes over layers, sums and solutions; what one of each takes is timed on this device. The layers are
//! not chosen yet, so runs are taken to be as long as they may be.

use serde::Serialize;
use web_time::Instant;

use super::{Estimate, LayerTiming, decoded_bytes};
use crate::Result;
use crate::device::Accelerator;
use crate::forward::sequences::Sequences;
use crate::forward::stream::state_bytes;
use crate::maths::least_squares::{Normal, eliminate};
use crate::methods::operators::{SpanCost, cost};
use crate::model::{Config, Model};
use crate::plan::{Alpha, Operator, PlanOptions, Selection};
use crate::protocol::options::TextOptions;

/// Rows and columns of the sums that are timed: large enough for the speed of larger ones.
const TIMED: usize = 1024;
/// Regressors of the elimination that is timed.
const TIMED_ELIMINATION: usize = 512;

/// Layers of a run where nothing says how long it may be.
const USUAL_RUN: usize = 4;

/// Tries of a line search for a share.
const TRIES: f64 = 9.0;

/// Time and memory of a plan: choosing, joining and measuring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PlanEstimate {
    /// Seconds.
    pub seconds: f64,
    /// Peak memory in bytes.
    pub peak_bytes: u64,
}

/// Seconds that grow with the number of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Duration {
    /// Whatever their number.
    pub fixed: f64,
    /// For each.
    pub per_sequence: f64,
}

impl Duration {
    /// For `n` sequences.
    pub fn of(self, n: usize) -> f64 {
        self.fixed + self.per_sequence * n as f64
    }

    /// The most sequences that take no more than `seconds`, perhaps none.
    pub fn within(self, seconds: f64) -> usize {
        ((seconds - self.fixed) / self.per_sequence.max(f64::MIN_POSITIVE)).max(0.0) as usize
    }
}

impl std::ops::Add for Duration {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { fixed: self.fixed + other.fixed, per_sequence: self.per_sequence + other.per_sequence }
    }
}

/// Seconds that least squares takes on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitTiming {
    /// A multiply-add of sums.
    sum: f64,
    /// A multiply-add of a solution in `f32`.
    solution: f64,
}

impl FitTiming {
    /// Sums and eliminates some numbers.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory even for that.
    pub fn measure() -> Result<Self> {
        let time = |m: usize| -> Result<(Normal, f64)> {
            // Anything that is not zero and has full rank with a ridge.
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

/// What a plan is estimated from.
pub struct PlanBasis<'a> {
    /// The original.
    pub model: &'a Model,
    /// Where it runs.
    pub accelerator: &'a Accelerator,
    /// The calibration text.
    pub sequences: &'a Sequences,
    /// How layers are chosen and joined.
    pub options: &'a PlanOptions,
    /// What models that are fitted are measured on.
    pub judge_on: &'a TextOptions,
    /// [`Context::fit_bytes`](crate::forward::context::Context::fit_bytes).
    pub fit_bytes: u64,
}

impl PlanBasis<'_> {
    /// Time and memory.
    pub fn estimate(&self, similarity: &Estimate, layer: LayerTiming, fit: FitTiming) -> PlanEstimate {
        PlanEstimate {
            seconds: self.duration(layer, fit).of(self.sequences.count()),
            peak_bytes: similarity.peak_bytes.max(self.bytes(similarity)),
        }
    }

    /// Time.
    pub fn duration(&self, layer: LayerTiming, fit: FitTiming) -> Duration {
        let (n_layers, removed) = (self.model.config.n_layers as f64, self.removed() as f64);
        let measured = match self.options.operator.needs_activations() {
            // The original, the new model and the one without the layers, on the text that judges.
            true => self.aside(layer, 3.0 * n_layers - 2.0 * removed, 5.0, self.judging_tokens()),
            // After each step, and what dropping gives.
            false => self.passes(layer, 1.25 * removed * n_layers, 4.0 * removed),
        };
        self.chosen(layer) + self.made(layer, fit) + measured
    }

    /// Time of a row of a comparison; the choice is in it if it is `chosen` there.
    pub fn compared(&self, layer: LayerTiming, fit: FitTiming, chosen: bool) -> Duration {
        let left = (self.model.config.n_layers - self.removed()) as f64;
        let measured = self.aside(layer, left, 2.0, self.judging_tokens());
        let chosen = if chosen { self.chosen(layer) } else { Duration::default() };
        chosen + self.made(layer, fit) + measured
    }

    /// Time of the original on the text that judges.
    pub fn original(&self, layer: LayerTiming) -> Duration {
        self.aside(layer, self.model.config.n_layers as f64, 2.0, self.judging_tokens())
    }

    fn judging_tokens(&self) -> f64 {
        (self.judge_on.samples * self.judge_on.tokens) as f64
    }

    /// What a pass over so many layers and heads takes, for the calibration text.
    fn passes(&self, layer: LayerTiming, layers: f64, heads: f64) -> Duration {
        let head = head_layers(&self.model.config, self.sequences.tokens());
        Duration { fixed: layers * layer.upload, per_sequence: (layers + heads * head) * layer.per_sequence }
    }

    /// The same for so many tokens of other text, which do not grow with it.
    fn aside(&self, layer: LayerTiming, layers: f64, heads: f64, tokens: f64) -> Duration {
        let pass = self.passes(layer, layers, heads);
        let sequences = tokens / self.sequences.tokens() as f64;
        Duration { fixed: pass.fixed + sequences * pass.per_sequence, per_sequence: 0.0 }
    }

    /// Time of choosing layers.
    fn chosen(&self, layer: LayerTiming) -> Duration {
        let (n_layers, removed) = (self.model.config.n_layers as f64, self.removed() as f64);
        let tokens = self.sequences.tokens() as f64;
        match self.options.selection {
            // The model as merged so far is compared and measured anew from the merge on.
            Selection::Mka if !self.options.one_shot => self.passes(layer, removed * n_layers / 2.0, removed),
            Selection::Angular => self.passes(layer, n_layers, 0.0),
            Selection::Windows => self.passes(layer, 3.0 * n_layers, 0.0),
            Selection::GreedyNll | Selection::GreedyKl => {
                let tried = self.options.candidates.map_or(n_layers, |most| most as f64).min(n_layers);
                let (tries, rounds) = (n_layers + tried * (removed - 1.0).max(0.0), removed);
                let searched =
                    (self.options.search_tokens as f64).min(tokens * self.sequences.count() as f64);
                // Each branches off in the middle; the original's predictions are needed beside its own.
                self.aside(layer, tries * n_layers / 2.0 + rounds * n_layers / 2.0, 2.0 * tries, searched)
            }
            _ => Duration::default(),
        }
    }

    /// Time of making the layers of the new model.
    fn made(&self, layer: LayerTiming, fit: FitTiming) -> Duration {
        let (n_layers, removed) = (self.model.config.n_layers as f64, self.removed() as f64);
        let searched = match (self.options.operator, self.options.alpha) {
            (Operator::Average, Alpha::Search) => {
                self.passes(layer, removed * TRIES * n_layers / 2.0, removed * TRIES)
            }
            _ => Duration::default(),
        };
        let guarded = match self.options.operator {
            // With and without the fit of each run, from there on, and the original; about 2000 tokens.
            Operator::Refit | Operator::PoolRefit => {
                let spans = self.spans().len() as f64;
                self.aside(layer, n_layers * (1.0 + spans), 3.0 * spans, 2048.0)
            }
            _ => Duration::default(),
        };
        guarded + searched + self.joined(layer, fit)
    }

    /// Time of the operator.
    fn joined(&self, layer: LayerTiming, fit: FitTiming) -> Duration {
        if !self.options.operator.needs_activations() {
            return Duration::default();
        }
        let n_layers = self.model.config.n_layers as f64;
        let removed = self.removed() as f64;
        let spans = self.spans().into_iter().map(|n| self.cost(n));
        let cost = spans.fold(SpanCost::default(), |a, b| a + b);
        // The original and the new model are walked through.
        let walked = 2.0 * n_layers - removed;
        let tokens = self.sequences.tokens() as f64;
        Duration {
            fixed: (cost.uploads + walked) * layer.upload + cost.solutions * fit.solution,
            per_sequence: (cost.passes + walked) * layer.per_sequence + cost.sums * tokens * fit.sum,
        }
    }

    fn cost(&self, n_layers: usize) -> SpanCost {
        let n_rows = self.sequences.count() * self.sequences.tokens();
        cost(self.options.operator, &self.model.config, n_layers, n_rows, self.fit_bytes)
    }

    fn removed(&self) -> usize {
        let most = self.model.config.n_layers.saturating_sub(1);
        // Where a similarity says when to stop, half of the layers is a guess.
        self.options.goal().unwrap_or(most.div_ceil(2)).min(most)
    }

    /// The lengths of the runs.
    fn spans(&self) -> Vec<usize> {
        let longest = match self.options.selection {
            Selection::Angular | Selection::Tail | Selection::Reverse => self.removed() + 1,
            _ => self.options.longest_span.unwrap_or(USUAL_RUN),
        };
        let most = longest.max(2) - 1;
        let mut left = self.removed();
        let mut spans = Vec::new();
        while left > 0 {
            let absorbed = left.min(most);
            spans.push(absorbed + 1);
            left -= absorbed;
        }
        spans
    }

    /// Memory at the peak, where that is in the fit of a run.
    pub fn bytes(&self, similarity: &Estimate) -> u64 {
        let Some(longest) = self.spans().into_iter().max() else { return 0 };
        if !self.options.operator.needs_activations() {
            return similarity.peak_bytes;
        }
        let config = &self.model.config;
        let states = state_bytes(self.model, self.sequences);
        // What enters and leaves the run, in the original and in the new model, and what its layers read and wrote.
        let read = ((longest as u64 + 1) * states).min(self.fit_bytes / 3);
        let weights = 8 * config.parameters_per_layer() * longest as u64 + decoded_bytes(self.accelerator);
        similarity.state_bytes + 3 * states + read + weights + self.cost(longest).bytes
    }
}

/// Floating-point operations of a layer for each token, in sequences of `tokens`.
pub fn layer_flop(config: &Config, tokens: usize) -> f64 {
    let attention = 4.0 * tokens as f64 * (config.n_heads * config.head_dim) as f64;
    2.0 * config.parameters_per_layer() as f64 + attention
}

/// What the head takes, in layers.
pub fn head_layers(config: &Config, tokens: usize) -> f64 {
    2.0 * (config.hidden_size * config.vocab_size) as f64 / layer_flop(config, tokens)
}
