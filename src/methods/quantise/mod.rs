//! Rounding of a new model's matrices to the grids in which they are packed, by what their inputs are on the calibration
//! text.
//!
//! One walk goes over the layers that an operator has made. Each layer is run as it is before it is rounded, on the states
//! that the layers before it made as they are rounded, and what its products read is gathered. Its matrices are rounded one
//! after the other, and the rounded layer makes the states for the next. One layer is in memory at a time, with the Gram
//! matrices of what its products read, as many at a time as the memory for fits holds; and the rounded matrices of all
//! layers, as small as the files will hold them.

mod awq;
mod folds;
mod gptq;
mod inputs;
pub mod smoothquant;

use self::inputs::Inputs;
use super::Resources;
use super::importances::weighted;
use super::work::{Task, Work};
use crate::Result;
use crate::format::packed::{Rounded, Scheme};
use crate::format::stored::Stored;
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::model::config::LayerKind;
use crate::model::importances::Importances;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::record::Record;
use crate::model::tensors::Role;
use crate::model::weights::fetch::read_new;
use crate::model::weights::new_layer::{NewLayer, RoundedMatrix};
use crate::model::weights::storage::Rounding;
use crate::model::{Config, Model};
use crate::plan::Operator;
use crate::protocol::events::{Stage, Unit};
use crate::protocol::options::WriteOptions;

/// Layers of a new model as they will be written.
pub struct Finished {
    /// Layers.
    pub layers: Vec<NewLayer>,
    /// Importances of the columns of their matrices; `None` if no layer is encoded by any.
    pub importances: Option<Importances>,
    /// Whether matrices were rounded by what their inputs are.
    pub is_quantised: bool,
    /// Remarks to the reader, in sentences.
    pub remarks: Vec<String>,
}

/// Layers whose matrices are rounded.
pub struct Quantised {
    /// Layers.
    pub layers: Vec<NewLayer>,
    /// Remarks to the reader, in sentences.
    pub remarks: Vec<String>,
}

/// Makes `layers`, all layers of a new model, ready to be measured and written: gives them the importances that they are
/// encoded by, or rounds them, as the storage of `context` says.
///
/// # Errors
/// Those of [`weighted`] and [`quantised`].
pub async fn finished(
    context: &Context<'_>,
    resources: &Resources<'_>,
    layers: Vec<NewLayer>,
) -> Result<Finished> {
    let (layers, importances) = weighted(context, resources, layers).await?;
    let Quantised { layers, remarks } = quantised(context, resources, layers).await?;
    Ok(Finished { layers, importances, is_quantised: is_wanted(context), remarks })
}

fn is_wanted(context: &Context<'_>) -> bool {
    context.storage.pack.is_some() && context.storage.rounding != Rounding::Nearest
}

/// Rounds the matrices of `layers`, all layers of a new model, that the storage of `context` packs by what their inputs
/// are on its text. Layers that are rounded to the nearest stay what they are, and are rounded where they are read.
///
/// # Errors
/// [`Error::Numeric`](crate::Error::Numeric) if activations overflow, [`Error::Limit`](crate::Error::Limit) if there is no
/// memory; those of [`Runner::embed`], [`Runner::fetch`], [`Runner::upload`], [`Runner::forward`] and
/// [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn quantised(
    context: &Context<'_>,
    resources: &Resources<'_>,
    layers: Vec<NewLayer>,
) -> Result<Quantised> {
    let scheme = context.storage.pack.filter(|_| is_wanted(context));
    let Some(scheme) = scheme else { return Ok(Quantised { layers, remarks: Vec::new() }) };
    let Context { model, accelerator, sequences, storage, observer, .. } = *context;
    let record = Record::of_rows();
    let runner = Runner::new(model, accelerator, sequences.tokens())?.recording(record.clone());
    let mut states = runner.embed(sequences, storage).await?;
    let mut walk = Walk { context, resources, scheme, runner, record, remarks: Vec::new() };
    let total = layers.len() as u64;
    let mut rounded = Vec::with_capacity(layers.len());
    for (place, layer) in layers.into_iter().enumerate() {
        let detail = format!("{}, layer {} of {total}", storage.rounding, place + 1);
        observer.progress(Stage::Plan, place as u64, total, Unit::Layers, detail).await?;
        let layer = match storage.rounding {
            Rounding::Nearest => layer,
            Rounding::Gptq => gptq::layer(&mut walk, layer, &states).await?,
            Rounding::Awq => awq::layer(&mut walk, layer, &states).await?,
            Rounding::SmoothQuant => smoothquant::layer(&mut walk, layer, &states).await?,
        };
        if place as u64 + 1 < total {
            walk.record.record_rows_of(&[]);
            let fetched = walk.runner.fetch(&layer, storage)?.finish().await?;
            states = walk.runner.forward(&walk.runner.upload(fetched)?, &states).await?;
        }
        rounded.push(layer);
    }
    observer.progress(Stage::Plan, total, total, Unit::Layers, format!("{total} layers")).await?;
    Ok(Quantised { layers: rounded, remarks: walk.remarks })
}

