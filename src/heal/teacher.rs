//! The original's next-word distributions, of which the likeliest words are kept, and how likely the rest is together.

use std::collections::HashMap;
use std::rc::Rc;

use super::loss::HeadSlices;
use crate::error::OrInternal;
use crate::evaluate::score::Softmax;
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::forward::states::{as_rows, to_host};
use crate::kernels::rowwise::row_softmax;
use crate::kernels::threads;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::protocol::events::{Stage, Unit};
use crate::{Error, Result};

/// Words of each distribution that are kept, or the whole vocabulary if it is smaller.
pub const KEPT_WORDS: usize = 64;

/// Sequences that go through the original at a time: layers are read once for all of them.
const AHEAD: usize = 64;

/// The original's distributions after each token of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Distributions {
    /// Kept words of each token, ascending; as many for each.
    pub words: Vec<u32>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
    /// Number of kept words of each token.
    pub kept: usize,
}

impl Distributions {
    /// Returns the kept words and probabilities of the token at `place`.
    pub fn of_token(&self, place: usize) -> (&[u32], &[f32]) {
        let range = place * self.kept..(place + 1) * self.kept;
        (self.words.get(range.clone()).unwrap_or_default(), self.probabilities.get(range).unwrap_or_default())
    }
}

/// The original, asked for its distributions.
pub struct Teacher<'a> {
    context: Context<'a>,
    head: HeadSlices<'a>,
    /// What is known by sequence.
    known: HashMap<usize, Rc<Distributions>>,
}

impl<'a> Teacher<'a> {
    /// Reads the original's head, for the sequences of `context` of which `n_rows` tokens are asked for at a time.
    ///
    /// # Errors
    /// Those of [`HeadSlices::open`].
    pub async fn open(context: &Context<'a>, n_rows: usize) -> Result<Self> {
        let head = HeadSlices::open(context, Storage::of(context.model), n_rows).await?;
        Ok(Self { context: *context, head, known: HashMap::new() })
    }

    /// Returns the distributions of the sequences `batch`. Those that are not known are found out, together with some that
    /// come `next`.
    ///
    /// # Errors
    /// Those of running layers and of the observer.
    pub async fn distributions(&mut self, batch: &[usize], next: &[usize]) -> Result<Vec<Rc<Distributions>>> {
        let mut missing: Vec<usize> = Vec::new();
        for place in batch.iter().chain(next) {
            if !self.known.contains_key(place) && !missing.contains(place) && missing.len() < AHEAD {
                missing.push(*place);
            }
        }
        if batch.iter().any(|place| missing.contains(place)) {
            let found = self.find(&missing).await?;
            self.known.extend(missing.into_iter().zip(found.into_iter().map(Rc::new)));
        }
        let known = |place: &usize| self.known.get(place).cloned().or_internal("a sequence was not run");
        batch.iter().map(known).collect()
    }

    /// Runs the original on the sequences `places`.
    async fn find(&self, places: &[usize]) -> Result<Vec<Distributions>> {
        let Context { model, accelerator, observer, .. } = self.context;
        let sequences = self.context.sequences.at(places);
        let runner = Runner::new(model, accelerator, sequences.tokens())?;
        let mut states = runner.embed(&sequences, Storage::of(model)).await?;
        let originals = NewLayer::originals(model);
        let mut layers = runner.ahead(&originals, Storage::of(model))?;
        let n_layers = originals.len();
        let mut done = 0;
        while let Some(layer) = layers.next().await? {
            states = runner.forward(&layer, &states).await?;
            done += 1;
            let detail = format!("the original, layer {done} of {n_layers}");
            observer.progress(Stage::Heal, done as u64, n_layers as u64, Unit::Layers, detail).await?;
        }
        let mut found = Vec::new();
        for chunk in &states.chunks {
            let rows = self.head.normalise(as_rows(chunk))?;
            let mut tops = vec![Top::default(); rows.dims()[0]];
            for slice in self.head.all() {
                let logits = to_host(slice.logits(rows.clone())?, "while healing").await?;
                let width = slice.count;
                let rows = tops.iter_mut().zip(logits.chunks(width.max(1)));
                threads::for_pieces(rows, |(top, logits)| top.add(logits, slice.first));
            }
            for of_sequence in tops.chunks(sequences.tokens()) {
                found.push(distributions(of_sequence)?);
            }
        }
        Ok(found)
    }
}

