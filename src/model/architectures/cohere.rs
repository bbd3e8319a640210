//! Command-R and its successors by Cohere: attention and MLP read one LayerNorm, side by side, and logits are scaled.

use super::llama::LLAMA;
use super::{Architecture, GgufHead, Norms, Presence, Rotation, Scaling, Usual, Windowed, Windows};
use crate::kernels::rowwise::NormKind;
use crate::model::binding::RowOrder;

/// Command-R. Command-R+, whose queries and keys are normalised, is refused.
pub const COHERE: Architecture = Architecture {
    name: "Command-R",
    class: "CohereForCausalLM",
    base: "CohereModel",
    model_type: "cohere",
    gguf: "command-r",
    hugging_face_rows: RowOrder::Pairs,
    usual: Usual {
        n_layers: 40,
        hidden_size: 8192,
        intermediate_size: 22_528,
        n_heads: 64,
        vocab_size: 256_000,
        context: 8192,
        norm_epsilon: 1e-5,
        rope_theta: 500_000.0,
        tied_head: true,
        bos: Some(5),
        eos: Some(255_001),
        ..LLAMA.usual
    },
    mlp_biases: Presence::Never,
    norm: NormKind::Layer,
    norms: Norms::Shared,
    gguf_head: GgufHead::Never,
    scaling: Scaling::Logits(0.0625),
    norm_epsilon: Some("layer_norm_eps"),
    ..LLAMA
};

/// Command A and Command-R7B: most layers have a window, and the others do not rotate.
pub const COHERE2: Architecture = Architecture {
    name: "Command A",
    class: "Cohere2ForCausalLM",
    base: "Cohere2Model",
    model_type: "cohere2",
    gguf: "cohere2",
    usual: Usual { rope_theta: 10_000.0, ..COHERE.usual },
    windows: Windows::Some(Windowed {
        usual: 4096,
        every: 4,
        every_key: Some("sliding_window_pattern"),
        gguf_usual: None,
        gguf_layers: None,
    }),
    rotation: Rotation::OnlyWindowed,
    ..COHERE
};
