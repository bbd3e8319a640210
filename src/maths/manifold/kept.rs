//! Maps made again with other options, from distances that were kept.
//!
//! The product over all coordinates of the points is done once; what remains of a map is the kernel, its row
//! sums and a few eigenvectors. A [`Sketch`] is that at the speed of a slider.

use super::eigen::{leading_pairs, sketched_pairs};
use super::kernel::SquaredDistances;
use super::map::{DiffusionMap, Spectrum, map_of_distances, n_pairs};
use super::operator::DiffusionOperator;
use super::options::ValidDiffusionOptions;
use crate::error::{Error, Result};

/// The squared distances between the points of a layer, in half the room of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptDistances {
    /// Columns of the strict lower triangle, one after the other.
    packed: Vec<f64>,
    /// For each point the first point that equals it.
    representative: Vec<usize>,
}

/// A diffusion map that is exact enough for a picture, and what the next one starts from.
///
/// Its vectors have a residual `|A u - lambda u|` below `1e-4 lambda_1` where the iteration converges in a
/// few steps, and are the best of a small subspace where it does not. Nothing proves that they are the leading
/// ones.
#[derive(Debug, Clone)]
pub struct Sketch {
    map: DiffusionMap,
    /// Bandwidth and density exponent: the operator depends on nothing else.
    kernel: (f64, f64),
    spectrum: Spectrum,
}

impl Sketch {
    /// The map.
    pub fn map(&self) -> &DiffusionMap {
        &self.map
    }
}

impl KeptDistances {
    /// Bytes that the distances between `n_points` points take.
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

    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.representative.len()
    }

    /// The map that [`diffusion_map`](super::diffusion_map) makes of the points, to the last bit.
    /// `options.normalise` is not looked at: it is in the distances.
    ///
    /// # Errors
    /// Those of [`diffusion_map`](super::diffusion_map).
    pub fn diffusion_map(&self, layer: usize, options: &ValidDiffusionOptions) -> Result<DiffusionMap> {
        self.check(layer, options)?;
        map_of_distances(self.restore(), layer, options)
    }

    /// `lambda_0 .. lambda_{count - 1}`, or as many as there are points, in descending order.
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

    /// A quick map, started from a sketch of the same layer with other options where there is one.
    ///
    /// # Errors
    /// Those of [`diffusion_map`](super::diffusion_map).
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
            // Only the time has changed, and the eigenpairs do not depend on it.
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
