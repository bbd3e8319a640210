//! LaCo's own search: windows of layers from the top down (Yang et al., arXiv 2402.11187, algorithm 1).

use std::collections::BTreeMap;

use crate::Result;
use crate::evaluate::reference::Reference;
use crate::forward::context::Context;
use crate::forward::states::{HiddenStates, to_host};
use crate::forward::stream::Stream;
use crate::maths::mix::Mix;
use crate::methods::work::{Task, Work};
use crate::model::Config;
use crate::model::layers::head::Head;
use crate::model::weights::new_layer::NewLayer;
use crate::protocol::events::Stage;

/// Number of layers in a window, the first of which absorbs the differences of the others: the paper's `C`.
const WINDOW: usize = 4;

/// Number of layers between the starts of two accepted windows: the paper's `I`.
const INTERVAL: usize = 2;

/// Similarity that a window must exceed at first: the paper's `T` for Llama-2-7B.
const THRESHOLD: f64 = 0.65;
/// Amount by which the threshold is lowered until enough layers are removed.
const LOWERED_BY: f64 = 0.1;

/// Number of sequences on which the last hidden states are compared: the paper uses five sentences.
const SEQUENCES: usize = 5;

/// Returns the layers that windows absorb, `k` if possible. The paper tunes its threshold for each model and
/// ratio; here the threshold begins with the paper's and is lowered until `k` layers are removed, so that
/// their number can be chosen. The first layer takes part in no window, and the last window is as small as
/// needed.
///
/// # Errors
/// Those of [`Stream::open`], [`Stream::run`], [`Head::open`], [`Head::normalise`] and [`to_host`].
pub async fn collapse(
    context: &Context<'_>,
    reference: &Reference<'_>,
    k: usize,
    may_go: impl Fn(usize) -> bool,
) -> Result<Vec<usize>> {
    let sequences = context.sequences.first(SEQUENCES);
    let context = Context { sequences: &sequences, ..*context };
    let mut stream = Stream::open(&context, reference.stored().layers().to_vec()).await?;
    stream.run(&context, Stage::Plan, 0, async |_, _, _| Ok(())).await?;
    let n_rows = sequences.count() * sequences.tokens();
    let head = Head::open(context.model, context.storage, context.accelerator, n_rows).await?;
    let original = normalised(&head, stream.last()?).await?;

    let groups = (0..stream.layers().len()).map(|layer| vec![layer]).collect();
    let mut search = Search { context: &context, head, original, groups, stream, tried: BTreeMap::new() };
    let mut removed = Vec::new();
    let mut threshold = THRESHOLD;
    while removed.len() < k && threshold > -1.0 - LOWERED_BY {
        let mut at = search.groups.len().saturating_sub(2);
        while at >= 1 && removed.len() < k {
            let size = WINDOW.min(k - removed.len() + 1).min(search.groups.len().saturating_sub(at));
            // A group counts as its first layer, because its other layers have been removed before.
            let window = search.groups.iter().skip(at + 1).take(size.saturating_sub(1));
            let window: Vec<usize> = window.filter_map(|group| group.first().copied()).collect();
            let may_go = size >= 2 && window.iter().all(|layer| may_go(*layer));
            if may_go && search.similarity(at, size).await? > threshold {
                removed.extend(window);
                search.accept(at, size).await?;
                at = at.saturating_sub(INTERVAL).min(search.groups.len().saturating_sub(WINDOW));
            } else {
                at -= 1;
            }
        }
        threshold -= LOWERED_BY;
    }
    Ok(removed)
}

/// The current model, and the windows that were tried on it.
struct Search<'a> {
    context: &'a Context<'a>,
    head: Head<'a>,
    /// Normalised last hidden states of the original, `[tokens hidden]` for each sequence.
    original: Vec<Vec<f32>>,
    groups: Vec<Vec<usize>>,
    stream: Stream,
    /// Similarities for the current groups, by start and size of the window: a lower threshold asks for the
    /// same windows again.
    tried: BTreeMap<(usize, usize), f64>,
}

impl Search<'_> {
    /// Returns the mean cosine between the last hidden states of the original and of the model in which
    /// `size` groups from index `at` on become one.
    async fn similarity(&mut self, at: usize, size: usize) -> Result<f64> {
        if let Some(known) = self.tried.get(&(at, size)) {
            return Ok(*known);
        }
        let (_, changed) = self.merged(at, size).await?;
        let similar = mean_cosine(&self.original, &normalised(&self.head, changed.last()?).await?);
        self.tried.insert((at, size), similar);
        Ok(similar)
    }

    async fn accept(&mut self, at: usize, size: usize) -> Result<()> {
        (self.groups, self.stream) = self.merged(at, size).await?;
        self.tried.clear();
        Ok(())
    }

    async fn merged(&self, at: usize, size: usize) -> Result<(Vec<Vec<usize>>, Stream)> {
        let mut groups = self.groups.clone();
        let joined = self.groups.iter().skip(at).take(size).flatten().copied().collect();
        groups.splice(at..at + size, [joined]);
        let config = &self.context.model.config;
        let layers = groups.iter().map(|group| collapsed(config, group)).collect::<Result<Vec<_>>>()?;
        let (mut changed, from) = self.stream.with_layers(self.context, &layers)?;
        changed.run(self.context, Stage::Plan, from, async |_, _, _| Ok(())).await?;
        Ok((groups, changed))
    }
}

/// Returns the layer `theta_l + sum_k (theta_{l+k} - theta_l)` of a group.
fn collapsed(config: &Config, group: &[usize]) -> Result<NewLayer> {
    let others = group.len().saturating_sub(1) as f64;
    let weight = |place: usize| if place == 0 { 1.0 - others } else { 1.0 };
    let parts = group.iter().enumerate().map(|(place, layer)| (*layer, weight(place))).collect();
    Ok(NewLayer::mixed(Mix::new(parts)?).covering(config, group))
}

/// Returns the last hidden states after the final norm, `[tokens hidden]` for each sequence.
async fn normalised(head: &Head<'_>, states: &HiddenStates) -> Result<Vec<Vec<f32>>> {
    let mut sequences = Vec::new();
    for chunk in &states.chunks {
        let [batch, tokens, hidden] = chunk.dims();
        let rows = head.normalise(chunk.clone().reshape([batch * tokens, hidden]))?;
        let values = to_host(rows, "after the last layer").await?;
        sequences.extend(values.chunks(tokens * hidden).map(<[f32]>::to_vec));
    }
    Ok(sequences)
}

fn mean_cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let cosines =
        a.iter().zip(b).map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE));
    cosines.sum::<f64>() / a.len().max(1) as f64
}

/// Counts the work on a few sequences. For each layer that is removed, windows at about a third of the places
/// are tried, each of which changes the model from the middle on.
pub fn work(task: &Task<'_>) -> Work {
    let (n_layers, removed) = (task.n_layers(), task.removed() as f64);
    let tried = n_layers / 3.0 * removed;
    Work::layers(n_layers + tried * n_layers / 2.0).of_tokens(SEQUENCES.min(task.sequences) * task.tokens)
}
