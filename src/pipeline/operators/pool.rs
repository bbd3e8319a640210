//! Pool-refit: heads and neurons of all layers of a run are pooled, the ones that are needed stay, and the output
//! and down projections are solved for.
//!
//! 1. Each layer reads the stream that enters the run in the new model; a linear map that takes it to what the
//!    layer read in the original, where held-out sequences say that it helps, is folded into its projections.
//! 2. As many groups of heads as one layer has are kept, by backward elimination of the group without which the
//!    stream after the run is still explained best; the output projection is a ridge about the present one.
//! 3. The same for neurons, and the down projection.
//!
//! Rows count by their relative error, and all tokens are in the fit.

use burn::tensor::{Tensor, TensorData};

use super::cost::heads;
use super::guard::{Guard, Kind};
use super::refit;
use super::run_tensors::{
    Folded, GroupShape, activations, assemble, columns, contexts, joined, read_run, side_by_side, upload_all,
};
use super::walk::{Run, RunChunk, Systems, Walker, as_rows, fetch, walk};
use crate::Result;
use crate::least_squares::{Normal, eliminate, eliminate_bytes, eliminate_groups, ridge_bytes};
use crate::model::Config;
use crate::model::layer::DecoderLayer;
use crate::model::names::Role;
use crate::model::new_layer::NewLayer;
use crate::pipeline::checkpoint::fitted::Fitted;
use crate::pipeline::operators::{Built, RunCost, megabytes};
use crate::pipeline::stream::{Context, Stream, state_bytes};
use crate::plan::MergePlan;

/// Rounds in which neurons go, and the ridge of eliminations, as a share of the mean of the diagonal.
const ROUNDS: usize = 6;
const ELIMINATION_RIDGE: f64 = 1e-2;

/// The layers of the new model, one pooled for each run.
///
/// # Errors
/// What running gives.
pub async fn layers(context: &Context<'_>, plan: &MergePlan, stream: &Stream) -> Result<Built> {
    let mut guard = None;
    let mut built = walk(context, plan, stream, async |walker, run| {
        let guard = Guard::of(&mut guard, walker).await?;
        let unfitted = guard.unfitted(walker, &run).await?;
        let mut remarks = Vec::new();
        let needed = bytes(&context.model.config, run.layers.len());
        if needed > context.fit_bytes {
            remarks.push(format!(
                "Layers {:?} were refitted without pooling, which would need {} of memory.",
                run.layers,
                megabytes(needed)
            ));
        } else {
            let pooled = (Kind::Pooled, fit(walker, &run).await?);
            if let Some(layer) = guard.judge(walker, &run, pooled, &unfitted, &mut remarks).await? {
                return Ok(Fitted { layer, remarks });
            }
        }
        refit::guarded(walker, &run, guard, &unfitted, remarks).await
    })
    .await?;
    built.remarks.extend(refit::remark(context));
    Ok(built)
}

/// Memory that pooling `n_layers` layers needs beside the states.
fn bytes(config: &Config, n_layers: usize) -> u64 {
    let (m, d) = (config.intermediate_size * n_layers, config.hidden_size);
    let weights = 4 * config.parameters_per_layer() * n_layers as u64;
    2 * Normal::bytes(m, d) + eliminate_bytes(m).max(ridge_bytes(m, d)) + weights
}

/// What [`layers`] takes for a run of `n_layers`.
pub fn cost(config: &Config, n_layers: usize, fit_bytes: u64) -> RunCost {
    let refit = refit::cost(config, fit_bytes);
    if bytes(config, n_layers) > fit_bytes {
        return refit;
    }
    let (inner, d) = (config.intermediate_size, config.hidden_size);
    // What the layers read in the original; contexts three times and activations twice.
    let walked =
        RunCost { uploads: 3.0 * n_layers as f64, passes: 3.5 * n_layers as f64, ..RunCost::default() };
    // Queries, keys and values once, gates and ups twice.
    let aligned = RunCost::fit(d, d).times(3 * n_layers);
    let (all_heads, all_neurons) = ((heads(config) * n_layers) as f64, (inner * n_layers) as f64);
    let rounds = eliminated(inner * n_layers, inner).map(|m| m.powi(3) / 2.0 + m * m * d as f64).sum::<f64>();
    let groups = GroupShape::new(config);
    let gone = (groups.per_layer * n_layers.saturating_sub(1)) as f64;
    let inverse = all_heads.powi(3) / 2.0 + gone * all_heads * all_heads * groups.queries as f64;
    let chosen =
        RunCost { solutions: rounds + inverse, bytes: bytes(config, n_layers), ..RunCost::default() };
    let sums = RunCost::sums(all_heads as usize, d) + RunCost::sums(all_neurons as usize, d);
    walked + aligned + chosen + sums + RunCost::ridge(heads(config), d) + RunCost::ridge(inner, d) + refit
}

