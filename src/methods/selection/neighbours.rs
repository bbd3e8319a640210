//! Merging of similar neighbours: iteratively, with layers compared anew after each merge, or in one shot.

use crate::Result;
use crate::analysis::layers::LayerAnalysis;
use crate::evaluate::reference::Reference;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::kept::rounds::{Rounds, key};
use crate::methods::work::{Task, Work};
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{Alpha, MergePlan, MergeStep, Next, Pair, Planner, Selection, Stop, ValidPlanOptions};
use crate::protocol::events::{Event, Stage};

/// Version of the steps that [`merge_neighbours`] makes of the same input. Raise the number with every change of the
/// result, so that steps that are kept from before are not used.
const VERSION: u32 = 1;

/// Merges the most similar neighbours until the goal of `options` is reached or no pair may be merged any
/// more. Returns the plan, and the reason why it ends.
///
/// While pairs are chosen, their layers are averaged if that is the operator; otherwise the second layer of
/// each pair is dropped. With `measured`, the model is measured after each step, unless the operator fits to
/// activations. `analysis` is of the original and stays as it is. Steps in the store of `resources` are not
/// run again.
///
/// # Errors
/// Those of [`Planner::next_pair`], [`Planner::one_shot_pairs`], [`LayerAnalysis::measure`], [`Stream::run`],
/// [`Reference::quality`] and [`Reference::measured_step`].
pub async fn merge_neighbours(
    reference: &Reference<'_>,
    resources: &Resources<'_>,
    options: ValidPlanOptions,
    analysis: &LayerAnalysis,
    measured: bool,
) -> Result<(MergePlan, Stop)> {
    let of = (options.options(), reference.output(), analysis.matrix().to_rows());
    let key = key(&[VERSION], &of)?;
    let averages = options.options().operator.averages();
    let by_redundancy = options.options().selection == Selection::Redundancy;
    let one_shot = options.options().one_shot || by_redundancy;
    let mut merger = Merger {
        reference,
        resources: *resources,
        measured: measured && !options.options().operator.needs_activations(),
        alpha: if averages { options.options().alpha } else { Alpha::Fixed(1.0) },
        planner: Planner::new(options),
        stream: reference.stored().clone(),
        analysis: analysis.clone(),
        key,
    };
    let influence = by_redundancy.then(|| analysis.block_influence());
    let stop = if one_shot { merger.one_shot(influence).await? } else { merger.iterate().await? };
    Ok((merger.planner.into_plan(), stop))
}

/// Shares of the first layer that a search tries first.
const GRID: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Steps of golden section around the best of [`GRID`], each of which tries two shares.
const REFINEMENTS: usize = 4;

/// Counts the work of selecting. If pairs are chosen one after the other, the layers from each merge on are
/// compared anew, half of the model on average. Searched shares are scored besides the original.
pub fn work(task: &Task<'_>) -> Work {
    let (n_layers, removed) = (task.n_layers(), task.removed() as f64);
    let options = task.options;
    let iterates = options.selection == Selection::Mka && !options.one_shot;
    let compared = if iterates { Work::layers(removed * n_layers / 2.0) } else { Work::default() };
    if !options.operator.averages() || options.alpha != Alpha::Search {
        return compared;
    }
    let tries = removed * (GRID.len() + 2 * REFINEMENTS) as f64;
    compared + Work::layers(tries * n_layers / 2.0) + Work::heads(2.0 * tries)
}

/// The plan so far, and the current model.
struct Merger<'a> {
    reference: &'a Reference<'a>,
    resources: Resources<'a>,
    /// Whether the model is measured after each step.
    measured: bool,
    alpha: Alpha,
    planner: Planner,
    stream: Stream,
    analysis: LayerAnalysis,
    /// Key under which the steps are kept.
    key: String,
}

