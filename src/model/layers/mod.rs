//! The arithmetic of a decoder layer and of the head, on the device that holds the weights.

pub mod attention;
pub mod beside;
mod convolution;
pub mod decoder;
mod delta_net;
pub mod experts;
pub mod gradients;
pub mod head;
mod heads;
pub mod input;
pub mod linear;
mod mamba;
pub mod mixer;
pub mod mlp;
pub mod norm;
pub mod record;
mod short_convolution;
mod upload;
