//! Coordinates of points in a diffusion map, from the leading eigenpairs of the operator.

use faer::Mat;

use super::dense::EigenPairs;
use super::eigen::{leading_pairs, rayleigh};
use super::kernel::SquaredDistances;
use super::operator::DiffusionOperator;
use super::options::ValidDiffusionOptions;
use crate::error::{Error, Result};

/// Number of eigenvalues after `lambda_0` that are always reported, even if fewer make coordinates.
const REPORTED: usize = 4;

/// Value of `lambda_1` above which a layer's graph is nearly in two pieces.
const NEARLY_DISCONNECTED: f64 = 0.9;

/// `n_points` points in `dims` coordinates, stored coordinate after coordinate; all values are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    n_points: usize,
    coordinates: Vec<Vec<f64>>,
}

impl Embedding {
    /// Makes an embedding from the values of each coordinate at every point, `[dims, n_points]`. `layer` is
    /// used only in messages.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no coordinate or no point, or if the coordinates differ in length;
    /// [`Error::Numeric`] if a value is NaN or infinite. Both name the layer.
    pub fn new(layer: usize, coordinates: Vec<Vec<f64>>) -> Result<Self> {
        let n_points = coordinates.first().map_or(0, Vec::len);
        if n_points == 0 || coordinates.iter().any(|c| c.len() != n_points) {
            let lengths: Vec<usize> = coordinates.iter().map(Vec::len).collect();
            return Err(Error::Shape(format!(
                "embedding of layer {layer}: coordinates of lengths {lengths:?}"
            )));
        }
        if coordinates.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::Numeric(format!("embedding of layer {layer}: a coordinate is not finite")));
        }
        Ok(Embedding { n_points, coordinates })
    }

    /// Returns the number of points.
    pub fn n_points(&self) -> usize {
        self.n_points
    }

    /// Returns the number of coordinates.
    pub fn dims(&self) -> usize {
        self.coordinates.len()
    }

    /// Returns coordinate `k` of every point, or `None` past the end.
    pub fn coordinate(&self, k: usize) -> Option<&[f64]> {
        self.coordinates.get(k).map(Vec::as_slice)
    }

    /// Returns all coordinates in order.
    pub fn coordinates(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.coordinates.iter().map(Vec::as_slice)
    }

    /// Returns one row of `dims` numbers per point, the form in which reports carry embeddings.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        (0..self.n_points).map(|i| self.coordinates.iter().map(|c| c[i]).collect()).collect()
    }
}

/// Diffusion map of one layer: bandwidth, eigenvalues and embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionMap {
    epsilon: f64,
    eigenvalues: Vec<f64>,
    embedding: Embedding,
}

impl DiffusionMap {
    /// Returns the bandwidth of the kernel.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Returns `lambda_0 = 1 >= lambda_1 >= ..`: `dims + 1` eigenvalues, and at least five if there are five
    /// points.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// Returns `Psi_t`: coordinate `k` is `lambda_{k+1}^t psi_{k+1}`, with the sign that makes its largest
    /// entry by magnitude positive.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Returns whether `lambda_1 > 0.9`: the graph is then nearly in two pieces, and the map shows little
    /// more than the piece that a point is in.
    pub fn nearly_disconnected(&self) -> bool {
        self.eigenvalues.get(1).is_some_and(|&lambda| lambda > NEARLY_DISCONNECTED)
    }
}

/// Computes the map of a layer from its distances; the layer must have more points than `dims`.
pub(super) fn map_of_distances(
    distances: SquaredDistances,
    layer: usize,
    options: &ValidDiffusionOptions,
) -> Result<DiffusionMap> {
    let operator = DiffusionOperator::of_distances(distances, layer, options)?;
    let u0 = operator.leading_vector();
    let n_pairs = n_pairs(options.dims(), operator.n_points());
    let pairs = leading_pairs(operator.conjugate(), &u0, n_pairs, options.dims(), layer)?;
    Spectrum::new(operator, u0, pairs).map(layer, options)
}

/// Returns the number of eigenpairs after the first that are computed for a map of `dims` coordinates.
pub(super) fn n_pairs(dims: usize, n_points: usize) -> usize {
    dims.max(REPORTED).min(n_points - 1)
}

/// Leading eigenpairs of a layer's operator: all that the layer's map depends on, besides the diffusion time.
#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    epsilon: f64,
    /// Eigenvalues, `lambda_0` first.
    eigenvalues: Vec<f64>,
    u0: Vec<f64>,
    /// Eigenvectors `u_1, ..`, a column each.
    pub(super) vectors: Mat<f64>,
    representative: Vec<usize>,
}

impl Spectrum {
    pub(super) fn new(operator: DiffusionOperator, u0: Vec<f64>, pairs: EigenPairs) -> Self {
        let mut eigenvalues = vec![rayleigh(operator.conjugate(), &u0)];
        // The operator is positive semidefinite: an eigenvalue below zero is a rounding error, and has no
        // real power.
        eigenvalues.extend(pairs.values.iter().map(|lambda| lambda.max(0.0)));
        Spectrum {
            epsilon: operator.epsilon(),
            eigenvalues,
            u0,
            vectors: pairs.vectors,
            representative: operator.representative,
        }
    }

    /// Computes `Psi_t`, from at least `dims` vectors.
    pub(super) fn map(&self, layer: usize, options: &ValidDiffusionOptions) -> Result<DiffusionMap> {
        let found = self.eigenvalues.len().saturating_sub(1).min(self.vectors.ncols());
        if found < options.dims() {
            return Err(Error::internal(format!(
                "layer {layer}: {found} eigenpairs are too few for a map of {} dimensions",
                options.dims()
            )));
        }
        let leading = self.eigenvalues.iter().skip(1).take(options.dims()).enumerate();
        let coordinates = leading
            .map(|(k, lambda)| {
                let factor = lambda.powf(options.time());
                let u = self.vectors.col_as_slice(k);
                let psi = |i: usize| factor * u[i] / self.u0[i];
                let mut coordinate: Vec<f64> = self.representative.iter().map(|&i| psi(i)).collect();
                fix_sign(&mut coordinate);
                coordinate
            })
            .collect();
        let embedding = Embedding::new(layer, coordinates)?;
        Ok(DiffusionMap { epsilon: self.epsilon, eigenvalues: self.eigenvalues.clone(), embedding })
    }

    /// Returns `lambda_0, lambda_1, ..`
    pub(super) fn into_eigenvalues(self) -> Vec<f64> {
        self.eigenvalues
    }
}

/// Flips the sign if needed, so that the entry of largest magnitude (of several, the first) is positive.
pub(super) fn fix_sign(coordinate: &mut [f64]) {
    let mut largest = 0.0_f64;
    for &x in coordinate.iter() {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    if largest < 0.0 {
        coordinate.iter_mut().for_each(|x| *x = -*x);
    }
}
