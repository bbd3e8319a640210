//! Importances of the columns of a new model's matrices: which layers they are for, and where they come from.

use crate::Result;
use crate::format::element::Element;
use crate::forward::context::Context;
use crate::forward::importances::collect;
use crate::methods::work::{Task, Work};
use crate::methods::{Resources, Weighing};
use crate::model::Model;
use crate::model::importances::Importances;
use crate::model::open::TensorEntry;
use crate::model::weights::file_type::Place;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::plan::Operator;
use crate::protocol::options::WriteOptions;
use crate::write::takes_importances;

/// Gives those of the new model's `layers` that are encoded by importances their importances, from where the `resources`
/// say. Returns the layers, and the importances of all layers; `None` if no layer takes notice of any, or layers that a
/// walk made have theirs already.
///
/// Importances are collected with the layers in the element types of the original: what the products of the stored layers
/// read differs from that by the errors of the storage.
///
/// # Errors
/// Those of [`takes_importances`], [`Importances::of_layers`] and [`collect`].
pub async fn weighted(
    context: &Context<'_>,
    resources: &Resources<'_>,
    layers: Vec<NewLayer>,
) -> Result<(Vec<NewLayer>, Option<Importances>)> {
    if layers.iter().any(|layer| layer.all_importances().is_some()) {
        return Ok((layers, None));
    }
    let takes = takes_importances(context.model, &layers, context.storage)?;
    if matches!(resources.weighing, Weighing::Off) || !takes.contains(&true) {
        return Ok((layers, None));
    }
    let importances = match resources.weighing {
        Weighing::Given(original) => original.of_layers(&layers)?,
        _ => collected(context, &layers).await?,
    };
    Ok((attached(layers, takes, &importances), Some(importances)))
}

/// Gives `layers` their importances as [`weighted`] does, where those of the `original` are known.
///
/// # Errors
/// Those of [`takes_importances`] and [`Importances::of_layers`].
pub fn weighted_by(
    model: &Model,
    storage: Storage,
    layers: Vec<NewLayer>,
    original: &Importances,
) -> Result<Vec<NewLayer>> {
    let takes = takes_importances(model, &layers, storage)?;
    let importances = original.of_layers(&layers)?;
    Ok(attached(layers, takes, &importances))
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

/// Returns whether values that are computed for layer `layer` of the original are stored in a type that takes notice of
/// importances.
pub fn encodes(model: &Model, layer: usize, storage: Storage) -> bool {
    // Any place may become that of the layer.
    let places = match storage.goes_by_place() {
        true => Place::of_all(&model.config, &model.config.layers),
        false => vec![Place::default()],
    };
    let mut of_layer = model.tensors().iter().filter(|tensor| tensor.id.layer() == Some(layer));
    let encoded = |tensor: &TensorEntry| {
        let at = |place: &Place| is_weighted(storage.element(model, tensor.id, tensor.element, true, *place));
        places.iter().any(at)
    };
    of_layer.any(encoded)
}

fn is_weighted(element: Element) -> bool {
    matches!(element, Element::Block(block) if block.is_weighted())
}

/// Returns the work of collecting importances for a plan of `model` that is stored as `output` says, as far as can be said
/// before the layers are chosen.
pub fn work(task: &Task<'_>, model: &Model, output: &WriteOptions) -> Work {
    let storage = output.storage(model);
    let encodes = (0..model.config.n_layers).any(|layer| encodes(model, layer, storage));
    if !output.importances || !encodes {
        return Work::default();
    }
    let all = Work::layers(task.n_layers() - task.removed() as f64);
    let spans = task.spans().len() as f64;
    let of_spans = match task.options.operator {
        Operator::Drop => 0.0,
        Operator::Average | Operator::Collapse | Operator::Scale => return all,
        Operator::MatchExperts | Operator::Refit => spans,
        // What is pooled or flattened is run once more.
        Operator::PoolRefit | Operator::Flatten | Operator::ReplaceMe => 2.0 * spans,
    };
    match storage.changes(model) {
        true if of_spans == 0.0 => all,
        true => all + Work::layers(of_spans),
        false => Work::layers(of_spans),
    }
}
