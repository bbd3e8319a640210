//! Embedding of token sequences, and layers that are read, uploaded and run one after the other.

use std::cell::RefCell;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::sequences::Sequences;
use crate::Result;
use crate::device::Accelerator;
use crate::error::OrInternal;
use crate::forward::embedding::EmbeddingRows;
use crate::forward::expert_use::ExpertWatch;
use crate::forward::inputs::InputTable;
use crate::forward::states::{HiddenStates, sequences_per_chunk, to_host};
use crate::model::Model;
use crate::model::layers::attention::Positions;
use crate::model::layers::beside::{Beside, Embedded};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::mixer::Past;
use crate::model::layers::record::Record;
use crate::model::weights::fetch::{ExpertFetch, LayerFetch, LayerTensors};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;

/// Model, device and positions: all that running a layer needs besides weights and hidden states.
pub struct Runner<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    positions: Positions,
    watch: Option<&'a ExpertWatch>,
    /// Where what the products of uploaded layers read is recorded, if it is.
    record: Option<Record>,
    /// Embeddings that are a part of the inputs of layers, as far as they were read.
    inputs: RefCell<InputTable>,
}

impl<'a> Runner<'a> {
    /// Makes a runner for sequences of `tokens` tokens.
    ///
    /// # Errors
    /// Those of [`Positions::new`].
    pub fn new(model: &'a Model, accelerator: &'a Accelerator, tokens: usize) -> Result<Self> {
        let positions = Positions::new(&model.config, tokens, accelerator.device())?;
        let inputs = RefCell::default();
        Ok(Self { model, accelerator, positions, watch: None, record: None, inputs })
    }

    /// Sets where the use of experts is recorded, if it is. Only unchanged layers may be run then.
    #[must_use]
    pub fn watched_by(self, watch: Option<&'a ExpertWatch>) -> Self {
        Self { watch, ..self }
    }

    /// Sets where what the products of the layers read is recorded. It must be [taken out](Record::take) after each layer.
    #[must_use]
    pub fn recording(self, record: Record) -> Self {
        Self { record: Some(record), ..self }
    }

    /// Returns the rotary tables and the causal mask of the sequences.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Embeds `sequences` as hidden states on the device, with the embedding as `storage` stores it. Only the rows of
    /// tokens that occur are read.
    ///
    /// # Errors
    /// Those of [`RowsFetch::start`](crate::model::weights::fetch::RowsFetch::start),
    /// [`RowsFetch::finish`](crate::model::weights::fetch::RowsFetch::finish) and
    /// [`Stored::rows`](crate::format::stored::Stored::rows).
    pub async fn embed(&self, sequences: &Sequences, storage: Storage) -> Result<HiddenStates> {
        let hidden = self.model.config.hidden_size;
        let rows = EmbeddingRows::read(self.model, sequences.ids(), storage).await?;
        let of_chunks =
            || sequences.ids().chunks(sequences_per_chunk(sequences.tokens()) * sequences.tokens());
        let chunks = of_chunks()
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
            .collect::<Result<Vec<Tensor<3>>>>()?;
        let mut states = HiddenStates::alone(chunks);
        if self.model.config.layer_input.is_some() {
            let of_chunks = states.chunks.iter().zip(of_chunks());
            let embedded = of_chunks
                .map(|(states, ids)| Embedded { ids: Arc::new(ids.to_vec()), states: states.clone() });
            states
                .beside
                .iter_mut()
                .zip(embedded)
                .for_each(|(slot, embedded)| slot.embedded = Some(embedded));
        }
        Ok(states)
    }

