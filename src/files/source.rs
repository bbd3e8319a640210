//! Input: byte ranges of files that are never held whole.
//!
//! [`ByteSource`] is all that the engine knows of a disk, a browser `File` or a download. Offsets are `u64`,
//! because a shard may be larger than wasm32 can address.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::LocalBoxFuture;

use crate::{Error, Result};

/// File that answers range reads.
pub trait ByteSource {
    /// Returns the path relative to the opened folder, with `/` between its parts, for error messages.
    fn name(&self) -> &str;

    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Starts reading `length` bytes at `offset` and returns a future of exactly that many bytes.
    ///
    /// Implementations begin the transfer when called, not when first polled, so that a caller can prefetch
    /// by holding the future.
    ///
    /// # Errors
    /// [`Error::Source`] if the transfer fails or ends early.
    fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>>;
}

/// Shared [`ByteSource`]. `Rc` suffices, because the engine is single-threaded outside its arithmetic.
pub type SharedSource = Rc<dyn ByteSource>;

/// Reads `length` bytes at `offset` after checking that the file holds them.
///
/// # Errors
/// [`Error::Format`] if the range lies outside the file, [`Error::Limit`] if `length` exceeds the address
/// space, and those of [`ByteSource::read`].
pub async fn read_checked(source: &dyn ByteSource, offset: u64, length: u64) -> Result<Vec<u8>> {
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > source.size()) {
        return Err(Error::Format(format!(
            "{}: the file ends at byte {} but {length} bytes at {offset} were to be read; it is \
             truncated: download it again",
            source.name(),
            source.size()
        )));
    }
    let length = usize::try_from(length).map_err(|_| {
        Error::Limit(format!(
            "{}: a piece of {length} bytes does not fit in this machine's address space",
            source.name()
        ))
    })?;
    source.read(offset, length).await
}

/// File whose bytes are in memory already: the embedded demo, and tests.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: String,
    bytes: Arc<Cow<'static, [u8]>>,
}

