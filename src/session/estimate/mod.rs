//! Estimates of memory and time, before a stage is run.

mod plan;

use serde::Serialize;
use web_time::Instant;

use self::plan::{head_layers, layer_flop};
use crate::Result;
use crate::analysis::atlas::Atlas;
use crate::analysis::layers::kept_point_bytes;
use crate::device::Accelerator;
use crate::forward::inputs::HELD_BYTES;
use crate::forward::runner::Runner;
use crate::forward::sequences::Sequences;
use crate::forward::states::{sequences_per_chunk, to_host};
use crate::forward::stream::{n_kept_states, shared_key_bytes, state_bytes};
use crate::kernels::product::shared_bytes;
use crate::model::Model;
use crate::model::layers::attention::scores_bytes;
use crate::model::layers::linear::decoded_bytes;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::protocol::text::PointRule;

pub use self::plan::{ComparedPlan, Duration, FitTiming, PlanBasis, PlanEstimate};

/// Most sequences that are timed: enough to fill a processor, few enough for a GPU emulated in software.
const TIMED_SEQUENCES: usize = 8;

/// Seconds of a run from which on no run of more sequences is needed to know the time of one: a layer of a large
/// model is not kept running for a minute only to say how long it takes.
const LONG_ENOUGH: f64 = 2.0;

/// Memory and time of the similarity stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Estimate {
    /// Peak memory in bytes: weights of a layer and the next, activations, attention scores, kept hidden states,
    /// kept points, and the distances from which other maps are made.
    pub peak_bytes: u64,
    /// Part of the peak memory for weights.
    pub layer_bytes: u64,
    /// Part of the peak memory for hidden states kept between layers.
    pub state_bytes: u64,
    /// Bytes of storage for finished layers, so that an interrupted run can resume: points of every layer,
    /// and kept hidden states.
    pub checkpoint_bytes: u64,
    /// Floating-point operations of one pass over all layers and the head.
    pub flop: f64,
    /// Time of this pass in seconds, from one layer timed on this device.
    pub seconds: f64,
    /// Number of sequences that the text gives.
    pub sequences: usize,
    /// Number of tokens of all sequences.
    pub tokens: usize,
}

/// Estimates the similarity stage of `sequences`, whose points `rule` chooses and for which a layer takes
/// `timing`.
pub fn estimate(
    model: &Model,
    accelerator: &Accelerator,
    sequences: &Sequences,
    rule: PointRule,
    timing: LayerTiming,
) -> Estimate {
    let config = &model.config;
    let n_tokens = sequences.count() * sequences.tokens();
    let layer_flop = n_tokens as f64 * layer_flop(config, sequences.tokens());
    let head = head_layers(config, sequences.tokens());

    let chunk = sequences_per_chunk(sequences.tokens()).min(sequences.count()) * sequences.tokens();
    // For one chunk: gate, up and their product in the MLP, and about six copies of the residual stream.
    let activations = 4 * chunk as u64 * (3 * config.widest_mlp() + 6 * config.hidden_size) as u64;
    // Attention and the MLP follow each other, but a device may keep the memory of both.
    let in_chunk = chunk / sequences.tokens().max(1);
    let scores = scores_bytes(config, in_chunk, sequences.tokens(), accelerator.device());
    let stored = largest_layer(model);
    // One layer and the next as they are stored, and the rows that are decoded at a time.
    let layer_bytes = 2 * stored + decoded_bytes(accelerator);
    // Operands of the widest product, where threads share them.
    let products = [[config.hidden_size, config.widest_mlp()], [config.widest_mlp(), config.hidden_size]];
    let shared =
        products.map(|[n_in, n_out]| shared_bytes([chunk, n_in, n_out])).into_iter().max().unwrap_or(0);
    // The kept states, and the states before and after the layer that is run.
    // Between attention and experts, three more: the stream, what experts read, and what they add.
    let of_experts = if config.has_experts() { 3 } else { 0 };
    let n_states = n_kept_states(model, sequences, config.n_layers) as u64 + 2 + of_experts;
    // Keys and values that layers share exist once, and are kept with the states of each depth.
    let shared_keys = shared_key_bytes(model, sequences);
    let kept_keys = n_kept_states(model, sequences, config.n_layers) as u64 * shared_keys;
    let of_tokens = 4 * config.layer_input.unwrap_or(0) as u64 * n_tokens.min(config.vocab_size) as u64;
    let inputs = 2 * (of_tokens * config.n_layers as u64).min(HELD_BYTES.max(of_tokens))
        + 8 * config.layer_input.unwrap_or(0) as u64 * n_tokens as u64;
    let state_bytes = n_states * state_bytes(model, sequences) + shared_keys + inputs;

    let n_points = sequences.count() * rule.per_sequence();
    let points = 4 * n_points as u64 * (config.n_layers * config.hidden_size) as u64;
    let kept_points = kept_point_bytes(config.n_layers, n_points, config.hidden_size).unwrap_or(0);
    let distances = Atlas::bytes(config.n_layers, n_points).unwrap_or(0);

    Estimate {
        peak_bytes: layer_bytes + shared + activations + scores + state_bytes + kept_points + distances,
        layer_bytes,
        state_bytes,
        checkpoint_bytes: points + state_bytes + kept_keys,
        flop: (config.n_layers as f64 + head) * layer_flop,
        seconds: timing.similarity(model).of(sequences.count()),
        sequences: sequences.count(),
        tokens: n_tokens,
    }
}

