//! Pool-refit: heads and neurons of all layers of a run are pooled, the ones that are needed stay, and the output
//! and down projections are solved for.
//!
//! 1. Each layer reads the stream that enters the run in the new model; a linear map that takes it to what the
//!    layer read in the original, where held-out sequences say that it helps, is folded into its projections.
//! 2. As many groups of heads as one layer has are kept, by backward elimination of the group without which the
//!    stream after the run, less what its MLPs wrote in the original, is still explained best; the output projection
//!    is a ridge about the present one.
//! 3. The same for neurons, and the down projection.
//!
//! Rows count by their relative error, and all tokens are in the fit.

use super::choosing::{Choosing, ROUNDS};
use super::cost::heads;
use super::guard::{Guard, Kind};
use super::refit;
use super::run_tensors::{GroupShape, assemble, read_run, upload_all};
use super::seen::Watched;
use super::walk::{Run, Walker, walk};
use super::{Built, RunCost, megabytes};
use crate::Result;
use crate::least_squares::{Normal, eliminate_bytes, ridge_bytes};
use crate::model::Config;
use crate::model::new_layer::NewLayer;
use crate::pipeline::checkpoint::fitted::Fitted;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::MergePlan;

/// The layers of the new model, one pooled for each run.
///
/// # Errors
/// What running gives.
pub async fn layers(context: &Context<'_>, plan: &MergePlan, stream: &Stream) -> Result<Built> {
    let mut guard = None;
    let n_rows = context.sequences.count() * context.sequences.tokens();
    let watches = |n_layers| {
        let config = &context.model.config;
        bytes(config, n_layers) <= context.fit_bytes
            && is_watched(config, n_layers, n_rows, context.fit_bytes)
    };
    let mut built = walk(context, plan, stream, watches, async |walker, run| {
        let mut trial = Guard::of(&mut guard, walker).await?.trial(walker, &run);
        let mut remarks = Vec::new();
        let needed = bytes(&context.model.config, run.layers.len());
        if needed > context.fit_bytes {
            remarks.push(format!(
                "Layers {:?} were refitted without pooling, which would need {} of memory.",
                run.layers,
                megabytes(needed)
            ));
        } else {
            let pooled = fit(walker, &run).await?;
            if let Some(layer) = trial.judge(Kind::Pooled, pooled, &mut remarks).await? {
                return Ok(Fitted { layer, remarks });
            }
        }
        refit::guarded(trial, remarks).await
    })
    .await?;
    built.remarks.extend(refit::remark(context));
    Ok(built)
}

/// Memory that pooling `n_layers` layers needs beside the states.
fn bytes(config: &Config, n_layers: usize) -> u64 {
    let (m, d) = (config.intermediate_size * n_layers, config.hidden_size);
    let weights = 4 * config.parameters_per_layer() * n_layers as u64;
    2 * Normal::bytes(m, d) + eliminate_bytes(m).max(ridge_bytes(m, d)) + weights
}

/// What [`layers`] takes for a run of `n_layers` on `n_rows` tokens.
pub fn cost(config: &Config, n_layers: usize, n_rows: usize, fit_bytes: u64) -> RunCost {
    let refit = refit::cost(config, fit_bytes);
    if bytes(config, n_layers) > fit_bytes {
        return refit;
    }
    let (inner, d) = (config.intermediate_size, config.hidden_size);
    let of_run = n_layers as f64;
    // Contexts twice and activations once. What the layers did in the original is watched as they are walked through, or
    // there is no room to keep it, and they are run three times more.
    let again = if is_watched(config, n_layers, n_rows, fit_bytes) { 0.0 } else { 3.0 };
    let walked = RunCost { uploads: 2.0 * of_run, passes: (1.0 + again) * of_run, ..RunCost::default() };
    let (all_heads, all_neurons) = ((heads(config) * n_layers) as f64, (inner * n_layers) as f64);
    // What attention and what MLPs read.
    let sums = RunCost::sums(d, d).times(2 * n_layers)
        + RunCost::sums(all_heads as usize, d)
        + RunCost::sums(all_neurons as usize, d);
    let rounds = eliminated(inner * n_layers, inner).map(|m| m.powi(3) / 3.0 + m * m * d as f64).sum::<f64>();
    let groups = GroupShape::new(config);
    let gone = (groups.per_layer * n_layers.saturating_sub(1)) as f64;
    let inverse = all_heads.powi(3) / 2.0 + gone * all_heads * all_heads * groups.queries as f64;
    let chosen =
        RunCost { solutions: rounds + 2.0 * inverse, bytes: bytes(config, n_layers), ..RunCost::default() };
    let ridges = RunCost::ridge(d, d).times(2 * n_layers)
        + RunCost::ridge(heads(config), d)
        + RunCost::ridge(inner, d);
    walked + sums + chosen + ridges + refit
}

/// Regressors at the beginning of each round of an elimination from `m` to `keep` (see [`eliminate`]).
fn eliminated(m: usize, keep: usize) -> impl Iterator<Item = f64> {
    let surplus = m.saturating_sub(keep);
    (0..ROUNDS).map(move |round| (keep + (surplus >> round)) as f64)
}

/// Whether what `n_layers` layers do with `n_rows` rows in the original is kept: where that takes no more than a third of
/// the memory.
fn is_watched(config: &Config, n_layers: usize, n_rows: usize, fit_bytes: u64) -> bool {
    Watched::bytes(n_layers, n_rows, config.hidden_size) <= fit_bytes / 3
}

async fn fit(walker: &Walker<'_>, run: &Run<'_>) -> Result<NewLayer> {
    let model = walker.context.model;
    let config = &model.config;
    let mut folded = read_run(walker, run).await?;
    let choosing = Choosing::new(walker, run).await?;
    choosing.align_attention(&mut folded).await?;
    let attending = upload_all(walker, &folded)?;
    let (groups, output) = choosing.heads(&attending, &folded).await?;

    let between = choosing.after_attention(&attending, &groups, &output)?;
    drop(attending);
    choosing.align_mlp(&between, &mut folded).await?;
    let activating = upload_all(walker, &folded)?;
    let (neurons, down) = choosing.neurons(&activating, &between, &folded).await?;
    drop((between, activating, choosing));

    let tensors = assemble(config, run, &folded, &groups, &neurons, &output, &down);
    let layer =
        NewLayer::original(run.stays).replacing(model, run.layers, walker.context.storage, tensors)?;
    // Once more, on the layer as it will be stored, so that this fit makes up for the rounding of the others.
    refit::solve(walker, run, layer, output, down).await
}
