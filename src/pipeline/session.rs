//! An opened model and what has been found out about it so far.

use std::cell::Cell;

use web_time::Instant;

use crate::calibration::{PointRule, Sequences};
use crate::device::Accelerator;
use crate::evaluate::{Quality, Scores};
use crate::manifold::align;
use crate::merge::Mix;
use crate::model::Model;
use crate::model::storage::Storage;
use crate::pipeline::card;
use crate::pipeline::estimate::{Estimate, LayerTiming, estimate};
use crate::pipeline::merging::{Outcome, layers_of, measure_plan, plan_merges};
use crate::pipeline::options::{CalibrationOptions, WriteOptions};
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::pipeline::writing::{WrittenFile, planned_bytes, write_model};
use crate::plan::{MergePlan, PlanOptions};
use crate::progress::{Observer, Stage};
use crate::report::{
    BeforeAfter, ModelReport, PlanReport, PointReport, PointsReport, Recipe, SimilarityReport, TextReport,
    WriteReport,
};
use crate::sink::OutputFolder;
use crate::{Error, Result, demo, memory};

/// Longest calibration text in bytes: it is tokenised whole.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Characters of text shown for a point.
const POINT_CONTEXT_TOKENS: usize = 12;

/// A model, a device, and the results of the stages that have run.
pub struct Session {
    model: Model,
    accelerator: Accelerator,
    calibrated: Option<Calibrated>,
    /// What a layer was found to take, so that changing other options costs nothing.
    timing: Cell<Option<LayerTiming>>,
    /// The last plan that was measured, and the options that led to it.
    planned: Option<(Option<PlanOptions>, PlanReport)>,
}

/// What the similarity stage leaves behind.
struct Calibrated {
    options: CalibrationOptions,
    text: TextReport,
    sequences: Sequences,
    stream: Stream,
    comparison: Comparison,
    scores: Scores,
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
        let (sequences, _) = sequences(&self.model, options)?;
        let timing = match self.timing.get() {
            Some(timing) if timing.tokens == sequences.tokens() => timing,
            _ => LayerTiming::measure(&self.model, &self.accelerator, &sequences).await?,
        };
        self.timing.set(Some(timing));
        Ok(estimate(&self.model, &self.accelerator, &sequences, timing))
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
        let (sequences, text) = sequences(&self.model, options)?;
        check_points(&self.model, options, &sequences)?;
        let mut comparison = Comparison::new(options, sequences.has_bos())?;
        let context = Context {
            model: &self.model,
            accelerator: &self.accelerator,
            sequences: &sequences,
            storage: Storage::of(&self.model),
            observer,
        };
        let layers = (0..self.model.config.n_layers).map(Mix::original).collect();
        let mut stream = Stream::open(&context, layers).await?;
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
            embedding: align(comparison.maps())?.iter().map(|e| e.to_rows()).collect(),
            block_influence: comparison.block_influence().to_vec(),
            massive: comparison.massive(),
            disconnected: comparison.disconnected(),
            perplexity: scores.perplexity(),
            warnings,
            device: self.accelerator.report().clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
        };
        let options = options.clone();
        self.calibrated = Some(Calibrated { options, text, sequences, stream, comparison, scores });
        Ok(report)
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
        let outcome =
            plan_merges(&context, options, &calibrated.stream, &calibrated.comparison, &calibrated.scores)
                .await?;
        let report = self.plan_report(calibrated, outcome, output, start)?;
        self.planned = Some((Some(options.clone()), report.clone()));
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
        let outcome = measure_plan(&context, plan.clone(), &calibrated.stream, &calibrated.scores).await?;
        let report = self.plan_report(calibrated, outcome, output, start)?;
        self.planned = Some((None, report.clone()));
        Ok(report)
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

    fn plan_report(
        &self,
        calibrated: &Calibrated,
        outcome: Outcome,
        output: &WriteOptions,
        start: Instant,
    ) -> Result<PlanReport> {
        let Outcome { plan, merged, dropped, warnings } = outcome;
        let absorbed = plan.n_layers - plan.groups.len();
        let parameters = self.model.config.parameters_per_layer() * absorbed as u64;
        let bytes = planned_bytes(&self.model, &layers_of(&plan, plan.n_layers)?, output)?;
        let before_after =
            |before: u64, less: u64| BeforeAfter { before, after: before.saturating_sub(less) };
        Ok(PlanReport {
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
        })
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
        let layers = layers_of(plan, self.model.config.n_layers)?;
        let (calibration, text) = match &self.calibrated {
            Some(calibrated) => (calibrated.options.clone(), calibrated.text.clone()),
            // A plan from elsewhere needs no text to be carried out.
            None => (CalibrationOptions::default(), TextReport::none()),
        };
        let planned = self.planned.as_ref().filter(|(_, report)| report.plan == *plan);
        let recipe = Recipe {
            laminate: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.name.clone(),
            calibration,
            text,
            options: planned.and_then(|(options, _)| options.clone()),
            plan: plan.clone(),
            output: options.clone(),
        };
        let extra = card::files(&recipe, planned.map(|(_, report)| report))?;
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
        self.calibrated.as_ref().ok_or_else(|| Error::Usage("run the similarity stage first".to_owned()))
    }
}

