//! Typed look-ups in the metadata of GGUF files.

use crate::format::gguf::{Array, Metadata, Value};
use crate::model::config::sensible_size;
use crate::{Error, Result};

pub(super) fn not_positive(key: &str, number: f64) -> String {
    format!("{key} is {number}, not a positive number; convert the model anew")
}

/// Returns a float or an integer as a number; `None` for other values.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|n| n as f64))
}

/// Typed look-ups in the metadata; errors name the file and the key.
pub(super) struct Keys<'a> {
    pub(super) file: &'a str,
    pub(super) metadata: &'a Metadata,
    /// Name of the architecture, with which the keys of settings begin.
    pub(super) prefix: &'a str,
}

impl Keys<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Reads text under the whole key `key`; `None` if the key is absent.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.bad(format!("{key} is {value}, not text")))
    }

    pub(super) fn bad(&self, what: String) -> Error {
        Error::Format(format!("{}: {what}", self.file))
    }

    pub(super) fn refuse<T>(&self, what: String) -> Result<T> {
        Err(Error::Unsupported(format!("{}: {what}", self.file)))
    }

    pub(super) fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.bad(format!("{} is missing", self.key(name))))
    }

    /// Reads a size that is given as one number, or as a list of equal numbers with one entry per layer.
    pub(super) fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.metadata.get(&self.key(name)) else {
            return Ok(None);
        };
        let single = match value {
            Value::Array(Array { items, .. }) => match items.split_first() {
                Some((first, rest)) if rest.iter().all(|item| item == first) => first,
                _ => {
                    self.refuse(format!(
                        "{} differs between layers, which is not supported",
                        self.key(name)
                    ))?;
                    value
                }
            },
            other => other,
        };
        match single.as_u64().and_then(sensible_size) {
            Some(size) => Ok(Some(size)),
            None => Err(self.bad(format!("{} is {value}, not a sensible size", self.key(name)))),
        }
    }

    /// Reads a size that may be 0, which is `None`, as is an absent key.
    pub(super) fn optional_count(&self, name: &str) -> Result<Option<usize>> {
        match self.metadata.get(&self.key(name)).and_then(|value| value.as_u64()) {
            Some(0) => Ok(None),
            _ => self.optional_size(name),
        }
    }

    pub(super) fn positive(&self, name: &str) -> Result<Option<f64>> {
        match self.number(name)? {
            Some(number) if number <= 0.0 => Err(self.bad(not_positive(&self.key(name), number))),
            number => Ok(number),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.metadata.get(&self.key(name)) else {
            return Ok(None);
        };
        match value.as_f64().filter(|x| x.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(format!("{} is {value}, not a number", self.key(name)))),
        }
    }
}
