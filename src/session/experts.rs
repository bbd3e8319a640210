//! What is asked of experts, checked before any layer runs.

use super::Session;
use crate::Result;
use crate::methods::experts;

impl Session {
    /// Checks, before any layer runs, that `remove` experts of each layer can be removed.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if no layer has experts, or if fewer would stay than are chosen for a
    /// token.
    pub fn check_experts(&self, remove: usize) -> Result<()> {
        experts::check(&self.model.config, remove)
    }
}