impl MemorySource {
    /// Makes a file called `name`; static bytes are not copied.
    pub fn new(name: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { name: name.into(), bytes: Arc::new(bytes.into()) }
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(length)?))
            .and_then(|range| self.bytes.get(range));
        let result = range.map(<[u8]>::to_vec).ok_or_else(|| {
            Error::Source(format!("{}: reading {length} bytes at {offset} runs past the end", self.name))
        });
        Box::pin(std::future::ready(result))
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::{FileSource, open_ending, open_path};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use futures::channel::oneshot;

    use super::{Arc, ByteSource, Error, LocalBoxFuture, Rc, Result, SharedSource};
    use crate::format::gguf::parse_split_name;

    /// File on disk. Each read has a thread of its own, so that the next layer arrives while the current
    /// layer is multiplied.
    pub struct FileSource {
        name: String,
        size: u64,
        file: Arc<File>,
    }

    impl FileSource {
        /// Opens the file at `path` under the name `name`.
        ///
        /// # Errors
        /// [`Error::Source`] if the file cannot be opened or is not a regular file.
        pub fn open(path: &Path, name: impl Into<String>) -> Result<Self> {
            let blame = |what: &dyn std::fmt::Display| {
                Error::Source(format!("{}: {what}; check the path and its permissions", path.display()))
            };
            let file = File::open(path).map_err(|e| blame(&e))?;
            let metadata = file.metadata().map_err(|e| blame(&e))?;
            if !metadata.is_file() {
                return Err(blame(&"not a file"));
            }
            Ok(Self { name: name.into(), size: metadata.len(), file: Arc::new(file) })
        }
    }

    impl ByteSource for FileSource {
        fn name(&self) -> &str {
            &self.name
        }

        fn size(&self) -> u64 {
            self.size
        }

        fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
            let file = Arc::clone(&self.file);
            let read = read_apart(spawn, length, move |bytes| read_exact_at(&file, bytes, offset));
            let name = self.name.clone();
            Box::pin(async move {
                match read.await {
                    Ok(Ok(bytes)) => Ok(bytes),
                    Ok(Err(e)) => {
                        Err(Error::Source(format!("{name}: reading {length} bytes at {offset} failed: {e}")))
                    }
                    Err(_) => Err(Error::Source(format!("{name}: the reading thread died"))),
                }
            })
        }
    }

    /// Work for a thread.
    pub(super) type Work = Box<dyn FnOnce() + Send>;

    pub(super) fn spawn(work: Work) -> std::io::Result<()> {
        std::thread::Builder::new().spawn(work).map(|_| ())
    }

    /// Bytes that were read, or the error of the system.
    pub(super) type Bytes = std::io::Result<Vec<u8>>;

    /// Fills `length` bytes by `read` on a thread that `spawn` starts, or here and now if the system grants none.
    pub(super) fn read_apart(
        spawn: impl FnOnce(Work) -> std::io::Result<()>,
        length: usize,
        read: impl Fn(&mut [u8]) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let read = Arc::new(read);
        // The buffer is allocated here, because memory that many short-lived threads allocate is not given back.
        let mut bytes = vec![0; length];
        let there = Arc::clone(&read);
        let work = move || {
            let result = there(&mut bytes).map(|()| bytes);
            // The receiver is gone when the run was cancelled; nobody waits for the bytes then.
            let _ = sender.send(result);
        };
        match spawn(Box::new(work)) {
            Ok(()) => receiver,
            // The work, and the sender with it, is gone.
            Err(_) => {
                let (sender, receiver) = oneshot::channel();
                let mut bytes = vec![0; length];
                let _ = sender.send(read(&mut bytes).map(|()| bytes));
                receiver
            }
        }
    }

    /// Opens the files of `directory` whose names end in `ending`, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Source`] naming the directory if it cannot be listed or has no such file, and those of
    /// [`FileSource::open`].
    pub fn open_ending(directory: &Path, ending: &str) -> Result<Vec<SharedSource>> {
        let blame = |what: &dyn std::fmt::Display| {
            let path = directory.display();
            Error::Source(format!("{path}: {what}; give a directory of files that end in {ending}"))
        };
        let mut files: Vec<SharedSource> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(|e| blame(&e))? {
            let path = entry.map_err(|e| blame(&e))?.path();
            if let Some(name) = path.file_name().and_then(|n| n.to_str())
                && name.ends_with(ending)
                && path.is_file()
            {
                files.push(Rc::new(FileSource::open(&path, name)?));
            }
        }
        if files.is_empty() {
            return Err(blame(&"nothing of use is in it"));
        }
        files.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(files)
    }

    #[cfg(unix)]
    fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            bytes = &mut bytes[n..];
            offset += n as u64;
        }
        Ok(())
    }

    /// Opens the files of a model on disk, in the order of their names. For a directory, these are all its
    /// files (not those of its subdirectories); for a `.safetensors` file, all files of the directory that
    /// holds it; for a `.gguf` file, the file alone, or all files of the split model that it belongs to.
    ///
    /// # Errors
    /// [`Error::Source`] naming the path if it does not exist, is not a model, has a model in a directory below
    /// it only, holds a link into nowhere or cannot be listed, and those of [`FileSource::open`].
    pub fn open_path(path: &Path) -> Result<Vec<SharedSource>> {
        let blame = |e: &dyn std::fmt::Display| {
            Error::Source(format!(
                "{}: {e}; give a Hugging Face directory, a .safetensors file in one, a .gguf file, or `demo`",
                path.display()
            ))
        };
        if let Some(error) = dangling(path) {
            return Err(error);
        }
        let metadata = std::fs::metadata(path).map_err(|e| blame(&e))?;
        let parent = || path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own_name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let has_ending = |ending| path.extension().is_some_and(|e| e == ending);
        let directory = match metadata.is_dir() {
            true => path,
            false if has_ending("safetensors") || has_ending("gguf") => parent(),
            false => return Err(blame(&"not a model")),
        };
        let part_of = |name: &str| parse_split_name(name).map(|(stem, _, count)| (stem.to_owned(), count));
        let wanted = |name: &str| {
            metadata.is_dir()
                || has_ending("safetensors")
                || name == own_name
                || (part_of(name).is_some() && part_of(name) == part_of(own_name))
        };
        let mut files: Vec<SharedSource> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(|e| blame(&e))? {
            let path = entry.map_err(|e| blame(&e))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|name| wanted(name)) else {
                continue;
            };
            if path.is_file() {
                files.push(Rc::new(FileSource::open(&path, name)?));
            } else if OF_A_MODEL.iter().any(|end| name.ends_with(end))
                && let Some(error) = dangling(&path)
            {
                return Err(error);
            }
        }
        let holds_model = |name: &str| name == MODEL_FILE || name.ends_with(".gguf");
        if metadata.is_dir()
            && !files.iter().any(|file| holds_model(file.name()))
            && let Some(below) = model_below(path)
        {
            return Err(Error::Source(format!(
                "{}: there is no model in it, but in a directory below; open {}",
                path.display(),
                below.display()
            )));
        }
        files.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(files)
    }

    /// File that a directory with a Hugging Face model has.
    const MODEL_FILE: &str = "config.json";

    /// Endings of the names of files that belong to a model, and whose absence changes the result.
    const OF_A_MODEL: [&str; 5] = [".safetensors", ".gguf", ".json", ".jinja", ".model"];

    /// Makes the error for a link that points nowhere; `None` for any other path.
    fn dangling(path: &Path) -> Option<Error> {
        let target = std::fs::read_link(path).ok()?;
        let error = || {
            Error::Source(format!(
                "{}: it is a link to {}, where nothing is; download the model again",
                path.display(),
                target.display()
            ))
        };
        (!path.exists()).then(error)
    }

    /// Finds a model in a directory below `directory`: in the hub's cache it is in `snapshots/REVISION`.
    fn model_below(directory: &Path) -> Option<PathBuf> {
        let below = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort_unstable();
            paths.into_iter().find(|path| path.join(MODEL_FILE).symlink_metadata().is_ok())
        };
        below(&directory.join("snapshots")).or_else(|| below(directory))
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::oneshot::Receiver;

    use super::native::{Bytes, Work, read_apart, spawn};

    fn count(bytes: &mut [u8]) -> std::io::Result<()> {
        bytes.iter_mut().zip(7..).for_each(|(byte, n)| *byte = n);
        Ok(())
    }

    #[test]
    fn bytes_are_read_where_the_system_grants_no_thread() {
        let none = |_: Work| Err(std::io::Error::from(std::io::ErrorKind::WouldBlock));
        let read =
            |receiver: Receiver<Bytes>| futures::executor::block_on(receiver).map_err(|_| "nothing was sent");
        assert_eq!(read(read_apart(none, 3, count)).unwrap().unwrap(), [7, 8, 9]);
        assert_eq!(read(read_apart(spawn, 3, count)).unwrap().unwrap(), [7, 8, 9]);
        let failing = |_: &mut [u8]| Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert!(read(read_apart(none, 3, failing)).unwrap().is_err());
    }
}
