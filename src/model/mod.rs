//! A Llama-family model: configuration, tensor names, tokenizer, and the arithmetic of one layer.

pub mod config;
pub mod files;
pub mod fused;
pub mod head;
pub mod layer;
pub mod names;
pub mod rope;
pub mod tokenizer;
pub mod weights;

pub use config::Config;
pub use files::Model;
