//! Hidden states of token sequences, layer by layer: all sequences go through one layer, then through the
//! next.

pub mod context;
mod embedding;
pub mod expert_use;
pub mod identity;
pub mod importances;
pub mod inputs;
pub mod pass;
pub mod runner;
pub mod sequences;
pub mod states;
pub mod stream;
