//! Check that a fitted layer serves the model better than no fit. A layer that reproduces the residual stream
//! well on average may still miss the few directions that later layers depend on.

use crate::Result;
use crate::error::OrInternal;
use crate::evaluate::score_all;
use crate::forward::context::Context;
use crate::forward::sequences::Sequences;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::forward::stream::Stream;
use crate::methods::walk::span::Span;
use crate::methods::walk::walker::{Walker, n_held_out};
use crate::methods::work::{Task, Work};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::protocol::events::Stage;
use crate::quality::{Scores, mean_and_error};

/// Version of what a [`Trial`] decides on the same input. Raise the number with every change of the result, so that
/// fitted layers that are kept from before are not used.
pub const VERSION: u32 = 1;

/// Number of standard errors by which a fit may be worse than none on average before it is turned down.
const MARGIN: f64 = 2.0;

/// Kind of a fitted layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitKind {
    /// Layer made of heads and neurons of all layers of a span.
    Pooled,
    /// Layer of the span that stays, with new output and down projections.
    Refitted,
}

impl FitKind {
    /// Returns the words of a remark for this kind of layer, and for what is done with the span instead.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pooled => ("pooled", "refitted without pooling"),
            Self::Refitted => ("refitted", "dropped"),
        }
    }
}

/// Some of the held-out sequences, about 2000 tokens, and the original's hidden states after its last layer
/// on them. The final fit has seen these sequences too, which matters little beside the failures that the
/// guard looks for.
pub struct Guard {
    places: Vec<usize>,
    sequences: Sequences,
    original: HiddenStates,
}

impl Guard {
    /// Chooses the sequences and runs the original on them.
    ///
    /// # Errors
    /// Those of [`Stream::open_once`], [`Stream::run`] and [`Stream::last`].
    async fn new(walker: &Walker<'_>) -> Result<Self> {
        let context = &walker.context;
        let held_out: Vec<usize> = walker.held_out().collect();
        let count = sequences_per_chunk(context.sequences.tokens()).min(held_out.len());
        let places: Vec<usize> =
            (0..count).filter_map(|i| held_out.get(i * held_out.len() / count).copied()).collect();
        let sequences = context.sequences.at(&places);
        let storage = Storage::of(context.model);
        let on_these = Context { sequences: &sequences, storage, ..*context };
        let mut stream = Stream::open_once(&on_these, NewLayer::originals(context.model)).await?;
        stream.run(&on_these, Stage::Plan, 0, async |_, _, _| Ok(())).await?;
        let original = stream.last()?.clone();
        Ok(Self { places, sequences, original })
    }

    /// Returns the guard in `slot`, which is made if the slot is empty: one guard serves all spans of a plan.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub async fn of<'s>(slot: &'s mut Option<Self>, walker: &Walker<'_>) -> Result<&'s Self> {
        let guard = match slot.take() {
            Some(guard) => guard,
            None => Self::new(walker).await?,
        };
        Ok(slot.insert(guard))
    }

    /// Begins a trial of the layers that are fitted for `span`.
    pub fn trial<'t, 'w>(&'t self, walker: &'t Walker<'w>, span: &'t Span<'t>) -> Trial<'t, 'w> {
        Trial { walker, span, guard: self, unfitted: None }
    }
}

/// Returns the work of judging the fitted layers of all spans, up to `n_candidates` for each span, against
/// the layers that stay. The original runs once. After each span, which on average lies in the middle of the
/// model, the rest of the model runs once with each of these layers.
pub fn work(task: &Task<'_>, n_candidates: usize) -> Work {
    let (n_layers, candidates) = (task.n_layers(), n_candidates as f64);
    // Spans may be shorter than allowed, and are then more numerous.
    let spans = task.spans().len().max(task.removed().div_ceil(2)) as f64;
    let each = Work { uploads: n_layers / 2.0 + 1.0, passes: n_layers / 2.0 + 1.0, ..Work::heads(2.0) };
    let stays = Work { uploads: 1.0, passes: n_layers / 2.0 + 1.0, ..Work::heads(1.0) };
    let judged = Work::layers(n_layers) + (each.times(candidates) + stays).times(spans);
    judged.of_tokens(n_guards(task.sequences, task.tokens) * task.tokens)
}