/// Returns the most bytes that are held of a layer of `model` as it is stored.
fn largest_layer(model: &Model) -> u64 {
    (0..model.config.n_layers).map(|layer| model.held_bytes(layer)).max().unwrap_or(0)
}

/// Time that a layer takes on a device, for sequences of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerTiming {
    /// Number of tokens in a sequence.
    pub tokens: usize,
    /// Seconds of reading and uploading the weights.
    upload: f64,
    /// Seconds of running one sequence.
    per_sequence: f64,
}

impl LayerTiming {
    /// Returns the time of the similarity stage. The head is one product, timed by its share of the
    /// arithmetic of a layer.
    pub fn similarity(self, model: &Model) -> Duration {
        let n_layers = model.config.n_layers as f64;
        let head = head_layers(&model.config, self.tokens);
        Duration { fixed: n_layers * self.upload, per_sequence: (n_layers + head) * self.per_sequence }
    }

    /// Measures the time of reading the first layer, and of running it on one of `sequences`, then on twice as many
    /// until a run takes two seconds or has eight sequences. Where one sequence takes so long, the time of decoding
    /// the weights is not shared among several, and the measured time is an upper bound.
    ///
    /// # Errors
    /// Those of [`Runner::embed`], [`Runner::fetch`],
    /// [`LayerFetch::finish`](crate::model::weights::fetch::LayerFetch::finish), [`Runner::upload`],
    /// [`Runner::forward`] and [`to_host`].
    pub async fn measure(model: &Model, accelerator: &Accelerator, sequences: &Sequences) -> Result<Self> {
        let runner = Runner::new(model, accelerator, sequences.tokens())?;
        let start = Instant::now();
        let layer =
            runner.upload(runner.fetch(&NewLayer::original(0), Storage::of(model))?.finish().await?)?;
        let upload = start.elapsed().as_secs_f64();
        let run = async |n: usize| -> Result<f64> {
            let states = runner.embed(&sequences.first(n), Storage::of(model)).await?;
            let start = Instant::now();
            for chunk in runner.forward(&layer, &states).await?.chunks {
                // Copying one number to the host waits until the device has finished.
                to_host(chunk.slice([0..1, 0..1, 0..1]), "at layer 0").await?;
            }
            Ok(start.elapsed().as_secs_f64())
        };
        // The first run compiles the kernels of the device.
        run(1).await?;
        let most = TIMED_SEQUENCES.min(sequences.count());
        let mut n = 1;
        let mut seconds = run(n).await?;
        while n < most && seconds < LONG_ENOUGH {
            n = (2 * n).min(most);
            seconds = run(n).await?;
        }
        Ok(Self { tokens: sequences.tokens(), upload, per_sequence: seconds / n as f64 })
    }
}
