//! Seed-OSS: Qwen2 with wider heads.

use super::qwen::QWEN2;
use super::{Architecture, Presence, Usual, Window};

/// Seed-OSS.
pub const SEED_OSS: Architecture = Architecture {
    class: "SeedOssForCausalLM",
    base: "SeedOssModel",
    model_type: "seed_oss",
    gguf: "seed_oss",
    usual: Usual {
        n_layers: 64,
        intermediate_size: 27_648,
        n_heads: 80,
        n_kv_heads: Some(8),
        head_dim: Some(128),
        vocab_size: 155_136,
        context: 524_288,
        bos: Some(0),
        eos: Some(2),
        ..QWEN2.usual
    },
    input_biases: Presence::Key("attention_bias", true),
    output_bias: Presence::Key("attention_out_bias", false),
    mlp_biases: Presence::Key("mlp_bias", false),
    window: Window::Never,
    gguf_mlp_norm: "post_attention_norm.weight",
    ..QWEN2
};
