//! Choice of the element type in which a tensor of a compressed model is stored.

use std::borrow::Cow;
use std::sync::Arc;

use super::file_type::{FileType, Place};
use super::new_layer::NewLayer;
use crate::Result;
use crate::format::Container;
use crate::format::element::Element;
use crate::format::packed::{Layout, Scheme};
use crate::model::architectures::{ExpertNames, GgufHead};
use crate::model::importances::LayerImportances;
use crate::model::open::TensorEntry;
use crate::model::packing::Packing;
use crate::model::tensors::{Role, TensorId};
use crate::model::{Config, Model};
use crate::named::named;

named! {
    /// Which tensors are stored in the file type that is asked for.
    Requantise, "choice of what to requantise" {
        /// All matrices of the model.
        #[default]
        All = "all",
        /// Those that are computed, because they are merged, scaled or fitted; the others are copied.
        Computed = "computed",
    }
}

named! {
    /// How the weights of matrices that are packed or encoded in blocks on request are rounded to their grids.
    Rounding, "way of rounding" {
        /// Each to the nearest number.
        #[default]
        Nearest = "nearest",
        /// One column after the other, of which the later ones make up for what the earlier ones lost on the calibration
        /// text: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023.
        Gptq = "gptq",
        /// To the nearest, after columns that carry much were scaled up, with zero points: Lin and others, "AWQ:
        /// Activation-aware Weight Quantization for LLM Compression and Acceleration", MLSys 2024.
        Awq = "awq",
        /// To the nearest, after what is hard to round in the inputs was moved into the weights: Xiao, Lin, Seznec, Wu,
        /// Demouth and Han, "SmoothQuant", ICML 2023.
        SmoothQuant = "smoothquant",
    }
}

/// Kind of file and element types of a compressed model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Kind of file.
    pub container: Container,
    /// Requested file type. `None` keeps the type of each copied tensor and gives a merged tensor the widest type of its
    /// parts.
    pub dtype: Option<FileType>,
    /// Which tensors are stored in the requested file type.
    pub requantise: Requantise,
    /// Whether quantised tensors that are encoded are so by the importances of their columns, by which some file types go.
    pub weighted: bool,
    /// Scheme in which all matrices are packed that can be; `None` keeps those packed that are, unless a file type is
    /// asked for.
    pub pack: Option<Scheme>,
    /// How weights are rounded, if a scheme or a type of blocks is asked for.
    pub rounding: Rounding,
}

/// Element type of computed matrices before they are rounded to the grids of blocks.
pub(super) const EXACT: Element = Element::F16;

/// How a layer of a compressed model is stored, and with it its experts.
#[derive(Debug, Clone)]
pub struct LayerStorage {
    /// Kind of file and element types.
    pub storage: Storage,
    /// Place of the layer among those of its model, as far as its storage goes by the place.
    pub place: Place,
    /// Importances by which tensors are encoded, if they are by any.
    pub importances: Option<Arc<LayerImportances>>,
    /// Roles of the matrices, also of experts, of which what they multiply is rounded to 8 bits, each token by itself.
    pub rounds_inputs: Vec<Role>,
}

impl LayerStorage {
    /// Returns the storage of a layer whose place and importances do not matter.
    pub fn of(storage: Storage) -> Self {
        Self { storage, place: Place::default(), importances: None, rounds_inputs: Vec::new() }
    }
}

impl Storage {
    /// Returns the storage of `model` as it is now.
    pub fn of(model: &Model) -> Self {
        Self {
            container: model.container(),
            dtype: None,
            requantise: Requantise::All,
            weighted: false,
            pack: None,
            rounding: Rounding::Nearest,
        }
    }

    /// Whether matrices that are encoded in blocks are rounded by what their inputs are.
    pub fn rounds_blocks(&self) -> bool {
        let is_of_blocks = self.dtype.is_some_and(|dtype| matches!(dtype.element(), Element::Block(_)));
        self.rounding != Rounding::Nearest
            && self.pack.is_none()
            && self.container == Container::Gguf
            && is_of_blocks
    }

