//! Backward passes of whole models of every architecture, against differences of their forward passes.

use burn::tensor::{Tensor, TensorData};
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::forward::states::{HiddenStates, to_host};
use laminate::internals::model::layers::decoder::DecoderLayer;
use laminate::internals::model::layers::gradients::Gradients;
use laminate::internals::model::tensors::Role;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::{Accelerator, Error, Model, Result};

use crate::architectures::{FIXTURES, hugging_face};
use crate::common::{cpu, open, open_files, run};

/// Largest difference from a central difference in `f32`, as a share of the derivative.
const TOLERANCE: f64 = 5e-3;

/// Lengths of steps, as shares of what is changed.
const STEPS: [f64; 6] = [1e-2, 1e-3, 3e-2, 3e-3, 3e-4, 1e-4];

/// Architectures through whose layers no gradient goes: with experts, other mixers than attention, or shared keys.
const WITHOUT: [&str; 13] = [
    "gemma4",
    "mixtral",
    "qwen2moe",
    "qwen3moe",
    "granitemoe",
    "jamba",
    "lfm2",
    "qwen3_5",
    "gptoss",
    "gptoss_mxfp4",
    "qwen3moe_mixed",
    "qwen3moe_step",
    "jamba_dense",
];

const MATRICES: [Role; 7] =
    [Role::Query, Role::Key, Role::Value, Role::Output, Role::Gate, Role::Up, Role::Down];

fn noise(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * seed + seed / 3) % 2027) as f32 / 1013.0 - 1.0).collect()
}

fn length_of(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

/// A model on a device, its sequences, and a direction at the end of its layers of which the loss is the product.
struct Setting<'a> {
    model: &'a Model,
    runner: Runner<'a>,
    accelerator: &'a Accelerator,
    states: HiddenStates,
    dy: Vec<f32>,
}

/// What is changed: the states that enter, or the matrix of a role of a layer.
#[derive(Clone, Copy)]
enum Place {
    Entering,
    Matrix(usize, Role),
}

impl Setting<'_> {
    async fn layer(&self, place: usize, change: Option<(Role, &[f32])>) -> DecoderLayer {
        let fetch = self.runner.fetch(&NewLayer::original(place), Storage::of(self.model)).unwrap();
        let mut tensors = fetch.finish().await.unwrap();
        if let Some((role, direction)) = change {
            let stored =
                tensors.tensors.iter_mut().find(|(each, _)| *each == role).map(|(_, stored)| stored).unwrap();
            let values: Vec<f32> =
                stored.to_f32().unwrap().iter().zip(direction).map(|(w, d)| w + d).collect();
            *stored = laminate::format::stored::Stored::from_f32(&values);
        }
        DecoderLayer::upload(&self.model.config, tensors, self.accelerator).unwrap()
    }

    fn entering(&self, changed: Place, direction: &[f32]) -> HiddenStates {
        let mut states = self.states.clone();
        if let Place::Entering = changed {
            let shape = states.chunks[0].dims();
            let direction = TensorData::new(direction.to_vec(), shape);
            states.chunks[0] =
                states.chunks[0].clone() + Tensor::from_data(direction, self.accelerator.device());
        }
        states
    }

    async fn loss(&self, changed: Place, direction: &[f32]) -> f64 {
        let mut states = self.entering(changed, direction);
        for place in 0..self.model.config.n_layers {
            let own = match changed {
                Place::Matrix(layer, role) if layer == place => Some((role, direction)),
                _ => None,
            };
            let layer = self.layer(place, own).await;
            states = self.runner.forward(&layer, &states).await.unwrap();
        }
        let last = to_host(states.chunks[0].clone(), "a test").await.unwrap();
        last.iter().zip(&self.dy).map(|(x, dy)| f64::from(*x) * f64::from(*dy)).sum()
    }

    /// Gradients of what enters, and of all matrices.
    async fn gradients(&self) -> Result<(Vec<f32>, Vec<(usize, Role, Vec<f32>)>)> {
        let mut entering = vec![self.states.clone()];
        for place in 0..self.model.config.n_layers {
            let layer = self.layer(place, None).await;
            let after = self.runner.forward(&layer, entering.last().unwrap()).await?;
            entering.push(after);
        }
        let shape = self.states.chunks[0].dims();
        let mut dy =
            Tensor::<3>::from_data(TensorData::new(self.dy.clone(), shape), self.accelerator.device());
        let mut found = Vec::new();
        for place in (0..self.model.config.n_layers).rev() {
            let mut gradients = Gradients::of(&MATRICES);
            let layer = self.layer(place, None).await;
            let x = entering[place].chunks[0].clone();
            dy = layer.backward(x, self.runner.positions(), dy, &mut gradients)?;
            for (role, gradient) in gradients.into_found() {
                found.push((place, role, to_host(gradient, "a test").await?));
            }
        }
        Ok((to_host(dy, "a test").await?, found))
    }

    /// The derivative along a gradient, beside the length of the gradient, which it should be. Long steps see curves, and short
    /// ones the rounding of `f32`: the best of several counts.
    async fn assert_slope(&self, what: &str, gradient: &[f32], size: f64, changed: Place) {
        let length = length_of(gradient);
        assert!(length.is_finite() && length > 0.0, "{what}: {length}");
        let mut slopes = Vec::new();
        for step in STEPS.map(|step| step * size) {
            let along = |sign: f64| -> Vec<f32> {
                gradient.iter().map(|g| (sign * step * f64::from(*g) / length) as f32).collect()
            };
            let slope = (self.loss(changed, &along(1.0)).await - self.loss(changed, &along(-1.0)).await)
                / (2.0 * step);
            slopes.push(slope);
            if (slope - length).abs() < TOLERANCE * length {
                return;
            }
        }
        panic!("{what}: {slopes:?} where the gradient says {length}");
    }
}

