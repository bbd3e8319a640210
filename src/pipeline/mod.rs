//! The order of the stages, with progress, cancellation and what is kept between them. No maths.

pub mod card;
pub mod estimate;
pub mod evaluation;
pub mod merging;
pub mod options;
pub mod session;
pub mod similarity;
pub mod stream;
pub mod writing;

pub use evaluation::evaluate;
pub use options::{CalibrationOptions, WriteOptions};
pub use session::Session;
