//! Diffusion maps of all layers, computed again with other options from distances that the similarity stage
//! kept.

use serde::{Deserialize, Serialize};

use crate::maths::manifold::{
    DiffusionMap, DiffusionOptions, Embedding, KeptDistances, Sketch, ValidDiffusionOptions, align_onto,
};
use crate::{Error, Result};

/// Most bytes of the kept distances of all layers together: 32 layers of 1400 points. Memory of wasm never
/// shrinks, and later stages need it more.
const MAX_BYTES: u64 = 256 << 20;

/// Layers whose maps are wanted, and options of the maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct MapOptions {
    /// Indices of the layers, in the order in which the maps are returned.
    pub layers: Vec<usize>,
    /// Bandwidth of each layer, as a multiple > 0 of the bandwidth that the run used for the layer (the
    /// median, or the fixed one).
    pub bandwidth: f64,
    /// Density exponent, 0 to 1.
    pub density: f64,
    /// Diffusion time, at least 0.
    pub time: f64,
    /// Whether the maps may be sketches, which are exact enough for a picture and several times faster.
    pub sketch: bool,
    /// Number of leading eigenvalues of each map, brought into 2 to 64; `None` returns the eigenvalues that
    /// come with the map. Sketches ignore this option.
    #[serde(default)]
    #[cfg_attr(test, ts(optional))]
    pub eigenvalues: Option<usize>,
}

/// Map of one layer, computed with [`MapOptions`].
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMap {
    /// Index of the layer.
    pub layer: usize,
    /// Map as a run with these options makes it, or its sketch.
    pub map: DiffusionMap,
    /// Embedding of the map, rotated onto the run's picture of the layer.
    pub picture: Embedding,
    /// Leading eigenvalues, `lambda_0` first.
    pub eigenvalues: Vec<f64>,
}

/// Maps of a run, and the distances from which other maps are computed.
pub struct Atlas {
    options: ValidDiffusionOptions,
    sheets: Vec<Sheet>,
}

/// Distances and maps of one layer.
struct Sheet {
    distances: KeptDistances,
    /// Bandwidth that the run used.
    epsilon: f64,
    /// Aligned map that the run reports.
    picture: Embedding,
    /// Last sketch, from which the next sketch starts.
    sketch: Option<Sketch>,
}

impl Atlas {
    /// Returns the bytes that the distances between `n_points` points in each of `n_layers` layers take;
    /// `None` if they exceed 256 MiB, in which case no distances are kept.
    pub fn bytes(n_layers: usize, n_points: usize) -> Option<u64> {
        KeptDistances::bytes(n_points).checked_mul(n_layers as u64).filter(|bytes| *bytes <= MAX_BYTES)
    }

    /// Makes an atlas of the layers from 0 on, from the distances, the map and the aligned map of each layer,
    /// all computed with `options`.
    pub fn new(
        options: ValidDiffusionOptions,
        distances: Vec<KeptDistances>,
        maps: &[DiffusionMap],
        pictures: Vec<Embedding>,
    ) -> Self {
        let sheets = distances
            .into_iter()
            .zip(maps)
            .zip(pictures)
            .map(|((distances, map), picture)| Sheet {
                distances,
                epsilon: map.epsilon(),
                picture,
                sketch: None,
            })
            .collect();
        Self { options, sheets }
    }

    /// Computes the maps of some layers. Maps that are not sketches are equal, to the last bit, to the maps
    /// of a run with the same options. The picture of each map is rotated onto the run's picture of the
    /// layer, so that pictures do not flip.
    ///
    /// # Errors
    /// [`Error::Usage`] if a layer does not exist or an option is out of range; those of
    /// [`KeptDistances::diffusion_map`], [`KeptDistances::sketch`], [`KeptDistances::eigenvalues`] and
    /// [`align_onto`].
    pub fn maps(&mut self, options: &MapOptions) -> Result<Vec<LayerMap>> {
        if !(options.bandwidth.is_finite() && options.bandwidth > 0.0) {
            return Err(Error::Usage(format!(
                "bandwidth is {} times that of the run, but must be above 0",
                options.bandwidth
            )));
        }
        let base =
            DiffusionOptions { density: options.density, time: options.time, ..self.options.options() };
        let n_layers = self.sheets.len();
        let map = |layer: &usize| {
            let sheet = self.sheets.get_mut(*layer).ok_or_else(|| {
                Error::Usage(format!("there is no layer {layer}: the maps are of {n_layers} layers"))
            })?;
            let bandwidth = Some(options.bandwidth * sheet.epsilon);
            sheet.map(*layer, &DiffusionOptions { bandwidth, ..base }.check()?, options)
        };
        options.layers.iter().map(map).collect()
    }
}

impl Sheet {
    fn map(&mut self, layer: usize, valid: &ValidDiffusionOptions, options: &MapOptions) -> Result<LayerMap> {
        let map = if options.sketch {
            let sketch = self.distances.sketch(layer, valid, self.sketch.take())?;
            self.sketch.insert(sketch).map().clone()
        } else {
            self.distances.diffusion_map(layer, valid)?
        };
        let eigenvalues = match options.eigenvalues {
            Some(count) if !options.sketch => self.distances.eigenvalues(layer, valid, count.clamp(2, 64))?,
            _ => map.eigenvalues().to_vec(),
        };
        let picture = align_onto(map.embedding(), &self.picture, layer)?;
        Ok(LayerMap { layer, map, picture, eigenvalues })
    }
}
