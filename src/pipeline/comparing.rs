//! Many methods side by side: one calibration, each method's models measured on another text.

use std::collections::HashSet;

use web_time::Instant;

use crate::calibration::Sequences;
use crate::device::Accelerator;
use crate::evaluate::{Quality, Scores};
use crate::model::Model;
use crate::model::new_layer::NewLayer;
use crate::model::storage::Storage;
use crate::pipeline::measuring::Reference;
use crate::pipeline::operators::build;
use crate::pipeline::options::CompareOptions;
use crate::pipeline::planning::{Original, choose};
use crate::pipeline::selecting::Selector;
use crate::pipeline::stream::{Context, Stream};
use crate::pipeline::writing::planned_bytes;
use crate::plan::{MergePlan, Method, PlanOptions, Selection};
use crate::progress::{Event, Observer, Stage};
use crate::report::CompareRow;
use crate::{Error, Result};

/// Tokens in a row that have to be the same for a text to count as seen before.
const SEEN_TOKENS: usize = 24;

/// What a comparison found.
pub struct Comparing {
    /// The original on the evaluation text.
    pub original: Quality,
    /// In the order in which methods and numbers of layers were given.
    pub rows: Vec<CompareRow>,
    /// Whether it was stopped before its end; the rows that were done are kept.
    pub cancelled: bool,
}

/// A text and the model's states on it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The text.
    pub sequences: &'a Sequences,
    /// The original's states on it.
    pub stream: &'a Stream,
    /// The original's scores.
    pub scores: &'a Scores,
}

/// Plans and builds a model by each method and number of layers on the calibration text, of which `calibrated`
/// knows the original, and measures it on `held_out`. A method that fails becomes a row with its error.
///
/// # Errors
/// [`Error::Usage`] for an unknown method or a number of layers that does not fit, and what reading the original
/// gives.
pub async fn compare(
    context: &Context<'_>,
    options: &CompareOptions,
    calibrated: Original<'_>,
    held_out: Side<'_>,
) -> Result<Comparing> {
    let methods = methods(options, context.model.config.n_layers)?;
    let measuring = Context { sequences: held_out.sequences, ..*context };
    let calibration = Reference::new(context, &options.output, calibrated.stream, calibrated.scores).await?;
    let reference = Reference::new(&measuring, &options.output, held_out.stream, held_out.scores).await?;
    let most = options.remove.iter().copied().max().unwrap_or(0);
    let selector = Selector::new(&calibration, calibrated.comparison, most);
    let mut chooser = Chooser { selector, most, iterated: Vec::new() };
    let mut comparing =
        Comparing { original: Quality::original(held_out.scores), rows: Vec::new(), cancelled: false };
    for method in &methods {
        for &remove in &options.remove {
            let mut row = CompareRow::new(method, remove, context.model.config.n_layers - remove);
            let start = Instant::now();
            let measured = measure(&mut chooser, method, remove, options, &reference, &mut row).await;
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
    let built = build(context, &plan, calibration.stored()).await?;
    row.warnings.extend(built.remarks);
    row.bytes = planned_bytes(context.model, &built.layers, &options.output)?;
    let less = context.model.config.parameters_per_layer() * plan.steps.len() as u64;
    row.parameters = context.model.total_parameters().saturating_sub(less);
    row.quality = Some(reference.quality_of(built.layers).await?);
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

/// The states of the original on a text.
///
/// # Errors
/// What running gives.
pub async fn run_original(
    model: &Model,
    accelerator: &Accelerator,
    sequences: &Sequences,
    observer: &dyn Observer,
) -> Result<(Stream, Scores)> {
    let context = Context { model, accelerator, sequences, storage: Storage::of(model), observer };
    let mut stream = Stream::open(&context, NewLayer::originals(model)).await?;
    stream.run(&context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
    let scores = context.score(stream.last()?, None).await?;
    Ok((stream, scores))
}

/// The share of the tokens of `text` that stand in a row of [`SEEN_TOKENS`] which `seen` has too, 0 to 1; BOS
/// aside. Texts of shorter sequences are compared by whole sequences.
pub fn overlap(seen: &Sequences, text: &Sequences) -> f64 {
    let length = SEEN_TOKENS.min(seen.tokens() - 1).min(text.tokens() - 1).max(1);
    let after_bos = |sequences: &Sequences| usize::from(sequences.has_bos());
    let windows: HashSet<&[u32]> =
        seen.iter().flat_map(|ids| ids.get(after_bos(seen)..).unwrap_or_default().windows(length)).collect();
    let (mut covered, mut total) = (0usize, 0usize);
    for ids in text.iter() {
        let ids = ids.get(after_bos(text)..).unwrap_or_default();
        let mut end = 0;
        for (start, window) in ids.windows(length).enumerate() {
            if windows.contains(window) {
                covered += start + length - end.max(start);
                end = start + length;
            }
        }
        total += ids.len();
    }
    covered as f64 / total.max(1) as f64
}
