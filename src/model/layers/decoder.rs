//! Arithmetic of one decoder layer, on the device that holds its weights.
//!
//! `x + Attention(RMSNorm(x))`, then `x + MLP(RMSNorm(x))`, with grouped queries, rotary positions and a gated MLP. Some
//! architectures normalise what attention and the MLP write, too, or only that; some have a Mamba mixer in the place of
//! attention, or experts in the place of the MLP; and in some, attention and the MLP read the same.

mod backward;

use std::sync::Arc;

use burn::tensor::Tensor;

use super::attention::Positions;
use super::beside::{Beside, KeyPair};
use super::experts::Experts;
use super::input::LayerInput;
use super::linear::Linear;
use super::mixer::{Mixing, Past};
use super::mlp::Mlp;
use super::norm::Norm;
use super::record::Record;
use super::upload::TensorsByRole;
use crate::device::{Accelerator, Tally};
use crate::kernels::rowwise;
use crate::model::Config;
use crate::model::architectures::Norms;
use crate::model::config::FeedForward;
use crate::model::tensors::Role;
use crate::model::weights::fetch::LayerTensors;
use crate::{Error, Result};

/// Weights of a decoder layer on a device.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    tally: Arc<Tally>,
    /// Norms of what the mixer reads and of what it writes.
    attention_norms: [Option<Norm>; 2],
    mixer: Mixing,
    /// Factor of what attention and the MLP add to the residual stream.
    residual_scale: f64,
    /// Output projection of the mixer.
    output: Linear,
    /// Norms of what the MLP reads and of what it writes.
    mlp_norms: [Option<Norm>; 2],
    /// Whether the MLP reads the stream before the layer, and not the stream after attention.
    is_parallel: bool,
    feed_forward: Feed,
    /// Input that the layer has of its own, if any.
    input: Option<Box<LayerInput>>,
    /// Place of the keys and values that later layers read.
    key_place: usize,
    /// Factor of the residual stream after the layer.
    output_scale: f64,
}

/// Part of a layer that comes after the mixer.
#[derive(Debug, Clone)]
enum Feed {
    Mlp(Box<Mlp>),
    Experts(Box<Experts>),
}

impl DecoderLayer {
    /// Uploads the tensors of a layer; no upload is larger than the largest binding of the device.
    ///
    /// # Errors
    /// [`Error::Shape`], naming the role, if a tensor is missing or has the wrong number of values; those of
    /// [`Linear::new`].
    pub fn upload(config: &Config, tensors: LayerTensors, accelerator: &Accelerator) -> Result<Self> {
        Self::upload_watched(config, tensors, accelerator, None)
    }

    /// Uploads the tensors of a layer as [`upload`](Self::upload) does. What its products read is recorded in `record`, if
    /// given.
    ///
    /// # Errors
    /// Those of [`upload`](Self::upload).
    pub fn upload_watched(
        config: &Config,
        tensors: LayerTensors,
        accelerator: &Accelerator,
        record: Option<Record>,
    ) -> Result<Self> {
        let LayerTensors { tensors, kind, experts, stored, keys_are_read, input } = tensors;
        let architecture = config.architecture;
        let rounds_inputs = stored.rounds_inputs.clone();
        let rounds_inputs = rounds_inputs.as_slice();
        let mut parts = TensorsByRole { config, kind, tensors, rounds_inputs, accelerator, record };
        let mut norms = |before, after| -> Result<[Option<Norm>; 2]> {
            Ok([
                architecture.norms_before().then(|| parts.norm(before)).transpose()?,
                architecture.norms_after().then(|| parts.norm(after)).transpose()?,
            ])
        };
        let attention_norms = norms(Role::AttentionNorm, Role::AttentionAfterNorm)?;
        let is_parallel = architecture.norms == Norms::Shared;
        let mlp_norms = match is_parallel {
            true => attention_norms.clone(),
            false => norms(Role::MlpNorm, Role::MlpAfterNorm)?,
        };
        accelerator.tally().add_upload();
        let (mixer, output) = parts.mixer(keys_are_read)?;
        Ok(Self {
            output_scale: parts.output_scale()?,
            tally: accelerator.tally().clone(),
            attention_norms,
            mixer,
            residual_scale: config.scales.residual,
            output,
            mlp_norms,
            is_parallel,
            input: input.map(|source| parts.input(source).map(Box::new)).transpose()?,
            key_place: kind.key_place(),
            feed_forward: match kind.feed_forward {
                FeedForward::Mlp => Feed::Mlp(Box::new(parts.mlp()?)),
                FeedForward::Experts => Feed::Experts(Box::new(parts.experts(experts, stored)?)),
            },
        })
    }

