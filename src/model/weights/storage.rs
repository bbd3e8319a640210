//! Choice of the element type in which a tensor of a compressed model is stored.

use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::format::packed::Scheme;
use crate::model::architectures::ExpertNames;
use crate::model::open::TensorEntry;
use crate::model::packing::Packing;
use crate::model::tensors::{Role, TensorId};
use crate::model::{Config, Model};

/// Kind of file and element type of a compressed model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Kind of file.
    pub container: Container,
    /// Requested element type. `None` keeps the type of each copied tensor and gives a merged tensor the
    /// widest type of its parts.
    pub dtype: Option<Element>,
    /// Scheme in which all matrices are packed that can be; `None` keeps those packed that are, unless an element type is
    /// asked for.
    pub pack: Option<Scheme>,
}

impl Storage {
    /// Returns the storage of `model` as it is now.
    pub fn of(model: &Model) -> Self {
        Self { container: model.container(), dtype: None, pack: None }
    }

    /// Whether any tensor of a layer that is not merged changes its values.
    pub fn changes(&self, model: &Model) -> bool {
        if self.pack.is_some() {
            return true;
        }
        let changed = |t: &TensorEntry| {
            t.id.layer().is_some() && self.element(model, t.id, t.element, false) != t.element
        };
        model.tensors().iter().any(changed)
    }

    /// Returns the element type of tensor `id`, whose parts are stored as `parts` (the widest type, if the
    /// parts differ). `computed`: the tensor is not copied but calculated, so it must be encoded.
    ///
    /// - Vectors (norms and biases) and small tensors such as routers are never quantised. In GGUF files, vectors are always `F32`, because
    ///   llama.cpp multiplies by no other type.
    /// - safetensors files have no quantisation blocks, but of experts in MXFP4 where the architecture has them: other
    ///   quantised weights become `F16`.
    /// - A computed tensor is stored in the type of its parts, or a more precise one ([`BlockType::stored_as`]),
    ///   unless a type is asked for.
    /// - A head that is quantised on request is never narrower than `Q6_K`, as with llama.cpp, because the
    ///   errors of the head go straight to the logits.
    pub fn element(&self, model: &Model, id: TensorId, parts: Element, computed: bool) -> Element {
        let shape = id.shape(&model.config);
        let row = shape.last().copied().unwrap_or(1);
        // llama.cpp keeps routers and their likes as exact as vectors.
        let is_vector = shape.len() < 2 || id.role().is_some_and(Role::is_small);
        match (self.container, self.dtype) {
            (Container::Gguf, _) if is_vector => Element::F32,
            (Container::Safetensors, Some(Element::Block(_))) if is_vector => parts,
            (Container::Safetensors, None)
                if !computed && matches!(id, TensorId::Expert(..)) && self.keeps_mxfp4(&model.config) =>
            {
                parts
            }
            (Container::Safetensors, dtype) => match dtype.unwrap_or(parts) {
                Element::Block(_) => Element::F16,
                float => float,
            },
            (Container::Gguf, Some(Element::Block(block))) if id == model.head() => {
                Element::Block(block.wider(BlockType::Q6K)).fitting(row)
            }
            (Container::Gguf, Some(dtype)) => dtype.fitting(row),
            (Container::Gguf, None) if computed => parts.storable(row),
            (Container::Gguf, None) => parts,
        }
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
        (self.container, self.dtype) == (Container::Safetensors, None)
            && config.mxfp4_experts
            && names == Some(ExpertNames::InTurns)
    }
}
