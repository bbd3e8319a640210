//! Tiny models of every architecture, as Hugging Face directories and as GGUF files, against transformers.

use laminate::files::source::open_path;
use laminate::format::Container;
use laminate::format::element::Element;
use laminate::internals::evaluate::predict;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::forward::states::to_host;
use laminate::internals::model::architectures::ALL;
use laminate::internals::model::rope::{RopeScaling, Yarn};
use laminate::internals::model::tensors::TensorId;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::protocol::model::ModelReport;
use laminate::{
    Accelerator, CalibrationOptions, Error, Method, Model, Session, Silent, TextOptions, WriteOptions,
};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::common::{Files, MemoryFolder, cpu, data, open_files, run, sources};

/// Largest difference from transformers in a state, and in the likelihood of a token.
const TOLERANCE: f32 = 1e-4;

pub const FIXTURES: [&str; 36] = [
    "qwen2",
    "qwen3",
    "smollm3",
    "granite",
    "granite4",
    "seed_oss",
    "ernie4_5",
    "ministral3",
    "olmo2",
    "olmo3",
    "exaone4",
    "exaone4_hybrid",
    "hunyuan",
    "glm4",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma4_dense",
    "phi3",
    "mixtral",
    "qwen2moe",
    "qwen3moe",
    "granitemoe",
    "jamba",
    "lfm2",
    "qwen3_5",
    "cohere",
    "cohere2",
    "gptoss",
    "gptoss_mxfp4",
    "qwen3moe_mixed",
    "qwen3moe_step",
    "granite4_nope",
    "olmo2_bias",
    "jamba_dense",
    "gemma3_cap",
];

/// The files of a Hugging Face directory; `config.json` is the one called `config`.
pub fn hugging_face(name: &str, config: &str) -> Files {
    let folder = data(&format!("architectures/{name}/hf"));
    let read = |file: &str| (file.to_owned(), std::fs::read(folder.join(file)).unwrap());
    let mut files = Files::from(
        ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"].map(read),
    );
    files.insert("config.json".to_owned(), std::fs::read(folder.join(config)).unwrap());
    files
}

/// The model of a GGUF file; `None` if llama.cpp cannot compute the model, so that there is no such file.
fn gguf(name: &str) -> Option<Model> {
    let path = data(&format!("architectures/{name}/model.gguf"));
    path.exists().then(|| run(Model::open(name, &open_path(&path).unwrap())).unwrap())
}

/// The same model from all kinds of files.
fn models(name: &str) -> Vec<(&'static str, Model)> {
    let mut models = vec![
        ("config of transformers 4", open_files(&hugging_face(name, "config.json")).unwrap()),
        ("config of transformers 5", open_files(&hugging_face(name, "config.v5.json")).unwrap()),
    ];
    models.extend(gguf(name).map(|model| ("GGUF", model)));
    models
}

fn values(view: &TensorView<'_>) -> Vec<f32> {
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert!(ours.len() >= theirs.len() && !theirs.is_empty(), "{what}");
    for (place, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let apart = (ours - theirs).abs() / theirs.abs().max(1.0);
        assert!(apart <= TOLERANCE, "{what}, number {place}: {ours}, not {theirs}");
    }
}

