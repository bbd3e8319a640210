//! Operators, which make the layers of the new model from the spans of a plan.
//!
//! Operators that fit layers to activations walk once through the original and the new model, span by span,
//! with the hidden states of both side by side (see [`walk`]). They hold the layers and the normal equations
//! of only one span at a time.

mod flatten;
mod guard;
mod match_experts;
mod pool_refit;
mod pooling;
mod prune_comp;
mod refit;
mod replace_me;
mod span_tensors;
pub mod weighted;

use self::weighted::mixed_layers;
use crate::evaluate::reference::kept_layers;
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::methods::walk::span::Built;
use crate::methods::work::{Task, Work};
use crate::methods::{Resources, walk};
use crate::model::Config;
use crate::plan::{MergePlan, Operator};
use crate::{Error, Result};

/// Checks that an operator is defined for models with the configuration `config`.
///
/// # Errors
/// [`Error::Unsupported`], which names operators that are.
pub fn supports(operator: Operator, config: &Config) -> Result<()> {
    if operator == Operator::MatchExperts && !config.has_experts() {
        return Err(Error::Unsupported(format!(
            "operator {operator} is not defined for {}, whose layers have no experts in this model; {} averages layers",
            config.architecture_name(),
            Operator::Average
        )));
    }
    let whose = match operator {
        Operator::Flatten | Operator::ReplaceMe if config.architecture.norms_after() => {
            "normalise what they add to the residual stream"
        }
        Operator::Flatten | Operator::ReplaceMe | Operator::Scale if config.has_experts() => "have experts",
        Operator::Flatten | Operator::ReplaceMe if config.reads_beside() => {
            "read keys of other layers or have inputs of their own"
        }
        Operator::Flatten if config.has_other_mixers() => "have mixers of different kinds",
        _ => return Ok(()),
    };
    Err(Error::Unsupported(format!(
        "operator {operator} is not defined for {}, whose layers {whose}; {}, {} and {} are",
        config.architecture_name(),
        Operator::PoolRefit,
        Operator::Average,
        Operator::Drop
    )))
}

/// Returns whether the new layer of a span has parts of several layers of the span, in models with the configuration
/// `config`.
pub fn combines_layers(operator: Operator, config: &Config) -> bool {
    operator.combines_layers() && (operator != Operator::PoolRefit || pool_refit::pools(config))
}

/// Returns, for each layer of the model of `plan`, the original layers that it has parts of.
pub fn kept_groups(plan: &MergePlan, config: &Config) -> Vec<Vec<usize>> {
    match combines_layers(plan.operator, config) {
        true => plan.groups.clone(),
        false => (0..plan.groups.len()).map(|place| plan.survivor(place).into_iter().collect()).collect(),
    }
}

/// Returns the work of making the layers of the new model.
pub fn work(task: &Task<'_>) -> Work {
    if task.options.keeps_layers() {
        return Work::default();
    }
    let spans = task.spans();
    let of_spans = |of: &dyn Fn(usize) -> Work| walk::work(task) + spans.iter().map(|n| of(*n)).sum();
    match task.options.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => Work::default(),
        Operator::MatchExperts => of_spans(&|n| match_experts::work(task, n)) + guard::work(task, 2),
        Operator::Scale => prune_comp::work(task),
        Operator::ReplaceMe => of_spans(&|n| replace_me::work(task.config, n)),
        Operator::Flatten => of_spans(&|n| flatten::work(task.config, n)),
        Operator::Refit => of_spans(&|_| refit::work(task.config, task.fit_bytes)) + guard::work(task, 1),
        Operator::PoolRefit => of_spans(&|n| pool_refit::work(task, n)) + guard::work(task, 2),
    }
}

/// Builds the layers of the new model that `plan` describes. `stream` holds the hidden states of the original
/// as it is stored, on the calibration text. Operators that fit layers to activations aim at these states,
/// however the new model will be stored. Where weights are rounded by what their inputs are, layers are built as they are
/// before that.
///
/// # Errors
/// - Those of [`mixed_layers`] for operators that only mix weights;
/// - those of [`Stream::visit_depths`] for [`Operator::Scale`];
/// - those of [`walk::walk`] for the other operators, whose fits fail with
///   [`Error::Numeric`](crate::Error::Numeric) if activations overflow and with
///   [`Error::Limit`](crate::Error::Limit) if there is no memory for the normal equations;
/// - [`Error::Device`](crate::Error::Device) if the device fails, and
///   [`Error::Internal`](crate::Error::Internal) if the plan does not fit the model.
pub async fn build(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    let context = &Context { storage: context.storage.before_rounding(), ..*context };
    let no_remarks = |layers| Built { layers, remarks: Vec::new() };
    if plan.groups.iter().all(|group| group.len() == 1) {
        // Experts are removed, if anything.
        return kept_layers(plan, &context.model.config).map(no_remarks);
    }
    match plan.operator {
        Operator::Average | Operator::Drop | Operator::Collapse => {
            mixed_layers(plan, &context.model.config).map(no_remarks)
        }
        Operator::MatchExperts => match_experts::layers(context, resources, plan, stream).await,
        Operator::Scale => prune_comp::layers(context, plan, stream).await.map(no_remarks),
        Operator::ReplaceMe => replace_me::layers(context, resources, plan, stream).await,
        Operator::Flatten => flatten::layers(context, resources, plan, stream).await,
        Operator::Refit => refit::layers(context, resources, plan, stream).await,
        Operator::PoolRefit => pool_refit::layers(context, resources, plan, stream).await,
    }
}
