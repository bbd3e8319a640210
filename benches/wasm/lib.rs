//! The similarity stage and the maps behind the page's sliders, as plain exports; see `Cargo.toml` beside this file.
#![allow(dead_code, reason = "only what the stage needs is called")]

extern crate self as laminate;

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/named.rs"]
mod named;
#[path = "../planted/mod.rs"]
mod planted;

/// Threads, of which WebAssembly has one.
#[path = "../../src/kernels"]
pub mod kernels {
    pub mod threads;
}

/// The mathematics that is timed.
#[path = "../../src/maths"]
pub mod maths {
    pub mod manifold;
    pub mod similarity;
}

use std::cell::RefCell;

use maths::{manifold, similarity};

thread_local! {
    static LAYERS: RefCell<Vec<manifold::Points>> = const { RefCell::new(Vec::new()) };
}

/// Makes the points that [`run`] works on.
#[unsafe(no_mangle)]
pub extern "C" fn prepare(n_layers: usize, n_points: usize, width: usize) {
    let layers = (0..n_layers).map(|layer| planted::layer_points(layer, n_points, width));
    LAYERS.replace(layers.collect());
}

thread_local! {
    static KEPT: RefCell<Vec<(f64, manifold::KeptDistances, Option<manifold::Sketch>)>> =
        const { RefCell::new(Vec::new()) };
}

/// Keeps the distances of all layers, as a run does, and gives up the points.
#[unsafe(no_mangle)]
pub extern "C" fn keep() {
    let options = manifold::DiffusionOptions::default().check().expect("defaults are valid");
    let kept = LAYERS.take().into_iter().enumerate().map(|(layer, points)| {
        let (map, distances) = manifold::diffusion_map_and_distances(&points, layer, &options)
            .expect("generated points have a geometry");
        (map.epsilon(), distances, None)
    });
    KEPT.set(kept.collect());
}

/// The map of one layer with a multiple of its bandwidth, as exact as a picture needs or in full; returns `lambda_1`.
#[unsafe(no_mangle)]
pub extern "C" fn map(layer: usize, bandwidth: f64, sketch: bool) -> f64 {
    KEPT.with_borrow_mut(|kept| {
        let (epsilon, distances, before) = kept.get_mut(layer).expect("a layer that was kept");
        let options =
            manifold::DiffusionOptions { bandwidth: Some(bandwidth * *epsilon), ..Default::default() };
        let options = options.check().expect("in range");
        let map = if sketch {
            let next = distances.sketch(layer, &options, before.take()).expect("a sketch");
            before.insert(next).map().clone()
        } else {
            distances.diffusion_map(layer, &options).expect("a map")
        };
        map.eigenvalues().get(1).copied().unwrap_or(f64::NAN)
    })
}

/// One run of the stage; returns the similarity of the last two layers.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> f64 {
    let matrix = LAYERS.with_borrow(|layers| planted::similarities(layers));
    matrix.adjacent().next_back().unwrap_or(f64::NAN)
}
