//! Weights of all layers of a span, and the layer that is made of some of their heads and neurons.

use burn::tensor::Tensor;

use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::forward::states::to_host;
use crate::methods::walk::span::Span;
use crate::methods::walk::walker::Walker;
use crate::model::architectures::{HeadNorms, Norms};
use crate::model::config::LayerKind;
use crate::model::layers::beside::Beside;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;
use crate::model::weights::fetch::{LayerTensors, read_f32};
use crate::model::weights::new_experts::NewExperts;
use crate::model::weights::storage::LayerStorage;
use crate::model::{Config, Model};
use crate::{Error, Result};

/// Weights of a layer of a span in `f32`, with its norms folded into the projections that read them: the
/// layer computes `norm(x) W'` with a norm without weights.
#[derive(Clone)]
pub struct Folded {
    tensors: Vec<(Role, Vec<f32>)>,
    /// Weights of the norms before attention and before the MLP, which may be one norm.
    norms: [Vec<f32>; 2],
    kind: LayerKind,
}

impl Folded {
    /// Reads layer `layer` of `model` and folds its norms.
    ///
    /// # Errors
    /// Those of [`read_f32`].
    pub async fn read(model: &Model, layer: usize) -> Result<Self> {
        let config = &model.config;
        let mut tensors = Vec::new();
        let kind = config.kind(layer)?;
        for role in Role::required(config, kind) {
            tensors.push((role, read_f32(model, layer, role).await?));
        }
        let mut folded = Self { tensors, norms: [Vec::new(), Vec::new()], kind };
        let attention = std::mem::take(folded.get_mut(Role::AttentionNorm)?);
        let mlp = match config.architecture.norms {
            Norms::Shared => attention.clone(),
            _ => std::mem::take(folded.get_mut(Role::MlpNorm)?),
        };
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

    /// Returns the tensor of a role that the model [requires](Role::required), row-major.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) for any other role.
    pub fn get(&self, role: Role) -> Result<&[f32]> {
        let found = self.tensors.iter().find(|(each, _)| *each == role);
        found.map(|(_, tensor)| tensor.as_slice()).or_internal("a tensor of a span's layer was not read")
    }

    /// Returns the tensor of a role, to be changed.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn get_mut(&mut self, role: Role) -> Result<&mut Vec<f32>> {
        let found = self.tensors.iter_mut().find(|(each, _)| *each == role);
        found.map(|(_, tensor)| tensor).or_internal("a tensor of a span's layer was not read")
    }

    /// Uploads the layer to the device, with norms of ones.
    ///
    /// # Errors
    /// Those of [`DecoderLayer::upload`].
    pub fn upload(&self, walker: &Walker<'_>) -> Result<DecoderLayer> {
        let ones = vec![1.0f32; walker.context.model.config.hidden_size];
        let stored = |(role, tensor): &(Role, Vec<f32>)| match role {
            Role::AttentionNorm | Role::MlpNorm => (*role, Stored::from_f32(&ones)),
            _ => (*role, Stored::from_f32(tensor)),
        };
        let tensors = self.tensors.iter().map(stored).collect();
        walker.runner.upload(LayerTensors {
            tensors,
            kind: self.kind,
            experts: NewExperts::new(Vec::new()),
            stored: LayerStorage::of(walker.context.storage),
            // Layers that share keys or have inputs of their own are not pooled.
            keys_are_read: false,
            input: None,
        })
    }
}

/// Sizes of a group of heads that share keys and values.
#[derive(Clone, Copy)]
pub struct GroupShape {
    /// Number of groups in a layer.
    pub per_layer: usize,
    /// Number of context columns of a group: the sum of the widths of its query heads.
    pub queries: usize,
    /// Number of rows of the key projection, and of the value projection, of a group.
    pub keys: usize,
}

impl GroupShape {
    /// Returns the sizes for a model.
    pub fn new(config: &Config) -> Self {
        let per_layer = config.n_kv_heads.max(1);
        Self { per_layer, queries: config.n_heads / per_layer * config.head_dim, keys: config.head_dim }
    }

    /// Returns the columns of the span's contexts that belong to `groups`, counted through all its layers.
    pub fn columns(self, groups: &[usize]) -> Vec<usize> {
        groups.iter().flat_map(|group| group * self.queries..(group + 1) * self.queries).collect()
    }
}

/// Returns the groups of heads, counted through all layers of a span, that can be in one layer only as they are in the
/// layer that stays: all of its own, if heads are normalised by weights that a layer has once. `None` if any will do.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if the layer that stays is not in the span.
pub fn bound_groups(config: &Config, span: &Span<'_>) -> Result<Option<Vec<usize>>> {
    if config.architecture.head_norms == HeadNorms::None {
        return Ok(None);
    }
    let n = GroupShape::new(config).per_layer;
    let place = span.layers.iter().position(|layer| *layer == span.stays);
    let place = place.or_internal("the layer that stays is not of the span")?;
    Ok(Some((place * n..(place + 1) * n).collect()))
}

