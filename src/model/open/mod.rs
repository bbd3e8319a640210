//! Opening of a model: every header is read and checked, but no weights are.

mod gguf;
mod hugging_face;
mod packed;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use safetensors::Dtype;

use super::architectures::Architecture;
use super::binding::Form;
use super::config::{Config, FeedForward};
use super::tensors::{Joined, Role, TensorId, has_base_prefix, with_base_prefix};
use super::tokenizer::Tokenizer;
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::format::gguf::parse_split_name;
use crate::format::packed::{Piece, Scheme};
use crate::format::turns::MXFP4_WEIGHTS;
use crate::{Error, Result};

/// Largest size in bytes of a configuration. Its JSON takes up to 16 times as much memory, whatever is in it; a real one
/// has at most a few megabytes.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// Largest size in bytes of a tokenizer or of an index of shards. The largest real ones have 35 MB.
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// A tensor in the files of a model: its identity, element type, shape and position.
///
/// A packed matrix counts as one of floats, which are made where it is read: `element` is the type of its scales, `bytes`
/// the size of the floats, and `shard` and `offset` are where its codes lie.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// Identity of the tensor in the model.
    pub id: TensorId,
    /// Name of the tensor in the file.
    pub name: String,
    /// Element type in which the values are stored.
    pub element: Element,
    /// Dimensions, outermost first: `[rows, columns]` for a matrix.
    pub shape: Vec<u64>,
    /// Index of the shard in [`Model::shards`].
    pub shard: usize,
    /// Offset in the shard of the first byte of the values.
    pub offset: u64,
    /// Size of the stored values in bytes.
    pub bytes: u64,
    /// Where the values lie among those of other tensors; `None` if they lie row after row.
    pub turns: Option<Turns>,
    /// The pieces of a packed matrix; `None` for other tensors.
    pub packed: Option<Rc<PackedMatrix>>,
}

/// A matrix whose codes and scales are tensors of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedMatrix {
    /// How it is packed.
    pub scheme: Scheme,
    /// Its pieces, in the order of [`Scheme::pieces`].
    pub pieces: Vec<PieceEntry>,
}

/// A tensor that holds a piece of a packed matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct PieceEntry {
    /// What it holds.
    pub piece: Piece,
    /// Name in the file.
    pub name: String,
    /// Type of its numbers, as the file names it.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Index of the shard in [`Model::shards`].
    pub shard: usize,
    /// Offset in the shard of the first byte.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

impl PackedMatrix {
    /// Returns the piece of the kind `piece`; `None` if there is none.
    pub fn piece(&self, piece: Piece) -> Option<&PieceEntry> {
        self.pieces.iter().find(|each| each.piece == piece)
    }
}

/// Place of a tensor whose rows lie in turns with those of others, as in [`format::turns`](crate::format::turns). The
/// bytes of all of them begin at [`TensorEntry::offset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// Number of tensors whose rows lie in turns.
    pub of: usize,
    /// Place of the tensor among them, from 0.
    pub place: usize,
    /// Shard and offset of the exponents of MXFP4, whose blocks alone lie in turns; `None` for floats.
    pub exponents: Option<(usize, u64)>,
}

impl TensorEntry {
    /// Returns how many bytes at [`offset`](Self::offset) are certain to be of this tensor, or of those whose rows lie
    /// in turns with its own.
    pub(super) fn bytes_in_place(&self) -> u64 {
        let has_blocks_apart = self.turns.is_some_and(|turns| turns.exponents.is_some());
        let codes = self.packed.as_ref().and_then(|packed| packed.piece(Piece::Codes));
        match codes {
            Some(codes) => codes.bytes,
            None if has_blocks_apart => self.values() / 2,
            None => self.bytes,
        }
    }

    /// Returns the size in bytes of what the files hold of this tensor.
    pub fn stored_bytes(&self) -> u64 {
        match &self.packed {
            Some(packed) => packed.pieces.iter().map(|piece| piece.bytes).sum(),
            None => self.bytes,
        }
    }

