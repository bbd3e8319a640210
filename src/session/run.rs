//! Observer and store of a stage.

use crate::files::parts::PartStore;
use crate::protocol::events::{Observer, Silent};

/// Observer of a stage, and store of its finished work. If nothing is kept, a reference to an [`Observer`] is
/// enough: `session.similarity(&options, &observer)`.
pub struct RunOptions<'a> {
    /// Observer that is told of the progress and may pause or stop the stage.
    pub observer: &'a dyn Observer,
    /// Store of finished layers and rounds, from which the same stage resumes after an interruption, with the
    /// same result bit by bit on the same kind of device. If the store refuses a part, nothing more is kept,
    /// but the stage goes on.
    pub store: Option<Box<dyn PartStore>>,
    /// Whether [`measure`](super::Session::measure) measures the model after each step of the plan, if the
    /// weights of the plan determine its layers.
    pub each_step: bool,
}

impl Default for RunOptions<'_> {
    /// No observer and no store.
    fn default() -> Self {
        Self { observer: &Silent, store: None, each_step: false }
    }
}

impl<'a> RunOptions<'a> {
    /// Makes options with an observer and without a store.
    pub fn watched_by(observer: &'a dyn Observer) -> Self {
        Self { observer, ..Self::default() }
    }

    /// Sets the store of finished work, if there is one.
    #[must_use]
    pub fn kept_in(self, store: Option<Box<dyn PartStore>>) -> Self {
        Self { store, ..self }
    }

    /// Measures the model after each step of a plan.
    #[must_use]
    pub fn measuring_each_step(self) -> Self {
        Self { each_step: true, ..self }
    }
}

impl<'a, O: Observer> From<&'a O> for RunOptions<'a> {
    fn from(observer: &'a O) -> Self {
        Self::watched_by(observer)
    }
}

impl<'a> From<&'a (dyn Observer + 'a)> for RunOptions<'a> {
    fn from(observer: &'a (dyn Observer + 'a)) -> Self {
        Self::watched_by(observer)
    }
}
