//! Walk through the original as it is stored, from span to span.

use super::seen::{Seen, Watched};
use super::walker::Walker;
use crate::Result;
use crate::forward::states::HiddenStates;
use crate::forward::stream::Stream;

/// Hidden states that enter layer `place` of the original.
#[derive(Clone)]
pub struct Original {
    place: usize,
    /// Hidden states in chunks, each `[sequences, tokens, hidden]`.
    pub states: HiddenStates,
}

impl Original {
    /// Returns the hidden states that enter the first layer.
    ///
    /// # Errors
    /// Those of [`Stream::nearest`].
    pub fn at_the_first(stream: &Stream) -> Result<Self> {
        Ok(Self { place: 0, states: stream.nearest(0)?.1 })
    }

    /// Advances to the hidden states that enter layer `to`, starting from the states that `stream` keeps if
    /// they are closer.
    ///
    /// # Errors
    /// Those of [`Stream::nearest`], [`Walker::original`] and
    /// [`Runner::forward`](crate::forward::runner::Runner::forward).
    pub async fn advance(&mut self, walker: &Walker<'_>, stream: &Stream, to: usize) -> Result<()> {
        let (place, states) = stream.nearest(to)?;
        if place > self.place {
            *self = Self { place, states };
        }
        while self.place < to {
            let layer = walker.original(self.place).await?;
            self.states = walker.runner.forward(&layer, &self.states).await?;
            self.place += 1;
        }
        Ok(())
    }

    /// Runs the neighbouring `layers`, the first of which these states enter. Returns the states after the
    /// last of `layers`, and the inputs and MLP outputs of all of them.
    ///
    /// # Errors
    /// Those of [`Walker::original`] and [`Seen::pass`].
    pub async fn watched_through(&self, walker: &Walker<'_>, layers: &[usize]) -> Result<(Self, Watched)> {
        let mut leaving = self.clone();
        let mut seen = vec![Seen::default(); leaving.states.chunks.len()];
        for layer in layers {
            let layer = walker.original(*layer).await?;
            let states = leaving.states.chunks.iter_mut().zip(&mut leaving.states.beside);
            for ((x, beside), seen) in states.zip(&mut seen) {
                (*x, *beside) = seen.pass(walker, &layer, x, beside).await?;
            }
            leaving.place += 1;
        }
        Ok((leaving, Watched::of(seen)))
    }
}
