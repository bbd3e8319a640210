//! Identity of a run: the model and the text that a kept part belongs to.

use super::sequences::Sequences;
use crate::files::part::Part;
use crate::files::parts::PartStore;
use crate::model::Model;
use crate::model::fingerprint::{Fnv, fingerprint};
use crate::protocol::text::PointRule;
use crate::{Error, Result};

/// Metadata key of the name of the device that computed a part.
const DEVICE: &str = "device";

/// Model and text that a checkpoint belongs to, each as a 64-bit hash in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Hash of the model (see [`fingerprint()`]).
    pub model: String,
    /// Hash of the token sequences and of the rule that chooses the points.
    pub text: String,
}

impl Identity {
    /// Computes the identity of a run of `sequences` through `model`, with points chosen by `rule`.
    ///
    /// # Errors
    /// Those of [`fingerprint()`].
    pub async fn of(model: &Model, sequences: &Sequences, rule: PointRule) -> Result<Self> {
        let mut text = Fnv::default();
        text.text(&format!("{} {} {} {rule}", sequences.count(), sequences.tokens(), sequences.has_bos()));
        for id in sequences.ids() {
            text.bytes(&id.to_le_bytes());
        }
        let hex = |hash: u64| format!("{hash:016x}");
        Ok(Self { model: hex(fingerprint(model).await?), text: hex(text.value()) })
    }

    /// Returns the metadata of a part, as pairs of key and value: the model, the text, and the `device` that
    /// computed the part.
    pub fn about<'a>(&'a self, device: &'a str) -> [(&'static str, &'a str); 3] {
        [("model", &self.model), ("text", &self.text), (DEVICE, device)]
    }

    /// Opens the part `name` of this run.
    ///
    /// # Errors
    /// [`Error::Format`], in one clause without the name, if the part belongs to another model, another text
    /// or other points; those of [`Part::open`].
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

/// Returns the name of the device that computed `part`.
pub fn device_of(part: &Part) -> &str {
    part.about(DEVICE)
}
