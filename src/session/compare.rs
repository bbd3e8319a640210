//! Comparison of methods: all are calibrated on one text, and the model of each is measured on another.

use web_time::Instant;

use super::bounds::bound;
use crate::analysis::layers::Baseline;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::Reference;
use crate::forward::context::Context;
use crate::methods::Resources;
use crate::methods::operators::build;
use crate::methods::operators::{kept_groups, supports};
use crate::methods::quantise::finished;
use crate::methods::selection::Selector;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, Method, PlanOptions, Selection};
use crate::protocol::compare::{CompareRow, StoredOriginal};
use crate::protocol::events::Event;
use crate::protocol::options::{CompareOptions, WriteOptions};
use crate::quality::Quality;
use crate::write::check::check_groups;
use crate::write::planned_bytes;
use crate::{Error, Result};

/// Result of a comparison.
pub struct Comparing {
    /// Quality of the original on the evaluation text.
    pub original: Quality,
    /// The original in each file type that was asked for and is not that of its own files.
    pub originals: Vec<StoredOriginal>,
    /// One row for each file type, method and number of removed layers, in the order of the options.
    pub rows: Vec<CompareRow>,
    /// Whether the observer stopped the comparison, in which case only the finished rows are returned.
    pub cancelled: bool,
}

/// Plans and builds a model for each file type, method and number of removed layers on the calibration text, on which
/// `baseline` is the original, and measures the model on `held_out`, the original in each file type besides. A method that fails becomes a row with
/// its error; a method that fits to activations fails if more than 1 % of `held_out` was seen in calibration.
///
/// # Errors
/// [`Error::Usage`] if no method or no number of layers is given, if a method does not exist, or if a number
/// of layers does not fit the model; those of [`Reference::new`], [`Reference::for_many`] and
/// [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn compare(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &CompareOptions,
    baseline: Baseline<'_>,
    held_out: &HeldOut,
) -> Result<Comparing> {
    let methods = methods(options, context.model.config.n_layers)?;
    let original = Quality::original(&held_out.scores);
    let mut comparing = Comparing { original, originals: Vec::new(), rows: Vec::new(), cancelled: false };
    for output in options.outputs(context.model) {
        let context = Context { storage: output.storage(context.model), ..*context };
        let compared =
            in_type(&context, resources, options, &methods, &output, baseline, held_out, &mut comparing);
        match compared.await {
            Err(Error::Cancelled) => return Ok(Comparing { cancelled: true, ..comparing }),
            done => done?,
        }
    }
    Ok(comparing)
}

