//! Pool-refit: heads and neurons of all layers of a span are pooled, the ones that are needed stay, and the
//! output and down projections are solved for.
//!
//! 1. Each layer reads the residual stream that enters the span in the new model. A linear map from this
//!    stream to the stream that the layer read in the original is folded into the projections of the layer,
//!    if held-out sequences say that the map helps.
//! 2. Backward elimination keeps as many groups of heads as one layer has. Each step removes the group
//!    without which the other groups still explain best the stream after the span, less what the MLPs of the
//!    span wrote in the original. The output projection is a ridge about the present one.
//! 3. Backward elimination, in rounds, keeps as many neurons as one layer has, by the whole stream after the
//!    span. The down projection is a ridge about the present one.
//!
//! Rows count by their relative error, and all tokens are in the fit.

use super::guard::{self, FitKind, Guard};
use super::pooling::{Pooling, ROUNDS};
use super::refit;
use super::span_tensors::{GroupShape, assemble, read_span, upload_all};
use crate::Result;
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::maths::least_squares::{Normal, eliminate_bytes, eliminate_groups_bytes, ridge_bytes};
use crate::methods::Resources;
use crate::methods::kept::fitted::Fitted;
use crate::methods::operators::span_tensors::{attention_share, heads};
use crate::methods::resources::megabytes;
use crate::methods::walk::seen::Watched;
use crate::methods::walk::span::{Built, Span};
use crate::methods::walk::walk;
use crate::methods::walk::walker::Walker;
use crate::methods::work::{Task, Work};
use crate::model::Config;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Version of what [`layers`] makes of the same input. Raise the number with every change of the result, so that fitted
/// layers that are kept from before are not used.
const VERSION: u32 = 1;

/// Builds the layers of the new model, with one pooled layer for each span. A span is refitted without
/// pooling if pooling needs too much memory or the pooled layer does not pass the guard.
///
/// # Errors
/// Those of [`walk`], [`Guard::of`], [`Trial::judge`](super::guard::Trial::judge), [`refit::guarded`] and the
/// methods of [`Pooling`].
pub async fn layers(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    let mut guard = None;
    let n_rows = context.sequences.count() * context.sequences.tokens();
    let watches = |n_layers| {
        let config = &context.model.config;
        pools(config)
            && bytes(config, n_layers) <= resources.fit_bytes
            && is_watched(config, n_layers, n_rows, resources.fit_bytes)
    };
    let pooled = pools(&context.model.config);
    let versions = [VERSION, refit::VERSION, guard::VERSION];
    let mut built = walk(context, resources, plan, stream, &versions, watches, async |walker, span| {
        let mut trial = Guard::of(&mut guard, walker).await?.trial(walker, &span);
        let mut remarks = Vec::new();
        let needed = bytes(&context.model.config, span.layers.len());
        if pooled && needed > resources.fit_bytes {
            remarks.push(format!(
                "Layers {:?} were refitted without pooling, which would need {} of memory.",
                span.layers,
                megabytes(needed)
            ));
        } else if pooled {
            let fitted = fit(walker, &span).await?;
            if let Some(layer) = trial.judge(FitKind::Pooled, fitted, &mut remarks).await? {
                return Ok(Fitted { layer, remarks });
            }
        }
        refit::guarded(trial, remarks).await
    })
    .await?;
    if let Some(why) = why_not_pooled(&context.model.config) {
        built.remarks.push(format!("Spans were refitted without pooling, because the model's layers {why}."));
    }
    built.remarks.extend(refit::remark(context, resources));
    Ok(built)
}

/// Returns whether heads and neurons of several layers can be in one.
pub fn pools(config: &Config) -> bool {
    why_not_pooled(config).is_none()
}

