//! Walk through the original and the new model side by side, span by span, which gives the rows of
//! least-squares fits.

pub mod original;
pub mod seen;
pub mod span;
pub mod walker;

use self::original::Original;
use self::seen::Watched;
use self::span::Built;
use super::kept::fitted::Fitted;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::forward::states::HiddenStates;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::operators::weighted::mixed_layers;
use crate::methods::walk::span::Span;
use crate::methods::walk::walker::Walker;
use crate::methods::work::{Task, Work};
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::protocol::events::{Stage, Unit};
use crate::{Error, Result};

/// Builds the layers of the new model. `fit` makes one layer of each span of `plan`, unless an earlier run
/// kept the fitted layer; layers outside spans stay.
///
/// `stream` holds the hidden states of the original as it is stored, and fits aim at these states: if the new
/// model is stored in fewer bits, a fit makes up for some of the error of the layers before it. `watches`
/// says whether the fit of a span of a given number of layers uses the inputs and MLP outputs of these layers
/// in the original ([`Span::watched`]). `versions` are those of the code of `fit`: a layer that another version
/// fitted is not used.
///
/// # Errors
/// - [`Error::Limit`] if the text has fewer than two sequences, so that none can be held out;
/// - [`Error::Internal`] if a group of the plan has no layers;
/// - those of [`Original::advance`], [`Original::watched_through`], [`Walker::upload`], [`Span::new`], `fit`
///   and the observer.
pub async fn walk<'a>(
    context: &Context<'a>,
    resources: &Resources<'a>,
    plan: &MergePlan,
    stream: &Stream,
    versions: &[u32],
    watches: impl Fn(usize) -> bool,
    mut fit: impl AsyncFnMut(&Walker<'a>, Span<'_>) -> Result<Fitted>,
) -> Result<Built> {
    if context.sequences.count() < 2 {
        return Err(Error::Limit(format!(
            "operator {} fits on some sequences and checks on others, but the text gives only {}; give a longer \
             text or shorter sequences",
            plan.operator,
            context.sequences.count()
        )));
    }
    let walker = Walker::new(*context, *resources, plan)?;
    let original = Original::at_the_first(stream)?;
    // Layers that lack experts change the states from the first on, as those do that are stored otherwise.
    let changes = context.storage.changes(context.model) || !plan.kept_experts.is_empty();
    let new = match changes {
        true => Some(walker.runner.embed(context.sequences, context.storage).await?),
        false => None,
    };
    let built = Built { layers: Vec::with_capacity(plan.groups.len()), remarks: Vec::new() };
    let mut walk = Walk { walker, stream, original, new, built };
    let names = match resources.kept {
        Some(kept) => {
            let weighing = resources.weighing.hash(context);
            kept.begin(plan, &[versions, &weighing].concat(), resources.fit_bytes).await?
        }
        None => Vec::new(),
    };
    // An operator that averages fits what the average does not say.
    let averaged =
        plan.operator.is_weighted().then(|| mixed_layers(plan, &context.model.config)).transpose()?;
    let last_span = plan.groups.iter().rposition(|group| group.len() > 1);
    for (place, group) in plan.groups.iter().enumerate() {
        let stays = plan.survivor(place).or_internal("a group of the plan has no layer that stays")?;
        let detail = format!("layers {group:?}, {} of {}", place + 1, plan.groups.len());
        let (done, total) = (place as u64, plan.groups.len() as u64);
        context.observer.progress(Stage::Plan, done, total, Unit::Layers, detail).await?;
        // No fit needs the hidden states after the last span, but importances may.
        let goes_on = last_span.is_some_and(|last| place < last) || walk.walker.runs_to_the_end();
        if let [only] = group[..] {
            walk.pass(only, goes_on).await?;
        } else {
            let name = names.get(place).map(String::as_str);
            let base = match &averaged {
                Some(averaged) => {
                    averaged.get(place).cloned().or_internal("a group of the plan has no average")?
                }
                None => walk.walker.staying(stays, group)?,
            };
            walk.join(group, (stays, base), name, watches(group.len()), goes_on, &mut fit).await?;
        }
    }
    Ok(walk.built)
}

/// A walk on its way.
struct Walk<'w, 'a> {
    walker: Walker<'a>,
    /// The original as it is stored.
    stream: &'w Stream,
    original: Original,
    /// Hidden states of the new model; `None` while they equal the original's. Layers that are stored in
    /// another type change them from the first layer on.
    new: Option<HiddenStates>,
    built: Built,
}

