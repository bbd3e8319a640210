//! A span of neighbouring layers that becomes one layer, with the states around it in the original and in the new model.

use burn::tensor::Tensor;

use super::seen::Watched;
use crate::Result;
use crate::forward::states::{HiddenStates, as_rows, to_host};
use crate::model::weights::new_layer::NewLayer;

/// A run of layers that becomes one.
pub struct Span<'r> {
    /// The layers, which follow each other.
    pub layers: &'r [usize],
    /// The one that stays where the operator keeps one.
    pub stays: usize,
    /// What enters the first in the original.
    pub original: &'r HiddenStates,
    /// What enters the first in the new model.
    pub entering: &'r HiddenStates,
    /// What leaves the last in the original: what the new layer should yield.
    pub leaving: &'r HiddenStates,
    /// What the layers did in the original, where that was watched.
    pub watched: Watched,
    /// [`relative_weights`] of the rows of each chunk of `leaving`.
    weights: Vec<Vec<f32>>,
}

/// Some sequences of a run.
pub struct SpanChunk<'r> {
    /// Their place among the chunks of the text.
    pub place: usize,
    /// What enters in the original.
    pub original: &'r Tensor<3>,
    /// What enters in the new model.
    pub entering: &'r Tensor<3>,
    /// What leaves in the original, as rows.
    pub leaving: Tensor<2>,
    /// How much each row counts.
    pub weights: &'r [f32],
}

impl<'r> Span<'r> {
    /// A span of the neighbouring `layers`, of which `stays` is the one that an operator may keep, with the states that
    /// enter it in the original and in the new model and that leave it in the original.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn new(
        layers: &'r [usize],
        stays: usize,
        original: &'r HiddenStates,
        entering: &'r HiddenStates,
        leaving: &'r HiddenStates,
        watched: Watched,
    ) -> Result<Self> {
        let mut weights = Vec::with_capacity(leaving.chunks.len());
        for chunk in &leaving.chunks {
            let [.., hidden] = chunk.dims();
            weights.push(relative_weights(&to_host(as_rows(chunk), "while fitting").await?, hidden));
        }
        Ok(Self { layers, stays, original, entering, leaving, watched, weights })
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = SpanChunk<'_>> {
        let states = self.original.chunks.iter().zip(&self.entering.chunks).zip(&self.leaving.chunks);
        states.zip(&self.weights).enumerate().map(|(place, (((original, entering), leaving), weights))| {
            SpanChunk { place, original, entering, leaving: as_rows(leaving), weights }
        })
    }
}

/// `1 / rms` of each row, so that every token counts by its relative error and those that carry massive
/// activations do not decide the fit alone, yet are in it. A row of zeros has no weight.
fn relative_weights(targets: &[f32], width: usize) -> Vec<f32> {
    let rms = |row: &[f32]| {
        let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        (square / width.max(1) as f64).sqrt()
    };
    let weight = |rms: f64| if rms > 0.0 { (1.0 / rms) as f32 } else { 0.0 };
    targets.chunks(width.max(1)).map(|row| weight(rms(row))).collect()
}

/// The layers of a new model.
pub struct Built {
    /// In order.
    pub layers: Vec<NewLayer>,
    /// What a reader should know, in sentences.
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
