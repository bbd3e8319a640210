//! The selective scan of a Mamba mixer on the CPU, over whole sequences.

use super::recurrence::Shape;
use super::rowwise::exp;
use crate::Result;

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
/// [`Error::Internal`](crate::Error::Internal) if a length does not fit `shape`.
pub fn scan(scanned: Scanned<'_>, states: usize, shape: Shape) -> Result<Vec<f32>> {
    let Shape { batch, tokens, channels } = shape;
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
    use super::super::recurrence::numbers;
    use super::*;

    /// The scan is compared with the definition in `f64`, with more channels than a block has.
    #[test]
    fn a_state_is_what_the_definition_says() {
        let (shape, states) = (Shape { batch: 2, tokens: 5, channels: 37 }, 3);
        let rows = shape.batch * shape.tokens;
        let x = numbers(rows * shape.channels, 31);
        let delta: Vec<f32> = numbers(rows * shape.channels, 57).iter().map(|x| x.abs() + 0.1).collect();
        let a: Vec<f32> = numbers(shape.channels * states, 3).iter().map(|x| -x.abs() - 0.2).collect();
        let (b, c) = (numbers(rows * states, 13), numbers(rows * states, 17));
        let d = numbers(shape.channels, 19);
        let scanned = Scanned { x: &x, delta: &delta, b: &b, c: &c, a: &a, d: &d };
        let y = scan(scanned, states, shape).unwrap();
        for sequence in 0..shape.batch {
            for channel in 0..shape.channels {
                let mut state = vec![0.0f64; states];
                for token in 0..shape.tokens {
                    let row = sequence * shape.tokens + token;
                    let at = row * shape.channels + channel;
                    let (x, delta) = (f64::from(x[at]), f64::from(delta[at]));
                    let mut expected = f64::from(d[channel]) * x;
                    for (n, s) in state.iter_mut().enumerate() {
                        let a = f64::from(a[channel * states + n]);
                        *s = (delta * a).exp() * *s + delta * x * f64::from(b[row * states + n]);
                        expected += *s * f64::from(c[row * states + n]);
                    }
                    assert!((f64::from(y[at]) - expected).abs() < 1e-5);
                }
            }
        }
        assert!(scan(Scanned { x: &x[1..], ..scanned }, states, shape).is_err());
    }
}
