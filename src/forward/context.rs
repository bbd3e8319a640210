//! What every pass over the layers needs.

use super::sequences::Sequences;
use super::stream::Stream;
use crate::device::Accelerator;
use crate::model::Model;
use crate::model::weights::storage::Storage;
use crate::protocol::events::Observer;

/// What every pass over the layers needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The original model.
    pub model: &'a Model,
    /// Where the arithmetic runs.
    pub accelerator: &'a Accelerator,
    /// What goes through.
    pub sequences: &'a Sequences,
    /// How the model is to be stored, so that the arithmetic sees what the file will hold.
    pub storage: Storage,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl<'a> Context<'a> {
    /// The model as it is.
    pub fn new(
        model: &'a Model,
        accelerator: &'a Accelerator,
        sequences: &'a Sequences,
        observer: &'a dyn Observer,
    ) -> Self {
        let storage = Storage::of(model);
        Self { model, accelerator, sequences, storage, observer }
    }

    /// The layers of `stream` as they will be stored. Where that changes them they have yet to be run, which whatever
    /// needs their states does.
    pub fn as_stored(&self, stream: &Stream) -> Stream {
        match self.storage.changes(self.model) {
            true => stream.with_layers(stream.layers().to_vec(), 0),
            false => stream.clone(),
        }
    }
}
