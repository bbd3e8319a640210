//! Rounding of a new model's matrices to the grids in which they are packed or encoded, by what their inputs are on the
//! calibration text.
//!
//! One walk goes over the layers that an operator has made. Each layer is run as it is before it is rounded, on the states
//! that the layers before it made as they are rounded, and what its products read is gathered. Its matrices are rounded one
//! after the other, and the rounded layer makes the states for the next. One layer is in memory at a time, with the Gram
//! matrices of what its products read, as many at a time as the memory for fits holds; and the rounded matrices of all
//! layers, as small as the files will hold them.
//!
//! Of matrices in the blocks of GGUF files, the scales are those that encoding by importances finds, and the codes are
//! rounded by inputs. Both models are then measured on held-out text, and the better one stays ([`Finished::better`]).

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
use crate::error::OrInternal;
use crate::evaluate::reference::Reference;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::format::packed::{Rounded, Scheme};
use crate::format::stored::Stored;
use crate::forward::context::Context;
use crate::forward::runner::Runner;
use crate::model::config::LayerKind;
use crate::model::importances::Importances;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::record::Record;
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::fetch::read_new;
use crate::model::weights::file_type::Place;
use crate::model::weights::new_layer::{NewLayer, RoundedMatrix};
use crate::model::weights::storage::{Rounding, Storage};
use crate::model::{Config, Model};
use crate::plan::Operator;
use crate::protocol::events::{Stage, Unit};
use crate::protocol::options::WriteOptions;
use crate::quality::Scores;

/// Layers of a new model as they can be written.
pub struct Finished {
    /// Layers.
    pub layers: Vec<NewLayer>,
    /// The same layers with the matrices that are encoded in blocks rounded by what their inputs are, if they are; what is
    /// better has to be measured.
    pub rounded: Option<Vec<NewLayer>>,
    /// Importances of the columns of their matrices; `None` if no layer is encoded by any.
    pub importances: Option<Importances>,
    /// Whether matrices were rounded by what their inputs are.
    pub is_quantised: bool,
    /// Remarks to the reader, in sentences.
    pub remarks: Vec<String>,
}

/// Layers of a new model as they will be written.
pub struct Chosen {
    /// Layers.
    pub layers: Vec<NewLayer>,
    /// Importances of the columns of their matrices; `None` if no layer is encoded by any.
    pub importances: Option<Importances>,
    /// Whether matrices of them were rounded by what their inputs are.
    pub is_quantised: bool,
    /// Scores of the model, if it was measured to choose it.
    pub scores: Option<Scores>,
    /// Remarks to the reader, in sentences.
    pub remarks: Vec<String>,
}

impl Finished {
    /// Chooses the layers that are rounded by what their inputs are, if there are such.
    pub fn by_inputs(self) -> Chosen {
        let Self { layers, rounded, importances, is_quantised, remarks } = self;
        Chosen { layers: rounded.unwrap_or(layers), importances, is_quantised, scores: None, remarks }
    }

    /// Chooses between the layers whose blocks are rounded by what their inputs are and the plain ones: those with which the
    /// model diverges less from the original on the text of `reference`, which should be another than that of the inputs. A
    /// remark says both divergences. Where there is no choice, nothing is measured.
    ///
    /// # Errors
    /// Those of [`Reference::scores_of_all`].
    pub async fn better(self, reference: &Reference<'_>) -> Result<Chosen> {
        let Self { layers, rounded, importances, is_quantised, mut remarks } = self;
        let Some(rounded) = rounded else {
            return Ok(Chosen { layers, importances, is_quantised, scores: None, remarks });
        };
        let [plain, by_inputs] = reference.scores_of_all([layers.clone(), rounded.clone()]).await?;
        let kl = |scores: &Scores| scores.mean_kl().unwrap_or(f64::INFINITY);
        // Anything is better than no number.
        let is_better = kl(&by_inputs) < kl(&plain) || !kl(&plain).is_finite();
        let rounding = reference.context().storage.rounding;
        let kept = if is_better { "the first is kept" } else { "the second is kept" };
        remarks.push(format!(
            "Rounded by {rounding}, the model has a KL divergence of {:.4} from the original; with the same scales and each \
             weight rounded to the nearest, {:.4}: {kept}.",
            kl(&by_inputs),
            kl(&plain)
        ));
        let (layers, scores) = if is_better { (rounded, by_inputs) } else { (layers, plain) };
        Ok(Chosen { layers, importances, is_quantised: is_better, scores: Some(scores), remarks })
    }
}

