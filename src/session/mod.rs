//! Session: an opened model, and the results of the stages that have run.

mod bounds;
mod calibration_curve;
pub mod compare;
pub mod estimate;
mod experts;
mod heal;
pub mod imatrix;
mod run;
mod similarity;
mod size;
mod stages;

pub use self::run::RunOptions;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use self::estimate::{ComparedPlan, Estimate, FitTiming, LayerTiming, PlanBasis, PlanEstimate, estimate};
use self::imatrix::GivenImatrix;
use crate::analysis::atlas::Atlas;
use crate::analysis::layers::{Baseline, LayerAnalysis};
use crate::device::Accelerator;
use crate::evaluate::held_out::HeldOut;
use crate::files::parts::PartStore;
use crate::files::scratch::Scratch;
use crate::forward::context::Context;
use crate::forward::expert_use::ExpertUse;
use crate::forward::sequences::{Sequences, sequences};
use crate::forward::stream::Stream;
use crate::methods::FIT_BYTES;
use crate::methods::sizing::most_removed;
use crate::model::Model;
use crate::model::importances::Importances;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, Method, Operator, PlanOptions, Selection};
use crate::protocol::events::Observer;
use crate::protocol::options::{CalibrationOptions, CompareOptions, TextOptions, WriteOptions};
use crate::protocol::plan::{JudgingText, PlanReport};
use crate::protocol::similarity::SimilarityReport;
use crate::protocol::text::TextReport;
use crate::quality::Scores;
use crate::{Error, Result};

/// Number of sequences that are used however short the time: fewer say nothing about layers, and fit nothing.
const FEWEST_SEQUENCES: usize = 24;

/// A model, a device, and the results of the stages that have run.
///
/// Methods that run layers can fail, besides for the reasons that they name, with [`Error::Source`] if a file
/// cannot be read, [`Error::Format`] or [`Error::Shape`] if a tensor is missing or does not fit the
/// configuration, [`Error::Numeric`] if a number is not finite, [`Error::Device`] if the device fails, and
/// the error with which the observer stops the run.
pub struct Session {
    model: Model,
    accelerator: Accelerator,
    calibrated: Option<Calibrated>,
    /// Text on which models that were fitted to the calibration text are measured.
    judge_on: TextOptions,
    /// Last text that models were measured on, with the original's states and scores, so that the next models on the same
    /// text need no run of the original.
    held_out: RefCell<Option<(TextOptions, Rc<HeldOut>)>>,
    /// Most bytes of the least-squares problems of a span (see `Resources::fit_bytes`).
    fit_bytes: u64,
    /// Place where finished layers wait until they are written; `None` if that is memory.
    scratch: Option<Scratch>,
    /// Last measured time of a layer, so that estimates with other options need no measurement.
    timing: Cell<Option<LayerTiming>>,
    /// Measured time of the sums and solutions of least squares.
    fit_timing: Cell<Option<FitTiming>>,
    /// Last plan that was measured.
    planned: Option<Planned>,
    /// Importance matrix of the original that was read from a file.
    imatrix: Option<GivenImatrix>,
}

/// Stage that follows the similarity stage, for an estimate of the time of both.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// No other stage.
    Nothing,
    /// [`Session::plan`] with these options, for a model that is stored so.
    Plan(&'a PlanOptions, &'a WriteOptions),
    /// [`Session::best_of_size`] with these options, for a model that is stored so.
    Size(&'a PlanOptions, &'a WriteOptions),
    /// [`Session::compare`] with these options.
    Compare(&'a CompareOptions),
}

/// A plan that was measured.
struct Planned {
    /// Options that the plan was made with; `None` if the plan came from elsewhere.
    options: Option<PlanOptions>,
    report: PlanReport,
    /// Layers of the compressed model, stored as [`PlanReport::output`] says.
    layers: Vec<NewLayer>,
    /// The layers as they were before they were healed, if they were.
    unhealed: Option<Vec<NewLayer>>,
    /// Importances of the columns of their matrices; `None` if no layer is encoded by any.
    importances: Option<Importances>,
    /// Text that the model was judged on; `None` for the calibration text.
    judged_on: Option<JudgingText>,
}

