//! A layer of a compressed model: the original layers or computed values that each of its tensors is made of.

use std::sync::Arc;

use super::file_type::Place;
use super::new_experts::NewExperts;
use super::storage::{EXACT, Storage};
use crate::error::OrInternal;
use crate::files::scratch::{Held, Scratch};
use crate::format::Container;
use crate::format::element::{Element, encode, encode_weighted};
use crate::format::packed::{Rounded, Scheme};
use crate::format::stored::Stored;
use crate::maths::mix::Mix;
use crate::model::architectures::Scaling;
use crate::model::importances::LayerImportances;
use crate::model::tensors::{Role, TensorId};
use crate::model::{Config, Model};
use crate::{Error, Result};

/// A layer of a compressed model.
///
/// Most tensors of the layer are the same [`Mix`] of original layers. The output and down projections, which
/// add to the residual stream, may be scaled, and single tensors may be replaced by values that were computed
/// from activations. Experts are those of the layer of largest weight, unless some were removed or others are set.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLayer {
    mix: Mix,
    scale: f64,
    /// Computed tensors, encoded for storage, with the rows in the order of the model's files.
    replaced: Vec<(Role, Computed)>,
    /// Experts of the layer; `None` for all experts of the layer of largest weight.
    experts: Option<NewExperts>,
    /// Place among the layers of the new model; `None` for the place of the layer of largest weight in the original.
    place: Option<Place>,
    /// Layers that are no part of the mix but whose scales of the stream the layer takes over, ascending.
    covered: Vec<usize>,
    /// Importances by which tensors of the layer are encoded, if they are by any.
    importances: Option<Arc<LayerImportances>>,
    /// Computed matrices in F16, which are encoded in blocks in `replaced`, until they are rounded by what their inputs are.
    exact: Vec<(Role, Computed)>,
    /// Matrices that are rounded already, in place of what they were made of.
    packed: Vec<(Role, RoundedMatrix)>,
}

/// A tensor of a layer that was computed, encoded for storage, in memory or in a scratch space.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// Element type.
    pub element: Element,
    bytes: Held,
}

impl Computed {
    /// Returns the tensor, which is read if it is not in memory.
    ///
    /// # Errors
    /// Those of [`Held::read`].
    pub async fn read(&self) -> Result<Stored> {
        Ok(Stored { element: self.element, bytes: self.bytes.read().await?.into_owned() })
    }
}

impl From<Stored> for Computed {
    fn from(stored: Stored) -> Self {
        Self { element: stored.element, bytes: stored.bytes.into() }
    }
}

/// A matrix of a layer on the grid in which it will be packed, with the rows in the order of the model's files. Codes of 4
/// bits take 4 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundedMatrix {
    /// How the matrix is packed.
    pub scheme: Scheme,
    /// Element type of the scales, in which the weights are made.
    pub element: Element,
    /// Codes of the weights, two in a byte if they are of 4 bits.
    codes: Held,
    /// Scales, as `f32` in the byte order of the machine.
    scales: Held,
    /// Zero points.
    zeros: Held,
    /// Number of weights.
    values: usize,
}

/// Bits of a code of which two share a byte.
const HALF_BITS: u32 = 4;

impl RoundedMatrix {
    /// Makes a matrix of what it was rounded to.
    pub fn new(scheme: Scheme, element: Element, rounded: Rounded) -> Self {
        let values = rounded.codes.len();
        let codes = match scheme.bits {
            HALF_BITS => {
                let pair = |pair: &[u8]| match *pair {
                    [low, high] => low | high << HALF_BITS,
                    [low] => low,
                    _ => 0,
                };
                rounded.codes.chunks(2).map(pair).collect()
            }
            _ => rounded.codes,
        };
        let scales = bytemuck::cast_slice(&rounded.scales).to_vec();
        Self {
            scheme,
            element,
            codes: Held::from(codes),
            scales: scales.into(),
            zeros: rounded.zeros.into(),
            values,
        }
    }

