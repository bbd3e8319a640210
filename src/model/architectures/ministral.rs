//! Ministral 3: Llama with long contexts, whose queries grow with their positions.

use super::llama::{LLAMA, MISTRAL_SMALL};
use super::{Architecture, Presence, Usual, Windows};

/// Ministral 3, text.
pub const MINISTRAL3: Architecture = Architecture {
    name: "Ministral 3",
    class: "Ministral3ForCausalLM",
    base: "Ministral3Model",
    model_type: "ministral3",
    wrapper: Some(&MISTRAL_SMALL),
    gguf: "mistral3",
    usual: Usual {
        n_layers: 34,
        intermediate_size: 14_336,
        n_kv_heads: Some(8),
        head_dim: Some(128),
        vocab_size: 131_072,
        context: 262_144,
        norm_epsilon: 1e-5,
        rope_theta: 1_000_000.0,
        ..LLAMA.usual
    },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    windows: Windows::All(None),
    ..LLAMA
};
