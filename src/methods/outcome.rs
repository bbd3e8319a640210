//! The plan stage: layers are selected, spans become single layers, and the new model is measured.

use std::borrow::Cow;

use super::experts;
use super::kept::rounds::{Rounds, key};
use super::operators::{build, kept_groups};
use super::quantise::{Chosen, Finished, finished, quantised};
use super::selection::Selector;
use super::walk::span::Built;
use crate::Result;
use crate::analysis::layers::Baseline;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::{Reference, kept_layers};
use crate::forward::context::Context;
use crate::forward::expert_use::ExpertUse;
use crate::methods::Resources;
use crate::methods::operators::weighted::mixed_layers;
use crate::methods::work::{Task, Work};
use crate::model::Config;
use crate::model::importances::Importances;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, MergeStep, Operator, PlanOptions, Selection};
use crate::protocol::events::Event;
use crate::protocol::options::WriteOptions;
use crate::protocol::plan::RemovedExperts;
use crate::quality::{Quality, Scores};
use crate::write::check::check_groups;

/// Version of what [`measure_steps`] finds on the same input. Raise the number with every change of the result, so that
/// measurements that are kept from before are not used.
const VERSION: u32 = 1;

/// A plan, its layers and its measurements.
pub struct Outcome {
    /// Plan, with a measurement after each step where the operator allows.
    pub plan: MergePlan,
    /// Layers of the new model.
    pub layers: Vec<NewLayer>,
    /// Importances of the columns of their matrices; `None` if no layer is encoded by any.
    pub importances: Option<Importances>,
    /// Quality of the new model.
    pub merged: Quality,
    /// Mean KL divergence from the original on each sequence that the new model was judged on, in nats per token; empty if
    /// it was measured after its last step already.
    pub kl_by_sequence: Vec<f64>,
    /// Quality of the model from which the absorbed layers are dropped instead; `None` if it was not measured
    /// ([`measure_dropped`]).
    pub dropped: Option<Quality>,
    /// Whether matrices were rounded by what their inputs are.
    pub is_quantised: bool,
    /// Experts that are removed from the layers that stay.
    pub experts: Vec<RemovedExperts>,
    /// Warnings to the reader, in sentences.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Lists the experts that are removed from a model with the configuration `config`, whose use is `used`.
    fn with_experts(self, config: &Config, used: Option<&ExpertUse>) -> Self {
        Self { experts: experts::removed(&self.plan, config, used), ..self }
    }
}

/// What is measured besides the new model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The model from which the absorbed layers are dropped instead.
    Dropped,
    /// Nothing.
    Nothing,
}

/// Makes the plan of `options`, builds its layers and measures the new model, and what is asked for `beside`, on `judge`, or
/// without a `judge` on the calibration text. If the weights of the plan determine its layers, the model is measured after each
/// step. `baseline` is the original on the calibration text.
///
/// # Errors
/// Those of [`Reference::new`], [`Reference::for_many`], [`Selector::plan`], [`Reference::measured_step`],
/// [`build`] and [`Reference::scores_of_all`].
pub async fn make_plan(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &PlanOptions,
    output: &WriteOptions,
    baseline: Baseline<'_>,
    (judge, beside): (Option<&HeldOut>, Beside),
) -> Result<Outcome> {
    let mut reference = Reference::new(context, output, baseline.stream, baseline.scores).await?;
    if !options.operator.needs_activations() {
        reference = reference.for_many().await?;
    }
    let mut selector = Selector::new(&reference, resources, baseline.analysis, options.goal().unwrap_or(0));
    let (mut plan, stop) = selector.plan(options, true).await?;
    if !options.merges_neighbours() && !options.operator.needs_activations() {
        plan = measure_steps(&reference, resources, plan).await?;
    }
    let used = match baseline.experts {
        None if options.remove_experts > 0 => {
            Some(Cow::Owned(experts::observe(context, baseline.stream).await?))
        }
        known => known.map(Cow::Borrowed),
    };
    if let Some(used) = used.as_deref().filter(|_| options.remove_experts > 0) {
        plan.kept_experts = experts::kept(used, options);
    }
    let mut warnings = Vec::new();
    if let Some(asked) = options.remove
        && plan.steps.len() < asked
    {
        warnings.push(format!("{} of {asked} layers were removed: {stop}.", plan.steps.len()));
    }
    let outcome = finish(&reference, resources, (judge, beside), plan, warnings).await?;
    Ok(outcome.with_experts(&context.model.config, used.as_deref()))
}

