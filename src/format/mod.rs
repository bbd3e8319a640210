//! File formats: bytes to meaning and back. No I/O here.

pub mod blocks;
pub mod element;
pub mod gguf;
pub mod index;
pub mod safetensors;
pub mod stored;

/// What kind of file holds a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// A Hugging Face directory.
    Safetensors,
    /// llama.cpp's files.
    Gguf,
}
