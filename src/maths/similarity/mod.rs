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

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use builder::{SimilarityBuilder, SimilarityOptions, ValidSimilarityOptions};
pub use mahalanobis::SHRINKAGE;
pub use matrix::SimilarityMatrix;
pub use mutual_information::mutual_information;

/// Measure of the similarity of two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Normalised mutual information of the diffusion maps (MKA).
    #[serde(rename = "mi")]
    MutualInformation,
    /// Mean cosine of paired points.
    #[serde(rename = "cosine")]
    Cosine,
    /// One minus the mean angle of paired points as a share of pi.
    #[serde(rename = "angular")]
    Angular,
    /// Mean Euclidean distance of paired points, relative to the median over pairs of layers.
    #[serde(rename = "euclidean")]
    Euclidean,
    /// Mean Mahalanobis distance of paired points, relative to the median over pairs of layers.
    #[serde(rename = "mahalanobis")]
    Mahalanobis,
    /// Linear centred kernel alignment.
    #[serde(rename = "cka")]
    Cka,
}

impl Metric {
    /// All metrics, in the order of the variants.
    pub const ALL: [Metric; 6] = [
        Metric::MutualInformation,
        Metric::Cosine,
        Metric::Angular,
        Metric::Euclidean,
        Metric::Mahalanobis,
        Metric::Cka,
    ];

    /// Returns whether no similarity is known before the last layer is.
    pub fn needs_all_layers(self) -> bool {
        matches!(self, Metric::Euclidean | Metric::Mahalanobis)
    }

    /// Returns the name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::MutualInformation => "mi",
            Metric::Cosine => "cosine",
            Metric::Angular => "angular",
            Metric::Euclidean => "euclidean",
            Metric::Mahalanobis => "mahalanobis",
            Metric::Cka => "cka",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Metric::ALL.into_iter().find(|metric| metric.name() == s).ok_or_else(|| {
            let names = Metric::ALL.map(Metric::name).join(", ");
            Error::Usage(format!("unknown metric \"{s}\": use one of {names}"))
        })
    }
}
