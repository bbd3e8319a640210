//! Finished work of a plan, kept in a store so that the plan can resume after an interruption.

pub mod fitted;
pub mod rounds;
