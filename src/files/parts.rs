//! Parts that outlive the run that writes them: what a run has finished, kept for the next one.

use futures::future::LocalBoxFuture;

use super::source::SharedSource;
use crate::Result;

/// A place for small named files that may be replaced and removed one by one.
///
/// A part appears under its name when it is closed, whole or not at all; one that was begun and not closed is
/// no part. Names are letters, digits and `-`.
pub trait PartStore {
    /// Begins the part `name`, which replaces one that is there when it is closed.
    ///
    /// # Errors
    /// [`Error::Source`](crate::Error::Source) or [`Error::Limit`](crate::Error::Limit) where the medium refuses,
    /// here and in every method below.
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>>;

    /// Appends to the part that was begun.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>>;

    /// Ends the part and gives it its name.
    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>>;

    /// The names of all parts, in any order.
    fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>>;

    /// A part for reading.
    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>>;

    /// Removes a part; one that is not there is no error.
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

    /// Ending of a part that is being written.
    const UNFINISHED: &str = "unfinished";

    /// Parts in a directory on disk, one file each. Other files there are left alone.
    pub struct DirectoryParts {
        directory: PathBuf,
        open: Option<(String, File)>,
    }

    impl DirectoryParts {
        /// Uses `directory`, which is made where it does not exist.
        ///
        /// # Errors
        /// [`Error::Source`] if it cannot be made.
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
