//! Gemma 4: layers whose scales are multiplied when others go, whose heads differ by kind, and of which the last has no
//! window.

use laminate::format::Container;
use laminate::format::element::Element;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::fetch::read_f32;
use laminate::plan::{Operator, Selection};
use laminate::{
    CalibrationOptions, Error, Method, Model, PlanOptions, Session, Silent, TextOptions, WriteOptions,
};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::architectures::hugging_face;
use crate::common::{Files, MemoryFolder, cpu, open_files, run, sources};

const DENSE: &str = "gemma4_dense";

fn options(operator: Operator, absorb: &[usize]) -> PlanOptions {
    let absorb = absorb.to_vec();
    PlanOptions { selection: Selection::Hand, operator, absorb, remove: None, ..PlanOptions::default() }
}

fn output(container: Container) -> WriteOptions {
    WriteOptions { container: Some(container), dtype: Some(Element::F32.into()), ..WriteOptions::default() }
}

/// Writes the model without the layers `absorb`, by hand; returns the report's perplexity, that of the files, and the files.
fn written(files: &Files, operator: Operator, absorb: &[usize], container: Container) -> (f64, f64, Files) {
    let mut session = Session::new(open_files(files).unwrap(), cpu());
    let output = output(container);
    let calibration = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    let judged = TextOptions { samples: 8, tokens: 16, ..TextOptions::default() };
    session.judge_on(judged.clone());
    let options = options(operator, absorb);
    let text = if operator.needs_activations() { judged } else { calibration.text_options() };
    let report = run(session.plan(&options, &output, &Silent)).unwrap();
    let mut folder = MemoryFolder::default();
    run(session.write(&report.plan, &output, &mut folder, &Silent)).unwrap();
    let files = folder.state.borrow().files.clone();
    let again = run(Model::open("written", &sources(&files))).unwrap();
    let measured = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent)).unwrap();
    (report.merged.perplexity, measured.perplexity, files)
}

fn scale(model: &Model, layer: usize) -> f32 {
    run(read_f32(model, layer, Role::LayerScale)).unwrap()[0]
}

#[test]
fn scales_of_layers_that_go_are_multiplied_by_those_that_stay() {
    let files = hugging_face(DENSE, "config.v5.json");
    let original = open_files(&files).unwrap();
    let scales: Vec<f32> = (0..4).map(|layer| scale(&original, layer)).collect();
    assert!(scales.iter().all(|scale| (scale - 1.0).abs() > 0.01), "{scales:?}");
    for container in [Container::Safetensors, Container::Gguf] {
        for (operator, absorb, groups) in [
            (Operator::Drop, vec![1], vec![vec![0, 1], vec![2], vec![3]]),
            (Operator::Drop, vec![1, 2], vec![vec![0, 1, 2], vec![3]]),
            (Operator::Average, vec![3], vec![vec![0], vec![1], vec![2, 3]]),
            (Operator::Scale, vec![1], vec![vec![0, 1], vec![2], vec![3]]),
            (Operator::Refit, vec![2], vec![vec![0], vec![1, 2], vec![3]]),
        ] {
            let what = format!("{operator} {absorb:?} to {container:?}");
            let (said, measured, files) = written(&files, operator, &absorb, container);
            assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
            let new = run(Model::open("written", &sources(&files))).unwrap();
            for (layer, group) in groups.iter().enumerate() {
                let product: f32 = group.iter().map(|layer| scales[*layer]).product();
                let found = scale(&new, layer);
                assert!(
                    (found / product - 1.0).abs() < 1e-6,
                    "{what}, layer {layer}: {found}, not {product}"
                );
            }
        }
    }
}

#[test]
fn settings_of_single_layers_are_numbered_anew() {
    let config = open_files(&hugging_face(DENSE, "config.v5.json")).unwrap().config;
    let written = config.to_config_json(&[vec![0], vec![2], vec![3]], None).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    let full = json!({"head_dim": 32, "num_key_value_heads": 1});
    assert_eq!(written["per_layer_config"], json!({"1": full, "2": full}));
    assert_eq!(written["layer_types"], json!(["sliding_attention", "full_attention", "full_attention"]));
}

