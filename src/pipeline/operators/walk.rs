//! The original and the new model side by side, run by run, and the rows of least squares that they give.

use burn::tensor::Tensor;

use super::original::Original;
use super::seen::Watched;
use super::{Built, STRENGTHS};
use crate::capture::{HiddenStates, Runner, read, sequences_per_chunk};
use crate::least_squares::{Normal, Refit, ridge_on_all};
use crate::model::layer::DecoderLayer;
use crate::model::new_layer::NewLayer;
use crate::model::storage::Storage;
use crate::pipeline::checkpoint::fitted::Fitted;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::MergePlan;
use crate::progress::{Stage, Unit};
use crate::{Error, Result};

/// Of this many sequences, one is held out.
const HELD_OUT: usize = 5;

/// A run of layers that becomes one.
pub struct Run<'r> {
    /// The layers, which follow each other.
    pub layers: &'r [usize],
    /// The one that stays where the operator keeps one.
    pub stays: usize,
    /// What enters the first in the original.
    pub original: &'r HiddenStates,
    /// What enters the first in the new model.
    pub entering: &'r HiddenStates,
    /// What leaves the last in the original: what the new layer should yield.
    pub leaving: &'r HiddenStates,
    /// What the layers did in the original, where that was watched.
    pub watched: Watched,
    /// [`relative_weights`] of the rows of each chunk of `leaving`.
    weights: Vec<Vec<f32>>,
}

/// Some sequences of a run.
pub struct RunChunk<'r> {
    /// Their place among the chunks of the text.
    pub place: usize,
    /// What enters in the original.
    pub original: &'r Tensor<3>,
    /// What enters in the new model.
    pub entering: &'r Tensor<3>,
    /// What leaves in the original, as rows.
    pub leaving: Tensor<2>,
    /// How much each row counts.
    pub weights: &'r [f32],
}

impl<'r> Run<'r> {
    async fn new(
        layers: &'r [usize],
        stays: usize,
        original: &'r HiddenStates,
        entering: &'r HiddenStates,
        leaving: &'r HiddenStates,
        watched: Watched,
    ) -> Result<Self> {
        let mut weights = Vec::with_capacity(leaving.chunks.len());
        for chunk in &leaving.chunks {
            let [.., hidden] = chunk.dims();
            weights.push(relative_weights(&fetch(as_rows(chunk)).await?, hidden));
        }
        Ok(Self { layers, stays, original, entering, leaving, watched, weights })
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = RunChunk<'_>> {
        let states = self.original.chunks.iter().zip(&self.entering.chunks).zip(&self.leaving.chunks);
        states.zip(&self.weights).enumerate().map(|(place, (((original, entering), leaving), weights))| {
            RunChunk { place, original, entering, leaving: as_rows(leaving), weights }
        })
    }
}

/// Runs layers and sorts their rows.
pub struct Walker<'a> {
    /// The model, the text, and how the result is stored.
    pub context: Context<'a>,
    /// Runs layers.
    pub runner: Runner<'a>,
    /// Of each sequence, whether it is held out from fits.
    held_out: Vec<bool>,
}

impl<'a> Walker<'a> {
    fn new(context: Context<'a>) -> Self {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens());
        Self { context, runner, held_out: held_out(context.sequences.count()) }
    }

    /// The sequences that are held out from fits.
    pub fn held_out(&self) -> impl Iterator<Item = usize> {
        self.held_out.iter().enumerate().filter(|(_, held_out)| **held_out).map(|(place, _)| place)
    }

