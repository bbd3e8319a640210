//! Progress of a search or of merging, kept so that a plan can resume after an interruption. Fitted layers
//! are kept by [`fitted`](super::fitted).
//!
//! The name of a part is its kind and a hash of everything that its contents depend on, so that only the plan
//! to which the part belongs finds it.

use std::cell::{Cell, RefCell};

use futures::lock::Mutex;
use safetensors::Dtype;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::part::{Part, PartWriter};
use crate::files::parts::PartStore;
use crate::forward::context::Context;
use crate::forward::identity::{Identity, device_of};
use crate::model::fingerprint::Fnv;
use crate::model::weights::storage::Storage;
use crate::protocol::text::PointRule;
use crate::{Error, Result};

/// Name of the tensor of a part that holds the results, as JSON.
const FOUND: &str = "found";

/// Kind of results that are found round by round, where each round replaces the results of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Layers that a search removed.
    Searched,
    /// Merges of neighbouring layers, and their measurements.
    Merged,
    /// What types and removed layers cost.
    Priced,
}

impl Rounds {
    fn prefix(self) -> &'static str {
        match self {
            Self::Searched => "searched-",
            Self::Merged => "merged-",
            Self::Priced => "priced-",
        }
    }
}

/// Store of the finished work of a plan. If the store refuses a part, nothing more is kept, but the run goes
/// on.
pub struct KeptPlan {
    pub(super) store: Mutex<Box<dyn PartStore>>,
    pub(super) identity: Identity,
    pub(super) device: String,
    storage: Cell<Storage>,
    /// Remark on the refusal of the store.
    refused: RefCell<Option<String>>,
    /// Remark on results that another device found.
    elsewhere: RefCell<Option<String>>,
}

impl KeptPlan {
    /// Makes a store of finished work for plans that are made in `context`.
    ///
    /// # Errors
    /// Those of [`Identity::of`].
    pub async fn new(store: Box<dyn PartStore>, context: &Context<'_>) -> Result<Self> {
        let identity = Identity::of(context.model, context.sequences, PointRule::default()).await?;
        let device = context.accelerator.report().name.clone();
        let (refused, elsewhere) = (RefCell::new(None), RefCell::new(None));
        let storage = Cell::new(context.storage);
        Ok(Self { store: Mutex::new(store), identity, device, storage, refused, elsewhere })
    }

    /// Says that the models of the next plans are stored as `storage` says.
    pub fn stored_as(&self, storage: Storage) {
        self.storage.set(storage);
    }

    /// Returns the hash of the version, the model, the text and the storage, to which more can be added.
    ///
    /// # Errors
    /// Those of [`key`].
    pub(super) fn hash(&self) -> Result<Fnv> {
        let mut hash = Fnv::default();
        hash.text(&self.identity.model);
        hash.text(&self.identity.text);
        hash.text(env!("CARGO_PKG_VERSION"));
        let Storage { container, dtype, requantise, weighted, pack, rounding } = self.storage.get();
        hash.text(&key(
            &[],
            &(container, dtype.map(|file_type| file_type.to_string()), requantise, weighted),
        )?);
        if let Some(scheme) = pack {
            hash.text(&format!("{scheme:?}, {rounding}"));
        }
        if self.storage.get().rounds_blocks() {
            hash.text(&rounding.to_string());
        }
        Ok(hash)
    }

    /// Returns the results of earlier rounds that were kept under `key`; `None` if nothing was kept or the
    /// part is damaged, in which case the rounds begin anew.
    pub async fn found<T: DeserializeOwned>(&self, rounds: Rounds, key: &str) -> Option<T> {
        let name = self.name(rounds, key).ok()?;
        let part = self.identity.open(&**self.store.lock().await, &name).await.ok()?;
        let found = serde_json::from_slice(&part.all_bytes(FOUND).await.ok()?).ok()?;
        if let Some(said) = self.said_of_elsewhere(&part, "The plan was begun") {
            self.elsewhere.replace(Some(said));
        }
        Some(found)
    }

    /// Writes the results of the rounds so far under `key`, and removes other results of this kind.
    pub async fn keep_found<T: Serialize>(&self, rounds: Rounds, key: &str, found: &T) {
        let Ok(name) = self.name(rounds, key) else { return };
        self.remove_others(rounds.prefix(), std::slice::from_ref(&name)).await;
        self.keeping(async |store| {
            let json = serde_json::to_vec(found).map_err(|e| Error::Format(e.to_string()))?;
            let tensors = [(FOUND, Dtype::U8, vec![json.len() as u64])];
            let mut part =
                PartWriter::begin(store, &name, &self.identity.about(&self.device), &tensors).await?;
            part.append(&json).await?;
            part.finish().await.map(|_| ())
        })
        .await;
    }

    /// Returns remarks on kept work to the reader, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        [&self.elsewhere, &self.refused].into_iter().filter_map(|said| said.borrow().clone()).collect()
    }

    /// Returns a remark if another device made `part`; `did` is the beginning of its sentence.
    pub(super) fn said_of_elsewhere(&self, part: &Part, did: &str) -> Option<String> {
        (device_of(part) != self.device).then(|| {
            format!(
                "{did} on {} before the run went on, on {}: devices round differently in the last digits.",
                device_of(part),
                self.device
            )
        })
    }

    /// Writes with `write`, unless the store has refused before.
    pub(super) async fn keeping(&self, write: impl AsyncFnOnce(&mut dyn PartStore) -> Result<()>) {
        if self.refused.borrow().is_some() {
            return;
        }
        let written = write(&mut **self.store.lock().await).await;
        let said = written.err().map(|e| format!("What the plan has finished was not kept, because {e}."));
        self.refused.replace(said);
    }

    /// Removes the parts whose names begin with `prefix`, except `names`.
    pub(super) async fn remove_others(&self, prefix: &str, names: &[String]) {
        let mut store = self.store.lock().await;
        for name in store.names().await.unwrap_or_default() {
            if name.starts_with(prefix) && !names.contains(&name) {
                // A part that cannot be removed is not used either; a full disk shows at the next part.
                let _ = store.remove(&name).await;
            }
        }
    }

    fn name(&self, rounds: Rounds, key: &str) -> Result<String> {
        let mut hash = self.hash()?;
        hash.text(key);
        Ok(format!("{}{:016x}", rounds.prefix(), hash.value()))
    }
}

/// Makes the key of results that code of the given `versions` makes of the data `of`, as JSON: a key must not depend on
/// names within the code, nor on the compiler.
///
/// # Errors
/// [`Error::Internal`] if the data cannot be written as JSON.
pub fn key<T: Serialize>(versions: &[u32], of: &T) -> Result<String> {
    serde_json::to_string(&(versions, of)).map_err(|e| Error::internal(format!("a key of kept results: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Operator, PlanOptions};

    #[test]
    fn keys_are_versions_and_the_data_as_they_travel() {
        assert_eq!(key(&[1, 2], &(Operator::Refit, [0.1, 2.0])).unwrap(), r#"[[1,2],["refit",[0.1,2.0]]]"#);
        let options = PlanOptions::default();
        let of = |version: u32, options: &PlanOptions| key(&[version], options).unwrap();
        assert_eq!(of(1, &options), of(1, &options.clone()));
        assert_ne!(of(1, &options), of(2, &options), "the code has changed");
        assert_ne!(
            of(1, &options),
            of(1, &PlanOptions { keep_first: !options.keep_first, ..options.clone() })
        );
    }
}
