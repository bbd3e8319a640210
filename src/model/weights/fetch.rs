//! Reading of one layer's weights at a time from the files, with mixing if the layer is a merged one.

use futures::future::LocalBoxFuture;

use super::file_type::Place;
use super::new_experts::{ExpertPart, NewExperts};
use super::new_layer::NewLayer;
use super::storage::{LayerStorage, Storage};
use super::whole::Reads;
use crate::Result;
use crate::error::OrInternal;
use crate::format::element::{Element, check_finite, decode, encode, encode_weighted};
use crate::format::packed::{Rounded, Scheme, round_to_nearest};
use crate::format::stored::Stored;
use crate::kernels::threads;
use crate::maths::mix::{Accumulator, Mix};
use crate::model::architectures::Scaling;
use crate::model::config::LayerKind;
use crate::model::open::{Model, TensorEntry};
use crate::model::tensors::{Role, TensorId};

/// Tensors of one layer, and what the layer does that its tensors do not say.
#[derive(Clone)]
pub struct LayerTensors {
    /// Tensors by role, encoded as they are stored, as the arithmetic reads them
    /// ([`Form::read`](crate::model::binding::Form::read)).
    pub tensors: Vec<(Role, Stored)>,
    /// What tells the layer apart from others.
    pub kind: LayerKind,
    /// Experts of the layer; none if it has an MLP.
    pub experts: NewExperts,
    /// How the layer is stored, and with it its experts.
    pub stored: LayerStorage,
    /// Whether later layers read its keys and values.
    pub keys_are_read: bool,
    /// What the layer's own input is made of, if it has one.
    pub input: Option<InputSource>,
}

/// What the input of a layer is made of besides the tensors of the layer.
#[derive(Clone)]
pub struct InputSource {
    /// Layers of the original whose embeddings of tokens are those of this layer, and their weights.
    pub mix: Mix,
    /// Element type in which these embeddings are stored.
    pub element: Element,
    /// Weights of the norm that the inputs of all layers share.
    pub norm: Vec<f32>,
}

/// Values of a matrix that are mixed at a time, in whole rows.
const MIXED_VALUES: u64 = 4 << 20;

/// Rows of a matrix that a thread rounds at a time.
const ROUNDED_ROWS: usize = 64;

/// A tensor whose read has begun: its role, its entry and the future of its bytes.
type EarlyRead<'a> = (Role, &'a TensorEntry, LocalBoxFuture<'static, Result<Vec<u8>>>);

/// A layer whose weights are being read.
///
/// [`start`](LayerFetch::start) begins to read the tensors that are copied from an original layer, so that
/// they arrive while the layer before is multiplied. [`finish`](LayerFetch::finish) reads merged tensors one
/// after the other, because the parts of a merged layer together are as large as several layers.
pub struct LayerFetch<'a> {
    model: &'a Model,
    layer: NewLayer,
    storage: Storage,
    early: Vec<EarlyRead<'a>>,
}

impl<'a> LayerFetch<'a> {
    /// Begins to read `layer`. The weights will have the element types of `storage`, so that the arithmetic
    /// sees the values that a file would hold.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if the model lacks a tensor, [`Error::Limit`](crate::Error::Limit) if a tensor does not fit in the
    /// address space.
    pub fn start(model: &'a Model, layer: &NewLayer, storage: Storage) -> Result<Self> {
        let mut early = Vec::new();
        for role in roles(model, layer)? {
            if let Some(index) = layer.copied_from(role, &model.config) {
                let entry = model.entry(TensorId::Layer(index, role))?;
                early.push((role, entry, Reads::default().start(model, entry)?));
            }
        }
        Ok(Self { model, layer: layer.clone(), storage, early })
    }

