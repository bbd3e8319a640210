//! OLMo 2 and 3, which normalise what attention and MLP write, not what they read.

use super::llama::LLAMA;
use super::{Architecture, GgufHead, HeadNorms, Norms, Presence, Rotation, Usual, Windowed, Windows};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// OLMo 2.
pub const OLMO2: Architecture = Architecture {
    name: "OLMo 2",
    class: "Olmo2ForCausalLM",
    base: "Olmo2Model",
    model_type: "olmo2",
    gguf: "olmo2",
    gguf_rows: RowOrder::Halves,
    usual: Usual { vocab_size: 50_304, norm_epsilon: 1e-5, bos: None, eos: Some(50_279), ..LLAMA.usual },
    mlp_biases: Presence::Never,
    norms: Norms::After,
    head_norms: HeadNorms::All,
    gguf_head: GgufHead::Required,
    names: &[(Role::AttentionAfterNorm, "post_attention_layernorm.weight", "post_attention_norm.weight")],
    ..LLAMA
};

/// OLMo 3: most layers have a window, and only the others' frequencies are scaled.
pub const OLMO3: Architecture = Architecture {
    name: "OLMo 3",
    class: "Olmo3ForCausalLM",
    base: "Olmo3Model",
    model_type: "olmo3",
    windows: Windows::Some(Windowed {
        usual: 4096,
        every: 4,
        every_key: None,
        gguf_usual: None,
        gguf_layers: None,
    }),
    usual: Usual { rope_theta: 500_000.0, ..OLMO2.usual },
    rotation: Rotation::LocalUnscaled,
    ..OLMO2
};
