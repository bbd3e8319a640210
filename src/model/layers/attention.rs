//! Causal attention with rotary positions and grouped queries, over whole sequences or token by token.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels::attention::{self, Heads, Tables};
use crate::kernels::rowwise::{self, is_host};
use crate::model::{Config, rope};
use crate::{Error, Result};

/// Value of a masked attention score. Its exponential is zero, but the value is finite, because shader
/// compilers may assume that all values are.
const MASKED: f32 = -1e30;

/// Positions of the tokens of sequences of one length: rotary tables and the causal mask.
#[derive(Debug, Clone)]
pub struct Positions(Layout);

#[derive(Debug, Clone)]
enum Layout {
    /// For whole sequences on the CPU, whose kernel skips masked keys by position and needs no mask.
    Host(Arc<Tables>),
    /// For any device.
    Device(Arc<Rotation>),
}

/// Rotary tables `[1, 1, tokens, head_dim]` and mask `[1, 1, tokens, keys]` on a device.
#[derive(Debug, Clone)]
struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
    mask: Tensor<4>,
}

impl Positions {
    /// Makes the tables for sequences of `n_tokens` tokens. Position `i` attends to the positions `0 ..= i`,
    /// or within a sliding window of `w` tokens to `i - w + 1 ..= i`.
    pub fn new(config: &Config, n_tokens: usize, device: &Device) -> Self {
        if !is_host(device) {
            return Self::after(config, 0, n_tokens, device);
        }
        let (cos, sin) = tables(config, n_tokens);
        Self(Layout::Host(Arc::new(Tables { cos, sin, window: window(config) })))
    }

    /// Makes the tables for `n_tokens` positions that follow `n_past` earlier ones and attend to the earlier
    /// ones as well.
    pub fn after(config: &Config, n_past: usize, n_tokens: usize, device: &Device) -> Self {
        let n_all = n_past + n_tokens;
        let (cos, sin) = tables(config, n_all);
        let window = window(config);
        let seen = |query: usize, key: usize| key <= query && query - key < window;
        let mask: Vec<f32> = (n_past..n_all)
            .flat_map(|q| (0..n_all).map(move |k| if seen(q, k) { 0.0 } else { MASKED }))
            .collect();
        let on_device =
            |values, columns| Tensor::from_data(TensorData::new(values, [1, 1, n_tokens, columns]), device);
        let new = |mut table: Vec<f32>| table.split_off(n_past * config.head_dim);
        Self(Layout::Device(Arc::new(Rotation {
            cos: on_device(new(cos), config.head_dim),
            sin: on_device(new(sin), config.head_dim),
            mask: on_device(mask, n_all),
        })))
    }
}

/// Returns the cosines and sines of the first `n_tokens` positions, each row-major `[n_tokens, head_dim]`.
fn tables(config: &Config, n_tokens: usize) -> (Vec<f32>, Vec<f32>) {
    rope::tables(n_tokens, &rope::frequencies(config.head_dim, config.rope_theta, &config.rope_scaling))
}

/// Returns the number of positions that a position attends to at most, itself included.
fn window(config: &Config) -> usize {
    config.sliding_window.unwrap_or(usize::MAX)
}

