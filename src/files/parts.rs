//! Storage of parts, which outlive the run that writes them: finished work of one run, kept for the next.

use futures::future::LocalBoxFuture;

use super::source::SharedSource;
use crate::Result;

/// Storage of small named files that can be replaced and removed one by one.
///
/// A part appears under its name when it is closed, whole or not at all; a part that was begun but not closed
/// does not count. Names are letters, digits and `-`.
pub trait PartStore {
    /// Begins the part `name`. Closing it replaces an existing part of that name.
    ///
    /// # Errors
    /// [`Error::Source`](crate::Error::Source) or [`Error::Limit`](crate::Error::Limit) if the medium
    /// refuses, here and in every method below.
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>>;

    /// Appends `bytes` to the part that was begun.
    ///
    /// # Errors
    /// Those of [`create`](PartStore::create).
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>>;

    /// Ends the part, which then exists under its name.
    ///
    /// # Errors
    /// Those of [`create`](PartStore::create).
    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>>;

    /// Returns the names of all parts, in any order.
    ///
    /// # Errors
    /// Those of [`create`](PartStore::create).
    fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>>;

    /// Opens the part `name` for reading.
    ///
    /// # Errors
    /// Those of [`create`](PartStore::create), also if there is no such part.
    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>>;

    /// Removes the part `name`; a missing part is not an error.
    ///
    /// # Errors
    /// Those of [`create`](PartStore::create).
    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>>;
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::DirectoryParts;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::fs::File;
    use std::io::{ErrorKind, Write};
    use std::path::{Path, PathBuf};
    use std::rc::Rc;

    use super::{LocalBoxFuture, PartStore, Result, SharedSource};
    use crate::Error;
    use crate::files::source::FileSource;

    /// File extension of a part that is being written.
    const UNFINISHED: &str = "unfinished";

    /// Parts in a directory on disk, one file each. Other files in the directory are left alone.
    pub struct DirectoryParts {
        directory: PathBuf,
        open: Option<(String, File)>,
    }

    impl DirectoryParts {
        /// Uses `directory`, which is created if it does not exist.
        ///
        /// # Errors
        /// [`Error::Source`] if the directory cannot be created.
        pub fn open(directory: &Path) -> Result<Self> {
            std::fs::create_dir_all(directory).map_err(|e| refused(directory, &e))?;
            Ok(Self { directory: directory.to_path_buf(), open: None })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.join(name)
        }

        fn unfinished(&self, name: &str) -> PathBuf {
            self.directory.join(format!("{name}.{UNFINISHED}"))
        }

        fn finish(&mut self) -> std::io::Result<()> {
            if let Some((name, file)) = self.open.take() {
                file.sync_all()?;
                std::fs::rename(self.unfinished(&name), self.path(&name))?;
            }
            Ok(())
        }

        fn list(&self) -> std::io::Result<Vec<String>> {
            let is_part = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let names = std::fs::read_dir(&self.directory)?
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            names.filter(|name| name.as_ref().map_or(true, is_part)).collect()
        }
    }

    fn refused(path: &Path, e: &std::io::Error) -> Error {
        Error::Source(format!("{}: {e}; choose another place or make room", path.display()))
    }

    fn ready<'a, T: 'a>(result: Result<T>) -> LocalBoxFuture<'a, Result<T>> {
        Box::pin(std::future::ready(result))
    }

    impl PartStore for DirectoryParts {
        fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
            let path = self.unfinished(name);
            ready(match File::create(&path) {
                Ok(file) => {
                    self.open = Some((name.to_owned(), file));
                    Ok(())
                }
                Err(e) => Err(refused(&path, &e)),
            })
        }

        fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
            ready(match &mut self.open {
                Some((_, file)) => file.write_all(bytes).map_err(|e| refused(&self.directory, &e)),
                None => Err(Error::Source(format!("{}: no part is open", self.directory.display()))),
            })
        }

        fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
            let result = self.finish().map_err(|e| refused(&self.directory, &e));
            ready(result)
        }

        fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>> {
            ready(self.list().map_err(|e| refused(&self.directory, &e)))
        }

        fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
            let source = FileSource::open(&self.path(name), name);
            ready(source.map(|s| Rc::new(s) as SharedSource))
        }

        fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
            let path = self.path(name);
            ready(match std::fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(refused(&path, &e)),
                _ => Ok(()),
            })
        }
    }
}