/// Results of the similarity stage.
struct Calibrated {
    options: CalibrationOptions,
    text: TextReport,
    sequences: Sequences,
    stream: Stream,
    analysis: LayerAnalysis,
    scores: Scores,
    /// Use of the experts; `None` if some layers with experts were not run, because an earlier run had kept them.
    experts: Option<ExpertUse>,
    /// Report that the stage returned.
    report: SimilarityReport,
    atlas: Atlas,
}

impl Calibrated {
    fn baseline(&self) -> Baseline<'_> {
        let Self { stream, analysis, scores, experts, .. } = self;
        Baseline { stream, analysis, scores, experts: experts.as_ref() }
    }
}

impl Session {
    /// Makes a session in which no stage has run.
    pub fn new(model: Model, accelerator: Accelerator) -> Self {
        Self {
            model,
            accelerator,
            calibrated: None,
            judge_on: TextOptions::default(),
            held_out: RefCell::default(),
            fit_bytes: FIT_BYTES,
            scratch: None,
            timing: Cell::new(None),
            fit_timing: Cell::new(None),
            planned: None,
            imatrix: None,
        }
    }

    /// Sets the text on which models that were fitted to the calibration text are measured; the built-in
    /// evaluation text by default.
    pub fn judge_on(&mut self, text: TextOptions) {
        self.judge_on = text;
    }

    /// Sets how many bytes the least-squares problems of a span may need besides the hidden states. If
    /// pooling a span needs more, the span is refitted without pooling.
    pub fn limit_fits(&mut self, bytes: u64) {
        self.fit_bytes = bytes;
    }

