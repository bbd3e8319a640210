//! Machine-specific loops: products, attention and row-wise arithmetic on the CPU, decoding on a GPU, and
//! threads.
//!
//! The rest of the engine says what to compute. Only this folder decides how a processor, a browser or a
//! graphics card computes it.

pub mod attention;
pub mod backward;
pub mod convolution;
pub mod delta_rule;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod mamba;
pub mod panels;
pub mod product;
pub mod recurrence;
pub mod rowwise;
pub mod threads;