    /// Waits for the copied tensors, reads and mixes the merged ones, and returns all required tensors of the
    /// layer.
    ///
    /// # Errors
    /// - [`Error::Source`](crate::Error::Source) if a read fails;
    /// - [`Error::Numeric`](crate::Error::Numeric), naming the tensor, for a weight that is NaN or infinite;
    /// - [`Error::Format`](crate::Error::Format) if the model lacks a tensor;
    /// - those of [`in_type`], [`on_grid`], [`Form::read`](crate::model::binding::Form::read) and [`read_new`].
    pub async fn finish(self) -> Result<LayerTensors> {
        let Self { model, layer, storage, early } = self;
        let mut tensors = Vec::new();
        for (role, entry, bytes) in early {
            let bytes = bytes.await?;
            check_finite(&entry.name, entry.element, &bytes)?;
            let stored = Stored { element: entry.element, bytes };
            let element = layer.element(model, role, storage)?;
            let stored = match stored.element == element {
                true => stored,
                false => {
                    let importances = layer.importances(&model.config, model.container(), role, None)?;
                    in_type_weighted(&entry.name, stored, element, importances.as_deref())?
                }
            };
            let stored = on_grid(model, storage, (entry.id, false), stored)?;
            tensors.push((role, as_read(model, role, stored)?));
        }
        for role in roles(model, &layer)? {
            if let Some(matrix) = layer.packed(role) {
                let shape = role.shape(&model.config, kind(model, &layer)?);
                let stored = matrix.weights(shape.get(1).copied().unwrap_or(1)).await?;
                tensors.push((role, as_read(model, role, stored)?));
                continue;
            }
            if layer.copied_from(role, &model.config).is_none() {
                let element = layer.element(model, role, storage)?;
                let stored = read_new(model, &layer, role, element).await?;
                let first = layer.mix_of(role)?.parts().first().map_or(0, |(layer, _)| *layer);
                let stored = on_grid(model, storage, (TensorId::Layer(first, role), true), stored)?;
                tensors.push((role, as_read(model, role, stored)?));
            }
        }
        let experts = layer.all_experts(&model.config)?;
        let stored = LayerStorage {
            storage,
            place: layer.place(&model.config, storage)?,
            importances: layer.all_importances().cloned(),
            rounds_inputs: rounds_inputs(model, &layer, &experts, storage)?,
        };
        let kind = kind(model, &layer)?;
        // A layer in whose place the owner went is the last of its kind that has keys.
        let owners = model.config.owners();
        let is_read =
            |each: &usize| owners.contains(each) && model.config.owner(kind.key_place()) == Some(*each);
        let keys_are_read = !kind.shares_keys && layer.replaced_layers().iter().any(is_read);
        let input = match model.config.layer_input {
            Some(_) => Some(InputSource {
                mix: layer.mix().clone(),
                element: input_element(model, layer.mix().unchanged().is_none(), storage)?,
                norm: read_whole(model, TensorId::InputNorm).await?,
            }),
            None => None,
        };
        Ok(LayerTensors { tensors, kind, experts, stored, keys_are_read, input })
    }
}

/// Returns the roles of the matrices of `layer` and of its `experts` of which what they multiply is rounded to 8 bits.
fn rounds_inputs(
    model: &Model,
    layer: &NewLayer,
    experts: &NewExperts,
    storage: Storage,
) -> Result<Vec<Role>> {
    let mut rounds = Vec::new();
    for role in roles(model, layer)? {
        let first = layer.mix_of(role)?.parts().first().map_or(0, |(layer, _)| *layer);
        if storage.rounds_inputs(model, TensorId::Layer(first, role)) {
            rounds.push(role);
        }
    }
    if let Some(ExpertPart { layer, expert, .. }) = experts.all().first().and_then(|parts| parts.first()) {
        let of_expert = Role::of_expert(model.config.architecture).iter().copied();
        rounds.extend(
            of_expert.filter(|role| storage.rounds_inputs(model, TensorId::Expert(*layer, *expert, *role))),
        );
    }
    Ok(rounds)
}

/// Returns the element type in which the embeddings of tokens for layers are stored, mixed if `mixed`: those of a layer
/// are a whole number of blocks.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the model lacks the tensor.
pub fn input_element(model: &Model, mixed: bool, storage: Storage) -> Result<Element> {
    let entry = model.entry(TensorId::InputEmbedding)?;
    let width = model.config.layer_input.unwrap_or(1) as u64;
    Ok(storage.element(model, entry.id, entry.element, mixed, Place::default()).fitting(width))
}

/// Returns what tells `layer` apart: all layers that a layer is made of are of one kind.
fn kind(model: &Model, layer: &NewLayer) -> Result<LayerKind> {
    let (first, _) = layer.mix().parts().first().or_internal("a layer is made of no layers")?;
    model.config.kind(*first)
}