    /// Reads a layer and takes it to the device.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn upload(&self, layer: &NewLayer) -> Result<DecoderLayer> {
        self.upload_stored(layer, self.context.storage).await
    }

    /// The same for a layer of the original as it is, however the result is stored.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn original(&self, layer: usize) -> Result<DecoderLayer> {
        self.upload_stored(&NewLayer::original(layer), Storage::of(self.context.model)).await
    }

    async fn upload_stored(&self, layer: &NewLayer, storage: Storage) -> Result<DecoderLayer> {
        self.runner.upload(self.runner.fetch(layer, storage)?.finish().await?)
    }

    /// Two empty systems of `m` regressors and as many targets as the stream is wide.
    ///
    /// # Errors
    /// [`Error::Limit`] if there is no memory for them.
    pub fn systems(&self, m: usize) -> Result<Systems> {
        let d = self.context.model.config.hidden_size;
        Ok(Systems { fit: Normal::new(m, d)?, held_out: Normal::new(m, d)? })
    }

    /// Adds the rows of chunk `place`: regressors `z` `[n, m]`, targets `y` `[n, hidden]`, weights `w` `[n]`.
    ///
    /// # Errors
    /// As [`Normal::add`].
    pub fn add(&self, systems: &mut Systems, place: usize, z: &[f32], y: &[f32], w: &[f32]) -> Result<()> {
        let tokens = self.context.sequences.tokens();
        let first = place * sequences_per_chunk(tokens);
        let n_sequences = w.len() / tokens.max(1);
        let flags = self.held_out.get(first..first + n_sequences).unwrap_or_default();
        let mut at = 0;
        for alike in flags.chunk_by(|a, b| a == b) {
            let n = alike.len() * tokens;
            let rows = |width: usize| at * width..(at + n) * width;
            let (m, d) = (z.len() / w.len().max(1), y.len() / w.len().max(1));
            let parts = (z.get(rows(m)), y.get(rows(d)), w.get(rows(1)));
            if let (Some(z), Some(y), Some(w)) = parts {
                match alike.first() {
                    Some(true) => systems.held_out.add(z, y, w)?,
                    _ => systems.fit.add(z, y, w)?,
                }
            }
            at += n;
        }
        Ok(())
    }
}

/// The least-squares problems of the rows that are fitted and of those that choose how strongly.
pub struct Systems {
    /// Fitted.
    pub fit: Normal,
    /// Held out.
    pub held_out: Normal,
}

impl Systems {
    /// The ridge about `start`, as strong as the held-out rows say, on all rows.
    ///
    /// # Errors
    /// As [`ridge_on_all`].
    pub fn solve(&mut self, start: &[f32]) -> Result<Refit> {
        ridge_on_all(&mut self.fit, &self.held_out, start, &STRENGTHS)
    }

    /// Both problems with the regressors `indices` only.
    ///
    /// # Errors
    /// As [`Normal::subset`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        Ok(Self { fit: self.fit.subset(indices)?, held_out: self.held_out.subset(indices)? })
    }
}

/// Builds the layers of `plan`: `fit` makes one of each run, unless it was kept, and the others stay. `stream` is of the
/// original as it is, whose states are aimed at: where the rest is stored in fewer bits, fits make up for some of that.
/// `watches` says whether a fit of so many layers wants to know what they read and wrote in the original.
///
/// # Errors
/// [`Error::Limit`] if there are too few sequences to hold some out, and what running and `fit` give.
pub async fn walk<'a>(
    context: &Context<'a>,
    plan: &MergePlan,
    stream: &Stream,
    watches: impl Fn(usize) -> bool,
    mut fit: impl AsyncFnMut(&Walker<'a>, Run<'_>) -> Result<Fitted>,
) -> Result<Built> {
    if context.sequences.count() < 2 {
        return Err(Error::Limit(format!(
            "operator {} fits on some sequences and checks on others, but the text gives only {}; give a longer \
             text or shorter sequences",
            plan.operator,
            context.sequences.count()
        )));
    }
    let walker = Walker::new(*context);
    let mut original = Original::at_the_first(stream)?;
    // The original's states as long as nothing has changed, which storing in another type does from the first layer on.
    let mut new = context.storage.changes(context.model).then(|| original.states.clone());
    let mut built = Built { layers: Vec::with_capacity(plan.groups.len()), remarks: Vec::new() };
    let names = match context.kept {
        Some(kept) => kept.begin(context, plan).await,
        None => Vec::new(),
    };
    let last_run = plan.groups.iter().rposition(|group| group.len() > 1);
    for (place, group) in plan.groups.iter().enumerate() {
        let (Some(stays), Some(first)) = (plan.survivor(place), group.first()) else { continue };
        let detail = format!("layers {group:?}, {} of {}", place + 1, plan.groups.len());
        let (done, total) = (place as u64, plan.groups.len() as u64);
        context.observer.progress(Stage::Plan, done, total, Unit::Layers, detail).await?;
        // What comes after the last run is not fitted to.
        let goes_on = last_run.is_some_and(|last| place < last);
        if let [only] = group[..] {
            let layer = NewLayer::original(only);
            if let Some(states) = &mut new
                && goes_on
            {
                *states = walker.runner.forward(&walker.upload(&layer).await?, states)?;
            }
            built.layers.push(layer);
            continue;
        }
        let kept = context.kept.zip(names.get(place));
        let known = match kept {
            Some((kept, name)) => kept.load(name, context.model, stays).await,
            None => None,
        };
        // What is known needs the original only where nothing has changed before it.
        if known.is_none() || new.is_none() {
            original.advance(&walker, stream, *first).await?;
        }
        let entering = new.take().unwrap_or_else(|| original.states.clone());
        let fitted = match known {
            Some(fitted) => fitted,
            None => {
                let (leaving, watched) = match watches(group.len()) {
                    true => original.watched_through(&walker, group).await?,
                    false => {
                        let mut leaving = original.clone();
                        leaving.advance(&walker, stream, first + group.len()).await?;
                        (leaving, Watched::default())
                    }
                };
                let run =
                    Run::new(group, stays, &original.states, &entering, &leaving.states, watched).await?;
                let fitted = fit(&walker, run).await?;
                if let Some((kept, name)) = kept {
                    kept.keep(name, &fitted).await;
                }
                original = leaving;
                fitted
            }
        };
        if goes_on {
            new = Some(walker.runner.forward(&walker.upload(&fitted.layer).await?, &entering)?);
        }
        built.layers.push(fitted.layer);
        built.remarks.extend(fitted.remarks);
    }
    Ok(built)
}

