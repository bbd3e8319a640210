//! Block Influence: how much one layer changes its input.

use super::cosine::mean_cosine;
use crate::error::{Error, Result};
use crate::manifold::{Normalise, Points};

/// `1 - E cos(x_in, x_out)` over paired points: 0 for a layer that only rescales its input, at most 2.
///
/// `input` and `output` hold the residual stream before and after the layer, row by row the same tokens (Men
/// et al., "ShortGPT", 2024). For more tokens than fit at once, average the values of equal chunks.
///
/// # Errors
/// [`Error::Shape`] where the two differ in shape, [`Error::Numeric`] for a point that is all zeros. Both
/// name the layer.
///
/// # Examples
/// ```
/// use laminate::manifold::Points;
/// use laminate::similarity::block_influence;
///
/// let input = Points::from_f64(3, 2, 2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
/// let turned = Points::from_f64(3, 2, 2, vec![0.0, 5.0, -5.0, 0.0]).unwrap();
/// assert_eq!(block_influence(3, &input, &turned).unwrap(), 1.0);
/// ```
pub fn block_influence(layer: usize, input: &Points, output: &Points) -> Result<f64> {
    if input.n_points() != output.n_points() || input.dim() != output.dim() {
        return Err(Error::Shape(format!(
            "block influence of layer {layer}: {} x {} points go in, {} x {} come out",
            input.n_points(),
            input.dim(),
            output.n_points(),
            output.dim()
        )));
    }
    let input = input.normalised(layer, Normalise::Rms)?;
    let output = output.normalised(layer, Normalise::Rms)?;
    Ok(1.0 - mean_cosine(&input, &output))
}