    /// Lets finished layers wait in `store`, which nothing else uses, until they are measured or written, so that they take no
    /// memory. Whoever gives the store removes what is left in it after the session.
    pub fn spill_to(&mut self, store: Box<dyn PartStore>) {
        self.scratch = Some(Scratch::new(store));
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the device.
    pub fn accelerator(&self) -> &Accelerator {
        &self.accelerator
    }

    /// Estimates the memory and time of the similarity stage with `options`. The first layer is run to
    /// measure its time.
    ///
    /// # Errors
    /// [`Error::Limit`] if the text does not fill one sequence or is larger than 64 MiB; [`Error::Usage`] if
    /// sequences of that length are not possible; those of running a layer (see [`Session`]).
    pub async fn estimate(&self, options: &CalibrationOptions) -> Result<Estimate> {
        Ok(self.estimated(options).await?.2)
    }

    /// Returns the sequences of the similarity stage with `options`, the time of a layer for them, and the
    /// estimate.
    async fn estimated(&self, options: &CalibrationOptions) -> Result<(Sequences, LayerTiming, Estimate)> {
        let (sequences, _) = sequences(&self.model, &options.text_options())?;
        let timing = self.layer_timing(&sequences).await?;
        let needed = estimate(&self.model, &self.accelerator, &sequences, options.points, timing);
        Ok((sequences, timing, needed))
    }

    /// Estimates the time of [`plan`](Session::plan) for a model that is stored as `output` says, after a similarity stage with the options `calibration`,
    /// and the peak memory of both.
    ///
    /// # Errors
    /// Those of [`estimate`](Session::estimate).
    pub async fn estimate_plan(
        &self,
        calibration: &CalibrationOptions,
        plan: &PlanOptions,
        output: &WriteOptions,
    ) -> Result<PlanEstimate> {
        let (sequences, timing, similarity) = self.estimated(calibration).await?;
        Ok(self.basis(&sequences, plan, output).estimate(&similarity, timing, self.fit_timing()?))
    }

    /// Estimates the time of [`best_of_size`](Session::best_of_size) after a similarity stage with the options `calibration`,
    /// and the peak memory of both.
    ///
    /// # Errors
    /// Those of [`estimate`](Session::estimate).
    pub async fn estimate_size(
        &self,
        calibration: &CalibrationOptions,
        plan: &PlanOptions,
        output: &WriteOptions,
    ) -> Result<PlanEstimate> {
        let (sequences, timing, similarity) = self.estimated(calibration).await?;
        let basis = self.basis(&sequences, plan, output);
        let duration = basis.best_of_size(timing, self.fit_timing()?, sequences.count());
        let most = PlanOptions { remove: Some(most_removed(self.model.config.n_layers)), ..plan.clone() };
        let largest = if plan.goal().is_some() { plan } else { &most };
        Ok(PlanEstimate {
            seconds: duration.of(sequences.count()),
            peak_bytes: similarity.peak_bytes.max(PlanBasis { options: largest, ..basis }.bytes(&similarity)),
        })
    }

    /// Estimates the time of [`compare`](Session::compare) after a similarity stage with the options
    /// `calibration`, and the peak memory of both.
    ///
    /// # Errors
    /// [`Error::Usage`] if a method does not exist; those of [`estimate`](Session::estimate).
    pub async fn estimate_compare(
        &self,
        calibration: &CalibrationOptions,
        options: &CompareOptions,
    ) -> Result<PlanEstimate> {
        let (sequences, timing, similarity) = self.estimated(calibration).await?;
        let rows = compared_plans(options, &self.model)?;
        let (any, fit) = (PlanOptions::default(), self.fit_timing()?);
        let basis =
            PlanBasis { judge_on: &options.evaluation, ..self.basis(&sequences, &any, &options.output) };
        let bytes = rows.iter().map(|row| PlanBasis { options: &row.plan, ..basis }.bytes(&similarity));
        Ok(PlanEstimate {
            seconds: basis.compare(&rows, timing, fit, sequences.count()),
            peak_bytes: bytes.fold(similarity.peak_bytes, u64::max),
        })
    }

    /// Estimates the number of sequences with which the similarity stage and the stage `next` together take
    /// at most `seconds`: at least 24 and at most all sequences of the text of `calibration`, of which it may
    /// hold fewer than 24. The number of sequences in `calibration` is ignored.
    ///
    /// # Errors
    /// [`Error::Usage`] if a method does not exist; those of [`estimate`](Session::estimate).
    pub async fn sequences_within(
        &self,
        seconds: f64,
        calibration: &CalibrationOptions,
        next: Next<'_>,
    ) -> Result<usize> {
        let all = TextOptions { samples: usize::MAX, ..calibration.text_options() };
        let (sequences, _) = sequences(&self.model, &all)?;
        let timing = self.layer_timing(&sequences).await?;
        let fit = self.fit_timing()?;
        let any = PlanOptions::default();
        let usual = WriteOptions::default();
        let output = match next {
            Next::Nothing => &usual,
            Next::Plan(_, output) | Next::Size(_, output) => output,
            Next::Compare(options) => &options.output,
        };
        let basis = self.basis(&sequences, &any, output);
        let rows = match next {
            Next::Compare(options) => compared_plans(options, &self.model)?,
            Next::Nothing | Next::Plan(..) | Next::Size(..) => Vec::new(),
        };
        let takes = |n: usize| {
            timing.similarity(&self.model).of(n)
                + match next {
                    Next::Nothing => 0.0,
                    Next::Plan(options, _) => PlanBasis { options, ..basis }.duration(timing, fit, n).of(n),
                    Next::Size(options, _) => {
                        PlanBasis { options, ..basis }.best_of_size(timing, fit, n).of(n)
                    }
                    Next::Compare(CompareOptions { evaluation, .. }) => {
                        PlanBasis { judge_on: evaluation, ..basis }.compare(&rows, timing, fit, n)
                    }
                }
        };
        // Bisection for the largest number of sequences that takes at most `seconds`.
        let (mut fits, mut too_many) = (0, sequences.count() + 1);
        while fits + 1 < too_many {
            let middle = fits + (too_many - fits) / 2;
            if takes(middle) <= seconds { fits = middle } else { too_many = middle }
        }
        Ok(fits.max(FEWEST_SEQUENCES).min(sequences.count()))
    }

    fn basis<'a>(
        &'a self,
        sequences: &'a Sequences,
        options: &'a PlanOptions,
        output: &'a WriteOptions,
    ) -> PlanBasis<'a> {
        PlanBasis {
            model: &self.model,
            accelerator: &self.accelerator,
            sequences,
            options,
            judge_on: &self.judge_on,
            fit_bytes: self.fit_bytes,
            spills: self.scratch.is_some(),
            // An importance matrix that was given need not be collected.
            collecting: self.imatrix.is_none().then_some(output),
            output,
        }
    }

    async fn layer_timing(&self, sequences: &Sequences) -> Result<LayerTiming> {
        let timing = match self.timing.get() {
            Some(timing) if timing.tokens == sequences.tokens() => timing,
            _ => LayerTiming::measure(&self.model, &self.accelerator, sequences).await?,
        };
        self.timing.set(Some(timing));
        Ok(timing)
    }

    fn fit_timing(&self) -> Result<FitTiming> {
        let timing = match self.fit_timing.get() {
            Some(timing) => timing,
            None => FitTiming::measure()?,
        };
        self.fit_timing.set(Some(timing));
        Ok(timing)
    }

    fn context<'a>(
        &'a self,
        calibrated: &'a Calibrated,
        output: &WriteOptions,
        observer: &'a dyn Observer,
    ) -> Context<'a> {
        Context {
            storage: output.storage(&self.model),
            ..Context::new(&self.model, &self.accelerator, &calibrated.sequences, observer)
        }
    }

    /// Returns what was measured last, if it is the model of `plan` and is stored as `output` says.
    fn planned_as(&self, plan: &MergePlan, output: &WriteOptions) -> Option<&Planned> {
        let storage = output.storage(&self.model);
        let is_it = |planned: &&Planned| {
            let own = &planned.report.output;
            planned.report.plan == *plan
                && own.storage(&self.model) == storage
                && own.importances == output.importances
        };
        self.planned.as_ref().filter(is_it)
    }

    fn calibrated(&self) -> Result<&Calibrated> {
        self.calibrated.as_ref().ok_or_else(before_similarity)
    }
}

