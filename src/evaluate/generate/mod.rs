//! Text that a model writes: the most likely continuation of a prompt, or a calibration text drawn from the
//! model.

pub mod greedy;
pub mod own_text;
pub mod sample;

pub use sample::sample;
