//! Runs layers of either model on the calibration text, and divides the rows of fits into fitted and held-out
//! rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Result;
use crate::error::{Error, OrInternal};
use crate::format::element::Element;
use crate::forward::context::Context;
use crate::forward::importances::recorded;
use crate::forward::runner::Runner;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::maths::least_squares::{Normal, Refit, ridge_on_all};
use crate::methods::importances::encodes;
use crate::methods::walk::span::Span;
use crate::methods::{Resources, Weighing};
use crate::model::Model;
use crate::model::importances::LayerImportances;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::record::Record;
use crate::model::tensors::Role;
use crate::model::weights::file_type::{FileType, Place};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::{Requantise, Storage};
use crate::plan::MergePlan;
use crate::write::takes_importances;

/// Ridge strengths that held-out sequences choose from, as shares of the mean of the diagonal of the Gram
/// matrix. Fits to some ten thousand tokens are best at 0.1 to 1, where the error hardly depends on the
/// strength.
pub const STRENGTHS: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// Number of sequences of which one is held out.
const HELD_OUT: usize = 5;

/// Runner of layers that also divides the rows of fits into fitted and held-out rows.
pub struct Walker<'a> {
    /// Model, text, and how the result is stored.
    pub context: Context<'a>,
    /// Memory for fits, and where fitted layers are kept.
    pub resources: Resources<'a>,
    /// Runner of layers, for sequences as long as those of the text.
    pub runner: Runner<'a>,
    /// For each sequence, whether it is held out from fits.
    held_out: Vec<bool>,
    /// Experts that stay in each layer of the original, as in the plan.
    kept_experts: Vec<Vec<usize>>,
    /// For each layer of the original, the place in the new model of the layer that it becomes or is absorbed into; empty
    /// if the storage does not go by places.
    places: Vec<Place>,
    /// Runner that records what products read, and where it does; `None` if importances are not collected.
    recorder: Option<(Runner<'a>, Record)>,
    /// Importances of the layers that were weighed so far, by the layer of the original that stays.
    weighed: RefCell<BTreeMap<usize, Arc<LayerImportances>>>,
}

/// Returns, for each layer of `model`, the place in the model of `plan` of the layer that it becomes or is absorbed into.
fn places(model: &Model, plan: &MergePlan) -> Result<Vec<Place>> {
    let survivors = (0..plan.groups.len()).map(|group| plan.survivor(group));
    let survivors = survivors.map(|layer| layer.or_internal("a group of the plan has no layers"));
    let kinds = survivors.map(|layer| model.config.kind(layer?)).collect::<Result<Vec<_>>>()?;
    let mut places = vec![Place::default(); model.config.n_layers];
    for (group, place) in plan.groups.iter().zip(Place::of_all(&model.config, &kinds)) {
        for layer in group {
            *places.get_mut(*layer).or_internal("a group of the plan has a layer that the model lacks")? =
                place;
        }
    }
    Ok(places)
}

impl<'a> Walker<'a> {
    /// Makes a walker through the sequences of `context`, a fifth of which is held out, for the layers of `plan`.
    ///
    /// # Errors
    /// [`Error::Internal`] if a group of the plan has no layers, and those of [`Runner::new`].
    pub fn new(context: Context<'a>, resources: Resources<'a>, plan: &MergePlan) -> Result<Self> {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
        let held_out = held_out(context.sequences.count());
        let places = if context.storage.goes_by_place() { places(context.model, plan)? } else { Vec::new() };
        let recorder = match resources.weighing {
            Weighing::Off => None,
            Weighing::Collected | Weighing::Given(_) => {
                let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
                let record = Record::default();
                Some((runner.recording(record.clone()), record))
            }
        };
        let (kept_experts, weighed) = (plan.kept_experts.clone(), RefCell::default());
        Ok(Self { context, resources, runner, held_out, kept_experts, places, recorder, weighed })
    }

    /// Returns layer `layer` of the original with the experts that stay, in the place of the layers `group`, and with its
    /// importances if it was [weighed](Self::weigh).
    ///
    /// # Errors
    /// Those of [`NewLayer::keeping`].
    pub fn staying(&self, layer: usize, group: &[usize]) -> Result<NewLayer> {
        let layer = NewLayer::original(layer).covering(&self.context.model.config, group);
        self.weighted(layer.keeping(&self.kept_experts)?)
    }

    /// Returns `layer` with the importances of the layer that stays in it, if that was [weighed](Self::weigh).
    ///
    /// # Errors
    /// [`Error::Internal`] if `layer` is made of no layers.
    pub fn weighted(&self, layer: NewLayer) -> Result<NewLayer> {
        let known = self.weighed.borrow().get(&layer.mix().survivor()?).cloned();
        Ok(if known.is_some() { layer.weighted_by(known) } else { layer })
    }

