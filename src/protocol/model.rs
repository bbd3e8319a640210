//! What a model is, as reports say it.

use serde::Serialize;

use crate::format::Container;
use crate::model::Model;
use crate::model::open::TensorEntry;
use crate::model::tensors::TensorId;

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// What it was opened as.
    pub name: String,
    /// What kind of file it is stored in.
    pub container: Container,
    /// Upstream's name of its kind.
    pub architecture: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest declared context in tokens.
    pub context: usize,
    /// Parameters of all tensors.
    pub parameters: u64,
    /// Parameters of one layer.
    pub parameters_per_layer: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Bytes of the largest layer's tensors.
    pub bytes_per_layer: u64,
    /// Type of the layers' matrices; "mixed" where they differ.
    pub dtype: String,
    /// Types of all tensors, that of the most bytes first.
    pub dtypes: Vec<String>,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Tokens that a position attends to, if limited.
    pub sliding_window: Option<usize>,
    /// Files that are read or copied.
    pub files: Vec<String>,
}

impl ModelReport {
    /// Describes an opened model.
    pub fn new(model: &Model) -> Self {
        let config = &model.config;
        let is_matrix = |t: &&TensorEntry| matches!(t.id, TensorId::Layer(..)) && t.shape.len() > 1;
        let mut elements: Vec<_> = model.tensors().iter().filter(is_matrix).map(|t| t.element).collect();
        elements.dedup();
        let files = model.shards.iter().chain(&model.companions);
        Self {
            name: model.name.clone(),
            container: model.container(),
            architecture: config.architecture.clone(),
            layers: config.n_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.n_heads,
            kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            context: config.context,
            parameters: model.total_parameters(),
            parameters_per_layer: config.parameters_per_layer(),
            bytes: model.total_bytes(),
            bytes_per_layer: (0..config.n_layers).map(|l| model.layer_bytes(l)).max().unwrap_or(0),
            dtype: match elements.as_slice() {
                [only] => only.to_string(),
                _ => "mixed".to_owned(),
            },
            dtypes: dtypes(model),
            tied_head: config.tied_head,
            sliding_window: config.sliding_window,
            files: files.map(|f| f.name().to_owned()).collect(),
        }
    }
}

fn dtypes(model: &Model) -> Vec<String> {
    let mut bytes: Vec<(String, u64)> = Vec::new();
    for tensor in model.tensors() {
        let name = tensor.element.to_string();
        match bytes.iter_mut().find(|(each, _)| *each == name) {
            Some((_, sum)) => *sum += tensor.bytes,
            None => bytes.push((name, tensor.bytes)),
        }
    }
    bytes.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    bytes.into_iter().map(|(name, _)| name).collect()
}
