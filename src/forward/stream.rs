//! All sequences and a model whose layers may be merged, with hidden states kept so that layers can be run
//! again from any depth.

use super::runner::Runner;
use super::sequences::Sequences;
use super::states::HiddenStates;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::protocol::events::{Stage, Unit};
use crate::{Error, Result};

/// Number of depths at which hidden states are kept for resuming, however deep the model. With the states of
/// every n-th layer at hand, resuming anywhere costs at most n - 1 layers more, and memory does not grow with
/// depth.
const KEPT_STATES: usize = 8;

/// Bytes of hidden states up to which more than [`KEPT_STATES`] depths are kept.
const KEPT_BYTES: u64 = 64 << 20;

/// Layers of a model, and the hidden states between them as far as they are kept.
#[derive(Clone)]
pub struct Stream {
    layers: Vec<NewLayer>,
    /// `kept[l]` holds the states that enter layer `l`, the last element the states that leave the model. The
    /// first element is always kept, the last as soon as the layers have been run.
    kept: Vec<Option<HiddenStates>>,
    /// Hidden states are kept before every layer whose index is a multiple of this number.
    stride: usize,
}

impl Stream {
    /// Embeds the sequences for a model of the given layers, as the storage of `context` stores them. No layer has been run
    /// yet.
    ///
    /// # Errors
    /// Those of [`Runner::embed`] and [`Storage::placed`](crate::model::weights::storage::Storage::placed).
    pub async fn open(context: &Context<'_>, layers: Vec<NewLayer>) -> Result<Self> {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
        let embedded = runner.embed(context.sequences, context.storage).await?;
        let layers = context.storage.placed(&context.model.config, &layers)?.into_owned();
        let stride = stride(context.model, context.sequences, layers.len());
        let mut kept = vec![None; layers.len() + 1];
        if let Some(first) = kept.first_mut() {
            *first = Some(embedded);
        }
        Ok(Self { layers, kept, stride })
    }

    /// Embeds the sequences like [`open`](Stream::open), for a single pass: no hidden states are kept between
    /// the layers.
    ///
    /// # Errors
    /// Those of [`Runner::embed`].
    pub async fn open_once(context: &Context<'_>, layers: Vec<NewLayer>) -> Result<Self> {
        let stream = Self::open(context, layers).await?;
        Ok(Self { stride: stream.layers.len().max(1), ..stream })
    }

    /// Returns the same sequences with the layers `layers`, as the storage of `context` stores them, and the index of the
    /// first that differs from those of this stream. Hidden states that are kept up to that layer are shared.
    ///
    /// # Errors
    /// Those of [`Storage::placed`](crate::model::weights::storage::Storage::placed).
    pub fn with_layers(&self, context: &Context<'_>, layers: &[NewLayer]) -> Result<(Self, usize)> {
        let layers = context.storage.placed(&context.model.config, layers)?.into_owned();
        let from = layers.iter().zip(&self.layers).take_while(|(new, old)| new == old).count();
        let mut kept: Vec<_> = self.kept.iter().take(from + 1).cloned().collect();
        kept.resize(layers.len() + 1, None);
        Ok((Self { layers, kept, stride: self.stride }, from))
    }

    /// Returns the same sequences and layers, as if no layer had been run.
    #[must_use]
    pub fn from_the_start(&self) -> Self {
        let mut kept = vec![None; self.kept.len()];
        if let (Some(first), Some(embedded)) = (kept.first_mut(), self.kept.first()) {
            first.clone_from(embedded);
        }
        Self { layers: self.layers.clone(), kept, stride: self.stride }
    }

    /// Returns the stream of the model as the storage of `context` will store it, where the layers are those of the
    /// original. If the storage changes the element type of a tensor, hidden states are known up to the first layer with such
    /// a tensor only; if it changes that of the embedding, the sequences are embedded anew.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`Storage::placed`](crate::model::weights::storage::Storage::placed).
    pub async fn as_stored(&self, context: &Context<'_>) -> Result<Self> {
        let Context { model, storage, .. } = *context;
        if !storage.changes(model) {
            return Ok(self.clone());
        }
        let unchanged = storage.unchanged_layers(model);
        if unchanged == 0 {
            return Ok(Self { stride: self.stride, ..Self::open(context, self.layers.clone()).await? });
        }
        let layers = storage.placed(&model.config, &self.layers)?.into_owned();
        let mut kept: Vec<_> = self.kept.iter().take(unchanged + 1).cloned().collect();
        kept.resize(layers.len() + 1, None);
        Ok(Self { layers, kept, stride: self.stride })
    }

    /// Runs all layers once more and calls `visit` with the hidden states at every depth, from the states
    /// that enter the first layer to the states that leave the last.
    ///
    /// # Errors
    /// Those of [`Stream::run`], and of `visit`.
    pub async fn visit_depths(
        &self,
        context: &Context<'_>,
        stage: Stage,
        mut visit: impl AsyncFnMut(&HiddenStates) -> Result<()>,
    ) -> Result<()> {
        self.from_the_start()
            .run(context, stage, 0, async |layer, before, after| {
                if layer == 0 {
                    visit(before).await?;
                }
                visit(after).await
            })
            .await
    }

