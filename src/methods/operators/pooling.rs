//! Choice of the heads and neurons of a span's layers that become its one layer.

use std::borrow::Cow;

use burn::tensor::{Int, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::span_tensors::{
    Folded, GroupShape, activations, bound_groups, columns, contexts, joined, side_by_side,
};
use crate::Result;
use crate::forward::states::{as_rows, to_host};
use crate::maths::least_squares::{eliminate, eliminate_groups};
use crate::methods::walk::seen::{Read, Seen, normed};
use crate::methods::walk::span::{Span, SpanChunk};
use crate::methods::walk::walker::{Systems, Walker};
use crate::model::architectures::Norms;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;

/// Number of rounds in which neurons are eliminated.
pub const ROUNDS: usize = 6;

/// Ridge of eliminations, as a share of the mean of the diagonal of the Gram matrix.
const RIDGE: f64 = 1e-2;

/// Choice of heads and neurons for one span.
pub struct Pooling<'c, 'a> {
    walker: &'c Walker<'a>,
    span: &'c Span<'c>,
    /// Layers of the span as they are in the original; empty if the span was watched.
    layers: Vec<DecoderLayer>,
}

impl<'c, 'a> Pooling<'c, 'a> {
    /// Prepares the choice for `span`. Uploads the layers of the original if the span was not watched.
    ///
    /// # Errors
    /// Those of [`Walker::original`].
    pub async fn new(walker: &'c Walker<'a>, span: &'c Span<'c>) -> Result<Self> {
        let mut layers = Vec::new();
        if !span.watched.is_known() {
            for layer in span.layers {
                layers.push(walker.original(*layer).await?);
            }
        }
        Ok(Self { walker, span, layers })
    }

    async fn seen(&self, chunk: &SpanChunk<'_>) -> Result<Cow<'c, Seen>> {
        let [before, _] = chunk.beside;
        self.span.watched.on(self.walker, &self.layers, (chunk.place, chunk.original, before)).await
    }

    /// Folds a linear map into the query, key and value projections of each layer: from the residual stream
    /// that enters the span in the new model to the stream that the layer read in the original.
    ///
    /// # Errors
    /// Those of [`Watched::on`](crate::methods::walk::seen::Watched::on), [`Walker::systems`],
    /// [`Walker::add`] and [`Systems::solve`], and [`Error::Device`](crate::Error::Device) if the device
    /// fails.
    pub async fn align_attention(&self, folded: &mut [Folded]) -> Result<()> {
        let entering: Vec<_> = self.span.chunks().map(|chunk| as_rows(chunk.entering)).collect();
        let systems = self.alignment(&entering, |read| &read.attention).await?;
        self.fold_maps(systems, folded, &[Role::Query, Role::Key, Role::Value]).await
    }

    /// Folds a linear map into the gate and up projections of each layer: from the residual stream after the
    /// chosen heads, `between` `[n, hidden]` of each chunk, to the stream that the MLP of the layer read in
    /// the original. Where attention and the MLP read the same, from the stream that enters the span.
    ///
    /// # Errors
    /// Those of [`align_attention`](Self::align_attention).
    pub async fn align_mlp(&self, between: &[Tensor<2>], folded: &mut [Folded]) -> Result<()> {
        let entering;
        let now = match self.walker.context.model.config.architecture.norms {
            Norms::Shared => {
                entering = self.span.chunks().map(|chunk| as_rows(chunk.entering)).collect::<Vec<_>>();
                &entering
            }
            _ => between,
        };
        let systems = self.alignment(now, |read| &read.mlp).await?;
        self.fold_maps(systems, folded, &[Role::Gate, Role::Up]).await
    }

    /// Returns one problem for each layer of the span. The regressors are the rows `now` `[n, hidden]` of
    /// each chunk, which the layer reads in the new model; the targets are the rows that `part` of the layer
    /// read in the original, less the regressors. All rows are normalised.
    async fn alignment(&self, now: &[Tensor<2>], part: impl Fn(&Read) -> &[f16]) -> Result<Vec<Systems>> {
        let config = &self.walker.context.model.config;
        let width = config.hidden_size;
        let one = |_| self.walker.systems(width);
        let mut systems: Vec<Systems> = (0..self.span.layers.len()).map(one).collect::<Result<_>>()?;
        let mut target = Vec::new();
        for (chunk, now) in self.span.chunks().zip(now) {
            let read = to_host(normed(now.clone(), config), "while fitting").await?;
            let weights = vec![1.0; read.len() / width.max(1)];
            for (original, systems) in self.seen(&chunk).await?.reads.iter().zip(&mut systems) {
                target.resize(read.len(), 0.0);
                part(original).convert_to_f32_slice(&mut target);
                target.iter_mut().zip(&read).for_each(|(target, read)| *target -= read);
                self.walker.add(systems, chunk.place, &read, &target, &weights)?;
            }
        }
        Ok(systems)
    }

    /// Replaces the projections `roles` of each layer: `W <- W (I + R)'`, where `R` best explains the targets
    /// of the layer's system, which are what the layer read in the original less what it reads now. A layer
    /// stays as it is if no `R` is better than 0 on held-out rows.
    async fn fold_maps(&self, systems: Vec<Systems>, folded: &mut [Folded], roles: &[Role]) -> Result<()> {
        let context = &self.walker.context;
        let hidden = context.model.config.hidden_size;
        let zero = vec![0.0f32; hidden * hidden];
        for (mut systems, layer) in systems.into_iter().zip(folded) {
            let mut map = systems.solve(&zero)?;
            if map.lambda.is_none() {
                continue;
            }
            map.b.iter_mut().step_by(hidden + 1).for_each(|x| *x += 1.0);
            // Row-major `[targets, regressors]`: where the layer now reads `n`, it would have read `map n` in
            // the original.
            let device = context.accelerator.device();
            let map = Tensor::<2>::from_data(TensorData::new(map.b, [hidden, hidden]), device);
            for role in roles {
                let weight = layer.get_mut(*role)?;
                let rows = weight.len() / hidden.max(1);
                let values = TensorData::new(std::mem::take(weight), [rows, hidden]);
                let product = Tensor::<2>::from_data(values, device).matmul(map.clone());
                *weight = to_host(product, "while fitting").await?;
            }
        }
        Ok(())
    }

    /// Computes the residual stream between attention and MLP, `[n, hidden]` for each chunk, from the stream
    /// that enters the span in the new model. The chosen `groups` of heads of `layers` write to the stream
    /// through `output`, row-major `[hidden, columns of the groups]`; the output biases of all `layers` are
    /// added.
    ///
    /// # Errors
    /// Those of [`contexts`].
    pub fn after_attention(
        &self,
        layers: &[DecoderLayer],
        groups: &[usize],
        output: &[f32],
    ) -> Result<Vec<Tensor<2>>> {
        let config = &self.walker.context.model.config;
        let device = self.walker.context.accelerator.device();
        let columns: Vec<i32> =
            GroupShape::new(config).columns(groups).into_iter().map(|column| column as i32).collect();
        let width = columns.len();
        let columns = Tensor::<1, Int>::from_data(TensorData::new(columns, [width]), device);
        let output = TensorData::new(output.to_vec(), [config.hidden_size, width]);
        let output = Tensor::<2>::from_data(output, device).transpose();
        let biases = layers.iter().filter_map(|layer| layer.output().bias().cloned());
        let bias = biases.reduce(|a, b| a + b);
        let after = |chunk: SpanChunk<'_>| {
            let [_, beside] = chunk.beside;
            let contexts = contexts(layers, chunk.entering, beside, self.walker)?;
            let chosen = Tensor::cat(contexts, 1).select(1, columns.clone());
            let after = as_rows(chunk.entering) + chosen.matmul(output.clone());
            Ok(match &bias {
                Some(bias) => after + bias.clone(),
                None => after,
            })
        };
        self.span.chunks().map(after).collect()
    }

    /// Chooses the groups of heads that stay and returns their indices, counted through all layers, and the
    /// output projection `[hidden, columns of the groups]`, row-major. `layers` and `folded` are the layers
    /// of the span on the device and on the host, aligned for attention.
    ///
    /// # Errors
    /// Those of [`contexts`], [`Watched::on`](crate::methods::walk::seen::Watched::on), [`Walker::systems`],
    /// [`Walker::add`], [`eliminate_groups`], [`side_by_side`], [`columns`], [`Systems::subset`] and
    /// [`Systems::solve`], and [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn heads(&self, layers: &[DecoderLayer], folded: &[Folded]) -> Result<(Vec<usize>, Vec<f32>)> {
        let walker = self.walker;
        let config = &walker.context.model.config;
        let shape = GroupShape::new(config);
        let heads = config.n_heads * config.head_dim;
        let width = heads * layers.len();
        let mut systems = walker.systems(width)?;
        for chunk in self.span.chunks() {
            let [_, beside] = chunk.beside;
            let parts = contexts(layers, chunk.entering, beside, walker)?;
            let seen = self.seen(&chunk).await?;
            let mut target = chunk.leaving - as_rows(chunk.entering);
            // Heads need not explain what the output biases add, nor what the MLPs added in the original.
            let written = seen.written.iter().chain(layers.iter().filter_map(|layer| layer.output().bias()));
            for part in written {
                target = target - part.clone();
            }
            let (z, y) = (joined(parts).await?, to_host(target, "while fitting").await?);
            walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
        }
        let groups = match bound_groups(config, self.span)? {
            Some(groups) => groups,
            None => eliminate_groups(&systems.fit, shape.queries, shape.per_layer, RIDGE)?,
        };
        let chosen = shape.columns(&groups);
        let start = columns(&side_by_side(folded, Role::Output, heads)?, width, &chosen)?;
        let output = systems.subset(&chosen)?.solve(&start)?.b;
        Ok((groups, output))
    }

    /// Chooses the neurons that stay and returns their indices, counted through all layers, and the down
    /// projection `[hidden, neurons]`, row-major. `layers` and `folded` are the layers of the span on the
    /// device and on the host, aligned for the MLP. `between` is the residual stream `[n, hidden]` of each
    /// chunk between attention and MLP.
    ///
    /// # Errors
    /// Those of [`activations`], [`Walker::systems`], [`Walker::add`], [`eliminate`](eliminate()),
    /// [`side_by_side`], [`columns`], [`Systems::subset`] and [`Systems::solve`], and
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn neurons(
        &self,
        layers: &[DecoderLayer],
        between: &[Tensor<2>],
        folded: &[Folded],
    ) -> Result<(Vec<usize>, Vec<f32>)> {
        let inner = self.walker.context.model.config.intermediate_size;
        let width = inner * layers.len();
        let mut systems = self.walker.systems(width)?;
        for (chunk, between) in self.span.chunks().zip(between) {
            let gated = activations(layers, chunk.entering, between)?;
            let mut target = chunk.leaving - between.clone();
            for bias in layers.iter().filter_map(|layer| layer.down().ok()?.bias()) {
                target = target - bias.clone();
            }
            let (z, y) = (joined(gated).await?, to_host(target, "while fitting").await?);
            self.walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
        }
        let neurons = eliminate(&systems.fit, inner, ROUNDS, RIDGE)?;
        let start = columns(&side_by_side(folded, Role::Down, inner)?, width, &neurons)?;
        let down = systems.subset(&neurons)?.solve(&start)?.b;
        Ok((neurons, down))
    }
}