    /// Returns the type in which the files hold this tensor, in words.
    pub fn stored_type(&self) -> String {
        match &self.packed {
            Some(packed) => packed.scheme.to_string(),
            None => self.element.to_string(),
        }
    }

    /// Returns the number of values.
    pub fn values(&self) -> u64 {
        self.element.values(self.bytes)
    }
}

/// A tensor of a part of the model that is not the decoder, such as an image encoder: nothing but its bytes is known.
#[derive(Debug, Clone)]
pub struct CarriedTensor {
    /// Name of the tensor in the file.
    pub name: String,
    /// Element type in which the values are stored.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Index of the shard in [`Model::shards`].
    pub shard: usize,
    /// Offset in the shard of the first byte of the values.
    pub offset: u64,
    /// Size of the stored values in bytes.
    pub bytes: u64,
}

/// An opened model: configuration, tokenizer and the positions of all tensors. The weights stay in the files.
pub struct Model {
    /// Name of the model in reports.
    pub name: String,
    /// Configuration, checked.
    pub config: Config,
    /// Tokenizer, whose ids are all in the vocabulary of the configuration.
    pub tokenizer: Tokenizer,
    /// Weight files; [`TensorEntry::shard`] is an index into this list.
    pub shards: Vec<SharedSource>,
    /// Small files that are copied unchanged into a compressed model; none for a GGUF file.
    pub companions: Vec<SharedSource>,
    /// Tensors of the parts of the model that are not the decoder, in the order of the files. A compressed Hugging Face
    /// model has them byte for byte.
    pub carried: Vec<CarriedTensor>,
    /// What the reader should know of how the files were read, in sentences.
    pub notes: Vec<String>,
    /// Tensors in the order of the files.
    tensors: Vec<TensorEntry>,
    places: HashMap<TensorId, usize>,
}

impl Model {
    /// Opens the model that `files` hold; reports call the model `name`.
    ///
    /// If there is a `config.json` among `files`, they are read as a Hugging Face model, otherwise as one
    /// GGUF file or all files of a split one. The files may lie in one common folder. Files that do not
    /// belong to the model are ignored.
    ///
    /// # Errors
    /// Every fault is found before any weight is read:
    ///
    /// - [`Error::Source`] for a missing file or shard, for files of several models, and for a failed read;
    /// - [`Error::Format`] for a header that contradicts its file, for a tensor that is missing or occurs
    ///   twice, and for a tokenizer of another model;
    /// - [`Error::Unsupported`] for an unknown architecture, tensor name or element type;
    /// - [`Error::Shape`] for a tensor whose shape or layer index contradicts the configuration;
    /// - those of [`Config::parse`] and [`Config::from_metadata`].
    pub async fn open(name: impl Into<String>, files: &[SharedSource]) -> Result<Self> {
        let parts = match hugging_face::folder(files)? {
            Some(folder) => hugging_face::open(&folder).await?,
            None => gguf::open(files).await?,
        };
        Self::new(name.into(), parts)
    }

