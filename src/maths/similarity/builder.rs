//! Similarity matrix, filled in as layers arrive.

use serde::{Deserialize, Serialize};

use super::Metric;
use super::cka::{UnitGram, linear_cka};
use super::cosine::{mean_angle, mean_cosine};
use super::distance::{mean_euclidean, similarities};
use super::mahalanobis::{CentredLayer, mean_mahalanobis};
use super::matrix::SimilarityMatrix;
use super::mutual_information::{Estimator, Sample};
use crate::error::{Error, OrInternal, Result};
use crate::kernels::threads;
use crate::maths::manifold::{DiffusionMap, Normalise, Points, autoencoder, tsne};

/// Options of the similarity stage as a user gives them; [`SimilarityOptions::check`] makes them usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SimilarityOptions {
    /// Measure of the similarity of two layers; default [`Metric::MutualInformation`].
    pub metric: Metric,
    /// Number of neighbours `k >= 1` of the mutual-information estimator, which needs at least `4k` points;
    /// default 5. Metrics that compare maps ([`Metric::compares_maps`]) use it.
    pub neighbours: usize,
    /// Normalisation of each point; default [`Normalise::Rms`]. Mutual information uses that of the diffusion
    /// map instead, and cosines and angles do not depend on it.
    pub normalise: Normalise,
}

impl Default for SimilarityOptions {
    fn default() -> Self {
        SimilarityOptions { metric: Metric::MutualInformation, neighbours: 5, normalise: Normalise::Rms }
    }
}

impl SimilarityOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Usage`], with the option, its value and its range, if a field is out of range.
    pub fn check(self) -> Result<ValidSimilarityOptions> {
        if self.neighbours == 0 {
            return Err(Error::Usage("neighbours is 0, but must be at least 1".to_string()));
        }
        Ok(ValidSimilarityOptions(self))
    }
}

/// Similarity options that are known to be in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidSimilarityOptions(SimilarityOptions);

impl ValidSimilarityOptions {
    /// Returns the options as they were given.
    pub fn options(&self) -> SimilarityOptions {
        self.0
    }
}

/// Data of one layer that every pair needs, computed once.
#[derive(Debug, Clone)]
enum Prepared {
    Sample(Sample),
    /// Points of root mean square 1 for cosines and angles, normalised points for distances.
    Points(Points),
    Centred(CentredLayer),
    Gram(UnitGram),
}

/// Similarities of layers `0..n_layers`, extended layer by layer.
///
/// A merge changes only the layers from the merged one on. [`SimilarityBuilder::truncate`] discards the
/// changed layers, and pushing their new points recomputes exactly the rows that changed.
///
/// Memory: `n dims` numbers per layer for mutual information, also of layouts and codes; an `n x n` matrix per
/// layer for CKA; all points of all layers for the other metrics, which compare points.
///
/// # Examples
/// ```
/// use laminate::maths::manifold::{DiffusionOptions, Points, diffusion_map};
/// use laminate::maths::similarity::{SimilarityBuilder, SimilarityOptions};
///
/// let map_options = DiffusionOptions::default().check().unwrap();
/// let mut builder = SimilarityBuilder::new(SimilarityOptions::default().check().unwrap());
/// for layer in 0..3 {
///     let arc = (0..40).flat_map(|i| {
///         let angle = f64::from(i).powi(1 + layer as i32) / 40.0_f64.powi(layer as i32) / 20.0;
///         [angle.cos(), angle.sin()]
///     });
///     let points = Points::from_f64(layer, 40, 2, arc.collect()).unwrap();
///     let map = diffusion_map(&points, layer, &map_options).unwrap();
///     let row = builder.push(&points, &map).unwrap();
///     assert_eq!(row.len(), layer + 1);
///     assert_eq!(row[layer], 1.0);
/// }
/// assert_eq!(builder.matrix().n_layers(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct SimilarityBuilder {
    options: SimilarityOptions,
    /// Number of points and of coordinates of the first layer, which the other layers must match.
    shape: Option<(usize, usize)>,
    estimator: Option<Estimator>,
    layers: Vec<Prepared>,
    /// Raw value of the metric for layer `l` and each of `0..=l`.
    raw: Vec<Vec<f64>>,
}