/// Builds the layers of an existing plan, made by hand or repeated, and measures the new model. With `steps`,
/// the model is measured after each step, if the weights of the plan determine its layers.
///
/// # Errors
/// Those of [`MergePlan::validate_for`], [`Reference::new`], [`Reference::for_many`],
/// [`Reference::measured_step`], [`build`] and [`Reference::scores_of_all`].
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
    // Measurements on another text say nothing about this text.
    plan.steps.iter_mut().for_each(MergeStep::forget_quality);
    // Steps are of layers; experts go after the last.
    let kept_experts = std::mem::take(&mut plan.kept_experts);
    let mut reference = Reference::new(context, output, baseline.stream, baseline.scores).await?;
    if steps && !plan.operator.needs_activations() {
        reference = reference.for_many().await?;
        plan = measure_steps(&reference, resources, plan).await?;
    }
    plan.kept_experts = kept_experts;
    let outcome = finish(&reference, resources, (judge, Beside::Dropped), plan, Vec::new()).await?;
    Ok(outcome.with_experts(&context.model.config, baseline.experts))
}

/// Measures the model after each step of a plan whose weights determine its layers. Steps in the store of
/// `resources` are not measured again.
async fn measure_steps(
    reference: &Reference<'_>,
    resources: &Resources<'_>,
    plan: MergePlan,
) -> Result<MergePlan> {
    let context = reference.context();
    let key = key(&[VERSION], &(&plan, reference.output()))?;
    let mut measured: Vec<MergeStep> = resources.found(Rounds::Merged, &key).await.unwrap_or_default();
    for step in &measured {
        context.observer.event(Event::Step(step.clone())).await?;
    }
    for n in measured.len() + 1..=plan.steps.len() {
        let part = plan.first_steps(n)?;
        let merged = reference.quality_of(mixed_layers(&part, &context.model.config)?).await?;
        measured.extend(reference.measured_step(&part, merged).await?);
        resources.keep_found(Rounds::Merged, &key, &measured).await;
    }
    Ok(MergePlan { steps: measured, ..plan })
}

/// Builds the layers of `plan` and measures them on `judge`, or without a `judge` on the calibration text of
/// `calibration`. Steps are measured without importances, the last is measured again with them.
///
/// Blocks that are rounded by what their inputs are on the calibration text stay so if the model is better with them on
/// `judge`. Without a `judge`, they stay: the text that they were rounded by would not be impartial.
async fn finish(
    calibration: &Reference<'_>,
    resources: &Resources<'_>,
    (judge, beside): (Option<&HeldOut>, Beside),
    mut plan: MergePlan,
    mut warnings: Vec<String>,
) -> Result<Outcome> {
    let context = calibration.context();
    check_groups(context.model, calibration.output(), &kept_groups(&plan, &context.model.config))?;
    let Built { layers, remarks } = build(context, resources, &plan, calibration.unchanged()).await?;
    warnings.extend(remarks);
    warnings.extend(resources.remarks());
    let finished = finished(context, resources, layers).await?;
    // Steps were measured with all experts, and with weights that were rounded to the nearest.
    let Finished { importances, is_quantised, .. } = &finished;
    let as_measured = plan.kept_experts.is_empty() && importances.is_none() && !is_quantised;
    let last = plan.steps.last().filter(|_| as_measured);
    let last = last.and_then(|step| Some((step.quality()?, step.dropped?)));
    let (chosen, judged) = match (last, judge) {
        (Some((merged, dropped)), None) => {
            let perplexity = calibration.perplexity();
            let judged = Judged { merged, dropped: Some(dropped), perplexity, kl_by_sequence: Vec::new() };
            (finished.by_inputs(), judged)
        }
        (_, None) => {
            let chosen = finished.by_inputs();
            let judged = judged(calibration, (context, resources), &plan, (&chosen, beside)).await?;
            (chosen, judged)
        }
        (_, Some(judge)) => {
            let judging = Context { sequences: &judge.sequences, ..*context };
            let reference =
                Reference::new(&judging, calibration.output(), &judge.stream, &judge.scores).await?;
            let chosen = finished.better(&reference).await?;
            let judged = judged(&reference, (context, resources), &plan, (&chosen, beside)).await?;
            (chosen, judged)
        }
    };
    let Judged { merged, dropped, perplexity, kl_by_sequence } = judged;
    let Chosen { layers, importances, is_quantised, remarks, .. } = chosen;
    warnings.extend(remarks);
    // Steps that were measured on the calibration text stay comparable with each other.
    let is_apart = judge.is_some() && !plan.operator.needs_activations();
    let is_told = plan.kept_experts.is_empty();
    if let Some(dropped) = dropped
        && let Some(step) =
            plan.steps.last_mut().filter(|step| is_told && !(is_apart && step.quality().is_some()))
    {
        step.set_quality(merged, dropped);
    }
    if merged.collapsed {
        let fewer = if plan.kept_experts.is_empty() { "layers" } else { "layers or experts" };
        warnings.push(format!(
            "The merged model has collapsed: its perplexity is {:.1} where the original has {perplexity:.1}. Remove \
             fewer {fewer}.",
            merged.perplexity
        ));
    }
    Ok(Outcome {
        plan,
        layers,
        importances,
        merged,
        kl_by_sequence,
        dropped,
        is_quantised,
        experts: Vec::new(),
        warnings,
    })
}