    /// Computes the residual stream `[batch, tokens, hidden]` after this layer from the stream `x` before it,
    /// which has the same shape, and from what it reads `beside` it and its own `input` `[batch * tokens, width]`, if it has
    /// one. Returns what later layers read besides the stream as well.
    ///
    /// # Errors
    /// [`Error::Internal`] for a layer with experts, which
    /// [`Runner::forward`](crate::forward::runner::Runner::forward) runs; those of [`Mixing::forward`] and [`Linear::forward`].
    pub fn forward(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        beside: &Beside,
        input: Option<Tensor<2>>,
    ) -> Result<(Tensor<3>, Beside)> {
        let shape = x.dims();
        let (between, beside) = self.attended(x.clone(), positions, beside, None)?;
        let mlp = self.mlp(self.read_by_mlp(&x, &between))?;
        Ok((self.leaving(self.fed(between + mlp, input)?).reshape(shape), beside))
    }

    /// Returns the input that the layer has of its own, if any.
    pub fn input(&self) -> Option<&LayerInput> {
        self.input.as_deref()
    }

    /// Adds what the layer makes of its own `input` `[n, width]` to the `sum` `[n, hidden]` of the stream between attention
    /// and MLP and of what the MLP or the experts add to it. A layer without such an input adds nothing.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layer has an input that is not given; those of [`LayerInput::added`].
    pub fn fed(&self, sum: Tensor<2>, input: Option<Tensor<2>>) -> Result<Tensor<2>> {
        match (&self.input, input) {
            (None, _) => Ok(sum),
            (Some(own), Some(input)) => Ok(sum.clone() + own.added(sum, input)?),
            (Some(_), None) => Err(Error::internal("a layer was run without its own input")),
        }
    }

    /// Returns the residual stream after the layer from what [`fed`](Self::fed) returns.
    pub fn leaving<const D: usize>(&self, sum: Tensor<D>) -> Tensor<D> {
        rowwise::scaled(sum, self.output_scale)
    }

    /// Returns the sum of which [`leaving`](Self::leaving) makes the residual stream `after` the layer.
    pub fn summed<const D: usize>(&self, after: Tensor<D>) -> Tensor<D> {
        rowwise::scaled(after, 1.0 / self.output_scale)
    }

    /// Returns the residual stream that the MLP or the experts read, `[batch * tokens, hidden]`: the stream `between`
    /// attention and MLP, which has this shape, or the stream `entering` `[batch, tokens, hidden]` the layer where attention
    /// and the MLP read the same.
    pub fn read_by_mlp(&self, entering: &Tensor<3>, between: &Tensor<2>) -> Tensor<2> {
        match self.is_parallel {
            true => entering.clone().reshape(between.dims()),
            false => between.clone(),
        }
    }

    /// Computes the residual stream `[batch * tokens, hidden]` between attention and MLP as
    /// [`after_attention`](Self::after_attention) does, for tokens that follow the tokens in the cache `past`, and appends
    /// their keys and values to the cache. `positions` must be [`Positions::after`] the number of tokens in the cache.
    ///
    /// # Errors
    /// Those of [`Mixing::forward`] and [`Linear::forward`].
    pub fn after_attention_with(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        beside: &Beside,
        past: &mut Past,
    ) -> Result<(Tensor<2>, Beside)> {
        self.attended(x, positions, beside, Some(past))
    }

    /// Computes the residual stream as [`after_attention`](Self::after_attention) does, and returns what later layers read
    /// besides the stream as well.
    ///
    /// # Errors
    /// Those of [`Mixing::forward`] and [`Linear::forward`].
    pub fn after_attention_and_beside(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        beside: &Beside,
    ) -> Result<(Tensor<2>, Beside)> {
        self.attended(x, positions, beside, None)
    }

    /// Computes the residual stream `[batch * tokens, hidden]` between attention and MLP from the stream `x`
    /// `[batch, tokens, hidden]` before the layer and what the layer reads `beside` it.
    ///
    /// # Errors
    /// Those of [`Mixing::forward`] and [`Linear::forward`].
    pub fn after_attention(&self, x: Tensor<3>, positions: &Positions, beside: &Beside) -> Result<Tensor<2>> {
        self.attended(x, positions, beside, None).map(|(between, _)| between)
    }

