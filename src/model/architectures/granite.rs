//! Granite, whose embeddings, scores, residuals and logits are scaled.

use super::Architecture;
use super::llama::LLAMA;

/// Granite 3, dense.
pub const GRANITE: Architecture = Architecture {
    class: "GraniteForCausalLM",
    base: "GraniteModel",
    model_type: "granite",
    gguf: "granite",
    has_scales: true,
    ..LLAMA
};
