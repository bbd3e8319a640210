//! A model that sequences go through once, with nothing kept between its layers.

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

/// A model, of whatever layers, ready to be run.
#[derive(Clone)]
pub struct Pass<'a> {
    /// The model whose tensors the layers are made of.
    pub model: &'a Model,
    /// Its layers, original or merged.
    pub layers: Vec<NewLayer>,
    /// How the layers are stored.
    pub storage: Storage,
    /// Where the arithmetic runs.
    pub accelerator: &'a Accelerator,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl<'a> Pass<'a> {
    /// The model as it is.
    pub fn original(model: &'a Model, accelerator: &'a Accelerator, observer: &'a dyn Observer) -> Self {
        Self { model, layers: NewLayer::originals(model), storage: Storage::of(model), accelerator, observer }
    }

    /// What leaves the last layer; one layer of weights is in memory at a time.
    ///
    /// # Errors
    /// What reading, the device and the observer give.
    pub async fn run(&self, sequences: &Sequences, observer: &dyn Observer) -> Result<HiddenStates> {
        let Self { model, accelerator, storage, .. } = *self;
        let context = Context { storage, ..Context::new(model, accelerator, sequences, observer) };
        let mut stream = Stream::open_once(&context, self.layers.clone()).await?;
        stream.run(&context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
        stream.last().cloned()
    }
}
