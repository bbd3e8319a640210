//! Full eigendecomposition of a symmetric matrix.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::{Mat, MatRef, Par};

/// Eigenpairs in descending order of eigenvalue, without the leading pair, which is known.
#[derive(Debug, Clone)]
pub(super) struct EigenPairs {
    pub(super) values: Vec<f64>,
    /// Eigenvectors, `n x n_pairs`: orthonormal columns, orthogonal to the leading eigenvector.
    pub(super) vectors: Mat<f64>,
}

/// Computes all eigenvalues, in ascending order, and the eigenvectors of a small or dense symmetric matrix,
/// of which the lower triangle is read; `None` if the iteration does not converge. Uses one thread, because
/// layers run in parallel.
pub(super) fn symmetric_evd(a: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = a.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(n, evd::ComputeEigenvectors::Yes, Par::Seq, Default::default());
    evd::self_adjoint_evd(
        a,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .ok()?;
    let values: Vec<f64> = (0..n).map(|i| values[i]).collect();
    values.iter().all(|x| x.is_finite()).then_some((values, vectors))
}
