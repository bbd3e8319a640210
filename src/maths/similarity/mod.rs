//! How alike two layers are, from paired points.
//!
//! | metric | compares | raw value | similarity |
//! |---|---|---|---|
//! | [`Metric::MutualInformation`] | embeddings | `I(l;m)`, nats | `max(0, I_lm) / sqrt(I_ll I_mm)`, at most 1 |
//! | [`Metric::Cosine`] | points | mean cosine | the same, in [-1, 1] |
//! | [`Metric::Angular`] | points | mean angle / pi | 1 - angle, in [0, 1] |
//! | [`Metric::Euclidean`] | normalised points | mean distance `x` | `1 / (1 + x / median)` |
//! | [`Metric::Mahalanobis`] | normalised points | mean distance `x` | `1 / (1 + x / median)` |
//! | [`Metric::Cka`] | normalised points | linear CKA | the same, in [0, 1] |
//!
//! The median runs over all pairs of different layers, so those two rows are known at the end only; the
//! others fill in as layers arrive ([`SimilarityBuilder`]). The diagonal is 1 for every metric.
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

/// What makes two layers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Normalised mutual information of the diffusion maps (MKA).
    #[serde(rename = "mi")]
    MutualInformation,
    /// Mean cosine of paired points.
    #[serde(rename = "cosine")]
    Cosine,
    /// Mean angle of paired points as a share of pi, from 1.
    #[serde(rename = "angular")]
    Angular,
    /// Mean Euclidean distance of paired points, against the median over layers.
    #[serde(rename = "euclidean")]
    Euclidean,
    /// Mean Mahalanobis distance of paired points, against the median over layers.
    #[serde(rename = "mahalanobis")]
    Mahalanobis,
    /// Linear centred kernel alignment.
    #[serde(rename = "cka")]
    Cka,
}

impl Metric {
    /// Every metric, in the order of the table above.
    pub const ALL: [Metric; 6] = [
        Metric::MutualInformation,
        Metric::Cosine,
        Metric::Angular,
        Metric::Euclidean,
        Metric::Mahalanobis,
        Metric::Cka,
    ];

    /// Whether no similarity is known before the last layer is.
    pub fn needs_all_layers(self) -> bool {
        matches!(self, Metric::Euclidean | Metric::Mahalanobis)
    }

    /// The name used on the command line and in JSON.
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
