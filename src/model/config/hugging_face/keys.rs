//! Typed look-ups in the JSON object of `config.json`.

use serde_json::{Map, Value};

use super::CONFIG_NAME;
use super::json::{first, shown};
use crate::model::architectures::Presence;
use crate::model::config::sensible_size;
use crate::{Error, Result};

/// Typed look-ups in the JSON object; errors name the key.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl Keys<'_> {
    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn size_or(&self, key: &str, usual: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(usual))
    }

    /// Reads a size that may be null, which is not the same as an absent key: that means `usual`.
    pub(super) fn size_or_null(&self, key: &str, usual: Option<usize>) -> Result<Option<usize>> {
        if self.0.contains_key(key) { self.optional_size(key) } else { Ok(usual) }
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        self.present(key)
            .map(|value| {
                value.as_u64().and_then(sensible_size).ok_or_else(|| {
                    Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a sensible size", shown(value)))
                })
            })
            .transpose()
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.present(key)
            .map(|value| {
                value.as_f64().ok_or_else(|| {
                    Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a number", shown(value)))
                })
            })
            .transpose()
    }

    /// Reads whether layers have a part.
    pub(super) fn presence(&self, presence: Presence) -> Result<bool> {
        match presence {
            Presence::Never => Ok(false),
            Presence::Always => Ok(true),
            Presence::Key(key, usual) => self.flag_or(key, usual),
        }
    }

    pub(super) fn flag_or(&self, key: &str, usual: bool) -> Result<bool> {
        self.present(key).map_or(Ok(usual), |value| {
            value.as_bool().ok_or_else(|| {
                Error::Format(format!("{CONFIG_NAME}: {key} is {}, not true or false", shown(value)))
            })
        })
    }

    /// Reads the id of a special token: `usual` if the key is absent, `None` if it is null or the id is outside
    /// the vocabulary. The first of several ids counts.
    pub(super) fn token(&self, key: &str, usual: Option<u32>, vocab_size: usize) -> Result<Option<u32>> {
        let fits = |id: &u32| (*id as usize) < vocab_size;
        match self.0.get(key).map(first) {
            None => Ok(usual.filter(fits)),
            Some(Value::Null) => Ok(None),
            Some(id) if id.is_i64() || id.is_u64() => {
                Ok(id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(fits))
            }
            Some(other) => {
                Err(Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a token id", shown(other))))
            }
        }
    }
}