    fn attended(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        beside: &Beside,
        past: Option<&mut Past>,
    ) -> Result<(Tensor<2>, Beside)> {
        let [batch, tokens, hidden] = x.dims();
        let (contexts, keys) = self.gathered(x.clone(), positions, beside, past)?;
        let attention = self.output.forward(contexts)?;
        let [_, after] = &self.attention_norms;
        let between = x.reshape([batch * tokens, hidden]) + normed(after.as_ref(), attention)?;
        Ok((between, beside.with(self.key_place, keys)))
    }

    /// Computes what [`attention_written`](Self::attention_written) makes the output of attention of,
    /// `[batch * tokens, heads * head_dim]`, from the residual stream `x` `[batch, tokens, hidden]` before the layer and what
    /// it reads `beside` it: the outputs of the attention heads before the output projection, scaled as residuals are, and divided by the root mean
    /// square of each row after the output projection if the layer normalises that.
    ///
    /// # Errors
    /// Those of [`Mixing::forward`] and [`Linear::forward`].
    pub fn contexts(&self, x: Tensor<3>, positions: &Positions, beside: &Beside) -> Result<Tensor<2>> {
        let (contexts, _) = self.gathered(x, positions, beside, None)?;
        let [_, after] = &self.attention_norms;
        divided(after.as_ref(), contexts, &self.output)
    }

    /// Computes what attention adds to the residual stream, `[n, hidden]`, from [`contexts`](Self::contexts)
    /// `[n, heads * head_dim]`. The sum is linear in them.
    ///
    /// # Errors
    /// Those of [`Linear::forward`].
    pub fn attention_written(&self, contexts: Tensor<2>) -> Result<Tensor<2>> {
        let [_, after] = &self.attention_norms;
        Ok(weighted(after.as_ref(), self.output.forward(contexts)?))
    }

    /// Computes what the MLP adds to the residual stream, `[n, hidden]`, from [`activations`](Self::activations)
    /// `[n, intermediate]`. The sum is linear in them.
    ///
    /// # Errors
    /// Those of [`Linear::forward`].
    pub fn mlp_written(&self, activations: Tensor<2>) -> Result<Tensor<2>> {
        let [_, after] = &self.mlp_norms;
        Ok(weighted(after.as_ref(), self.own_mlp()?.down.forward(activations)?))
    }

    fn gathered(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        beside: &Beside,
        past: Option<&mut Past>,
    ) -> Result<(Tensor<2>, Option<KeyPair>)> {
        let [batch, tokens, hidden] = x.dims();
        self.tally.add_attention(batch * tokens);
        let [before, _] = &self.attention_norms;
        let x = normed(before.as_ref(), x.reshape([batch * tokens, hidden]))?;
        let (contexts, keys) = self.mixer.forward(x, [batch, tokens], positions, beside, past)?;
        Ok((rowwise::scaled(contexts, self.residual_scale), keys))
    }

    /// Computes what the MLP adds to the residual stream, `[n, hidden]`, from the stream `x` `[n, hidden]` that
    /// [it reads](Self::read_by_mlp). Rows go in blocks whose activations fit in a binding of the device.
    ///
    /// # Errors
    /// [`Error::Internal`] for a layer with experts, which [`Runner::mlp`](crate::forward::runner::Runner::mlp) reads one
    /// by one; those of [`Linear::forward`] and [`Norm::forward`].
    pub fn mlp(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        self.tally.add_mlp(x.dims()[0]);
        let y = self.own_mlp()?.forward(self.mlp_input(x)?, self.residual_scale)?;
        let [_, after] = &self.mlp_norms;
        normed(after.as_ref(), y)
    }

    /// Returns what the MLP, the router and the experts read, `[n, hidden]`: the stream `x` `[n, hidden]` that
    /// [they read](Self::read_by_mlp), normalised if the layer does so.
    ///
    /// # Errors
    /// Those of [`Norm::forward`].
    pub fn mlp_input(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let [before, _] = &self.mlp_norms;
        normed(before.as_ref(), x)
    }

