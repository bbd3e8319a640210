//! What becomes of the runs of a plan: the layers of the new model.
//!
//! Operators that look at activations walk through the model once, run by run, with the states of the original
//! beside those of the new model ([`walk`]), and hold the layers of one run and one system of normal equations at
//! a time.

mod flatten;
mod pool;
mod refit;
mod replace_me;
mod run_tensors;
mod scale;
mod walk;

use crate::Result;
use crate::model::new_layer::NewLayer;
use crate::pipeline::planning::mixed_layers;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::{MergePlan, Operator};

/// Strengths of ridges that held-out sequences choose from, as shares of the mean of the diagonal of the Gram matrix:
/// fits to some ten thousand tokens are best at 0.1 to 1, and flat around it.
const STRENGTHS: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// Bytes that the least-squares problems of a run may need beside the states; operators fit less where they would need
/// more. A page has 4 GB for everything.
const BUDGET_BYTES: u64 = if cfg!(target_arch = "wasm32") { 1 << 30 } else { 3 << 30 };

/// The layers of a new model.
pub struct Built {
    /// In order.
    pub layers: Vec<NewLayer>,
    /// What a reader should know, in sentences.
    pub remarks: Vec<String>,
}

/// Builds the layers that `plan` leads to. `stream` is of the original as it will be stored, on the calibration
/// text, which operators that need activations are fitted to.
///
/// # Errors
/// What running gives.
pub async fn build(context: &Context<'_>, plan: &MergePlan, stream: &Stream) -> Result<Built> {
    let no_remarks = |layers| Built { layers, remarks: Vec::new() };
    match plan.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => mixed_layers(plan).map(no_remarks),
        Operator::Scale => scale::layers(context, plan, stream).await.map(no_remarks),
        Operator::ReplaceMe => replace_me::layers(context, plan, stream).await.map(no_remarks),
        Operator::Flatten => flatten::layers(context, plan, stream).await.map(no_remarks),
        Operator::Refit => refit::layers(context, plan, stream).await,
        Operator::PoolRefit => pool::layers(context, plan, stream).await,
    }
}
