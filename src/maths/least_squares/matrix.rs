//! Column-major matrices whose allocation may fail, and the access to triangles that the rest shares.

use faer::{MatMut, MatRef};

use crate::error::{Error, Result};

/// A tile of this many rows and columns of both triangles stays in the first-level cache.
const TILE: usize = 32;

/// `rows x cols` numbers, column-major.
#[derive(Debug, Clone)]
pub(super) struct Matrix<T> {
    rows: usize,
    cols: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> Matrix<T> {
    /// All zeros. Running out of memory is an error and not an abort, where the allocator tells.
    ///
    /// # Errors
    /// [`Error::Limit`].
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

    /// The columns one after the other.
    pub(super) fn columns(&self) -> impl Iterator<Item = &[T]> {
        self.values.chunks_exact(self.rows.max(1))
    }

    /// The columns one after the other.
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

/// All `(i, j)` with `j <= i < n`, a tile at a time, so that walking a triangle along its rows and its mirror
/// image along its columns hits the cache.
pub(super) fn lower_by_tiles(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = (0..n).step_by(TILE).flat_map(move |i0| (0..=i0).step_by(TILE).map(move |j0| (i0, j0)));
    tiles.flat_map(move |(i0, j0)| {
        (j0..(j0 + TILE).min(n)).flat_map(move |j| (i0.max(j)..(i0 + TILE).min(n)).map(move |i| (i, j)))
    })
}

/// The inner product of two lists of equal length, each product and the sum in `f64`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums that do not wait for one another.
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
