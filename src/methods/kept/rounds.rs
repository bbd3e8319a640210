//! What the stage of a plan has finished, kept so that it goes on after an interruption: how far a search or the
//! merging came, here, and the layers that were fitted ([`fitted`](super::fitted)).
//!
//! A part is called by its kind and a hash of all that it follows from, so that it is found by the plan that it is of
//! and by no other.

use std::cell::RefCell;

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

/// The tensor of a part that holds what was found, as JSON.
const FOUND: &str = "found";

/// What is found round by round, each round replacing the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Layers that a search removed.
    Searched,
    /// Neighbours that were merged and measured.
    Merged,
}

impl Rounds {
    fn prefix(self) -> &'static str {
        match self {
            Self::Searched => "searched-",
            Self::Merged => "merged-",
        }
    }
}

/// Where what a plan has finished is kept. A store that refuses ends the keeping and not the run.
pub struct KeptPlan {
    pub(super) store: Mutex<Box<dyn PartStore>>,
    pub(super) identity: Identity,
    pub(super) device: String,
    storage: Storage,
    refused: RefCell<Option<String>>,
    elsewhere: RefCell<Option<String>>,
}

impl KeptPlan {
    /// In `store`, for plans that are made in `context`.
    ///
    /// # Errors
    /// What reading samples of the weights gives.
    pub async fn new(store: Box<dyn PartStore>, context: &Context<'_>) -> Result<Self> {
        let identity = Identity::of(context.model, context.sequences, PointRule::default()).await?;
        let device = context.accelerator.report().name.clone();
        let (refused, elsewhere) = (RefCell::new(None), RefCell::new(None));
        let storage = context.storage;
        Ok(Self { store: Mutex::new(store), identity, device, storage, refused, elsewhere })
    }

    /// A hash of the version, the model, the text, how the model is stored, and what is written into it further.
    pub(super) fn hash(&self) -> Fnv {
        let mut hash = Fnv::default();
        hash.text(&self.identity.model);
        hash.text(&self.identity.text);
        hash.text(&format!("{} {:?}", env!("CARGO_PKG_VERSION"), self.storage));
        hash
    }

    /// What the rounds so far found, of those that `key` tells from others; `None` where nothing was kept, or it is
    /// damaged, so that they begin anew.
    pub async fn found<T: DeserializeOwned>(&self, rounds: Rounds, key: &str) -> Option<T> {
        let name = self.name(rounds, key);
        let part = self.identity.open(&**self.store.lock().await, &name).await.ok()?;
        let found = serde_json::from_slice(&part.all_bytes(FOUND).await.ok()?).ok()?;
        if let Some(said) = self.said_of_elsewhere(&part, "The plan was begun") {
            self.elsewhere.replace(Some(said));
        }
        Some(found)
    }

    /// Keeps what the rounds so far found, in place of what others of their kind did.
    pub async fn keep_found<T: Serialize>(&self, rounds: Rounds, key: &str, found: &T) {
        let name = self.name(rounds, key);
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

    /// What a reader should know of the keeping, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        [&self.elsewhere, &self.refused].into_iter().filter_map(|said| said.borrow().clone()).collect()
    }

    /// What is to be said of a part that another device has made, after what it did.
    pub(super) fn said_of_elsewhere(&self, part: &Part, did: &str) -> Option<String> {
        (device_of(part) != self.device).then(|| {
            format!(
                "{did} on {} before the run went on, on {}: devices round differently in the last digits.",
                device_of(part),
                self.device
            )
        })
    }

    /// Writes by `write`, unless the store has refused before.
    pub(super) async fn keeping(&self, write: impl AsyncFnOnce(&mut dyn PartStore) -> Result<()>) {
        if self.refused.borrow().is_some() {
            return;
        }
        let written = write(&mut **self.store.lock().await).await;
        let said = written.err().map(|e| format!("What the plan has finished was not kept, because {e}."));
        self.refused.replace(said);
    }

    /// Removes the parts whose names begin with `prefix`, but for `names`.
    pub(super) async fn remove_others(&self, prefix: &str, names: &[String]) {
        let mut store = self.store.lock().await;
        for name in store.names().await.unwrap_or_default() {
            if name.starts_with(prefix) && !names.contains(&name) {
                // What cannot be removed is not used either; a full disk shows at the next part.
                let _ = store.remove(&name).await;
            }
        }
    }

    fn name(&self, rounds: Rounds, key: &str) -> String {
        let mut hash = self.hash();
        hash.text(key);
        format!("{}{:016x}", rounds.prefix(), hash.value())
    }
}
