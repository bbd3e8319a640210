//! Lists of the experts that stay, in a plan.

use super::MergePlan;
use crate::error::{Error, Result};

impl MergePlan {
    /// Checks the lists of experts that stay, as far as that is possible without the model.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the layer, if a list is out of order or layers have lists of different lengths, and if
    /// there are not as many lists as layers.
    pub(super) fn validate_experts(&self) -> Result<()> {
        let usage = |message: String| Err(Error::Usage(message));
        let kept = &self.kept_experts;
        if !kept.is_empty() && kept.len() != self.n_layers {
            return usage(format!(
                "the plan lists the experts that stay in {} layers, but is for a model of {}",
                kept.len(),
                self.n_layers
            ));
        }
        let of_experts = || kept.iter().enumerate().filter(|(_, kept)| !kept.is_empty());
        if let Some((layer, kept)) = of_experts().find(|(_, kept)| !kept.is_sorted_by(|a, b| a < b)) {
            return usage(format!(
                "the experts of layer {layer} that stay are {kept:?}, but must be in ascending order, each once"
            ));
        }
        let count = of_experts().next().map_or(0, |(_, kept)| kept.len());
        match of_experts().find(|(_, kept)| kept.len() != count) {
            Some((layer, kept)) => usage(format!(
                "{} experts of layer {layer} stay, but {count} of a layer before: files can say only one number",
                kept.len()
            )),
            None => Ok(()),
        }
    }
}
