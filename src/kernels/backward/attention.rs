//! Gradients of causal attention over whole sequences on the CPU, head by head.
//!
//! With the weights `P`, the values `V` and the gradient `dO` of the output: `dV = P^T dO`, `dP = dO V^T`, and of the scores
//! `dS = P (dP - D)` with `D` the sum of `P dP` over the keys. The scores of a few queries exist at a time; they are computed
//! anew, as in Dao, Fu, Ermon, Rudra and Ré, "FlashAttention", NeurIPS 2022.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::rowwise::uncapped;
use crate::kernels::attention::{Heads, QUERIES, Scoring, Tables, check, joined, scale_queries, soften};
use crate::kernels::rowwise::capped;
use crate::kernels::threads::map_all;
use crate::{Error, Result};

/// Computes the gradients of queries `[batch tokens, heads head_dim]`, keys and values
/// `[batch tokens, kv_heads head_dim]`, all before rotation, from the gradient `dy` `[batch tokens, heads head_dim]` of
/// [the output](crate::kernels::attention::gather).
///
/// # Errors
/// [`Error::Internal`] if a length does not fit `heads`.
pub fn gather(
    [queries, keys, values]: [&[f32]; 3],
    dy: &[f32],
    heads: Heads,
    tables: &Tables,
    scoring: Scoring<'_>,
) -> Result<[Vec<f32>; 3]> {
    check([queries, keys, values], heads, tables, scoring)?;
    if dy.len() != queries.len() {
        return Err(Error::internal(format!("attention of {heads:?} was given {} gradients", dy.len())));
    }
    let Heads { batch, tokens, heads: n_heads, kv_heads, width } = heads;
    let per_group = n_heads / kv_heads.max(1);
    let of_key_head = |place: usize| {
        let (sequence, group) = (place / kv_heads, place % kv_heads);
        let of = |rows, n, head| heads.rows_of(rows, sequence, [n, head]);
        let keys = of(keys, kv_heads, group).rotated(tokens, width, tables);
        let values = of(values, kv_heads, group).view(tokens, width);
        let mut d_keys = vec![0.0; tokens * width];
        let mut d_values = vec![0.0; tokens * width];
        let of_queries = (group * per_group..(group + 1) * per_group).map(|head| {
            let mut queries = of(queries, n_heads, head).rotated(tokens, width, tables);
            scale_queries(&mut queries, width, tables, scoring);
            let head = Head {
                queries: MatRef::from_row_major_slice(&queries, tokens, width),
                keys: MatRef::from_row_major_slice(&keys, tokens, width),
                values,
                dy: of(dy, n_heads, head).view(tokens, width),
                window: tables.window,
                cap: scoring.cap.map(|cap| cap as f32),
                sink: scoring.sinks.get(head).copied(),
            };
            let mut d_queries = head.back(&mut d_keys, &mut d_values);
            scale_queries(&mut d_queries, width, tables, scoring);
            rotate_back(&mut d_queries, width, tables);
            d_queries
        });
        let of_queries: Vec<Vec<f32>> = of_queries.collect();
        rotate_back(&mut d_keys, width, tables);
        (of_queries, d_keys, d_values)
    };
    let found = map_all(batch * kv_heads, of_key_head);
    let of_queries: Vec<&[f32]> = found.iter().flat_map(|(queries, ..)| queries).map(Vec::as_slice).collect();
    let of_keys: Vec<&[f32]> = found.iter().map(|(_, keys, _)| keys.as_slice()).collect();
    let of_values: Vec<&[f32]> = found.iter().map(|(.., values)| values.as_slice()).collect();
    let all = |parts: &[&[f32]], n| joined(parts, batch, n, [tokens, width]);
    Ok([all(&of_queries, n_heads), all(&of_keys, kv_heads), all(&of_values, kv_heads)])
}

/// One query head, `[tokens, width]` each: rotated and scaled queries, rotated keys, values, and the gradient of the output.
struct Head<'a> {
    queries: MatRef<'a, f32>,
    keys: MatRef<'a, f32>,
    values: MatRef<'a, f32>,
    dy: MatRef<'a, f32>,
    window: usize,
    cap: Option<f32>,
    sink: Option<f32>,
}

