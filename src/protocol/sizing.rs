//! The best model of a size, and how it was found.

use serde::Serialize;

use super::compare::Paired;
use super::options::dtype;
use super::plan::PlanReport;
use crate::model::weights::file_type::FileType;
use crate::model::weights::part_types::Part;
use crate::quality::Quality;

/// Sizes between which the best model can be found, in bytes of the file, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct SizeRange {
    /// Smallest that the model can become.
    pub least: u64,
    /// Size of the model without other types.
    pub most: u64,
}

/// The best model of a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct SizeReport {
    /// How the model was found.
    pub search: SizeSearch,
    /// Plan of the model.
    pub plan: PlanReport,
}

/// Search for the best model of a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct SizeSearch {
    /// Most bytes that the file may have.
    pub size: u64,
    /// Bytes of the file that are not of tensors, about.
    pub bytes_beside_tensors: u64,
    /// What the types of each part of the model cost, and which were chosen.
    pub parts: Vec<PricedPart>,
    /// What numbers of removed layers cost where the others keep their types.
    pub removals: Vec<MeasuredRemoval>,
    /// Models that were made and measured, the best first.
    pub models: Vec<SizedModel>,
    /// KL divergence of the second best less that of the best, paired by sequence; `None` if there is no second, or the
    /// divergences are not known one by one.
    #[cfg_attr(test, ts(optional = nullable))]
    pub difference: Option<Paired>,
    /// The result in words.
    pub sentence: String,
}

/// Matrices of a part of the model, what they cost in each type, and the type that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct PricedPart {
    /// Part of the model.
    pub part: Part,
    /// Third of the layers, from 0; `None` for a part outside the layers.
    pub third: Option<usize>,
    /// Types that the part can have, from the smallest to the largest.
    pub types: Vec<PricedType>,
    /// Type that was chosen, where the inner `None` keeps the types of the original; `None` if the best model is of a named
    /// type, which goes by other rules.
    #[cfg_attr(test, ts(as = "Option<String>", optional = nullable))]
    pub chosen: Option<Option<String>>,
}

/// A type and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct PricedType {
    /// Name of the type; `None` if the matrices keep theirs.
    pub dtype: Option<String>,
    /// Bytes of the matrices of all layers in this type.
    pub bytes: u64,
    /// KL divergence from the original to be expected, in nats per token, where all else is as it is.
    pub kl: f64,
}

/// What a number of removed layers costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct MeasuredRemoval {
    /// Number of removed layers.
    pub removed: usize,
    /// KL divergence from the original in nats per token, where the other layers keep their types.
    pub kl: f64,
}

/// A model that was made and measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct SizedModel {
    /// Number of removed layers.
    pub removed: usize,
    /// Number of layers that are left.
    pub layers: usize,
    /// File type; without one, each tensor keeps its type.
    #[serde(serialize_with = "dtype::serialize")]
    #[cfg_attr(test, ts(as = "super::typescript::NumberType"))]
    pub dtype: Option<FileType>,
    /// Bytes of the file.
    pub bytes: u64,
    /// KL divergence that was to be expected, in nats per token; `None` for a file type whose costs are not known.
    pub expected_kl: Option<f64>,
    /// Quality that was measured.
    pub quality: Quality,
    /// Mean KL divergence from the original on each sequence of the text that models are judged on, in nats per token;
    /// empty where it is not known one by one.
    #[cfg_attr(test, ts(as = "Option<Vec<f64>>", optional))]
    pub kl_by_sequence: Vec<f64>,
}
