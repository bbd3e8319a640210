//! Rounding of a matrix to a grid of groups such that its products with given inputs change little (GPTQ).
//!
//! Of the weights `w` of a row, one after the other is rounded, and those that follow make up for the error as well as they
//! can. With the Gram matrix `H = X'X` of the inputs, and `F` the columns that are not rounded yet, `i` the first of them,
//!
//! ```text
//! w_F -= (w_i - q_i) / [H_F^-1]_ii * [H_F^-1]_i
//! ```
//!
//! No inverse is needed for that. With `H = U U'`, where `U` is upper triangular, a change `d = w - q` of a row costs
//! `d H d' = |U'd|^2`, and component `i` of `U'd` depends on `d_0 .. d_i` only. What the later columns make up for what was
//! done to those before `i` is therefore what makes component `i` zero,
//!
//! ```text
//! w~_i = w_i + (sum_(j < i) U_ji d_j) / U_ii
//! ```
//!
//! and rounding `w~_i` leaves a cost of `U_ii^2 (w~_i - q_i)^2`. The scale of a group is found when its first column is
//! reached, for the weights as they are by then: those that make all components from there on zero.
//!
//! Sources: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
//! Transformers", ICLR 2023, and its code (`gptq.py`); Chee, Cai, Kuleshov, De Sa, "QuIP: 2-Bit Quantization of Large
//! Language Models With Guarantees", NeurIPS 2023, for the form without an inverse.

pub mod blocks;

use faer::Par;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatRef};

use super::factor::cholesky;
use super::matrix::Matrix;
use super::normal::Normal;
use crate::error::OrInternal;
use crate::format::element::Element;
use crate::format::packed::{Rounded, Scheme, round_to_nearest};
use crate::kernels::threads;
use crate::{Error, Result};

/// Share of the mean of the diagonal that is added to the diagonal, as in the source.
const DAMPING: f64 = 0.01;

/// Rows that are rounded together, so that the factor is read once for all of them.
const ROWS: usize = 64;

/// Columns that are rounded before those after them are told by a product.
const BLOCK: usize = 128;

/// Upper triangular factor `U` of the Gram matrix `H = U U'` of inputs, with 0.01 of the mean of its diagonal added to the
/// diagonal.
pub struct Curvature(Matrix<f32>);

impl Curvature {
    /// Factors the Gram matrix of `inputs`, in its memory: `m^3 / 3` multiply-adds in `f32`. The 1 % that is added bounds
    /// the condition, so that `f32` holds (tested against `f64`).
    ///
    /// A column that no input uses has a zero on the diagonal, and its weights are rounded to nearest.
    ///
    /// # Errors
    /// [`Error::Numeric`] if the Gram matrix is not positive semidefinite or not finite.
    pub fn of(inputs: Normal) -> Result<Self> {
        let mut h = inputs.into_gram();
        let n = h.rows();
        let diagonal: Vec<f64> = h.values().iter().step_by(n + 1).map(|x| f64::from(*x)).collect();
        let mean = diagonal.iter().sum::<f64>() / n.max(1) as f64;
        for (h, own) in h.values_mut().iter_mut().step_by(n + 1).zip(diagonal) {
            // What no input uses is far from all others.
            *h = (if own == 0.0 { 1.0 } else { own } + DAMPING * mean) as f32;
        }
        // Backwards, the upper triangle is the lower one, and its factor is the other way round.
        h.values_mut().reverse();
        let definite = cholesky(h.view_mut());
        h.values_mut().reverse();
        let is_factor = h.values().iter().step_by(n + 1).all(|x| x.is_finite() && *x > 0.0);
        if definite && is_factor {
            return Ok(Self(h));
        }
        Err(Error::Numeric(
            "the Gram matrix of the inputs of a projection is not positive; the activations are not finite, or too few"
                .to_owned(),
        ))
    }

    /// Returns the number of columns of the matrices that can be rounded.
    pub fn columns(&self) -> usize {
        self.0.rows()
    }

