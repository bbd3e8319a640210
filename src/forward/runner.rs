//! Token sequences to hidden states, layer-major: all sequences through one layer, then the next.

use burn::tensor::{Tensor, TensorData};

use super::sequences::Sequences;
use crate::Result;
use crate::device::Accelerator;
use crate::forward::embedding::EmbeddingRows;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::model::Model;
use crate::model::layers::attention::Positions;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::weights::fetch::{LayerFetch, LayerTensors};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;

/// Everything that running layers needs besides the states.
pub struct Runner<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    positions: Positions,
}

impl<'a> Runner<'a> {
    /// Prepares for sequences of `tokens` tokens.
    pub fn new(model: &'a Model, accelerator: &'a Accelerator, tokens: usize) -> Self {
        let positions = Positions::new(&model.config, tokens, accelerator.device());
        Self { model, accelerator, positions }
    }

    /// What attention knows about positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Embeds `sequences`, reading only the rows of tokens that occur.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn embed(&self, sequences: &Sequences) -> Result<HiddenStates> {
        let hidden = self.model.config.hidden_size;
        let rows = EmbeddingRows::read(self.model, sequences.ids()).await?;
        let chunks = sequences
            .ids()
            .chunks(sequences_per_chunk(sequences.tokens()) * sequences.tokens())
            .map(|ids| {
                let mut values: Vec<f32> = Vec::with_capacity(ids.len() * hidden);
                for id in ids {
                    values.extend_from_slice(rows.row(*id)?);
                }
                let shape = [ids.len() / sequences.tokens(), sequences.tokens(), hidden];
                Ok(Tensor::from_data(TensorData::new(values, shape), self.accelerator.device()))
            })
            .collect::<Result<_>>()?;
        Ok(HiddenStates { chunks })
    }

    /// Begins fetching a layer, so that it can be used later without waiting.
    ///
    /// # Errors
    /// As [`LayerFetch::start`].
    pub fn fetch(&self, layer: &NewLayer, storage: Storage) -> Result<LayerFetch<'a>> {
        LayerFetch::start(self.model, layer, storage)
    }

    /// Uploads a fetched layer.
    ///
    /// # Errors
    /// As [`DecoderLayer::upload`].
    pub fn upload(&self, tensors: LayerTensors) -> Result<DecoderLayer> {
        DecoderLayer::upload(&self.model.config, tensors, self.accelerator)
    }

    /// `layers` in order, ready to be run one after the other.
    ///
    /// # Errors
    /// As [`fetch`](Runner::fetch).
    pub fn ahead<'r>(&'r self, layers: &'r [NewLayer], storage: Storage) -> Result<Ahead<'r, 'a>> {
        let mut ahead = Ahead { runner: self, layers: layers.iter(), storage, next: None };
        ahead.begin()?;
        Ok(ahead)
    }

    /// All sequences through one layer.
    ///
    /// # Errors
    /// As [`DecoderLayer::forward`].
    pub fn forward(&self, layer: &DecoderLayer, states: &HiddenStates) -> Result<HiddenStates> {
        let through = |x: &Tensor<3>| layer.forward(x.clone(), &self.positions);
        Ok(HiddenStates { chunks: states.chunks.iter().map(through).collect::<Result<_>>()? })
    }
}

/// Layers one after the other; while one is run, the bytes of the next are on their way.
pub struct Ahead<'r, 'a> {
    runner: &'r Runner<'a>,
    layers: std::slice::Iter<'r, NewLayer>,
    storage: Storage,
    next: Option<LayerFetch<'a>>,
}

impl Ahead<'_, '_> {
    /// The next layer, uploaded; `None` after the last.
    ///
    /// # Errors
    /// What reading gives, and as [`Runner::upload`].
    pub async fn next(&mut self) -> Result<Option<DecoderLayer>> {
        let Some(fetched) = self.next.take() else { return Ok(None) };
        let tensors = fetched.finish().await?;
        self.begin()?;
        self.runner.upload(tensors).map(Some)
    }

    fn begin(&mut self) -> Result<()> {
        self.next = self.layers.next().map(|layer| self.runner.fetch(layer, self.storage)).transpose()?;
        Ok(())
    }
}
