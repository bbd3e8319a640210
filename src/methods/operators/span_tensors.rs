//! The weights of all layers of a run, of which some heads and neurons become one layer.

use burn::tensor::Tensor;

use crate::Result;
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::forward::states::to_host;
use crate::methods::walk::span::Span;
use crate::methods::walk::walker::Walker;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;
use crate::model::weights::fetch::read_f32;
use crate::model::{Config, Model};

/// One layer of a run in `f32`, its norms folded into the projections that read them: `norm(x) W'` of a plain
/// RMSNorm is what the layer computes.
#[derive(Clone)]
pub struct Folded {
    tensors: Vec<(Role, Vec<f32>)>,
    /// The weights of the norms before attention and before the MLP.
    norms: [Vec<f32>; 2],
}

impl Folded {
    /// Reads a layer.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn read(model: &Model, layer: usize) -> Result<Self> {
        let config = &model.config;
        let mut tensors = Vec::new();
        for role in Role::required(config) {
            tensors.push((role, read_f32(model, layer, role).await?));
        }
        let mut folded = Self { tensors, norms: [Vec::new(), Vec::new()] };
        let attention = std::mem::take(folded.get_mut(Role::AttentionNorm)?);
        let mlp = std::mem::take(folded.get_mut(Role::MlpNorm)?);
        for (role, norm) in [
            (Role::Query, &attention),
            (Role::Key, &attention),
            (Role::Value, &attention),
            (Role::Gate, &mlp),
            (Role::Up, &mlp),
        ] {
            for row in folded.get_mut(role)?.chunks_mut(norm.len().max(1)) {
                row.iter_mut().zip(norm).for_each(|(w, n)| *w *= n);
            }
        }
        folded.norms = [attention, mlp];
        Ok(folded)
    }

    /// The tensor of a role that the model [requires](Role::required).
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) for any other role.
    pub fn get(&self, role: Role) -> Result<&[f32]> {
        let found = self.tensors.iter().find(|(each, _)| *each == role);
        found.map(|(_, tensor)| tensor.as_slice()).or_internal("a tensor of a span's layer was not read")
    }

    /// The tensor of a role, to be changed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, role: Role) -> Result<&mut Vec<f32>> {
        let found = self.tensors.iter_mut().find(|(each, _)| *each == role);
        found.map(|(_, tensor)| tensor).or_internal("a tensor of a span's layer was not read")
    }

    /// Takes the layer to the device, with norms of ones.
    ///
    /// # Errors
    /// As [`DecoderLayer::upload`].
    pub fn upload(&self, walker: &Walker<'_>) -> Result<DecoderLayer> {
        let ones = vec![1.0f32; walker.context.model.config.hidden_size];
        let stored = |(role, tensor): &(Role, Vec<f32>)| match role {
            Role::AttentionNorm | Role::MlpNorm => (*role, Stored::from_f32(&ones)),
            _ => (*role, Stored::from_f32(tensor)),
        };
        walker.runner.upload(self.tensors.iter().map(stored).collect())
    }
}

/// Sizes of a group of heads that share keys and values.
#[derive(Clone, Copy)]
pub struct GroupShape {
    /// Groups in a layer.
    pub per_layer: usize,
    /// Columns of contexts that a group gives: its query heads' widths.
    pub queries: usize,
    /// Rows of its key and of its value projection.
    pub keys: usize,
}

impl GroupShape {
    /// Those of a model.
    pub fn new(config: &Config) -> Self {
        let per_layer = config.n_kv_heads.max(1);
        Self { per_layer, queries: config.n_heads / per_layer * config.head_dim, keys: config.head_dim }
    }

    /// The columns of the run's contexts that belong to `groups`.
    pub fn columns(self, groups: &[usize]) -> Vec<usize> {
        groups.iter().flat_map(|group| group * self.queries..(group + 1) * self.queries).collect()
    }
}

/// Reads all layers of a run.
///
/// # Errors
/// What reading gives.
pub async fn read_span(walker: &Walker<'_>, span: &Span<'_>) -> Result<Vec<Folded>> {
    let mut folded = Vec::with_capacity(span.layers.len());
    for layer in span.layers {
        folded.push(Folded::read(walker.context.model, *layer).await?);
    }
    Ok(folded)
}

/// Takes all layers of a run to the device.
///
/// # Errors
/// As [`DecoderLayer::upload`].
pub fn upload_all(walker: &Walker<'_>, folded: &[Folded]) -> Result<Vec<DecoderLayer>> {
    folded.iter().map(|layer| layer.upload(walker)).collect()
}

/// What the heads of each layer gather from the same stream.
///
/// # Errors
/// As [`DecoderLayer::contexts`].
pub fn contexts(layers: &[DecoderLayer], x: &Tensor<3>, walker: &Walker<'_>) -> Result<Vec<Tensor<2>>> {
    layers.iter().map(|layer| layer.contexts(x.clone(), walker.runner.positions())).collect()
}

/// What the neurons of each layer activate on the same stream.
///
/// # Errors
/// As [`DecoderLayer::activations`].
pub fn activations(layers: &[DecoderLayer], between: &Tensor<2>) -> Result<Vec<Tensor<2>>> {
    layers.iter().map(|layer| layer.activations(between.clone())).collect()
}

