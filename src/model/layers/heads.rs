//! Attention of a layer: projections of the stream to heads, and norms of the heads.

mod backward;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::attention::{KeysAndValues, Positions, gather};
use super::beside::{Beside, KeyPair};
use super::linear::Linear;
use super::norm::Norm;
use crate::Result;
use crate::kernels::attention::{Heads, Scoring};
use crate::model::config::LayerKind;

/// Weights of attention without its output projection.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Kind of the layer: its rotation and its window.
    pub kind: LayerKind,
    /// How queries and keys are normalised.
    pub head_norms: HeadWeights,
    /// Whether the query projection gives the gate of each head after its queries.
    pub gated: bool,
    /// Factor of the attention scores.
    pub score_scale: f64,
    /// Cap of the attention scores.
    pub score_cap: Option<f64>,
    /// One more score for each query head; empty if there are none.
    pub sinks: Vec<f32>,
    /// Query projection.
    pub query: Linear,
    /// Where keys and values come from.
    pub keys: Keys,
    /// Norm of each value head.
    pub value_norm: Option<Norm>,
}

/// Where the keys and values of a layer come from.
#[derive(Debug, Clone)]
pub enum Keys {
    /// From the stream.
    Own {
        /// Key projection.
        key: Box<Linear>,
        /// Value projection; `None` if the values are the keys before they are normalised and rotated.
        value: Option<Box<Linear>>,
        /// Whether later layers read these keys and values.
        are_read: bool,
    },
    /// From another layer.
    Shared,
}

/// Weights by which queries and keys are normalised.
#[derive(Debug, Clone)]
pub enum HeadWeights {
    /// None: they are not normalised.
    None,
    /// Of each query head and of each key head.
    Each([Norm; 2]),
    /// Of each query head; the keys are those of another layer, which has normalised them.
    Queries(Norm),
    /// Of each head, which is rotated between the norm and its weights: norms without weights, and the products of the
    /// weights of queries and keys, which may all be of the queries.
    EachRotated([Norm; 2], Vec<f32>),
    /// Of all query heads together and of all key heads together.
    All([Norm; 2]),
}

impl Attention {
    /// Computes the outputs of the heads, `[batch * tokens, heads * head_dim]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]`, and the keys and values that later layers read, if they do. With `past`, the tokens
    /// follow those whose keys and values are there.
    ///
    /// # Errors
    /// Those of [`gather`], [`Beside::keys_at`], [`Linear::forward`] and [`Norm::forward`].
    pub fn contexts(
        &self,
        x: Tensor<2>,
        [batch, tokens]: [usize; 2],
        positions: &Positions,
        beside: &Beside,
        past: Option<&mut KeysAndValues>,
    ) -> Result<(Tensor<2>, Option<KeyPair>)> {
        let heads =
            Heads { batch, tokens, heads: self.n_heads, kv_heads: self.n_kv_heads, width: self.head_dim };
        let [queries, keys, values] = self.projected(x, beside)?;
        let values = match (&self.value_norm, &self.keys) {
            (Some(norm), Keys::Own { .. }) => each_head(norm, values, heads.width)?,
            _ => values,
        };
        let (queries, gates) = if self.gated { self.apart(queries) } else { (queries, None) };
        let [query_norm, key_norm] = self.norms();
        let (queries, keys) = (self.normed(query_norm, queries)?, self.normed(key_norm, keys)?);
        let read = match &self.keys {
            Keys::Own { are_read: true, .. } => {
                let width = self.n_kv_heads * self.head_dim;
                let apart = |part: &Tensor<2>| part.clone().reshape([batch, tokens, width]);
                Some([apart(&keys), apart(&values)])
            }
            _ => None,
        };
        let contexts = gather([queries, keys, values], heads, positions, self.kind, self.scoring(), past)?;
        let contexts = match gates {
            Some(gates) => contexts * sigmoid(gates),
            None => contexts,
        };
        Ok((contexts, read))
    }

    /// Computes queries, with their gates if they have any, keys and values from normalised hidden states `x`. Those that are
    /// shared are `beside`.
    fn projected(&self, x: Tensor<2>, beside: &Beside) -> Result<[Tensor<2>; 3]> {
        match &self.keys {
            Keys::Own { key, value: Some(value), .. } => Linear::forward_all([&self.query, key, value], x),
            Keys::Own { key, value: None, .. } => {
                let [queries, keys] = Linear::forward_all([&self.query, key], x)?;
                Ok([queries, keys.clone(), keys])
            }
            Keys::Shared => {
                let [keys, values] = beside.keys_at(self.kind.key_place())?;
                Ok([self.query.forward(x)?, keys, values])
            }
        }
    }

    /// Returns how queries and keys become scores.
    fn scoring(&self) -> Scoring<'_> {
        let weights: &[f32] = match &self.head_norms {
            HeadWeights::EachRotated(_, weights) => weights,
            _ => &[],
        };
        Scoring { scale: self.score_scale, cap: self.score_cap, weights, sinks: &self.sinks }
    }

    /// Returns the norms of queries and of keys, where they are normalised.
    fn norms(&self) -> [Option<&Norm>; 2] {
        match &self.head_norms {
            HeadWeights::None => [None, None],
            HeadWeights::Queries(norm) => [Some(norm), None],
            HeadWeights::Each([queries, keys])
            | HeadWeights::EachRotated([queries, keys], _)
            | HeadWeights::All([queries, keys]) => [Some(queries), Some(keys)],
        }
    }

    /// Normalises queries or keys `x` by their norm, if there is one: each head, or all together.
    fn normed(&self, norm: Option<&Norm>, x: Tensor<2>) -> Result<Tensor<2>> {
        match (norm, &self.head_norms) {
            (None, _) => Ok(x),
            (Some(norm), HeadWeights::All(_)) => norm.forward(x),
            (Some(norm), _) => each_head(norm, x, self.head_dim),
        }
    }

    /// Splits what the query projection gives, `[n, heads * 2 head_dim]`, into queries and gates, `[n, heads * head_dim]`
    /// each.
    fn apart(&self, both: Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let ([n, _], width) = (both.dims(), self.head_dim);
        let both = both.reshape([n, self.n_heads, 2 * width]);
        let part = |first| both.clone().narrow(2, first, width).reshape([n, self.n_heads * width]);
        (part(0), Some(part(width)))
    }
}

/// Normalises each head of `x` `[n, heads * width]`.
///
/// # Errors
/// Those of [`Norm::forward`].
pub fn each_head(norm: &Norm, x: Tensor<2>, width: usize) -> Result<Tensor<2>> {
    let [n, columns] = x.dims();
    Ok(norm.forward(x.reshape([n * columns / width.max(1), width]))?.reshape([n, columns]))
}
