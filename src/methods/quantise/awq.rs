//! AWQ: columns that carry much are scaled up before all are rounded to nearest, with zero points, and weights are held
//! within limits.

use super::Walk;
use super::folds::{Scales, sources};
use super::inputs::{Gathered, Inputs, divided};
use crate::Result;
use crate::error::OrInternal;
use crate::format::packed::Rounded;
use crate::forward::states::HiddenStates;
use crate::kernels::threads;
use crate::maths::least_squares::{
    CANDIDATES, LIMITS, Magnitudes, Normal, awq_candidates, awq_loss, awq_round,
};
use crate::methods::resources::megabytes;
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::config::LayerKind;
use crate::model::tensors::Role;
use crate::model::weights::new_layer::{NewLayer, RoundedMatrix};

/// Most rows of a matrix, evenly spaced, by which the exponent of scales is chosen.
const JUDGED_ROWS: usize = 512;

/// Rows that a thread rounds at a time.
const ROWS: usize = 64;

/// Rounds the matrices of `layer`, which `states` enter.
///
/// # Errors
/// Those of [`awq_loss`], [`awq_round`] and of running layers.
pub async fn layer(walk: &mut Walk<'_>, mut layer: NewLayer, states: &HiddenStates) -> Result<NewLayer> {
    // For its remark.
    walk.inputs(&layer)?;
    let kind = walk.config().kind(layer.mix().survivor()?)?;
    let all = sources(walk.config(), kind);
    let inputs = all.iter().map(|(inputs, _)| inputs.clone()).collect();
    let bytes = walk.resources.fit_bytes;
    let (parts, too_wide) = divided(inputs, bytes);
    for Inputs { columns, .. } in &too_wide {
        walk.remark(format!(
            "Matrices of {columns} columns are rounded without scales or limits, because the Gram matrix of what they read \
             needs more than the {} that fits may need.",
            megabytes(bytes)
        ));
    }
    let uploaded = walk.upload(&layer).await?;
    let (mut matrices, mut factors) = (Vec::new(), Scales::default());
    for part in parts {
        let gathered = walk.gather(&uploaded, states, &part, true).await?;
        for (own, gathered) in part.iter().zip(gathered) {
            let source = all.iter().find(|(inputs, _)| inputs == own).and_then(|(_, source)| *source);
            if let Some(source) = source {
                let scales = scales(walk, &layer, own, &gathered).await?;
                layer = walk.fold(layer, source, &own.roles, scales, &mut factors).await?;
            }
            let gram = gathered.gram.or_internal("a Gram matrix was not gathered")?;
            for role in &own.roles {
                matrices
                    .push((*role, rounded(walk, &layer, *role, own.columns, &factors, Some(&gram)).await?));
            }
        }
    }
    for Inputs { roles, columns } in too_wide {
        for role in roles {
            matrices.push((role, rounded(walk, &layer, role, columns, &factors, None).await?));
        }
    }
    Ok(layer.packing(matrices))
}

/// Returns the work of rounding a layer of the kind `kind`.
pub fn work(config: &Config, kind: LayerKind, inputs: &[Inputs], group: usize, fit_bytes: u64) -> Work {
    let (parts, _) = divided(inputs.to_vec(), fit_bytes);
    let passes = Work { uploads: 1.0, passes: parts.len() as f64, ..Work::default() };
    let of_inputs = |Inputs { roles, columns }: &Inputs| {
        let rows = roles.iter().filter_map(|role| role.shape(config, kind).first().copied());
        let of_rows = |rows: usize| {
            let judged = rows.min(JUDGED_ROWS) as f64 * (columns * columns) as f64;
            CANDIDATES as f64 * judged + LIMITS as f64 * (rows * columns * group) as f64
        };
        Work { solutions: rows.map(of_rows).sum(), ..Work::sums(*columns, 0) }
    };
    parts.iter().flatten().map(of_inputs).fold(passes, std::ops::Add::add)
}

/// Returns the scales of the columns of the matrices that read `inputs` with which their products lose least.
async fn scales(walk: &Walk<'_>, layer: &NewLayer, inputs: &Inputs, gathered: &Gathered) -> Result<Vec<f32>> {
    let Inputs { roles, columns } = inputs;
    let gram = gathered.gram.as_ref().or_internal("a Gram matrix was not gathered")?;
    let mut magnitudes = Magnitudes::new(*columns, walk.scheme()?.group.unwrap_or(*columns));
    let mut judged = Vec::with_capacity(roles.len());
    for role in roles {
        let stored = walk.read(layer, *role).await?;
        let rows = stored.len() / (*columns).max(1);
        for first in (0..rows).step_by(ROWS) {
            magnitudes.add(&stored.rows(first, ROWS.min(rows - first), *columns)?);
        }
        let mut some = Vec::new();
        for place in 0..rows.min(JUDGED_ROWS) {
            some.extend_from_slice(&stored.rows(place * rows / rows.min(JUDGED_ROWS), 1, *columns)?);
        }
        judged.push((stored.element, some));
    }
    let means: Vec<f32> =
        gathered.magnitudes.iter().map(|sum| (sum / gathered.rows.max(1) as f64) as f32).collect();
    let mut best: Option<(f64, Vec<f32>)> = None;
    for scales in awq_candidates(&means, &magnitudes.means()) {
        let mut loss = 0.0;
        for (element, weights) in &judged {
            loss += awq_loss(walk.scheme()?, *element, weights, &scales, gram)?;
        }
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, scales));
        }
    }
    best.map(|(_, scales)| scales).or_internal("no scales were tried")
}

/// Rounds the matrix of `role`. Weights of queries and keys are not held within limits, as in the source: their products
/// with each other would not forgive it.
async fn rounded(
    walk: &Walk<'_>,
    layer: &NewLayer,
    role: Role,
    columns: usize,
    factors: &Scales,
    gram: Option<&Normal>,
) -> Result<RoundedMatrix> {
    let stored = walk.read(layer, role).await?;
    let rows = stored.len() / columns.max(1);
    let scheme = walk.scheme()?;
    let group = scheme.group.unwrap_or(columns).max(1);
    let scales = factors.of_columns(role, columns);
    let corners = match gram.filter(|_| !matches!(role, Role::Query | Role::Key)) {
        Some(gram) => {
            let firsts = (0..columns).step_by(group);
            let corners = firsts.map(|first| gram.corner(first, group.min(columns - first)));
            Some(corners.collect::<Result<Vec<_>>>()?)
        }
        None => None,
    };
    let pieces = threads::map_all(rows.div_ceil(ROWS), |piece| {
        let first = piece * ROWS;
        let mut weights = stored.rows(first, ROWS.min(rows - first), columns)?.into_owned();
        factors.scale_rows(role, first, columns, &mut weights);
        awq_round(scheme, stored.element, &weights, &scales, corners.as_deref())
    });
    Ok(walk.packed(scheme, &stored, Rounded::stack(pieces).map_err(|e| e.in_tensor(&format!("{role:?}")))?))
}
