//! Scoring text: log-likelihood, KL divergence and top-1 agreement, streamed over the vocabulary.
//!
//! The head is walked by row slices. For each token a running maximum, sum of exponentials and
//! divergence numerator are kept, as in an online softmax, so that no more than one slice of logits
//! exists at a time:
//!
//! `KL(p || q) = sum_v p_v (z_v - y_v) - lse(z) + lse(y)` for logits `z` of the original, `y` of the
//! other, with `p = softmax(z)`.

use burn::tensor::{Int, Tensor, TensorData};

use crate::calibration::Sequences;
use crate::capture::{HiddenStates, read, sequences_per_chunk};
use crate::device::Accelerator;
use crate::model::Model;
use crate::model::head::{Head, HeadSlice};
use crate::progress::{Observer, Stage, Unit};
use crate::{Error, Result};

/// Sums over the scored tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// Tokens scored: all after the first of each sequence.
    pub tokens: u64,
    /// Summed negative log-likelihood in nats.
    pub nll: f64,
    /// Summed `KL(original || this)` in nats, where there was an original to compare with.
    pub kl: Option<f64>,
    /// Tokens whose most likely successor agrees with the original's.
    pub agreements: Option<u64>,
}

impl Scores {
    /// `exp(nll / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// Mean divergence in nats per token, never negative.
    pub fn mean_kl(&self) -> Option<f64> {
        // Rounding can push the divergence of equal models a hair below zero.
        self.kl.map(|kl| (kl / self.tokens as f64).max(0.0))
    }

    /// Share of agreeing tokens, 0 to 1.
    pub fn top1_agreement(&self) -> Option<f64> {
        self.agreements.map(|n| n as f64 / self.tokens as f64)
    }
}

/// A model's states after its last layer, for the head of that model.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// The model.
    pub model: &'a Model,
    /// What left its last layer.
    pub states: &'a HiddenStates,
}

/// Scores `sequences` by what left the last layer of `own`, and compares it with the `original`
/// where one is given. The two must have the same vocabulary.
///
/// # Errors
/// What reading gives, [`Error::Device`] if the device fails, and what `observer` gives.
pub async fn score(
    accelerator: &Accelerator,
    sequences: &Sequences,
    own: Output<'_>,
    original: Option<Output<'_>>,
    observer: &dyn Observer,
) -> Result<Scores> {
    let per_chunk = sequences_per_chunk(sequences.tokens());
    let n_rows = per_chunk * sequences.tokens();
    let head = Head::open(own.model, accelerator, n_rows).await?;
    // A merged model shares its original's head: then each slice is read once for both.
    let other_head = match original {
        Some(original) if !std::ptr::eq(original.model, own.model) => {
            Some(Head::open(original.model, accelerator, n_rows).await?)
        }
        _ => None,
    };
    let mut chunks: Vec<Chunk> = Vec::new();
    for (place, x) in own.states.chunks.iter().enumerate() {
        let reference = original.and_then(|o| o.states.chunks.get(place));
        let targets: Vec<u32> = sequences
            .iter()
            .skip(place * per_chunk)
            .take(per_chunk)
            .flat_map(|s| s.get(1..).unwrap_or_default())
            .copied()
            .collect();
        chunks.push(Chunk {
            own: head.normalise(scored(x)),
            reference: reference.map(|z| other_head.as_ref().unwrap_or(&head).normalise(scored(z))),
            tokens: vec![Token::default(); targets.len()],
            targets,
        });
    }
    let mut first = 0;
    while first < head.n_rows() {
        let slice = head.slice(first).await?;
        let other_slice = match &other_head {
            Some(head) => Some(head.slice(first).await?),
            None => None,
        };
        for chunk in &mut chunks {
            chunk.add(&slice, other_slice.as_ref().unwrap_or(&slice), accelerator).await?;
        }
        first += slice.count;
        let detail = format!("row {first} of {} of the head", head.n_rows());
        let (done, total) = (first as u64, head.n_rows() as u64);
        observer.progress(Stage::Evaluate, done, total, Unit::Rows, detail).await?;
    }
    let mut scores =
        Scores { kl: original.map(|_| 0.0), agreements: original.map(|_| 0), ..Scores::default() };
    for token in chunks.iter().flat_map(|c| &c.tokens) {
        token.add_to(&mut scores);
    }
    if !scores.nll.is_finite() {
        return Err(Error::Numeric(
            "the log-likelihood of the text is not finite: the model's weights are damaged".to_owned(),
        ));
    }
    Ok(scores)
}

