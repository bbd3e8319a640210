//! A Hugging Face folder.

use std::collections::BTreeMap;

use super::{ExtraFile, Job, Writer};
use crate::format::element::Element;
use crate::format::index::{INDEX_NAME, ShardIndex, shard_name, split_into_shards};
use crate::format::safetensors::{OutputTensor, header_bytes};
use crate::model::Model;
use crate::model::config::hugging_face::CONFIG_NAME;
use crate::pipeline::options::WriteOptions;
use crate::source::read_checked;
use crate::{Error, Result};

/// Shards, their index where there are several, configuration, tokenizer and the rest.
pub async fn write(
    writer: &mut Writer<'_>,
    model: &Model,
    groups: &[Vec<usize>],
    jobs: &[Job<'_>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<()> {
    let dtype = options.dtype.and_then(config_name);
    let config = model.config.to_config_json(groups, dtype)?;
    let sizes: Vec<u64> = jobs.iter().map(|job| job.bytes).collect();
    let counts = split_into_shards(&sizes, options.max_shard_bytes);
    let mut weight_map = BTreeMap::new();
    let mut rest = jobs;
    for (shard, count) in counts.iter().enumerate() {
        let (jobs, later) = rest.split_at((*count).min(rest.len()));
        rest = later;
        let name = shard_name(shard, counts.len());
        let outputs = jobs.iter().map(output).collect::<Result<Vec<_>>>()?;
        writer.begin(&name).await?;
        writer.append(&header_bytes(&outputs)).await?;
        for job in jobs {
            writer.tensor(model, &name, job).await?;
        }
        writer.folder.close().await?;
        weight_map.extend(jobs.iter().map(|job| (job.name.clone(), name.clone())));
    }
    if counts.len() > 1 {
        let index = serde_json::to_vec_pretty(&ShardIndex::new(sizes.iter().sum(), weight_map))
            .map_err(|e| Error::Format(format!("{INDEX_NAME}: {e}")))?;
        writer.small(INDEX_NAME, &index).await?;
    }
    writer.small(CONFIG_NAME, &config).await?;
    for source in &model.companions {
        let base = source.name().rsplit('/').next().unwrap_or_default();
        let bytes = read_checked(source.as_ref(), 0, source.size()).await?;
        writer.small(base, &bytes).await?;
    }
    for (name, contents) in model.tokenizer.new_files(&model.config)? {
        writer.small(name, &contents).await?;
    }
    for file in extra {
        writer.small(file.name, &file.contents).await?;
    }
    Ok(())
}

fn output(job: &Job<'_>) -> Result<OutputTensor> {
    let dtype = match job.element {
        Element::F32 => safetensors::Dtype::F32,
        Element::F16 => safetensors::Dtype::F16,
        Element::Bf16 => safetensors::Dtype::BF16,
        Element::Block(block) => {
            return Err(Error::Unsupported(format!(
                "a Hugging Face folder cannot hold {block}; write a .gguf file, or give f16, bf16 or f32"
            )));
        }
    };
    Ok(OutputTensor { name: job.name.clone(), dtype, shape: job.shape.clone(), bytes: job.bytes })
}

/// The name of a float type in `config.json`.
fn config_name(element: Element) -> Option<&'static str> {
    match element {
        Element::F32 => Some("float32"),
        Element::F16 => Some("float16"),
        Element::Bf16 => Some("bfloat16"),
        Element::Block(_) => None,
    }
}
