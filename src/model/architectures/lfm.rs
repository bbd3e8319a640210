//! LFM2: short convolutions in most layers, attention in the others.

use super::llama::LLAMA;
use super::{Architecture, HeadNorms, Presence, Usual};
use crate::model::binding::RowOrder;
use crate::model::tensors::Role;

/// LFM2 and LFM2.5, dense.
pub const LFM2: Architecture = Architecture {
    name: "LFM2",
    class: "Lfm2ForCausalLM",
    base: "Lfm2Model",
    model_type: "lfm2",
    gguf: "lfm2",
    gguf_rows: RowOrder::Halves,
    usual: Usual {
        hidden_size: 2560,
        intermediate_size: 12_288,
        n_kv_heads: Some(8),
        vocab_size: 65_536,
        context: 128_000,
        norm_epsilon: 1e-5,
        rope_theta: 1_000_000.0,
        tied_head: true,
        ..LLAMA.usual
    },
    input_biases: Presence::Never,
    output_bias: Presence::Never,
    mlp_biases: Presence::Never,
    head_norms: HeadNorms::Each,
    short_convolution: Some(3),
    final_norm: ("model.embedding_norm.weight", "token_embd_norm.weight"),
    adjusts_mlp: true,
    norm_epsilon: Some("norm_eps"),
    former_keys: &[("block_ff_dim", "intermediate_size"), ("tie_embedding", "tie_word_embeddings")],
    names: &[
        (Role::AttentionNorm, "operator_norm.weight", "attn_norm.weight"),
        (Role::Output, "self_attn.out_proj.weight", "attn_output.weight"),
        (Role::QueryNorm, "self_attn.q_layernorm.weight", "attn_q_norm.weight"),
        (Role::KeyNorm, "self_attn.k_layernorm.weight", "attn_k_norm.weight"),
        (Role::MlpNorm, "ffn_norm.weight", "ffn_norm.weight"),
        (Role::Gate, "feed_forward.w1.weight", "ffn_gate.weight"),
        (Role::Up, "feed_forward.w3.weight", "ffn_up.weight"),
        (Role::Down, "feed_forward.w2.weight", "ffn_down.weight"),
    ],
    ..LLAMA
};
