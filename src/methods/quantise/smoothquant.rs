//! SmoothQuant: what is hard to round in the inputs of matrices is moved into their weights before both are rounded to 8
//! bits.
//!
//! Columns `j` of the matrices that read a norm are multiplied by `s_j`, and the weights of the norm divided by it:
//!
//! ```text
//! s_j = max |x_j|^a / max |w_j|^(1 - a),    a = 0.5
//! ```
//!
//! Source: Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
//! Language Models", ICML 2023, and its code (`smooth.py`).

use super::Walk;
use super::folds::{Scales, Source, sources};
use super::inputs::Inputs;
use crate::Result;
use crate::format::packed::{Rounded, round_to_nearest};
use crate::forward::states::HiddenStates;
use crate::kernels::threads;
use crate::model::tensors::Role;
use crate::model::weights::new_layer::{NewLayer, RoundedMatrix};

/// Share of the difficulty that is moved, 0 to 1.
const MOVED: f32 = 0.5;

/// Least magnitude that is told from zero, and least factor.
const LEAST: f32 = 1e-5;

/// Rows that a thread rounds at a time.
const ROWS: usize = 64;

/// Returns the factors of columns, of inputs with the largest magnitudes `inputs` and weights with the largest magnitudes
/// `weights`.
pub fn smoothing(inputs: &[f32], weights: &[f32]) -> Vec<f32> {
    let factor = |(x, w): (&f32, &f32)| (x.powf(MOVED) / w.max(LEAST).powf(1.0 - MOVED)).max(LEAST);
    inputs.iter().zip(weights).map(factor).collect()
}

/// Rounds the matrices of `layer`, which `states` enter.
///
/// # Errors
/// Those of [`round_to_nearest`] and of running layers.
pub(super) async fn layer(
    walk: &mut Walk<'_>,
    mut layer: NewLayer,
    states: &HiddenStates,
) -> Result<NewLayer> {
    // For its remark.
    walk.inputs(&layer)?;
    let kind = walk.config().kind(layer.mix().survivor()?)?;
    let (all, mut factors) = (sources(walk.config(), kind), Scales::default());
    let of_norms = |(inputs, source): &(Inputs, Option<Source>)| {
        source.filter(|source| matches!(source, Source::Norm(_))).map(|source| (inputs.clone(), source))
    };
    let (inputs, norms): (Vec<Inputs>, Vec<Source>) = all.iter().filter_map(of_norms).unzip();
    let uploaded = walk.upload(&layer).await?;
    let gathered = walk.gather(&uploaded, states, &inputs, false).await?;
    drop(uploaded);
    for ((Inputs { roles, columns }, source), gathered) in inputs.into_iter().zip(norms).zip(gathered) {
        let mut largest = vec![0.0f32; columns];
        for role in &roles {
            for row in walk.read(&layer, *role).await?.to_f32()?.chunks(columns.max(1)) {
                largest.iter_mut().zip(row).for_each(|(most, w)| *most = most.max(w.abs()));
            }
        }
        layer =
            walk.fold(layer, source, &roles, smoothing(&gathered.largest, &largest), &mut factors).await?;
    }
    let mut matrices = Vec::new();
    for (Inputs { roles, columns }, _) in all {
        for role in roles {
            matrices.push((role, rounded(walk, &layer, role, columns, &factors).await?));
        }
    }
    Ok(layer.packing(matrices))
}

async fn rounded(
    walk: &Walk<'_>,
    layer: &NewLayer,
    role: Role,
    columns: usize,
    factors: &Scales,
) -> Result<RoundedMatrix> {
    let stored = walk.read(layer, role).await?;
    let rows = stored.len() / columns.max(1);
    let scales = factors.of_columns(role, columns);
    let scheme = walk.scheme()?;
    let pieces = threads::map_all(rows.div_ceil(ROWS), |piece| {
        let first = piece * ROWS;
        let mut weights = stored.rows(first, ROWS.min(rows - first), columns)?.into_owned();
        for row in weights.chunks_mut(columns.max(1)) {
            row.iter_mut().zip(&scales).for_each(|(w, s)| *w *= s);
        }
        round_to_nearest(scheme, stored.element, columns, &weights)
    });
    Ok(walk.packed(scheme, &stored, Rounded::stack(pieces).map_err(|e| e.in_tensor(&format!("{role:?}")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_move_half_of_the_difficulty() {
        let factors = smoothing(&[16.0, 1.0, 0.0], &[4.0, 0.25, 1.0]);
        assert_eq!(factors, [2.0, 2.0, LEAST]);
        // Both become equally hard.
        assert_eq!(16.0 / factors[0], 4.0 * factors[0]);
    }
}
