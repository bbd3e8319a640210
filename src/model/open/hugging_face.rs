//! Opening of a Hugging Face model: a folder with `config.json`, `tokenizer.json` and safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use safetensors::Dtype;

use super::packed::Pieces;
use super::{
    CarriedTensor, MAX_SETTINGS_BYTES, MAX_TABLE_BYTES, Opened, TensorEntry, Turns, explained, foreign,
    note_on_drafting, parted, read_whole, settle_keys,
};
use crate::files::source::{MemorySource, SharedSource, read_checked};
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::{Element, decode};
use crate::format::index::{INDEX_NAME, SINGLE_NAME, ShardIndex};
use crate::format::safetensors::{Header, LENGTH_BYTES, TensorInfo, header_length, parse_header};
use crate::model::config::hugging_face::CONFIG_NAME;
use crate::model::config::{Biases, Config};
use crate::model::packing::{Method, Packing};
use crate::model::tensors::{
    Joined, MXFP4_ENDINGS, Role, Spelling, TensorId, has_base_prefix, is_cache_scale, is_of_drafting,
    is_of_part, is_rotary_table, mxfp4_stem, with_base_prefix,
};
use crate::model::tokenizer::sentence_piece::{ADDED_TOKENS_NAME, SENTENCE_PIECE_NAME, to_json};
use crate::model::tokenizer::{TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, Tokenizer};
use crate::{Error, Result};

/// Ending of the names of weight files.
const ENDING: &str = ".safetensors";

/// Endings of the names of weight files that are not read.
const OTHER_WEIGHTS: [&str; 7] = [".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".npz"];

/// Names of tokenizer files that are not read, although they are enough for transformers.
const OTHER_TOKENIZERS: [&str; 3] = ["vocab.json", "tekken.json", "spiece.model"];

/// Values of two tensors that are compared at a time.
const COMPARED_VALUES: u64 = 4 << 20;

/// Names of the small files of a model that are copied unchanged into a compressed one.
const COMPANIONS: [&str; 13] = [
    TOKENIZER_NAME,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
];

/// Files of one folder by name, without the path of the folder.
pub type Folder = BTreeMap<String, SharedSource>;

/// Finds the folder that holds `config.json` and returns its files; `None` if there is no `config.json` but a
/// `.gguf` file. Names may contain folders, such as `model/config.json`; the shallowest `config.json`
/// decides.
///
/// # Errors
/// [`Error::Source`] if `files` hold neither a `config.json` nor a `.gguf` file.
pub fn folder(files: &[SharedSource]) -> Result<Option<Folder>> {
    let depth = |name: &str| name.matches('/').count();
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let configs = files.iter().map(|f| f.name()).filter(|n| base(n) == CONFIG_NAME);
    let Some(config) = configs.min_by_key(|n| depth(n)) else {
        if files.iter().any(|f| f.name().ends_with(".gguf")) {
            return Ok(None);
        }
        return Err(Error::Source(format!(
            "there is no {CONFIG_NAME} and no .gguf file among the files; open the whole folder of a Hugging \
             Face model, or a GGUF file"
        )));
    };
    let prefix = config.strip_suffix(CONFIG_NAME).unwrap_or("");
    let direct = files.iter().filter_map(|file| {
        let base = file.name().strip_prefix(prefix)?;
        (!base.contains('/')).then(|| (base.to_owned(), Rc::clone(file)))
    });
    Ok(Some(direct.collect()))
}

/// Reads the configuration, the tokenizer and the headers of all shards.
pub async fn open(files: &Folder) -> Result<Opened> {
    let mut notes = Vec::new();
    let files = &with_tokenizer(files, &mut notes).await?;
    let source = require(files, CONFIG_NAME)?;
    let config = Config::parse_noting(&read_whole(source, MAX_SETTINGS_BYTES).await?, &mut notes);
    let mut config = explained(source, config).await?;
    let shards = find_shards(files, &config, &mut notes).await?;
    let tokenizer = open_tokenizer(files, &mut config, &mut notes).await?;
    let mut named = Vec::new();
    for (shard, source) in shards.iter().enumerate() {
        let header = explained(source, read_header(source).await).await?;
        named.extend(header.tensors.into_iter().map(|(name, info)| (shard, name, info)));
    }
    settle_spelling(&mut config, &named);
    let Entries { tensors, carried } = entries(&config, &shards, named, &mut notes)?;
    let mut tensors = parted(tensors, &shards, &config)?;
    settle_values(&config, &mut tensors, &mut notes);
    settle_keys(&config, &mut tensors, &mut notes);
    settle_biases(&mut config, &mut tensors, &mut notes);
    settle_head(&mut config, &tensors, &shards, &mut notes).await?;
    let companions = COMPANIONS.iter().filter_map(|n| files.get(*n).cloned()).collect();
    Ok(Opened { config, tokenizer, shards, companions, tensors, carried, notes })
}

fn require<'a>(files: &'a Folder, name: &str) -> Result<&'a SharedSource> {
    files.get(name).ok_or_else(|| {
        Error::Source(format!("{name} is missing; open the whole folder of a Hugging Face model"))
    })
}

