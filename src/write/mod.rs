//! The last stage: writes the compressed model to files, reads it back and checks it.

pub mod card;
pub mod check;
mod gguf;
mod hugging_face;
mod jobs;

pub use self::gguf::bytes_beside_tensors;
use self::jobs::{Content, Job, Piece, jobs, new_config};
use crate::error::OrInternal;
use crate::files::sink::OutputFolder;
use crate::files::source::{SharedSource, read_checked};
use crate::format::Container;
use crate::format::element::{Element, check_finite};
use crate::format::index::split_into_shards;
use crate::format::packed::{Rounded, Scheme};
use crate::format::stored::Stored;
use crate::format::turns::{MXFP4_WEIGHTS, blocks_put_together, put_together};
use crate::maths::mix::Mix;
use crate::model::Model;
use crate::model::importances::Importances;
use crate::model::open::TensorEntry;
use crate::model::weights::fetch::{in_type_weighted, read_expert, read_new, round_rows};
use crate::model::weights::file_type::FileType;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::sliced::sliced;
use crate::model::weights::storage::Storage;
use crate::model::weights::whole::Reads;
use crate::protocol::events::{Observer, Stage, Unit};
use crate::protocol::options::WriteOptions;
use crate::protocol::plan::{StoredSize, WrittenFile};
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
/// - those of [`planned_bytes`], [`read_checked`], [`read_new`], [`in_type_weighted`], [`Model::open`],
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
    let mut writer = Writer {
        folder,
        observer,
        files: Vec::new(),
        checksums: Vec::new(),
        done: 0,
        total,
        container: storage.container,
    };
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

/// Returns for each of `layers` whether importances of its columns change what is written of it, stored as `storage` says.
///
/// # Errors
/// Those of [`planned_bytes`].
pub fn takes_importances(model: &Model, layers: &[NewLayer], storage: Storage) -> Result<Vec<bool>> {
    let mut takes = vec![false; layers.len()];
    let all = jobs(model, layers, storage)?;
    let mut left: Vec<&Job<'_>> = all.iter().collect();
    while let Some(job) = left.pop() {
        match &job.content {
            Content::Joined(parts) | Content::InTurns(parts, ..) => left.extend(parts),
            _ => {
                let place = job.encoded_by().and_then(|place| takes.get_mut(place));
                place.into_iter().for_each(|takes| *takes = true);
            }
        }
    }
    Ok(takes)
}

/// Encodes `importances`, those of a model whose layers are `layers`, as the importance matrix of its GGUF file.
///
/// # Errors
/// Those of [`Importances::to_imatrix`].
pub fn imatrix_bytes(model: &Model, layers: &[NewLayer], importances: &Importances) -> Result<Vec<u8>> {
    Ok(importances.to_imatrix(&*new_config(model, layers, Storage::of(model))?)?.to_bytes())
}

