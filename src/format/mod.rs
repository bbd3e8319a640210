//! File formats: bytes to meaning and back. No I/O here.

pub mod element;
pub mod index;
pub mod safetensors;
