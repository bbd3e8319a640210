//! Report of a model's settings, sizes and files.

use serde::Serialize;

use crate::format::Container;
use crate::model::config::{FeedForward, LayerKind, Mixer};
use crate::model::open::TensorEntry;
use crate::model::tensors::TensorId;
use crate::model::{Config, Model};

/// Settings, sizes and files of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct ModelReport {
    /// Name under which the model was opened.
    pub name: String,
    /// Kind of file that holds the model.
    pub container: Container,
    /// Name of the architecture as the model's files spell it.
    pub architecture: String,
    /// Number of decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP between its up and down projections.
    pub intermediate_size: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of rows of the embedding.
    pub vocab_size: usize,
    /// Longest declared context in tokens.
    pub context: usize,
    /// Number of parameters of all tensors.
    pub parameters: u64,
    /// Number of parameters of one layer.
    pub parameters_per_layer: u64,
    /// Stored size of all tensors in bytes.
    pub bytes: u64,
    /// Stored size of the largest layer's tensors in bytes.
    pub bytes_per_layer: u64,
    /// Element type of the layers' matrices; "mixed" if they differ.
    pub dtype: String,
    /// Element types of all tensors, by falling number of bytes.
    pub dtypes: Vec<String>,
    /// Whether the output head shares its weights with the embedding.
    pub tied_head: bool,
    /// Number of tokens that a position attends to, itself included, if limited.
    pub sliding_window: Option<usize>,
    /// What each layer is, in words; empty if all layers are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<String>>", optional))]
    pub kinds: Vec<String>,
    /// Number of experts in a layer that has experts, and how many of them serve each token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub experts: Option<[usize; 2]>,
    /// Names of the weight files and of the files that are copied.
    pub files: Vec<String>,
    /// What the reader should know of how the files were read, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<String>>", optional))]
    pub notes: Vec<String>,
}

impl ModelReport {
    /// Describes an opened model.
    pub fn new(model: &Model) -> Self {
        let config = &model.config;
        let is_matrix = |t: &&TensorEntry| matches!(t.id, TensorId::Layer(..)) && t.shape.len() > 1;
        let mut elements: Vec<_> =
            model.tensors().iter().filter(is_matrix).map(TensorEntry::stored_type).collect();
        elements.dedup();
        let files = model.shards.iter().chain(&model.companions);
        Self {
            name: model.name.clone(),
            container: model.container(),
            architecture: config.architecture_name().to_owned(),
            layers: config.n_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.n_heads,
            kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            context: config.context,
            parameters: model.total_parameters(),
            parameters_per_layer: config.parameters_per_layer() + config.input_parameters(),
            bytes: model.total_bytes(),
            bytes_per_layer: (0..config.n_layers).map(|l| model.layer_bytes(l)).max().unwrap_or(0),
            dtype: match elements.as_slice() {
                [only] => only.clone(),
                _ => "mixed".to_owned(),
            },
            dtypes: dtypes(model),
            tied_head: config.tied_head,
            sliding_window: config.window(),
            kinds: kinds(config),
            experts: config.experts.map(|experts| [experts.count, experts.used]),
            files: files.map(|f| f.name().to_owned()).collect(),
            notes: model.notes.clone(),
        }
    }
}

/// Returns what each layer is, in words; nothing if all layers are alike.
fn kinds(config: &Config) -> Vec<String> {
    let rotates = config.layers.iter().any(|kind| kind.rope.is_some());
    let words = |kind: &LayerKind| {
        let mixer = match (kind.mixer, kind.window, kind.rope) {
            (Mixer::Mamba, ..) => "Mamba",
            (Mixer::ShortConvolution, ..) => "short convolution",
            (Mixer::DeltaNet, ..) => "delta net",
            (Mixer::Attention, Some(_), _) => "attention with a window",
            (Mixer::Attention, None, None) if rotates => "attention without positions",
            (Mixer::Attention, None, _) => "attention",
        };
        let experts = if kind.feed_forward == FeedForward::Experts { " and experts" } else { "" };
        let keys = if kind.shares_keys { " on the keys of another layer" } else { "" };
        format!("{mixer}{keys}{experts}")
    };
    match config.layers.iter().all(|kind| config.layers.first() == Some(kind)) {
        true => Vec::new(),
        false => config.layers.iter().map(words).collect(),
    }
}

fn dtypes(model: &Model) -> Vec<String> {
    let mut bytes: Vec<(String, u64)> = Vec::new();
    for tensor in model.tensors() {
        let name = tensor.stored_type();
        match bytes.iter_mut().find(|(each, _)| *each == name) {
            Some((_, sum)) => *sum += tensor.stored_bytes(),
            None => bytes.push((name, tensor.stored_bytes())),
        }
    }
    bytes.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    bytes.into_iter().map(|(name, _)| name).collect()
}
