//! Embedding rows of the tokens that occur in a text. A vocabulary of 128 000 rows is never read whole.

use crate::Result;
use crate::error::OrInternal;
use crate::model::Model;
use crate::model::tensors::TensorId;
use crate::model::weights::fetch::RowsFetch;
use crate::model::weights::file_type::Place;
use crate::model::weights::storage::Storage;

/// Most bytes of embedding rows that one request reads.
const PIECE_BYTES: u64 = 16 << 20;

/// Largest distance in bytes between two rows that one request reads. Reading the rows between them would
/// otherwise take longer than another request.
const GAP_BYTES: u64 = 256 << 10;

/// Number of requests in progress at the same time.
const READS: usize = 8;

/// Embedding rows of the tokens that occur in a text.
pub struct EmbeddingRows {
    hidden: usize,
    /// Token ids in ascending order, each once. Row `i` of `values` belongs to `ids[i]`.
    ids: Vec<u32>,
    /// Row-major `[ids.len(), hidden]`.
    values: Vec<f32>,
}

impl EmbeddingRows {
    /// Reads the embedding rows of the tokens `ids`, which may be in any order and repeated, with the values that they have
    /// when they are stored as `storage` says.
    ///
    /// # Errors
    /// Those of [`Model::entry`], [`RowsFetch::start`], [`RowsFetch::finish`] and
    /// [`Stored::rows`](crate::format::stored::Stored::rows).
    pub async fn read(model: &Model, ids: &[u32], storage: Storage) -> Result<Self> {
        let hidden = model.config.hidden_size;
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let entry = model.entry(TensorId::Embedding)?;
        let element = storage.element(model, entry.id, entry.element, false, Place::default());
        let row_bytes = entry.bytes / entry.shape.first().copied().unwrap_or(1).max(1);
        let mut values = Vec::with_capacity(ids.len() * hidden);
        let runs = runs(&ids, PIECE_BYTES / row_bytes.max(1), GAP_BYTES / row_bytes.max(1));
        for group in runs.chunks(READS) {
            // All requests of a group are in progress before the first is awaited.
            let reads = group.iter().map(|run| {
                let (first, last) =
                    run.first().copied().zip(run.last().copied()).or_internal("a run of rows is empty")?;
                let count = u64::from(last - first) + 1;
                let rows = RowsFetch::start(model, TensorId::Embedding, first.into(), count)?;
                Ok((first, run, rows.stored_as(element)))
            });
            for (first, run, fetch) in reads.collect::<Result<Vec<_>>>()? {
                let rows = fetch.finish().await?;
                for id in run.iter() {
                    values.extend_from_slice(&rows.rows((id - first) as usize, 1, hidden)?);
                }
            }
        }
        Ok(Self { hidden, ids, values })
    }

    /// Returns the embedding `[hidden]` of the token `id`.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the row of this token was not read.
    pub fn row(&self, id: u32) -> Result<&[f32]> {
        let place = self.ids.binary_search(&id).ok();
        let values = place.and_then(|i| self.values.get(i * self.hidden..(i + 1) * self.hidden));
        values.or_internal("the embedding of a token was not read")
    }
}

/// Cuts ascending ids into pieces, each for one request: a piece spans at most `longest` rows, and
/// neighbouring ids differ by at most `gap`.
fn runs(ids: &[u32], longest: u64, gap: u64) -> Vec<&[u32]> {
    let mut runs = Vec::new();
    let mut rest = ids;
    while let Some(first) = rest.first() {
        let near = |(before, id): &(&u32, &u32)| {
            u64::from(*id - *before) <= gap.max(1) && u64::from(*id - first) < longest.max(1)
        };
        let n = 1 + rest.iter().zip(rest.iter().skip(1)).take_while(near).count();
        let (run, later) = rest.split_at(n);
        runs.push(run);
        rest = later;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_short_have_no_gaps_and_hold_every_id() {
        assert_eq!(runs(&[1, 2, 5, 50, 51, 60], 100, 9), [&[1, 2, 5][..], &[50, 51, 60]]);
        assert_eq!(runs(&[1, 2, 3, 4, 5], 2, 9), [&[1, 2][..], &[3, 4], &[5]]);
        assert_eq!(runs(&[7, 9], 0, 0), [[7], [9]]);
        assert!(runs(&[], 5, 5).is_empty());
    }
}