/// Returns the roles that `layer` must have, experts aside.
fn roles(model: &Model, layer: &NewLayer) -> Result<Vec<Role>> {
    Ok(Role::required(&model.config, kind(model, layer)?))
}

/// An expert whose tensors are being read, in the order of [`Role::of_expert`].
pub struct ExpertFetch<'a>(Vec<ProjectionFetch<'a>>, &'a Model, Storage);

/// A part of a tensor whose read has begun: its weight, its entry and the future of its bytes.
type PartRead<'a> = (f64, &'a TensorEntry, LocalBoxFuture<'static, Result<Vec<u8>>>);

/// A tensor of an expert that is being read: each of its parts with its weight, and the element type of their sum.
struct ProjectionFetch<'a> {
    element: Element,
    parts: Vec<PartRead<'a>>,
    /// Importances of the columns by which the sum is encoded, if it is by any.
    importances: Option<Vec<f32>>,
}

impl<'a> ExpertFetch<'a> {
    /// Begins to read expert `e` of `experts`. The weights will be stored as `stored` says.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if the model lacks a tensor, [`Error::Limit`](crate::Error::Limit) if a tensor
    /// does not fit in the address space.
    pub fn start(model: &'a Model, experts: &NewExperts, e: usize, stored: &LayerStorage) -> Result<Self> {
        // Files may hold several tensors of an expert in one piece, which is read once.
        let mut reads = Reads::default();
        let read = |role: &Role| {
            let element = expert_element(model, experts, e, *role, stored.storage, stored.place)?;
            let importances = stored.importances.as_ref().and_then(|all| all.means(*role, Some(e)));
            ProjectionFetch::start(
                model,
                experts,
                e,
                *role,
                element,
                importances.map(<[f32]>::to_vec),
                &mut reads,
            )
        };
        let tensors = Role::of_expert(model.config.architecture).iter().map(read).collect::<Result<_>>()?;
        Ok(Self(tensors, model, stored.storage))
    }

    /// Waits for the tensors.
    ///
    /// # Errors
    /// [`Error::Source`](crate::Error::Source) if a read fails; [`Error::Numeric`](crate::Error::Numeric), naming the tensor, for a weight that is NaN or infinite;
    /// those of [`in_type`], [`on_grid`] and [`encode`].
    pub async fn finish(self) -> Result<Vec<Stored>> {
        let Self(fetched, model, storage) = self;
        let mut tensors = Vec::with_capacity(fetched.len());
        for tensor in fetched {
            let first = tensor.parts.first().map(|(_, entry, _)| entry.id);
            let first = first.or_internal("an expert has no parts")?;
            let is_mixed = tensor.parts.len() > 1;
            let stored = tensor.finish().await?;
            tensors.push(on_grid(model, storage, (first, is_mixed), stored)?);
        }
        Ok(tensors)
    }
}

impl<'a> ProjectionFetch<'a> {
    fn start(
        model: &'a Model,
        experts: &NewExperts,
        e: usize,
        role: Role,
        element: Element,
        importances: Option<Vec<f32>>,
        reads: &mut Reads,
    ) -> Result<Self> {
        let read = |part: &ExpertPart| {
            let entry = model.entry(TensorId::Expert(part.layer, part.expert, role))?;
            Ok((part.weight, entry, reads.start(model, entry)?))
        };
        let parts = experts.parts(e)?.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { element, parts, importances })
    }

    async fn finish(self) -> Result<Stored> {
        let Self { element, parts, importances } = self;
        let is_copy = parts.len() == 1;
        let mut mixed = None;
        for (weight, entry, bytes) in parts {
            let stored = Stored { element: entry.element, bytes: bytes.await? };
            check_finite(&entry.name, stored.element, &stored.bytes)?;
            if is_copy {
                return in_type_weighted(&entry.name, stored, element, importances.as_deref());
            }
            let (_, sum) = mixed.get_or_insert_with(|| (entry, Accumulator::default()));
            sum.add(&entry.name, weight, stored.to_f32()?)?;
        }
        let (entry, sum) = mixed.or_internal("an expert has no parts")?;
        let encoded = encode_weighted(element, &sum.finish()?, importances.as_deref());
        let bytes = encoded.map_err(|e| e.in_tensor(&entry.name))?;
        Ok(Stored { element, bytes })
    }
}