impl<'a> Walk<'_, 'a> {
    /// Passes a layer that stays as it is, but for experts that are removed. `goes_on` says whether a later span needs the states after it.
    async fn pass(&mut self, layer: usize, goes_on: bool) -> Result<()> {
        let mut layer = self.walker.staying(layer, &[layer])?;
        if let Some(states) = &mut self.new {
            layer = self.walker.weigh(layer, states, false).await?;
            if goes_on {
                *states = self.walker.runner.forward(&self.walker.upload(&layer).await?, states).await?;
            }
        }
        self.built.layers.push(layer);
        Ok(())
    }

    /// Makes one layer of the span `group`, by `fit` or out of the part `name` that an earlier run kept. `base` is the
    /// layer before anything was fitted.
    async fn join(
        &mut self,
        group: &[usize],
        (stays, base): (usize, NewLayer),
        name: Option<&str>,
        watches: bool,
        goes_on: bool,
        fit: &mut impl AsyncFnMut(&Walker<'a>, Span<'_>) -> Result<Fitted>,
    ) -> Result<()> {
        let first = *group.first().or_internal("a group of the plan has no layers")?;
        // A restored layer needs the original's states only if every layer before it is unchanged.
        let entering = match self.new.take() {
            Some(new) => new,
            None => {
                self.original.advance(&self.walker, self.stream, first).await?;
                self.original.states.clone()
            }
        };
        let base = self.walker.weigh(base, &entering, true).await?;
        let kept = self.walker.resources.kept.zip(name);
        let known = match kept {
            Some((kept, name)) => kept.load(name, self.walker.context.model, base).await,
            None => None,
        };
        if known.is_none() {
            self.original.advance(&self.walker, self.stream, first).await?;
        }
        let fitted = match known {
            Some(fitted) => fitted,
            None => {
                let (leaving, watched) = self.through(group, first, watches).await?;
                let states = [&self.original.states, &entering, &leaving.states];
                let fitted = fit(&self.walker, Span::new(group, stays, states, watched).await?).await?;
                if let Some((kept, name)) = kept {
                    kept.keep(name, &fitted).await;
                }
                self.original = leaving;
                fitted
            }
        };
        if goes_on {
            let layer = self.walker.upload(&fitted.layer).await?;
            self.new = Some(self.walker.runner.forward(&layer, &entering).await?);
        }
        self.built.layers.push(self.walker.resources.spilled(fitted.layer).await);
        self.built.remarks.extend(fitted.remarks);
        Ok(())
    }

    /// Runs the original through the span `group`, watching the layers if `watches`.
    async fn through(&self, group: &[usize], first: usize, watches: bool) -> Result<(Original, Watched)> {
        if watches {
            return self.original.watched_through(&self.walker, group).await;
        }
        let mut leaving = self.original.clone();
        leaving.advance(&self.walker, self.stream, first + group.len()).await?;
        Ok((leaving, Watched::default()))
    }
}

/// Returns the work of walking through the original and the new model.
pub fn work(task: &Task<'_>) -> Work {
    Work::layers(2.0 * task.n_layers() - task.removed() as f64)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::demo;
    use crate::device::Accelerator;
    use crate::format::Container;
    use crate::format::blocks::BlockType;
    use crate::format::element::Element;
    use crate::forward::sequences::Sequences;
    use crate::forward::states::to_host;
    use crate::model::weights::storage::Storage;
    use crate::plan::Operator;
    use crate::protocol::events::Silent;

    #[test]
    fn what_is_aimed_at_is_the_original_however_the_rest_is_stored() {
        let model = block_on(demo::open()).unwrap();
        let ids = model.tokenizer.encode(demo::TEXT).unwrap();
        let sequences = Sequences::cut(&model.config, &ids, 4, 16).unwrap();
        let accelerator = Accelerator::cpu("test");
        let as_it_is = Context::new(&model, &accelerator, &sequences, &Silent);
        let mut stream = block_on(Stream::open(&as_it_is, NewLayer::originals(&model))).unwrap();
        block_on(stream.run(&as_it_is, Stage::Plan, 0, async |_, _, _| Ok(()))).unwrap();
        let plan =
            MergePlan::absorbing(model.config.n_layers, Operator::Refit, &[(5, 0.9)], |_| 1.0).unwrap();
        let values = |states: &HiddenStates| -> Vec<f32> {
            states.chunks.iter().flat_map(|chunk| block_on(to_host(chunk.clone(), "test")).unwrap()).collect()
        };
        let seen_in = |storage: Storage| {
            let mut seen: Vec<HiddenStates> = Vec::new();
            let context = Context { storage, ..as_it_is };
            block_on(walk(
                &context,
                &Resources::default(),
                &plan,
                &stream,
                &[1],
                |_| false,
                async |_, span| {
                    assert_eq!(span.layers, [4, 5]);
                    seen.extend([span.original, span.entering, span.leaving].map(HiddenStates::clone));
                    Ok(NewLayer::original(span.stays).into())
                },
            ))
            .unwrap();
            seen.iter().map(values).collect::<Vec<_>>()
        };
        let (kept, coarse) = (
            seen_in(as_it_is.storage),
            seen_in(Storage {
                container: Container::Gguf,
                dtype: Some(Element::Block(BlockType::Q4_0).into()),
                ..as_it_is.storage
            }),
        );
        assert_eq!((&kept[0], &kept[2]), (&coarse[0], &coarse[2]), "the original's states");
        assert_eq!(kept[0], kept[1]);
        assert_ne!(coarse[0], coarse[1], "layers 0 to 3 are stored in fewer bits");
    }
}
