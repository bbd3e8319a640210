//! The coordinates of points in a diffusion map, from the leading eigenpairs of the operator.

use faer::Mat;

use super::dense::EigenPairs;
use super::eigen::{leading_pairs, rayleigh};
use super::kernel::SquaredDistances;
use super::operator::DiffusionOperator;
use super::options::ValidDiffusionOptions;
use crate::error::{Error, Result};

/// How many of the eigenvalues after `lambda_0` are always reported, however few make coordinates.
const REPORTED: usize = 4;

/// `lambda_1` above which a layer's graph is nearly in two pieces.
const NEARLY_DISCONNECTED: f64 = 0.9;

/// `n_points` points in `dims` coordinates, stored coordinate after coordinate; all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    n_points: usize,
    coordinates: Vec<Vec<f64>>,
}

impl Embedding {
    /// From the value of each coordinate at every point; `layer` is only used in messages.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no coordinate or they differ in length, [`Error::Numeric`] where a value
    /// is NaN or infinite. Both name the layer.
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

    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.n_points
    }

    /// Number of coordinates.
    pub fn dims(&self) -> usize {
        self.coordinates.len()
    }

    /// Coordinate `k` of every point, or `None` past the end.
    pub fn coordinate(&self, k: usize) -> Option<&[f64]> {
        self.coordinates.get(k).map(Vec::as_slice)
    }

    /// All coordinates in order.
    pub fn coordinates(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.coordinates.iter().map(Vec::as_slice)
    }

    /// One row of `dims` numbers per point, the form in which reports carry it.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        (0..self.n_points).map(|i| self.coordinates.iter().map(|c| c[i]).collect()).collect()
    }
}

/// The diffusion map of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionMap {
    epsilon: f64,
    eigenvalues: Vec<f64>,
    embedding: Embedding,
}

impl DiffusionMap {
    /// The bandwidth used.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// `lambda_0 = 1 >= lambda_1 >= ..`, at least five where there are as many points, and `dims + 1`.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// `Psi_t`: coordinate `k` is `lambda_{k+1}^t psi_{k+1}`, its largest entry by magnitude positive.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Whether `lambda_1 > 0.9`: the graph is nearly in two pieces, and the map shows which piece a point is in
    /// and little else.
    pub fn nearly_disconnected(&self) -> bool {
        self.eigenvalues.get(1).is_some_and(|&lambda| lambda > NEARLY_DISCONNECTED)
    }
}

/// The map of a layer of more points than `dims`, whose distances are given.
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

/// Eigenpairs after the first that a map of `dims` coordinates is made with.
pub(super) fn n_pairs(dims: usize, n_points: usize) -> usize {
    dims.max(REPORTED).min(n_points - 1)
}

/// The leading eigenpairs of a layer's operator: all that its map depends on besides the time.
#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    epsilon: f64,
    /// `lambda_0` first.
    eigenvalues: Vec<f64>,
    u0: Vec<f64>,
    /// `u_1, ..`, one column each.
    pub(super) vectors: Mat<f64>,
    representative: Vec<usize>,
}

impl Spectrum {
    pub(super) fn new(operator: DiffusionOperator, u0: Vec<f64>, pairs: EigenPairs) -> Self {
        let mut eigenvalues = vec![rayleigh(operator.conjugate(), &u0)];
        // The operator is positive semidefinite: what is below zero is rounding, and has no real power.
        eigenvalues.extend(pairs.values.iter().map(|lambda| lambda.max(0.0)));
        Spectrum {
            epsilon: operator.epsilon(),
            eigenvalues,
            u0,
            vectors: pairs.vectors,
            representative: operator.representative,
        }
    }

    /// `Psi_t`, from at least `dims` vectors.
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

    /// `lambda_0, lambda_1, ..`
    pub(super) fn into_eigenvalues(self) -> Vec<f64> {
        self.eigenvalues
    }
}

/// Makes the entry of largest magnitude positive, the first one of several.
fn fix_sign(coordinate: &mut [f64]) {
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
