//! In which type a tensor of a new model is stored.

use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::model::Model;
use crate::model::open::TensorEntry;
use crate::model::tensors::TensorId;

/// Kind of file and type of the tensors of a new model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// The kind of file.
    pub container: Container,
    /// The type asked for; `None` keeps each tensor's own, and for a merged layer's the wider of its parts'.
    pub dtype: Option<Element>,
}

impl Storage {
    /// As the model is stored now.
    pub fn of(model: &Model) -> Self {
        Self { container: model.container(), dtype: None }
    }

    /// Whether layers that are not merged are stored in another type than now.
    pub fn changes(&self, model: &Model) -> bool {
        let changed = |t: &TensorEntry| {
            matches!(t.id, TensorId::Layer(..)) && self.element(model, t.id, t.element, false) != t.element
        };
        model.tensors().iter().any(changed)
    }

    /// The type of a tensor whose parts are stored as `parts` (the widest, for several); `computed` if it is
    /// not copied.
    ///
    /// - Vectors (norms and biases) are never quantised, and in GGUF files always are `F32`, because llama.cpp
    ///   multiplies by no others.
    /// - safetensors have no blocks: quantised weights become `F16`.
    /// - A computed tensor whose type has no encoder is stored in the nearest that has one.
    /// - A quantised head is never narrower than `Q6_K`, as llama.cpp does it: its errors go straight to the
    ///   logits.
    pub fn element(&self, model: &Model, id: TensorId, parts: Element, computed: bool) -> Element {
        let shape = id.shape(&model.config);
        let row = shape.last().copied().unwrap_or(1);
        let is_vector = shape.len() < 2;
        match (self.container, self.dtype) {
            (Container::Gguf, _) if is_vector => Element::F32,
            (Container::Safetensors, Some(Element::Block(_))) if is_vector => parts,
            (Container::Safetensors, dtype) => match dtype.unwrap_or(parts) {
                Element::Block(_) => Element::F16,
                float => float,
            },
            (Container::Gguf, Some(Element::Block(block))) if id == model.head() => {
                Element::Block(block.wider(BlockType::Q6K)).storable(row)
            }
            (Container::Gguf, Some(dtype)) => dtype.storable(row),
            (Container::Gguf, None) if computed => parts.storable(row),
            (Container::Gguf, None) => parts,
        }
    }
}