    fn new(name: String, parts: Opened) -> Result<Self> {
        let Opened { mut config, tokenizer, shards, companions, tensors, carried, mut notes } = parts;
        let mut of_experts = tensors.iter().filter(|t| matches!(t.id, TensorId::Expert(..)));
        config.mxfp4_experts = config.experts.is_some()
            && of_experts.all(|t| t.shape.len() < 2 || t.element == Element::Block(BlockType::Mxfp4));
        notes.extend(note_on_bos(config.bos_token_id, tokenizer.begins_with()));
        if let [first, ..] = tokenizer.beyond_vocabulary() {
            notes.push(format!(
                "{} special tokens of the tokenizer, {first} among them, are outside the vocabulary of {}; no text \
                 gives them, and a GGUF file leaves them out.",
                tokenizer.beyond_vocabulary().len(),
                config.vocab_size
            ));
        }
        let mut places = HashMap::new();
        for (place, entry) in tensors.iter().enumerate() {
            let shard = shards.get(entry.shard).map_or("", |shard| shard.name());
            check_entry(shard, entry, &config)?;
            if places.insert(entry.id, place).is_some() {
                return Err(Error::Format(format!(
                    "tensor {} is in more than one shard; download the model again",
                    entry.name
                )));
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = carried.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            return Err(Error::Format(format!(
                "tensor {} is in more than one shard; download the model again",
                twice.name
            )));
        }
        let model = Self { name, config, tokenizer, shards, companions, carried, notes, tensors, places };
        model.check_complete()?;
        Ok(model)
    }

    /// Returns the kind of file that holds the model.
    pub fn container(&self) -> Container {
        self.config.container()
    }

    /// Returns all tensors of the decoder in the order of the files.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// Looks up the tensor `id`; `None` if the model lacks it.
    pub fn tensor(&self, id: TensorId) -> Option<&TensorEntry> {
        self.places.get(&id).and_then(|place| self.tensors.get(*place))
    }

    /// Returns the place of the tensor `id`.
    ///
    /// # Errors
    /// [`Error::Format`] if the model lacks the tensor.
    pub fn entry(&self, id: TensorId) -> Result<&TensorEntry> {
        self.tensor(id).ok_or_else(|| {
            let name = self.describe(id);
            Error::Format(format!("tensor {name} is in none of the weight files"))
        })
    }

    /// Returns the file that holds a tensor.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is missing.
    pub fn shard(&self, entry: &TensorEntry) -> Result<&SharedSource> {
        let missing = || Error::Format(format!("the shard of tensor {} is missing", entry.name));
        self.shards.get(entry.shard).ok_or_else(missing)
    }

    /// Returns the roles of all tensors of layer `layer` in ascending order, with buffers that are only
    /// carried along ([`Role::RotaryFrequencies`]).
    pub fn roles(&self, layer: usize) -> Vec<Role> {
        let mut roles: Vec<Role> = self
            .tensors
            .iter()
            .filter_map(|t| match t.id {
                TensorId::Layer(l, role) if l == layer => Some(role),
                _ => None,
            })
            .collect();
        roles.sort_unstable();
        roles
    }

    /// Returns the tensor that holds the output head: the embedding if the head is tied.
    pub fn head(&self) -> TensorId {
        // A tied checkpoint may carry a copy of the embedding as its head; a head that differs is not tied.
        if self.config.tied_head { TensorId::Embedding } else { TensorId::Head }
    }

    /// Returns how the model's files hold the tensor `id`, next to how the arithmetic reads it.
    pub fn form(&self, id: TensorId) -> Form {
        self.config.form(self.container(), id)
    }

    /// Returns a name of the tensor for messages.
    pub fn describe(&self, id: TensorId) -> String {
        self.config.spelled(self.container(), id.describe(self.container(), self.config.architecture))
    }

    /// Returns the stored size of all tensors in bytes, [`carried`](Self::carried) ones included.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorEntry::stored_bytes).chain(self.carried.iter().map(|t| t.bytes)).sum()
    }

    /// Returns the number of parameters of all tensors of the decoder. A tied head counts once.
    pub fn total_parameters(&self) -> u64 {
        self.tensors.iter().map(TensorEntry::values).sum()
    }

    /// Returns the stored size of the tensors of layer `layer` in bytes, with the embeddings of tokens that are a part of its
    /// own input.
    pub fn layer_bytes(&self, layer: usize) -> u64 {
        let inputs =
            self.tensor(TensorId::InputEmbedding).map_or(0, |t| t.bytes / self.config.n_layers as u64);
        let of_layer = self.tensors.iter().filter(|t| t.id.layer() == Some(layer));
        of_layer.map(TensorEntry::stored_bytes).sum::<u64>() + inputs
    }

