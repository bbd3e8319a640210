//! The second stage, in the words of the field: a selection rule says which layers become one, an operator makes the one
//! layer that takes their place.

pub mod kept;
pub mod operators;
pub mod outcome;
mod resources;
pub mod selection;
pub mod walk;
pub mod work;

pub use resources::{FIT_BYTES, Resources};
