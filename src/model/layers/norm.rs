//! Normalisation of rows: by their root mean square (RMSNorm), or by their standard deviation (LayerNorm).

use burn::tensor::{Device, Tensor, TensorData};

use crate::Result;
use crate::kernels::backward;
use crate::kernels::rowwise::{self, NormKind};

/// RMSNorm, `weight * x / sqrt(mean(x^2) + epsilon)` over the last axis, or LayerNorm, the same of `x - mean(x)`.
#[derive(Debug, Clone)]
pub struct Norm {
    kind: NormKind,
    weight: Tensor<2>,
    epsilon: f64,
}

impl Norm {
    /// Uploads `weight` `[width]` to `device`.
    pub fn new(kind: NormKind, weight: Vec<f32>, epsilon: f64, device: &Device) -> Self {
        let width = weight.len();
        Self { kind, weight: Tensor::from_data(TensorData::new(weight, [1, width]), device), epsilon }
    }

    /// Normalises each row of `x` `[n, width]`.
    ///
    /// # Errors
    /// Those of [`rowwise::norm`].
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        rowwise::norm(self.kind, x, &self.weight, self.epsilon)
    }

    /// Computes the gradient of what the norm reads, `[n, width]`, from `x` `[n, width]`, which it reads, and the gradient `dy`
    /// of what it writes.
    ///
    /// # Errors
    /// Those of [`backward::rowwise::norm`].
    pub fn backward(&self, x: Tensor<2>, dy: Tensor<2>) -> Result<Tensor<2>> {
        backward::rowwise::norm(self.kind, x, &self.weight, self.epsilon, dy)
    }

    /// Returns the factor of each row of `x` `[n, width]` before the weights, `1 / sqrt(mean(x^2) + epsilon)`, `[n, 1]`;
    /// of a LayerNorm that of `x - mean(x)`.
    pub fn factors(&self, x: Tensor<2>) -> Tensor<2> {
        (rowwise::centred(self.kind, x).square().mean_dim(1) + self.epsilon).sqrt().recip()
    }

    /// Multiplies each row of `x` `[n, width]` by the weights alone; of a LayerNorm that of `x - mean(x)`.
    pub fn weighted(&self, x: Tensor<2>) -> Tensor<2> {
        rowwise::centred(self.kind, x) * self.weight.clone()
    }
}
