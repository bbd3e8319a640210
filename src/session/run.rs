//! How a stage is run.

use crate::files::parts::PartStore;
use crate::protocol::events::{Observer, Silent};

/// Who watches a stage, and where its finished work is kept. A reference to an [`Observer`] alone is enough where
/// nothing is kept: `session.similarity(&options, &observer)`.
pub struct RunOptions<'a> {
    /// Told of the progress; may pause the stage or stop it.
    pub observer: &'a dyn Observer,
    /// Keeps finished layers and rounds, from which the same stage goes on after an interruption. The result is the
    /// same, bit by bit on the same kind of device; a store that refuses ends the keeping and not the stage.
    pub store: Option<Box<dyn PartStore>>,
    /// Whether a plan that exists already is measured after each of its steps, where its weights say all.
    pub each_step: bool,
}

impl Default for RunOptions<'_> {
    /// Nobody watches, nothing is kept.
    fn default() -> Self {
        Self { observer: &Silent, store: None, each_step: false }
    }
}

impl<'a> RunOptions<'a> {
    /// Watched by `observer`; nothing is kept.
    pub fn watched_by(observer: &'a dyn Observer) -> Self {
        Self { observer, ..Self::default() }
    }

    /// Finished work is kept in `store`, if there is one.
    #[must_use]
    pub fn kept_in(self, store: Option<Box<dyn PartStore>>) -> Self {
        Self { store, ..self }
    }

    /// Each step of a plan is measured.
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
