//! Mamba mixer: a state-space model in the place of attention, with norms of its step and of what goes into and out of its
//! states, as Jamba has them (Lieber et al., [2403.19887](https://arxiv.org/abs/2403.19887)).

use burn::tensor::activation::{silu, softplus};
use burn::tensor::{Tensor, TensorData};

use super::linear::Linear;
use super::norm::RmsNorm;
use crate::Result;
use crate::kernels::mamba::{Scanned, Shape, convolve, scan};
use crate::kernels::rowwise::{host, is_host};
use crate::model::config::MambaSizes;

/// Weights of a Mamba mixer without its output projection.
#[derive(Debug, Clone)]
pub struct Mamba {
    /// Sizes of the mixer.
    pub sizes: MambaSizes,
    /// Projection to the inputs and the gates of the channels, `[2 channels, hidden]`.
    pub input: Linear,
    /// Taps of the convolution, `[channels, taps]`, and its bias, `[channels]`.
    pub convolution: [Vec<f32>; 2],
    /// Projection of the channels to step, `B` and `C`, `[rank + 2 states, channels]`.
    pub selection: Linear,
    /// Norms of step, `B` and `C`.
    pub norms: [RmsNorm; 3],
    /// Projection of the step to the channels, `[channels, rank]`, with its bias.
    pub step: Linear,
    /// Decays `A`, negative, `[channels, states]`.
    pub decay: Vec<f32>,
    /// What goes past the states, `[channels]`.
    pub past: Vec<f32>,
}

/// What a mixer remembers of the tokens so far.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Last inputs of the convolution, `[batch, taps - 1, channels]`.
    tail: Tensor<3>,
    /// States, `[batch, channels, states]`.
    states: Tensor<3>,
}

impl Mamba {
    /// Computes what the output projection reads, `[batch * tokens, channels]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]` of `batch` sequences. With a `memory`, the tokens follow those that it is of.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`RmsNorm::forward`], [`convolve`] and [`scan`].
    pub fn forward(
        &self,
        x: Tensor<2>,
        batch: usize,
        memory: Option<&mut Option<Memory>>,
    ) -> Result<Tensor<2>> {
        let [n, _] = x.dims();
        let MambaSizes { channels, states, rank, taps } = self.sizes;
        let shape = Shape { batch, tokens: n / batch.max(1), channels, states, taps };
        let both = self.input.forward(x)?;
        let (x, gate) = (both.clone().narrow(1, 0, channels), both.narrow(1, channels, channels));
        let device = x.device();
        let on_device =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [n, channels]), &device);
        let is_alone = memory.is_none() && is_host(&device);
        let mut memory = memory;
        let [weight, bias] = &self.convolution;
        let x = match &mut memory {
            None if is_alone => on_device(convolve(&host(x)?, weight, bias, shape)?),
            memory => self.convolved(x, shape, memory.as_deref_mut()),
        };
        let selected = self.selection.forward(x.clone())?;
        let part = |place: usize, first: usize, width: usize| {
            let norm = self.norms.get(place);
            let part = selected.clone().narrow(1, first, width);
            norm.map_or(Ok(part.clone()), |norm| norm.forward(part))
        };
        let (step, b, c) = (part(0, 0, rank)?, part(1, rank, states)?, part(2, rank + states, states)?);
        let delta = softplus(self.step.forward(step)?, 1.0);
        let y = match &mut memory {
            None if is_alone => {
                let (x, delta, b, c) = (host(x)?, host(delta)?, host(b)?, host(c)?);
                let scanned = Scanned { x: &x, delta: &delta, b: &b, c: &c, a: &self.decay, d: &self.past };
                on_device(scan(scanned, shape)?)
            }
            memory => self.scanned([x, delta, b, c], shape, memory.as_deref_mut()),
        };
        Ok(y * silu(gate))
    }

    /// Convolves as [`convolve`] does, on any device, and remembers the last inputs.
    fn convolved(&self, x: Tensor<2>, shape: Shape, memory: Option<&mut Option<Memory>>) -> Tensor<2> {
        let Shape { batch, tokens, channels, taps, states } = shape;
        let device = x.device();
        let before = taps.saturating_sub(1);
        let [weight, bias] = &self.convolution;
        let tail = memory.as_ref().and_then(|memory| memory.as_ref()).map(|memory| memory.tail.clone());
        let tail = tail.unwrap_or_else(|| Tensor::zeros([batch, before, channels], &device));
        let padded = Tensor::cat(vec![tail, x.reshape([batch, tokens, channels])], 1);
        if let Some(memory) = memory {
            let tail = padded.clone().narrow(1, tokens, before);
            let known = memory.take().map(|memory| memory.states);
            let states = known.unwrap_or_else(|| Tensor::zeros([batch, channels, states], &device));
            *memory = Some(Memory { tail, states });
        }
        let of_tap =
            |tap: usize| -> Vec<f32> { weight.iter().skip(tap).step_by(taps.max(1)).copied().collect() };
        let row =
            |values: Vec<f32>| Tensor::<3>::from_data(TensorData::new(values, [1, 1, channels]), &device);
        let mut sum = row(bias.clone()).expand([batch, tokens, channels]);
        for tap in 0..taps {
            sum = sum + padded.clone().narrow(1, tap, tokens) * row(of_tap(tap));
        }
        silu(sum).reshape([batch * tokens, channels])
    }

    /// Scans as [`scan`] does, on any device, token by token, and remembers the states.
    fn scanned(
        &self,
        [x, delta, b, c]: [Tensor<2>; 4],
        shape: Shape,
        memory: Option<&mut Option<Memory>>,
    ) -> Tensor<2> {
        let Shape { batch, tokens, channels, states, .. } = shape;
        let device = x.device();
        let decay = TensorData::new(self.decay.clone(), [1, channels, states]);
        let decay = Tensor::<3>::from_data(decay, &device);
        let past = Tensor::<3>::from_data(TensorData::new(self.past.clone(), [1, channels, 1]), &device);
        let split = |y: Tensor<2>, width: usize| y.reshape([batch, tokens, width]);
        let (x, delta) = (split(x, channels), split(delta, channels));
        let (b, c) = (split(b, states), split(c, states));
        let known = memory.as_ref().and_then(|memory| memory.as_ref()).map(|memory| memory.states.clone());
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
        if let Some(Some(memory)) = memory {
            memory.states = state;
        }
        Tensor::cat(outputs, 1).reshape([batch * tokens, channels])
    }
}
