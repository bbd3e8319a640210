//! GPT-OSS: experts with biases, a score beside those of the keys, windows in every second layer.

use std::f64::consts::LN_2;

use super::llama::LLAMA;
use super::mixtral::MIXTRAL_EXPERTS;
use super::{Architecture, ExpertNames, Experts, GgufHead, Presence, Usual, Windowed, Windows};
use crate::kernels::rowwise::Activation;
use crate::model::binding::RowOrder;
use crate::model::rope::Yarn;
use crate::model::tensors::Role;

/// GPT-OSS.
pub const GPT_OSS: Architecture = Architecture {
    name: "GPT-OSS",
    class: "GptOssForCausalLM",
    base: "GptOssModel",
    model_type: "gpt_oss",
    gguf: "gpt-oss",
    gguf_rows: RowOrder::Halves,
    gguf_head: GgufHead::Required,
    usual: Usual {
        n_layers: 36,
        hidden_size: 2880,
        intermediate_size: 2880,
        n_heads: 64,
        n_kv_heads: Some(8),
        head_dim: Some(64),
        vocab_size: 201_088,
        context: 131_072,
        norm_epsilon: 1e-5,
        rope_theta: 150_000.0,
        yarn: Some(Yarn {
            factor: 32.0,
            // 0.1 ln 32 + 1.
            attention_factor: 0.5 * LN_2 + 1.0,
            fast_turns: Yarn::FAST_TURNS,
            slow_turns: Yarn::SLOW_TURNS,
            original_context: 4096.0,
            rounds: false,
        }),
        bos: None,
        eos: None,
        ..LLAMA.usual
    },
    input_biases: Presence::Key("attention_bias", true),
    output_bias: Presence::Key("attention_bias", true),
    mlp_biases: Presence::Never,
    activation: Activation::ClampedGlu,
    windows: Windows::Some(Windowed {
        usual: 128,
        every: 2,
        every_key: None,
        gguf_usual: None,
        gguf_layers: None,
    }),
    sinks: true,
    rounded_yarn: true,
    experts: Some(Experts {
        usual: 128,
        usual_used: 4,
        width: Some(("intermediate_size", 2880)),
        biased: true,
        names: ExpertNames::InTurns,
        ..MIXTRAL_EXPERTS
    }),
    names: &[
        (Role::Router, "mlp.router.weight", "ffn_gate_inp.weight"),
        (Role::MlpNorm, "post_attention_layernorm.weight", "post_attention_norm.weight"),
    ],
    ..LLAMA
};
