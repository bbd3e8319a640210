//! Mamba mixer: a state-space model in the place of attention, with norms of its step and of what goes into and out of its
//! states, as Jamba has them (Lieber et al., [2403.19887](https://arxiv.org/abs/2403.19887)).

use burn::tensor::activation::{silu, softplus};
use burn::tensor::{Tensor, TensorData};

use super::convolution::Convolution;
use super::linear::Linear;
use super::mixer::Memory;
use super::norm::Norm;
use crate::Result;
use crate::kernels::mamba::{Scanned, scan};
use crate::kernels::recurrence::Shape;
use crate::kernels::rowwise::{host, is_host};
use crate::model::config::MambaSizes;

/// Weights of a Mamba mixer without its output projection.
#[derive(Debug, Clone)]
pub struct Mamba {
    /// Sizes of the mixer.
    pub sizes: MambaSizes,
    /// Projection to the inputs and the gates of the channels, `[2 channels, hidden]`.
    pub input: Linear,
    /// Convolution of the inputs of the channels.
    pub convolution: Convolution,
    /// Projection of the channels to step, `B` and `C`, `[rank + 2 states, channels]`.
    pub selection: Linear,
    /// Norms of step, `B` and `C`.
    pub norms: [Norm; 3],
    /// Projection of the step to the channels, `[channels, rank]`, with its bias.
    pub step: Linear,
    /// Decays `A`, negative, `[channels, states]`.
    pub decay: Vec<f32>,
    /// What goes past the states, `[channels]`.
    pub past: Vec<f32>,
}

impl Mamba {
    /// Computes what the output projection reads, `[batch * tokens, channels]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]` of `batch` sequences. With a `memory`, the tokens follow those that it is of.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`Norm::forward`], [`Convolution::forward`] and [`scan`].
    pub fn forward(&self, x: Tensor<2>, batch: usize, mut memory: Option<&mut Memory>) -> Result<Tensor<2>> {
        let [n, _] = x.dims();
        let MambaSizes { channels, states, rank, .. } = self.sizes;
        let both = self.input.forward(x)?;
        let (x, gate) = (both.clone().narrow(1, 0, channels), both.narrow(1, channels, channels));
        let x = self.convolution.forward(x, batch, memory.as_deref_mut())?;
        let selected = self.selection.forward(x.clone())?;
        let [step_norm, b_norm, c_norm] = &self.norms;
        let part = |norm: &Norm, first, width| norm.forward(selected.clone().narrow(1, first, width));
        let step = part(step_norm, 0, rank)?;
        let (b, c) = (part(b_norm, rank, states)?, part(c_norm, rank + states, states)?);
        let delta = softplus(self.step.forward(step)?, 1.0);
        let shape = Shape { batch, tokens: n / batch.max(1), channels };
        Ok(self.scanned([x, delta, b, c], shape, memory)? * silu(gate))
    }

    /// Scans as [`scan`] does, on any device, and remembers the states.
    fn scanned(
        &self,
        [x, delta, b, c]: [Tensor<2>; 4],
        shape: Shape,
        memory: Option<&mut Memory>,
    ) -> Result<Tensor<2>> {
        let Shape { batch, tokens, channels } = shape;
        let states = self.sizes.states;
        let device = x.device();
        if memory.is_none() && is_host(&device) {
            let (x, delta, b, c) = (host(x)?, host(delta)?, host(b)?, host(c)?);
            let scanned = Scanned { x: &x, delta: &delta, b: &b, c: &c, a: &self.decay, d: &self.past };
            let y = TensorData::new(scan(scanned, states, shape)?, [batch * tokens, channels]);
            return Ok(Tensor::from_data(y, &device));
        }
        let decay = TensorData::new(self.decay.clone(), [1, channels, states]);
        let decay = Tensor::<3>::from_data(decay, &device);
        let past = Tensor::<3>::from_data(TensorData::new(self.past.clone(), [1, channels, 1]), &device);
        let split = |y: Tensor<2>, width: usize| y.reshape([batch, tokens, width]);
        let (x, delta) = (split(x, channels), split(delta, channels));
        let (b, c) = (split(b, states), split(c, states));
        let known = memory.as_ref().and_then(|memory| memory.states.clone());
        let mut state = known.unwrap_or_else(|| Tensor::zeros([batch, channels, states], &device));
        let mut outputs = Vec::with_capacity(tokens);
        for token in 0..tokens {
            let column = |y: &Tensor<3>| y.clone().narrow(1, token, 1).swap_dims(1, 2);
            let row = |y: &Tensor<3>| y.clone().narrow(1, token, 1);
            let (x, delta) = (column(&x), column(&delta));
            state = (delta.clone() * decay.clone()).exp() * state + delta * x.clone() * row(&b);
            let y = (state.clone() * row(&c)).sum_dim(2) + past.clone() * x;
            outputs.push(y.swap_dims(1, 2));
        }
        if let Some(memory) = memory {
            memory.states = Some(state);
        }
        Ok(Tensor::cat(outputs, 1).reshape([batch * tokens, channels]))
    }
}
