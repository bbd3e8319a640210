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
pub mod merge;
pub mod model;
pub mod progress;
pub mod sink;
pub mod source;

pub use error::{Error, Result};
