//! How long stages report what they do, and how they are stopped.

use futures::future::LocalBoxFuture;
use serde::Serialize;

use super::compare::CompareRow;
use super::plan::CalibrationPoint;
use crate::Result;
use crate::plan::MergeStep;

/// A stage of the work, in the order of the data flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
    /// Writing the merged model.
    Write,
    /// Reading it back.
    Check,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Decoder layers.
    Layers,
    /// Bytes of a file.
    Bytes,
    /// Rows of the output head.
    Rows,
    /// Tokens of text that a model writes.
    Tokens,
}

/// `done` of `total` in `unit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is going on.
    pub stage: Stage,
    /// How much is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
    /// What both count.
    pub unit: Unit,
    /// In words, such as "layer 12 of 32".
    pub detail: String,
}

/// A layer of the similarity run, as soon as it is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerDone {
    /// Its index.
    pub layer: usize,
    /// How many there are.
    pub layers: usize,
    /// Similarity to layers `0..=layer`; empty for a metric that needs all layers first.
    pub row: Vec<f64>,
    /// Kernel bandwidth.
    pub epsilon: f64,
    /// Leading eigenvalues, `lambda_0` first.
    pub eigenvalues: Vec<f64>,
    /// One row of coordinates for each point.
    pub embedding: Vec<Vec<f64>>,
}

/// How much of a run would survive its end, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Layers from the first one on that are kept.
    pub layers: usize,
    /// Bytes written for that by this run.
    pub bytes: u64,
    /// Why less is kept than could be, in a clause, when that is found out.
    pub trouble: Option<String>,
}

/// What an [`Observer`] is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A step was made.
    Progress(Progress),
    /// A layer can be drawn.
    Layer(LayerDone),
    /// A merge was made and measured.
    Step(MergeStep),
    /// A method was compared.
    Row(CompareRow),
    /// A plan was fitted to part of the calibration text.
    Size(CalibrationPoint),
    /// A finished layer was kept for a run that would have to go on, or could not be.
    Kept(Kept),
}

/// Watches a run and may stop it.
pub trait Observer {
    /// Called between layers, rows or pieces of a file. The run waits for as long as the future does, which is how it
    /// is paused, and ends with the error that it gives, [`Error::Cancelled`](crate::Error::Cancelled) if the user
    /// asked to stop.
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>>;
}

impl dyn Observer + '_ {
    /// Reports that `done` of `total` is done.
    ///
    /// # Errors
    /// What [`Observer::event`] gives.
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

/// One of several equal parts of a stage: passes on what happens in it, counted in layers of all parts.
pub struct Share<'a> {
    /// Who is told.
    pub whole: &'a dyn Observer,
    /// Which part, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Layers that each goes through.
    pub layers: usize,
    /// What a part is called, such as "batch".
    pub name: &'static str,
}

impl Observer for Share<'_> {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let Event::Progress(progress) = event else {
            return self.whole.event(event);
        };
        let layers = self.layers as u64;
        // Rows of the head come after the last layer.
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

/// Watches nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
