//! Output: files written one after the other into a folder that appears only when everything is right.

use futures::future::LocalBoxFuture;

use super::source::SharedSource;
use crate::Result;

/// Destination of a finished model.
///
/// Files are written one at a time, in order. Nothing is visible under its final name before
/// [`commit`](OutputFolder::commit); [`abort`](OutputFolder::abort) leaves no trace.
pub trait OutputFolder {
    /// Begins the file `name`; the previous file must be closed.
    ///
    /// # Errors
    /// [`Error::Source`](crate::Error::Source) naming the file or its folder, here and in every method below.
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>>;

    /// Appends `bytes` to the open file.
    ///
    /// # Errors
    /// Those of [`create`](OutputFolder::create).
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>>;

    /// Ends the open file; its bytes are on the medium when this method returns.
    ///
    /// # Errors
    /// Those of [`create`](OutputFolder::create).
    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>>;

    /// Opens the closed file `name` for reading back.
    ///
    /// # Errors
    /// Those of [`create`](OutputFolder::create).
    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>>;

    /// Makes the files visible under their final names; to be called once all are written and checked.
    ///
    /// # Errors
    /// Those of [`create`](OutputFolder::create).
    fn commit(&mut self) -> LocalBoxFuture<'_, Result<()>>;

    /// Removes all files that were written; to be called after a failure or a cancellation.
    ///
    /// # Errors
    /// Those of [`create`](OutputFolder::create).
    fn abort(&mut self) -> LocalBoxFuture<'_, Result<()>>;
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::DirectoryFolder;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::ffi::{OsStr, OsString};
    use std::fs::File;
    use std::hash::{BuildHasher, RandomState};
    use std::io::{ErrorKind, Write};
    use std::path::{Path, PathBuf};
    use std::rc::Rc;

    use super::{LocalBoxFuture, OutputFolder, Result, SharedSource};
    use crate::Error;
    use crate::files::parts::DirectoryParts;
    use crate::files::source::FileSource;

    /// A directory on disk, or files beside each other in an existing directory. Files are written into a
    /// directory with a hidden name beside their final place and moved at the end, so that no final name ever
    /// holds half a model, whatever happens.
    pub struct DirectoryFolder {
        target: PathBuf,
        /// Whether the files go beside `target`, which is then the name of the only file, or the stem of
        /// several names.
        is_file: bool,
        partial: PathBuf,
        /// The hidden directory, locked for as long as this process lives. `None` where directories cannot be
        /// locked.
        _lock: Option<File>,
        open: Option<(PathBuf, File)>,
        committed: bool,
    }

    /// Name, in the hidden directory, of what is no file of the model.
    const SCRATCH: &str = ".scratch";

    /// Number of names that are tried for the hidden directory.
    const TRIES: usize = 8;

    impl DirectoryFolder {
        /// Prepares to write the directory `target`, which must not exist or must be empty.
        ///
        /// # Errors
        /// [`Error::Usage`] if `target` exists and is not an empty directory, or has no file name;
        /// [`Error::Source`] if its parent cannot be written.
        pub fn create(target: &Path) -> Result<Self> {
            let blame = |e: std::io::Error| unwritable(target, &e);
            let exists = target.symlink_metadata().is_ok();
            let empty =
                exists && target.is_dir() && std::fs::read_dir(target).map_err(blame)?.next().is_none();
            if exists && !empty {
                return Err(Error::Usage(format!(
                    "{}: there is something here already; name a directory that does not exist",
                    target.display()
                )));
            }
            Self::begin(target, false)
        }

        /// Prepares to write the file `target`, which must not exist, or several files that are named after
        /// it.
        ///
        /// # Errors
        /// [`Error::Usage`] if `target` exists or has no file name; [`Error::Source`] if its parent cannot be
        /// written.
        pub fn beside(target: &Path) -> Result<Self> {
            if target.symlink_metadata().is_ok() {
                return Err(Error::Usage(format!(
                    "{}: there is something here already; give a name that is free",
                    target.display()
                )));
            }
            Self::begin(target, true)
        }

        fn begin(target: &Path, is_file: bool) -> Result<Self> {
            let Some(name) = target.file_name() else {
                return Err(Error::Usage(format!(
                    "{}: not the name of a directory or file to create",
                    target.display()
                )));
            };
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(".partial-");
            remove_abandoned(target, &hidden);
            let partial = make_hidden(target, &hidden).map_err(|e| {
                Error::Source(format!(
                    "{}: cannot be written: {e}; choose another place or make room",
                    target.display()
                ))
            })?;
            let lock = lock(&partial);
            let target = target.to_path_buf();
            Ok(Self { target, is_file, partial, _lock: lock, open: None, committed: false })
        }

        /// Returns the hidden directory that holds the files until they are whole.
        pub fn partial(&self) -> &Path {
            &self.partial
        }

        /// Makes a store for what a run needs until the model is written. It lies in the hidden directory, so that it is
        /// where there is room for the model, and is removed with it, or before the files become visible.
        ///
        /// # Errors
        /// Those of [`DirectoryParts::open`].
        pub fn scratch(&self) -> Result<DirectoryParts> {
            DirectoryParts::open(&self.partial.join(SCRATCH))
        }

