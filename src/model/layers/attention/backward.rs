//! Gradients of attention over whole sequences.

use burn::tensor::{Tensor, TensorData};

use super::{Layout, Positions, Rotation, bytes_of_query, queries_in_block};
use crate::kernels::attention::{Heads, Scoring};
use crate::kernels::backward;
use crate::kernels::rowwise;
use crate::model::config::LayerKind;
use crate::{Error, Result};

/// Computes the gradients of queries, keys and values, each of the shape of what [`gather`](super::gather) was given, from the
/// gradient `dy` `[batch * tokens, heads * head_dim]` of its output.
///
/// # Errors
/// [`Error::Internal`] if the model has no layer of `kind`, and those of [`rowwise::host`] and
/// [`backward::attention::gather`].
pub fn gather_backward(
    [queries, keys, values]: [Tensor<2>; 3],
    dy: Tensor<2>,
    heads: Heads,
    positions: &Positions,
    kind: LayerKind,
    scoring: Scoring<'_>,
) -> Result<[Tensor<2>; 3]> {
    let Heads { batch, tokens, width, .. } = heads;
    let counts = [heads.heads, heads.kv_heads, heads.kv_heads];
    match positions.of_kind(kind)? {
        Layout::Host(tables) => {
            let device = queries.device();
            let parts = [rowwise::host(queries)?, rowwise::host(keys)?, rowwise::host(values)?];
            let parts = parts.each_ref().map(Vec::as_slice);
            let found = backward::attention::gather(parts, &rowwise::host(dy)?, heads, tables, scoring)?;
            let mut found = found.into_iter().zip(counts).map(|(gradient, n)| {
                Tensor::<2>::from_data(TensorData::new(gradient, [batch * tokens, n * width]), &device)
            });
            match (found.next(), found.next(), found.next()) {
                (Some(queries), Some(keys), Some(values)) => Ok([queries, keys, values]),
                _ => Err(Error::internal("a gradient of attention is missing")),
            }
        }
        Layout::Device(rotation) => {
            let split = |y: Tensor<2>, n| y.reshape([batch, tokens, n, width]).swap_dims(1, 2);
            let [n, kv, _] = counts;
            let parts = [split(queries, n), split(keys, kv), split(values, kv)];
            let found = attend_backward(parts, split(dy, n), rotation, scoring)?;
            Ok(found.map(|gradient| {
                let [_, n, ..] = gradient.dims();
                gradient.swap_dims(1, 2).reshape([batch * tokens, n * width])
            }))
        }
    }
}

/// Computes the gradients of queries `[batch, heads, tokens, head_dim]`, keys and values
/// `[batch, key heads, tokens, head_dim]` by operations of any device, in the blocks of queries of the forward pass.
fn attend_backward(
    [queries, keys, values]: [Tensor<4>; 3],
    dy: Tensor<4>,
    rotation: &Rotation,
    scoring: Scoring<'_>,
) -> Result<[Tensor<4>; 3]> {
    let [batch, heads, tokens, width] = queries.dims();
    let kv_heads = keys.dims()[1];
    let groups = heads / kv_heads;
    let (queries, keys) = (rotation.scaled(rotation.rotate(queries), scoring), rotation.rotate(keys));
    let (mut d_queries, mut d_keys, mut d_values) = (Vec::new(), keys.zeros_like(), values.zeros_like());
    let block = queries_in_block(bytes_of_query(batch * heads, tokens), tokens, rotation.most);
    for first in (0..tokens).step_by(block) {
        let n = block.min(tokens - first);
        let stacked =
            |x: &Tensor<4>| x.clone().narrow(2, first, n).reshape([batch, kv_heads, groups * n, width]);
        let (query, dy) = (stacked(&queries), stacked(&dy));
        let scores = query.clone().matmul(keys.clone().swap_dims(2, 3)).reshape([batch, heads, n, tokens]);
        let scores = rowwise::capped_at(scores, scoring.cap)?;
        let weights = rotation.weights(scores.clone(), first, scoring.sinks);
        let d_weights = dy.clone().matmul(values.clone().swap_dims(2, 3)).reshape([batch, heads, n, tokens]);
        let along = (weights.clone() * d_weights.clone()).sum_dim(3);
        let d_scores = weights.clone() * (d_weights - along);
        let d_scores = backward::rowwise::uncapped_at(d_scores, scores, scoring.cap);
        let in_groups = |x: Tensor<4>| x.reshape([batch, kv_heads, groups * n, tokens]);
        let (weights, d_scores) = (in_groups(weights), in_groups(d_scores));
        d_values = d_values + weights.swap_dims(2, 3).matmul(dy);
        d_keys = d_keys + d_scores.clone().swap_dims(2, 3).matmul(query);
        d_queries.push(d_scores.matmul(keys.clone()).reshape([batch, heads, n, width]));
    }
    let d_queries = rotation.rotate_back(rotation.scaled(Tensor::cat(d_queries, 2), scoring));
    Ok([d_queries, rotation.rotate_back(d_keys), d_values])
}

impl Rotation {
    /// Turns gradients `[batch, heads, tokens, head_dim]` of rotated rows into those of the rows before.
    fn rotate_back(&self, dy: Tensor<4>) -> Tensor<4> {
        let half = dy.dims()[3] / 2;
        let turned = dy.clone() * self.sin.clone();
        let swapped = Tensor::cat(vec![turned.clone().narrow(3, half, half), turned.narrow(3, 0, half)], 3);
        dy * self.cos.clone() + swapped
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::demo;
    use crate::kernels::backward::differences::{assert_close, noise, single};

    /// What any device computes is what the kernel of the CPU does, which is held to differences.
    #[test]
    fn both_ways_go_back_alike() {
        let device = Device::flex();
        let mut config = futures::executor::block_on(demo::open()).unwrap().config;
        for (tokens, window) in [(1, None), (7, None), (70, None), (70, Some(9))] {
            config.layers.iter_mut().for_each(|kind| kind.window = window);
            let (kind, width) = (config.layers[0], config.head_dim);
            let weights = &[0.5, 1.5, 1.0, 1.0, 2.0, 1.0, 0.1, 1.0];
            let sinks = &[0.5, -1.0, 3.0, 0.0, 1.0, -2.0];
            let scoring = Scoring { scale: 0.3, cap: Some(2.0), weights, sinks };
            let heads = Heads { batch: 2, tokens, heads: 6, kv_heads: 3, width };
            let rows = 2 * tokens;
            let of = |n: usize, seed: usize| {
                let values = single(&noise(rows * n * width, seed));
                Tensor::<2>::from_data(TensorData::new(values, [rows, n * width]), &device)
            };
            let (parts, dy) = ([of(6, 37), of(3, 59), of(3, 83)], of(6, 101));
            let host = Positions::new(&config, tokens, &device).unwrap();
            let most = bytes_of_query(12, tokens) * 3;
            let any = Positions::in_blocks(&config, 0, tokens, most, &device).unwrap();
            let [ours, theirs] = [&host, &any].map(|positions| {
                gather_backward(parts.clone(), dy.clone(), heads, positions, kind, scoring).unwrap()
            });
            for (place, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
                let theirs: Vec<f64> = rowwise::host(theirs).unwrap().iter().map(|x| f64::from(*x)).collect();
                assert_close(
                    &format!("{tokens} tokens, part {place}"),
                    &rowwise::host(ours).unwrap(),
                    &theirs,
                    2e-5,
                );
            }
        }
    }
}