/// The tensors of the layer that has the given groups of heads and neurons of a run, counted through all its layers,
/// and the given output and down projections. Its norms are those of the layer of the run that stays, taken out of the
/// projections again: block types round alike what is alike in size, as the weights of a trained layer are. Biases of the output and down projections are the
/// sums of the layers'.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a head, a neuron or a tensor that none of the layers has.
pub fn assemble(
    config: &Config,
    span: &Span<'_>,
    folded: &[Folded],
    groups: &[usize],
    neurons: &[usize],
    output: &[f32],
    down: &[f32],
) -> Result<Vec<(Role, Vec<f32>)>> {
    let shape = GroupShape::new(config);
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    // The rows of the chosen groups or neurons, of which each layer has `per_layer`, each of `width` numbers.
    let rows = |role: Role, per_layer: usize, chosen: &[usize], width: usize| -> Result<Vec<f32>> {
        let missing = "a chosen head or neuron is of none of the layers";
        let mut rows = Vec::with_capacity(chosen.len() * width);
        for place in chosen {
            let layer = folded.get(place / per_layer.max(1)).or_internal(missing)?;
            let first = place % per_layer.max(1) * width;
            rows.extend_from_slice(layer.get(role)?.get(first..first + width).or_internal(missing)?);
        }
        Ok(rows)
    };
    let summed = |role: Role| -> Result<Vec<f32>> {
        let mut sum = vec![0.0; hidden];
        for layer in folded {
            sum.iter_mut().zip(layer.get(role)?).for_each(|(s, x)| *s += x);
        }
        Ok(sum)
    };
    let stays = span.layers.iter().zip(folded).find(|(layer, _)| **layer == span.stays);
    let (_, stays) = stays.or_internal("the layer that stays is not of the span")?;
    let [attention, mlp] = stays.norms.each_ref().map(|norm| usable(norm));
    let unfold = |mut weight: Vec<f32>, norm: &[f32]| {
        for row in weight.chunks_mut(hidden.max(1)) {
            row.iter_mut().zip(norm).for_each(|(w, n)| *w /= n);
        }
        weight
    };
    let tensor = |role: Role| -> Result<Vec<f32>> {
        Ok(match role {
            Role::Query => unfold(rows(role, shape.per_layer, groups, shape.queries * hidden)?, &attention),
            Role::QueryBias => rows(role, shape.per_layer, groups, shape.queries)?,
            Role::Key | Role::Value => {
                unfold(rows(role, shape.per_layer, groups, shape.keys * hidden)?, &attention)
            }
            Role::KeyBias | Role::ValueBias => rows(role, shape.per_layer, groups, shape.keys)?,
            Role::Gate | Role::Up => unfold(rows(role, inner, neurons, hidden)?, &mlp),
            Role::GateBias | Role::UpBias => rows(role, inner, neurons, 1)?,
            Role::Output => output.to_vec(),
            Role::Down => down.to_vec(),
            Role::OutputBias | Role::DownBias => summed(role)?,
            Role::AttentionNorm => attention.clone(),
            Role::MlpNorm => mlp.clone(),
            Role::RotaryFrequencies => vec![1.0; config.head_dim / 2],
        })
    };
    Role::required(config).into_iter().map(|role| Ok((role, tensor(role)?))).collect()
}

/// Weights of a norm that can be divided by: none is closer to zero than a thousandth of the largest.
fn usable(norm: &[f32]) -> Vec<f32> {
    let least = norm.iter().fold(0.0f32, |most, x| most.max(x.abs())) * 1e-3;
    norm.iter()
        .map(|x| if x.abs() >= least && *x != 0.0 { *x } else { least.max(f32::MIN_POSITIVE) })
        .collect()
}

/// The matrices `[rows, width]` of a role of all layers side by side: `[rows, layers width]`.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if the layers' matrices differ in shape.
pub fn side_by_side(span: &[Folded], role: Role, width: usize) -> Result<Vec<f32>> {
    let matrices = span.iter().map(|layer| layer.get(role)).collect::<Result<Vec<_>>>()?;
    let n_rows = matrices.first().map_or(0, |matrix| matrix.len() / width.max(1));
    let mut joined = Vec::with_capacity(n_rows * width * matrices.len());
    for i in 0..n_rows {
        for matrix in &matrices {
            let row = matrix.get(i * width..(i + 1) * width);
            joined.extend_from_slice(row.or_internal("layers of a span differ in shape")?);
        }
    }
    Ok(joined)
}

/// The columns `chosen` of a row-major matrix of `width` columns.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a column that does not exist.
pub fn columns(matrix: &[f32], width: usize, chosen: &[usize]) -> Result<Vec<f32>> {
    let rows = matrix.chunks(width.max(1));
    let value = |(row, column): (&[f32], &usize)| row.get(*column).copied();
    let values = rows.flat_map(|row| chosen.iter().map(move |column| (row, column))).map(value);
    values.collect::<Option<_>>().or_internal("a chosen column is not there")
}

/// Tensors of equal rows side by side, on the host.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub async fn joined(parts: Vec<Tensor<2>>) -> Result<Vec<f32>> {
    to_host(Tensor::cat(parts, 1), "while fitting").await
}

/// Columns of the contexts of a layer.
pub fn heads(config: &Config) -> usize {
    config.n_heads * config.head_dim
}

/// The share of a layer's parameters that belongs to its attention, 0 to 1.
pub fn attention_share(config: &Config) -> f64 {
    let mlp = 3 * config.hidden_size as u64 * config.intermediate_size as u64;
    1.0 - mlp as f64 / config.parameters_per_layer().max(1) as f64
}