    /// Returns the size in bytes of what is held of layer `layer` while it is run: all its tensors, but of its
    /// experts only one, and the next one, which is on its way.
    pub fn held_bytes(&self, layer: usize) -> u64 {
        let of_layer = self.tensors.iter().filter(|t| t.id.layer() == Some(layer));
        let (mut held, mut experts) = (0, HashMap::<usize, u64>::new());
        for tensor in of_layer {
            match tensor.id {
                TensorId::Expert(_, expert, _) => *experts.entry(expert).or_default() += tensor.bytes,
                _ => held += tensor.bytes,
            }
        }
        held + 2 * experts.into_values().max().unwrap_or(0)
    }

    fn check_complete(&self) -> Result<()> {
        let mut needed = vec![TensorId::Embedding, TensorId::FinalNorm];
        if self.config.layer_input.is_some() {
            needed.extend([TensorId::InputEmbedding, TensorId::InputNorm]);
        }
        if !self.config.tied_head {
            needed.push(TensorId::Head);
        }
        let n_experts = self.config.experts.map_or(0, |experts| experts.count);
        for (layer, kind) in self.config.layers.iter().enumerate() {
            let roles = Role::required(&self.config, *kind);
            needed.extend(roles.into_iter().map(|role| TensorId::Layer(layer, role)));
            if kind.feed_forward == FeedForward::Experts {
                let roles = Role::of_expert(self.config.architecture);
                let of_expert = |e| roles.iter().map(move |role| TensorId::Expert(layer, e, *role));
                needed.extend((0..n_experts).flat_map(of_expert));
            }
        }
        for id in needed {
            if !self.places.contains_key(&id) {
                return Err(missing(&self.describe(id)));
            }
        }
        Ok(())
    }
}

/// Leaves out keys and values of layers that read those of others, as transformers and llama.cpp do.
fn settle_keys(config: &Config, tensors: &mut Vec<TensorEntry>, notes: &mut Vec<String>) {
    let is_unused = |tensor: &TensorEntry| match tensor.id {
        TensorId::Layer(layer, role) if role.is_of_keys() => {
            config.layers.get(layer).is_some_and(|kind| kind.shares_keys)
        }
        _ => false,
    };
    let unused = tensors.iter().filter(|tensor| is_unused(tensor)).count();
    if unused > 0 {
        tensors.retain(|tensor| !is_unused(tensor));
        notes.push(format!(
            "{unused} tensors for keys and values of layers that read those of another layer are left out, as in \
             transformers."
        ));
    }
}

/// Makes the error for a required tensor that no weight file holds.
fn missing(name: &str) -> Error {
    Error::Format(format!(
        "tensor {name} is in none of the weight files; a shard is missing or the configuration belongs to another model"
    ))
}

/// Derives a name for the model in `files`: the name of their folder, or the name of a GGUF file without its
/// ending and part number. `None` if there is neither.
pub fn name_of(files: &[SharedSource]) -> Option<String> {
    let folder =
        files.iter().find_map(|file| file.name().split_once('/').map(|(folder, _)| folder.to_owned()));
    folder.or_else(|| {
        let name = files.iter().map(|file| file.name()).find(|name| name.ends_with(".gguf"))?;
        let stem = parse_split_name(name).map_or(name.strip_suffix(".gguf")?, |(stem, ..)| stem);
        Some(stem.to_owned())
    })
}

/// Contents of a Hugging Face folder or of GGUF files, before the tensors are checked.
struct Opened {
    config: Config,
    tokenizer: Tokenizer,
    shards: Vec<SharedSource>,
    companions: Vec<SharedSource>,
    tensors: Vec<TensorEntry>,
    carried: Vec<CarriedTensor>,
    notes: Vec<String>,
}

/// Makes a note if the token before each sequence is another than the one that the model's own tokenizer puts
/// before a text.
fn note_on_bos(bos: Option<u32>, own: Option<u32>) -> Option<String> {
    match (bos, own) {
        (Some(bos), None) => Some(format!(
            "BOS (token {bos}) is put before each sequence, although the model's own tokenizer puts nothing \
             before a text."
        )),
        (Some(bos), Some(own)) if bos != own => Some(format!(
            "BOS (token {bos}) is put before each sequence, although the model's own tokenizer puts token {own} \
             before a text."
        )),
        (None, Some(own)) => Some(format!(
            "No BOS is put before a sequence, because the configuration says that there is none, although the \
             model's own tokenizer puts token {own} before a text."
        )),
        _ => None,
    }
}

