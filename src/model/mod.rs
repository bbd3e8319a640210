//! A Llama-family model: configuration, tensor names, tokenizer, and the arithmetic of one layer.

pub mod attention;
pub mod config;
pub mod dequantise;
pub mod fingerprint;
pub mod fused;
pub mod head;
pub mod layer;
pub mod names;
pub mod new_layer;
pub mod open;
pub mod product;
pub mod rope;
pub mod storage;
pub mod tokenizer;
pub mod weights;

pub use config::Config;
pub use open::Model;
