//! What it takes to make one layer of a run, before it is done.

use std::ops::Add;

use crate::maths::least_squares::{Normal, ridge_bytes};
use crate::methods::walk::walker::STRENGTHS;
use crate::model::Config;

/// What an operator takes for one run, beside walking through the original and the new model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SpanCost {
    /// Layers that are read and taken to the device.
    pub uploads: f64,
    /// Layers that each token goes through; a part of a layer is a part of one.
    pub passes: f64,
    /// Multiply-adds of sums for each token, in `f32`.
    pub sums: f64,
    /// Multiply-adds of eliminations and solutions, in `f32`; what is solved in `f64` counts twice.
    pub solutions: f64,
    /// Bytes beside the states.
    pub bytes: u64,
}

impl SpanCost {
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

    /// Sums of two problems of `m` regressors, fitted and held out, and the ridge that they are for.
    pub fn fit(m: usize, d: usize) -> Self {
        Self { bytes: 2 * Normal::bytes(m, d) + ridge_bytes(m, d), ..Self::sums(m, d) + Self::ridge(m, d) }
    }

    /// So often; the memory is needed once.
    #[must_use]
    pub fn times(self, n: usize) -> Self {
        let n = n as f64;
        Self {
            uploads: n * self.uploads,
            passes: n * self.passes,
            sums: n * self.sums,
            solutions: n * self.solutions,
            bytes: self.bytes,
        }
    }
}

/// One after the other: of the memory the larger.
impl Add for SpanCost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            uploads: self.uploads + other.uploads,
            passes: self.passes + other.passes,
            sums: self.sums + other.sums,
            solutions: self.solutions + other.solutions,
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Columns of the contexts of a layer.
pub fn heads(config: &Config) -> usize {
    config.n_heads * config.head_dim
}

/// Bytes in words.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
