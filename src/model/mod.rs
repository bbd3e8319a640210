//! A Llama-family model: configuration, tensors, tokenizer, weights, and the arithmetic of one layer.

pub mod architectures;
pub mod binding;
pub mod config;
pub mod fingerprint;
pub mod importances;
pub mod layers;
pub mod open;
pub mod packing;
pub mod rope;
pub mod tensors;
pub mod tokenizer;
pub mod weights;

pub use config::Config;
pub use open::Model;