/// Returns the element type of the tensor `role` of expert `e` of `experts`, as `storage` stores it in the layer at `place`: that of the
/// original, or, where experts of a layer are mixed or come from several layers, the widest of all, because files of some
/// kinds hold all experts of a layer in one tensor.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the model lacks a tensor, [`Error::Internal`](crate::Error::Internal) if there is no such expert.
pub fn expert_element(
    model: &Model,
    experts: &NewExperts,
    e: usize,
    role: Role,
    storage: Storage,
    place: Place,
) -> Result<Element> {
    let are_copies = experts.are_copies();
    let of_one = experts.parts(e)?;
    let parts: Vec<&ExpertPart> =
        if are_copies { of_one.iter().collect() } else { experts.all().iter().flatten().collect() };
    let mut widest: Option<(TensorId, Element)> = None;
    for part in parts {
        let entry = model.entry(TensorId::Expert(part.layer, part.expert, role))?;
        widest = Some(widest.map_or((entry.id, entry.element), |(id, wide)| (id, wide.wider(entry.element))));
    }
    let (id, widest) = widest.or_internal("an expert has no parts")?;
    Ok(storage.element(model, id, widest, !are_copies, place))
}

/// Reads the tensor `role` of expert `e` of `experts`, stored as `element` and encoded by the `importances` of its columns
/// if given. Reads of bytes that several tensors share begin in `reads`.
///
/// # Errors
/// Those of [`ExpertFetch::start`] and [`ExpertFetch::finish`].
pub async fn read_expert(
    model: &Model,
    experts: &NewExperts,
    e: usize,
    role: Role,
    element: Element,
    importances: Option<Vec<f32>>,
    reads: &mut Reads,
) -> Result<Stored> {
    ProjectionFetch::start(model, experts, e, role, element, importances, reads)?.finish().await
}

/// Reads the rows that score `experts` out of the routers of their layers, or out of the biases of the routers, as
/// `role` says, mixes them as the experts are mixed, and encodes them as `element`.
async fn read_router(model: &Model, experts: &NewExperts, role: Role, element: Element) -> Result<Stored> {
    let layers = experts.layers();
    let first = layers.first().or_internal("experts are of no layer")?;
    // A bias has one number for each expert.
    let width = role.shape(&model.config, model.config.kind(*first)?).get(1).copied().unwrap_or(1);
    let mut routers = Vec::new();
    for layer in layers {
        routers.push((layer, read_f32(model, layer, role).await?));
    }
    let mut values = Vec::with_capacity(experts.count() * width);
    for parts in experts.all() {
        let mut sum = Accumulator::default();
        for part in parts {
            let router = routers.iter().find(|(layer, _)| *layer == part.layer);
            let row = router.and_then(|(_, rows)| rows.chunks(width.max(1)).nth(part.expert));
            let row = row.or_internal("a router has no row for an expert")?;
            sum.add("of a router", part.weight, row.to_vec())?;
        }
        values.extend(sum.finish()?);
    }
    let bytes = encode(element, &values)?;
    Ok(Stored { element, bytes })
}

/// Reads the number by which layer `layer` of the original multiplies the stream; 1 where layers have none.
///
/// # Errors
/// Those of [`read_f32`].
pub async fn scale_of(model: &Model, layer: usize) -> Result<f64> {
    if model.config.architecture.scaling != Scaling::Layers {
        return Ok(1.0);
    }
    let scale = read_f32(model, layer, Role::LayerScale).await?;
    scale.first().copied().map(f64::from).or_internal("a layer has no scale")
}

/// Reads the numbers by which the stream is multiplied after the layers that `layer` takes the place of, and encodes their
/// product as `element`.
async fn read_scale(model: &Model, layer: &NewLayer, element: Element) -> Result<Stored> {
    let mut product = 1.0f64;
    for each in layer.replaced_layers() {
        product *= scale_of(model, each).await?;
    }
    let bytes = encode(element, &[product as f32])?;
    Ok(Stored { element, bytes })
}

