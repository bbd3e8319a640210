//! What a run will need, before it starts.

use burn::tensor::{Tensor, TensorData};
use serde::Serialize;
use web_time::Instant;

use crate::Result;
use crate::calibration::Sequences;
use crate::capture::{read, sequences_per_chunk};
use crate::device::Accelerator;
use crate::model::Model;
use crate::pipeline::stream::{KEPT_BYTES, state_bytes};

/// Memory and time of the similarity stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Peak memory in bytes: a layer and the next one's bytes, activations, kept states.
    pub peak_bytes: u64,
    /// Of that, weights.
    pub layer_bytes: u64,
    /// Of that, hidden states kept between layers.
    pub state_bytes: u64,
    /// Floating-point operations of one pass over all layers and the head.
    pub flop: f64,
    /// Seconds for that pass, from a product timed on this device.
    pub seconds: f64,
    /// Sequences that the text gives.
    pub sequences: usize,
    /// Tokens in all of them.
    pub tokens: usize,
}

/// Estimates the similarity stage on `accelerator`.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the timed product fails.
pub async fn estimate(model: &Model, accelerator: &Accelerator, sequences: &Sequences) -> Result<Estimate> {
    let config = &model.config;
    let n_tokens = sequences.count() * sequences.tokens();
    let tokens = n_tokens as f64;
    let layers = config.n_layers as f64;
    let attention = 4.0 * sequences.tokens() as f64 * (config.n_heads * config.head_dim) as f64;
    let head = 2.0 * (config.hidden_size * config.vocab_size) as f64;
    let per_token = layers * (2.0 * config.parameters_per_layer() as f64 + attention) + head;
    let flop = tokens * per_token;

    let chunk = sequences_per_chunk(sequences.tokens()).min(sequences.count()) * sequences.tokens();
    // Of a chunk: the gate, up and product of the MLP, and about six copies of the stream.
    let activations = 4 * chunk as u64 * (3 * config.intermediate_size + 6 * config.hidden_size) as u64;
    let stored = (0..config.n_layers).map(|l| model.layer_bytes(l)).max().unwrap_or(0);
    // One layer in f32, and the bytes of the next as they are stored.
    let layer_bytes = 4 * config.parameters_per_layer() + stored;
    let one_state = state_bytes(model, sequences.count(), sequences.tokens());
    let state_bytes = (one_state * (config.n_layers as u64 + 1)).min(KEPT_BYTES.max(2 * one_state));
    Ok(Estimate {
        peak_bytes: layer_bytes + activations + state_bytes + model.shards.len() as u64 * 4096,
        layer_bytes,
        state_bytes,
        flop,
        seconds: flop / flop_per_second(accelerator).await?,
        sequences: sequences.count(),
        tokens: n_tokens,
    })
}

/// Times a matrix product: small, because a GPU emulated in software does well under 1 GFLOP/s, and
/// repeated on faster devices until the clock can tell.
async fn flop_per_second(accelerator: &Accelerator) -> Result<f64> {
    const ROWS: usize = 256;
    const WIDTH: usize = 256;
    const ENOUGH_SECONDS: f64 = 0.02;
    let matrix = |n: usize| {
        let values = (0..n * WIDTH).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect::<Vec<_>>();
        Tensor::<2>::from_data(TensorData::new(values, [n, WIDTH]), accelerator.device())
    };
    let (a, b) = (matrix(ROWS), matrix(WIDTH));
    // The first product compiles the kernel.
    read(a.clone().matmul(b.clone()).slice([0..1, 0..1]), 0).await?;
    let start = Instant::now();
    let mut repeats = 1;
    loop {
        let mut product = a.clone();
        for _ in 0..repeats {
            product = product.matmul(b.clone());
        }
        read(product.slice([0..1, 0..1]), 0).await?;
        let seconds = start.elapsed().as_secs_f64();
        if seconds > ENOUGH_SECONDS || repeats >= 1024 {
            // Everything since the start counts: the sum of 1, 2, 4, ... products.
            let products = (2 * repeats - 1) as f64;
            return Ok(products * 2.0 * (ROWS * WIDTH * WIDTH) as f64 / seconds.max(1e-6));
        }
        repeats *= 2;
    }
}