/// Reads all layers of a span.
///
/// # Errors
/// Those of [`Folded::read`].
pub async fn read_span(walker: &Walker<'_>, span: &Span<'_>) -> Result<Vec<Folded>> {
    let mut folded = Vec::with_capacity(span.layers.len());
    for layer in span.layers {
        folded.push(Folded::read(walker.context.model, *layer).await?);
    }
    Ok(folded)
}

/// Uploads all layers of a span to the device.
///
/// # Errors
/// Those of [`Folded::upload`].
pub fn upload_all(walker: &Walker<'_>, folded: &[Folded]) -> Result<Vec<DecoderLayer>> {
    folded.iter().map(|layer| layer.upload(walker)).collect()
}

/// Computes the outputs of the attention heads of each layer before its output projection,
/// `[n, heads * head_dim]`, all from the same residual stream `x` `[sequences, tokens, hidden]` and what is `beside` it.
///
/// # Errors
/// Those of [`DecoderLayer::contexts`].
pub fn contexts(
    layers: &[DecoderLayer],
    x: &Tensor<3>,
    beside: &Beside,
    walker: &Walker<'_>,
) -> Result<Vec<Tensor<2>>> {
    layers.iter().map(|layer| layer.contexts(x.clone(), walker.runner.positions(), beside)).collect()
}

/// Computes the gated activations of the MLP of each layer, `[n, intermediate]`, all from the same residual
/// stream: `between` `[n, hidden]` attention and MLP, or `entering` `[sequences, tokens, hidden]` the layers where attention
/// and the MLP read the same.
///
/// # Errors
/// Those of [`DecoderLayer::activations`].
pub fn activations(
    layers: &[DecoderLayer],
    entering: &Tensor<3>,
    between: &Tensor<2>,
) -> Result<Vec<Tensor<2>>> {
    layers.iter().map(|layer| layer.activations(layer.read_by_mlp(entering, between))).collect()
}

/// Assembles the tensors of the layer that has the given `groups` of heads and `neurons` of a span, both
/// counted through all its layers, and the given projections `output` `[hidden, heads * head_dim]` and `down`
/// `[hidden, intermediate]`.
///
/// The norms are those of the layer of the span that stays. Their weights are taken out of the projections
/// again, because a quantisation block rounds all its values alike, which suits values alike in size, as the
/// weights of a trained layer are. The biases of the output and down projections are the sums of the biases
/// of all layers.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a head, a neuron or a tensor that none of the layers has,
/// and if the layer that stays is not in the span.
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
    // Rows of the chosen groups or neurons. Each layer has `per_layer` groups or neurons, each with `width`
    // numbers.
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
            Role::QueryNorm | Role::KeyNorm => stays.get(role)?.to_vec(),
            Role::RotaryFrequencies => vec![1.0; config.head_dim / 2],
            other => return Err(Error::internal(format!("layers with {other:?} cannot be pooled"))),
        })
    };
    Role::required(config, stays.kind).into_iter().map(|role| Ok((role, tensor(role)?))).collect()
}

/// Returns the weights of a norm, made safe to divide by: a weight closer to zero than a thousandth of the
/// largest is replaced by that thousandth.
pub fn usable(norm: &[f32]) -> Vec<f32> {
    let least = norm.iter().fold(0.0f32, |most, x| most.max(x.abs())) * 1e-3;
    norm.iter()
        .map(|x| if x.abs() >= least && *x != 0.0 { *x } else { least.max(f32::MIN_POSITIVE) })
        .collect()
}

/// Puts the matrices `[rows, width]` of a role side by side, for all layers of a span: row-major
/// `[rows, layers * width]`.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if a layer lacks the tensor or has fewer rows than the first
/// layer.
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

/// Returns the columns `chosen` of a row-major matrix of `width` columns, row-major.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a column that does not exist.
pub fn columns(matrix: &[f32], width: usize, chosen: &[usize]) -> Result<Vec<f32>> {
    let rows = matrix.chunks(width.max(1));
    let value = |(row, column): (&[f32], &usize)| row.get(*column).copied();
    let values = rows.flat_map(|row| chosen.iter().map(move |column| (row, column))).map(value);
    values.collect::<Option<_>>().or_internal("a chosen column is not there")
}

/// Puts tensors of equally many rows side by side and copies them to the host, row-major.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub async fn joined(parts: Vec<Tensor<2>>) -> Result<Vec<f32>> {
    to_host(Tensor::cat(parts, 1), "while fitting").await
}

/// Returns the number of columns of the contexts of a layer, the most if layers differ.
pub fn heads(config: &Config) -> usize {
    config.layers.iter().map(|kind| config.mixer_width(*kind)).max().unwrap_or(0)
}

/// Returns the share of the parameters of a layer that belongs to its attention, 0 to 1.
pub fn attention_share(config: &Config) -> f64 {
    let mlp = 3 * config.hidden_size as u64 * config.intermediate_size as u64;
    1.0 - mlp as f64 / config.parameters_per_layer().max(1) as f64
}