impl Merger<'_> {
    /// Merges the most similar pair and compares the layers from there on anew, until the planner stops.
    async fn iterate(&mut self) -> Result<Stop> {
        if let Some(from) = self.replay().await? {
            self.compare(from).await?;
        }
        loop {
            let pair = match self.planner.next_pair(&self.analysis.matrix())? {
                Next::Merge(pair) => pair,
                Next::Stop(stop) => return Ok(stop),
            };
            let from = self.merge(pair).await?;
            self.compare(from).await?;
            self.record().await?;
        }
    }

    /// Compares the layers of the current model from `from` on.
    async fn compare(&mut self, from: usize) -> Result<()> {
        let context = self.reference.context();
        self.analysis.measure(context, Stage::Plan, &mut self.stream, from, None).await
    }

    /// Ranks the pairs of the original once and merges the best.
    async fn one_shot(&mut self, influence: Option<&[f64]>) -> Result<Stop> {
        let chosen = self.planner.one_shot_pairs(&self.analysis.matrix(), influence)?;
        let runs = self.measured || self.alpha == Alpha::Search;
        if runs && let Some(from) = self.replay().await? {
            self.run(from).await?;
        }
        for pair in chosen.pairs.into_iter().skip(self.planner.plan().steps.len()) {
            let from = self.merge(pair).await?;
            if runs {
                self.run(from).await?;
                self.record().await?;
            }
        }
        Ok(chosen.stop)
    }

    /// Runs the layers of the current model from `from` on.
    async fn run(&mut self, from: usize) -> Result<()> {
        self.stream.run(self.reference.context(), Stage::Plan, from, async |_, _, _| Ok(())).await
    }

    /// Repeats the steps that were kept, tells the observer of them, and returns the first layer that they
    /// changed, if any. The layers from there on have not been run yet.
    async fn replay(&mut self) -> Result<Option<usize>> {
        let context = self.reference.context();
        let steps: Vec<MergeStep> = self.resources.found(Rounds::Merged, &self.key).await.unwrap_or_default();
        let mut from = None;
        for step in steps {
            let pair = Pair { first: step.merged[0], similarity: step.similarity };
            *self.planner.merge(pair, step.alpha)? = step.clone();
            let (stream, first) = self.merged(pair, step.alpha)?;
            self.stream = stream;
            from = Some(from.map_or(first, |before: usize| before.min(first)));
            if self.measured {
                context.observer.event(Event::Step(step)).await?;
            }
        }
        Ok(from)
    }

    /// Merges a pair and returns the first layer that changed.
    async fn merge(&mut self, pair: Pair) -> Result<usize> {
        let alpha = match self.alpha {
            // Cosines may be negative; a weight outside [0, 1] would extrapolate.
            Alpha::Similarity => pair.similarity.clamp(0.0, 1.0),
            Alpha::Fixed(alpha) => alpha,
            Alpha::Search => self.search(pair).await?,
        };
        self.planner.merge(pair, alpha)?;
        let (stream, from) = self.merged(pair, alpha)?;
        self.stream = stream;
        Ok(from)
    }

    /// Measures the model after the last step, if steps are measured, and keeps the steps so far.
    async fn record(&mut self) -> Result<()> {
        if self.measured {
            let merged = self.reference.quality(self.stream.last()?).await?;
            let measured = self.reference.measured_step(self.planner.plan(), merged).await?;
            if let Some((step, measured)) = self.planner.last_step_mut().zip(measured) {
                *step = measured;
            }
        }
        self.resources.keep_found(Rounds::Merged, &self.key, &self.planner.plan().steps).await;
        Ok(())
    }

    /// Returns the share of the first layer with the least KL divergence from the original. A coarse grid
    /// comes first, because there may be several minima, then golden section around the best share of the
    /// grid.
    async fn search(&self, pair: Pair) -> Result<f64> {
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let mut best = (0.5, f64::INFINITY);
        for alpha in GRID {
            let kl = self.divergence(pair, alpha).await?;
            if kl < best.1 {
                best = (alpha, kl);
            }
        }
        let (mut low, mut high) = ((best.0 - 0.25).max(0.0), (best.0 + 0.25).min(1.0));
        for _ in 0..REFINEMENTS {
            let inner = [high - golden * (high - low), low + golden * (high - low)];
            let [a, b] = [self.divergence(pair, inner[0]).await?, self.divergence(pair, inner[1]).await?];
            let (alpha, kl) = if a < b { (inner[0], a) } else { (inner[1], b) };
            if a < b {
                high = inner[1]
            } else {
                low = inner[0]
            }
            if kl < best.1 {
                best = (alpha, kl);
            }
        }
        Ok(best.0)
    }

    async fn divergence(&self, pair: Pair, alpha: f64) -> Result<f64> {
        let (mut candidate, from) = self.merged(pair, alpha)?;
        let scores =
            candidate.run_and_score(self.reference.context(), from, Some(self.reference.original())).await?;
        Ok(scores.mean_kl().unwrap_or(f64::INFINITY))
    }

    /// Returns the current model with a pair merged, and its first layer that changed.
    fn merged(&self, pair: Pair, alpha: f64) -> Result<(Stream, usize)> {
        let layers = self.stream.layers();
        let mut merged = layers.to_vec();
        if let (Some(first), Some(second)) = (layers.get(pair.first), layers.get(pair.first + 1)) {
            let config = &self.reference.context().model.config;
            let group = [first.replaced_layers(), second.replaced_layers()].concat();
            let layer = NewLayer::mixed(first.mix().merge(second.mix(), alpha)).covering(config, &group);
            merged.splice(pair.first..pair.first + 2, [layer]);
        }
        self.stream.with_layers(self.reference.context(), &merged)
    }
}
