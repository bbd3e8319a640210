//! The new model while it is healed: its layers on the device, and the weights of those that are trained.

use burn::tensor::Tensor;

use super::adam::{Weights, shortened};
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::forward::sequences::Sequences;
use crate::forward::states::{HiddenStates, to_host};
use crate::model::Model;
use crate::model::config::{FeedForward, Mixer};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::gradients::Gradients;
use crate::model::tensors::Role;
use crate::model::weights::fetch::LayerTensors;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::{Rounding, Storage};
use crate::plan::MergePlan;
use crate::{Error, Result};

/// Matrices that are trained.
const MATRICES: [Role; 7] =
    [Role::Query, Role::Key, Role::Value, Role::Output, Role::Gate, Role::Up, Role::Down];

/// Most bytes, as they are stored, of layers that stay on the device; further layers are read for each step.
const RESIDENT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 512 << 20 } else { 2 << 30 };

/// Checks, before any layer runs, that the model of `plan` can be healed where it is stored as `storage` says.
///
/// # Errors
/// [`Error::Usage`] if the plan makes no layer of several; those of [`check_layers`] for the layers from the first of those on.
pub fn check(model: &Model, plan: &MergePlan, storage: Storage) -> Result<()> {
    let Some(lowest) = places(plan).first().copied() else {
        return Err(Error::Usage(
            "healing trains the layers that were made of several, and this plan makes none".to_owned(),
        ));
    };
    let layers = (lowest..plan.groups.len()).filter_map(|place| plan.survivor(place));
    check_layers(model, layers, storage)
}

/// Checks that gradients go through `layers` of the original, and that a model that is stored as `storage` says can be healed.
///
/// # Errors
/// [`Error::Unsupported`], naming the layer, if no gradient goes through one, or if weights are rounded by what their inputs
/// are.
pub fn check_layers(model: &Model, layers: impl Iterator<Item = usize>, storage: Storage) -> Result<()> {
    if storage.pack.is_some() || storage.rounding != Rounding::Nearest {
        return Err(Error::Unsupported(
            "a model is healed before its weights are rounded by what their inputs are: heal it in another type, and round \
             the model that was written"
                .to_owned(),
        ));
    }
    let config = &model.config;
    for layer in layers {
        let kind = config.kind(layer)?;
        let of = match (kind.mixer, kind.feed_forward) {
            (_, FeedForward::Experts) => "experts",
            (Mixer::Attention, _) if kind.shares_keys || config.owners().contains(&layer) => {
                "keys and values that layers share"
            }
            (Mixer::Attention, _) if config.layer_input.is_some() => "an input of its own",
            (Mixer::Attention, _) => continue,
            _ => "another mixer than attention",
        };
        return Err(Error::Unsupported(format!(
            "layer {layer} has {of}, through which no gradient goes, so this model cannot be healed"
        )));
    }
    Ok(())
}

/// Returns the places of the layers that `plan` makes of several.
fn places(plan: &MergePlan) -> Vec<usize> {
    plan.groups.iter().enumerate().filter(|(_, group)| group.len() > 1).map(|(place, _)| place).collect()
}

/// A layer that is trained.
struct Trained {
    place: usize,
    /// Layers of the original that it was made of.
    span: Vec<usize>,
    /// Its other tensors.
    tensors: LayerTensors,
    matrices: Vec<(Role, Weights)>,
    /// Gradients of the matrices in this step, in the same order.
    gradients: Vec<Vec<f32>>,
}

/// The new model while it is healed.
pub struct Student<'a> {
    context: Context<'a>,
    runner: Runner<'a>,
    layers: Vec<NewLayer>,
    /// Layers that stay on the device and are not trained.
    resident: Vec<Option<DecoderLayer>>,
    /// Layers that are trained, ascending.
    trained: Vec<Trained>,
    /// The trained layers in this step.
    uploaded: Vec<DecoderLayer>,
    steps: u64,
}

/// States that enter each layer from the lowest trained one on, and those that leave the last.
pub struct Passed(Vec<HiddenStates>);

impl Passed {
    /// Returns the states that leave the last layer.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are none.
    pub fn last(&self) -> Result<&HiddenStates> {
        self.0.last().or_internal("a model without layers was run")
    }
}

impl<'a> Student<'a> {
    /// Reads the weights of the model of `layers`, which `plan` made and which can be healed ([`check`]).
    ///
    /// # Errors
    /// Those of reading layers.
    pub async fn new(context: &Context<'a>, plan: &MergePlan, layers: Vec<NewLayer>) -> Result<Self> {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens())?;
        let (mut resident, mut trained) = (Vec::with_capacity(layers.len()), Vec::new());
        let mut left = RESIDENT_BYTES;
        let places = places(plan);
        for (place, layer) in layers.iter().enumerate() {
            let tensors = runner.fetch(layer, context.storage)?.finish().await?;
            if places.contains(&place) {
                let span = plan.groups.get(place).cloned().or_internal("a layer is of no group")?;
                trained.push(Trained::new(place, span, tensors)?);
                resident.push(None);
                continue;
            }
            let bytes = tensors.tensors.iter().map(|(_, stored)| stored.bytes.len() as u64).sum();
            resident.push(match left.checked_sub(bytes) {
                Some(rest) => {
                    left = rest;
                    Some(runner.upload(tensors)?)
                }
                None => None,
            });
        }
        Ok(Self { context: *context, runner, layers, resident, trained, uploaded: Vec::new(), steps: 0 })
    }

    /// Returns the layers as they were.
    pub fn layers(&self) -> &[NewLayer] {
        &self.layers
    }

    /// Returns the places of the layers that are trained.
    pub fn places(&self) -> Vec<usize> {
        self.trained.iter().map(|each| each.place).collect()
    }

