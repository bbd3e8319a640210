//! The tensors of a compressed model: where each comes from and how it is stored.

use crate::error::OrInternal;
use crate::format::Container;
use crate::format::element::{Element, encode};
use crate::model::Model;
use crate::model::binding::RowOrder;
use crate::model::open::TensorEntry;
use crate::model::rope::RopeScaling;
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::{Error, Result};

/// Source of the values of a tensor.
pub enum Content<'a> {
    /// A tensor of the original, copied or converted to another element type or row order.
    Original(&'a TensorEntry),
    /// A tensor that is mixed from several, scaled, or computed from activations.
    Computed(&'a NewLayer, Role),
    /// Values that are made here, encoded.
    New(Vec<u8>),
}

/// One tensor of the compressed model.
pub struct Job<'a> {
    /// Source of the values.
    pub content: Content<'a>,
    /// Element type in which the tensor is stored.
    pub element: Element,
    /// Number of heads and the order to bring their rows into; `None` if the row order stays.
    pub reorder: Option<(usize, RowOrder)>,
    /// Name of the tensor in the new file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Stored size in bytes.
    pub bytes: u64,
}

/// Lists the tensors of the model whose layers are `layers`, in the order of the original's files.
///
/// # Errors
/// [`Error::Format`] if the model lacks a tensor, [`Error::Shape`] if the values of a tensor are not a whole
/// number of quantisation blocks.
pub fn jobs<'a>(model: &'a Model, layers: &'a [NewLayer], storage: Storage) -> Result<Vec<Job<'a>>> {
    let mut jobs = Vec::new();
    for source in model.tensors() {
        let Some((id, content)) = content(model, layers, source) else {
            continue;
        };
        let Some(name) = id.name_in(storage.container, &model.config) else {
            continue;
        };
        let element = match content {
            Content::Computed(layer, role) => layer.element(model, role, storage)?,
            _ => storage.element(model, source.id, source.element, false),
        };
        let reorder = match id {
            TensorId::Layer(_, role) => row_order(model, role, storage.container),
            _ => None,
        };
        let shape = source.shape.clone();
        jobs.push(Job { content, element, reorder, bytes: size(&name, element, &shape)?, name, shape });
    }
    if let Some(divisors) = rotary_divisors(model, storage.container) {
        let (element, shape) = (Element::F32, vec![divisors.len() as u64]);
        let name = TensorId::RotaryDivisors.name(storage.container);
        let name = name.or_internal("rotary divisors have no name in such a file")?;
        let content = Content::New(encode(element, &divisors)?);
        jobs.push(Job { content, element, reorder: None, bytes: size(&name, element, &shape)?, name, shape });
    }
    Ok(jobs)
}

/// Finds what becomes of the tensor `source`; `None` if its layer was absorbed into another, or if `source`
/// is a stale copy of a tied head.
fn content<'a>(
    model: &Model,
    layers: &'a [NewLayer],
    source: &'a TensorEntry,
) -> Option<(TensorId, Content<'a>)> {
    let TensorId::Layer(layer, role) = source.id else {
        // A stale copy of a tied head would be taken for a head that is not tied.
        let stale = source.id == TensorId::Head && model.config.tied_head;
        return (!stale).then_some((source.id, Content::Original(source)));
    };
    let leads = |new: &NewLayer| new.mix().parts().first().is_some_and(|(first, _)| *first == layer);
    let place = layers.iter().position(leads)?;
    let id = TensorId::Layer(place, role);
    match layers.get(place) {
        // Buffers that old checkpoints carry are the same in every layer, so they are copied, not mixed.
        Some(new) if !new.is_copied(role) && role != Role::RotaryFrequencies => {
            Some((id, Content::Computed(new, role)))
        }
        _ => Some((id, Content::Original(source))),
    }
}

/// Returns the number of heads and the new row order of a projection whose rows must be reordered for
/// `container`; `None` if the order stays.
fn row_order(model: &Model, role: Role, container: Container) -> Option<(usize, RowOrder)> {
    let heads = match role {
        Role::Query | Role::QueryBias => model.config.n_heads,
        Role::Key | Role::KeyBias => model.config.n_kv_heads,
        _ => return None,
    };
    let order = model.config.row_order(container);
    (order != model.config.row_order(model.container())).then_some((heads, order))
}

/// Returns the rotary divisors that express Llama 3.1's rule in a GGUF file; `None` if no such conversion is
/// needed.
fn rotary_divisors(model: &Model, container: Container) -> Option<Vec<f32>> {
    match (model.container(), container, &model.config.rope_scaling) {
        (Container::Safetensors, Container::Gguf, scaling @ RopeScaling::Llama3 { .. }) => {
            Some(scaling.divisors(model.config.head_dim, model.config.rope_theta))
        }
        _ => None,
    }
}

fn size(name: &str, element: Element, shape: &[u64]) -> Result<u64> {
    let bytes = element.bytes(shape.iter().product());
    bytes.ok_or_else(|| {
        Error::Shape(format!("tensor {name} of shape {shape:?} is no whole number of {element} blocks"))
    })
}
