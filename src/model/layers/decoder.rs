//! Arithmetic of one decoder layer, on the device that holds its weights.
//!
//! `x + Attention(RMSNorm(x))`, then `x + MLP(RMSNorm(x))`, with grouped queries, rotary positions and a gated MLP. Some
//! architectures normalise what attention and the MLP write, too, or only that; some have a Mamba mixer in the place of
//! attention, or experts in the place of the MLP.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::attention::{KeysAndValues, Positions, gather};
use super::mamba::{Mamba, Memory};
use crate::device::{Accelerator, Tally};
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::kernels::attention::{Heads, Scoring};
use crate::kernels::rowwise;
use crate::model::Config;
use crate::model::architectures::HeadNorms;
use crate::model::config::{ExpertSizes, FeedForward, LayerKind, Mixer};
use crate::model::layers::experts::Experts;
use crate::model::layers::linear::Linear;
use crate::model::layers::mlp::{Mlp, mlp_rows};
use crate::model::layers::norm::RmsNorm;
use crate::model::tensors::Role;
use crate::model::weights::fetch::LayerTensors;
use crate::model::weights::new_experts::NewExperts;
use crate::model::weights::storage::Storage;
use crate::{Error, Result};

/// Weights of a decoder layer on a device.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    tally: Arc<Tally>,
    /// Norms of what the mixer reads and of what it writes.
    attention_norms: [Option<RmsNorm>; 2],
    mixer: Mixing,
    /// Factor of what attention and the MLP add to the residual stream.
    residual_scale: f64,
    /// Output projection of the mixer.
    output: Linear,
    /// Norms of what the MLP reads and of what it writes.
    mlp_norms: [Option<RmsNorm>; 2],
    feed_forward: Feed,
}

/// Part of a layer that mixes the tokens, without its output projection.
#[derive(Debug, Clone)]
enum Mixing {
    Attention(Box<Attention>),
    Mamba(Box<Mamba>),
}

/// Weights of attention without its output projection.
#[derive(Debug, Clone)]
struct Attention {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    kind: LayerKind,
    head_norms: HeadWeights,
    /// Factor of the attention scores, and their cap.
    score_scale: f64,
    score_cap: Option<f64>,
    query: Linear,
    key: Linear,
    value: Linear,
}

/// Part of a layer that comes after the mixer.
#[derive(Debug, Clone)]
enum Feed {
    Mlp(Box<Mlp>),
    Experts(Box<Experts>),
}

/// Weights by which queries and keys are normalised.
#[derive(Debug, Clone)]
enum HeadWeights {
    None,
    /// Of each query head and of each key head.
    Each([RmsNorm; 2]),
    /// Of each head, which is rotated between the norm and its weights: norms without weights, and the products of the
    /// weights of queries and keys, which may all be of the queries.
    EachRotated([RmsNorm; 2], Vec<f32>),
    /// Of all query heads together and of all key heads together.
    All([RmsNorm; 2]),
}

impl DecoderLayer {
    /// Uploads the tensors of a layer; no upload is larger than the largest binding of the device.
    ///
    /// # Errors
    /// [`Error::Shape`], naming the role, if a tensor is missing or has the wrong number of values; those of
    /// [`Linear::new`].
    pub fn upload(config: &Config, tensors: LayerTensors, accelerator: &Accelerator) -> Result<Self> {
        let LayerTensors { tensors, kind, experts, storage } = tensors;
        let architecture = config.architecture;
        let mut parts = TensorsByRole { config, tensors, accelerator };
        let mut norms = |before, after| -> Result<[Option<RmsNorm>; 2]> {
            Ok([
                architecture.norms_before().then(|| parts.norm(before)).transpose()?,
                architecture.norms_after().then(|| parts.norm(after)).transpose()?,
            ])
        };
        let attention_norms = norms(Role::AttentionNorm, Role::AttentionAfterNorm)?;
        let mlp_norms = norms(Role::MlpNorm, Role::MlpAfterNorm)?;
        accelerator.tally().add_upload();
        let (mixer, output) = match kind.mixer {
            Mixer::Attention => {
                let attention = Attention {
                    n_heads: config.n_heads,
                    n_kv_heads: config.n_kv_heads,
                    head_dim: config.head_dim,
                    kind,
                    head_norms: parts.head_norms()?,
                    score_scale: config.score_scale(),
                    score_cap: config.scales.score_cap,
                    query: parts.linear(Role::Query, Role::QueryBias)?,
                    key: parts.linear(Role::Key, Role::KeyBias)?,
                    value: parts.linear(Role::Value, Role::ValueBias)?,
                };
                (Mixing::Attention(Box::new(attention)), parts.linear(Role::Output, Role::OutputBias)?)
            }
            Mixer::Mamba => (Mixing::Mamba(Box::new(parts.mamba()?)), parts.projection(Role::MambaOutput)?),
        };
        Ok(Self {
            tally: accelerator.tally().clone(),
            attention_norms,
            mixer,
            residual_scale: config.scales.residual,
            output,
            mlp_norms,
            feed_forward: match kind.feed_forward {
                FeedForward::Mlp => Feed::Mlp(Box::new(Mlp::new(
                    architecture.activation,
                    parts.linear(Role::Gate, Role::GateBias)?,
                    parts.linear(Role::Up, Role::UpBias)?,
                    parts.linear(Role::Down, Role::DownBias)?,
                    mlp_rows(config.intermediate_size, accelerator.max_binding_bytes()),
                ))),
                FeedForward::Experts => Feed::Experts(Box::new(parts.experts(experts, storage)?)),
            },
        })
    }

