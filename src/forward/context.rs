//! Inputs of every pass over the layers: model, device, sequences, storage and observer.

use super::expert_use::ExpertWatch;
use super::sequences::Sequences;
use crate::device::Accelerator;
use crate::model::Model;
use crate::model::weights::storage::Storage;
use crate::protocol::events::Observer;

/// Inputs of every pass over the layers.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Original model.
    pub model: &'a Model,
    /// Device that runs the arithmetic.
    pub accelerator: &'a Accelerator,
    /// Token sequences that go through the layers.
    pub sequences: &'a Sequences,
    /// Storage of the compressed model, so that the arithmetic sees the values that a file would hold.
    pub storage: Storage,
    /// Observer of the pass.
    pub observer: &'a dyn Observer,
    /// Record of the use of experts that passes through unchanged layers fill, if one is wanted.
    pub experts: Option<&'a ExpertWatch>,
}

impl<'a> Context<'a> {
    /// Makes a context in which layers keep the element types of `model`.
    pub fn new(
        model: &'a Model,
        accelerator: &'a Accelerator,
        sequences: &'a Sequences,
        observer: &'a dyn Observer,
    ) -> Self {
        let storage = Storage::of(model);
        Self { model, accelerator, sequences, storage, observer, experts: None }
    }
}
