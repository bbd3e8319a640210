//! EXAONE 4, which normalises what attention and MLP write, and each head of queries and keys.

use super::olmo::OLMO2;
use super::{Architecture, GgufHead, HeadNorms, Presence, Rotation, Usual, Windowed, Windows};

/// EXAONE 4. The largest of its models has windows, and rotates only where a window is; llama.cpp knows them by the
/// number of layers.
pub const EXAONE4: Architecture = Architecture {
    name: "EXAONE 4",
    class: "Exaone4ForCausalLM",
    base: "Exaone4Model",
    model_type: "exaone4",
    gguf: "exaone4",
    usual: Usual {
        intermediate_size: 16_384,
        n_kv_heads: Some(32),
        vocab_size: 102_400,
        bos: Some(0),
        eos: Some(2),
        ..OLMO2.usual
    },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    head_norms: HeadNorms::Each,
    gguf_head: GgufHead::Optional,
    windows: Windows::Some(Windowed {
        usual: 4096,
        every: 4,
        every_key: Some("sliding_window_pattern"),
        gguf_usual: None,
        gguf_layers: Some(64),
    }),
    rotation: Rotation::Windowed,
    ..OLMO2
};
