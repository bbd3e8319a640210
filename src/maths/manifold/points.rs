//! Points of one layer, checked once for shape and finite values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `n_points` points of `dim` coordinates, row-major; all values are finite.
///
/// Row `i` is the hidden state of the same token in every layer. The constructors check for NaN and infinity,
/// so that no later stage has to.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    n_points: usize,
    dim: usize,
    data: Vec<f64>,
}

impl Points {
    /// Takes `n_points * dim` numbers, row-major `[n_points, dim]`. `layer` is used only in messages.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length does not fit or a dimension is zero, [`Error::Numeric`] if a number is
    /// NaN or infinite. Both name the layer.
    ///
    /// # Examples
    /// ```
    /// use laminate::maths::manifold::Points;
    ///
    /// let points = Points::from_f64(0, 2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    /// assert_eq!(points.row(1), Some(&[4.0, 5.0, 6.0][..]));
    /// assert!(Points::from_f64(0, 1, 1, vec![f64::NAN]).is_err());
    /// ```
    pub fn from_f64(layer: usize, n_points: usize, dim: usize, data: Vec<f64>) -> Result<Self> {
        if n_points == 0 || dim == 0 || n_points.checked_mul(dim) != Some(data.len()) {
            return Err(Error::Shape(format!(
                "points of layer {layer}: {} numbers do not make {n_points} points of {dim} coordinates",
                data.len()
            )));
        }
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            return Err(Error::Numeric(format!(
                "points of layer {layer}: point {} has the coordinate {} at {}; the model or the capture \
                 overflowed",
                at / dim,
                data.get(at).copied().unwrap_or(f64::NAN),
                at % dim
            )));
        }
        Ok(Points { n_points, dim, data })
    }

    /// Takes single-precision activations, which are widened without loss; otherwise like
    /// [`Points::from_f64`].
    ///
    /// # Errors
    /// Those of [`Points::from_f64`].
    pub fn from_f32(layer: usize, n_points: usize, dim: usize, data: &[f32]) -> Result<Self> {
        Points::from_f64(layer, n_points, dim, data.iter().map(|&x| f64::from(x)).collect())
    }

    /// Returns the number of points, at least 1.
    pub fn n_points(&self) -> usize {
        self.n_points
    }

    /// Returns the number of coordinates of a point, at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns point `i`, or `None` past the end.
    pub fn row(&self, i: usize) -> Option<&[f64]> {
        self.rows().nth(i)
    }

    /// Returns all points in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.data.chunks_exact(self.dim)
    }

    /// Returns the factor by which `normalise` multiplies each point: `1 / rms(h_i)`, or 1.
    ///
    /// # Errors
    /// [`Error::Numeric`] for a point that is too large to be squared, or that is all zeros (has no
    /// direction) where it is to be divided by its root mean square.
    pub(crate) fn scales(&self, layer: usize, normalise: Normalise) -> Result<Vec<f64>> {
        self.rows()
            .enumerate()
            .map(|(i, row)| {
                let rms = (dot(row, row) / self.dim as f64).sqrt();
                match normalise {
                    _ if !rms.is_finite() => Err(Error::Numeric(format!(
                        "points of layer {layer}: point {i} is too large to be squared"
                    ))),
                    Normalise::None => Ok(1.0),
                    Normalise::Rms if rms < f64::MIN_POSITIVE => Err(Error::Numeric(format!(
                        "points of layer {layer}: point {i} is all zeros, so it cannot be divided by its root \
                         mean square"
                    ))),
                    Normalise::Rms => Ok(rms.recip()),
                }
            })
            .collect()
    }

    /// Returns the points after `normalise`, which every similarity but mutual information compares.
    ///
    /// # Errors
    /// [`Error::Numeric`] for a point that is too large to be squared, or that is all zeros where it is to be
    /// divided by its root mean square.
    pub fn normalised(&self, layer: usize, normalise: Normalise) -> Result<Points> {
        let scales = self.scales(layer, normalise)?;
        let data =
            self.rows().zip(&scales).flat_map(|(row, scale)| row.iter().map(move |x| x * scale)).collect();
        Ok(Points { data, ..*self })
    }
}

/// Normalisation of each point before any other computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Division by the root mean square of the point's coordinates, which gives the input of the next
    /// pre-norm layer. Without it, a few points with massive activations tear the graph apart.
    Rms,
    /// No normalisation, as in the MKA paper.
    None,
}

impl fmt::Display for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Normalise::Rms => "rms",
            Normalise::None => "none",
        })
    }
}

impl FromStr for Normalise {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "rms" => Ok(Normalise::Rms),
            "none" => Ok(Normalise::None),
            _ => Err(Error::Usage(format!("unknown normalisation \"{s}\": use rms or none"))),
        }
    }
}

/// Computes the inner product with eight running sums. With a single sum, each addition would wait for the
/// one before, and the rounding error would grow with the length instead of an eighth of it.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
            *s += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}
