//! Laminate
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod calibration;
pub mod capture;
pub mod demo;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod format;
pub mod least_squares;
pub mod manifold;
pub mod memory;
pub mod merge;
pub mod model;
pub mod panels;
pub mod pipeline;
pub mod plan;
pub mod progress;
mod random;
pub mod report;
pub mod similarity;
pub mod sink;
pub mod source;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

pub use error::{Error, Result};