    /// Returns the first `i + 1` numbers of column `i` of `U`.
    fn column(&self, i: usize) -> Result<&[f32]> {
        let first = i * self.columns();
        self.0.values().get(first..=first + i).or_internal("a column of a factor is missing")
    }

    /// Computes `|U'd|^2` of each row `d` of `changes` `[rows, columns]`, row-major.
    fn costs(&self, changes: &[f32]) -> Result<Vec<f64>> {
        let n = self.columns();
        let rows = changes.len() / n.max(1);
        let mut products = Matrix::<f32>::zeros(n, rows)?;
        triangular::matmul(
            products.view_mut(),
            BlockStructure::Rectangular,
            Accum::Replace,
            self.0.view().transpose(),
            BlockStructure::TriangularLower,
            MatRef::from_column_major_slice(changes, n, rows),
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
        let square = |x: &f32| f64::from(*x) * f64::from(*x);
        Ok(products.columns().map(|column| column.iter().map(square).sum()).collect())
    }
}

/// Rounds a matrix of `rows` rows to the grid of `scheme` with scales of the type `element`, such that `tr(D H D')` is small,
/// where `D` is what rounding changes and `H` the damped Gram matrix of `curvature`. `read` returns rows of the matrix,
/// row-major, given the first and their number. The cost of each row is at most that of [`round_to_nearest`]: rows for
/// which that is better are rounded so.
///
/// Takes `2 rows columns^2` multiply-adds, and memory for 64 rows on each thread.
///
/// # Errors
/// Those of `read` and of [`round_to_nearest`]; [`Error::Internal`] if the rows have another width than the inputs;
/// [`Error::Limit`] if there is no memory.
pub fn gptq(
    scheme: Scheme,
    element: Element,
    rows: usize,
    read: impl Fn(usize, usize) -> Result<Vec<f32>> + Send + Sync,
    curvature: &Curvature,
) -> Result<Rounded> {
    let columns = curvature.columns();
    let rounded = threads::map_all(rows.div_ceil(ROWS), |piece| {
        let first = piece * ROWS;
        let count = ROWS.min(rows - first);
        let weights = read(first, count)?;
        if weights.len() != count * columns {
            return Err(Error::internal("a Gram matrix has another width than the weights"));
        }
        let nearest = round_to_nearest(scheme, element, columns, &weights)?;
        let (compensated, costs) = on_scheme(scheme, element, &weights, curvature)?;
        let changes: Vec<f32> =
            weights.iter().zip(numbers(scheme, columns, &nearest)).map(|(w, q)| w - q).collect();
        let are_better: Vec<bool> =
            curvature.costs(&changes)?.iter().zip(&costs).map(|(nearest, own)| nearest < own).collect();
        chosen(scheme, columns, &are_better, &nearest, compensated)
    });
    Rounded::stack(rounded)
}

/// Returns the numbers that the codes of `rounded` stand for.
fn numbers(scheme: Scheme, columns: usize, rounded: &Rounded) -> impl Iterator<Item = f32> {
    let group = scheme.group.unwrap_or(columns).max(1);
    let grids = rounded.scales.iter().zip(&rounded.zeros);
    let of_groups = rounded.codes.chunks(group).zip(grids);
    of_groups.flat_map(move |(codes, (scale, zero))| {
        codes.iter().map(move |code| scheme.number_of(*code, *scale, *zero))
    })
}

/// Rows that are rounded column by column.
struct Compensated<G> {
    /// Grids that were found, for each group those of all rows.
    grids: Vec<Vec<G>>,
    /// Codes `[rows, columns]`.
    codes: Vec<u8>,
    /// What each row costs.
    costs: Vec<f64>,
}

/// Rounds some rows, column by column. `find` returns the grid of a group of a row, given the number of the row and the
/// weights of the group as they are when its first column is reached; `round` returns the code and the number of a weight
/// on that grid, given its column.
///
/// # Errors
/// Those of `find` and `round`; [`Error::Limit`] if there is no memory.
fn compensated<G>(
    weights: &[f32],
    group: usize,
    curvature: &Curvature,
    find: impl Fn(usize, &[f32]) -> Result<G>,
    round: impl Fn(&G, usize, f32) -> Result<(u8, f32)>,
) -> Result<Compensated<G>> {
    let columns = curvature.columns();
    let rows = weights.len() / columns.max(1);
    let group = group.max(1);
    let mut grids = Vec::with_capacity(columns.div_ceil(group));
    let mut codes = vec![0; rows * columns];
    let mut costs = vec![0.0; rows];
    // What rounding has changed so far, a row after the other.
    let mut changes = Matrix::<f32>::zeros(columns, rows)?;
    for start in (0..columns).step_by(group) {
        let end = (start + group).min(columns);
        let of_group = curvature.told(&changes, 0, start, end)?;
        let mut own = Vec::with_capacity(rows);
        for (row, (weights, told)) in weights.chunks(columns).zip(of_group.columns()).enumerate() {
            let weights = weights.get(start..end).or_internal("a group is missing")?;
            own.push(find(row, &curvature.expected(start, weights, told)?)?);
        }
        for first in (start..end).step_by(BLOCK) {
            let last = (first + BLOCK).min(end);
            let of_block = curvature.told(&changes, start, first, last)?;
            let of_rows = weights.chunks(columns).zip(codes.chunks_mut(columns)).zip(changes.columns_mut());
            let told = of_group.columns().zip(of_block.columns());
            for ((((weights, codes), changes), (before, within)), (grid, cost)) in
                of_rows.zip(told).zip(own.iter().zip(&mut costs))
            {
                let before = before.get(first - start..last - start).or_internal("a block is missing")?;
                for (i, (before, within)) in (first..last).zip(before.iter().zip(within)) {
                    let column = curvature.column(i)?;
                    let (done, corner) = (changes.get(first..i).zip(column.get(first..i)), column.last());
                    let (done, corner) = done.zip(corner).or_internal("a column is missing")?;
                    let told = before + within + done.0.iter().zip(done.1).map(|(d, u)| d * u).sum::<f32>();
                    let weight = weights.get(i).or_internal("a weight is missing")?;
                    let target = weight + told / corner;
                    let (code, number) = round(grid, i, target)?;
                    *codes.get_mut(i).or_internal("a code is missing")? = code;
                    *changes.get_mut(i).or_internal("a change is missing")? = weight - number;
                    *cost += f64::from(corner * (target - number)).powi(2);
                }
            }
        }
        grids.push(own);
    }
    Ok(Compensated { grids, codes, costs })
}

/// Rounds some rows to the grid of `scheme`, whose scales are found as groups are reached. Returns what each row costs, too.
fn on_scheme(
    scheme: Scheme,
    element: Element,
    weights: &[f32],
    curvature: &Curvature,
) -> Result<(Rounded, Vec<f64>)> {
    let columns = curvature.columns();
    let rows = weights.len() / columns.max(1);
    let Compensated { grids, codes, costs } = compensated(
        weights,
        scheme.group.unwrap_or(columns),
        curvature,
        |_, weights| scheme.best_scale(element, weights),
        |(scale, zero), _, target| {
            let code = scheme.code(target, *scale, *zero);
            Ok((code, scheme.number_of(code, *scale, *zero)))
        },
    )?;
    // Of each row the groups one after the other.
    let in_rows = (0..rows).flat_map(|row| grids.iter().filter_map(move |of_group| of_group.get(row)));
    let (scales, zeros) = in_rows.copied().unzip();
    Ok((Rounded { codes, scales, zeros }, costs))
}

impl Curvature {
    /// Computes for the columns `first .. last` what the `changes` of the columns `from .. first` add to their components: `sum_j U_ji d_j`, a column for each row.
    fn told(&self, changes: &Matrix<f32>, from: usize, first: usize, last: usize) -> Result<Matrix<f32>> {
        let rows = changes.values().len() / self.columns().max(1);
        let mut told = Matrix::<f32>::zeros(last - first, rows)?;
        if first > from {
            matmul(
                told.view_mut(),
                Accum::Replace,
                self.0.view().submatrix(from, first, first - from, last - first).transpose(),
                changes.view().submatrix(from, 0, first - from, rows),
                1.0,
                Par::Seq,
            );
        }
        Ok(told)
    }

