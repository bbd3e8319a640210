//! ERNIE 4.5: Llama whose neighbouring rows are rotated together in every kind of file.

use super::llama::LLAMA;
use super::{Architecture, Presence, Usual};
use crate::model::binding::RowOrder;

/// ERNIE 4.5, dense.
pub const ERNIE_4_5: Architecture = Architecture {
    name: "ERNIE 4.5",
    class: "Ernie4_5ForCausalLM",
    base: "Ernie4_5Model",
    model_type: "ernie4_5",
    gguf: "ernie4_5",
    hugging_face_rows: RowOrder::Pairs,
    usual: Usual {
        n_layers: 18,
        hidden_size: 1024,
        intermediate_size: 3072,
        n_heads: 16,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        vocab_size: 103_424,
        context: 131_072,
        norm_epsilon: 1e-5,
        rope_theta: 500_000.0,
        tied_head: true,
        ..LLAMA.usual
    },
    input_biases: Presence::Key("use_bias", false),
    output_bias: Presence::Key("use_bias", false),
    mlp_biases: Presence::Key("use_bias", false),
    ..LLAMA
};
