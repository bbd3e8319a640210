//! Checkpoint of the similarity stage: finished layers, kept so that an interrupted run can resume. A plan
//! keeps its own progress and its fitted layers (`methods::kept`).
//!
//! After each layer two parts are written: `layer-0007` with the points and measures of the layer, and
//! `states-0008` with the hidden states that enter the next layer, and the keys and values of layers before that it or
//! later layers read. The previous states are then removed,
//! unless the stream keeps the states of their depth too. If writing hidden states takes long, they are
//! written after some layers only. Maps and similarities are functions of the points and are computed anew,
//! so a run with another metric or other options of the map resumes from the same parts, and a finished run
//! is opened again without running a layer. Parts that are damaged or belong to something else are not used,
//! and the observer is told.

mod restore;

use burn::tensor::Tensor;
use bytemuck::{cast_slice, try_cast_slice};
use safetensors::Dtype;
use web_time::Instant;

use crate::analysis::observe::LayerOutput;
use crate::device::Accelerator;
use crate::files::part::PartWriter;
use crate::files::parts::PartStore;
use crate::forward::identity::Identity;
use crate::forward::states::{HiddenStates, to_host};
use crate::model::layers::beside::Beside;
use crate::protocol::events::{Event, Kept, Observer};
use crate::quality::Scores;
use crate::{Error, Result};

/// Seconds below which hidden states are written after every layer.
const QUICK_SECONDS: f64 = 0.2;

/// Largest share of a run's time for writing hidden states that take [`QUICK_SECONDS`] or longer.
const SHARE: f64 = 0.2;

/// Names of the keys and values that layers share, of layers with a window and of those without one.
const SHARED: [[&str; 2]; 2] = [["keys-windowed", "values-windowed"], ["keys", "values"]];

/// How long the hidden states after a layer are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Until the hidden states after a later layer replace them.
    Passing,
    /// For good, because the stream keeps the states of their depth too.
    Kept,
    /// For good, because they leave the last layer. The time of writing does not matter.
    Last,
}

/// Checkpoint that one run has read and writes.
///
/// If the store refuses a part, nothing more is kept, but the run goes on; the observer is told the reason.
pub struct Checkpoint<'a> {
    store: &'a mut dyn PartStore,
    identity: Identity,
    /// Name of the device of this run.
    device: String,
    observer: &'a dyn Observer,
    /// Number of bytes that this run has written.
    bytes: u64,
    /// Whether nothing is written any more, because the store has refused.
    ended: bool,
    /// Number of layers after which a run could resume now.
    layers: usize,
    /// Depth of the hidden states that the next ones replace.
    last: Option<usize>,
    /// Time of the last write of hidden states, and its duration in seconds.
    written: Option<(Instant, f64)>,
    /// Number of layers from 0 on that another device computed, and its name.
    elsewhere: Option<(usize, String)>,
}

impl<'a> Checkpoint<'a> {
    /// Makes a checkpoint in `store` for the run that `identity` names.
    pub fn new(
        store: &'a mut dyn PartStore,
        identity: Identity,
        accelerator: &Accelerator,
        observer: &'a dyn Observer,
    ) -> Self {
        let device = accelerator.report().name.clone();
        Self {
            store,
            identity,
            device,
            observer,
            bytes: 0,
            ended: false,
            layers: 0,
            last: None,
            written: None,
            elsewhere: None,
        }
    }

