//! What the engine tells the world: the JSON of the command line and of the page.
//!
//! Keys are stable: added, never renamed. `www/engine/protocol/` mirrors these types.

use serde::{Deserialize, Serialize};

use super::options::{CalibrationOptions, WriteOptions};
use crate::device::DeviceReport;
use crate::plan::{MergePlan, MergeStep, PlanOptions};
use crate::protocol::text::TextReport;
use crate::quality::Quality;

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

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}
