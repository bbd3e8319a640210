//! The second stage: choosing pairs, merging them in memory, and measuring each step.

use crate::capture::HiddenStates;
use crate::evaluate::{Quality, Scores};
use crate::merge::Mix;
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::{Alpha, MergePlan, Next, Pair, PlanOptions, Planner, Stop};
use crate::progress::{Event, Stage};
use crate::{Error, Result};

/// A plan with its measurements.
pub struct Outcome {
    /// The steps, each measured.
    pub plan: MergePlan,
    /// Quality after the last.
    pub merged: Quality,
    /// Quality when the layers that were absorbed are dropped instead.
    pub dropped: Quality,
    /// Remarks.
    pub warnings: Vec<String>,
}

/// Merges until the goal of `options` is reached or no pair may be merged any more.
///
/// `stream` and `comparison` are of the original model and stay as they are.
///
/// # Errors
/// [`Error::Usage`] for options that do not fit the model, and what running gives.
pub async fn plan_merges(
    context: &Context<'_>,
    options: &PlanOptions,
    stream: &Stream,
    comparison: &Comparison,
    original: &Scores,
) -> Result<Outcome> {
    let planner = Planner::new(options.clone().check(stream.layers().len(), &comparison.massive())?);
    let reference = Reference::new(context, stream, original).await?;
    let mut merger = Merger {
        reference: &reference,
        alpha: options.alpha,
        planner,
        stream: reference.stored.clone(),
        comparison: comparison.clone(),
        merged: None,
    };
    let stop = if options.one_shot { merger.one_shot().await? } else { merger.iterate().await? };
    let (plan, merged) = merger.into_plan();
    let Some(merged) = merged else {
        return Err(Error::Usage(format!("nothing was merged: {stop}")));
    };
    let mut warnings = Vec::new();
    if let Some(asked) = options.remove
        && plan.steps.len() < asked
    {
        warnings.push(format!("{} of {asked} layers were removed: {stop}.", plan.steps.len()));
    }
    reference.finish(plan, merged, warnings).await
}

/// Measures a plan that exists already, without choosing anything: one made by hand or repeated.
///
/// # Errors
/// [`Error::Usage`] for a plan of another model, and what running gives.
pub async fn measure_plan(
    context: &Context<'_>,
    plan: MergePlan,
    stream: &Stream,
    original: &Scores,
) -> Result<Outcome> {
    let layers = layers_of(&plan, stream.layers().len())?;
    let reference = Reference::new(context, stream, original).await?;
    let merged = reference.quality_of(layers).await?;
    reference.finish(plan, merged, Vec::new()).await
}

/// The layers of the model that `plan` describes, for an original of `n_layers` layers.
///
/// # Errors
/// [`Error::Usage`] if the plan is not valid or is for another model.
pub fn layers_of(plan: &MergePlan, n_layers: usize) -> Result<Vec<Mix>> {
    plan.validate()?;
    if plan.n_layers != n_layers {
        return Err(Error::Usage(format!(
            "the plan is for a model of {} layers, but this one has {n_layers}",
            plan.n_layers
        )));
    }
    plan.groups
        .iter()
        .zip(&plan.weights)
        .map(|(group, weights)| Mix::new(group.iter().copied().zip(weights.iter().copied()).collect()))
        .collect()
}

/// What changed models are measured with.
struct Reference<'a> {
    context: &'a Context<'a>,
    /// The original layers as they will be stored, and their states.
    stored: Stream,
    /// What left the original.
    original: &'a HiddenStates,
    /// Its perplexity.
    perplexity: f64,
}

impl<'a> Reference<'a> {
    /// `stream` is of the original model, whose last states gave `scores`.
    async fn new(context: &'a Context<'a>, stream: &'a Stream, scores: &Scores) -> Result<Self> {
        let stored = context.as_stored(stream).await?;
        Ok(Self { context, stored, original: stream.last()?, perplexity: scores.perplexity() })
    }

    async fn finish(&self, plan: MergePlan, merged: Quality, mut warnings: Vec<String>) -> Result<Outcome> {
        let dropped = self.drop_instead(&plan).await?;
        if merged.collapsed {
            warnings.push(format!(
                "The merged model has collapsed: its perplexity is {:.1} where the original has \
                 {:.1}. Remove fewer layers.",
                merged.perplexity, self.perplexity
            ));
        }
        Ok(Outcome { plan, merged, dropped, warnings })
    }

