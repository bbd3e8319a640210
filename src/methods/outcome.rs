//! The second stage: which layers go, what becomes of them, and what that does to the model.

use super::kept::rounds::Rounds;
use super::operators::build;
use super::selection::Selector;
use super::walk::span::Built;
use crate::Result;
use crate::analysis::layers::Baseline;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::{Reference, kept_layers};
use crate::forward::context::Context;
use crate::methods::Resources;
use crate::methods::operators::weighted::mixed_layers;
use crate::methods::work::{Task, Work};
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, MergeStep, Operator, PlanOptions, Selection};
use crate::protocol::events::Event;
use crate::protocol::options::WriteOptions;
use crate::quality::Quality;

/// A plan with its measurements.
pub struct Outcome {
    /// The steps, each measured where the operator allows.
    pub plan: MergePlan,
    /// The layers that it leads to.
    pub layers: Vec<NewLayer>,
    /// Quality after the last step.
    pub merged: Quality,
    /// Quality when the layers that were absorbed are dropped instead.
    pub dropped: Quality,
    /// Remarks.
    pub warnings: Vec<String>,
}

/// Chooses layers by `options`, joins them, and measures each step.
///
/// # Errors
/// [`Error::Usage`] for options that do not fit the model, and what running gives.
pub async fn make_plan(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &PlanOptions,
    output: &WriteOptions,
    baseline: Baseline<'_>,
    judge: Option<&HeldOut>,
) -> Result<Outcome> {
    let mut reference = Reference::new(context, output, baseline.stream, baseline.scores)?;
    if !options.operator.needs_activations() {
        reference = reference.for_many().await?;
    }
    let mut selector = Selector::new(&reference, resources, baseline.analysis, options.goal().unwrap_or(0));
    let (mut plan, stop) = selector.plan(options, true).await?;
    if !options.selection.merges_neighbours() && !options.operator.needs_activations() {
        plan = measure_steps(&reference, resources, plan).await?;
    }
    let mut warnings = Vec::new();
    if let Some(asked) = options.remove
        && plan.steps.len() < asked
    {
        warnings.push(format!("{} of {asked} layers were removed: {stop}.", plan.steps.len()));
    }
    finish(&reference, resources, judge, plan, warnings).await
}

/// Measures a plan that exists already, without choosing anything: one made by hand or repeated; each step of it if
/// `steps` and where its weights say all.
///
/// # Errors
/// [`Error::Usage`] for a plan of another model, and what running gives.
pub async fn measure_plan(
    context: &Context<'_>,
    resources: &Resources<'_>,
    mut plan: MergePlan,
    output: &WriteOptions,
    baseline: Baseline<'_>,
    judge: Option<&HeldOut>,
    steps: bool,
) -> Result<Outcome> {
    plan.validate_for(baseline.stream.layers().len())?;
    // What was measured on another text says nothing about this one.
    plan.steps.iter_mut().for_each(MergeStep::forget_quality);
    let mut reference = Reference::new(context, output, baseline.stream, baseline.scores)?;
    if steps && !plan.operator.needs_activations() {
        reference = reference.for_many().await?;
        plan = measure_steps(&reference, resources, plan).await?;
    }
    finish(&reference, resources, judge, plan, Vec::new()).await
}

/// Measures the model after each step of a plan whose weights say all. Where the context keeps a plan, steps that were
/// kept are not measured again.
async fn measure_steps(
    reference: &Reference<'_>,
    resources: &Resources<'_>,
    plan: MergePlan,
) -> Result<MergePlan> {
    let context = reference.context();
    let key = format!("{plan:?} {:?}", reference.output());
    let mut measured: Vec<MergeStep> = resources.found(Rounds::Merged, &key).await.unwrap_or_default();
    for step in &measured {
        context.observer.event(Event::Step(step.clone())).await?;
    }
    for n in measured.len() + 1..=plan.steps.len() {
        let part = plan.first_steps(n)?;
        let merged = reference.quality_of(mixed_layers(&part)?).await?;
        measured.extend(reference.measured_step(&part, merged).await?);
        resources.keep_found(Rounds::Merged, &key, &measured).await;
    }
    Ok(MergePlan { steps: measured, ..plan })
}

