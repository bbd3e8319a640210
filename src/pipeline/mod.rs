//! The order of the stages, with progress, cancellation and what is kept between them. No maths.

pub mod atlas;
mod calibration_curve;
pub mod card;
pub mod checkpoint;
pub mod comparing;
pub mod estimate;
pub mod evaluation;
pub mod generating;
mod held_out;
pub mod measuring;
pub mod merging;
pub mod operators;
pub mod options;
pub mod pass;
pub mod planning;
pub mod questions;
pub mod selecting;
pub mod self_text;
pub mod session;
pub mod similarity;
pub mod stream;
pub mod text;
pub mod writing;

pub use atlas::{LayerMap, MapOptions};
pub use evaluation::evaluate;
pub use options::{CalibrationOptions, CompareOptions, QuestionOptions, TextOptions, WriteOptions};
pub use session::Session;
