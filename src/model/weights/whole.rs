//! Reading of whole tensors and of their rows, wherever their bytes lie.

use std::rc::Rc;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};

use crate::error::OrInternal;
use crate::format::packed::{Held, Piece};
use crate::format::turns::{MXFP4_WEIGHTS, blocks_taken_out, taken_out};
use crate::kernels::threads;
use crate::model::open::{Model, PackedMatrix, TensorEntry, Turns};
use crate::{Error, Result};

/// Rows of a packed matrix that a thread decodes at a time.
const DECODED_ROWS: usize = 64;

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
        if let Some(packed) = &entry.packed {
            let rows = entry.shape.first().copied().unwrap_or(1);
            return self.unpacked(model, entry, packed, 0, rows);
        }
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

    /// Begins to read rows `first .. first + count` of a tensor `[rows, columns]` whose rows follow each other, or that is
    /// packed.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensor has fewer than `first + count` rows; those of [`start`](Self::start).
    pub fn rows(
        &mut self,
        model: &Model,
        entry: &TensorEntry,
        first: u64,
        count: u64,
    ) -> Result<LocalBoxFuture<'static, Result<Vec<u8>>>> {
        let rows = entry.shape.first().copied().unwrap_or(1).max(1);
        let row_bytes = entry.bytes / rows;
        let bytes = count.checked_mul(row_bytes).and_then(|n| usize::try_from(n).ok());
        match (first.checked_add(count), bytes) {
            (Some(end), Some(bytes)) if end <= rows => match &entry.packed {
                Some(packed) => self.unpacked(model, entry, packed, first, count),
                None => Ok(model.shard(entry)?.read(entry.offset + first * row_bytes, bytes)),
            },
            _ => Err(Error::Shape(format!(
                "tensor {} has {rows} rows; {count} from {first} were asked",
                entry.name
            ))),
        }
    }

    /// Begins to read the pieces of rows `first .. first + count` of a packed matrix, and makes floats of them. Of layouts
    /// whose rows lie together, only these rows are read; others are read whole, once for all rows.
    fn unpacked(
        &mut self,
        model: &Model,
        entry: &TensorEntry,
        packed: &Rc<PackedMatrix>,
        first: u64,
        count: u64,
    ) -> Result<LocalBoxFuture<'static, Result<Vec<u8>>>> {
        let size = |at: usize| length(entry, entry.shape.get(at).copied().unwrap_or(1));
        let shape = [size(0)?, size(1)?];
        let (first, count) = (length(entry, first)?, length(entry, count)?);
        let (scheme, element) = (packed.scheme, entry.element);
        let mut reads: Vec<(Piece, SharedBytes)> = Vec::with_capacity(packed.pieces.len());
        for piece in &packed.pieces {
            let of_rows = scheme.has_rows_together() && matches!(piece.piece, Piece::Codes | Piece::Scales);
            let row = piece.bytes / (shape[0] as u64).max(1);
            let read = match piece.piece {
                Piece::Shape => continue,
                _ if of_rows && count < shape[0] => {
                    let source = model.shards.get(piece.shard).or_internal("a piece is of no shard")?;
                    let bytes = length(entry, count as u64 * row)?;
                    let read = source.read(piece.offset + first as u64 * row, bytes);
                    async move { read.await.map(Rc::new) }.boxed_local().shared()
                }
                _ => self.shared(model, entry, (piece.shard, piece.offset), piece.bytes)?,
            };
            reads.push((piece.piece, read));
        }
        let from = if scheme.has_rows_together() && count < shape[0] { first } else { 0 };
        let name = entry.name.clone();
        let floats = async move {
            let mut read = Vec::with_capacity(reads.len());
            for (piece, bytes) in reads {
                read.push((piece, bytes.await?));
            }
            let find = |piece: Piece| {
                read.iter().find(|(each, _)| *each == piece).map(|(_, bytes)| bytes.as_slice())
            };
            let held = Held {
                from,
                codes: find(Piece::Codes).or_internal("a packed matrix has no codes")?,
                scales: find(Piece::Scales).or_internal("a packed matrix has no scales")?,
                zeros: find(Piece::Zeros),
                groups: find(Piece::Groups),
            };
            let pieces = threads::map_all(count.div_ceil(DECODED_ROWS), |number| {
                let start = number * DECODED_ROWS;
                scheme.decode(element, shape, first + start, DECODED_ROWS.min(count - start), held)
            });
            let pieces: Result<Vec<Vec<u8>>> = pieces.into_iter().collect();
            pieces.map(|pieces| pieces.concat()).map_err(|e| e.in_tensor(&name))
        };
        Ok(floats.boxed_local())
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
