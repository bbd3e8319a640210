//! Mathematics of the methods, on plain slices of numbers: no model, no file, no device.

pub mod knapsack;
pub mod least_squares;
pub mod manifold;
pub mod mix;
pub mod random;
pub mod similarity;