    /// Returns the layers.
    pub fn layers(&self) -> &[NewLayer] {
        &self.layers
    }

    /// Returns the hidden states after the last layer.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layers have not been run (see [`run`](Stream::run)).
    pub fn last(&self) -> Result<&HiddenStates> {
        self.kept
            .last()
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::internal("the layers have not been run yet"))
    }

    /// Returns whether the hidden states that enter layer `place` (for the number of layers: that leave the
    /// model) are kept, so that layers can be run again from there.
    pub fn keeps(&self, place: usize) -> bool {
        place == self.layers.len() || place.is_multiple_of(self.stride)
    }

    /// Sets the hidden states that enter layer `place`, as if the layers before it had been run. What layers read of the
    /// tokens themselves need not be among them.
    pub fn restore(&mut self, place: usize, mut states: HiddenStates) {
        if let Some(Some(first)) = self.kept.first() {
            let both = states.beside.iter_mut().zip(&first.beside);
            both.for_each(|(beside, first)| beside.embedded = first.embedded.clone());
        }
        if let Some(slot) = self.kept.get_mut(place) {
            *slot = Some(states);
        }
    }

    /// Drops restored hidden states at depths where none are [kept](Stream::keeps).
    pub fn thin(&mut self) {
        for place in 0..self.kept.len() {
            if !self.keeps(place)
                && let Some(slot) = self.kept.get_mut(place)
            {
                *slot = None;
            }
        }
    }

    /// Returns the deepest layer up to `place` whose entering hidden states are kept, and these states.
    ///
    /// # Errors
    /// [`Error::Internal`] if no hidden states are kept up to `place`.
    pub fn nearest(&self, place: usize) -> Result<(usize, HiddenStates)> {
        let kept = |layer: usize| Some((layer, self.kept.get(layer)?.clone()?));
        (0..=place.min(self.layers.len()))
            .rev()
            .find_map(kept)
            .ok_or_else(|| Error::internal("the sequences have not been embedded"))
    }

    /// Runs the layers from `from` on, starting at the [nearest](Stream::nearest) hidden states that are
    /// kept. `visit` gets the index of each layer from `from` on, and the hidden states before and after it.
    /// New hidden states are kept only if all layers were run.
    ///
    /// # Errors
    /// Those of [`nearest`](Stream::nearest), [`Runner::ahead`], [`Ahead::next`](super::runner::Ahead::next),
    /// [`Runner::forward`] and [`Observer::event`](crate::protocol::events::Observer::event), and of `visit`.
    pub async fn run(
        &mut self,
        context: &Context<'_>,
        stage: Stage,
        from: usize,
        mut visit: impl AsyncFnMut(usize, &HiddenStates, &HiddenStates) -> Result<()>,
    ) -> Result<()> {
        let n_layers = self.layers.len();
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
        let runner = runner.watched_by(context.experts);
        let (start, mut states) = self.nearest(from)?;
        let mut layers = runner.ahead(self.layers.get(start..).unwrap_or_default(), context.storage)?;
        let mut kept = Vec::new();
        for layer in start..n_layers {
            let detail = format!("layer {} of {n_layers}", layer + 1);
            let (done, total) = ((layer - start) as u64, (n_layers - start) as u64);
            context.observer.progress(stage, done, total, Unit::Layers, detail).await?;
            let uploaded = layers.next().await?.or_internal("a layer of the model was not read")?;
            let after = runner.forward(&uploaded, &states).await?;
            if layer >= from {
                visit(layer, &states, &after).await?;
            }
            states = after;
            if self.keeps(layer + 1) {
                kept.push((layer + 1, states.clone()));
            }
        }
        for (place, states) in kept {
            if let Some(slot) = self.kept.get_mut(place) {
                *slot = Some(states);
            }
        }
        let (total, detail) = ((n_layers - start) as u64, format!("{n_layers} layers"));
        context.observer.progress(stage, total, total, Unit::Layers, detail).await
    }
}

/// Returns the bytes of the hidden states of all sequences at one depth, in `f32`.
pub fn state_bytes(model: &Model, sequences: &Sequences) -> u64 {
    4 * model.config.hidden_size as u64 * sequences.count() as u64 * sequences.tokens() as u64
}

/// Returns the bytes of the keys and values that layers share, of all sequences, in `f32`; 0 for most models. However many
/// depths are kept, they exist once.
pub fn shared_key_bytes(model: &Model, sequences: &Sequences) -> u64 {
    4 * model.config.shared_numbers() as u64 * sequences.count() as u64 * sequences.tokens() as u64
}

/// Returns the number of depths at which a stream of `n_layers` layers keeps hidden states.
pub fn n_kept_states(model: &Model, sequences: &Sequences, n_layers: usize) -> usize {
    let small = KEPT_BYTES / state_bytes(model, sequences).max(1);
    n_layers.min(KEPT_STATES.max(usize::try_from(small).unwrap_or(usize::MAX))).max(1)
}

fn stride(model: &Model, sequences: &Sequences, n_layers: usize) -> usize {
    n_layers.div_ceil(n_kept_states(model, sequences, n_layers)).max(1)
}
