//! Greedy search: each round removes the layer whose removal harms the model least.
//!
//! A round tries every layer that may go. All candidates run through the layers together, so that each layer
//! is read once a round: at layer `l` the candidate without `l` branches off the unchanged stream, and every
//! candidate that branched off before goes through `l`. With `C` candidates in a model of `n` layers, a round
//! costs about `n C / 2` layers of the search tokens and `C` times the head; layers before the first
//! candidate are not run again. If only some layers are tried, they are the layers that did least harm when
//! they were last tried: harm mostly grows as layers go, so a layer that was worse then is rarely best now
//! (Minoux's accelerated greedy search, which is exact if the harm of a layer never falls).

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::OrInternal;
use crate::evaluate::score_all;
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::forward::states::HiddenStates;
use crate::forward::stream::{Stream, shared_key_bytes, state_bytes};
use crate::methods::Resources;
use crate::methods::kept::rounds::{Rounds, key};
use crate::methods::work::{Task, Work};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{PlanOptions, Selection};
use crate::protocol::events::{Stage, Unit};
use crate::quality::Scores;

/// Version of what [`search`] finds on the same input. Raise the number with every change of the result, so that rounds
/// that are kept from before are not used.
pub const VERSION: u32 = 1;

/// Most bytes of the hidden states of candidates that exist at a time; one candidate is always tried.
const CANDIDATE_BYTES: u64 = 256 << 20;

/// Results of the rounds so far.
#[derive(Serialize, Deserialize)]
struct Searched {
    /// Layers that were removed, in this order.
    removed: Vec<usize>,
    /// Harm of removing each layer when it was last tried, as the bits of an `f64`; minus infinity if it was
    /// never tried.
    harms: Vec<u64>,
}

impl Searched {
    fn nothing(n_layers: usize) -> Self {
        Self { removed: Vec::new(), harms: vec![f64::NEG_INFINITY.to_bits(); n_layers] }
    }

    fn harms(&self) -> Vec<f64> {
        self.harms.iter().map(|bits| f64::from_bits(*bits)).collect()
    }

    /// Returns whether the results can belong to a model of `n_layers` layers.
    fn fits(&self, n_layers: usize) -> bool {
        self.harms.len() == n_layers && self.removed.iter().all(|layer| *layer < n_layers)
    }
}

/// Removes `k` layers one after the other, or as many as may go, and returns them in the order of their
/// removal. Each is the layer without which the model has the least negative log-likelihood
/// ([`Selection::GreedyNll`], first and last layer barred as in SLEB) or the least KL divergence from the
/// original on the search tokens. Of equal layers the deeper goes. Rounds that the store of `resources` has
/// under `key` are not run again.
///
/// # Errors
/// Those of [`Stream::open`], [`Stream::run`], [`score_all`], [`Runner::forward`] and
/// [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn search(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &PlanOptions,
    k: usize,
    may_go: impl Fn(usize) -> bool,
    key: &str,
) -> Result<Vec<usize>> {
    let sequences = context.sequences.first(n_search_sequences(options, context.sequences.tokens()));
    let context = Context { sequences: &sequences, ..*context };
    let n_layers = context.model.config.n_layers;

    let mut found = Searched::nothing(n_layers);
    if let Some(kept) = resources.found::<Searched>(Rounds::Searched, key).await
        && kept.fits(n_layers)
    {
        found = kept;
    }
    if found.removed.len() >= k {
        found.removed.truncate(k);
        return Ok(found.removed);
    }

    let mut stream = whole(&context).await?;
    let original = stream.last()?.clone();
    let mut alive: Vec<usize> = (0..n_layers).filter(|layer| !found.removed.contains(layer)).collect();
    let mut known = found.harms();
    if !found.removed.is_empty() {
        stream = without(&context, &stream, &alive).await?;
    }
    while found.removed.len() < k {
        let may_go = |layer: usize| may_go(layer) && !is_barred(options.selection, layer, n_layers);
        let places = candidates(&alive, &known, may_go, options.candidates);
        let detail = format!("trying to do without each of {} layers", places.len());
        let (done, total) = (found.removed.len() as u64, k as u64);
        context.observer.progress(Stage::Plan, done, total, Unit::Layers, detail).await?;
        let scores = without_each(&context, &stream, &places, &original).await?;
        let harms = scores.iter().map(|scores| harm(options.selection, scores));
        let tried: Vec<(usize, f64)> = places.iter().copied().zip(harms).collect();
        for (place, harm) in &tried {
            if let Some(known) = alive.get(*place).and_then(|layer| known.get_mut(*layer)) {
                *known = *harm;
            }
        }
        let best = tried.into_iter().filter(|(_, harm)| !harm.is_nan());
        let Some((place, _)) = best.reduce(|best, each| if each.1 <= best.1 { each } else { best }) else {
            break;
        };
        found.removed.push(alive.remove(place));
        found.harms = known.iter().map(|harm| harm.to_bits()).collect();
        resources.keep_found(Rounds::Searched, key, &found).await;
        stream = without(&context, &stream, &alive).await?;
    }
    Ok(found.removed)
}

