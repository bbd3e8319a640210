//! Laminate compresses a large language model by merging its similar layers, shows why the layers are similar, measures
//! what was lost, and writes a smaller model that other tools load.
//!
//! A transformer's deep layers often do nearly the same thing. Laminate captures the hidden states of every layer on a
//! calibration text, makes a diffusion map of each layer, and scores pairs of layers by the mutual information of their
//! maps. A *selection rule* then says which neighbouring layers become one, an *operator* makes the one layer that takes
//! their place, and the new model is measured against the original by perplexity and KL divergence.
//!
//! # Compressing a model
//!
//! ```
//! use laminate::files::sink::DirectoryFolder;
//! use laminate::{Accelerator, Method, Session, Silent, WriteOptions, CalibrationOptions, demo};
//!
//! # fn main() -> laminate::Result<()> { futures::executor::block_on(async {
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! # let path = folder.path().join("smaller");
//! let model = demo::open().await?; // or Model::open(name, &files::source::open_path(path)?)
//! let mut session = Session::new(model, Accelerator::cpu("the example asks for it"));
//! let calibration = CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() };
//! let compared = session.similarity(&calibration, &Silent).await?;
//! assert_eq!((compared.layers, compared.similarity.len()), (12, 12));
//!
//! let output = WriteOptions::default();
//! let plan = session.plan(&Method::named("mka")?.options(7, 0), &output, &Silent).await?;
//! assert_eq!(plan.layers.after, 5);
//! println!("KL to the original: {:?}", plan.merged.kl);
//! session.write(&plan.plan, &output, &mut DirectoryFolder::create(&path)?, &Silent).await?;
//! # Ok(()) }) }
//! ```
//!
//! `examples/compress.rs` is the same program for any model. Futures of this crate are not `Send`: they run on one thread,
//! by any executor that blocks, such as [`futures::executor::block_on`].
//!
//! # Where things are
//!
//! | to | see |
//! |---|---|
//! | open a model | [`Model::open`], [`files::source`] |
//! | compare layers, plan, measure, write | [`Session`] |
//! | choose a method, or make or edit a plan by hand | [`plan`] |
//! | set options, watch a run, read reports | [`protocol`] |
//! | write elsewhere than to a directory | [`files::sink`] |
//! | read and write GGUF and safetensors headers, encode and decode blocks | [`mod@format`] |
//! | use the mathematics alone: diffusion maps, similarities, least squares | [`maths`] |
//!
//! Features, both on by default: `gpu` (WebGPU, Vulkan, Metal or DirectX through `wgpu`) and `cli` (the program
//! `laminate`).
#![deny(missing_docs)]
#![deny(unsafe_code)]

// From the ground up: a module names only modules that stand before it (`tests/invariants.rs`).
mod error;
mod memory;
mod named;

pub mod format;

mod quality;

mod kernels;

pub mod maths;

pub mod plan;

mod device;
pub mod files;

mod model;

pub mod demo;

pub mod protocol;

pub mod prose;

mod forward;

mod write;

mod evaluate;

mod analysis;

mod methods;

mod heal;

mod session;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

pub use analysis::atlas::{LayerMap, MapOptions};
pub use device::{Accelerator, DeviceKind, DeviceReport, Preference};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use files::parts::PartStore;
pub use files::sink::OutputFolder;
pub use files::source::ByteSource;
pub use model::weights::file_type::FileType;
pub use model::weights::part_types::PartTypes;
pub use model::weights::storage::{Requantise, Rounding};
pub use model::{Config, Model};
pub use plan::{MergePlan, Method, PlanOptions};
pub use protocol::events::{Event, Observer, Silent};
pub use protocol::options::{CalibrationOptions, CompareOptions, QuestionOptions, TextOptions, WriteOptions};
pub use quality::Quality;
pub use session::estimate::{Estimate, PlanEstimate};
pub use session::{Next, RunOptions, Session};

/// The modules that are no promise, for the tests and benchmarks of this crate.
#[doc(hidden)]
pub mod internals {
    macro_rules! open {
        ($($module:ident)*) => { $(pub mod $module { pub use crate::$module::*; })* };
    }
    open! { analysis device error evaluate forward heal kernels memory methods model quality session write }
}
