//! The similarity stage behind two plain exports; see `Cargo.toml` beside this file.
#![allow(dead_code, reason = "only what the stage needs is called")]

extern crate self as laminate;

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/manifold/mod.rs"]
pub mod manifold;
#[path = "../planted/mod.rs"]
mod planted;
#[path = "../../src/similarity/mod.rs"]
pub mod similarity;

use std::cell::RefCell;

thread_local! {
    static LAYERS: RefCell<Vec<manifold::Points>> = const { RefCell::new(Vec::new()) };
}

/// Makes the points that [`run`] works on.
#[unsafe(no_mangle)]
pub extern "C" fn prepare(n_layers: usize, n_points: usize, width: usize) {
    let layers = (0..n_layers).map(|layer| planted::layer_points(layer, n_points, width));
    LAYERS.replace(layers.collect());
}

/// One run of the stage; returns the similarity of the last two layers.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> f64 {
    let matrix = LAYERS.with_borrow(|layers| planted::similarities(layers));
    matrix.adjacent().next_back().unwrap_or(f64::NAN)
}
