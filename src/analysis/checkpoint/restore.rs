//! Reading of a checkpoint, as far as it is whole and belongs to the run.

use burn::tensor::{Tensor, TensorData};

use super::{Checkpoint, SHARED, is_part, layer_name, numbers, states_name};
use crate::analysis::observe::LayerOutput;
use crate::error::OrInternal;
use crate::files::part::damaged;
use crate::forward::context::Context;
use crate::forward::identity::device_of;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::forward::stream::Stream;
use crate::protocol::events::{Event, Kept, Stage, Unit};
use crate::quality::Scores;
use crate::{Error, Result};

impl Checkpoint<'_> {
    /// Hands the kept layers to `take`, from the first on, and puts the kept hidden states into `stream`, of
    /// which no layer has been run. Returns the number of layers after which the run resumes. Every layer
    /// must have `n_points` points. If a part cannot be used, the run resumes before it, and the observer is
    /// told the reason. Parts that the run does not need are removed.
    ///
    /// # Errors
    /// Those of [`Observer::event`](crate::protocol::events::Observer::event), and of `take`. Parts that
    /// cannot be read are not errors.
    pub async fn restore(
        &mut self,
        context: &Context<'_>,
        stream: &mut Stream,
        n_points: usize,
        take: impl AsyncFnMut(usize, LayerOutput) -> Result<()>,
    ) -> Result<usize> {
        let names = match self.store.names().await {
            Ok(names) => names,
            Err(refused) => {
                self.ended = true;
                let trouble = format!("finished layers are not kept, because {refused}");
                return self.told(0, Some(trouble)).await;
            }
        };
        let n_layers = stream.layers().len();
        let mut places: Vec<usize> =
            (1..=n_layers).filter(|place| names.contains(&states_name(*place))).collect();
        let deepest = places.last().copied().unwrap_or(0);
        let mut trouble = None;
        let expected = n_points * context.model.config.hidden_size;
        let finished = self.layers(context, (deepest, n_layers), expected, take, &mut trouble).await?;
        places.retain(|place| *place <= finished);
        let from = self.states(context, stream, &places, &mut trouble).await?;
        self.remove_all_but(&names, stream, from).await;
        if let Some(why) = &trouble {
            trouble = Some(match from {
                0 => format!("what was kept of a run cannot be used, because {why}: this one starts anew"),
                _ => format!(
                    "not all that was kept can be used, because {why}: the run goes on after layer {}",
                    from - 1
                ),
            });
        } else if from == 0 {
            return Ok(0);
        }
        self.told(from, trouble).await
    }

    /// Returns the kept scores; `None` if they are missing or damaged. Only a run that has finished all
    /// layers keeps scores.
    pub async fn scores(&self) -> Option<Scores> {
        let part = self.identity.open(&*self.store, "scores").await.ok()?;
        let values: Vec<f64> = numbers(&part.all_bytes("scores").await.ok()?);
        match values.as_slice() {
            [tokens, nll] if *tokens >= 1.0 && nll.is_finite() => {
                Some(Scores { tokens: *tokens as u64, nll: *nll, ..Scores::default() })
            }
            _ => None,
        }
    }

    /// Hands the layers that are whole to `take`, from the first on and before layer `deepest`, and returns
    /// their number. Each layer must have points of `expected` coordinates in total.
    async fn layers(
        &mut self,
        context: &Context<'_>,
        (deepest, n_layers): (usize, usize),
        expected: usize,
        mut take: impl AsyncFnMut(usize, LayerOutput) -> Result<()>,
        trouble: &mut Option<String>,
    ) -> Result<usize> {
        for layer in 0..deepest {
            let detail = format!("layer {} of {n_layers}, which was kept", layer + 1);
            let (done, total) = (layer as u64, deepest as u64);
            context.observer.progress(Stage::Read, done, total, Unit::Layers, detail).await?;
            let output = match self.layer(layer).await {
                Ok((output, device)) => {
                    if device != self.device {
                        self.elsewhere = Some((layer + 1, device));
                    }
                    output
                }
                Err(why) => {
                    *trouble = Some(why.to_string());
                    return Ok(layer);
                }
            };
            if output.points.len() != expected {
                *trouble = Some(damaged("a layer has too few points").to_string());
                return Ok(layer);
            }
            take(layer, output).await?;
        }
        Ok(deepest)
    }

    async fn layer(&self, layer: usize) -> Result<(LayerOutput, String)> {
        let part = self.identity.open(&*self.store, &layer_name(layer)).await?;
        let points = numbers(&part.all_bytes("points").await?);
        let measures: Vec<f64> = numbers(&part.all_bytes("measures").await?);
        let [largest_rms, block_influence] = *measures.as_slice() else {
            return Err(damaged("a layer has too few measures"));
        };
        Ok((LayerOutput { points, largest_rms, block_influence }, device_of(&part).to_owned()))
    }

    /// Restores the deepest whole hidden states of `places`, and the states before them that the stream
    /// keeps. Returns the depth of the deepest.
    async fn states(
        &mut self,
        context: &Context<'_>,
        stream: &mut Stream,
        places: &[usize],
        trouble: &mut Option<String>,
    ) -> Result<usize> {
        let mut deepest = 0;
        for place in places.iter().rev() {
            if deepest > 0 && !stream.keeps(*place) {
                continue;
            }
            match self.states_at(context, *place).await {
                Ok(states) => {
                    stream.restore(*place, states);
                    deepest = deepest.max(*place);
                }
                Err(why @ (Error::Format(_) | Error::Source(_) | Error::Limit(_))) => {
                    *trouble = Some(why.to_string());
                }
                Err(e) => return Err(e),
            }
        }
        if let Some((layers, _)) = &mut self.elsewhere {
            *layers = (*layers).min(deepest);
        }
        self.elsewhere = self.elsewhere.take().filter(|(layers, _)| *layers > 0);
        Ok(deepest)
    }

    async fn states_at(&self, context: &Context<'_>, place: usize) -> Result<HiddenStates> {
        let part = self.identity.open(&*self.store, &states_name(place)).await?;
        let (count, tokens) = (context.sequences.count(), context.sequences.tokens());
        let config = &context.model.config;
        let of = async |name: &str, width: usize| -> Result<Vec<Tensor<3>>> {
            if part.shape(name)? != [count as u64, tokens as u64, width as u64] {
                return Err(damaged("the states have another shape"));
            }
            let per_chunk = sequences_per_chunk(tokens);
            let mut chunks = Vec::new();
            for first in (0..count).step_by(per_chunk) {
                let shape = [per_chunk.min(count - first), tokens, width];
                let row = 4 * (tokens * width) as u64;
                let bytes = part.bytes(name, first as u64 * row, shape[0] as u64 * row).await?;
                let data = TensorData::new(numbers::<f32>(&bytes), shape);
                chunks.push(Tensor::from_data(data, context.accelerator.device()));
            }
            Ok(chunks)
        };
        let mut states = HiddenStates::alone(of("states", config.hidden_size).await?);
        for owner in config.owners().into_iter().filter(|owner| *owner < place) {
            let kind = config.kind(owner)?;
            let width = config.kv_heads(kind) * config.head_width(kind);
            let key_place = kind.key_place();
            let [keys, values] = SHARED.get(key_place).copied().or_internal("keys have no name")?;
            let pairs = of(keys, width).await?.into_iter().zip(of(values, width).await?);
            for (beside, (keys, values)) in states.beside.iter_mut().zip(pairs) {
                *beside = beside.with(key_place, Some([keys, values]));
            }
        }
        Ok(states)
    }

    /// Removes the parts that a run from layer `from` on does not need. A store that refuses says so at the
    /// next write.
    async fn remove_all_but(&mut self, names: &[String], stream: &Stream, from: usize) {
        let n_layers = stream.layers().len();
        let used = |name: &String| {
            (0..from).any(|layer| *name == layer_name(layer))
                || (1..=from)
                    .any(|place| *name == states_name(place) && (place == from || stream.keeps(place)))
                || (name == "scores" && from == n_layers)
        };
        for name in names.iter().filter(|name| is_part(name) && !used(name)) {
            let _ = self.store.remove(name).await;
        }
        self.layers = from;
        self.last = (from > 0 && !stream.keeps(from)).then_some(from);
    }

    async fn told(&mut self, layers: usize, trouble: Option<String>) -> Result<usize> {
        self.observer.event(Event::Kept(Kept { layers, bytes: self.bytes, trouble })).await?;
        Ok(layers)
    }
}
