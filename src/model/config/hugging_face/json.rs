//! The JSON object of `config.json`, with the numbers that JSON has no word for.

use serde_json::{Map, Value};

use super::CONFIG_NAME;
use crate::{Error, Result};

/// Numbers that Python writes into JSON although JSON has no word for them.
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Beginning of the strings that stand for [`NOT_FINITE`] numbers in a parsed object, as JSON spells it.
pub(super) const MARK: &str = "\"\\u0001";

/// Parses a JSON object, in which numbers that are not finite become strings (see [`MARK`]). No key that is
/// used may have such a value: it is neither a number nor absent.
pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(json)
        .or_else(|error| serde_json::from_slice(&marked(json)).map_err(|_| error))
        .map_err(|e| Error::Format(format!("{CONFIG_NAME}: not a JSON object ({e})")))
}

/// Puts strings in the place of the numbers that are not finite.
pub(super) fn marked(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut rest) = (false, json);
    while let Some((byte, after)) = rest.split_first() {
        let word = NOT_FINITE.iter().find(|word| !in_string && rest.starts_with(word.as_bytes()));
        if let Some(word) = word {
            out.extend_from_slice(format!("{MARK}{word}\"").as_bytes());
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        out.push(*byte);
        rest = after;
        if in_string && *byte == b'\\' {
            // What follows a backslash does not end the string.
            out.extend(rest.first());
            rest = rest.get(1..).unwrap_or_default();
        } else if *byte == b'"' {
            in_string = !in_string;
        }
    }
    out
}

/// Puts the numbers that are not finite back into the place of the strings that stand for them.
pub(super) fn unmarked(json: &str) -> String {
    NOT_FINITE.iter().fold(json.to_owned(), |text, word| text.replace(&format!("{MARK}{word}\""), word))
}

/// Formats a value for a message.
pub(super) fn shown(value: &Value) -> String {
    unmarked(&value.to_string())
}

/// Returns the first item of a list that is not empty, and any other value itself: a key names one token or
/// several.
pub(super) fn first(value: &Value) -> &Value {
    match value {
        Value::Array(list) => list.first().unwrap_or(&Value::Null),
        other => other,
    }
}
