//! What the engine tells the world: the JSON of the command line and of the page.
//!
//! Keys are stable: added, never renamed. `www/engine/protocol/` mirrors these types.

mod comparison;

use serde::{Deserialize, Serialize};

pub use comparison::{CompareReport, CompareRow};

use crate::device::DeviceReport;
use crate::evaluate::{MmluReport, Quality};
use crate::format::Container;
use crate::model::Model;
use crate::model::names::TensorId;
use crate::model::open::TensorEntry;
use crate::pipeline::generating::Sample;
use crate::pipeline::options::{CalibrationOptions, WriteOptions};
use crate::pipeline::writing::WrittenFile;
use crate::plan::{MergePlan, MergeStep, PlanOptions};

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

/// The text that something was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextReport {
    /// Its name.
    pub name: String,
    /// Sequences cut from it.
    pub sequences: usize,
    /// Tokens in each.
    pub tokens_per_sequence: usize,
    /// Tokens scored: all after the first of each sequence.
    pub tokens_scored: u64,
}

impl TextReport {
    /// Nothing was measured.
    pub fn none() -> Self {
        Self { name: "none".to_owned(), sequences: 0, tokens_per_sequence: 0, tokens_scored: 0 }
    }
}

/// Which states are points, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointsReport {
    /// The rule as the command line writes it.
    pub rule: String,
    /// Number of points, N.
    pub count: usize,
}

/// Where a point comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointReport {
    /// Index of its sequence.
    pub sequence: usize,
    /// Position in the sequence, -1 for a mean over positions.
    pub position: i64,
    /// Some text up to and including the point.
    pub text: String,
    /// The point's own token, with which the text ends; empty for a mean over positions.
    pub token: String,
}

/// Similarities by another metric than that of the run. Matrices are lists of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricReport {
    /// The metric.
    pub metric: String,
    /// Of each pair of layers.
    pub similarity: Vec<Vec<f64>>,
    /// Nats; empty for other metrics than that of the maps.
    pub mutual_information: Vec<Vec<f64>>,
}

/// Result of the similarity stage. Matrices are lists of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarityReport {
    /// The model.
    pub model: ModelReport,
    /// Its decoder layers, L.
    pub layers: usize,
    /// The points.
    pub points: PointsReport,
    /// Where each point comes from.
    pub point_list: Vec<PointReport>,
    /// What similarity is.
    pub metric: String,
    /// Dimensions of the diffusion map.
    pub dims: usize,
    /// All options.
    pub options: CalibrationOptions,
    /// The calibration text.
    pub text: TextReport,
    /// Kernel bandwidth of each layer.
    pub epsilon: Vec<f64>,
    /// Leading eigenvalues of each layer.
    pub eigenvalues: Vec<Vec<f64>>,
    /// Mutual information in nats; empty for other metrics.
    pub mutual_information: Vec<Vec<f64>>,
    /// Similarity, 0 to 1, with 1 on the diagonal.
    pub similarity: Vec<Vec<f64>>,
    /// For each layer one row of coordinates a point, aligned between neighbours for pictures.
    pub embedding: Vec<Vec<Vec<f64>>>,
    /// `1 - E cos(x_in, x_out)` of each layer.
    pub block_influence: Vec<f64>,
    /// Layers that write a massive activation.
    pub massive: Vec<usize>,
    /// Layers whose graph is nearly disconnected.
    pub disconnected: Vec<usize>,
    /// Perplexity of the model as it is on the calibration text.
    pub perplexity: f64,
    /// What a reader should know before believing the numbers.
    pub warnings: Vec<String>,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// A number before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BeforeAfter {
    /// Of the original.
    pub before: u64,
    /// Of the merged model.
    pub after: u64,
}

/// A plan and what it does to the model, measured before anything is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// The plan, with the quality after each step.
    pub plan: MergePlan,
    /// What quality was measured on.
    pub text: TextReport,
    /// The model as it is.
    pub original: Quality,
    /// After all steps.
    pub merged: Quality,
    /// Keeping the first layer of each group and dropping the others.
    pub dropped: Quality,
    /// Remarks.
    pub warnings: Vec<String>,
    /// Decoder layers.
    pub layers: BeforeAfter,
    /// Parameters of all tensors.
    pub parameters: BeforeAfter,
    /// Bytes of all tensors, in the types that they are measured in.
    pub bytes: BeforeAfter,
    /// How the result was assumed to be stored.
    pub output: WriteOptions,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WriteReport {
    /// What the model's own `recipe.json` holds.
    pub recipe: Recipe,
    /// The files.
    pub files: Vec<WrittenFile>,
    /// Bytes of the model's files that hold tensors.
    pub bytes: BeforeAfter,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Everything needed to repeat a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of this program.
    pub laminate: String,
    /// Name of the model that was compressed.
    pub model: String,
    /// How it was calibrated.
    pub calibration: CalibrationOptions,
    /// The text that it was calibrated and measured on.
    pub text: TextReport,
    /// What was asked for; `None` for a plan that was made by hand.
    pub options: Option<PlanOptions>,
    /// What was done.
    pub plan: MergePlan,
    /// How it was stored.
    pub output: WriteOptions,
}

/// What a plan's model is worth when it is fitted to part of the calibration text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationPoint {
    /// Sequences that it was fitted to, the ones that chose the strength of fits included.
    pub sequences: usize,
    /// Their tokens, BOS included.
    pub tokens: u64,
    /// On the text that fitted models are judged on.
    pub quality: Quality,
    /// What fitting and measuring took.
    pub seconds: f64,
}

/// A finished compression, as the command line prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompressReport {
    /// Everything needed to repeat it.
    pub recipe: Recipe,
    /// Each merge with the quality after it; empty for a repeated plan.
    pub steps: Vec<MergeStep>,
    /// Original layer indices per final layer.
    pub groups: Vec<Vec<usize>>,
    /// What quality was measured on.
    pub text: TextReport,
    /// The model as it was.
    pub original: Quality,
    /// The model as it is now.
    pub merged: Quality,
    /// Dropping the absorbed layers instead.
    pub dropped: Quality,
    /// Whether the merged model has collapsed.
    pub collapsed: bool,
    /// Parameters of all tensors.
    pub parameters: BeforeAfter,
    /// Bytes of the files that hold tensors.
    pub bytes: BeforeAfter,
    /// What was written.
    pub files: Vec<WrittenFile>,
    /// The same plan fitted to parts of the calibration text, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calibration_curve: Vec<CalibrationPoint>,
    /// Remarks.
    pub warnings: Vec<String>,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time of all stages.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// What a model is worth on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluateReport {
    /// The model.
    pub model: ModelReport,
    /// The text.
    pub text: TextReport,
    /// `exp` of the mean negative log-likelihood in nats per token.
    pub perplexity: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Perplexity of the original on the same text, if one was given.
    pub original_perplexity: Option<f64>,
    /// Mean `KL(original || model)` in nats per token.
    pub kl: Option<f64>,
    /// Share of tokens whose most likely successor is the original's, 0 to 1.
    pub top1_agreement: Option<f64>,
    /// Perplexity more than ten times the original's.
    pub collapsed: bool,
    /// Answers to multiple-choice questions, if any were asked.
    pub mmlu: Option<MmluReport>,
    /// The original's answers to the same questions.
    pub original_mmlu: Option<MmluReport>,
    /// Texts that were to be continued.
    pub samples: Vec<Sample>,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}