    /// Computes the residual stream `[batch, tokens, hidden]` after this layer from the stream `x` before it,
    /// which has the same shape.
    ///
    /// # Errors
    /// [`Error::Internal`] for a layer with experts, which
    /// [`Runner::forward`](crate::forward::runner::Runner::forward) runs; those of [`gather`] and [`Linear::forward`].
    pub fn forward(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<3>> {
        let shape = x.dims();
        let x = self.after_attention(x, positions)?;
        let mlp = self.mlp(x.clone())?;
        Ok((x + mlp).reshape(shape))
    }

    /// Computes the residual stream `[batch * tokens, hidden]` between attention and MLP as
    /// [`after_attention`](Self::after_attention) does, for tokens that follow the tokens in the cache `past`, and appends
    /// their keys and values to the cache. `positions` must be [`Positions::after`] the number of tokens in the cache.
    ///
    /// # Errors
    /// Those of [`gather`] and [`Linear::forward`].
    pub fn after_attention_with(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        past: &mut Past,
    ) -> Result<Tensor<2>> {
        self.attended(x, positions, Some(past))
    }

    /// Computes the residual stream `[batch * tokens, hidden]` between attention and MLP from the stream `x`
    /// `[batch, tokens, hidden]` before the layer.
    ///
    /// # Errors
    /// Those of [`gather`] and [`Linear::forward`].
    pub fn after_attention(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<2>> {
        self.attended(x, positions, None)
    }

    fn attended(&self, x: Tensor<3>, positions: &Positions, past: Option<&mut Past>) -> Result<Tensor<2>> {
        let [batch, tokens, hidden] = x.dims();
        let attention = self.output.forward(self.gathered(x.clone(), positions, past)?)?;
        let [_, after] = &self.attention_norms;
        Ok(x.reshape([batch * tokens, hidden]) + normed(after.as_ref(), attention)?)
    }

    /// Computes what [`attention_written`](Self::attention_written) makes the output of attention of,
    /// `[batch * tokens, heads * head_dim]`, from the residual stream `x` `[batch, tokens, hidden]` before the layer: the
    /// outputs of the attention heads before the output projection, scaled as residuals are, and divided by the root mean
    /// square of each row after the output projection if the layer normalises that.
    ///
    /// # Errors
    /// Those of [`gather`] and [`Linear::forward`].
    pub fn contexts(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<2>> {
        let contexts = self.gathered(x, positions, None)?;
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

    fn gathered(&self, x: Tensor<3>, positions: &Positions, past: Option<&mut Past>) -> Result<Tensor<2>> {
        let [batch, tokens, hidden] = x.dims();
        self.tally.add_attention(batch * tokens);
        let [before, _] = &self.attention_norms;
        let x = normed(before.as_ref(), x.reshape([batch * tokens, hidden]))?;
        let contexts = match &self.mixer {
            Mixing::Attention(attention) => {
                let past = past.map(|past| &mut past.attention);
                attention.contexts(x, [batch, tokens], positions, past)?
            }
            Mixing::Mamba(mamba) => mamba.forward(x, batch, past.map(|past| &mut past.mamba))?,
        };
        Ok(rowwise::scaled(contexts, self.residual_scale))
    }

    /// Computes what the MLP adds to the residual stream, `[n, hidden]`, from the stream `x` `[n, hidden]` between
    /// attention and MLP. Rows go in blocks whose activations fit in a binding of the device.
    ///
    /// # Errors
    /// [`Error::Internal`] for a layer with experts, which [`Runner::mlp`](crate::forward::runner::Runner::mlp) reads one
    /// by one; those of [`Linear::forward`] and [`RmsNorm::forward`].
    pub fn mlp(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        self.tally.add_mlp(x.dims()[0]);
        let y = self.own_mlp()?.forward(self.mlp_input(x)?, self.residual_scale)?;
        let [_, after] = &self.mlp_norms;
        normed(after.as_ref(), y)
    }

    /// Returns what the MLP, the router and the experts read, `[n, hidden]`: the stream `x` `[n, hidden]` between attention
    /// and MLP, normalised if the layer does so.
    ///
    /// # Errors
    /// Those of [`RmsNorm::forward`].
    pub fn mlp_input(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let [before, _] = &self.mlp_norms;
        normed(before.as_ref(), x)
    }

    /// Normalises what the experts add to the residual stream, `[n, hidden]`, if the layer does so, and scales it as
    /// residuals are.
    ///
    /// # Errors
    /// Those of [`RmsNorm::forward`].
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
    /// residual stream `x` `[n, hidden]` between attention and MLP: the gated activations before the down projection,
    /// scaled as residuals are, and divided by the root mean square of each row after the down projection if the layer
    /// normalises that.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`RmsNorm::forward`] and [`rowwise::gated`].
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

impl Attention {
    /// Computes the outputs of the heads, `[batch * tokens, heads * head_dim]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]`.
    fn contexts(
        &self,
        x: Tensor<2>,
        [batch, tokens]: [usize; 2],
        positions: &Positions,
        past: Option<&mut KeysAndValues>,
    ) -> Result<Tensor<2>> {
        let heads =
            Heads { batch, tokens, heads: self.n_heads, kv_heads: self.n_kv_heads, width: self.head_dim };
        let [queries, keys, values] = Linear::forward_all([&self.query, &self.key, &self.value], x)?;
        let (queries, keys, weights): (_, _, &[f32]) = match &self.head_norms {
            HeadWeights::None => (queries, keys, &[]),
            HeadWeights::Each([query_norm, key_norm]) => {
                (each_head(query_norm, queries, heads.width)?, each_head(key_norm, keys, heads.width)?, &[])
            }
            HeadWeights::EachRotated([query_norm, key_norm], weights) => (
                each_head(query_norm, queries, heads.width)?,
                each_head(key_norm, keys, heads.width)?,
                weights,
            ),
            HeadWeights::All([query_norm, key_norm]) => {
                (query_norm.forward(queries)?, key_norm.forward(keys)?, &[])
            }
        };
        let scoring = Scoring { scale: self.score_scale, cap: self.score_cap, weights };
        gather([queries, keys, values], heads, positions, self.kind, scoring, past)
    }
}

/// What a layer remembers of the tokens so far: keys and values, or the memory of a Mamba mixer.
#[derive(Debug, Clone, Default)]
pub struct Past {
    attention: KeysAndValues,
    mamba: Option<Memory>,
}

/// Normalises each row of `x` if there is a norm.
fn normed(norm: Option<&RmsNorm>, x: Tensor<2>) -> Result<Tensor<2>> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x),
    }
}

/// Multiplies each row of `x` by the weights of the norm if there is one.
fn weighted(norm: Option<&RmsNorm>, x: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.weighted(x),
        None => x,
    }
}

/// Divides each row of `x` by the root mean square of the row after `projection`, if there is a norm after it.
fn divided(norm: Option<&RmsNorm>, x: Tensor<2>, projection: &Linear) -> Result<Tensor<2>> {
    match norm {
        Some(norm) => Ok(x.clone() * norm.factors(projection.forward(x)?)),
        None => Ok(x),
    }
}

/// Normalises each head of `x` `[n, heads * width]`.
fn each_head(norm: &RmsNorm, x: Tensor<2>, width: usize) -> Result<Tensor<2>> {
    let [n, columns] = x.dims();
    Ok(norm.forward(x.reshape([n * columns / width.max(1), width]))?.reshape([n, columns]))
}

/// Tensors of a layer, which are taken out by role and uploaded.
struct TensorsByRole<'a> {
    config: &'a Config,
    tensors: Vec<(Role, Stored)>,
    accelerator: &'a Accelerator,
}

