//! The weights of one layer at a time: read from the files, mixed or replaced, and in the type in which they are stored.

pub mod fetch;
pub mod new_layer;
pub mod storage;
