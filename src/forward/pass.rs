//! A single pass of sequences through a model, with no hidden states kept between its layers.

use super::context::Context;
use super::sequences::Sequences;
use super::states::HiddenStates;
use super::stream::Stream;
use crate::Result;
use crate::device::Accelerator;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::protocol::events::{Observer, Stage};

/// A model of original or merged layers, ready to be run.
#[derive(Clone)]
pub struct Pass<'a> {
    /// Model whose tensors the layers are made of.
    pub model: &'a Model,
    /// Layers of the model, original or merged.
    pub layers: Vec<NewLayer>,
    /// Storage of the layers, so that the arithmetic sees the values that a file would hold.
    pub storage: Storage,
    /// Device that runs the arithmetic.
    pub accelerator: &'a Accelerator,
    /// Observer of the stage that the pass is part of. [`run`](Self::run) is told its own observer.
    pub observer: &'a dyn Observer,
}

impl<'a> Pass<'a> {
    /// Makes a pass through the unchanged layers of `model`.
    pub fn original(model: &'a Model, accelerator: &'a Accelerator, observer: &'a dyn Observer) -> Self {
        Self { model, layers: NewLayer::originals(model), storage: Storage::of(model), accelerator, observer }
    }

    /// Runs `sequences` through all layers and returns the hidden states after the last. The weights of one
    /// layer are on the device at a time.
    ///
    /// # Errors
    /// Those of [`Stream::open_once`] and [`Stream::run`].
    pub async fn run(&self, sequences: &Sequences, observer: &dyn Observer) -> Result<HiddenStates> {
        let Self { model, accelerator, storage, .. } = *self;
        let context = Context { storage, ..Context::new(model, accelerator, sequences, observer) };
        let mut stream = Stream::open_once(&context, self.layers.clone()).await?;
        stream.run(&context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
        stream.last().cloned()
    }
}
