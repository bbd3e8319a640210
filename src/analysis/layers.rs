//! Analysis of the layers of a model: hidden states, a diffusion map of each layer, and similarities of
//! layers.

use std::rc::Rc;

use super::atlas::Atlas;
use super::checkpoint::{Checkpoint, Place};
use super::observe::{LayerOutput, observe};
use crate::forward::context::Context;
use crate::forward::expert_use::ExpertUse;
use crate::forward::stream::Stream;
use crate::maths::manifold::{
    DiffusionMap, DiffusionOptions, KeptDistances, Points, ValidDiffusionOptions, diffusion_map,
    diffusion_map_and_distances,
};
use crate::maths::similarity::{Metric, SimilarityBuilder, SimilarityMatrix, SimilarityOptions};
use crate::protocol::events::{Event, LayerDone, Observer, Stage, Unit};
use crate::protocol::options::CalibrationOptions;
use crate::protocol::text::PointRule;
use crate::quality::Scores;
use crate::{Error, Result};

/// Growth of the largest token's root mean square through a layer, above which the layer writes a massive
/// activation.
const MASSIVE_FACTOR: f64 = 10.0;

/// Highest similarity of neighbouring layers below which a model has no redundancy to speak of. Layers that
/// repeat each other score 0.9 and more, consecutive layers that all contribute score 0.3 to 0.7.
const ALIKE: f64 = 0.75;

/// Most bytes of the kept points of all layers together: 32 layers of 512 points of width 4096.
const KEPT_POINT_BYTES: u64 = 256 << 20;

/// Measurements of the layers of a model: maps, similarities, and other measures that decide which layers may
/// be merged.
#[derive(Clone)]
pub struct LayerAnalysis {
    rule: PointRule,
    has_bos: bool,
    options: ValidDiffusionOptions,
    builder: SimilarityBuilder,
    maps: Vec<DiffusionMap>,
    /// Points of each captured layer, row-major `[n_points, hidden]`, for other metrics; empty if they are
    /// too many.
    points: Vec<Rc<[f32]>>,
    /// Distances between the points of each captured layer; empty if they are too many.
    distances: Vec<KeptDistances>,
    block_influence: Vec<f64>,
    largest_rms: Vec<f64>,
}

impl LayerAnalysis {
    /// Makes an analysis without layers. `has_bos` says whether every sequence begins with BOS.
    ///
    /// # Errors
    /// [`Error::Usage`] for an option out of range.
    pub fn new(options: &CalibrationOptions, has_bos: bool) -> Result<Self> {
        let map_options = DiffusionOptions {
            dims: options.dims,
            time: options.time,
            density: options.density,
            normalise: options.normalise,
            bandwidth: options.bandwidth,
        };
        let similarity = SimilarityOptions {
            metric: options.metric,
            neighbours: options.neighbours,
            normalise: options.normalise,
        };
        Ok(Self {
            rule: options.points,
            has_bos,
            options: map_options.check()?,
            builder: SimilarityBuilder::new(similarity.check()?),
            maps: Vec::new(),
            points: Vec::new(),
            distances: Vec::new(),
            block_influence: Vec::new(),
            largest_rms: Vec::new(),
        })
    }

    /// Runs `stream` from layer `from` on and measures these layers anew. With a `checkpoint`, each layer is
    /// kept as soon as it is measured. In [`Stage::Capture`], the observer is told of each layer, and the
    /// points and the distances between them are kept (see [`push`](Self::push)).
    ///
    /// # Errors
    /// Those of [`Stream::run`], [`observe`], [`push`](Self::push), [`tell`](Self::tell) and
    /// [`Checkpoint::keep`].
    pub async fn measure(
        &mut self,
        context: &Context<'_>,
        stage: Stage,
        stream: &mut Stream,
        from: usize,
        mut checkpoint: Option<&mut Checkpoint<'_>>,
    ) -> Result<()> {
        self.builder.truncate(from);
        self.maps.truncate(from);
        self.points.truncate(from);
        self.distances.truncate(from);
        self.block_influence.truncate(from);
        self.largest_rms.truncate(from);
        let n_layers = stream.layers().len();
        let report = stage == Stage::Capture;
        let kept: Vec<bool> = (0..=n_layers).map(|place| stream.keeps(place)).collect();
        let place = |place: usize| match kept.get(place) {
            _ if place == n_layers => Place::Last,
            Some(true) => Place::Kept,
            _ => Place::Passing,
        };
        stream
            .run(context, stage, from, async |layer, before, after| {
                let output = observe(layer, before, after, self.rule, self.has_bos).await?;
                let width = after.chunks.first().map_or(1, |chunk| chunk.dims()[2]).max(1);
                let row = self.push(layer, &output, width, report.then_some(n_layers))?;
                if let Some(checkpoint) = checkpoint.as_deref_mut() {
                    checkpoint.keep(layer, &output, after, place(layer + 1)).await?;
                }
                if report { self.tell(context, layer, n_layers, row).await } else { Ok(()) }
            })
            .await
    }