    /// The model that keeps the first layer of each group unmixed.
    async fn drop_instead(&self, plan: &MergePlan) -> Result<Quality> {
        let kept = plan.groups.iter().filter_map(|g| g.first().copied()).map(Mix::original).collect();
        self.quality_of(kept).await
    }

    /// The quality of the model of other layers; what is computed before they first differ is shared.
    async fn quality_of(&self, layers: Vec<Mix>) -> Result<Quality> {
        let from = layers.iter().zip(self.stored.layers()).take_while(|(new, old)| new == old).count();
        let mut changed = self.stored.with_layers(layers, from);
        let scores = changed.run_and_score(self.context, from, Some(self.original)).await?;
        Ok(Quality::compressed(&scores, self.perplexity))
    }
}

struct Merger<'a> {
    reference: &'a Reference<'a>,
    alpha: Alpha,
    planner: Planner,
    stream: Stream,
    comparison: Comparison,
    /// Quality after the last merge.
    merged: Option<Quality>,
}

impl Merger<'_> {
    /// The plan and the quality after its last step. The merged model's states go before the dropped model's
    /// come.
    fn into_plan(self) -> (MergePlan, Option<Quality>) {
        (self.planner.into_plan(), self.merged)
    }

    /// Compare, merge the most similar pair, compare anew from there on, and again.
    async fn iterate(&mut self) -> Result<Stop> {
        loop {
            let pair = match self.planner.next_pair(&self.comparison.matrix())? {
                Next::Merge(pair) => pair,
                Next::Stop(stop) => return Ok(stop),
            };
            self.merge(pair).await?;
            self.comparison
                .measure(self.reference.context, Stage::Plan, &mut self.stream, pair.first)
                .await?;
            self.record().await?;
        }
    }

    /// Rank the pairs of the original once and merge the best.
    async fn one_shot(&mut self) -> Result<Stop> {
        let chosen = self.planner.one_shot_pairs(&self.comparison.matrix())?;
        for pair in chosen.pairs {
            self.merge(pair).await?;
            self.stream.run(self.reference.context, Stage::Plan, pair.first, async |_, _, _| Ok(())).await?;
            self.record().await?;
        }
        Ok(chosen.stop)
    }

    async fn merge(&mut self, pair: Pair) -> Result<()> {
        let alpha = match self.alpha {
            // Cosines may be negative; a weight outside [0, 1] would extrapolate.
            Alpha::Similarity => pair.similarity.clamp(0.0, 1.0),
            Alpha::Fixed(alpha) => alpha,
            Alpha::Search => self.search(pair).await?,
        };
        self.planner.merge(pair, alpha)?;
        self.stream = self.stream.with_layers(self.merged_layers(pair, alpha), pair.first);
        Ok(())
    }

    async fn record(&mut self) -> Result<()> {
        let scores = self.reference.context.score(self.stream.last()?, Some(self.reference.original)).await?;
        let quality = Quality::compressed(&scores, self.reference.perplexity);
        if let Some(step) = self.planner.last_step_mut() {
            step.perplexity = Some(quality.perplexity);
            step.kl = quality.kl;
            step.top1_agreement = quality.top1_agreement;
            step.collapsed = quality.collapsed;
            let event = Event::Step(step.clone());
            self.reference.context.observer.event(event).await?;
        }
        self.merged = Some(quality);
        Ok(())
    }

    /// The weight that minimises the divergence from the original: a coarse grid, because nothing
    /// says that there is one minimum, then golden section around the best.
    async fn search(&self, pair: Pair) -> Result<f64> {
        const GRID: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
        const REFINEMENTS: usize = 4;
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
        let mut candidate = self.stream.with_layers(self.merged_layers(pair, alpha), pair.first);
        let scores = candidate
            .run_and_score(self.reference.context, pair.first, Some(self.reference.original))
            .await?;
        Ok(scores.mean_kl().unwrap_or(f64::INFINITY))
    }

    fn merged_layers(&self, pair: Pair, alpha: f64) -> Vec<Mix> {
        let layers = self.stream.layers();
        let mut merged = layers.to_vec();
        if let (Some(first), Some(second)) = (layers.get(pair.first), layers.get(pair.first + 1)) {
            merged.splice(pair.first..pair.first + 2, [first.merge(second, alpha)]);
        }
        merged
    }
}