/// Returns what about the layers keeps heads and neurons of several of them from being in one, to follow "the layers";
/// `None` if they can be.
fn why_not_pooled(config: &Config) -> Option<&'static str> {
    if config.has_other_mixers() {
        Some("have mixers of different kinds")
    } else if config.architecture.gated_heads {
        Some("multiply the outputs of their heads by gates")
    } else if config.has_experts() {
        Some("have experts, and those of different layers have nothing to do with each other")
    } else if config.reads_beside() {
        Some("read keys of other layers or have inputs of their own")
    } else if config.architecture.norms_after() {
        Some(
            "normalise what they add to the residual stream: heads and neurons of several layers do not add up behind \
              one norm",
        )
    } else {
        None
    }
}

/// Returns the bytes that pooling `n_layers` layers needs beside the hidden states: the weights of the layers, and the
/// most that one of the three stages needs.
fn bytes(config: &Config, n_layers: usize) -> u64 {
    let weights = 4 * config.parameters_per_layer() * n_layers as u64;
    alignment_bytes(config, n_layers)
        .max(heads_bytes(config, n_layers))
        .max(neurons_bytes(config, n_layers))
        .saturating_add(weights)
}

/// Returns the bytes of the alignments: the problems of the fitted and of the held-out rows, `hidden x hidden`, for all
/// layers at once, and the solution of one of them about a map of zeros.
fn alignment_bytes(config: &Config, n_layers: usize) -> u64 {
    let d = config.hidden_size;
    let problems = Normal::sums_bytes(d, d).saturating_mul(2 * n_layers as u64);
    let block = Normal::bytes(d, d) - Normal::sums_bytes(d, d);
    let zeros = 4 * (d as u64).pow(2);
    problems.saturating_add(block.max(ridge_bytes(d, d) + zeros))
}

/// Returns the bytes of the choice of heads, whose elimination is in `f64`.
fn heads_bytes(config: &Config, n_layers: usize) -> u64 {
    let (kept, d) = (heads(config), config.hidden_size);
    let m = kept * n_layers;
    let solution = 2 * Normal::sums_bytes(kept, d) + ridge_bytes(kept, d);
    (2 * Normal::bytes(m, d)).saturating_add(eliminate_groups_bytes(m, d).max(solution))
}

/// Returns the bytes of the choice of neurons.
fn neurons_bytes(config: &Config, n_layers: usize) -> u64 {
    let (m, d) = (config.intermediate_size * n_layers, config.hidden_size);
    (2 * Normal::bytes(m, d)).saturating_add(eliminate_bytes(m).max(ridge_bytes(m, d)))
}

/// Returns the work of a span of `n_layers` layers, without that of walking through both models.
pub fn work(task: &Task<'_>, n_layers: usize) -> Work {
    let Task { config, fit_bytes, .. } = *task;
    let refit = refit::work(config, fit_bytes);
    if bytes(config, n_layers) > fit_bytes {
        return refit;
    }
    let (inner, d) = (config.intermediate_size, config.hidden_size);
    let of_span = n_layers as f64;
    // All layers are uploaded once aligned for attention and once aligned for the MLP. Contexts are computed
    // twice, activations once.
    let aligned =
        Work { uploads: 2.0 * of_span, passes: (1.0 + attention_share(config)) * of_span, ..Work::default() };
    // The inputs and outputs of the layers in the original are watched on the walk. If there is no room to
    // keep them, the layers run again for each of the two alignments and for the choice of heads.
    let walked = match is_watched(config, n_layers, task.n_rows(), fit_bytes) {
        true => aligned,
        false => aligned + Work { uploads: of_span, passes: 3.0 * of_span, ..Work::default() },
    };
    let (all_heads, all_neurons) = ((heads(config) * n_layers) as f64, (inner * n_layers) as f64);
    // Alignments of the inputs of attention and of MLPs, then the choices of heads and of neurons.
    let sums = Work::sums(d, d).times(2.0 * of_span)
        + Work::sums(all_heads as usize, d)
        + Work::sums(all_neurons as usize, d);
    let rounds = eliminated(inner * n_layers, inner).map(|m| m.powi(3) / 3.0 + m * m * d as f64).sum::<f64>();
    let groups = GroupShape::new(config);
    let gone = (groups.per_layer * n_layers.saturating_sub(1)) as f64;
    let inverse = all_heads.powi(3) / 2.0 + gone * all_heads * all_heads * groups.queries as f64;
    let chosen =
        Work { solutions: rounds + 2.0 * inverse, bytes: bytes(config, n_layers), ..Work::default() };
    let ridges =
        Work::ridge(d, d).times(2.0 * of_span) + Work::ridge(heads(config), d) + Work::ridge(inner, d);
    walked + sums + chosen + ridges + refit
}

