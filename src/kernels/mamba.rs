//! The sequential part of a Mamba mixer on the CPU: a causal convolution and a selective scan.
//!
//! Both are over whole sequences, channel by channel: a channel never meets another. Blocks of channels are spread over
//! all cores.

use super::rowwise::exp;
use super::threads::map_all;
use crate::{Error, Result};

/// Channels that a thread takes at a time: their rows share cache lines.
const CHANNELS: usize = 32;

/// Sizes of a mixer and of what goes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens per sequence.
    pub tokens: usize,
    /// Number of channels.
    pub channels: usize,
    /// Numbers of the state of a channel.
    pub states: usize,
    /// Taps of the convolution.
    pub taps: usize,
}

impl Shape {
    fn check(self, what: &str, sizes: &[(usize, usize)]) -> Result<()> {
        match sizes.iter().find(|(given, expected)| given != expected) {
            None => Ok(()),
            Some((given, expected)) => {
                Err(Error::internal(format!("{what} of {self:?} was given {given} numbers, not {expected}")))
            }
        }
    }

    /// Applies `of_channel` to every sequence and channel, and puts the columns `[tokens]` that it gives together:
    /// row-major `[batch tokens, channels]`.
    fn by_channel(self, of_channel: impl Fn(usize, usize) -> Vec<f32> + Sync + Send) -> Vec<f32> {
        let blocks = self.channels.div_ceil(CHANNELS);
        let block = |place: usize| {
            let (sequence, first) = (place / blocks, place % blocks * CHANNELS);
            let channels = first..(first + CHANNELS).min(self.channels);
            channels.map(|channel| of_channel(sequence, channel)).collect::<Vec<_>>()
        };
        let columns = map_all(self.batch * blocks, block);
        let mut rows = vec![0.0f32; self.batch * self.tokens * self.channels];
        for (place, columns) in columns.iter().enumerate() {
            let (sequence, first) = (place / blocks, place % blocks * CHANNELS);
            for (offset, column) in columns.iter().enumerate() {
                let of_column = rows.iter_mut().skip(sequence * self.tokens * self.channels + first + offset);
                of_column.step_by(self.channels.max(1)).zip(column).for_each(|(to, from)| *to = *from);
            }
        }
        rows
    }

    /// Returns the column of one channel of one sequence.
    fn column(self, rows: &[f32], sequence: usize, channel: usize) -> impl Iterator<Item = f32> {
        let first = sequence * self.tokens * self.channels + channel;
        rows.iter().skip(first).step_by(self.channels.max(1)).take(self.tokens).copied()
    }
}

/// Convolves each channel of `x` `[batch tokens, channels]` with its own `weight` `[channels, taps]`, whose last tap is of
/// the token itself, adds its `bias` `[channels]`, and applies `silu(y) = y / (1 + exp(-y))`. Before the first token all
/// is zero.
///
/// # Errors
/// [`Error::Internal`] if a length does not fit `shape`.
pub fn convolve(x: &[f32], weight: &[f32], bias: &[f32], shape: Shape) -> Result<Vec<f32>> {
    let Shape { batch, tokens, channels, taps, .. } = shape;
    shape.check(
        "a convolution",
        &[(x.len(), batch * tokens * channels), (weight.len(), channels * taps), (bias.len(), channels)],
    )?;
    Ok(shape.by_channel(|sequence, channel| {
        let weight = weight.get(channel * taps..(channel + 1) * taps).unwrap_or_default();
        let bias = bias.get(channel).copied().unwrap_or(0.0);
        let mut padded = vec![0.0f32; taps.saturating_sub(1)];
        padded.extend(shape.column(x, sequence, channel));
        let sum = |seen: &[f32]| bias + seen.iter().zip(weight).map(|(x, w)| x * w).sum::<f32>();
        padded.windows(taps.max(1)).map(sum).map(|y| y / (1.0 + exp(-y))).collect()
    }))
}

/// What a scan reads.
#[derive(Debug, Clone, Copy)]
pub struct Scanned<'a> {
    /// Inputs `x`, `[batch tokens, channels]`.
    pub x: &'a [f32],
    /// Steps `delta`, positive, `[batch tokens, channels]`.
    pub delta: &'a [f32],
    /// Inputs and outputs of the states, `B` and `C`, `[batch tokens, states]` each.
    pub b: &'a [f32],
    /// See `b`.
    pub c: &'a [f32],
    /// Decays `A`, negative, `[channels, states]`.
    pub a: &'a [f32],
    /// What goes past the states, `D`, `[channels]`.
    pub d: &'a [f32],
}

