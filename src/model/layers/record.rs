//! What the products of a layer read, collected while the layer runs: sums of squares of every column, or the rows
//! themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

use crate::kernels::rowwise;
use crate::model::tensors::Role;
use crate::{Error, Result};

/// Record of what the products of a layer read: sums of squares, or the rows themselves of some products.
#[derive(Debug, Clone, Default)]
pub struct Record {
    reads: Arc<Mutex<Vec<Read>>>,
    /// The rows that products read, if these are recorded.
    rows: Option<Arc<Mutex<Rows>>>,
}

/// Rows that some products of a layer read.
#[derive(Debug, Default)]
struct Rows {
    /// Roles of the matrices whose products are recorded.
    of: Vec<Role>,
    read: Vec<(Role, Tensor<2>)>,
}

/// What one product read on some rows.
#[derive(Debug, Clone)]
pub struct Read {
    /// Role of the matrix.
    pub role: Role,
    /// Expert that the matrix is of, from 0; `None` for a matrix of the layer.
    pub expert: Option<usize>,
    /// Number of rows.
    pub rows: u64,
    /// What the sums must be multiplied by: the arithmetic may scale what a product reads instead of what it gives.
    pub factor: f64,
    /// Sums of squares.
    pub squares: Squares,
}

/// Sums of squares of the columns of a product's input, where they were computed.
#[derive(Debug, Clone)]
pub enum Squares {
    /// In this process's memory.
    Host(Arc<Vec<f64>>),
    /// On a GPU, `[1, columns]`.
    Device(Box<Tensor<2>>),
}

impl Squares {
    /// Sums the squares of each column of `x` `[n, columns]`, in `f64` on the CPU.
    ///
    /// # Errors
    /// Those of [`rowwise::host`].
    pub fn of(x: &Tensor<2>) -> Result<Self> {
        let [_, columns] = x.dims();
        if !rowwise::is_host(&x.device()) {
            return Ok(Squares::Device(Box::new(x.clone().square().sum_dim(0))));
        }
        let mut sums = vec![0f64; columns];
        for row in rowwise::host(x.clone())?.chunks_exact(columns.max(1)) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        Ok(Squares::Host(Arc::new(sums)))
    }
}

/// Place in a record where what one product reads is added.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Record.
    pub record: Record,
    /// Role of the matrix.
    pub role: Role,
    /// Expert that the matrix is of, from 0; `None` for a matrix of the layer.
    pub expert: Option<usize>,
    /// See [`Read::factor`].
    pub factor: f64,
}

impl Watch {
    /// Adds to the records of `watches` that their products read `x` `[n, columns]`.
    ///
    /// # Errors
    /// Those of [`Squares::of`].
    pub fn saw<'w>(watches: impl Iterator<Item = &'w Watch>, x: &Tensor<2>) -> Result<()> {
        let mut known: Option<Squares> = None;
        for watch in watches {
            if let Some(rows) = &watch.record.rows {
                let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                if watch.expert.is_none() && rows.of.contains(&watch.role) {
                    rows.read.push((watch.role, x.clone()));
                }
                continue;
            }
            let squares = match &known {
                Some(squares) => squares.clone(),
                None => known.insert(Squares::of(x)?).clone(),
            };
            watch.add(x.dims()[0], squares);
        }
        Ok(())
    }

    /// Adds to the record that the product read `rows` rows with these sums of squares.
    pub fn add(&self, rows: usize, squares: Squares) {
        let Self { role, expert, factor, .. } = *self;
        self.record.all().push(Read { role, expert, rows: rows as u64, factor, squares });
    }
}

impl Record {
    /// Makes a record of the rows that products read, of no products yet.
    pub fn of_rows() -> Self {
        Self { rows: Some(Arc::default()), ..Self::default() }
    }

    /// Sets of which matrices of the layer the products are recorded from now on, where rows are recorded.
    pub fn record_rows_of(&self, roles: &[Role]) {
        if let Some(rows) = &self.rows {
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            *rows = Rows { of: roles.to_vec(), read: Vec::new() };
        }
    }

    /// Takes out the rows that were recorded so far, in the order in which they were read.
    pub fn take_rows(&self) -> Vec<(Role, Tensor<2>)> {
        let Some(rows) = &self.rows else { return Vec::new() };
        std::mem::take(&mut rows.lock().unwrap_or_else(PoisonError::into_inner).read)
    }

    /// Takes out the sums of what was recorded so far, in the order in which it was read.
    pub fn take(&self) -> Vec<Read> {
        std::mem::take(&mut *self.all())
    }

    fn all(&self) -> MutexGuard<'_, Vec<Read>> {
        // A record that is half made cannot be seen: a push is the only change.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that sums of squares are finite.
///
/// # Errors
/// [`Error::Numeric`], naming the role and the column.
pub fn check_finite(role: Role, sums: &[f64]) -> Result<()> {
    match sums.iter().position(|sum| !sum.is_finite()) {
        None => Ok(()),
        Some(column) => Err(Error::Numeric(format!(
            "column {column} of what the {role:?} projection of a layer reads is not finite: the model's weights are \
             damaged"
        ))),
    }
}
