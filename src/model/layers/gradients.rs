//! Gradients of a loss by the matrices of a layer, collected while the layer goes back.

use burn::tensor::Tensor;

use super::linear::Linear;
use crate::Result;
use crate::model::tensors::Role;

/// Gradients by the matrices of some roles. Those of other matrices are not computed.
#[derive(Debug, Default)]
pub struct Gradients {
    wanted: Vec<Role>,
    found: Vec<(Role, Tensor<2>)>,
}

impl Gradients {
    /// Collects the gradients by the matrices of `roles`.
    pub fn of(roles: &[Role]) -> Self {
        Self { wanted: roles.to_vec(), found: Vec::new() }
    }

    /// Returns the gradient `[n, n_in]` of what the `linear` projection of `role` reads, from the gradient `dy` `[n, n_out]` of
    /// what it writes. The gradient by its matrix is added to those that were found, if it is wanted; `x` `[n, n_in]` is what
    /// the projection reads.
    ///
    /// # Errors
    /// Those of [`Linear::backward`] and [`Linear::weight_gradient`].
    pub fn through(
        &mut self,
        role: Role,
        linear: &Linear,
        x: &Tensor<2>,
        dy: Tensor<2>,
    ) -> Result<Tensor<2>> {
        if self.wanted.contains(&role) {
            let of_weight = Linear::weight_gradient(x.clone(), dy.clone())?;
            match self.found.iter_mut().find(|(each, _)| *each == role) {
                Some((_, sum)) => *sum = sum.clone() + of_weight,
                None => self.found.push((role, of_weight)),
            }
        }
        linear.backward(dy)
    }

    /// Returns the gradients, each as the matrix of its role, `[n_out, n_in]`.
    pub fn into_found(self) -> Vec<(Role, Tensor<2>)> {
        self.found
    }
}
