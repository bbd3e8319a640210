//! Operators whose layers are weighted sums of the original's: averages (MKA), drops, and LaCo's collapse.

use crate::Result;
use crate::maths::mix::Mix;
use crate::model::Config;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Returns the layers of a plan whose weights determine every tensor, for a model with the configuration `config`.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) if a group is empty, or its weights are not finite or do not sum to
/// one.
pub fn mixed_layers(plan: &MergePlan, config: &Config) -> Result<Vec<NewLayer>> {
    let groups = plan.groups.iter().zip(&plan.weights);
    groups
        .map(|(group, weights)| {
            let parts = group.iter().copied().zip(weights.iter().copied()).collect();
            NewLayer::mixed(Mix::new(parts)?).covering(config, group).keeping(&plan.kept_experts)
        })
        .collect()
}
