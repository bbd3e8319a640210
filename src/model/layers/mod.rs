//! The arithmetic of a decoder layer and of the head, on the device that holds the weights.

pub mod attention;
pub mod decoder;
pub mod experts;
pub mod head;
pub mod linear;
pub mod mamba;
pub mod mlp;
pub mod norm;
