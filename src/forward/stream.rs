//! All sequences through a model whose layers may be merged, resumable at any layer.

use super::runner::Runner;
use super::sequences::Sequences;
use super::states::HiddenStates;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::protocol::events::{Stage, Unit};
use crate::{Error, Result};

/// States that are kept for resuming, however deep the model: with every n-th layer's states at hand,
/// resuming anywhere costs at most n - 1 layers more, and memory does not grow with depth.
const KEPT_STATES: usize = 8;

/// More are kept while they are small: as many as fit in this many bytes.
const KEPT_BYTES: u64 = 64 << 20;

/// The layers of a model and the states between them, as far as they are kept.
#[derive(Clone)]
pub struct Stream {
    layers: Vec<NewLayer>,
    /// `kept[l]` enters layer `l`; the last leaves the model. The first and last always are kept.
    kept: Vec<Option<HiddenStates>>,
    /// States are kept before every layer whose index is a multiple of this.
    stride: usize,
}

impl Stream {
    /// Embeds the sequences for a model of the given layers; nothing has run yet.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn open(context: &Context<'_>, layers: Vec<NewLayer>) -> Result<Self> {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens());
        let embedded = runner.embed(context.sequences).await?;
        let stride = stride(context.model, context.sequences, layers.len());
        let mut kept = vec![None; layers.len() + 1];
        if let Some(first) = kept.first_mut() {
            *first = Some(embedded);
        }
        Ok(Self { layers, kept, stride })
    }

    /// As [`open`](Stream::open), for sequences that go through once: nothing is kept between the layers.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn open_once(context: &Context<'_>, layers: Vec<NewLayer>) -> Result<Self> {
        let stream = Self::open(context, layers).await?;
        Ok(Self { stride: stream.layers.len().max(1), ..stream })
    }

    /// The same sequences through other layers, which agree with these before `from`: what was
    /// computed before it is shared.
    #[must_use]
    pub fn with_layers(&self, layers: Vec<NewLayer>, from: usize) -> Self {
        let mut kept: Vec<_> = self.kept.iter().take(from + 1).cloned().collect();
        kept.resize(layers.len() + 1, None);
        Self { layers, kept, stride: self.stride }
    }

    /// Visits the states at every depth, from what enters the first layer to what leaves the last, by running the
    /// layers once more.
    ///
    /// # Errors
    /// What running and `visit` give.
    pub async fn visit_depths(
        &self,
        context: &Context<'_>,
        stage: Stage,
        mut visit: impl AsyncFnMut(&HiddenStates) -> Result<()>,
    ) -> Result<()> {
        let mut again = self.with_layers(self.layers.clone(), 0);
        again
            .run(context, stage, 0, async |layer, before, after| {
                if layer == 0 {
                    visit(before).await?;
                }
                visit(after).await
            })
            .await
    }

    /// The layers.
    pub fn layers(&self) -> &[NewLayer] {
        &self.layers
    }

    /// The states after the last layer.
    ///
    /// # Errors
    /// [`Error::Usage`] before [`run`](Stream::run).
    pub fn last(&self) -> Result<&HiddenStates> {
        self.kept
            .last()
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Usage("the layers have not been run yet".to_owned()))
    }

    /// Whether states stay at `place`, so that layers after it can be run again.
    pub fn keeps(&self, place: usize) -> bool {
        place == self.layers.len() || place.is_multiple_of(self.stride)
    }

    /// Puts the states that enter layer `place` where they would be, had the layers before it been run here.
    pub fn restore(&mut self, place: usize, states: HiddenStates) {
        if let Some(slot) = self.kept.get_mut(place) {
            *slot = Some(states);
        }
    }

    /// Drops states that were only needed to go on from.
    pub fn thin(&mut self) {
        for place in 0..self.kept.len() {
            if !self.keeps(place)
                && let Some(slot) = self.kept.get_mut(place)
            {
                *slot = None;
            }
        }
    }

    /// The deepest layer up to `place` before which states are kept, and those states.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing was embedded.
    pub fn nearest(&self, place: usize) -> Result<(usize, HiddenStates)> {
        let kept = |layer: usize| Some((layer, self.kept.get(layer)?.clone()?));
        (0..=place.min(self.layers.len()))
            .rev()
            .find_map(kept)
            .ok_or_else(|| Error::Usage("the sequences have not been embedded".to_owned()))
    }

    /// Runs the layers from `from` on, and before them what is needed to get there; `visit` sees the
    /// states before and after each layer from `from` on.
    ///
    /// # Errors
    /// What reading, the device, the observer and `visit` give.
    pub async fn run(
        &mut self,
        context: &Context<'_>,
        stage: Stage,
        from: usize,
        mut visit: impl AsyncFnMut(usize, &HiddenStates, &HiddenStates) -> Result<()>,
    ) -> Result<()> {
        let n_layers = self.layers.len();
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens());
        let (start, mut states) = self.nearest(from)?;
        let mut layers = runner.ahead(self.layers.get(start..).unwrap_or_default(), context.storage)?;
        let mut kept = Vec::new();
        for layer in start..n_layers {
            let detail = format!("layer {} of {n_layers}", layer + 1);
            let (done, total) = ((layer - start) as u64, (n_layers - start) as u64);
            context.observer.progress(stage, done, total, Unit::Layers, detail).await?;
            let uploaded = layers.next().await?.or_internal("a layer of the model was not read")?;
            let after = runner.forward(&uploaded, &states)?;
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

/// Bytes of the hidden states of all sequences at one depth.
pub fn state_bytes(model: &Model, sequences: &Sequences) -> u64 {
    4 * model.config.hidden_size as u64 * sequences.count() as u64 * sequences.tokens() as u64
}

/// How many states a stream of `n_layers` layers keeps.
pub fn n_kept_states(model: &Model, sequences: &Sequences, n_layers: usize) -> usize {
    let small = KEPT_BYTES / state_bytes(model, sequences).max(1);
    n_layers.min(KEPT_STATES.max(usize::try_from(small).unwrap_or(usize::MAX))).max(1)
}

fn stride(model: &Model, sequences: &Sequences, n_layers: usize) -> usize {
    n_layers.div_ceil(n_kept_states(model, sequences, n_layers)).max(1)
}
