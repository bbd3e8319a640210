//! The diffusion map of one layer.

use faer::{Mat, Par};
use serde::{Deserialize, Serialize};

use super::eigen::{EigenPairs, leading_pairs, rayleigh};
use super::kept::KeptDistances;
use super::kernel::{SquaredDistances, squared_distances_with};
use super::operator::DiffusionOperator;
use super::parallel;
use super::points::{Normalise, Points};
use crate::error::{Error, Result};

/// How many of the eigenvalues after `lambda_0` are always reported, however few make coordinates.
const REPORTED: usize = 4;

/// `lambda_1` above which a layer's graph is nearly in two pieces.
const NEARLY_DISCONNECTED: f64 = 0.9;

/// Options of the diffusion map as a user gives them; [`DiffusionOptions::check`] makes them usable.
///
/// # Examples
/// ```
/// use laminate::manifold::DiffusionOptions;
///
/// let three = DiffusionOptions { dims: 3, ..DiffusionOptions::default() }.check().unwrap();
/// assert_eq!(three.dims(), 3);
/// assert!(DiffusionOptions { dims: 0, ..DiffusionOptions::default() }.check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffusionOptions {
    /// Coordinates of the map, 1 to 64; default 2.
    pub dims: usize,
    /// Diffusion time `t >= 0`, the power of the eigenvalues; default 1.
    pub time: f64,
    /// Density exponent in 0..=1; default 0 (the paper's). 0.5 and 1 are the Fokker-Planck and
    /// Laplace-Beltrami cases.
    pub density: f64,
    /// What is done to each point first; default [`Normalise::Rms`].
    pub normalise: Normalise,
    /// A fixed bandwidth > 0 for every layer; default none, the median of the squared distances.
    pub bandwidth: Option<f64>,
}

impl Default for DiffusionOptions {
    fn default() -> Self {
        DiffusionOptions { dims: 2, time: 1.0, density: 0.0, normalise: Normalise::Rms, bandwidth: None }
    }
}

impl DiffusionOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option, its value and its range.
    pub fn check(self) -> Result<ValidDiffusionOptions> {
        let usage = |message: String| Err(Error::Usage(message));
        if !(1..=64).contains(&self.dims) {
            return usage(format!("dims is {}, but must be from 1 to 64", self.dims));
        }
        if !(self.time.is_finite() && self.time >= 0.0) {
            return usage(format!("time is {}, but must be a number not below 0", self.time));
        }
        if !(0.0..=1.0).contains(&self.density) {
            return usage(format!("density is {}, but must be from 0 to 1", self.density));
        }
        match self.bandwidth {
            Some(fixed) if !(fixed.is_finite() && fixed > 0.0) => {
                usage(format!("bandwidth is {fixed}, but must be a number above 0"))
            }
            _ => Ok(ValidDiffusionOptions(self)),
        }
    }
}

/// Options that are known to be in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidDiffusionOptions(DiffusionOptions);

impl ValidDiffusionOptions {
    /// Coordinates of the map.
    pub fn dims(&self) -> usize {
        self.0.dims
    }

    /// Diffusion time.
    pub fn time(&self) -> f64 {
        self.0.time
    }

    /// Density exponent.
    pub fn density(&self) -> f64 {
        self.0.density
    }

    /// What is done to each point first.
    pub fn normalise(&self) -> Normalise {
        self.0.normalise
    }

    /// The fixed bandwidth, or `None` for the median rule.
    pub fn bandwidth(&self) -> Option<f64> {
        self.0.bandwidth
    }

    /// The options as they were given.
    pub fn options(&self) -> DiffusionOptions {
        self.0
    }
}

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

/// The diffusion map of one layer's points.
///
/// With the operator `P` of [`diffusion_operator`](super::diffusion_operator) and `psi_k` its right
/// eigenvectors, scaled such that `psi_0 = 1`:
///
/// ```text
/// Psi_t = [lambda_1^t psi_1, .., lambda_d^t psi_d]
/// ```
///
/// Eigenvectors of a multiple eigenvalue are determined up to a rotation only, so the coordinates then depend
/// on rounding. Points that are equal get equal coordinates.
///
/// Cost: `n^2 D` multiply-adds for the distances, a few `n^3` at worst for the eigenvectors, and two `n x n`
/// matrices of memory. Uses all threads of the machine.
///
/// # Errors
/// [`Error::Limit`] for fewer than `dims + 1` points, and those of
/// [`diffusion_operator`](super::diffusion_operator). All name the layer.
///
/// # Examples
/// ```
/// use laminate::manifold::{DiffusionOptions, Points, diffusion_map};
///
/// // Points along an arc: the first coordinate recovers their order.
/// let arc = (0..20).flat_map(|i| {
///     let angle = f64::from(i) / 10.0;
///     [angle.cos(), angle.sin()]
/// });
/// let points = Points::from_f64(0, 20, 2, arc.collect()).unwrap();
/// let map = diffusion_map(&points, 0, &DiffusionOptions::default().check().unwrap()).unwrap();
/// assert!((map.eigenvalues()[0] - 1.0).abs() < 1e-12);
/// let first = map.embedding().coordinate(0).unwrap();
/// assert!(first.is_sorted() || first.iter().rev().is_sorted());
/// ```
pub fn diffusion_map(points: &Points, layer: usize, options: &ValidDiffusionOptions) -> Result<DiffusionMap> {
    diffusion_map_with(points, layer, options, parallel::whole_machine())
}

/// As [`diffusion_map`], with the distances that it was made from, for more maps of the same points.
///
/// # Errors
/// Those of [`diffusion_map`].
pub fn diffusion_map_and_distances(
    points: &Points,
    layer: usize,
    options: &ValidDiffusionOptions,
) -> Result<(DiffusionMap, KeptDistances)> {
    let distances = distances_for(points, layer, options, parallel::whole_machine())?;
    let kept = KeptDistances::keep(&distances);
    Ok((map_of_distances(distances, layer, options)?, kept))
}

/// The diffusion maps of layers `0..layers.len()`, one layer per thread: faster than one after the other where
/// all points are at hand.
///
/// # Errors
/// Those of [`diffusion_map`], for the first layer that fails.
pub fn diffusion_maps(layers: &[Points], options: &ValidDiffusionOptions) -> Result<Vec<DiffusionMap>> {
    let numbered: Vec<(usize, &Points)> = layers.iter().enumerate().collect();
    parallel::map(&numbered, |(layer, points)| diffusion_map_with(points, *layer, options, Par::Seq))
        .into_iter()
        .collect()
}

fn diffusion_map_with(
    points: &Points,
    layer: usize,
    options: &ValidDiffusionOptions,
    par: Par,
) -> Result<DiffusionMap> {
    map_of_distances(distances_for(points, layer, options, par)?, layer, options)
}

/// The distances of enough points for a map.
fn distances_for(
    points: &Points,
    layer: usize,
    options: &ValidDiffusionOptions,
    par: Par,
) -> Result<SquaredDistances> {
    let (n, dims) = (points.n_points(), options.dims());
    if n <= dims {
        return Err(Error::Limit(format!(
            "layer {layer} has {n} points, but a map of {dims} dimensions needs at least {}",
            dims + 1
        )));
    }
    squared_distances_with(points, layer, options.normalise(), par)
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
        let coordinates = (0..options.dims())
            .map(|k| {
                let factor = self.eigenvalues.get(k + 1).map_or(0.0, |lambda| lambda.powf(options.time()));
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