/// Returns how many of `sequences` sequences of `tokens` tokens the guard uses.
fn n_guards(sequences: usize, tokens: usize) -> usize {
    sequences_per_chunk(tokens).min(n_held_out(sequences))
}

/// Trial of the layers that are fitted for one span, before a [`Guard`].
pub struct Trial<'t, 'w> {
    /// Walker that runs the layers.
    pub walker: &'t Walker<'w>,
    /// Span that the layers are fitted for.
    pub span: &'t Span<'t>,
    guard: &'t Guard,
    /// Scores of the model with the unchanged layer that stays in place of the span, the new layers before it
    /// and the original's after it; `None` before the first judgement.
    unfitted: Option<Scores>,
}

impl Trial<'_, '_> {
    /// Returns `layer` if the KL divergence from the original is at most as large with it as without any fit,
    /// within a margin of noise. Otherwise returns `None` and adds to `remarks` why the layer was turned
    /// down.
    ///
    /// # Errors
    /// Those of [`HiddenStates::sequences`], [`Walker::upload`],
    /// [`Runner::forward`](crate::forward::runner::Runner::forward) and [`score_all`].
    pub async fn judge(
        &mut self,
        kind: FitKind,
        layer: NewLayer,
        remarks: &mut Vec<String>,
    ) -> Result<Option<NewLayer>> {
        let stays = self.walker.staying(self.span.stays, self.span.layers)?;
        let layers = match self.unfitted {
            Some(_) => vec![&layer],
            None => vec![&layer, &stays],
        };
        let mut scores = self.scores(&layers).await?.into_iter();
        let missing = "a layer was not scored";
        let fitted = scores.next().or_internal(missing)?;
        let unfitted = match self.unfitted.take() {
            Some(unfitted) => unfitted,
            None => scores.next().or_internal(missing)?,
        };
        let unfitted = self.unfitted.insert(unfitted);
        if is_no_worse(&fitted.kl_by_sequence, &unfitted.kl_by_sequence) {
            return Ok(Some(layer));
        }
        let (what, instead) = kind.words();
        remarks.push(format!(
            "Layers {:?} were {instead}: {what}, they would serve held-out text worse than dropped ones.",
            self.span.layers
        ));
        Ok(None)
    }

    /// Returns the KL divergence from the original on the held-out text, in nats a token, with each of `layers` in place of
    /// the span.
    ///
    /// # Errors
    /// Those of [`judge`](Self::judge).
    pub async fn divergences(&self, layers: &[&NewLayer]) -> Result<Vec<f64>> {
        let scores = self.scores(layers).await?;
        scores.iter().map(|scores| scores.mean_kl().or_internal("a layer was not compared")).collect()
    }

    /// Scores the model once for each of `layers`, with that layer in place of the span.
    async fn scores(&self, layers: &[&NewLayer]) -> Result<Vec<Scores>> {
        let Self { walker, span, guard, .. } = self;
        let n_layers = walker.context.model.config.n_layers;
        let entering = span.entering.sequences(&guard.places)?;
        let mut streams = Vec::with_capacity(layers.len());
        for layer in layers {
            streams.push(walker.runner.forward(&walker.upload(layer).await?, &entering).await?);
        }
        let after = span.layers.last().or_internal("a span has no layers")? + 1;
        for layer in after..n_layers {
            let layer = walker.upload(&NewLayer::original(layer)).await?;
            for stream in &mut streams {
                *stream = walker.runner.forward(&layer, stream).await?;
            }
        }
        let streams: Vec<&HiddenStates> = streams.iter().collect();
        let context = Context { sequences: &guard.sequences, ..walker.context };
        score_all(&context, &streams, Some(&guard.original)).await
    }
}

