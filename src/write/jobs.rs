//! The tensors of a compressed model: where each comes from and how it is stored.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::OrInternal;
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::{Element, encode};
use crate::format::packed::{Piece as PackedPiece, Scheme};
use crate::format::turns::MXFP4_WEIGHTS;
use crate::model::architectures::GgufHead;
use crate::model::binding::Form;
use crate::model::config::FeedForward;
use crate::model::open::{CarriedTensor, PieceEntry, TensorEntry};
use crate::model::rope::RopeScaling;
use crate::model::tensors::{Joined, MXFP4_ENDINGS, Role, TensorId, WEIGHT, piece_ending};
use crate::model::weights::fetch::{expert_element, input_element};
use crate::model::weights::new_experts::NewExperts;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::model::{Config, Model};
use crate::{Error, Result};

/// Source of the values of a tensor.
#[derive(Clone)]
pub enum Content<'a> {
    /// A tensor of the original, copied or converted to another element type or row order.
    Original(&'a TensorEntry),
    /// A tensor of a part that is not the decoder, copied byte for byte.
    Carried(&'a CarriedTensor),
    /// A tensor that is mixed from several, scaled, or computed from activations.
    Computed(&'a NewLayer, Role),
    /// A projection of an expert that is mixed from several: all experts of its layer, its number and the role.
    Mixed(&'a NewExperts, usize, Role),
    /// Values that are made here, encoded.
    New(Vec<u8>),
    /// A table of whose rows each has a slice for each layer, cut anew for these layers: as [`sliced`] does.
    ///
    /// [`sliced`]: crate::model::weights::sliced::sliced
    Sliced(&'a TensorEntry, &'a [NewLayer]),
    /// Tensors whose rows follow each other in one.
    Joined(Vec<Job<'a>>),
    /// Tensors whose rows lie in turns, as in [`format::turns`](crate::format::turns): those of one expert after those
    /// of another, the number of tensors of an expert, and what of them is stored.
    InTurns(Vec<Job<'a>>, usize, Piece),
    /// A piece of a packed matrix of the original, copied byte for byte.
    Copied(&'a PieceEntry),
    /// A piece of a matrix that is packed anew: the job of its weights, how they are packed, and which piece.
    Packed(Box<Job<'a>>, Scheme, PackedPiece),
}

/// What a tensor holds of tensors whose rows lie in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// The transposed numbers.
    Numbers,
    /// The blocks of MXFP4.
    Blocks,
    /// The exponents of MXFP4.
    Exponents,
}

/// One tensor of the compressed model.
#[derive(Clone)]
pub struct Job<'a> {
    /// Source of the values.
    pub content: Content<'a>,
    /// Element type in which the tensor is stored.
    pub element: Element,
    /// How the original's files hold the tensor, and how the new ones will.
    pub forms: [Form; 2],
    /// Name of the tensor in the new file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Stored size in bytes.
    pub bytes: u64,
    /// Matrix of a layer that it is, of an expert if one is given, by whose importances columns are encoded.
    pub weighted: Option<Weighted<'a>>,
}

/// A matrix of a layer whose columns may have importances.
#[derive(Clone, Copy)]
pub struct Weighted<'a> {
    /// Place of the layer in the new model.
    pub place: usize,
    /// Layer of the new model.
    pub layer: &'a NewLayer,
    /// Role of the matrix.
    pub role: Role,
    /// Expert that it is of, from 0, if it is of one.
    pub expert: Option<usize>,
}

impl Job<'_> {
    /// Returns the place of the layer whose importances the values are encoded by; `None` if they are encoded by none: floats,
    /// types that take no notice of importances, and values that are copied or encoded already.
    pub fn encoded_by(&self) -> Option<usize> {
        let Weighted { place, layer, role, .. } = self.weighted?;
        let Element::Block(block) = self.element else { return None };
        let is_encoded = match &self.content {
            Content::Original(entry) => entry.element != self.element,
            Content::Computed(..) => layer.replaced(role).is_none_or(|stored| stored.element != self.element),
            Content::Mixed(..) => true,
            _ => false,
        };
        (block.is_weighted() && self.shape.len() == 2 && is_encoded).then_some(place)
    }

    /// Returns the importances that the columns are encoded by in a file of kind `container`, if any.
    ///
    /// # Errors
    /// Those of [`NewLayer::importances`].
    pub fn importances(&self, model: &Model, container: Container) -> Result<Option<Vec<f32>>> {
        match self.weighted {
            Some(Weighted { layer, role, expert, .. }) => {
                layer.importances(&model.config, container, role, expert)
            }
            None => Ok(None),
        }
    }
}

/// Lists the tensors of the model whose layers are `layers`, in the order of the original's files.
///
/// # Errors
/// [`Error::Format`] if the model lacks a tensor, [`Error::Shape`] if the values of a tensor are not a whole
/// number of quantisation blocks.
pub fn jobs<'a>(model: &'a Model, layers: &'a [NewLayer], storage: Storage) -> Result<Vec<Job<'a>>> {
    let (container, config) = (storage.container, &*new_config(model, layers, storage)?);
    let architecture = match container {
        Container::Safetensors => config.hugging_face_architecture(),
        Container::Gguf => config.architecture,
    };
    // A tied head is the embedding once more.
    let needs_head =
        container == Container::Gguf && config.tied_head && architecture.gguf_head == GgufHead::Required;
    let layers_at = storage.placed(&model.config, layers)?;
    let places = storage.places(&model.config, layers)?;
    let mut jobs = Vec::new();
    let mut joined: Vec<JoinedParts<'a>> = Vec::new();
    for source in model.tensors() {
        let mut contents = contents(model, layers, source)?;
        if source.id == TensorId::Embedding && needs_head {
            contents.push((TensorId::Head, Content::Original(source)));
        }
        for (id, content) in contents {
            let whole = id.joined(container, architecture);
            let name = whole.as_ref().map(|(name, _)| name.clone());
            let Some(name) = name.or_else(|| id.name(container, architecture)) else {
                continue;
            };
            let name = config.spelled(container, name);
            let place = id.layer().and_then(|layer| places.get(layer)).copied().unwrap_or_default();
            let element = match (&content, id) {
                (Content::Sliced(_, layers), _) => {
                    let mixed = layers.iter().any(|layer| layer.mix().unchanged().is_none());
                    input_element(model, mixed, storage)?
                }
                (Content::Computed(..), TensorId::Layer(layer, role)) => {
                    let layer = layers_at.get(layer).or_internal("a tensor is of no layer")?;
                    layer.element(model, role, storage)?
                }
                (_, TensorId::Expert(layer, e, role)) => {
                    match layers.get(layer).and_then(NewLayer::experts) {
                        Some(experts) => expert_element(model, experts, e, role, storage, place)?,
                        None => storage.element(model, source.id, source.element, false, place),
                    }
                }
                (_, TensorId::Head) => storage.head(model)?,
                _ => storage.element(model, source.id, source.element, false, place),
            };
            let forms = [model.form(source.id), config.form(container, source.id)];
            // The layer has another number, but is of the same kind.
            let mut shape = source.id.shape_in(container, config);
            if let (Content::Sliced(..), [_, columns]) = (&content, shape.as_mut_slice()) {
                *columns = *columns / config.n_layers as u64 * layers.len() as u64;
            }
            let bytes = size(&name, element, &shape)?;
            let of = |place: usize, role, expert| {
                layers.get(place).map(|layer| Weighted { place, layer, role, expert })
            };
            let weighted = match id {
                TensorId::Layer(place, role) => of(place, role, None),
                TensorId::Expert(place, e, role) => of(place, role, Some(e)),
                _ => None,
            };
            let job = Job { content, element, forms, bytes, name, shape, weighted };
            let scheme = storage.scheme(model, source.id);
            let Some((_, whole)) = whole else {
                jobs.extend(packed(job, scheme, storage)?);
                continue;
            };
            match joined.iter_mut().rfind(|parts| parts.name == job.name) {
                Some(parts) => parts.found.push((id, job)),
                None => joined.push(JoinedParts {
                    name: job.name.clone(),
                    whole,
                    found: vec![(id, job)],
                    place: jobs.len(),
                    scheme,
                }),
            }
        }
    }
    // From the last place to the first, so that places stay what they are.
    for parts in joined.into_iter().rev() {
        let place = parts.place;
        let scheme = parts.scheme;
        let whole = parts.finish(config)?.into_iter();
        let whole = whole.map(|job| packed(job, scheme, storage)).collect::<Result<Vec<_>>>()?;
        jobs.splice(place..place, whole.into_iter().flatten());
    }
    for (id, divisors) in new_divisors(model, container)? {
        let (element, shape) = (Element::F32, vec![divisors.len() as u64]);
        let name = id.name(container, architecture);
        let name = name.or_internal("rotary divisors have no name in such a file")?;
        let content = Content::New(encode(element, &divisors)?);
        let bytes = size(&name, element, &shape)?;
        jobs.push(Job { content, element, forms: [Form::PLAIN; 2], bytes, name, shape, weighted: None });
    }
    // A GGUF file holds the decoder only.
    let carried = if container == Container::Safetensors { model.carried.as_slice() } else { &[] };
    jobs.extend(carried.iter().map(|tensor| Job {
        content: Content::Carried(tensor),
        element: tensor.element,
        forms: [Form::PLAIN; 2],
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        bytes: tensor.bytes,
        weighted: None,
    }));
    Ok(jobs)
}

/// Returns the configuration of the model whose layers are `layers`, stored as `storage` says, but for what goes by the
/// number of layers. Experts of which some are mixed are not all in MXFP4.
///
/// # Errors
/// [`Error::Internal`] if layers with experts have different numbers of them.
pub fn new_config<'a>(model: &'a Model, layers: &[NewLayer], storage: Storage) -> Result<Cow<'a, Config>> {
    let own = model.config.experts.map_or(0, |experts| experts.count);
    let mut counts: Vec<usize> = Vec::new();
    for layer in layers {
        if model.config.kind(layer.mix().survivor()?)?.feed_forward == FeedForward::Experts {
            counts.push(layer.experts().map_or(own, NewExperts::count));
        }
    }
    counts.sort_unstable();
    counts.dedup();
    let mut config = match counts[..] {
        [] => Cow::Borrowed(&model.config),
        [count] if count == own => Cow::Borrowed(&model.config),
        [count] => Cow::Owned(model.config.with_experts(count)?),
        _ => return Err(Error::internal("layers of a new model have different numbers of experts")),
    };
    let are_copies = layers.iter().filter_map(NewLayer::experts).all(NewExperts::are_copies);
    if config.mxfp4_experts && !are_copies {
        config.to_mut().mxfp4_experts = false;
    }
    let packing = storage.packing(&model.config);
    if packing != config.packing {
        config.to_mut().packing = packing;
    }
    Ok(config)
}

/// Parts of a tensor that holds the rows of several.
struct JoinedParts<'a> {
    name: String,
    whole: Joined,
    /// Parts that were found so far, in the order of the original's files.
    found: Vec<(TensorId, Job<'a>)>,
    /// Place among the other jobs.
    place: usize,
    /// Scheme in which it is packed; `None` if it is not.
    scheme: Option<Scheme>,
}

/// Makes the jobs of the pieces of the matrix that `job` makes, if it is packed in `scheme`; else `job` itself.
fn packed<'a>(job: Job<'a>, scheme: Option<Scheme>, storage: Storage) -> Result<Vec<Job<'a>>> {
    let Some(scheme) = scheme else { return Ok(vec![job]) };
    let module = job.name.strip_suffix(WEIGHT).unwrap_or(&job.name).to_owned();
    let name = |piece: PackedPiece| format!("{module}{}", piece_ending(scheme.layout, piece));
    let of_piece = |content, piece, shape: Vec<u64>, bytes| Job {
        content,
        element: job.element,
        forms: [Form::PLAIN; 2],
        name: name(piece),
        shape,
        bytes,
        weighted: None,
    };
    if let (Content::Original(TensorEntry { packed: Some(matrix), .. }), None) = (&job.content, storage.pack)
    {
        let copies = matrix
            .pieces
            .iter()
            .map(|entry| of_piece(Content::Copied(entry), entry.piece, entry.shape.clone(), entry.bytes));
        return Ok(copies.collect());
    }
    let sizes: Vec<usize> = job.shape.iter().map(|n| *n as usize).collect();
    let [rows, columns] = sizes[..] else {
        return Err(Error::internal("a tensor that is packed is no matrix"));
    };
    if let Some(why) = scheme.misfit([rows, columns]) {
        return Err(Error::Unsupported(format!(
            "tensor {} cannot be stored as {scheme}, because {why}; ask for another type",
            job.name
        )));
    }
    let float = job.element.bytes(1).or_internal("a tensor that is packed has scales in blocks")?;
    let pieces = scheme.pieces().iter().map(|piece| {
        let shape = scheme.shape(*piece, [rows, columns]);
        let bytes = shape.iter().product::<u64>() * scheme.number(*piece).bytes(float);
        of_piece(Content::Packed(Box::new(job.clone()), scheme, *piece), *piece, shape, bytes)
    });
    Ok(pieces.collect())
}

