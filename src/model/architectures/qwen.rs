//! Qwen2, which adds biases, and Qwen3, which normalises each head; both also with experts. Qwen3.5, most of whose layers
//! have gated delta nets.

use super::llama::LLAMA;
use super::{
    Architecture, DeltaNetLayers, ExpertLayers, ExpertNames, Experts, Gates, GgufHead, HeadNorms, Presence,
    Usual, Windows, Wrapper,
};
use crate::model::binding::{HeadOrder, RowOrder};
use crate::model::tensors::Role;

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
    gguf_head: GgufHead::Required,
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
    biased: false,
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

/// Qwen3.5, dense, text: delta nets in three of four layers, heads with gates in the others.
pub const QWEN3_5: Architecture = Architecture {
    name: "Qwen3.5",
    class: "Qwen3_5ForCausalLM",
    base: "Qwen3_5TextModel",
    model_type: "qwen3_5_text",
    wrapper: Some(&QWEN3_5_WRAPPER),
    gguf: "qwen35",
    usual: Usual {
        hidden_size: 4096,
        intermediate_size: 12_288,
        n_heads: 16,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        vocab_size: 248_320,
        rope_theta: 10_000_000.0,
        rotated_share: Some(0.25),
        ..QWEN3.usual
    },
    norm_offset: 1.0,
    windows: Windows::Never,
    delta_net: Some(DeltaNetLayers {
        every: 4,
        key_heads: 16,
        value_heads: 32,
        widths: [128, 128],
        taps: 4,
        gguf_heads: HeadOrder::InTurns,
    }),
    gated_heads: true,
    drafts: true,
    names: &[(Role::MlpNorm, "post_attention_layernorm.weight", "post_attention_norm.weight")],
    ..QWEN3
};

/// Qwen3.5 with an image encoder.
const QWEN3_5_WRAPPER: Wrapper = Wrapper {
    class: "Qwen3_5ForConditionalGeneration",
    base: "Qwen3_5Model",
    model_type: "qwen3_5",
    tied_head: false,
    parts: &["visual."],
};
