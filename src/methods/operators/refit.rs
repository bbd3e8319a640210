//! Refit: one layer of a span stays. Its output and down projections are solved for by ridge least squares,
//! so that on the calibration text the new model's residual stream after this layer is the original's after
//! the span. Of a layer with experts, only the output projection of attention is solved for.
//!
//! Both projections are solved for together first, and the output projection is kept. The down projection is
//! then solved for alone, on the activations that the new attention gives. Each solution is a ridge about the
//! present weights whose strength is chosen by held-out sequences. All tokens are in the fit, the first
//! included: leaving it out breaks attention sinks.

use super::guard::{self, FitKind, Guard, Trial};
use super::span_tensors::{columns, joined, usable};
use crate::Result;
use crate::forward::context::Context;
use crate::forward::states::{as_rows, to_host};
use crate::forward::stream::Stream;
use crate::maths::least_squares::{Normal, ridge_bytes};
use crate::methods::Resources;
use crate::methods::kept::fitted::Fitted;
use crate::methods::operators::span_tensors::heads;
use crate::methods::resources::megabytes;
use crate::methods::walk::span::{Built, Span};
use crate::methods::walk::walk;
use crate::methods::walk::walker::{Systems, Walker};
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::config::{FeedForward, LayerKind};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;
use crate::model::weights::fetch::read_f32;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Version of what [`layers`] makes of the same input. Raise the number with every change of the result, so that fitted
/// layers that are kept from before are not used.
pub const VERSION: u32 = 1;

/// Builds the layers of the new model, with one refitted layer for each span.
///
/// # Errors
/// Those of [`walk`], [`Guard::of`] and [`guarded`].
pub async fn layers(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    let mut guard = None;
    let mut built = walk(
        context,
        resources,
        plan,
        stream,
        &[VERSION, guard::VERSION],
        |_| false,
        async |walker, span| {
            let trial = Guard::of(&mut guard, walker).await?.trial(walker, &span);
            guarded(trial, Vec::new()).await
        },
    )
    .await?;
    built.remarks.extend(remark(context, resources));
    Ok(built)
}

/// Returns a remark if memory does not suffice to solve for both projections together.
pub fn remark(context: &Context<'_>, resources: &Resources<'_>) -> Option<String> {
    let needed = joint_bytes(&context.model.config);
    (needed > resources.fit_bytes).then(|| {
        format!(
            "Only down projections were solved for; together with output projections that would need {} of memory.",
            megabytes(needed)
        )
    })
}

/// Returns the bytes that a fit of both projections needs beside the hidden states.
fn joint_bytes(config: &Config) -> u64 {
    let (inner, d) = (config.widest_mlp(), config.hidden_size);
    let m = heads(config) + inner;
    // The problem of the down projection alone is copied out of the joint problem and solved first.
    2 * Normal::bytes(m, d) + ridge_bytes(m, d).max(2 * Normal::sums_bytes(inner, d) + ridge_bytes(inner, d))
}

/// Returns the work of [`fit`] for one span.
pub fn work(config: &Config, fit_bytes: u64) -> Work {
    let (inner, d) = (config.widest_mlp(), config.hidden_size);
    let part = Work::layers(1.0);
    let down = part + Work::fit(inner, d);
    let joint = joint_bytes(config);
    // The down projection is solved for twice: as a part of the joint fit, with the output projection as it
    // was, and with the new output projection.
    match joint <= fit_bytes {
        true => {
            let both = Work { bytes: joint, ..Work::fit(heads(config) + inner, d) };
            part + both + Work::ridge(inner, d) + down
        }
        false => down,
    }
}

/// Refits the layer of the span that stays. If `trial` finds the model worse with the refitted layer than
/// with the other layers of the span dropped, returns the layer unchanged and adds a remark to `remarks`.
///
/// # Errors
/// Those of [`fit`] and [`Trial::judge`].
pub async fn guarded(mut trial: Trial<'_, '_>, mut remarks: Vec<String>) -> Result<Fitted> {
    let (walker, span) = (trial.walker, trial.span);
    let refitted = fit(walker, span).await?;
    let judged = trial.judge(FitKind::Refitted, refitted, &mut remarks).await?;
    let layer = match judged {
        Some(layer) => layer,
        None => walker.staying(span.stays, span.layers)?,
    };
    Ok(Fitted { layer, remarks })
}

