//! Jamba: Mamba mixers in most layers, attention without positions in the others, experts in every other layer.

use super::llama::LLAMA;
use super::{
    Architecture, ExpertLayers, ExpertNames, Experts, Gates, MambaLayers, Presence, Rotation, Usual,
};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// Jamba.
pub const JAMBA: Architecture = Architecture {
    name: "Jamba",
    class: "JambaForCausalLM",
    base: "JambaModel",
    model_type: "jamba",
    gguf: "jamba",
    gguf_rows: RowOrder::Halves,
    usual: Usual {
        intermediate_size: 14_336,
        n_kv_heads: Some(8),
        vocab_size: 65_536,
        context: 262_144,
        ..LLAMA.usual
    },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    rotation: Rotation::Never,
    experts: Some(Experts {
        count: ["num_experts", "num_local_experts"],
        usual: 16,
        usual_used: 2,
        width: None,
        gates: Gates::Raw,
        shared: None,
        layers: ExpertLayers::Periodic { period: 2, offset: 1 },
        biased: false,
        names: ExpertNames::Apart(
            "feed_forward.experts.",
            ["gate_proj.weight", "up_proj.weight", "down_proj.weight"],
        ),
    }),
    mamba: Some(MambaLayers { period: 8, offset: 4, states: 16, taps: 4, expand: 2 }),
    final_norm: ("model.final_layernorm.weight", LLAMA.final_norm.1),
    names: &[
        (Role::MlpNorm, "pre_ff_layernorm.weight", "ffn_norm.weight"),
        (Role::Router, "feed_forward.router.weight", "ffn_gate_inp.weight"),
        (Role::Gate, "feed_forward.gate_proj.weight", "ffn_gate.weight"),
        (Role::Up, "feed_forward.up_proj.weight", "ffn_up.weight"),
        (Role::Down, "feed_forward.down_proj.weight", "ffn_down.weight"),
    ],
    ..LLAMA
};
