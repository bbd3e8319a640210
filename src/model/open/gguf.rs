//! Opening of a model that is one GGUF file, or all files of a split one.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::{Opened, TensorEntry, explained, foreign, note_on_drafting, parted, settle_keys};
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::element::decode;
use crate::format::gguf::{
    Header, MAX_HEADER_BYTES, parse_header, parse_metadata, parse_split_name, split_name,
};
use crate::model::architectures::{Architecture, GgufHead};
use crate::model::config::gguf::{Facts, check_architecture, leave_out_drafting, names_architecture};
use crate::model::config::special::notes_on_ids;
use crate::model::config::{Biases, Config};
use crate::model::tensors::{Joined, Role, TensorId, gguf_layer};
use crate::model::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Bytes of the first read of a header: in most files, all but the vocabulary fits.
const FIRST_BYTES: u64 = 1 << 20;

/// Most rotary divisors that are read. No head is as wide as twice this number.
const MAX_DIVISORS: u64 = 1 << 16;

/// Reads the headers of all files, and the configuration and the tokenizer from the metadata of the first. The
/// architecture is judged before any tensor.
pub async fn open(files: &[SharedSource]) -> Result<Opened> {
    let (shards, mut headers) = order(one_model(files)?).await?;
    let (Some(first), Some(header)) = (shards.first(), headers.first_mut()) else {
        return Err(Error::Source("there is no .gguf file among the files".to_owned()));
    };
    let architecture = check_architecture(first.name(), &header.metadata)?;
    let without_drafting = leave_out_drafting(first.name(), architecture, &mut header.metadata)?;
    let is_left_out = |name: &str| match (without_drafting, gguf_layer(name)) {
        (Some(n_layers), Some(layer)) => layer >= n_layers,
        _ => false,
    };
    let mut left_out = 0;
    let mut tensors = Vec::new();
    for (shard, (source, header)) in shards.iter().zip(&headers).enumerate() {
        for info in &header.tensors {
            if is_left_out(&info.name) {
                left_out += 1;
                continue;
            }
            // Until the sizes are known, a tensor of several parts goes by the first.
            let joined = TensorId::parse_joined(Container::Gguf, architecture, &info.name);
            let id = joined.map(Joined::first);
            let id = id.or_else(|| TensorId::parse(Container::Gguf, architecture, &info.name));
            let id = id.ok_or_else(|| foreign(source.name(), &info.name, architecture))?;
            tensors.push(TensorEntry {
                id,
                name: info.name.clone(),
                element: info.element,
                shape: info.shape.clone(),
                shard,
                offset: info.offset,
                bytes: info.bytes,
                turns: None,
                packed: None,
            });
        }
    }
    let facts = facts(architecture, &tensors, &shards).await?;
    let (first, metadata) = match (shards.first(), headers.into_iter().next()) {
        (Some(first), Some(header)) => (first.name().to_owned(), header.metadata),
        _ => return Err(Error::Source("there is no .gguf file among the files".to_owned())),
    };
    let mut notes = notes_on_ids(&metadata, usize::try_from(facts.vocab_size).unwrap_or(usize::MAX));
    notes.extend(note_on_drafting(left_out));
    let config = Config::from_metadata(&first, metadata, facts)?;
    let mut tensors = parted(tensors, &shards, &config)?;
    settle_keys(&config, &mut tensors, &mut notes);
    let tokenizer = Tokenizer::from_config(&first, &config)?;
    Ok(Opened { config, tokenizer, shards, companions: Vec::new(), tensors, carried: Vec::new(), notes })
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
        let header = explained(&file, read_header(&file).await).await?;
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
        match parse_header(file.name(), &front, size) {
            Ok(Some(header)) => return Ok(header),
            Ok(None) => {}
            Err(refused @ Error::Unsupported(_)) => {
                // A type of tensor that is not read, in a model of another architecture: the architecture is said.
                if let Ok(Some(metadata)) = parse_metadata(file.name(), &front, size)
                    && names_architecture(&metadata)
                {
                    check_architecture(file.name(), &metadata)?;
                }
                return Err(refused);
            }
            Err(other) => return Err(other),
        }
        length = (4 * length).min(size).min(MAX_HEADER_BYTES);
    }
}

/// Derives the settings that follow from the tensors: vocabulary size, tied head, biases and rotary divisors.
async fn facts(
    architecture: &Architecture,
    tensors: &[TensorEntry],
    shards: &[SharedSource],
) -> Result<Facts> {
    let parts = |tensor: &TensorEntry| TensorId::parse_joined(Container::Gguf, architecture, &tensor.name);
    let joined = tensors.iter().filter_map(parts).flat_map(Joined::of_layer);
    let ids: HashSet<TensorId> = tensors.iter().map(|t| t.id).chain(joined).collect();
    // A bias that some layers have and others lack is found missing later.
    let biases: HashSet<_> = ids.iter().filter_map(|id| id.role()).filter(|role| role.is_bias()).collect();
    let find = |id: TensorId| tensors.iter().find(|t| t.id == id);
    // A missing embedding is reported here: later checks compare with the vocabulary and would blame other
    // keys.
    let embedding = find(TensorId::Embedding)
        .ok_or_else(|| super::missing(&TensorId::Embedding.describe(Container::Gguf, architecture)))?;
    let divisors = async |id: TensorId| -> Result<Option<Vec<f32>>> {
        let Some(entry) = find(id) else { return Ok(None) };
        match shards.get(entry.shard) {
            Some(shard) if entry.values() > MAX_DIVISORS => Err(Error::Shape(format!(
                "{}: tensor {} has {} values, more than any head has frequencies",
                shard.name(),
                entry.name,
                entry.values()
            ))),
            Some(shard) => {
                let bytes = read_checked(shard.as_ref(), entry.offset, entry.bytes).await?;
                Ok(Some(decode(&entry.name, entry.element, &bytes)?))
            }
            None => Ok(None),
        }
    };
    let layers_with =
        |role: Role| ids.iter().filter(|id| id.role() == Some(role)).filter_map(|id| id.layer()).collect();
    let short_and_long = (divisors(TensorId::ShortDivisors).await?, divisors(TensorId::LongDivisors).await?);
    Ok(Facts {
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        tied_head: architecture.gguf_head == GgufHead::Never || !ids.contains(&TensorId::Head),
        biases: Biases::of(|role| biases.contains(&role)),
        routed: layers_with(Role::Router),
        valued: layers_with(Role::Value),
        rotary_divisors: divisors(TensorId::RotaryDivisors).await?,
        long_divisors: match short_and_long {
            (Some(short), Some(long)) => Some([short, long]),
            _ => None,
        },
    })
}
