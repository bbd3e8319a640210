//! Laminate
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod error;
pub mod memory;

pub mod format;
pub mod kernels;
pub mod maths;
pub mod plan;
pub mod quality;

pub mod demo;
pub mod device;
pub mod files;
pub mod model;
pub mod protocol;

pub mod analysis;
pub mod evaluate;
pub mod forward;
pub mod methods;
pub mod session;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
pub mod write;

pub use error::{Error, Result};
