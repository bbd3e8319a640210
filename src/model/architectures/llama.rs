//! Llama 1 to 3 and what is built alike, and Mistral, which adds a window.

use super::{Architecture, Presence, Unrotated, Usual, Window};
use crate::model::binding::RowOrder;

/// Llama 1 to 3, SmolLM 1 and 2, TinyLlama and many others.
pub const LLAMA: Architecture = Architecture {
    class: "LlamaForCausalLM",
    base: "LlamaModel",
    model_type: "llama",
    gguf: "llama",
    hugging_face_rows: RowOrder::Halves,
    gguf_rows: RowOrder::Pairs,
    usual: Usual {
        n_layers: 32,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        vocab_size: 32_000,
        context: 2048,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied_head: false,
        bos: Some(1),
        eos: Some(2),
    },
    input_biases: Presence::Key("attention_bias", false),
    output_bias: Presence::Key("attention_bias", false),
    mlp_biases: Presence::Key("mlp_bias", false),
    norms_heads: false,
    window: Window::Never,
    unrotated: Unrotated::None,
    has_scales: false,
    gguf_mlp_norm: "ffn_norm.weight",
};

/// Mistral 7B and its fine-tunes.
pub const MISTRAL: Architecture = Architecture {
    class: "MistralForCausalLM",
    base: "MistralModel",
    model_type: "mistral",
    usual: Usual { intermediate_size: 14_336, n_kv_heads: Some(8), context: 131_072, ..LLAMA.usual },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    window: Window::Key(4096),
    ..LLAMA
};
