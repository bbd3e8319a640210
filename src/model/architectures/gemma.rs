//! Gemma 2, 3 and 4: norms around attention and MLP, whose stored weights are less one but in Gemma 4, windows in most
//! layers, GELU.

use super::llama::LLAMA;
use super::{
    Architecture, GgufHead, HeadNorms, Norms, Presence, Rotation, Scaling, Usual, Windowed, Windows, Wrapper,
};
use crate::kernels::rowwise::Activation;
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// Gemma 2, whose scores and logits are capped.
pub const GEMMA2: Architecture = Architecture {
    name: "Gemma 2",
    class: "Gemma2ForCausalLM",
    base: "Gemma2Model",
    model_type: "gemma2",
    gguf: "gemma2",
    gguf_rows: RowOrder::Halves,
    usual: Usual {
        n_layers: 26,
        hidden_size: 2304,
        intermediate_size: 9216,
        n_heads: 8,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        vocab_size: 256_000,
        context: 8192,
        tied_head: true,
        bos: Some(2),
        eos: Some(1),
        ..LLAMA.usual
    },
    mlp_biases: Presence::Never,
    norms: Norms::Around,
    norm_offset: 1.0,
    gguf_head: GgufHead::Never,
    activation: Activation::GeluTanh,
    windows: Windows::Some(Windowed {
        usual: 4096,
        every: 2,
        every_key: None,
        gguf_usual: Some(4096),
        gguf_layers: None,
    }),
    scaling: Scaling::Gemma { scalar: 256.0, caps: [Some(50.0), Some(30.0)], largest: 46 },
    names: &[
        (Role::AttentionAfterNorm, "post_attention_layernorm.weight", "post_attention_norm.weight"),
        (Role::MlpNorm, "pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    ],
    ..LLAMA
};

/// Gemma 3, text: each head is normalised, and layers with a window rotate by frequencies of their own.
pub const GEMMA3: Architecture = Architecture {
    name: "Gemma 3",
    class: "Gemma3ForCausalLM",
    base: "Gemma3TextModel",
    model_type: "gemma3_text",
    wrapper: Some(&GEMMA3_WRAPPER),
    gguf: "gemma3",
    usual: Usual { vocab_size: 262_208, context: 131_072, rope_theta: 1_000_000.0, ..GEMMA2.usual },
    head_norms: HeadNorms::Each,
    windows: Windows::Some(Windowed {
        usual: 4096,
        every: 6,
        every_key: Some("sliding_window_pattern"),
        gguf_usual: None,
        gguf_layers: None,
    }),
    rotation: Rotation::LocalBase(10_000.0),
    gguf_head: GgufHead::Optional,
    scaling: Scaling::Gemma { scalar: 256.0, caps: [None, None], largest: 62 },
    ..GEMMA2
};

/// Gemma 3 from 4B on, with an image encoder.
const GEMMA3_WRAPPER: Wrapper = Wrapper {
    class: "Gemma3ForConditionalGeneration",
    base: "Gemma3Model",
    model_type: "gemma3",
    tied_head: true,
    parts: &["vision_tower.", "multi_modal_projector."],
};

/// Gemma 4, text, without experts: layers without a window have wider heads, whose keys may serve as values and of whose
/// frequencies a share rotates; each layer multiplies the stream by a number of its own. In the small models (E2B, E4B)
/// each layer has an input of its own, and the last layers read the keys and values of layers before them.
pub const GEMMA4: Architecture = Architecture {
    name: "Gemma 4",
    class: "Gemma4ForCausalLM",
    base: "Gemma4TextModel",
    model_type: "gemma4_text",
    wrapper: Some(&GEMMA4_WRAPPER),
    gguf: "gemma4",
    usual: Usual {
        n_layers: 30,
        vocab_size: 262_144,
        context: 131_072,
        rope_theta: 1_000_000.0,
        norm_epsilon: 1e-6,
        ..GEMMA2.usual
    },
    norm_offset: 0.0,
    head_norms: HeadNorms::EachAndValues,
    windows: Windows::Some(Windowed {
        usual: 512,
        every: 6,
        every_key: None,
        gguf_usual: None,
        gguf_layers: None,
    }),
    rotation: Rotation::ByKind { base: 10_000.0, share: 0.25 },
    scaling: Scaling::Layers,
    gguf_head: GgufHead::Optional,
    full_heads: Some(512),
    layer_inputs: Some(256),
    shares_keys: true,
    lists_merges: true,
    ..GEMMA2
};

/// Gemma 4 with encoders of images and sound.
const GEMMA4_WRAPPER: Wrapper = Wrapper {
    class: "Gemma4ForConditionalGeneration",
    base: "Gemma4Model",
    model_type: "gemma4",
    tied_head: true,
    parts: &["vision_tower.", "embed_vision.", "audio_tower.", "embed_audio."],
};
