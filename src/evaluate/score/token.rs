//! Running sums of a token over slices of the vocabulary, as in an online softmax.

use super::slice::Row;
use crate::kernels::rowwise::RowSoftmax;
use crate::quality::Scores;

/// Running sums of one token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Token {
    /// Softmax of the model's logits.
    pub own: Softmax,
    /// Softmax of the original's logits, if there is an original.
    reference: Option<Softmax>,
    /// Model's logit of the target token.
    pub target: f64,
    /// Original's logit of the target token.
    reference_target: f64,
    /// `sum_v exp(z_v - max z) (z_v - y_v)` for logits `z` of the original and `y` of the model.
    divergence: f64,
}

/// Running maximum and sum of exponentials of a softmax.
#[derive(Debug, Clone, Copy)]
pub struct Softmax {
    /// Largest logit.
    pub max: f64,
    /// `sum_v exp(z_v - max)`.
    pub sum: f64,
    /// Index of the maximum in the vocabulary.
    pub argmax: usize,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0, argmax: 0 }
    }
}

impl Softmax {
    /// Adds a slice. Returns two factors: earlier sums are to be scaled by the first, the slice's sums by the
    /// second.
    pub fn absorb(&mut self, slice: &RowSoftmax) -> (f64, f64) {
        let max = f64::from(slice.max);
        let larger = self.max.max(max);
        let scales = ((self.max - larger).exp(), (max - larger).exp());
        if max > self.max {
            self.argmax = slice.argmax;
        }
        self.sum = self.sum * scales.0 + f64::from(slice.sum) * scales.1;
        self.max = larger;
        scales
    }

    /// Returns `ln sum_v exp(z_v)` over the slices so far.
    pub fn log_sum(&self) -> f64 {
        self.max + self.sum.ln()
    }
}

impl Token {
    /// Adds the sums of a slice of the vocabulary.
    pub fn absorb(&mut self, row: &Row) {
        if let Some(target) = row.target {
            self.target = f64::from(target);
        }
        self.own.absorb(&row.own);
        if let Some(row) = &row.reference {
            if let Some(target) = row.target {
                self.reference_target = f64::from(target);
            }
            let mut reference = self.reference.unwrap_or_default();
            let (before, now) = reference.absorb(&row.softmax);
            self.divergence = self.divergence * before + f64::from(row.divergence) * now;
            self.reference = Some(reference);
        }
    }

    /// Adds the token to `scores`, after all slices have been added to the token.
    pub fn add_to(&self, scores: &mut Scores) {
        scores.tokens += 1;
        scores.nll += self.own.log_sum() - self.target;
        if let Some(reference) = self.reference {
            let nll = reference.log_sum() - self.reference_target;
            scores.original_nll = scores.original_nll.map(|sum| sum + nll);
            let kl = self.divergence / reference.sum - reference.log_sum() + self.own.log_sum();
            scores.kl = scores.kl.map(|sum| sum + kl);
            scores.agreements = scores.agreements.map(|n| n + u64::from(reference.argmax == self.own.argmax));
        }
    }
}