    /// Returns the `weights` of some columns from `first` on, made up for what was done to the columns before, of which
    /// these are `told`.
    fn expected(&self, first: usize, weights: &[f32], told: &[f32]) -> Result<Vec<f32>> {
        if first == 0 {
            return Ok(weights.to_vec());
        }
        let mut changes: Vec<f32> = Vec::with_capacity(weights.len());
        for (i, told) in (first..).zip(told) {
            let column = self.column(i)?;
            let (own, corner) = column.get(first..i).zip(column.last()).or_internal("a column is missing")?;
            let sum = told + changes.iter().zip(own).map(|(d, u)| d * u).sum::<f32>();
            changes.push(-sum / corner);
        }
        Ok(weights.iter().zip(&changes).map(|(w, d)| w - d).collect())
    }
}

/// Returns `best`, with those rows of `nearest` that `are_nearest` says.
fn chosen(
    scheme: Scheme,
    columns: usize,
    are_nearest: &[bool],
    nearest: &Rounded,
    mut best: Rounded,
) -> Result<Rounded> {
    fn replace<T: Copy>(from: &[T], to: &mut [T], width: usize, are_from: &[bool]) {
        let rows = from.chunks(width.max(1)).zip(to.chunks_mut(width.max(1))).zip(are_from);
        rows.filter(|(_, is_from)| **is_from).for_each(|((from, to), _)| to.copy_from_slice(from));
    }
    if [&nearest.codes, &nearest.zeros].map(Vec::len) != [&best.codes, &best.zeros].map(Vec::len) {
        return Err(Error::internal("two roundings of a matrix have different shapes"));
    }
    let groups = scheme.groups(columns);
    replace(&nearest.codes, &mut best.codes, columns, are_nearest);
    replace(&nearest.scales, &mut best.scales, groups, are_nearest);
    replace(&nearest.zeros, &mut best.zeros, groups, are_nearest);
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::packed::Layout;

    pub fn draws(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        }
    }