impl Chosen {
    /// Returns the scores of the model on the text of `reference`, on which it was chosen, measured now if they are not yet.
    ///
    /// # Errors
    /// Those of [`Reference::scores_of`].
    pub async fn scores_on(&self, reference: &Reference<'_>) -> Result<Scores> {
        match &self.scores {
            Some(scores) => Ok(scores.clone()),
            None => reference.scores_of(self.layers.clone()).await,
        }
    }
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
    let is_quantised = is_wanted(context.storage);
    if !context.storage.rounds_blocks() {
        let Quantised { layers, remarks } = quantised(context, resources, layers).await?;
        return Ok(Finished { layers, rounded: None, importances, is_quantised, remarks });
    }
    let Quantised { layers: rounded, remarks } = quantised(context, resources, layers.clone()).await?;
    let layers = layers.into_iter().map(|layer| layer.with_exact(Vec::new())).collect();
    Ok(Finished { layers, rounded: Some(rounded), importances, is_quantised, remarks })
}

fn is_wanted(storage: Storage) -> bool {
    storage.rounds_blocks() || storage.pack.is_some() && storage.rounding != Rounding::Nearest
}

/// Rounds the matrices of `layers`, all layers of a new model, that the storage of `context` packs, or encodes in blocks, by
/// what their inputs are on its text. Layers that are rounded to the nearest stay what they are, and are rounded where they are read.
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
    if !is_wanted(context.storage) {
        return Ok(Quantised { layers, remarks: Vec::new() });
    }
    let scheme = context.storage.pack;
    let layers = context.storage.placed(&context.model.config, &layers)?.into_owned();
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
        rounded.push(resources.spilled(layer.with_exact(Vec::new())).await);
    }
    observer.progress(Stage::Plan, total, total, Unit::Layers, format!("{total} layers")).await?;
    Ok(Quantised { layers: rounded, remarks: walk.remarks })
}

/// Walk over the layers of a new model, which are rounded one after the other.
struct Walk<'a> {
    context: &'a Context<'a>,
    resources: &'a Resources<'a>,
    /// Grid of the matrices, if they are packed.
    scheme: Option<Scheme>,
    runner: Runner<'a>,
    /// Record of what products read.
    record: Record,
    remarks: Vec<String>,
}

/// What a matrix is rounded to.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// The grid in which it is packed.
    Scheme(Scheme),
    /// The grids of the blocks in which it is encoded.
    Block(BlockType),
}

impl Walk<'_> {
    fn scheme(&self) -> Result<Scheme> {
        self.scheme.or_internal("matrices are packed in no scheme")
    }

    /// Returns what the matrix of `role` of `layer` is rounded to; `None` if it is copied, or stored in floats.
    fn target(&self, layer: &NewLayer, role: Role) -> Result<Option<Target>> {
        if let Some(scheme) = self.scheme {
            return Ok(Some(Target::Scheme(scheme)));
        }
        let Context { model, storage, .. } = *self.context;
        let element = layer.element(model, role, storage)?;
        let Element::Block(block) = element else { return Ok(None) };
        let is_copied = match layer.copied_from(role, &model.config) {
            Some(from) => model.entry(TensorId::Layer(from, role))?.element == element,
            None => false,
        };
        Ok((!is_copied).then_some(Target::Block(block)))
    }

    /// Returns the importances by which the matrix of `role` of `layer` is encoded, if it is by any.
    fn importances(&self, layer: &NewLayer, role: Role) -> Result<Option<Vec<f32>>> {
        let model = self.context.model;
        layer.importances(&model.config, model.container(), role, None)
    }

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
        let storage = self.context.storage.exact();
        let layer = layer.clone().unencoded();
        self.runner.upload(self.runner.fetch(&layer, storage)?.finish().await?)
    }

    /// Reads the matrix of `role` of `layer` as it is before it is rounded, with the rows in the order of the model's files.
    async fn read(&self, layer: &NewLayer, role: Role) -> Result<Stored> {
        let Context { model, storage, .. } = *self.context;
        let layer = layer.clone().unencoded();
        let element = layer.element(model, role, storage.exact())?;
        read_new(model, &layer, role, element).await
    }

    fn packed(&self, scheme: Scheme, stored: &Stored, rounded: Rounded) -> RoundedMatrix {
        RoundedMatrix::new(scheme, stored.element, rounded)
    }
}

