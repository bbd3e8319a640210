//! The last stage: writes the compressed model to files, reads it back and checks it.

pub mod card;
pub mod check;
mod gguf;
mod hugging_face;
mod jobs;

use self::jobs::{Content, Job, Piece, jobs, new_config};
use crate::error::OrInternal;
use crate::files::sink::OutputFolder;
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::index::split_into_shards;
use crate::format::stored::Stored;
use crate::format::turns::{MXFP4_WEIGHTS, blocks_put_together, put_together};
use crate::model::Model;
use crate::model::open::TensorEntry;
use crate::model::weights::fetch::{in_type, read_expert, read_new, round_rows};
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::model::weights::whole::Reads;
use crate::protocol::events::{Observer, Stage, Unit};
use crate::protocol::options::WriteOptions;
use crate::protocol::plan::WrittenFile;
use crate::write::card::ExtraFile;
use crate::{Error, Result};

/// Approximate size in bytes of the pieces in which files are copied and checked.
const PIECE_BYTES: u64 = 8 << 20;

/// Writes the model whose layers are `layers` into `folder`, reads it back, commits the folder and returns
/// the files.
///
/// Tensors of unchanged layers are copied byte for byte, unless `options` ask for another element type or
/// kind of file. A Hugging Face folder gets the `extra` files beside the shards; a GGUF file gets the recipe
/// among them as metadata. On any error the folder is aborted, so that nothing is left.
///
/// # Errors
/// - [`Error::Source`] if the files that are read back differ from what was written;
/// - [`Error::Unsupported`] if the settings or the tokenizer of the model cannot be expressed in the files;
/// - [`Error::Usage`] if `options` split a GGUF model into too many files;
/// - those of [`planned_bytes`], [`read_checked`], [`read_new`], [`in_type`], [`Model::open`],
///   [`OutputFolder`] and [`Observer::event`].
pub async fn write_model(
    model: &Model,
    layers: &[NewLayer],
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
    layers: &[NewLayer],
    options: &WriteOptions,
    extra: Vec<ExtraFile>,
    folder: &mut dyn OutputFolder,
    observer: &dyn Observer,
) -> Result<Vec<WrittenFile>> {
    let groups: Vec<Vec<usize>> =
        layers.iter().map(|new| new.mix().parts().iter().map(|(layer, _)| *layer).collect()).collect();
    let storage = options.storage(model);
    let jobs = jobs(model, layers, storage)?;
    let total = jobs.iter().map(|job| job.bytes).sum();
    let config = &*new_config(model, layers, storage)?;
    let mut writer =
        Writer { folder, observer, files: Vec::new(), checksums: Vec::new(), done: 0, total, storage };
    match storage.container {
        Container::Safetensors => {
            hugging_face::write(&mut writer, model, config, &groups, &jobs, options, extra).await?
        }
        Container::Gguf => gguf::write(&mut writer, model, config, &groups, &jobs, options, extra).await?,
    }
    writer.check(layers.len()).await?;
    Ok(writer.files)
}

/// Returns the size in bytes of the tensors of the model whose layers are `layers`, stored as `options` say.
///
/// # Errors
/// [`Error::Format`] if the model lacks a tensor, [`Error::Shape`] if the values of a tensor are not a whole
/// number of quantisation blocks.
pub fn planned_bytes(model: &Model, layers: &[NewLayer], options: &WriteOptions) -> Result<u64> {
    Ok(jobs(model, layers, options.storage(model))?.iter().map(|job| job.bytes).sum())
}

/// Splits the tensors into files of at most `max_bytes` bytes, where `stored_bytes` is the size that a tensor
/// counts.
fn shards<'j, 'a>(
    jobs: &'j [Job<'a>],
    max_bytes: u64,
    stored_bytes: impl Fn(&Job<'a>) -> u64,
) -> Vec<&'j [Job<'a>]> {
    let sizes: Vec<u64> = jobs.iter().map(stored_bytes).collect();
    let mut rest = jobs;
    let mut shards = Vec::new();
    for count in split_into_shards(&sizes, max_bytes) {
        let (shard, later) = rest.split_at(count.min(rest.len()));
        shards.push(shard);
        rest = later;
    }
    shards
}

