//! An opened model and what has been found out about it so far.

mod calibrating;
mod merging;

use std::cell::Cell;

use crate::calibration::Sequences;
use crate::device::Accelerator;
use crate::evaluate::Scores;
use crate::model::Model;
use crate::model::new_layer::NewLayer;
use crate::pipeline::atlas::Atlas;
use crate::pipeline::estimate::{Estimate, LayerTiming, estimate};
use crate::pipeline::options::{CalibrationOptions, TextOptions, WriteOptions};
use crate::pipeline::planning::Original;
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::pipeline::text::sequences;
use crate::plan::PlanOptions;
use crate::progress::Observer;
use crate::report::{PlanReport, SimilarityReport, TextReport};
use crate::{Error, Result};

/// A model, a device, and the results of the stages that have run.
pub struct Session {
    model: Model,
    accelerator: Accelerator,
    calibrated: Option<Calibrated>,
    /// What models that were fitted to the calibration text are measured on.
    judge_on: TextOptions,
    /// What a layer was found to take, so that changing other options costs nothing.
    timing: Cell<Option<LayerTiming>>,
    /// The last plan that was measured.
    planned: Option<Planned>,
}

/// A plan that was measured.
struct Planned {
    /// What led to it; `None` if it came from elsewhere.
    options: Option<PlanOptions>,
    report: PlanReport,
    /// As [`PlanReport::output`] stores them.
    layers: Vec<NewLayer>,
}

/// What the similarity stage leaves behind.
struct Calibrated {
    options: CalibrationOptions,
    text: TextReport,
    sequences: Sequences,
    stream: Stream,
    comparison: Comparison,
    scores: Scores,
    /// What was reported of it.
    report: SimilarityReport,
    atlas: Atlas,
}

impl Calibrated {
    fn original(&self) -> Original<'_> {
        Original { stream: &self.stream, comparison: &self.comparison, scores: &self.scores }
    }
}

impl Session {
    /// Nothing has run yet.
    pub fn new(model: Model, accelerator: Accelerator) -> Self {
        let (timing, judge_on) = (Cell::new(None), TextOptions::default());
        Self { model, accelerator, calibrated: None, judge_on, timing, planned: None }
    }

    /// Sets the text that models are measured on which were fitted to the calibration text: the built-in
    /// evaluation text until then.
    pub fn judge_on(&mut self, text: TextOptions) {
        self.judge_on = text;
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device.
    pub fn accelerator(&self) -> &Accelerator {
        &self.accelerator
    }

    /// What the similarity stage would need with these options.
    ///
    /// # Errors
    /// [`Error::Limit`] if the text is too short, [`Error::Usage`] for impossible options.
    pub async fn estimate(&self, options: &CalibrationOptions) -> Result<Estimate> {
        let (sequences, _) = sequences(&self.model, &options.text_options())?;
        let timing = match self.timing.get() {
            Some(timing) if timing.tokens == sequences.tokens() => timing,
            _ => LayerTiming::measure(&self.model, &self.accelerator, &sequences).await?,
        };
        self.timing.set(Some(timing));
        Ok(estimate(&self.model, &self.accelerator, &sequences, options.points, timing))
    }

    fn context<'a>(
        &'a self,
        calibrated: &'a Calibrated,
        output: &WriteOptions,
        observer: &'a dyn Observer,
    ) -> Context<'a> {
        Context {
            model: &self.model,
            accelerator: &self.accelerator,
            sequences: &calibrated.sequences,
            storage: output.storage(&self.model),
            observer,
        }
    }

    fn calibrated(&self) -> Result<&Calibrated> {
        self.calibrated.as_ref().ok_or_else(before_similarity)
    }
}

fn before_similarity() -> Error {
    Error::Usage("run the similarity stage first".to_owned())
}
