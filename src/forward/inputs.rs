//! Embeddings of tokens that are a part of the inputs of layers, read for the tokens that occur in a text, some layers at a
//! time.

use futures::future::try_join_all;

use crate::Result;
use crate::error::OrInternal;
use crate::files::source::read_checked;
use crate::format::element::{Element, check_finite, encode};
use crate::format::stored::Stored;
use crate::maths::mix::{Accumulator, Mix};
use crate::model::Model;
use crate::model::tensors::TensorId;
use crate::model::weights::sliced::Columns;

/// Most bytes of embeddings that are held: those of as many layers, but of one at least.
pub const HELD_BYTES: u64 = 32 << 20;

/// Number of reads in progress at the same time.
const READS: usize = 16;

/// Embeddings of some tokens for some layers, as the file holds them.
pub struct InputRows {
    /// Token ids in ascending order, each once.
    ids: Vec<u32>,
    layers: std::ops::Range<usize>,
    /// Bytes of the columns of these layers, for each id.
    rows: Vec<Vec<u8>>,
    columns: Columns,
}

impl InputRows {
    /// Reads the embeddings of the tokens `ids`, ascending, for layer `layer` of `model` and as many layers after it as
    /// [`HELD_BYTES`] allow.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if the model lacks the tensor; those of [`Columns::of`], [`read_checked`] and
    /// [`check_finite`].
    pub async fn read(model: &Model, ids: Vec<u32>, layer: usize) -> Result<Self> {
        let entry = model.entry(TensorId::InputEmbedding)?;
        let source = model.shard(entry)?;
        let width = model.config.layer_input.unwrap_or(0);
        let one = Columns::of(entry.element, layer * width, width)?.bytes.max(1) * ids.len().max(1) as u64;
        let n = usize::try_from(HELD_BYTES / one)
            .unwrap_or(1)
            .clamp(1, model.config.n_layers.saturating_sub(layer).max(1));
        let columns = Columns::of(entry.element, layer * width, n * width)?;
        let row_bytes = entry.bytes / entry.shape.first().copied().unwrap_or(1).max(1);
        let mut rows = Vec::with_capacity(ids.len());
        for group in ids.chunks(READS) {
            let read = |id: &u32| {
                let offset = entry.offset + u64::from(*id) * row_bytes + columns.offset;
                read_checked(source.as_ref(), offset, columns.bytes)
            };
            for bytes in try_join_all(group.iter().map(read)).await? {
                check_finite(&entry.name, entry.element, &bytes)?;
                rows.push(bytes);
            }
        }
        Ok(Self { ids, layers: layer..layer + n, rows, columns })
    }

    /// Returns whether these are the embeddings of all of the tokens `ids`, ascending, for layer `layer`.
    pub fn have(&self, ids: &[u32], layer: usize) -> bool {
        self.layers.contains(&layer) && self.ids == ids
    }

    /// Returns the embedding `[width]` of the token `id` for layer `layer`.
    fn row(&self, model: &Model, id: u32, layer: usize) -> Result<Vec<f32>> {
        let missing = "the embedding of a token for a layer was not read";
        let element = model.entry(TensorId::InputEmbedding)?.element;
        let width = model.config.layer_input.unwrap_or(0);
        let columns = Columns::of(element, layer * width, width)?;
        let place = self.ids.binary_search(&id).ok();
        let row = place.and_then(|place| self.rows.get(place)).or_internal(missing)?;
        let first = columns.offset.checked_sub(self.columns.offset).or_internal(missing)? as usize;
        let bytes = row.get(first..first + columns.bytes as usize).or_internal(missing)?;
        columns.decode(element, bytes, width)
    }
}

/// Reader of the embeddings of the tokens of a text for layers, which keeps what it has read last.
#[derive(Default)]
pub struct InputTable(Vec<InputRows>);

/// Most parts of the table that are kept at a time: a layer may be mixed of several.
const KEPT: usize = 2;

impl InputTable {
    /// Returns the embeddings `[ids.len(), width]`, row-major, of the tokens `ids` for a layer that is mixed of those of the
    /// original as `mix` says, as they are if they are stored as `element`.
    ///
    /// # Errors
    /// Those of [`InputRows::read`], [`Columns::decode`], [`Accumulator::add`] and [`encode`].
    pub async fn rows(
        &mut self,
        model: &Model,
        ids: &[u32],
        mix: &Mix,
        element: Element,
    ) -> Result<Vec<f32>> {
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut sum = Accumulator::default();
        for (layer, weight) in mix.parts() {
            let known = self.0.iter().position(|rows| rows.have(&distinct, *layer));
            let rows = match known {
                Some(place) => self.0.remove(place),
                None => InputRows::read(model, distinct.clone(), *layer).await?,
            };
            let mut values = Vec::new();
            for id in &distinct {
                values.extend(rows.row(model, *id, *layer)?);
            }
            sum.add("of embeddings of layers", *weight, values)?;
            self.0.insert(0, rows);
            self.0.truncate(KEPT);
        }
        let mut values = sum.finish()?;
        let is_copy = mix.unchanged().is_some() && model.entry(TensorId::InputEmbedding)?.element == element;
        if !is_copy {
            values = Stored { element, bytes: encode(element, &values)? }.to_f32()?;
        }
        let width = model.config.layer_input.unwrap_or(0);
        let mut all = Vec::with_capacity(ids.len() * width);
        for id in ids {
            let place = distinct.binary_search(id).ok();
            let row = place.and_then(|place| values.get(place * width..(place + 1) * width));
            all.extend_from_slice(row.or_internal("the embedding of a token for a layer was not read")?);
        }
        Ok(all)
    }
}
