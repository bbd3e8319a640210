//! Fitted layers, kept one by one so that a plan can resume after an interruption.
//!
//! The name of a part is `fitted-` and a hash of everything that its layer depends on: the model, the text,
//! how the result is stored, the versions of the program and of the operator, the operator and its memory, and
//! the groups of the plan up to the layer's own. A part therefore serves every plan that begins with the same
//! groups, and no other plan. It holds the tensors that were computed, encoded for storage and named by their roles, and the
//! remarks on the layer.

use safetensors::Dtype;

use super::rounds::{KeptPlan, key};
use crate::files::part::{Part, PartWriter, damaged};
use crate::files::parts::PartStore;
use crate::format::element::Element;
use crate::format::stored::Stored;
use crate::model::Model;
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::new_layer::{Computed, NewLayer};
use crate::plan::MergePlan;
use crate::{Error, Result};

const PREFIX: &str = "fitted-";

/// Begins the names of the tensors of a part that hold computed matrices as they were before they were encoded.
const EXACT: &str = "exact ";

/// Name of the tensor of a part that holds remarks, as JSON.
const REMARKS: &str = "remarks";

/// Name of the tensor of a part that holds what the experts of the layer are made of, as JSON.
const EXPERTS: &str = "experts";

/// A layer that an operator made of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Layer that stays, with some tensors [`computed`](NewLayer::computed).
    pub layer: NewLayer,
    /// Remarks on the layer to the reader, in sentences.
    pub remarks: Vec<String>,
}

impl From<NewLayer> for Fitted {
    fn from(layer: NewLayer) -> Self {
        Self { layer, remarks: Vec::new() }
    }
}

impl KeptPlan {
    /// Returns the name of the part of each group of `plan`, fitted with `fit_bytes` bytes of memory by code of
    /// the given `versions`, and removes the fitted layers of other plans.
    ///
    /// # Errors
    /// Those of [`key`].
    pub async fn begin(&self, plan: &MergePlan, versions: &[u32], fit_bytes: u64) -> Result<Vec<String>> {
        let mut hash = self.hash()?;
        hash.text(&key(versions, &(plan.operator, fit_bytes))?);
        if !plan.kept_experts.is_empty() {
            hash.text(&key(&[], &plan.kept_experts)?);
        }
        let mut names = Vec::with_capacity(plan.groups.len());
        for (place, group) in plan.groups.iter().enumerate() {
            hash.text(&key(&[], &(group, plan.survivor(place)))?);
            if plan.operator.is_weighted() {
                hash.text(&key(&[], &plan.weights.get(place))?);
            }
            names.push(format!("{PREFIX}{:016x}", hash.value()));
        }
        self.remove_others(PREFIX, &names).await;
        Ok(names)
    }

    /// Returns the layer of the part `name`, in which `stays` remains but for what was fitted; `None` if the part
    /// is missing or damaged, in which case the layer has to be fitted anew.
    pub async fn load(&self, name: &str, model: &Model, stays: NewLayer) -> Option<Fitted> {
        let layer = stays.mix().survivor().ok()?;
        let part = self.identity.open(&**self.store.lock().await, name).await.ok()?;
        let mut fitted = read(&part, model, stays).await.ok()?;
        fitted.remarks.extend(self.said_of_elsewhere(&part, &format!("Layer {layer} was fitted")));
        Some(fitted)
    }

    /// Writes a fitted layer as the part `name`.
    pub async fn keep(&self, name: &str, fitted: &Fitted) {
        self.keeping(async |store| self.write(store, name, fitted).await).await;
    }

    async fn write(&self, store: &mut dyn PartStore, name: &str, fitted: &Fitted) -> Result<()> {
        let remarks = serde_json::to_vec(&fitted.remarks).map_err(|e| Error::Format(e.to_string()))?;
        let layer = &fitted.layer;
        let title = |(role, tensor): &(Role, Computed)| title(*role, tensor.element);
        let computed = layer.computed().iter().map(|each| (title(each), &each.1));
        let exact = layer.exact().iter().map(|each| (format!("{EXACT}{}", title(each)), &each.1));
        let mut named = Vec::new();
        for (name, tensor) in computed.chain(exact) {
            named.push((name, tensor.read().await?.bytes));
        }
        let experts = fitted.layer.experts().map(serde_json::to_vec).transpose();
        let experts = experts.map_err(|e| Error::Format(e.to_string()))?;
        let mut tensors = vec![(REMARKS, Dtype::U8, vec![remarks.len() as u64])];
        tensors.extend(experts.iter().map(|json| (EXPERTS, Dtype::U8, vec![json.len() as u64])));
        tensors
            .extend(named.iter().map(|(name, bytes)| (name.as_str(), Dtype::U8, vec![bytes.len() as u64])));
        let mut part = PartWriter::begin(store, name, &self.identity.about(&self.device), &tensors).await?;
        part.append(&remarks).await?;
        if let Some(experts) = &experts {
            part.append(experts).await?;
        }
        for (_, bytes) in &named {
            part.append(bytes).await?;
        }
        part.finish().await.map(|_| ())
    }
}

/// Returns the name of a tensor in a part: its element type, and its role.
fn title(role: Role, element: Element) -> String {
    format!("{element} {role:?}")
}

fn parse(title: &str, model: &Model) -> Option<(Role, Element)> {
    let (element, name) = title.split_once(' ')?;
    let role = Role::required_anywhere(&model.config).into_iter().find(|role| format!("{role:?}") == name)?;
    Some((role, element.parse().ok()?))
}

async fn read(part: &Part, model: &Model, stays: NewLayer) -> Result<Fitted> {
    let layer = stays.mix().survivor()?;
    let remarks = serde_json::from_slice(&part.all_bytes(REMARKS).await?)
        .map_err(|_| damaged("its remarks cannot be read"))?;
    let (mut tensors, mut exact) = (Vec::new(), Vec::new());
    for name in part.names().filter(|name| ![REMARKS, EXPERTS].contains(name)) {
        let (title, of_kind) = match name.strip_prefix(EXACT) {
            Some(rest) => (rest, &mut exact),
            None => (name, &mut tensors),
        };
        let (role, element) = parse(title, model).ok_or_else(|| damaged("a tensor has a strange name"))?;
        let bytes = part.all_bytes(name).await?;
        let values = model.entry(TensorId::Layer(layer, role))?.values();
        if element.bytes(values) != Some(bytes.len() as u64) {
            return Err(damaged("a tensor has another shape"));
        }
        of_kind.push((role, Stored { element, bytes }.into()));
    }
    let mut layer = stays.with_computed(tensors).with_exact(exact);
    if part.names().any(|name| name == EXPERTS) {
        let experts = serde_json::from_slice(&part.all_bytes(EXPERTS).await?);
        layer = layer.with_experts(experts.map_err(|_| damaged("its experts cannot be read"))?);
    }
    Ok(Fitted { layer, remarks })
}
