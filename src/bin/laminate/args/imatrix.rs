//! Arguments about importance matrices.

use std::path::{Path, PathBuf};

use clap::Args;
use laminate::{Error, Result, Session};

/// Largest file that is read, in bytes. The importance matrix of a model with thousands of experts takes about 1 GB.
const MOST_BYTES: u64 = 4 << 30;

/// Which importances quantised tensors are encoded by.
#[derive(Args)]
pub struct ImatrixArgs {
    /// Importance matrix of the original by which quantised tensors are encoded: a GGUF file of llama-imatrix or of
    /// `laminate imatrix`. Collected on the calibration text if not given, where it changes the result.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Encode quantised tensors without importances.
    #[arg(long, conflicts_with = "imatrix")]
    no_imatrix: bool,
}

impl ImatrixArgs {
    /// Returns whether tensors are encoded by importances; what is not given is as `usual`.
    pub fn importances(&self, usual: bool) -> bool {
        !self.no_imatrix && (usual || self.imatrix.is_some())
    }

    /// Reads the importance matrix for `session`, if one is given.
    ///
    /// # Errors
    /// [`Error::Source`] if the file cannot be read, [`Error::Limit`] if it is too large, and those of
    /// [`Session::use_imatrix`].
    pub fn read(&self, session: &mut Session) -> Result<()> {
        let Some(path) = &self.imatrix else { return Ok(()) };
        let unreadable = |e: std::io::Error| Error::Source(format!("{}: {e}", path.display()));
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MOST_BYTES {
            return Err(Error::Limit(format!(
                "{}: {size} bytes are more than an importance matrix has; give the file of one",
                path.display()
            )));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        session.use_imatrix(&name(path), &bytes)
    }
}

/// Returns the last part of a path, for messages and reports.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
