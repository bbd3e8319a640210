//! Causal attention over whole sequences on the CPU, head by head.
//!
//! burn rotates, masks and normalises in passes over the scores of all heads, each pass on one thread. Here
//! only the scores of a few queries of one head exist at a time, and only for keys that the queries see;
//! heads are spread over all cores.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::rowwise::{capped, exponentials};
use super::threads::map_all;
use crate::{Error, Result};

/// Number of queries whose scores exist at a time.
pub(super) const QUERIES: usize = 64;

/// Rotary tables for positions from 0 on, row-major `[tokens, head_dim]`, and the attention window.
#[derive(Debug)]
pub struct Tables {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines; in the first half of a row they have the sign of "rotate half".
    pub sin: Vec<f32>,
    /// Number of positions that a position attends to, counted backwards from itself.
    pub window: usize,
    /// Factor of the query at each position, `[tokens]`; empty if it is 1 everywhere.
    pub growth: Vec<f32>,
}

/// How queries and keys become scores.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// Factor of the scores.
    pub scale: f64,
    /// Cap `c` of the scores `s`, which become `c tanh(s / c)`.
    pub cap: Option<f64>,
    /// Factors of the numbers of each query after it is rotated, `[head_dim]`; empty if they are 1.
    pub weights: &'a [f32],
    /// For each query head, one more score, whose share of the attention goes nowhere; empty if there are none.
    pub sinks: &'a [f32],
}

/// Computes the attention output of all heads, row-major `[batch tokens, heads head_dim]`. Queries are
/// `[batch tokens, heads head_dim]`, keys and values `[batch tokens, kv_heads head_dim]`, all row-major;
/// queries and keys are not rotated yet.
///
/// # Errors
/// [`Error::Internal`] if the lengths of queries, keys, values, weights or tables do not fit `heads`.
pub fn gather(
    [queries, keys, values]: [&[f32]; 3],
    heads: Heads,
    tables: &Tables,
    scoring: Scoring<'_>,
) -> Result<Vec<f32>> {
    check([queries, keys, values], heads, tables, scoring)?;
    let Heads { batch, tokens, heads: n_heads, kv_heads, width } = heads;
    let per_group = n_heads / kv_heads.max(1);
    let key_head = |place: usize| {
        let (sequence, group) = (place / kv_heads, place % kv_heads);
        let of = |rows, n, head| heads.rows_of(rows, sequence, [n, head]);
        let keys = of(keys, kv_heads, group).rotated(tokens, width, tables);
        let values = of(values, kv_heads, group).view(tokens, width);
        let query_heads = group * per_group..(group + 1) * per_group;
        let gathered = query_heads.map(|head| {
            let mut queries = of(queries, n_heads, head).rotated(tokens, width, tables);
            scale_queries(&mut queries, width, tables, scoring);
            attend(&queries, &keys, values, tables.window, scoring.cap, scoring.sinks.get(head).copied())
        });
        gathered.collect::<Vec<_>>()
    };
    let gathered = map_all(batch * kv_heads, key_head);
    let gathered: Vec<&[f32]> = gathered.iter().flatten().map(Vec::as_slice).collect();
    Ok(joined(&gathered, batch, n_heads, [tokens, width]))
}

/// Checks that queries, keys, values, tables and factors are of `heads`.
pub(super) fn check(
    [queries, keys, values]: [&[f32]; 3],
    heads: Heads,
    tables: &Tables,
    scoring: Scoring<'_>,
) -> Result<()> {
    let Heads { batch, tokens, heads: n_heads, kv_heads, width } = heads;
    let rows = batch * tokens;
    let sizes = [queries.len(), keys.len(), values.len(), tables.cos.len(), tables.sin.len()];
    let table = tokens * width;
    let fits = |n: usize, expected: usize| n == 0 || n == expected;
    let factors = [(scoring.weights, width), (&tables.growth, tokens), (scoring.sinks, n_heads)];
    if !factors.iter().all(|(given, expected)| fits(given.len(), *expected)) {
        return Err(Error::internal(format!("attention of {heads:?} was given factors of another size")));
    }
    if sizes != [rows * n_heads * width, rows * kv_heads * width, rows * kv_heads * width, table, table] {
        return Err(Error::internal(format!("attention of {heads:?} was given {sizes:?} numbers")));
    }
    Ok(())
}

/// Joins the rows `[tokens, width]` of each of `n` heads of each of `batch` sequences, sequence by sequence, to rows of all
/// heads, `[batch tokens, n width]`.
pub(super) fn joined(heads: &[&[f32]], batch: usize, n: usize, [tokens, width]: [usize; 2]) -> Vec<f32> {
    let mut joined = vec![0.0f32; batch * tokens * n * width];
    for (place, head) in heads.iter().enumerate() {
        let (sequence, head_place) = (place / n.max(1), place % n.max(1));
        let rows = joined.chunks_mut((n * width).max(1)).skip(sequence * tokens);
        for (to, from) in rows.zip(head.chunks(width.max(1))) {
            if let Some(to) = to.get_mut(head_place * width..(head_place + 1) * width) {
                to.copy_from_slice(from);
            }
        }
    }
    joined
}

/// Rows of one head of one sequence, within rows of all heads.
pub(super) struct HeadRows<'a> {
    rows: &'a [f32],
    /// Values in a row of all heads.
    stride: usize,
    /// Row of the sequence's first token.
    first: usize,
    /// First column of the head.
    column: usize,
}