/// What was measured of a new model.
struct Judged {
    /// Quality of the new model.
    merged: Quality,
    /// Quality of the model from which the absorbed layers are dropped instead, if it was asked for.
    dropped: Option<Quality>,
    /// Perplexity of the original.
    perplexity: f64,
    /// Mean KL divergence of the new model on each sequence.
    kl_by_sequence: Vec<f64>,
}

/// Measures the model of the layers `chosen`, and `beside` it the model from which the absorbed layers of `plan` are dropped
/// instead. Both are rounded by what their inputs are on the text of `calibration`, if the first is.
async fn judged(
    reference: &Reference<'_>,
    calibration: (&Context<'_>, &Resources<'_>),
    plan: &MergePlan,
    (chosen, beside): (&Chosen, Beside),
) -> Result<Judged> {
    let (merged, dropped) = if is_its_own_dropped(plan) || beside == Beside::Nothing {
        (chosen.scores_on(reference).await?, None)
    } else {
        let kept =
            dropped_layers(reference, calibration, plan, (&chosen.layers, chosen.is_quantised)).await?;
        let [merged, dropped] = match &chosen.scores {
            Some(merged) => [merged.clone(), reference.scores_of(kept).await?],
            None => reference.scores_of_all([chosen.layers.clone(), kept]).await?,
        };
        (merged, Some(dropped))
    };
    let perplexity = reference.perplexity();
    let quality = |scores: &Scores| Quality::compressed(scores, perplexity);
    let dropped = match dropped {
        None if is_its_own_dropped(plan) => Some(quality(&merged)),
        dropped => dropped.as_ref().map(quality),
    };
    Ok(Judged { merged: quality(&merged), dropped, perplexity, kl_by_sequence: merged.kl_by_sequence })
}

/// Measures what [`Beside::Nothing`] left out of `outcome`, a plan that was made in the same way and measured on `judge`, or
/// without a `judge` on the calibration text, on which `baseline` is the original.
///
/// # Errors
/// Those of [`make_plan`].
pub async fn measure_dropped(
    context: &Context<'_>,
    resources: &Resources<'_>,
    output: &WriteOptions,
    baseline: Baseline<'_>,
    judge: Option<&HeldOut>,
    outcome: &mut Outcome,
) -> Result<()> {
    if outcome.dropped.is_some() {
        return Ok(());
    }
    let judging =
        Context { sequences: judge.map_or(context.sequences, |judge| &judge.sequences), ..*context };
    let (stream, scores) =
        judge.map_or((baseline.stream, baseline.scores), |judge| (&judge.stream, &judge.scores));
    let reference = Reference::new(&judging, output, stream, scores).await?;
    let new = (&outcome.layers[..], outcome.is_quantised);
    let kept = dropped_layers(&reference, (context, resources), &outcome.plan, new).await?;
    let dropped = Quality::compressed(&reference.scores_of(kept).await?, reference.perplexity());
    outcome.dropped = Some(dropped);
    let is_told = outcome.plan.kept_experts.is_empty();
    if let Some(step) = outcome.plan.steps.last_mut().filter(|step| is_told && step.quality().is_none()) {
        step.set_quality(outcome.merged, dropped);
    }
    Ok(())
}