    /// Appends `layer`, whose points have `width` coordinates, and returns its similarities to the layers
    /// `0..=layer`. If `keep_of` is the number of layers of the model, the points and the distances between
    /// them are kept, each unless all layers together exceed 256 MiB.
    ///
    /// # Errors
    /// Those of [`Points::from_f32`], [`diffusion_map`] and [`SimilarityBuilder::push`].
    pub fn push(
        &mut self,
        layer: usize,
        output: &LayerOutput,
        width: usize,
        keep_of: Option<usize>,
    ) -> Result<Vec<f64>> {
        let n_points = output.points.len() / width;
        let points = Points::from_f32(layer, n_points, width, &output.points)?;
        let map = match keep_of.and_then(|n_layers| Atlas::bytes(n_layers, n_points)) {
            Some(_) => {
                let (map, distances) = diffusion_map_and_distances(&points, layer, &self.options)?;
                self.distances.push(distances);
                map
            }
            None => diffusion_map(&points, layer, &self.options)?,
        };
        let row = self.builder.push(&points, &map)?;
        self.maps.push(map);
        if keep_of.and_then(|n_layers| kept_point_bytes(n_layers, n_points, width)).is_some() {
            self.points.push(output.points.as_slice().into());
        }
        self.block_influence.push(output.block_influence);
        self.largest_rms.push(output.largest_rms);
        Ok(row)
    }

    /// Appends an original layer that an interrupted run has measured, and tells the observer of the layer.
    ///
    /// # Errors
    /// Those of [`push`](LayerAnalysis::push) and [`tell`](LayerAnalysis::tell).
    pub async fn take_in(&mut self, context: &Context<'_>, layer: usize, output: &LayerOutput) -> Result<()> {
        let config = &context.model.config;
        let row = self.push(layer, output, config.hidden_size, Some(config.n_layers))?;
        self.tell(context, layer, config.n_layers, row).await
    }

    /// Tells the observer of `layer`, which was appended last and has the similarities `row` to the layers up
    /// to itself; `layers` is the number of layers.
    ///
    /// # Errors
    /// Those of [`Observer::event`](crate::protocol::events::Observer::event).
    pub async fn tell(
        &self,
        context: &Context<'_>,
        layer: usize,
        layers: usize,
        row: Vec<f64>,
    ) -> Result<()> {
        let Some(map) = self.maps.last() else { return Ok(()) };
        let event = LayerDone {
            layer,
            layers,
            row,
            epsilon: map.epsilon(),
            eigenvalues: map.eigenvalues().to_vec(),
            embedding: map.embedding().to_rows(),
        };
        context.observer.event(Event::Layer(event)).await
    }

    /// Returns the rule that chooses points.
    pub fn rule(&self) -> PointRule {
        self.rule
    }

    /// Returns the analysis of the same layers by another metric, from the points that were kept. `observer` is told
    /// of each layer before it is compared, and may stop.
    ///
    /// # Errors
    /// [`Error::Limit`] if the points were too many to be kept; those of [`Points::from_f32`],
    /// [`SimilarityBuilder::push`] and [`Observer::event`].
    pub async fn by(&self, metric: Metric, observer: &dyn Observer) -> Result<Self> {
        if metric == self.builder.metric() {
            return Ok(self.clone());
        }
        if !self.keeps_points() {
            return Err(Error::Limit(format!(
                "the points of {} layers were too many to be kept for another metric: run the similarity stage by \
                 {metric}, or with fewer points",
                self.maps.len()
            )));
        }
        let options = SimilarityOptions { metric, ..self.builder.options() };
        let mut builder = SimilarityBuilder::new(options.check()?);
        let n_layers = self.maps.len();
        for (layer, (values, map)) in self.points.iter().zip(&self.maps).enumerate() {
            let detail = format!("layer {} of {n_layers}", layer + 1);
            observer.progress(Stage::Similarity, layer as u64, n_layers as u64, Unit::Layers, detail).await?;
            let n_points = map.embedding().n_points();
            let points = Points::from_f32(layer, n_points, values.len() / n_points.max(1), values)?;
            builder.push(&points, map)?;
        }
        Ok(Self { builder, ..self.clone() })
    }