/// Compares states, routing and likelihoods with `golden`; with `gguf_nll` only the likelihoods, which are llama.cpp's.
pub fn check(what: &str, model: &Model, accelerator: &Accelerator, golden: &SafeTensors<'_>, nll: &str) {
    let close = |what: &str, ours: &[f32], theirs: &[f32]| {
        if nll == "nll" {
            close(what, ours, theirs);
        }
    };
    let ids = golden.tensor("token_ids").unwrap();
    let tokens = ids.shape()[1];
    let all: Vec<u32> =
        ids.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let rows: Vec<Vec<u32>> = all.chunks(tokens).map(<[u32]>::to_vec).collect();
    let sequences = Sequences::padded(&model.config, &rows, 0).unwrap();
    let states_of = |name: &str| values(&golden.tensor(name).unwrap());
    run(async {
        let runner = Runner::new(model, accelerator, tokens).unwrap();
        let mut states = runner.embed(&sequences, Storage::of(model)).await.unwrap();
        let host = async |states: &laminate::internals::forward::states::HiddenStates| {
            to_host(states.chunks[0].clone(), "in a test").await.unwrap()
        };
        close(&format!("{what}: embedding"), &host(&states).await, &states_of("embedding"));
        for layer in 0..model.config.n_layers {
            let fetch = runner.fetch(&NewLayer::original(layer), Storage::of(model)).unwrap();
            let layer_on_device = runner.upload(fetch.finish().await.unwrap()).unwrap();
            if let Some(experts) = layer_on_device.experts().filter(|_| nll == "nll") {
                let (x, beside) = (states.chunks[0].clone(), &states.beside[0]);
                let between = layer_on_device.after_attention(x, runner.positions(), beside).unwrap();
                let input = layer_on_device.mlp_input(between).unwrap();
                let scores = to_host(experts.router.forward(input).unwrap(), "in a test").await.unwrap();
                let chosen = golden.tensor(&format!("experts_{layer}")).unwrap();
                let gates = states_of(&format!("gates_{layer}"));
                let routed = experts.route(&scores).unwrap();
                for (place, e) in chosen.data().chunks_exact(4).enumerate() {
                    let (token, e) = (place / chosen.shape()[1], e[0] as usize);
                    let found = routed[e].rows.iter().position(|row| *row as usize == token);
                    let found =
                        found.unwrap_or_else(|| panic!("{what}, layer {layer}: token {token}, expert {e}"));
                    let what = format!("{what}, layer {layer}: gate of token {token}");
                    close(&what, &[routed[e].gates[found]], &[gates[place]]);
                }
                let n_routed: usize = routed.iter().map(|routed| routed.rows.len()).sum();
                assert_eq!(n_routed, chosen.shape()[1] * rows.len() * tokens);
            }
            states = runner.forward(&layer_on_device, &states).await.unwrap();
            close(
                &format!("{what}: layer {layer}"),
                &host(&states).await,
                &states_of(&format!("layer_{layer}")),
            );
        }
        let places: Vec<(usize, usize)> =
            (0..rows.len()).flat_map(|row| (0..tokens - 1).map(move |token| (row, token))).collect();
        let targets: Vec<u32> = places.iter().map(|(row, token)| rows[*row][token + 1]).collect();
        let last = states.rows(&places).unwrap();
        let predictions =
            predict(&Pass::original(model, accelerator, &Silent), last, &targets, &Silent).await.unwrap();
        let ours: Vec<f32> = predictions.iter().map(|p| -p.log_probability as f32).collect();
        self::close(&format!("{what}: likelihoods"), &ours, &states_of(nll));
    });
}

#[test]
fn states_and_likelihoods_are_those_of_transformers() {
    for name in FIXTURES {
        let bytes = std::fs::read(data(&format!("architectures/{name}/golden.safetensors"))).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        for (kind, mut model) in models(name) {
            if kind == "GGUF" && golden.tensor("gguf_nll").is_ok() {
                check(&format!("{name}, {kind}, as llama.cpp"), &model, &cpu(), &golden, "gguf_nll");
                // llama.cpp rounds where the ramp of YaRN begins and ends, and transformers does not.
                let RopeScaling::Yarn(yarn) = &mut model.config.ropes[0].scaling else { panic!("{name}") };
                assert!(yarn.rounds);
                yarn.rounds = false;
            }
            check(&format!("{name}, {kind}"), &model, &cpu(), &golden, "nll");
        }
    }
}

#[test]
fn every_architecture_has_a_fixture() {
    let class =
        |name: &&str| open_files(&hugging_face(name, "config.json")).unwrap().config.architecture.class;
    let names: Vec<&str> = FIXTURES.iter().map(class).collect();
    for architecture in ALL {
        let is_old = ["LlamaForCausalLM", "MistralForCausalLM"].contains(&architecture.class);
        assert!(is_old || names.contains(&architecture.class), "{} has none", architecture.class);
    }
}

#[test]
fn what_layers_are_is_said_where_they_differ() {
    let report = |name: &str| ModelReport::new(&open_files(&hugging_face(name, "config.json")).unwrap());
    let [window, full] = ["attention with a window", "attention"];
    assert_eq!(report("gemma3").kinds, [window, window, window, window, window, full]);
    let jamba = report("jamba");
    let [mamba, routed] = ["Mamba", "Mamba and experts"];
    assert_eq!(jamba.kinds, [mamba, routed, full, routed, mamba, routed, full, routed]);
    assert_eq!(jamba.experts, Some([4, 2]));
    assert_eq!(report("smollm3").kinds[3], "attention without positions");
    assert_eq!((report("mixtral").kinds.len(), report("mixtral").experts), (0, Some([4, 2])));
    assert_eq!((report("qwen2").kinds.len(), report("qwen2").experts), (0, None));
}