/// Adds a `tokenizer.json` where there is only a SentencePiece model, and notes it.
async fn with_tokenizer<'a>(files: &'a Folder, notes: &mut Vec<String>) -> Result<Cow<'a, Folder>> {
    let Some(source) = files.get(SENTENCE_PIECE_NAME).filter(|_| !files.contains_key(TOKENIZER_NAME)) else {
        return Ok(Cow::Borrowed(files));
    };
    let model = read_whole(source, MAX_TABLE_BYTES).await?;
    let small = async |name: &str| match files.get(name) {
        Some(source) => read_whole(source, MAX_SETTINGS_BYTES).await.map(Some),
        None => Ok(None),
    };
    let (settings, added) = (small(TOKENIZER_CONFIG_NAME).await?, small(ADDED_TOKENS_NAME).await?);
    let json = explained(source, to_json(&model, settings.as_deref(), added.as_deref())).await?;
    notes.push(format!("{TOKENIZER_NAME} was made from {SENTENCE_PIECE_NAME}."));
    let mut files = files.clone();
    files.insert(TOKENIZER_NAME.to_owned(), Rc::new(MemorySource::new(TOKENIZER_NAME, json)));
    Ok(Cow::Owned(files))
}

/// Opens the tokenizer, and completes the special tokens of `config` by it.
async fn open_tokenizer(files: &Folder, config: &mut Config, notes: &mut Vec<String>) -> Result<Tokenizer> {
    let other = OTHER_TOKENIZERS.iter().find(|name| files.contains_key(**name));
    if let (None, Some(other)) = (files.get(TOKENIZER_NAME), other) {
        return Err(Error::Source(format!(
            "{TOKENIZER_NAME} is missing, and {other} is not read; make {TOKENIZER_NAME} by transformers: \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )));
    }
    let source = require(files, TOKENIZER_NAME)?;
    let parsed = Tokenizer::parse(&read_whole(source, MAX_TABLE_BYTES).await?, config);
    let mut tokenizer = explained(source, parsed).await?;
    let around = match files.get(TOKENIZER_CONFIG_NAME) {
        Some(source) => {
            let settings = read_whole(source, MAX_SETTINGS_BYTES).await?;
            explained(source, tokenizer.around_text(Some(&settings))).await?
        }
        None => tokenizer.around_text(None)?,
    };
    config.complete_special_tokens(around, notes);
    Ok(tokenizer)
}

/// Finds the weight files in the order of transformers: the file or index that `config.json` names, then
/// [`SINGLE_NAME`], then the shards of [`INDEX_NAME`]. A single file of another name is the model if there is
/// none of these.
async fn find_shards(files: &Folder, config: &Config, notes: &mut Vec<String>) -> Result<Vec<SharedSource>> {
    if let Some(name) = config.weights_name() {
        let source = files.get(name).ok_or_else(|| {
            Error::Source(format!("{name}, which {CONFIG_NAME} names, is missing; add it to the folder"))
        })?;
        return match name.ends_with(".json") {
            true => shards_of(files, name, &read_index(source).await?),
            false => Ok(vec![Rc::clone(source)]),
        };
    }
    if let Some(single) = files.get(SINGLE_NAME) {
        let Some(index) = files.get(INDEX_NAME) else {
            return Ok(vec![Rc::clone(single)]);
        };
        // An index that does not name the single file was left from another save.
        return match read_index(index).await {
            Ok(index) if index.shards().contains(&SINGLE_NAME) => shards_of(files, INDEX_NAME, &index),
            _ => {
                notes.push(format!(
                    "{SINGLE_NAME} is the model, as in transformers; {INDEX_NAME}, which does not name it, is \
                     ignored."
                ));
                Ok(vec![Rc::clone(single)])
            }
        };
    }
    if let Some(index) = files.get(INDEX_NAME) {
        return shards_of(files, INDEX_NAME, &read_index(index).await?);
    }
    let weights: Vec<&SharedSource> =
        files.iter().filter(|(n, _)| n.ends_with(ENDING)).map(|(_, f)| f).collect();
    match weights.as_slice() {
        [single] => Ok(vec![Rc::clone(single)]),
        [] => Err(no_weights(files)),
        [first, ..] => Err(Error::Source(format!(
            "{INDEX_NAME} is missing, so it is not known how {} and the other {} weight files belong \
             together; add it to the folder",
            first.name(),
            weights.len() - 1
        ))),
    }
}

async fn read_index(source: &SharedSource) -> Result<ShardIndex> {
    let index = ShardIndex::parse(source.name(), &read_whole(source, MAX_TABLE_BYTES).await?);
    explained(source, index).await
}

/// Returns the files that the index called `name` names.
fn shards_of(files: &Folder, name: &str, index: &ShardIndex) -> Result<Vec<SharedSource>> {
    let shards = index.shards();
    if shards.is_empty() {
        return Err(Error::Format(format!("{name}: it names no weight file; download it again")));
    }
    shards
        .iter()
        .map(|name| {
            files.get(*name).cloned().ok_or_else(|| {
                Error::Source(format!(
                    "shard {name} is missing ({} of {} are here); add it to the folder",
                    shards.iter().filter(|n| files.contains_key(**n)).count(),
                    shards.len()
                ))
            })
        })
        .collect()
}

/// Makes the error for a folder without a safetensors file, which says what to do with the files that are there.
fn no_weights(files: &Folder) -> Error {
    let find = |endings: &[&str]| files.keys().find(|name| endings.iter().any(|end| name.ends_with(end)));
    Error::Source(match (find(&[".gguf"]), find(&OTHER_WEIGHTS)) {
        (Some(gguf), _) => {
            format!("there is no {ENDING} file beside {CONFIG_NAME}, but {gguf}; open that file itself")
        }
        (None, Some(other)) => format!(
            "the weights are in {other}, which is not read; save them as safetensors by transformers: \
             AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        ),
        (None, None) => format!(
            "there is no {ENDING} file among the files; open the whole folder of a Hugging Face model"
        ),
    })
}

/// Leaves out value projections of layers whose keys are their values, as transformers does: llama.cpp would use them.
fn settle_values(config: &Config, tensors: &mut Vec<TensorEntry>, notes: &mut Vec<String>) {
    let is_unused = |tensor: &TensorEntry| match tensor.id {
        TensorId::Layer(layer, Role::Value) => config
            .layers
            .get(layer)
            .is_some_and(|kind| config.full_heads(*kind).is_some_and(|heads| heads.keys_are_values)),
        _ => false,
    };
    let unused = tensors.iter().filter(|tensor| is_unused(tensor)).count();
    if unused > 0 {
        tensors.retain(|tensor| !is_unused(tensor));
        notes.push(format!(
            "{unused} value projections of layers whose keys are their values are left out, as in transformers."
        ));
    }
}

/// Leaves out the biases that `config` does not have, and notes those that `config` has and no file: transformers
/// sets them to zero.
fn settle_biases(config: &mut Config, tensors: &mut Vec<TensorEntry>, notes: &mut Vec<String>) {
    let stored: HashSet<Role> =
        tensors.iter().filter_map(|t| t.id.role()).filter(|role| role.is_bias()).collect();
    let wanted: HashSet<Role> =
        Role::required_anywhere(config).into_iter().filter(|role| role.is_bias()).collect();
    let described = |roles: Vec<&Role>| {
        let mut roles = roles;
        roles.sort_unstable();
        let names = roles
            .iter()
            .map(|role| TensorId::Layer(0, **role).describe(Container::Safetensors, config.architecture));
        names.collect::<Vec<_>>().join(", ")
    };
    let unused: Vec<&Role> = stored.difference(&wanted).collect();
    if !unused.is_empty() {
        notes.push(format!(
            "{CONFIG_NAME} has no such biases as {} and their likes in other layers; they are left out, as in \
             transformers.",
            described(unused)
        ));
    }
    let absent: Vec<&Role> = wanted.difference(&stored).collect();
    if !absent.is_empty() {
        notes.push(format!(
            "{} and their likes in other layers are in none of the weight files; they are zero, as in \
             transformers.",
            described(absent)
        ));
    }
    tensors.retain(|t| t.id.role().is_none_or(|role| !role.is_bias() || wanted.contains(&role)));
    config.biases = Biases::of(|role| wanted.contains(&role) && stored.contains(&role));
}

/// Decides whether the head is tied where the configuration says so and the files hold a head: transformers ties
/// it only if it equals the embedding.
async fn settle_head(
    config: &mut Config,
    tensors: &[TensorEntry],
    shards: &[SharedSource],
    notes: &mut Vec<String>,
) -> Result<()> {
    let find = |id: TensorId| tensors.iter().find(|t| t.id == id);
    if find(TensorId::Head).is_none() && config.tie_without_head() {
        notes.push(format!(
            "No weight file holds a head, so that the head is the embedding, as {CONFIG_NAME} says for the decoder; a \
             model that is written says so for the whole model too, by which transformers goes."
        ));
    }
    if let (true, Some(head), Some(embedding)) =
        (config.tied_head, find(TensorId::Head), find(TensorId::Embedding))
        && head.shape == embedding.shape
        && differ(head, embedding, shards).await?
    {
        config.tied_head = false;
        notes.push(format!(
            "{CONFIG_NAME} says that the head is the embedding, but {} differs from it; the head that is stored \
             counts, as in transformers 5, and a model that is written says so.",
            head.name
        ));
    }
    Ok(())
}

/// Makes the notes on the packed matrices of a model, if it has any.
fn note_on_packing(packing: &Packing, packed: &[TensorEntry]) -> Vec<String> {
    let mut types: Vec<String> = packed.iter().map(TensorEntry::stored_type).collect();
    types.sort_unstable();
    types.dedup();
    if packed.is_empty() {
        return Vec::new();
    }
    let mut notes = vec![format!(
        "{} matrices are packed ({} {}); they are computed with as {} makes floats of them.",
        packed.len(),
        packing.method.name(),
        types.join(", "),
        if packing.method == Method::CompressedTensors { "transformers" } else { "GPTQModel" },
    )];
    if packing.rounds_activations {
        notes.push(
            "The settings tell to round what these matrices multiply to 8 bits too, each token by itself, and so it is \
             computed here, as vLLM does it; transformers computes with rounded weights only where it dequantises them."
                .to_owned(),
        );
    }
    notes
}

/// Whether two tensors of equal shapes differ in any value. Reads them until they do.
async fn differ(a: &TensorEntry, b: &TensorEntry, shards: &[SharedSource]) -> Result<bool> {
    let values = a.values();
    let mut first = 0;
    while first < values {
        let count = COMPARED_VALUES.min(values - first);
        let mut pieces = Vec::with_capacity(2);
        for tensor in [a, b] {
            let width = tensor.bytes / values;
            let bytes = match shards.get(tensor.shard) {
                Some(shard) => {
                    read_checked(shard.as_ref(), tensor.offset + first * width, count * width).await?
                }
                None => Vec::new(),
            };
            pieces.push((tensor, bytes));
        }
        if let [(a, a_bytes), (b, b_bytes)] = pieces.as_slice()
            && (a.element != b.element || a_bytes != b_bytes)
            && decode(&a.name, a.element, a_bytes)? != decode(&b.name, b.element, b_bytes)?
        {
            return Ok(true);
        }
        first += count;
    }
    Ok(false)
}

async fn read_header(source: &SharedSource) -> Result<Header> {
    let size = source.size();
    let first = read_checked(source.as_ref(), 0, LENGTH_BYTES.min(size)).await?;
    let length = header_length(source.name(), &first, size)?;
    let json = read_checked(source.as_ref(), LENGTH_BYTES, length).await?;
    parse_header(source.name(), &json, size)
}

/// Finds how the files spell the tensors of the decoder, if that is a part of the model.
fn settle_spelling(config: &mut Config, named: &[(usize, String, TensorInfo)]) {
    if let Some(whole) = &mut config.whole
        && let Some(spelling) = Spelling::of(named.iter().map(|(_, name, _)| name.as_str()))
    {
        whole.spelling = spelling;
    }
}

/// Tensors of a model.
struct Entries {
    /// Those of the decoder.
    tensors: Vec<TensorEntry>,
    /// Those of the other parts.
    carried: Vec<CarriedTensor>,
}

/// Makes the entries of all tensors, given by shard and name. Names that all lack the prefix of the base model
/// are read as if they had it. Tables and scales that nothing depends on are left out.
fn entries(
    config: &Config,
    shards: &[SharedSource],
    named: Vec<(usize, String, TensorInfo)>,
    notes: &mut Vec<String>,
) -> Result<Entries> {
    let architecture = config.architecture;
    let parse = |name: &str| {
        // A tensor of several parts goes by the first, until it is parted.
        let joined = TensorId::parse_joined(Container::Safetensors, architecture, name);
        joined.map(Joined::first).or_else(|| TensorId::parse(Container::Safetensors, architecture, name))
    };
    let has_prefix = named.iter().any(|(_, name, _)| has_base_prefix(name));
    let is_embedding = |name: &str| parse(&with_base_prefix(name)) == Some(TensorId::Embedding);
    let is_base =
        config.whole.is_none() && !has_prefix && named.iter().any(|(_, name, _)| is_embedding(name));
    let identify = |name: &str| match &config.whole {
        Some(whole) => whole.spelling.plain(name).and_then(|plain| parse(&plain)),
        None if is_base => parse(&with_base_prefix(name)),
        None => parse(name),
    };
    let mut scales = 0;
    let mut pieces = config.packing.as_ref().map(Pieces::new);
    let mut exponents = HashMap::new();
    let mut tensors = Vec::with_capacity(named.len());
    let (mut carried, mut drafting) = (Vec::new(), 0);
    for (shard, name, info) in named {
        let file = shards.get(shard).map_or("", |shard| shard.name());
        let is_piece = pieces.as_mut().is_some_and(|pieces| pieces.take(&name, shard, &info));
        if is_piece {
            continue;
        }
        let parsed = identify(&name);
        let is_carried = config.whole.as_ref().is_some_and(|whole| is_of_part(&name, whole.wrapper.parts));
        let id = match parsed {
            Some(id) => Some(id),
            None if is_carried => None,
            None if architecture.drafts && is_of_drafting(&name) => {
                drafting += 1;
                continue;
            }
            None if is_cache_scale(&name) => {
                scales += 1;
                continue;
            }
            None if is_rotary_table(&name) => continue,
            None => return Err(foreign(file, &name, architecture)),
        };
        // In MXFP4, blocks and exponents are tensors of bytes.
        let stem = if info.dtype == Dtype::U8 { mxfp4_stem(&name) } else { None };
        if let (Some(id @ TensorId::Expert(..)), Some((stem, is_exponents))) = (id, stem) {
            let (shape, offset, bytes) = (info.shape, info.offset, info.bytes);
            match is_exponents {
                true => drop(exponents.insert(stem.to_owned(), (shard, offset, shape))),
                false => {
                    let element = Element::Block(BlockType::Mxfp4);
                    let (turns, packed) = (None, None);
                    tensors.push(TensorEntry {
                        id,
                        name,
                        element,
                        shape,
                        shard,
                        offset,
                        bytes,
                        turns,
                        packed,
                    });
                }
            }
            continue;
        }
        let dtype = format!("{:?}", info.dtype);
        let element = Element::FLOATS.into_iter().find(|e| e.to_string().eq_ignore_ascii_case(&dtype));
        let Some(element) = element else {
            return Err(Error::Unsupported(format!(
                "{file}: tensor {name} is of type {dtype}; F32, F16 and BF16 are supported"
            )));
        };
        let (shape, offset, bytes) = (info.shape, info.offset, info.bytes);
        match id {
            Some(id) => {
                if let Some(pieces) = &pieces {
                    pieces.check_plain(file, &name, id, config)?;
                }
                let (turns, packed) = (None, None);
                tensors.push(TensorEntry { id, name, element, shape, shard, offset, bytes, turns, packed })
            }
            None => carried.push(CarriedTensor { name, element, shape, shard, offset, bytes }),
        }
    }
    for tensor in tensors.iter_mut().filter(|t| t.element == Element::Block(BlockType::Mxfp4)) {
        let stem = mxfp4_stem(&tensor.name).map_or("", |(stem, _)| stem);
        let own = exponents.remove(stem).filter(|(.., shape)| tensor.shape.get(..3) == Some(shape));
        let (shard, offset, _) = own.ok_or_else(|| {
            let [_, ending] = MXFP4_ENDINGS;
            Error::Format(format!(
                "tensor {stem}{ending}, of as many exponents as {} has blocks, is in none of the weight files; download \
                 the model again",
                tensor.name
            ))
        })?;
        tensor.turns = Some(Turns { of: 1, place: 0, exponents: Some((shard, offset)) });
    }
    if let (Some(packing), Some(pieces)) = (&config.packing, pieces) {
        let of_several = |name: &str| {
            let plain = match &config.whole {
                Some(whole) => whole.spelling.plain(name),
                None if is_base => Some(with_base_prefix(name)),
                None => Some(name.to_owned()),
            };
            plain.is_some_and(|plain| {
                TensorId::parse_joined(Container::Safetensors, architecture, &plain).is_some()
            })
        };
        let packed = pieces.entries(config, shards, |file, name| {
            let id = identify(name).ok_or_else(|| foreign(file, name, architecture))?;
            Ok((id, of_several(name)))
        })?;
        notes.extend(note_on_packing(packing, &packed));
        tensors.extend(packed);
        tensors.sort_by_key(|tensor| (tensor.shard, tensor.offset));
    }
    if let (Some(whole), false) = (&config.whole, carried.is_empty()) {
        notes.push(format!(
            "The model has {} tensors beside its decoder ({}), which are not read: a Hugging Face folder gets them byte \
             for byte, and a GGUF file holds the decoder only.",
            carried.len(),
            whole.wrapper.parts.iter().map(|part| part.trim_end_matches('.')).collect::<Vec<_>>().join(", ")
        ));
    }
    notes.extend(note_on_drafting(drafting));
    if is_base {
        notes.push(
            "The names of the tensors lack the prefix \"model.\", as those of a model without an output head; \
             a model that is written has the full names."
                .to_owned(),
        );
    }
    if scales > 0 {
        notes.push(format!(
            "{scales} scales for an 8-bit cache of keys and values are ignored, as in transformers, and are not \
             written."
        ));
    }
    Ok(Entries { tensors, carried })
}
