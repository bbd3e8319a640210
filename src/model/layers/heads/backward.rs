//! Gradients of attention: through the heads, their norms and their projections.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::{Attention, HeadWeights, Keys, each_head};
use crate::kernels::attention::Heads;
use crate::model::layers::attention::{Positions, gather, gather_backward};
use crate::model::layers::beside::Beside;
use crate::model::layers::gradients::Gradients;
use crate::model::layers::norm::Norm;
use crate::model::tensors::Role;
use crate::{Error, Result};

/// What the backward pass of attention needs of its forward pass.
pub struct AttentionTape {
    heads: Heads,
    /// Queries, keys and values as they were projected.
    projected: [Tensor<2>; 3],
    /// The same, normalised.
    normalised: [Tensor<2>; 3],
    /// Gates of the contexts before the logistic function, and the contexts before the gates, if there are gates.
    gates: Option<[Tensor<2>; 2]>,
}

impl Attention {
    /// Computes the outputs of the heads as [`contexts`](Self::contexts) does for whole sequences, and keeps what
    /// [`backward`](Self::backward) needs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer that shares keys and values with others; those of [`contexts`](Self::contexts).
    pub fn taped(
        &self,
        x: Tensor<2>,
        [batch, tokens]: [usize; 2],
        positions: &Positions,
    ) -> Result<(Tensor<2>, AttentionTape)> {
        let heads =
            Heads { batch, tokens, heads: self.n_heads, kv_heads: self.n_kv_heads, width: self.head_dim };
        if !matches!(self.keys, Keys::Own { are_read: false, .. }) {
            return Err(Error::Unsupported(
                "no gradient goes through layers that share keys and values with others".to_owned(),
            ));
        }
        let [both, keys, values] = self.projected(x, &Beside::default())?;
        let (queries, gates) = if self.gated { self.apart(both) } else { (both, None) };
        let projected = [queries, keys, values];
        let [query_norm, key_norm] = self.norms();
        let [queries, keys, values] = projected.clone();
        let normalised = [
            self.normed(query_norm, queries)?,
            self.normed(key_norm, keys)?,
            match &self.value_norm {
                Some(norm) => each_head(norm, values, heads.width)?,
                None => values,
            },
        ];
        let contexts = gather(normalised.clone(), heads, positions, self.kind, self.scoring(), None)?;
        let tape = |gates| AttentionTape { heads, projected, normalised, gates };
        match gates {
            Some(gates) => Ok((contexts.clone() * sigmoid(gates.clone()), tape(Some([gates, contexts])))),
            None => Ok((contexts, tape(None))),
        }
    }

    /// Computes the gradient of what the projections read, `[batch * tokens, hidden]`, from the gradient `dy` of the outputs of
    /// the heads. `x` is what the projections read.
    ///
    /// # Errors
    /// Those of [`gather_backward`], [`Norm::backward`] and [`Gradients::through`].
    pub fn backward(
        &self,
        x: &Tensor<2>,
        tape: AttentionTape,
        positions: &Positions,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Result<Tensor<2>> {
        let AttentionTape { heads, projected, normalised, gates } = tape;
        let (dy, d_gates) = match gates {
            Some([gates, contexts]) => {
                let open = sigmoid(gates);
                let slope = open.clone() * (open.ones_like() - open.clone());
                (dy.clone() * open, Some(dy * contexts * slope))
            }
            None => (dy, None),
        };
        let [queries, keys, values] =
            gather_backward(normalised, dy, heads, positions, self.kind, self.scoring())?;
        let [query_norm, key_norm] = self.norms();
        let [before_queries, before_keys, before_values] = projected;
        let queries = self.back_through(query_norm, before_queries, queries)?;
        let keys = self.back_through(key_norm, before_keys, keys)?;
        let values = match &self.value_norm {
            Some(norm) => each_head_back(norm, before_values, values, heads.width)?,
            None => values,
        };
        let both = match d_gates {
            Some(gates) => self.together(queries, gates),
            None => queries,
        };
        let mut dx = gradients.through(Role::Query, &self.query, x, both)?;
        match &self.keys {
            Keys::Own { key, value: Some(value), .. } => {
                dx = dx + gradients.through(Role::Key, key, x, keys)?;
                dx = dx + gradients.through(Role::Value, value, x, values)?;
            }
            Keys::Own { key, value: None, .. } => {
                dx = dx + gradients.through(Role::Key, key, x, keys + values)?
            }
            Keys::Shared => return Err(Error::internal("a layer without keys went back")),
        }
        Ok(dx)
    }

    /// Returns the gradient of queries or keys `x` from the gradient `dy` of what [`normed`](Self::normed) made of them.
    fn back_through(&self, norm: Option<&Norm>, x: Tensor<2>, dy: Tensor<2>) -> Result<Tensor<2>> {
        match (norm, &self.head_norms) {
            (None, _) => Ok(dy),
            (Some(norm), HeadWeights::All(_)) => norm.backward(x, dy),
            (Some(norm), _) => each_head_back(norm, x, dy, self.head_dim),
        }
    }

    /// Joins queries and gates to what the query projection gives: the reverse of `apart`.
    fn together(&self, queries: Tensor<2>, gates: Tensor<2>) -> Tensor<2> {
        let ([n, _], width) = (queries.dims(), self.head_dim);
        let parts = [queries, gates].map(|part| part.reshape([n, self.n_heads, width]));
        Tensor::cat(parts.to_vec(), 2).reshape([n, self.n_heads * 2 * width])
    }
}

/// Returns the gradient of `x` `[n, heads * width]` from the gradient `dy` of what [`each_head`] made of it.
fn each_head_back(norm: &Norm, x: Tensor<2>, dy: Tensor<2>, width: usize) -> Result<Tensor<2>> {
    let [n, columns] = x.dims();
    let apart = |x: Tensor<2>| x.reshape([n * columns / width.max(1), width]);
    Ok(norm.backward(apart(x), apart(dy))?.reshape([n, columns]))
}
