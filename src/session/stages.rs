//! Later stages of a session: plans, measurements, comparisons and written models.

use std::rc::Rc;

use web_time::Instant;

use super::bounds::{bound, check_plan};
use super::calibration_curve::calibration_curve;
use super::compare::{Comparing, compare, methods};
use super::{Calibrated, Planned, RunOptions, Session, before_similarity};
use crate::error::OrInternal;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::{Reference, kept_layers};
use crate::files::parts::PartStore;
use crate::files::sink::OutputFolder;
use crate::forward::context::Context;
use crate::forward::sequences::sequences;
use crate::methods::importances::weighted_by;
use crate::methods::kept::rounds::KeptPlan;
use crate::methods::operators::build;
use crate::methods::operators::weighted::mixed_layers;
use crate::methods::operators::{kept_groups, supports};
use crate::methods::outcome::{Beside, Outcome, make_plan, measure_plan};
use crate::methods::quantise::finished;
use crate::methods::{Resources, Weighing, experts};
use crate::model::config::LayerKind;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Rounding;
use crate::plan::{MergePlan, Operator, PlanOptions};
use crate::protocol::compare::CompareReport;
use crate::protocol::events::Observer;
use crate::protocol::heal::HealReport;
use crate::protocol::model::ModelReport;
use crate::protocol::options::{CalibrationOptions, CompareOptions, TextOptions, WriteOptions};
use crate::protocol::plan::{
    BeforeAfter, CalibrationPoint, JudgingText, PlanReport, Recipe, WriteReport, WrittenFile,
};
use crate::protocol::text::TextReport;
use crate::protocol::verdict::verdicts;
use crate::quality::Quality;
use crate::write::check::{check_groups, check_output};
use crate::write::{card, planned_bytes, stored_sizes, write_model};
use crate::{Error, Result, memory};

impl Session {
    /// Checks, before any layer runs, that the model can be written as `output` says. Returns what the files
    /// will not hold, in sentences.
    ///
    /// # Errors
    /// [`Error::Usage`] if the files cannot hold the element type; [`Error::Unsupported`] if they cannot
    /// express the settings or the tokenizer of the model; [`Error::Shape`] if a tensor is no whole number of
    /// quantisation blocks; [`Error::Format`] and [`Error::Source`] for a small file that is damaged or cannot
    /// be read.
    pub async fn check_output(&self, output: &WriteOptions) -> Result<Vec<String>> {
        check_output(&self.model, output).await
    }

    /// Checks, before any layer runs, that files stored as `output` says can hold the model without as many layers as
    /// `options` say.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the settings cannot say what would be left, whichever layers go.
    pub fn check_removal(&self, options: &PlanOptions, output: &WriteOptions) -> Result<()> {
        bound(&self.model, output, &mut options.clone()).map(drop)
    }

    /// Checks, before any layer runs, that `plan` is valid and of the model, that its operator is defined for the model,
    /// and that files stored as `output` says can hold what it leaves.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the step, group, layer or expert, if the plan is not valid or of another model, or naming
    /// the operator; [`Error::Unsupported`] if the files cannot hold the result.
    pub fn check_plan(&self, plan: &MergePlan, output: &WriteOptions) -> Result<()> {
        plan.validate_for(self.model.config.n_layers)?;
        experts::check_plan(&self.model.config, plan)?;
        supports(plan.operator, &self.model.config)?;
        check_plan(&self.model, output, plan)?;
        check_groups(&self.model, output, &kept_groups(plan, &self.model.config))
    }

    /// Returns whether models of `operator` that are stored as `output` says are fitted to the calibration text, and therefore
    /// judged on that of [`judge_on`](Session::judge_on): because the operator fits, or because blocks are rounded by what
    /// their inputs are.
    pub fn is_fitted(&self, operator: Operator, output: &WriteOptions) -> bool {
        operator.needs_activations() || output.storage(&self.model).rounds_blocks()
    }

    /// Checks, before any layer runs, that models of `operator` that are stored as `output` says can be judged after a
    /// similarity stage with `options`.
    ///
    /// # Errors
    /// [`Error::Usage`] for sequences that are not possible, or if the model is fitted and calibration would see
    /// more than 1 % of the text of [`judge_on`](Session::judge_on); [`Error::Limit`] if a text does not fill a
    /// sequence or is larger than 64 MiB.
    pub fn check_texts(
        &self,
        options: &CalibrationOptions,
        operator: Operator,
        output: &WriteOptions,
    ) -> Result<()> {
        let (calibration, _) = sequences(&self.model, &options.text_options())?;
        match self.is_fitted(operator, output) {
            true => HeldOut::check(&self.model, &self.judge_on, &calibration, true),
            false => Ok(()),
        }
    }