    /// Returns whether the importances of copied layers are collected, for which the new model must be run to its end.
    pub fn runs_to_the_end(&self) -> bool {
        let collects = matches!(self.resources.weighing, Weighing::Collected);
        collects && self.context.storage.changes(self.context.model)
    }

    /// Weighs `layer`, which `states` enter in the new model, if matrices of the layer, or matrices that are `fitted` to
    /// take their place, are encoded by importances: of the columns of what its products read, in the element types of the
    /// original. Returns the layer with its importances.
    ///
    /// # Errors
    /// Those of [`takes_importances`], [`Importances::of_layers`](crate::model::importances::Importances::of_layers),
    /// [`Runner::fetch`], [`Runner::forward`] and [`recorded`].
    pub async fn weigh(&self, layer: NewLayer, states: &HiddenStates, fitted: bool) -> Result<NewLayer> {
        let Context { model, storage, .. } = self.context;
        let survivor = layer.mix().survivor()?;
        let takes = match fitted {
            true => encodes(model, survivor, storage),
            false => takes_importances(model, std::slice::from_ref(&layer), storage)?.contains(&true),
        };
        let importances = match self.resources.weighing {
            _ if !takes => return Ok(layer),
            Weighing::Off => return Ok(layer),
            Weighing::Given(original) => {
                let own = original.of_layers(std::slice::from_ref(&layer))?.layers.pop();
                own.or_internal("a layer has no importances")?
            }
            Weighing::Collected => self.record(&layer, states).await?,
        };
        self.weighed.borrow_mut().insert(survivor, importances.clone());
        Ok(layer.weighted_by(Some(importances)))
    }

    /// Runs `layer`, which `states` enter, and returns the importances of its columns.
    async fn record(&self, layer: &NewLayer, states: &HiddenStates) -> Result<Arc<LayerImportances>> {
        let model = self.context.model;
        let (runner, record) = self.recorder.as_ref().or_internal("importances are not collected")?;
        let fetched = runner.fetch(layer, Storage::of(model))?.finish().await?;
        runner.forward(&runner.upload(fetched)?, states).await?;
        Ok(Arc::new(recorded(record, layer.all_experts(&model.config)?.count()).await?))
    }

    /// Replaces tensors of `layer`, which takes the place of `span`, by computed ones, as [`NewLayer::replacing`] does. They
    /// are encoded by the importances of what the products read with these tensors in F32, if by any.
    ///
    /// # Errors
    /// Those of [`NewLayer::replacing`] and [`weigh`](Self::weigh).
    pub async fn replacing(
        &self,
        span: &Span<'_>,
        layer: NewLayer,
        tensors: Vec<(Role, Vec<f32>)>,
    ) -> Result<NewLayer> {
        let Context { model, storage, .. } = self.context;
        let layer = match self.recorder.is_some() && encodes(model, span.stays, storage) {
            true => {
                let exact = Storage {
                    dtype: Some(FileType::of(Element::F32)),
                    requantise: Requantise::All,
                    ..storage
                };
                let exact = layer.clone().replacing(model, span.layers, exact, tensors.clone())?;
                layer.weighted_by(Some(self.record(&exact, span.entering).await?))
            }
            false => layer,
        };
        self.encoding(layer, span.layers, tensors)
    }

    /// Returns the indices of the sequences that are held out from fits, ascending.
    pub fn held_out(&self) -> impl Iterator<Item = usize> {
        self.held_out.iter().enumerate().filter(|(_, held_out)| **held_out).map(|(place, _)| place)
    }

    /// Returns `layer` with its place in the new model.
    fn placed(&self, layer: NewLayer) -> Result<NewLayer> {
        let place = self.places.get(layer.mix().survivor()?);
        Ok(match place {
            Some(place) => layer.at(*place),
            None => layer,
        })
    }

    /// Replaces tensors of `layer`, which stands for the layers `span`, as [`NewLayer::replacing`] does, in the element
    /// types in which the result is stored, by the importances that the layer has.
    ///
    /// # Errors
    /// Those of [`NewLayer::replacing`].
    pub fn encoding(
        &self,
        layer: NewLayer,
        span: &[usize],
        tensors: Vec<(Role, Vec<f32>)>,
    ) -> Result<NewLayer> {
        self.placed(layer)?.replacing(self.context.model, span, self.context.storage, tensors)
    }

