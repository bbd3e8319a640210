//! Tests of the engine through its parts: theorems, naive versions as oracles, golden numbers of other programs.
//!
//! One program, because each test program links the whole engine.
#![cfg(not(target_arch = "wasm32"))]

mod common;
mod geometry;
#[path = "../stored/mod.rs"]
mod stored;

mod architectures;
mod bad_input;
mod blocks;
mod checkpoint;
#[cfg(feature = "cli")]
mod command_line;
mod compare;
mod compress;
mod diffusion_map;
mod experts;
mod forward;
mod fuzz;
mod gemma4;
mod gguf;
mod gradients;
mod heal;
mod importances;
mod kept_plans;
mod least_squares;
mod maps;
mod methods;
mod mmlu;
mod mutual_information;
mod open;
mod output;
mod packed;
mod periods;
mod picture;
mod plan;
mod planted;
mod quantise;
mod scratch;
mod self_text;
mod sentence_piece;
#[cfg(feature = "gpu")]
mod shaders;
mod similarity;
mod sizes;
mod tokenizers;
mod work;
mod wrappers;
