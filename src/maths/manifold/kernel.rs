//! Squared distances between the points of a layer, and their Gaussian kernel.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

use super::points::{Normalise, Points, dot};
use crate::error::{Error, Result};

/// Number of coordinates that are normalised, centred and multiplied at a time. A panel of 512 points is 1
/// MiB and stays in the cache, and no second copy of all points is ever made.
const PANEL: usize = 256;

/// Share of the sum of two squared norms below which a squared distance has lost most of its digits to
/// cancellation and is computed again from the difference of the points.
const CANCELLED: f64 = 1e-10;

/// Squared Euclidean distances `d2_ij = |h_i - h_j|^2` between the normalised points of one layer.
#[derive(Debug, Clone)]
pub struct SquaredDistances {
    /// Distances, `n x n`; only the strict lower triangle is meaningful.
    lower: Mat<f64>,
    /// For each point, the first point that equals it: the point itself if no earlier point does.
    representative: Vec<usize>,
}

/// Computes the squared distances between all points of a layer after `normalise`.
///
/// With `g = X X^T` of the centred rows, `d2_ij = g_ii + g_jj - 2 g_ij`. Centring removes the cancellation
/// that a large common offset causes. Distances that still cancel are computed from the difference of the
/// rows, so two points have distance zero exactly if they are equal.
///
/// Cost: one symmetric product, `n^2 D` multiply-adds, and `n x 256` numbers of scratch.
///
/// # Errors
/// [`Error::Limit`] for fewer than two points; [`Error::Numeric`] if a point cannot be normalised, if the
/// points are too large to be squared, or if all points are equal. Both name the layer.
pub fn squared_distances(points: &Points, layer: usize, normalise: Normalise) -> Result<SquaredDistances> {
    squared_distances_with(points, layer, normalise, crate::kernels::threads::whole_machine())
}

pub(super) fn squared_distances_with(
    points: &Points,
    layer: usize,
    normalise: Normalise,
    par: Par,
) -> Result<SquaredDistances> {
    let n = points.n_points();
    if n < 2 {
        return Err(Error::Limit(format!(
            "layer {layer} has {n} point; distances need at least 2: use more text or more points per sequence"
        )));
    }
    let scales = points.scales(layer, normalise)?;
    let mut lower = centred_gram(points, &scales, par);
    let norms: Vec<f64> = (0..n).map(|i| lower[(i, i)]).collect();
    if norms.iter().any(|x| !x.is_finite()) {
        return Err(Error::Numeric(format!("layer {layer}: the points are too large for squared distances")));
    }

    let mut representative: Vec<usize> = (0..n).collect();
    let mut largest = 0.0_f64;
    let rows: Vec<&[f64]> = points.rows().collect();
    for (j, norm_j) in norms.iter().enumerate() {
        let column = lower.col_as_slice_mut(j);
        for (i, (g, norm_i)) in column.iter_mut().zip(&norms).enumerate().skip(j + 1) {
            let sum = norm_i + norm_j;
            let mut d2 = (sum - 2.0 * *g).max(0.0);
            if d2 <= CANCELLED * sum {
                d2 = difference(rows[i], scales[i], rows[j], scales[j]);
                if d2 == 0.0 && representative[i] == i {
                    representative[i] = representative[j];
                }
            }
            largest = largest.max(d2);
            *g = d2;
        }
    }
    if largest == 0.0 {
        return Err(Error::Numeric(format!(
            "all {n} points of layer {layer} are equal, so it has no geometry to compare"
        )));
    }
    Ok(SquaredDistances { lower, representative })
}

impl SquaredDistances {
    /// Returns the number of points.
    pub fn n_points(&self) -> usize {
        self.lower.nrows()
    }

    /// Returns `d2_ij`, or `None` past the end.
    pub fn between(&self, i: usize, j: usize) -> Option<f64> {
        let (i, j) = (i.max(j), i.min(j));
        if i >= self.n_points() {
            return None;
        }
        Some(if i == j { 0.0 } else { self.lower[(i, j)] })
    }

    /// Computes the default bandwidth: the median of `d2_ij` over `i < j` (for an even count, the mean of the
    /// two in the middle).
    ///
    /// # Errors
    /// [`Error::Numeric`], naming the layer, if the median is zero because more than half of the pairs
    /// coincide.
    pub fn median(&self, layer: usize) -> Result<f64> {
        let n = self.n_points();
        let mut all = Vec::with_capacity(n * (n - 1) / 2);
        self.columns().for_each(|column| all.extend_from_slice(column));
        match median_of(&mut all) {
            Some(median) if median > 0.0 => Ok(median),
            _ => Err(Error::Numeric(format!(
                "most points of layer {layer} coincide, so the median of their squared distances is zero; use \
                 more varied text or a fixed bandwidth"
            ))),
        }
    }

    /// Returns, for each point, the index of the first point that equals it.
    pub(super) fn representative(&self) -> &[usize] {
        &self.representative
    }

    /// Returns, for each `j` in turn, `d2_ij` of the points `i > j`.
    pub(super) fn columns(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.n_points()).map(|j| self.lower.col_as_slice(j).get(j + 1..).unwrap_or_default())
    }

    /// Restores distances from the concatenated [`columns`](Self::columns) and the representatives.
    pub(super) fn from_columns(mut packed: &[f64], representative: Vec<usize>) -> Self {
        let n = representative.len();
        let mut lower = Mat::zeros(n, n);
        for j in 0..n {
            let (column, rest) = packed.split_at(n - 1 - j);
            lower.col_as_slice_mut(j)[j + 1..].copy_from_slice(column);
            packed = rest;
        }
        Self { lower, representative }
    }

    /// Computes the kernel `W_ij = exp(-d2_ij / epsilon)`, both triangles, with ones on the diagonal. The
    /// distances are consumed, so that only one `n x n` matrix is alive.
    pub(super) fn into_gaussian(self, epsilon: f64) -> Mat<f64> {
        let n = self.n_points();
        let mut w = self.lower;
        for j in 0..n {
            let column = w.col_as_slice_mut(j);
            column[j] = 1.0;
            column[j + 1..].iter_mut().for_each(|d2| *d2 = exp_of_negative(-*d2 / epsilon));
        }
        mirror(&mut w);
        w
    }
}

