//! Opening a model: every header is read and checked, no weight is.

mod gguf;
mod hugging_face;

use std::collections::HashMap;

use super::config::Config;
use super::tensors::{Role, TensorId};
use super::tokenizer::Tokenizer;
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::element::Element;
use crate::format::gguf::parse_split_name;
use crate::{Error, Result};

/// Longest small file (configuration, tokenizer, index) that is read whole.
const MAX_SMALL_FILE_BYTES: u64 = 256 << 20;

/// Where a tensor lies, and what it is.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// What the tensor is.
    pub id: TensorId,
    /// Its name in the file.
    pub name: String,
    /// How its values are stored.
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

impl TensorEntry {
    /// How many values it has.
    pub fn values(&self) -> u64 {
        self.element.values(self.bytes)
    }
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
    /// With a `config.json` among them they are a Hugging Face model, else one GGUF file or all files of a
    /// split one. They may lie in one common folder; other files are ignored.
    ///
    /// # Errors
    /// Whatever is wrong with the model, before any weight is read: a missing file or shard, a
    /// header that lies, an unknown architecture, tensor or type, a wrong shape, a tokenizer of
    /// another model. See [`Config::parse`] and [`Config::from_metadata`].
    pub async fn open(name: impl Into<String>, files: &[SharedSource]) -> Result<Self> {
        let parts = match hugging_face::folder(files)? {
            Some(folder) => hugging_face::open(&folder).await?,
            None => gguf::open(files).await?,
        };
        Self::new(name.into(), parts)
    }

    fn new(name: String, parts: Opened) -> Result<Self> {
        let Opened { config, tokenizer, shards, companions, tensors } = parts;
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
        let model = Self { name, config, tokenizer, shards, companions, tensors, places };
        model.check_complete()?;
        Ok(model)
    }

    /// What kind of file it is stored in.
    pub fn container(&self) -> Container {
        self.config.container()
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

    /// Attention heads whose rows a projection stores in pairs: llama.cpp rotates neighbours, we rotate
    /// halves. `None` for a projection that is not rotated, or is stored in halves already.
    pub fn paired_heads(&self, role: Role) -> Option<usize> {
        match (self.container(), role) {
            (Container::Gguf, Role::Query | Role::QueryBias) => Some(self.config.n_heads),
            (Container::Gguf, Role::Key | Role::KeyBias) => Some(self.config.n_kv_heads),
            _ => None,
        }
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// Parameters of all tensors; a tied head counts once.
    pub fn total_parameters(&self) -> u64 {
        self.tensors.iter().map(TensorEntry::values).sum()
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
                return Err(missing(id, self.container()));
            }
        }
        Ok(())
    }
}

/// What is said of a tensor that is needed and not there.
fn missing(id: TensorId, container: Container) -> Error {
    Error::Format(format!(
        "tensor {} is in none of the weight files; a shard is missing or the configuration belongs to another model",
        id.describe(container)
    ))
}

/// What to call the model of these files: their folder, or a GGUF file by its own name.
pub fn name_of(files: &[SharedSource]) -> Option<String> {
    let folder =
        files.iter().find_map(|file| file.name().split_once('/').map(|(folder, _)| folder.to_owned()));
    folder.or_else(|| {
        let name = files.iter().map(|file| file.name()).find(|name| name.ends_with(".gguf"))?;
        let stem = parse_split_name(name).map_or(name.strip_suffix(".gguf")?, |(stem, ..)| stem);
        Some(stem.to_owned())
    })
}

/// What either kind of file gives.
struct Opened {
    config: Config,
    tokenizer: Tokenizer,
    shards: Vec<SharedSource>,
    companions: Vec<SharedSource>,
    tensors: Vec<TensorEntry>,
}

/// What a tensor of `file` is, by its name.
fn identify(container: Container, file: &str, name: &str) -> Result<TensorId> {
    TensorId::parse(container, name).ok_or_else(|| {
        Error::Unsupported(format!(
            "{file}: tensor {name} belongs to no Llama-family model; the model has parts that are not \
             supported"
        ))
    })
}

fn check_entry(file: &str, entry: &TensorEntry, config: &Config) -> Result<()> {
    let name = &entry.name;
    if let TensorId::Layer(layer, _) = entry.id
        && layer >= config.n_layers
    {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} is of layer {layer}, but the configuration has {} layers",
            config.n_layers
        )));
    }
    let expected = entry.id.shape(config);
    if entry.shape != expected {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} has shape {:?}, but the configuration demands {expected:?}",
            entry.shape
        )));
    }
    Ok(())
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