    /// Returns what the matrix was rounded to, which is read if it is not in memory.
    ///
    /// # Errors
    /// Those of [`Held::read`].
    pub async fn rounded(&self) -> Result<Rounded> {
        let codes = self.codes.read().await?;
        let codes = match self.scheme.bits {
            HALF_BITS => {
                let pairs = codes.iter().flat_map(|pair| [pair & 0xf, pair >> HALF_BITS]);
                pairs.take(self.values).collect()
            }
            _ => codes.into_owned(),
        };
        let scales = bytemuck::pod_collect_to_vec(&self.scales.read().await?);
        Ok(Rounded { codes, scales, zeros: self.zeros.read().await?.into_owned() })
    }

    /// Returns the weights, of which a row has `columns`.
    ///
    /// # Errors
    /// Those of [`rounded`](Self::rounded) and [`Scheme::weights`].
    pub async fn weights(&self, columns: usize) -> Result<Stored> {
        let bytes = self.scheme.weights(self.element, columns, &self.rounded().await?)?;
        Ok(Stored { element: self.element, bytes })
    }
}

impl NewLayer {
    /// Returns all layers of the original, unchanged.
    pub fn originals(model: &Model) -> Vec<Self> {
        (0..model.config.n_layers).map(Self::original).collect()
    }

    /// Returns the original layer `layer`, unchanged.
    pub fn original(layer: usize) -> Self {
        Self::mixed(Mix::original(layer))
    }

