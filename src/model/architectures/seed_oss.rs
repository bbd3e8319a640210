//! Seed-OSS: Qwen2 with wider heads.

use super::qwen::QWEN2;
use super::{Architecture, Presence, Usual, Windows};
use crate::model::tensors::Role;

/// Seed-OSS.
pub const SEED_OSS: Architecture = Architecture {
    name: "Seed-OSS",
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
    windows: Windows::Never,
    names: &[(Role::MlpNorm, "post_attention_layernorm.weight", "post_attention_norm.weight")],
    ..QWEN2
};
