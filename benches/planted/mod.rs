//! Points with a planted structure, and the stage that is timed on them, for native and WebAssembly alike.

use laminate::maths::manifold::{DiffusionOptions, Points, diffusion_maps};
use laminate::maths::similarity::{SimilarityBuilder, SimilarityMatrix, SimilarityOptions};

/// Directions in which the points of a group of layers vary.
const LATENT: usize = 24;

/// Layers that share their geometry, up to noise.
const GROUP: usize = 4;

/// Uniform in [-1, 1): a hash of the index (SplitMix64), so that Python can make the same numbers.
fn uniform(stream: u64, index: u64) -> f64 {
    let mut z = stream
        .wrapping_mul(0x2545_f491_4f6c_dd1d)
        .wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Points of one layer: `LATENT` directions of falling weight, the same for the layers of a group, and noise.
pub fn layer_points(layer: usize, n_points: usize, width: usize) -> Points {
    let group = 2 * (layer / GROUP) as u64;
    let mixing: Vec<f64> = (0..LATENT * width).map(|i| uniform(group + 1000, i as u64)).collect();
    let mut data = vec![0.0; n_points * width];
    for (i, row) in data.chunks_exact_mut(width).enumerate() {
        for (k, direction) in mixing.chunks_exact(width).enumerate() {
            let weight = uniform(group + 1001, (i * LATENT + k) as u64) / ((k + 1) as f64).sqrt();
            row.iter_mut().zip(direction).for_each(|(x, m)| *x += weight * m);
        }
        for (j, x) in row.iter_mut().enumerate() {
            *x += 0.25 * uniform(layer as u64, (i * width + j) as u64);
        }
    }
    Points::from_f64(layer, n_points, width, data).expect("generated numbers are finite")
}

/// Points to similarities with default options.
pub fn similarities(layers: &[Points]) -> SimilarityMatrix {
    let map_options = DiffusionOptions::default().check().expect("defaults are valid");
    let options = SimilarityOptions::default().check().expect("defaults are valid");
    let maps = diffusion_maps(layers, &map_options).expect("generated points have a geometry");
    let mut builder = SimilarityBuilder::new(options);
    builder.extend(layers, &maps).expect("layers have equal shapes");
    builder.matrix()
}
