//! What goes through the tokens one after the other, channel by channel: a channel never meets another.
//!
//! Blocks of channels are spread over all cores.

use super::threads::map_all;
use crate::{Error, Result};

/// Channels that a thread takes at a time: their rows share cache lines.
const CHANNELS: usize = 32;

/// Sizes of what goes through a mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens per sequence.
    pub tokens: usize,
    /// Number of channels.
    pub channels: usize,
}

impl Shape {
    /// Checks that lengths, as given, are as expected.
    ///
    /// # Errors
    /// [`Error::Internal`], with `what` was given them, if one is not.
    pub fn check(self, what: &str, sizes: &[(usize, usize)]) -> Result<()> {
        match sizes.iter().find(|(given, expected)| given != expected) {
            None => Ok(()),
            Some((given, expected)) => {
                Err(Error::internal(format!("{what} of {self:?} was given {given} numbers, not {expected}")))
            }
        }
    }

    /// Applies `of_channel` to every sequence and channel, and puts the columns `[tokens]` that it gives together:
    /// row-major `[batch tokens, channels]`.
    pub fn by_channel(self, of_channel: impl Fn(usize, usize) -> Vec<f32> + Sync + Send) -> Vec<f32> {
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
    pub fn column(self, rows: &[f32], sequence: usize, channel: usize) -> impl Iterator<Item = f32> {
        let first = sequence * self.tokens * self.channels + channel;
        rows.iter().skip(first).step_by(self.channels.max(1)).take(self.tokens).copied()
    }
}

/// Returns `n` numbers in [-1, 1], different for every `seed`.
#[cfg(test)]
pub fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * seed) % 997) as f32 / 500.0 - 1.0).collect()
}
