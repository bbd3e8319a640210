//! Work of a method, counted before the method runs: layers uploaded, passes of tokens through layers and the
//! head, and least squares.
//!
//! Each selection rule and each operator counts its own work in its own file. A test compares these counts
//! with the [`Tally`](crate::device::Tally) of the device.

use std::ops::Add;

use super::walk::walker::STRENGTHS;
use crate::maths::least_squares::{Normal, ridge_bytes};
use crate::model::Config;
use crate::plan::{PlanOptions, Selection};

/// Longest span, in layers, that is assumed if no option limits the spans.
const USUAL_SPAN: usize = 4;

/// Everything that the work of a plan depends on, before the layers of the plan are chosen.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Configuration of the original model.
    pub config: &'a Config,
    /// Selection rule and operator, with their options.
    pub options: &'a PlanOptions,
    /// Number of sequences of calibration text.
    pub sequences: usize,
    /// Number of tokens in each sequence.
    pub tokens: usize,
    /// Bytes that the fits of a span may need, as in [`Resources::fit_bytes`](super::Resources::fit_bytes).
    pub fit_bytes: u64,
    /// Whether finished layers wait elsewhere than in memory until they are written.
    pub spills: bool,
}

impl Task<'_> {
    /// Returns the number of layers of the original.
    pub fn n_layers(&self) -> f64 {
        self.config.n_layers as f64
    }

    /// Returns the number of layers that are removed. If a similarity says when to stop, half of the layers
    /// is assumed.
    pub fn removed(&self) -> usize {
        let most = self.config.n_layers.saturating_sub(1);
        self.options.goal().unwrap_or(most.div_ceil(2)).min(most)
    }

    /// Returns the number of tokens of calibration text.
    pub fn n_rows(&self) -> usize {
        self.sequences * self.tokens
    }

    /// Returns the lengths of the spans, in layers. Spans are assumed to be as long as they may be.
    pub fn spans(&self) -> Vec<usize> {
        let longest = match self.options.selection {
            Selection::Angular | Selection::Tail | Selection::Reverse => self.removed() + 1,
            _ => self.options.longest_span.unwrap_or(USUAL_SPAN),
        };
        let most = longest.max(2) - 1;
        let mut left = self.removed();
        let mut spans = Vec::new();
        while left > 0 {
            let absorbed = left.min(most);
            spans.push(absorbed + 1);
            left -= absorbed;
        }
        spans
    }
}

/// Work of a part of a method.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Number of layers that are read and uploaded to the device.
    pub uploads: f64,
    /// Number of layers that every token of the calibration text passes through; part of a layer counts as a
    /// fraction.
    pub passes: f64,
    /// Number of products of every token of the calibration text with the head.
    pub heads: f64,
    /// Number of layers that a token passes through, summed over tokens whose number does not grow with the
    /// calibration text.
    pub token_passes: f64,
    /// Number of products of the tokens of [`token_passes`](Self::token_passes) with the head.
    pub token_heads: f64,
    /// Multiply-adds in `f32`, for each token of the calibration text, that sum normal equations.
    pub sums: f64,
    /// Multiply-adds in `f32` of eliminations and solutions; a multiply-add in `f64` counts as two.
    pub solutions: f64,
    /// Bytes of memory beside the hidden states.
    pub bytes: u64,
}

impl Work {
    /// Returns the work of uploading `n` layers and passing every token of the calibration text through them.
    pub fn layers(n: f64) -> Self {
        Self { uploads: n, passes: n, ..Self::default() }
    }

    /// Returns the work of `n` products of every token of the calibration text with the head.
    pub fn heads(n: f64) -> Self {
        Self { heads: n, ..Self::default() }
    }

    /// Returns this work with its passes and head products counted for `tokens` tokens instead of for the
    /// calibration text.
    #[must_use]
    pub fn of_tokens(self, tokens: usize) -> Self {
        let tokens = tokens as f64;
        Self {
            token_passes: self.token_passes + tokens * self.passes,
            token_heads: self.token_heads + tokens * self.heads,
            passes: 0.0,
            heads: 0.0,
            ..self
        }
    }

    /// Returns the work of summing the normal equations of `m` regressors and `d` targets (see
    /// [`Normal::add`]).
    pub fn sums(m: usize, d: usize) -> Self {
        Self { sums: m as f64 * (m as f64 / 2.0 + d as f64), ..Self::default() }
    }

    /// Returns the work of a ridge of `m` regressors and `d` targets: a solution for each strength that
    /// held-out rows choose from, and one more on all rows (see
    /// [`ridge_on_all`](crate::maths::least_squares::ridge_on_all)).
    pub fn ridge(m: usize, d: usize) -> Self {
        let (square, d) = ((m * m) as f64, d as f64);
        let strengths = (STRENGTHS.len() + 1) as f64;
        let single = 2.0 * square * d + strengths * (square * m as f64 / 6.0 + 2.0 * square * d);
        Self { solutions: single, ..Self::default() }
    }

    /// Returns the work of a fit of `m` regressors and `d` targets: the sums of the fitted and of the
    /// held-out rows, and the [`ridge`](Self::ridge).
    pub fn fit(m: usize, d: usize) -> Self {
        Self { bytes: 2 * Normal::bytes(m, d) + ridge_bytes(m, d), ..Self::sums(m, d) + Self::ridge(m, d) }
    }

    /// Returns the work of `n` repetitions. Memory is reused, so [`bytes`](Self::bytes) does not grow.
    #[must_use]
    pub fn times(self, n: f64) -> Self {
        Self {
            uploads: n * self.uploads,
            passes: n * self.passes,
            heads: n * self.heads,
            token_passes: n * self.token_passes,
            token_heads: n * self.token_heads,
            sums: n * self.sums,
            solutions: n * self.solutions,
            bytes: self.bytes,
        }
    }
}

/// Work of two parts, one after the other: the sums of their counts, and the larger of their memory needs.
impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            uploads: self.uploads + other.uploads,
            passes: self.passes + other.passes,
            heads: self.heads + other.heads,
            token_passes: self.token_passes + other.token_passes,
            token_heads: self.token_heads + other.token_heads,
            sums: self.sums + other.sums,
            solutions: self.solutions + other.solutions,
            bytes: self.bytes.max(other.bytes),
        }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}