/// Runs the selective scan of Mamba (Gu and Dao, [2312.00752](https://arxiv.org/abs/2312.00752)): for each token and
/// channel `s = exp(delta A) s + delta x B` and `y = s C + D x`, with a state `s` that is zero at first. Returns `y`,
/// `[batch tokens, channels]`.
///
/// # Errors
/// [`Error::Internal`] if a length does not fit `shape`.
pub fn scan(scanned: Scanned<'_>, shape: Shape) -> Result<Vec<f32>> {
    let Shape { batch, tokens, channels, states, .. } = shape;
    let Scanned { x, delta, b, c, a, d } = scanned;
    let (rows, of_states) = (batch * tokens * channels, batch * tokens * states);
    shape.check(
        "a scan",
        &[
            (x.len(), rows),
            (delta.len(), rows),
            (b.len(), of_states),
            (c.len(), of_states),
            (a.len(), channels * states),
            (d.len(), channels),
        ],
    )?;
    Ok(shape.by_channel(|sequence, channel| {
        let a = a.get(channel * states..(channel + 1) * states).unwrap_or_default();
        let past = d.get(channel).copied().unwrap_or(0.0);
        let of_sequence = sequence * tokens * states..(sequence + 1) * tokens * states;
        let inputs = b.get(of_sequence.clone()).unwrap_or_default().chunks(states.max(1));
        let outputs = c.get(of_sequence).unwrap_or_default().chunks(states.max(1));
        let mut state = vec![0.0f32; states];
        let tokens = shape.column(x, sequence, channel).zip(shape.column(delta, sequence, channel));
        tokens
            .zip(inputs.zip(outputs))
            .map(|((x, delta), (b, c))| {
                let step = delta * x;
                let mut y = past * x;
                for ((s, a), (b, c)) in state.iter_mut().zip(a).zip(b.iter().zip(c)) {
                    *s = exp(delta * a) * *s + step * b;
                    y += *s * c;
                }
                y
            })
            .collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * seed) % 997) as f32 / 500.0 - 1.0).collect()
    }

    /// Both are compared with the definition in `f64`, with more channels than a block has.
    #[test]
    fn a_channel_is_what_the_definition_says() {
        let shape = Shape { batch: 2, tokens: 5, channels: 37, states: 3, taps: 4 };
        let rows = shape.batch * shape.tokens;
        let x = numbers(rows * shape.channels, 31);
        let (weight, bias) = (numbers(shape.channels * shape.taps, 7), numbers(shape.channels, 11));
        let convolved = convolve(&x, &weight, &bias, shape).unwrap();
        let delta: Vec<f32> = numbers(rows * shape.channels, 57).iter().map(|x| x.abs() + 0.1).collect();
        let a: Vec<f32> = numbers(shape.channels * shape.states, 3).iter().map(|x| -x.abs() - 0.2).collect();
        let (b, c) = (numbers(rows * shape.states, 13), numbers(rows * shape.states, 17));
        let d = numbers(shape.channels, 19);
        let scanned = scan(Scanned { x: &x, delta: &delta, b: &b, c: &c, a: &a, d: &d }, shape).unwrap();
        for sequence in 0..shape.batch {
            for channel in 0..shape.channels {
                let at = |token: usize| (sequence * shape.tokens + token) * shape.channels + channel;
                let mut state = vec![0.0f64; shape.states];
                for token in 0..shape.tokens {
                    let mut y = f64::from(bias[channel]);
                    for tap in 0..shape.taps {
                        if token + tap + 1 >= shape.taps {
                            let earlier = token + tap + 1 - shape.taps;
                            y += f64::from(weight[channel * shape.taps + tap]) * f64::from(x[at(earlier)]);
                        }
                    }
                    let expected = y / (1.0 + (-y).exp());
                    assert!((f64::from(convolved[at(token)]) - expected).abs() < 1e-6);
                    let (x, delta) = (f64::from(x[at(token)]), f64::from(delta[at(token)]));
                    let row = (sequence * shape.tokens + token) * shape.states;
                    let mut y = f64::from(d[channel]) * x;
                    for (n, s) in state.iter_mut().enumerate() {
                        let a = f64::from(a[channel * shape.states + n]);
                        *s = (delta * a).exp() * *s + delta * x * f64::from(b[row + n]);
                        y += *s * f64::from(c[row + n]);
                    }
                    assert!((f64::from(scanned[at(token)]) - y).abs() < 1e-5);
                }
            }
        }
        assert!(convolve(&x[1..], &weight, &bias, shape).is_err());
    }
}