    /// Weights, and the Gram matrix of correlated inputs with their number of columns.
    pub fn problem(seed: u64, rows: usize, columns: usize) -> (Vec<f32>, Normal) {
        let mut draw = draws(seed);
        let weights = (0..rows * columns).map(|_| draw()).collect();
        let mut gram = Normal::new(columns, 0).unwrap();
        for _ in 0..3 * columns {
            let common = draw();
            let x: Vec<f32> = (0..columns).map(|_| common + 0.4 * draw()).collect();
            gram.add(&x, &[], &[1.0]).unwrap();
        }
        (weights, gram)
    }

    fn diagonal(entries: &[f32]) -> Normal {
        let mut gram = Normal::new(entries.len(), 0).unwrap();
        for (i, entry) in entries.iter().enumerate() {
            let x: Vec<f32> = (0..entries.len()).map(|j| if i == j { entry.sqrt() } else { 0.0 }).collect();
            gram.add(&x, &[], &[1.0]).unwrap();
        }
        gram
    }

    /// `tr(D H D')` by the definition.
    fn error(scheme: Scheme, columns: usize, weights: &[f32], gram: &Normal, rounded: &Rounded) -> f64 {
        let changes: Vec<f64> =
            weights.iter().zip(numbers(scheme, columns, rounded)).map(|(w, q)| f64::from(w - q)).collect();
        let mut sum = 0.0;
        for d in changes.chunks(columns) {
            for (i, a) in d.iter().enumerate() {
                for (j, b) in d.iter().enumerate() {
                    sum += a * b * f64::from(gram.gram(i, j).unwrap());
                }
            }
        }
        sum
    }