impl TensorsByRole<'_> {
    fn take(&mut self, role: Role) -> Option<Stored> {
        let place = self.tensors.iter().position(|(r, _)| *r == role)?;
        Some(self.tensors.swap_remove(place).1)
    }

    fn require(&mut self, role: Role) -> Result<Stored> {
        let expected: usize = role.shape(self.config).iter().product();
        match self.take(role) {
            Some(stored) if stored.len() == expected => Ok(stored),
            Some(stored) => Err(Error::Shape(format!(
                "a layer's {role:?} has {} elements, but the configuration demands {expected}",
                stored.len()
            ))),
            None => Err(Error::Shape(format!("a layer has no {role:?} tensor"))),
        }
    }

    fn norm(&mut self, role: Role) -> Result<RmsNorm> {
        let weight = self.require(role)?.to_f32()?;
        Ok(self.norm_of(weight))
    }

    fn norm_of(&self, weight: Vec<f32>) -> RmsNorm {
        RmsNorm::new(weight, self.config.norm_epsilon, self.accelerator.device())
    }

    fn head_norms(&mut self) -> Result<HeadWeights> {
        Ok(match self.config.architecture.head_norms {
            HeadNorms::None => HeadWeights::None,
            HeadNorms::Each => HeadWeights::Each([self.norm(Role::QueryNorm)?, self.norm(Role::KeyNorm)?]),
            HeadNorms::All => HeadWeights::All([self.norm(Role::QueryNorm)?, self.norm(Role::KeyNorm)?]),
            HeadNorms::EachRotated => {
                let (queries, keys) =
                    (self.require(Role::QueryNorm)?.to_f32()?, self.require(Role::KeyNorm)?.to_f32()?);
                let ones = || self.norm_of(vec![1.0; queries.len()]);
                let weights = queries.iter().zip(&keys).map(|(query, key)| query * key).collect();
                HeadWeights::EachRotated([ones(), ones()], weights)
            }
        })
    }

    /// Takes out the router and the expert that serves every token. The other experts are `made_of` those of the original,
    /// stored as `storage` says.
    fn experts(&mut self, made_of: NewExperts, storage: Storage) -> Result<Experts> {
        let sizes = self.config.experts.or_internal("a layer has experts, but the model has none")?;
        let sizes = ExpertSizes { count: made_of.count(), ..sizes };
        let activation = self.config.architecture.activation;
        let rows = self.take(Role::Router).or_internal("a layer with experts has no router")?;
        let (hidden, most) = (self.config.hidden_size, self.accelerator.max_binding_bytes());
        if rows.len() != sizes.count * hidden {
            return Err(Error::internal(format!(
                "{} experts have a router of {} numbers",
                sizes.count,
                rows.len()
            )));
        }
        let router = Linear::new(rows, sizes.count, hidden, None, most, self.accelerator.device())?;
        let shared = match sizes.shared_width {
            Some(width) => Some((
                Mlp::new(
                    activation,
                    self.projection(Role::SharedGate)?,
                    self.projection(Role::SharedUp)?,
                    self.projection(Role::SharedDown)?,
                    mlp_rows(width, self.accelerator.max_binding_bytes()),
                ),
                self.projection(Role::SharedRouter)?,
            )),
            None => None,
        };
        Ok(Experts { made_of, storage, sizes, activation, router, shared })
    }

    fn mamba(&mut self) -> Result<Mamba> {
        let sizes = self.config.mamba.or_internal("a layer has a Mamba mixer, but the model has none")?;
        let values = |parts: &mut Self, role: Role| parts.require(role)?.to_f32();
        Ok(Mamba {
            sizes,
            input: self.projection(Role::MambaInput)?,
            convolution: [values(self, Role::MambaConvolution)?, values(self, Role::MambaConvolutionBias)?],
            selection: self.projection(Role::MambaSelection)?,
            norms: [
                self.norm(Role::MambaStepNorm)?,
                self.norm(Role::MambaBNorm)?,
                self.norm(Role::MambaCNorm)?,
            ],
            step: self.linear(Role::MambaStep, Role::MambaStepBias)?,
            decay: values(self, Role::MambaDecay)?,
            past: values(self, Role::MambaPast)?,
        })
    }

    fn projection(&mut self, weight: Role) -> Result<Linear> {
        let shape = weight.shape(self.config);
        let [n_out, n_in] = shape[..] else {
            return Err(Error::Shape(format!("{weight:?} is not a matrix")));
        };
        let values = self.require(weight)?;
        let most = self.accelerator.max_binding_bytes();
        Linear::new(values, n_out, n_in, None, most, self.accelerator.device())
    }

    fn linear(&mut self, weight: Role, bias: Role) -> Result<Linear> {
        let shape = weight.shape(self.config);
        let [n_out, n_in] = shape[..] else {
            return Err(Error::Shape(format!("{weight:?} is not a matrix")));
        };
        let values = self.require(weight)?;
        let mut values_of_bias = self.take(bias).map(|bias| bias.to_f32()).transpose()?;
        if matches!(bias, Role::OutputBias | Role::DownBias) {
            let scale = self.config.scales.residual as f32;
            values_of_bias.iter_mut().flatten().for_each(|value| *value *= scale);
        }
        Linear::new(
            values,
            n_out,
            n_in,
            values_of_bias,
            self.accelerator.max_binding_bytes(),
            self.accelerator.device(),
        )
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
