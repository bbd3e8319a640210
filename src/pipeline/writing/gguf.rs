//! A GGUF file, or several.

use super::{ExtraFile, Job, Writer};
use crate::format::gguf::{Metadata, OutputTensor, Value, header_bytes, padding, split_metadata, split_name};
use crate::format::index::split_into_shards;
use crate::model::Model;
use crate::model::tokenizer::new_metadata;
use crate::pipeline::card::RECIPE_NAME;
use crate::pipeline::options::WriteOptions;
use crate::{Error, Result};

/// Where the recipe is kept: the file may travel without anything beside it.
const RECIPE_KEY: &str = "laminate.recipe";

/// One file, or as many as the largest allowed size demands.
pub async fn write(
    writer: &mut Writer<'_>,
    model: &Model,
    groups: &[Vec<usize>],
    jobs: &[Job<'_>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<()> {
    let metadata = metadata(model, groups, options, extra).await?;
    let sizes: Vec<u64> = jobs.iter().map(|job| job.bytes + padding(&metadata, job.bytes)).collect();
    let counts = split_into_shards(&sizes, options.max_shard_bytes);
    let too_many = || Error::Usage(format!("{} files are too many; allow larger ones", counts.len()));
    let n_files = u16::try_from(counts.len()).map_err(|_| too_many())?;
    let n_tensors = i32::try_from(jobs.len()).map_err(|_| too_many())?;
    let stem = options.stem(model);
    let mut rest = jobs;
    for (number, count) in counts.iter().enumerate() {
        let (jobs, later) = rest.split_at((*count).min(rest.len()));
        rest = later;
        let (name, own) = match n_files {
            0 | 1 => (format!("{stem}.gguf"), metadata.clone()),
            _ => (
                split_name(&stem, number, counts.len()),
                split_metadata(&metadata, number as u16, n_files, n_tensors),
            ),
        };
        file(writer, model, &name, &own, jobs).await?;
    }
    Ok(())
}

async fn file(
    writer: &mut Writer<'_>,
    model: &Model,
    name: &str,
    metadata: &Metadata,
    jobs: &[Job<'_>],
) -> Result<()> {
    let outputs: Vec<OutputTensor> = jobs
        .iter()
        .map(|job| OutputTensor {
            name: job.name.clone(),
            element: job.element,
            shape: job.shape.clone(),
            bytes: job.bytes,
        })
        .collect();
    writer.begin(name).await?;
    writer.append(&header_bytes(metadata, &outputs)).await?;
    for job in jobs {
        writer.tensor(model, name, job).await?;
        writer.append(&vec![0; padding(metadata, job.bytes) as usize]).await?;
    }
    writer.folder.close().await
}

async fn metadata(
    model: &Model,
    groups: &[Vec<usize>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<Metadata> {
    let mut metadata = model.config.to_metadata(groups, options.dtype)?;
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