    /// Normalises what the experts add to the residual stream, `[n, hidden]`, if the layer does so, and scales it as
    /// residuals are.
    ///
    /// # Errors
    /// Those of [`Norm::forward`].
    pub fn mlp_output(&self, y: Tensor<2>) -> Result<Tensor<2>> {
        self.tally.add_mlp(y.dims()[0]);
        let [_, after] = &self.mlp_norms;
        normed(after.as_ref(), rowwise::scaled(y, self.residual_scale))
    }

    /// Returns the experts of the layer, if it has experts and no MLP.
    pub fn experts(&self) -> Option<&Experts> {
        match &self.feed_forward {
            Feed::Experts(experts) => Some(experts),
            Feed::Mlp(_) => None,
        }
    }

    fn own_mlp(&self) -> Result<&Mlp> {
        match &self.feed_forward {
            Feed::Mlp(mlp) => Ok(mlp),
            Feed::Experts(_) => Err(Error::internal("a layer with experts was asked for its MLP")),
        }
    }

    /// Computes what [`mlp_written`](Self::mlp_written) makes the output of the MLP of, `[n, intermediate]`, from the
    /// residual stream `x` `[n, hidden]` that [it reads](Self::read_by_mlp): the gated activations before the down projection,
    /// scaled as residuals are, and divided by the root mean square of each row after the down projection if the layer
    /// normalises that.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`Norm::forward`] and [`rowwise::gated`].
    pub fn activations(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let gated = self.gated(x)?;
        let [_, after] = &self.mlp_norms;
        divided(after.as_ref(), gated, &self.own_mlp()?.down)
    }

    fn gated(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        self.tally.add_mlp(x.dims()[0]);
        self.own_mlp()?.gated(self.mlp_input(x)?, self.residual_scale)
    }

    /// Returns the output projection of attention.
    pub fn output(&self) -> &Linear {
        &self.output
    }

    /// Returns the down projection of the MLP.
    ///
    /// # Errors
    /// [`Error::Internal`] for a layer with experts.
    pub fn down(&self) -> Result<&Linear> {
        Ok(&self.own_mlp()?.down)
    }
}

/// Normalises each row of `x` if there is a norm.
fn normed(norm: Option<&Norm>, x: Tensor<2>) -> Result<Tensor<2>> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x),
    }
}

/// Multiplies each row of `x` by the weights of the norm if there is one.
fn weighted(norm: Option<&Norm>, x: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.weighted(x),
        None => x,
    }
}

/// Divides each row of `x` by the root mean square of the row after `projection`, if there is a norm after it.
fn divided(norm: Option<&Norm>, x: Tensor<2>, projection: &Linear) -> Result<Tensor<2>> {
    match norm {
        Some(norm) => Ok(x.clone() * norm.factors(projection.forward(x)?)),
        None => Ok(x),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use futures::executor::block_on;

    use super::*;
    use crate::demo;
    use crate::model::weights::fetch::LayerFetch;
    use crate::model::weights::new_layer::NewLayer;
    use crate::model::weights::storage::Storage;

    /// An MLP in blocks of any number of rows is the whole but for rounding: a few rows have a kernel of their own.
    #[test]
    fn blocks_of_rows_change_nothing() {
        let model = block_on(demo::open()).unwrap();
        let fetch = LayerFetch::start(&model, &NewLayer::original(3), Storage::of(&model)).unwrap();
        let accelerator = Accelerator::cpu("a test");
        let tensors = block_on(fetch.finish()).unwrap();
        let mut layer = DecoderLayer::upload(&model.config, tensors, &accelerator).unwrap();
        assert!(matches!(&layer.feed_forward, Feed::Mlp(mlp) if mlp.rows > 1 << 20));
        let (rows, width) = (37, model.config.hidden_size);
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * 7919) % 1013) as f32 / 506.0 - 1.0).collect();
        let x = Tensor::<2>::from_data(TensorData::new(values, [rows, width]), accelerator.device());
        let whole = rowwise::host(layer.mlp(x.clone()).unwrap()).unwrap();
        for block in [1, 8, 36, 37] {
            if let Feed::Mlp(mlp) = &mut layer.feed_forward {
                mlp.rows = block;
            }
            let parts = rowwise::host(layer.mlp(x.clone()).unwrap()).unwrap();
            assert_eq!(parts.len(), whole.len());
            let apart = parts.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-7, "{block} rows at a time: {apart}");
        }
    }
}
