//! The original as it is, walked through from run to run.

use super::seen::{Seen, Watched};
use super::walker::Walker;
use crate::Result;
use crate::forward::states::HiddenStates;
use crate::forward::stream::Stream;

/// The states that enter layer `place` of the original.
#[derive(Clone)]
pub struct Original {
    place: usize,
    /// `[sequences, tokens, hidden]` in chunks.
    pub states: HiddenStates,
}

impl Original {
    /// What enters the first layer.
    ///
    /// # Errors
    /// As [`Stream::nearest`].
    pub fn at_the_first(stream: &Stream) -> Result<Self> {
        Ok(Self { place: 0, states: stream.nearest(0)?.1 })
    }

    /// Goes on to a deeper layer, from what `stream` keeps where that is closer.
    ///
    /// # Errors
    /// What running gives.
    pub async fn advance(&mut self, walker: &Walker<'_>, stream: &Stream, to: usize) -> Result<()> {
        let (place, states) = stream.nearest(to)?;
        if place > self.place {
            *self = Self { place, states };
        }
        while self.place < to {
            let layer = walker.original(self.place).await?;
            self.states = walker.runner.forward(&layer, &self.states)?;
            self.place += 1;
        }
        Ok(())
    }

    /// What leaves the last of `layers`, the first of which these states enter, and what they did.
    ///
    /// # Errors
    /// What running gives.
    pub async fn watched_through(&self, walker: &Walker<'_>, layers: &[usize]) -> Result<(Self, Watched)> {
        let mut leaving = self.clone();
        let mut seen = vec![Seen::default(); leaving.states.chunks.len()];
        for layer in layers {
            let layer = walker.original(*layer).await?;
            for (x, seen) in leaving.states.chunks.iter_mut().zip(&mut seen) {
                *x = seen.pass(walker, &layer, x).await?;
            }
            leaving.place += 1;
        }
        Ok((leaving, Watched::of(seen)))
    }
}
