//! The first stage: text through the model, a map of each layer, and how alike they are.

use std::rc::Rc;

use super::atlas::Atlas;
use super::checkpoint::{Checkpoint, Place};
use super::observe::{LayerOutput, observe};
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::maths::manifold::{
    DiffusionMap, DiffusionOptions, KeptDistances, Points, ValidDiffusionOptions, diffusion_map,
    diffusion_map_and_distances,
};
use crate::maths::similarity::{Metric, SimilarityBuilder, SimilarityMatrix, SimilarityOptions};
use crate::protocol::events::{Event, LayerDone, Stage};
use crate::protocol::options::CalibrationOptions;
use crate::protocol::text::PointRule;
use crate::quality::Scores;
use crate::{Error, Result};

/// A layer whose largest token is this many times the largest before it writes a massive activation.
const MASSIVE_FACTOR: f64 = 10.0;

/// Highest similarity of neighbours below which a model has no redundancy to speak of. Layers that
/// repeat each other score 0.9 and more, consecutive layers that all work score 0.3 to 0.7.
const ALIKE: f64 = 0.75;

/// Captured points of all layers together that are kept at most, in bytes: 32 layers of 512 points of width 4096.
const KEPT_POINT_BYTES: u64 = 256 << 20;

/// The measured layers of a model: maps, similarities, and what else decides what may be merged.
#[derive(Clone)]
pub struct LayerAnalysis {
    rule: PointRule,
    has_bos: bool,
    options: ValidDiffusionOptions,
    builder: SimilarityBuilder,
    maps: Vec<DiffusionMap>,
    /// The points of each captured layer, row-major, for other metrics; empty where they are too many.
    points: Vec<Rc<[f32]>>,
    /// Of the layers that were captured, unless they are too many.
    distances: Vec<KeptDistances>,
    block_influence: Vec<f64>,
    largest_rms: Vec<f64>,
}

impl LayerAnalysis {
    /// No layers yet.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for an option out of range.
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

    /// Runs the stream from layer `from` on, measures those layers anew, and keeps each as soon as it is done where
    /// there is a checkpoint.
    ///
    /// # Errors
    /// What running, measuring and the observer give.
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

    /// Appends a layer of points of `width` coordinates, and gives its similarity to the layers before it. Its
    /// points, and the distances between them, are kept where those of `keep_of` layers are not too much.
    ///
    /// # Errors
    /// What mapping and comparing give.
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

    /// Appends a layer of the original that was measured before an interruption, and tells the observer of the layer.
    ///
    /// # Errors
    /// As [`push`](LayerAnalysis::push), and what the observer gives.
    pub async fn take_in(&mut self, context: &Context<'_>, layer: usize, output: &LayerOutput) -> Result<()> {
        let config = &context.model.config;
        let row = self.push(layer, output, config.hidden_size, Some(config.n_layers))?;
        self.tell(context, layer, config.n_layers, row).await
    }

    /// Tells the observer of the layer that was appended last.
    ///
    /// # Errors
    /// What the observer gives.
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

    /// Which states are points.
    pub fn rule(&self) -> PointRule {
        self.rule
    }

    /// The same layers compared by another metric, from the points that were captured.
    ///
    /// # Errors
    /// [`Error::Limit`] where the points were too many to be kept; else as [`SimilarityBuilder::push`].
    pub fn by(&self, metric: Metric) -> Result<Self> {
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
        for (layer, (values, map)) in self.points.iter().zip(&self.maps).enumerate() {
            let n_points = map.embedding().n_points();
            let points = Points::from_f32(layer, n_points, values.len() / n_points.max(1), values)?;
            builder.push(&points, map)?;
        }
        Ok(Self { builder, ..self.clone() })
    }

    /// Whether the layers can be compared by another metric without being captured again.
    pub fn keeps_points(&self) -> bool {
        self.points.len() == self.maps.len()
    }

    /// The similarity of all pairs.
    pub fn matrix(&self) -> SimilarityMatrix {
        self.builder.matrix()
    }

    /// Mutual information of all pairs in nats; empty for other metrics.
    pub fn mutual_information(&self) -> Vec<Vec<f64>> {
        self.builder.mutual_information().map(|m| m.to_rows()).unwrap_or_default()
    }

    /// The diffusion map of each layer.
    pub fn maps(&self) -> &[DiffusionMap] {
        &self.maps
    }

    /// Options of the maps.
    pub fn map_options(&self) -> ValidDiffusionOptions {
        self.options
    }

    /// Hands over the distances of the captured layers; empty where they were too many to keep.
    pub fn take_distances(&mut self) -> Vec<KeptDistances> {
        std::mem::take(&mut self.distances)
    }

    /// `1 - E cos(x_in, x_out)` of each layer.
    pub fn block_influence(&self) -> &[f64] {
        &self.block_influence
    }

    /// Layers that write a massive activation: the largest token after one is more than ten times the
    /// largest before it. The first layer, which writes the stream's scale, is left aside.
    pub fn massive(&self) -> Vec<usize> {
        massive_layers(&self.largest_rms)
    }

    /// Layers whose graph is nearly in two pieces.
    pub fn disconnected(&self) -> Vec<usize> {
        let torn = |(_, map): &(usize, &DiffusionMap)| map.nearly_disconnected();
        self.maps.iter().enumerate().filter(torn).map(|(layer, _)| layer).collect()
    }

    /// What a reader should know, in sentences.
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

/// Bytes of the captured points of all layers; `None` where that is too much, so that none are kept.
pub fn kept_point_bytes(n_layers: usize, n_points: usize, width: usize) -> Option<u64> {
    let layer = (n_points as u64).checked_mul(width as u64)?.checked_mul(4)?;
    layer.checked_mul(n_layers as u64).filter(|bytes| *bytes <= KEPT_POINT_BYTES)
}

/// Layers after which the largest token is more than [`MASSIVE_FACTOR`] times the largest before them, from
/// the largest root mean square after each layer.
fn massive_layers(largest_rms: &[f64]) -> Vec<usize> {
    let pairs = largest_rms.iter().zip(largest_rms.iter().skip(1));
    pairs
        .enumerate()
        .filter(|(_, (before, after))| **after > MASSIVE_FACTOR * **before)
        .map(|(layer, _)| layer + 1)
        .collect()
}

/// The original on the calibration text, as the similarity stage found it: what every method starts from.
#[derive(Clone, Copy)]
pub struct Baseline<'a> {
    /// Its states.
    pub stream: &'a Stream,
    /// What each of its layers does, and which do the same.
    pub analysis: &'a LayerAnalysis,
    /// Its scores.
    pub scores: &'a Scores,
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
