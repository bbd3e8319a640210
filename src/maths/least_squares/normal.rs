//! Normal equations of a weighted least-squares problem, as sums over its rows.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::prelude::ReborrowMut;
use faer::traits::RealField;
use faer::traits::math_utils::from_f64;
use faer::{Accum, MatRef};

use super::factor::{cholesky, cholesky_of_lower, solve};
use super::matrix::{Matrix, dot, lower_by_tiles};
use super::products::add_products;
use crate::error::{Error, Result};
use crate::kernels::threads::whole_machine;

/// Number of rows that are weighted and multiplied at a time. The product adds the rows of a block in
/// registers and the blocks in memory, so a sum over `n` rows rounds like a sum of `n / 1024` terms and a sum
/// of a few hundred terms.
const BLOCK: usize = 1024;

/// Normal equations of `min_B |w (Z B - Y)|^2` for `m` regressors and `d` targets: the Gram matrix
/// `G = (wZ)'(wZ)`, the correlation `C = (wZ)'(wY)` and `|wY|^2`, over all rows added so far.
///
/// Products and sums are `f32`: an entry of `G` or `C` is within `1e-6 sqrt(G_ii G_jj)` of the exact sum
/// (tested up to 4099 rows). [`ridge`](super::ridge()) states the effect on a solution.
#[derive(Debug, Clone)]
pub struct Normal {
    n_rows: u64,
    /// Gram matrix, `m x m`. The **upper** triangle of the column-major matrix holds `G`; the strict lower
    /// triangle is scratch for a Cholesky factor, so that solving needs no second matrix.
    gram: Matrix<f32>,
    /// Correlation `C`, `m x d`.
    correlation: Matrix<f32>,
    target_energy: f64,
}

impl Normal {
    /// Creates a problem without rows, for `m` regressors and `d` targets. `d` may be 0 if only the Gram
    /// matrix is needed.
    ///
    /// # Errors
    /// [`Error::Usage`] if `m` is 0, [`Error::Limit`] if there is no memory for [`Normal::sums_bytes`].
    pub fn new(m: usize, d: usize) -> Result<Self> {
        if m == 0 {
            return Err(Error::Usage("least squares needs at least one regressor".into()));
        }
        let (gram, correlation) = (Matrix::zeros(m, m)?, Matrix::zeros(m, d)?);
        Ok(Normal { n_rows: 0, gram, correlation, target_energy: 0.0 })
    }

    /// Returns the bytes of the sums that [`Normal::new`] and [`Normal::subset`] allocate: `4 m (m + d)`.
    pub fn sums_bytes(m: usize, d: usize) -> u64 {
        let [m, d] = [m, d].map(|x| u64::try_from(x).unwrap_or(u64::MAX));
        m.saturating_mul(m.saturating_add(d)).saturating_mul(4)
    }

    /// Returns the bytes that [`Normal::new`] and [`Normal::add`] need together: [`Normal::sums_bytes`], and
    /// `4096 (m + d)` for a block of weighted rows.
    pub fn bytes(m: usize, d: usize) -> u64 {
        let width = u64::try_from(m.saturating_add(d)).unwrap_or(u64::MAX);
        Self::sums_bytes(m, d).saturating_add(width.saturating_mul(4 * BLOCK as u64))
    }

    /// Returns the number of regressors, `m`.
    pub fn n_regressors(&self) -> usize {
        self.correlation.rows()
    }

    /// Returns the number of targets, `d`.
    pub fn n_targets(&self) -> usize {
        self.correlation.values().len() / self.n_regressors()
    }

    /// Returns the number of rows added so far.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns `G_ij`, or `None` past the end.
    pub fn gram(&self, i: usize, j: usize) -> Option<f32> {
        let m = self.n_regressors();
        let (row, column) = (i.min(j), i.max(j));
        if column < m { self.gram.values().get(column * m + row).copied() } else { None }
    }

    /// Returns row `j` of `C'`, the correlation of target `j` with each regressor, or `None` past the end.
    pub fn correlation(&self, j: usize) -> Option<&[f32]> {
        self.correlation.columns().nth(j)
    }

    /// Returns `|wY|^2`, the sum of the squares of all weighted targets.
    pub fn target_energy(&self) -> f64 {
        self.target_energy
    }

