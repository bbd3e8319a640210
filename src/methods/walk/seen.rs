//! What the layers of a run read and wrote in the original, which the choice of heads and neurons goes by.

use std::borrow::Cow;

use burn::tensor::Tensor;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::span::SpanChunk;
use super::walker::Walker;
use crate::Result;
use crate::forward::states::{as_rows, to_host};
use crate::model::layers::decoder::DecoderLayer;

/// What a layer reads on one chunk: rows `[n, hidden]`, each [`normed`], so that no entry is larger than the root of
/// `hidden` and half precision is enough.
#[derive(Clone)]
pub struct Read {
    /// What its attention does: the stream that enters it.
    pub attention: Vec<f16>,
    /// What its MLP does.
    pub mlp: Vec<f16>,
}

/// What the layers of a run did with one chunk.
#[derive(Clone, Default)]
pub struct Seen {
    /// What each read, in order.
    pub reads: Vec<Read>,
    /// What their MLPs wrote, together, `[n, hidden]`; `None` before the first.
    pub written: Option<Tensor<2>>,
}

impl Seen {
    /// Runs the next layer of the run on the stream `x`, and gives what leaves it.
    ///
    /// # Errors
    /// As [`DecoderLayer::forward`].
    pub async fn pass(
        &mut self,
        walker: &Walker<'_>,
        layer: &DecoderLayer,
        x: &Tensor<3>,
    ) -> Result<Tensor<3>> {
        let epsilon = walker.context.model.config.norm_epsilon;
        let between = layer.after_attention(x.clone(), walker.runner.positions())?;
        self.reads.push(Read {
            attention: halves(normed(as_rows(x), epsilon)).await?,
            mlp: halves(normed(between.clone(), epsilon)).await?,
        });
        let written = layer.down().forward(layer.activations(between.clone())?)?;
        self.written = Some(match self.written.take() {
            Some(before) => before + written.clone(),
            None => written.clone(),
        });
        Ok((between + written).reshape(x.dims()))
    }
}

/// The same for all chunks, where that was watched.
#[derive(Default)]
pub struct Watched(Option<Vec<Seen>>);

impl Watched {
    /// Of all chunks, in order.
    pub fn of(chunks: Vec<Seen>) -> Self {
        Self(Some(chunks))
    }

    /// Whether it is known.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// That of `chunk`; where it was not watched, `layers` are run again.
    ///
    /// # Errors
    /// What running gives.
    pub async fn on<'s>(
        &'s self,
        walker: &Walker<'_>,
        layers: &[DecoderLayer],
        chunk: &SpanChunk<'_>,
    ) -> Result<Cow<'s, Seen>> {
        if let Some(seen) = self.0.as_ref().and_then(|chunks| chunks.get(chunk.place)) {
            return Ok(Cow::Borrowed(seen));
        }
        let mut seen = Seen::default();
        let mut x = chunk.original.clone();
        for layer in layers {
            x = seen.pass(walker, layer, &x).await?;
        }
        Ok(Cow::Owned(seen))
    }

    /// Bytes of what `n_layers` layers do with `n_rows` rows of width `hidden`.
    pub fn bytes(n_layers: usize, n_rows: usize, hidden: usize) -> u64 {
        let of_layer = 2 * size_of::<f16>() as u64;
        (of_layer * n_layers as u64 + size_of::<f32>() as u64) * n_rows as u64 * hidden as u64
    }
}

/// Rows divided by their root mean square.
pub fn normed(x: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + epsilon).sqrt().recip();
    x * scale
}

async fn halves(x: Tensor<2>) -> Result<Vec<f16>> {
    let values = to_host(x, "while fitting").await?;
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(&values);
    Ok(halves)
}
