//! Which run a kept part belongs to.

use super::sequences::Sequences;
use crate::files::part::Part;
use crate::files::parts::PartStore;
use crate::model::Model;
use crate::model::fingerprint::{Fnv, fingerprint};
use crate::protocol::text::PointRule;
use crate::{Error, Result};

/// The key of a part's metadata that holds the kind of device.
const DEVICE: &str = "device";

/// What a checkpoint belongs to, as hashes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The model.
    pub model: String,
    /// The token sequences and which of their states are points.
    pub text: String,
}

impl Identity {
    /// Of a run of `sequences` through `model`.
    ///
    /// # Errors
    /// What reading samples of the weights gives.
    pub async fn of(model: &Model, sequences: &Sequences, rule: PointRule) -> Result<Self> {
        let mut text = Fnv::default();
        text.text(&format!("{} {} {} {rule}", sequences.count(), sequences.tokens(), sequences.has_bos()));
        for id in sequences.ids() {
            text.bytes(&id.to_le_bytes());
        }
        let hex = |hash: u64| format!("{hash:016x}");
        Ok(Self { model: hex(fingerprint(model).await?), text: hex(text.value()) })
    }

    /// What the metadata of a part says of the run and of the `device` that computed it.
    pub fn about<'a>(&'a self, device: &'a str) -> [(&'static str, &'a str); 3] {
        [("model", &self.model), ("text", &self.text), (DEVICE, device)]
    }

    /// Opens a part of this run.
    ///
    /// # Errors
    /// Those of [`Part::open`], and [`Error::Format`] in one clause for a part of another run.
    pub async fn open(&self, store: &dyn PartStore, name: &str) -> Result<Part> {
        let part = Part::open(store, name).await?;
        if part.about("model") != self.model {
            return Err(Error::Format("it belongs to another model".to_owned()));
        }
        if part.about("text") != self.text {
            return Err(Error::Format("it belongs to another text or other points of it".to_owned()));
        }
        Ok(part)
    }
}

/// The kind of device that computed a part.
pub fn device_of(part: &Part) -> &str {
    part.about(DEVICE)
}
