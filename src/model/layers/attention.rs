//! Causal attention with rotary positions and grouped queries, over whole sequences or token by token.

mod backward;

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

pub use self::backward::gather_backward;
use crate::device::GUARANTEED_BINDING_BYTES;
use crate::error::OrInternal;
use crate::kernels::attention::{self, Heads, Scoring, Tables};
use crate::kernels::rowwise::{self, is_host};
use crate::model::Config;
use crate::model::config::{LayerKind, Mixer};
use crate::{Error, Result};

/// Value of a masked attention score. Its exponential is zero, but the value is finite, because shader
/// compilers may assume that all values are.
const MASKED: f32 = -1e30;

/// Copies of the scores of a block of queries that exist at a time: before the mask, the mask or the masked scores,
/// and the weights.
const SCORES: u64 = 3;

/// Returns the bytes of attention scores that exist at a time for `batch` sequences of `tokens` tokens: all
/// sequences, heads and keys of a block of queries. The CPU holds a few queries of one head at a time, which is next to
/// nothing.
pub fn scores_bytes(config: &Config, batch: usize, tokens: usize, device: &Device) -> u64 {
    if is_host(device) {
        return 0;
    }
    let of_query = bytes_of_query(batch * config.n_heads, tokens);
    SCORES * of_query * queries_in_block(of_query, tokens, GUARANTEED_BINDING_BYTES) as u64
}

/// Returns the bytes of the scores of one query of each of `rows` heads, all heads of all sequences, for `keys` keys.
fn bytes_of_query(rows: usize, keys: usize) -> u64 {
    4 * rows as u64 * keys as u64
}

/// Returns the number of queries whose scores of `of_query` bytes each are at most `most` bytes together, at least 1
/// and at most `tokens`.
fn queries_in_block(of_query: u64, tokens: usize, most: u64) -> usize {
    usize::try_from(most / of_query.max(1)).unwrap_or(usize::MAX).clamp(1, tokens.max(1))
}

/// Positions of the tokens of sequences of one length: rotary tables and causal masks, for every kind of layer that the
/// model has.
#[derive(Debug, Clone)]
pub struct Positions(Vec<(Kind, Layout)>);

/// What tells the attention of layers apart: the place of the rotation and the window, as in [`LayerKind`].
type Kind = (Option<usize>, Option<usize>);

/// Rotary tables and causal mask, where the arithmetic of a device needs them.
#[derive(Debug, Clone)]
enum Layout {
    /// For whole sequences on the CPU, whose kernel skips masked keys by position and needs no mask.
    Host(Arc<Tables>),
    /// For any device.
    Device(Arc<Rotation>),
}

/// Rotary tables `[1, 1, tokens, head_dim]` on a device, and what tells which keys a query sees.
#[derive(Debug, Clone)]
struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// Position of each query, `[1, 1, tokens, 1]`. Positions are whole numbers below 2^24, which `f32` holds.
    queries: Tensor<4>,
    /// Position of each key, `[1, 1, 1, keys]`.
    keys: Tensor<4>,
    /// Factor of the query at each position, `[1, 1, tokens, 1]`, if any is not 1.
    growth: Option<Tensor<4>>,
    /// Number of positions that a position attends to at most, if that is fewer than all.
    window: Option<usize>,
    /// Most bytes of the scores that exist at a time.
    most: u64,
}

impl Positions {
    /// Makes the tables for sequences of `n_tokens` tokens. Position `i` attends to the positions `0 ..= i`,
    /// or within a sliding window of `w` tokens to `i - w + 1 ..= i`.
    ///
    /// # Errors
    /// [`Error::Internal`] if a layer points to a rotation that the configuration has not.
    pub fn new(config: &Config, n_tokens: usize, device: &Device) -> Result<Self> {
        if !is_host(device) {
            return Self::after(config, 0, n_tokens, device);
        }
        Self::of_kinds(config, |kind| {
            let (cos, sin) = tables(config, n_tokens, kind)?;
            let window = kind.window.unwrap_or(usize::MAX);
            Ok(Layout::Host(Arc::new(Tables { cos, sin, window, growth: growth(config, 0, n_tokens) })))
        })
    }

    /// Makes a layout for each kind of layer.
    fn of_kinds(config: &Config, layout: impl Fn(LayerKind) -> Result<Layout>) -> Result<Self> {
        let mut layouts: Vec<(Kind, Layout)> = Vec::new();
        for kind in config.layers.iter().filter(|kind| kind.mixer == Mixer::Attention) {
            let own = (kind.rope, kind.window);
            if !layouts.iter().any(|(known, _)| *known == own) {
                layouts.push((own, layout(*kind)?));
            }
        }
        Ok(Self(layouts))
    }