/// Reads the parts of one tensor of `layer`, mixes them and encodes the sum as `element`, with the rows in
/// the order of the model's files, by the importances of `layer` if it has any. A computed tensor is converted to `element`
/// instead.
///
/// # Errors
/// Those of [`read_rows`], [`Accumulator::add`], [`in_type`] and [`encode`].
pub async fn read_new(model: &Model, layer: &NewLayer, role: Role, element: Element) -> Result<Stored> {
    if let Some(stored) = layer.replaced(role) {
        return in_type(&describe(model, layer, role), stored.read().await?, element);
    }
    if let Some(experts) = layer.experts().filter(|_| role.has_row_per_expert()) {
        return read_router(model, experts, role, element).await;
    }
    if role == Role::LayerScale {
        return read_scale(model, layer, element).await;
    }
    let kind = kind(model, layer)?;
    let shape: Vec<u64> = role.shape(&model.config, kind).iter().map(|n| *n as u64).collect();
    let (rows, width) = (shape.first().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(1));
    // A vector is mixed whole, a matrix a few rows at a time: in f32 a matrix is as large as a layer.
    let piece = if shape.len() < 2 { rows } else { (MIXED_VALUES / width.max(1)).max(1) };
    let factor = layer.factor(role, &model.config);
    let form = model.form(TensorId::Layer(0, role));
    let mixed = form.mixed(role);
    let mix = layer.mix_of(role)?;
    let importances = layer.importances(&model.config, model.container(), role, None)?;
    let mut reads = Reads::default();
    let mut bytes = Vec::new();
    let mut first = 0;
    while first < rows {
        let count = piece.min(rows - first);
        let mut sum = Accumulator::default();
        for (part, weight) in mix.parts() {
            let id = TensorId::Layer(*part, role);
            let read = RowsFetch::start_among(&mut reads, model, id, first, count)?;
            let stored = form.change(read.finish().await?, mixed)?;
            sum.add(&model.describe(id), weight * factor, stored.to_f32()?)?;
        }
        let values = mixed.change(Stored::from_f32(&sum.finish()?), form)?.to_f32()?;
        let encoded = encode_weighted(element, &values, importances.as_deref());
        bytes.extend(encoded.map_err(|e| e.in_tensor(&describe(model, layer, role)))?);
        first += count;
    }
    Ok(Stored { element, bytes })
}

fn describe(model: &Model, layer: &NewLayer, role: Role) -> String {
    let layer = layer.mix().parts().first().map_or(0, |(layer, _)| *layer);
    model.describe(TensorId::Layer(layer, role))
}

/// Converts `stored` to `element`; a tensor of this type already is returned unchanged.
///
/// # Errors
/// Those of [`decode`] and [`encode`], naming `tensor`.
pub fn in_type(tensor: &str, stored: Stored, element: Element) -> Result<Stored> {
    in_type_weighted(tensor, stored, element, None)
}

/// Converts `stored` to `element` as [`in_type`] does, by the importances of its columns if given.
///
/// # Errors
/// Those of [`decode`] and [`encode_weighted`], naming `tensor`.
pub fn in_type_weighted(
    tensor: &str,
    stored: Stored,
    element: Element,
    importances: Option<&[f32]>,
) -> Result<Stored> {
    if stored.element == element {
        return Ok(stored);
    }
    let values = decode(tensor, stored.element, &stored.bytes)?;
    let bytes = encode_weighted(element, &values, importances).map_err(|e| e.in_tensor(tensor))?;
    Ok(Stored { element, bytes })
}

/// Rounds the weights of a tensor that comes of tensor `id` as packed files will hold them, if `storage` packs it and it is
/// not there already: where it is computed, which the second of the pair says, or where all tensors are packed anew.
///
/// # Errors
/// Those of [`round_rows`] and [`Scheme::weights`](crate::format::packed::Scheme::weights).
fn on_grid(
    model: &Model,
    storage: Storage,
    (id, is_computed): (TensorId, bool),
    stored: Stored,
) -> Result<Stored> {
    let scheme = storage.scheme(model, id).filter(|_| is_computed || storage.pack.is_some());
    let Some(scheme) = scheme else { return Ok(stored) };
    let columns = id.shape(&model.config).get(1).map_or(1, |n| *n as usize);
    let rounded = round_rows(scheme, columns, &stored).map_err(|e| e.in_tensor(&model.describe(id)))?;
    Ok(Stored { bytes: scheme.weights(stored.element, columns, &rounded)?, ..stored })
}

