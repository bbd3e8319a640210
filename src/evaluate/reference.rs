//! Reference that compressed models are measured against: the original and its hidden states on a text.

use super::score_all;
use crate::forward::context::Context;
use crate::forward::states::HiddenStates;
use crate::forward::stream::Stream;
use crate::model::Config;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::{MergePlan, MergeStep, Operator};
use crate::protocol::events::{Event, Stage};
use crate::protocol::options::WriteOptions;
use crate::quality::{Quality, Scores};
use crate::write::planned_bytes;
use crate::{Error, Result};

/// The original and its hidden states on a text, to measure compressed models against.
pub struct Reference<'a> {
    context: &'a Context<'a>,
    output: &'a WriteOptions,
    /// Original layers as they will be stored, with the hidden states known of them.
    stored: Stream,
    /// Original layers as they are, with their hidden states.
    unchanged: &'a Stream,
    /// Hidden states after the last layer of the original.
    original: &'a HiddenStates,
    /// Perplexity of the original.
    perplexity: f64,
}

impl<'a> Reference<'a> {
    /// Makes a reference from `stream`, the original, whose last hidden states gave `scores`. Compressed
    /// models will be stored as `output` says.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layers of `stream` have not been run, and those of [`Stream::as_stored`].
    pub async fn new(
        context: &'a Context<'a>,
        output: &'a WriteOptions,
        stream: &'a Stream,
        scores: &Scores,
    ) -> Result<Self> {
        let stored = stream.as_stored(context).await?;
        let (original, perplexity) = (stream.last()?, scores.perplexity());
        Ok(Self { context, output, stored, unchanged: stream, original, perplexity })
    }

    /// Runs the original layers as they will be stored, so that each compressed model is run only from its
    /// first different layer on.
    ///
    /// # Errors
    /// Those of [`Stream::run`].
    pub async fn for_many(mut self) -> Result<Self> {
        if self.stored.last().is_err() {
            let (known, _) = self.stored.nearest(self.stored.layers().len())?;
            self.stored.run(self.context, Stage::Evaluate, known, async |_, _, _| Ok(())).await?;
        }
        Ok(self)
    }

    /// Returns the model, the text and the device.
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Returns how compressed models will be stored.
    pub fn output(&self) -> &'a WriteOptions {
        self.output
    }

    /// Returns the original layers as they will be stored, with the hidden states known of them.
    pub fn stored(&self) -> &Stream {
        &self.stored
    }

    /// Returns the original layers as they are, with their hidden states.
    pub fn unchanged(&self) -> &'a Stream {
        self.unchanged
    }

    /// Returns the hidden states after the last layer of the original.
    pub fn original(&self) -> &'a HiddenStates {
        self.original
    }

    /// Returns the perplexity of the original.
    pub fn perplexity(&self) -> f64 {
        self.perplexity
    }

    /// Measures the model whose last layer gave `states`.
    ///
    /// # Errors
    /// Those of [`Context::score`].
    pub async fn quality(&self, states: &HiddenStates) -> Result<Quality> {
        let scores = self.context.score(states, Some(self.original)).await?;
        Ok(Quality::compressed(&scores, self.perplexity))
    }

    /// Measures the model of `layers`. The layers before the first that differs from the stored original are
    /// not run again.
    ///
    /// # Errors
    /// Those of [`scores_of`](Self::scores_of).
    pub async fn quality_of(&self, layers: Vec<NewLayer>) -> Result<Quality> {
        Ok(Quality::compressed(&self.scores_of(layers).await?, self.perplexity))
    }

    /// Scores the model of `layers` against the original. The layers before the first that differs from the
    /// stored original are not run again.
    ///
    /// # Errors
    /// Those of [`states_of`](Self::states_of) and [`Context::score`].
    pub async fn scores_of(&self, layers: Vec<NewLayer>) -> Result<Scores> {
        self.context.score(&self.states_of(layers).await?, Some(self.original)).await
    }

    /// Scores several models, each a list of layers, whose logits are computed together: the logits of the original are
    /// computed once for all.
    ///
    /// # Errors
    /// Those of [`states_of`](Self::states_of) and [`score_all`].
    pub async fn scores_of_all<const N: usize>(&self, models: [Vec<NewLayer>; N]) -> Result<[Scores; N]> {
        let mut states = Vec::with_capacity(N);
        for layers in models {
            states.push(self.states_of(layers).await?);
        }
        let states: Vec<&HiddenStates> = states.iter().collect();
        let scores = score_all(self.context, &states, Some(self.original)).await?;
        scores.try_into().map_err(|_| Error::internal("a model was not measured"))
    }

    /// Returns the hidden states after the last layer of the model of `layers`. The layers before the first that differs
    /// from the stored original are not run again.
    ///
    /// # Errors
    /// Those of [`Stream::run`].
    pub async fn states_of(&self, layers: Vec<NewLayer>) -> Result<HiddenStates> {
        let (mut changed, from) = self.stored.with_layers(self.context, &layers)?;
        changed.run(self.context, Stage::Evaluate, from, async |_, _, _| Ok(())).await?;
        Ok(changed.last()?.clone())
    }

    /// Measures the model that keeps one layer of each group of `plan` unchanged (see [`kept_layers`]) and
    /// has no other layers.
    ///
    /// # Errors
    /// Those of [`quality_of`](Self::quality_of).
    pub async fn drop_instead(&self, plan: &MergePlan) -> Result<Quality> {
        self.quality_of(kept_layers(plan, &self.context.model.config)?).await
    }

    /// Returns the last step of `plan` with `merged`, the quality after the step, the quality of dropping the
    /// absorbed layers instead, and the stored bytes of the model. The observer is told of the step. `None`
    /// if the plan has no steps.
    ///
    /// # Errors
    /// Those of [`drop_instead`](Self::drop_instead), [`planned_bytes`] and
    /// [`Observer::event`](crate::protocol::events::Observer::event).
    pub async fn measured_step(&self, plan: &MergePlan, merged: Quality) -> Result<Option<MergeStep>> {
        let Some(mut step) = plan.steps.last().cloned() else { return Ok(None) };
        let dropped = match plan.operator {
            Operator::Drop => merged,
            _ => self.drop_instead(plan).await?,
        };
        step.set_quality(merged, dropped);
        let kept = kept_layers(plan, &self.context.model.config)?;
        step.bytes = Some(planned_bytes(self.context.model, &kept, self.output)?);
        self.context.observer.event(Event::Step(step.clone())).await?;
        Ok(Some(step))
    }
}

/// Returns one original layer of each group, for a model with the configuration `config`: the first layer if the operator mixes weights, else the layer
/// that stays. Of their experts only those are left that the plan keeps.
///
/// # Errors
/// Those of [`NewLayer::keeping`].
pub fn kept_layers(plan: &MergePlan, config: &Config) -> Result<Vec<NewLayer>> {
    let kept = |(place, group): (usize, &Vec<usize>)| match plan.operator.is_weighted() {
        true => group.first().copied(),
        false => plan.survivor(place),
    };
    let groups = plan.groups.iter().enumerate();
    let kept = groups.filter_map(|(place, group)| Some((kept((place, group))?, group)));
    kept.map(|(layer, group)| NewLayer::original(layer).covering(config, group).keeping(&plan.kept_experts))
        .collect()
}
