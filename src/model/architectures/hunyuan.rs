//! Hunyuan, which normalises each head of queries and keys after it is rotated.

use super::llama::LLAMA;
use super::{Architecture, HeadNorms, Presence, Usual};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// Hunyuan, dense, version 1.
pub const HUNYUAN: Architecture = Architecture {
    name: "Hunyuan",
    class: "HunYuanDenseV1ForCausalLM",
    base: "HunYuanDenseV1Model",
    model_type: "hunyuan_v1_dense",
    gguf: "hunyuan-dense",
    gguf_rows: RowOrder::Halves,
    usual: Usual { vocab_size: 290_943, norm_epsilon: 1e-5, ..LLAMA.usual },
    mlp_biases: Presence::Never,
    head_norms: HeadNorms::EachRotated,
    alpha_stretches: true,
    names: &[
        (Role::QueryNorm, "self_attn.query_layernorm.weight", "attn_q_norm.weight"),
        (Role::KeyNorm, "self_attn.key_layernorm.weight", "attn_k_norm.weight"),
    ],
    ..LLAMA
};