/// Refits the layer of the span that stays.
///
/// # Errors
/// Those of [`read_f32`] and [`solve`].
pub async fn fit(walker: &Walker<'_>, span: &Span<'_>) -> Result<NewLayer> {
    let model = walker.context.model;
    let kind = model.config.kind(span.stays)?;
    let has_experts = kind.feed_forward == FeedForward::Experts;
    let parts: &[Part] = if has_experts { &[Part::Attention] } else { &[Part::Attention, Part::Mlp] };
    let mut weights = Vec::with_capacity(2);
    for part in parts {
        let mut weight = read_f32(model, span.stays, part.projection(kind)).await?;
        if model.config.architecture.norms_after() {
            let norm = read_f32(model, span.stays, part.norm()).await?;
            scale_rows(&mut weight, &norm, |w, n| w * n);
        }
        weights.push(weight);
    }
    let mut weights = weights.into_iter();
    let (output, down) = (weights.next().unwrap_or_default(), weights.next().unwrap_or_default());
    let layer = walker.staying(span.stays, span.layers)?;
    if has_experts {
        let uploaded = walker.upload(&layer).await?;
        let fit = fit_attention(walker, span, &uploaded, &output).await?;
        return replaced(walker, span, layer, &uploaded, Part::Attention, fit.values).await;
    }
    solve(walker, span, layer, output, down).await
}

/// Part of a layer that adds to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Attention,
    Mlp,
}

impl Part {
    /// Returns the role of the projection that writes to the residual stream, in layers of the kind `kind`.
    fn projection(self, kind: LayerKind) -> Role {
        match (self, kind.mixer) {
            (Part::Attention, mixer) => Role::output_of(mixer),
            (Part::Mlp, _) => Role::Down,
        }
    }

    /// Returns the role of the norm after the projection.
    fn norm(self) -> Role {
        match self {
            Part::Attention => Role::AttentionAfterNorm,
            Part::Mlp => Role::MlpAfterNorm,
        }
    }
}

/// Applies `f` to each number of a row of `weight` and the number of `factors` for the row.
fn scale_rows(weight: &mut [f32], factors: &[f32], f: impl Fn(f32, f32) -> f32) {
    let width = weight.len() / factors.len().max(1);
    for (row, factor) in weight.chunks_mut(width.max(1)).zip(factors) {
        row.iter_mut().for_each(|w| *w = f(*w, *factor));
    }
}

/// Solves anew for the projections `output` `[hidden, heads * head_dim]` and `down` `[hidden, intermediate]`
/// of `layer`, and returns the layer with the new ones. If there is no memory for both, solves for `down`
/// alone. Where the layer normalises what it adds to the residual stream, the projections have the weights of the norms
/// in their rows.
///
/// # Errors
/// Those of [`Walker::upload`], [`DecoderLayer::forward`], [`Walker::systems`], [`Walker::add`],
/// [`Systems::subset`], [`Systems::solve`] and [`NewLayer::replacing`], and
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub async fn solve(
    walker: &Walker<'_>,
    span: &Span<'_>,
    layer: NewLayer,
    output: Vec<f32>,
    down: Vec<f32>,
) -> Result<NewLayer> {
    let uploaded = walker.upload(&layer).await?;
    if joint_bytes(&walker.context.model.config) > walker.resources.fit_bytes {
        let alone = fit_down(walker, span, &uploaded, &down).await?;
        return replaced(walker, span, layer, &uploaded, Part::Mlp, alone.values).await;
    }
    let joint = fit_joint(walker, span, &uploaded, &output, &down).await?;
    // The new output projection as it will be stored, so that the second fit makes up for its rounding.
    let other = replaced(walker, span, layer.clone(), &uploaded, Part::Attention, joint.output).await?;
    let other_uploaded = walker.upload(&other).await?;
    let both = fit_down(walker, span, &other_uploaded, &down).await?;
    // If attention makes most of the residual stream, as in a first layer, a new output projection changes
    // what the MLP reads, and the two fits together may be worse than the down projection alone.
    match both.error < joint.alone.error {
        true => replaced(walker, span, other, &other_uploaded, Part::Mlp, both.values).await,
        false => replaced(walker, span, layer, &uploaded, Part::Mlp, joint.alone.values).await,
    }
}