    /// Adds the rows of `z` `[n, m]` and `y` `[n, d]`, both row-major, each multiplied by its entry of `w`
    /// `[n]`. The order of the rows and their distribution over calls change the sums by rounding only.
    ///
    /// Cost: `n m (m / 2 + d)` multiply-adds.
    ///
    /// # Errors
    /// [`Error::Usage`] if the lengths do not fit; [`Error::Numeric`] if a weighted number is NaN or
    /// infinite, after which the sums are useless; [`Error::Limit`] if there is no memory for a block.
    pub fn add(&mut self, z: &[f32], y: &[f32], w: &[f32]) -> Result<()> {
        let (m, d, n) = (self.n_regressors(), self.n_targets(), w.len());
        if n.checked_mul(m) != Some(z.len()) || n.checked_mul(d) != Some(y.len()) {
            return Err(Error::Usage(format!(
                "least squares: {n} weights, {} activations and {} targets are not rows of {m} and {d}",
                z.len(),
                y.len()
            )));
        }
        let rows = BLOCK.min(n);
        // A row of the slices is a column of a block.
        let (mut z_block, mut y_block) = (Matrix::zeros(m, rows)?, Matrix::zeros(d, rows)?);
        for (place, w) in w.chunks(BLOCK).enumerate() {
            let first = place * BLOCK;
            let rows = |of: &[f32], width: usize| first * width..((first + w.len()) * width).min(of.len());
            let (z, y) = (z.get(rows(z, m)).unwrap_or_default(), y.get(rows(y, d)).unwrap_or_default());
            let finite = weigh(z, w, m, &mut z_block) && weigh(y, w, d, &mut y_block);
            if !finite {
                return Err(Error::Numeric(format!(
                    "least squares: rows {first} to {} hold a NaN, an infinity or a number too large for its \
                     weight; the model or the capture overflowed",
                    first + w.len()
                )));
            }
            self.add_block(&z_block, &y_block, w.len());
        }
        Ok(())
    }

    /// Adds the first `n` columns of the weighted blocks `z` `m x BLOCK` and `y` `d x BLOCK`.
    fn add_block(&mut self, z: &Matrix<f32>, y: &Matrix<f32>, n: usize) {
        add_products(z, y, n, &mut self.gram, &mut self.correlation);
        self.target_energy +=
            y.columns().take(n).flatten().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        self.n_rows += n as u64;
    }

    /// Adds the rows of `other`, a problem with equally many regressors and targets.
    ///
    /// # Errors
    /// [`Error::Usage`] if the number of regressors or targets differs.
    pub fn add_all(&mut self, other: &Normal) -> Result<()> {
        if [other.n_regressors(), other.n_targets()] != [self.n_regressors(), self.n_targets()] {
            return Err(Error::Usage(format!(
                "least squares: rows of {} and {} cannot be added to rows of {} and {}",
                other.n_regressors(),
                other.n_targets(),
                self.n_regressors(),
                self.n_targets()
            )));
        }
        // The scratch triangle is added too; it is meaningless before and after.
        let sums = [(&mut self.gram, &other.gram), (&mut self.correlation, &other.correlation)];
        for (sum, other) in sums {
            sum.values_mut().iter_mut().zip(other.values()).for_each(|(sum, x)| *sum += x);
        }
        self.target_energy += other.target_energy;
        self.n_rows += other.n_rows;
        Ok(())
    }

    /// Returns the problem with only the regressors `indices`, in that order: the principal submatrix of `G`
    /// and the rows of `C`. The result is the same as if its sums had been computed from the rows.
    ///
    /// # Errors
    /// [`Error::Usage`] if an index is past the end or `indices` is empty, [`Error::Limit`] if there is no
    /// memory.
    pub fn subset(&self, indices: &[usize]) -> Result<Normal> {
        let m = self.n_regressors();
        if let Some(index) = indices.iter().find(|index| **index >= m) {
            return Err(Error::Usage(format!("least squares: there is no regressor {index} among {m}")));
        }
        let mut subset = Normal::new(indices.len(), self.n_targets())?;
        self.gather(indices, subset.gram.values_mut(), Triangle::Upper);
        for (to, from) in subset.correlation.columns_mut().zip(self.correlation.columns()) {
            to.iter_mut().zip(indices).for_each(|(to, index)| *to = from[*index]);
        }
        (subset.n_rows, subset.target_energy) = (self.n_rows, self.target_energy);
        Ok(subset)
    }

