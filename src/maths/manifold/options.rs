//! Options of a diffusion map.

use serde::{Deserialize, Serialize};

use super::points::Normalise;
use crate::error::{Error, Result};

/// Options of the diffusion map as a user gives them; [`DiffusionOptions::check`] makes them usable.
///
/// # Examples
/// ```
/// use laminate::manifold::DiffusionOptions;
///
/// let three = DiffusionOptions { dims: 3, ..DiffusionOptions::default() }.check().unwrap();
/// assert_eq!(three.dims(), 3);
/// assert!(DiffusionOptions { dims: 0, ..DiffusionOptions::default() }.check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffusionOptions {
    /// Coordinates of the map, 1 to 64; default 2.
    pub dims: usize,
    /// Diffusion time `t >= 0`, the power of the eigenvalues; default 1.
    pub time: f64,
    /// Density exponent in 0..=1; default 0 (the paper's). 0.5 and 1 are the Fokker-Planck and
    /// Laplace-Beltrami cases.
    pub density: f64,
    /// What is done to each point first; default [`Normalise::Rms`].
    pub normalise: Normalise,
    /// A fixed bandwidth > 0 for every layer; default none, the median of the squared distances.
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
    /// [`Error::Usage`] that names the option, its value and its range.
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

/// Options that are known to be in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidDiffusionOptions(DiffusionOptions);

impl ValidDiffusionOptions {
    /// Coordinates of the map.
    pub fn dims(&self) -> usize {
        self.0.dims
    }

    /// Diffusion time.
    pub fn time(&self) -> f64 {
        self.0.time
    }

    /// Density exponent.
    pub fn density(&self) -> f64 {
        self.0.density
    }

    /// What is done to each point first.
    pub fn normalise(&self) -> Normalise {
        self.0.normalise
    }

    /// The fixed bandwidth, or `None` for the median rule.
    pub fn bandwidth(&self) -> Option<f64> {
        self.0.bandwidth
    }

    /// The options as they were given.
    pub fn options(&self) -> DiffusionOptions {
        self.0
    }
}