impl<'a> HeadRows<'a> {
    fn row(&self, token: usize, width: usize) -> &'a [f32] {
        let from = (self.first + token) * self.stride + self.column;
        self.rows.get(from..from + width).unwrap_or_default()
    }

    /// Returns the head's rows as a matrix `[tokens, width]`.
    pub(super) fn view(&self, tokens: usize, width: usize) -> MatRef<'a, f32> {
        let rows =
            self.rows.get(self.first * self.stride..(self.first + tokens) * self.stride).unwrap_or_default();
        MatRef::from_row_major_slice(rows, rows.len() / self.stride.max(1), self.stride)
            .subcols(self.column, width)
    }

    /// Returns the head's rows `[tokens, width]`, each rotated by its position.
    pub(super) fn rotated(&self, tokens: usize, width: usize, tables: &Tables) -> Vec<f32> {
        let mut rotated = vec![0.0f32; tokens * width];
        let tables = tables.cos.chunks(width).zip(tables.sin.chunks(width));
        for (token, (to, (cos, sin))) in rotated.chunks_mut(width).zip(tables).enumerate() {
            let row = self.row(token, width);
            let (front, back) = row.split_at(row.len() / 2);
            let swapped = back.iter().chain(front);
            for ((to, (x, swapped)), (cos, sin)) in
                to.iter_mut().zip(row.iter().zip(swapped)).zip(cos.iter().zip(sin))
            {
                *to = x * cos + swapped * sin;
            }
        }
        rotated
    }
}

/// Multiplies the rotated queries `[tokens, width]` of one head by all their factors.
pub(super) fn scale_queries(queries: &mut [f32], width: usize, tables: &Tables, scoring: Scoring<'_>) {
    let scale = scoring.scale as f32;
    for (token, row) in queries.chunks_mut(width.max(1)).enumerate() {
        let scale = scale * tables.growth.get(token).copied().unwrap_or(1.0);
        match scoring.weights {
            [] => row.iter_mut().for_each(|x| *x *= scale),
            weights => row.iter_mut().zip(weights).for_each(|(x, weight)| *x *= scale * weight),
        }
    }
}

/// Computes the output of one head, `[tokens, width]`. `queries` and `keys` are `[tokens, width]` and
/// rotated, the queries also scaled; `cap` is that of the scores, and `sink` is one more score.
fn attend(
    queries: &[f32],
    keys: &[f32],
    values: MatRef<'_, f32>,
    window: usize,
    cap: Option<f64>,
    sink: Option<f32>,
) -> Vec<f32> {
    let (tokens, width) = (values.nrows(), values.ncols());
    let queries = MatRef::from_row_major_slice(queries, tokens, width);
    let keys = MatRef::from_row_major_slice(keys, tokens, width);
    let mut gathered = vec![0.0f32; tokens * width];
    let mut scores = vec![0.0f32; QUERIES.min(tokens) * tokens];
    for first in (0..tokens).step_by(QUERIES) {
        let n = QUERIES.min(tokens - first);
        let seen = (first + 1).saturating_sub(window)..first + n;
        let Some(scores) = scores.get_mut(..n * seen.len()) else { break };
        let products = MatMut::from_row_major_slice_mut(scores, n, seen.len());
        let keys = keys.subrows(seen.start, seen.len());
        matmul(products, Accum::Replace, queries.subrows(first, n), keys.transpose(), 1.0, Par::Seq);
        if let Some(cap) = cap {
            capped(scores, cap as f32);
        }
        let sums = soften(scores, first, &seen, window, sink);
        let Some(rows) = gathered.get_mut(first * width..(first + n) * width) else { break };
        let weights = MatRef::from_row_major_slice(scores, n, seen.len());
        let seen_values = values.subrows(seen.start, seen.len());
        let to = MatMut::from_row_major_slice_mut(rows, n, width);
        matmul(to, Accum::Replace, weights, seen_values, 1.0, Par::Seq);
        for (row, sum) in rows.chunks_mut(width).zip(sums) {
            row.iter_mut().for_each(|x| *x /= sum);
        }
    }
    gathered
}

/// Replaces rows of scores by the numerators of a softmax over the keys that each query sees, and returns the
/// denominators, in which the score `sink` counts, too. The rows belong to the queries from `first` on, the columns to
/// the keys `seen`.
pub(super) fn soften(
    scores: &mut [f32],
    first: usize,
    seen: &Range<usize>,
    window: usize,
    sink: Option<f32>,
) -> Vec<f32> {
    let rows = scores.chunks_mut(seen.len().max(1)).enumerate();
    rows.map(|(place, row)| {
        let query = first + place;
        let from = (query + 1).saturating_sub(window).max(seen.start) - seen.start;
        let to = (query + 1 - seen.start).min(row.len());
        let (before, rest) = row.split_at_mut(from.min(to));
        let (visible, after) = rest.split_at_mut(to - before.len());
        before.fill(0.0);
        after.fill(0.0);
        exponentials(visible, sink)
    })
    .collect()
}

/// Sizes of an attention: sequences, tokens, heads and the width of a head.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens per sequence.
    pub tokens: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads, each of which serves `heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Values in a query, key or value of one head (`head_dim`).
    pub width: usize,
}

impl Heads {
    /// Returns the rows of head `head` of `n` of a sequence, within `rows` of all heads of all sequences.
    pub(super) fn rows_of(self, rows: &[f32], sequence: usize, [n, head]: [usize; 2]) -> HeadRows<'_> {
        HeadRows { rows, stride: n * self.width, first: sequence * self.tokens, column: head * self.width }
    }
}
