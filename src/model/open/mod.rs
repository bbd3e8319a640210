//! Opening a Hugging Face directory: every header is read and checked, no weight is.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::config::{CONFIG_NAME, Config};
use super::names::{Role, TensorId};
use super::tokenizer::{TOKENIZER_NAME, Tokenizer};
use crate::format::element::Element;
use crate::format::index::{INDEX_NAME, ShardIndex};
use crate::format::safetensors::{Header, LENGTH_BYTES, header_length, parse_header};
use crate::source::{SharedSource, read_checked};
use crate::{Error, Result};

/// Small files that belong to a model and are copied unchanged into a compressed one.
const COMPANIONS: [&str; 10] = [
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
];

/// Longest small file (configuration, tokenizer, index) that is read whole.
const MAX_SMALL_FILE_BYTES: u64 = 256 << 20;

/// Where a tensor lies, and what it is.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// What the tensor is.
    pub id: TensorId,
    /// Its element type.
    pub element: Element,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Index of the shard in [`Model::shards`].
    pub shard: usize,
    /// First byte in the shard.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// An opened model: configuration, tokenizer and the places of all tensors; the weights stay where
/// they are.
pub struct Model {
    /// What to call it in reports.
    pub name: String,
    /// Its checked configuration.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The weight files.
    pub shards: Vec<SharedSource>,
    /// Small files to copy into a compressed model.
    pub companions: Vec<SharedSource>,
    /// Tensors in the order of the files.
    tensors: Vec<TensorEntry>,
    places: HashMap<TensorId, usize>,
}

impl Model {
    /// Opens the model whose files are `files`; `name` is for reports.
    ///
    /// Files may lie in one common folder; other files are ignored.
    ///
    /// # Errors
    /// Whatever is wrong with the model, before any weight is read: a missing file or shard, a
    /// header that lies, an unknown architecture, tensor or dtype, a wrong shape, a tokenizer of
    /// another model. See [`Config::parse`] and
    /// [`parse_header`].
    pub async fn open(name: impl Into<String>, files: &[SharedSource]) -> Result<Self> {
        let files = by_base_name(files)?;
        let config = Config::parse(&read_small(require(&files, CONFIG_NAME)?).await?)?;
        let shards = find_shards(&files).await?;
        let tokenizer = Tokenizer::parse(&read_small(require(&files, TOKENIZER_NAME)?).await?, &config)?;
        let mut tensors = Vec::new();
        for (shard, source) in shards.iter().enumerate() {
            let header = read_header(source).await?;
            for entry in entries(source.name(), shard, header, &config)? {
                tensors.push(entry);
            }
        }
        let mut places = HashMap::new();
        for (place, entry) in tensors.iter().enumerate() {
            if places.insert(entry.id, place).is_some() {
                return Err(Error::Format(format!(
                    "tensor {} is in more than one shard; download the model again",
                    entry.id.name()
                )));
            }
        }
        let companions = COMPANIONS.iter().filter_map(|n| files.get(*n).cloned()).collect();
        let model = Self { name: name.into(), config, tokenizer, shards, companions, tensors, places };
        model.check_complete()?;
        Ok(model)
    }

    /// All tensors in the order of the files.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// The place of one tensor, `None` if the model has none such.
    pub fn tensor(&self, id: TensorId) -> Option<&TensorEntry> {
        self.places.get(&id).and_then(|place| self.tensors.get(*place))
    }

    /// Roles of the tensors of layer `layer`, carried-along buffers included.
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

    /// The tensor that holds the output head: the embedding where it is tied.
    pub fn head(&self) -> TensorId {
        // Some tied checkpoints carry a stale copy of the head; upstream ignores it, and so do we.
        if self.config.tied_head { TensorId::Embedding } else { TensorId::Head }
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// Parameters of all tensors; a tied head counts once.
    pub fn total_parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes / t.element.size() as u64).sum()
    }

    /// Bytes of one layer's tensors.
    pub fn layer_bytes(&self, layer: usize) -> u64 {
        let of_layer = |t: &&TensorEntry| matches!(t.id, TensorId::Layer(l, _) if l == layer);
        self.tensors.iter().filter(of_layer).map(|t| t.bytes).sum()
    }

    fn check_complete(&self) -> Result<()> {
        let mut needed = vec![TensorId::Embedding, TensorId::FinalNorm];
        if !self.config.tied_head {
            needed.push(TensorId::Head);
        }
        let roles = Role::required(&self.config);
        for layer in 0..self.config.n_layers {
            needed.extend(roles.iter().map(|role| TensorId::Layer(layer, *role)));
        }
        for id in needed {
            if !self.places.contains_key(&id) {
                return Err(Error::Format(format!(
                    "tensor {} is in none of the weight files; a shard is missing or the \
                     configuration belongs to another model",
                    id.name()
                )));
            }
        }
        Ok(())
    }
}

