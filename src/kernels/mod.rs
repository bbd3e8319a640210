//! Loops that know the machine: products, attention and row-wise arithmetic on the CPU, decoding on a GPU, threads.
//!
//! Everything else in the engine says what to compute. How a processor, a browser or a graphics card computes it is
//! decided in this folder alone.

pub mod attention;
pub mod gpu;
pub mod panels;
pub mod product;
pub mod rowwise;
pub mod threads;
