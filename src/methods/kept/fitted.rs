//! Layers that an operator has fitted, kept one by one, so that a plan goes on after an interruption.
//!
//! A part is called `fitted-` and a hash of all that its layer follows from: the model and how the result is stored, the
//! text, the operator, its version and its memory, and the groups of the plan up to the layer's own. So it serves every
//! plan that begins alike, and no other. It holds the tensors that were computed, under the names of a Hugging Face
//! model and as they will be stored, and what is to be said of them.

use safetensors::Dtype;

use super::rounds::KeptPlan;
use crate::files::part::{Part, PartWriter, damaged};
use crate::files::parts::PartStore;
use crate::format::Container;
use crate::format::element::Element;
use crate::format::stored::Stored;
use crate::model::Model;
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::fetch::entry;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::{Error, Result};

const PREFIX: &str = "fitted-";

/// The tensor of a part that holds remarks, as JSON.
const REMARKS: &str = "remarks";

/// A layer that an operator made of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The layer that stays, some of its tensors [`computed`](NewLayer::computed).
    pub layer: NewLayer,
    /// What a reader should know of it, in sentences.
    pub remarks: Vec<String>,
}

impl From<NewLayer> for Fitted {
    fn from(layer: NewLayer) -> Self {
        Self { layer, remarks: Vec::new() }
    }
}

impl KeptPlan {
    /// The name of the part of each group of `plan`; parts that other plans left are removed.
    pub async fn begin(&self, plan: &MergePlan, fit_bytes: u64) -> Vec<String> {
        let mut hash = self.hash();
        hash.text(&format!("{} {fit_bytes}", plan.operator));
        let names: Vec<String> = (plan.groups.iter().enumerate())
            .map(|(place, group)| {
                hash.text(&format!("{group:?} {:?}", plan.survivor(place)));
                format!("{PREFIX}{:016x}", hash.value())
            })
            .collect();
        self.remove_others(PREFIX, &names).await;
        names
    }

    /// The layer in the part `name`, of which `stays` remains; `None` where it is not there, or damaged, so that it is
    /// fitted anew.
    pub async fn load(&self, name: &str, model: &Model, stays: usize) -> Option<Fitted> {
        let part = self.identity.open(&**self.store.lock().await, name).await.ok()?;
        let mut fitted = read(&part, model, stays).await.ok()?;
        fitted.remarks.extend(self.said_of_elsewhere(&part, &format!("Layer {stays} was fitted")));
        Some(fitted)
    }

    /// Keeps a layer as the part `name`.
    pub async fn keep(&self, name: &str, fitted: &Fitted) {
        self.keeping(async |store| self.write(store, name, fitted).await).await;
    }

    async fn write<'f>(&self, store: &mut dyn PartStore, name: &str, fitted: &'f Fitted) -> Result<()> {
        let remarks = serde_json::to_vec(&fitted.remarks).map_err(|e| Error::Format(e.to_string()))?;
        let nameless = || Error::Format("a tensor has no name".to_owned());
        let named = |(role, stored): &'f (Role, Stored)| -> Result<(String, &'f [u8])> {
            Ok((title(*role, stored.element).ok_or_else(nameless)?, &stored.bytes))
        };
        let named = fitted.layer.computed().iter().map(named).collect::<Result<Vec<_>>>()?;
        let mut tensors = vec![(REMARKS, Dtype::U8, vec![remarks.len() as u64])];
        tensors
            .extend(named.iter().map(|(name, bytes)| (name.as_str(), Dtype::U8, vec![bytes.len() as u64])));
        let mut part = PartWriter::begin(store, name, &self.identity.about(&self.device), &tensors).await?;
        part.append(&remarks).await?;
        for (_, bytes) in &named {
            part.append(bytes).await?;
        }
        part.finish().await.map(|_| ())
    }
}

/// What a tensor is called in a part: its type, and its name in layer 0.
fn title(role: Role, element: Element) -> Option<String> {
    Some(format!("{element} {}", TensorId::Layer(0, role).name(Container::Safetensors)?))
}

fn parse(title: &str) -> Option<(Role, Element)> {
    let (element, name) = title.split_once(' ')?;
    match TensorId::parse(Container::Safetensors, name)? {
        TensorId::Layer(0, role) => Some((role, element.parse().ok()?)),
        _ => None,
    }
}

async fn read(part: &Part, model: &Model, stays: usize) -> Result<Fitted> {
    let remarks = serde_json::from_slice(&part.all_bytes(REMARKS).await?)
        .map_err(|_| damaged("its remarks cannot be read"))?;
    let mut tensors = Vec::new();
    for title in part.names().filter(|name| *name != REMARKS) {
        let (role, element) = parse(title).ok_or_else(|| damaged("a tensor has a strange name"))?;
        let bytes = part.all_bytes(title).await?;
        let values = entry(model, TensorId::Layer(stays, role))?.values();
        if element.bytes(values) != Some(bytes.len() as u64) {
            return Err(damaged("a tensor has another shape"));
        }
        tensors.push((role, Stored { element, bytes }));
    }
    Ok(Fitted { layer: NewLayer::original(stays).with_computed(tensors), remarks })
}
