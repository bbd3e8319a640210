//! Options of a diffusion map.

use serde::{Deserialize, Serialize};

use super::points::Normalise;
use crate::error::{Error, Result};

/// Options of the diffusion map as a user gives them; [`DiffusionOptions::check`] makes them usable.
///
/// # Examples
/// ```
/// use laminate::maths::manifold::DiffusionOptions;
///
/// let three = DiffusionOptions { dims: 3, ..DiffusionOptions::default() }.check().unwrap();
/// assert_eq!(three.dims(), 3);
/// assert!(DiffusionOptions { dims: 0, ..DiffusionOptions::default() }.check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffusionOptions {
    /// Number of coordinates of the map, 1 to 64; default 2.
    pub dims: usize,
    /// Diffusion time `t >= 0`, the power of the eigenvalues; default 1.
    pub time: f64,
    /// Density exponent, 0 to 1; default 0, that of MKA. 0.5 and 1 are the Fokker-Planck and Laplace-Beltrami
    /// cases.
    pub density: f64,
    /// Normalisation of each point before distances are computed; default [`Normalise::Rms`].
    pub normalise: Normalise,
    /// Fixed bandwidth of every layer, above 0; the default, `None`, is the median of each layer's squared
    /// distances.
    pub bandwidth: Option<f64>,
}

impl Default for DiffusionOptions {
    fn default() -> Self {
        DiffusionOptions { dims: 2, time: 1.0, density: 0.0, normalise: Normalise::Rms, bandwidth: None }
    }
}

impl DiffusionOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Usage`], with the option, its value and its range, for the first field that is out of range.
    pub fn check(self) -> Result<ValidDiffusionOptions> {
        let usage = |message: String| Err(Error::Usage(message));
        if !(1..=64).contains(&self.dims) {
            return usage(format!("dims is {}, but must be from 1 to 64", self.dims));
        }
        if !(self.time.is_finite() && self.time >= 0.0) {
            return usage(format!("time is {}, but must be a number not below 0", self.time));
        }
        if !(0.0..=1.0).contains(&self.density) {
            return usage(format!("density is {}, but must be from 0 to 1", self.density));
        }
        match self.bandwidth {
            Some(fixed) if !(fixed.is_finite() && fixed > 0.0) => {
                usage(format!("bandwidth is {fixed}, but must be a number above 0"))
            }
            _ => Ok(ValidDiffusionOptions(self)),
        }
    }
}

/// Diffusion map options that are known to be in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidDiffusionOptions(DiffusionOptions);

impl ValidDiffusionOptions {
    /// Returns the number of coordinates of the map.
    pub fn dims(&self) -> usize {
        self.0.dims
    }

    /// Returns the diffusion time.
    pub fn time(&self) -> f64 {
        self.0.time
    }

    /// Returns the density exponent.
    pub fn density(&self) -> f64 {
        self.0.density
    }

    /// Returns the normalisation of each point.
    pub fn normalise(&self) -> Normalise {
        self.0.normalise
    }

    /// Returns the fixed bandwidth, or `None` for the median of the squared distances.
    pub fn bandwidth(&self) -> Option<f64> {
        self.0.bandwidth
    }

    /// Returns the options as they were given.
    pub fn options(&self) -> DiffusionOptions {
        self.0
    }
}
