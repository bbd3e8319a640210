//! Causal attention with rotary positions and grouped queries, over a whole sequence or token by token.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Config, rope};

/// What a masked attention score becomes: its exponential is zero, yet it is finite, which shader
/// compilers are allowed to assume.
const MASKED: f32 = -1e30;

/// Rotary tables and the causal mask for sequences of one length, on a device.
#[derive(Debug, Clone)]
pub struct Positions {
    cos: Tensor<4>,
    sin: Tensor<4>,
    mask: Tensor<4>,
}

impl Positions {
    /// Tables for `n_tokens` positions. Position `i` attends to `i` and to all before it, or within
    /// a sliding window of `w` tokens to `i - w + 1 ..= i`.
    pub fn new(config: &Config, n_tokens: usize, device: &Device) -> Self {
        Self::after(config, 0, n_tokens, device)
    }

    /// Tables for the `n_tokens` positions that follow `n_past` others, which they attend to as well.
    pub fn after(config: &Config, n_past: usize, n_tokens: usize, device: &Device) -> Self {
        let frequencies = rope::frequencies(config.head_dim, config.rope_theta, &config.rope_scaling);
        let n_all = n_past + n_tokens;
        let (cos, sin) = rope::tables(n_all, &frequencies);
        let window = config.sliding_window.unwrap_or(usize::MAX);
        let seen = |query: usize, key: usize| key <= query && query - key < window;
        let mask: Vec<f32> = (n_past..n_all)
            .flat_map(|q| (0..n_all).map(move |k| if seen(q, k) { 0.0 } else { MASKED }))
            .collect();
        let on_device =
            |values, columns| Tensor::from_data(TensorData::new(values, [1, 1, n_tokens, columns]), device);
        let new = |mut table: Vec<f32>| table.split_off(n_past * config.head_dim);
        Self {
            cos: on_device(new(cos), config.head_dim),
            sin: on_device(new(sin), config.head_dim),
            mask: on_device(mask, n_all),
        }
    }

    /// Rotates `[batch, heads, tokens, head_dim]` by position, "rotate half" layout.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

/// Keys and values that one layer made of the tokens so far, `[batch, key heads, tokens, head_dim]` each.
#[derive(Debug, Clone, Default)]
pub struct Past {
    keys_and_values: Option<[Tensor<4>; 2]>,
}

impl Past {
    /// Those of the tokens so far and of new ones, which are remembered.
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

/// What heads gather: `queries` `[batch, heads, tokens, head_dim]` and `keys` and `values` `[batch, key heads, tokens,
/// head_dim]` to `[batch, heads, tokens, head_dim]`. With a `past`, the tokens follow those that it remembers, and
/// `positions` are [`Positions::after`] as many.
pub fn attend(
    [queries, keys, values]: [Tensor<4>; 3],
    positions: &Positions,
    past: Option<&mut Past>,
) -> Tensor<4> {
    let [batch, heads, tokens, width] = queries.dims();
    let kv_heads = keys.dims()[1];
    let (queries, keys) = (positions.rotate(queries), positions.rotate(keys));
    let [keys, values] = match past {
        Some(past) => past.with([keys, values]),
        None => [keys, values],
    };
    let n_keys = keys.dims()[2];
    // The query heads of a group share their key head: stacking them along the token axis makes
    // each group one product, without repeating keys and values.
    let stacked = [batch, kv_heads, heads / kv_heads * tokens, width];
    let queries = queries.mul_scalar(1.0 / (width as f64).sqrt()).reshape(stacked);
    let scores = queries.matmul(keys.swap_dims(2, 3)).reshape([batch, heads, tokens, n_keys]);
    let weights = softmax(scores + positions.mask.clone(), 3);
    let mixed = weights.reshape([batch, kv_heads, heads / kv_heads * tokens, n_keys]).matmul(values);
    mixed.reshape([batch, heads, tokens, width])
}
