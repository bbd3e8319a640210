//! Qwen2, which adds biases, and Qwen3, which normalises each head.

use super::llama::LLAMA;
use super::{Architecture, HeadNorms, Presence, Usual, Windows};
use crate::model::binding::RowOrder;

/// Qwen2 and Qwen2.5.
pub const QWEN2: Architecture = Architecture {
    name: "Qwen2",
    class: "Qwen2ForCausalLM",
    base: "Qwen2Model",
    model_type: "qwen2",
    gguf: "qwen2",
    gguf_rows: RowOrder::Halves,
    usual: Usual {
        intermediate_size: 22_016,
        n_kv_heads: Some(32),
        vocab_size: 151_936,
        context: 32_768,
        bos: None,
        eos: None,
        ..LLAMA.usual
    },
    input_biases: Presence::Always,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    windows: Windows::Off,
    ..LLAMA
};

/// Qwen3, dense.
pub const QWEN3: Architecture = Architecture {
    name: "Qwen3",
    class: "Qwen3ForCausalLM",
    base: "Qwen3Model",
    model_type: "qwen3",
    gguf: "qwen3",
    usual: Usual { head_dim: Some(128), ..QWEN2.usual },
    input_biases: Presence::Key("attention_bias", false),
    output_bias: Presence::Key("attention_bias", false),
    head_norms: HeadNorms::Each,
    ..QWEN2
};