    /// Returns whether the layers can be compared by another metric without being captured again.
    pub fn keeps_points(&self) -> bool {
        self.points.len() == self.maps.len()
    }

    /// Returns the similarities of all pairs of layers.
    pub fn matrix(&self) -> SimilarityMatrix {
        self.builder.matrix()
    }

    /// Returns the mutual information of all pairs of layers in nats; empty for other metrics.
    pub fn mutual_information(&self) -> Vec<Vec<f64>> {
        self.builder.mutual_information().map(|m| m.to_rows()).unwrap_or_default()
    }

    /// Returns the diffusion map of each layer.
    pub fn maps(&self) -> &[DiffusionMap] {
        &self.maps
    }

    /// Returns the options of the maps.
    pub fn map_options(&self) -> ValidDiffusionOptions {
        self.options
    }

    /// Moves the distances of the captured layers out of the analysis; empty if they were too many to keep.
    pub fn take_distances(&mut self) -> Vec<KeptDistances> {
        std::mem::take(&mut self.distances)
    }

    /// Returns the Block Influence of each layer, `1 - E cos(x_in, x_out)`.
    pub fn block_influence(&self) -> &[f64] {
        &self.block_influence
    }

    /// Returns the layers that write a massive activation: the largest token after the layer is more than ten
    /// times the largest before, by root mean square. The first layer, which sets the scale of the residual
    /// stream, is left out.
    pub fn massive(&self) -> Vec<usize> {
        massive_layers(&self.largest_rms)
    }

    /// Returns the layers whose graph is nearly in two pieces (see [`DiffusionMap::nearly_disconnected`]).
    pub fn disconnected(&self) -> Vec<usize> {
        let torn = |(_, map): &(usize, &DiffusionMap)| map.nearly_disconnected();
        self.maps.iter().enumerate().filter(torn).map(|(layer, _)| layer).collect()
    }

    /// Returns warnings to the reader, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let highest = self.matrix().adjacent().fold(f64::NEG_INFINITY, f64::max);
        if self.builder.metric() == Metric::MutualInformation && highest < ALIKE {
            warnings.push(format!(
                "No two neighbouring layers repeat each other (the highest similarity is {highest:.2}): \
                 expect every merge to damage this model."
            ));
        }
        let torn = self.disconnected();
        if !torn.is_empty() {
            warnings.push(format!(
                "The graphs of layers {torn:?} are nearly disconnected: a few outlying points decide \
                 their maps, so do not trust their similarities."
            ));
        }
        for layer in self.massive() {
            warnings.push(format!(
                "Layer {layer} writes a massive activation; it is protected from being absorbed into \
                 layer {}.",
                layer - 1
            ));
        }
        warnings
    }
}

/// Returns the bytes of the captured points of all layers; `None` if they exceed 256 MiB, in which case no
/// points are kept.
pub fn kept_point_bytes(n_layers: usize, n_points: usize, width: usize) -> Option<u64> {
    let layer = (n_points as u64).checked_mul(width as u64)?.checked_mul(4)?;
    layer.checked_mul(n_layers as u64).filter(|bytes| *bytes <= KEPT_POINT_BYTES)
}

/// Returns the layers after which the largest token is more than [`MASSIVE_FACTOR`] times the largest before,
/// from the largest root mean square after each layer.
fn massive_layers(largest_rms: &[f64]) -> Vec<usize> {
    let pairs = largest_rms.iter().zip(largest_rms.iter().skip(1));
    pairs
        .enumerate()
        .filter(|(_, (before, after))| **after > MASSIVE_FACTOR * **before)
        .map(|(layer, _)| layer + 1)
        .collect()
}

/// The original on the calibration text, as the similarity stage found it: the starting point of all methods.
#[derive(Clone, Copy)]
pub struct Baseline<'a> {
    /// Layers of the original, with their hidden states.
    pub stream: &'a Stream,
    /// Measurements of the layers, and their similarities.
    pub analysis: &'a LayerAnalysis,
    /// Scores of the original.
    pub scores: &'a Scores,
    /// Use of the experts of the original; `None` if not all layers with experts were seen.
    pub experts: Option<&'a ExpertUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenfold_jump_is_massive_except_in_the_first_layer() {
        assert_eq!(massive_layers(&[500.0, 501.0, 502.0]), [0usize; 0]);
        assert_eq!(massive_layers(&[1.0, 1.1, 11.5, 900.0, 901.0, 1.0]), [2, 3]);
        assert_eq!(massive_layers(&[1.0, 10.0]), [0usize; 0]);
        assert_eq!(massive_layers(&[]), [0usize; 0]);
    }
}