/// Returns whether the mean of `a - b` is at most [`MARGIN`] of its standard errors above 0. Returns false if
/// the mean is NaN.
fn is_no_worse(a: &[f64], b: &[f64]) -> bool {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    match (mean_and_error(&differences), &differences[..]) {
        (Some((mean, error)), _) => mean <= MARGIN * error,
        // A single difference says nothing about the noise, and no difference says nothing at all.
        (None, [only]) => *only <= 0.0,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::{FitKind, Guard, is_no_worse};
    use crate::demo;
    use crate::device::Accelerator;
    use crate::forward::context::Context;
    use crate::forward::sequences::Sequences;
    use crate::forward::stream::Stream;
    use crate::methods::Resources;
    use crate::methods::walk::walk;
    use crate::model::weights::new_layer::NewLayer;
    use crate::plan::{MergePlan, Operator};
    use crate::protocol::events::{Silent, Stage};

    #[test]
    fn layers_that_serve_worse_than_none_are_turned_down_and_said() {
        let model = block_on(demo::open()).unwrap();
        let ids = model.tokenizer.encode(demo::TEXT).unwrap();
        let sequences = Sequences::cut(&model.config, &ids, 20, 32).unwrap();
        let accelerator = Accelerator::cpu("test");
        let context = Context::new(&model, &accelerator, &sequences, &Silent);
        let plan =
            MergePlan::absorbing(model.config.n_layers, Operator::PoolRefit, &[(2, 0.9)], |_| 1.0).unwrap();
        let mut stream = block_on(Stream::open(&context, NewLayer::originals(&model))).unwrap();
        block_on(stream.run(&context, Stage::Plan, 0, async |_, _, _| Ok(()))).unwrap();

        let (mut remarks, mut taken) = (Vec::new(), Vec::new());
        let resources = Resources::default();
        let walked = walk(
            &context,
            &resources,
            &plan,
            &stream,
            &[super::VERSION],
            |_| false,
            async |walker, span| {
                let mut slot = None;
                let guard = Guard::of(&mut slot, walker).await?;
                assert_eq!(guard.places, [0, 6, 13, 19], "the held-out sequences");
                let mut trial = guard.trial(walker, &span);
                let stays = NewLayer::original(span.stays);
                for (kind, layer) in
                    [(FitKind::Refitted, stays.clone()), (FitKind::Pooled, stays.clone().scaled(8.0))]
                {
                    let judged = trial.judge(kind, layer, &mut remarks).await?;
                    taken.push(judged.is_some());
                }
                Ok(stays.into())
            },
        );
        assert_eq!(block_on(walked).unwrap().layers.len(), model.config.n_layers - 1);
        assert_eq!(taken, [true, false]);
        let [remark] = &remarks[..] else { panic!("{remarks:?}") };
        assert!(remark.contains("[1, 2]") && remark.contains("refitted without pooling"), "{remark}");
    }

    #[test]
    fn what_is_worse_by_more_than_noise_is_turned_down() {
        assert!(is_no_worse(&[0.1, 0.2, 0.3], &[0.2, 0.3, 0.5]));
        assert!(is_no_worse(&[0.1, 0.2, 0.3], &[0.1, 0.2, 0.3]));
        assert!(is_no_worse(&[0.1, 0.4, 0.3], &[0.2, 0.2, 0.3]), "a difference within noise");
        assert!(!is_no_worse(&[0.9, 1.2, 1.1], &[0.2, 0.2, 0.3]));
        assert!(!is_no_worse(&[f64::NAN, 0.1], &[0.2, 0.2]));
        assert!(!is_no_worse(&[0.5], &[0.2]) && is_no_worse(&[0.1], &[0.2]));
    }
}
