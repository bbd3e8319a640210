//! Inputs and MLP outputs of a span's layers in the original, by which heads and neurons are chosen.

use std::borrow::Cow;

use burn::tensor::Tensor;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::walker::Walker;
use crate::Result;
use crate::error::OrInternal;
use crate::forward::states::{as_rows, to_host};
use crate::kernels::rowwise::centred;
use crate::model::Config;
use crate::model::layers::beside::Beside;
use crate::model::layers::decoder::DecoderLayer;

/// Inputs of a layer on one chunk: rows `[n, hidden]`, each [`normed`], so that no entry is larger than the
/// root of `hidden` and half precision is enough.
#[derive(Clone)]
pub struct Read {
    /// Input of attention: the residual stream before the layer.
    pub attention: Vec<f16>,
    /// Input of the MLP: the residual stream between attention and MLP, or that before the layer.
    pub mlp: Vec<f16>,
}

/// Inputs and MLP outputs of the layers of a span on one chunk.
#[derive(Clone, Default)]
pub struct Seen {
    /// Inputs of each layer, in order.
    pub reads: Vec<Read>,
    /// Sum of the MLP outputs of the layers so far, `[n, hidden]`; `None` before the first layer.
    pub written: Option<Tensor<2>>,
}

impl Seen {
    /// Runs the next layer of the span on the residual stream `x` `[sequences, tokens, hidden]` and what it reads `beside`
    /// it, adds its inputs and its MLP output to the record, and returns both after the layer.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::forward`] and [`Runner::inputs`](crate::forward::runner::Runner::inputs), and [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn pass(
        &mut self,
        walker: &Walker<'_>,
        layer: &DecoderLayer,
        x: &Tensor<3>,
        beside: &Beside,
    ) -> Result<(Tensor<3>, Beside)> {
        let config = &walker.context.model.config;
        let runner = &walker.runner;
        let (between, beside) = layer.after_attention_and_beside(x.clone(), runner.positions(), beside)?;
        let read = layer.read_by_mlp(x, &between);
        self.reads.push(Read {
            attention: halves(normed(as_rows(x), config)).await?,
            mlp: halves(normed(read.clone(), config)).await?,
        });
        let added = runner.mlp(layer, &[read]).await?.pop();
        let written = added.or_internal("a chunk went into a layer and none came out")?;
        self.written = Some(match self.written.take() {
            Some(before) => before + written.clone(),
            None => written.clone(),
        });
        let input = runner.inputs(layer, std::slice::from_ref(&beside)).await?.pop().flatten();
        Ok((layer.leaving(layer.fed(between + written, input)?).reshape(x.dims()), beside))
    }
}

/// Inputs and MLP outputs of the layers of a span on all chunks; nothing if the span was not watched.
#[derive(Default)]
pub struct Watched(Option<Vec<Seen>>);

impl Watched {
    /// Makes the record of all chunks, in order.
    pub fn of(chunks: Vec<Seen>) -> Self {
        Self(Some(chunks))
    }

    /// Returns whether the span was watched.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the inputs and outputs on the chunk at `place`, whose states before the span in the original are
    /// `original`, besides which layers read `beside`. If the span was not watched, runs `layers`, the layers of
    /// the span in the original, once more.
    ///
    /// # Errors
    /// Those of [`Seen::pass`].
    pub async fn on<'s>(
        &'s self,
        walker: &Walker<'_>,
        layers: &[DecoderLayer],
        (place, original, beside): (usize, &Tensor<3>, &Beside),
    ) -> Result<Cow<'s, Seen>> {
        if let Some(seen) = self.0.as_ref().and_then(|chunks| chunks.get(place)) {
            return Ok(Cow::Borrowed(seen));
        }
        let mut seen = Seen::default();
        let (mut x, mut beside) = (original.clone(), beside.clone());
        for layer in layers {
            (x, beside) = seen.pass(walker, layer, &x, &beside).await?;
        }
        Ok(Cow::Owned(seen))
    }

    /// Returns the bytes of the inputs and outputs of `n_layers` layers on `n_rows` rows of width `hidden`.
    pub fn bytes(n_layers: usize, n_rows: usize, hidden: usize) -> u64 {
        let of_layer = 2 * size_of::<f16>() as u64;
        (of_layer * n_layers as u64 + size_of::<f32>() as u64) * n_rows as u64 * hidden as u64
    }
}

/// Normalises each row of `x` `[n, width]` as the norms of a model with the configuration `config` do, without weights.
pub fn normed(x: Tensor<2>, config: &Config) -> Tensor<2> {
    let x = centred(config.architecture.norm, x);
    let scale = (x.clone().square().mean_dim(1) + config.norm_epsilon).sqrt().recip();
    x * scale
}

async fn halves(x: Tensor<2>) -> Result<Vec<f16>> {
    let values = to_host(x, "while fitting").await?;
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(&values);
    Ok(halves)
}
