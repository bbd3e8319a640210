//! The maps of all layers, made again with other parameters from the distances that the similarity stage left.

use serde::{Deserialize, Serialize};

use crate::maths::manifold::{
    DiffusionMap, DiffusionOptions, Embedding, KeptDistances, Sketch, ValidDiffusionOptions, align_onto,
};
use crate::{Error, Result};

/// Distances of all layers together that are kept at most, in bytes: 32 layers of 1400 points. Memory of wasm
/// never shrinks, and what comes after needs it more.
const MAX_BYTES: u64 = 256 << 20;

/// Which maps are wanted, and with what parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapOptions {
    /// Layers, in the order in which the maps are to come.
    pub layers: Vec<usize>,
    /// Bandwidth of each layer, as a multiple > 0 of what the run used: its median, or the fixed one.
    pub bandwidth: f64,
    /// Density exponent in 0..=1.
    pub density: f64,
    /// Diffusion time, >= 0.
    pub time: f64,
    /// Whether maps that are exact enough for a picture will do. They come several times faster.
    pub sketch: bool,
    /// Leading eigenvalues of each map, if more are wanted than come with it; 2 to 64. Not for sketches.
    #[serde(default)]
    pub eigenvalues: Option<usize>,
}

/// The map of one layer with the parameters that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMap {
    /// The layer.
    pub layer: usize,
    /// The map as a run with these parameters makes it.
    pub map: DiffusionMap,
    /// The map turned onto the run's picture of the layer.
    pub picture: Embedding,
    /// `lambda_0` first.
    pub eigenvalues: Vec<f64>,
}

/// The maps of a run and what others are made from.
pub struct Atlas {
    options: ValidDiffusionOptions,
    sheets: Vec<Sheet>,
}

/// One layer.
struct Sheet {
    distances: KeptDistances,
    /// Bandwidth of the run.
    epsilon: f64,
    /// The run's map as its report shows it.
    picture: Embedding,
    sketch: Option<Sketch>,
}

impl Atlas {
    /// Bytes that the distances of so many points in so many layers take; `None` where that is too much, so that
    /// none are kept.
    pub fn bytes(n_layers: usize, n_points: usize) -> Option<u64> {
        KeptDistances::bytes(n_points).checked_mul(n_layers as u64).filter(|bytes| *bytes <= MAX_BYTES)
    }

    /// From the distances, maps and aligned maps of layers `0..`, all with the same options.
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

    /// The maps of some layers. Those that are no sketches are, to the last bit, what a run with these parameters
    /// gives; each is then turned onto the run's picture of its layer, so that pictures do not flip.
    ///
    /// # Errors
    /// [`Error::Usage`] for a layer that is not there or a parameter out of range; else as
    /// [`diffusion_map`](crate::maths::manifold::diffusion_map).
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
