//! The first stage: what each layer of the original does to a text, and which layers do the same.

pub mod atlas;
pub mod checkpoint;
pub mod layers;
pub mod observe;
pub mod points;