impl<'a> JoinedParts<'a> {
    /// Makes the job of the whole tensor, in the widest of the element types of its parts; of a tensor in MXFP4 in a
    /// Hugging Face model those of its blocks and of its exponents.
    fn finish(self, config: &Config) -> Result<Vec<Job<'a>>> {
        let Self { name, whole, found, .. } = self;
        let widest = found.iter().map(|(_, job)| job.element).reduce(Element::wider);
        let element = widest.or_internal("a joined tensor has no parts")?;
        let mut found: HashMap<TensorId, Job<'a>> = found.into_iter().collect();
        let mut parts = Vec::new();
        let mut ids = whole.ids(config);
        if whole.is_of_all_layers() {
            // The new model has fewer.
            ids.retain(|id| found.contains_key(id));
        }
        for id in ids {
            let part = found.remove(&id).or_internal("a part of a joined tensor is missing")?;
            let bytes = size(&name, element, &part.shape)?;
            parts.push(Job { element, bytes, ..part });
        }
        let mut shape = whole.shape(config);
        if let (true, Some(rows)) = (whole.is_of_all_layers(), shape.first_mut()) {
            *rows = parts.iter().filter_map(|part| part.shape.first()).sum();
        }
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let forms = [Form::PLAIN; 2];
        let Some(turns) = whole.turns() else {
            let content = Content::Joined(parts);
            return Ok(vec![Job { content, element, forms, name, shape, bytes, weighted: None }]);
        };
        let ([experts, columns, rows], Element::Block(BlockType::Mxfp4)) = (shape.as_slice(), element) else {
            let content = Content::InTurns(parts, turns, Piece::Numbers);
            return Ok(vec![Job { content, element, forms, name, shape, bytes, weighted: None }]);
        };
        let [blocks, exponents] = MXFP4_ENDINGS;
        let shape = vec![*experts, *rows, columns / MXFP4_WEIGHTS];
        let count: u64 = shape.iter().product();
        let of_blocks = Job {
            content: Content::InTurns(parts.clone(), turns, Piece::Blocks),
            element,
            forms,
            name: format!("{name}{blocks}"),
            shape: [shape.as_slice(), &[MXFP4_WEIGHTS / 2]].concat(),
            bytes: count * MXFP4_WEIGHTS / 2,
            weighted: None,
        };
        let content = Content::InTurns(parts, turns, Piece::Exponents);
        let of_exponents = Job {
            content,
            element,
            forms,
            name: format!("{name}{exponents}"),
            shape,
            bytes: count,
            weighted: None,
        };
        Ok(vec![of_blocks, of_exponents])
    }
}

