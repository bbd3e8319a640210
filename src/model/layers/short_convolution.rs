//! Short convolution mixer: a convolution over a few tokens between two gates, as LFM2 has it (Liquid AI,
//! [2511.23404](https://arxiv.org/abs/2511.23404)).

use burn::tensor::Tensor;

use super::convolution::Convolution;
use super::linear::Linear;
use super::mixer::Memory;
use crate::Result;

/// Weights of a short convolution without its output projection.
#[derive(Debug, Clone)]
pub struct ShortConvolution {
    /// Projection to the gates before and after the convolution and to what is convolved, `[3 hidden, hidden]`.
    pub input: Linear,
    /// Convolution.
    pub convolution: Convolution,
}

impl ShortConvolution {
    /// Computes what the output projection reads, `[batch * tokens, hidden]`, from normalised hidden states `x` of the same
    /// shape: `C conv(B y)` with `(B, C, y)` of the input projection. With a `memory`, the tokens follow those that it is
    /// of.
    ///
    /// # Errors
    /// Those of [`Linear::forward`] and [`Convolution::forward`].
    pub fn forward(&self, x: Tensor<2>, batch: usize, memory: Option<&mut Memory>) -> Result<Tensor<2>> {
        let hidden = self.convolution.channels;
        let projected = self.input.forward(x)?;
        let part = |place: usize| projected.clone().narrow(1, place * hidden, hidden);
        let (before, after, y) = (part(0), part(1), part(2));
        Ok(after * self.convolution.forward(before * y, batch, memory)?)
    }
}
