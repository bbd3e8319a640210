//! Settings of a model, which its files declare, checked.
//!
//! The key names of `config.json` occur only in [`hugging_face`], those of GGUF metadata only in [`gguf`]
//! and, for special tokens, in [`special`].

pub mod gguf;
pub mod hugging_face;
pub mod special;

use serde_json::{Map, Value};

use super::architectures::Architecture;
use super::binding::RowOrder;
use super::rope::RopeScaling;
use crate::format::Container;
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Settings of a Llama-family decoder, checked: every size is at least one, the query heads are a multiple of
/// the key heads, and every setting that changes the arithmetic is supported.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Architecture: what the family of the model has that others have not.
    pub architecture: &'static Architecture,
    /// Number of decoder layers, L.
    pub n_layers: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the MLP between its up and down projections.
    pub intermediate_size: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Number of rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Longest declared context in tokens.
    pub context: usize,
    /// Epsilon of RMSNorm, added to the mean square.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies for long contexts.
    pub rope_scaling: RopeScaling,
    /// Whether the output head shares its weights with the embedding.
    pub tied_head: bool,
    /// Projections that have biases.
    pub biases: Biases,
    /// Whether each layer rotates its queries and keys by position. One entry for each layer.
    pub rotated: Vec<bool>,
    /// Constants that activations are multiplied by.
    pub scales: Scales,
    /// Number of tokens that a position attends to, itself included; `None` means itself and all before it.
    pub sliding_window: Option<usize>,
    /// Id of the token that begins every sequence; `None` if the model has none.
    pub bos_token_id: Option<u32>,
    /// Id of the token that ends a text; the first id if the model names several.
    pub eos_token_id: Option<u32>,
    /// Settings as the model's own file declares them, kept to write the settings of a compressed model.
    pub(crate) upstream: Upstream,
}

/// Constants that activations are multiplied by. All are 1 for most models, but that of the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Factor of the embeddings.
    pub embedding: f64,
    /// Factor of the attention scores; `None` is `head_dim^-1/2`.
    pub scores: Option<f64>,
    /// Factor of what attention and the MLP add to the residual stream.
    pub residual: f64,
    /// Factor of the logits.
    pub logits: f64,
}

impl Default for Scales {
    fn default() -> Self {
        Self { embedding: 1.0, scores: None, residual: 1.0, logits: 1.0 }
    }
}

/// Projections of a layer that have biases. The bias of any other projection is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Whether the query, key, value and output projections have one, in this order.
    pub attention: [bool; 4],
    /// Whether the gate, up and down projections have one, in this order.
    pub mlp: [bool; 3],
}

/// Settings as the model's own file declares them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Upstream {
    /// JSON object of `config.json`.
    HuggingFace(Map<String, Value>),
    /// Metadata of the first GGUF file.
    Gguf(Metadata),
}

impl Config {
    /// Returns the kind of file that holds the model.
    pub fn container(&self) -> Container {
        match self.upstream {
            Upstream::HuggingFace(_) => Container::Safetensors,
            Upstream::Gguf(_) => Container::Gguf,
        }
    }

    /// Checks the constraints that the arithmetic relies on; errors name `file`.
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
        let Scales { embedding, scores, residual, logits } = self.scales;
        for (name, scale) in [
            ("embeddings", embedding),
            ("scores", scores.unwrap_or(1.0)),
            ("residuals", residual),
            ("logits", logits),
        ] {
            if !(scale.is_finite() && scale > 0.0 && (scale as f32) > 0.0 && (scale as f32).is_finite()) {
                return bad(format!("{name} are scaled by {scale}, which is not a positive number"));
            }
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon >= 0.0) {
            return bad(format!(
                "the epsilon of the norms is {}, not a small positive number",
                self.norm_epsilon
            ));
        }
        Ok(self)
    }

    /// Returns the factor of the attention scores.
    pub fn score_scale(&self) -> f64 {
        self.scales.scores.unwrap_or_else(|| (self.head_dim as f64).sqrt().recip())
    }

    /// Returns the name of the architecture in files of the model's own kind: that of the class in transformers, such
    /// as `LlamaForCausalLM`, or `llama` in a GGUF file.
    pub fn architecture_name(&self) -> &'static str {
        match self.container() {
            Container::Safetensors => self.architecture.class,
            Container::Gguf => self.architecture.gguf,
        }
    }

    /// Returns the order of the rows of query and key projections in files of kind `container`.
    pub fn row_order(&self, container: Container) -> RowOrder {
        match container {
            Container::Safetensors => self.architecture.hugging_face_rows,
            Container::Gguf => self.architecture.gguf_rows,
        }
    }

    /// Returns the number of parameters of one layer, norms and biases included.
    pub fn parameters_per_layer(&self) -> u64 {
        let [d, i, h, kv] = [
            self.hidden_size,
            self.intermediate_size,
            self.n_heads * self.head_dim,
            self.n_kv_heads * self.head_dim,
        ]
        .map(|n| n as u64);
        let attention = 2 * d * h + 2 * d * kv;
        let lengths = [h, kv, kv, d, i, i, d];
        let stored = self.biases.attention.iter().chain(&self.biases.mlp);
        let biases: u64 = lengths.iter().zip(stored).filter(|(_, stored)| **stored).map(|(n, _)| n).sum();
        let head_norms = if self.architecture.norms_heads { 2 * self.head_dim as u64 } else { 0 };
        attention + 3 * d * i + biases + 2 * d + head_norms
    }
}

/// Converts a size from a file; `None` outside `1 ..= 2^28`. The bound keeps products of two sizes within 64
/// bits and catches garbage early.
fn sensible_size(given: u64) -> Option<usize> {
    usize::try_from(given).ok().filter(|n| (1..=1 << 28).contains(n))
}

/// Reduces `list`, which has one entry per layer, to one entry per group. The layers of a group must have
/// equal entries.
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
