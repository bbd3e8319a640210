//! Weights of one layer at a time, out of the files, mixed if the layer is a merged one.

use futures::future::LocalBoxFuture;

use super::files::{Model, TensorEntry};
use super::names::{Role, TensorId};
use crate::format::element::{Element, decode, round};
use crate::merge::{Accumulator, Mix};
use crate::source::read_checked;
use crate::{Error, Result};

/// Tensors of one layer in `f32`, by role.
pub type LayerTensors = Vec<(Role, Vec<f32>)>;

/// A tensor whose read has begun.
type EarlyRead<'a> = (Role, &'a TensorEntry, LocalBoxFuture<'static, Result<Vec<u8>>>);

/// A layer whose bytes are on their way.
///
/// An original layer is fetched when [`start`](LayerFetch::start)ed, so that it arrives while the
/// one before it is multiplied. A merged layer is read tensor by tensor in
/// [`finish`](LayerFetch::finish), because its parts together are as large as several layers.
pub struct LayerFetch<'a> {
    model: &'a Model,
    mix: Mix,
    dtype: Option<Element>,
    early: Vec<EarlyRead<'a>>,
}

impl<'a> LayerFetch<'a> {
    /// Begins fetching the layer `mix`. What is mixed is rounded to `dtype`, or to the wider of its
    /// parts' types, so that the arithmetic sees what a file would hold.
    ///
    /// # Errors
    /// [`Error::Format`] if the model lacks a tensor.
    pub fn start(model: &'a Model, mix: &Mix, dtype: Option<Element>) -> Result<Self> {
        let mut early = Vec::new();
        if let Some(layer) = mix.unchanged() {
            for role in Role::required(&model.config) {
                let entry = entry(model, TensorId::Layer(layer, role))?;
                let shard = shard(model, entry)?;
                let length = usize::try_from(entry.bytes)
                    .map_err(|_| Error::Limit(format!("tensor {} is too large", entry.id.name())))?;
                early.push((role, entry, shard.read(entry.offset, length)));
            }
        }
        Ok(Self { model, mix: mix.clone(), dtype, early })
    }

    /// The layer's tensors, decoded.
    ///
    /// # Errors
    /// [`Error::Source`] if a read fails, [`Error::Numeric`] naming the tensor for NaN weights.
    pub async fn finish(self) -> Result<LayerTensors> {
        let mut tensors = Vec::new();
        if self.mix.unchanged().is_some() {
            for (role, entry, bytes) in self.early {
                let mut values = decode(&entry.id.name(), entry.element, &bytes.await?)?;
                round(self.dtype.unwrap_or(entry.element), &mut values);
                tensors.push((role, values));
            }
        } else {
            for role in Role::required(&self.model.config) {
                let values = read_mixed(self.model, &self.mix, role, self.dtype).await?;
                tensors.push((role, values));
            }
        }
        Ok(tensors)
    }
}

/// One tensor of the layer `mix`, rounded to `dtype`, or to the wider of its parts' types.
///
/// # Errors
/// As [`LayerFetch::finish`].
pub async fn read_mixed(model: &Model, mix: &Mix, role: Role, dtype: Option<Element>) -> Result<Vec<f32>> {
    let mut sum = Accumulator::default();
    for (layer, weight) in mix.parts() {
        let entry = entry(model, TensorId::Layer(*layer, role))?;
        let name = entry.id.name();
        let bytes = read_checked(shard(model, entry)?.as_ref(), entry.offset, entry.bytes).await?;
        sum.add(&name, *weight, decode(&name, entry.element, &bytes)?)?;
    }
    let mut values = sum.finish();
    round(dtype.or(widest(model, mix, role)).unwrap_or(Element::F32), &mut values);
    Ok(values)
}

/// The type that holds the values of all parts of a tensor of the layer `mix`; `None` if it has no such tensor.
pub fn widest(model: &Model, mix: &Mix, role: Role) -> Option<Element> {
    mix.parts()
        .iter()
        .filter_map(|(layer, _)| model.tensor(TensorId::Layer(*layer, role)))
        .map(|entry| entry.element)
        .reduce(Element::wider)
}

/// Rows `first .. first + count` of a `[rows, columns]` tensor in `f32`, row-major.
///
/// # Errors
/// As [`LayerFetch::finish`]; [`Error::Shape`] for rows that the tensor has not.
pub async fn read_rows(model: &Model, id: TensorId, first: u64, count: u64) -> Result<Vec<f32>> {
    let entry = entry(model, id)?;
    let name = id.name();
    let rows = entry.shape.first().copied().unwrap_or(1).max(1);
    if first.checked_add(count).is_none_or(|end| end > rows) {
        return Err(Error::Shape(format!("tensor {name} has {rows} rows; {count} from {first} were asked")));
    }
    let row_bytes = entry.bytes / rows;
    let offset = entry.offset + first * row_bytes;
    let bytes = read_checked(shard(model, entry)?.as_ref(), offset, count * row_bytes).await?;
    decode(&name, entry.element, &bytes)
}

/// A whole small tensor in `f32`, such as a norm.
///
/// # Errors
/// As [`LayerFetch::finish`].
pub async fn read_whole(model: &Model, id: TensorId) -> Result<Vec<f32>> {
    let entry = entry(model, id)?;
    let bytes = read_checked(shard(model, entry)?.as_ref(), entry.offset, entry.bytes).await?;
    decode(&id.name(), entry.element, &bytes)
}

fn entry(model: &Model, id: TensorId) -> Result<&TensorEntry> {
    model
        .tensor(id)
        .ok_or_else(|| Error::Format(format!("tensor {} is in none of the weight files", id.name())))
}

fn shard<'a>(model: &'a Model, entry: &TensorEntry) -> Result<&'a crate::source::SharedSource> {
    model
        .shards
        .get(entry.shard)
        .ok_or_else(|| Error::Format(format!("the shard of tensor {} is missing", entry.id.name())))
}
