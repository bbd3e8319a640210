//! The work of a method, counted before it is done: layers that are uploaded, passes of tokens through layers and the
//! head, least squares.
//!
//! Each selection rule and each operator counts its own work in its own file. A test compares the counts with what the
//! [`Tally`](crate::device::Tally) of the device saw.

use std::ops::Add;

use super::walk::walker::STRENGTHS;
use crate::maths::least_squares::{Normal, ridge_bytes};
use crate::model::Config;
use crate::plan::{PlanOptions, Selection};

/// Layers of a span where no option says how long spans may be.
const USUAL_SPAN: usize = 4;

/// A plan before its layers are chosen: all that its work follows from.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The original's configuration.
    pub config: &'a Config,
    /// How layers are chosen and joined.
    pub options: &'a PlanOptions,
    /// Sequences of calibration text.
    pub sequences: usize,
    /// Tokens in each.
    pub tokens: usize,
    /// [`Resources::fit_bytes`](super::Resources::fit_bytes).
    pub fit_bytes: u64,
}

impl Task<'_> {
    /// Layers of the original.
    pub fn n_layers(&self) -> f64 {
        self.config.n_layers as f64
    }

    /// Layers that are removed. Where a similarity says when to stop, half of the layers is a guess.
    pub fn removed(&self) -> usize {
        let most = self.config.n_layers.saturating_sub(1);
        self.options.goal().unwrap_or(most.div_ceil(2)).min(most)
    }

    /// Tokens of calibration text.
    pub fn n_rows(&self) -> usize {
        self.sequences * self.tokens
    }

    /// The lengths of the spans, which are taken to be as long as they may be.
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
    /// Layers that are read and taken to the device.
    pub uploads: f64,
    /// Layers that every token of the calibration text goes through; a part of a layer is a part of one.
    pub passes: f64,
    /// Products of every token of the calibration text with the head.
    pub heads: f64,
    /// Layers that single tokens go through, summed over tokens whose number does not grow with the calibration text.
    pub token_passes: f64,
    /// Products of such tokens with the head.
    pub token_heads: f64,
    /// Multiply-adds of sums for each token of the calibration text, in `f32`.
    pub sums: f64,
    /// Multiply-adds of eliminations and solutions, in `f32`; what is solved in `f64` counts twice.
    pub solutions: f64,
    /// Bytes beside the states.
    pub bytes: u64,
}

impl Work {
    /// Layers that are uploaded, and that every token of the calibration text goes through.
    pub fn layers(n: f64) -> Self {
        Self { uploads: n, passes: n, ..Self::default() }
    }

    /// Products of every token of the calibration text with the head.
    pub fn heads(n: f64) -> Self {
        Self { heads: n, ..Self::default() }
    }

    /// The same passes and products of `tokens` tokens that do not belong to the calibration text.
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

    /// The sums of a problem of `m` regressors and `d` targets (see [`Normal::add`]).
    pub fn sums(m: usize, d: usize) -> Self {
        Self { sums: m as f64 * (m as f64 / 2.0 + d as f64), ..Self::default() }
    }

    /// A ridge whose strength held-out rows choose, and once more on all rows (see
    /// [`ridge`](crate::maths::least_squares::ridge())).
    pub fn ridge(m: usize, d: usize) -> Self {
        let (square, d) = ((m * m) as f64, d as f64);
        let strengths = (STRENGTHS.len() + 1) as f64;
        let single = 2.0 * square * d + strengths * (square * m as f64 / 6.0 + 2.0 * square * d);
        Self { solutions: single, ..Self::default() }
    }

    /// The sums of two problems of `m` regressors, fitted and held out, and the ridge that they are for.
    pub fn fit(m: usize, d: usize) -> Self {
        Self { bytes: 2 * Normal::bytes(m, d) + ridge_bytes(m, d), ..Self::sums(m, d) + Self::ridge(m, d) }
    }

    /// The work of `n` repetitions. Memory is reused, so it does not grow.
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

/// One part after the other: of the memory the larger.
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