        /// Removes the hidden directory `partial`, also while another thread writes into it, whose next step then
        /// fails.
        pub fn discard(partial: &Path) {
            // First the name, so that nothing half removed can get its final name.
            let mut gone = partial.as_os_str().to_owned();
            gone.push("gone");
            if std::fs::rename(partial, &gone).is_ok() {
                // What is left after an error is removed by the next run that writes there.
                let _ = std::fs::remove_dir_all(&gone);
            }
        }

        fn remove(&mut self) -> std::io::Result<()> {
            self.open = None;
            if self.committed {
                return Ok(());
            }
            remove_if_there(&self.partial)
        }

        fn finish(&mut self) -> std::io::Result<()> {
            remove_if_there(&self.partial.join(SCRATCH))?;
            if self.is_file {
                self.move_files()?;
                std::fs::remove_dir(&self.partial)?;
            } else {
                if self.target.is_dir() {
                    std::fs::remove_dir(&self.target)?;
                }
                std::fs::rename(&self.partial, &self.target)?;
            }
            self.committed = true;
            Ok(())
        }

        /// Moves each file to its final place. If one file cannot be moved, the files moved before are moved
        /// back.
        fn move_files(&self) -> std::io::Result<()> {
            let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
            for entry in std::fs::read_dir(&self.partial)? {
                let from = entry?.path();
                let to = self.target.with_file_name(from.file_name().unwrap_or_default());
                let result = match to.symlink_metadata() {
                    Ok(_) => Err(std::io::Error::other(format!("{} exists already", to.display()))),
                    Err(_) => std::fs::rename(&from, &to),
                };
                if let Err(e) = result {
                    for (from, to) in &moved {
                        std::fs::rename(to, from)?;
                    }
                    return Err(e);
                }
                moved.push((from, to));
            }
            Ok(())
        }
    }

    impl Drop for DirectoryFolder {
        fn drop(&mut self) {
            // A run that ended in a panic is cleaned up here; other failures were reported by `abort`.
            let _ = self.remove();
        }
    }

    fn remove_if_there(directory: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir_all(directory) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Creates a directory beside `target` whose name begins with `hidden` and ends at random: the ids of
    /// processes are the same in every container.
    fn make_hidden(target: &Path, hidden: &OsStr) -> std::io::Result<PathBuf> {
        let mut result = Err(ErrorKind::AlreadyExists.into());
        for attempt in 0..TRIES {
            let mut name = hidden.to_owned();
            name.push(format!("{:016x}", RandomState::new().hash_one(attempt)));
            let path = target.with_file_name(name);
            result = std::fs::create_dir(&path).map(|()| path);
            match &result {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        result
    }

    /// Locks a directory against [`remove_abandoned`]; the system frees the lock of a process that ends.
    fn lock(directory: &Path) -> Option<File> {
        let directory = File::open(directory).ok()?;
        directory.try_lock().is_ok().then_some(directory)
    }

    /// Removes the directories beside `target` whose names begin with `hidden` and that no process holds: what
    /// runs left behind that were killed. Errors are nothing to stop for.
    fn remove_abandoned(target: &Path, hidden: &OsStr) {
        let beside = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let Ok(entries) = std::fs::read_dir(beside.unwrap_or(Path::new("."))) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ending = name.as_encoded_bytes().strip_prefix(hidden.as_encoded_bytes());
            let is_ours = ending.is_some_and(|ending| ending.iter().all(u8::is_ascii_alphanumeric));
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_ours
                && is_directory
                && let Some(_lock) = lock(&entry.path())
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    fn unwritable(path: &Path, e: &std::io::Error) -> Error {
        Error::Source(format!(
            "{}: cannot be written: {e}; nothing was left there: choose another place or make room",
            path.display()
        ))
    }

    fn ready<'a, T: 'a>(result: Result<T>) -> LocalBoxFuture<'a, Result<T>> {
        Box::pin(std::future::ready(result))
    }

    impl OutputFolder for DirectoryFolder {
        fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
            let path = self.partial.join(name);
            ready(match File::create_new(&path) {
                Ok(file) => {
                    self.open = Some((path, file));
                    Ok(())
                }
                Err(e) => Err(unwritable(&self.target.join(name), &e)),
            })
        }

        fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
            ready(match &mut self.open {
                Some((_, file)) => file.write_all(bytes).map_err(|e| unwritable(&self.target, &e)),
                None => Err(Error::Source(format!("{}: no file is open", self.target.display()))),
            })
        }

        fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
            let result = match self.open.take() {
                Some((_, file)) => file.sync_all().map_err(|e| unwritable(&self.target, &e)),
                None => Ok(()),
            };
            ready(result)
        }

        fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
            let source = FileSource::open(&self.partial.join(name), name);
            ready(source.map(|s| Rc::new(s) as SharedSource))
        }

        fn commit(&mut self) -> LocalBoxFuture<'_, Result<()>> {
            let result = self.finish().map_err(|e| unwritable(&self.target, &e));
            ready(result)
        }

        fn abort(&mut self) -> LocalBoxFuture<'_, Result<()>> {
            let result = self.remove().map_err(|e| {
                Error::Source(format!(
                    "{}: could not be removed: {e}; delete it by hand",
                    self.partial.display()
                ))
            });
            ready(result)
        }
    }
}