/// The largest logits of a row so far, with their words, and the softmax of all.
#[derive(Debug, Clone, Default)]
struct Top {
    largest: Vec<(f32, u32)>,
    softmax: Softmax,
}

impl Top {
    /// Adds the logits of consecutive words from `first` on.
    fn add(&mut self, logits: &[f32], first: usize) {
        self.softmax.absorb(&row_softmax(logits));
        let mut least = f32::NEG_INFINITY;
        for (place, z) in logits.iter().enumerate() {
            if *z > least {
                self.largest.push((*z, (first + place) as u32));
                if self.largest.len() >= 4 * KEPT_WORDS {
                    least = shorten(&mut self.largest);
                }
            }
        }
        shorten(&mut self.largest);
    }
}

/// Leaves the [`KEPT_WORDS`] largest, and returns the least of them.
fn shorten(largest: &mut Vec<(f32, u32)>) -> f32 {
    if largest.len() <= KEPT_WORDS {
        return f32::NEG_INFINITY;
    }
    // Of equal logits the first words, so that the choice is always the same.
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let (_, last, _) = largest.select_nth_unstable_by(KEPT_WORDS - 1, order);
    let least = last.0;
    largest.truncate(KEPT_WORDS);
    least
}

/// Puts the tokens of one sequence together.
fn distributions(tops: &[Top]) -> Result<Distributions> {
    let kept = tops.first().map_or(0, |top| top.largest.len());
    let (mut words, mut probabilities) = (Vec::new(), Vec::new());
    for top in tops {
        if top.largest.len() != kept || !top.softmax.sum.is_finite() || !top.softmax.max.is_finite() {
            return Err(Error::Numeric(
                "the original's next-word distribution is not finite: the model's weights are damaged"
                    .to_owned(),
            ));
        }
        let mut largest = top.largest.clone();
        largest.sort_unstable_by_key(|(_, word)| *word);
        words.extend(largest.iter().map(|(_, word)| *word));
        let probability = |z: f32| ((f64::from(z) - top.softmax.max).exp() / top.softmax.sum) as f32;
        probabilities.extend(largest.iter().map(|(z, _)| probability(*z)));
    }
    Ok(Distributions { words, probabilities, kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_words_of_slices_are_those_of_the_whole() {
        let n = 1000;
        let logits: Vec<f32> = (0..n).map(|i| ((i * 7919) % 997) as f32 / 100.0).collect();
        let mut top = Top::default();
        for (place, slice) in logits.chunks(300).enumerate() {
            top.add(slice, 300 * place);
        }
        let found = distributions(&[top]).unwrap();
        assert_eq!(found.kept, KEPT_WORDS);
        assert!(found.words.windows(2).all(|pair| pair[0] < pair[1]));
        let sum: f64 = logits.iter().map(|z| f64::from(*z).exp()).sum();
        let mut sorted: Vec<usize> = (0..n).collect();
        sorted.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let mut expected: Vec<u32> = sorted[..KEPT_WORDS].iter().map(|i| *i as u32).collect();
        expected.sort_unstable();
        assert_eq!(found.words, expected);
        for (word, p) in found.words.iter().zip(&found.probabilities) {
            let exact = f64::from(logits[*word as usize]).exp() / sum;
            assert!((f64::from(*p) - exact).abs() < 1e-7);
        }
    }

    #[test]
    fn a_small_vocabulary_is_kept_whole() {
        let mut top = Top::default();
        top.add(&[0.0, 1.0, 2.0], 0);
        let found = distributions(&[top]).unwrap();
        assert_eq!(found.words, [0, 1, 2]);
        assert!((found.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
