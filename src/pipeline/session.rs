//! An opened model and what has been found out about it so far.

use std::cell::Cell;

use web_time::Instant;

use crate::calibration::Sequences;
use crate::device::Accelerator;
use crate::evaluate::{Quality, Scores};
use crate::manifold::align;
use crate::model::Model;
use crate::model::new_layer::NewLayer;
use crate::model::storage::Storage;
use crate::pipeline::atlas::{Atlas, LayerMap, MapOptions};
use crate::pipeline::calibration_curve::calibration_curve;
use crate::pipeline::card;
use crate::pipeline::checkpoint::{Checkpoint, Identity};
use crate::pipeline::comparing::{Comparing, compare};
use crate::pipeline::estimate::{Estimate, LayerTiming, estimate};
use crate::pipeline::held_out::HeldOut;
use crate::pipeline::operators::build;
use crate::pipeline::options::{CalibrationOptions, CompareOptions, TextOptions, WriteOptions};
use crate::pipeline::planning::{Original, Outcome, check_plan, make_plan, measure_plan, mixed_layers};
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::pipeline::text::{check_points, point_list, sequences};
use crate::pipeline::writing::{WrittenFile, planned_bytes, write_model};
use crate::plan::{MergePlan, Operator, PlanOptions};
use crate::progress::{Observer, Stage};
use crate::report::{
    BeforeAfter, CalibrationPoint, CompareReport, MetricReport, ModelReport, PlanReport, PointsReport,
    Recipe, SimilarityReport, TextReport, WriteReport,
};
use crate::similarity::Metric;
use crate::sink::OutputFolder;
use crate::sink::parts::PartStore;
use crate::{Error, Result, memory};

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

    /// Captures every layer, maps it and compares it with the others. Where nothing but the metric differs from the
    /// last time, the points of then are compared by it, and nothing is captured.
    ///
    /// # Errors
    /// Whatever is wrong with the text, the options, the weights or the device.
    pub async fn similarity(
        &mut self,
        options: &CalibrationOptions,
        observer: &dyn Observer,
    ) -> Result<SimilarityReport> {
        self.similarity_kept(options, None, observer).await
    }

    /// As [`similarity`](Session::similarity), with finished layers kept in `store`, from which the run goes on where
    /// it holds the beginning of the same one. The result is the same, bit by bit on the same kind of device.
    ///
    /// # Errors
    /// As [`similarity`](Session::similarity); never what is wrong with the store or its parts, of which the
    /// observer is told.
    pub async fn similarity_kept(
        &mut self,
        options: &CalibrationOptions,
        store: Option<&mut dyn PartStore>,
        observer: &dyn Observer,
    ) -> Result<SimilarityReport> {
        let start = Instant::now();
        if let Some(report) = self.compare_again(options, start)? {
            return Ok(report);
        }
        // What was found with other options is of no use any more, and is memory.
        self.calibrated = None;
        self.planned = None;
        let (sequences, text) = sequences(&self.model, &options.text_options())?;
        check_points(&self.model, options, &sequences)?;
        let mut comparison = Comparison::new(options, sequences.has_bos())?;
        let context = Context {
            model: &self.model,
            accelerator: &self.accelerator,
            sequences: &sequences,
            storage: Storage::of(&self.model),
            observer,
        };
        let mut stream = Stream::open(&context, NewLayer::originals(&self.model)).await?;
        let mut checkpoint = match store {
            Some(store) => {
                let identity = Identity::of(&self.model, &sequences, options.points).await?;
                Some(Checkpoint::new(store, identity, &self.accelerator, observer))
            }
            None => None,
        };
        let from = match &mut checkpoint {
            Some(checkpoint) => checkpoint.restore(&context, &mut comparison, &mut stream).await?,
            None => 0,
        };
        comparison.measure(&context, Stage::Capture, &mut stream, from, checkpoint.as_mut()).await?;
        stream.thin();
        let scores = score_kept(&context, &stream, from, checkpoint.as_mut()).await?;

        let mut warnings = warnings(&comparison, &sequences, options);
        warnings.extend(checkpoint.iter().flat_map(|checkpoint| checkpoint.warnings()));
        let pictures = align(comparison.maps())?;
        let report = SimilarityReport {
            model: ModelReport::new(&self.model),
            layers: self.model.config.n_layers,
            points: PointsReport {
                rule: options.points.to_string(),
                count: sequences.count() * options.points.per_sequence(),
            },
            point_list: point_list(&self.model, &sequences, options.points)?,
            metric: options.metric.to_string(),
            dims: options.dims,
            options: CalibrationOptions { text: None, ..options.clone() },
            text: text.clone(),
            epsilon: comparison.maps().iter().map(|m| m.epsilon()).collect(),
            eigenvalues: comparison.maps().iter().map(|m| m.eigenvalues().to_vec()).collect(),
            mutual_information: comparison.mutual_information(),
            similarity: comparison.matrix().to_rows(),
            embedding: pictures.iter().map(|e| e.to_rows()).collect(),
            block_influence: comparison.block_influence().to_vec(),
            massive: comparison.massive(),
            disconnected: comparison.disconnected(),
            perplexity: scores.perplexity(),
            warnings,
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        };
        let distances = comparison.take_distances();
        let atlas = Atlas::new(comparison.map_options(), distances, comparison.maps(), pictures);
        let options = options.clone();
        self.calibrated = Some(Calibrated {
            options,
            text,
            sequences,
            stream,
            comparison,
            scores,
            report: report.clone(),
            atlas,
        });
        Ok(report)
    }

    /// Maps of some layers with other parameters than the run's, after [`similarity`](Session::similarity). What
    /// it found stays as it is.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage, [`Error::Limit`] after one of so many points that the distances
    /// between them were not kept; else as [`Atlas::maps`].
    pub fn maps(&mut self, options: &MapOptions) -> Result<Vec<LayerMap>> {
        let n_layers = self.model.config.n_layers;
        let calibrated = self.calibrated.as_mut().ok_or_else(before_similarity)?;
        let n_points = calibrated.sequences.count() * calibrated.options.points.per_sequence();
        if Atlas::bytes(n_layers, n_points).is_none() {
            return Err(Error::Limit(format!(
                "the distances between {n_points} points in {n_layers} layers are too many to be kept; run the \
                 similarity stage with fewer sequences or fewer points in each"
            )));
        }
        calibrated.atlas.maps(options)
    }

    /// The report of the last run by another metric, if that is all that differs and its points are still there.
    fn compare_again(
        &mut self,
        options: &CalibrationOptions,
        start: Instant,
    ) -> Result<Option<SimilarityReport>> {
        let Some(calibrated) = &mut self.calibrated else { return Ok(None) };
        let before = &calibrated.options;
        let same = CalibrationOptions { metric: options.metric, ..before.clone() } == *options;
        if !same || before.metric == options.metric || !calibrated.comparison.keeps_points() {
            return Ok(None);
        }
        let comparison = calibrated.comparison.by(options.metric)?;
        let report = SimilarityReport {
            metric: options.metric.to_string(),
            options: CalibrationOptions { text: None, ..options.clone() },
            mutual_information: comparison.mutual_information(),
            similarity: comparison.matrix().to_rows(),
            warnings: warnings(&comparison, &calibrated.sequences, options),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
            ..calibrated.report.clone()
        };
        calibrated.options.metric = options.metric;
        calibrated.comparison = comparison;
        calibrated.report = report.clone();
        Ok(Some(report))
    }

    /// Similarities by another metric, after [`similarity`](Session::similarity). What plans rest on stays as it is.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage; else as [`Comparison::by`].
    pub fn similarity_by(&self, metric: Metric) -> Result<MetricReport> {
        let comparison = self.calibrated()?.comparison.by(metric)?;
        Ok(MetricReport {
            metric: metric.to_string(),
            similarity: comparison.matrix().to_rows(),
            mutual_information: comparison.mutual_information(),
        })
    }

    /// Chooses and measures merges, after [`similarity`](Session::similarity). Nothing is written. Operators that
    /// fit are measured on the text of [`judge_on`](Session::judge_on), others on the calibration text.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage, for options that do not fit, or for an evaluation text that
    /// calibration has seen.
    pub async fn plan(
        &mut self,
        options: &PlanOptions,
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<PlanReport> {
        let start = Instant::now();
        self.planned = None;
        let calibrated = self.calibrated()?;
        let context = self.context(calibrated, output, observer);
        let judge = self.judge(calibrated, options.operator, observer).await?;
        let outcome = make_plan(&context, options, output, calibrated.original(), judge.as_ref()).await?;
        let planned =
            self.report(calibrated, judge.as_ref(), Some(options.clone()), outcome, output, start)?;
        let report = planned.report.clone();
        self.planned = Some(planned);
        Ok(report)
    }

    /// Measures a plan that was made by hand or comes from a recipe, like [`plan`](Session::plan).
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage or for a plan of another model.
    pub async fn measure(
        &mut self,
        plan: &MergePlan,
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<PlanReport> {
        self.measure_some(plan, output, observer, false).await
    }

    /// The same, with a measurement after each step, where the plan's weights say all.
    ///
    /// # Errors
    /// Those of [`measure`](Session::measure).
    pub async fn measure_each(
        &mut self,
        plan: &MergePlan,
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<PlanReport> {
        self.measure_some(plan, output, observer, true).await
    }

    async fn measure_some(
        &mut self,
        plan: &MergePlan,
        output: &WriteOptions,
        observer: &dyn Observer,
        steps: bool,
    ) -> Result<PlanReport> {
        let start = Instant::now();
        let calibrated = self.calibrated()?;
        let context = self.context(calibrated, output, observer);
        let judge = self.judge(calibrated, plan.operator, observer).await?;
        let outcome =
            measure_plan(&context, plan.clone(), output, calibrated.original(), judge.as_ref(), steps)
                .await?;
        let planned = self.report(calibrated, judge.as_ref(), None, outcome, output, start)?;
        let report = planned.report.clone();
        self.planned = Some(planned);
        Ok(report)
    }

    /// Compares methods by models that are fitted to the calibration text and measured on another, after
    /// [`similarity`](Session::similarity). Where the observer asks to stop, what is done is kept.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage and for options that do not fit.
    pub async fn compare(&self, options: &CompareOptions, observer: &dyn Observer) -> Result<CompareReport> {
        let start = Instant::now();
        let calibrated = self.calibrated()?;
        let held_out = self.held_out(calibrated, &options.evaluation, observer).await?;
        let seen = held_out.seen;
        let context = self.context(calibrated, &options.output, observer);
        let Comparing { original, rows, cancelled } =
            compare(&context, options, calibrated.original(), &held_out).await?;
        let mut warnings = Vec::new();
        if seen > 0.0 {
            warnings.push(format!(
                "{:.1} % of the evaluation text was seen in calibration; a method that fits is not judged on more than 1 %.",
                100.0 * seen
            ));
        }
        Ok(CompareReport {
            model: ModelReport::new(&self.model),
            calibration: calibrated.text.clone(),
            evaluation: held_out.text,
            overlap: seen,
            original,
            parameters: self.model.total_parameters(),
            bytes: self.model.total_bytes(),
            seed: options.seed,
            output: options.output.clone(),
            rows,
            cancelled,
            warnings,
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        })
    }

    /// What the model of `plan` is worth when it is fitted to so many of the calibration sequences, for each of
    /// `sizes`, measured on the text of [`judge_on`](Session::judge_on). For operators that fit.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage, for a plan that fits nothing or is of another model, and for an
    /// evaluation text that calibration has seen.
    pub async fn calibration_curve(
        &self,
        plan: &MergePlan,
        sizes: &[usize],
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<CalibrationPoint>> {
        let calibrated = self.calibrated()?;
        let Some(judge) = self.judge(calibrated, plan.operator, observer).await? else {
            return Err(Error::Usage(format!(
                "operator {} is not fitted to text, so that more of it changes nothing",
                plan.operator
            )));
        };
        calibration_curve(&self.context(calibrated, output, observer), plan, sizes, output, &judge).await
    }

    async fn held_out(
        &self,
        calibrated: &Calibrated,
        text: &TextOptions,
        observer: &dyn Observer,
    ) -> Result<HeldOut> {
        HeldOut::run(&self.model, &self.accelerator, text, &calibrated.sequences, observer).await
    }

    /// The text that a plan with `operator` is judged on, where that is not the calibration text.
    async fn judge(
        &self,
        calibrated: &Calibrated,
        operator: Operator,
        observer: &dyn Observer,
    ) -> Result<Option<HeldOut>> {
        if !operator.needs_activations() {
            return Ok(None);
        }
        let held_out = self.held_out(calibrated, &self.judge_on, observer).await?;
        held_out.check_judges(operator)?;
        Ok(Some(held_out))
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

    fn report(
        &self,
        calibrated: &Calibrated,
        judge: Option<&HeldOut>,
        options: Option<PlanOptions>,
        outcome: Outcome,
        output: &WriteOptions,
        start: Instant,
    ) -> Result<Planned> {
        let Outcome { plan, layers, merged, dropped, warnings } = outcome;
        let absorbed = plan.n_layers - plan.groups.len();
        let parameters = self.model.config.parameters_per_layer() * absorbed as u64;
        let bytes = planned_bytes(&self.model, &layers, output)?;
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
            dropped,
            warnings,
            layers: before_after(plan.n_layers as u64, absorbed as u64),
            parameters: before_after(self.model.total_parameters(), parameters),
            bytes: BeforeAfter { before: self.model.total_bytes(), after: bytes },
            plan,
            output: output.clone(),
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        };
        Ok(Planned { options, report, layers })
    }

    /// The layers of a plan: those that were measured, or built anew.
    async fn layers(
        &self,
        plan: &MergePlan,
        options: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<NewLayer>> {
        check_plan(plan, self.model.config.n_layers)?;
        if !plan.operator.needs_activations() {
            return mixed_layers(plan);
        }
        let storage = options.storage(&self.model);
        let as_stored = |planned: &&Planned| {
            planned.report.plan == *plan && planned.report.output.storage(&self.model) == storage
        };
        if let Some(planned) = self.planned.as_ref().filter(as_stored) {
            return Ok(planned.layers.clone());
        }
        let calibrated = self.calibrated()?;
        let context = self.context(calibrated, options, observer);
        let stream = context.as_stored(&calibrated.stream);
        Ok(build(&context, plan, &stream).await?.layers)
    }

    /// Writes the model that `plan` describes.
    ///
    /// # Errors
    /// [`Error::Usage`] for a plan of another model; else as [`write_model`].
    pub async fn write(
        &self,
        plan: &MergePlan,
        options: &WriteOptions,
        folder: &mut dyn OutputFolder,
        observer: &dyn Observer,
    ) -> Result<WriteReport> {
        let start = Instant::now();
        let layers = self.layers(plan, options, observer).await?;
        let (calibration, text) = match &self.calibrated {
            Some(calibrated) => (calibrated.options.clone(), calibrated.text.clone()),
            // A plan from elsewhere needs no text to be carried out.
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

    fn calibrated(&self) -> Result<&Calibrated> {
        self.calibrated.as_ref().ok_or_else(before_similarity)
    }
}

/// The scores of the states that left the last layer; kept ones where no layer was run.
async fn score_kept(
    context: &Context<'_>,
    stream: &Stream,
    from: usize,
    checkpoint: Option<&mut Checkpoint<'_>>,
) -> Result<Scores> {
    let Some(checkpoint) = checkpoint else {
        return context.score(stream.last()?, None).await;
    };
    let n_layers = stream.layers().len();
    if from == n_layers
        && let Some(scores) = checkpoint.scores().await
    {
        return Ok(scores);
    }
    let scores = context.score(stream.last()?, None).await?;
    checkpoint.keep_scores(&scores).await?;
    Ok(scores)
}

/// What a reader of the similarities should know, in sentences.
fn warnings(comparison: &Comparison, sequences: &Sequences, options: &CalibrationOptions) -> Vec<String> {
    let mut warnings = comparison.warnings();
    if sequences.count() < options.samples {
        warnings.push(format!(
            "The text holds {} sequences of {} tokens; {} were asked for.",
            sequences.count(),
            sequences.tokens(),
            options.samples
        ));
    }
    warnings
}

fn before_similarity() -> Error {
    Error::Usage("run the similarity stage first".to_owned())
}