/// Finds what becomes of the tensor `source`: of a projection of an expert, that of each new expert that it is the first
/// part of.
fn contents<'a>(
    model: &Model,
    layers: &'a [NewLayer],
    source: &'a TensorEntry,
) -> Result<Vec<(TensorId, Content<'a>)>> {
    let TensorId::Expert(layer, expert, role) = source.id else {
        return Ok(content(model, layers, source).into_iter().collect());
    };
    let mut contents = Vec::new();
    for (place, new) in layers.iter().enumerate() {
        let Some(experts) = new.experts() else {
            if new.mix().survivor()? == layer {
                contents.push((TensorId::Expert(place, expert, role), Content::Original(source)));
            }
            continue;
        };
        for (e, parts) in experts.all().iter().enumerate() {
            let leads = parts.first().is_some_and(|first| (first.layer, first.expert) == (layer, expert));
            let content = match parts.len() {
                1 => Content::Original(source),
                _ => Content::Mixed(experts, e, role),
            };
            if leads {
                contents.push((TensorId::Expert(place, e, role), content));
            }
        }
    }
    Ok(contents)
}

/// Finds what becomes of the tensor `source`, which is not of an expert; `None` if its layer was absorbed into another, or
/// if `source` is a stale copy of a tied head.
fn content<'a>(
    model: &Model,
    layers: &'a [NewLayer],
    source: &'a TensorEntry,
) -> Option<(TensorId, Content<'a>)> {
    let Some(layer) = source.id.layer() else {
        // A stale copy of a tied head would be taken for a head that is not tied.
        let stale = source.id == TensorId::Head && model.config.tied_head;
        if source.id == TensorId::InputEmbedding {
            return Some((source.id, Content::Sliced(source, layers)));
        }
        return (!stale).then_some((source.id, Content::Original(source)));
    };
    let survives = |new: &NewLayer| new.mix().survivor().is_ok_and(|survivor| survivor == layer);
    let role = source.id.role()?;
    let leads = |new: &NewLayer| new.mix().parts().first().is_some_and(|(first, _)| *first == layer);
    let place = match role.goes_with_experts() {
        true => layers.iter().position(survives)?,
        false => layers.iter().position(leads)?,
    };
    let id = TensorId::Layer(place, role);
    match layers.get(place) {
        // Buffers that old checkpoints carry are the same in every layer, so they are copied, not mixed.
        Some(new) if new.copied_from(role, &model.config).is_none() && role != Role::RotaryFrequencies => {
            Some((id, Content::Computed(new, role)))
        }
        _ => Some((id, Content::Original(source))),
    }
}