    /// Computes the input that a layer has of its own, `[sequences * tokens, width]` for each chunk of `beside`; `None` for
    /// each if it has none.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the tokens are not known; those of [`InputTable::rows`] and
    /// [`LayerInput::of`](crate::model::layers::input::LayerInput::of).
    pub async fn inputs(&self, layer: &DecoderLayer, beside: &[Beside]) -> Result<Vec<Option<Tensor<2>>>> {
        let Some(own) = layer.input() else { return Ok(vec![None; beside.len()]) };
        let mut embedded = Vec::with_capacity(beside.len());
        for chunk in beside {
            embedded.push(chunk.embedded.as_ref().or_internal("the tokens of a text are not known")?);
        }
        let ids: Vec<u32> = embedded.iter().flat_map(|chunk| chunk.ids.iter().copied()).collect();
        // Nothing is borrowed while reads are awaited.
        let mut table = self.inputs.take();
        let rows = table.rows(self.model, &ids, &own.mix, own.element).await;
        self.inputs.replace(table);
        let (rows, width) = (rows?, self.model.config.layer_input.unwrap_or(0));
        let mut first = 0;
        let of_chunk = |chunk: &Embedded| {
            let [sequences, tokens, hidden] = chunk.states.dims();
            let n = sequences * tokens;
            let own_rows = rows.get(first * width..(first + n) * width);
            let own_rows = own_rows.or_internal("inputs of a layer are missing")?.to_vec();
            first += n;
            let own_rows = TensorData::new(own_rows, [n, width]);
            let own_rows = Tensor::<2>::from_data(own_rows, self.accelerator.device());
            own.of(chunk.states.clone().reshape([n, hidden]), own_rows).map(Some)
        };
        embedded.into_iter().map(of_chunk).collect()
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
        DecoderLayer::upload_watched(&self.model.config, tensors, self.accelerator, self.record.clone())
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
    /// Those of [`DecoderLayer::forward`] and [`mlp`](Self::mlp).
    pub async fn forward(&self, layer: &DecoderLayer, states: &HiddenStates) -> Result<HiddenStates> {
        let inputs = self.inputs(layer, &states.beside).await?;
        if layer.experts().is_none() {
            let through = |((x, beside), input): ((&Tensor<3>, &Beside), _)| {
                layer.forward(x.clone(), &self.positions, beside, input)
            };
            let after = states.with_beside().zip(inputs).map(through).collect::<Result<Vec<_>>>()?;
            let (chunks, beside) = after.into_iter().unzip();
            return Ok(HiddenStates { chunks, beside });
        }
        let between = states
            .with_beside()
            .map(|(x, beside)| layer.after_attention_and_beside(x.clone(), &self.positions, beside));
        let (between, beside): (Vec<Tensor<2>>, Vec<Beside>) =
            between.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let shapes = states.chunks.iter().map(|x| x.dims());
        let read = states.chunks.iter().zip(&between).map(|(x, between)| layer.read_by_mlp(x, between));
        let added = self.mlp(layer, &read.collect::<Vec<_>>()).await?;
        let after = between
            .into_iter()
            .zip(added)
            .zip(inputs)
            .zip(shapes)
            .map(|(((x, y), input), shape)| Ok(layer.leaving(layer.fed(x + y, input)?).reshape(shape)));
        Ok(HiddenStates { chunks: after.collect::<Result<_>>()?, beside })
    }

    /// Runs tokens that follow the tokens in the cache `past` through one layer, and appends their keys and values to the
    /// cache: from the residual stream `x` `[batch, tokens, hidden]` before the layer, and what the layer reads `beside` it, to
    /// both after the layer. `positions` must be [`Positions::after`] the number of tokens in the cache.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::after_attention_with`], [`inputs`](Self::inputs) and [`mlp`](Self::mlp).
    pub async fn forward_after(
        &self,
        layer: &DecoderLayer,
        x: Tensor<3>,
        beside: Beside,
        positions: &Positions,
        past: &mut Past,
    ) -> Result<(Tensor<3>, Beside)> {
        let shape = x.dims();
        let (between, beside) = layer.after_attention_with(x.clone(), positions, &beside, past)?;
        let added = self.mlp(layer, &[layer.read_by_mlp(&x, &between)]).await?.pop();
        let sum = between + added.or_internal("a chunk went into a layer and none came out")?;
        let input = self.inputs(layer, std::slice::from_ref(&beside)).await?.pop().flatten();
        Ok((layer.leaving(layer.fed(sum, input)?).reshape(shape), beside))
    }

    /// Computes what the MLP or the experts of a layer add to the residual stream, from the stream that
    /// [they read](DecoderLayer::read_by_mlp): one tensor `[n, hidden]` for each chunk of `read`, which are `[n, hidden]`.
    /// Tokens are routed first; then
    /// experts are read one after the other, the next while one works, and only those that tokens were routed to.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::mlp`], [`Experts::route`](crate::model::layers::experts::Experts::route),
    /// [`ExpertFetch::start`], [`ExpertFetch::finish`] and
    /// [`Experts::upload`](crate::model::layers::experts::Experts::upload), and
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn mlp(&self, layer: &DecoderLayer, read: &[Tensor<2>]) -> Result<Vec<Tensor<2>>> {
        let Some(experts) = layer.experts() else {
            return read.iter().map(|x| layer.mlp(x.clone())).collect();
        };
        let mut chunks = Vec::with_capacity(read.len());
        for x in read {
            let x = layer.mlp_input(x.clone())?;
            let scores = to_host(experts.router.forward(x.clone())?, "while routing").await?;
            let sum = experts.shared(&x)?.unwrap_or_else(|| x.zeros_like());
            chunks.push((x, experts.route(&scores)?, sum));
        }
        let is_needed = |e: &usize| {
            chunks.iter().any(|(_, routed, _)| routed.get(*e).is_some_and(|routed| !routed.rows.is_empty()))
        };
        let needed: Vec<usize> = (0..experts.sizes.count).filter(is_needed).collect();
        let start = |e: usize| ExpertFetch::start(self.model, &experts.made_of, e, &experts.stored);
        let mut norms: Vec<(usize, usize, Tensor<1>)> = Vec::new();
        let mut next = needed.first().map(|e| start(*e)).transpose()?;
        for (place, e) in needed.iter().enumerate() {
            let fetched = next.take().or_internal("an expert was not read")?.finish().await?;
            next = needed.get(place + 1).map(|e| start(*e)).transpose()?;
            let expert = experts.upload(fetched, self.model.config.hidden_size, self.accelerator)?;
            let expert = expert.watched(experts.record.as_ref(), *e);
            for (place, (x, routed, sum)) in chunks.iter_mut().enumerate() {
                let routed = routed.get(*e).or_internal("an expert is of no layer")?;
                if routed.rows.is_empty() {
                    continue;
                }
                let outputs = routed.outputs(x, &expert)?;
                if self.watch.is_some() {
                    norms.push((*e, place, outputs.clone().square().sum_dim(1).sqrt().squeeze_dim(1)));
                }
                *sum = routed.add(sum.clone(), outputs);
            }
        }
        if let (Some(watch), [layer]) = (self.watch, experts.made_of.layers().as_slice()) {
            let seen = norms.into_iter().map(|(e, place, norms)| {
                let routed = chunks.get(place).and_then(|(_, routed, _)| routed.get(e));
                Ok((e, routed.or_internal("an expert is of no layer")?, norms))
            });
            watch.record(*layer, experts.sizes.count, seen.collect::<Result<_>>()?).await?;
        }
        chunks.into_iter().map(|(_, _, sum)| layer.mlp_output(sum)).collect()
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