/// Computes `exp(x)` for `x <= 0`, to two units in the last place; zero below the smallest normal number.
///
/// A call of the library's `exp` cannot be part of a vector loop, and the kernel needs `n^2 / 2`
/// exponentials. With `k = round(x / ln 2)` and `r = x - k ln 2`, `|r| <= 0.347`, the result is `2^k` times
/// the Taylor polynomial of `exp(r)` of degree 13, whose remainder is below `2^-57`.
pub(super) fn exp_of_negative(x: f64) -> f64 {
    /// Number whose addition leaves the rounded integer in the last bits of the sum.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// `ln 2` in two parts, the first short enough that its product with `k` is exact.
    const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const INVERSE_FACTORIALS: [f64; 14] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * LN_2[0] - k * LN_2[1];
    let polynomial = INVERSE_FACTORIALS.iter().fold(0.0, |sum, c| sum * r + c);
    // The exponent field of 2^k, straight from the last bits of the rounding sum.
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { polynomial * power }
}

/// Computes the median, reordering `values`; `None` if there are no values.
pub(crate) fn median_of(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if even {
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(0.5 * (lower + upper))
    } else {
        Some(upper)
    }
}

/// Computes the lower triangle of `X X^T`, where `X` are the scaled rows minus their mean.
fn centred_gram(points: &Points, scales: &[f64], par: Par) -> Mat<f64> {
    let (n, dim) = (points.n_points(), points.dim());
    let mut gram = Mat::zeros(n, n);
    let mut panel = vec![0.0; n * PANEL.min(dim)];
    let mut mean = [0.0; PANEL];
    for start in (0..dim).step_by(PANEL) {
        let width = PANEL.min(dim - start);
        let (panel, mean) = (&mut panel[..n * width], &mut mean[..width]);
        // The mean is taken from the panel, so that the points are read from memory only once.
        mean.fill(0.0);
        let rows = points.rows().zip(scales);
        for (target, (row, scale)) in panel.chunks_exact_mut(width).zip(rows) {
            let source = &row[start..start + width];
            for ((t, x), m) in target.iter_mut().zip(source).zip(&mut *mean) {
                *t = x * scale;
                *m += *t;
            }
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        for target in panel.chunks_exact_mut(width) {
            target.iter_mut().zip(&*mean).for_each(|(t, m)| *t -= m);
        }
        let x = MatRef::from_row_major_slice(panel, n, width);
        triangular::matmul(
            gram.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            x,
            BlockStructure::Rectangular,
            x.transpose(),
            BlockStructure::Rectangular,
            1.0,
            par,
        );
    }
    gram
}

/// Computes [`centred_gram`] for comparisons that need points which differ.
///
/// # Errors
/// [`Error::Numeric`], naming the layer, if the points have no variance beyond rounding, or an infinite one.
pub(crate) fn varied_gram(points: &Points, scales: &[f64], layer: usize) -> Result<Mat<f64>> {
    let gram = centred_gram(points, scales, Par::Seq);
    let variance: f64 = (0..gram.nrows()).map(|i| gram[(i, i)]).sum();
    let size: f64 = points.rows().zip(scales).map(|(row, scale)| dot(row, row) * scale * scale).sum();
    // Points that differ only in the last bit of single precision have a relative variance of 1e-15.
    if !variance.is_finite() || variance <= 1e-24 * size {
        return Err(Error::Numeric(format!(
            "the points of layer {layer} are all equal or too large, so it has no covariance to compare"
        )));
    }
    Ok(gram)
}

/// Copies the strict lower triangle to the upper one, in blocks that fit the cache: a column-wise copy would
/// touch a new cache line with every number.
pub(crate) fn mirror(a: &mut Mat<f64>) {
    const BLOCK: usize = 32;
    let n = a.nrows();
    for j0 in (0..n).step_by(BLOCK) {
        for i0 in (j0..n).step_by(BLOCK) {
            for j in j0..(j0 + BLOCK).min(n) {
                for i in i0.max(j + 1)..(i0 + BLOCK).min(n) {
                    a[(j, i)] = a[(i, j)];
                }
            }
        }
    }
}

/// Computes `|a s - b t|^2` directly, without norms.
fn difference(a: &[f64], s: f64, b: &[f64], t: f64) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x * s - y * t).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::exp_of_negative;

    #[test]
    fn exponential_is_that_of_the_library() {
        let steps = (0..700_000).map(|i| -f64::from(i) / 1000.0 - 1e-4 * f64::from(i).sin().abs());
        for x in steps.chain([0.0, -0.0, -1e-300, -1e-17, -0.346_573_590_279_972_64]) {
            let (found, expected) = (exp_of_negative(x), x.exp());
            assert!((found - expected).abs() <= 4.5e-16 * expected, "{x}: {found:e}, expected {expected:e}");
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(-708.1), 0.0);
        assert_eq!(exp_of_negative(-1e300), 0.0);
        assert_eq!(exp_of_negative(f64::NEG_INFINITY), 0.0);
    }
}