    fn rounded(scheme: Scheme, element: Element, weights: &[f32], gram: &Normal) -> Result<Rounded> {
        let curvature = Curvature::of(gram.clone())?;
        let columns = gram.n_regressors();
        let read =
            |first: usize, count: usize| Ok(weights[first * columns..(first + count) * columns].to_vec());
        gptq(scheme, element, weights.len() / columns, read, &curvature)
    }

    /// Inverse by Gauss and Jordan.
    pub fn inverse_of(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let n = a.len();
        for (i, row) in a.iter_mut().enumerate() {
            row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
        }
        for i in 0..n {
            let pivot = a[i][i];
            a[i].iter_mut().for_each(|x| *x /= pivot);
            let own = a[i].clone();
            for (_, row) in a.iter_mut().enumerate().filter(|(k, _)| *k != i) {
                let factor = row[i];
                row.iter_mut().zip(&own).for_each(|(x, o)| *x -= factor * o);
            }
        }
        a.into_iter().map(|row| row[n..].to_vec()).collect()
    }

    /// By the formula, with a new inverse for every column.
    fn naive(scheme: Scheme, columns: usize, weights: &[f32], gram: &Normal) -> Vec<u8> {
        let of = |i, j| f64::from(gram.gram(i, j).unwrap());
        let mean = (0..columns).map(|i| of(i, i)).sum::<f64>() / columns as f64;
        let group = scheme.group.unwrap_or(columns);
        let mut codes = Vec::new();
        for row in weights.chunks(columns) {
            let mut w: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let mut grid = (0.0, 0);
            for i in 0..columns {
                if i % group == 0 {
                    let of_group: Vec<f32> = w[i..i + group].iter().map(|x| *x as f32).collect();
                    grid = scheme.best_scale(Element::F32, &of_group).unwrap();
                }
                let left = (i..columns).map(|a| {
                    let damped = |b| of(a, b) + if a == b { 0.01 * mean } else { 0.0 };
                    (i..columns).map(damped).collect()
                });
                let inverse = inverse_of(left.collect());
                let code = scheme.code(w[i] as f32, grid.0, grid.1);
                let error = (w[i] - f64::from(scheme.number_of(code, grid.0, grid.1))) / inverse[0][0];
                for j in i..columns {
                    w[j] -= error * inverse[0][j - i];
                }
                codes.push(code);
            }
        }
        codes
    }

    fn schemes() -> impl Iterator<Item = Scheme> {
        [(4, Some(8), true), (4, None, false), (8, Some(16), true)]
            .into_iter()
            .map(|(bits, group, symmetric)| Scheme { layout: Layout::Rows, bits, group, symmetric })
    }

    #[test]
    fn codes_are_those_of_the_formula() {
        for scheme in schemes() {
            for seed in 0..4 {
                let (rows, columns) = (5, 32);
                let (weights, gram) = problem(seed, rows, columns);
                let curvature = Curvature::of(gram.clone()).unwrap();
                let (ours, costs) = on_scheme(scheme, Element::F32, &weights, &curvature).unwrap();
                let theirs = naive(scheme, columns, &weights, &gram);
                let differ = ours.codes.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                // A weight may lie halfway between two codes, and changes those that follow it.
                assert!(differ * 100 <= theirs.len(), "{scheme:?}, {seed}: {differ} of {}", theirs.len());
                // Costs are those of the definition, with what is added to the diagonal.
                let mean =
                    (0..columns).map(|i| f64::from(gram.gram(i, i).unwrap())).sum::<f64>() / columns as f64;
                let changes =
                    weights.iter().zip(numbers(scheme, columns, &ours)).map(|(w, q)| f64::from(w - q));
                let added = 0.01 * mean * changes.map(|d| d * d).sum::<f64>();
                let expected = error(scheme, columns, &weights, &gram, &ours) + added;
                let cost: f64 = costs.iter().sum();
                assert!((cost / expected - 1.0).abs() < 1e-4, "{scheme:?}, {seed}: {cost}, not {expected}");
            }
        }
    }