/// Returns the rotary divisors that say in a file of kind `container` what the model's own files say in their settings.
fn new_divisors(model: &Model, container: Container) -> Result<Vec<(TensorId, Vec<f32>)>> {
    if (model.container(), container) != (Container::Safetensors, Container::Gguf) {
        return Ok(Vec::new());
    }
    let rope = model.config.rope()?;
    Ok(match &rope.scaling {
        // llama.cpp demands divisors of an architecture whose frequencies may be proportional.
        scaling @ (RopeScaling::None | RopeScaling::Proportional { .. })
            if let Some(full) = model.config.full_heads =>
        {
            vec![(TensorId::RotaryDivisors, scaling.divisors(full.width, rope.theta))]
        }
        scaling @ RopeScaling::Llama3 { .. } => {
            vec![(TensorId::RotaryDivisors, scaling.divisors(model.config.rotated_width, rope.theta))]
        }
        RopeScaling::Long(long) => {
            vec![(TensorId::LongDivisors, long.long.clone()), (TensorId::ShortDivisors, long.short.clone())]
        }
        _ => Vec::new(),
    })
}

fn size(name: &str, element: Element, shape: &[u64]) -> Result<u64> {
    let bytes = element.bytes(shape.iter().product());
    bytes.ok_or_else(|| {
        Error::Shape(format!("tensor {name} of shape {shape:?} is no whole number of {element} blocks"))
    })
}
