//! The output head, used in slices of rows: the head of a vocabulary of 128k tokens is never on the device
//! whole.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::linear::Linear;
use super::norm::Norm;
use crate::Result;
use crate::device::{Accelerator, Tally};
use crate::error::OrInternal;
use crate::format::element::Element;
use crate::kernels::{backward, rowwise};
use crate::model::config::Scales;
use crate::model::open::Model;
use crate::model::tensors::TensorId;
use crate::model::weights::fetch::{RowsFetch, read_whole};
use crate::model::weights::storage::Storage;

/// Most bytes of a slice of the head in `f32`, and of the logits that a slice makes.
const SLICE_BYTES: u64 = 32 << 20;

/// Final norm of a model, and its output head, cut into slices of rows.
pub struct Head<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    norm: Norm,
    /// Element type in which the rows are stored.
    element: Element,
    rows_per_slice: usize,
}

/// A slice of the head that is being read.
pub struct SliceFetch<'a> {
    first: usize,
    count: usize,
    rows: RowsFetch<'a>,
}

/// Consecutive rows of the head on the device.
pub struct HeadSlice {
    /// Index of the first row, which is a token id.
    pub first: usize,
    /// Number of rows.
    pub count: usize,
    rows: Linear,
    /// Factor of the logits, and their cap.
    scale: f64,
    cap: Option<f64>,
    tally: Arc<Tally>,
}

impl HeadSlice {
    /// Computes the logits `[n, count]` of normalised hidden states `[n, hidden]`.
    ///
    /// # Errors
    /// Those of [`Linear::forward`].
    pub fn logits(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        self.tally.add_head(states.dims()[0], self.count);
        rowwise::capped_at(rowwise::scaled(self.rows.forward(states)?, self.scale), self.cap)
    }

    /// Returns the cap of the logits, if they have one.
    pub fn cap(&self) -> Option<f64> {
        self.cap
    }

    /// Computes the gradient of normalised hidden states `[n, hidden]` from the gradient `dy` `[n, count]` of their logits, which
    /// must be given as `capped` if they have a [cap](Self::cap).
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the logits are missing; those of [`Linear::backward`].
    pub fn backward(&self, dy: Tensor<2>, capped: Option<Tensor<2>>) -> Result<Tensor<2>> {
        let dy = match self.cap {
            Some(_) => {
                let capped = capped.or_internal("logits that are capped were not kept")?;
                backward::rowwise::uncapped_at(dy, capped, self.cap)
            }
            None => dy,
        };
        self.rows.backward(rowwise::scaled(dy, self.scale))
    }
}

impl<'a> Head<'a> {
    /// Reads the final norm and chooses the size of the slices for `n_rows` hidden states at a time. The rows will have the
    /// element type in which `storage` stores them.
    ///
    /// # Errors
    /// Those of [`read_whole`] and [`Storage::head`].
    pub async fn open(
        model: &'a Model,
        storage: Storage,
        accelerator: &'a Accelerator,
        n_rows: usize,
    ) -> Result<Self> {
        let weight = read_whole(model, TensorId::FinalNorm).await?;
        let norm = Norm::new(
            model.config.architecture.norm,
            weight,
            model.config.norm_epsilon,
            accelerator.device(),
        );
        let widest = 4 * model.config.hidden_size.max(n_rows) as u64;
        let rows_per_slice = usize::try_from(SLICE_BYTES / widest.max(1)).unwrap_or(usize::MAX);
        let element = storage.head(model)?;
        Ok(Self { model, accelerator, norm, element, rows_per_slice: rows_per_slice.max(1) })
    }

    /// Returns the element type in which the rows are stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Applies the final norm to hidden states `[n, hidden]`.
    ///
    /// # Errors
    /// Those of [`Norm::forward`].
    pub fn normalise(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        self.norm.forward(states)
    }

    /// Computes the gradient of hidden states `[n, hidden]` from the gradient `dy` of what [`normalise`](Self::normalise) makes of
    /// them.
    ///
    /// # Errors
    /// Those of [`Norm::backward`].
    pub fn normalise_backward(&self, states: Tensor<2>, dy: Tensor<2>) -> Result<Tensor<2>> {
        self.norm.backward(states, dy)
    }

    /// Reads the rows of the head for the tokens `ids` in `f32`, row-major `[ids.len(), hidden]`, into this
    /// process's memory.
    ///
    /// # Errors
    /// Those of [`RowsFetch::start`] and [`RowsFetch::finish`].
    pub async fn rows_of(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        for id in ids {
            let row = RowsFetch::start(self.model, self.model.head(), u64::from(*id), 1)?;
            rows.extend(row.stored_as(self.element).finish().await?.to_f32()?);
        }
        Ok(rows)
    }

    /// Returns the number of rows of the head, which is the vocabulary size.
    pub fn n_rows(&self) -> usize {
        self.model.config.vocab_size
    }

    /// Begins to read the slice that starts at row `first`; `None` if there is no such row.
    ///
    /// # Errors
    /// Those of [`RowsFetch::start`].
    pub fn fetch(&self, first: usize) -> Result<Option<SliceFetch<'a>>> {
        let count = self.rows_per_slice.min(self.n_rows().saturating_sub(first));
        if count == 0 {
            return Ok(None);
        }
        let rows = RowsFetch::start(self.model, self.model.head(), first as u64, count as u64)?;
        Ok(Some(SliceFetch { first, count, rows: rows.stored_as(self.element) }))
    }

    /// Waits for a slice and uploads it to the device.
    ///
    /// # Errors
    /// Those of [`RowsFetch::finish`] and [`Linear::new`].
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
        let Scales { logits: scale, logit_cap: cap, .. } = self.model.config.scales;
        Ok(HeadSlice { first, count, rows, scale, cap, tally: self.accelerator.tally().clone() })
    }
}