/// Returns the harm of removing each layer alone, by the measure of [`search`]; infinity for a layer that is barred. Harms
/// that the store of `resources` has are not measured again.
///
/// # Errors
/// Those of [`search`].
pub async fn harms(
    context: &Context<'_>,
    resources: &Resources<'_>,
    options: &PlanOptions,
) -> Result<Vec<f64>> {
    let sequences = context.sequences.first(n_search_sequences(options, context.sequences.tokens()));
    let context = Context { sequences: &sequences, ..*context };
    let n_layers = context.model.config.n_layers;
    let name = key(&[VERSION], &("each alone", options.selection, options.search_tokens))?;
    if let Some(kept) = resources.found::<Searched>(Rounds::Searched, &name).await
        && kept.fits(n_layers)
    {
        return Ok(kept.harms());
    }
    let stream = whole(&context).await?;
    let original = stream.last()?.clone();
    let places: Vec<usize> =
        (0..n_layers).filter(|layer| !is_barred(options.selection, *layer, n_layers)).collect();
    let scores = without_each(&context, &stream, &places, &original).await?;
    let mut harms = vec![f64::INFINITY; n_layers];
    for (place, scores) in places.iter().zip(&scores) {
        let harm = harm(options.selection, scores);
        if let Some(slot) = harms.get_mut(*place) {
            *slot = if harm.is_nan() { f64::INFINITY } else { harm };
        }
    }
    let found = Searched { removed: Vec::new(), harms: harms.iter().map(|harm| harm.to_bits()).collect() };
    resources.keep_found(Rounds::Searched, &name, &found).await;
    Ok(harms)
}

/// Returns whether search by `selection` never removes `layer` of `n_layers`: the first and the last in SLEB.
fn is_barred(selection: Selection, layer: usize, n_layers: usize) -> bool {
    selection == Selection::GreedyNll && (layer == 0 || layer + 1 == n_layers)
}

/// Returns the harm of a removal with these `scores`, by the measure of `selection`.
fn harm(selection: Selection, scores: &Scores) -> f64 {
    match selection {
        Selection::GreedyNll => scores.nll,
        _ => scores.kl.unwrap_or(f64::INFINITY),
    }
}

/// Runs the original.
async fn whole(context: &Context<'_>) -> Result<Stream> {
    let mut stream = Stream::open(context, NewLayer::originals(context.model)).await?;
    stream.run(context, Stage::Plan, 0, async |_, _, _| Ok(())).await?;
    Ok(stream)
}

/// Runs the model of the layers `alive`, from the first on that differs from the layers of `stream`.
async fn without(context: &Context<'_>, stream: &Stream, alive: &[usize]) -> Result<Stream> {
    let config = &context.model.config;
    let mut layers = Vec::with_capacity(alive.len());
    for (i, layer) in alive.iter().enumerate() {
        // A layer that goes is absorbed into the one before it, or after it if there is none.
        let first = if i == 0 { 0 } else { *layer };
        let end = alive.get(i + 1).copied().unwrap_or(config.n_layers);
        layers.push(NewLayer::original(*layer).covering(config, &(first..end).collect::<Vec<_>>()));
    }
    let (mut stream, from) = stream.with_layers(context, &layers)?;
    stream.run(context, Stage::Plan, from, async |_, _, _| Ok(())).await?;
    Ok(stream)
}

