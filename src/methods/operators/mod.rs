//! What becomes of the runs of a plan: the layers of the new model.
//!
//! Operators that look at activations walk through the model once, run by run, with the states of the original
//! beside those of the new model ([`walk`]), and hold the layers of one run and one system of normal equations at
//! a time.

mod flatten;
mod guard;
mod pool_refit;
mod pooling;
mod prune_comp;
mod refit;
mod replace_me;
mod span_tensors;
pub mod weighted;

use self::weighted::mixed_layers;
use crate::Result;
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::methods::walk::span::Built;
use crate::methods::work::{Task, Work};
use crate::methods::{Resources, walk};
use crate::plan::{MergePlan, Operator};

/// The work of making the layers of the new model.
pub fn work(task: &Task<'_>) -> Work {
    let spans = task.spans();
    let of_spans = |of: &dyn Fn(usize) -> Work| walk::work(task) + spans.iter().map(|n| of(*n)).sum();
    match task.options.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => Work::default(),
        Operator::Scale => prune_comp::work(task),
        Operator::ReplaceMe => of_spans(&|n| replace_me::work(task.config, n)),
        Operator::Flatten => of_spans(&|n| flatten::work(task.config, n)),
        Operator::Refit => of_spans(&|_| refit::work(task.config, task.fit_bytes)) + guard::work(task, 1),
        Operator::PoolRefit => of_spans(&|n| pool_refit::work(task, n)) + guard::work(task, 2),
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
