//! Gated MLPs: those of layers, and those that are experts.

use burn::tensor::Tensor;

use super::gradients::Gradients;
use super::linear::Linear;
use super::record::{Record, Watch};
use crate::Result;
use crate::kernels::backward;
use crate::kernels::rowwise::{self, Activation};
use crate::model::tensors::Role;

/// Gated MLP: `down(f(gate x) * up x)`.
#[derive(Debug, Clone)]
pub struct Mlp {
    activation: Activation,
    gate: Linear,
    up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Rows that go through the MLP at once.
    pub rows: usize,
}

impl Mlp {
    /// Makes an MLP of its projections, through which `rows` rows go at once.
    pub fn new(activation: Activation, gate: Linear, up: Linear, down: Linear, rows: usize) -> Self {
        Self { activation, gate, up, down, rows }
    }

    /// Records what the projections read in `record`, if given, as of the expert `expert`.
    #[must_use]
    pub fn watched(self, record: Option<&Record>, expert: usize) -> Self {
        let watch = |role| {
            record.map(|record| Watch { record: record.clone(), role, expert: Some(expert), factor: 1.0 })
        };
        Self {
            gate: self.gate.watched(watch(Role::Gate)),
            up: self.up.watched(watch(Role::Up)),
            down: self.down.watched(watch(Role::Down)),
            ..self
        }
    }

    /// Computes the output `[n, hidden]` of `x` `[n, hidden]`, whose activations are multiplied by `scale`. Rows go in
    /// blocks whose activations fit in a binding of the device.
    ///
    /// # Errors
    /// Those of [`gated`](Self::gated) and [`Linear::forward`].
    pub fn forward(&self, x: Tensor<2>, scale: f64) -> Result<Tensor<2>> {
        let [n, _] = x.dims();
        let block = |x| self.down.forward(self.gated(x, scale)?);
        if n <= self.rows {
            return block(x);
        }
        let first = (0..n).step_by(self.rows);
        let parts = first.map(|first| block(x.clone().narrow(0, first, self.rows.min(n - first))));
        Ok(Tensor::cat(parts.collect::<Result<Vec<_>>>()?, 0))
    }

    /// Computes the gradient of what the MLP reads, `[n, hidden]`, from `x` `[n, hidden]`, which it reads, the `scale` of its
    /// activations and the gradient `dy` `[n, hidden]` of what it writes. Rows go in the blocks of
    /// [`forward`](Self::forward).
    ///
    /// # Errors
    /// Those of [`gated`](Self::gated), [`Gradients::through`] and [`backward::rowwise::gated`].
    pub fn backward(
        &self,
        x: Tensor<2>,
        scale: f64,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Result<Tensor<2>> {
        let [n, _] = x.dims();
        let mut parts = Vec::new();
        for first in (0..n).step_by(self.rows.min(n).max(1)) {
            let count = self.rows.min(n - first);
            let [x, dy] = [&x, &dy].map(|all| all.clone().narrow(0, first, count));
            let [gate, up] = Linear::forward_all([&self.gate, &self.up], x.clone())?;
            let gated = rowwise::scaled(rowwise::gated(self.activation, gate.clone(), up.clone())?, scale);
            let d_gated = rowwise::scaled(gradients.through(Role::Down, &self.down, &gated, dy)?, scale);
            let [d_gate, d_up] = backward::rowwise::gated(self.activation, gate, up, d_gated)?;
            let by_gate = gradients.through(Role::Gate, &self.gate, &x, d_gate)?;
            parts.push(by_gate + gradients.through(Role::Up, &self.up, &x, d_up)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, 0) })
    }

    /// Computes the activations before the down projection, `[n, intermediate]`, multiplied by `scale`.
    ///
    /// # Errors
    /// Those of [`Linear::forward_all`] and [`rowwise::gated`].
    pub fn gated(&self, x: Tensor<2>, scale: f64) -> Result<Tensor<2>> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], x)?;
        Ok(rowwise::scaled(rowwise::gated(self.activation, gate, up)?, scale))
    }
}

/// Returns the number of rows of `intermediate` activations in f32 that a binding of `max_binding_bytes` holds, at least
/// 1; 0 bytes are no limit.
pub fn mlp_rows(intermediate: usize, max_binding_bytes: u64) -> usize {
    let of_row = (4 * intermediate as u64).max(1);
    match max_binding_bytes {
        0 => usize::MAX,
        most => usize::try_from(most / of_row).unwrap_or(usize::MAX).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::GUARANTEED_BINDING_BYTES;

    #[test]
    fn rows_of_the_mlp_fit_in_a_binding() {
        assert_eq!(mlp_rows(14_336, GUARANTEED_BINDING_BYTES), 2340);
        assert_eq!(mlp_rows(28_672, GUARANTEED_BINDING_BYTES), 1170);
        assert_eq!(mlp_rows(1 << 40, GUARANTEED_BINDING_BYTES), 1);
        assert_eq!(mlp_rows(14_336, 0), usize::MAX);
    }
}