/// Checks one model; an error if no gradient goes through its layers.
fn check(name: &str, model: &Model) -> Result<()> {
    let accelerator = cpu();
    let (count, tokens) = (2, 6);
    let ids: Vec<Vec<u32>> = (0..count)
        .map(|row| {
            (0..tokens).map(|i| ((row * 31 + i * 7) % model.config.vocab_size.min(64)) as u32).collect()
        })
        .collect();
    let sequences = Sequences::padded(&model.config, &ids, 0).unwrap();
    run(async {
        let runner = Runner::new(model, &accelerator, tokens).unwrap();
        let states = runner.embed(&sequences, Storage::of(model)).await.unwrap();
        let dy = noise(count * tokens * model.config.hidden_size, 83);
        let setting = Setting { model, runner, accelerator: &accelerator, states, dy };
        let (entering, matrices) = setting.gradients().await?;
        let size = length_of(&to_host(setting.states.chunks[0].clone(), "a test").await.unwrap());
        setting.assert_slope(&format!("{name}, what enters"), &entering, size, Place::Entering).await;
        for (place, role, gradient) in &matrices {
            let fetch = setting.runner.fetch(&NewLayer::original(*place), Storage::of(model)).unwrap();
            let tensors = fetch.finish().await.unwrap();
            let (_, stored) = tensors.tensors.iter().find(|(each, _)| each == role).unwrap();
            let size = length_of(&stored.to_f32().unwrap());
            let what = format!("{name}, {role:?} of layer {place}");
            setting.assert_slope(&what, gradient, size, Place::Matrix(*place, *role)).await;
        }
        assert!(matrices.len() >= model.config.n_layers * 6, "{name}: {} matrices", matrices.len());
        Ok(())
    })
}

#[test]
fn every_architecture_goes_back_or_says_that_it_does_not() {
    for name in FIXTURES {
        let model = open_files(&hugging_face(name, "config.json")).unwrap();
        match check(name, &model) {
            Ok(()) => assert!(!WITHOUT.contains(&name), "{name} goes back"),
            Err(Error::Unsupported(why)) => assert!(WITHOUT.contains(&name), "{name}: {why}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn llama_and_its_variants_go_back() {
    for name in ["stories260K", "variants/mistral-window", "variants/multi-head-biases", "variants/rope-yarn"]
    {
        check(name, &open(name)).unwrap();
    }
}
