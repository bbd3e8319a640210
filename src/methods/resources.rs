//! Resources of a method besides passes over the layers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::importances::encodes;
use super::kept::rounds::{KeptPlan, Rounds};
use crate::files::scratch::Scratch;
use crate::forward::context::Context;
use crate::model::fingerprint::Fnv;
use crate::model::importances::Importances;
use crate::model::weights::new_layer::NewLayer;

/// Default of [`Resources::fit_bytes`]. A page in a browser has 4 GB for everything.
pub const FIT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 1 << 30 } else { 3 << 30 };

/// Memory for fits, and a store of finished work.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    /// Bytes that the least-squares problems of a span may need besides the hidden states; operators that
    /// would need more fit less.
    pub fit_bytes: u64,
    /// Store of finished rounds and fitted layers, if they are kept.
    pub kept: Option<&'a KeptPlan>,
    /// Place where finished layers wait until they are measured or written; `None` if that is memory.
    pub scratch: Option<&'a Scratch>,
    /// Where the importances come from by which the columns of quantised matrices are encoded.
    pub weighing: Weighing<'a>,
}

/// Where importances of columns come from.
#[derive(Clone, Copy)]
pub enum Weighing<'a> {
    /// Nowhere: matrices are encoded without.
    Off,
    /// They are collected on the calibration text.
    Collected,
    /// They are those of the original's matrices.
    Given(&'a Importances),
}

impl Weighing<'_> {
    /// Returns what tells fits apart that are stored by other importances; nothing where layers are stored in floats.
    pub fn hash(self, context: &Context<'_>) -> Vec<u32> {
        let Context { model, storage, .. } = *context;
        let encodes = (0..model.config.n_layers).any(|layer| encodes(model, layer, storage));
        if encodes { self.identity() } else { Vec::new() }
    }

    /// Returns what tells importances apart.
    pub fn identity(self) -> Vec<u32> {
        match self {
            Weighing::Off => vec![0],
            Weighing::Collected => vec![1],
            Weighing::Given(importances) => {
                let mut hash = Fnv::default();
                hash.text(&format!("{importances:?}"));
                vec![2, hash.value() as u32]
            }
        }
    }
}

impl Default for Resources<'_> {
    fn default() -> Self {
        Self { fit_bytes: FIT_BYTES, kept: None, scratch: None, weighing: Weighing::Collected }
    }
}

impl Resources<'_> {
    /// Returns the results of the rounds before an interruption (see [`KeptPlan::found`]); `None` without a
    /// store.
    pub async fn found<T: DeserializeOwned>(&self, rounds: Rounds, key: &str) -> Option<T> {
        self.kept?.found(rounds, key).await
    }

    /// Writes the results of the rounds so far (see [`KeptPlan::keep_found`]), if there is a store.
    pub async fn keep_found<T: Serialize>(&self, rounds: Rounds, key: &str, found: &T) {
        if let Some(kept) = self.kept {
            kept.keep_found(rounds, key, found).await;
        }
    }

    /// Moves the computed tensors of a finished layer out of memory, if there is a place for them.
    pub async fn spilled(&self, layer: NewLayer) -> NewLayer {
        match self.scratch {
            Some(scratch) => layer.spilled(scratch).await,
            None => layer,
        }
    }

    /// Returns remarks on kept work and finished layers to the reader, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        let kept = self.kept.map(KeptPlan::remarks).unwrap_or_default();
        kept.into_iter().chain(self.scratch.and_then(Scratch::refused)).collect()
    }
}

/// Formats a number of bytes, such as "9.3 MB".
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
