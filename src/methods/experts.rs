//! Removal of experts: which experts of each layer stay, and what those that go were used for.
//!
//! REAP (arXiv 2510.13999) removes the experts of least saliency, the mean over the calibration tokens that were routed
//! to an expert of gate times length of its output. All layers keep the same number of experts, because files say one
//! number. The experts that stay and their rows of the router are copies.

use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::forward::expert_use::{ExpertUse, ExpertWatch, Used};
use crate::forward::stream::Stream;
use crate::maths::random::{draw, number};
use crate::model::Config;
use crate::model::config::{ExpertSizes, FeedForward};
use crate::model::weights::storage::Storage;
use crate::plan::{ExpertSelection, MergePlan, PlanOptions};
use crate::protocol::events::Stage;
use crate::protocol::plan::RemovedExperts;
use crate::{Error, Result};

/// Fewest experts that a layer can have: one is no choice, and files with one are taken to have none.
const FEWEST: usize = 2;

/// Checks that `remove` experts of each layer can be removed from a model with the configuration `config`.
///
/// # Errors
/// [`Error::Usage`] if no layer has experts, or if fewer would stay than are chosen for a token.
pub fn check(config: &Config, remove: usize) -> Result<()> {
    if remove == 0 {
        return Ok(());
    }
    let sizes = config.experts.filter(|_| config.has_experts()).ok_or_else(without_experts)?;
    let most = sizes.count.saturating_sub(fewest(sizes));
    if remove > most {
        return Err(Error::Usage(format!(
            "cannot remove {remove} of {} experts: {} must stay, because {} are chosen for each token; remove {most} \
             at most",
            sizes.count,
            fewest(sizes),
            sizes.used
        )));
    }
    Ok(())
}

/// Checks that the experts that `plan` keeps are experts of a model with the configuration `config`.
///
/// # Errors
/// [`Error::Usage`], naming the layer, if an expert does not exist, if the plan keeps none in a layer that has experts
/// or some in one that has none, or if fewer stay than are chosen for a token.
pub fn check_plan(config: &Config, plan: &MergePlan) -> Result<()> {
    if plan.kept_experts.is_empty() {
        return Ok(());
    }
    let sizes = config.experts.filter(|_| config.has_experts()).ok_or_else(without_experts)?;
    for (layer, (kept, kind)) in plan.kept_experts.iter().zip(&config.layers).enumerate() {
        let has_experts = kind.feed_forward == FeedForward::Experts;
        if kept.is_empty() == has_experts {
            return Err(Error::Usage(format!(
                "the plan keeps {} experts of layer {layer}, which has {}; it is of another model",
                kept.len(),
                if has_experts { sizes.count } else { 0 }
            )));
        }
        if let Some(expert) = kept.iter().find(|expert| **expert >= sizes.count) {
            return Err(Error::Usage(format!(
                "the plan keeps expert {expert} of layer {layer}, which has {} experts; it is of another model",
                sizes.count
            )));
        }
        if has_experts && kept.len() < fewest(sizes) {
            return Err(Error::Usage(format!(
                "the plan keeps {} experts of layer {layer}, but {} must stay, because {} are chosen for each token",
                kept.len(),
                fewest(sizes),
                sizes.used
            )));
        }
    }
    Ok(())
}

fn without_experts() -> Error {
    Error::Usage("experts cannot be removed: no layer of this model has any; leave the option out".to_owned())
}

fn fewest(sizes: ExpertSizes) -> usize {
    sizes.used.max(FEWEST)
}

/// Runs the original on the calibration text and records how its experts are used. `stream` holds the embedded text.
///
/// # Errors
/// Those of [`Stream::run`]; [`Error::Internal`] if some layer was not seen.
pub async fn observe(context: &Context<'_>, stream: &Stream) -> Result<ExpertUse> {
    let watch = ExpertWatch::default();
    let storage = Storage::of(context.model);
    let watched = Context { experts: Some(&watch), storage, ..*context };
    stream.from_the_start().run(&watched, Stage::Plan, 0, async |_, _, _| Ok(())).await?;
    watch.finish(&context.model.config).or_internal("a layer with experts was not run")
}

/// Returns, for each layer of the original, the experts that stay when `options` remove some: all but those of least
/// score, of equal scores the first. Layers without experts keep none.
pub fn kept(used: &ExpertUse, options: &PlanOptions) -> Vec<Vec<usize>> {
    let of_layer = |(layer, used): (usize, &Vec<Used>)| {
        let removed = match options.expert_selection {
            ExpertSelection::Reap => least(used, options.remove_experts, Used::saliency),
            ExpertSelection::Frequency => least(used, options.remove_experts, |used| used.tokens as f64),
            ExpertSelection::Random => {
                draw((0..used.len()).collect(), options.remove_experts, number(options.seed, layer as u64))
            }
        };
        (0..used.len()).filter(|e| !removed.contains(e)).collect()
    };
    used.iter().enumerate().map(of_layer).collect()
}

/// Returns the `n` experts of least `score`; of equal scores, the first.
fn least(used: &[Used], n: usize, score: impl Fn(&Used) -> f64) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = used.iter().map(score).enumerate().collect();
    // A stable sort: of equal scores, the first comes first.
    ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    ranked.into_iter().take(n).map(|(e, _)| e).collect()
}

/// Lists the experts that `plan` removes from the layers that stay in a model with the configuration `config`, with
/// what they were used for if that is known.
pub fn removed(plan: &MergePlan, config: &Config, used: Option<&ExpertUse>) -> Vec<RemovedExperts> {
    let count = config.experts.map_or(0, |experts| experts.count);
    let stay = (0..plan.groups.len()).filter_map(|place| plan.survivor(place));
    let of_layer = |layer: usize| {
        let kept = plan.kept_experts.get(layer).filter(|kept| !kept.is_empty())?;
        let removed: Vec<usize> = (0..count).filter(|e| !kept.contains(e)).collect();
        let gates = |used: &&Vec<Used>| -> Option<f64> {
            let all: f64 = used.iter().map(|used| used.gates).sum();
            let gone: f64 = removed.iter().filter_map(|e| used.get(*e)).map(|used| used.gates).sum();
            (all > 0.0).then(|| gone / all)
        };
        let share = used.and_then(|used| used.get(layer)).as_ref().and_then(gates);
        Some(RemovedExperts { layer, removed, share })
    };
    stay.filter_map(of_layer).collect()
}
