//! Column-major matrices whose allocation may fail, and shared access to their triangles.

use faer::{MatMut, MatRef};

use crate::error::{Error, Result};

/// Rows and columns of a tile, chosen so that a tile of both triangles stays in the first-level cache.
const TILE: usize = 32;

/// Column-major `rows x cols` matrix.
#[derive(Debug, Clone)]
pub(super) struct Matrix<T> {
    rows: usize,
    cols: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> Matrix<T> {
    /// Allocates a matrix of zeros. Running out of memory is an error and not an abort, if the allocator
    /// reports it.
    ///
    /// # Errors
    /// [`Error::Limit`] if there is no memory.
    pub(super) fn zeros(rows: usize, cols: usize) -> Result<Self> {
        let mut values = Vec::new();
        let count = rows.checked_mul(cols).filter(|count| values.try_reserve_exact(*count).is_ok());
        let Some(count) = count else {
            return Err(Error::Limit(format!(
                "least squares: no memory for {rows} x {cols} numbers of {} bytes; merge fewer layers at a time",
                size_of::<T>()
            )));
        };
        values.resize(count, T::default());
        Ok(Matrix { rows, cols, values })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn view(&self) -> MatRef<'_, T> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.cols)
    }

    pub(super) fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, self.cols)
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    pub(super) fn into_values(self) -> Vec<T> {
        self.values
    }

    /// Returns the columns in order.
    pub(super) fn columns(&self) -> impl Iterator<Item = &[T]> {
        self.values.chunks_exact(self.rows.max(1))
    }

    /// Returns the columns in order, for writing.
    pub(super) fn columns_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.values.chunks_exact_mut(self.rows.max(1))
    }

    /// Copies the strict upper triangle of a square matrix to the strict lower one.
    pub(super) fn mirror_to_lower(&mut self) {
        let n = self.rows;
        for (i, j) in lower_by_tiles(n).filter(|(i, j)| i != j) {
            self.values[j * n + i] = self.values[i * n + j];
        }
    }

    /// Copies the strict lower triangle of a square matrix to the strict upper one.
    pub(super) fn mirror_to_upper(&mut self) {
        let n = self.rows;
        for (i, j) in lower_by_tiles(n).filter(|(i, j)| i != j) {
            self.values[i * n + j] = self.values[j * n + i];
        }
    }
}

/// Iterates over all `(i, j)` with `j <= i < n`, a tile at a time. Walking a triangle along its rows and its
/// mirror image along its columns then hits the cache.
pub(super) fn lower_by_tiles(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = (0..n).step_by(TILE).flat_map(move |i0| (0..=i0).step_by(TILE).map(move |j0| (i0, j0)));
    tiles.flat_map(move |(i0, j0)| {
        (j0..(j0 + TILE).min(n)).flat_map(move |j| (i0.max(j)..(i0 + TILE).min(n)).map(move |i| (i, j)))
    })
}

/// Computes the inner product of two slices of equal length; products and sum are `f64`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight independent sums, so that an addition does not wait for the one before.
    let mut sums = [0.0f64; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}