/// Returns `layer`, which is on the device as `uploaded`, with the projection of `part` replaced by `values`.
///
/// Where the layer normalises what the part adds, `values` map the part's output, divided by its root mean square after
/// the present projection, to the sum: `values = diag(w) W` with the weights `w` of the norm. `W` keeps its direction
/// only, because the norm takes its length; `w` is multiplied by the geometric mean, over the text, of how much longer
/// the new projection makes the output.
async fn replaced(
    walker: &Walker<'_>,
    span: &Span<'_>,
    layer: NewLayer,
    uploaded: &DecoderLayer,
    part: Part,
    mut values: Vec<f32>,
) -> Result<NewLayer> {
    let model = walker.context.model;
    let kind = model.config.kind(span.stays)?;
    let replace = |layer, role, values| walker.encoding(layer, span.layers, vec![(role, values)]);
    if !model.config.architecture.norms_after() {
        return replace(layer, part.projection(kind), values);
    }
    let mut norm = read_f32(model, span.stays, part.norm()).await?;
    scale_rows(&mut values, &usable(&norm), |value, n| value / n);
    let layer = replace(layer, part.projection(kind), values)?;
    let new = walker.upload(&layer).await?;
    let (mut sum, mut n) = (0.0, 0usize);
    for chunk in span.chunks() {
        let [_, beside] = chunk.beside;
        let lengths = match part {
            Part::Attention => {
                let contexts =
                    uploaded.contexts(chunk.entering.clone(), walker.runner.positions(), beside)?;
                new.output().forward(contexts)?
            }
            Part::Mlp => {
                let between =
                    uploaded.after_attention(chunk.entering.clone(), walker.runner.positions(), beside)?;
                new.down()?.forward(uploaded.activations(uploaded.read_by_mlp(chunk.entering, &between))?)?
            }
        };
        let squares = to_host(lengths.square().mean_dim(1), "while fitting").await?;
        sum += squares.iter().map(|square| 0.5 * f64::from(square.max(f32::MIN_POSITIVE)).ln()).sum::<f64>();
        n += squares.len();
    }
    let longer = (sum / n.max(1) as f64).exp() as f32;
    norm.iter_mut().for_each(|w| *w *= longer);
    replace(layer, part.norm(), norm)
}

/// Result of a fit of both projections together.
struct Joint {
    /// Output projection, row-major `[hidden, heads * head_dim]`.
    output: Vec<f32>,
    /// Fit of the down projection with the output projection as it was.
    alone: Fit,
}

async fn fit_joint(
    walker: &Walker<'_>,
    span: &Span<'_>,
    layer: &DecoderLayer,
    output: &[f32],
    down: &[f32],
) -> Result<Joint> {
    let config = &walker.context.model.config;
    let kind = config.kind(span.stays)?;
    let (inner, heads) = (kind.mlp_width, config.mixer_width(kind));
    let mut systems = walker.systems(heads + inner)?;
    let inputs = walker.runner.inputs(layer, &span.entering.beside).await?;
    for (chunk, input) in span.chunks().zip(inputs) {
        let [_, beside] = chunk.beside;
        let contexts = layer.contexts(chunk.entering.clone(), walker.runner.positions(), beside)?;
        let between = as_rows(chunk.entering) + layer.attention_written(contexts.clone())?;
        let activations = layer.activations(layer.read_by_mlp(chunk.entering, &between))?;
        let now = layer.fed(between + layer.mlp_written(activations.clone())?, input)?;
        let residual = layer.summed(chunk.leaving) - now;
        let regressors = joined(vec![contexts, activations]).await?;
        walker.add(
            &mut systems,
            chunk.place,
            &regressors,
            &to_host(residual, "while fitting").await?,
            chunk.weights,
        )?;
    }
    let neurons: Vec<usize> = (heads..heads + inner).collect();
    let alone = improve(&mut systems.subset(&neurons)?, down)?;
    let joint = improve(&mut systems, &side_by_side(output, heads, down, inner))?.values;
    let chosen: Vec<usize> = (0..heads).collect();
    Ok(Joint { output: columns(&joint, heads + inner, &chosen)?, alone })
}

