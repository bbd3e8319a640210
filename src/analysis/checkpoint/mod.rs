//! What a run has finished, kept so that it can go on after an interruption: of the similarity stage here, of a plan
//! how far it came ([`plan`]) and its layers ([`fitted`]).
//!
//! After each layer two parts are written: `layer-0007` with what the layer gave (its points and measures), and
//! `states-0008` with the hidden states that enter the next. The states before it are removed again, unless the
//! stream keeps those of their depth too. Where writing states takes long, they are written after some layers only.
//! Maps and similarities are functions of the points and are computed anew,
//! so another metric or other settings of the map go on from the same parts; a finished run is opened again without
//! running a layer. Parts that are damaged or belong to something else are not used, which is said.

mod restore;

use bytemuck::{cast_slice, try_cast_slice};
use safetensors::Dtype;
use web_time::Instant;

use crate::analysis::observe::LayerOutput;
use crate::device::Accelerator;
use crate::files::part::PartWriter;
use crate::files::parts::PartStore;
use crate::forward::identity::Identity;
use crate::forward::states::{HiddenStates, to_host};
use crate::protocol::events::{Event, Kept, Observer};
use crate::quality::Scores;
use crate::{Error, Result};

/// States that are written in less than so many seconds are written after every layer.
const QUICK_SECONDS: f64 = 0.2;

/// Others take at most this share of the time of a run.
const SHARE: f64 = 0.2;

/// What becomes of the states after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Those after a later layer replace them.
    Passing,
    /// They stay, as the stream keeps them too.
    Kept,
    /// They leave the model.
    Last,
}

/// A checkpoint that is written, and was read, by one run.
///
/// A store that refuses ends the keeping and not the run; the observer is told why.
pub struct Checkpoint<'a> {
    store: &'a mut dyn PartStore,
    identity: Identity,
    /// Kind and name of the device that goes on.
    device: String,
    observer: &'a dyn Observer,
    /// Bytes written by this run.
    bytes: u64,
    /// Nothing is written any more.
    ended: bool,
    /// Layers from which the run could go on now.
    layers: usize,
    /// The depth of the states that the next ones replace.
    last: Option<usize>,
    /// When states were written last, and how long that took in seconds.
    written: Option<(Instant, f64)>,
    /// Layers from 0 on that another kind of device computed, and what it was.
    elsewhere: Option<(usize, String)>,
}

impl<'a> Checkpoint<'a> {
    /// In `store`, for the run that `identity` names.
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

    /// Keeps what `layer` gave and the states `after` it, which `place` says what becomes of.
    ///
    /// # Errors
    /// What reading the device and the observer give.
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

    /// Whether states may be written again: what is large must not hold up the run that it is to protect.
    fn has_time(&self) -> bool {
        self.written.is_none_or(|(at, seconds)| {
            seconds < QUICK_SECONDS || at.elapsed().as_secs_f64() > seconds / SHARE
        })
    }

    /// Keeps what the text scored, the last thing that the stage finds out.
    ///
    /// # Errors
    /// What the observer gives.
    pub async fn keep_scores(&mut self, scores: &Scores) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let values = [scores.tokens as f64, scores.nll];
        let written = self.write("scores", &[("scores", Dtype::F64, vec![2])], &[cast_slice(&values)]).await;
        self.tell(written).await
    }

    /// What a reader of the result should know.
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

    /// Streamed, chunk after chunk from the device.
    async fn write_states(&mut self, place: usize, states: &HiddenStates) -> Result<()> {
        let dims = states.chunks.iter().map(|chunk| chunk.dims());
        let [_, tokens, hidden] = dims.clone().next().unwrap_or_default();
        let count: usize = dims.map(|[count, ..]| count).sum();
        let shape = [count, tokens, hidden].map(|n| n as u64).to_vec();
        let about = self.identity.about(&self.device);
        let tensors = [("states", Dtype::F32, shape)];
        let mut part = PartWriter::begin(&mut *self.store, &states_name(place), &about, &tensors).await?;
        for chunk in &states.chunks {
            let values = to_host(chunk.clone(), "while finished layers were kept").await?;
            part.append(cast_slice(&values)).await?;
        }
        self.bytes += part.finish().await?;
        Ok(())
    }

    /// The states at `place` are there: those before it are not needed any more, unless they stay.
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
                // What is left would not fit the next run, and may be what fills the disk.
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

/// Whether a name is one of those above: a folder that a user names may hold other things.
fn is_part(name: &str) -> bool {
    let numbered = |prefix| {
        name.strip_prefix(prefix).is_some_and(|n| n.len() >= 4 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "scores" || numbered("layer-") || numbered("states-")
}

/// Numbers out of the bytes of a part.
fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8]) -> Vec<T> {
    match try_cast_slice(bytes) {
        Ok(values) => values.to_vec(),
        Err(_) => bytemuck::pod_collect_to_vec(bytes),
    }
}
