//! GPTQ: each matrix is rounded by the Gram matrix of what it reads.

use super::Walk;
use super::inputs::{Inputs, divided};
use crate::Result;
use crate::error::OrInternal;
use crate::forward::states::HiddenStates;
use crate::maths::least_squares::{Curvature, gptq};
use crate::methods::resources::megabytes;
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::config::LayerKind;
use crate::model::weights::new_layer::NewLayer;

/// Rounds the matrices of `layer`, which `states` enter. Those whose Gram matrix needs more memory than fits may are left
/// to be rounded to the nearest, which a remark says.
///
/// # Errors
/// Those of [`Curvature::of`], [`gptq`] and of running layers.
pub async fn layer(walk: &mut Walk<'_>, layer: NewLayer, states: &HiddenStates) -> Result<NewLayer> {
    let bytes = walk.resources.fit_bytes;
    let (parts, too_wide) = divided(walk.inputs(&layer)?, bytes);
    for Inputs { columns, .. } in &too_wide {
        walk.remark(format!(
            "Matrices of {columns} columns are rounded to the nearest, because the Gram matrix of what they read needs \
             more than the {} that fits may need.",
            megabytes(bytes)
        ));
    }
    let uploaded = walk.upload(&layer).await?;
    let mut matrices = Vec::new();
    for inputs in parts {
        let gathered = walk.gather(&uploaded, states, &inputs, true).await?;
        for (Inputs { roles, columns }, gathered) in inputs.into_iter().zip(gathered) {
            let curvature = Curvature::of(gathered.gram.or_internal("a Gram matrix was not gathered")?)?;
            for role in roles {
                let stored = walk.read(&layer, role).await?;
                let rows = stored.len() / columns.max(1);
                let read = |first, count| Ok(stored.rows(first, count, columns)?.into_owned());
                let rounded = gptq(walk.scheme, stored.element, rows, read, &curvature)?;
                matrices.push((role, walk.packed(&stored, rounded)));
            }
        }
    }
    Ok(layer.packing(matrices))
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

/// Returns the most bytes that the Gram matrices of a layer need at a time.
pub fn bytes(inputs: &[Inputs], fit_bytes: u64) -> u64 {
    let (parts, _) = divided(inputs.to_vec(), fit_bytes);
    parts.iter().map(|part| part.iter().map(Inputs::gram_bytes).sum()).max().unwrap_or(0)
}
