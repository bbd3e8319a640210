//! What changed models are measured with.

use super::score_all;
use crate::forward::context::Context;
use crate::forward::states::HiddenStates;
use crate::forward::stream::Stream;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, MergeStep, Operator};
use crate::protocol::events::{Event, Stage};
use crate::protocol::options::WriteOptions;
use crate::quality::{Quality, Scores};
use crate::write::planned_bytes;
use crate::{Error, Result};

/// An original and its states on some text, to compare changed models with.
pub struct Reference<'a> {
    context: &'a Context<'a>,
    output: &'a WriteOptions,
    /// The original layers as they will be stored, and what is known of their states.
    stored: Stream,
    /// The original as it is.
    unchanged: &'a Stream,
    /// What left it.
    original: &'a HiddenStates,
    /// Its perplexity.
    perplexity: f64,
}

impl<'a> Reference<'a> {
    /// `stream` is of the original model, whose last states gave `scores`; the changed models will be stored as
    /// `output` says.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) where `stream` has not been run.
    pub fn new(
        context: &'a Context<'a>,
        output: &'a WriteOptions,
        stream: &'a Stream,
        scores: &Scores,
    ) -> Result<Self> {
        let stored = context.as_stored(stream);
        let (original, perplexity) = (stream.last()?, scores.perplexity());
        Ok(Self { context, output, stored, unchanged: stream, original, perplexity })
    }

    /// Makes ready for many models: what they share with the original is not run for each of them.
    ///
    /// # Errors
    /// What running gives.
    pub async fn for_many(mut self) -> Result<Self> {
        if self.stored.last().is_err() {
            self.stored.run(self.context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
        }
        Ok(self)
    }

    /// The model and the text.
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// How changed models will be stored.
    pub fn output(&self) -> &'a WriteOptions {
        self.output
    }

    /// The original layers as they will be stored, and what is known of their states.
    pub fn stored(&self) -> &Stream {
        &self.stored
    }

    /// The original as it is, and what is known of its states.
    pub fn unchanged(&self) -> &'a Stream {
        self.unchanged
    }

    /// What left the original.
    pub fn original(&self) -> &'a HiddenStates {
        self.original
    }

    /// The original's perplexity.
    pub fn perplexity(&self) -> f64 {
        self.perplexity
    }

    /// The quality of a model whose last layer gave `states`.
    ///
    /// # Errors
    /// As [`Context::score`].
    pub async fn quality(&self, states: &HiddenStates) -> Result<Quality> {
        let scores = self.context.score(states, Some(self.original)).await?;
        Ok(Quality::compressed(&scores, self.perplexity))
    }

    /// The quality of the model of other layers; what is computed before they first differ is shared.
    ///
    /// # Errors
    /// What running gives.
    pub async fn quality_of(&self, layers: Vec<NewLayer>) -> Result<Quality> {
        Ok(Quality::compressed(&self.scores_of(layers).await?, self.perplexity))
    }

    /// The scores of the model of other layers against the original.
    ///
    /// # Errors
    /// What running gives.
    pub async fn scores_of(&self, layers: Vec<NewLayer>) -> Result<Scores> {
        let (mut changed, from) = self.changed(layers);
        changed.run_and_score(self.context, from, Some(self.original)).await
    }

    /// The qualities of the models of several lists of layers, scored together: what the original predicts is computed
    /// once for all.
    ///
    /// # Errors
    /// What running gives.
    pub async fn qualities_of<const N: usize>(&self, models: [Vec<NewLayer>; N]) -> Result<[Quality; N]> {
        let mut states = Vec::with_capacity(N);
        for layers in models {
            let (mut changed, from) = self.changed(layers);
            changed.run(self.context, Stage::Evaluate, from, async |_, _, _| Ok(())).await?;
            states.push(changed.last()?.clone());
        }
        let states: Vec<&HiddenStates> = states.iter().collect();
        let Context { accelerator, sequences, model, observer, .. } = *self.context;
        let scores = score_all(accelerator, sequences, model, &states, Some(self.original), observer).await?;
        let qualities: Vec<_> = scores.iter().map(|s| Quality::compressed(s, self.perplexity)).collect();
        qualities.try_into().map_err(|_| Error::Usage("a model was not measured".to_owned()))
    }

    /// The model of other layers, and the first that differs.
    fn changed(&self, layers: Vec<NewLayer>) -> (Stream, usize) {
        let from = layers.iter().zip(self.stored.layers()).take_while(|(new, old)| new == old).count();
        (self.stored.with_layers(layers, from), from)
    }

    /// The quality of the model that keeps one layer of each group of `plan` as it is.
    ///
    /// # Errors
    /// What running gives.
    pub async fn drop_instead(&self, plan: &MergePlan) -> Result<Quality> {
        self.quality_of(kept_layers(plan)).await
    }

    /// The last step of `plan` with what was measured after it and what dropping the same layers does; told to
    /// the observer.
    ///
    /// # Errors
    /// What running and the observer give.
    pub async fn measured_step(&self, plan: &MergePlan, merged: Quality) -> Result<Option<MergeStep>> {
        let Some(mut step) = plan.steps.last().cloned() else { return Ok(None) };
        let dropped = match plan.operator {
            Operator::Drop => merged,
            _ => self.drop_instead(plan).await?,
        };
        step.set_quality(merged, dropped);
        step.bytes = Some(planned_bytes(self.context.model, &kept_layers(plan), self.output)?);
        self.context.observer.event(Event::Step(step.clone())).await?;
        Ok(Some(step))
    }
}

/// One layer of each group: the first where layers are mixed, else the one that stays.
pub fn kept_layers(plan: &MergePlan) -> Vec<NewLayer> {
    let kept = |(place, group): (usize, &Vec<usize>)| match plan.operator.is_weighted() {
        true => group.first().copied(),
        false => plan.survivor(place),
    };
    plan.groups.iter().enumerate().filter_map(kept).map(NewLayer::original).collect()
}