/// States that predict something: all but each sequence's last, as rows.
fn scored(states: &Tensor<3>) -> Tensor<2> {
    let [batch, tokens, hidden] = states.dims();
    states.clone().narrow(1, 0, tokens - 1).reshape([batch * (tokens - 1), hidden])
}

struct Chunk {
    own: Tensor<2>,
    reference: Option<Tensor<2>>,
    targets: Vec<u32>,
    tokens: Vec<Token>,
}

/// Running sums of one token.
#[derive(Debug, Clone, Copy, Default)]
struct Token {
    own: Softmax,
    reference: Option<Softmax>,
    target: f64,
    /// `sum_v exp(z_v - max z) (z_v - y_v)`.
    divergence: f64,
}

/// A running softmax normaliser.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    max: f64,
    sum: f64,
    argmax: usize,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0, argmax: 0 }
    }
}

impl Softmax {
    /// Takes in a slice with the given maximum; returns the factors by which what was summed before
    /// and what the slice sums are to be scaled.
    fn absorb(&mut self, max: f64, sum: f64, argmax: usize) -> (f64, f64) {
        let larger = self.max.max(max);
        let scales = ((self.max - larger).exp(), (max - larger).exp());
        if max > self.max {
            self.argmax = argmax;
        }
        self.sum = self.sum * scales.0 + sum * scales.1;
        self.max = larger;
        scales
    }

    fn log_sum(&self) -> f64 {
        self.max + self.sum.ln()
    }
}

impl Token {
    fn add_to(&self, scores: &mut Scores) {
        scores.tokens += 1;
        scores.nll += self.own.log_sum() - self.target;
        if let Some(reference) = self.reference {
            let kl = self.divergence / reference.sum - reference.log_sum() + self.own.log_sum();
            scores.kl = scores.kl.map(|sum| sum + kl);
            scores.agreements = scores.agreements.map(|n| n + u64::from(reference.argmax == self.own.argmax));
        }
    }
}

impl Chunk {
    /// Adds one slice of the vocabulary.
    async fn add(&mut self, slice: &HeadSlice, other: &HeadSlice, accelerator: &Accelerator) -> Result<()> {
        let y = slice.logits(self.own.clone());
        let local: Vec<i32> = self
            .targets
            .iter()
            .map(|t| (*t as usize).checked_sub(slice.first).filter(|i| *i < slice.count))
            .map(|i| i.map_or(0, |i| i as i32))
            .collect();
        let shape = [local.len(), 1];
        let local = Tensor::<2, Int>::from_data(TensorData::new(local, shape), accelerator.device());
        let mut columns = vec![y.clone().gather(1, local)];
        columns.extend(softmax_columns(&y));
        if let Some(reference) = &self.reference {
            let z = other.logits(reference.clone());
            let [max, sum, argmax] = softmax_columns(&z);
            let weights = (z.clone() - max.clone()).exp();
            columns.extend([max, sum, argmax, (weights * (z - y)).sum_dim(1)]);
        }
        let width = columns.len();
        let sums = read(Tensor::cat(columns, 1), usize::MAX).await?;
        for ((token, target), sums) in self.tokens.iter_mut().zip(&self.targets).zip(sums.chunks_exact(width))
        {
            let value = |i: usize| f64::from(sums.get(i).copied().unwrap_or(f32::NAN));
            let row = |i: usize| slice.first + value(i) as usize;
            if (slice.first..slice.first + slice.count).contains(&(*target as usize)) {
                token.target = value(0);
            }
            token.own.absorb(value(1), value(2), row(3));
            if self.reference.is_some() {
                let mut reference = token.reference.unwrap_or_default();
                let (before, now) = reference.absorb(value(4), value(5), row(6));
                token.divergence = token.divergence * before + value(7) * now;
                token.reference = Some(reference);
            }
        }
        Ok(())
    }
}

/// Maximum, `sum exp(x - max)` and the place of the maximum of each row, as columns.
fn softmax_columns(x: &Tensor<2>) -> [Tensor<2>; 3] {
    let max = x.clone().max_dim(1);
    let sum = (x.clone() - max.clone()).exp().sum_dim(1);
    // A slice has far fewer than 2^24 rows, so that its places are exact in f32.
    let argmax = x.clone().argmax(1).float();
    [max, sum, argmax]
}
