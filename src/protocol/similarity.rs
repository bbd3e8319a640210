//! The result of the similarity stage.

use serde::Serialize;

use super::model::ModelReport;
use super::options::CalibrationOptions;
use super::text::{PointReport, PointsReport, TextReport};
use crate::device::DeviceReport;

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
