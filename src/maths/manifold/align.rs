//! Alignment of the embeddings of neighbouring layers, for pictures.

use faer::Mat;

use super::map::{DiffusionMap, Embedding};
use crate::error::{Error, Result};

/// Rotates (or reflects) each layer's embedding onto its aligned predecessor, so that small pictures in a row
/// do not flip from one layer to the next.
///
/// Each layer `l >= 1` is an orthogonal Procrustes problem (Schönemann 1966):
///
/// ```text
/// min |E_l R - F_{l-1}|_F  over orthogonal R (d x d),   F_l = E_l R
/// R = U V^T  with  E_l^T F_{l-1} = U S V^T
/// ```
///
/// Distances between points of a layer do not change. The axes of an aligned picture are no longer single
/// eigenvectors, so similarities must be computed from the original embeddings.
///
/// # Errors
/// [`Error::Shape`] if two layers differ in points or dimensions, [`Error::Numeric`] if the singular value
/// decomposition does not converge. Both name the layer.
pub fn align(maps: &[DiffusionMap]) -> Result<Vec<Embedding>> {
    let mut aligned: Vec<Embedding> = Vec::with_capacity(maps.len());
    for (layer, map) in maps.iter().enumerate() {
        let embedding = map.embedding();
        let next = match aligned.last() {
            None => embedding.clone(),
            Some(target) => align_onto(embedding, target, layer)?,
        };
        aligned.push(next);
    }
    Ok(aligned)
}

/// Rotates (or reflects) the embedding `moving` onto `target`, an embedding of the same points: one step of
/// [`align`]. `layer` is used in messages.
///
/// # Errors
/// Those of [`align`].
pub fn align_onto(moving: &Embedding, target: &Embedding, layer: usize) -> Result<Embedding> {
    if moving.n_points() != target.n_points() || moving.dims() != target.dims() {
        return Err(Error::Shape(format!(
            "align: layer {layer} has {} points of {} coordinates, what it is aligned to {} of {}",
            moving.n_points(),
            moving.dims(),
            target.n_points(),
            target.dims()
        )));
    }
    let dims = moving.dims();
    let to_columns: Vec<&[f64]> = target.coordinates().collect();
    let from_columns: Vec<&[f64]> = moving.coordinates().collect();
    let cross = Mat::from_fn(dims, dims, |i, j| super::points::dot(from_columns[i], to_columns[j]));
    let svd = cross
        .thin_svd()
        .map_err(|_| Error::Numeric(format!("align: the rotation of layer {layer} did not converge")))?;
    let rotation = svd.U() * svd.V().transpose();
    let coordinates = (0..dims)
        .map(|j| {
            (0..moving.n_points())
                .map(|i| {
                    from_columns.iter().enumerate().map(|(k, column)| column[i] * rotation[(k, j)]).sum()
                })
                .collect()
        })
        .collect();
    Embedding::new(layer, coordinates)
}
