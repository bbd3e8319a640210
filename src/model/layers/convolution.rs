//! Causal convolution over the tokens, each channel by itself.

use burn::tensor::activation::silu;
use burn::tensor::{Tensor, TensorData};

use super::mixer::Memory;
use crate::Result;
use crate::kernels::convolution::convolve;
use crate::kernels::recurrence::Shape;
use crate::kernels::rowwise::{host, is_host};

/// Weights of a causal convolution.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// Taps of each channel, `[channels, taps]`; the last is of the token itself.
    pub weight: Vec<f32>,
    /// What is added to each channel, `[channels]`, or nothing.
    pub bias: Vec<f32>,
    /// Number of channels.
    pub channels: usize,
    /// Number of taps.
    pub taps: usize,
    /// Whether `silu(y) = y / (1 + exp(-y))` is applied to the sums.
    pub activated: bool,
}

impl Convolution {
    /// Convolves the channels of `x` `[batch * tokens, channels]`, which may be in any memory. Before the first token all
    /// is zero, or what `memory` holds of the tokens so far.
    ///
    /// # Errors
    /// Those of [`convolve`].
    pub fn forward(&self, x: Tensor<2>, batch: usize, memory: Option<&mut Memory>) -> Result<Tensor<2>> {
        let Self { channels, taps, .. } = *self;
        let [n, _] = x.dims();
        let device = x.device();
        let tokens = n / batch.max(1);
        if memory.is_none() && is_host(&device) {
            let shape = Shape { batch, tokens, channels };
            let y = convolve(&host(x)?, &self.weight, &self.bias, self.activated, taps, shape)?;
            return Ok(Tensor::from_data(TensorData::new(y, [n, channels]), &device));
        }
        let before = taps.saturating_sub(1);
        let tail = memory.as_ref().and_then(|memory| memory.tail.clone());
        let tail = tail.unwrap_or_else(|| Tensor::zeros([batch, before, channels], &device));
        let padded = Tensor::cat(vec![tail, x.reshape([batch, tokens, channels])], 1);
        if let Some(memory) = memory {
            memory.tail = Some(padded.clone().narrow(1, tokens, before));
        }
        let row =
            |values: Vec<f32>| Tensor::<3>::from_data(TensorData::new(values, [1, 1, channels]), &device);
        let of_tap =
            |tap: usize| -> Vec<f32> { self.weight.iter().skip(tap).step_by(taps.max(1)).copied().collect() };
        let mut sum = Tensor::zeros([batch, tokens, channels], &device);
        for tap in 0..taps {
            sum = sum + padded.clone().narrow(1, tap, tokens) * row(of_tap(tap));
        }
        if !self.bias.is_empty() {
            sum = sum + row(self.bias.clone());
        }
        let y = if self.activated { silu(sum) } else { sum };
        Ok(y.reshape([n, channels]))
    }
}
