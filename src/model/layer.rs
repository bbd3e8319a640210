//! The arithmetic of one decoder layer, on whatever device its tensors are.
//!
//! Pre-norm Llama: `x + Attention(RMSNorm(x))`, then `x + MLP(RMSNorm(x))`, with grouped-query
//! attention, rotary positions and a SiLU-gated MLP.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{Heads, Past, Positions, gather};
use super::dequantise::StoredRows;
use super::names::Role;
use super::product::{Stored, host_tile_bytes, products};
use super::weights::LayerTensors;
use super::{Config, fused};
use crate::device::Accelerator;
use crate::{Error, Result};

/// `x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    n_out: usize,
    bias: Option<Tensor<2>>,
}

#[derive(Debug, Clone)]
enum Weight {
    /// In this process's memory, as it is stored.
    Host(Arc<Stored>),
    /// On a GPU, cut into pieces of rows.
    Device(Vec<Rows>),
}

/// Some rows of a weight on a GPU.
#[derive(Debug, Clone)]
enum Rows {
    /// As they are stored; decoded when they are used.
    Stored(StoredRows),
    /// `[in, out_i]` view of `[out_i, in]`.
    Decoded(Tensor<2>),
}

impl Rows {
    fn transposed(&self) -> Tensor<2> {
        match self {
            Rows::Stored(rows) => rows.decode().transpose(),
            Rows::Decoded(rows) => rows.clone(),
        }
    }
}

/// Bytes of decoded rows that exist at a time on a GPU, at most.
const DECODED_BYTES: u64 = 64 << 20;

/// Bytes of decoded rows that exist at a time on a device, at most.
pub fn decoded_bytes(accelerator: &Accelerator) -> u64 {
    if fused::is_host(accelerator.device()) { host_tile_bytes() } else { DECODED_BYTES }
}

impl Linear {
    /// Takes a row-major `weight` of shape `[n_out, n_in]` to a device, in blocks of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight has another size.
    pub fn new(
        weight: Stored,
        n_out: usize,
        n_in: usize,
        bias: Option<Vec<f32>>,
        max_bytes: u64,
        device: &Device,
    ) -> Result<Self> {
        let weight = if fused::is_host(device) {
            Weight::Host(Arc::new(weight))
        } else {
            let piece_bytes = max_bytes.min(DECODED_BYTES);
            let max_rows =
                usize::try_from(piece_bytes / (4 * n_in.max(1) as u64)).unwrap_or(usize::MAX).max(1);
            let pieces = (0..n_out).step_by(max_rows).map(|first| {
                let count = max_rows.min(n_out - first);
                let bytes = weight.row_bytes(first, count, n_in)?;
                Ok(match StoredRows::upload(weight.element, bytes, [count, n_in], device) {
                    Some(rows) => Rows::Stored(rows),
                    None => {
                        let rows = weight.rows(first, count, n_in)?.into_owned();
                        let rows = Tensor::<2>::from_data(TensorData::new(rows, [count, n_in]), device);
                        Rows::Decoded(rows.transpose())
                    }
                })
            });
            Weight::Device(pieces.collect::<Result<_>>()?)
        };
        let bias = bias.map(|b| Tensor::from_data(TensorData::new(b, [1, n_out]), device));
        Ok(Self { weight, n_out, bias })
    }

    /// What is added to every row, `[1, out]`.
    pub fn bias(&self) -> Option<&Tensor<2>> {
        self.bias.as_ref()
    }

    /// Rows of `x` `[n, in]` to rows of `[n, out]`.
    ///
    /// # Errors
    /// As [`products`].
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let [y] = Self::forward_all([self], x)?;
        Ok(y)
    }

    /// The same `x` through several at once, which prepares it once.
    ///
    /// # Errors
    /// As [`products`].
    pub fn forward_all<const N: usize>(linears: [&Self; N], x: Tensor<2>) -> Result<[Tensor<2>; N]> {
        let [n, n_in] = x.dims();
        let hosted: Vec<(&Stored, usize)> = linears
            .iter()
            .filter_map(|linear| match &linear.weight {
                Weight::Host(stored) => Some((stored.as_ref(), linear.n_out)),
                Weight::Device(_) => None,
            })
            .collect();
        let device = x.device();
        let mut results = Vec::new();
        if hosted.len() == N {
            let products = products(&fused::host(x), n_in, &hosted)?;
            let shaped = products
                .into_iter()
                .zip(linears)
                .map(|(y, linear)| Tensor::<2>::from_data(TensorData::new(y, [n, linear.n_out]), &device));
            results.extend(shaped);
        } else {
            results.extend(linears.iter().map(|linear| linear.on_device(x.clone())));
        }
        let biased = results.into_iter().zip(linears).map(|(y, linear)| match &linear.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        });
        let results: Vec<Tensor<2>> = biased.collect();
        results.try_into().map_err(|_| Error::Shape("a product is missing".to_owned()))
    }

    fn on_device(&self, x: Tensor<2>) -> Tensor<2> {
        let Weight::Device(pieces) = &self.weight else { return x };
        let mut products: Vec<Tensor<2>> =
            pieces.iter().map(|rows| x.clone().matmul(rows.transposed())).collect();
        match products.pop() {
            Some(only) if products.is_empty() => only,
            Some(last) => {
                products.push(last);
                Tensor::cat(products, 1)
            }
            None => x,
        }
    }
}

