//! Llama 1 to 3 and what is built alike, and Mistral, which adds a window.

use super::{Architecture, GgufHead, HeadNorms, Norms, Presence, Rotation, Scaling, Usual, Windows, Wrapper};
use crate::kernels::rowwise::{Activation, NormKind};
use crate::model::binding::RowOrder;

/// Llama 1 to 3, SmolLM 1 and 2, TinyLlama and many others.
pub const LLAMA: Architecture = Architecture {
    name: "Llama",
    class: "LlamaForCausalLM",
    base: "LlamaModel",
    model_type: "llama",
    wrapper: None,
    gguf: "llama",
    hugging_face_rows: RowOrder::Halves,
    gguf_rows: RowOrder::Pairs,
    usual: Usual {
        n_layers: 32,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        vocab_size: 32_000,
        context: 2048,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        yarn: None,
        rotated_share: None,
        tied_head: false,
        bos: Some(1),
        eos: Some(2),
    },
    input_biases: Presence::Key("attention_bias", false),
    output_bias: Presence::Key("attention_bias", false),
    mlp_biases: Presence::Key("mlp_bias", false),
    norm: NormKind::Rms,
    norms: Norms::Before,
    head_norms: HeadNorms::None,
    norm_offset: 0.0,
    activation: Activation::Silu,
    windows: Windows::Never,
    rotation: Rotation::All,
    scaling: Scaling::None,
    alpha_stretches: false,
    experts: None,
    mamba: None,
    short_convolution: None,
    delta_net: None,
    gated_heads: false,
    gguf_head: GgufHead::Optional,
    full_heads: None,
    layer_inputs: None,
    shares_keys: false,
    lists_merges: false,
    drafts: false,
    sinks: false,
    rounded_yarn: false,
    final_norm: ("model.norm.weight", "output_norm.weight"),
    mlp_width: "intermediate_size",
    adjusts_mlp: false,
    norm_epsilon: None,
    former_keys: &[],
    names: &[],
    joined: &[],
};

/// Mistral Small 3.1 and later, and Ministral 3: a decoder of either architecture with an image encoder.
pub const MISTRAL_SMALL: Wrapper = Wrapper {
    class: "Mistral3ForConditionalGeneration",
    base: "Mistral3Model",
    model_type: "mistral3",
    tied_head: true,
    parts: &["vision_tower.", "multi_modal_projector."],
};

/// Mistral 7B and its fine-tunes.
pub const MISTRAL: Architecture = Architecture {
    name: "Mistral",
    class: "MistralForCausalLM",
    base: "MistralModel",
    model_type: "mistral",
    wrapper: Some(&MISTRAL_SMALL),
    usual: Usual { intermediate_size: 14_336, n_kv_heads: Some(8), context: 131_072, ..LLAMA.usual },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    windows: Windows::All(Some(4096)),
    ..LLAMA
};
