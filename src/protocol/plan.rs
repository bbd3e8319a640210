//! Reports of plans, written models and whole compressions, and the recipe that repeats a compression.
//!
//! JSON keys are stable: keys are added, never renamed. `www/engine/protocol/` mirrors these types.

use serde::{Deserialize, Serialize};

use super::options::{CalibrationOptions, WriteOptions};
use crate::device::DeviceReport;
use crate::plan::{MergePlan, MergeStep, PlanOptions};
use crate::protocol::text::TextReport;
use crate::quality::Quality;

/// A number before and after compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BeforeAfter {
    /// Number for the original.
    pub before: u64,
    /// Number for the compressed model.
    pub after: u64,
}

/// A plan and its effect on the model, measured before anything is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanReport {
    /// The plan, with the quality after each step.
    pub plan: MergePlan,
    /// Text that quality was measured on.
    pub text: TextReport,
    /// Quality of the original.
    pub original: Quality,
    /// Quality of the compressed model, after all steps.
    pub merged: Quality,
    /// Quality of the model that keeps the first layer of each group and drops the other layers.
    pub dropped: Quality,
    /// Warnings to the reader, in sentences.
    pub warnings: Vec<String>,
    /// Number of decoder layers.
    pub layers: BeforeAfter,
    /// Number of parameters of all tensors.
    pub parameters: BeforeAfter,
    /// Stored size of all tensors in bytes: of the original as it is, of the compressed model as in `output`.
    pub bytes: BeforeAfter,
    /// How the compressed model was assumed to be stored.
    pub output: WriteOptions,
    /// Device that ran the stages.
    pub device: DeviceReport,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}

/// Report of a written model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WriteReport {
    /// Recipe that is stored with the model, as `recipe.json` or in the metadata of a GGUF file.
    pub recipe: Recipe,
    /// Files that were written.
    pub files: Vec<WrittenFile>,
    /// Size of the files that hold tensors in bytes.
    pub bytes: BeforeAfter,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

/// Everything that is needed to repeat a compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of this program.
    pub laminate: String,
    /// Name of the original.
    pub model: String,
    /// Options of the calibration.
    pub calibration: CalibrationOptions,
    /// Calibration text.
    pub text: TextReport,
    /// Options that the plan was made with; `None` for a plan that was made by hand or comes from a recipe.
    pub options: Option<PlanOptions>,
    /// Plan that was carried out.
    pub plan: MergePlan,
    /// How the compressed model was stored.
    pub output: WriteOptions,
}

/// Quality of a plan's model that is fitted to part of the calibration text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CalibrationPoint {
    /// Number of sequences that the model was fitted to, including those that chose the strength of fits.
    pub sequences: usize,
    /// Number of tokens of these sequences, BOS included.
    pub tokens: u64,
    /// Quality on the text that fitted models are judged on.
    pub quality: Quality,
    /// Wall-clock time of fitting and measuring in seconds.
    pub seconds: f64,
}

/// A finished compression, as the command line prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompressReport {
    /// Everything that is needed to repeat the compression.
    pub recipe: Recipe,
    /// Merges in their order, each with the quality after it; empty for a repeated plan.
    pub steps: Vec<MergeStep>,
    /// For each layer of the compressed model, the indices of the original layers that became this layer.
    pub groups: Vec<Vec<usize>>,
    /// Text that quality was measured on.
    pub text: TextReport,
    /// Quality of the original.
    pub original: Quality,
    /// Quality of the compressed model.
    pub merged: Quality,
    /// Quality of the model from which the absorbed layers are dropped instead.
    pub dropped: Quality,
    /// Whether the compressed model has collapsed; see [`Quality::collapsed`].
    pub collapsed: bool,
    /// Number of parameters of all tensors.
    pub parameters: BeforeAfter,
    /// Size of the files that hold tensors in bytes.
    pub bytes: BeforeAfter,
    /// Files that were written.
    pub files: Vec<WrittenFile>,
    /// Qualities of the same plan fitted to parts of the calibration text, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calibration_curve: Vec<CalibrationPoint>,
    /// Warnings to the reader, in sentences.
    pub warnings: Vec<String>,
    /// Device that ran the stages.
    pub device: DeviceReport,
    /// Wall-clock time of all stages in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenFile {
    /// Name of the file in its folder.
    pub name: String,
    /// Size of the file in bytes.
    pub bytes: u64,
}