    /// Returns the storage in which operators make layers: where matrices are packed by what their inputs are, as in the
    /// original. Matrices that are encoded in blocks are encoded first, in any case, and keep their exact numbers beside
    /// ([`NewLayer::exact`]).
    #[must_use]
    pub fn before_rounding(self) -> Self {
        match self.rounding {
            Rounding::Nearest => self,
            _ if self.pack.is_none() => self,
            _ => Self { pack: None, rounding: Rounding::Nearest, ..self },
        }
    }

    /// Returns the storage in which layers are run and read before they are rounded by what their inputs are: copied tensors
    /// are as in the original; computed ones are in F16, where they will be encoded in blocks.
    #[must_use]
    pub fn exact(self) -> Self {
        match self.rounds_blocks() {
            true => Self {
                dtype: Some(FileType::of(EXACT)),
                requantise: Requantise::Computed,
                rounding: Rounding::Nearest,
                ..self
            },
            false => self.before_rounding(),
        }
    }

    /// Whether any tensor that is not merged changes its values: the embedding, the head, or one of a layer.
    pub fn changes(&self, model: &Model) -> bool {
        if self.pack.is_some() {
            return true;
        }
        let changed = |t: &TensorEntry| {
            let place = Place::default();
            self.element(model, t.id, t.element, false, place) != t.element
        };
        let copies = self.requantise == Requantise::All;
        copies && self.goes_by_place() || model.tensors().iter().any(changed)
    }

    /// Returns the number of layers of `model` before the first that has other values when it is stored: 0 if what enters the
    /// layers has, all if no layer has.
    pub fn unchanged_layers(&self, model: &Model) -> usize {
        let n_layers = model.config.n_layers;
        if self.pack.is_some() {
            return 0;
        }
        let places = Place::of_all(&model.config, &model.config.layers);
        let changed = model.tensors().iter().filter_map(|tensor| {
            let layer = match tensor.id {
                TensorId::FinalNorm | TensorId::Head => n_layers,
                id => id.layer().unwrap_or(0),
            };
            let place = places.get(layer).copied().unwrap_or_default();
            let element = self.element(model, tensor.id, tensor.element, false, place);
            let is_exact = matches!((tensor.element, element), (Element::F16 | Element::Bf16, Element::F32));
            (element != tensor.element && !is_exact).then_some(layer)
        });
        changed.min().unwrap_or(n_layers)
    }

    /// Whether the type of a matrix depends on the place of its layer among the layers of the new model.
    pub fn goes_by_place(&self) -> bool {
        self.dtype.is_some_and(FileType::goes_by_place)
    }