    /// Writes the measures of `layer`, and the hidden states `after` it unless that would take too much of
    /// the run's time. `place` says how long the hidden states are kept.
    ///
    /// # Errors
    /// [`Error::Device`] if hidden states cannot be copied to the host; those of [`Observer::event`]. A store
    /// that refuses is not an error.
    pub async fn keep(
        &mut self,
        layer: usize,
        output: &LayerOutput,
        after: &HiddenStates,
        place: Place,
    ) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut kept = self.write_layer(layer, output).await;
        if kept.is_ok() && (place == Place::Last || self.has_time()) {
            kept = self.keep_states(layer + 1, after, place != Place::Passing).await;
        }
        self.tell(kept).await
    }

    async fn keep_states(&mut self, place: usize, states: &HiddenStates, stay: bool) -> Result<()> {
        let start = Instant::now();
        self.write_states(place, states).await?;
        self.replace(place, stay).await?;
        self.layers = place;
        self.written = Some((Instant::now(), start.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Returns whether hidden states may be written now: large states must not hold up the run that they
    /// protect.
    fn has_time(&self) -> bool {
        self.written.is_none_or(|(at, seconds)| {
            seconds < QUICK_SECONDS || at.elapsed().as_secs_f64() > seconds / SHARE
        })
    }

    /// Writes the scores of the text, which are the last result of the stage.
    ///
    /// # Errors
    /// Those of [`Observer::event`]. A store that refuses is not an error.
    pub async fn keep_scores(&mut self, scores: &Scores) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let values = [scores.tokens as f64, scores.nll];
        let written = self.write("scores", &[("scores", Dtype::F64, vec![2])], &[cast_slice(&values)]).await;
        self.tell(written).await
    }

    /// Returns warnings to the reader, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let sentence = |(layers, device): &(usize, String)| {
            format!(
                "The first {layers} layers were computed on {device} before the run went on, on {}: \
                 devices round differently in the last digits.",
                self.device
            )
        };
        self.elsewhere.iter().map(sentence).collect()
    }

    async fn write_layer(&mut self, layer: usize, output: &LayerOutput) -> Result<()> {
        let measures = [output.largest_rms, output.block_influence];
        let tensors = [
            ("points", Dtype::F32, vec![output.points.len() as u64]),
            ("measures", Dtype::F64, vec![measures.len() as u64]),
        ];
        self.write(&layer_name(layer), &tensors, &[cast_slice(&output.points), cast_slice(&measures)]).await
    }

    async fn write(
        &mut self,
        name: &str,
        tensors: &[(&str, Dtype, Vec<u64>)],
        values: &[&[u8]],
    ) -> Result<()> {
        let about = self.identity.about(&self.device);
        let mut part = PartWriter::begin(&mut *self.store, name, &about, tensors).await?;
        for bytes in values {
            part.append(bytes).await?;
        }
        self.bytes += part.finish().await?;
        Ok(())
    }

    /// Writes the hidden states that enter layer `place`, chunk after chunk from the device.
    async fn write_states(&mut self, place: usize, states: &HiddenStates) -> Result<()> {
        let dims = states.chunks.iter().map(|chunk| chunk.dims());
        let [_, tokens, hidden] = dims.clone().next().unwrap_or_default();
        let count: usize = dims.map(|[count, ..]| count).sum();
        let shape = |width: usize| [count, tokens, width].map(|n| n as u64).to_vec();
        let about = self.identity.about(&self.device);
        let mut all = vec![("states", shape(hidden), states.chunks.clone())];
        // Layers from here on may read keys and values of layers before.
        for (names, place) in SHARED.iter().zip(0..) {
            for (which, name) in names.iter().enumerate() {
                let part = |beside: &Beside| beside.keys.get(place)?.as_ref()?.get(which).cloned();
                let chunks: Vec<Tensor<3>> = states.beside.iter().filter_map(part).collect();
                if let Some(first) = chunks.first() {
                    let [.., width] = first.dims();
                    all.push((name, shape(width), chunks));
                }
            }
        }
        let tensors: Vec<_> = all.iter().map(|(name, shape, _)| (*name, Dtype::F32, shape.clone())).collect();
        let mut part = PartWriter::begin(&mut *self.store, &states_name(place), &about, &tensors).await?;
        for chunk in all.into_iter().flat_map(|(.., chunks)| chunks) {
            let values = to_host(chunk, "while finished layers were kept").await?;
            part.append(cast_slice(&values)).await?;
        }
        self.bytes += part.finish().await?;
        Ok(())
    }

    /// Removes the hidden states written before the states at `place`, unless they stay.
    async fn replace(&mut self, place: usize, stays: bool) -> Result<()> {
        let before = std::mem::replace(&mut self.last, (!stays).then_some(place));
        match before.filter(|before| *before != place) {
            Some(before) => self.store.remove(&states_name(before)).await,
            None => Ok(()),
        }
    }

    async fn tell(&mut self, written: Result<()>) -> Result<()> {
        let trouble = match written {
            Ok(()) => None,
            Err(refused @ (Error::Source(_) | Error::Limit(_))) => {
                self.ended = true;
                // An incomplete checkpoint would not fit the next run, and may be what fills the disk.
                let _ = self.clear().await;
                Some(format!("finished layers are not kept, because {refused}"))
            }
            Err(e) => return Err(e),
        };
        let layers = if self.ended { 0 } else { self.layers };
        self.observer.event(Event::Kept(Kept { layers, bytes: self.bytes, trouble })).await
    }

    async fn clear(&mut self) -> Result<()> {
        for name in self.store.names().await? {
            if is_part(&name) {
                self.store.remove(&name).await?;
            }
        }
        Ok(())
    }
}

fn layer_name(layer: usize) -> String {
    format!("layer-{layer:04}")
}

fn states_name(place: usize) -> String {
    format!("states-{place:04}")
}

/// Returns whether `name` is the name of a part of a checkpoint. A folder that a user names may hold other
/// files.
fn is_part(name: &str) -> bool {
    let numbered = |prefix| {
        name.strip_prefix(prefix).is_some_and(|n| n.len() >= 4 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "scores" || numbered("layer-") || numbered("states-")
}

/// Converts the bytes of a part to numbers.
fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8]) -> Vec<T> {
    match try_cast_slice(bytes) {
        Ok(values) => values.to_vec(),
        Err(_) => bytemuck::pod_collect_to_vec(bytes),
    }
}