/// Returns the number of regressors at the beginning of each round of an elimination from `m` to `keep`
/// regressors (see [`eliminate`](crate::maths::least_squares::eliminate())).
fn eliminated(m: usize, keep: usize) -> impl Iterator<Item = f64> {
    let surplus = m.saturating_sub(keep);
    (0..ROUNDS).map(move |round| (keep + (surplus >> round)) as f64)
}

/// Returns whether the inputs and outputs of `n_layers` layers on `n_rows` rows in the original are kept: if
/// they take no more than a third of `fit_bytes`.
fn is_watched(config: &Config, n_layers: usize, n_rows: usize, fit_bytes: u64) -> bool {
    Watched::bytes(n_layers, n_rows, config.hidden_size) <= fit_bytes / 3
}

async fn fit(walker: &Walker<'_>, span: &Span<'_>) -> Result<NewLayer> {
    let model = walker.context.model;
    let config = &model.config;
    let mut folded = read_span(walker, span).await?;
    let pooling = Pooling::new(walker, span).await?;
    pooling.align_attention(&mut folded).await?;
    let attending = upload_all(walker, &folded)?;
    let (groups, output) = pooling.heads(&attending, &folded).await?;

    let between = pooling.after_attention(&attending, &groups, &output)?;
    drop(attending);
    pooling.align_mlp(&between, &mut folded).await?;
    let activating = upload_all(walker, &folded)?;
    let (neurons, down) = pooling.neurons(&activating, &between, &folded).await?;
    drop((between, activating, pooling));

    let tensors = assemble(config, span, &folded, &groups, &neurons, &output, &down)?;
    let layer = walker.replacing(span, NewLayer::original(span.stays), tensors).await?;
    // Both projections are solved for once more on the layer as it will be stored: this fit makes up for the
    // rounding of the other tensors.
    refit::solve(walker, span, layer, output, down).await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::demo;

    /// Every stage counts where it is the largest: models with few neurons need their memory for the heads, and models
    /// with few heads as well for the alignments.
    #[test]
    fn memory_is_that_of_the_largest_stage() {
        let mut config = block_on(demo::open()).unwrap().config;
        let n = 4;
        let weights = |config: &Config| 4 * config.parameters_per_layer() * n as u64;
        let of = |config: &Config| bytes(config, n) - weights(config);
        // Two problems of `m x m` and `m x d`, and blocks of 1024 rows, in f32.
        let problems = |m: u64, d: u64| 2 * (4 * m * (m + d) + 4096 * (m + d));

        (config.hidden_size, config.n_heads, config.head_dim, config.intermediate_size) = (64, 8, 8, 256);
        assert_eq!(of(&config), problems(4 * 256, 64) + eliminate_bytes(4 * 256));

        // The inverse is `m x m` twice and the solution `m x d` twice, in f64.
        config.intermediate_size = 32;
        assert_eq!(of(&config), problems(4 * 64, 64) + 16 * 256 * (256 + 64));

        // Two problems of `d x d` and `d x d` for each of four layers.
        (config.n_heads, config.n_kv_heads, config.head_dim, config.intermediate_size) = (1, 1, 2, 2);
        config.hidden_size = 4096;
        let d = 4096;
        assert_eq!(of(&config), 2 * 4 * (4 * d * 2 * d) + ridge_bytes(4096, 4096) + 4 * d * d);
    }
}
