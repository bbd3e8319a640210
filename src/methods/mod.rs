//! Second stage: compression methods. A selection rule chooses the layers that become one layer, and an
//! operator makes the layer that takes their place.

pub mod experts;
pub mod importances;
pub mod kept;
pub mod operators;
pub mod outcome;
pub mod quantise;
mod resources;
pub mod selection;
pub mod sizing;
pub mod walk;
pub mod work;

pub use resources::{FIT_BYTES, Resources, Weighing, megabytes};