/// Returns the indices in `alive` of the layers to try, ascending: the layers that `may_go`, and of these the
/// `most` layers of least `known` harm. The harm of a layer that was never tried is minus infinity, and as
/// long as there is such a layer, all are tried.
fn candidates(
    alive: &[usize],
    known: &[f64],
    may_go: impl Fn(usize) -> bool,
    most: Option<usize>,
) -> Vec<usize> {
    let harm = |layer: usize| known.get(layer).copied().unwrap_or(f64::NEG_INFINITY);
    let mut places: Vec<(usize, f64)> = alive
        .iter()
        .enumerate()
        .filter(|(_, layer)| may_go(**layer))
        .map(|(place, layer)| (place, harm(*layer)))
        .collect();
    if let Some(most) = most
        && places.iter().all(|(_, harm)| *harm != f64::NEG_INFINITY)
    {
        places.retain(|(_, harm)| !harm.is_nan());
        places.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        places.truncate(most.max(1));
        places.sort_unstable_by_key(|(place, _)| *place);
    }
    places.into_iter().map(|(place, _)| place).collect()
}

/// Scores, for each of the layers at the ascending indices `places`, the model without this layer.
async fn without_each(
    context: &Context<'_>,
    stream: &Stream,
    places: &[usize],
    original: &HiddenStates,
) -> Result<Vec<Scores>> {
    let (model, sequences) = (context.model, context.sequences);
    let each = state_bytes(model, sequences) + shared_key_bytes(model, sequences);
    let at_once = CANDIDATE_BYTES / each.max(1);
    let at_once = usize::try_from(at_once).unwrap_or(usize::MAX).max(1);
    let mut scores = Vec::with_capacity(places.len());
    for batch in places.chunks(at_once) {
        let candidates = branch(context, stream, batch).await?;
        let candidates: Vec<&HiddenStates> = candidates.iter().collect();
        scores.extend(score_all(context, &candidates, Some(original)).await?);
    }
    Ok(scores)
}

/// Returns, for each of the layers at the ascending indices `places`, the hidden states that leave the model
/// without this layer.
async fn branch(context: &Context<'_>, stream: &Stream, places: &[usize]) -> Result<Vec<HiddenStates>> {
    let (Some(nearest), Some(last)) = (places.first(), places.last()) else { return Ok(Vec::new()) };
    let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
    let (start, mut unchanged) = stream.nearest(*nearest)?;
    let n_layers = stream.layers().len();
    let mut layers = runner.ahead(stream.layers().get(start..).unwrap_or_default(), context.storage)?;
    let mut branches: Vec<HiddenStates> = Vec::with_capacity(places.len());
    let mut first = None;
    for place in start..n_layers {
        let layer = layers.next().await?.or_internal("a layer of the model was not read")?;
        for branch in &mut branches {
            *branch = runner.forward(&layer, branch).await?;
        }
        let leaving = |states: &HiddenStates, layer: &DecoderLayer| HiddenStates {
            chunks: states.chunks.iter().map(|chunk| layer.leaving(chunk.clone())).collect(),
            beside: states.beside.clone(),
        };
        if let (Some(first), Some(branch)) = (first.take(), branches.first_mut()) {
            // Without the first layer, its scale goes to the second.
            *branch = leaving(branch, &first);
        }
        if places.contains(&place) {
            // The layer before has the scale of this one.
            match place {
                0 => {
                    branches.push(unchanged.clone());
                    first = Some(layer.clone());
                }
                _ => branches.push(leaving(&unchanged, &layer)),
            }
        }
        if place < *last {
            unchanged = runner.forward(&layer, &unchanged).await?;
        }
        let detail = format!("layer {} of {n_layers}, {} candidates", place + 1, branches.len());
        let (done, total) = ((place + 1 - start) as u64, (n_layers - start) as u64);
        context.observer.progress(Stage::Plan, done, total, Unit::Layers, detail).await?;
    }
    Ok(branches)
}