impl SimilarityBuilder {
    /// Creates a builder without layers.
    pub fn new(options: ValidSimilarityOptions) -> Self {
        SimilarityBuilder {
            options: options.0,
            shape: None,
            estimator: None,
            layers: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// Returns the options as they were given.
    pub fn options(&self) -> SimilarityOptions {
        self.options
    }

    /// Returns the metric of the matrix.
    pub fn metric(&self) -> Metric {
        self.options.metric
    }

    /// Returns the number of layers so far, which is the index of the next layer.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Appends a layer and returns its similarities to layers `0..=layer`, of which the last is the diagonal.
    ///
    /// The row is empty for a metric that needs all layers ([`Metric::needs_all_layers`]).
    ///
    /// # Errors
    /// Those of [`SimilarityBuilder::extend`]; the builder is then unchanged.
    pub fn push(&mut self, points: &Points, map: &DiffusionMap) -> Result<Vec<f64>> {
        let layer = self.n_layers();
        self.extend(std::slice::from_ref(points), std::slice::from_ref(map))?;
        Ok(if self.options.metric.needs_all_layers() { Vec::new() } else { self.row(layer) })
    }

    /// Appends several layers at once; all new pairs are compared in parallel.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one map per layer, or if a layer differs from the first in points or
    /// width, or from its map in points; [`Error::Limit`] for too few points; [`Error::Numeric`] for a layer
    /// whose points or coordinates have no variance, or for a similarity that is not finite. Messages about a
    /// layer name it. The builder is then unchanged.
    pub fn extend(&mut self, points: &[Points], maps: &[DiffusionMap]) -> Result<()> {
        let first = self.n_layers();
        if points.len() != maps.len() {
            return Err(Error::Shape(format!("{} layers of points, but {} maps", points.len(), maps.len())));
        }
        let mut shape = self.shape;
        for (layer, (points, map)) in (first..).zip(points.iter().zip(maps)) {
            let found = (points.n_points(), points.dim());
            let (n_points, dim) = *shape.get_or_insert(found);
            if found != (n_points, dim) || map.embedding().n_points() != n_points {
                return Err(Error::Shape(format!(
                    "similarity: layer {layer} has {} points of {} coordinates and a map of {} points, but the \
                     first layer has {n_points} points of {dim} coordinates",
                    points.n_points(),
                    points.dim(),
                    map.embedding().n_points()
                )));
            }
        }
        let estimator = match (&self.estimator, shape, self.options.metric) {
            (None, Some((n_points, _)), metric) if metric.compares_maps() => {
                Some(Estimator::new(n_points, self.options.neighbours)?)
            }
            (made, ..) => made.clone(),
        };

        let inputs: Vec<_> = (first..).zip(points.iter().zip(maps)).collect();
        let prepared = threads::map(&inputs, |(layer, (points, map))| self.prepare(*layer, points, map))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;

        let pairs: Vec<(usize, usize)> =
            (first..first + prepared.len()).flat_map(|l| (0..=l).map(move |m| (l, m))).collect();
        let layer = |l: usize| {
            if l < first { self.layers.get(l) } else { prepared.get(l - first) }
        };
        let values = threads::map(&pairs, |&(l, m)| match (layer(l), layer(m)) {
            (Some(a), Some(b)) => compare(a, b, self.options.metric, estimator.as_ref(), l, m),
            _ => Err(Error::internal(format!("layers {l} and {m} were not prepared"))),
        });
        let mut values = values.into_iter();
        let rows = (first..first + prepared.len())
            .map(|l| values.by_ref().take(l + 1).collect::<Result<Vec<f64>>>())
            .collect::<Result<Vec<_>>>()?;

        self.shape = shape;
        self.estimator = estimator;
        self.layers.extend(prepared);
        self.raw.extend(rows);
        Ok(())
    }

    /// Discards all layers from `n_layers` on, which a merge that produced layer `n_layers` has changed. The
    /// rows before, and the data prepared for them, are kept.
    pub fn truncate(&mut self, n_layers: usize) {
        self.layers.truncate(n_layers);
        self.raw.truncate(n_layers);
        if n_layers == 0 {
            self.shape = None;
            self.estimator = None;
        }
    }

    /// Returns the matrix of the layers so far. For a metric that needs all layers, the median is taken over
    /// these layers.
    pub fn matrix(&self) -> SimilarityMatrix {
        SimilarityMatrix::from_lower(if self.options.metric.needs_all_layers() {
            similarities(&self.raw)
        } else {
            (0..self.n_layers()).map(|l| self.row(l)).collect()
        })
    }

    /// Returns the mutual information of all pairs in nats, the diagonal included; `None` for other metrics.
    pub fn mutual_information(&self) -> Option<SimilarityMatrix> {
        (self.options.metric == Metric::MutualInformation)
            .then(|| SimilarityMatrix::from_lower(self.raw.clone()))
    }

    /// Returns the similarities of layer `l` to `0..=l`, from the raw values.
    fn row(&self, l: usize) -> Vec<f64> {
        let Some(row) = self.raw.get(l) else {
            return Vec::new();
        };
        if !self.options.metric.compares_maps() {
            return row.clone();
        }
        let own = |m: usize| self.raw.get(m).and_then(|row| row.last()).copied().unwrap_or(f64::NAN);
        let normalised = |(m, i): (usize, &f64)| {
            if m == l { 1.0 } else { (i.max(0.0) / (own(l) * own(m)).sqrt()).min(1.0) }
        };
        row.iter().enumerate().map(normalised).collect()
    }

    fn prepare(&self, layer: usize, points: &Points, map: &DiffusionMap) -> Result<Prepared> {
        let normalise = self.options.normalise;
        Ok(match self.options.metric {
            Metric::MutualInformation => Prepared::Sample(Sample::new(layer, map.embedding())?),
            Metric::Cosine | Metric::Angular => Prepared::Points(points.normalised(layer, Normalise::Rms)?),
            Metric::Euclidean => Prepared::Points(points.normalised(layer, normalise)?),
            Metric::Mahalanobis => Prepared::Centred(CentredLayer::new(points, layer, normalise)?),
            Metric::Cka => Prepared::Gram(UnitGram::new(points, layer, normalise)?),
            Metric::Tsne => {
                Prepared::Sample(Sample::new(layer, tsne(points, layer, normalise)?.embedding())?)
            }
            Metric::Autoencoder => {
                Prepared::Sample(Sample::new(layer, autoencoder(points, layer, normalise)?.codes())?)
            }
        })
    }
}

/// Computes the raw value of the metric for layers `l >= m`: nats, a similarity, or a distance.
fn compare(
    a: &Prepared,
    b: &Prepared,
    metric: Metric,
    estimator: Option<&Estimator>,
    l: usize,
    m: usize,
) -> Result<f64> {
    let value = match (metric, a, b) {
        (_, Prepared::Sample(a), Prepared::Sample(b)) => {
            let estimate = estimator.or_internal("no estimator was made")?.estimate(a, b);
            if l == m && estimate <= 0.0 {
                return Err(Error::Numeric(format!(
                    "most points of layer {l} coincide with others, so that it has no information of its own; use \
                     more varied text"
                )));
            }
            estimate
        }
        (Metric::Euclidean | Metric::Mahalanobis, ..) if l == m => 0.0,
        (Metric::Cosine | Metric::Angular | Metric::Cka, ..) if l == m => 1.0,
        (Metric::Euclidean, Prepared::Points(a), Prepared::Points(b)) => mean_euclidean(a, b),
        (Metric::Mahalanobis, Prepared::Centred(a), Prepared::Centred(b)) => mean_mahalanobis(a, b)?,
        (Metric::Angular, Prepared::Points(a), Prepared::Points(b)) => 1.0 - mean_angle(a, b),
        (Metric::Cosine, Prepared::Points(a), Prepared::Points(b)) => mean_cosine(a, b),
        (Metric::Cka, Prepared::Gram(a), Prepared::Gram(b)) => linear_cka(a, b),
        _ => {
            return Err(Error::internal(format!("layers {l} and {m} were not prepared for metric {metric}")));
        }
    };
    if !value.is_finite() {
        return Err(Error::Numeric(format!("{metric} similarity of layers {l} and {m} is not finite")));
    }
    Ok(value)
}
