//! Writing of a model as a Hugging Face folder.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::card::ExtraFile;
use super::jobs::{Content, Piece};
use super::{Job, Writer, shards};
use crate::files::source::read_checked;
use crate::format::Container;
use crate::format::element::Element;
use crate::format::index::{INDEX_NAME, ShardIndex, shard_name};
use crate::format::packed::Number;
use crate::format::safetensors::{OutputTensor, header_bytes};
use crate::model::config::hugging_face::CONFIG_NAME;
use crate::model::packing::Packing;
use crate::model::tensors::{TensorId, WEIGHT};
use crate::model::{Config, Model};
use crate::protocol::options::WriteOptions;
use crate::{Error, Result};

/// Writes the shards, their index if there are several, the configuration `config` of the model that has one layer for
/// each entry of `groups`, the tokenizer files and `extra`.
pub async fn write(
    writer: &mut Writer<'_>,
    model: &Model,
    config: &Config,
    groups: &[Vec<usize>],
    jobs: &[Job<'_>],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
) -> Result<()> {
    let dtype = options.whole_type().and_then(|file_type| config_name(file_type.element()));
    let config = &*with_plain_modules(config, jobs);
    let config_json = config.to_config_json(groups, dtype)?;
    let shards = shards(jobs, options.max_shard_bytes, |job| job.bytes);
    let mut weight_map = BTreeMap::new();
    for (number, jobs) in shards.iter().enumerate() {
        let name = shard_name(number, shards.len());
        let outputs = jobs.iter().map(output).collect::<Result<Vec<_>>>()?;
        writer.shard(model, &name, &header_bytes(&outputs), jobs, |_| 0).await?;
        weight_map.extend(jobs.iter().map(|job| (job.name.clone(), name.clone())));
    }
    if shards.len() > 1 {
        let index = serde_json::to_vec_pretty(&ShardIndex::new(writer.total, weight_map))
            .map_err(|e| Error::Format(format!("{INDEX_NAME}: {e}")))?;
        writer.small(INDEX_NAME, &index).await?;
    }
    writer.small(CONFIG_NAME, &config_json).await?;
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

/// Returns `config` with the names of the matrices that are not packed, where others are packed anew.
fn with_plain_modules<'a>(config: &'a Config, jobs: &[Job<'_>]) -> Cow<'a, Config> {
    let is_new = |packing: &&Packing| packing.declared.is_none();
    let Some(packing) = config.packing.as_ref().filter(is_new) else { return Cow::Borrowed(config) };
    let is_piece = |job: &Job<'_>| matches!(job.content, Content::Packed(..) | Content::Copied(_));
    let matrices = jobs.iter().filter(|job| !is_piece(job) && job.shape.len() == 2);
    let modules = matrices.filter_map(|job| job.name.strip_suffix(WEIGHT).map(str::to_owned));
    // The head may have no tensor of its own.
    let mut ignored: Vec<String> = modules.collect();
    let head = TensorId::Head.describe(Container::Safetensors, config.hugging_face_architecture());
    let head = config.spelled(Container::Safetensors, head);
    ignored.extend(head.strip_suffix(WEIGHT).map(str::to_owned));
    ignored.sort_unstable();
    ignored.dedup();
    Cow::Owned(Config { packing: Some(Packing { ignored, ..packing.clone() }), ..config.clone() })
}

fn output(job: &Job<'_>) -> Result<OutputTensor> {
    let is_bytes = matches!(job.content, Content::InTurns(_, _, Piece::Blocks | Piece::Exponents));
    let number = match &job.content {
        Content::Copied(entry) => Some(entry.dtype),
        Content::Packed(_, scheme, piece) => match scheme.number(*piece) {
            Number::I8 => Some(safetensors::Dtype::I8),
            Number::I32 => Some(safetensors::Dtype::I32),
            Number::I64 => Some(safetensors::Dtype::I64),
            Number::Float => None,
        },
        _ => None,
    };
    let dtype = match (number, job.element) {
        (Some(number), _) => number,
        (None, Element::Block(_)) if is_bytes => safetensors::Dtype::U8,
        (None, Element::F32) => safetensors::Dtype::F32,
        (None, Element::F16) => safetensors::Dtype::F16,
        (None, Element::Bf16) => safetensors::Dtype::BF16,
        (None, Element::Block(block)) => {
            return Err(Error::Unsupported(format!(
                "a Hugging Face folder cannot hold {block}; write a .gguf file, or give f16, bf16 or f32"
            )));
        }
    };
    Ok(OutputTensor { name: job.name.clone(), dtype, shape: job.shape.clone(), bytes: job.bytes })
}

/// Returns the name of a float type in `config.json`; `None` for a block type.
fn config_name(element: Element) -> Option<&'static str> {
    match element {
        Element::F32 => Some("float32"),
        Element::F16 => Some("float16"),
        Element::Bf16 => Some("bfloat16"),
        Element::Block(_) => None,
    }
}
