//! The tensors of a new model: where each comes from and how it is stored.

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

/// What a tensor is made of.
pub enum Content<'a> {
    /// Copied, or converted.
    Original(&'a TensorEntry),
    /// Of a layer that is not copied.
    Computed(&'a NewLayer, Role),
    /// Made here.
    New(Vec<u8>),
}

/// One tensor of the new model.
pub struct Job<'a> {
    /// What it is made of.
    pub content: Content<'a>,
    /// How it is stored.
    pub element: Element,
    /// Heads whose rows have to be put in another order, and in which.
    pub reorder: Option<(usize, RowOrder)>,
    /// Its name in the new file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Size in bytes.
    pub bytes: u64,
}

/// The tensors of the model whose layers are `layers`, in the order of the source files.
///
/// # Errors
/// [`Error::Format`] if the model lacks a tensor, [`Error::Shape`] for rows that are no whole blocks.
pub fn jobs<'a>(model: &'a Model, layers: &'a [NewLayer], storage: Storage) -> Result<Vec<Job<'a>>> {
    let mut jobs = Vec::new();
    for source in model.tensors() {
        let Some((id, content)) = content(model, layers, source) else {
            continue;
        };
        let Some(name) = id.name(storage.container) else {
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

/// What a source tensor becomes; `None` if its layer was absorbed into another.
fn content<'a>(
    model: &Model,
    layers: &'a [NewLayer],
    source: &'a TensorEntry,
) -> Option<(TensorId, Content<'a>)> {
    let TensorId::Layer(layer, role) = source.id else {
        // A stale copy of a tied head would be taken for a head of its own.
        let stale = source.id == TensorId::Head && model.config.tied_head;
        return (!stale).then_some((source.id, Content::Original(source)));
    };
    let leads = |new: &NewLayer| new.mix().parts().first().is_some_and(|(first, _)| *first == layer);
    let place = layers.iter().position(leads)?;
    let id = TensorId::Layer(place, role);
    match layers.get(place) {
        // Buffers that old checkpoints carry are the same in every layer: copied, not mixed.
        Some(new) if !new.is_copied(role) && role != Role::RotaryFrequencies => {
            Some((id, Content::Computed(new, role)))
        }
        _ => Some((id, Content::Original(source))),
    }
}

/// Whether rows change their order on the way into the other kind of file.
fn row_order(model: &Model, role: Role, container: Container) -> Option<(usize, RowOrder)> {
    let heads = match role {
        Role::Query | Role::QueryBias => model.config.n_heads,
        Role::Key | Role::KeyBias => model.config.n_kv_heads,
        _ => return None,
    };
    match (model.container(), container) {
        (Container::Safetensors, Container::Gguf) => Some((heads, RowOrder::Pairs)),
        (Container::Gguf, Container::Safetensors) => Some((heads, RowOrder::Halves)),
        _ => None,
    }
}

/// Llama 3.1's rule as a GGUF file says it.
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
