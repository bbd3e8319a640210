//! The similarity stage: how each layer of the original changes the hidden states of a text, and which layers
//! are similar.

pub mod atlas;
pub mod checkpoint;
pub mod layers;
pub mod observe;
pub mod points;
