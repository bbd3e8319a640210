//! ReplaceMe (arXiv 2505.02819): a block of layers becomes a linear map of the MLP output before it.
//!
//! With `M` the MLP output of the layer that stays and `Y` the sum of what this MLP and the block add to the
//! residual stream, `T = argmin |M T - Y|^2`, and the down projection `W` becomes `T' W`. The paper fits
//! without weights or penalty, and massive activations then decide everything. Here rows count by their
//! relative error, and held-out sequences choose the strength of a ridge about `T = I`.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::Result;
use crate::forward::context::Context;
use crate::forward::states::to_host;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::kept::fitted::Fitted;
use crate::methods::walk::span::{Built, Span};
use crate::methods::walk::walk;
use crate::methods::walk::walker::Walker;
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::tensors::Role;
use crate::model::weights::fetch::read_f32;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Version of what [`layers`] makes of the same input. Raise the number with every change of the result, so that fitted
/// layers that are kept from before are not used.
const VERSION: u32 = 1;

/// Builds the layers of the new model: the layers that stay, with the map of each block in the layer before
/// it.
///
/// # Errors
/// Those of [`walk`], [`Walker::original`], [`Walker::upload`],
/// [`Runner::forward`](crate::forward::runner::Runner::forward), [`Walker::systems`], [`Walker::add`],
/// [`Systems::solve`](crate::methods::walk::walker::Systems::solve), [`read_f32`] and
/// [`NewLayer::replacing`], and [`Error::Device`](crate::Error::Device) if the device fails.
pub async fn layers(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    walk(
        context,
        resources,
        plan,
        stream,
        &[VERSION],
        |_| false,
        async |walker, span| fit(walker, span).await.map(Fitted::from),
    )
    .await
}

/// Returns the work of a span of `n_layers` layers, without that of walking through both models.
pub fn work(config: &Config, n_layers: usize) -> Work {
    // At most all layers of the span: the layers before the layer that stays, and this layer in parts.
    Work::layers(n_layers as f64) + Work::fit(config.hidden_size, config.hidden_size)
}

async fn fit(walker: &Walker<'_>, span: Span<'_>) -> Result<NewLayer> {
    let config = &walker.context.model.config;
    let hidden = config.hidden_size;
    let mut before = span.original.clone();
    for layer in span.layers.iter().take_while(|layer| **layer != span.stays) {
        before = walker.runner.forward(&walker.original(*layer).await?, &before).await?;
    }
    let kept = walker.weighted(NewLayer::original(span.stays))?;
    let layer = walker.upload(&kept).await?;
    let mut systems = walker.systems(hidden)?;
    for ((x, beside), chunk) in before.with_beside().zip(span.chunks()) {
        let between = layer.after_attention(x.clone(), walker.runner.positions(), beside)?;
        let mlp = layer.mlp(layer.read_by_mlp(x, &between))?;
        // Residual of the identity, subtracted row by row: a difference of sums would keep few of its digits.
        let residual = layer.summed(chunk.leaving) - between - mlp.clone();
        walker.add(
            &mut systems,
            chunk.place,
            &to_host(mlp, "while fitting").await?,
            &to_host(residual, "while fitting").await?,
            chunk.weights,
        )?;
    }
    let zero = vec![0.0f32; hidden * hidden];
    let mut map = systems.solve(&zero)?.b;
    map.iter_mut().step_by(hidden + 1).for_each(|x| *x += 1.0);

    let mut tensors = Vec::new();
    for (role, width) in [(Role::Down, config.intermediate_size), (Role::DownBias, 1)] {
        if Role::required_anywhere(config).contains(&role) {
            let weight = read_f32(walker.context.model, span.stays, role).await?;
            tensors.push((role, product(&map, &weight, hidden, width)));
        }
    }
    walker.replacing(&span, kept, tensors).await
}

/// Computes `map` `[n, n]` times `weight` `[n, width]`, all row-major.
fn product(map: &[f32], weight: &[f32], n: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0f32; n * width];
    matmul(
        MatMut::from_row_major_slice_mut(&mut out, n, width),
        Accum::Replace,
        MatRef::from_row_major_slice(map, n, n),
        MatRef::from_row_major_slice(weight, n, width),
        1.0,
        Par::Seq,
    );
    out
}