    /// Returns `layers`, all layers of a new model, each with its place among them, if the file type goes by the places
    /// of layers; else `layers` as they are.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if a layer is made of no layers.
    pub fn placed<'a>(&self, config: &Config, layers: &'a [NewLayer]) -> Result<Cow<'a, [NewLayer]>> {
        if !self.goes_by_place() {
            return Ok(Cow::Borrowed(layers));
        }
        let places = self.places(config, layers)?;
        Ok(layers.iter().zip(places).map(|(layer, place)| layer.clone().at(place)).collect())
    }

    /// Returns the places of `layers`, all layers of a new model.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if a layer is made of no layers.
    pub fn places(&self, config: &Config, layers: &[NewLayer]) -> Result<Vec<Place>> {
        let kinds = layers.iter().map(|layer| config.kind(layer.mix().survivor()?));
        Ok(Place::of_all(config, &kinds.collect::<Result<Vec<_>>>()?))
    }

    /// Returns the element type of tensor `id`, whose parts are stored as `parts` (the widest type, if the
    /// parts differ). `computed`: the tensor is not copied but calculated, so it must be encoded. `place` is that of the
    /// layer in the new model.
    ///
    /// - Vectors (norms and biases) and small tensors such as routers are never quantised. In GGUF files, vectors are always `F32`, because
    ///   llama.cpp multiplies by no other type.
    /// - safetensors files have no quantisation blocks, but of experts in MXFP4 where the architecture has them: other
    ///   quantised weights become `F16`.
    /// - A computed tensor is stored in the type of its parts, or a more precise one
    ///   ([`BlockType::stored_as`](crate::format::blocks::BlockType::stored_as)), unless a type is asked for.
    /// - A head that is quantised on request is never narrower than `Q6_K`, as with llama.cpp, because the
    ///   errors of the head go straight to the logits.
    pub fn element(
        &self,
        model: &Model,
        id: TensorId,
        parts: Element,
        computed: bool,
        place: Place,
    ) -> Element {
        let shape = id.shape(&model.config);
        let row = shape.last().copied().unwrap_or(1);
        // llama.cpp keeps routers and their likes as exact as vectors.
        let is_vector = shape.len() < 2 || id.role().is_some_and(Role::is_small);
        let asked = self.dtype.filter(|_| computed || self.requantise == Requantise::All);
        // llama.cpp does not quantise the projection to the inputs of all layers, either.
        let is_kept = id.role() == Some(Role::InputProjection)
            && matches!(parts, Element::F32 | Element::F16 | Element::Bf16);
        let asked = asked.filter(|asked| !(is_kept && matches!(asked.element(), Element::Block(_))));
        let stored = |asked: FileType| asked.stored(&model.config, id, place, self.weighted);
        match (self.container, asked) {
            (Container::Gguf, _) if is_vector => Element::F32,
            (Container::Gguf, Some(file_type)) if let Some(element) = stored(file_type) => {
                element.fitting(row)
            }
            (Container::Gguf, _) if computed => parts.storable(row),
            (Container::Gguf, _) => parts,
            (Container::Safetensors, Some(file_type)) if is_vector => match file_type.element() {
                Element::Block(_) => parts,
                float => float,
            },
            (Container::Safetensors, None)
                if !computed && matches!(id, TensorId::Expert(..)) && self.keeps_mxfp4(&model.config) =>
            {
                parts
            }
            (Container::Safetensors, asked) => match asked.map_or(parts, FileType::element) {
                Element::Block(_) => Element::F16,
                float => float,
            },
        }
    }

    /// Returns the element type of the output head. Where the embedding is the head, too, that is the type of the
    /// embedding, but for GGUF files that have to hold it twice.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if the model lacks the tensor.
    pub fn head(&self, model: &Model) -> Result<Element> {
        let entry = model.entry(model.head())?;
        let twice =
            self.container == Container::Gguf && model.config.architecture.gguf_head == GgufHead::Required;
        let id = if twice { TensorId::Head } else { entry.id };
        Ok(self.element(model, id, entry.element, false, Place::default()))
    }

    /// Returns the scheme in which the new tensor that comes of tensor `id` of `model` is packed, if it is: that of the
    /// first of its parts, unless another is asked for. A tensor that is copied keeps its pieces byte for byte, if no scheme
    /// is asked for.
    pub fn scheme(&self, model: &Model, id: TensorId) -> Option<Scheme> {
        match (self.container, self.dtype, self.pack) {
            (Container::Safetensors, None, Some(scheme)) => {
                id.can_be_packed(model.config.hugging_face_architecture()).then_some(scheme)
            }
            (Container::Safetensors, None, None) => {
                model.tensor(id).and_then(|entry| Some(entry.packed.as_ref()?.scheme))
            }
            _ => None,
        }
    }

    /// Returns whether programs that run the new model round what the matrix that comes of tensor `id` of `model` multiplies
    /// to 8 bits.
    pub fn rounds_inputs(&self, model: &Model, id: TensorId) -> bool {
        let is_said = match self.pack {
            Some(scheme) => scheme.layout == Layout::Bytes,
            None => model.config.packing.as_ref().is_some_and(|packing| packing.rounds_activations),
        };
        is_said && self.scheme(model, id).is_some()
    }

    /// Returns what `config.json` says about packed matrices, where a model with the configuration `config` is stored so.
    pub fn packing(&self, config: &Config) -> Option<Packing> {
        match (self.container, self.dtype, self.pack) {
            (Container::Safetensors, None, Some(scheme)) => Some(Packing::of_output(scheme, Vec::new())),
            (Container::Safetensors, None, None) => config.packing.clone(),
            _ => None,
        }
    }

    /// Returns whether the experts of a model with the configuration `config` stay in MXFP4 in a Hugging Face folder,
    /// which then holds all of them so.
    pub fn keeps_mxfp4(&self, config: &Config) -> bool {
        let names = config.hugging_face_architecture().experts.map(|experts| experts.names);
        let copies = self.dtype.is_none() || self.requantise == Requantise::Computed;
        self.container == Container::Safetensors
            && copies
            && config.mxfp4_experts
            && names == Some(ExpertNames::InTurns)
    }
}
