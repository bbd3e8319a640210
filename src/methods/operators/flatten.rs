//! FlattenGPT (arXiv 2602.08858): the layers of a span side by side on the same input, of which the most
//! important heads and neurons stay.
//!
//! Groups of heads are ranked by the norm of what they write to the residual stream, neurons by their
//! ridge-leverage score. The Nystrom method passes on to the kept neurons what the dropped neurons have in
//! common with them.

use super::span_tensors::{
    GroupShape, activations, assemble, bound_groups, columns, contexts, joined, read_span, side_by_side,
    upload_all,
};
use crate::Result;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::forward::states::as_rows;
use crate::forward::stream::Stream;
use crate::maths::least_squares::{Normal, leverage_bytes, leverage_keep};
use crate::methods::Resources;
use crate::methods::kept::fitted::Fitted;
use crate::methods::operators::span_tensors::heads;
use crate::methods::walk::span::{Built, Span};
use crate::methods::walk::walk;
use crate::methods::walk::walker::Walker;
use crate::methods::work::Work;
use crate::model::Config;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Ridge of the leverage scores and of the Nystrom repair, in mean eigenvalues of the Gram matrix.
const RIDGE: f64 = 10.0;

/// Version of what [`layers`] makes of the same input. Raise the number with every change of the result, so that fitted
/// layers that are kept from before are not used.
const VERSION: u32 = 1;

/// Builds the layers of the new model, with one flattened layer for each span.
///
/// # Errors
/// Those of [`walk`], [`read_span`], [`upload_all`], [`contexts`], [`activations`], [`Normal::add`],
/// [`leverage_keep`], [`assemble`] and [`NewLayer::replacing`].
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
    let m = config.intermediate_size * n_layers;
    let kept = config.intermediate_size as f64;
    let scores = (m as f64).powi(3) / 3.0 + kept.powi(3) / 6.0 + kept * kept * (m as f64 - kept);
    let of_span = n_layers as f64;
    // The Gram matrix of the heads is there while that of the neurons is summed and ranked.
    let bytes = Normal::bytes(m, 0)
        + Normal::bytes(heads(config) * n_layers, 0)
        + leverage_bytes(m)
        + 4 * config.parameters_per_layer() * n_layers as u64;
    Work { uploads: of_span, passes: of_span, solutions: 2.0 * scores, bytes, ..Work::default() }
        + Work::sums(m, 0)
        + Work::sums(heads(config) * n_layers, 0)
}

async fn fit(walker: &Walker<'_>, span: Span<'_>) -> Result<NewLayer> {
    let model = walker.context.model;
    let config = &model.config;
    let folded = read_span(walker, &span).await?;
    let uploaded = upload_all(walker, &folded)?;
    let (contexts, activations) = gram(walker, &span, &uploaded).await?;

    let (inner, heads) = (config.intermediate_size, config.n_heads * config.head_dim);
    let shape = GroupShape::new(config);
    let output = side_by_side(&folded, Role::Output, heads)?;
    let width = heads * folded.len();
    let n_groups = shape.per_layer * folded.len();
    let norm = |group: usize| -> Result<f64> {
        // The norm is summed head by head: what two heads of a group write against each other does not count.
        let columns = shape.columns(&[group]);
        columns.chunks(config.head_dim.max(1)).map(|head| written(&contexts, &output, width, head)).sum()
    };
    let ranked = (0..n_groups).map(|group| Ok((group, norm(group)?)));
    let mut ranked: Vec<(usize, f64)> = ranked.collect::<Result<_>>()?;
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut groups: Vec<usize> = ranked.into_iter().map(|(group, _)| group).take(shape.per_layer).collect();
    groups.sort_unstable();
    let groups = bound_groups(config, &span)?.unwrap_or(groups);

    let repair = leverage_keep(&activations, inner, RIDGE)?;
    let down = repair.apply(&side_by_side(&folded, Role::Down, inner)?)?;
    let output = columns(&output, width, &shape.columns(&groups))?;
    let tensors = assemble(config, &span, &folded, &groups, &repair.kept, &output, &down)?;
    walker.replacing(&span, NewLayer::original(span.stays), tensors).await
}

/// Sums the Gram matrices of the span's attention contexts and of its MLP activations over all tokens but
/// BOS, whose massive activations would drown the other tokens.
async fn gram(walker: &Walker<'_>, span: &Span<'_>, layers: &[DecoderLayer]) -> Result<(Normal, Normal)> {
    let config = &walker.context.model.config;
    let sequences = walker.context.sequences;
    let mut heads = Normal::new(config.n_heads * config.head_dim * layers.len(), 0)?;
    let mut neurons = Normal::new(config.intermediate_size * layers.len(), 0)?;
    for (x, beside) in span.original.with_beside() {
        let parts = contexts(layers, x, beside, walker)?;
        let mut between = as_rows(x);
        for (layer, part) in layers.iter().zip(&parts) {
            between = between + layer.attention_written(part.clone())?;
        }
        let gated = activations(layers, x, &between)?;
        let n_rows = between.dims()[0];
        let is_bos = |row: usize| sequences.has_bos() && row.is_multiple_of(sequences.tokens());
        let weights: Vec<f32> = (0..n_rows).map(|row| if is_bos(row) { 0.0 } else { 1.0 }).collect();
        heads.add(&joined(parts).await?, &[], &weights)?;
        neurons.add(&joined(gated).await?, &[], &weights)?;
    }
    Ok((heads, neurons))
}

/// Computes `sum_t |z_t O'|^2` over tokens `t`, where `z_t` are the columns `chosen` of the contexts and `O`
/// the same columns of `output` `[hidden, width]`: the trace of `O G O'`, with `G` the Gram matrix of the
/// `z_t`.
fn written(contexts: &Normal, output: &[f32], width: usize, chosen: &[usize]) -> Result<f64> {
    let missing = "a column of the heads is missing";
    let mut sum = 0.0;
    for row in output.chunks(width.max(1)) {
        let mut of_row = 0.0;
        for i in chosen {
            let mut product = 0.0;
            for j in chosen {
                let entry = contexts.gram(*i, *j).or_internal(missing)?;
                product += f64::from(entry) * f64::from(*row.get(*j).or_internal(missing)?);
            }
            of_row += f64::from(*row.get(*i).or_internal(missing)?) * product;
        }
        sum += of_row;
    }
    Ok(sum)
}