/// Writer of files into a folder, which records their sizes and checksums.
struct Writer<'a> {
    folder: &'a mut dyn OutputFolder,
    observer: &'a dyn Observer,
    files: Vec<WrittenFile>,
    /// Checksum of each file, over the bytes that were handed to the folder.
    checksums: Vec<crc32fast::Hasher>,
    done: u64,
    total: u64,
    storage: Storage,
}

impl Writer<'_> {
    /// Writes a file of tensors: its header, then the data of each tensor, followed by as many zeros as
    /// `padding` gives for its size.
    async fn shard(
        &mut self,
        model: &Model,
        name: &str,
        header: &[u8],
        jobs: &[Job<'_>],
        padding: impl Fn(u64) -> u64,
    ) -> Result<()> {
        self.begin(name).await?;
        self.append(header).await?;
        for job in jobs {
            self.tensor(model, name, job).await?;
            self.append(&vec![0; padding(job.bytes) as usize]).await?;
        }
        self.folder.close().await
    }

    /// Writes the data of one tensor.
    async fn tensor(&mut self, model: &Model, file: &str, job: &Job<'_>) -> Result<()> {
        match &job.content {
            Content::Joined(parts) => {
                for part in parts {
                    self.values(model, part).await?;
                }
            }
            Content::InTurns(parts, turns, piece) => {
                for parts in parts.chunks((*turns).max(1)) {
                    let bytes = in_turns(model, parts, *piece, self.storage).await?;
                    self.append(&bytes).await?;
                }
            }
            _ => self.values(model, job).await?,
        }
        self.done += job.bytes;
        self.progress(Stage::Write, self.done, self.total, format!("{file}: {}", job.name)).await
    }

    /// Writes the values of a tensor that is not joined of others.
    async fn values(&mut self, model: &Model, job: &Job<'_>) -> Result<()> {
        match &job.content {
            Content::New(bytes) => self.append(bytes).await,
            Content::Carried(tensor) => self.copied(model, (tensor.shard, tensor.offset, tensor.bytes)).await,
            Content::Copied(entry) => self.copied(model, (entry.shard, entry.offset, entry.bytes)).await,
            Content::Original(entry) if entry.turns.is_none() && entry.packed.is_none() => {
                self.original(model, entry, job).await
            }
            _ => {
                let stored = whole(model, job, self.storage, &mut Reads::default()).await?;
                self.append(&stored.bytes).await
            }
        }
    }

    async fn original(&mut self, model: &Model, entry: &TensorEntry, job: &Job<'_>) -> Result<()> {
        let source = model.shard(entry)?;
        let row = entry.bytes / entry.shape.first().copied().unwrap_or(1).max(1);
        // A row is a whole number of quantisation blocks. To be reordered, the rows of a head have to be
        // together.
        let is_whole = job.forms.iter().any(|form| form.needs_all_rows());
        let piece = if is_whole { entry.bytes } else { (PIECE_BYTES / row.max(1)).max(1) * row };
        let mut at = 0;
        while at < entry.bytes {
            let length = piece.min(entry.bytes - at);
            let bytes = read_checked(source.as_ref(), entry.offset + at, length).await?;
            let stored = in_form(job, Stored { element: entry.element, bytes })?;
            self.append(&stored.bytes).await?;
            at += length;
        }
        Ok(())
    }

    /// Copies bytes of an original file, given by shard, offset and number.
    async fn copied(&mut self, model: &Model, (shard, offset, bytes): (usize, u64, u64)) -> Result<()> {
        let source = model.shards.get(shard).or_internal("a tensor is of a shard that does not exist")?;
        let mut at = 0;
        while at < bytes {
            let length = PIECE_BYTES.min(bytes - at);
            self.append(&read_checked(source.as_ref(), offset + at, length).await?).await?;
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
        if bytes.is_empty() {
            return Ok(());
        }
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

    /// Compares the size and checksum of every file with what was written, and opens the written files as a
    /// model.
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

/// Makes the values of a tensor that is not joined of others, as the new file will hold them. Reads of bytes that
/// tensors share begin in `reads`.
async fn whole(model: &Model, job: &Job<'_>, storage: Storage, reads: &mut Reads) -> Result<Stored> {
    match &job.content {
        Content::New(bytes) => Ok(Stored { element: job.element, bytes: bytes.clone() }),
        Content::Computed(layer, role) => in_form(job, read_new(model, layer, *role, job.element).await?),
        Content::Mixed(experts, e, role) => {
            in_form(job, read_expert(model, experts, *e, *role, storage, reads).await?)
        }
        Content::Original(entry) => {
            let bytes = reads.start(model, entry)?.await?;
            in_form(job, Stored { element: entry.element, bytes })
        }
        Content::Packed(job, scheme, piece) => {
            let stored = matrix(model, job, storage, reads).await?;
            let columns = job.shape.last().map_or(1, |n| *n as usize);
            let rounded = round_rows(*scheme, columns, &stored).map_err(|e| e.in_tensor(&job.name))?;
            let pieces = scheme.assemble(stored.element, columns, &rounded)?;
            let found = pieces.into_iter().find(|(each, _)| each == piece);
            let (_, bytes) = found.or_internal("a scheme lacks a piece of its own")?;
            Ok(Stored { element: job.element, bytes })
        }
        Content::Carried(_) | Content::Copied(_) => {
            Err(Error::internal("a tensor that is copied byte for byte is a part of one"))
        }
        Content::Joined(_) | Content::InTurns(..) => {
            Err(Error::internal("a part of a joined tensor is joined itself"))
        }
    }
}

/// Makes the values of a matrix, which may hold the rows of several tensors.
async fn matrix(model: &Model, job: &Job<'_>, storage: Storage, reads: &mut Reads) -> Result<Stored> {
    let Content::Joined(parts) = &job.content else {
        return Box::pin(whole(model, job, storage, reads)).await;
    };
    let mut bytes = Vec::with_capacity(job.bytes as usize);
    for part in parts {
        bytes.extend(Box::pin(whole(model, part, storage, reads)).await?.bytes);
    }
    Ok(Stored { element: job.element, bytes })
}

/// Makes the bytes of the tensors `parts` of one expert, whose rows lie in turns.
async fn in_turns(model: &Model, parts: &[Job<'_>], piece: Piece, storage: Storage) -> Result<Vec<u8>> {
    let mut reads = Reads::default();
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        values.push(whole(model, part, storage, &mut reads).await?.bytes);
    }
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let first = parts.first().or_internal("a tensor in turns has no parts")?;
    let columns = first.shape.get(1).copied().unwrap_or(1);
    let blocks = || blocks_put_together(&values, (columns / MXFP4_WEIGHTS) as usize);
    match piece {
        Piece::Numbers => {
            let width = first.element.bytes(1).or_internal("blocks cannot be transposed")?;
            put_together(&values, columns as usize, width as usize)
        }
        Piece::Blocks => blocks().map(|[blocks, _]| blocks),
        Piece::Exponents => blocks().map(|[_, exponents]| exponents),
    }
}

/// Changes values from how the original's files hold them to how the new files will, encoded as `job` says.
fn in_form(job: &Job<'_>, stored: Stored) -> Result<Stored> {
    let [from, to] = job.forms;
    let stored = if from == to { stored } else { to.write(from.read(stored)?)? };
    in_type(&job.name, stored, job.element)
}
