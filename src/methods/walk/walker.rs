//! Runs layers of either model on the calibration text, and sorts the rows of fits into those that are fitted and those
//! that are held out.

use crate::Result;
use crate::error::{Error, OrInternal};
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::forward::states::sequences_per_chunk;
use crate::maths::least_squares::{Normal, Refit, ridge_on_all};
use crate::methods::Resources;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;

/// Strengths of ridges that held-out sequences choose from, as shares of the mean of the diagonal of the Gram matrix:
/// fits to some ten thousand tokens are best at 0.1 to 1, and flat around it.
pub const STRENGTHS: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// Of this many sequences, one is held out.
const HELD_OUT: usize = 5;

/// Runs layers and sorts their rows.
pub struct Walker<'a> {
    /// The model, the text, and how the result is stored.
    pub context: Context<'a>,
    /// Memory for fits, and where they are kept.
    pub resources: Resources<'a>,
    /// Runs layers.
    pub runner: Runner<'a>,
    /// Of each sequence, whether it is held out from fits.
    held_out: Vec<bool>,
}

impl<'a> Walker<'a> {
    /// A walker through the sequences of `context`, a fifth of which it holds out.
    pub fn new(context: Context<'a>, resources: Resources<'a>) -> Self {
        let runner = Runner::new(context.model, context.accelerator, context.sequences.tokens());
        Self { context, resources, runner, held_out: held_out(context.sequences.count()) }
    }

    /// The sequences that are held out from fits.
    pub fn held_out(&self) -> impl Iterator<Item = usize> {
        self.held_out.iter().enumerate().filter(|(_, held_out)| **held_out).map(|(place, _)| place)
    }

    /// Reads a layer and takes it to the device.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn upload(&self, layer: &NewLayer) -> Result<DecoderLayer> {
        self.upload_stored(layer, self.context.storage).await
    }

    /// The same for a layer of the original as it is, however the result is stored.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn original(&self, layer: usize) -> Result<DecoderLayer> {
        self.upload_stored(&NewLayer::original(layer), Storage::of(self.context.model)).await
    }

    async fn upload_stored(&self, layer: &NewLayer, storage: Storage) -> Result<DecoderLayer> {
        self.runner.upload(self.runner.fetch(layer, storage)?.finish().await?)
    }

    /// Two empty systems of `m` regressors and as many targets as the stream is wide.
    ///
    /// # Errors
    /// [`Error::Limit`] if there is no memory for them.
    pub fn systems(&self, m: usize) -> Result<Systems> {
        let d = self.context.model.config.hidden_size;
        Ok(Systems { fit: Normal::new(m, d)?, held_out: Normal::new(m, d)? })
    }

    /// Adds the rows of chunk `place`: regressors `z` `[n, m]`, targets `y` `[n, hidden]`, weights `w` `[n]`.
    ///
    /// # Errors
    /// As [`Normal::add`].
    pub fn add(&self, systems: &mut Systems, place: usize, z: &[f32], y: &[f32], w: &[f32]) -> Result<()> {
        let tokens = self.context.sequences.tokens();
        let first = place * sequences_per_chunk(tokens);
        let n_sequences = w.len() / tokens.max(1);
        let flags =
            self.held_out.get(first..first + n_sequences).or_internal("a chunk is of no sequences")?;
        if n_sequences * tokens != w.len() {
            return Err(Error::internal("a chunk holds part of a sequence"));
        }
        let mut at = 0;
        for alike in flags.chunk_by(|a, b| a == b) {
            let n = alike.len() * tokens;
            let rows = |width: usize| at * width..(at + n) * width;
            let (m, d) = (z.len() / w.len().max(1), y.len() / w.len().max(1));
            let missing = "rows of a fit are missing";
            let z = z.get(rows(m)).or_internal(missing)?;
            let (y, w) = (y.get(rows(d)).or_internal(missing)?, w.get(rows(1)).or_internal(missing)?);
            match alike.first() {
                Some(true) => systems.held_out.add(z, y, w)?,
                _ => systems.fit.add(z, y, w)?,
            }
            at += n;
        }
        Ok(())
    }
}

/// The least-squares problems of the rows that are fitted and of those that choose how strongly.
pub struct Systems {
    /// Fitted.
    pub fit: Normal,
    /// Held out.
    pub held_out: Normal,
}

impl Systems {
    /// The ridge about `start`, as strong as the held-out rows say, on all rows.
    ///
    /// # Errors
    /// As [`ridge_on_all`].
    pub fn solve(&mut self, start: &[f32]) -> Result<Refit> {
        ridge_on_all(&mut self.fit, &self.held_out, start, &STRENGTHS)
    }

    /// Both problems with the regressors `indices` only.
    ///
    /// # Errors
    /// As [`Normal::subset`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        Ok(Self { fit: self.fit.subset(indices)?, held_out: self.held_out.subset(indices)? })
    }
}

/// How many of `n` sequences are held out.
pub fn n_held_out(n: usize) -> usize {
    (n / HELD_OUT).max(1)
}

/// One of [`HELD_OUT`] sequences, evenly spread from the first to the last; at least one, and not all.
fn held_out(n: usize) -> Vec<bool> {
    let mut flags = vec![false; n];
    let n_held_out = n_held_out(n);
    for i in 0..n_held_out {
        let place = match n_held_out {
            1 => 0.0,
            _ => (i * n.saturating_sub(1)) as f64 / (n_held_out - 1) as f64,
        };
        if let Some(flag) = flags.get_mut(place.round_ties_even() as usize) {
            *flag = true;
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_held_out_evenly() {
        let places =
            |n| held_out(n).iter().enumerate().filter(|(_, x)| **x).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(places(2), [0]);
        assert_eq!(places(10), [0, 9]);
        assert_eq!(places(16), [0, 8, 15]);
        assert_eq!(places(40).len(), 8);
    }
}
