//! Opening of a model that is one GGUF file, or all files of a split one.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::{Opened, TensorEntry, identify};
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::element::decode;
use crate::format::gguf::{Header, MAX_HEADER_BYTES, parse_header, parse_split_name, split_name};
use crate::model::config::Config;
use crate::model::config::gguf::Facts;
use crate::model::tensors::{Role, TensorId};
use crate::model::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Bytes of the first read of a header: in most files, all but the vocabulary fits.
const FIRST_BYTES: u64 = 1 << 20;

/// Reads the headers of all files, and the configuration and the tokenizer from the metadata of the first.
pub async fn open(files: &[SharedSource]) -> Result<Opened> {
    let (shards, headers) = order(one_model(files)?).await?;
    let mut tensors = Vec::new();
    for (shard, (source, header)) in shards.iter().zip(&headers).enumerate() {
        for info in &header.tensors {
            tensors.push(TensorEntry {
                id: identify(Container::Gguf, source.name(), &info.name)?,
                name: info.name.clone(),
                element: info.element,
                shape: info.shape.clone(),
                shard,
                offset: info.offset,
                bytes: info.bytes,
            });
        }
    }
    let facts = facts(&tensors, &shards).await?;
    let (first, metadata) = match (shards.first(), headers.into_iter().next()) {
        (Some(first), Some(header)) => (first.name().to_owned(), header.metadata),
        _ => return Err(Error::Source("there is no .gguf file among the files".to_owned())),
    };
    let config = Config::from_metadata(&first, metadata, facts)?;
    let tokenizer = Tokenizer::from_config(&first, &config)?;
    Ok(Opened { config, tokenizer, shards, companions: Vec::new(), tensors })
}

/// Returns the `.gguf` files, or an error if their names belong to more than one model.
fn one_model(files: &[SharedSource]) -> Result<Vec<SharedSource>> {
    let ggufs: Vec<_> = files.iter().filter(|f| f.name().ends_with(".gguf")).map(Rc::clone).collect();
    let models: BTreeMap<&str, &str> = ggufs
        .iter()
        .map(|f| (parse_split_name(f.name()).map_or(f.name(), |(stem, ..)| stem), f.name()))
        .collect();
    let mut names = models.values();
    match (names.next(), names.next()) {
        (Some(one), Some(other)) => {
            Err(Error::Source(format!("{one} and {other} are different models; open one of them")))
        }
        _ => Ok(ggufs),
    }
}

/// Reads the header of each file and sorts the files by their number in a split model.
async fn order(files: Vec<SharedSource>) -> Result<(Vec<SharedSource>, Vec<Header>)> {
    let mut read = Vec::new();
    for file in files {
        let header = read_header(&file).await?;
        read.push((file, header));
    }
    read.sort_by_key(|(_, header)| header.split.map_or(0, |split| split.number));
    if let Some((file, header)) = read.iter().find(|(_, header)| header.split.is_none())
        && read.len() > 1
    {
        let n = header.tensors.len();
        return Err(Error::Format(format!(
            "{}: it is a whole model of {n} tensors; open it alone",
            file.name()
        )));
    }
    check_split(&read)?;
    Ok(read.into_iter().unzip())
}

/// Checks that the files of a split model are complete and belong together.
fn check_split(read: &[(SharedSource, Header)]) -> Result<()> {
    let Some((first, split)) = read.first().and_then(|(file, header)| Some((file.name(), header.split?)))
    else {
        return Ok(());
    };
    for (file, other) in read.iter().filter_map(|(file, header)| Some((file.name(), header.split?))) {
        if (other.count, other.tensors) != (split.count, split.tensors) {
            return Err(Error::Format(format!(
                "{first} and {file} are parts of different models, of {} and {} files; open one model's",
                split.count, other.count
            )));
        }
    }
    let there: Vec<u64> = read.iter().filter_map(|(_, header)| Some(header.split?.number)).collect();
    if let Some(twice) =
        there.windows(2).find_map(|pair| (pair.first() == pair.get(1)).then(|| pair.first())?)
    {
        return Err(Error::Format(format!(
            "part {} of the model is there twice; open each file once",
            twice + 1
        )));
    }
    if let Some(missing) = (0..split.count).find(|number| !there.contains(number)) {
        let stem = parse_split_name(first).map_or("model", |(stem, ..)| stem);
        return Err(Error::Source(format!(
            "{} is missing ({} of {} files are here); add it",
            split_name(stem, missing as usize, split.count as usize),
            there.len(),
            split.count
        )));
    }
    let n_tensors: u64 = read.iter().map(|(_, header)| header.tensors.len() as u64).sum();
    if split.tensors != 0 && n_tensors != split.tensors {
        return Err(Error::Format(format!(
            "{first}: the model has {} tensors, but its files hold {n_tensors}; they do not belong together",
            split.tensors
        )));
    }
    Ok(())
}

async fn read_header(file: &SharedSource) -> Result<Header> {
    let size = file.size();
    let mut length = FIRST_BYTES.min(size);
    loop {
        let front = read_checked(file.as_ref(), 0, length).await?;
        if let Some(header) = parse_header(file.name(), &front, size)? {
            return Ok(header);
        }
        length = (4 * length).min(size).min(MAX_HEADER_BYTES);
    }
}

/// Derives the settings that follow from the tensors: vocabulary size, tied head, biases and rotary divisors.
async fn facts(tensors: &[TensorEntry], shards: &[SharedSource]) -> Result<Facts> {
    let ids: HashSet<TensorId> = tensors.iter().map(|t| t.id).collect();
    let any = |roles: &[Role]| roles.iter().any(|role| ids.contains(&TensorId::Layer(0, *role)));
    let find = |id: TensorId| tensors.iter().find(|t| t.id == id);
    // A missing embedding is reported here: later checks compare with the vocabulary and would blame other
    // keys.
    let embedding =
        find(TensorId::Embedding).ok_or_else(|| super::missing(TensorId::Embedding, Container::Gguf))?;
    let rotary_divisors = match find(TensorId::RotaryDivisors) {
        Some(entry) => match shards.get(entry.shard) {
            Some(shard) => {
                let bytes = read_checked(shard.as_ref(), entry.offset, entry.bytes).await?;
                Some(decode(&entry.name, entry.element, &bytes)?)
            }
            None => None,
        },
        None => None,
    };
    Ok(Facts {
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        tied_head: !ids.contains(&TensorId::Head),
        attention_bias: any(&[Role::QueryBias, Role::KeyBias, Role::ValueBias, Role::OutputBias]),
        mlp_bias: any(&[Role::GateBias, Role::UpBias, Role::DownBias]),
        rotary_divisors,
    })
}
