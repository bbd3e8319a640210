//! What a method may use beside passes over the layers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kept::rounds::{KeptPlan, Rounds};

/// [`Resources::fit_bytes`] unless told otherwise. A page has 4 GB for everything.
pub const FIT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 1 << 30 } else { 3 << 30 };

/// Memory for fits, and a place where finished work is kept.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    /// Bytes that the least-squares problems of a span may need beside the states; operators fit less where they would
    /// need more.
    pub fit_bytes: u64,
    /// Where finished rounds and fitted layers are kept, if they are.
    pub kept: Option<&'a KeptPlan>,
}

impl Default for Resources<'_> {
    fn default() -> Self {
        Self { fit_bytes: FIT_BYTES, kept: None }
    }
}

impl Resources<'_> {
    /// What the rounds before an interruption found (see [`KeptPlan::found`]); `None` where nothing is kept.
    pub async fn found<T: DeserializeOwned>(&self, rounds: Rounds, key: &str) -> Option<T> {
        self.kept?.found(rounds, key).await
    }

    /// Keeps what the rounds so far found (see [`KeptPlan::keep_found`]), where anything is kept.
    pub async fn keep_found<T: Serialize>(&self, rounds: Rounds, key: &str, found: &T) {
        if let Some(kept) = self.kept {
            kept.keep_found(rounds, key, found).await;
        }
    }

    /// What a reader should know of the keeping, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        self.kept.map(KeptPlan::remarks).unwrap_or_default()
    }
}

/// Bytes in words, such as "9.3 MB".
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
