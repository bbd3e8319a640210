//! SmolLM3, some of whose layers know no positions.

use super::llama::LLAMA;
use super::{Architecture, Rotation, Usual, Windows};

/// SmolLM3: every fourth layer of the published models is not rotated ("NoPE").
pub const SMOLLM3: Architecture = Architecture {
    name: "SmolLM3",
    class: "SmolLM3ForCausalLM",
    base: "SmolLM3Model",
    model_type: "smollm3",
    gguf: "smollm3",
    usual: Usual {
        n_layers: 36,
        hidden_size: 2048,
        n_heads: 16,
        n_kv_heads: Some(4),
        vocab_size: 128_256,
        context: 32_768,
        rope_theta: 2_000_000.0,
        tied_head: true,
        bos: Some(128_000),
        eos: Some(128_001),
        ..LLAMA.usual
    },
    windows: Windows::Off,
    rotation: Rotation::AllBut(4),
    ..LLAMA
};
