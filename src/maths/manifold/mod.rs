//! Diffusion maps: from the points of a layer to coordinates in a few dimensions.
//!
//! ```text
//! points --normalise, centre--> squared distances --Gaussian--> operator P --eigen--> coordinates
//! ```
//!
//! Every layer is embedded on its own, from `n` points that are the same tokens in every layer. The
//! embeddings of two layers are therefore paired samples, which [`similarity`](crate::maths::similarity) can
//! compare. The construction is Coifman and Lafon's ("Diffusion maps", Appl. Comput. Harmon. Anal. 21, 2006),
//! in `f64` throughout. [`DiffusionOperator`] alone builds the operator; the two eigensolvers behind it
//! differ only after that and are tested against each other.
//!
//! [`tsne()`] and [`autoencoder()`] map the points of a layer in other ways, for comparison.
//!
//! Nothing here reads a file, touches a device or depends on the target.

mod affinities;
mod align;
mod autoencoder;
mod dense;
mod diffusion;
mod eigen;
mod kept;
mod kernel;
mod lanczos;
mod map;
mod operator;
mod options;
mod points;
mod principal;
mod tsne;

pub(crate) use kernel::{median_of, mirror, varied_gram};

pub use affinities::{Affinities, PERPLEXITY};
pub use align::{align, align_onto};
pub use autoencoder::{Autoencoder, autoencoder};
pub use diffusion::{diffusion_map, diffusion_map_and_distances, diffusion_maps};
pub use kept::{KeptDistances, Sketch};
pub use kernel::{SquaredDistances, squared_distances};
pub use map::{DiffusionMap, Embedding};
pub use operator::{DiffusionOperator, diffusion_operator};
pub use options::{DiffusionOptions, ValidDiffusionOptions};
pub use points::{Normalise, Points};
pub use tsne::{LEAST_POINTS as LEAST_POINTS_OF_TSNE, Tsne, tsne};
