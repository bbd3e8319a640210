//! GLM-4 (0414): norms around attention and MLP, half of each head rotated, gate and up projections in one tensor.

use super::llama::LLAMA;
use super::{Architecture, Norms, Presence, Usual};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// GLM-4, dense.
pub const GLM4: Architecture = Architecture {
    name: "GLM-4",
    class: "Glm4ForCausalLM",
    base: "Glm4Model",
    model_type: "glm4",
    gguf: "glm4",
    hugging_face_rows: RowOrder::Pairs,
    usual: Usual {
        n_layers: 40,
        intermediate_size: 13_696,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        vocab_size: 151_552,
        context: 131_072,
        norm_epsilon: 1.5625e-7,
        rotated_share: Some(0.5),
        bos: None,
        eos: Some(151_329),
        ..LLAMA.usual
    },
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    norms: Norms::Around,
    names: &[
        (Role::AttentionAfterNorm, "post_self_attn_layernorm.weight", "post_attention_norm.weight"),
        (Role::MlpAfterNorm, "post_mlp_layernorm.weight", "post_ffw_norm.weight"),
    ],
    joined: &[(&[Role::Gate, Role::Up], "mlp.gate_up_proj.weight", "ffn_up.weight")],
    ..LLAMA
};
