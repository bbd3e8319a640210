//! Writing of a model as one GGUF file or as a split one.

use super::card::{ExtraFile, RECIPE_NAME};
use super::jobs::jobs;
use super::{Job, Writer, shards};
use crate::files::source::read_checked;
use crate::format::Container;
use crate::format::gguf::{Metadata, OutputTensor, Value, header_bytes, padding, split_metadata, split_name};
use crate::model::config::special::SpecialIds;
use crate::model::tokenizer::gguf::{CHAT_TEMPLATE_KEY, to_metadata, to_metadata_with_merges};
use crate::model::tokenizer::{TOKENIZER_CONFIG_NAME, TOKENIZER_NAME};
use crate::model::weights::new_layer::NewLayer;
use crate::model::{Config, Model};
use crate::protocol::options::WriteOptions;
use crate::{Error, Result};

/// Metadata key of the recipe, which is stored inside the GGUF file because the file may travel alone.
const RECIPE_KEY: &str = "laminate.recipe";

/// Names of the files of their own in which newer and older versions of transformers keep a chat template.
const TEMPLATE_NAMES: [&str; 2] = ["chat_template.jinja", "chat_template.json"];

/// Writes the model, whose configuration is `config`, as one GGUF file, or as several if its tensors exceed the largest
/// allowed size.
pub async fn write(
    writer: &mut Writer<'_>,
    model: &Model,
    config: &Config,
    groups: &[Vec<usize>],
    jobs: &[Job<'_>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<()> {
    let metadata = metadata(model, config, groups, options, extra).await?;
    let padded = |job: &Job<'_>| job.bytes + padding(&metadata, job.bytes);
    let shards = shards(jobs, options.max_shard_bytes, padded);
    let too_many = || Error::Usage(format!("{} files are too many; allow larger ones", shards.len()));
    let n_files = u16::try_from(shards.len()).map_err(|_| too_many())?;
    let n_tensors = i32::try_from(jobs.len()).map_err(|_| too_many())?;
    let stem = options.stem(model);
    for (number, jobs) in shards.iter().enumerate() {
        let outputs: Vec<OutputTensor> = jobs.iter().map(output).collect();
        let (name, header) = match n_files {
            1 => (format!("{stem}.gguf"), header_bytes(&metadata, &outputs)),
            _ => {
                let own = split_metadata(&metadata, number as u16, n_files, n_tensors);
                (split_name(&stem, number, shards.len()), header_bytes(&own, &outputs))
            }
        };
        writer.shard(model, &name, &header, jobs, |bytes| padding(&metadata, bytes)).await?;
    }
    Ok(())
}

/// Bytes for which a recipe is reserved, where its length is not known yet: as much for a file, and for each layer.
const RECIPE_BYTES: (u64, u64) = (8 << 10, 512);

/// Returns about how many bytes a GGUF file of all layers of `model`, stored as `options` say, has besides those of its
/// tensors: a little more than it will have.
///
/// # Errors
/// [`Error::Format`] if the model lacks a tensor; [`Error::Unsupported`] if its settings or its tokenizer cannot be expressed
/// in a GGUF file; [`Error::Source`] if a small file cannot be read.
pub async fn bytes_beside_tensors(model: &Model, options: &WriteOptions) -> Result<u64> {
    let layers = NewLayer::originals(model);
    let groups: Vec<Vec<usize>> = (0..layers.len()).map(|layer| vec![layer]).collect();
    let metadata = metadata(model, &model.config, &groups, options, Vec::new()).await?;
    let jobs = jobs(model, &layers, options.storage(model))?;
    let outputs: Vec<OutputTensor> = jobs.iter().map(output).collect();
    let paddings: u64 = jobs.iter().map(|job| padding(&metadata, job.bytes)).sum();
    let (of_file, of_layer) = RECIPE_BYTES;
    let recipe = of_file + of_layer * layers.len() as u64;
    Ok(header_bytes(&metadata, &outputs).len() as u64 + paddings + recipe)
}

fn output(job: &Job<'_>) -> OutputTensor {
    OutputTensor { name: job.name.clone(), element: job.element, shape: job.shape.clone(), bytes: job.bytes }
}

/// Makes the metadata of the model that has the configuration `config` and one layer for each entry of `groups`, with the
/// recipe among `extra`.
///
/// # Errors
/// Those of [`Config::to_metadata`](crate::model::Config::to_metadata) and [`new_metadata`].
pub async fn metadata(
    model: &Model,
    config: &Config,
    groups: &[Vec<usize>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<Metadata> {
    let mut metadata = config.to_metadata(groups, options.whole_type())?;
    for (key, value) in new_metadata(model).await? {
        metadata.set(&key, value);
    }
    if metadata.get("general.name").is_none() {
        metadata.set("general.name", Value::String(model.name.clone()));
    }
    let recipe = extra.into_iter().find(|file| file.name == RECIPE_NAME);
    if let Some(json) = recipe.and_then(|file| String::from_utf8(file.contents).ok()) {
        metadata.set(RECIPE_KEY, Value::String(json));
    }
    Ok(metadata)
}

/// Makes the metadata that describe the tokenizer of a Hugging Face model; empty for a GGUF model, whose
/// metadata describe it already.
///
/// # Errors
/// Those of [`to_metadata`], [`to_metadata_with_merges`] and [`read_checked`].
async fn new_metadata(model: &Model) -> Result<Vec<(String, Value)>> {
    if model.container() == Container::Gguf {
        return Ok(Vec::new());
    }
    let json = companion(model, TOKENIZER_NAME).await?;
    let settings = companion(model, TOKENIZER_CONFIG_NAME).await?;
    let special = SpecialIds { bos: model.config.bos_token_id, eos: model.config.eos_token_id };
    let convert = match model.config.architecture.lists_merges {
        true => to_metadata_with_merges,
        false => to_metadata,
    };
    let mut entries =
        convert(&json.unwrap_or_default(), settings.as_deref(), model.config.vocab_size, special)?;
    // As in transformers, a file of its own comes before the tokenizer's settings.
    if let Some(template) = template(model).await? {
        entries.retain(|(key, _)| key != CHAT_TEMPLATE_KEY);
        entries.push((CHAT_TEMPLATE_KEY.to_owned(), Value::String(template)));
    }
    Ok(entries)
}

/// Reads the small file `name` of a Hugging Face model, if it is there.
async fn companion(model: &Model, name: &str) -> Result<Option<Vec<u8>>> {
    match model.companions.iter().find(|c| c.name().rsplit('/').next() == Some(name)) {
        Some(source) => read_checked(source.as_ref(), 0, source.size()).await.map(Some),
        None => Ok(None),
    }
}

/// Reads the chat template that a Hugging Face model keeps in a file of its own, if there is one.
///
/// # Errors
/// [`Error::Format`], naming the file, if it is no text or no JSON object with a template, and those of
/// [`read_checked`].
async fn template(model: &Model) -> Result<Option<String>> {
    for name in TEMPLATE_NAMES {
        let Some(bytes) = companion(model, name).await? else { continue };
        let bad = |why: String| Error::Format(format!("{name}: {why}; download it again or remove it"));
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8 text".to_owned()))?;
        if !name.ends_with(".json") {
            return Ok(Some(text));
        }
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| bad(format!("not JSON ({e})")))?;
        let template = json.get("chat_template").unwrap_or(&json).as_str();
        return template
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| bad("it holds no template".to_owned()));
    }
    Ok(None)
}
