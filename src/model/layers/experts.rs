//! Experts: the router that chooses some of them for each token, and what a chosen expert adds.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::linear::Linear;
use super::mlp::{Mlp, mlp_rows};
use super::record::Record;
use crate::device::Accelerator;
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::kernels::rowwise::Activation;
use crate::model::config::ExpertSizes;
use crate::model::tensors::Role;
use crate::model::weights::new_experts::NewExperts;
use crate::model::weights::storage::LayerStorage;
use crate::{Error, Result};

/// What a layer has in the place of an MLP: a router on the device, and experts that stay in the files until tokens are
/// routed to them.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Original experts that these are made of.
    pub made_of: NewExperts,
    /// How the experts are stored.
    pub stored: LayerStorage,
    /// Number and sizes of the experts.
    pub sizes: ExpertSizes,
    /// Function of the gates of the experts.
    pub activation: Activation,
    /// Scores of the experts.
    pub router: Linear,
    /// Expert that serves every token, and the row whose sigmoid says how much it adds.
    pub shared: Option<(Mlp, Linear)>,
    /// Where what the products read is recorded, if it is.
    pub record: Option<Record>,
}

/// Tokens of some rows that were routed to one expert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routed {
    /// Indices of the rows, ascending.
    pub rows: Vec<i32>,
    /// Gate of each row: what the output of the expert is multiplied by.
    pub gates: Vec<f32>,
}

impl Experts {
    /// Chooses the experts of each row of `scores` `[n, count]`, row-major, and returns the rows of each expert. The
    /// experts with the largest scores are chosen; of equal scores, the first.
    ///
    /// # Errors
    /// [`Error::Numeric`] if a score is not finite.
    pub fn route(&self, scores: &[f32]) -> Result<Vec<Routed>> {
        route(scores, self.sizes)
    }

    /// Computes what the expert that serves every token adds, `[n, hidden]`, from what experts read; `None` if there is no
    /// such expert.
    ///
    /// # Errors
    /// Those of [`Mlp::forward`] and [`Linear::forward`].
    pub fn shared(&self, x: &Tensor<2>) -> Result<Option<Tensor<2>>> {
        let Some((mlp, row)) = &self.shared else { return Ok(None) };
        let share = sigmoid(row.forward(x.clone())?);
        Ok(Some(mlp.forward(x.clone(), 1.0)? * share))
    }

    /// Uploads the tensors of an expert, in the order of [`Role::of_expert`](crate::model::tensors::Role::of_expert).
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many; those of [`Linear::new`] and [`Stored::to_f32`].
    pub fn upload(&self, tensors: Vec<Stored>, hidden: usize, accelerator: &Accelerator) -> Result<Mlp> {
        let (width, most) = (self.sizes.width, accelerator.max_binding_bytes());
        let mut tensors = tensors.into_iter();
        let mut weight = || tensors.next().or_internal("an expert has not three projections");
        let weights = [weight()?, weight()?, weight()?];
        let biases = tensors.map(|bias| bias.to_f32()).collect::<Result<Vec<_>>>()?;
        let mut biases = biases.into_iter();
        let mut linear = |stored, role, n_out, n_in| -> Result<Linear> {
            let linear = Linear::new(stored, n_out, n_in, biases.next(), most, accelerator.device())?;
            Ok(linear.rounding_inputs(self.stored.rounds_inputs.contains(&role)))
        };
        let [gate, up, down] = weights;
        Ok(Mlp::new(
            self.activation,
            linear(gate, Role::Gate, width, hidden)?,
            linear(up, Role::Up, width, hidden)?,
            linear(down, Role::Down, hidden, width)?,
            mlp_rows(width, most),
        ))
    }
}

impl Routed {
    /// Returns what `expert` makes of the rows of `x` `[n, hidden]` that were routed to it, one row for each of
    /// [`rows`](Self::rows), of which there must be some.
    ///
    /// # Errors
    /// Those of [`Mlp::forward`].
    pub fn outputs(&self, x: &Tensor<2>, expert: &Mlp) -> Result<Tensor<2>> {
        expert.forward(x.clone().select(0, self.row_indices(&x.device())), 1.0)
    }

    /// Adds `outputs`, those of an expert on the rows that were routed to it, times their gates to `sum` `[n, hidden]`.
    pub fn add(&self, sum: Tensor<2>, outputs: Tensor<2>) -> Tensor<2> {
        let device = sum.device();
        let gates = TensorData::new(self.gates.clone(), [self.gates.len(), 1]);
        let y = outputs * Tensor::<2>::from_data(gates, &device);
        sum.select_assign(0, self.row_indices(&device), y, IndexingUpdateOp::Add)
    }

    fn row_indices(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.rows.clone(), [self.rows.len()]), device)
    }
}

fn route(scores: &[f32], sizes: ExpertSizes) -> Result<Vec<Routed>> {
    let ExpertSizes { count, used, normalised, .. } = sizes;
    let mut routed = vec![Routed::default(); count];
    for (row, scores) in scores.chunks(count.max(1)).enumerate() {
        if let Some(bad) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::Numeric(format!(
                "a router gives the score {bad}: the model's weights are damaged"
            )));
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let score = |e: &usize| scores.get(*e).copied().unwrap_or(f32::NEG_INFINITY);
        // A stable sort: of equal scores, the first comes first.
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let most = order.first().map_or(0.0, score);
        let weight = |e: &usize| f64::from(score(e) - most).exp();
        let chosen = order.get(..used).unwrap_or(&order);
        let total: f64 = if normalised { chosen } else { &order }.iter().map(weight).sum();
        for e in chosen {
            let to = routed.get_mut(*e).or_internal("an expert was chosen that does not exist")?;
            to.rows
                .push(i32::try_from(row).map_err(|_| Error::internal("too many rows are routed at once"))?);
            to.gates.push((weight(e) / total) as f32);
        }
    }
    Ok(routed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(normalised: bool) -> ExpertSizes {
        ExpertSizes { count: 3, used: 2, width: 4, normalised, shared_width: None }
    }

    #[test]
    fn the_best_experts_are_chosen_and_gates_add_up() {
        let e = std::f64::consts::E;
        let scores = [0.0, 1.0, 1.0, 2.0, -1.0, 2.0];
        let routed = route(&scores, sizes(true)).unwrap();
        // Of the first row the last two; of the second the first and the last.
        assert_eq!(routed[0].rows, [1]);
        assert_eq!(routed[1].rows, [0]);
        assert_eq!(routed[2].rows, [0, 1]);
        assert_eq!((routed[0].gates[0], routed[1].gates[0]), (0.5, 0.5));
        assert_eq!(routed[2].gates, [0.5, 0.5]);
        let raw = route(&scores, sizes(false)).unwrap();
        assert!((f64::from(raw[1].gates[0]) - e / (1.0 + 2.0 * e)).abs() < 1e-7);
        assert!(matches!(route(&[0.0, f32::NAN, 0.0], sizes(true)), Err(Error::Numeric(_))));
    }

    #[test]
    fn of_equal_scores_the_first_are_chosen() {
        let routed = route(&[1.0, 1.0, 1.0], sizes(true)).unwrap();
        assert_eq!(routed.iter().map(|r| r.rows.len()).collect::<Vec<_>>(), [1, 1, 0]);
    }
}