    /// Returns the layout for a layer of the kind `kind`.
    fn of_kind(&self, kind: LayerKind) -> Result<&Layout> {
        let found = self.0.iter().find(|(known, _)| *known == (kind.rope, kind.window));
        found.map(|(_, layout)| layout).or_internal("a layer is of a kind that the model has not")
    }

    /// Makes the tables for `n_tokens` positions that follow `n_past` earlier ones and attend to the earlier
    /// ones as well.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn after(config: &Config, n_past: usize, n_tokens: usize, device: &Device) -> Result<Self> {
        Self::in_blocks(config, n_past, n_tokens, GUARANTEED_BINDING_BYTES, device)
    }

    /// Makes the tables of [`after`](Self::after), for scores of at most `most` bytes at a time.
    fn in_blocks(
        config: &Config,
        n_past: usize,
        n_tokens: usize,
        most: u64,
        device: &Device,
    ) -> Result<Self> {
        Self::of_kinds(config, |kind| {
            let n_all = n_past + n_tokens;
            let (width, (cos, sin)) = (config.head_width(kind), tables(config, n_all, kind)?);
            let on_device = |values: Vec<f32>, rows, columns| {
                Tensor::from_data(TensorData::new(values, [1, 1, rows, columns]), device)
            };
            let new = |mut table: Vec<f32>| table.split_off(n_past * width);
            let places = |range: std::ops::Range<usize>| range.map(|place| place as f32).collect();
            let growth = growth(config, n_past, n_tokens);
            Ok(Layout::Device(Arc::new(Rotation {
                cos: on_device(new(cos), n_tokens, width),
                sin: on_device(new(sin), n_tokens, width),
                queries: on_device(places(n_past..n_all), n_tokens, 1),
                keys: on_device(places(0..n_all), 1, n_all),
                growth: (!growth.is_empty()).then(|| on_device(growth, n_tokens, 1)),
                window: kind.window.filter(|window| *window < n_all),
                most,
            })))
        })
    }
}

/// Returns the cosines and sines of the first `n_tokens` positions, each row-major `[n_tokens, head_dim]`; those of the
/// angle 0 for layers that do not rotate.
fn tables(config: &Config, n_tokens: usize, kind: LayerKind) -> Result<(Vec<f32>, Vec<f32>)> {
    let Some(rope) = kind.rope else {
        let n = n_tokens * config.head_width(kind);
        return Ok((vec![1.0; n], vec![0.0; n]));
    };
    let rope = config.ropes.get(rope).or_internal("a layer rotates as the configuration does not say")?;
    Ok(rope.tables(n_tokens, config.head_width(kind), config.rotated_width(kind)))
}

/// Returns the factor of the query at each of `n_tokens` positions from `first` on; nothing if all are 1.
fn growth(config: &Config, first: usize, n_tokens: usize) -> Vec<f32> {
    let Some(growth) = config.query_growth else { return Vec::new() };
    let at = |position: usize| 1.0 + growth.beta * (1.0 + (position as f64 / growth.context).floor()).ln();
    let factors: Vec<f32> = (first..first + n_tokens).map(|position| at(position) as f32).collect();
    if factors.iter().all(|factor| *factor == 1.0) { Vec::new() } else { factors }
}

impl Rotation {
    /// Rotates queries or keys `[batch, heads, tokens, head_dim]` by position, in the "rotate half" layout.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }

    /// Multiplies rotated queries `[batch, heads, tokens, head_dim]` by all their factors.
    fn scaled(&self, queries: Tensor<4>, scoring: Scoring<'_>) -> Tensor<4> {
        let mut queries = queries.mul_scalar(scoring.scale);
        if let Some(growth) = &self.growth {
            queries = queries * growth.clone();
        }
        if !scoring.weights.is_empty() {
            let weights = TensorData::new(scoring.weights.to_vec(), [1, 1, 1, scoring.weights.len()]);
            let weights = Tensor::from_data(weights, &queries.device());
            queries = queries * weights;
        }
        queries
    }

    /// Returns the shares of the keys in the attention of the queries from `first` on, from their `scores`
    /// `[batch, heads, queries, keys]`. `sinks` has one more score for each head, or none.
    fn weights(&self, scores: Tensor<4>, first: usize, sinks: &[f32]) -> Tensor<4> {
        let [batch, heads, n, n_keys] = scores.dims();
        let device = scores.device();
        let masked = scores + self.mask(first, n);
        if sinks.is_empty() {
            return softmax(masked, 3);
        }
        let sinks = Tensor::<4>::from_data(TensorData::new(sinks.to_vec(), [1, heads, 1, 1]), &device);
        softmax(Tensor::cat(vec![masked, sinks.expand([batch, heads, n, 1])], 3), 3).narrow(3, 0, n_keys)
    }

