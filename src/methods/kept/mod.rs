//! What the stage of a plan has finished, kept in a store so that the stage goes on after an interruption.

pub mod fitted;
pub mod rounds;