    /// Returns `G_SS + shift I` for the regressors `indices`, in the lower triangle of a column-major matrix.
    pub(super) fn shifted<T>(&self, indices: &[usize], shift: f64) -> Result<Matrix<T>>
    where
        T: RealField + Copy + Default + From<f32>,
    {
        let n = indices.len();
        let mut shifted = Matrix::<T>::zeros(n, n)?;
        self.gather(indices, shifted.values_mut(), Triangle::Lower);
        let shift = from_f64::<T>(shift);
        shifted.values_mut().iter_mut().step_by(n + 1).for_each(|x| *x += shift);
        Ok(shifted)
    }

    /// Copies `G_SS` for the regressors `indices`, which must be valid, to one triangle of a column-major
    /// matrix of `indices.len()` rows.
    fn gather<T: From<f32>>(&self, indices: &[usize], to: &mut [T], triangle: Triangle) {
        let (m, n) = (self.n_regressors(), indices.len());
        let gram = self.gram.values();
        for (i, j) in lower_by_tiles(n) {
            let (a, b) = (indices[i], indices[j]);
            let value = T::from(gram[a.max(b) * m + a.min(b)]);
            match triangle {
                Triangle::Lower => to[j * n + i] = value,
                Triangle::Upper => to[i * n + j] = value,
            }
        }
    }

    /// Returns the mean of the diagonal of `G`, the unit of ridge strengths.
    ///
    /// # Errors
    /// [`Error::Numeric`] if a sum overflowed. A finite diagonal bounds all of `G` by Cauchy and Schwarz.
    pub(super) fn scale(&self) -> Result<f64> {
        let m = self.n_regressors();
        let diagonal = self.gram.values().iter().step_by(m + 1);
        let mean = diagonal.map(|x| f64::from(*x)).sum::<f64>() / m as f64;
        let finite = mean.is_finite()
            && self.target_energy.is_finite()
            && self.correlation.values().iter().all(|x| x.is_finite());
        if finite {
            return Ok(mean);
        }
        Err(Error::Numeric(
            "least squares: the activations are too large for their squares to be summed".into(),
        ))
    }

    /// Computes `G B` for some columns of `B`, of `m` numbers each, into the first columns of `product`.
    pub(super) fn gram_times(&self, b: MatRef<'_, f32>, product: &mut Matrix<f32>) {
        let mut product = product.view_mut().subcols_mut(0, b.ncols());
        let gram = self.gram.view();
        let halves = [
            (gram, BlockStructure::TriangularUpper, Accum::Replace),
            (gram.transpose(), BlockStructure::StrictTriangularLower, Accum::Add),
        ];
        for (half, structure, accumulate) in halves {
            triangular::matmul(
                product.rb_mut(),
                BlockStructure::Rectangular,
                accumulate,
                half,
                structure,
                b,
                BlockStructure::Rectangular,
                1.0,
                whole_machine(),
            );
        }
    }

    /// Computes `C - G B`, `m x d`: the correlation of the regressors with the part of the targets that `B`
    /// `m x d` leaves unexplained.
    pub(super) fn residual(&self, b: MatRef<'_, f32>) -> Result<Matrix<f32>> {
        let mut residual = Matrix::zeros(self.n_regressors(), self.n_targets())?;
        self.gram_times(b, &mut residual);
        let pairs = residual.values_mut().iter_mut().zip(self.correlation.values());
        pairs.for_each(|(r, c)| *r = c - *r);
        Ok(residual)
    }

    /// Computes `|w (Y - Z B)|^2` from `B` and its [`Normal::residual`].
    pub(super) fn energy_left(&self, b: &[f32], residual: &Matrix<f32>) -> f64 {
        let explained = dot(b, self.correlation.values()) + dot(b, residual.values());
        (self.target_energy - explained).max(0.0)
    }