/// `weight * x / sqrt(mean(x^2) + epsilon)` over the last axis.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor<2>,
    epsilon: f64,
}

impl RmsNorm {
    /// Uploads the weight.
    pub fn new(weight: Vec<f32>, epsilon: f64, device: &Device) -> Self {
        let width = weight.len();
        Self { weight: Tensor::from_data(TensorData::new(weight, [1, width]), device), epsilon }
    }

    /// Rows of `[n, width]`, each normalised.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::rms_norm(x, &self.weight, self.epsilon)
    }
}

/// A decoder layer's weights on a device.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl DecoderLayer {
    /// Uploads the tensors of a layer; no upload is larger than `max_binding_bytes`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming a tensor that is missing or of the wrong size.
    pub fn upload(
        config: &Config,
        tensors: LayerTensors,
        max_binding_bytes: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut parts = Parts { config, tensors, max_binding_bytes, device };
        Ok(Self {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            attention_norm: parts.norm(Role::AttentionNorm)?,
            query: parts.linear(Role::Query, Role::QueryBias)?,
            key: parts.linear(Role::Key, Role::KeyBias)?,
            value: parts.linear(Role::Value, Role::ValueBias)?,
            output: parts.linear(Role::Output, Role::OutputBias)?,
            mlp_norm: parts.norm(Role::MlpNorm)?,
            gate: parts.linear(Role::Gate, Role::GateBias)?,
            up: parts.linear(Role::Up, Role::UpBias)?,
            down: parts.linear(Role::Down, Role::DownBias)?,
        })
    }

    /// The residual stream `[batch, tokens, hidden]` after this layer.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<3>> {
        let shape = x.dims();
        let x = self.after_attention(x, positions)?;
        let mlp = self.down.forward(self.activations(x.clone())?)?;
        Ok((x + mlp).reshape(shape))
    }

    /// The same for tokens that follow those of `past`, which remembers them too; `positions` are
    /// [`Positions::after`] those.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_after(&self, x: Tensor<3>, positions: &Positions, past: &mut Past) -> Result<Tensor<3>> {
        let shape = x.dims();
        let x = self.attended(x, positions, Some(past))?;
        let mlp = self.down.forward(self.activations(x.clone())?)?;
        Ok((x + mlp).reshape(shape))
    }

    /// The stream `[batch tokens, hidden]` between attention and MLP.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn after_attention(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<2>> {
        self.attended(x, positions, None)
    }

    fn attended(&self, x: Tensor<3>, positions: &Positions, past: Option<&mut Past>) -> Result<Tensor<2>> {
        let [batch, tokens, hidden] = x.dims();
        let attention = self.output.forward(self.gathered(x.clone(), positions, past)?)?;
        Ok(x.reshape([batch * tokens, hidden]) + attention)
    }

    /// What the heads gather from a stream `[batch, tokens, hidden]`, before the output projection: `[batch
    /// tokens, heads head_dim]`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn contexts(&self, x: Tensor<3>, positions: &Positions) -> Result<Tensor<2>> {
        self.gathered(x, positions, None)
    }

    fn gathered(&self, x: Tensor<3>, positions: &Positions, past: Option<&mut Past>) -> Result<Tensor<2>> {
        let [batch, tokens, hidden] = x.dims();
        let x = self.attention_norm.forward(x.reshape([batch * tokens, hidden]));
        let heads =
            Heads { batch, tokens, heads: self.n_heads, kv_heads: self.n_kv_heads, width: self.head_dim };
        let parts = Linear::forward_all([&self.query, &self.key, &self.value], x)?;
        gather(parts, heads, positions, past)
    }

    /// The MLP's gated activations `[n, intermediate]` of a stream `[n, hidden]`, before the down projection.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn activations(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], self.mlp_norm.forward(x))?;
        Ok(fused::gated(gate, up))
    }

    /// The output projection.
    pub fn output(&self) -> &Linear {
        &self.output
    }

    /// The down projection.
    pub fn down(&self) -> &Linear {
        &self.down
    }
}

/// Takes tensors out of a layer by role.
struct Parts<'a> {
    config: &'a Config,
    tensors: LayerTensors,
    max_binding_bytes: u64,
    device: &'a Device,
}

impl Parts<'_> {
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
        Ok(RmsNorm::new(self.require(role)?.to_f32()?, self.config.norm_epsilon, self.device))
    }

    fn linear(&mut self, weight: Role, bias: Role) -> Result<Linear> {
        let shape = weight.shape(self.config);
        let [n_out, n_in] = shape[..] else {
            return Err(Error::Shape(format!("{weight:?} is not a matrix")));
        };
        let values = self.require(weight)?;
        let bias = self.take(bias).map(|bias| bias.to_f32()).transpose()?;
        Linear::new(values, n_out, n_in, bias, self.max_binding_bytes, self.device)
    }
}