    /// Checks, before any layer runs, the options of [`compare`](Session::compare).
    ///
    /// # Errors
    /// [`Error::Usage`] if no method or no number of layers is given, if a method does not exist, if a number
    /// of layers does not fit the model, if its files cannot hold the element type, or for sequences that are
    /// not possible; [`Error::Limit`] if the evaluation text does not fill a sequence or is larger than 64
    /// MiB.
    pub fn check_compare(&self, options: &CompareOptions) -> Result<()> {
        for output in options.outputs(&self.model) {
            output.check(&self.model)?;
        }
        methods(options, self.model.config.n_layers)?;
        sequences(&self.model, &options.evaluation).map(drop)
    }

    /// Makes a plan and measures its model, after [`similarity`](Session::similarity). Nothing is written.
    /// Models that are [fitted](Session::is_fitted) are measured on the text of [`judge_on`](Session::judge_on),
    /// others on the calibration text.
    ///
    /// # Errors
    /// Those of [`check_output`](Session::check_output); [`Error::Usage`] before the similarity stage, for
    /// options that do not fit the model, if nothing may be merged, or if the operator fits and calibration has seen more than 1 % of the text of
    /// [`judge_on`](Session::judge_on); [`Error::Limit`] if that text does not fill a sequence; those of
    /// running layers (see [`Session`]).
    pub async fn plan(
        &mut self,
        options: &PlanOptions,
        output: &WriteOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<PlanReport> {
        let RunOptions { observer, store, .. } = run.into();
        let start = Instant::now();
        self.planned = None;
        experts::check(&self.model.config, options.remove_experts)?;
        let calibrated = self.calibrated()?;
        let mut notes = check_output(&self.model, output).await?;
        supports(options.operator, &self.model.config)?;
        let mut options = options.clone();
        notes.extend(bound(&self.model, output, &mut options)?);
        let context = self.context(calibrated, output, observer);
        let kept = keeping(store, &context).await?;
        let resources = Resources { kept: kept.as_ref(), ..self.resources(output) };
        let judge = self.judge(calibrated, options.operator, output, observer).await?;
        let mut outcome = make_plan(
            &context,
            &resources,
            &options,
            output,
            calibrated.baseline(),
            (judge.as_deref(), Beside::Dropped),
        )
        .await?;
        outcome.warnings.extend(notes);
        let planned = self.report(calibrated, judge.as_deref(), Some(options), outcome, output, start)?;
        Ok(self.keep(planned))
    }

    /// Measures the model of a plan that was made by hand or comes from a recipe, on the same text as
    /// [`plan`](Session::plan).
    ///
    /// # Errors
    /// Those of [`check_output`](Session::check_output), also for the layers that become one by the plan;
    /// [`Error::Usage`] before the similarity stage, for a plan that is not valid or of another model, or if
    /// the operator fits and calibration has seen more than 1 % of the text of
    /// [`judge_on`](Session::judge_on); [`Error::Limit`] if that text does not fill a sequence; those of
    /// running layers (see [`Session`]).
    pub async fn measure(
        &mut self,
        plan: &MergePlan,
        output: &WriteOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<PlanReport> {
        let RunOptions { observer, store, each_step } = run.into();
        let start = Instant::now();
        let calibrated = self.calibrated()?;
        let notes = check_output(&self.model, output).await?;
        self.check_plan(plan, output)?;
        let context = self.context(calibrated, output, observer);
        let kept = keeping(store, &context).await?;
        let resources = Resources { kept: kept.as_ref(), ..self.resources(output) };
        let judge = self.judge(calibrated, plan.operator, output, observer).await?;
        let mut outcome = measure_plan(
            &context,
            &resources,
            plan.clone(),
            output,
            calibrated.baseline(),
            judge.as_deref(),
            each_step,
        )
        .await?;
        outcome.warnings.extend(notes);
        let planned = self.report(calibrated, judge.as_deref(), None, outcome, output, start)?;
        Ok(self.keep(planned))
    }

    /// Keeps the plan that was measured last, so that its layers need not be built again to be written.
    pub(super) fn keep(&mut self, planned: Planned) -> PlanReport {
        let report = planned.report.clone();
        self.planned = Some(planned);
        report
    }

    /// Compares methods by models that are made on the calibration text and measured on another text, after
    /// [`similarity`](Session::similarity). If the observer stops the run, the finished rows are returned. The store of the
    /// run, if it has one, holds the rounds and the fitted layers of the last model only, so that it serves one method whose
    /// numbers of layers are asked for in several runs.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage; those of [`check_compare`](Session::check_compare) and of
    /// running layers (see [`Session`]). A method that fails is not an error.
    pub async fn compare(
        &self,
        options: &CompareOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<CompareReport> {
        let RunOptions { observer, store, .. } = run.into();
        let start = Instant::now();
        let calibrated = self.calibrated()?;
        self.check_compare(options)?;
        let held_out = self.held_out(calibrated, &options.evaluation, observer).await?;
        let seen = held_out.seen;
        let context = self.context(calibrated, &options.output, observer);
        let kept = keeping(store, &context).await?;
        let resources = Resources { kept: kept.as_ref(), ..self.resources(&options.output) };
        let Comparing { original, originals, rows, cancelled } =
            compare(&context, &resources, options, calibrated.baseline(), &held_out).await?;
        let mut warnings = self.model.notes.clone();
        if seen > 0.0 {
            warnings.push(format!(
                "{:.1} % of the evaluation text was seen in calibration; a method that fits is not judged on more than 1 %.",
                100.0 * seen
            ));
        }
        Ok(CompareReport {
            model: ModelReport::new(&self.model),
            calibration: calibrated.text.clone(),
            evaluation: held_out.text.clone(),
            overlap: seen,
            original,
            parameters: self.model.total_parameters(),
            bytes: self.model.total_bytes(),
            seed: options.seed,
            output: options.output.clone(),
            imatrix: self.encoded_by(&options.output),
            verdicts: match options.dtypes.len() < 2 && options.sizes.is_empty() {
                true => Vec::new(),
                false => {
                    let original = (self.model.total_bytes(), self.model.config.n_layers);
                    verdicts(&rows, &originals, original, &options.sizes)
                }
            },
            originals,
            rows,
            cancelled,
            warnings,
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        })
    }

    /// Fits `plan` to each of `sizes` numbers of calibration sequences, and measures each model on the text
    /// of [`judge_on`](Session::judge_on). Only for operators that fit to activations. If the observer stops
    /// the run, the points so far are returned.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage, for a plan that fits nothing, is not valid or of another
    /// model, or if calibration has seen more than 1 % of the text of [`judge_on`](Session::judge_on);
    /// [`Error::Limit`] if that text does not fill a sequence; those of running layers (see [`Session`]).
    pub async fn calibration_curve(
        &self,
        plan: &MergePlan,
        sizes: &[usize],
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<CalibrationPoint>> {
        let calibrated = self.calibrated()?;
        output.check(&self.model)?;
        let judge = self.judge(calibrated, plan.operator, output, observer).await?;
        let Some(judge) = judge.filter(|_| plan.operator.needs_activations()) else {
            return Err(Error::Usage(format!(
                "operator {} is not fitted to text, so that more of it changes nothing",
                plan.operator
            )));
        };
        calibration_curve(
            &self.context(calibrated, output, observer),
            &self.resources(output),
            plan,
            sizes,
            output,
            &judge,
        )
        .await
    }

    /// Returns resources without a store of finished work, for a model that is stored as `output` says.
    pub(super) fn resources(&self, output: &WriteOptions) -> Resources<'_> {
        let weighing = match &self.imatrix {
            _ if !output.importances => Weighing::Off,
            Some(given) => Weighing::Given(&given.importances),
            None => Weighing::Collected,
        };
        Resources { fit_bytes: self.fit_bytes, kept: None, scratch: self.scratch.as_ref(), weighing }
    }

    /// Runs the original on `text`, unless that text was the last that the original was run on.
    pub(super) async fn held_out(
        &self,
        calibrated: &Calibrated,
        text: &TextOptions,
        observer: &dyn Observer,
    ) -> Result<Rc<HeldOut>> {
        // The states of another text go before those of this one come.
        let last = self.held_out.take().filter(|(last, _)| last == text);
        let held_out = match last {
            Some((_, held_out)) => held_out,
            None => {
                let sequences = &calibrated.sequences;
                Rc::new(HeldOut::run(&self.model, &self.accelerator, text, sequences, observer).await?)
            }
        };
        self.held_out.replace(Some((text.clone(), held_out.clone())));
        Ok(held_out)
    }

    /// Runs the original on the text on which models of `operator` that are stored as `output` says are judged; `None` if that
    /// is the calibration text.
    pub(super) async fn judge(
        &self,
        calibrated: &Calibrated,
        operator: Operator,
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Option<Rc<HeldOut>>> {
        if !self.is_fitted(operator, output) {
            return Ok(None);
        }
        let held_out = self.held_out(calibrated, &self.judge_on, observer).await?;
        held_out.check_judges(true)?;
        Ok(Some(held_out))
    }

    pub(super) fn report(
        &self,
        calibrated: &Calibrated,
        judge: Option<&HeldOut>,
        options: Option<PlanOptions>,
        outcome: Outcome,
        output: &WriteOptions,
        start: Instant,
    ) -> Result<Planned> {
        let Outcome { plan, layers, importances, merged, dropped, experts, warnings, .. } = outcome;
        let warnings = self.model.notes.iter().cloned().chain(warnings).collect();
        let absorbed = plan.n_layers - plan.groups.len();
        let config = &self.model.config;
        let stay: Vec<usize> = (0..plan.groups.len()).filter_map(|place| plan.survivor(place)).collect();
        let absorbed_layers = config.layers.iter().enumerate().filter(|(layer, _)| !stay.contains(layer));
        let of_layer = |kind: &LayerKind| config.parameters_of(*kind) + config.input_parameters();
        let of_layers: u64 = absorbed_layers.map(|(_, kind)| of_layer(kind)).sum();
        let gone: usize = experts.iter().map(|of_layer| of_layer.removed.len()).sum();
        let parameters = of_layers + config.parameters_per_expert() * gone as u64;
        let bytes = planned_bytes(&self.model, &layers, output)?;
        // Fitted tensors are encoded for `output`, and would be fitted anew for another.
        let sizes = stored_sizes(&self.model, &kept_layers(&plan, config)?)?;
        let before_after =
            |before: u64, less: u64| BeforeAfter { before, after: before.saturating_sub(less) };
        let (text, scores) = match judge {
            Some(held_out) => (&held_out.text, &held_out.scores),
            None => (&calibrated.text, &calibrated.scores),
        };
        let report = PlanReport {
            text: text.clone(),
            original: Quality::original(scores),
            merged,
            dropped: dropped.or_internal("the model without the absorbed layers was not measured")?,
            experts,
            warnings,
            layers: before_after(plan.n_layers as u64, absorbed as u64),
            parameters: before_after(self.model.total_parameters(), parameters),
            bytes: BeforeAfter { before: self.model.total_bytes(), after: bytes },
            plan,
            output: output.clone(),
            imatrix: self.encoded_by(output),
            sizes,
            healed: None,
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        };
        let judged_on = judge.map(|_| JudgingText::of(&self.judge_on));
        Ok(Planned { options, report, layers, unhealed: None, importances, judged_on })
    }

    /// Returns the layers of `plan`: the layers that were measured last, if they are of this plan and are
    /// stored alike, otherwise new ones.
    pub(super) async fn layers(
        &self,
        plan: &MergePlan,
        options: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<NewLayer>> {
        self.check_plan(plan, options)?;
        if let Some(planned) = self.planned_as(plan, options) {
            return Ok(planned.layers.clone());
        }
        if let Some(planned) = &self.planned
            && planned.report.healed.is_some()
            && planned.report.plan == *plan
        {
            return Err(Error::Usage(
                "the model was healed for another way of storing it; heal it anew for this one".to_owned(),
            ));
        }
        if !plan.operator.needs_activations() {
            let layers = mixed_layers(plan, &self.model.config)?;
            let layers = match &self.imatrix {
                Some(given) if options.importances => {
                    weighted_by(&self.model, options.storage(&self.model), layers, &given.importances)?
                }
                _ => layers,
            };
            return match (&self.calibrated, options.rounding) {
                (Some(calibrated), _) => {
                    let context = self.context(calibrated, options, observer);
                    self.chosen(&context, &self.resources(options), plan.operator, options, layers).await
                }
                (None, Some(rounding)) if rounding != Rounding::Nearest => Err(before_similarity()),
                // A plan from elsewhere can be carried out without a calibration text, and then without importances and
                // with weights that are rounded to the nearest.
                (None, _) => Ok(layers),
            };
        }
        let calibrated = self.calibrated()?;
        let context = self.context(calibrated, options, observer);
        let resources = self.resources(options);
        let built = build(&context, &resources, plan, &calibrated.stream).await?;
        self.chosen(&context, &resources, plan.operator, options, built.layers).await
    }

    /// Makes `layers`, which `operator` made on the calibration text of `context`, as they will be stored as `output` says.
    async fn chosen(
        &self,
        context: &Context<'_>,
        resources: &Resources<'_>,
        operator: Operator,
        output: &WriteOptions,
        layers: Vec<NewLayer>,
    ) -> Result<Vec<NewLayer>> {
        let finished = finished(context, resources, layers).await?;
        if finished.rounded.is_none() {
            return Ok(finished.by_inputs().layers);
        }
        let Some(judge) = self.judge(self.calibrated()?, operator, output, context.observer).await? else {
            return Ok(finished.by_inputs().layers);
        };
        let judging = Context { sequences: &judge.sequences, ..*context };
        let reference = Reference::new(&judging, output, &judge.stream, &judge.scores).await?;
        Ok(finished.better(&reference).await?.layers)
    }

    /// Writes the model of `plan`, with its recipe and a model card, into `folder`.
    ///
    /// # Errors
    /// - [`Error::Usage`] for a plan that is not valid or of another model, before the similarity stage for a
    ///   plan that has to be fitted, if the files cannot hold the element type, or if `options` split a GGUF model into too many files;
    /// - [`Error::Source`] if files cannot be written, or differ when they are read back;
    /// - [`Error::Unsupported`] if the settings or the tokenizer of the model cannot be expressed in the
    ///   files;
    /// - those of running layers (see [`Session`]).
    pub async fn write(
        &self,
        plan: &MergePlan,
        options: &WriteOptions,
        folder: &mut dyn OutputFolder,
        observer: &dyn Observer,
    ) -> Result<WriteReport> {
        let start = Instant::now();
        options.check(&self.model)?;
        let layers = self.layers(plan, options, observer).await?;
        let (calibration, text) = match &self.calibrated {
            Some(calibrated) => (calibrated.options.clone(), calibrated.text.clone()),
            // A plan from elsewhere can be carried out without a calibration text.
            None => (CalibrationOptions::default(), TextReport::none()),
        };
        let planned = self.planned.as_ref().filter(|planned| planned.report.plan == *plan);
        let recipe = Recipe {
            laminate: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.name.clone(),
            calibration,
            text,
            options: planned.and_then(|planned| planned.options.clone()),
            plan: plan.clone(),
            output: options.clone(),
            text_hash: self.calibrated.as_ref().map(|calibrated| calibrated.options.text_options().hash()),
            judged_on: planned.and_then(|planned| planned.judged_on.clone()),
            fit_bytes: plan.operator.needs_activations().then_some(self.fit_bytes),
            imatrix: self.encoded_by(options),
            heal: planned.and_then(|planned| planned.report.healed.as_ref()).map(HealReport::repeated),
        };
        let extra = card::files(&recipe, planned.map(|planned| &planned.report))?;
        let files = write_model(&self.model, &layers, options, extra, folder, observer).await?;
        let weights = |f: &&WrittenFile| f.name.ends_with(".safetensors") || f.name.ends_with(".gguf");
        let tensors = files.iter().filter(weights);
        let bytes = BeforeAfter {
            before: self.model.shards.iter().map(|s| s.size()).sum(),
            after: tensors.map(|f| f.bytes).sum(),
        };
        Ok(WriteReport { recipe, files, bytes, seconds: start.elapsed().as_secs_f64() })
    }
}

/// Makes the store of finished work for plans in `context`, if there is a store.
pub(super) async fn keeping(
    store: Option<Box<dyn PartStore>>,
    context: &Context<'_>,
) -> Result<Option<KeptPlan>> {
    match store {
        Some(store) => Ok(Some(KeptPlan::new(store, context).await?)),
        None => Ok(None),
    }
}