    /// Computes `tr(D G D')` for `changes` `[n, m]`, row-major: the sum of the squares of the products of `D` with all rows
    /// that were added.
    ///
    /// # Errors
    /// [`Error::Usage`] if `changes` are no whole rows, [`Error::Limit`] if there is no memory for as many numbers again.
    pub fn cost(&self, changes: &[f32]) -> Result<f64> {
        let m = self.n_regressors();
        let n = changes.len() / m.max(1);
        if n * m != changes.len() {
            return Err(Error::Usage(format!("least squares: {} numbers are no rows of {m}", changes.len())));
        }
        let mut products = Matrix::zeros(m, n)?;
        self.gram_times(MatRef::from_column_major_slice(changes, m, n), &mut products);
        Ok(dot(changes, products.values()))
    }

    /// Returns `G` for the regressors `first .. first + count` alone, `[count, count]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are not as many.
    pub fn corner(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        let entries =
            (first..first + count).flat_map(|i| (first..first + count).map(move |j| self.gram(i, j)));
        let corner: Option<Vec<f32>> = entries.collect();
        corner.ok_or_else(|| {
            Error::Usage(format!("least squares: there is no regressor {}", first + count - 1))
        })
    }

    /// Returns the Gram matrix, of which the upper triangle of the column-major matrix holds `G`.
    pub(super) fn into_gram(self) -> Matrix<f32> {
        self.gram
    }

    /// Returns `C`, `m x d`.
    pub(super) fn correlations(&self) -> MatRef<'_, f32> {
        self.correlation.view()
    }

    /// Replaces `x` `m x d` by `(G + shift I)^-1 x`, and returns whether that succeeded. The factor
    /// overwrites the scratch triangle; `G` is unchanged afterwards.
    ///
    /// The arithmetic is `f32`; if rounding hides that the matrix is positive definite, it is `f64` and takes
    /// `8 m (m + d)` bytes more.
    pub(super) fn solve_shifted(&mut self, shift: f64, x: &mut Matrix<f32>) -> bool {
        let step = self.n_regressors() + 1;
        let diagonal: Vec<f32> = self.gram.values().iter().step_by(step).copied().collect();
        self.gram.mirror_to_lower();
        self.gram.values_mut().iter_mut().step_by(step).for_each(|g| *g = (f64::from(*g) + shift) as f32);
        let definite = cholesky_of_lower(self.gram.view_mut());
        if definite {
            solve(self.gram.view(), x.view_mut());
        }
        let entries = self.gram.values_mut().iter_mut().step_by(step);
        entries.zip(diagonal).for_each(|(entry, g)| *entry = g);
        definite || self.solve_shifted_in_f64(shift, x).unwrap_or(false)
    }

    fn solve_shifted_in_f64(&self, shift: f64, x: &mut Matrix<f32>) -> Result<bool> {
        let all: Vec<usize> = (0..self.n_regressors()).collect();
        let mut factor = self.shifted::<f64>(&all, shift)?;
        if !cholesky(factor.view_mut()) {
            return Ok(false);
        }
        let mut wide = Matrix::<f64>::zeros(self.n_regressors(), self.n_targets())?;
        wide.values_mut().iter_mut().zip(x.values()).for_each(|(wide, x)| *wide = f64::from(*x));
        solve(factor.view(), wide.view_mut());
        x.values_mut().iter_mut().zip(wide.values()).for_each(|(x, wide)| *x = *wide as f32);
        Ok(true)
    }
}

/// Triangle in which a symmetric matrix is stored.
#[derive(Clone, Copy)]
enum Triangle {
    Lower,
    Upper,
}

/// Writes each row times its weight to a column of `block`, and returns whether all results are finite.
fn weigh(rows: &[f32], weights: &[f32], width: usize, block: &mut Matrix<f32>) -> bool {
    // All bits of the exponent of a NaN or an infinity are set, so the largest bit pattern, found without a
    // branch, shows whether there is one.
    const INFINITE: u32 = 0x7f80_0000;
    let mut largest = 0;
    for ((row, w), to) in rows.chunks_exact(width.max(1)).zip(weights).zip(block.columns_mut()) {
        for (x, to) in row.iter().zip(to) {
            *to = x * w;
            largest = largest.max(to.to_bits() & 0x7fff_ffff);
        }
    }
    largest < INFINITE
}
