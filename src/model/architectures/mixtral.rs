//! Mixtral: Mistral with experts. GGUF files call it llama.

use super::llama::{LLAMA, MISTRAL};
use super::{Architecture, ExpertLayers, ExpertNames, Experts, Gates, Usual, Windows};
use crate::model::tensors::Role;

/// Mixtral.
pub const MIXTRAL: Architecture = Architecture {
    name: "Mixtral",
    class: "MixtralForCausalLM",
    base: "MixtralModel",
    model_type: "mixtral",
    wrapper: None,
    usual: Usual { norm_epsilon: 1e-5, rope_theta: 1_000_000.0, ..MISTRAL.usual },
    windows: Windows::All(None),
    experts: Some(MIXTRAL_EXPERTS),
    names: &[(Role::Router, "block_sparse_moe.gate.weight", "ffn_gate_inp.weight")],
    gguf: LLAMA.gguf,
    ..MISTRAL
};

/// Experts of [`MIXTRAL`].
pub const MIXTRAL_EXPERTS: Experts = Experts {
    count: ["num_local_experts", "num_experts"],
    usual: 8,
    usual_used: 2,
    width: None,
    gates: Gates::Normalised,
    shared: None,
    layers: ExpertLayers::All,
    biased: false,
    names: ExpertNames::Apart("block_sparse_moe.experts.", ["w1.weight", "w3.weight", "w2.weight"]),
};
