//! Diffusion map of one layer.

use faer::Par;

use super::kept::KeptDistances;
use super::kernel::{SquaredDistances, squared_distances_with};
use super::points::Points;
use crate::error::{Error, Result};
use crate::kernels::threads;
use crate::maths::manifold::map::{DiffusionMap, map_of_distances};
use crate::maths::manifold::options::ValidDiffusionOptions;

/// Computes the diffusion map of one layer's points. `layer` is used in messages.
///
/// With the operator `P` of [`diffusion_operator`](super::diffusion_operator) and its right eigenvectors
/// `psi_k`, scaled such that `psi_0 = 1`, the coordinates are
///
/// ```text
/// Psi_t = [lambda_1^t psi_1, .., lambda_d^t psi_d]
/// ```
///
/// Eigenvectors of a multiple eigenvalue are determined only up to a rotation, so the coordinates then depend
/// on rounding. Points that are equal get equal coordinates.
///
/// Cost: `n^2 D` multiply-adds for the distances, a few `n^3` at worst for the eigenvectors, and two `n x n`
/// matrices of memory. Uses all threads of the machine.
///
/// # Errors
/// [`Error::Limit`] for fewer than `dims + 1` points, [`Error::Numeric`] if the eigenvalues do not converge,
/// and those of [`diffusion_operator`](super::diffusion_operator). All name the layer.
///
/// # Examples
/// ```
/// use laminate::maths::manifold::{DiffusionOptions, Points, diffusion_map};
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
    diffusion_map_with(points, layer, options, threads::whole_machine())
}

/// Computes a diffusion map like [`diffusion_map`], and returns with it the distances, from which more maps
/// of the same points can be made.
///
/// # Errors
/// Those of [`diffusion_map`].
pub fn diffusion_map_and_distances(
    points: &Points,
    layer: usize,
    options: &ValidDiffusionOptions,
) -> Result<(DiffusionMap, KeptDistances)> {
    let distances = distances_for(points, layer, options, threads::whole_machine())?;
    let kept = KeptDistances::keep(&distances);
    Ok((map_of_distances(distances, layer, options)?, kept))
}

/// Computes the diffusion maps of layers `0..layers.len()`, one layer per thread. This is faster than one
/// layer after the other, if all points are in memory.
///
/// # Errors
/// Those of [`diffusion_map`], for the first layer that fails.
pub fn diffusion_maps(layers: &[Points], options: &ValidDiffusionOptions) -> Result<Vec<DiffusionMap>> {
    let numbered: Vec<(usize, &Points)> = layers.iter().enumerate().collect();
    threads::map(&numbered, |(layer, points)| diffusion_map_with(points, *layer, options, Par::Seq))
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

/// Computes the distances of a layer, after checking that it has enough points for a map.
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