/// Removes one layer by `operator` and returns the report's perplexity and that of the written files.
pub fn written(model: Model, method: &str, output: &WriteOptions) -> laminate::Result<(f64, f64, Files)> {
    let mut session = Session::new(model, cpu());
    let calibration = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
    run(session.check_output(output))?;
    run(session.similarity(&calibration, &Silent))?;
    let judged = TextOptions { samples: 8, tokens: 16, ..TextOptions::default() };
    session.judge_on(judged.clone());
    let options = Method::named(method)?.options(1, 0);
    let fitted = session.is_fitted(options.operator, output);
    let report = run(session.plan(&options, output, &Silent))?;
    let mut folder = MemoryFolder::default();
    run(session.write(&report.plan, output, &mut folder, &Silent))?;
    let files = folder.state.borrow().files.clone();
    let again = run(Model::open("written", &sources(&files)))?;
    assert_eq!(again.config.n_layers, session.model().config.n_layers - 1);
    let text = if fitted { judged } else { calibration.text_options() };
    let measured = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent))?;
    Ok((report.merged.perplexity, measured.perplexity, files))
}

/// Returns a part of the message by which a plan is refused; `None` if it has to be possible.
fn refused(name: &str, method: &str, container: Container) -> Option<&'static str> {
    let begins = |names: &[&str]| names.iter().any(|each| name.starts_with(each));
    let normalises_after = begins(&["olmo", "exaone4", "glm4", "gemma"]);
    let has_experts = begins(&["mixtral", "qwen2moe", "qwen3moe", "granitemoe", "gptoss"]) || name == "jamba";
    // What no GGUF file can say, or llama.cpp takes otherwise: kinds of layers, gates, scores.
    let hugging_face_only =
        begins(&["smollm3", "exaone4_hybrid", "qwen3moe_mixed", "qwen3moe_step", "gemma3_cap"]);
    match (method, container) {
        (_, Container::Gguf) if hugging_face_only => Some("write a Hugging Face folder"),
        ("flatten", _) if normalises_after || has_experts || begins(&["jamba_dense", "lfm2", "qwen3_5"]) => {
            Some("is not defined for")
        }
        ("replaceme", _) if normalises_after || has_experts => Some("is not defined for"),
        ("prunecomp", _) if has_experts => Some("is not defined for"),
        // Windows alternate, or experts do: no neighbours are of one kind.
        ("mka", _) if begins(&["gemma2", "qwen3moe_step", "gptoss"]) || name == "jamba" => {
            Some("cannot become one")
        }
        _ => None,
    }
}

#[test]
fn what_is_written_is_what_was_measured() {
    for name in FIXTURES {
        for container in [Container::Safetensors, Container::Gguf] {
            for method in ["mka", "shortgpt", "laminate", "flatten", "replaceme", "prunecomp"] {
                for from_gguf in [false, true] {
                    let model = match from_gguf {
                        true => gguf(name),
                        false => Some(open_files(&hugging_face(name, "config.json")).unwrap()),
                    };
                    let Some(model) = model else { continue };
                    let output = WriteOptions {
                        container: Some(container),
                        dtype: Some(Element::F32.into()),
                        ..WriteOptions::default()
                    };
                    let what = format!("{name} by {method} to {container:?}, from GGUF: {from_gguf}");
                    match written(model, method, &output) {
                        Ok((said, measured, _)) => {
                            // A GGUF file of this architecture is computed as llama.cpp does, as a note says.
                            let is_rounded =
                                name.starts_with("gptoss") && container == Container::Gguf && !from_gguf;
                            let most = if is_rounded { 0.1 } else { 1e-4 };
                            assert!((said / measured - 1.0).abs() < most, "{what}: {said}, not {measured}");
                        }
                        Err(Error::Unsupported(why)) => {
                            let expected =
                                refused(name, method, container).unwrap_or_else(|| panic!("{what}: {why}"));
                            assert!(why.contains(expected), "{what}: {why}");
                        }
                        Err(error) => panic!("{what}: {error}"),
                    }
                }
            }
        }
    }
}