/// Fits the down projection `[hidden, intermediate]` to the activations of `layer`, as a ridge about its
/// present down projection `down`.
async fn fit_down(walker: &Walker<'_>, span: &Span<'_>, layer: &DecoderLayer, down: &[f32]) -> Result<Fit> {
    let config = &walker.context.model.config;
    let mut systems = walker.systems(config.kind(span.stays)?.mlp_width)?;
    let inputs = walker.runner.inputs(layer, &span.entering.beside).await?;
    for (chunk, input) in span.chunks().zip(inputs) {
        let [_, beside] = chunk.beside;
        let between = layer.after_attention(chunk.entering.clone(), walker.runner.positions(), beside)?;
        let activations = layer.activations(layer.read_by_mlp(chunk.entering, &between))?;
        let now = layer.fed(between + layer.mlp_written(activations.clone())?, input)?;
        let residual = layer.summed(chunk.leaving) - now;
        let (z, y) =
            (to_host(activations, "while fitting").await?, to_host(residual, "while fitting").await?);
        walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
    }
    improve(&mut systems, down)
}

/// Fits the output projection of attention `[hidden, heads * head_dim]` of a layer with experts, as a ridge about its
/// present output projection `output`. What the experts add is taken as it is with the present one.
async fn fit_attention(
    walker: &Walker<'_>,
    span: &Span<'_>,
    layer: &DecoderLayer,
    output: &[f32],
) -> Result<Fit> {
    let config = &walker.context.model.config;
    let mut systems = walker.systems(config.mixer_width(config.kind(span.stays)?))?;
    let mut chunks = Vec::new();
    let mut between = Vec::new();
    for chunk in span.chunks() {
        let [_, beside] = chunk.beside;
        let contexts = layer.contexts(chunk.entering.clone(), walker.runner.positions(), beside)?;
        between.push(as_rows(chunk.entering) + layer.attention_written(contexts.clone())?);
        chunks.push((chunk, contexts));
    }
    let read = chunks.iter().zip(&between).map(|((chunk, _), x)| layer.read_by_mlp(chunk.entering, x));
    let added = walker.runner.mlp(layer, &read.collect::<Vec<_>>()).await?;
    let inputs = walker.runner.inputs(layer, &span.entering.beside).await?;
    let parts = chunks.into_iter().zip(between).zip(added).zip(inputs);
    for ((((chunk, contexts), between), added), input) in parts {
        let residual = layer.summed(chunk.leaving) - layer.fed(between + added, input)?;
        let (z, y) = (to_host(contexts, "while fitting").await?, to_host(residual, "while fitting").await?);
        walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
    }
    improve(&mut systems, output)
}

/// Fitted weight and its error.
struct Fit {
    values: Vec<f32>,
    /// Weighted squared error of the residual stream on held-out sequences, before they were fitted to as
    /// well.
    error: f64,
}

/// Solves for the change of the weight `start` by a ridge about 0 and returns the changed weight. The targets
/// in `systems` are what `start` leaves unexplained. They are subtracted row by row, because a difference of
/// sums would keep few of its digits.
fn improve(systems: &mut Systems, start: &[f32]) -> Result<Fit> {
    let change = systems.solve(&vec![0.0; start.len()])?;
    let values = start.iter().zip(&change.b).map(|(start, change)| start + change).collect();
    Ok(Fit { values, error: systems.held_out.target_energy() * (1.0 - change.gain) })
}

/// Returns the rows of `a` `[n, a_width]`, each followed by the same row of `b` `[n, b_width]`.
fn side_by_side(a: &[f32], a_width: usize, b: &[f32], b_width: usize) -> Vec<f32> {
    let rows = a.chunks(a_width.max(1)).zip(b.chunks(b_width.max(1)));
    rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
}