/// Lists the plans of a comparison on `model`. The result of a selection rule serves all methods and numbers of layers of a file type,
/// so it costs time only once. The original in a file type counts as a plan that removes no layer.
fn compared_plans(options: &CompareOptions, model: &Model) -> Result<Vec<ComparedPlan>> {
    let most = options.remove.iter().copied().max().unwrap_or(0);
    let mut plans = Vec::new();
    let outputs = options.outputs(model);
    for output in &outputs {
        let mut chosen = Vec::new();
        for name in &options.methods {
            let method = Method::named(name)?;
            for &remove in &options.remove {
                let selects = remove == most && !chosen.contains(&method.selection);
                if selects {
                    chosen.push(method.selection);
                }
                let plan = method.options(remove, options.seed);
                plans.push(ComparedPlan { plan, selects, output: output.clone() });
            }
        }
    }
    let unchanged = Method::pair(Selection::Tail, Operator::Drop).options(0, options.seed);
    let originals =
        outputs.into_iter().filter(|output| output.dtype.is_some() && output.storage(model).changes(model));
    plans.extend(originals.map(|output| ComparedPlan { plan: unchanged.clone(), selects: false, output }));
    Ok(plans)
}

fn before_similarity() -> Error {
    Error::Usage("run the similarity stage first".to_owned())
}
