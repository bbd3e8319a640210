//! Inputs that layers have of their own (per-layer inputs, as in Gemma 3n and 4): a number of embeddings of the token for
//! each layer, and a projection of the embedding that enters the first layer.
//!
//! With the width `p` of the input, the embedding `t` `[p]` of the token for the layer and the stream `x0` `[D]` that
//! enters the first layer, the input of a layer is `e = (sqrt(p) t + RMSNorm(M x0 / sqrt(D))) / sqrt(2)`. After its MLP the
//! layer adds `RMSNorm(P (f(G x) * e))` to the stream `x`.

use burn::tensor::Tensor;

use super::linear::Linear;
use super::norm::Norm;
use crate::Result;
use crate::format::element::Element;
use crate::kernels::rowwise::{self, Activation};
use crate::maths::mix::Mix;

/// Weights of the input of a layer.
#[derive(Debug, Clone)]
pub struct LayerInput {
    /// Function of the gate.
    pub activation: Activation,
    /// Projection `M` of the embedding.
    pub projection: Linear,
    /// Norm of what it gives.
    pub norm: Norm,
    /// Projection `G` of the stream to the gate.
    pub gate: Linear,
    /// Projection `P` of the gated input to the stream.
    pub output: Linear,
    /// Norm of what it gives.
    pub after: Norm,
    /// Layers of the original whose embeddings of tokens are those of this layer, and their weights.
    pub mix: Mix,
    /// Element type in which these embeddings are stored.
    pub element: Element,
}

impl LayerInput {
    /// Computes the input `[n, p]` of the layer from the stream `x0` `[n, hidden]` that enters the first layer and the
    /// embeddings `tokens` `[n, p]` of the tokens for this layer.
    ///
    /// # Errors
    /// Those of [`Linear::forward`] and [`Norm::forward`].
    pub fn of(&self, x0: Tensor<2>, tokens: Tensor<2>) -> Result<Tensor<2>> {
        let ([_, hidden], [_, width]) = (x0.dims(), tokens.dims());
        let projected = rowwise::scaled(self.projection.forward(x0)?, (hidden as f64).powf(-0.5));
        let tokens = rowwise::scaled(tokens, (width as f64).sqrt());
        Ok(rowwise::scaled(self.norm.forward(projected)? + tokens, 0.5f64.sqrt()))
    }

    /// Computes what the layer adds to the stream `x` `[n, hidden]` after its MLP, with its input `input` `[n, p]`.
    ///
    /// # Errors
    /// Those of [`Linear::forward`], [`Norm::forward`] and [`rowwise::gated`].
    pub fn added(&self, x: Tensor<2>, input: Tensor<2>) -> Result<Tensor<2>> {
        let gated = rowwise::gated(self.activation, self.gate.forward(x)?, input)?;
        self.after.forward(self.output.forward(gated)?)
    }
}
