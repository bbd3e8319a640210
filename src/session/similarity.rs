//! The similarity stage of a session.

use web_time::Instant;

use super::{Calibrated, RunOptions, Session, before_similarity};
use crate::analysis::atlas::{Atlas, LayerMap, MapOptions};
use crate::analysis::checkpoint::Checkpoint;
use crate::analysis::layers::LayerAnalysis;
use crate::analysis::points::{check_points, point_list};
use crate::forward::context::Context;
use crate::forward::expert_use::ExpertWatch;
use crate::forward::identity::Identity;
use crate::forward::sequences::{Sequences, sequences};
use crate::forward::stream::Stream;
use crate::maths::manifold::{Embedding, align};
use crate::maths::similarity::Metric;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::protocol::events::{Observer, Stage};
use crate::protocol::model::ModelReport;
use crate::protocol::options::CalibrationOptions;
use crate::protocol::similarity::{MetricReport, SimilarityReport};
use crate::protocol::text::{PointsReport, TextReport};
use crate::quality::Scores;
use crate::{Error, Result, memory};

impl Session {
    /// Captures the points of every layer, maps them and compares the layers. If only the metric differs from
    /// that of the previous call and its points were kept, these points are compared by the new metric, and
    /// no layer is run.
    ///
    /// # Errors
    /// [`Error::Limit`] if the text is larger than 64 MiB or gives too few sequences or points;
    /// [`Error::Usage`] for an option out of range; [`Error::Numeric`] if points or maps of a layer have no
    /// variance; those of running layers (see [`Session`]).
    pub async fn similarity(
        &mut self,
        options: &CalibrationOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<SimilarityReport> {
        let RunOptions { observer, mut store, .. } = run.into();
        let start = Instant::now();
        if let Some(report) = self.compare_again(options, start, observer).await? {
            return Ok(report);
        }
        // Results with other options are no longer of use, and take memory.
        self.calibrated = None;
        self.planned = None;
        self.held_out.take();
        let (sequences, text) = sequences(&self.model, &options.text_options())?;
        check_points(&self.model, options, &sequences)?;
        let mut analysis = LayerAnalysis::new(options, sequences.has_bos())?;
        // What the removal of experts needs is seen in this pass.
        let watch = ExpertWatch::default();
        let context = Context {
            experts: Some(&watch),
            ..Context::new(&self.model, &self.accelerator, &sequences, observer)
        };
        let mut stream = Stream::open(&context, NewLayer::originals(&self.model)).await?;
        let mut checkpoint = match store.as_deref_mut() {
            Some(store) => {
                let identity = Identity::of(&self.model, &sequences, options.points).await?;
                Some(Checkpoint::new(store, identity, &self.accelerator, observer))
            }
            None => None,
        };
        let from = match &mut checkpoint {
            Some(checkpoint) => {
                let n_points = sequences.count() * options.points.per_sequence();
                let take = async |layer, output| analysis.take_in(&context, layer, &output).await;
                checkpoint.restore(&context, &mut stream, n_points, take).await?
            }
            None => 0,
        };
        analysis.measure(&context, Stage::Capture, &mut stream, from, checkpoint.as_mut()).await?;
        stream.thin();
        let scores = score_kept(&context, &stream, from, checkpoint.as_mut()).await?;

        let mut warnings = warnings(&self.model, &analysis, &sequences, options);
        warnings.extend(checkpoint.iter().flat_map(|checkpoint| checkpoint.warnings()));
        let pictures = align(analysis.maps())?;
        let mut report = SimilarityReport {
            text: text.clone(),
            perplexity: scores.perplexity(),
            warnings,
            ..self.similarity_report(options, &sequences, &analysis, &pictures)?
        };
        let distances = analysis.take_distances();
        let atlas = Atlas::new(analysis.map_options(), distances, analysis.maps(), pictures);
        report.seconds = start.elapsed().as_secs_f64();
        report.peak_memory_bytes = memory::peak_bytes().unwrap_or(0);
        self.calibrated = Some(Calibrated {
            options: options.clone(),
            text,
            sequences,
            stream,
            analysis,
            scores,
            experts: watch.finish(&self.model.config),
            report: report.clone(),
            atlas,
        });
        Ok(report)
    }

    /// Returns the report of an analysis, whose text, perplexity, warnings, time and memory are still to be filled in.
    fn similarity_report(
        &self,
        options: &CalibrationOptions,
        sequences: &Sequences,
        analysis: &LayerAnalysis,
        pictures: &[Embedding],
    ) -> Result<SimilarityReport> {
        Ok(SimilarityReport {
            model: ModelReport::new(&self.model),
            layers: self.model.config.n_layers,
            points: PointsReport {
                rule: options.points.to_string(),
                count: sequences.count() * options.points.per_sequence(),
            },
            point_list: point_list(&self.model, sequences, options.points)?,
            metric: options.metric.to_string(),
            dims: options.dims,
            options: CalibrationOptions { text: None, ..options.clone() },
            text: TextReport::none(),
            epsilon: analysis.maps().iter().map(|m| m.epsilon()).collect(),
            eigenvalues: analysis.maps().iter().map(|m| m.eigenvalues().to_vec()).collect(),
            mutual_information: analysis.mutual_information(),
            similarity: analysis.matrix().to_rows(),
            embedding: pictures.iter().map(|e| e.to_rows()).collect(),
            block_influence: analysis.block_influence().to_vec(),
            massive: analysis.massive(),
            disconnected: analysis.disconnected(),
            perplexity: f64::NAN,
            warnings: Vec::new(),
            device: self.accelerator.report().clone(),
            seconds: 0.0,
            peak_memory_bytes: 0,
        })
    }

    /// Computes maps of some layers with other options than the run's, after
    /// [`similarity`](Session::similarity), whose results stay unchanged.
    ///
    /// # Errors
    /// - [`Error::Usage`] before the similarity stage, if a layer does not exist, or for an option out of
    ///   range;
    /// - [`Error::Limit`] if the similarity stage had so many points that the distances between them were not
    ///   kept;
    /// - those of [`diffusion_map`](crate::maths::manifold::diffusion_map) and
    ///   [`align_onto`](crate::maths::manifold::align_onto).
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

    /// Returns the report of the previous run by another metric, if only the metric differs and the points
    /// were kept.
    async fn compare_again(
        &mut self,
        options: &CalibrationOptions,
        start: Instant,
        observer: &dyn Observer,
    ) -> Result<Option<SimilarityReport>> {
        let Some(calibrated) = &mut self.calibrated else { return Ok(None) };
        let before = &calibrated.options;
        let same = CalibrationOptions { metric: options.metric, ..before.clone() } == *options;
        if !same || before.metric == options.metric || !calibrated.analysis.keeps_points() {
            return Ok(None);
        }
        let analysis = calibrated.analysis.by(options.metric, observer).await?;
        let report = SimilarityReport {
            metric: options.metric.to_string(),
            options: CalibrationOptions { text: None, ..options.clone() },
            mutual_information: analysis.mutual_information(),
            similarity: analysis.matrix().to_rows(),
            warnings: warnings(&self.model, &analysis, &calibrated.sequences, options),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
            ..calibrated.report.clone()
        };
        calibrated.options.metric = options.metric;
        calibrated.analysis = analysis;
        calibrated.report = report.clone();
        Ok(Some(report))
    }

    /// Computes similarities by another metric, after [`similarity`](Session::similarity). Plans still use
    /// the metric of the similarity stage. `observer` is told of each layer before it is compared, and may stop.
    ///
    /// # Errors
    /// [`Error::Usage`] before the similarity stage; [`Error::Limit`] if its points were too many to be kept;
    /// those of [`SimilarityBuilder::push`](crate::maths::similarity::SimilarityBuilder::push) and
    /// [`Observer::event`].
    pub async fn similarity_by(&self, metric: Metric, observer: &dyn Observer) -> Result<MetricReport> {
        let analysis = self.calibrated()?.analysis.by(metric, observer).await?;
        Ok(MetricReport {
            metric: metric.to_string(),
            similarity: analysis.matrix().to_rows(),
            mutual_information: analysis.mutual_information(),
        })
    }
}

/// Returns the scores of the hidden states after the last layer. Kept scores are used if no layer was run.
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

/// Returns warnings to the reader of the similarities, in sentences.
fn warnings(
    model: &Model,
    analysis: &LayerAnalysis,
    sequences: &Sequences,
    options: &CalibrationOptions,
) -> Vec<String> {
    let mut warnings = model.notes.clone();
    warnings.extend(analysis.warnings());
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
