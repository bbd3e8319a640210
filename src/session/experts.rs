//! What is asked of experts, checked before any layer runs.

use super::Session;
use crate::Result;
use crate::methods::experts;
use crate::plan::MergePlan;

impl Session {
    /// Checks, before any layer runs, that `remove` experts of each layer can be removed.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if no layer has experts, or if fewer would stay than are chosen for a
    /// token.
    pub fn check_experts(&self, remove: usize) -> Result<()> {
        experts::check(&self.model.config, remove)
    }

    /// Checks, before any layer runs, that `plan` is valid and of the model.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage), naming the step, group, layer or expert, if it is not.
    pub fn check_plan(&self, plan: &MergePlan) -> Result<()> {
        plan.validate_for(self.model.config.n_layers)?;
        experts::check_plan(&self.model.config, plan)
    }
}
