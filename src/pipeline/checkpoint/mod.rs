//! What the similarity stage has finished, kept so that it can go on after an interruption.
//!
//! After each layer two parts are written: `layer-0007` with what the layer gave (its points and measures), and
//! `states-0008` with the hidden states that enter the next. The states before it are removed again, unless the
//! stream keeps those of their depth too. Maps and similarities are functions of the points and are computed anew,
//! so another metric or other settings of the map go on from the same parts; a finished run is opened again without
//! running a layer. Parts that are damaged or belong to something else are not used, which is said.

mod part;
mod restore;

use bytemuck::{cast_slice, try_cast_slice};
use safetensors::Dtype;

use self::part::PartWriter;
use crate::calibration::{PointRule, Sequences};
use crate::capture::{HiddenStates, LayerOutput, read};
use crate::device::Accelerator;
use crate::evaluate::Scores;
use crate::model::Model;
use crate::model::fingerprint::{Fnv, fingerprint};
use crate::progress::{Event, Kept, Observer};
use crate::sink::parts::PartStore;
use crate::{Error, Result};

/// What a checkpoint belongs to, as hashes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The model.
    pub model: String,
    /// The token sequences and which of their states are points.
    pub text: String,
}

impl Identity {
    /// Of a run of `sequences` through `model`.
    ///
    /// # Errors
    /// What reading samples of the weights gives.
    pub async fn of(model: &Model, sequences: &Sequences, rule: PointRule) -> Result<Self> {
        let mut text = Fnv::default();
        text.text(&format!("{} {} {} {rule}", sequences.count(), sequences.tokens(), sequences.has_bos()));
        for id in sequences.ids() {
            text.bytes(&id.to_le_bytes());
        }
        let hex = |hash: u64| format!("{hash:016x}");
        Ok(Self { model: hex(fingerprint(model).await?), text: hex(text.value()) })
    }
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
    /// The depth of the states that the next ones replace.
    last: Option<usize>,
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
        Self { store, identity, device, observer, bytes: 0, ended: false, last: None, elsewhere: None }
    }

    /// Keeps what `layer` gave and the states `after` it. Where `stays`, the states are not replaced by those of
    /// the next layer.
    ///
    /// # Errors
    /// What reading the device and the observer give.
    pub async fn keep(
        &mut self,
        layer: usize,
        output: &LayerOutput,
        after: &HiddenStates,
        stays: bool,
    ) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let written = match self.write_layer(layer, output).await {
            Ok(()) => self.write_states(layer + 1, after).await,
            Err(e) => Err(e),
        };
        let kept = match written {
            Ok(()) => self.replace(layer + 1, stays).await,
            Err(e) => Err(e),
        };
        self.tell(layer + 1, kept).await
    }

    /// Keeps what the text scored, the last thing that the stage finds out.
    ///
    /// # Errors
    /// What the observer gives.
    pub async fn keep_scores(&mut self, layers: usize, scores: &Scores) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let values = [scores.tokens as f64, scores.nll];
        let written = self.write("scores", &[("scores", Dtype::F64, vec![2])], &[cast_slice(&values)]).await;
        self.tell(layers, written).await
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
        let about = (&self.identity, self.device.as_str());
        let mut part = PartWriter::begin(&mut *self.store, name, about, tensors).await?;
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
        let about = (&self.identity, self.device.as_str());
        let tensors = [("states", Dtype::F32, shape)];
        let mut part = PartWriter::begin(&mut *self.store, &states_name(place), about, &tensors).await?;
        for chunk in &states.chunks {
            let values = read(chunk.clone(), "while finished layers were kept").await?;
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

    async fn tell(&mut self, layers: usize, written: Result<()>) -> Result<()> {
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
        let layers = if self.ended { 0 } else { layers };
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