/// Makes a note of `n_tensors` tensors of blocks that draft tokens, which were left out, if there are any.
fn note_on_drafting(n_tensors: usize) -> Option<String> {
    (n_tensors > 0).then(|| {
        format!(
            "The {n_tensors} tensors of blocks that only draft tokens for speculative decoding (multi-token prediction) \
             are left out, and a model that is written has none."
        )
    })
}

/// Bytes at the front of a file that tell what the file is.
const FRONT_BYTES: u64 = 512;

/// Returns `result`. If `source` is not what its name says, the error says what `source` is instead, where its
/// front tells: a git-lfs pointer, a web page, or a short text.
async fn explained<T>(source: &SharedSource, result: Result<T>) -> Result<T> {
    let Err(Error::Format(_)) = result else {
        return result;
    };
    let length = FRONT_BYTES.min(source.size());
    let Ok(front) = read_checked(source.as_ref(), 0, length).await else {
        return result;
    };
    let is_whole = source.size() <= FRONT_BYTES;
    match stand_in(&front, is_whole && !source.name().ends_with(".json")) {
        Some(what) => Err(Error::Source(format!("{}: {what}", source.name()))),
        None => result,
    }
}

/// Says what the file that begins with `front` is, if it only stands for another one. `is_foreign_text` says
/// that `front` is a whole file, which is not meant to be text.
fn stand_in(front: &[u8], is_foreign_text: bool) -> Option<String> {
    let text = String::from_utf8_lossy(front);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with("version https://git-lfs.github.com/") {
        return Some(
            "it is a git-lfs pointer in place of the file; run `git lfs pull` or download the file itself"
                .to_owned(),
        );
    }
    let lower = text.to_ascii_lowercase();
    if ["<!doctype html", "<html"].iter().any(|start| lower.starts_with(start)) {
        return Some("it is a web page in place of the file; download the file itself".to_owned());
    }
    // The letters that a GGUF file begins with are no text: such a file was cut off.
    let is_text = !text.is_empty()
        && !"GGUF".starts_with(text)
        && !text.contains(|c: char| c.is_control() || c == '\u{fffd}');
    (is_foreign_text && is_text).then(|| {
        let start: String = text.chars().take(80).collect();
        format!("it holds the text {start:?} in place of the file; download the file itself")
    })
}

/// Makes the error for a tensor of `file` that no model of `architecture` has.
fn foreign(file: &str, name: &str, architecture: &Architecture) -> Error {
    Error::Unsupported(format!(
        "{file}: tensor {name} belongs to no {} that is known here; the model has parts that are not supported",
        architecture.class
    ))
}

/// Parts tensors that hold the rows of several one after the other, such as queries, keys and values, into tensors of
/// their own, which share the bytes of the file.
fn parted(tensors: Vec<TensorEntry>, shards: &[SharedSource], config: &Config) -> Result<Vec<TensorEntry>> {
    let (container, architecture) = (config.container(), config.architecture);
    let mut all = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let plain = config.whole.as_ref().and_then(|whole| whole.spelling.plain(&tensor.name));
        let name = match container {
            Container::Safetensors if plain.is_some() => plain.unwrap_or_default(),
            Container::Safetensors if !has_base_prefix(&tensor.name) => with_base_prefix(&tensor.name),
            _ => tensor.name.clone(),
        };
        let Some(joined) = TensorId::parse_joined(container, architecture, &name) else {
            all.push(tensor);
            continue;
        };
        if let Some(of) = joined.turns() {
            all.extend(in_turns(&tensor, joined, of, shards, config)?);
            continue;
        }
        let ids = joined.ids(config);
        let shapes: Vec<Vec<u64>> = ids.iter().map(|id| id.shape(config)).collect();
        let expected = joined.shape(config);
        let sizes = shapes.iter().map(|shape| tensor.element.bytes(shape.iter().product()));
        let sizes = sizes.collect::<Option<Vec<u64>>>().filter(|_| tensor.shape == expected);
        let Some(sizes) = sizes else {
            return Err(misshapen(&tensor, &expected, shards));
        };
        let mut offset = tensor.offset;
        for ((id, shape), bytes) in ids.into_iter().zip(shapes).zip(sizes) {
            let name = match id.name(container, architecture) {
                Some(name) => config.spelled(container, name),
                None => format!("{} ({})", tensor.name, id.describe_role()),
            };
            all.push(TensorEntry { id, name, shape, offset, bytes, ..tensor.clone() });
            offset += bytes;
        }
    }
    Ok(all)
}

