//! Events by which long stages report progress and results, and observers, which may stop them.

use futures::future::LocalBoxFuture;
use serde::Serialize;

use super::compare::CompareRow;
use super::heal::HealPoint;
use super::plan::CalibrationPoint;
use crate::Result;
use crate::plan::MergeStep;

/// A stage of the work, in the order of the data flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Stage {
    /// Reading headers, the tokenizer, the embedding.
    Read,
    /// Running calibration text through the layers.
    Capture,
    /// Comparing layers.
    Similarity,
    /// Choosing and trying merges.
    Plan,
    /// Scoring text.
    Evaluate,
    /// Distilling the original into the merged layers.
    Heal,
    /// Writing the merged model.
    Write,
    /// Reading the written model back.
    Check,
}

/// Unit in which progress is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// Decoder layers.
    Layers,
    /// Bytes of a file.
    Bytes,
    /// Rows of the output head.
    Rows,
    /// Tokens of text that a model writes.
    Tokens,
    /// Parts of a model.
    Parts,
    /// Models that are made or measured.
    Models,
}

/// Progress of a stage: `done` of `total` in `unit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Progress {
    /// Stage that is running.
    pub stage: Stage,
    /// Amount that is done.
    pub done: u64,
    /// Amount of the whole stage.
    pub total: u64,
    /// Unit of `done` and `total`.
    pub unit: Unit,
    /// Progress in words, such as "layer 12 of 32".
    pub detail: String,
}

/// Result of the similarity stage for one layer, sent as soon as it is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct LayerDone {
    /// Index of the layer.
    pub layer: usize,
    /// Number of layers of the model.
    pub layers: usize,
    /// Similarity of this layer to the layers `0..=layer`; empty for a metric that needs all layers first.
    pub row: Vec<f64>,
    /// Bandwidth of the kernel of the diffusion map.
    pub epsilon: f64,
    /// Leading eigenvalues of the diffusion map, `lambda_0` first.
    pub eigenvalues: Vec<f64>,
    /// Coordinates of the diffusion map, one row for each point.
    pub embedding: Vec<Vec<f64>>,
}

/// What a run that is killed now could resume from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Kept {
    /// Number of finished layers that are kept, from the first layer on.
    pub layers: usize,
    /// Bytes that this run has written to keep layers.
    pub bytes: u64,
    /// Reason, in a clause, why fewer layers are kept than possible; set in the event that reports it, `None`
    /// otherwise.
    pub trouble: Option<String>,
}

/// Event that an [`Observer`] is told of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "EngineEvent"))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// A stage made progress.
    Progress(Progress),
    /// A layer was compared and can be drawn.
    Layer(LayerDone),
    /// A merge was made and measured.
    Step(MergeStep),
    /// A method was measured in a comparison, or failed.
    Row(CompareRow),
    /// A plan was fitted to part of the calibration text and measured.
    Size(CalibrationPoint),
    /// A model that is being healed was measured.
    Heal(HealPoint),
    /// A finished layer was kept for a later run that resumes this one, or could not be kept.
    Kept(Kept),
}

/// Watcher of a run, which may pause or stop the run.
pub trait Observer {
    /// Receives an event, between layers, rows of the head or pieces of a file. The run waits until the
    /// future is ready, so that a pending future pauses the run. An error of the future ends the run.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled) if the user asked to stop, and any other error of the
    /// observer.
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>>;
}

impl dyn Observer + '_ {
    /// Reports that `done` of `total` in `unit` is done.
    ///
    /// # Errors
    /// Those of [`Observer::event`].
    pub async fn progress(
        &self,
        stage: Stage,
        done: u64,
        total: u64,
        unit: Unit,
        detail: impl Into<String>,
    ) -> Result<()> {
        self.event(Event::Progress(Progress { stage, done, total, unit, detail: detail.into() })).await
    }
}

/// Observer of one of several equal parts of a stage. It passes events on to the observer of the whole stage
/// and counts progress in layers of all parts.
pub struct Share<'a> {
    /// Observer of the whole stage.
    pub whole: &'a dyn Observer,
    /// Index of this part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
    /// Number of layers that each part runs through.
    pub layers: usize,
    /// Name of a part, such as "batch".
    pub name: &'static str,
}

impl Observer for Share<'_> {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let Event::Progress(progress) = event else {
            return self.whole.event(event);
        };
        let layers = self.layers as u64;
        // Rows of the head come after the last layer, so all layers of this part are done.
        let done = if progress.unit == Unit::Layers { progress.done.min(layers) } else { layers };
        self.whole.event(Event::Progress(Progress {
            done: self.index as u64 * layers + done,
            total: self.count as u64 * layers,
            unit: Unit::Layers,
            detail: format!("{} {} of {}, {}", self.name, self.index + 1, self.count, progress.detail),
            ..progress
        }))
    }
}

/// Observer that ignores every event and never stops a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