    /// Reads `layer` in the element types in which the result is stored, and uploads it.
    ///
    /// # Errors
    /// Those of [`Runner::fetch`], [`LayerFetch::finish`](crate::model::weights::fetch::LayerFetch::finish)
    /// and [`Runner::upload`].
    pub async fn upload(&self, layer: &NewLayer) -> Result<DecoderLayer> {
        self.upload_stored(&self.placed(layer.clone())?, self.context.storage).await
    }

    /// Reads layer `layer` of the original in its own element types, however the result is stored, and
    /// uploads it.
    ///
    /// # Errors
    /// Those of [`upload`](Self::upload).
    pub async fn original(&self, layer: usize) -> Result<DecoderLayer> {
        self.upload_stored(&NewLayer::original(layer), Storage::of(self.context.model)).await
    }

    async fn upload_stored(&self, layer: &NewLayer, storage: Storage) -> Result<DecoderLayer> {
        self.runner.upload(self.runner.fetch(layer, storage)?.finish().await?)
    }

    /// Creates the problems of the fitted and of the held-out rows, both still without rows, with `m`
    /// regressors and `hidden` targets.
    ///
    /// # Errors
    /// [`Error::Usage`] if `m` is 0, [`Error::Limit`] if there is no memory for the problems.
    pub fn systems(&self, m: usize) -> Result<Systems> {
        let d = self.context.model.config.hidden_size;
        Ok(Systems { fit: Normal::new(m, d)?, held_out: Normal::new(m, d)? })
    }

    /// Adds the rows of chunk `place`: regressors `z` `[n, m]`, targets `y` `[n, hidden]` and weights `w`
    /// `[n]`, all row-major. Rows of held-out sequences go to the problem of the held-out rows, all others to
    /// the problem of the fitted rows.
    ///
    /// # Errors
    /// [`Error::Internal`] if the chunk does not consist of whole sequences of the text or rows are missing,
    /// and those of [`Normal::add`].
    pub fn add(&self, systems: &mut Systems, place: usize, z: &[f32], y: &[f32], w: &[f32]) -> Result<()> {
        let tokens = self.context.sequences.tokens();
        let first = place * sequences_per_chunk(tokens);
        let n_sequences = w.len() / tokens.max(1);
        let flags =
            self.held_out.get(first..first + n_sequences).or_internal("a chunk is of no sequences")?;
        if n_sequences * tokens != w.len() {
            return Err(Error::internal("a chunk holds part of a sequence"));
        }
        let mut at = 0;
        for alike in flags.chunk_by(|a, b| a == b) {
            let n = alike.len() * tokens;
            let rows = |width: usize| at * width..(at + n) * width;
            let (m, d) = (z.len() / w.len().max(1), y.len() / w.len().max(1));
            let missing = "rows of a fit are missing";
            let z = z.get(rows(m)).or_internal(missing)?;
            let (y, w) = (y.get(rows(d)).or_internal(missing)?, w.get(rows(1)).or_internal(missing)?);
            match alike.first() {
                Some(true) => systems.held_out.add(z, y, w)?,
                _ => systems.fit.add(z, y, w)?,
            }
            at += n;
        }
        Ok(())
    }
}

/// Least-squares problems of the fitted rows, and of the held-out rows, which choose the strength of the
/// ridge.
pub struct Systems {
    /// Problem of the fitted rows.
    pub fit: Normal,
    /// Problem of the held-out rows.
    pub held_out: Normal,
}

impl Systems {
    /// Solves the ridge about `start` `[targets, m]`, row-major, on all rows, with the strength from
    /// [`STRENGTHS`] that is best on the held-out rows.
    ///
    /// # Errors
    /// Those of [`ridge_on_all`].
    pub fn solve(&mut self, start: &[f32]) -> Result<Refit> {
        ridge_on_all(&mut self.fit, &self.held_out, start, &STRENGTHS)
    }

    /// Returns both problems with only the regressors `indices`, in that order.
    ///
    /// # Errors
    /// Those of [`Normal::subset`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        Ok(Self { fit: self.fit.subset(indices)?, held_out: self.held_out.subset(indices)? })
    }
}

/// Returns how many of `n` sequences are held out.
pub fn n_held_out(n: usize) -> usize {
    (n / HELD_OUT).max(1)
}

/// Returns for each of `n` sequences whether it is held out: one in [`HELD_OUT`] and at least one, evenly
/// spread from the first to the last. Of two or more sequences, not all are held out.
fn held_out(n: usize) -> Vec<bool> {
    let mut flags = vec![false; n];
    let n_held_out = n_held_out(n);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_held_out_evenly() {
        let places =
            |n| held_out(n).iter().enumerate().filter(|(_, x)| **x).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(places(2), [0]);
        assert_eq!(places(10), [0, 9]);
        assert_eq!(places(16), [0, 8, 15]);
        assert_eq!(places(40).len(), 8);
    }
}
