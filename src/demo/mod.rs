//! Embedded model and texts, with which the page and the command line work without any file.
//!
//! `stories-planted-12L` is karpathy's tinyllamas stories260K (MIT) with seven near no-op layers inserted.
//! The model's redundancy therefore has a known answer, the groups `[0][1 2 3][4 5 6][7 8 9][10 11]`. The
//! texts are from TinyStories (CDLA-Sharing-1.0), not seen in training.

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

const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("config.json")),
    ("generation_config.json", include_bytes!("generation_config.json")),
    ("model.safetensors", include_bytes!("model.safetensors")),
    ("special_tokens_map.json", include_bytes!("special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("tokenizer_config.json")),
];

/// Returns the demo's files, which are static and not copied.
pub fn files() -> Vec<SharedSource> {
    FILES.iter().map(|(name, bytes)| Rc::new(MemorySource::new(*name, *bytes)) as SharedSource).collect()
}

/// Opens the embedded model.
///
/// # Errors
/// Those of [`Model::open`], none of which a user could cause here.
pub async fn open() -> Result<Model> {
    Model::open(MODEL_NAME, &files()).await
}
