//! Weights of one layer at a time: read from the files, mixed or replaced, and encoded in the element type in
//! which they are stored.

pub mod fetch;
pub mod file_type;
pub mod new_experts;
pub mod new_layer;
pub mod part_types;
pub mod sliced;
pub mod storage;
pub mod whole;
