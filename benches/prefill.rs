//! Benchmark: tokens per second of a prefill through all layers and the head, weights streamed from
//! disk, 8 sequences of 256 tokens.
//!
//! usage: cargo bench --bench prefill -- MODEL_DIR
//!
//! Where the environment variable `PYTHON` names a Python with torch and transformers, the same prefill by
//! PyTorch on the same cores is timed in the same run.

mod prefilling;

use std::path::{Path, PathBuf};
use std::process::Command;

use laminate::Accelerator;

use self::prefilling::Prefill;

fn main() {
    let Some(path) = std::env::args().skip(1).find(|a| !a.starts_with("--")).map(PathBuf::from) else {
        println!("prefill: give a model directory");
        return;
    };
    futures::executor::block_on(async {
        let Prefill { tokens, seconds, of_layers } =
            Prefill::measure(&path, &Accelerator::cpu("benchmark")).await;
        println!(
            "prefill: {:.0} tokens/s ({seconds:.2} s, of which layers {of_layers:.2} s)",
            tokens / seconds
        );
        if let Some(theirs) = pytorch(&path) {
            println!(
                "prefill: {theirs:.0} tokens/s by PyTorch; ours is {:.2} of that",
                tokens / seconds / theirs
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
