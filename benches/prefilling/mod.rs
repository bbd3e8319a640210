//! A prefill of 8 sequences of 256 tokens through all layers and the head, weights streamed from disk.

use std::path::Path;
use std::time::Instant;

use laminate::files::source::open_path;
use laminate::internals::evaluate::{Output, score};
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::{Accelerator, Model, Silent};

const SEQUENCES: usize = 8;
const TOKENS: usize = 256;
const REPEATS: usize = 3;

/// What a prefill took, the median of some.
pub struct Prefill {
    /// Tokens in it.
    pub tokens: f64,
    /// Seconds.
    pub seconds: f64,
    /// Of these, the layers'.
    pub of_layers: f64,
}

impl Prefill {
    /// Runs it.
    pub async fn measure(path: &Path, accelerator: &Accelerator) -> Self {
        let model = Model::open("bench", &open_path(path).unwrap()).await.unwrap();
        let ids = (0..(SEQUENCES * TOKENS) as u32).map(|i| 5 + i * 7919 % 40_000);
        let ids: Vec<u32> = ids.map(|id| id % model.config.vocab_size as u32).collect();
        let sequences = Sequences::cut(&model.config, &ids, SEQUENCES, TOKENS).unwrap();
        let runner = Runner::new(&model, accelerator, TOKENS).unwrap();
        let layers: Vec<NewLayer> = (0..model.config.n_layers).map(NewLayer::original).collect();
        let mut seconds = Vec::new();
        for _ in 0..REPEATS {
            let start = Instant::now();
            let mut states = runner.embed(&sequences, Storage::of(&model)).await.unwrap();
            let mut ahead = runner.ahead(&layers, Storage::of(&model)).unwrap();
            while let Some(layer) = ahead.next().await.unwrap() {
                states = runner.forward(&layer, &states).await.unwrap();
            }
            let of_layers = start.elapsed().as_secs_f64();
            let output = Output { model: &model, storage: Storage::of(&model), states: &states };
            score(accelerator, &sequences, output, None, &Silent).await.unwrap();
            seconds.push((start.elapsed().as_secs_f64(), of_layers));
        }
        seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, of_layers) = seconds[REPEATS / 2];
        Self { tokens: (SEQUENCES * TOKENS) as f64, seconds, of_layers }
    }
}