/// Parts a tensor that holds the rows of `of` tensors of each expert in turns.
fn in_turns(
    tensor: &TensorEntry,
    joined: Joined,
    of: usize,
    shards: &[SharedSource],
    config: &Config,
) -> Result<Vec<TensorEntry>> {
    let ids = joined.ids(config);
    let exponents = tensor.turns.and_then(|turns| turns.exponents);
    let mut expected = joined.shape(config);
    if exponents.is_some() {
        // Not transposed, and codes in blocks.
        let columns = expected.remove(1);
        expected.extend([columns / MXFP4_WEIGHTS, MXFP4_WEIGHTS / 2]);
    }
    if tensor.shape != expected {
        return Err(misshapen(tensor, &expected, shards));
    }
    let mut all = Vec::with_capacity(ids.len());
    for (number, id) in ids.into_iter().enumerate() {
        let shape = id.shape(config);
        let values: u64 = shape.iter().product();
        let Some(bytes) = tensor.element.bytes(values) else {
            return Err(misshapen(tensor, &expected, shards));
        };
        let (expert, place) = ((number / of) as u64, number % of);
        let before = expert * of as u64;
        let stored = if exponents.is_some() { values / 2 } else { bytes };
        let exponents = exponents.map(|(shard, offset)| (shard, offset + before * values / MXFP4_WEIGHTS));
        all.push(TensorEntry {
            id,
            name: format!("{} ({})", tensor.name, id.describe_role()),
            shape,
            offset: tensor.offset + before * stored,
            bytes,
            turns: Some(Turns { of, place, exponents }),
            ..tensor.clone()
        });
    }
    Ok(all)
}

fn misshapen(tensor: &TensorEntry, expected: &[u64], shards: &[SharedSource]) -> Error {
    let file = shards.get(tensor.shard).map_or("", |shard| shard.name());
    Error::Shape(format!(
        "{file}: tensor {} has shape {:?}, but the configuration demands {expected:?}",
        tensor.name, tensor.shape
    ))
}

fn check_entry(file: &str, entry: &TensorEntry, config: &Config) -> Result<()> {
    let name = &entry.name;
    if let Some(layer) = entry.id.layer()
        && layer >= config.n_layers
    {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} is of layer {layer}, but the configuration has {} layers",
            config.n_layers
        )));
    }
    if let TensorId::Expert(_, expert, _) = entry.id
        && config.experts.is_none_or(|experts| expert >= experts.count)
    {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} is of expert {expert}, but the configuration has {} experts",
            config.experts.map_or(0, |experts| experts.count)
        )));
    }
    let expected = entry.id.shape_in(config.container(), config);
    if entry.shape != expected {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} has shape {:?}, but the configuration demands {expected:?}",
            entry.shape
        )));
    }
    Ok(())
}

/// Reads a file that is parsed as a whole, of at most `limit` bytes.
///
/// # Errors
/// [`Error::Limit`] if the file is larger; those of [`read_checked`].
async fn read_whole(source: &SharedSource, limit: u64) -> Result<Vec<u8>> {
    if source.size() > limit {
        return Err(Error::Limit(format!(
            "{}: it has {} MB, and at most {} MB can be read of such a file; look whether it is the right one",
            source.name(),
            source.size() >> 20,
            limit >> 20
        )));
    }
    read_checked(source.as_ref(), 0, source.size()).await
}
