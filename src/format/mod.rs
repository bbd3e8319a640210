//! File formats: parsing and encoding of bytes, without I/O.

pub mod blocks;
pub mod element;
pub mod gguf;
pub mod imatrix;
pub mod index;
pub mod packed;
pub mod safetensors;
pub mod stored;
pub mod turns;

/// File format of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Container {
    /// A Hugging Face directory with safetensors files.
    Safetensors,
    /// GGUF files, the format of llama.cpp.
    Gguf,
}
