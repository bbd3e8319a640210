//! The last stage: merged shards, streamed out, read back and checked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::options::WriteOptions;
use crate::format::element::{Element, decode, encode};
use crate::format::index::{INDEX_NAME, ShardIndex, shard_name, split_into_shards};
use crate::format::safetensors::{OutputTensor, header_bytes};
use crate::merge::Mix;
use crate::model::Model;
use crate::model::config::CONFIG_NAME;
use crate::model::files::TensorEntry;
use crate::model::names::{Role, TensorId};
use crate::model::weights::{read_mixed, widest};
use crate::progress::{Observer, Stage, Unit};
use crate::sink::OutputFolder;
use crate::source::{SharedSource, read_checked};
use crate::{Error, Result};

/// Files are copied and checked in pieces of this many bytes, a multiple of every element size.
const PIECE_BYTES: u64 = 8 << 20;

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A file that is made here rather than copied, such as the recipe.
pub struct ExtraFile {
    /// Its name in the folder.
    pub name: &'static str,
    /// Its contents.
    pub contents: Vec<u8>,
}

/// One tensor of the new model.
struct Job<'a> {
    source: &'a TensorEntry,
    /// The layer to compute, for a merged layer's tensor; else the tensor is copied.
    merged: Option<(&'a Mix, Role)>,
    element: Element,
    output: OutputTensor,
}

/// Writes the model whose layers are `layers` into `folder`, reads it back, and commits.
///
/// Tensors of layers that are unchanged are copied byte for byte, unless `options.dtype` asks for
/// another type. On any error the folder is aborted, so that nothing is left.
///
/// # Errors
/// What reading, writing and `observer` give; [`Error::Source`] if what is read back differs from
/// what was written.
pub async fn write_model(
    model: &Model,
    layers: &[Mix],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
    folder: &mut dyn OutputFolder,
    observer: &dyn Observer,
) -> Result<Vec<WrittenFile>> {
    let written = write_all(model, layers, options, extra, folder, observer).await;
    let result = match written {
        Ok(files) => folder.commit().await.map(|()| files),
        Err(e) => Err(e),
    };
    if result.is_err() {
        // The first error is the one to report.
        let _ = folder.abort().await;
    }
    result
}

async fn write_all(
    model: &Model,
    layers: &[Mix],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
    folder: &mut dyn OutputFolder,
    observer: &dyn Observer,
) -> Result<Vec<WrittenFile>> {
    let groups: Vec<Vec<usize>> =
        layers.iter().map(|mix| mix.parts().iter().map(|(layer, _)| *layer).collect()).collect();
    let dtype = options.dtype.map(upstream_dtype);
    let config = model.config.rewrite(&groups, dtype)?;
    let jobs = jobs(model, layers, options.dtype)?;
    let sizes: Vec<u64> = jobs.iter().map(|job| job.output.bytes).collect();
    let total: u64 = sizes.iter().sum();
    let counts = split_into_shards(&sizes, options.max_shard_bytes);

    let mut writer = Writer { folder, observer, files: Vec::new(), checksums: Vec::new(), done: 0, total };
    let mut weight_map = BTreeMap::new();
    let mut rest = jobs.as_slice();
    for (shard, count) in counts.iter().enumerate() {
        let (jobs, later) = rest.split_at((*count).min(rest.len()));
        rest = later;
        let name = shard_name(shard, counts.len());
        writer.shard(model, &name, jobs).await?;
        weight_map.extend(jobs.iter().map(|job| (job.output.name.clone(), name.clone())));
    }
    if counts.len() > 1 {
        let index = serde_json::to_vec_pretty(&ShardIndex::new(total, weight_map))
            .map_err(|e| Error::Format(format!("{INDEX_NAME}: {e}")))?;
        writer.small(INDEX_NAME, &index).await?;
    }
    writer.small(CONFIG_NAME, &config).await?;
    for source in &model.companions {
        let base = source.name().rsplit('/').next().unwrap_or_default();
        let bytes = read_checked(source.as_ref(), 0, source.size()).await?;
        writer.small(base, &bytes).await?;
    }
    for file in extra {
        writer.small(file.name, &file.contents).await?;
    }
    writer.check(layers.len()).await?;
    Ok(writer.files)
}

/// The name of an element type in `config.json`.
fn upstream_dtype(element: Element) -> &'static str {
    match element {
        Element::F32 => "float32",
        Element::F16 => "float16",
        Element::Bf16 => "bfloat16",
    }
}

fn safetensors_dtype(element: Element) -> safetensors::Dtype {
    match element {
        Element::F32 => safetensors::Dtype::F32,
        Element::F16 => safetensors::Dtype::F16,
        Element::Bf16 => safetensors::Dtype::BF16,
    }
}