/// Adds the original and the models of `methods`, stored as `output` says, to `comparing`.
#[expect(clippy::too_many_arguments, reason = "one part of `compare`, which has all of them at hand")]
async fn in_type(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &CompareOptions,
    methods: &[Method],
    output: &WriteOptions,
    baseline: Baseline<'_>,
    held_out: &HeldOut,
    comparing: &mut Comparing,
) -> Result<()> {
    let (model, storage) = (context.model, context.storage);
    if let Some(kept) = resources.kept {
        kept.stored_as(storage);
    }
    let measuring = Context { sequences: &held_out.sequences, ..*context };
    let calibration = Reference::new(context, output, baseline.stream, baseline.scores).await?;
    let reference =
        Reference::new(&measuring, output, &held_out.stream, &held_out.scores).await?.for_many().await?;
    if output.dtype.is_some() && storage.changes(model) {
        let start = Instant::now();
        let layers = NewLayer::originals(model);
        let bytes = planned_bytes(model, &layers, output)?;
        let chosen = finished(context, resources, layers).await?.better(&reference).await?;
        let scores = chosen.scores_on(&reference).await?;
        comparing.originals.push(StoredOriginal {
            dtype: output.dtype,
            quality: Quality::compressed(&scores, reference.perplexity()),
            kl_by_sequence: scores.kl_by_sequence,
            bytes,
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    let most = options.remove.iter().copied().max().unwrap_or(0);
    let selector = Selector::new(&calibration, resources, baseline.analysis, most);
    let mut plans = PlanCache { selector, most, iterated: Vec::new() };
    for method in methods {
        for &remove in &options.remove {
            let mut row = CompareRow::new(method, remove, model.config.n_layers - remove);
            row.dtype = output.dtype;
            let start = Instant::now();
            let measured =
                match held_out.check_judges(method.operator.needs_activations() || storage.rounds_blocks()) {
                    Ok(()) => measure(&mut plans, method, remove, options.seed, &reference, &mut row).await,
                    refused => refused,
                };
            row.seconds = start.elapsed().as_secs_f64();
            match measured {
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => row.error = Some(error.to_string()),
                Ok(()) => {}
            }
            context.observer.event(Event::Row(row.clone())).await?;
            comparing.rows.push(row);
        }
    }
    Ok(())
}

/// Returns the methods of the options, of a model of `n_layers` layers.
///
/// # Errors
/// [`Error::Usage`] if no method or no number of layers is given, if a method does not exist, or if a number of
/// layers does not fit the model.
pub fn methods(options: &CompareOptions, n_layers: usize) -> Result<Vec<Method>> {
    if options.methods.is_empty() || options.remove.is_empty() {
        return Err(Error::Usage("name at least one method and one number of layers to remove".to_owned()));
    }
    if let Some(k) = options.remove.iter().find(|k| **k == 0 || **k >= n_layers) {
        return Err(Error::Usage(format!(
            "cannot remove {k} of {n_layers} layers: at least 1 must go and 1 must stay"
        )));
    }
    options.methods.iter().map(|name| Method::named(name)).collect()
}

/// Builds and measures the model of one method at one number of removed layers, and fills in `row`.
async fn measure(
    plans: &mut PlanCache<'_>,
    method: &Method,
    remove: usize,
    seed: u64,
    reference: &Reference<'_>,
    row: &mut CompareRow,
) -> Result<()> {
    let (model, output) = (plans.selector.reference().context().model, reference.output());
    supports(method.operator, &model.config)?;
    let mut bounded = method.options(remove, seed);
    bound(model, output, &mut bounded)?;
    let plan = plans.plan(&bounded, remove).await?;
    check_groups(model, output, &kept_groups(&plan, &model.config))?;
    row.groups.clone_from(&plan.groups);
    row.layers = plan.groups.len();
    if plan.steps.len() < remove {
        row.warnings.push(format!("only {} of {remove} layers could be removed", plan.steps.len()));
    }
    let calibration = plans.selector.reference();
    let context = calibration.context();
    let resources = plans.selector.resources();
    let built = build(context, resources, &plan, calibration.unchanged()).await?;
    row.warnings.extend(built.remarks);
    row.bytes = planned_bytes(context.model, &built.layers, output)?;
    let finished = finished(context, resources, built.layers).await?;
    let chosen = finished.better(reference).await?;
    row.warnings.extend_from_slice(&chosen.remarks);
    let config = &context.model.config;
    let less = (config.parameters_per_layer() + config.input_parameters()) * plan.steps.len() as u64;
    row.parameters = context.model.total_parameters().saturating_sub(less);
    let scores = chosen.scores_on(reference).await?;
    row.quality = Some(Quality::compressed(&scores, reference.perplexity()));
    row.kl_by_sequence = scores.kl_by_sequence;
    Ok(())
}

/// Maker of plans, which runs each iterative selection once.
struct PlanCache<'a> {
    selector: Selector<'a>,
    /// Largest number of layers that will be removed.
    most: usize,
    /// Iterative plans; the first steps of each are the plans that remove fewer layers.
    iterated: Vec<(PlanOptions, MergePlan)>,
}

impl PlanCache<'_> {
    async fn plan(&mut self, options: &PlanOptions, remove: usize) -> Result<MergePlan> {
        if options.selection != Selection::Mka || options.one_shot || !options.periodic.is_empty() {
            return Ok(self.selector.plan(options, false).await?.0);
        }
        let longest = PlanOptions { remove: Some(self.most), ..options.clone() };
        let known = self.iterated.iter().find(|(known, _)| *known == longest);
        if let Some((_, plan)) = known {
            return plan.first_steps(remove);
        }
        let (plan, _) = self.selector.plan(&longest, false).await?;
        let part = plan.first_steps(remove);
        self.iterated.push((longest, plan));
        part
    }
}
