//! Diffusion maps recomputed with other options, from kept distances.
//!
//! The product over all coordinates of the points is computed once; a map then takes only the kernel, its row
//! sums and a few eigenvectors. A [`Sketch`] is computed at the speed of a slider.

use super::eigen::{leading_pairs, sketched_pairs};
use super::kernel::SquaredDistances;
use super::map::{DiffusionMap, Spectrum, map_of_distances, n_pairs};
use super::operator::DiffusionOperator;
use super::options::ValidDiffusionOptions;
use crate::error::{Error, Result};

/// Squared distances between the points of a layer, in half the memory of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptDistances {
    /// Columns of the strict lower triangle, one after the other.
    packed: Vec<f64>,
    /// For each point, the first point that equals it.
    representative: Vec<usize>,
}

/// Diffusion map that is exact enough for a picture, with the eigenpairs from which the next sketch starts.
///
/// The vectors have a residual `|A u - lambda u|` below `1e-4 lambda_1` if the iteration converges in a few
/// steps; otherwise they are the best of a small subspace. They are not proved to be the leading ones.
#[derive(Debug, Clone)]
pub struct Sketch {
    map: DiffusionMap,
    /// Bandwidth and density exponent, the only options on which the operator depends.
    kernel: (f64, f64),
    spectrum: Spectrum,
}

impl Sketch {
    /// Returns the map.
    pub fn map(&self) -> &DiffusionMap {
        &self.map
    }
}

impl KeptDistances {
    /// Returns the bytes that the distances between `n_points` points take.
    pub fn bytes(n_points: usize) -> u64 {
        let n = n_points as u64;
        4 * n * n.saturating_sub(1) + 8 * n
    }

    pub(super) fn keep(distances: &SquaredDistances) -> Self {
        let n = distances.n_points();
        let mut packed = Vec::with_capacity(n * n.saturating_sub(1) / 2);
        distances.columns().for_each(|column| packed.extend_from_slice(column));
        KeptDistances { packed, representative: distances.representative().to_vec() }
    }

    /// Returns the number of points.
    pub fn n_points(&self) -> usize {
        self.representative.len()
    }

    /// Computes the map that [`diffusion_map`](super::diffusion_map) makes of the points, to the last bit.
    /// `options.normalise` is not read: the distances are those of normalised points.
    ///
    /// # Errors
    /// Those of [`diffusion_map`](super::diffusion_map).
    pub fn diffusion_map(&self, layer: usize, options: &ValidDiffusionOptions) -> Result<DiffusionMap> {
        self.check(layer, options)?;
        map_of_distances(self.restore(), layer, options)
    }

    /// Computes `lambda_0 .. lambda_{count - 1}`, in descending order: at least two, and at most as many as
    /// there are points.
    ///
    /// # Errors
    /// Those of [`diffusion_map`](super::diffusion_map).
    pub fn eigenvalues(
        &self,
        layer: usize,
        options: &ValidDiffusionOptions,
        count: usize,
    ) -> Result<Vec<f64>> {
        self.check(layer, options)?;
        let operator = DiffusionOperator::of_distances(self.restore(), layer, options)?;
        let u0 = operator.leading_vector();
        let n_pairs = count.clamp(2, self.n_points()) - 1;
        let pairs = leading_pairs(operator.conjugate(), &u0, n_pairs, 0, layer)?;
        Ok(Spectrum::new(operator, u0, pairs).into_eigenvalues())
    }

    /// Computes a quick map. The iteration starts from `before`, a sketch of the same layer with other
    /// options but equal `dims`, if there is one.
    ///
    /// # Errors
    /// [`Error::Internal`] if `before` has fewer eigenpairs than `dims`, and those of
    /// [`diffusion_map`](super::diffusion_map).
    pub fn sketch(
        &self,
        layer: usize,
        options: &ValidDiffusionOptions,
        before: Option<Sketch>,
    ) -> Result<Sketch> {
        self.check(layer, options)?;
        let epsilon = match options.bandwidth() {
            Some(fixed) => fixed,
            None => self.restore().median(layer)?,
        };
        let kernel = (epsilon, options.density());
        let spectrum = match before {
            // Only the diffusion time has changed, on which the eigenpairs do not depend.
            Some(sketch) if sketch.kernel == kernel => sketch.spectrum,
            before => {
                let operator = DiffusionOperator::of_distances(self.restore(), layer, options)?;
                let u0 = operator.leading_vector();
                let n_pairs = n_pairs(options.dims(), self.n_points());
                let start = before.as_ref().map(|sketch| sketch.spectrum.vectors.as_ref());
                let pairs = sketched_pairs(operator.conjugate(), &u0, n_pairs, options.dims(), start, layer)?;
                Spectrum::new(operator, u0, pairs)
            }
        };
        Ok(Sketch { map: spectrum.map(layer, options)?, kernel, spectrum })
    }

    fn check(&self, layer: usize, options: &ValidDiffusionOptions) -> Result<()> {
        let (n, dims) = (self.n_points(), options.dims());
        if n > dims {
            return Ok(());
        }
        Err(Error::Limit(format!(
            "layer {layer} has {n} points, but a map of {dims} dimensions needs at least {}",
            dims + 1
        )))
    }

    fn restore(&self) -> SquaredDistances {
        SquaredDistances::from_columns(&self.packed, self.representative.clone())
    }
}
