//! Linear centred kernel alignment (CKA).

use faer::Mat;

use crate::error::Result;
use crate::maths::manifold::{Normalise, Points, varied_gram};

/// Centred Gram matrix of one layer, divided by its Frobenius norm.
#[derive(Debug, Clone)]
pub(super) struct UnitGram {
    /// Matrix `n x n`; the strict lower triangle and the diagonal are meaningful.
    lower: Mat<f64>,
}

impl UnitGram {
    pub(super) fn new(points: &Points, layer: usize, normalise: Normalise) -> Result<Self> {
        let mut lower = varied_gram(points, &points.scales(layer, normalise)?, layer)?;
        let norm = inner(&lower, &lower).sqrt();
        for j in 0..lower.ncols() {
            lower.col_as_slice_mut(j).iter_mut().for_each(|x| *x /= norm);
        }
        Ok(UnitGram { lower })
    }
}

/// Computes linear CKA (Kornblith et al., "Similarity of neural network representations revisited", 2019), in
/// [0, 1]:
///
/// ```text
/// |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) = <K, L> / (|K| |L|)   with K = X X^T, L = Y Y^T of centred X, Y
/// ```
pub(super) fn linear_cka(x: &UnitGram, y: &UnitGram) -> f64 {
    inner(&x.lower, &y.lower).clamp(0.0, 1.0)
}

/// Computes the inner product of two symmetric matrices, each given by its lower triangle.
fn inner(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let mut sum = 0.0;
    for j in 0..a.ncols() {
        let mut pairs = a.col_as_slice(j).iter().zip(b.col_as_slice(j)).skip(j).map(|(x, y)| x * y);
        sum += pairs.next().unwrap_or(0.0) + 2.0 * pairs.sum::<f64>();
    }
    sum
}
