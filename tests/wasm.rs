//! The engine as the page has it: compiled to wasm, in a worker of a real browser.
#![cfg(target_arch = "wasm32")]

mod stored;

use std::rc::Rc;

use laminate::files::source::{MemorySource, SharedSource};
use laminate::internals::analysis::observe::{LayerOutput, observe};
use laminate::internals::evaluate::predict;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::memory;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::protocol::text::PointRule;
use laminate::{
    Accelerator, CalibrationOptions, DeviceKind, Method, Model, PlanOptions, Preference, Session, Silent,
    WriteOptions, demo, evaluate,
};
use safetensors::SafeTensors;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The demo, whose weights the page loads as a file of its own.
async fn open_demo() -> Model {
    demo::open_with(include_bytes!("../src/demo/model.safetensors.planes")).await.unwrap()
}

#[wasm_bindgen_test]
async fn the_planted_groups_are_found_on_the_cpu() {
    let mut session = Session::new(open_demo().await, Accelerator::cpu("test"));
    let report = session.similarity(&CalibrationOptions::default(), &Silent).await.unwrap();
    assert!((report.perplexity / 6.745 - 1.0).abs() < 1e-3, "{}", report.perplexity);
    let options = PlanOptions { remove: Some(7), ..PlanOptions::default() };
    let report = session.plan(&options, &WriteOptions::default(), &Silent).await.unwrap();
    assert_eq!(report.plan.groups, [vec![0], vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9], vec![10, 11]]);
    assert!(report.merged.perplexity < 1.06 * report.original.perplexity);
    let peak = memory::peak_bytes().unwrap();
    assert!(peak < 300 << 20, "{peak} bytes of wasm memory");
}

/// What each layer of a model gives on `accelerator`, for a few short sequences: a GPU emulated in
/// software does well under 1 GFLOP/s.
async fn layers(model: &Model, accelerator: &Accelerator) -> Vec<LayerOutput> {
    let ids = model.tokenizer.encode(&demo::TEXT[..2000]).unwrap();
    let sequences = Sequences::cut(&model.config, &ids, 6, 16).unwrap();
    let runner = Runner::new(model, accelerator, 16).unwrap();
    let mut states = runner.embed(&sequences, Storage::of(&model)).await.unwrap();
    let mut outputs = Vec::new();
    for layer in 0..model.config.n_layers {
        let tensors =
            runner.fetch(&NewLayer::original(layer), Storage::of(model)).unwrap().finish().await.unwrap();
        let after = runner.forward(&runner.upload(tensors).unwrap(), &states).await.unwrap();
        outputs.push(observe(layer, &states, &after, PointRule::Tokens(4), true).await.unwrap());
        states = after;
    }
    outputs
}

/// Returns the CPU and, where there is one, the GPU.
async fn accelerators() -> Vec<(Preference, Accelerator)> {
    let mut found = Vec::new();
    for preference in [Preference::Cpu, Preference::Gpu] {
        match Accelerator::choose(preference).await {
            Ok(accelerator) => found.push((preference, accelerator)),
            Err(why) => console_log!("skipped: {why}"),
        }
    }
    found
}

async fn gguf(name: &str, bytes: &'static [u8]) -> Model {
    Model::open(name, &[Rc::new(MemorySource::new(format!("{name}.gguf"), bytes)) as SharedSource])
        .await
        .unwrap()
}

/// Models whose layers are stored as F16, Q4_0, Q8_0 and a mixture.
async fn models() -> Vec<Model> {
    vec![
        open_demo().await,
        gguf("Q4_0", include_bytes!("data/models/gguf/stories260K-Q4_0.gguf")).await,
        gguf("Q8_0", include_bytes!("data/models/gguf/stories260K-Q8_0.gguf")).await,
        gguf("Q4_K_M", include_bytes!("data/models/gguf/stories260K-Q4_K_M.gguf")).await,
    ]
}

#[wasm_bindgen_test]
async fn a_quantised_model_scores_as_it_does_natively() {
    let model = gguf("Q8_0", include_bytes!("data/models/gguf/stories260K-Q8_0.gguf")).await;
    let cpu = Accelerator::cpu("test");
    let report =
        evaluate(&model, None, &cpu, &CalibrationOptions::default().text_options(), &Silent).await.unwrap();
    assert!((report.perplexity / 11.679 - 1.0).abs() < 5e-3, "{}", report.perplexity);
}