impl Head<'_> {
    /// Returns the gradient of the rotated and scaled queries `[tokens, width]`, and adds those of the rotated keys and of the
    /// values to `d_keys` and `d_values`.
    fn back(&self, d_keys: &mut [f32], d_values: &mut [f32]) -> Vec<f32> {
        let (tokens, width) = (self.values.nrows(), self.values.ncols());
        let mut d_queries = vec![0.0f32; tokens * width];
        let most = QUERIES.min(tokens) * tokens;
        let (mut scores, mut capped_scores, mut d_scores) =
            (vec![0.0f32; most], Vec::new(), vec![0.0f32; most]);
        for first in (0..tokens).step_by(QUERIES) {
            let n = QUERIES.min(tokens - first);
            let seen = (first + 1).saturating_sub(self.window)..first + n;
            let columns = seen.len();
            let (Some(weights), Some(d_weights)) =
                (scores.get_mut(..n * columns), d_scores.get_mut(..n * columns))
            else {
                break;
            };
            let queries = self.queries.subrows(first, n);
            let dy = self.dy.subrows(first, n);
            let keys = self.keys.subrows(seen.start, columns);
            let values = self.values.subrows(seen.start, columns);
            let to = MatMut::from_row_major_slice_mut(weights, n, columns);
            matmul(to, Accum::Replace, queries, keys.transpose(), 1.0, Par::Seq);
            if let Some(cap) = self.cap {
                capped(weights, cap);
                capped_scores.clear();
                capped_scores.extend_from_slice(weights);
            }
            let sums = soften(weights, first, &seen, self.window, self.sink);
            for (row, sum) in weights.chunks_mut(columns.max(1)).zip(sums) {
                row.iter_mut().for_each(|x| *x /= sum);
            }
            let to = MatMut::from_row_major_slice_mut(d_weights, n, columns);
            matmul(to, Accum::Replace, dy, values.transpose(), 1.0, Par::Seq);
            add_rows(d_values, seen.start, width, MatRef::from_row_major_slice(weights, n, columns), dy);
            for (weights, d) in weights.chunks(columns.max(1)).zip(d_weights.chunks_mut(columns.max(1))) {
                let along: f32 = weights.iter().zip(&*d).map(|(p, d)| p * d).sum();
                d.iter_mut().zip(weights).for_each(|(d, p)| *d = p * (*d - along));
            }
            if let Some(cap) = self.cap {
                uncapped(d_weights, &capped_scores, cap);
            }
            let d_weights = MatRef::from_row_major_slice(d_weights, n, columns);
            if let Some(rows) = d_queries.get_mut(first * width..(first + n) * width) {
                let to = MatMut::from_row_major_slice_mut(rows, n, width);
                matmul(to, Accum::Replace, d_weights, keys, 1.0, Par::Seq);
            }
            add_rows(d_keys, seen.start, width, d_weights, queries);
        }
        d_queries
    }
}

/// Adds `a^T b` to the rows of `to` `[.., width]` from `first` on, for `a` `[n, rows]` and `b` `[n, width]`.
fn add_rows(to: &mut [f32], first: usize, width: usize, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    if let Some(to) = to.get_mut(first * width..(first + a.ncols()) * width) {
        let to = MatMut::from_row_major_slice_mut(to, a.ncols(), width);
        matmul(to, Accum::Add, a.transpose(), b, 1.0, Par::Seq);
    }
}

