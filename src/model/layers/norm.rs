//! Root mean square normalisation (RMSNorm).

use burn::tensor::{Device, Tensor, TensorData};

use crate::Result;
use crate::kernels::rowwise;

/// RMSNorm: `weight * x / sqrt(mean(x^2) + epsilon)` over the last axis.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor<2>,
    epsilon: f64,
}

impl RmsNorm {
    /// Uploads `weight` `[width]` to `device`.
    pub fn new(weight: Vec<f32>, epsilon: f64, device: &Device) -> Self {
        let width = weight.len();
        Self { weight: Tensor::from_data(TensorData::new(weight, [1, width]), device), epsilon }
    }

    /// Normalises each row of `x` `[n, width]`.
    ///
    /// # Errors
    /// Those of [`rowwise::rms_norm`].
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        rowwise::rms_norm(x, &self.weight, self.epsilon)
    }
    /// Returns the factor of each row of `x` `[n, width]` before the weights, `1 / sqrt(mean(x^2) + epsilon)`, `[n, 1]`.
    pub fn factors(&self, x: Tensor<2>) -> Tensor<2> {
        (x.square().mean_dim(1) + self.epsilon).sqrt().recip()
    }

    /// Multiplies each row of `x` `[n, width]` by the weights alone.
    pub fn weighted(&self, x: Tensor<2>) -> Tensor<2> {
        x * self.weight.clone()
    }
}