/// Returns the sizes of the model whose layers are `layers` in every kind of file and file type that can hold it, with all
/// matrices in the type.
///
/// # Errors
/// Those of [`planned_bytes`].
pub fn stored_sizes(model: &Model, layers: &[NewLayer]) -> Result<Vec<StoredSize>> {
    let mut sizes = Vec::new();
    for container in [Container::Safetensors, Container::Gguf] {
        for dtype in std::iter::once(None).chain(FileType::all().map(Some)) {
            let output = WriteOptions { container: Some(container), dtype, ..WriteOptions::default() };
            if output.check(model).is_err() {
                continue;
            }
            let jobs = jobs(model, layers, output.storage(model))?;
            let mut by_element: Vec<(Element, u64)> = Vec::new();
            for job in jobs.iter().filter(|job| job.shape.len() > 1) {
                let values = job.shape.iter().product::<u64>();
                match by_element.iter_mut().find(|(element, _)| *element == job.element) {
                    Some((_, sum)) => *sum += values,
                    None => by_element.push((job.element, values)),
                }
            }
            by_element.sort_by_key(|(_, values)| std::cmp::Reverse(*values));
            let elements = by_element.iter().map(|(element, _)| element.to_string()).collect();
            let bytes = jobs.iter().map(|job| job.bytes).sum();
            sizes.push(StoredSize { container, dtype, bytes, elements });
        }
    }
    Ok(sizes)
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
    container: Container,
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
                    let bytes = in_turns(model, parts, *piece, self.container).await?;
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
            Content::Sliced(entry, layers) => self.sliced(model, entry, layers, job).await,
            _ => {
                let stored = whole(model, job, self.container, &mut Reads::default()).await?;
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
            let stored = in_form(model, job, Stored { element: entry.element, bytes }, self.container)?;
            self.append(&stored.bytes).await?;
            at += length;
        }
        Ok(())
    }

    /// Writes a table of whose rows each has a slice for each of `layers`, some rows at a time.
    async fn sliced(
        &mut self,
        model: &Model,
        entry: &TensorEntry,
        layers: &[NewLayer],
        job: &Job<'_>,
    ) -> Result<()> {
        let source = model.shard(entry)?;
        let row = entry.bytes / entry.shape.first().copied().unwrap_or(1).max(1);
        let width = model.config.layer_input.unwrap_or(0);
        let mixes: Vec<Mix> = layers.iter().map(|layer| layer.mix().clone()).collect();
        let piece = (PIECE_BYTES / row.max(1)).max(1) * row;
        let mut at = 0;
        while at < entry.bytes {
            let length = piece.min(entry.bytes - at);
            let rows = read_checked(source.as_ref(), entry.offset + at, length).await?;
            check_finite(&entry.name, entry.element, &rows)?;
            let mut bytes = Vec::with_capacity(rows.len());
            for row in rows.chunks((row as usize).max(1)) {
                bytes.extend(sliced(row, [entry.element, job.element], &mixes, width)?);
            }
            self.append(&bytes).await?;
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
async fn whole(model: &Model, job: &Job<'_>, container: Container, reads: &mut Reads) -> Result<Stored> {
    match &job.content {
        Content::New(bytes) => Ok(Stored { element: job.element, bytes: bytes.clone() }),
        Content::Computed(layer, role) => {
            in_form(model, job, read_new(model, layer, *role, job.element).await?, container)
        }
        Content::Mixed(experts, e, role) => {
            // Experts have no columns in another order.
            let importances = job.importances(model, container)?;
            let stored = read_expert(model, experts, *e, *role, job.element, importances, reads).await?;
            in_form(model, job, stored, container)
        }
        Content::Original(entry) => {
            let bytes = reads.start(model, entry)?.await?;
            in_form(model, job, Stored { element: entry.element, bytes }, container)
        }
        Content::Packed(job, scheme, piece) => {
            let columns = job.shape.last().map_or(1, |n| *n as usize);
            let rounded = rounded(model, job, *scheme, container, reads).await?;
            let pieces = scheme.assemble(job.element, columns, &rounded)?;
            let found = pieces.into_iter().find(|(each, _)| each == piece);
            let (_, bytes) = found.or_internal("a scheme lacks a piece of its own")?;
            Ok(Stored { element: job.element, bytes })
        }
        Content::Carried(_) | Content::Copied(_) | Content::Sliced(..) => {
            Err(Error::internal("a tensor that is copied or cut by itself is a part of one"))
        }
        Content::Joined(_) | Content::InTurns(..) => {
            Err(Error::internal("a part of a joined tensor is joined itself"))
        }
    }
}

/// Rounds a matrix, which may hold the rows of several tensors, to the grid of `scheme`, where it is not rounded already.
async fn rounded(
    model: &Model,
    job: &Job<'_>,
    scheme: Scheme,
    container: Container,
    reads: &mut Reads,
) -> Result<Rounded> {
    let parts = match &job.content {
        Content::Joined(parts) => parts.as_slice(),
        _ => std::slice::from_ref(job),
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        let known = match &part.content {
            Content::Computed(layer, role) => layer.packed(*role),
            _ => None,
        };
        pieces.push(match known {
            Some(matrix) if matrix.scheme == scheme => in_order(part, matrix.rounded().await?),
            Some(_) => Err(Error::internal("a matrix was rounded to another grid than it is stored in")),
            None => {
                let stored = Box::pin(whole(model, part, container, reads)).await?;
                let columns = part.shape.last().map_or(1, |n| *n as usize);
                round_rows(scheme, columns, &stored).map_err(|e| e.in_tensor(&part.name))
            }
        });
    }
    Rounded::stack(pieces)
}

/// Puts the rows of a matrix in the order in which the new files hold them.
fn in_order(job: &Job<'_>, rounded: Rounded) -> Result<Rounded> {
    let [from, to] = job.forms;
    let [rows, columns] = job.shape[..] else {
        return Err(Error::internal("a tensor that is packed is no matrix"));
    };
    if from.order == to.order {
        return Ok(rounded);
    }
    // A matrix of one column, which is the number of its row.
    let numbers: Vec<f32> = (0..rows).map(|row| row as f32).collect();
    let places = to.write(from.read(Stored::from_f32(&numbers))?)?.to_f32()?;
    let places: Vec<usize> = places.into_iter().map(|row| row as usize).collect();
    rounded.reordered(columns as usize, &places)
}

/// Makes the bytes of the tensors `parts` of one expert, whose rows lie in turns.
async fn in_turns(model: &Model, parts: &[Job<'_>], piece: Piece, container: Container) -> Result<Vec<u8>> {
    let mut reads = Reads::default();
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        values.push(whole(model, part, container, &mut reads).await?.bytes);
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
fn in_form(model: &Model, job: &Job<'_>, stored: Stored, container: Container) -> Result<Stored> {
    let [from, to] = job.forms;
    let stored = if from == to { stored } else { to.write(from.read(stored)?)? };
    if stored.element == job.element {
        return Ok(stored);
    }
    let importances = job.importances(model, container)?;
    in_type_weighted(&job.name, stored, job.element, importances.as_deref())
}
