//! Angles by which blocks of layers turn the hidden state of the last token.

use crate::Result;
use crate::forward::context::Context;
use crate::forward::states::{HiddenStates, to_host};
use crate::forward::stream::Stream;
use crate::methods::work::{Task, Work};
use crate::protocol::events::Stage;

/// Hidden state of the last token of each sequence at each depth.
pub struct LastTokens {
    hidden: usize,
    /// `depths[l]` enters layer `l`, the last element leaves the model; row-major `[sequences, hidden]` each.
    depths: Vec<Vec<f32>>,
}

impl LastTokens {
    /// Runs the original once more and keeps the hidden states of last tokens: `4 (L + 1) sequences hidden`
    /// bytes for `L` layers.
    ///
    /// # Errors
    /// Those of [`Stream::visit_depths`] and [`to_host`].
    pub async fn capture(context: &Context<'_>, stream: &Stream) -> Result<Self> {
        let mut depths = Vec::new();
        stream
            .visit_depths(context, Stage::Plan, async |states| {
                depths.push(last_tokens(states).await?);
                Ok(())
            })
            .await?;
        Ok(Self { hidden: context.model.config.hidden_size, depths })
    }

    /// Returns for each layer `l` at which a block of `n` layers can begin the mean over sequences of
    /// `arccos(cos(x_l, x_{l+n})) / pi`, 0 to 1 (Gromov et al., arXiv 2403.17887).
    pub fn distances(&self, n: usize) -> Vec<f64> {
        let pairs = self.depths.iter().zip(self.depths.iter().skip(n));
        pairs.map(|(x, y)| self.mean_angle(x, y)).collect()
    }

    fn mean_angle(&self, x: &[f32], y: &[f32]) -> f64 {
        let width = self.hidden.max(1);
        let angles = x.chunks_exact(width).zip(y.chunks_exact(width)).map(|(x, y)| {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosine = dot(x, y) / (dot(x, x) * dot(y, y)).sqrt();
            // A hidden state of zeros has no direction; it counts as unturned.
            if cosine.is_nan() { 0.0 } else { cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI }
        });
        let n = (x.len() / width).max(1);
        angles.sum::<f64>() / n as f64
    }
}

async fn last_tokens(states: &HiddenStates) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    for chunk in &states.chunks {
        let [_, tokens, _] = chunk.dims();
        values.extend(to_host(chunk.clone().narrow(1, tokens.saturating_sub(1), 1), "between layers").await?);
    }
    Ok(values)
}

/// Counts the work: one pass through the original.
pub fn work(task: &Task<'_>) -> Work {
    Work::layers(task.n_layers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_is_half() {
        let depths = vec![vec![1.0, 0.0, 0.0, 2.0], vec![0.0, 3.0, 0.0, 1.0], vec![-1.0, 0.0, 0.0, 5.0]];
        let states = LastTokens { hidden: 2, depths };
        assert_eq!(states.distances(1), [0.25, 0.25]);
        assert_eq!(states.distances(2), [0.5]);
        assert!(states.distances(3).is_empty());
    }
}
