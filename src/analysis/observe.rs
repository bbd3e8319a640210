//! Measures of one layer on the text: points for its diffusion map, its largest token, and its Block
//! Influence.

use burn::tensor::Tensor;

use crate::forward::states::{HiddenStates, to_host};
use crate::protocol::text::PointRule;
use crate::{Error, Result};

/// Measures of one layer, read back from the device.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerOutput {
    /// Points in `f32`, row-major `[n_points, hidden]`, sequence by sequence.
    pub points: Vec<f32>,
    /// Largest root mean square of a token's hidden state after the layer, BOS included.
    pub largest_rms: f64,
    /// Block Influence, `1 - E cos(x_in, x_out)` over all tokens but BOS.
    pub block_influence: f64,
}

/// Measures a layer from the hidden states `before` and `after` it; `rule` chooses the points.
///
/// # Errors
/// [`Error::Numeric`], naming `layer`, if a hidden state is not finite; those of [`to_host`] and
/// [`PointRule::positions`].
pub async fn observe(
    layer: usize,
    before: &HiddenStates,
    after: &HiddenStates,
    rule: PointRule,
    has_bos: bool,
) -> Result<LayerOutput> {
    let mut output = LayerOutput { points: Vec::new(), largest_rms: 0.0, block_influence: 0.0 };
    let at = format!("at layer {layer}");
    let (mut cosines, mut n_cosines) = (0.0, 0usize);
    for (x, y) in before.chunks.iter().zip(&after.chunks) {
        let [_, tokens, hidden] = y.dims();
        output.points.extend(to_host(points(y, rule, has_bos)?, &at).await?);
        let dot = (x.clone() * y.clone()).sum_dim(2);
        let norms = [x.clone().square().sum_dim(2), y.clone().square().sum_dim(2)];
        let [norm_in, norm_out] = norms;
        let sums = to_host(Tensor::cat(vec![dot, norm_in, norm_out], 2), &at).await?;
        for (position, token) in sums.chunks_exact(3).enumerate() {
            let [dot, a, b] = [token[0], token[1], token[2]].map(f64::from);
            if !(dot.is_finite() && a.is_finite() && b.is_finite()) {
                return Err(Error::Numeric(format!(
                    "the states after layer {layer} overflow; its weights are damaged"
                )));
            }
            output.largest_rms = output.largest_rms.max((b / hidden as f64).sqrt());
            if !(has_bos && position % tokens == 0) {
                // A hidden state of zeros has no direction; it counts as unturned.
                cosines += if a > 0.0 && b > 0.0 { dot / (a.sqrt() * b.sqrt()) } else { 1.0 };
                n_cosines += 1;
            }
        }
    }
    output.block_influence = 1.0 - cosines / n_cosines.max(1) as f64;
    Ok(output)
}

fn points(states: &Tensor<3>, rule: PointRule, has_bos: bool) -> Result<Tensor<3>> {
    let [_, tokens, _] = states.dims();
    let first = usize::from(has_bos).min(tokens.saturating_sub(1));
    if rule == PointRule::Mean {
        return Ok(states.clone().narrow(1, first, tokens - first).mean_dim(1));
    }
    let columns = rule
        .positions(tokens, has_bos)?
        .into_iter()
        .map(|position| states.clone().narrow(1, position, 1))
        .collect();
    Ok(Tensor::cat(columns, 1))
}
