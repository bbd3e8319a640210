//! Opening of a Hugging Face model: a folder with `config.json`, `tokenizer.json` and safetensors files.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Opened, TensorEntry, identify, read_small};
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::element::Element;
use crate::format::index::{INDEX_NAME, ShardIndex};
use crate::format::safetensors::{Header, LENGTH_BYTES, header_length, parse_header};
use crate::model::config::Config;
use crate::model::config::hugging_face::CONFIG_NAME;
use crate::model::tokenizer::{TOKENIZER_NAME, Tokenizer};
use crate::{Error, Result};

/// Names of the small files of a model that are copied unchanged into a compressed one.
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
    let config = Config::parse(&read_small(require(files, CONFIG_NAME)?).await?)?;
    let shards = find_shards(files).await?;
    let tokenizer = Tokenizer::parse(&read_small(require(files, TOKENIZER_NAME)?).await?, &config)?;
    let mut tensors = Vec::new();
    for (shard, source) in shards.iter().enumerate() {
        tensors.extend(entries(source.name(), shard, read_header(source).await?)?);
    }
    let companions = COMPANIONS.iter().filter_map(|n| files.get(*n).cloned()).collect();
    Ok(Opened { config, tokenizer, shards, companions, tensors })
}

fn require<'a>(files: &'a Folder, name: &str) -> Result<&'a SharedSource> {
    files.get(name).ok_or_else(|| {
        Error::Source(format!("{name} is missing; open the whole folder of a Hugging Face model"))
    })
}

async fn find_shards(files: &Folder) -> Result<Vec<SharedSource>> {
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

fn entries(file: &str, shard: usize, header: Header) -> Result<Vec<TensorEntry>> {
    header
        .tensors
        .into_iter()
        .map(|(name, info)| {
            let id = identify(Container::Safetensors, file, &name)?;
            let dtype = format!("{:?}", info.dtype);
            let element = Element::FLOATS.into_iter().find(|e| e.to_string().eq_ignore_ascii_case(&dtype));
            let Some(element) = element else {
                return Err(Error::Unsupported(format!(
                    "{file}: tensor {name} is of type {dtype}; F32, F16 and BF16 are supported"
                )));
            };
            let (shape, offset, bytes) = (info.shape, info.offset, info.bytes);
            Ok(TensorEntry { id, name, element, shape, shard, offset, bytes })
        })
        .collect()
}