/// Regressors at the beginning of each round of an elimination from `m` to `keep` (see [`eliminate`]).
fn eliminated(m: usize, keep: usize) -> impl Iterator<Item = f64> {
    let surplus = m.saturating_sub(keep);
    (0..ROUNDS).map(move |round| (keep + (surplus >> round)) as f64)
}

async fn fit(walker: &Walker<'_>, run: &Run<'_>) -> Result<NewLayer> {
    let model = walker.context.model;
    let config = &model.config;
    let mut folded = read_run(walker, run).await?;
    let reads = Reads::new(walker, run, upload_all(walker, &folded)?)?;
    align_attention(walker, run, &reads, &mut folded).await?;
    let attending = upload_all(walker, &folded)?;
    let (groups, output) = pool_heads(walker, run, &reads, &attending, &folded).await?;

    let between = Mixer::new(walker, &attending, &groups, &output).after_attention(walker, run)?;
    drop(attending);
    align_mlp(walker, run, &reads, &between, &mut folded).await?;
    drop(reads);
    let activating = upload_all(walker, &folded)?;
    let (neurons, down) = pool_neurons(walker, run, &activating, &between, &folded).await?;
    drop((between, activating));

    let tensors = assemble(config, run, &folded, &groups, &neurons, &output, &down);
    let layer =
        NewLayer::original(run.stays).replacing(model, run.layers, walker.context.storage, tensors)?;
    // Once more on the layer as it will be stored, so that this fit makes up for the rounding of the others.
    refit::solve(walker, run, layer, output, down).await
}

/// What the layers of a run read in the original.
enum Reads {
    /// Of each chunk, of each layer; where there is room.
    Kept(Vec<Vec<Read>>),
    /// To be run when it is asked for.
    Anew(Vec<DecoderLayer>),
}

/// What a layer reads, `[n, hidden]`.
#[derive(Clone)]
struct Read {
    /// What its attention does: the stream that enters it.
    attention: Tensor<2>,
    /// What its MLP does.
    mlp: Tensor<2>,
}

impl Reads {
    fn new(walker: &Walker<'_>, run: &Run<'_>, layers: Vec<DecoderLayer>) -> Result<Self> {
        let bytes = 2 * layers.len() as u64 * state_bytes(walker.context.model, walker.context.sequences);
        if bytes > walker.context.fit_bytes / 4 {
            return Ok(Reads::Anew(layers));
        }
        Ok(Reads::Kept(run.chunks().map(|chunk| Self::run(walker, &layers, &chunk)).collect::<Result<_>>()?))
    }

    fn run(walker: &Walker<'_>, layers: &[DecoderLayer], chunk: &RunChunk<'_>) -> Result<Vec<Read>> {
        let shape = chunk.original.dims();
        let mut attention = as_rows(chunk.original);
        let mut reads = Vec::with_capacity(layers.len());
        for (place, layer) in layers.iter().enumerate() {
            let mlp = layer.after_attention(attention.clone().reshape(shape), walker.runner.positions())?;
            let read = Read { attention, mlp: mlp.clone() };
            reads.push(read);
            if place + 1 == layers.len() {
                break;
            }
            attention = mlp.clone() + layer.down().forward(layer.activations(mlp)?)?;
        }
        Ok(reads)
    }

    /// Of each layer, on one chunk.
    fn on(&self, walker: &Walker<'_>, chunk: &RunChunk<'_>) -> Result<Vec<Read>> {
        match self {
            Reads::Kept(chunks) => Ok(chunks.get(chunk.place).cloned().unwrap_or_default()),
            Reads::Anew(layers) => Self::run(walker, layers, chunk),
        }
    }
}

/// What the chosen groups of heads of a run write to the stream.
struct Mixer<'m> {
    layers: &'m [DecoderLayer],
    /// Columns of the run's contexts.
    columns: Tensor<1, burn::tensor::Int>,
    /// `[columns, hidden]`.
    output: Tensor<2>,
    bias: Option<Tensor<2>>,
}

