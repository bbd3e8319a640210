//! Reports of the similarity stage.

use serde::Serialize;

use super::model::ModelReport;
use super::options::CalibrationOptions;
use super::text::{PointReport, PointsReport, TextReport};
use crate::device::DeviceReport;

/// Similarities by another metric than that of the similarity stage. Matrices are lists of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct MetricReport {
    /// Name of the metric.
    #[cfg_attr(test, ts(as = "crate::maths::similarity::Metric"))]
    pub metric: String,
    /// Similarity of each pair of layers, `[layers, layers]`.
    pub similarity: Vec<Vec<f64>>,
    /// Mutual information of each pair of layers in nats; empty if the metric is not mutual information.
    pub mutual_information: Vec<Vec<f64>>,
}

/// Result of the similarity stage. Matrices are lists of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct SimilarityReport {
    /// Model whose layers were compared.
    pub model: ModelReport,
    /// Number of decoder layers, L.
    pub layers: usize,
    /// Rule and number of the points.
    pub points: PointsReport,
    /// Origin of each point.
    pub point_list: Vec<PointReport>,
    /// Name of the metric of `similarity`.
    #[cfg_attr(test, ts(as = "crate::maths::similarity::Metric"))]
    pub metric: String,
    /// Number of dimensions of the diffusion map.
    pub dims: usize,
    /// Options of the stage, without the text itself.
    pub options: CalibrationOptions,
    /// The calibration text.
    pub text: TextReport,
    /// Kernel bandwidth of each layer.
    pub epsilon: Vec<f64>,
    /// Leading eigenvalues of each layer's diffusion map, `lambda_0` first.
    pub eigenvalues: Vec<Vec<f64>>,
    /// Mutual information of each pair of layers in nats, `[layers, layers]`; empty for other metrics.
    pub mutual_information: Vec<Vec<f64>>,
    /// Similarity of each pair of layers, `[layers, layers]`, 0 to 1, with 1 on the diagonal.
    pub similarity: Vec<Vec<f64>>,
    /// Coordinates of each layer's diffusion map, one row for each point, aligned between neighbouring layers
    /// for pictures.
    pub embedding: Vec<Vec<Vec<f64>>>,
    /// Block Influence of each layer, `1 - E cos(x_in, x_out)`.
    pub block_influence: Vec<f64>,
    /// Indices of the layers that write a massive activation.
    pub massive: Vec<usize>,
    /// Indices of the layers whose graph of points is nearly disconnected.
    pub disconnected: Vec<usize>,
    /// Perplexity of the original on the calibration text.
    pub perplexity: f64,
    /// Warnings that a reader should know before believing the numbers.
    pub warnings: Vec<String>,
    /// Device that ran the stage.
    pub device: DeviceReport,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}
