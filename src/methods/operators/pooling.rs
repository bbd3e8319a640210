//! Which heads and neurons of the layers of a run become its one layer.

use std::borrow::Cow;

use burn::tensor::{Int, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::span_tensors::{Folded, GroupShape, activations, columns, contexts, joined, side_by_side};
use crate::Result;
use crate::forward::states::{as_rows, to_host};
use crate::maths::least_squares::{eliminate, eliminate_groups};
use crate::methods::walk::seen::{Read, Seen, normed};
use crate::methods::walk::span::{Span, SpanChunk};
use crate::methods::walk::walker::{Systems, Walker};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;

/// Rounds in which neurons go.
pub const ROUNDS: usize = 6;

/// The ridge of eliminations, as a share of the mean of the diagonal.
const RIDGE: f64 = 1e-2;

/// Chooses for one run.
pub struct Pooling<'c, 'a> {
    walker: &'c Walker<'a>,
    span: &'c Span<'c>,
    /// The layers as they are in the original, where it is not known what they did there.
    layers: Vec<DecoderLayer>,
}

impl<'c, 'a> Pooling<'c, 'a> {
    /// For `run`.
    ///
    /// # Errors
    /// What reading gives.
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
        self.span.watched.on(self.walker, &self.layers, chunk).await
    }

    /// Folds into each layer's queries, keys and values the map from what enters the run in the new model to what the
    /// layer read in the original.
    ///
    /// # Errors
    /// What running gives.
    pub async fn align_attention(&self, folded: &mut [Folded]) -> Result<()> {
        let entering: Vec<_> = self.span.chunks().map(|chunk| as_rows(chunk.entering)).collect();
        let systems = self.alignment(&entering, |read| &read.attention).await?;
        self.fold_maps(systems, folded, &[Role::Query, Role::Key, Role::Value]).await
    }

    /// The same for gates and ups, from the stream after the chosen heads, `between` of each chunk.
    ///
    /// # Errors
    /// What running gives.
    pub async fn align_mlp(&self, between: &[Tensor<2>], folded: &mut [Folded]) -> Result<()> {
        let systems = self.alignment(between, |read| &read.mlp).await?;
        self.fold_maps(systems, folded, &[Role::Gate, Role::Up]).await
    }

    /// For each layer of the run: what `part` of it read in the original, less what it reads now, by what it reads
    /// now; all normalised. `now` is of each chunk.
    async fn alignment(&self, now: &[Tensor<2>], part: impl Fn(&Read) -> &[f16]) -> Result<Vec<Systems>> {
        let config = &self.walker.context.model.config;
        let width = config.hidden_size;
        let one = |_| self.walker.systems(width);
        let mut systems: Vec<Systems> = (0..self.span.layers.len()).map(one).collect::<Result<_>>()?;
        let mut target = Vec::new();
        for (chunk, now) in self.span.chunks().zip(now) {
            let read = to_host(normed(now.clone(), config.norm_epsilon), "while fitting").await?;
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

    /// `W <- W (I + R)'`, where `R` explains the targets of each layer's system best: what the layer read in the
    /// original less what it reads now.
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
            // Row-major `[targets, regressors]`: reading `n`, the layer would have read `map n`.
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

    /// The stream `[n, hidden]` of each chunk after the groups of heads `groups` of `layers`, which write by `output`.
    ///
    /// # Errors
    /// What running gives.
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
            let contexts = contexts(layers, chunk.entering, self.walker)?;
            let chosen = Tensor::cat(contexts, 1).select(1, columns.clone());
            let after = as_rows(chunk.entering) + chosen.matmul(output.clone());
            Ok(match &bias {
                Some(bias) => after + bias.clone(),
                None => after,
            })
        };
        self.span.chunks().map(after).collect()
    }

    /// The groups of heads that stay, and the output projection `[hidden, their columns]`.
    ///
    /// # Errors
    /// What running gives.
    pub async fn heads(&self, layers: &[DecoderLayer], folded: &[Folded]) -> Result<(Vec<usize>, Vec<f32>)> {
        let walker = self.walker;
        let config = &walker.context.model.config;
        let shape = GroupShape::new(config);
        let heads = config.n_heads * config.head_dim;
        let width = heads * layers.len();
        let mut systems = walker.systems(width)?;
        for chunk in self.span.chunks() {
            let parts = contexts(layers, chunk.entering, walker)?;
            let seen = self.seen(&chunk).await?;
            let mut target = chunk.leaving - as_rows(chunk.entering);
            // What MLPs added in the original is not for the heads to explain.
            let written = seen.written.iter().chain(layers.iter().filter_map(|layer| layer.output().bias()));
            for part in written {
                target = target - part.clone();
            }
            let (z, y) = (joined(parts).await?, to_host(target, "while fitting").await?);
            walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
        }
        let groups = eliminate_groups(&systems.fit, shape.queries, shape.per_layer, RIDGE)?;
        let chosen = shape.columns(&groups);
        let start = columns(&side_by_side(folded, Role::Output, heads)?, width, &chosen)?;
        let output = systems.subset(&chosen)?.solve(&start)?.b;
        Ok((groups, output))
    }

    /// The neurons that stay, and the down projection `[hidden, their number]`.
    ///
    /// # Errors
    /// What running gives.
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
            let gated = activations(layers, between)?;
            let mut target = chunk.leaving - between.clone();
            for bias in layers.iter().filter_map(|layer| layer.down().bias()) {
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
