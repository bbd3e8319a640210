//! Products that the sums over rows consist of, by the fastest kernel for the target.

use super::matrix::Matrix;

/// Adds `Z Z'` to the upper triangle of `gram` `m x m` and `Z Y'` to `correlation` `m x d`, for the first `n`
/// columns of `z` `m x N` and `y` `d x N`. WebAssembly changes entries of the strict lower triangle, too.
pub(super) fn add_products(
    z: &Matrix<f32>,
    y: &Matrix<f32>,
    n: usize,
    gram: &mut Matrix<f32>,
    correlation: &mut Matrix<f32>,
) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::kernels::panels::add_transposed_product;

        let (m, d) = (z.rows(), y.rows());
        let [z, y] = [(z, m), (y, d)].map(|(of, rows)| of.values().get(..n * rows).unwrap_or_default());
        // Column-major data read as row-major is the transpose, so the upper triangle is the lower one.
        add_transposed_product([z, z], [m, m], true, gram.values_mut());
        add_transposed_product([y, z], [d, m], false, correlation.values_mut());
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use faer::Accum;
        use faer::linalg::matmul::matmul;
        use faer::linalg::matmul::triangular::{self, BlockStructure};

        use crate::kernels::threads::whole_machine;

        let (z, y) = (z.view().subcols(0, n), y.view().subcols(0, n));
        triangular::matmul(
            gram.view_mut(),
            BlockStructure::TriangularUpper,
            Accum::Add,
            z,
            BlockStructure::Rectangular,
            z.transpose(),
            BlockStructure::Rectangular,
            1.0,
            whole_machine(),
        );
        matmul(correlation.view_mut(), Accum::Add, z, y.transpose(), 1.0, whole_machine());
    }
}
