//! The types that cross the engine's border: options that come in, events and reports that go out, as JSON.
//!
//! JSON keys are stable: keys are added, never renamed. `www/engine/protocol/` mirrors these types file by
//! file.

pub mod answers;
pub mod compare;
pub mod evaluate;
pub mod events;
pub mod model;
pub mod options;
pub mod plan;
pub mod similarity;
pub mod sizing;
pub mod subjects;
pub mod text;
pub mod verdict;
