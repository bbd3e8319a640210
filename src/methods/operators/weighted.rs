//! Operators whose layers are weighted sums of the original's: averages (MKA), drops, and LaCo's collapse.

use crate::Result;
use crate::maths::mix::Mix;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// The layers of a plan whose weights say all.
///
/// # Errors
/// [`Error::Usage`] if the weights of a group do not sum to one.
pub fn mixed_layers(plan: &MergePlan) -> Result<Vec<NewLayer>> {
    let groups = plan.groups.iter().zip(&plan.weights);
    groups
        .map(|(group, weights)| {
            let parts = group.iter().copied().zip(weights.iter().copied()).collect();
            Ok(NewLayer::mixed(Mix::new(parts)?))
        })
        .collect()
}
