//! The gated delta rule on the CPU, over whole sequences, head by head.

use super::threads::map_all;
use crate::{Error, Result};

/// Sizes of what the rule goes through.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Number of sequences.
    pub batch: usize,
    /// Number of key heads.
    pub key_heads: usize,
    /// Key head that serves each value head.
    pub served_by: &'a [usize],
    /// Width of a key head.
    pub key_width: usize,
    /// Width of a value head.
    pub value_width: usize,
}

/// What the rule reads, for each token.
#[derive(Debug, Clone, Copy)]
pub struct Corrected<'a> {
    /// Queries `q`, `[batch tokens, key heads * key width]`.
    pub query: &'a [f32],
    /// Keys `k`, of length 1, likewise.
    pub key: &'a [f32],
    /// Values `v`, `[batch tokens, value heads * value width]`.
    pub value: &'a [f32],
    /// Shares `g` of the states that are kept, in (0, 1], `[batch tokens, value heads]`.
    pub kept: &'a [f32],
    /// Rates `r` of writing, in (0, 1), likewise.
    pub rate: &'a [f32],
}

/// Runs the gated delta rule (Yang et al., [2412.06464](https://arxiv.org/abs/2412.06464)): for each token and value head
/// `S = g S`, then `S = S + k r (v - k^T S)` and `y = q^T S`, with a state `S` `[key width, value width]` that is zero at
/// first. Returns `y`, `[batch tokens, value heads * value width]`.
///
/// # Errors
/// [`Error::Internal`] if a length does not fit `heads`.
pub fn correct(corrected: Corrected<'_>, heads: Heads<'_>) -> Result<Vec<f32>> {
    let Heads { batch, key_heads, served_by, key_width, value_width } = heads;
    let Corrected { query, key, value, kept, rate } = corrected;
    let n_heads = served_by.len();
    let (keys, values) = (key_heads * key_width, n_heads * value_width);
    let rows = value.len() / values.max(1);
    let fits = [(query, keys), (key, keys), (value, values), (kept, n_heads), (rate, n_heads)]
        .iter()
        .all(|(given, width)| given.len() == rows * width);
    if !fits || batch == 0 || !rows.is_multiple_of(batch) || served_by.iter().any(|key| *key >= key_heads) {
        return Err(Error::internal(format!(
            "numbers that do not fit were given to the delta rule of {heads:?}"
        )));
    }
    let tokens = rows / batch;
    let of_head = |place: usize| {
        let (sequence, head) = (place / n_heads, place % n_heads);
        let served = served_by.get(head).copied().unwrap_or(0);
        let mut state = vec![0.0f32; key_width * value_width];
        let mut outputs = Vec::with_capacity(tokens * value_width);
        for row in sequence * tokens..(sequence + 1) * tokens {
            let part = |x: &'_ [f32], place: usize, width: usize, all: usize| -> Vec<f32> {
                x.iter().skip(row * all + place * width).take(width).copied().collect()
            };
            let (q, k) = (part(query, served, key_width, keys), part(key, served, key_width, keys));
            let v = part(value, head, value_width, values);
            let (g, r) = (part(kept, head, 1, n_heads), part(rate, head, 1, n_heads));
            let (g, r) = (g.first().copied().unwrap_or(1.0), r.first().copied().unwrap_or(0.0));
            let mut known = vec![0.0f32; value_width];
            for (k, states) in k.iter().zip(state.chunks_mut(value_width)) {
                for (known, s) in known.iter_mut().zip(states) {
                    *s *= g;
                    *known += k * *s;
                }
            }
            let error: Vec<f32> = v.iter().zip(&known).map(|(v, known)| r * (v - known)).collect();
            let mut y = vec![0.0f32; value_width];
            for ((q, k), states) in q.iter().zip(&k).zip(state.chunks_mut(value_width)) {
                for ((y, error), s) in y.iter_mut().zip(&error).zip(states) {
                    *s += k * error;
                    *y += q * *s;
                }
            }
            outputs.extend(y);
        }
        outputs
    };
    let outputs = map_all(batch * n_heads, of_head);
    let mut y = vec![0.0f32; rows * values];
    for (place, outputs) in outputs.iter().enumerate() {
        let (sequence, head) = (place / n_heads, place % n_heads);
        let of_sequence = y.chunks_mut(values).skip(sequence * tokens).take(tokens);
        for (to, from) in of_sequence.zip(outputs.chunks(value_width.max(1))) {
            to.iter_mut().skip(head * value_width).zip(from).for_each(|(to, from)| *to = *from);
        }
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::numbers;
    use super::*;

    /// The rule is compared with its definition in `f64`.
    #[test]
    fn a_head_is_what_the_definition_says() {
        let served_by = [0, 0, 1, 1, 0, 1];
        let heads = Heads { batch: 2, key_heads: 2, served_by: &served_by, key_width: 5, value_width: 3 };
        let (rows, n) = (2 * 7, served_by.len());
        let (query, key) = (numbers(rows * 10, 31), numbers(rows * 10, 17));
        let value = numbers(rows * n * 3, 7);
        let share = |seed| -> Vec<f32> { numbers(rows * n, seed).iter().map(|x| 0.5 + 0.4 * x).collect() };
        let (kept, rate) = (share(11), share(23));
        let corrected = Corrected { query: &query, key: &key, value: &value, kept: &kept, rate: &rate };
        let y = correct(corrected, heads).unwrap();
        for sequence in 0..2 {
            for (head, served) in served_by.iter().enumerate() {
                let mut state = [[0.0f64; 3]; 5];
                for row in sequence * 7..(sequence + 1) * 7 {
                    let of_key = |x: &[f32], i: usize| f64::from(x[row * 10 + served * 5 + i]);
                    let (g, r) = (f64::from(kept[row * n + head]), f64::from(rate[row * n + head]));
                    for column in 0..3 {
                        for states in &mut state {
                            states[column] *= g;
                        }
                        let known: f64 = (0..5).map(|i| of_key(&key, i) * state[i][column]).sum();
                        let v = f64::from(value[(row * n + head) * 3 + column]);
                        for (i, states) in state.iter_mut().enumerate() {
                            states[column] += of_key(&key, i) * r * (v - known);
                        }
                        let expected: f64 = (0..5).map(|i| of_key(&query, i) * state[i][column]).sum();
                        let given = f64::from(y[(row * n + head) * 3 + column]);
                        assert!((given - expected).abs() < 1e-5, "{given} {expected}");
                    }
                }
            }
        }
        assert!(correct(Corrected { rate: &rate[1..], ..corrected }, heads).is_err());
        assert!(correct(corrected, Heads { served_by: &[0, 0, 1, 1, 0, 2], ..heads }).is_err());
    }
}
