//! The output head, used by row slices: a vocabulary of 128k rows never is on the device whole.

use burn::tensor::Tensor;

use super::linear::Linear;
use super::norm::RmsNorm;
use crate::Result;
use crate::device::Accelerator;
use crate::model::open::Model;
use crate::model::tensors::TensorId;
use crate::model::weights::fetch::{RowsFetch, read_rows, read_whole};

/// Bytes of a slice of the head in `f32`, and of the logits that it makes, at most.
const SLICE_BYTES: u64 = 32 << 20;

/// Final norm and the plan of row slices.
pub struct Head<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    norm: RmsNorm,
    rows_per_slice: usize,
}

/// A slice whose bytes are on their way.
pub struct SliceFetch<'a> {
    first: usize,
    count: usize,
    rows: RowsFetch<'a>,
}

/// Consecutive rows of the head on the device.
pub struct HeadSlice {
    /// First row.
    pub first: usize,
    /// Number of rows.
    pub count: usize,
    rows: Linear,
}

impl HeadSlice {
    /// Logits `[n, count]` of normalised states `[n, hidden]`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn logits(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        self.rows.forward(states)
    }
}

impl<'a> Head<'a> {
    /// Reads the final norm; slices will suit `n_rows` states at a time.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn open(model: &'a Model, accelerator: &'a Accelerator, n_rows: usize) -> Result<Self> {
        let weight = read_whole(model, TensorId::FinalNorm).await?;
        let norm = RmsNorm::new(weight, model.config.norm_epsilon, accelerator.device());
        let widest = 4 * model.config.hidden_size.max(n_rows) as u64;
        let rows_per_slice = usize::try_from(SLICE_BYTES / widest.max(1)).unwrap_or(usize::MAX);
        Ok(Self { model, accelerator, norm, rows_per_slice: rows_per_slice.max(1) })
    }

    /// The final norm of states `[n, hidden]`.
    ///
    /// # Errors
    /// As [`RmsNorm::forward`].
    pub fn normalise(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        self.norm.forward(states)
    }

    /// The rows of a few tokens in `f32`, `[ids.len(), hidden]`, in this process's memory.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn rows_of(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        for id in ids {
            rows.extend(read_rows(self.model, self.model.head(), u64::from(*id), 1).await?.to_f32()?);
        }
        Ok(rows)
    }

    /// Rows of the head.
    pub fn n_rows(&self) -> usize {
        self.model.config.vocab_size
    }

    /// Begins fetching the slice that begins at `first`; `None` after the last.
    ///
    /// # Errors
    /// As [`RowsFetch::start`].
    pub fn fetch(&self, first: usize) -> Result<Option<SliceFetch<'a>>> {
        let count = self.rows_per_slice.min(self.n_rows().saturating_sub(first));
        if count == 0 {
            return Ok(None);
        }
        let rows = RowsFetch::start(self.model, self.model.head(), first as u64, count as u64)?;
        Ok(Some(SliceFetch { first, count, rows }))
    }

    /// Takes a fetched slice to the device.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn upload(&self, fetched: SliceFetch<'_>) -> Result<HeadSlice> {
        let SliceFetch { first, count, rows } = fetched;
        let rows = Linear::new(
            rows.finish().await?,
            count,
            self.model.config.hidden_size,
            None,
            self.accelerator.max_binding_bytes(),
            self.accelerator.device(),
        )?;
        Ok(HeadSlice { first, count, rows })
    }
}