/// Rounds a matrix `[rows, columns]` to the grid of `scheme`, with scales of its element type.
///
/// # Errors
/// Those of [`round_to_nearest`].
pub fn round_rows(scheme: Scheme, columns: usize, stored: &Stored) -> Result<Rounded> {
    let rows = stored.len() / columns.max(1);
    let pieces = threads::map_all(rows.div_ceil(ROUNDED_ROWS), |number| {
        let first = number * ROUNDED_ROWS;
        let values = stored.rows(first, ROUNDED_ROWS.min(rows - first), columns)?;
        round_to_nearest(scheme, stored.element, columns, &values)
    });
    Rounded::stack(pieces)
}

fn as_read(model: &Model, role: Role, stored: Stored) -> Result<Stored> {
    model.form(TensorId::Layer(0, role)).read(stored)
}

/// Rows of a tensor that are being read.
pub struct RowsFetch<'a> {
    entry: &'a TensorEntry,
    /// Element type in which the rows are stored in the new model.
    element: Element,
    bytes: LocalBoxFuture<'static, Result<Vec<u8>>>,
}

impl<'a> RowsFetch<'a> {
    /// Begins to read rows `first .. first + count` of a `[rows, columns]` tensor.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if the model lacks the tensor, [`Error::Shape`](crate::Error::Shape) if the tensor has fewer than
    /// `first + count` rows.
    pub fn start(model: &'a Model, id: TensorId, first: u64, count: u64) -> Result<Self> {
        Self::start_among(&mut Reads::default(), model, id, first, count)
    }

    /// Begins to read the rows as [`start`](Self::start) does; reads of bytes that other rows share begin in `reads`.
    fn start_among(
        reads: &mut Reads,
        model: &'a Model,
        id: TensorId,
        first: u64,
        count: u64,
    ) -> Result<Self> {
        let entry = model.entry(id)?;
        Ok(Self { entry, element: entry.element, bytes: reads.rows(model, entry, first, count)? })
    }

    /// Asks for the values that the rows have when they are stored as `element`.
    #[must_use]
    pub fn stored_as(self, element: Element) -> Self {
        Self { element, ..self }
    }

    /// Waits for the rows and checks that they are finite.
    ///
    /// # Errors
    /// [`Error::Source`](crate::Error::Source) if the read fails, and those of [`check_finite`] and [`in_type`].
    pub async fn finish(self) -> Result<Stored> {
        let bytes = self.bytes.await?;
        check_finite(&self.entry.name, self.entry.element, &bytes)?;
        in_type(&self.entry.name, Stored { element: self.entry.element, bytes }, self.element)
    }
}

/// Reads rows `first .. first + count` of a `[rows, columns]` tensor.
///
/// # Errors
/// Those of [`RowsFetch::start`] and [`RowsFetch::finish`].
pub async fn read_rows(model: &Model, id: TensorId, first: u64, count: u64) -> Result<Stored> {
    RowsFetch::start(model, id, first, count)?.finish().await
}

/// Reads a whole small tensor, such as a norm, in `f32`, as the arithmetic reads it.
///
/// # Errors
/// Those of [`Model::entry`], [`Reads::start`], [`check_finite`] and
/// [`Form::read`](crate::model::binding::Form::read).
pub async fn read_whole(model: &Model, id: TensorId) -> Result<Vec<f32>> {
    let entry = model.entry(id)?;
    let bytes = Reads::default().start(model, entry)?.await?;
    check_finite(&entry.name, entry.element, &bytes)?;
    model.form(id).read(Stored { element: entry.element, bytes })?.to_f32()
}

/// Reads a whole tensor of one layer in `f32`, as the arithmetic reads it.
///
/// # Errors
/// Those of [`Model::entry`], [`Reads::start`], [`check_finite`] and
/// [`Form::read`](crate::model::binding::Form::read).
pub async fn read_f32(model: &Model, layer: usize, role: Role) -> Result<Vec<f32>> {
    let entry = model.entry(TensorId::Layer(layer, role))?;
    let bytes = Reads::default().start(model, entry)?.await?;
    check_finite(&entry.name, entry.element, &bytes)?;
    as_read(model, role, Stored { element: entry.element, bytes })?.to_f32()
}
