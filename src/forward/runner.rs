//! Embedding of token sequences, and layers that are read, uploaded and run one after the other.

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

/// Model, device and positions: all that running a layer needs besides weights and hidden states.
pub struct Runner<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    positions: Positions,
}

impl<'a> Runner<'a> {
    /// Makes a runner for sequences of `tokens` tokens.
    ///
    /// # Errors
    /// Those of [`Positions::new`].
    pub fn new(model: &'a Model, accelerator: &'a Accelerator, tokens: usize) -> Result<Self> {
        let positions = Positions::new(&model.config, tokens, accelerator.device())?;
        Ok(Self { model, accelerator, positions })
    }

    /// Returns the rotary tables and the causal mask of the sequences.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Embeds `sequences` as hidden states on the device. Only the rows of tokens that occur are read.
    ///
    /// # Errors
    /// Those of [`RowsFetch::start`](crate::model::weights::fetch::RowsFetch::start),
    /// [`RowsFetch::finish`](crate::model::weights::fetch::RowsFetch::finish) and
    /// [`Stored::rows`](crate::format::stored::Stored::rows).
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
                let scale = self.model.config.scales.embedding as f32;
                if scale != 1.0 {
                    values.iter_mut().for_each(|value| *value *= scale);
                }
                let shape = [ids.len() / sequences.tokens(), sequences.tokens(), hidden];
                Ok(Tensor::from_data(TensorData::new(values, shape), self.accelerator.device()))
            })
            .collect::<Result<_>>()?;
        Ok(HiddenStates { chunks })
    }

    /// Begins to read the weights of a layer, so that they arrive while another layer is run.
    ///
    /// # Errors
    /// Those of [`LayerFetch::start`].
    pub fn fetch(&self, layer: &NewLayer, storage: Storage) -> Result<LayerFetch<'a>> {
        LayerFetch::start(self.model, layer, storage)
    }

    /// Uploads the tensors of a layer to the device.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::upload`].
    pub fn upload(&self, tensors: LayerTensors) -> Result<DecoderLayer> {
        DecoderLayer::upload(&self.model.config, tensors, self.accelerator)
    }

    /// Returns `layers` as a sequence that reads ahead, and begins to read the first.
    ///
    /// # Errors
    /// Those of [`fetch`](Runner::fetch).
    pub fn ahead<'r>(&'r self, layers: &'r [NewLayer], storage: Storage) -> Result<Ahead<'r, 'a>> {
        let mut ahead = Ahead { runner: self, layers: layers.iter(), storage, next: None };
        ahead.begin()?;
        Ok(ahead)
    }

    /// Runs all sequences through one layer and returns the hidden states after the layer.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::forward`].
    pub fn forward(&self, layer: &DecoderLayer, states: &HiddenStates) -> Result<HiddenStates> {
        let through = |x: &Tensor<3>| layer.forward(x.clone(), &self.positions);
        Ok(HiddenStates { chunks: states.chunks.iter().map(through).collect::<Result<_>>()? })
    }
}

/// Layers to upload one after the other. While a layer is run, the weights of the next are being read.
pub struct Ahead<'r, 'a> {
    runner: &'r Runner<'a>,
    layers: std::slice::Iter<'r, NewLayer>,
    storage: Storage,
    next: Option<LayerFetch<'a>>,
}

impl Ahead<'_, '_> {
    /// Uploads the next layer and begins to read the layer after it. Returns `None` after the last layer.
    ///
    /// # Errors
    /// Those of [`LayerFetch::finish`], [`Runner::fetch`] and [`Runner::upload`].
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