/// Returns whether a model from which the absorbed layers of `plan` are dropped is the model of `plan`.
fn is_its_own_dropped(plan: &MergePlan) -> bool {
    plan.operator == Operator::Drop || plan.n_layers == plan.groups.len()
}

/// Makes the layers of the model from which the absorbed layers of `plan` are dropped, stored as the `new` layers of the
/// plan are, and rounded by what their inputs are if they are.
async fn dropped_layers(
    reference: &Reference<'_>,
    (calibration, resources): (&Context<'_>, &Resources<'_>),
    plan: &MergePlan,
    (new, is_quantised): (&[NewLayer], bool),
) -> Result<Vec<NewLayer>> {
    let mut kept = kept_layers(plan, &reference.context().model.config)?;
    if reference.context().storage.changes(reference.context().model) {
        // Both models are encoded by the same importances.
        let alike = |(kept, new): (NewLayer, &NewLayer)| kept.weighted_by(new.all_importances().cloned());
        kept = kept.into_iter().zip(new).map(alike).collect();
    }
    match is_quantised {
        true => Ok(quantised(calibration, resources, kept).await?.layers),
        false => Ok(kept),
    }
}

/// Counts the work of measuring a plan. Models with fitted tensors are measured once, on `judge_tokens`
/// tokens of another text, besides the original and the model without the absorbed layers. Other models are
/// measured after each step on the calibration text, each from its first changed layer on.
pub fn work(task: &Task<'_>, judge_tokens: usize) -> Work {
    let (n_layers, removed) = (task.n_layers(), task.removed());
    let options = task.options;
    if options.operator.needs_activations() {
        let (layers, heads) = match removed {
            0 => (2.0 * n_layers, 3.0),
            _ => (3.0 * n_layers - 2.0 * removed as f64, 4.0),
        };
        return (Work::layers(layers) + Work::heads(heads)).of_tokens(judge_tokens);
    }
    let changed: Work = (1..=removed).map(|step| Work::layers(n_changed(task, step))).sum();
    let predictions = Work::heads(2.0 * removed as f64);
    // If pairs are chosen one after the other, the merged model has been run to choose the next pair.
    let iterates = options.selection == Selection::Mka && !options.one_shot;
    let merged = if iterates { predictions } else { changed + predictions };
    let drops = options.operator == Operator::Drop || removed == 0;
    let steps = if drops { merged } else { merged + changed + predictions };
    if options.remove_experts == 0 {
        return steps;
    }
    // The model without the experts, and without the layers that are dropped instead.
    let models = if drops { 1.0 } else { 2.0 };
    steps + Work::layers(models * (n_layers - removed as f64)) + Work::heads(models + 1.0)
}

/// Returns the number of layers that are run to measure a model of which `step` layers were removed: the
/// layers from its first changed layer on. If layers may be removed anywhere, the first is expected at
/// `n / (step + 1)`.
fn n_changed(task: &Task<'_>, step: usize) -> f64 {
    let (n_layers, step) = (task.n_layers(), step as f64);
    match task.options.selection {
        Selection::Tail => 0.0,
        Selection::Reverse => 1.0,
        _ => n_layers * step / (step + 1.0) - step / 2.0,
    }
}

/// Counts the work of measuring one row of a comparison on `judge_tokens` tokens, including the original's
/// predictions.
pub fn row_work(task: &Task<'_>, judge_tokens: usize) -> Work {
    (Work::layers(task.n_layers() - task.removed() as f64) + Work::heads(2.0)).of_tokens(judge_tokens)
}
