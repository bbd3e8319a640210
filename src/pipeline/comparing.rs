//! Many methods side by side: one calibration, each method's models measured on another text.

use web_time::Instant;

use crate::evaluate::Quality;
use crate::pipeline::held_out::HeldOut;
use crate::pipeline::measuring::Reference;
use crate::pipeline::operators::build;
use crate::pipeline::options::CompareOptions;
use crate::pipeline::planning::{Original, choose};
use crate::pipeline::selecting::Selector;
use crate::pipeline::stream::Context;
use crate::pipeline::writing::planned_bytes;
use crate::plan::{MergePlan, Method, PlanOptions, Selection};
use crate::progress::Event;
use crate::report::CompareRow;
use crate::{Error, Result};

/// What a comparison found.
pub struct Comparing {
    /// The original on the evaluation text.
    pub original: Quality,
    /// In the order in which methods and numbers of layers were given.
    pub rows: Vec<CompareRow>,
    /// Whether it was stopped before its end; the rows that were done are kept.
    pub cancelled: bool,
}

/// Plans and builds a model by each method and number of layers on the calibration text, of which `calibrated`
/// knows the original, and measures it on `held_out`. A method that fails becomes a row with its error; one that
/// fits does where calibration has seen some of that text.
///
/// # Errors
/// [`Error::Usage`] for an unknown method or a number of layers that does not fit, and what reading the original
/// gives.
pub async fn compare(
    context: &Context<'_>,
    options: &CompareOptions,
    calibrated: Original<'_>,
    held_out: &HeldOut,
) -> Result<Comparing> {
    let methods = methods(options, context.model.config.n_layers)?;
    let measuring = Context { sequences: &held_out.sequences, ..*context };
    let calibration = Reference::new(context, &options.output, calibrated.stream, calibrated.scores)?;
    let reference =
        Reference::new(&measuring, &options.output, &held_out.stream, &held_out.scores)?.for_many().await?;
    let most = options.remove.iter().copied().max().unwrap_or(0);
    let selector = Selector::new(&calibration, calibrated.comparison, most);
    let mut chooser = Chooser { selector, most, iterated: Vec::new() };
    let mut comparing =
        Comparing { original: Quality::original(&held_out.scores), rows: Vec::new(), cancelled: false };
    for method in &methods {
        for &remove in &options.remove {
            let mut row = CompareRow::new(method, remove, context.model.config.n_layers - remove);
            let start = Instant::now();
            let measured = match held_out.check_judges(method.operator) {
                Ok(()) => measure(&mut chooser, method, remove, options, &reference, &mut row).await,
                refused => refused,
            };
            row.seconds = start.elapsed().as_secs_f64();
            let told = match measured {
                Err(Error::Cancelled) => Err(Error::Cancelled),
                Err(error) => {
                    row.error = Some(error.to_string());
                    context.observer.event(Event::Row(row.clone())).await
                }
                Ok(()) => context.observer.event(Event::Row(row.clone())).await,
            };
            match told {
                Ok(()) => comparing.rows.push(row),
                Err(Error::Cancelled) => return Ok(Comparing { cancelled: true, ..comparing }),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(comparing)
}

fn methods(options: &CompareOptions, n_layers: usize) -> Result<Vec<Method>> {
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

/// One method at one number of layers.
async fn measure(
    chooser: &mut Chooser<'_>,
    method: &Method,
    remove: usize,
    options: &CompareOptions,
    reference: &Reference<'_>,
    row: &mut CompareRow,
) -> Result<()> {
    let plan = chooser.plan(&method.options(remove, options.seed), remove).await?;
    row.groups.clone_from(&plan.groups);
    row.layers = plan.groups.len();
    if plan.steps.len() < remove {
        row.warnings.push(format!("only {} of {remove} layers could be removed", plan.steps.len()));
    }
    let calibration = chooser.selector.reference();
    let context = calibration.context();
    let built = build(context, &plan, calibration.unchanged()).await?;
    row.warnings.extend(built.remarks);
    row.bytes = planned_bytes(context.model, &built.layers, &options.output)?;
    let less = context.model.config.parameters_per_layer() * plan.steps.len() as u64;
    row.parameters = context.model.total_parameters().saturating_sub(less);
    let scores = reference.scores_of(built.layers).await?;
    row.quality = Some(Quality::compressed(&scores, reference.perplexity()));
    row.kl_by_sequence = scores.kl_by_sequence;
    Ok(())
}

/// Makes plans, each iteration of the same rule once.
struct Chooser<'a> {
    selector: Selector<'a>,
    /// The largest number of layers that will be asked for.
    most: usize,
    /// Iterative plans, whose first steps are the plans of fewer layers.
    iterated: Vec<(PlanOptions, MergePlan)>,
}

impl Chooser<'_> {
    async fn plan(&mut self, options: &PlanOptions, remove: usize) -> Result<MergePlan> {
        if options.selection != Selection::Mka || options.one_shot {
            return Ok(choose(&mut self.selector, options, false).await?.0);
        }
        let longest = PlanOptions { remove: Some(self.most), ..options.clone() };
        let known = self.iterated.iter().find(|(known, _)| *known == longest);
        if let Some((_, plan)) = known {
            return plan.first_steps(remove);
        }
        let (plan, _) = choose(&mut self.selector, &longest, false).await?;
        let part = plan.first_steps(remove);
        self.iterated.push((longest, plan));
        part
    }
}
