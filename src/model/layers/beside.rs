//! What layers read besides the residual stream: keys and values of other layers, and the tokens themselves.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::Result;
use crate::error::OrInternal;

/// Keys and values of tokens before positions, normalised: `[sequences, tokens, key heads * head_dim]` each.
pub type KeyPair = [Tensor<3>; 2];

/// What layers read besides the residual stream, for the sequences of one chunk. Layers of most models read nothing else.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Tokens and their embeddings, if each layer has an input of its own, which follows from them.
    pub embedded: Option<Embedded>,
    /// Keys and values that later layers read, by [`LayerKind::key_place`](crate::model::config::LayerKind::key_place), as
    /// far as the layers that they are of have been run.
    pub keys: [Option<KeyPair>; 2],
}

/// Tokens and their embeddings.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Ids of the tokens, one sequence after the other.
    pub ids: Arc<Vec<u32>>,
    /// Stream that enters the first layer, `[sequences, tokens, hidden]`.
    pub states: Tensor<3>,
}

impl Beside {
    /// Returns the same with `keys` at `place`, if there are any.
    #[must_use]
    pub fn with(&self, place: usize, keys: Option<KeyPair>) -> Self {
        let mut new = self.clone();
        if let (Some(slot), Some(keys)) = (new.keys.get_mut(place), keys) {
            *slot = Some(keys);
        }
        new
    }

    /// Returns the keys and values at `place`, `[sequences * tokens, key heads * head_dim]` each.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if no layer has left any there.
    pub fn keys_at(&self, place: usize) -> Result<[Tensor<2>; 2]> {
        let keys = self.keys.get(place).and_then(Option::as_ref);
        let keys = keys.or_internal("a layer reads the keys of another layer, which has not been run")?;
        Ok(keys.each_ref().map(|part| {
            let [sequences, tokens, width] = part.dims();
            part.clone().reshape([sequences * tokens, width])
        }))
    }

    /// Returns what belongs to the sequence at `place` of the chunk.
    #[must_use]
    pub fn sequence(&self, place: usize) -> Self {
        let one = |part: &Tensor<3>| part.clone().narrow(0, place, 1);
        Self {
            embedded: self.embedded.as_ref().map(|embedded| {
                let tokens = embedded.states.dims()[1];
                let ids = embedded.ids.iter().skip(place * tokens).take(tokens).copied().collect();
                Embedded { ids: Arc::new(ids), states: one(&embedded.states) }
            }),
            keys: self.keys.each_ref().map(|keys| keys.as_ref().map(|keys| keys.each_ref().map(one))),
        }
    }

    /// Joins what belongs to the sequences of several chunks, of which each has the same.
    #[must_use]
    pub fn joined(parts: &[Self]) -> Self {
        let all = |of: &dyn Fn(&Self) -> Option<Tensor<3>>| -> Option<Tensor<3>> {
            let found: Vec<Tensor<3>> = parts.iter().filter_map(of).collect();
            (found.len() == parts.len() && !found.is_empty()).then(|| Tensor::cat(found, 0))
        };
        let part = |place: usize, which: usize| {
            all(&|beside: &Self| beside.keys.get(place)?.as_ref()?.get(which).cloned())
        };
        let ids = parts.iter().filter_map(|beside| beside.embedded.as_ref());
        let ids: Vec<u32> = ids.flat_map(|embedded| embedded.ids.iter().copied()).collect();
        let states = all(&|beside: &Self| beside.embedded.as_ref().map(|embedded| embedded.states.clone()));
        Self {
            embedded: states.map(|states| Embedded { ids: Arc::new(ids), states }),
            keys: [0, 1].map(|place| Some([part(place, 0)?, part(place, 1)?])),
        }
    }
}
