//! What becomes of the runs of a plan: the layers of the new model.
//!
//! Operators that look at activations walk through the model once, run by run, with the states of the original
//! beside those of the new model ([`walk`]), and hold the layers of one run and one system of normal equations at
//! a time.

mod choosing;
mod cost;
mod flatten;
mod guard;
mod original;
mod pool;
mod refit;
mod replace_me;
mod run_tensors;
mod scale;
mod seen;
mod walk;

pub use self::cost::RunCost;
use crate::Result;
use crate::model::Config;
use crate::model::new_layer::NewLayer;
use crate::pipeline::planning::mixed_layers;
use crate::pipeline::stream::{Context, Stream};
use crate::plan::{MergePlan, Operator};

/// Strengths of ridges that held-out sequences choose from, as shares of the mean of the diagonal of the Gram matrix:
/// fits to some ten thousand tokens are best at 0.1 to 1, and flat around it.
const STRENGTHS: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// [`Context::fit_bytes`] unless told otherwise. A page has 4 GB for everything.
pub const FIT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 1 << 30 } else { 3 << 30 };

/// Bytes in words.
fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// The layers of a new model.
pub struct Built {
    /// In order.
    pub layers: Vec<NewLayer>,
    /// What a reader should know, in sentences.
    pub remarks: Vec<String>,
}

/// What `operator` takes to make one layer of a run of `n_layers` on `n_rows` tokens, where least squares may need
/// `fit_bytes`.
pub fn cost(operator: Operator, config: &Config, n_layers: usize, n_rows: usize, fit_bytes: u64) -> RunCost {
    match operator {
        Operator::Average | Operator::Drop | Operator::Collapse | Operator::Scale => RunCost::default(),
        Operator::ReplaceMe => replace_me::cost(config, n_layers),
        Operator::Flatten => flatten::cost(config, n_layers),
        Operator::Refit => refit::cost(config, fit_bytes),
        Operator::PoolRefit => pool::cost(config, n_layers, n_rows, fit_bytes),
    }
}

/// Builds the layers that `plan` leads to. `stream` is of the original as it is, on the calibration text; what
/// operators that need activations fit is to give its states in spite of how the rest will be stored.
///
/// # Errors
/// What running gives.
pub async fn build(context: &Context<'_>, plan: &MergePlan, stream: &Stream) -> Result<Built> {
    let no_remarks = |layers| Built { layers, remarks: Vec::new() };
    match plan.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => mixed_layers(plan).map(no_remarks),
        Operator::Scale => scale::layers(context, plan, stream).await.map(no_remarks),
        Operator::ReplaceMe => replace_me::layers(context, plan, stream).await,
        Operator::Flatten => flatten::layers(context, plan, stream).await,
        Operator::Refit => refit::layers(context, plan, stream).await,
        Operator::PoolRefit => pool::layers(context, plan, stream).await,
    }
}
