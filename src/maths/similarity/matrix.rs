//! Similarity matrix of all pairs of layers.

use crate::error::{Error, Result};

/// Largest difference between mirrored entries of a given matrix: the rounding of a JSON file with six
/// decimals.
const ASYMMETRY: f64 = 1e-6;

/// Symmetric `n x n` matrix of finite similarities, one row per layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilarityMatrix {
    /// Row `l` holds the entries `0..=l`.
    lower: Vec<Vec<f64>>,
}

impl SimilarityMatrix {
    /// Makes a matrix of full rows, the form in which reports carry it.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows are not square or mirrored entries differ, [`Error::Numeric`] if an entry
    /// is not finite. Both name the row or entry.
    pub fn from_rows(rows: &[Vec<f64>]) -> Result<Self> {
        let n = rows.len();
        for (l, row) in rows.iter().enumerate() {
            if row.len() != n {
                return Err(Error::Shape(format!(
                    "similarity matrix: row {l} has {} entries, but there are {n} rows",
                    row.len()
                )));
            }
            for (m, (a, other)) in row.iter().zip(rows).enumerate() {
                if !a.is_finite() {
                    return Err(Error::Numeric(format!("similarity of layers {l} and {m} is {a}")));
                }
                if other.get(l).is_some_and(|b| (a - b).abs() > ASYMMETRY) {
                    return Err(Error::Shape(format!(
                        "similarity matrix: entries {l},{m} and {m},{l} differ"
                    )));
                }
            }
        }
        let lower = rows.iter().enumerate().map(|(l, row)| row.iter().take(l + 1).copied().collect());
        Ok(SimilarityMatrix { lower: lower.collect() })
    }

    /// Makes a matrix of rows that each end at the diagonal and are known to be finite.
    pub(super) fn from_lower(lower: Vec<Vec<f64>>) -> Self {
        SimilarityMatrix { lower }
    }

    /// Returns the number of layers.
    pub fn n_layers(&self) -> usize {
        self.lower.len()
    }

    /// Returns the similarity of two layers, in either order, or `None` past the end.
    pub fn between(&self, l: usize, m: usize) -> Option<f64> {
        self.lower.get(l.max(m))?.get(l.min(m)).copied()
    }

    /// Returns the similarity of each layer to the next: `n - 1` numbers.
    pub fn adjacent(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.lower.iter().enumerate().skip(1).filter_map(|(l, row)| row.get(l - 1).copied())
    }

    /// Returns full rows, the form in which reports carry the matrix.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        let n = self.n_layers();
        (0..n).map(|l| (0..n).filter_map(|m| self.between(l, m)).collect()).collect()
    }
}