/// Returns the work of rounding the matrices of a plan of `model` that is stored as `output` says, and of the model that it
/// is compared with. Where blocks are rounded, the model is measured with them and without, on `judge_tokens` tokens.
pub fn work(task: &Task<'_>, model: &Model, output: &WriteOptions, judge_tokens: usize) -> Work {
    let storage = output.storage(model);
    if !is_wanted(storage) {
        return Work::default();
    }
    let is_packed = storage.pack.is_some();
    let n_layers = task.n_layers() - task.removed() as f64;
    let mut of_layer = Work::layers(1.0);
    // Layers are nearly alike.
    if let Some(kind) = model.config.layers.first() {
        let inputs = Inputs::of(&model.config, *kind);
        let (config, group) = (&model.config, storage.pack.and_then(|scheme| scheme.group).unwrap_or(0));
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
    // Of layers that wait elsewhere, the one that is rounded is in memory.
    let waiting =
        if task.spills { 1.0 } else { models as f64 * n_layers } / model.config.n_layers.max(1) as f64;
    of_layer.bytes += (waiting * rounded_bytes(model, storage) as f64) as u64;
    if !is_packed && task.options.operator.needs_activations() {
        // Fitted layers keep their numbers in F16 until they are rounded.
        let fitted = if task.spills { 1 } else { task.spans().len() as u64 };
        of_layer.bytes += 2 * model.config.held_parameters_per_layer() * fitted;
    }
    let rounding = of_layer.times(n_layers * models as f64);
    if is_packed {
        return rounding;
    }
    rounding + contest(task, judge_tokens)
}

/// Returns the work of choosing between rounded blocks and plain ones by measuring, besides that of measuring one of them.
fn contest(task: &Task<'_>, judge_tokens: usize) -> Work {
    let n_layers = task.n_layers() - task.removed() as f64;
    let operator = task.options.operator;
    let is_compared = task.removed() > 0 && operator != Operator::Drop;
    // One more model; and what it is compared with has the original's logits computed once more.
    let mut work = Work::layers(n_layers) + Work::heads(if is_compared { 2.0 } else { 1.0 });
    if !operator.needs_activations() {
        // Such a model is else measured on the calibration text: the original, the model, and what it is compared with.
        work = work + Work::layers(task.n_layers() + n_layers) + Work::heads(3.0);
        if is_compared {
            work = work + Work::layers(n_layers) + Work::heads(1.0);
        }
    }
    work.of_tokens(judge_tokens)
}

/// Returns the bytes that the rounded matrices of a model that is stored as `storage` says take, of all layers.
fn rounded_bytes(model: &Model, storage: Storage) -> u64 {
    let config = &model.config;
    let places = Place::of_all(config, &config.layers);
    let of_matrix = |layer: usize, kind: LayerKind, role: Role| -> u64 {
        let shape = role.shape(config, kind);
        let [rows, columns] = shape[..] else { return 0 };
        if let Some(scheme) = storage.pack {
            // Codes; and of each group a scale and a zero point.
            return (rows * columns * scheme.bits as usize / 8 + 5 * rows * scheme.groups(columns)) as u64;
        }
        let id = TensorId::Layer(layer, role);
        let Some(entry) = model.tensor(id) else { return 0 };
        let place = places.get(layer).copied().unwrap_or_default();
        let element = storage.element(model, id, entry.element, false, place);
        element.bytes((rows * columns) as u64).unwrap_or(0)
    };
    let of_layer = |(layer, kind): (usize, &LayerKind)| -> u64 {
        let inputs = Inputs::of(config, *kind);
        inputs.iter().flat_map(|each| &each.roles).map(|role| of_matrix(layer, *kind, *role)).sum()
    };
    config.layers.iter().enumerate().map(of_layer).sum()
}
