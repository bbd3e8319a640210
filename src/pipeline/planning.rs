//! The second stage: which layers go, what becomes of them, and what that does to the model.

use crate::evaluate::{Quality, Scores};
use crate::model::new_layer::NewLayer;
use crate::pipeline::checkpoint::plan::{KeptPlan, Rounds};
use crate::pipeline::held_out::HeldOut;
use crate::pipeline::measuring::{Reference, kept_layers};
use crate::pipeline::merging::merge_neighbours;
use crate::pipeline::operators::{Built, build};
use crate::pipeline::options::WriteOptions;
use crate::pipeline::selecting::Selector;
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::{Alpha, MergePlan, MergeStep, Operator, PlanOptions, Selection, Stop};
use crate::progress::Event;
use crate::{Error, Result};

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

/// What the similarity stage found out about the original on the calibration text.
#[derive(Clone, Copy)]
pub struct Original<'a> {
    /// Its states.
    pub stream: &'a Stream,
    /// Its layers, compared.
    pub comparison: &'a Comparison,
    /// Its scores.
    pub scores: &'a Scores,
}

/// Chooses layers by `options`, joins them, and measures each step.
///
/// # Errors
/// [`Error::Usage`] for options that do not fit the model, and what running gives.
pub async fn make_plan(
    context: &Context<'_>,
    options: &PlanOptions,
    output: &WriteOptions,
    original: Original<'_>,
    judge: Option<&HeldOut>,
) -> Result<Outcome> {
    let mut reference = Reference::new(context, output, original.stream, original.scores)?;
    if !options.operator.needs_activations() {
        reference = reference.for_many().await?;
    }
    let mut selector = Selector::new(&reference, original.comparison, options.goal().unwrap_or(0));
    let (mut plan, stop) = choose(&mut selector, options, true).await?;
    if !options.selection.merges_neighbours() && !options.operator.needs_activations() {
        plan = measure_steps(&reference, plan).await?;
    }
    let mut warnings = Vec::new();
    if let Some(asked) = options.remove
        && plan.steps.len() < asked
    {
        warnings.push(format!("{} of {asked} layers were removed: {stop}.", plan.steps.len()));
    }
    finish(&reference, judge, plan, warnings).await
}

/// Measures a plan that exists already, without choosing anything: one made by hand or repeated; each step of it if
/// `steps` and where its weights say all.
///
/// # Errors
/// [`Error::Usage`] for a plan of another model, and what running gives.
pub async fn measure_plan(
    context: &Context<'_>,
    mut plan: MergePlan,
    output: &WriteOptions,
    original: Original<'_>,
    judge: Option<&HeldOut>,
    steps: bool,
) -> Result<Outcome> {
    check_plan(&plan, original.stream.layers().len())?;
    // What was measured on another text says nothing about this one.
    plan.steps.iter_mut().for_each(MergeStep::forget_quality);
    let mut reference = Reference::new(context, output, original.stream, original.scores)?;
    if steps && !plan.operator.needs_activations() {
        reference = reference.for_many().await?;
        plan = measure_steps(&reference, plan).await?;
    }
    finish(&reference, judge, plan, Vec::new()).await
}

/// The plan that `options` lead to, and why it ends; measured step by step if `measured`.
///
/// # Errors
/// [`Error::Usage`] for options that do not fit the model or where nothing may be merged, and what running gives.
pub async fn choose(
    selector: &mut Selector<'_>,
    options: &PlanOptions,
    measured: bool,
) -> Result<(MergePlan, Stop)> {
    let n_layers = selector.reference().stored().layers().len();
    let valid = options.clone().check(n_layers, &selector.comparison().massive())?;
    let (plan, stop) = match options.selection.merges_neighbours() {
        true => merge_neighbours(selector.reference(), valid, selector.comparison(), measured).await?,
        false => {
            let mut removed = selector.removed(options).await?;
            let stop = if removed.len() < options.goal().unwrap_or(0) { Stop::AllBarred } else { Stop::Done };
            if options.operator == Operator::Average && options.selection != Selection::Hand {
                // Runs are averaged from left to right, whatever the order in which a rule chose their layers.
                removed.sort_unstable();
            }
            let matrix = selector.comparison().matrix();
            let similar = |layer: usize| matrix.adjacent().nth(layer.saturating_sub(1)).unwrap_or(0.0);
            let removed: Vec<_> = removed.into_iter().map(|layer| (layer, similar(layer))).collect();
            let alpha = |similarity: f64| match options.alpha {
                Alpha::Fixed(alpha) => alpha,
                _ => similarity.clamp(0.0, 1.0),
            };
            (MergePlan::absorbing(n_layers, options.operator, &removed, alpha)?, stop)
        }
    };
    match plan.steps.is_empty() {
        true => Err(Error::Usage(format!("nothing was merged: {stop}"))),
        false => Ok((plan, stop)),
    }
}

/// Measures the model after each step of a plan whose weights say all. Where the context keeps a plan, steps that were
/// kept are not measured again.
async fn measure_steps(reference: &Reference<'_>, plan: MergePlan) -> Result<MergePlan> {
    let context = reference.context();
    let key = format!("{plan:?} {:?}", reference.output());
    let mut measured: Vec<MergeStep> = match context.kept {
        Some(kept) => kept.found(context, Rounds::Merged, &key).await.unwrap_or_default(),
        None => Vec::new(),
    };
    for step in &measured {
        context.observer.event(Event::Step(step.clone())).await?;
    }
    for n in measured.len() + 1..=plan.steps.len() {
        let part = plan.first_steps(n)?;
        let merged = reference.quality_of(mixed_layers(&part)?).await?;
        measured.extend(reference.measured_step(&part, merged).await?);
        if let Some(kept) = context.kept {
            kept.keep_found(context, Rounds::Merged, &key, &measured).await;
        }
    }
    Ok(MergePlan { steps: measured, ..plan })
}

/// Builds the layers of `plan` and measures them on `judge`, or where there is none on the calibration text, of
/// which `calibration` is.
async fn finish(
    calibration: &Reference<'_>,
    judge: Option<&HeldOut>,
    mut plan: MergePlan,
    mut warnings: Vec<String>,
) -> Result<Outcome> {
    let context = calibration.context();
    let Built { layers, remarks } = build(context, &plan, calibration.unchanged()).await?;
    warnings.extend(remarks);
    warnings.extend(context.kept.map(KeptPlan::remarks).unwrap_or_default());
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

/// Fails for a plan that is not valid or is of another model.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_plan(plan: &MergePlan, n_layers: usize) -> Result<()> {
    plan.validate()?;
    if plan.n_layers != n_layers {
        return Err(Error::Usage(format!(
            "the plan is for a model of {} layers, but this one has {n_layers}",
            plan.n_layers
        )));
    }
    Ok(())
}

/// The layers of a plan whose weights say all.
///
/// # Errors
/// [`Error::Usage`] if the weights of a group do not sum to one.
pub fn mixed_layers(plan: &MergePlan) -> Result<Vec<NewLayer>> {
    let groups = plan.groups.iter().zip(&plan.weights);
    groups
        .map(|(group, weights)| {
            let parts = group.iter().copied().zip(weights.iter().copied()).collect();
            Ok(NewLayer::mixed(crate::merge::Mix::new(parts)?))
        })
        .collect()
}
