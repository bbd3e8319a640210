//! Gated delta net: a memory of keys and values that is corrected token by token (Yang et al.,
//! [2412.06464](https://arxiv.org/abs/2412.06464)), as Qwen3.5 has it.

use burn::tensor::activation::{sigmoid, silu, softplus};
use burn::tensor::{Int, Tensor, TensorData};

use super::convolution::Convolution;
use super::heads::each_head;
use super::linear::Linear;
use super::mixer::Memory;
use super::norm::Norm;
use crate::Result;
use crate::kernels::delta_rule::{Corrected, Heads, correct};
use crate::kernels::rowwise::{host, is_host};
use crate::model::config::DeltaNetSizes;

/// What is added to the sum of squares of a query or key before its root is divided by.
const LENGTH_EPSILON: f64 = 1e-6;

/// Weights of a gated delta net without its output projection.
#[derive(Debug, Clone)]
pub struct DeltaNet {
    /// Sizes of the mixer.
    pub sizes: DeltaNetSizes,
    /// Projection to queries, keys and values, `[2 keys + values, hidden]`.
    pub input: Linear,
    /// Convolution of queries, keys and values.
    pub convolution: Convolution,
    /// Projection to the gates of the outputs, `[values, hidden]`.
    pub gate: Linear,
    /// Projection to the rates of writing, `[value heads, hidden]`.
    pub rate: Linear,
    /// Projection to the steps, `[value heads, hidden]`, with its bias.
    pub step: Linear,
    /// Decays `A`, negative, `[value heads]`.
    pub decay: Vec<f32>,
    /// Norm of the output of each value head.
    pub norm: Norm,
}

impl DeltaNet {
    /// Computes what the output projection reads, `[batch * tokens, values]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]` of `batch` sequences. With a `memory`, the tokens follow those that it is of.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`Convolution::forward`], [`Norm::forward`] and [`correct`].
    pub fn forward(&self, x: Tensor<2>, batch: usize, mut memory: Option<&mut Memory>) -> Result<Tensor<2>> {
        let sizes = self.sizes;
        let (keys, values) = (sizes.keys(), sizes.values());
        let gate = silu(self.gate.forward(x.clone())?);
        let rate = sigmoid(self.rate.forward(x.clone())?);
        let decay = TensorData::new(self.decay.clone(), [1, sizes.value_heads]);
        let decay = Tensor::<2>::from_data(decay, &x.device());
        let kept = (softplus(self.step.forward(x.clone())?, 1.0) * decay).exp();
        let mixed = self.convolution.forward(self.input.forward(x)?, batch, memory.as_deref_mut())?;
        let query = unit(mixed.clone().narrow(1, 0, keys), sizes.key_width);
        let query = query * (sizes.key_width as f64).powf(-0.5);
        let key = unit(mixed.clone().narrow(1, keys, keys), sizes.key_width);
        let value = mixed.narrow(1, 2 * keys, values);
        let y = self.corrected([query, key, value], [kept, rate], batch, memory)?;
        Ok(each_head(&self.norm, y, sizes.value_width)? * gate)
    }

    /// Goes through the tokens as [`correct`] does, on any device, and remembers the states.
    fn corrected(
        &self,
        [query, key, value]: [Tensor<2>; 3],
        [kept, rate]: [Tensor<2>; 2],
        batch: usize,
        memory: Option<&mut Memory>,
    ) -> Result<Tensor<2>> {
        let sizes = self.sizes;
        let DeltaNetSizes { value_heads: heads, key_width, value_width, .. } = sizes;
        let [n, _] = value.dims();
        let tokens = n / batch.max(1);
        let device = value.device();
        if memory.is_none() && is_host(&device) {
            let (query, key, value) = (host(query)?, host(key)?, host(value)?);
            let (kept, rate) = (host(kept)?, host(rate)?);
            let corrected = Corrected { query: &query, key: &key, value: &value, kept: &kept, rate: &rate };
            let served_by: Vec<usize> = (0..heads).map(|head| sizes.key_head(head)).collect();
            let heads =
                Heads { batch, key_heads: sizes.key_heads, served_by: &served_by, key_width, value_width };
            let y = correct(corrected, heads)?;
            return Ok(Tensor::from_data(TensorData::new(y, [n, sizes.values()]), &device));
        }
        // Every value head gets the query and the key of its key head: [batch * heads, tokens, width].
        let of_heads: Vec<i32> = (0..heads).map(|head| sizes.key_head(head) as i32).collect();
        let of_heads = Tensor::<1, Int>::from_data(TensorData::new(of_heads, [heads]), &device);
        let by_head = |x: Tensor<2>, n: usize, width: usize| x.reshape([batch, tokens, n, width]);
        let rows = |x: Tensor<4>, width: usize| x.swap_dims(1, 2).reshape([batch * heads, tokens, width]);
        let served = |x: Tensor<2>| {
            let x = by_head(x, sizes.key_heads, key_width).select(2, of_heads.clone());
            rows(x, key_width)
        };
        let (query, key) = (served(query), served(key));
        let value = rows(by_head(value, heads, value_width), value_width);
        let (kept, rate) = (rows(by_head(kept, heads, 1), 1), rows(by_head(rate, heads, 1), 1));
        let known = memory.as_ref().and_then(|memory| memory.states.clone());
        let shape = [batch * heads, key_width, value_width];
        let mut state = known.unwrap_or_else(|| Tensor::zeros(shape, &device));
        let mut outputs = Vec::with_capacity(tokens);
        for token in 0..tokens {
            let row = |x: &Tensor<3>| x.clone().narrow(1, token, 1);
            state = state * row(&kept);
            let column = row(&key).swap_dims(1, 2);
            let known = (state.clone() * column.clone()).sum_dim(1);
            state = state + column * ((row(&value) - known) * row(&rate));
            outputs.push((state.clone() * row(&query).swap_dims(1, 2)).sum_dim(1));
        }
        if let Some(memory) = memory {
            memory.states = Some(state);
        }
        let y = Tensor::cat(outputs, 1).reshape([batch, heads, tokens, value_width]);
        Ok(y.swap_dims(1, 2).reshape([n, heads * value_width]))
    }
}

/// Divides each head of `x` `[n, heads * width]` by its length.
fn unit(x: Tensor<2>, width: usize) -> Tensor<2> {
    let [n, columns] = x.dims();
    let heads = x.reshape([n * columns / width.max(1), width]);
    let length = (heads.clone().square().sum_dim(1) + LENGTH_EPSILON).sqrt();
    (heads / length).reshape([n, columns])
}
