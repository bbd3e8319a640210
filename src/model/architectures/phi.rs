//! Phi-3, 3.5 and 4-mini: queries, keys and values in one tensor, gate and up projections in another.

use super::llama::LLAMA;
use super::{Architecture, Presence, Usual, Windows};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// Phi-3, Phi-3.5 and Phi-4-mini.
pub const PHI3: Architecture = Architecture {
    name: "Phi-3",
    class: "Phi3ForCausalLM",
    base: "Phi3Model",
    model_type: "phi3",
    gguf: "phi3",
    gguf_rows: RowOrder::Halves,
    usual: Usual {
        hidden_size: 3072,
        intermediate_size: 8192,
        vocab_size: 32_064,
        context: 4096,
        norm_epsilon: 1e-5,
        rotated_share: Some(1.0),
        eos: Some(32_000),
        ..LLAMA.usual
    },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    windows: Windows::All(None),
    joined: &[
        (&[Role::Query, Role::Key, Role::Value], "self_attn.qkv_proj.weight", "attn_qkv.weight"),
        (&[Role::Gate, Role::Up], "mlp.gate_up_proj.weight", "ffn_up.weight"),
    ],
    ..LLAMA
};
