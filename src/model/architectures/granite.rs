//! Granite, whose embeddings, scores, residuals and logits are scaled.

use super::llama::LLAMA;
use super::mixtral::MIXTRAL_EXPERTS;
use super::{Architecture, ExpertNames, Experts, Presence, Rotation, Scaling, Usual};
use crate::model::tensors::Role;

/// Granite 3, dense.
pub const GRANITE: Architecture = Architecture {
    name: "Granite 3",
    class: "GraniteForCausalLM",
    base: "GraniteModel",
    model_type: "granite",
    gguf: "granite",
    scaling: Scaling::Factors,
    ..LLAMA
};

/// Granite 4 without Mamba layers and without experts. GGUF files call it Granite, which computes the same.
pub const GRANITE4: Architecture = Architecture {
    name: "Granite 4",
    class: "GraniteMoeHybridForCausalLM",
    base: "GraniteMoeHybridModel",
    model_type: "granitemoehybrid",
    usual: Usual { intermediate_size: 1024, ..GRANITE.usual },
    mlp_biases: Presence::Never,
    rotation: Rotation::Switched,
    mlp_width: "shared_intermediate_size",
    names: &[(Role::Down, "shared_mlp.output_linear.weight", "ffn_down.weight")],
    joined: &[(&[Role::Gate, Role::Up], "shared_mlp.input_linear.weight", "")],
    ..GRANITE
};

/// Granite 3 with experts.
pub const GRANITE_MOE: Architecture = Architecture {
    name: "Granite 3 MoE",
    class: "GraniteMoeForCausalLM",
    base: "GraniteMoeModel",
    model_type: "granitemoe",
    gguf: "granitemoe",
    mlp_biases: Presence::Never,
    experts: Some(Experts {
        names: ExpertNames::Stacked(
            "block_sparse_moe.input_linear.weight",
            "block_sparse_moe.output_linear.weight",
        ),
        ..MIXTRAL_EXPERTS
    }),
    names: &[(Role::Router, "block_sparse_moe.router.layer.weight", "ffn_gate_inp.weight")],
    ..GRANITE
};
