//! What a model is: the settings that its files declare, checked.
//!
//! Upstream's key names are in [`hugging_face`] and [`gguf`] and nowhere else.

pub mod gguf;
pub mod hugging_face;
pub mod special;

use serde_json::{Map, Value};

use super::rope::RopeScaling;
use crate::format::Container;
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// The settings of a Llama-family decoder, checked: every size is at least one, heads divide evenly,
/// and everything that would change the arithmetic is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Class name as upstream spells it, such as `LlamaForCausalLM`.
    pub architecture: String,
    /// Decoder layers, L.
    pub n_layers: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest declared context in tokens.
    pub context: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies for long contexts.
    pub rope_scaling: RopeScaling,
    /// The head is the embedding.
    pub tied_head: bool,
    /// q, k, v and o have biases.
    pub attention_bias: bool,
    /// gate, up and down have biases.
    pub mlp_bias: bool,
    /// Tokens that a position attends to, itself included; `None` is all before it.
    pub sliding_window: Option<usize>,
    /// Token that begins every sequence; `None` where the model has none.
    pub bos_token_id: Option<u32>,
    /// Token that ends a text; the first, where there are several.
    pub eos_token_id: Option<u32>,
    /// Where all this comes from, kept for rewriting.
    pub(crate) upstream: Upstream,
}

/// The declaration as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Upstream {
    /// The object in `config.json`.
    HuggingFace(Map<String, Value>),
    /// The metadata of a GGUF file.
    Gguf(Metadata),
}

impl Config {
    /// What kind of file the model is stored in.
    pub fn container(&self) -> Container {
        match self.upstream {
            Upstream::HuggingFace(_) => Container::Safetensors,
            Upstream::Gguf(_) => Container::Gguf,
        }
    }

    /// Checks what the arithmetic relies on; `file` is what to blame.
    fn check(self, file: &str) -> Result<Self> {
        let bad = |what: String| Err(Error::Format(format!("{file}: {what}")));
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return bad(format!(
                "{} attention heads are not a multiple of {} key and value heads",
                self.n_heads, self.n_kv_heads
            ));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return bad(format!(
                "heads of width {} are not possible: it must be a positive even number",
                self.head_dim
            ));
        }
        if let Some(bos) = self.bos_token_id
            && bos as usize >= self.vocab_size
        {
            return bad(format!("BOS token {bos} is outside the vocabulary of {}", self.vocab_size));
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon >= 0.0) {
            return bad(format!(
                "the epsilon of the norms is {}, not a small positive number",
                self.norm_epsilon
            ));
        }
        Ok(self)
    }

    /// Parameters of one layer.
    pub fn parameters_per_layer(&self) -> u64 {
        let [d, i, h, kv] = [
            self.hidden_size,
            self.intermediate_size,
            self.n_heads * self.head_dim,
            self.n_kv_heads * self.head_dim,
        ]
        .map(|n| n as u64);
        let attention = 2 * d * h + 2 * d * kv;
        let attention_bias = if self.attention_bias { h + 2 * kv + d } else { 0 };
        let mlp_bias = if self.mlp_bias { 2 * i + d } else { 0 };
        attention + attention_bias + 3 * d * i + mlp_bias + 2 * d
    }
}

/// A size that a file gives, if it can be one: the bound keeps products of two within 64 bits and catches garbage early.
fn sensible_size(given: u64) -> Option<usize> {
    usize::try_from(given).ok().filter(|n| (1..=1 << 28).contains(n))
}

/// The entries of a list with one entry per layer, for layers that become one each group.
fn regroup<T: Clone + PartialEq>(key: &str, list: &[T], groups: &[Vec<usize>]) -> Result<Vec<T>> {
    groups
        .iter()
        .map(|group| {
            let mut entries = group.iter().filter_map(|layer| list.get(*layer));
            let first = entries.next();
            match first {
                Some(first) if entries.all(|entry| entry == first) => Ok(first.clone()),
                _ => Err(Error::Unsupported(format!(
                    "layers {group:?} cannot become one, because their entries in {key} differ"
                ))),
            }
        })
        .collect()
}