    #[test]
    fn groups_and_blocks_are_those_of_the_formula_in_wide_rows() {
        let (rows, columns) = (2, 150);
        for group in [None, Some(50), Some(150)] {
            let scheme = Scheme { layout: Layout::Rows, bits: 4, group, symmetric: true };
            let (weights, gram) = problem(7, rows, columns);
            let curvature = Curvature::of(gram.clone()).unwrap();
            let ours = on_scheme(scheme, Element::F32, &weights, &curvature).unwrap().0;
            let theirs = naive(scheme, columns, &weights, &gram);
            let differ = ours.codes.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert!(differ * 50 <= theirs.len(), "{group:?}: {differ} of {}", theirs.len());
        }
    }

    #[test]
    fn the_error_is_below_that_of_rounding_to_nearest() {
        for scheme in schemes() {
            for seed in 10..14 {
                let (rows, columns) = (137, 48);
                let (weights, gram) = problem(seed, rows, columns);
                let ours = rounded(scheme, Element::F16, &weights, &gram).unwrap();
                let nearest = round_to_nearest(scheme, Element::F16, columns, &weights).unwrap();
                let [ours, nearest] =
                    [ours, nearest].map(|rounded| error(scheme, columns, &weights, &gram, &rounded));
                assert!(ours > 0.0 && ours < 0.6 * nearest, "{scheme:?}, {seed}: {ours} {nearest}");
            }
        }
    }

    /// Inputs of which one is a thousand times the others, and twice as many columns as inputs: the factor in `f32` gives
    /// what the formula gives in `f64`.
    #[test]
    fn few_and_massive_inputs_are_no_problem_in_f32() {
        let columns = 64;
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(32), symmetric: true };
        let mut draw = draws(3);
        let weights: Vec<f32> = (0..4 * columns).map(|_| draw()).collect();
        let mut gram = Normal::new(columns, 0).unwrap();
        for _ in 0..columns / 2 {
            let x: Vec<f32> = (0..columns).map(|i| if i == 5 { 1000.0 } else { 1.0 } * draw()).collect();
            gram.add(&x, &[], &[1.0]).unwrap();
        }
        let curvature = Curvature::of(gram.clone()).unwrap();
        let ours = on_scheme(scheme, Element::F32, &weights, &curvature).unwrap().0;
        let theirs = naive(scheme, columns, &weights, &gram);
        let differ = ours.codes.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        assert!(differ * 50 <= theirs.len(), "{differ} of {}", theirs.len());
    }

    #[test]
    fn inputs_that_are_not_correlated_change_nothing() {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(8), symmetric: true };
        let (weights, _) = problem(3, 9, 16);
        let nearest = round_to_nearest(scheme, Element::F16, 16, &weights).unwrap();
        for entry in [0.0, 2.0] {
            assert_eq!(rounded(scheme, Element::F16, &weights, &diagonal(&[entry; 16])).unwrap(), nearest);
        }
    }

    #[test]
    fn inputs_that_are_not_finite_are_refused() {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(8), symmetric: true };
        let mut gram = Normal::new(16, 0).unwrap();
        for _ in 0..8 {
            gram.add(&[1e19; 16], &[], &[1.0]).unwrap();
        }
        assert!(matches!(rounded(scheme, Element::F16, &[0.5; 16], &gram), Err(Error::Numeric(_))));
        let curvature = Curvature::of(diagonal(&[1.0; 16])).unwrap();
        let short = |_, _| Ok(vec![0.5; 15]);
        assert!(matches!(gptq(scheme, Element::F16, 1, short, &curvature), Err(Error::Internal(_))));
    }
}
