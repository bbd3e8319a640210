//! GPTQ: each matrix is rounded by the Gram matrix of what it reads.

use super::inputs::{Inputs, divided};
use super::{Target, Walk};
use crate::Result;
use crate::error::OrInternal;
use crate::format::element::{Element, encode_weighted};
use crate::format::stored::Stored;
use crate::forward::states::HiddenStates;
use crate::maths::least_squares::{Curvature, gptq, gptq_blocks};
use crate::methods::resources::megabytes;
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::config::LayerKind;
use crate::model::weights::new_layer::NewLayer;

/// Rounds the matrices of `layer`, which `states` enter. Those whose Gram matrix needs more memory than fits may are left
/// to be rounded to the nearest, which a remark says.
///
/// # Errors
/// Those of [`Curvature::of`], [`gptq`], [`gptq_blocks`] and of running layers.
pub async fn layer(walk: &mut Walk<'_>, layer: NewLayer, states: &HiddenStates) -> Result<NewLayer> {
    let bytes = walk.resources.fit_bytes;
    let mut inputs = Vec::new();
    for each in walk.inputs(&layer)? {
        let targets = each.roles.iter().map(|role| walk.target(&layer, *role)).collect::<Result<Vec<_>>>()?;
        if targets.iter().any(Option::is_some) {
            inputs.push(each);
        }
    }
    let (parts, too_wide) = divided(inputs, bytes);
    for Inputs { columns, .. } in &too_wide {
        walk.remark(format!(
            "Matrices of {columns} columns are rounded to the nearest, because the Gram matrix of what they read needs \
             more than the {} that fits may need.",
            megabytes(bytes)
        ));
    }
    if parts.is_empty() {
        return Ok(layer);
    }
    let uploaded = walk.upload(&layer).await?;
    let (mut matrices, mut blocks) = (Vec::new(), Vec::new());
    for inputs in parts {
        let gathered = walk.gather(&uploaded, states, &inputs, true).await?;
        for (Inputs { roles, columns }, gathered) in inputs.into_iter().zip(gathered) {
            let curvature = Curvature::of(gathered.gram.or_internal("a Gram matrix was not gathered")?)?;
            for role in roles {
                let Some(target) = walk.target(&layer, role)? else { continue };
                let stored = walk.read(&layer, role).await?;
                let rows = stored.len() / columns.max(1);
                let read = |first, count| Ok(stored.rows(first, count, columns)?.into_owned());
                match target {
                    Target::Scheme(scheme) => {
                        let rounded = gptq(scheme, stored.element, rows, read, &curvature)?;
                        matrices.push((role, walk.packed(scheme, &stored, rounded)));
                    }
                    Target::Block(block) => {
                        let element = Element::Block(block);
                        let importances = walk.importances(&layer, role)?;
                        // Computed matrices are encoded already.
                        let encoded = match layer.replaced(role).filter(|encoded| encoded.element == element)
                        {
                            Some(encoded) => Some(encoded.read().await?),
                            None => None,
                        };
                        let encode = |first, weights: &[f32]| match &encoded {
                            Some(encoded) => {
                                let count = weights.len() / columns.max(1);
                                encoded.row_bytes(first, count, columns).map(<[u8]>::to_vec)
                            }
                            None => encode_weighted(element, weights, importances.as_deref()),
                        };
                        let bytes = gptq_blocks(block, rows, read, encode, &curvature)
                            .map_err(|e| e.in_tensor(&format!("{role:?}")))?;
                        blocks.push((role, Stored { element, bytes }.into()));
                    }
                }
            }
        }
    }
    Ok(layer.packing(matrices).storing(blocks))
}

/// Returns the work of rounding a layer of the kind `kind`.
pub fn work(config: &Config, kind: LayerKind, inputs: &[Inputs], fit_bytes: u64) -> Work {
    let (parts, _) = divided(inputs.to_vec(), fit_bytes);
    let passes = Work { uploads: 1.0, passes: parts.len() as f64, ..Work::default() };
    let of_inputs = |Inputs { roles, columns }: &Inputs| {
        let square = (columns * columns) as f64;
        let rows: usize = roles.iter().filter_map(|role| role.shape(config, kind).first().copied()).sum();
        let solutions = square * *columns as f64 / 3.0 + square * rows as f64;
        Work { solutions, ..Work::sums(*columns, 0) }
    };
    parts.iter().flatten().map(of_inputs).fold(passes, std::ops::Add::add)
}

#[cfg(test)]
mod tests {
    use super::super::inputs::gram_bytes;
    use super::*;
    use crate::model::tensors::Role;

    /// One layer of Llama 3 8B in BF16 and the Gram matrices of what it reads fit in 1.5 GB.
    #[test]
    fn large_layers_fit() {
        let (hidden, keys, inner) = (4096u64, 1024, 14_336);
        let layer = 2 * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * inner);
        let of = |role, columns| Inputs { roles: vec![role], columns };
        let inputs =
            [of(Role::Query, 4096), of(Role::Output, 4096), of(Role::Gate, 4096), of(Role::Down, 14_336)];
        let needed = gram_bytes(&inputs, crate::methods::FIT_BYTES);
        assert!(needed > 4 * 14_336 * 14_336 && layer + needed < 1_500_000_000, "{layer} {needed}");
        assert_eq!(divided(inputs.to_vec(), crate::methods::FIT_BYTES).0.len(), 2);
        // Where less is given, the widest are rounded to nearest.
        assert_eq!(divided(inputs.to_vec(), 500_000_000).1, [of(Role::Down, 14_336)]);
    }
}
