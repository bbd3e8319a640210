//! Similarity of two layers, from paired points.
//!
//! | metric | compares | raw value | similarity |
//! |---|---|---|---|
//! | [`Metric::MutualInformation`] | embeddings | `I_lm`, nats | `min(1, max(0, I_lm) / sqrt(I_ll I_mm))` |
//! | [`Metric::Cosine`] | points | mean cosine | mean cosine, in [-1, 1] |
//! | [`Metric::Angular`] | points | mean angle / pi | 1 - angle, in [0, 1] |
//! | [`Metric::Euclidean`] | normalised points | mean distance `x` | `1 / (1 + x / median)` |
//! | [`Metric::Mahalanobis`] | normalised points | mean distance `x` | `1 / (1 + x / median)` |
//! | [`Metric::Cka`] | normalised points | linear CKA | linear CKA, in [0, 1] |
//! | [`Metric::Tsne`] | layouts by [`tsne`](crate::maths::manifold::tsne()) | `I_lm`, nats | as mutual information |
//! | [`Metric::Autoencoder`] | codes of [`autoencoder`](crate::maths::manifold::autoencoder()) | `I_lm`, nats | as mutual information |
//!
//! The median is taken over all pairs of different layers, so the similarities of `Euclidean` and
//! `Mahalanobis` are known only at the end; the other metrics give a row as each layer arrives
//! ([`SimilarityBuilder`]). The diagonal is 1 for every metric.
//!
//! Nothing here reads a file, touches a device or depends on the target.

mod builder;
mod cka;
mod cosine;
mod distance;
mod mahalanobis;
mod matrix;
mod mutual_information;

use crate::maths::manifold::LEAST_POINTS_OF_TSNE;
use crate::named::named;

pub use builder::{SimilarityBuilder, SimilarityOptions, ValidSimilarityOptions};
pub use mahalanobis::SHRINKAGE;
pub use matrix::SimilarityMatrix;
pub use mutual_information::mutual_information;

named! {
    /// Measure of the similarity of two layers.
    Metric, "metric" {
        /// Normalised mutual information of the diffusion maps (MKA).
        #[default]
        MutualInformation = "mi",
        /// Mean cosine of paired points.
        Cosine = "cosine",
        /// One minus the mean angle of paired points as a share of pi.
        Angular = "angular",
        /// Mean Euclidean distance of paired points, relative to the median over pairs of layers.
        Euclidean = "euclidean",
        /// Mean Mahalanobis distance of paired points, relative to the median over pairs of layers.
        Mahalanobis = "mahalanobis",
        /// Linear centred kernel alignment.
        Cka = "cka",
        /// Normalised mutual information of layouts by t-SNE.
        Tsne = "tsne",
        /// Normalised mutual information of the codes of an autoencoder of each layer.
        Autoencoder = "autoencoder",
    }
}

impl Metric {
    /// Returns whether no similarity is known before the last layer is.
    pub fn needs_all_layers(self) -> bool {
        matches!(self, Metric::Euclidean | Metric::Mahalanobis)
    }

    /// Returns whether the metric is the normalised mutual information of maps in few dimensions, one of each layer.
    pub fn compares_maps(self) -> bool {
        matches!(self, Metric::MutualInformation | Metric::Tsne | Metric::Autoencoder)
    }

    /// Returns the least number of points of a layer, for `neighbours` of the mutual-information estimator.
    pub fn least_points(self, neighbours: usize) -> usize {
        match self {
            Metric::Tsne => neighbours.saturating_mul(4).max(LEAST_POINTS_OF_TSNE),
            _ if self.compares_maps() => neighbours.saturating_mul(4),
            _ => 2,
        }
    }
}
