//! Causal convolution over the tokens on the CPU, channel by channel.

use super::recurrence::Shape;
use super::rowwise::exp;
use crate::Result;

/// Convolves each channel of `x` `[batch tokens, channels]` with its own `weight` `[channels, taps]`, whose last tap is of
/// the token itself, adds its `bias` `[channels]` if there is one, and applies `silu(y) = y / (1 + exp(-y))` if it is
/// `activated`. Before the first token all is zero.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if a length does not fit `shape`.
pub fn convolve(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    activated: bool,
    taps: usize,
    shape: Shape,
) -> Result<Vec<f32>> {
    let Shape { batch, tokens, channels } = shape;
    let biases = if bias.is_empty() { 0 } else { channels };
    shape.check(
        "a convolution",
        &[(x.len(), batch * tokens * channels), (weight.len(), channels * taps), (bias.len(), biases)],
    )?;
    Ok(shape.by_channel(|sequence, channel| {
        let weight = weight.get(channel * taps..(channel + 1) * taps).unwrap_or_default();
        let bias = bias.get(channel).copied().unwrap_or(0.0);
        let mut padded = vec![0.0f32; taps.saturating_sub(1)];
        padded.extend(shape.column(x, sequence, channel));
        let sum = |seen: &[f32]| bias + seen.iter().zip(weight).map(|(x, w)| x * w).sum::<f32>();
        let activation = |y: f32| if activated { y / (1.0 + exp(-y)) } else { y };
        padded.windows(taps.max(1)).map(sum).map(activation).collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::numbers;
    use super::*;

    /// The convolution is compared with the definition in `f64`, with more channels than a block has.
    #[test]
    fn a_channel_is_what_the_definition_says() {
        let (shape, taps) = (Shape { batch: 2, tokens: 5, channels: 37 }, 4);
        let x = numbers(shape.batch * shape.tokens * shape.channels, 31);
        let (weight, biases) = (numbers(shape.channels * taps, 7), numbers(shape.channels, 11));
        for (bias, activated) in [(&biases[..], true), (&[], true), (&[], false)] {
            let y = convolve(&x, &weight, bias, activated, taps, shape).unwrap();
            for sequence in 0..shape.batch {
                for channel in 0..shape.channels {
                    let at = |token: usize| (sequence * shape.tokens + token) * shape.channels + channel;
                    for token in 0..shape.tokens {
                        let mut sum = f64::from(bias.get(channel).copied().unwrap_or(0.0));
                        for tap in 0..taps {
                            if token + tap + 1 >= taps {
                                let earlier = token + tap + 1 - taps;
                                sum += f64::from(weight[channel * taps + tap]) * f64::from(x[at(earlier)]);
                            }
                        }
                        let expected = if activated { sum / (1.0 + (-sum).exp()) } else { sum };
                        assert!((f64::from(y[at(token)]) - expected).abs() < 1e-6);
                    }
                }
            }
        }
        assert!(convolve(&x[1..], &weight, &biases, true, taps, shape).is_err());
        assert!(convolve(&x, &weight, &biases[1..], true, taps, shape).is_err());
    }
}
