//! Embedded model and texts, with which the page and the command line work without any file.
//!
//! `stories-planted-12L` is karpathy's tinyllamas stories260K (MIT) with seven near no-op layers inserted.
//! The model's redundancy therefore has a known answer, the groups `[0][1 2 3][4 5 6][7 8 9][10 11]`. The
//! texts are from TinyStories (CDLA-Sharing-1.0), not seen in training.

mod planes;

use std::rc::Rc;

use crate::Result;
use crate::files::source::{MemorySource, SharedSource};
use crate::model::Model;

/// Name of the demo on the command line.
pub const NAME: &str = "demo";

/// Name of the embedded model in reports.
pub const MODEL_NAME: &str = "stories-planted-12L";

/// Name of the built-in calibration text in reports.
pub const TEXT_NAME: &str = "TinyStories, held-out part (built in)";

/// Built-in calibration text.
pub const TEXT: &str = include_str!("text.txt");

/// Name of the built-in evaluation text in reports.
pub const EVALUATION_NAME: &str = "TinyStories, other stories (built in)";

/// Built-in evaluation text: stories that are not in [`TEXT`].
pub const EVALUATION: &str = include_str!("evaluation.txt");

const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("config.json")),
    ("generation_config.json", include_bytes!("generation_config.json")),
    ("special_tokens_map.json", include_bytes!("special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("tokenizer_config.json")),
];

/// The file `model.safetensors`, whose F16 tensors are stored in two planes: 115 kB less to transfer to a page. A page
/// loads it as a file of its own, when the demo is opened: most visitors bring a model.
#[cfg(not(target_arch = "wasm32"))]
const WEIGHTS: &[u8] = include_bytes!("model.safetensors.planes");

/// Returns the demo's files.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if the embedded weights are not what they should be.
#[cfg(not(target_arch = "wasm32"))]
pub fn files() -> Result<Vec<SharedSource>> {
    files_with(WEIGHTS)
}

/// Returns the demo's files, of which `weights` holds the weights as `model.safetensors.planes` does.
fn files_with(weights: &[u8]) -> Result<Vec<SharedSource>> {
    let mut files: Vec<SharedSource> = Vec::new();
    for (name, bytes) in FILES {
        files.push(Rc::new(MemorySource::new(name, bytes)));
    }
    files.push(Rc::new(MemorySource::new("model.safetensors", planes::joined(weights)?)));
    Ok(files)
}

/// Opens the embedded model.
///
/// # Errors
/// Those of [`Model::open`], none of which a user could cause here.
#[cfg(not(target_arch = "wasm32"))]
pub async fn open() -> Result<Model> {
    Model::open(MODEL_NAME, &files()?).await
}

/// Opens the demo's model, of which `weights` holds the weights as `model.safetensors.planes` does.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if `weights` is not that file; those of [`Model::open`].
pub async fn open_with(weights: &[u8]) -> Result<Model> {
    Model::open(MODEL_NAME, &files_with(weights)?).await
}
