//! Reports of plans, written models and whole compressions, and the recipe that repeats a compression.
//!
//! JSON keys are stable: keys are added, never renamed.

use serde::{Deserialize, Serialize};

use super::options::{CalibrationOptions, TextOptions, WriteOptions, dtype};
use crate::demo;
use crate::device::DeviceReport;
use crate::format::Container;
use crate::model::weights::file_type::FileType;
use crate::plan::{MergePlan, MergeStep, PlanOptions};
use crate::protocol::heal::{HealOptions, HealReport};
use crate::protocol::sizing::SizeSearch;
use crate::protocol::text::TextReport;
use crate::quality::Quality;
use crate::{Error, Result};

/// A number before and after compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BeforeAfter {
    /// Number for the original.
    pub before: u64,
    /// Number for the compressed model.
    pub after: u64,
}

/// A plan and its effect on the model, measured before anything is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
    /// Experts that are removed from the layers that stay; empty if all experts stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<RemovedExperts>>", optional))]
    pub experts: Vec<RemovedExperts>,
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
    /// Importance matrix from a file that tensors were encoded by; `None` if there was none, or it was collected on the
    /// calibration text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub imatrix: Option<ImatrixFile>,
    /// Sizes of the compressed model in every kind of file and file type that can hold it.
    #[cfg_attr(test, ts(as = "Option<Vec<StoredSize>>", optional))]
    pub sizes: Vec<StoredSize>,
    /// How the model was healed; `None` if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub healed: Option<HealReport>,
    /// Device that ran the stages.
    pub device: DeviceReport,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}

/// Size of a model in one kind of file and file type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct StoredSize {
    /// Kind of file.
    pub container: Container,
    /// File type; without one, each tensor keeps its type.
    #[serde(serialize_with = "dtype::serialize")]
    #[cfg_attr(test, ts(as = "super::typescript::NumberType"))]
    pub dtype: Option<FileType>,
    /// Stored size of all tensors in bytes.
    pub bytes: u64,
    /// Element types of the matrices, the one with most parameters first.
    pub elements: Vec<String>,
}

/// Experts that are removed from a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RemovedExperts {
    /// Layer of the original.
    pub layer: usize,
    /// Numbers of the experts that go, ascending.
    pub removed: Vec<usize>,
    /// Share of the layer's gates, summed over the calibration text, that these experts had, 0 to 1; `None` if it was not
    /// seen.
    pub share: Option<f64>,
}

/// Report of a written model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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

/// Everything that is needed to repeat a compression but the model and the texts, which the recipe knows again
/// by their hashes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
    /// Hash of the calibration text ([`TextOptions::hash`]); `None` if the model was not calibrated, and in
    /// recipes without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub text_hash: Option<String>,
    /// Text that the fitted model was judged on; `None` if that was the calibration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub judged_on: Option<JudgingText>,
    /// Most bytes of the least-squares problems of a span; `None` if nothing was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub fit_bytes: Option<u64>,
    /// Importance matrix that tensors were encoded by; `None` if there was none, or it was collected on the calibration
    /// text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub imatrix: Option<ImatrixFile>,
    /// How the model was healed; `None` if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub heal: Option<HealOptions>,
}

/// An importance matrix, as a recipe knows it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ImatrixFile {
    /// Name of the file.
    pub name: String,
    /// Hash of its bytes.
    pub hash: String,
}

/// An importance matrix that was read from a file and is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct UsedImatrix {
    /// The file.
    #[serde(flatten)]
    pub file: ImatrixFile,
    /// Names of the texts that it was collected on.
    pub datasets: Vec<String>,
    /// Number of tokens that it was collected on: the most that any matrix has seen.
    pub tokens: u64,
}

/// Text that a fitted model was judged on, as a recipe knows it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct JudgingText {
    /// Name of the text and its sequences; the text itself is left out.
    pub options: TextOptions,
    /// Hash of the text ([`TextOptions::hash`]).
    pub hash: String,
}

impl JudgingText {
    /// Describes the text of `options`.
    pub fn of(options: &TextOptions) -> Self {
        Self { options: TextOptions { text: None, ..options.clone() }, hash: options.hash() }
    }
}

impl Recipe {
    /// Checks that `given` is the importance matrix that tensors were encoded by.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the files, if it is another one, or if one of both is missing.
    pub fn check_imatrix(&self, given: Option<&ImatrixFile>) -> Result<()> {
        match (&self.imatrix, given) {
            (None, None) => Ok(()),
            (Some(used), Some(given)) if used.hash == given.hash => Ok(()),
            (Some(used), Some(given)) => Err(Error::Usage(format!(
                "{} is not the importance matrix {} that the recipe was made with; give that file",
                given.name, used.name
            ))),
            (Some(used), None) => Err(Error::Usage(format!(
                "the recipe was made with the importance matrix {}, which a recipe does not hold; give it with --imatrix",
                used.name
            ))),
            (None, Some(given)) => Err(Error::Usage(format!(
                "the recipe was made without the importance matrix {}; leave it out",
                given.name
            ))),
        }
    }

    /// Checks that `text` is the text that the recipe was calibrated on: by its hash, or by its name if the
    /// recipe has no hash.
    ///
    /// # Errors
    /// [`Error::Usage`], naming both texts, if `text` is another one.
    pub fn check_text(&self, text: &TextOptions) -> Result<()> {
        let given = text.text_and_name().1;
        let wanted = match (&self.calibration.text_name, &self.text_hash) {
            (Some(name), _) => name,
            (None, Some(_)) => self.text.name.as_str(),
            (None, None) => demo::TEXT_NAME,
        };
        match &self.text_hash {
            Some(hash) if *hash == text.hash() => Ok(()),
            // A recipe of a model that was not calibrated names no text.
            None if given == wanted || self.text.sequences == 0 => Ok(()),
            Some(_) if given == wanted => Err(Error::Usage(format!(
                "{given} is not the text that the recipe was calibrated on, although it has its name; give the \
                 text as it was then"
            ))),
            _ => Err(Error::Usage(format!(
                "the recipe was calibrated on {wanted}, not on {given}; give that text, which a recipe does not hold"
            ))),
        }
    }
}

/// An importance matrix that was collected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImatrixReport {
    /// Name of the model.
    pub model: String,
    /// Text that it was collected on.
    pub text: TextReport,
    /// File that was written.
    pub file: WrittenFile,
    /// Device that ran the layers.
    pub device: DeviceReport,
    /// Time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes; 0 if unknown.
    pub peak_memory_bytes: u64,
}

/// Quality of a plan's model that is fitted to part of the calibration text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
    /// Experts that were removed from the layers that stay; empty if all experts stayed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<RemovedExperts>,
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
    /// How the best model of a size was found, if a size was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SizeSearch>,
    /// How the model was healed, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healed: Option<HealReport>,
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
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct WrittenFile {
    /// Name of the file in its folder.
    pub name: String,
    /// Size of the file in bytes.
    pub bytes: u64,
}