/// Turns gradients `[tokens, width]` of rotated rows into those of the rows before: the transpose of the rotation.
fn rotate_back(rows: &mut [f32], width: usize, tables: &Tables) {
    let width = width.max(1);
    let half = width / 2;
    let tables = tables.cos.chunks(width).zip(tables.sin.chunks(width));
    for (row, (cos, sin)) in rows.chunks_mut(width).zip(tables) {
        let (front, back) = row.split_at_mut(half);
        let (cos_front, cos_back) = cos.split_at(half);
        let (sin_front, sin_back) = sin.split_at(half);
        for ((a, b), ((ca, cb), (sa, sb))) in
            front.iter_mut().zip(back).zip(cos_front.iter().zip(cos_back).zip(sin_front.iter().zip(sin_back)))
        {
            (*a, *b) = (*a * ca + *b * sb, *b * cb + *a * sa);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::backward::differences::{assert_close, gradient, noise, single};

    /// Attention of every query head in `f64`, token by token.
    fn naive(parts: [&[f64]; 3], heads: Heads, tables: &Tables, scoring: Scoring<'_>) -> Vec<f64> {
        let Heads { batch, tokens, heads: n_heads, kv_heads, width } = heads;
        let half = width / 2;
        let rotated = |rows: &[f64], n: usize, sequence: usize, token: usize, head: usize| -> Vec<f64> {
            let row = &rows[((sequence * tokens + token) * n + head) * width..][..width];
            let table = |table: &[f32], i: usize| f64::from(table[token * width + i]);
            (0..width)
                .map(|i| row[i] * table(&tables.cos, i) + row[(i + half) % width] * table(&tables.sin, i))
                .collect()
        };
        let mut out = vec![0.0; parts[0].len()];
        for (sequence, head) in (0..batch).flat_map(|s| (0..n_heads).map(move |h| (s, h))) {
            let group = head / (n_heads / kv_heads);
            for token in 0..tokens {
                let query = rotated(parts[0], n_heads, sequence, token, head);
                let growth = tables.growth.get(token).map_or(1.0, |g| f64::from(*g));
                let from = (token + 1).saturating_sub(tables.window);
                let scores: Vec<f64> = (from..=token)
                    .map(|place| {
                        let key = rotated(parts[1], kv_heads, sequence, place, group);
                        let factor = |i: usize| scoring.weights.get(i).map_or(1.0, |w| f64::from(*w));
                        let score: f64 = (0..width).map(|i| query[i] * key[i] * factor(i)).sum();
                        let score = score * scoring.scale * growth;
                        scoring.cap.map_or(score, |cap| cap * (score / cap).tanh())
                    })
                    .collect();
                let sink = scoring.sinks.get(head).map_or(0.0, |sink| f64::from(*sink).exp());
                let sum = scores.iter().map(|s| s.exp()).sum::<f64>() + sink;
                for (place, score) in (from..=token).zip(&scores) {
                    for i in 0..width {
                        let value = parts[2][((sequence * tokens + place) * kv_heads + group) * width + i];
                        out[((sequence * tokens + token) * n_heads + head) * width + i] +=
                            score.exp() / sum * value;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn attention_goes_back() {
        let cases = [
            ("plain", usize::MAX, None, false, false),
            ("a window", 3, None, false, false),
            ("a cap", usize::MAX, Some(1.5), false, false),
            ("sinks and factors", usize::MAX, None, true, true),
            ("everything", 5, Some(2.0), true, true),
        ];
        for (case, window, cap, sinks, factors) in cases {
            let heads = Heads { batch: 2, tokens: 9, heads: 4, kv_heads: 2, width: 6 };
            let Heads { batch, tokens, heads: n_heads, kv_heads, width } = heads;
            let angle = |i: usize| (i / width) as f64 * 0.7 / (1.0 + (i % 3) as f64);
            let tables = Tables {
                cos: (0..tokens * width).map(|i| angle(i).cos() as f32).collect(),
                sin: (0..tokens * width)
                    .map(|i| (angle(i).sin() * if i % width < 3 { -1.0 } else { 1.0 }) as f32)
                    .collect(),
                window,
                growth: if factors {
                    (0..tokens).map(|t| 1.0 + t as f32 / 10.0).collect()
                } else {
                    Vec::new()
                },
            };
            let weights: &[f32] = if factors { &[0.5, 1.5, 1.0, 2.0, 0.1, 1.0] } else { &[] };
            let sinks: &[f32] = if sinks { &[0.5, -1.0, 2.0, 0.0] } else { &[] };
            let scoring = Scoring { scale: 0.8, cap, weights, sinks };
            let rows = batch * tokens;
            let parts = [
                noise(rows * n_heads * width, 37),
                noise(rows * kv_heads * width, 59),
                noise(rows * kv_heads * width, 83),
            ];
            let dy = noise(rows * n_heads * width, 101);
            let singles = parts.each_ref().map(|part| single(part));
            let found =
                gather(singles.each_ref().map(Vec::as_slice), &single(&dy), heads, &tables, scoring).unwrap();
            for (place, what) in ["queries", "keys", "values"].iter().enumerate() {
                let loss = |x: &[f64]| -> f64 {
                    let mut all = parts.each_ref().map(Vec::as_slice);
                    all[place] = x;
                    naive(all, heads, &tables, scoring).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
                };
                assert_close(&format!("{case}: {what}"), &found[place], &gradient(&parts[place], loss), 2e-5);
            }
        }
    }

    /// More queries than there are scores of at a time.
    #[test]
    fn blocks_of_queries_add_up() {
        let heads = Heads { batch: 1, tokens: 150, heads: 1, kv_heads: 1, width: 2 };
        let tables = Tables {
            cos: (0..300).map(|i| ((i / 2) as f32 * 0.1).cos()).collect(),
            sin: (0..300)
                .map(|i| ((i / 2) as f32 * 0.1).sin() * if i % 2 == 0 { -1.0 } else { 1.0 })
                .collect(),
            window: 100,
            growth: Vec::new(),
        };
        let scoring = Scoring { scale: 0.8, cap: None, weights: &[], sinks: &[] };
        let parts = [noise(300, 37), noise(300, 59), noise(300, 83)];
        let dy = noise(300, 101);
        let singles = parts.each_ref().map(|part| single(part));
        let found =
            gather(singles.each_ref().map(Vec::as_slice), &single(&dy), heads, &tables, scoring).unwrap();
        for place in 0..3 {
            let loss = |x: &[f64]| -> f64 {
                let mut all = parts.each_ref().map(Vec::as_slice);
                all[place] = x;
                naive(all, heads, &tables, scoring).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            };
            assert_close(&format!("part {place}"), &found[place], &gradient(&parts[place], loss), 5e-5);
        }
    }
}
