//! The types that cross the engine's border: options that come in, events and reports that go out, as JSON.
//!
//! JSON keys are stable: keys are added, never renamed. The page's types in `www/engine/protocol/` are generated from these
//! (`typescript.rs`, `npm run protocol`).

pub mod answers;
pub mod compare;
pub mod evaluate;
pub mod events;
pub mod heal;
pub mod model;
pub mod options;
pub mod plan;
pub mod similarity;
pub mod sizing;
pub mod subjects;
pub mod text;
mod typescript;
pub mod verdict;
