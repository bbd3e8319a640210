//! Values and errors between JavaScript and the engine.

use js_sys::Float64Array;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};

use crate::pipeline::LayerMap;
use crate::{Error, Result};

/// What a call into the engine gives: a value for JavaScript, or `{kind, message}`.
pub type JsResult = std::result::Result<JsValue, JsValue>;

/// `LayerMap` of `protocol/maps.ts`.
#[derive(Serialize)]
pub struct JsLayerMap {
    layer: usize,
    epsilon: f64,
    eigenvalues: Vec<f64>,
    disconnected: bool,
    dims: usize,
    /// Point after point.
    #[serde(with = "serde_wasm_bindgen::preserve")]
    coordinates: Float64Array,
}

impl From<&LayerMap> for JsLayerMap {
    fn from(LayerMap { layer, map, picture, eigenvalues }: &LayerMap) -> Self {
        Self {
            layer: *layer,
            epsilon: map.epsilon(),
            eigenvalues: eigenvalues.clone(),
            disconnected: map.nearly_disconnected(),
            dims: picture.dims(),
            coordinates: Float64Array::from(picture.to_rows().concat().as_slice()),
        }
    }
}

/// An error as JavaScript gets it: `EngineError` of `protocol/error.ts`.
#[derive(Serialize, Deserialize)]
struct Thrown {
    kind: String,
    message: String,
}

/// As JavaScript gets it.
pub fn thrown(error: Error) -> JsValue {
    let thrown = Thrown { kind: error.kind().to_owned(), message: error.to_string() };
    to_js(&thrown).unwrap_or_else(|_| JsValue::from_str(&thrown.message))
}

/// What JavaScript threw, as an error about `name`.
pub fn caught(name: &str, value: &JsValue) -> Error {
    if let Ok(Thrown { kind, message }) = serde_wasm_bindgen::from_value(value.clone()) {
        return match kind.as_str() {
            "cancelled" => Error::Cancelled,
            "limit" => Error::Limit(message),
            "usage" => Error::Usage(message),
            _ => Error::Source(message),
        };
    }
    let message = match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| "unknown failure".to_owned()),
    };
    Error::Source(format!("{name}: {message}"))
}

/// What a call gives, whichever way it ended.
pub fn finish<T: Serialize>(result: Result<T>) -> JsResult {
    to_js(&result.map_err(thrown)?)
}

/// A value that serde describes, as plain objects and lists.
pub fn to_js<T: Serialize>(value: &T) -> JsResult {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| JsValue::from_str(&e.to_string()))
}

/// Options that JavaScript gave.
pub fn from_js<T: DeserializeOwned>(value: JsValue) -> std::result::Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value)
        .map_err(|e| thrown(Error::Usage(format!("the options are not understood ({e})"))))
}

/// What JavaScript gave, or the default for `null` and `undefined`.
pub fn or_default<T: DeserializeOwned + Default>(value: JsValue) -> std::result::Result<T, JsValue> {
    Ok(from_js::<Option<T>>(value)?.unwrap_or_default())
}

/// The words of a list that JavaScript gave about `name`.
pub fn words(name: &str, list: JsValue) -> Result<Vec<String>> {
    serde_wasm_bindgen::from_value(list).map_err(|e| Error::Source(format!("{name}: {e}")))
}
