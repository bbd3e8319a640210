//! A span of neighbouring layers that becomes one layer, with the hidden states around it in the original and
//! in the new model.

use burn::tensor::Tensor;

use super::seen::Watched;
use crate::Result;
use crate::forward::states::{HiddenStates, as_rows, to_host};
use crate::model::layers::beside::Beside;
use crate::model::weights::new_layer::NewLayer;

/// Span: neighbouring layers that become one layer.
pub struct Span<'r> {
    /// Indices of the layers in the original, in order.
    pub layers: &'r [usize],
    /// Index of the layer that stays if the operator keeps one.
    pub stays: usize,
    /// Hidden states before the span in the original.
    pub original: &'r HiddenStates,
    /// Hidden states before the span in the new model.
    pub entering: &'r HiddenStates,
    /// Hidden states after the span in the original, which the new layer should yield.
    pub leaving: &'r HiddenStates,
    /// Inputs and MLP outputs of the layers in the original, if the span was watched.
    pub watched: Watched,
    /// Weights of the rows of each chunk of `leaving`, made by [`relative_weights`].
    weights: Vec<Vec<f32>>,
}

/// Hidden states around a span, for one chunk of sequences.
pub struct SpanChunk<'r> {
    /// Index of the chunk among the chunks of the text.
    pub place: usize,
    /// Hidden states before the span in the original, `[sequences, tokens, hidden]`.
    pub original: &'r Tensor<3>,
    /// Hidden states before the span in the new model, `[sequences, tokens, hidden]`.
    pub entering: &'r Tensor<3>,
    /// What layers read besides either.
    pub beside: [&'r Beside; 2],
    /// Hidden states after the span in the original, `[sequences * tokens, hidden]`.
    pub leaving: Tensor<2>,
    /// Weight of each row of `leaving` in a fit.
    pub weights: &'r [f32],
}

impl<'r> Span<'r> {
    /// Makes a span of the neighbouring `layers`, of which an operator may keep `stays`. `original` and
    /// `entering` are the hidden states before the span in the original and in the new model; `leaving` are
    /// the hidden states after the span in the original.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn new(
        layers: &'r [usize],
        stays: usize,
        [original, entering, leaving]: [&'r HiddenStates; 3],
        watched: Watched,
    ) -> Result<Self> {
        let mut weights = Vec::with_capacity(leaving.chunks.len());
        for chunk in &leaving.chunks {
            let [.., hidden] = chunk.dims();
            weights.push(relative_weights(&to_host(as_rows(chunk), "while fitting").await?, hidden));
        }
        Ok(Self { layers, stays, original, entering, leaving, watched, weights })
    }

    /// Returns the hidden states of all chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = SpanChunk<'_>> {
        let entering = self.original.with_beside().zip(self.entering.with_beside());
        let states = entering.zip(&self.leaving.chunks).zip(&self.weights);
        states.enumerate().map(|(place, ((both, leaving), weights))| {
            let ((original, before), (entering, now)) = both;
            let beside = [before, now];
            SpanChunk { place, original, entering, beside, leaving: as_rows(leaving), weights }
        })
    }
}

/// Returns `1 / rms` of each row of `targets` `[n, width]`. With these weights, every token counts by its
/// relative error, so that tokens with massive activations take part in a fit but do not decide it alone. A
/// row of zeros has the weight 0.
fn relative_weights(targets: &[f32], width: usize) -> Vec<f32> {
    let rms = |row: &[f32]| {
        let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        (square / width.max(1) as f64).sqrt()
    };
    let weight = |rms: f64| if rms > 0.0 { (1.0 / rms) as f32 } else { 0.0 };
    targets.chunks(width.max(1)).map(|row| weight(rms(row))).collect()
}

/// Layers of a new model.
pub struct Built {
    /// Layers in order.
    pub layers: Vec<NewLayer>,
    /// Remarks for the reader of the result, each a sentence.
    pub remarks: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_rows_alike() {
        assert_eq!(relative_weights(&[3.0, -3.0, 0.0, 0.0, 10.0, 10.0], 2), [1.0 / 3.0, 0.0, 0.1]);
    }
}