impl Rotation {
    /// Rotates queries or keys `[batch, heads, tokens, head_dim]` by position, in the "rotate half" layout.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

/// Key-value cache of one layer: rotated keys and values of all tokens so far,
/// `[batch, key heads, tokens, head_dim]` each.
#[derive(Debug, Clone, Default)]
pub struct Past {
    keys_and_values: Option<[Tensor<4>; 2]>,
}

impl Past {
    /// Appends the keys and values of new tokens to the cache and returns the keys and values of all tokens.
    fn with(&mut self, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let all = match self.keys_and_values.take() {
            None => new,
            Some([keys, values]) => {
                let [new_keys, new_values] = new;
                [Tensor::cat(vec![keys, new_keys], 2), Tensor::cat(vec![values, new_values], 2)]
            }
        };
        self.keys_and_values.insert(all).clone()
    }
}

/// Computes the outputs of the attention heads before the output projection,
/// `[batch * tokens, heads * head_dim]`.
///
/// `queries` are `[batch * tokens, heads * head_dim]`, `keys` and `values`
/// `[batch * tokens, key heads * head_dim]`, all before rotation. With a `past`, the tokens follow the tokens
/// in the cache, and `positions` must be [`Positions::after`] the number of tokens in the cache.
///
/// # Errors
/// [`Error::Shape`] if `past` is given with the positions of whole sequences on the CPU, and those of
/// [`rowwise::host`] and [`attention::gather`].
pub fn gather(
    [queries, keys, values]: [Tensor<2>; 3],
    heads: Heads,
    positions: &Positions,
    past: Option<&mut Past>,
) -> Result<Tensor<2>> {
    let Heads { batch, tokens, width, .. } = heads;
    let shape = [batch * tokens, heads.heads * width];
    match (&positions.0, past) {
        (Layout::Host(_), Some(_)) => {
            Err(Error::Shape("tokens that follow others were given positions of whole sequences".to_owned()))
        }
        (Layout::Host(tables), None) => {
            let device = queries.device();
            let (queries, keys, values) =
                (rowwise::host(queries)?, rowwise::host(keys)?, rowwise::host(values)?);
            let gathered = attention::gather([&queries, &keys, &values], heads, tables)?;
            Ok(Tensor::from_data(TensorData::new(gathered, shape), &device))
        }
        (Layout::Device(rotation), past) => {
            let split = |y: Tensor<2>, n| y.reshape([batch, tokens, n, width]).swap_dims(1, 2);
            let parts = [(queries, heads.heads), (keys, heads.kv_heads), (values, heads.kv_heads)];
            let gathered = attend(parts.map(|(y, n)| split(y, n)), rotation, past);
            Ok(gathered.swap_dims(1, 2).reshape(shape))
        }
    }
}

/// Computes the outputs of the attention heads, `[batch, heads, tokens, head_dim]`, on any device. `queries`
/// are `[batch, heads, tokens, head_dim]`, `keys` and `values` `[batch, key heads, tokens, head_dim]`. With a
/// `past`, the tokens follow the tokens in the cache.
fn attend(
    [queries, keys, values]: [Tensor<4>; 3],
    rotation: &Rotation,
    past: Option<&mut Past>,
) -> Tensor<4> {
    let [batch, heads, tokens, width] = queries.dims();
    let kv_heads = keys.dims()[1];
    let (queries, keys) = (rotation.rotate(queries), rotation.rotate(keys));
    let [keys, values] = match past {
        Some(past) => past.with([keys, values]),
        None => [keys, values],
    };
    let n_keys = keys.dims()[2];
    // The query heads of a group share their key head: stacking them along the token axis turns each group
    // into one product, without repeating keys and values.
    let stacked = [batch, kv_heads, heads / kv_heads * tokens, width];
    let queries = queries.mul_scalar(1.0 / (width as f64).sqrt()).reshape(stacked);
    let scores = queries.matmul(keys.swap_dims(2, 3)).reshape([batch, heads, tokens, n_keys]);
    let weights = softmax(scores + rotation.mask.clone(), 3);
    let mixed = weights.reshape([batch, kv_heads, heads / kv_heads * tokens, n_keys]).matmul(values);
    mixed.reshape([batch, heads, tokens, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    /// Compares the CPU kernel with tensor operations, on sequences longer than a block of queries, with and
    /// without a sliding window that cuts into a block.
    #[test]
    fn heads_on_the_cpu_gather_what_burn_computes() {
        let device = Device::flex();
        let mut config = futures::executor::block_on(demo::open()).unwrap().config;
        for (tokens, window) in [(1, None), (7, None), (150, None), (150, Some(3)), (150, Some(100))] {
            config.sliding_window = window;
            let (batch, heads, kv_heads, width) = (2, 6, 3, config.head_dim);
            let shape = Heads { batch, tokens, heads, kv_heads, width };
            let noise = |n: usize, seed: usize| {
                let values: Vec<f32> = (0..batch * tokens * n * width)
                    .map(|i| ((i * seed) % 1013) as f32 / 200.0 - 2.5)
                    .collect();
                Tensor::<2>::from_data(TensorData::new(values, [batch * tokens, n * width]), &device)
            };
            let parts = [noise(heads, 37), noise(kv_heads, 59), noise(kv_heads, 83)];
            let positions = Positions::new(&config, tokens, &device);
            let theirs = Positions::after(&config, 0, tokens, &device);
            let ours = rowwise::host(gather(parts.clone(), shape, &positions, None).unwrap()).unwrap();
            let theirs = rowwise::host(gather(parts, shape, &theirs, None).unwrap()).unwrap();
            for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                assert!((a - b).abs() < 1e-5, "{tokens} tokens, window {window:?}: {a} {b} at {i}");
            }
        }
    }
}
