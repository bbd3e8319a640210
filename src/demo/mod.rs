//! The embedded model, so that the page and the command line work without any file.
//!
//! `stories-planted-12L` is karpathy's tinyllamas stories260K (MIT) with seven near no-op layers
//! inserted: its redundancy has a known answer, the groups `[0][1 2 3][4 5 6][7 8 9][10 11]`.
//! The text is from TinyStories (CDLA-Sharing-1.0), not seen in training.

use std::rc::Rc;

use crate::Result;
use crate::files::source::{MemorySource, SharedSource};
use crate::model::Model;

/// The demo's name on the command line.
pub const NAME: &str = "demo";

/// The embedded model's own name, used in reports.
pub const MODEL_NAME: &str = "stories-planted-12L";

/// What the built-in text is called in reports.
pub const TEXT_NAME: &str = "TinyStories, held-out part (built in)";

/// The built-in calibration text.
pub const TEXT: &str = include_str!("text.txt");

/// What the built-in evaluation text is called in reports.
pub const EVALUATION_NAME: &str = "TinyStories, other stories (built in)";

/// The built-in text to judge on: stories that are not in [`TEXT`].
pub const EVALUATION: &str = include_str!("evaluation.txt");

const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("config.json")),
    ("generation_config.json", include_bytes!("generation_config.json")),
    ("model.safetensors", include_bytes!("model.safetensors")),
    ("special_tokens_map.json", include_bytes!("special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("tokenizer_config.json")),
];

/// The demo's files, which are static and not copied.
pub fn files() -> Vec<SharedSource> {
    FILES.iter().map(|(name, bytes)| Rc::new(MemorySource::new(*name, *bytes)) as SharedSource).collect()
}

/// Opens the demo.
///
/// # Errors
/// None that a user could cause.
pub async fn open() -> Result<Model> {
    Model::open(MODEL_NAME, &files()).await
}
