//! Reading of whole tensors, wherever their bytes lie.

use std::rc::Rc;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};

use crate::format::turns::{MXFP4_WEIGHTS, blocks_taken_out, taken_out};
use crate::model::open::{Model, TensorEntry, Turns};
use crate::{Error, Result};

/// Bytes that are on their way, for several readers.
type SharedBytes = Shared<LocalBoxFuture<'static, Result<Rc<Vec<u8>>>>>;

/// Reads that have begun, of bytes that several tensors share.
#[derive(Default)]
pub struct Reads(Vec<((usize, u64), SharedBytes)>);

impl Reads {
    /// Begins to read a whole tensor; the result is row-major, as its element type says.
    ///
    /// # Errors
    /// [`Error::Limit`] if the tensor does not fit in the address space, and those of [`Model::shard`]. The future
    /// fails with [`Error::Source`] if a read does.
    pub fn start(
        &mut self,
        model: &Model,
        entry: &TensorEntry,
    ) -> Result<LocalBoxFuture<'static, Result<Vec<u8>>>> {
        let Some(Turns { of, place, exponents }) = entry.turns else {
            return Ok(model.shard(entry)?.read(entry.offset, length(entry, entry.bytes)?));
        };
        let values = of as u64 * entry.values();
        let columns = entry.shape.get(1).copied().unwrap_or(1) as usize;
        let Some((shard, offset)) = exponents else {
            let bytes = self.shared(model, entry, (entry.shard, entry.offset), of as u64 * entry.bytes)?;
            let width = length(entry, entry.element.bytes(1).unwrap_or(1))?;
            let taken = async move { taken_out(&bytes.await?, [columns, of, place], width) };
            return Ok(taken.boxed_local());
        };
        let blocks = self.shared(model, entry, (entry.shard, entry.offset), values / 2)?;
        let exponents = self.shared(model, entry, (shard, offset), values / MXFP4_WEIGHTS)?;
        let per_row = columns / MXFP4_WEIGHTS as usize;
        let taken = async move { blocks_taken_out(&blocks.await?, &exponents.await?, [per_row, of, place]) };
        Ok(taken.boxed_local())
    }

    fn shared(
        &mut self,
        model: &Model,
        entry: &TensorEntry,
        (shard, offset): (usize, u64),
        bytes: u64,
    ) -> Result<SharedBytes> {
        if let Some((_, begun)) = self.0.iter().find(|(known, _)| *known == (shard, offset)) {
            return Ok(begun.clone());
        }
        let missing = || Error::Format(format!("the shard of tensor {} is missing", entry.name));
        let source = model.shards.get(shard).ok_or_else(missing)?;
        let read = source.read(offset, length(entry, bytes)?);
        let begun = async move { read.await.map(Rc::new) }.boxed_local().shared();
        self.0.push(((shard, offset), begun.clone()));
        Ok(begun)
    }
}

fn length(entry: &TensorEntry, bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::Limit(format!("tensor {} is too large", entry.name)))
}
