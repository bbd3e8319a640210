//! Cholesky factors, and the solutions and inverses computed from them.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as llt;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::prelude::{Reborrow, ReborrowMut};
use faer::traits::RealField;
use faer::{Accum, MatMut, MatRef, Par};

use super::matrix::Matrix;
use crate::error::Result;
use crate::kernels::threads::whole_machine;

/// Number of columns of an inverse or a solution that exist at a time, where only sums over them are needed.
pub(super) const PANEL: usize = 256;

/// Number of columns factored at a time where the other triangle must stay unchanged.
const FACTOR_BLOCK: usize = 128;

/// Replaces the lower triangle of `a` by `L` with `L L' = a`, and returns whether `a` was positive definite.
/// The strict upper triangle is not read, but is meaningless afterwards. `a` must be column-major for speed.
pub(super) fn cholesky<T: RealField>(a: MatMut<'_, T>) -> bool {
    let scratch = llt::cholesky_in_place_scratch::<T>(a.nrows(), whole_machine(), Default::default());
    llt::cholesky_in_place(
        a,
        Default::default(),
        whole_machine(),
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .is_ok()
}

/// Factors like [`cholesky`], but leaves the strict upper triangle unchanged: blocks of the diagonal are
/// factored in a copy, since the library uses both triangles of the smallest blocks.
pub(super) fn cholesky_of_lower(mut a: MatMut<'_, f32>) -> bool {
    let n = a.nrows();
    let par = whole_machine();
    for first in (0..n).step_by(FACTOR_BLOCK) {
        let size = FACTOR_BLOCK.min(n - first);
        let (_, _, _, corner) = a.rb_mut().split_at_mut(first, first);
        let (mut diagonal, _, mut below, rest) = corner.split_at_mut(size, size);
        let mut block = diagonal.rb().to_owned();
        if !cholesky(block.as_mut()) {
            return false;
        }
        diagonal.copy_from_triangular_lower(&block);
        solve_lower_triangular_in_place(block.as_ref(), below.rb_mut().transpose_mut(), par);
        let below = below.rb();
        matmul(
            rest,
            BlockStructure::TriangularLower,
            Accum::Add,
            below,
            BlockStructure::Rectangular,
            below.transpose(),
            BlockStructure::Rectangular,
            -1.0,
            par,
        );
    }
    true
}

/// Replaces `x` by `(L L')^-1 x`. Only the lower triangle of `l` is read.
pub(super) fn solve<T: RealField>(l: MatRef<'_, T>, mut x: MatMut<'_, T>) {
    solve_lower_triangular_in_place(l, x.rb_mut(), whole_machine());
    solve_upper_triangular_in_place(l.transpose(), x, whole_machine());
}

/// Computes the diagonal of `(L L')^-1`, whose entry `j` is `sum_i (L^-1)_ij^2`.
///
/// `L^-1` is lower triangular, so a panel of its columns is solved from the row where the panel begins:
/// `n^3 / 6` multiply-adds, and `n x 256` numbers of memory instead of a second matrix.
///
/// # Errors
/// Those of [`Matrix::zeros`].
pub(super) fn inverse_diagonal<T>(l: MatRef<'_, T>) -> Result<Vec<f64>>
where
    T: RealField + Copy + Default + From<f32> + Into<f64>,
{
    let n = l.nrows();
    let mut diagonal = Vec::with_capacity(n);
    for first in (0..n).step_by(PANEL) {
        let rows = n - first;
        let mut panel = Matrix::<T>::zeros(rows, PANEL.min(rows))?;
        panel.values_mut().iter_mut().step_by(rows + 1).for_each(|x| *x = T::from(1.0));
        let corner = l.submatrix(first, first, rows, rows);
        solve_lower_triangular_in_place(corner, panel.view_mut(), whole_machine());
        let square = |x: &T| -> f64 { (*x).into() * (*x).into() };
        diagonal.extend(panel.columns().map(|column| column.iter().map(square).sum::<f64>()));
    }
    Ok(diagonal)
}

/// Computes the inverse `(L L')^-1` of a column-major factor, both triangles, in the memory of the factor.
///
/// # Errors
/// Those of [`Matrix::zeros`].
pub(super) fn inverse(mut l: Matrix<f64>) -> Result<Matrix<f64>> {
    let n = l.rows();
    let mut inverse_of_l = Matrix::<f64>::zeros(n, n)?;
    invert_lower_triangular(inverse_of_l.view_mut(), l.view(), whole_machine());
    matmul(
        l.view_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        inverse_of_l.view().transpose(),
        BlockStructure::TriangularUpper,
        inverse_of_l.view(),
        BlockStructure::TriangularLower,
        1.0,
        whole_machine(),
    );
    l.mirror_to_upper();
    Ok(l)
}

/// Returns the parallelism of a product of `count` multiply-adds: in a small product, threads cost more than
/// they save.
pub(super) fn par_for(count: usize) -> Par {
    if count < 1 << 16 { Par::Seq } else { whole_machine() }
}
