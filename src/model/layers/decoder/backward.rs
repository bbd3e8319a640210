//! Gradients of a decoder layer: its forward pass is repeated, and then gone through from its end.

use burn::tensor::Tensor;

use super::{DecoderLayer, Feed, normed};
use crate::kernels::rowwise;
use crate::model::layers::attention::Positions;
use crate::model::layers::gradients::Gradients;
use crate::model::layers::mixer::Mixing;
use crate::model::layers::norm::Norm;
use crate::model::tensors::Role;
use crate::{Error, Result};

impl DecoderLayer {
    /// Computes the gradient of the residual stream `[batch, tokens, hidden]` before this layer from the stream `x` there and
    /// the gradient `dy` of the stream after the layer. Those of matrices are added to `gradients`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer with another mixer than attention, with experts, with an input of its own, or with keys
    /// and values that are those of other layers; those of [`Attention::taped`](crate::model::layers::heads::Attention::taped),
    /// [`Attention::backward`](crate::model::layers::heads::Attention::backward) and
    /// [`Mlp::backward`](crate::model::layers::mlp::Mlp::backward).
    pub fn backward(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        dy: Tensor<3>,
        gradients: &mut Gradients,
    ) -> Result<Tensor<3>> {
        let no_gradient = |of: &str| Error::Unsupported(format!("no gradient goes through layers with {of}"));
        let Mixing::Attention(attention) = &self.mixer else {
            return Err(no_gradient("another mixer than attention"));
        };
        let Feed::Mlp(mlp) = &self.feed_forward else { return Err(no_gradient("experts")) };
        if self.input.is_some() {
            return Err(no_gradient("an input of their own"));
        }
        let shape = x.dims();
        let [batch, tokens, hidden] = shape;
        let rows = |x: Tensor<3>| x.reshape([batch * tokens, hidden]);
        let (x, dy) = (rows(x), rowwise::scaled(rows(dy), self.output_scale));
        let [before_attention, after_attention] = &self.attention_norms;
        let [before_mlp, after_mlp] = &self.mlp_norms;

        self.tally.add_attention(batch * tokens);
        let read = normed(before_attention.as_ref(), x.clone())?;
        let (contexts, tape) = attention.taped(read.clone(), [batch, tokens], positions)?;
        let contexts = rowwise::scaled(contexts, self.residual_scale);
        let output = self.output.forward(contexts.clone())?;
        let between = x.clone() + normed(after_attention.as_ref(), output.clone())?;

        self.tally.add_mlp(batch * tokens);
        let into_mlp = if self.is_parallel { &x } else { &between };
        let mlp_reads = normed(before_mlp.as_ref(), into_mlp.clone())?;
        let d_down = match after_mlp {
            Some(norm) => norm.backward(mlp.forward(mlp_reads.clone(), self.residual_scale)?, dy.clone())?,
            None => dy.clone(),
        };
        let d_mlp = mlp.backward(mlp_reads, self.residual_scale, d_down, gradients)?;
        let d_into = back_through(before_mlp.as_ref(), into_mlp.clone(), d_mlp)?;
        let d_between = if self.is_parallel { dy.clone() } else { dy + d_into.clone() };

        let d_output = back_through(after_attention.as_ref(), output, d_between.clone())?;
        let d_contexts = gradients.through(Role::Output, &self.output, &contexts, d_output)?;
        let d_contexts = rowwise::scaled(d_contexts, self.residual_scale);
        let d_read = attention.backward(&read, tape, positions, d_contexts, gradients)?;
        let mut dx = d_between + back_through(before_attention.as_ref(), x, d_read)?;
        if self.is_parallel {
            dx = dx + d_into;
        }
        Ok(dx.reshape(shape))
    }
}

/// Returns the gradient of `x` from the gradient `dy` of what the norm makes of it, if there is one.
fn back_through(norm: Option<&Norm>, x: Tensor<2>, dy: Tensor<2>) -> Result<Tensor<2>> {
    match norm {
        Some(norm) => norm.backward(x, dy),
        None => Ok(dy),
    }
}