/// Builds the layers of `plan` and measures them on `judge`, or where there is none on the calibration text, of
/// which `calibration` is.
async fn finish(
    calibration: &Reference<'_>,
    resources: &Resources<'_>,
    judge: Option<&HeldOut>,
    mut plan: MergePlan,
    mut warnings: Vec<String>,
) -> Result<Outcome> {
    let context = calibration.context();
    let Built { layers, remarks } = build(context, resources, &plan, calibration.unchanged()).await?;
    warnings.extend(remarks);
    warnings.extend(resources.remarks());
    let last = plan.steps.last().and_then(|step| Some((step.quality()?, step.dropped?)));
    let (merged, dropped, perplexity) = match (last, judge) {
        (Some((merged, dropped)), None) => (merged, dropped, calibration.perplexity()),
        (_, None) => quality_of(calibration, &plan, &layers).await?,
        (_, Some(judge)) => {
            let context = Context { sequences: &judge.sequences, ..*context };
            let reference = Reference::new(&context, calibration.output(), &judge.stream, &judge.scores)?;
            quality_of(&reference, &plan, &layers).await?
        }
    };
    if let Some(step) = plan.steps.last_mut() {
        step.set_quality(merged, dropped);
    }
    if merged.collapsed {
        warnings.push(format!(
            "The merged model has collapsed: its perplexity is {:.1} where the original has {perplexity:.1}. Remove \
             fewer layers.",
            merged.perplexity
        ));
    }
    Ok(Outcome { plan, layers, merged, dropped, warnings })
}

/// The qualities of the layers of `plan` and of those that are left where the others are dropped, and the
/// perplexity of the original.
async fn quality_of(
    reference: &Reference<'_>,
    plan: &MergePlan,
    layers: &[NewLayer],
) -> Result<(Quality, Quality, f64)> {
    let layers = layers.to_vec();
    let [merged, dropped] = match plan.operator {
        Operator::Drop => [reference.quality_of(layers).await?; 2],
        _ => reference.qualities_of([layers, kept_layers(plan)]).await?,
    };
    Ok((merged, dropped, reference.perplexity()))
}

/// The work of measuring a plan. Models whose tensors were fitted are measured once, on `judge_tokens` tokens of another
/// text, beside the original and the model without the layers; the others after each step on the calibration text, each
/// from its first changed layer on.
pub fn work(task: &Task<'_>, judge_tokens: usize) -> Work {
    let (n_layers, removed) = (task.n_layers(), task.removed());
    let options = task.options;
    if options.operator.needs_activations() {
        let layers = 3.0 * n_layers - 2.0 * removed as f64;
        return (Work::layers(layers) + Work::heads(4.0)).of_tokens(judge_tokens);
    }
    let changed: Work = (1..=removed).map(|step| Work::layers(n_changed(task, step))).sum();
    let predictions = Work::heads(2.0 * removed as f64);
    // Where pairs are chosen one after the other, the merged model has run for the choice of the next pair.
    let iterates = options.selection == Selection::Mka && !options.one_shot;
    let merged = if iterates { predictions } else { changed + predictions };
    let drops = options.operator == Operator::Drop;
    if drops { merged } else { merged + changed + predictions }
}

/// Layers that run where a model of `step` layers less is measured: those after its first changed layer. Of layers that
/// may be anywhere, the first is expected at `n / (step + 1)`.
fn n_changed(task: &Task<'_>, step: usize) -> f64 {
    let (n_layers, step) = (task.n_layers(), step as f64);
    match task.options.selection {
        Selection::Tail => 0.0,
        Selection::Reverse => 1.0,
        _ => n_layers * step / (step + 1.0) - step / 2.0,
    }
}

/// The work of measuring a row of a comparison on `judge_tokens` tokens, beside the original's predictions.
pub fn row_work(task: &Task<'_>, judge_tokens: usize) -> Work {
    (Work::layers(task.n_layers() - task.removed() as f64) + Work::heads(2.0)).of_tokens(judge_tokens)
}