/// Tokenises the calibration text and cuts it.
///
/// # Errors
/// [`Error::Limit`] for an empty, too short or too long text.
pub fn sequences(model: &Model, options: &CalibrationOptions) -> Result<(Sequences, TextReport)> {
    let text = options.text.as_deref().unwrap_or(demo::TEXT);
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::Limit(format!(
            "the text has {} MB; {} are enough for any calibration: give a part of it",
            text.len() >> 20,
            MAX_TEXT_BYTES >> 20
        )));
    }
    let ids = model.tokenizer.encode(text)?;
    let sequences = Sequences::cut(&model.config, &ids, options.samples, options.tokens)?;
    let default_name = if options.text.is_some() { "your text" } else { demo::TEXT_NAME };
    let report = TextReport {
        name: options.text_name.clone().unwrap_or_else(|| default_name.to_owned()),
        sequences: sequences.count(),
        tokens_per_sequence: sequences.tokens(),
        tokens_scored: (sequences.count() * (sequences.tokens() - 1)) as u64,
    };
    Ok((sequences, report))
}

/// Fails before the run where the number of points is too small for the estimator.
fn check_points(model: &Model, options: &CalibrationOptions, sequences: &Sequences) -> Result<()> {
    options.points.positions(sequences.tokens(), sequences.has_bos())?;
    let n_points = sequences.count() * options.points.per_sequence();
    let needed = 4 * options.neighbours;
    if n_points < needed {
        return Err(Error::Limit(format!(
            "the text gives {n_points} points to compare the layers of {} by, but {needed} are needed; \
             give a longer text, shorter sequences or more points in each",
            model.name
        )));
    }
    Ok(())
}

fn point_list(model: &Model, sequences: &Sequences, rule: PointRule) -> Result<Vec<PointReport>> {
    let positions = rule.positions(sequences.tokens(), sequences.has_bos())?;
    let mut points = Vec::new();
    for (sequence, ids) in sequences.iter().enumerate() {
        let after_bos = ids.get(usize::from(sequences.has_bos())..).unwrap_or_default();
        if positions.is_empty() {
            let start = after_bos.get(..POINT_CONTEXT_TOKENS).unwrap_or(after_bos);
            let text = format!("{} …", model.tokenizer.decode(start).trim());
            points.push(PointReport { sequence, position: -1, text });
        }
        for position in &positions {
            let from =
                (position + 1).saturating_sub(POINT_CONTEXT_TOKENS).max(usize::from(sequences.has_bos()));
            let context = ids.get(from..=*position).unwrap_or_default();
            let text = format!("… {}", model.tokenizer.decode(context).trim());
            points.push(PointReport { sequence, position: *position as i64, text });
        }
    }
    Ok(points)
}