/// Returns the tensors of experts in MXFP4 in the files of a Hugging Face model, by the last part of the name and
/// layer.
fn in_mxfp4(files: &Files) -> Vec<(String, Vec<u8>)> {
    let weights = &files["model.safetensors"];
    let tensors = SafeTensors::deserialize(weights).unwrap();
    let stored = tensors.tensors().into_iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::U8);
    let mut stored: Vec<(String, Vec<u8>)> =
        stored.map(|(name, view)| (name, view.data().to_vec())).collect();
    stored.sort_unstable();
    stored
}

#[test]
fn experts_in_mxfp4_are_copied_from_container_to_container() {
    let original = hugging_face("gptoss_mxfp4", "config.json");
    let without_one = |model: Model, container| {
        let output = WriteOptions { container: Some(container), ..WriteOptions::default() };
        let notes = run(Session::new(open_files(&original).unwrap(), cpu()).check_output(&output)).unwrap();
        assert_eq!(notes.iter().any(|note| note.contains("YaRN")), container == Container::Gguf, "{notes:?}");
        let (said, measured, files) = written(model, "shortgpt", &output).unwrap();
        (files, (said / measured - 1.0).abs())
    };
    let (folder, apart) = without_one(open_files(&original).unwrap(), Container::Safetensors);
    assert!(apart < 1e-4, "{apart}");
    let (gguf, _) = without_one(open_files(&original).unwrap(), Container::Gguf);
    let gguf = run(Model::open("gguf", &sources(&gguf))).unwrap();
    for tensor in gguf.tensors() {
        let is_matrix = matches!(tensor.id, TensorId::Expert(..)) && tensor.shape.len() == 2;
        assert_eq!(tensor.element.to_string() == "MXFP4", is_matrix, "{}", tensor.name);
    }
    let (back, apart) = without_one(gguf, Container::Safetensors);
    assert!(apart < 1e-4, "{apart}");
    let all = in_mxfp4(&original);
    assert_eq!(all.len(), 16);
    for (files, n) in [(folder, 12), (back, 8)] {
        let kept = in_mxfp4(&files);
        assert_eq!(kept.len(), n);
        for (name, bytes) in kept {
            let same = |(other, others): &&(String, Vec<u8>)| {
                other.rsplit('.').next() == name.rsplit('.').next() && *others == bytes
            };
            assert!(all.iter().any(|each| same(&each)), "{name}");
        }
        let config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
        assert_eq!(config["quantization_config"]["quant_method"], "mxfp4");
    }
}

#[test]
fn a_scaling_that_nothing_says_is_the_same_in_every_kind_of_file() {
    let settings = |scaling: serde_json::Value| {
        let mut files = hugging_face("gptoss", "config.json");
        let mut json: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
        json["rope_scaling"] = scaling;
        files.insert("config.json".to_owned(), serde_json::to_vec(&json).unwrap());
        files
    };
    let scaling = |files: &Files| open_files(files).unwrap().config.ropes[0].scaling.clone();
    let to = |model: Model, container| {
        let output = WriteOptions { container: Some(container), ..WriteOptions::default() };
        written(model, "shortgpt", &output).unwrap().2
    };
    for given in [serde_json::Value::Null, serde_json::json!({ "rope_type": "default" })] {
        let original = settings(given.clone());
        let read = scaling(&original);
        assert_eq!(read == RopeScaling::None, !given.is_null(), "{read:?}");
        assert_eq!(scaling(&to(open_files(&original).unwrap(), Container::Safetensors)), read);
        // llama.cpp rounds the ramp.
        let expected = match read {
            RopeScaling::Yarn(yarn) => RopeScaling::Yarn(Yarn { rounds: true, ..yarn }),
            other => other,
        };
        let gguf =
            run(Model::open("gguf", &sources(&to(open_files(&original).unwrap(), Container::Gguf)))).unwrap();
        let close = |ours: &RopeScaling| match (ours, &expected) {
            (RopeScaling::Yarn(ours), RopeScaling::Yarn(expected)) => {
                let numbers = |yarn: &Yarn| {
                    [
                        yarn.factor,
                        yarn.attention_factor,
                        yarn.fast_turns,
                        yarn.slow_turns,
                        yarn.original_context,
                    ]
                };
                let apart =
                    numbers(ours).into_iter().zip(numbers(expected)).map(|(a, b)| (a / b - 1.0).abs());
                assert!(apart.fold(0.0, f64::max) < 1e-6 && ours.rounds, "{ours:?}, not {expected:?}");
            }
            (ours, expected) => assert_eq!(ours, expected),
        };
        close(&gguf.config.ropes[0].scaling);
        close(&scaling(&to(gguf, Container::Safetensors)));
    }
}