fn by_base_name(files: &[SharedSource]) -> Result<BTreeMap<String, SharedSource>> {
    let mut map = BTreeMap::new();
    // A picked folder gives names like "model/config.json"; the shallowest config.json leads.
    let depth = |name: &str| name.matches('/').count();
    let root = files
        .iter()
        .map(|f| f.name())
        .filter(|n| n.rsplit('/').next() == Some(CONFIG_NAME))
        .min_by_key(|n| depth(n))
        .ok_or_else(|| {
            Error::Source(format!(
                "there is no {CONFIG_NAME} among the files; open the whole folder of a Hugging Face \
                 model"
            ))
        })?;
    let folder = root.strip_suffix(CONFIG_NAME).unwrap_or("");
    for file in files {
        if let Some(base) = file.name().strip_prefix(folder)
            && !base.contains('/')
        {
            map.insert(base.to_owned(), Rc::clone(file));
        }
    }
    Ok(map)
}

fn require<'a>(files: &'a BTreeMap<String, SharedSource>, name: &str) -> Result<&'a SharedSource> {
    files.get(name).ok_or_else(|| {
        Error::Source(format!("{name} is missing; open the whole folder of a Hugging Face model"))
    })
}

async fn read_small(source: &SharedSource) -> Result<Vec<u8>> {
    if source.size() > MAX_SMALL_FILE_BYTES {
        return Err(Error::Format(format!(
            "{}: {} bytes are too many for such a file; is it the right one?",
            source.name(),
            source.size()
        )));
    }
    read_checked(source.as_ref(), 0, source.size()).await
}

async fn find_shards(files: &BTreeMap<String, SharedSource>) -> Result<Vec<SharedSource>> {
    if let Some(index) = files.get(INDEX_NAME) {
        let index = ShardIndex::parse(INDEX_NAME, &read_small(index).await?)?;
        let shards = index.shards();
        return shards
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
            .collect();
    }
    let weights: Vec<&SharedSource> =
        files.iter().filter(|(n, _)| n.ends_with(".safetensors")).map(|(_, f)| f).collect();
    match weights.as_slice() {
        [single] => Ok(vec![Rc::clone(single)]),
        [] => Err(Error::Source(
            "there is no .safetensors file among the files; open the whole folder of a Hugging Face \
             model"
                .to_owned(),
        )),
        [first, ..] => Err(Error::Source(format!(
            "{INDEX_NAME} is missing, so it is not known how {} and the other {} weight files belong \
             together; add it to the folder",
            first.name(),
            weights.len() - 1
        ))),
    }
}

async fn read_header(source: &SharedSource) -> Result<Header> {
    let size = source.size();
    let first = read_checked(source.as_ref(), 0, LENGTH_BYTES.min(size)).await?;
    let length = header_length(source.name(), &first, size)?;
    let json = read_checked(source.as_ref(), LENGTH_BYTES, length).await?;
    parse_header(source.name(), &json, size)
}

fn entries(file: &str, shard: usize, header: Header, config: &Config) -> Result<Vec<TensorEntry>> {
    header
        .tensors
        .into_iter()
        .map(|(name, info)| {
            let id = TensorId::parse(&name).ok_or_else(|| {
                Error::Unsupported(format!(
                    "{file}: tensor {name} belongs to no {}; the model has parts that are not \
                     supported",
                    config.architecture
                ))
            })?;
            if let TensorId::Layer(layer, _) = id
                && layer >= config.n_layers
            {
                return Err(Error::Shape(format!(
                    "{file}: tensor {name} is of layer {layer}, but the configuration has {} layers",
                    config.n_layers
                )));
            }
            let element: Element = format!("{:?}", info.dtype).parse().map_err(|_| {
                Error::Unsupported(format!(
                    "{file}: tensor {name} is of type {:?}; F32, F16 and BF16 are supported",
                    info.dtype
                ))
            })?;
            let expected = id.shape(config);
            if info.shape != expected {
                return Err(Error::Shape(format!(
                    "{file}: tensor {name} has shape {:?}, but the configuration demands {expected:?}",
                    info.shape
                )));
            }
            Ok(TensorEntry { id, element, shape: info.shape, shard, offset: info.offset, bytes: info.bytes })
        })
        .collect()
}
