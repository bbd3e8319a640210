//! What becomes of the runs of a plan: the layers of the new model.
//!
//! Operators that look at activations walk through the model once, run by run, with the states of the original
//! beside those of the new model ([`walk`]), and hold the layers of one run and one system of normal equations at
//! a time.

pub mod cost;
mod flatten;
mod guard;
mod pool_refit;
mod pooling;
mod prune_comp;
mod refit;
mod replace_me;
mod span_tensors;
pub mod weighted;

pub use self::cost::SpanCost;

use self::weighted::mixed_layers;
use crate::Result;
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::walk::span::Built;
use crate::model::Config;
use crate::plan::{MergePlan, Operator};

/// What `operator` takes to make one layer of a run of `n_layers` on `n_rows` tokens, where least squares may need
/// `fit_bytes`.
pub fn cost(operator: Operator, config: &Config, n_layers: usize, n_rows: usize, fit_bytes: u64) -> SpanCost {
    match operator {
        Operator::Average | Operator::Drop | Operator::Collapse | Operator::Scale => SpanCost::default(),
        Operator::ReplaceMe => replace_me::cost(config, n_layers),
        Operator::Flatten => flatten::cost(config, n_layers),
        Operator::Refit => refit::cost(config, fit_bytes),
        Operator::PoolRefit => pool_refit::cost(config, n_layers, n_rows, fit_bytes),
    }
}

/// Builds the layers that `plan` leads to. `stream` is of the original as it is, on the calibration text; what
/// operators that need activations fit is to give its states in spite of how the rest will be stored.
///
/// # Errors
/// What running gives.
pub async fn build(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    let no_remarks = |layers| Built { layers, remarks: Vec::new() };
    match plan.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => mixed_layers(plan).map(no_remarks),
        Operator::Scale => prune_comp::layers(context, plan, stream).await.map(no_remarks),
        Operator::ReplaceMe => replace_me::layers(context, resources, plan, stream).await,
        Operator::Flatten => flatten::layers(context, resources, plan, stream).await,
        Operator::Refit => refit::layers(context, resources, plan, stream).await,
        Operator::PoolRefit => pool_refit::layers(context, resources, plan, stream).await,
    }
}
