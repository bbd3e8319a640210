//! Qwen2, which adds biases, and Qwen3, which normalises each head; both also with experts.

use super::llama::LLAMA;
use super::{Architecture, ExpertLayers, ExpertNames, Experts, Gates, HeadNorms, Presence, Usual, Windows};
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

/// Qwen1.5 and Qwen2 with experts, one of which serves every token.
pub const QWEN2_MOE: Architecture = Architecture {
    name: "Qwen2-MoE",
    class: "Qwen2MoeForCausalLM",
    base: "Qwen2MoeModel",
    model_type: "qwen2_moe",
    gguf: "qwen2moe",
    usual: Usual {
        n_layers: 24,
        hidden_size: 2048,
        intermediate_size: 5632,
        n_heads: 16,
        n_kv_heads: Some(16),
        ..QWEN2.usual
    },
    input_biases: Presence::Key("qkv_bias", true),
    experts: Some(QWEN_EXPERTS),
    ..QWEN2
};

/// Experts of [`QWEN2_MOE`].
const QWEN_EXPERTS: Experts = Experts {
    count: ["num_experts", "num_local_experts"],
    usual: 60,
    usual_used: 4,
    width: Some(("moe_intermediate_size", 1408)),
    gates: Gates::AskedRaw,
    shared: Some(("shared_expert_intermediate_size", 5632)),
    layers: ExpertLayers::Listed,
    names: ExpertNames::Apart("mlp.experts.", ["gate_proj.weight", "up_proj.weight", "down_proj.weight"]),
};

/// Qwen3 with experts.
pub const QWEN3_MOE: Architecture = Architecture {
    name: "Qwen3-MoE",
    class: "Qwen3MoeForCausalLM",
    base: "Qwen3MoeModel",
    model_type: "qwen3_moe",
    gguf: "qwen3moe",
    usual: Usual {
        n_layers: 24,
        hidden_size: 2048,
        intermediate_size: 6144,
        n_kv_heads: Some(4),
        head_dim: None,
        ..QWEN3.usual
    },
    experts: Some(Experts {
        usual: 128,
        usual_used: 8,
        width: Some(("moe_intermediate_size", 768)),
        gates: Gates::Asked,
        shared: None,
        ..QWEN_EXPERTS
    }),
    ..QWEN3
};