    /// Returns the number of weights that are trained.
    pub fn parameters(&self) -> u64 {
        let matrices = self.trained.iter().flat_map(|each| &each.matrices);
        matrices.map(|(_, weights)| weights.values.len() as u64).sum()
    }

    /// Returns the layers with their weights as they are now, encoded as they will be stored.
    ///
    /// # Errors
    /// Those of [`NewLayer::replacing`].
    pub fn stored(&self) -> Result<Vec<NewLayer>> {
        let mut layers = self.layers.clone();
        for each in &self.trained {
            let layer = layers.get_mut(each.place).or_internal("a layer that is trained is not there")?;
            *layer = each.stored(&self.context, layer.clone())?;
        }
        Ok(layers)
    }

    /// Runs `sequences` through the model. Weights are `rounded` as they will be stored, or as they are.
    ///
    /// # Errors
    /// Those of running layers.
    pub async fn forward(&mut self, sequences: &Sequences, rounded: bool) -> Result<Passed> {
        self.uploaded.clear();
        for each in &self.trained {
            let tensors = match rounded {
                true => {
                    let layer = self.layers.get(each.place).cloned();
                    let layer = each.stored(&self.context, layer.or_internal("a layer is not there")?)?;
                    self.runner.fetch(&layer, self.context.storage)?.finish().await?
                }
                false => each.exact(),
            };
            self.uploaded.push(self.runner.upload(tensors)?);
        }
        let mut states = self.runner.embed(sequences, self.context.storage).await?;
        let lowest = self.trained.first().map_or(0, |each| each.place);
        let mut passed = Vec::new();
        for place in 0..self.layers.len() {
            if place >= lowest {
                passed.push(states.clone());
            }
            let layer = self.layer(place).await?;
            states = self.runner.forward(&layer, &states).await?;
        }
        passed.push(states);
        Ok(Passed(passed))
    }

    /// Goes back through the model, from the gradients `dy` `[sequences, tokens, hidden]` of each chunk of what left it.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::backward`], and [`Error::Device`] if the device fails.
    pub async fn backward(&mut self, passed: Passed, mut dy: Vec<Tensor<3>>) -> Result<()> {
        let mut entering = passed.0;
        entering.pop();
        let first = self.layers.len() - entering.len();
        for place in (first..self.layers.len()).rev() {
            let layer = self.layer(place).await?;
            let trained = self.trained.iter_mut().find(|each| each.place == place);
            let roles: Vec<Role> = match &trained {
                Some(each) => each.matrices.iter().map(|(role, _)| *role).collect(),
                None => Vec::new(),
            };
            let mut gradients = Gradients::of(&roles);
            let states = entering.pop().or_internal("states of a layer were not kept")?;
            for (x, dy) in states.chunks.into_iter().zip(&mut dy) {
                *dy = layer.backward(x, self.runner.positions(), dy.clone(), &mut gradients)?;
            }
            if let Some(trained) = trained {
                trained.gradients.clear();
                let found = gradients.into_found();
                for role in roles {
                    let gradient = found.iter().find(|(each, _)| *each == role);
                    let (_, gradient) = gradient.or_internal("a gradient is missing")?;
                    trained.gradients.push(to_host(gradient.clone(), "while healing").await?);
                }
            }
        }
        Ok(())
    }

    /// Steps along the gradients of the last [`backward`](Self::backward). Returns whether they are all finite; weights stay
    /// as they are if not.
    pub fn update(&mut self, rate: f64) -> bool {
        let factor = shortened(self.trained.iter().flat_map(|each| each.gradients.iter().map(Vec::as_slice)));
        if !factor.is_finite() || factor == 0.0 {
            return false;
        }
        for each in &mut self.trained {
            for ((_, weights), gradient) in each.matrices.iter_mut().zip(&each.gradients) {
                weights.step(gradient, factor, rate, self.steps);
            }
        }
        self.steps += 1;
        true
    }

    /// Returns the layer at `place`, which is read if it does not stay on the device.
    async fn layer(&self, place: usize) -> Result<DecoderLayer> {
        if let Some(trained) = self.trained.iter().position(|each| each.place == place) {
            return self
                .uploaded
                .get(trained)
                .cloned()
                .or_internal("a layer that is trained was not uploaded");
        }
        if let Some(layer) = self.resident.get(place).and_then(Option::as_ref) {
            return Ok(layer.clone());
        }
        let layer = self.layers.get(place).or_internal("a layer is not there")?;
        self.runner.upload(self.runner.fetch(layer, self.context.storage)?.finish().await?)
    }
}

impl Trained {
    fn new(place: usize, span: Vec<usize>, mut tensors: LayerTensors) -> Result<Self> {
        let is_trained = |(role, _): &mut (Role, Stored)| MATRICES.contains(role);
        let matrices = tensors.tensors.extract_if(.., is_trained);
        let matrices = matrices.map(|(role, stored)| Ok((role, Weights::new(stored.to_f32()?))));
        let matrices = matrices.collect::<Result<_>>()?;
        Ok(Self { place, span, tensors, matrices, gradients: Vec::new() })
    }

    /// Returns the tensors of the layer with the weights as they are.
    fn exact(&self) -> LayerTensors {
        let mut tensors = self.tensors.clone();
        let exact = self.matrices.iter().map(|(role, weights)| (*role, Stored::from_f32(&weights.values)));
        tensors.tensors.extend(exact);
        tensors
    }

    /// Returns `layer` with the weights encoded as they will be stored.
    fn stored(&self, context: &Context<'_>, layer: NewLayer) -> Result<NewLayer> {
        let tensors = self.matrices.iter().map(|(role, weights)| (*role, weights.values.clone())).collect();
        layer.replacing(context.model, &self.span, context.storage, tensors)
    }
}
