//! Prune&Comp (arXiv 2507.18212): layers are dropped, and later layers are scaled to make up for the
//! magnitude that the dropped layers added to the residual stream.
//!
//! The paper multiplies the embedding and all output and down projections before a cut by
//! `s = mean_c(E|x_post,c| / E|x_pre,c|)`. RMSNorm forgets scale, so dividing the output and down projections
//! after the cut by `s` gives the same model (but for the norm's epsilon). The embedding, to which a head may
//! be tied, then stays as it is.

use crate::Result;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::forward::states::{HiddenStates, to_host};
use crate::forward::stream::Stream;
use crate::methods::work::{Task, Work};
use crate::model::weights::fetch::scale_of;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::protocol::events::Stage;

/// Returns the layers that stay, with the layers after each cut scaled.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if the plan has more layers than the model or an empty group,
/// [`Error::Device`](crate::Error::Device) if the device fails, and those of [`Stream::visit_depths`] and [`scale_of`].
pub async fn layers(context: &Context<'_>, plan: &MergePlan, stream: &Stream) -> Result<Vec<NewLayer>> {
    let has_bos = context.sequences.has_bos();
    // Mean magnitude of each channel of the residual stream before each layer and after the last.
    let mut magnitudes = Vec::new();
    stream
        .visit_depths(context, Stage::Plan, async |states| {
            magnitudes.push(mean_magnitudes(states, has_bos).await?);
            Ok(())
        })
        .await?;
    let factor = |first: usize, end: usize| -> Result<f64> {
        let both = magnitudes.get(first).zip(magnitudes.get(end));
        let (before, after) = both.or_internal("the plan is of more layers than the model has")?;
        Ok(mean_ratio(before, after))
    };
    let mut lost = 1.0;
    let mut layers = Vec::new();
    for (place, group) in plan.groups.iter().enumerate() {
        let ends = group.first().zip(group.last()).zip(plan.survivor(place));
        let ((first, last), stays) = ends.or_internal("a group of the plan has no layers")?;
        if *first < stays {
            lost *= factor(*first, stays)?;
        }
        let layer = NewLayer::original(stays).covering(&context.model.config, group);
        layers.push(layer.scaled(1.0 / lost));
        // From here on, the stream is as large as the scales of the layers that went make it.
        for gone in group.iter().filter(|layer| **layer != stays) {
            lost /= scale_of(context.model, *gone).await?;
        }
        if stays < *last {
            lost *= factor(stays + 1, last + 1)?;
        }
    }
    Ok(layers)
}

/// Returns `mean_c(after_c / before_c)` over the channels that are not always zero; 1 if there are none.
fn mean_ratio(before: &[f64], after: &[f64]) -> f64 {
    let ratios = before.iter().zip(after).filter(|(before, _)| **before > 0.0).map(|(b, a)| a / b);
    let (sum, n) = ratios.fold((0.0, 0usize), |(sum, n), ratio| (sum + ratio, n + 1));
    if n > 0 && sum > 0.0 { sum / n as f64 } else { 1.0 }
}

/// Returns `E |x_c|` of each channel `c` over all tokens but BOS.
async fn mean_magnitudes(states: &HiddenStates, has_bos: bool) -> Result<Vec<f64>> {
    let mut sums: Vec<f64> = Vec::new();
    let mut n = 0;
    for chunk in &states.chunks {
        let [batch, tokens, _] = chunk.dims();
        let first = usize::from(has_bos).min(tokens.saturating_sub(1));
        let sum = chunk.clone().narrow(1, first, tokens - first).abs().sum_dim(1).sum_dim(0);
        let sum = to_host(sum, "between layers").await?;
        sums.resize(sum.len(), 0.0);
        sums.iter_mut().zip(sum).for_each(|(total, x)| *total += f64::from(x));
        n += batch * (tokens - first);
    }
    sums.iter_mut().for_each(|sum| *sum /= n.max(1) as f64);
    Ok(sums)
}

/// Returns the work of measuring the magnitudes before and after every layer of the original.
pub fn work(task: &Task<'_>) -> Work {
    Work::layers(task.n_layers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_averaged_over_channels_that_are_used() {
        assert_eq!(mean_ratio(&[1.0, 2.0, 0.0], &[3.0, 2.0, 5.0]), 2.0);
        assert_eq!(mean_ratio(&[0.0], &[1.0]), 1.0);
    }
}