/// Walk over the layers of a new model, which are rounded one after the other.
struct Walk<'a> {
    context: &'a Context<'a>,
    resources: &'a Resources<'a>,
    /// Grid of the matrices.
    scheme: Scheme,
    runner: Runner<'a>,
    /// Record of what products read.
    record: Record,
    remarks: Vec<String>,
}

impl Walk<'_> {
    fn config(&self) -> &Config {
        &self.context.model.config
    }

    /// Lists the inputs of the matrices of `layer` that are packed. Those of experts are not among them, which a remark
    /// says.
    fn inputs(&mut self, layer: &NewLayer) -> Result<Vec<Inputs>> {
        let kind = self.config().kind(layer.mix().survivor()?)?;
        if layer.all_experts(self.config())?.count() > 0 && Inputs::has_experts(kind) {
            let rounding = self.context.storage.rounding;
            self.remark(format!(
                "The matrices of experts are rounded to the nearest, and all others by {rounding}."
            ));
        }
        Ok(Inputs::of(self.config(), kind))
    }

    /// Makes a remark, if it is not made yet.
    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Reads `layer` as it is before it is rounded, and uploads it.
    async fn upload(&self, layer: &NewLayer) -> Result<DecoderLayer> {
        let storage = self.context.storage.before_rounding();
        self.runner.upload(self.runner.fetch(layer, storage)?.finish().await?)
    }

    /// Reads the matrix of `role` of `layer` as it is before it is rounded, with the rows in the order of the model's files.
    async fn read(&self, layer: &NewLayer, role: Role) -> Result<Stored> {
        let Context { model, storage, .. } = *self.context;
        let element = layer.element(model, role, storage.before_rounding())?;
        read_new(model, layer, role, element).await
    }

    fn packed(&self, stored: &Stored, rounded: Rounded) -> RoundedMatrix {
        RoundedMatrix::new(self.scheme, stored.element, rounded)
    }
}

/// Returns the work of rounding the matrices of a plan of `model` that is stored as `output` says, and of the model that it
/// is compared with.
pub fn work(task: &Task<'_>, model: &Model, output: &WriteOptions) -> Work {
    let storage = output.storage(model);
    let Some(scheme) = storage.pack.filter(|_| storage.rounding != Rounding::Nearest) else {
        return Work::default();
    };
    let n_layers = task.n_layers() - task.removed() as f64;
    let mut of_layer = Work::layers(1.0);
    // Layers are nearly alike.
    if let Some(kind) = model.config.layers.first() {
        let inputs = Inputs::of(&model.config, *kind);
        let (config, group) = (&model.config, scheme.group.unwrap_or(0));
        of_layer = of_layer
            + match storage.rounding {
                Rounding::Gptq => gptq::work(config, *kind, &inputs, task.fit_bytes),
                Rounding::Awq => awq::work(config, *kind, &inputs, group, task.fit_bytes),
                Rounding::Nearest | Rounding::SmoothQuant => Work::layers(1.0),
            };
        of_layer.bytes = match storage.rounding {
            Rounding::SmoothQuant => 0,
            _ => inputs::gram_bytes(&inputs, task.fit_bytes),
        };
    }
    let is_compared = task.removed() > 0 && task.options.operator != Operator::Drop;
    let models = if is_compared { 2 } else { 1 };
    of_layer.bytes += models * packed_bytes(model, scheme);
    of_layer.times(n_layers * models as f64)
}

/// Returns the bytes that the rounded matrices of a model that is packed in `scheme` take, of all layers.
fn packed_bytes(model: &Model, scheme: Scheme) -> u64 {
    let config = &model.config;
    let of_matrix = |shape: &[usize]| -> u64 {
        let [rows, columns] = shape else { return 0 };
        // Codes; and of each group a scale and a zero point.
        (rows * columns * scheme.bits as usize / 8 + 5 * rows * scheme.groups(*columns)) as u64
    };
    let of_layer = |kind: &LayerKind| -> u64 {
        let inputs = Inputs::of(config, *kind);
        inputs.iter().flat_map(|each| &each.roles).map(|role| of_matrix(&role.shape(config, *kind))).sum()
    };
    config.layers.iter().map(of_layer).sum()
}
