//! Tables of a comparison and importance matrices in files.

use std::fs::File;
use std::path::Path;

use laminate::{Error, Result};

/// Checks before the long work that the file `path`, if there is one to write, can be written. What is in the file
/// stays, and a file that was not there is not there afterwards.
///
/// # Errors
/// [`Error::Source`] if the file cannot be written.
pub fn check_table(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let is_new = path.symlink_metadata().is_err();
    File::options().append(true).create(true).open(path).map_err(|e| unwritable(path, &e))?;
    if is_new {
        std::fs::remove_file(path).map_err(|e| unwritable(path, &e))?;
    }
    Ok(())
}

/// Writes the table to the file `path`, if there is one to write.
///
/// # Errors
/// [`Error::Source`] if the file cannot be written.
pub fn write_table(path: Option<&Path>, table: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    write_bytes(path, table().as_bytes())
}

/// Writes the file `path`.
///
/// # Errors
/// [`Error::Source`] if the file cannot be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| unwritable(path, &e))
}

/// Returns the error of a file that cannot be written.
pub fn unwritable(path: &Path, e: &std::io::Error) -> Error {
    Error::Source(format!("{}: {e}; choose another place for the file", path.display()))
}
