//! Benchmark: tokens per second of a prefill through all layers and the head, weights streamed from
//! disk, 8 sequences of 256 tokens.
//!
//! usage: cargo bench --bench prefill -- MODEL_DIR
//!
//! Where the environment variable `PYTHON` names a Python with torch and transformers, the same prefill by
//! PyTorch on the same cores is timed in the same run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use laminate::calibration::Sequences;
use laminate::capture::Runner;
use laminate::device::Accelerator;
use laminate::evaluate::{Output, score};
use laminate::model::Model;
use laminate::model::new_layer::NewLayer;
use laminate::model::storage::Storage;
use laminate::progress::Silent;
use laminate::source::open_path;

const SEQUENCES: usize = 8;
const TOKENS: usize = 256;
const REPEATS: usize = 3;

fn main() {
    let Some(path) = std::env::args().skip(1).find(|a| !a.starts_with("--")).map(PathBuf::from) else {
        println!("prefill: give a model directory");
        return;
    };
    futures::executor::block_on(async {
        let model = Model::open("bench", &open_path(&path).unwrap()).await.unwrap();
        let ids: Vec<u32> = (0..(SEQUENCES * TOKENS) as u32).map(|i| 5 + i * 7919 % 40_000).collect();
        let ids: Vec<u32> = ids.iter().map(|id| id % model.config.vocab_size as u32).collect();
        let sequences = Sequences::cut(&model.config, &ids, SEQUENCES, TOKENS).unwrap();
        let accelerator = Accelerator::cpu("benchmark");
        let runner = Runner::new(&model, &accelerator, TOKENS);
        let mut seconds = Vec::new();
        for _ in 0..REPEATS {
            let start = Instant::now();
            let mut states = runner.embed(&sequences).await.unwrap();
            for layer in 0..model.config.n_layers {
                let fetch = runner.fetch(&NewLayer::original(layer), Storage::of(&model)).unwrap();
                let layer = runner.upload(fetch.finish().await.unwrap()).unwrap();
                states = runner.forward(&layer, &states).unwrap();
            }
            let layers = start.elapsed().as_secs_f64();
            score(&accelerator, &sequences, Output { model: &model, states: &states }, None, &Silent)
                .await
                .unwrap();
            seconds.push((start.elapsed().as_secs_f64(), layers));
        }
        seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (all, layers) = seconds[REPEATS / 2];
        let tokens = (sequences.count() * TOKENS) as f64;
        println!("prefill: {:.0} tokens/s ({all:.2} s, of which layers {layers:.2} s)", tokens / all);
        if let Some(theirs) = pytorch(&path) {
            println!(
                "prefill: {theirs:.0} tokens/s by PyTorch; ours is {:.2} of that",
                tokens / all / theirs
            );
        }
    });
}

/// Tokens per second of PyTorch, if there is one.
fn pytorch(model: &Path) -> Option<f64> {
    let python = std::env::var_os("PYTHON")?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/prefill.py");
    let output = Command::new(python).arg(script).arg(model).arg(threads.to_string()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