    /// Returns what is added to the scores of `n` queries from `first` on, `[1, 1, n, keys]`: [`MASKED`] where a key
    /// comes after the query or lies before its window, and nothing elsewhere. The mask of all queries at once may
    /// be too large for a device.
    fn mask(&self, first: usize, n: usize) -> Tensor<4> {
        let distance = self.queries.clone().narrow(2, first, n) - self.keys.clone();
        // Distances are whole numbers, so that what is beyond a bound is at least 1 beyond it.
        let after = distance.clone().neg().clamp(0.0, 1.0);
        let hidden = match self.window {
            Some(window) => after + distance.sub_scalar(window as f32 - 1.0).clamp(0.0, 1.0),
            None => after,
        };
        hidden.mul_scalar(MASKED)
    }
}

/// Key-value cache of one layer: rotated keys and values of all tokens so far,
/// `[batch, key heads, tokens, head_dim]` each.
#[derive(Debug, Clone, Default)]
pub struct KeysAndValues {
    keys_and_values: Option<[Tensor<4>; 2]>,
}

impl KeysAndValues {
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
/// `[batch * tokens, key heads * head_dim]`, all before rotation. `kind` says how they are rotated, and `scoring` how they
/// become scores. With a `past`, the tokens follow the tokens in the cache, and `positions` must be [`Positions::after`]
/// the number of tokens in the cache.
///
/// # Errors
/// [`Error::Shape`] if `past` is given with the positions of whole sequences on the CPU, [`Error::Internal`] if the model
/// has no layer of `kind`, and those of [`rowwise::host`] and [`attention::gather`].
pub fn gather(
    [queries, keys, values]: [Tensor<2>; 3],
    heads: Heads,
    positions: &Positions,
    kind: LayerKind,
    scoring: Scoring<'_>,
    past: Option<&mut KeysAndValues>,
) -> Result<Tensor<2>> {
    let Heads { batch, tokens, width, .. } = heads;
    let shape = [batch * tokens, heads.heads * width];
    match (positions.of_kind(kind)?, past) {
        (Layout::Host(_), Some(_)) => {
            Err(Error::Shape("tokens that follow others were given positions of whole sequences".to_owned()))
        }
        (Layout::Host(tables), None) => {
            let device = queries.device();
            let (queries, keys, values) =
                (rowwise::host(queries)?, rowwise::host(keys)?, rowwise::host(values)?);
            let gathered = attention::gather([&queries, &keys, &values], heads, tables, scoring)?;
            Ok(Tensor::from_data(TensorData::new(gathered, shape), &device))
        }
        (Layout::Device(rotation), past) => {
            let split = |y: Tensor<2>, n| y.reshape([batch, tokens, n, width]).swap_dims(1, 2);
            let parts = [(queries, heads.heads), (keys, heads.kv_heads), (values, heads.kv_heads)];
            let gathered = attend(parts.map(|(y, n)| split(y, n)), rotation, scoring, past)?;
            Ok(gathered.swap_dims(1, 2).reshape(shape))
        }
    }
}

/// Computes the outputs of the attention heads, `[batch, heads, tokens, head_dim]`, on any device. `queries`
/// are `[batch, heads, tokens, head_dim]`, `keys` and `values` `[batch, key heads, tokens, head_dim]`. With a
/// `past`, the tokens follow the tokens in the cache. Queries go in blocks, because the scores of all of them grow with
/// the square of the tokens, beyond what a device binds at once.
fn attend(
    [queries, keys, values]: [Tensor<4>; 3],
    rotation: &Rotation,
    scoring: Scoring<'_>,
    past: Option<&mut KeysAndValues>,
) -> Result<Tensor<4>> {
    let [batch, heads, tokens, width] = queries.dims();
    let kv_heads = keys.dims()[1];
    let (queries, keys) = (rotation.rotate(queries), rotation.rotate(keys));
    let [keys, values] = match past {
        Some(past) => past.with([keys, values]),
        None => [keys, values],
    };
    let n_keys = keys.dims()[2];
    let (keys, groups) = (keys.swap_dims(2, 3), heads / kv_heads);
    let queries = rotation.scaled(queries, scoring);
    let of_block = |first: usize, n: usize| -> Result<Tensor<4>> {
        // The query heads of a group share their key head: stacking them along the token axis turns each group
        // into one product, without repeating keys and values.
        let stacked = queries.clone().narrow(2, first, n).reshape([batch, kv_heads, groups * n, width]);
        let scores = stacked.matmul(keys.clone()).reshape([batch, heads, n, n_keys]);
        let scores = rowwise::capped_at(scores, scoring.cap)?;
        let weights = rotation.weights(scores, first, scoring.sinks);
        let mixed = weights.reshape([batch, kv_heads, groups * n, n_keys]).matmul(values.clone());
        Ok(mixed.reshape([batch, heads, n, width]))
    };
    let block = queries_in_block(bytes_of_query(batch * heads, n_keys), tokens, rotation.most);
    let blocks = (0..tokens).step_by(block).map(|first| of_block(first, block.min(tokens - first)));
    Ok(Tensor::cat(blocks.collect::<Result<_>>()?, 2))
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
            config.layers.iter_mut().for_each(|kind| kind.window = window);
            let kind = config.layers[0];
            let weights = &[0.5, 1.5, 1.0, 1.0, 2.0, 1.0, 0.1, 1.0];
            let sinks = &[0.5, -1.0, 3.0, 0.0, 1.0, -2.0];
            let scoring = Scoring { scale: 0.3, cap: Some(2.0), weights, sinks };
            let (batch, heads, kv_heads, width) = (2, 6, 3, config.head_dim);
            let shape = Heads { batch, tokens, heads, kv_heads, width };
            let noise = |n: usize, seed: usize| {
                let values: Vec<f32> = (0..batch * tokens * n * width)
                    .map(|i| ((i * seed) % 1013) as f32 / 200.0 - 2.5)
                    .collect();
                Tensor::<2>::from_data(TensorData::new(values, [batch * tokens, n * width]), &device)
            };
            let parts = [noise(heads, 37), noise(kv_heads, 59), noise(kv_heads, 83)];
            let positions = Positions::new(&config, tokens, &device).unwrap();
            let theirs = Positions::after(&config, 0, tokens, &device).unwrap();
            let ours = rowwise::host(gather(parts.clone(), shape, &positions, kind, scoring, None).unwrap())
                .unwrap();
            let theirs =
                rowwise::host(gather(parts.clone(), shape, &theirs, kind, scoring, None).unwrap()).unwrap();
            let equal = |theirs: &[f32], how: &str| {
                assert_eq!(ours.len(), theirs.len());
                for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
                    assert!(
                        (a - b).abs() < 1e-5,
                        "{tokens} tokens, window {window:?}, {how}: {a} {b} at {i}"
                    );
                }
            };
            equal(&theirs, "at once");
            // In blocks of 1 query, of 7, and of all but one.
            for queries in [1, 7, tokens.saturating_sub(1).max(1)] {
                let most = bytes_of_query(batch * heads, tokens) * queries as u64;
                let positions = Positions::in_blocks(&config, 0, tokens, most, &device).unwrap();
                let gathered = gather(parts.clone(), shape, &positions, kind, scoring, None).unwrap();
                equal(&rowwise::host(gathered).unwrap(), &format!("{queries} queries at a time"));
            }
            // The tokens from the fifth on follow those before them, in blocks of 3 queries.
            let past_tokens = 5;
            if tokens <= past_tokens {
                continue;
            }
            let part = |y: &Tensor<2>, first: usize, n: usize| {
                let [_, columns] = y.dims();
                let rows = y.clone().reshape([batch, tokens, columns]).narrow(1, first, n);
                rows.reshape([batch * n, columns])
            };
            let mut past = KeysAndValues::default();
            let mut gathered = Vec::new();
            for (first, n) in [(0, past_tokens), (past_tokens, tokens - past_tokens)] {
                let most = bytes_of_query(batch * heads, first + n) * 3;
                let positions = Positions::in_blocks(&config, first, n, most, &device).unwrap();
                let parts = parts.each_ref().map(|y| part(y, first, n));
                let shape = Heads { tokens: n, ..shape };
                let of_part = gather(parts, shape, &positions, kind, scoring, Some(&mut past)).unwrap();
                gathered.push(of_part.reshape([batch, n, heads * width]));
            }
            let gathered = Tensor::cat(gathered, 1).reshape([batch * tokens, heads * width]);
            equal(&rowwise::host(gathered).unwrap(), "after others");
        }
    }

    /// The shapes of an 8B model with 1024 tokens: all scores of a chunk of two sequences are 256 MiB.
    #[test]
    fn scores_fit_what_a_device_binds() {
        let of_query = bytes_of_query(2 * 32, 1024);
        assert_eq!(of_query * 1024, 256 << 20);
        assert_eq!(queries_in_block(of_query, 1024, GUARANTEED_BINDING_BYTES), 512);
        assert_eq!(queries_in_block(bytes_of_query(4 * 32, 512), 512, GUARANTEED_BINDING_BYTES), 512);
        assert_eq!(queries_in_block(bytes_of_query(32, 1 << 20), 1 << 20, GUARANTEED_BINDING_BYTES), 1);
        assert_eq!(queries_in_block(u64::MAX, 8, GUARANTEED_BINDING_BYTES), 1);
        let config = futures::executor::block_on(demo::open()).unwrap().config;
        assert_eq!(scores_bytes(&config, 2, 1024, &Device::flex()), 0);
    }
}
