//! Importances of the columns of a new model's matrices: which layers they are for, and where they come from.

use crate::Result;
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::forward::context::Context;
use crate::forward::importances::collect;
use crate::methods::Resources;
use crate::methods::work::{Task, Work};
use crate::model::Model;
use crate::model::importances::Importances;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::{Requantise, Storage};
use crate::plan::Operator;
use crate::protocol::options::WriteOptions;
use crate::write::takes_importances;

/// Gives those of the new model's `layers` that are encoded by importances, stored as `output` says, their importances:
/// those of `resources`, or else those that are collected on the text of `context`. Returns the layers, and the importances
/// of all layers; `None` if no layer takes notice of any, or `output` wants none.
///
/// Importances are collected with the layers in the element types of the original: what the products of the stored layers
/// read differs from that by the errors of the storage.
///
/// # Errors
/// Those of [`takes_importances`], [`Importances::of_layers`] and [`collect`].
pub async fn weighted(
    context: &Context<'_>,
    resources: &Resources<'_>,
    output: &WriteOptions,
    layers: Vec<NewLayer>,
) -> Result<(Vec<NewLayer>, Option<Importances>)> {
    let Some(takes) = takes(context.model, output, &layers)? else { return Ok((layers, None)) };
    let importances = match resources.importances {
        Some(original) => original.of_layers(&layers)?,
        None => collected(context, &layers).await?,
    };
    Ok((attached(layers, takes, &importances), Some(importances)))
}

/// Gives `layers` their importances as [`weighted`] does, where those of the `original` are known.
///
/// # Errors
/// Those of [`takes_importances`] and [`Importances::of_layers`].
pub fn weighted_by(
    model: &Model,
    output: &WriteOptions,
    layers: Vec<NewLayer>,
    original: &Importances,
) -> Result<Vec<NewLayer>> {
    match takes(model, output, &layers)? {
        Some(takes) => {
            let importances = original.of_layers(&layers)?;
            Ok(attached(layers, takes, &importances))
        }
        None => Ok(layers),
    }
}

/// Returns which layers take notice of importances; `None` if none does, or `output` wants none.
fn takes(model: &Model, output: &WriteOptions, layers: &[NewLayer]) -> Result<Option<Vec<bool>>> {
    if !output.importances {
        return Ok(None);
    }
    let takes = takes_importances(model, layers, output)?;
    Ok(takes.contains(&true).then_some(takes))
}

fn attached(layers: Vec<NewLayer>, takes: Vec<bool>, importances: &Importances) -> Vec<NewLayer> {
    let weigh = |((layer, takes), own): ((NewLayer, bool), _)| match takes {
        true => layer.weighted_by(Some(own)),
        false => layer,
    };
    layers.into_iter().zip(takes).zip(importances.layers.iter().cloned()).map(weigh).collect()
}

/// Collects the importances of `layers` on the text of `context`, in the element types of the original.
///
/// # Errors
/// Those of [`collect`].
pub async fn collected(context: &Context<'_>, layers: &[NewLayer]) -> Result<Importances> {
    let storage = Storage::of(context.model);
    collect(&Context { storage, experts: None, ..*context }, layers).await
}

/// Returns whether importances will be collected for a plan with `operator` of `model` that is stored as `output` says, as
/// far as can be said before the layers are chosen.
pub fn are_collected(model: &Model, operator: Operator, output: &WriteOptions) -> bool {
    let storage = output.storage(model);
    let is_weighted = |element: Element| matches!(element, Element::Block(block) if block.is_weighted());
    if !output.importances || storage.container != Container::Gguf {
        return false;
    }
    // Fitted tensors are encoded by the sums that they were fitted to.
    let mixes = operator.is_weighted() && operator != Operator::Drop;
    let mixes = mixes || matches!(operator, Operator::Scale | Operator::MatchExperts);
    let mut of_layers = model.tensors().iter().filter(|tensor| tensor.id.layer().is_some());
    match storage.dtype {
        Some(asked) if storage.requantise == Requantise::All => {
            let asked = asked.element();
            is_weighted(asked) && of_layers.any(|tensor| tensor.element != asked)
        }
        Some(asked) => is_weighted(asked.element()) && mixes,
        None => {
            mixes
                && of_layers
                    .any(|tensor| is_weighted(tensor.element.storable(BlockType::Q4K.weights() as u64)))
        }
    }
}

/// Returns the work of collecting the importances of the new model.
pub fn work(task: &Task<'_>) -> Work {
    Work::layers(task.n_layers() - task.removed() as f64)
}