#[test]
fn the_last_layer_has_no_window() {
    let session = Session::new(open_files(&hugging_face(DENSE, "config.json")).unwrap(), cpu());
    for container in [Container::Safetensors, Container::Gguf] {
        let without =
            |absorb: &[usize]| session.check_removal(&options(Operator::Drop, absorb), &output(container));
        without(&[2]).unwrap();
        without(&[3]).unwrap();
        let message = without(&[2, 3]).unwrap_err().to_string();
        assert!(message.contains("without a window") && message.contains("keep layer 3"), "{message}");
    }
}

#[test]
fn rules_leave_the_last_layer_without_a_window() {
    let mut session = Session::new(open_files(&hugging_face(DENSE, "config.json")).unwrap(), cpu());
    let calibration = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    for method in ["shortgpt", "sleb"] {
        let options = Method::named(method).unwrap().options(2, 0);
        let report = run(session.plan(&options, &output(Container::Gguf), &Silent)).unwrap();
        let last = report.plan.groups.len() - 1;
        assert_eq!(report.plan.survivor(last), Some(3), "{method}: {:?}", report.plan.groups);
        let said = |warning: &String| warning.starts_with("Layer 3 stays, because transformers");
        assert!(report.warnings.iter().any(said), "{method}: {:?}", report.warnings);
    }
}

#[track_caller]
fn refused(name: &str, edit: impl FnOnce(&mut Value), expected: &str) {
    let mut files = hugging_face(name, "config.v5.json");
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    edit(&mut config);
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    match open_files(&files).map(|model| model.config.n_layers) {
        Err(Error::Unsupported(message) | Error::Format(message)) => {
            assert!(message.contains(expected), "{message}");
        }
        other => panic!("{other:?} for {expected}"),
    }
}

#[test]
fn what_is_not_handled_is_refused_by_name() {
    refused(DENSE, |c| c["enable_moe_block"] = true.into(), "Gemma 4 with experts");
    refused(DENSE, |c| c["hidden_size_per_layer_input"] = 8.into(), "such as E2B and E4B");
    // 256 where nothing is said, as in transformers.
    refused(DENSE, |c| drop(c.as_object_mut().unwrap().remove("hidden_size_per_layer_input")), "E2B");
    refused(DENSE, |c| c["num_kv_shared_layers"] = 2.into(), "num_kv_shared_layers is 2");
    refused(DENSE, |c| c["use_bidirectional_attention"] = "all".into(), "use_bidirectional_attention");
    let windowed = |c: &mut Value| c["layer_types"][3] = "sliding_attention".into();
    refused(DENSE, windowed, "ends with sliding_attention");
    refused(DENSE, |c| c["per_layer_config"]["3"]["head_dim"] = 16.into(), "layer 3 other heads");
    refused(
        DENSE,
        |c| c["per_layer_config"]["2"]["intermediate_size"] = 8.into(),
        "intermediate_size for layer 2",
    );
    refused(DENSE, |c| c["per_layer_config"]["4"] = json!({}), "has 4, which is none of 4 layers");
    refused(
        DENSE,
        |c| drop(c["rope_parameters"].as_object_mut().unwrap().remove("sliding_attention")),
        "has no object",
    );
}

/// llama.cpp would use such a projection where it finds one.
#[test]
fn value_projections_that_nobody_reads_are_left_out() {
    let mut files = hugging_face(DENSE, "config.json");
    let tensors = SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
    let mut views: Vec<(String, TensorView<'_>)> = tensors.tensors();
    let keys = tensors.tensor("model.layers.3.self_attn.k_proj.weight").unwrap();
    views.push(("model.layers.3.self_attn.v_proj.weight".to_owned(), keys));
    let bytes = safetensors::serialize(views, None).unwrap();
    files.insert("model.safetensors".to_owned(), bytes);
    let model = open_files(&files).unwrap();
    assert!(model.tensor(TensorId::Layer(3, Role::Value)).is_none());
    assert!(model.tensor(TensorId::Layer(0, Role::Value)).is_some());
    assert!(model.notes.iter().any(|note| note.contains("1 value projections")), "{:?}", model.notes);
}

#[test]
fn images_that_are_seen_from_both_sides_change_no_text() {
    let mut files = hugging_face(DENSE, "config.json");
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    config["use_bidirectional_attention"] = "vision".into();
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    assert_eq!(open_files(&files).unwrap().config.n_layers, 4);
}
