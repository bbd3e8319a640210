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
use crate::pipeline::card;
use crate::pipeline::comparing::{Comparing, Side, compare, overlap, run_original};
use crate::pipeline::estimate::{Estimate, LayerTiming, estimate};
use crate::pipeline::operators::build;
use crate::pipeline::options::{CalibrationOptions, CompareOptions, WriteOptions};
use crate::pipeline::planning::{Original, Outcome, check_plan, make_plan, measure_plan, mixed_layers};
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::pipeline::text::{check_points, point_list, sequences};
use crate::pipeline::writing::{WrittenFile, planned_bytes, write_model};
use crate::plan::{MergePlan, PlanOptions};
use crate::progress::{Observer, Stage};
use crate::report::{
    BeforeAfter, CompareReport, ModelReport, PlanReport, PointsReport, Recipe, SimilarityReport, TextReport,
    WriteReport,
};
use crate::sink::OutputFolder;
use crate::{Error, Result, memory};

/// A model, a device, and the results of the stages that have run.
pub struct Session {
    model: Model,
    accelerator: Accelerator,
    calibrated: Option<Calibrated>,
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
        Self { model, accelerator, calibrated: None, timing: Cell::new(None), planned: None }
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
        let n_points = sequences.count() * options.points.per_sequence();
        Ok(estimate(&self.model, &self.accelerator, &sequences, n_points, timing))
    }

    /// Captures every layer, maps it and compares it with the others.
    ///
    /// # Errors
    /// Whatever is wrong with the text, the options, the weights or the device.
    pub async fn similarity(
        &mut self,
        options: &CalibrationOptions,
        observer: &dyn Observer,
    ) -> Result<SimilarityReport> {
        let start = Instant::now();
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
        comparison.measure(&context, Stage::Capture, &mut stream, 0).await?;
        let scores = context.score(stream.last()?, None).await?;

        let mut warnings = comparison.warnings();
        if sequences.count() < options.samples {
            warnings.push(format!(
                "The text holds {} sequences of {} tokens; {} were asked for.",
                sequences.count(),
                sequences.tokens(),
                options.samples
            ));
        }
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
        self.calibrated = Some(Calibrated { options, text, sequences, stream, comparison, scores, atlas });
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

    /// Chooses and measures merges, after [`similarity`](Session::similarity). Nothing is written.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage or for options that do not fit.
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
        let outcome = make_plan(&context, options, output, calibrated.original()).await?;
        let planned = self.report(calibrated, Some(options.clone()), outcome, output, start)?;
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
        let start = Instant::now();
        let calibrated = self.calibrated()?;
        let context = self.context(calibrated, output, observer);
        let outcome = measure_plan(&context, plan.clone(), output, calibrated.original()).await?;
        let planned = self.report(calibrated, None, outcome, output, start)?;
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
        let (held_out, text) = sequences(&self.model, &options.evaluation)?;
        let seen = overlap(&calibrated.sequences, &held_out);
        let (stream, scores) = run_original(&self.model, &self.accelerator, &held_out, observer).await?;
        let context = self.context(calibrated, &options.output, observer);
        let side = Side { sequences: &held_out, stream: &stream, scores: &scores };
        let Comparing { original, rows, cancelled } =
            compare(&context, options, calibrated.original(), side).await?;
        let mut warnings = Vec::new();
        if seen > 0.0 {
            warnings.push(format!(
                "{:.1} % of the evaluation text was seen in calibration: methods that fit look better on it than \
                 they are.",
                100.0 * seen
            ));
        }
        Ok(CompareReport {
            model: ModelReport::new(&self.model),
            calibration: calibrated.text.clone(),
            evaluation: text,
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
        let report = PlanReport {
            text: calibrated.text.clone(),
            original: Quality::original(&calibrated.scores),
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
        let stream = context.as_stored(&calibrated.stream).await?;
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

fn before_similarity() -> Error {
    Error::Usage("run the similarity stage first".to_owned())
}