/// The tensors of the new model in the order of the source files.
fn jobs<'a>(model: &'a Model, layers: &'a [Mix], dtype: Option<Element>) -> Result<Vec<Job<'a>>> {
    let mut jobs = Vec::new();
    for source in model.tensors() {
        let (id, merged) = match source.id {
            TensorId::Layer(layer, role) => {
                let leads = |mix: &Mix| mix.parts().first().is_some_and(|(first, _)| *first == layer);
                let Some(place) = layers.iter().position(leads) else {
                    continue;
                };
                let mix = layers.get(place).filter(|mix| mix.unchanged().is_none());
                // Buffers that old checkpoints carry are the same in every layer: copied, not mixed.
                let mix = mix.filter(|_| role != Role::RotaryFrequencies);
                (TensorId::Layer(place, role), mix.map(|mix| (mix, role)))
            }
            other => (other, None),
        };
        let element = match (dtype, merged) {
            (Some(dtype), _) => dtype,
            (None, None) => source.element,
            (None, Some((mix, role))) => widest(model, mix, role).unwrap_or(source.element),
        };
        let elements = source.bytes / source.element.size() as u64;
        jobs.push(Job {
            source,
            merged,
            element,
            output: OutputTensor {
                name: id.name(),
                dtype: safetensors_dtype(element),
                shape: source.shape.clone(),
                bytes: elements * element.size() as u64,
            },
        });
    }
    Ok(jobs)
}

struct Writer<'a> {
    folder: &'a mut dyn OutputFolder,
    observer: &'a dyn Observer,
    files: Vec<WrittenFile>,
    /// Of each file, over what was handed to the folder.
    checksums: Vec<crc32fast::Hasher>,
    done: u64,
    total: u64,
}

impl Writer<'_> {
    async fn shard(&mut self, model: &Model, name: &str, jobs: &[Job<'_>]) -> Result<()> {
        let outputs: Vec<OutputTensor> = jobs.iter().map(|job| job.output.clone()).collect();
        self.begin(name).await?;
        self.append(&header_bytes(&outputs)).await?;
        for job in jobs {
            match job.merged {
                Some((mix, role)) => {
                    let values = read_mixed(model, mix, role, Some(job.element)).await?;
                    self.append(&encode(job.element, &values)).await?;
                }
                None => self.copy(model, job).await?,
            }
            self.done += job.output.bytes;
            self.progress(Stage::Write, self.done, self.total, format!("{name}: {}", job.output.name))
                .await?;
        }
        self.folder.close().await
    }

    async fn copy(&mut self, model: &Model, job: &Job<'_>) -> Result<()> {
        let entry = job.source;
        let shard = model
            .shards
            .get(entry.shard)
            .ok_or_else(|| Error::Format(format!("the shard of tensor {} is missing", entry.id.name())))?;
        let mut at = 0;
        while at < entry.bytes {
            let length = PIECE_BYTES.min(entry.bytes - at);
            let mut bytes = read_checked(shard.as_ref(), entry.offset + at, length).await?;
            if job.element != entry.element {
                bytes = encode(job.element, &decode(&entry.id.name(), entry.element, &bytes)?);
            }
            self.append(&bytes).await?;
            at += length;
        }
        Ok(())
    }

    async fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.begin(name).await?;
        self.append(bytes).await?;
        self.folder.close().await
    }

    async fn begin(&mut self, name: &str) -> Result<()> {
        self.folder.create(name).await?;
        self.files.push(WrittenFile { name: name.to_owned(), bytes: 0 });
        self.checksums.push(crc32fast::Hasher::new());
        Ok(())
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.folder.write(bytes).await?;
        if let (Some(file), Some(checksum)) = (self.files.last_mut(), self.checksums.last_mut()) {
            checksum.update(bytes);
            file.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    async fn progress(&self, stage: Stage, done: u64, total: u64, detail: String) -> Result<()> {
        self.observer.progress(stage, done, total, Unit::Bytes, detail).await
    }

    /// Opens the written folder as a model and compares every byte with what was written.
    async fn check(&mut self, n_layers: usize) -> Result<()> {
        let mut sources: Vec<SharedSource> = Vec::new();
        let (mut done, total) = (0, self.files.iter().map(|f| f.bytes).sum());
        for (file, written) in self.files.iter().zip(&self.checksums) {
            let source = self.folder.open(&file.name).await?;
            let mut read = crc32fast::Hasher::new();
            let mut at = 0;
            while at < file.bytes {
                let length = PIECE_BYTES.min(file.bytes - at);
                read.update(&read_checked(source.as_ref(), at, length).await?);
                at += length;
                let detail = format!("reading back {}", file.name);
                self.progress(Stage::Check, done + at, total, detail).await?;
            }
            if source.size() != file.bytes || read.finalize() != written.clone().finalize() {
                return Err(Error::Source(format!(
                    "{}: what was read back differs from what was written; the medium is faulty or \
                     something else wrote there: choose another place",
                    file.name
                )));
            }
            done += file.bytes;
            sources.push(source);
        }
        let again = Model::open("written model", &sources).await?;
        if again.config.n_layers != n_layers {
            return Err(Error::Source(format!(
                "the written model has {} layers instead of {n_layers}; it was discarded",
                again.config.n_layers
            )));
        }
        Ok(())
    }
}