/// Counts the work on the search tokens. In each round, a candidate branches off in the middle of the model
/// on average, and each layer is uploaded once for all candidates. The head computes the original's logits
/// besides the candidates'.
pub fn work(task: &Task<'_>) -> Work {
    let (n_layers, rounds) = (task.n_layers(), task.removed() as f64);
    let tried = task.options.candidates.map_or(n_layers, |most| most as f64).min(n_layers);
    let tries = n_layers + tried * (rounds - 1.0).max(0.0);
    let original = Work::layers(n_layers);
    let searched = Work {
        uploads: rounds * 1.5 * n_layers,
        passes: (tries + 2.0 * rounds) * n_layers / 2.0,
        ..Work::heads(tries + rounds)
    };
    (original + searched)
        .of_tokens(n_search_sequences(task.options, task.tokens).min(task.sequences) * task.tokens)
}

/// Returns the number of sequences of `tokens` tokens on which removals are tried.
fn n_search_sequences(options: &PlanOptions, tokens: usize) -> usize {
    (options.search_tokens / tokens.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::executor::block_on;

    use super::*;
    use crate::device::Accelerator;
    use crate::files::source::open_path;
    use crate::forward::sequences::Sequences;
    use crate::forward::states::to_host;
    use crate::model::Model;
    use crate::protocol::events::Silent;

    /// What is tried is the model that is made, also where layers multiply the stream, so that those that stay take over
    /// the scales of those that go.
    #[test]
    fn a_candidate_is_the_model_without_the_layer() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/architectures");
        // Layers whose keys others read stay.
        for (name, gone, stay) in [("gemma4_dense", [1, 2], &[] as &[usize]), ("gemma4", [0, 4], &[1, 2])] {
            let files = open_path(&data.join(name).join("model.gguf")).unwrap();
            let model = block_on(Model::open("m", &files)).unwrap();
            let rows: Vec<Vec<u32>> = (0..3).map(|row| (0..12).map(|i| 1 + 37 * i + row).collect()).collect();
            let sequences = Sequences::padded(&model.config, &rows, 0).unwrap();
            let accelerator = Accelerator::cpu("a test");
            let context = Context::new(&model, &accelerator, &sequences, &Silent);
            let run = |layers| {
                let mut stream = block_on(Stream::open(&context, layers)).unwrap();
                block_on(stream.run(&context, Stage::Plan, 0, async |_, _, _| Ok(()))).unwrap();
                stream
            };
            let original = run(NewLayer::originals(&model));
            let host =
                |states: &HiddenStates| block_on(to_host(states.chunks[0].clone(), "in a test")).unwrap();
            // Without a layer, and then without another.
            for gone in [None, Some(gone[0]), Some(gone[1])] {
                let alive: Vec<usize> =
                    (0..model.config.n_layers).filter(|layer| Some(*layer) != gone).collect();
                let stream = match gone {
                    Some(_) => block_on(without(&context, &original, &alive)).unwrap(),
                    None => original.clone(),
                };
                let places: Vec<usize> =
                    (0..alive.len()).filter(|place| !stay.contains(&alive[*place])).collect();
                let tried = block_on(branch(&context, &stream, &places)).unwrap();
                for (place, tried) in places.into_iter().zip(&tried) {
                    let left: Vec<usize> =
                        alive.iter().copied().filter(|layer| *layer != alive[place]).collect();
                    let made = block_on(without(&context, &stream, &left)).unwrap();
                    let (tried, made) = (host(tried), host(made.last().unwrap()));
                    let apart = tried.iter().zip(&made).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
                    let apart = apart.fold(0.0f32, f32::max);
                    assert!(apart < 1e-4, "{name} without {gone:?}, then {}: {apart}", alive[place]);
                }
            }
        }
    }

    #[test]
    fn all_are_tried_once_and_then_the_least_harmful() {
        let not_the_first = |layer: usize| layer != 0;
        let alive = [0, 1, 2, 4, 5];
        let unknown = [f64::NEG_INFINITY; 6];
        assert_eq!(candidates(&alive, &unknown, not_the_first, Some(2)), [1, 2, 3, 4]);
        let known = [0.0, 0.9, 0.1, 0.0, f64::NAN, 0.5];
        assert_eq!(candidates(&alive, &known, not_the_first, Some(2)), [2, 4]);
        assert_eq!(candidates(&alive, &known, not_the_first, Some(9)), [1, 2, 4]);
        assert_eq!(candidates(&alive, &known, not_the_first, None), [1, 2, 3, 4]);
    }
}
