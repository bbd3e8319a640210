//! Experts of a layer of a compressed model: the original experts that each of them is made of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::OrInternal;

/// An expert of the original, and its weight in a new expert.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExpertPart {
    /// Layer of the original.
    pub layer: usize,
    /// Number of the expert in that layer, from 0.
    pub expert: usize,
    /// Weight of the expert; the weights of a new expert sum to 1.
    pub weight: f64,
}

/// Experts of a layer of a compressed model, in order.
///
/// Each is a weighted sum of experts of the original, and the row of the router that scores it is the same sum of their
/// rows. An expert with one part is a copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewExperts(Arc<Vec<Vec<ExpertPart>>>);

impl NewExperts {
    /// Makes experts of their parts.
    pub fn new(experts: Vec<Vec<ExpertPart>>) -> Self {
        Self(Arc::new(experts))
    }

    /// Returns copies of the experts `kept` of the original's layer `layer`.
    pub fn copies(layer: usize, kept: impl IntoIterator<Item = usize>) -> Self {
        let copy = |expert| vec![ExpertPart { layer, expert, weight: 1.0 }];
        Self::new(kept.into_iter().map(copy).collect())
    }

    /// Returns the experts at the places `kept`, in that order.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if there is no such place.
    pub fn at(&self, kept: &[usize]) -> Result<Self> {
        let chosen: Result<Vec<Vec<ExpertPart>>> =
            kept.iter().map(|e| Ok(self.parts(*e)?.to_vec())).collect();
        chosen.map(Self::new)
    }

    /// Returns the number of experts.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns what the expert `e` is made of.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if there is no such expert.
    pub fn parts(&self, e: usize) -> Result<&[ExpertPart]> {
        self.0.get(e).map(Vec::as_slice).or_internal("an expert is asked for that a layer does not have")
    }

    /// Returns what each expert is made of, in order.
    pub fn all(&self) -> &[Vec<ExpertPart>] {
        &self.0
    }

    /// Returns whether the experts are copies of experts of one layer.
    pub fn are_copies(&self) -> bool {
        self.0.iter().all(|parts| parts.len() == 1) && self.layers().len() <= 1
    }

    /// Returns the layers of the original that the experts have parts of, ascending.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers: Vec<usize> = self.0.iter().flatten().map(|part| part.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }
}