impl<'m> Mixer<'m> {
    fn new(walker: &Walker<'_>, layers: &'m [DecoderLayer], groups: &[usize], output: &[f32]) -> Self {
        let config = &walker.context.model.config;
        let device = walker.context.accelerator.device();
        let chosen: Vec<i32> =
            GroupShape::new(config).columns(groups).into_iter().map(|column| column as i32).collect();
        let width = chosen.len();
        let columns = Tensor::from_data(TensorData::new(chosen, [width]), device);
        let output = TensorData::new(output.to_vec(), [config.hidden_size, width]);
        let output = Tensor::<2>::from_data(output, device).transpose();
        let biases = layers.iter().filter_map(|layer| layer.output().bias().cloned());
        Self { layers, columns, output, bias: biases.reduce(|a, b| a + b) }
    }

    /// The stream `[n, hidden]` after the chosen heads, of each chunk of `run`.
    fn after_attention(&self, walker: &Walker<'_>, run: &Run<'_>) -> Result<Vec<Tensor<2>>> {
        run.chunks().map(|chunk| self.after(walker, chunk.entering)).collect()
    }

    fn after(&self, walker: &Walker<'_>, x: &Tensor<3>) -> Result<Tensor<2>> {
        let contexts = contexts(self.layers, x, walker)?;
        let chosen = Tensor::cat(contexts, 1).select(1, self.columns.clone());
        let after = as_rows(x) + chosen.matmul(self.output.clone());
        Ok(match &self.bias {
            Some(bias) => after + bias.clone(),
            None => after,
        })
    }
}

/// Rows divided by their root mean square.
fn normed(x: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + epsilon).sqrt().recip();
    x * scale
}

/// Folds into each layer's queries, keys and values the map from what enters the run in the new model to what the
/// layer read in the original.
async fn align_attention(
    walker: &Walker<'_>,
    run: &Run<'_>,
    reads: &Reads,
    folded: &mut [Folded],
) -> Result<()> {
    let entering: Vec<_> = run.chunks().map(|chunk| as_rows(chunk.entering)).collect();
    let systems = alignment(walker, run, reads, &entering, |read| read.attention).await?;
    fold_maps(walker, systems, folded, &[Role::Query, Role::Key, Role::Value]).await
}

/// The same for gates and ups, from the stream after the chosen heads, `between` of each chunk.
async fn align_mlp(
    walker: &Walker<'_>,
    run: &Run<'_>,
    reads: &Reads,
    between: &[Tensor<2>],
    folded: &mut [Folded],
) -> Result<()> {
    let systems = alignment(walker, run, reads, between, |read| read.mlp).await?;
    fold_maps(walker, systems, folded, &[Role::Gate, Role::Up]).await
}

/// For each layer of a run: what `part` of it read in the original, less what it reads now, by what it reads now; all
/// normalised. `now` is of each chunk.
async fn alignment(
    walker: &Walker<'_>,
    run: &Run<'_>,
    reads: &Reads,
    now: &[Tensor<2>],
    part: impl Fn(Read) -> Tensor<2>,
) -> Result<Vec<Systems>> {
    let config = &walker.context.model.config;
    let mut systems = Systems::one_each(walker, run.layers.len())?;
    for (chunk, now) in run.chunks().zip(now) {
        let read = normed(now.clone(), config.norm_epsilon);
        let values = fetch(read.clone()).await?;
        let weights = vec![1.0; values.len() / config.hidden_size.max(1)];
        for (original, systems) in reads.on(walker, &chunk)?.into_iter().zip(&mut systems) {
            let target = normed(part(original), config.norm_epsilon) - read.clone();
            walker.add(systems, chunk.place, &values, &fetch(target).await?, &weights)?;
        }
    }
    Ok(systems)
}

