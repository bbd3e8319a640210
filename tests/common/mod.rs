//! What the integration tests share: fixtures and an executor.

#![allow(dead_code)] // Each test file uses a part.

use std::future::Future;
use std::path::PathBuf;

use laminate::device::Accelerator;
use laminate::model::Model;
use laminate::source::open_path;
use serde_json::Value;

pub fn run<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

pub fn cpu() -> Accelerator {
    Accelerator::cpu("tests")
}

/// A fixture model by name; the demo is the planted one.
pub async fn open(model: &str) -> Model {
    if model == "stories-planted-12L" {
        return laminate::demo::open().await.unwrap();
    }
    let files = open_path(&data("models").join(model)).unwrap();
    Model::open(model, &files).await.unwrap()
}

/// Numbers that transformers and `mka_spec.py` gave for a fixture model.
pub struct Golden(Value);

pub fn golden(model: &str) -> Golden {
    let json = std::fs::read(data("golden").join(format!("{model}.json"))).unwrap();
    Golden(serde_json::from_slice(&json).unwrap())
}

impl Golden {
    pub fn value(&self) -> &Value {
        &self.0
    }

    pub fn ids(&self, sequence: usize) -> Vec<u32> {
        let ids = self.0["sequences"][sequence].as_array().unwrap();
        ids.iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    pub fn first8(&self, layer: usize) -> Vec<f64> {
        numbers(&self.0["hidden_after_layer"]["first8"][layer])
    }

    pub fn block_influence(&self, layer: usize) -> f64 {
        self.0["block_influence_layers_1_on"][layer - 1].as_f64().unwrap()
    }

    pub fn tokens_scored(&self) -> u64 {
        self.0["tokens_scored"].as_f64().unwrap() as u64
    }

    pub fn perplexity(&self) -> f64 {
        self.0["perplexity"].as_f64().unwrap()
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