/// One of [`HELD_OUT`] sequences, evenly spread from the first to the last; at least one, and not all.
fn held_out(n: usize) -> Vec<bool> {
    let mut flags = vec![false; n];
    let n_held_out = (n / HELD_OUT).max(1);
    for i in 0..n_held_out {
        let place = match n_held_out {
            1 => 0.0,
            _ => (i * n.saturating_sub(1)) as f64 / (n_held_out - 1) as f64,
        };
        if let Some(flag) = flags.get_mut(place.round_ties_even() as usize) {
            *flag = true;
        }
    }
    flags
}

/// `1 / rms` of each row, so that every token counts by its relative error and those that carry massive
/// activations do not decide the fit alone, yet are in it. A row of zeros has no weight.
fn relative_weights(targets: &[f32], width: usize) -> Vec<f32> {
    let rms = |row: &[f32]| {
        let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        (square / width.max(1) as f64).sqrt()
    };
    let weight = |rms: f64| if rms > 0.0 { (1.0 / rms) as f32 } else { 0.0 };
    targets.chunks(width.max(1)).map(|row| weight(rms(row))).collect()
}

/// Rows `[batch tokens, hidden]` of states.
pub fn as_rows(states: &Tensor<3>) -> Tensor<2> {
    let [batch, tokens, hidden] = states.dims();
    states.clone().reshape([batch * tokens, hidden])
}

/// Copies to the host what a fit needs.
///
/// # Errors
/// [`Error::Device`] if the device fails.
pub async fn fetch(tensor: Tensor<2>) -> Result<Vec<f32>> {
    read(tensor, "while fitting").await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::calibration::Sequences;
    use crate::demo;
    use crate::device::Accelerator;
    use crate::format::Container;
    use crate::format::blocks::BlockType;
    use crate::format::element::Element;
    use crate::plan::Operator;
    use crate::progress::Silent;

    #[test]
    fn a_fifth_is_held_out_evenly() {
        let places =
            |n| held_out(n).iter().enumerate().filter(|(_, x)| **x).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(places(2), [0]);
        assert_eq!(places(10), [0, 9]);
        assert_eq!(places(16), [0, 8, 15]);
        assert_eq!(places(40).len(), 8);
    }

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
            states.chunks.iter().flat_map(|chunk| block_on(read(chunk.clone(), "test")).unwrap()).collect()
        };
        let seen_in = |storage: Storage| {
            let mut seen: Vec<HiddenStates> = Vec::new();
            let context = Context { storage, ..as_it_is };
            block_on(walk(
                &context,
                &plan,
                &stream,
                |_| false,
                async |_, run| {
                    assert_eq!(run.layers, [4, 5]);
                    seen.extend([run.original, run.entering, run.leaving].map(HiddenStates::clone));
                    Ok(NewLayer::original(run.stays).into())
                },
            ))
            .unwrap();
            seen.iter().map(values).collect::<Vec<_>>()
        };
        let (kept, coarse) = (
            seen_in(as_it_is.storage),
            seen_in(Storage { container: Container::Gguf, dtype: Some(Element::Block(BlockType::Q4_0)) }),
        );
        assert_eq!((&kept[0], &kept[2]), (&coarse[0], &coarse[2]), "the original's states");
        assert_eq!(kept[0], kept[1]);
        assert_ne!(coarse[0], coarse[1], "layers 0 to 3 are stored in fewer bits");
    }

    #[test]
    fn weights_make_rows_alike() {
        assert_eq!(relative_weights(&[3.0, -3.0, 0.0, 0.0, 10.0, 10.0], 2), [1.0 / 3.0, 0.0, 0.1]);
    }
}