/// Least squares on what a device computed: pooled layers of the planted model lose next to nothing.
#[wasm_bindgen_test]
async fn layers_are_pooled_and_refitted_on_every_device() {
    for (preference, accelerator) in accelerators().await {
        let mut session = Session::new(open_demo().await, accelerator);
        let few = CalibrationOptions { samples: 40, tokens: 12, ..CalibrationOptions::default() };
        session.similarity(&few, &Silent).await.unwrap();
        let options = Method::named("laminate").unwrap().options(5, 0);
        let report = session.plan(&options, &WriteOptions::default(), &Silent).await.unwrap();
        let kl = report.merged.kl.unwrap();
        assert!(kl < 0.03, "{preference:?}: {kl}");
    }
}

#[wasm_bindgen_test]
async fn webgpu_and_cpu_give_the_same_states() {
    let gpu = match Accelerator::choose(Preference::Gpu).await {
        Ok(gpu) => gpu,
        Err(why) => {
            console_log!("skipped: {why}");
            return;
        }
    };
    assert_ne!(gpu.report().kind, DeviceKind::Cpu);
    console_log!("on {}", gpu.report().name);
    stored::check_every_type(gpu.device()).await;
    stored::check_products(gpu.device()).await;
    for model in models().await {
        let name = &model.name;
        let (on_gpu, on_cpu) = (layers(&model, &gpu).await, layers(&model, &Accelerator::cpu("test")).await);
        for (layer, (a, b)) in on_gpu.iter().zip(&on_cpu).enumerate() {
            let scale = b.largest_rms as f32;
            let worst = a.points.iter().zip(&b.points).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5 * scale, "{name}, layer {layer}: {worst} apart at a scale of {scale}");
            assert!((a.block_influence - b.block_influence).abs() < 1e-5, "{name}, layer {layer}");
        }
    }
}

/// Model and golden numbers of an architecture.
macro_rules! fixture {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("data/architectures/", $name, "/model.gguf")) as &[u8],
            include_bytes!(concat!("data/architectures/", $name, "/golden.safetensors")) as &[u8],
        )
    };
}

/// One architecture for each thing that layers do: windows, caps, norms after, norms after rotation, partial rotation,
/// queries that grow, experts, Mamba mixers, short convolutions, delta nets, attention and MLP side by side,
/// scores without keys, inputs of layers, keys of other layers.
#[wasm_bindgen_test]
async fn every_kind_of_layer_computes_what_transformers_does_on_every_device() {
    for (preference, accelerator) in accelerators().await {
        for (name, file, golden) in [
            fixture!("gemma2"),
            fixture!("gemma3"),
            fixture!("gemma4"),
            fixture!("gemma4_dense"),
            fixture!("olmo2"),
            fixture!("hunyuan"),
            fixture!("glm4"),
            fixture!("phi3"),
            fixture!("ministral3"),
            fixture!("qwen2moe"),
            fixture!("jamba"),
            fixture!("lfm2"),
            fixture!("qwen3_5"),
            fixture!("cohere2"),
            fixture!("gptoss"),
        ] {
            let source: SharedSource = Rc::new(MemorySource::new("model.gguf", file));
            let model = Model::open(name, &[source]).await.unwrap();
            let golden = SafeTensors::deserialize(golden).unwrap();
            let ids = golden.tensor("token_ids").unwrap();
            let nll = golden.tensor("gguf_nll").or_else(|_| golden.tensor("nll")).unwrap();
            let tokens = ids.shape()[1];
            let all: Vec<u32> =
                ids.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            let rows: Vec<Vec<u32>> = all.chunks(tokens).map(<[u32]>::to_vec).collect();
            let sequences = Sequences::padded(&model.config, &rows, 0).unwrap();
            let states =
                Pass::original(&model, &accelerator, &Silent).run(&sequences, &Silent).await.unwrap();
            let places: Vec<(usize, usize)> =
                (0..rows.len()).flat_map(|row| (0..tokens - 1).map(move |token| (row, token))).collect();
            let targets: Vec<u32> = places.iter().map(|(row, token)| rows[*row][token + 1]).collect();
            let last = states.rows(&places).unwrap();
            let predictions =
                predict(&Pass::original(&model, &accelerator, &Silent), last, &targets, &Silent)
                    .await
                    .unwrap();
            let theirs = nll.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            let apart =
                predictions.iter().zip(theirs).map(|(p, nll)| (-p.log_probability as f32 - nll).abs());
            let worst = apart.fold(0.0, f32::max);
            assert!(worst < 2e-4, "{name} on {preference:?}: {worst}");
        }
    }
}