    /// Returns the layer in which every tensor is mixed by `mix`.
    pub fn mixed(mix: Mix) -> Self {
        Self {
            mix,
            scale: 1.0,
            replaced: Vec::new(),
            experts: None,
            place: None,
            covered: Vec::new(),
            importances: None,
            exact: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Sets the place among the layers of the new model, by which some file types choose element types
    /// ([`Storage::placed`]).
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Returns the place among the layers of the new model, or, if none was set, that of the layer of largest weight in
    /// the original, whose configuration is `config`; any place if `storage` does not go by places.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layer is made of no layers.
    pub fn place(&self, config: &Config, storage: Storage) -> Result<Place> {
        match self.place {
            Some(place) => Ok(place),
            None if !storage.goes_by_place() => Ok(Place::default()),
            None => {
                let places = Place::of_all(config, &config.layers);
                places.get(self.mix.survivor()?).copied().or_internal("a layer is of none of the original")
            }
        }
    }

    /// Says that the layer takes the place of the layers `group` in a model with the configuration `config`. Where layers
    /// multiply the stream by a number of their own, it multiplies by the product of theirs, so that the stream stays as
    /// large as it was. Elsewhere nothing changes.
    #[must_use]
    pub fn covering(mut self, config: &Config, group: &[usize]) -> Self {
        if config.architecture.scaling == Scaling::Layers {
            let own = self.mix.parts().iter().map(|(layer, _)| *layer).collect::<Vec<_>>();
            self.covered.extend(group.iter().filter(|layer| !own.contains(layer)));
            self.covered.sort_unstable();
            self.covered.dedup();
        }
        self
    }

    /// Returns the layers of the original that the layer is made of, and those whose place it takes besides, ascending.
    pub fn replaced_layers(&self) -> Vec<usize> {
        let own = self.mix.parts().iter().map(|(layer, _)| *layer);
        let mut layers: Vec<usize> = own.chain(self.covered.iter().copied()).collect();
        layers.sort_unstable();
        layers
    }

    /// Multiplies by `scale` what the layer adds to the residual stream: its output and down projections and
    /// their biases, or the norms after attention and the MLP.
    #[must_use]
    pub fn scaled(mut self, scale: f64) -> Self {
        self.scale *= scale;
        self
    }

    /// Removes all experts but those at the places that `kept` lists for the layer of the original that the experts are
    /// of. `kept` has a list for each layer of the original, which is empty where nothing is removed; an empty `kept`
    /// removes nothing.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layer is made of no layers, or an expert is kept that it does not have.
    pub fn keeping(mut self, kept: &[Vec<usize>]) -> Result<Self> {
        let survivor = self.mix.survivor()?;
        if let Some(kept) = kept.get(survivor).filter(|kept| !kept.is_empty()) {
            self.experts = Some(match &self.experts {
                Some(experts) => experts.at(kept)?,
                None => NewExperts::copies(survivor, kept.iter().copied()),
            });
        }
        Ok(self)
    }

    /// Sets the experts of the layer.
    #[must_use]
    pub fn with_experts(self, experts: NewExperts) -> Self {
        Self { experts: Some(experts), ..self }
    }

    /// Sets the importances by which tensors of the layer are encoded, if they are by any: those that are mixed or stored in
    /// another element type. Computed tensors are encoded already.
    #[must_use]
    pub fn weighted_by(self, importances: Option<Arc<LayerImportances>>) -> Self {
        Self { importances, ..self }
    }

    /// Returns the importances by which tensors of the layer are encoded, if they are by any.
    pub fn all_importances(&self) -> Option<&Arc<LayerImportances>> {
        self.importances.as_ref()
    }

    /// Returns the importances by which the columns of the matrix of `role` are encoded, of an expert if one is given, in
    /// the order in which a file of kind `container` holds them; `None` if it is not encoded by any.
    ///
    /// # Errors
    /// Those of [`Form::columns_written`](crate::model::binding::Form::columns_written).
    pub fn importances(
        &self,
        config: &Config,
        container: Container,
        role: Role,
        expert: Option<usize>,
    ) -> Result<Option<Vec<f32>>> {
        let Some(means) = self.importances.as_ref().and_then(|all| all.means(role, expert)) else {
            return Ok(None);
        };
        // The form of a tensor goes by its role.
        let form = config.form(container, TensorId::Layer(0, role));
        form.columns_written(means).map(Some)
    }

    /// Returns the experts that were chosen or made for the layer; `None` for all experts of the layer of largest
    /// weight, unchanged.
    pub fn experts(&self) -> Option<&NewExperts> {
        self.experts.as_ref()
    }

    /// Returns the experts of the layer, whether they were chosen or are those of the layer of largest weight, in a model
    /// with the configuration `config`; none if no layer has experts.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layer is made of no layers.
    pub fn all_experts(&self, config: &Config) -> Result<NewExperts> {
        match &self.experts {
            Some(experts) => Ok(experts.clone()),
            None => {
                let count = config.experts.map_or(0, |experts| experts.count);
                Ok(NewExperts::copies(self.mix.survivor()?, 0..count))
            }
        }
    }

    /// Replaces tensors of the layer by computed ones, which are row-major and as the arithmetic reads them. Their
    /// element type is that of a merge of the layers `span` under `storage`; they are encoded by the importances of the
    /// layer, if it has any. Where `storage` rounds blocks by what their inputs are, their numbers are kept beside until then.
    ///
    /// # Errors
    /// [`Error::Format`] if the model lacks a tensor, [`Error::Internal`] if `span` is empty or a tensor has
    /// the wrong number of values, and those of [`encode_weighted`] and [`Form::write`](crate::model::binding::Form::write).
    pub fn replacing(
        mut self,
        model: &Model,
        span: &[usize],
        storage: Storage,
        tensors: Vec<(Role, Vec<f32>)>,
    ) -> Result<Self> {
        let place = self.place(&model.config, storage)?;
        for (role, values) in tensors {
            self.replaced.retain(|(each, _)| *each != role);
            self.exact.retain(|(each, _)| *each != role);
            // The span may have layers of several kinds.
            let layer = self.mix.survivor()?;
            let element = computed_element(model, layer, span.iter().copied(), role, storage, place)?;
            let id = TensorId::Layer(layer, role);
            let expected: u64 = id.shape(&model.config).iter().product();
            if values.len() as u64 != expected {
                return Err(Error::internal(format!(
                    "{} values were computed for tensor {}, which has {expected}",
                    values.len(),
                    model.describe(id)
                )));
            }
            let stored = model.form(id).write(Stored::from_f32(&values))?;
            let importances = self.importances(&model.config, model.container(), role, None)?;
            let values = stored.to_f32()?;
            let bytes = encode_weighted(element, &values, importances.as_deref());
            let bytes = bytes.map_err(|e| e.in_tensor(&model.describe(id)))?;
            if storage.rounds_blocks() && matches!(element, Element::Block(_)) {
                self.exact.push((role, Stored { element: EXACT, bytes: encode(EXACT, &values)? }.into()));
            }
            self.replaced.push((role, Stored { element, bytes }.into()));
        }
        Ok(self)
    }

    /// Replaces tensors of the layer by others that are encoded for storage, with the rows in the order of the model's files.
    #[must_use]
    pub fn storing(mut self, tensors: Vec<(Role, Computed)>) -> Self {
        self.replaced.retain(|(role, _)| tensors.iter().all(|(each, _)| each != role));
        self.replaced.extend(tensors);
        self
    }

    /// Returns the computed matrices that are encoded in blocks as they were before, in F16 and with the rows in the order of
    /// the model's files, if they are to be rounded by what their inputs are.
    pub fn exact(&self) -> &[(Role, Computed)] {
        &self.exact
    }

    /// Sets what [`exact`](Self::exact) returns.
    #[must_use]
    pub fn with_exact(self, tensors: Vec<(Role, Computed)>) -> Self {
        Self { exact: tensors, ..self }
    }

    /// Returns the layer with its computed matrices as they were before they were encoded in blocks, where that is known.
    #[must_use]
    pub fn unencoded(self) -> Self {
        let exact = self.exact.clone();
        self.storing(exact)
    }

    /// Sets the computed tensors of the layer, encoded as [`computed`](Self::computed) returns them.
    #[must_use]
    pub fn with_computed(self, tensors: Vec<(Role, Computed)>) -> Self {
        Self { replaced: tensors, ..self }
    }

    /// Returns the computed tensors, encoded for storage, with the rows in the order of the model's files.
    pub fn computed(&self) -> &[(Role, Computed)] {
        &self.replaced
    }

    /// Replaces matrices of the layer by those that are rounded already.
    #[must_use]
    pub fn packing(mut self, matrices: Vec<(Role, RoundedMatrix)>) -> Self {
        self.packed.retain(|(role, _)| matrices.iter().all(|(each, _)| each != role));
        self.packed.extend(matrices);
        self
    }

    /// Moves all tensors that were computed or rounded from memory into `scratch`, where they are read from when they are
    /// needed.
    #[must_use]
    pub async fn spilled(mut self, scratch: &Scratch) -> Self {
        let computed = self.replaced.iter_mut().chain(&mut self.exact).map(|(_, tensor)| &mut tensor.bytes);
        let packed = self.packed.iter_mut();
        let packed =
            packed.flat_map(|(_, RoundedMatrix { codes, scales, zeros, .. })| [codes, scales, zeros]);
        scratch.take(computed.chain(packed).collect()).await;
        self
    }

    /// Returns the matrix of `role` if it is rounded already.
    pub fn packed(&self, role: Role) -> Option<&RoundedMatrix> {
        self.packed.iter().find(|(each, _)| *each == role).map(|(_, matrix)| matrix)
    }

    /// Returns the original layers in the mix and their weights.
    pub fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Returns the factor by which the tensor of `role` is multiplied: the scale of the layer for what decides how much
    /// the layer adds to the residual stream, 1 otherwise. That is the weight of the norms after attention, the MLP and the
    /// layer's own input where a layer has them, and else the output and down projections and their biases. The gate of the
    /// layer's own input, which reads the stream as it is, is divided by the scale.
    pub fn factor(&self, role: Role, config: &Config) -> f64 {
        let decides = match role {
            Role::AttentionAfterNorm | Role::MlpAfterNorm | Role::InputAfterNorm => true,
            // The gate reads the stream as it is.
            Role::InputGate => return 1.0 / self.scale,
            role => role.writes() && !config.architecture.norms_after(),
        };
        if decides { self.scale } else { 1.0 }
    }

    /// Returns the computed tensor for `role`; `None` if the tensor is not computed.
    pub fn replaced(&self, role: Role) -> Option<&Computed> {
        self.replaced.iter().find(|(each, _)| *each == role).map(|(_, stored)| stored)
    }

    /// Returns the original layers in the mix of the tensor of `role` and their weights: what goes with experts is that
    /// of the layer of largest weight.
    ///
    /// # Errors
    /// [`Error::Internal`] if the layer is made of no layers.
    pub fn mix_of(&self, role: Role) -> Result<Mix> {
        if role.goes_with_experts() { self.mix.survivor().map(Mix::original) } else { Ok(self.mix.clone()) }
    }

    /// Returns the layer of the original of which the tensor of `role` is a copy, byte for byte if the element type stays
    /// the same; `None` if the tensor is computed.
    pub fn copied_from(&self, role: Role, config: &Config) -> Option<usize> {
        // The rows of a router and of its bias go with the experts that they score.
        if role.has_row_per_expert() && self.experts.is_some() {
            return None;
        }
        if role == Role::LayerScale && !self.covered.is_empty() {
            return None;
        }
        let source = self.mix_of(role).ok()?.unchanged();
        let is_set = self.replaced(role).is_some() || self.packed(role).is_some();
        source.filter(|_| self.factor(role, config) == 1.0 && !is_set)
    }

    /// Returns the element type in which the tensor of `role` is stored.
    ///
    /// # Errors
    /// [`Error::Format`] if the model lacks the tensor.
    pub fn element(&self, model: &Model, role: Role, storage: Storage) -> Result<Element> {
        if let Some(matrix) = self.packed(role) {
            return Ok(matrix.element);
        }
        if let Some(stored) = self.replaced(role) {
            return Ok(stored.element);
        }
        let place = self.place(&model.config, storage)?;
        if let Some(experts) = self.experts.as_ref().filter(|_| role.has_row_per_expert()) {
            return computed_element(
                model,
                self.mix.survivor()?,
                experts.layers().into_iter(),
                role,
                storage,
                place,
            );
        }
        match self.copied_from(role, &model.config) {
            Some(layer) => {
                let entry = model.entry(TensorId::Layer(layer, role))?;
                Ok(storage.element(model, entry.id, entry.element, false, place))
            }
            None => {
                let mix = self.mix_of(role)?;
                let parts = mix.parts().iter().map(|(layer, _)| *layer);
                computed_element(model, mix.survivor()?, parts, role, storage, place)
            }
        }
    }
}

/// Returns the element type of a tensor that is computed from the tensors of `layers`: the widest of their
/// types, as `storage` stores it in a layer of the kind of layer `own` at `place`.
fn computed_element(
    model: &Model,
    own: usize,
    layers: impl Iterator<Item = usize>,
    role: Role,
    storage: Storage,
    place: Place,
) -> Result<Element> {
    let mut widest = None;
    for layer in layers {
        // Layers of other kinds lack the tensor.
        let Some(entry) = model.tensor(TensorId::Layer(layer, role)) else { continue };
        let element = entry.element;
        widest = Some(widest.map_or(element, |wide: Element| wide.wider(element)));
    }
    let widest = widest.or_internal("no part of a merged layer has a tensor of it")?;
    Ok(storage.element(model, TensorId::Layer(own, role), widest, true, place))
}