/// `W <- W (I + R)'`, where `R` explains the targets of each layer's system best: what the layer read in the original
/// less what it reads now.
async fn fold_maps(
    walker: &Walker<'_>,
    systems: Vec<Systems>,
    folded: &mut [Folded],
    roles: &[Role],
) -> Result<()> {
    let hidden = walker.context.model.config.hidden_size;
    let zero = vec![0.0f32; hidden * hidden];
    for (mut systems, layer) in systems.into_iter().zip(folded) {
        let mut map = systems.solve(&zero)?;
        if map.lambda.is_none() {
            continue;
        }
        map.b.iter_mut().step_by(hidden + 1).for_each(|x| *x += 1.0);
        // Row-major `[targets, regressors]`: reading `n`, the layer would have read `map n`.
        let device = walker.context.accelerator.device();
        let map = Tensor::<2>::from_data(TensorData::new(map.b, [hidden, hidden]), device);
        for role in roles {
            if let Some(weight) = layer.get_mut(*role) {
                let rows = weight.len() / hidden.max(1);
                let values = TensorData::new(std::mem::take(weight), [rows, hidden]);
                let product = Tensor::<2>::from_data(values, device).matmul(map.clone());
                *weight = fetch(product).await?;
            }
        }
    }
    Ok(())
}

impl Systems {
    fn one_each(walker: &Walker<'_>, n: usize) -> Result<Vec<Self>> {
        (0..n).map(|_| walker.systems(walker.context.model.config.hidden_size)).collect()
    }

    /// Both problems with the regressors `indices` only.
    fn subset(&self, indices: &[usize]) -> Result<Self> {
        Ok(Self { fit: self.fit.subset(indices)?, held_out: self.held_out.subset(indices)? })
    }
}

/// The groups of heads that stay, and the output projection `[hidden, their columns]`.
async fn pool_heads(
    walker: &Walker<'_>,
    run: &Run<'_>,
    reads: &Reads,
    layers: &[DecoderLayer],
    folded: &[Folded],
) -> Result<(Vec<usize>, Vec<f32>)> {
    let config = &walker.context.model.config;
    let heads = config.n_heads * config.head_dim;
    let width = heads * layers.len();
    // All heads and all neurons side by side, the neurons reading what all heads together give: what the MLPs add
    // is not for the heads to explain.
    let all: Vec<usize> = (0..GroupShape::new(config).per_layer * layers.len()).collect();
    let mixer = Mixer::new(walker, layers, &all, &side_by_side(folded, Role::Output, heads));
    let between = mixer.after_attention(walker, run)?;
    let mut aligned = folded.to_vec();
    align_mlp(walker, run, reads, &between, &mut aligned).await?;
    let activating = upload_all(walker, &aligned)?;
    let mut systems = walker.systems(width)?;
    for (chunk, between) in run.chunks().zip(&between) {
        let parts = contexts(layers, chunk.entering, walker)?;
        let mut target = chunk.leaving - as_rows(chunk.entering);
        for layer in &activating {
            target = target - layer.down().forward(layer.activations(between.clone())?)?;
            if let Some(bias) = layer.output().bias() {
                target = target - bias.clone();
            }
        }
        let (z, y) = (joined(parts).await?, fetch(target).await?);
        walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
    }
    let shape = GroupShape::new(config);
    let groups = eliminate_groups(&systems.fit, shape.queries, shape.per_layer, ELIMINATION_RIDGE)?;
    let chosen = shape.columns(&groups);
    let start = columns(&side_by_side(folded, Role::Output, heads), width, &chosen);
    let mut systems = systems.subset(&chosen)?;
    let output = systems.solve(&start)?.b;
    Ok((groups, output))
}

/// The neurons that stay, and the down projection `[hidden, their number]`.
async fn pool_neurons(
    walker: &Walker<'_>,
    run: &Run<'_>,
    layers: &[DecoderLayer],
    between: &[Tensor<2>],
    folded: &[Folded],
) -> Result<(Vec<usize>, Vec<f32>)> {
    let config = &walker.context.model.config;
    let inner = config.intermediate_size;
    let width = inner * layers.len();
    let mut systems = walker.systems(width)?;
    for (chunk, between) in run.chunks().zip(between) {
        let gated = activations(layers, between)?;
        let mut target = chunk.leaving - between.clone();
        for bias in layers.iter().filter_map(|layer| layer.down().bias()) {
            target = target - bias.clone();
        }
        let (z, y) = (joined(gated).await?, fetch(target).await?);
        walker.add(&mut systems, chunk.place, &z, &y, chunk.weights)?;
    }
    let neurons = eliminate(&systems.fit, inner, ROUNDS, ELIMINATION_RIDGE)?;
    let start = columns(&side_by_side(folded, Role::Down, inner), width, &neurons);
    let mut systems = systems.subset(&neurons)?;
    let down = systems.solve(&start)?.b;
    Ok((neurons, down))
}
