//! Gemma 4: layers whose scales are multiplied when others go, whose heads differ by kind, and of which the last has no
//! window; in small models, inputs of each layer, and keys and values that layers share.

use laminate::format::Container;
use laminate::format::element::Element;
use laminate::internals::evaluate::predict;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::forward::states::{HiddenStates, to_host};
use laminate::internals::model::layers::attention::Positions;
use laminate::internals::model::layers::mixer::Past;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::fetch::{read_f32, read_rows};
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::plan::{Operator, Selection};
use laminate::protocol::events::Stage;
use laminate::protocol::model::ModelReport;
use laminate::{
    CalibrationOptions, Error, Method, Model, Observer, PlanOptions, RunOptions, Session, Silent,
    TextOptions, WriteOptions,
};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::architectures::hugging_face;
use crate::common::{Files, MemoryFolder, MemoryParts, StopAt, cpu, data, open_files, run, sources};

const DENSE: &str = "gemma4_dense";

/// As E2B: of six layers the last three read keys and values of others, layer 1 those with a window and layer 2 the other.
const SMALL: &str = "gemma4";

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
        Err(Error::Unsupported(message) | Error::Format(message) | Error::Shape(message)) => {
            assert!(message.contains(expected), "{message}");
        }
        other => panic!("{other:?} for {expected}"),
    }
}

#[test]
fn what_is_not_handled_is_refused_by_name() {
    refused(DENSE, |c| c["enable_moe_block"] = true.into(), "Gemma 4 with experts");
    // 256 where nothing is said, as in transformers, for as many tokens as the usual vocabulary has.
    let unsaid = |c: &mut Value| drop(c.as_object_mut().unwrap().remove("hidden_size_per_layer_input"));
    refused(DENSE, unsaid, "vocab_size_per_layer_input is 262144");
    let unsaid = |c: &mut Value| {
        unsaid(c);
        c["vocab_size_per_layer_input"] = 512.into();
    };
    refused(DENSE, unsaid, "embed_tokens_per_layer.weight is in none");
    refused(DENSE, |c| c["num_kv_shared_layers"] = 4.into(), "num_kv_shared_layers is 4");
    refused(SMALL, |c| c["num_kv_shared_layers"] = 5.into(), "without a window read the keys");
    refused(SMALL, |c| c["hidden_size_per_layer_input"] = 16.into(), "has shape [48, 48]");
    refused(SMALL, |c| c["use_double_wide_mlp"] = false.into(), "layers.3.mlp");
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

/// The small model as it lies in a Hugging Face directory and in a GGUF file.
fn small() -> [Files; 2] {
    let gguf = std::fs::read(data(&format!("architectures/{SMALL}/model.gguf"))).unwrap();
    [hugging_face(SMALL, "config.json"), Files::from([("model.gguf".to_owned(), gguf)])]
}

/// Runs tokens that follow each other through all layers, `piece` at a time, and returns the states that leave the model.
fn piece_by_piece(model: &Model, rows: &[Vec<u32>], piece: usize) -> Vec<HiddenStates> {
    let (accelerator, tokens) = (cpu(), rows[0].len());
    let mut pasts = vec![Past::default(); model.config.n_layers];
    let mut all = Vec::new();
    for first in (0..tokens).step_by(piece) {
        let ids: Vec<Vec<u32>> = rows.iter().map(|row| row[first..first + piece].to_vec()).collect();
        let runner = Runner::new(model, &accelerator, piece).unwrap();
        let positions = Positions::after(&model.config, first, piece, accelerator.device()).unwrap();
        let states =
            run(runner.embed(&Sequences::padded(&model.config, &ids, 0).unwrap(), Storage::of(model)))
                .unwrap();
        let (mut x, mut beside) = (states.chunks[0].clone(), states.beside[0].clone());
        for (layer, past) in pasts.iter_mut().enumerate() {
            let fetch = runner.fetch(&NewLayer::original(layer), Storage::of(model)).unwrap();
            let layer = runner.upload(run(fetch.finish()).unwrap()).unwrap();
            (x, beside) = run(runner.forward_after(&layer, x, beside, &positions, past)).unwrap();
        }
        all.push(HiddenStates { chunks: vec![x], beside: vec![beside] });
    }
    all
}

fn at_once(model: &Model, rows: &[Vec<u32>]) -> HiddenStates {
    let accelerator = cpu();
    let runner = Runner::new(model, &accelerator, rows[0].len()).unwrap();
    let mut states =
        run(runner.embed(&Sequences::padded(&model.config, rows, 0).unwrap(), Storage::of(model))).unwrap();
    for layer in 0..model.config.n_layers {
        let fetch = runner.fetch(&NewLayer::original(layer), Storage::of(model)).unwrap();
        let layer = runner.upload(run(fetch.finish()).unwrap()).unwrap();
        states = run(runner.forward(&layer, &states)).unwrap();
    }
    states
}

#[test]
fn tokens_piece_by_piece_give_what_whole_sequences_give() {
    for files in small() {
        let model = open_files(&files).unwrap();
        // Longer than a window.
        let rows: Vec<Vec<u32>> =
            (0..3).map(|row| (0..12u32).map(|i| 1 + (37 * i + 101 * row) % 500).collect()).collect();
        let whole = at_once(&model, &rows);
        for piece in [1, 3] {
            for (place, states) in piece_by_piece(&model, &rows, piece).into_iter().enumerate() {
                let theirs = whole.chunks[0].clone().narrow(1, place * piece, piece);
                let largest = theirs.clone().abs().max().into_scalar::<f32>();
                let apart = (states.chunks[0].clone() - theirs).abs().max().into_scalar::<f32>() / largest;
                assert!(apart < 1e-4, "{piece} at a time, from {}: {apart}", place * piece);
            }
        }
    }
}

#[test]
fn greedy_continuations_do_not_depend_on_the_cache() {
    let [files, _] = small();
    let model = open_files(&files).unwrap();
    let best = |states: &HiddenStates, position| {
        let row = states.rows(&[(0, position)]).unwrap();
        run(predict(&Pass::original(&model, &cpu(), &Silent), row, &[0], &Silent)).unwrap()[0].best
    };
    let mut ids: Vec<u32> = vec![1, 63, 270, 244];
    for _ in 0..8 {
        let rows = [ids.clone()];
        let cached = piece_by_piece(&model, &rows, 1).pop().unwrap();
        let next = best(&cached, 0);
        assert_eq!(next, best(&at_once(&model, &rows), ids.len() - 1), "after {ids:?}");
        ids.push(next);
    }
}

fn kept_in<'a>(store: &MemoryParts, observer: &'a dyn Observer) -> RunOptions<'a> {
    RunOptions::watched_by(observer).kept_in(Some(Box::new(store.clone())))
}

#[test]
fn a_run_stopped_after_any_layer_ends_in_the_same_numbers() {
    let [files, _] = small();
    let options = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
    let session = || Session::new(open_files(&files).unwrap(), cpu());
    let found = |report| {
        let mut value = serde_json::to_value(report).unwrap();
        for key in ["seconds", "peak_memory_bytes"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value
    };
    let whole = found(run(session().similarity(&options, &Silent)).unwrap());
    for layer in 1..=6 {
        let store = MemoryParts::default();
        let stop = StopAt(Stage::Capture, layer);
        let stopped = run(session().similarity(&options, kept_in(&store, &stop)));
        assert_eq!(stopped.unwrap_err(), Error::Cancelled);
        let bytes: usize = store.parts.borrow().values().map(Vec::len).sum();
        let estimate = run(session().estimate(&options)).unwrap();
        assert!((bytes as u64) < estimate.checkpoint_bytes, "{bytes} of {}", estimate.checkpoint_bytes);
        let report = run(session().similarity(&options, kept_in(&store, &Silent))).unwrap();
        assert_eq!(found(report), whole, "stopped before layer {layer}");
    }
    // Keys and values of a layer with a window and of one without, of one head of 16 and of one of 32.
    let model = open_files(&files).unwrap();
    assert_eq!((model.config.shared_numbers(), model.config.owners()), (2 * 16 + 2 * 32, vec![1, 2]));
}

#[test]
fn what_is_written_without_layers_is_what_was_measured() {
    for files in small() {
        for container in [Container::Safetensors, Container::Gguf] {
            for (operator, absorb) in [
                (Operator::Drop, vec![3]),
                (Operator::Drop, vec![4]),
                (Operator::Drop, vec![3, 4]),
                // Nothing is shared any more.
                (Operator::Drop, vec![3, 4, 5]),
                // The keys of an average are read.
                (Operator::Average, vec![1]),
                (Operator::Average, vec![1, 4]),
                (Operator::Collapse, vec![1, 4]),
                (Operator::Scale, vec![3]),
                (Operator::Refit, vec![4]),
                (Operator::PoolRefit, vec![3]),
            ] {
                let what = format!("{operator} {absorb:?} to {container:?}");
                let (said, measured, new) = written(&files, operator, &absorb, container);
                assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
                let new = open_files(&new).unwrap();
                let sharing = new.config.layers.iter().filter(|kind| kind.shares_keys).count();
                assert_eq!(sharing, 3 - absorb.iter().filter(|layer| **layer > 2).count(), "{what}");
            }
        }
    }
}

/// Reads the table of embeddings for layers, in rows.
fn table(model: &Model) -> Vec<Vec<f32>> {
    let id = TensorId::InputEmbedding;
    let rows = model.tensor(id).unwrap().shape[0];
    let values = run(read_rows(model, id, 0, rows)).unwrap().to_f32().unwrap();
    values.chunks(values.len() / rows as usize).map(<[f32]>::to_vec).collect()
}

#[test]
fn tables_of_all_layers_are_cut_where_layers_go() {
    for files in small() {
        let original = open_files(&files).unwrap();
        let old = table(&original);
        for container in [Container::Safetensors, Container::Gguf] {
            let (.., dropped) = written(&files, Operator::Drop, &[3], container);
            let (.., averaged) = written(&files, Operator::Average, &[1, 4], container);
            let [dropped, averaged] = [dropped, averaged].map(|files| open_files(&files).unwrap());
            for (new, groups) in [
                (&dropped, vec![vec![0], vec![1], vec![2], vec![4], vec![5]]),
                (&averaged, vec![vec![0, 1], vec![2], vec![3, 4], vec![5]]),
            ] {
                // The similarity says how much of each is in an average, and rows of the other tensor give it away.
                let share = |place: usize, group: &[usize]| -> Vec<f32> {
                    let [first, second] = group else { return vec![1.0] };
                    let of =
                        |model: &Model, layer| run(read_f32(model, layer, Role::InputProjection)).unwrap();
                    let (a, b, c) = (of(&original, *first), of(&original, *second), of(new, place));
                    let (i, _) = a
                        .iter()
                        .zip(&b)
                        .enumerate()
                        .map(|(i, (a, b))| (i, (a - b).abs()))
                        .fold((0, 0.0), |most, each| if each.1 > most.1 { each } else { most });
                    let alpha = (c[i] - b[i]) / (a[i] - b[i]);
                    vec![alpha, 1.0 - alpha]
                };
                let shares: Vec<Vec<f32>> =
                    groups.iter().enumerate().map(|(place, group)| share(place, group)).collect();
                for (row, (new, old)) in table(new).iter().zip(&old).enumerate() {
                    assert_eq!(new.len(), 8 * groups.len());
                    for (i, value) in new.iter().enumerate() {
                        let (group, shares) = (&groups[i / 8], &shares[i / 8]);
                        let parts = group.iter().zip(shares);
                        let expected: f32 = parts.map(|(layer, share)| share * old[8 * layer + i % 8]).sum();
                        assert!((value - expected).abs() < 1e-5, "row {row}, {i}: {value}, not {expected}");
                    }
                }
                for (place, group) in groups.iter().enumerate().filter(|(_, group)| group.len() == 1) {
                    let of =
                        |model: &Model, layer| run(read_f32(model, layer, Role::InputProjection)).unwrap();
                    assert_eq!(of(new, place), of(&original, group[0]), "layer {place}");
                }
            }
        }
    }
}

#[test]
fn a_table_without_whole_blocks_for_each_layer_becomes_floats() {
    let [files, _] = small();
    let output = WriteOptions {
        container: Some(Container::Gguf),
        dtype: Some("q8_0".parse().unwrap()),
        ..WriteOptions::default()
    };
    let (said, measured, new) =
        crate::architectures::written(open_files(&files).unwrap(), "shortgpt", &output).unwrap();
    assert!((said / measured - 1.0).abs() < 1e-3, "{said}, not {measured}");
    let new = open_files(&new).unwrap();
    assert_eq!(new.tensor(TensorId::InputEmbedding).unwrap().element, Element::F16);
}

#[test]
fn layers_whose_keys_others_read_stay() {
    for files in small() {
        let session = Session::new(open_files(&files).unwrap(), cpu());
        for container in [Container::Safetensors, Container::Gguf] {
            let without = |operator, absorb: &[usize]| {
                session.check_removal(&options(operator, absorb), &output(container))
            };
            for absorb in [vec![3], vec![4], vec![3, 4], vec![3, 4, 5]] {
                without(Operator::Drop, &absorb).unwrap();
            }
            for (absorb, expected) in [
                (vec![1], "keep layer 1"),
                (vec![2], "keep layer 2"),
                (vec![1, 3], "keep layer 1"),
                (vec![5], "keep layer 5"),
            ] {
                let message = without(Operator::Drop, &absorb).unwrap_err().to_string();
                assert!(message.contains(expected), "{absorb:?}: {message}");
            }
            without(Operator::Average, &[1, 4]).unwrap();
        }
    }
}

#[test]
fn rules_leave_the_layers_whose_keys_others_read() {
    for files in small() {
        let mut session = Session::new(open_files(&files).unwrap(), cpu());
        let calibration = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
        run(session.similarity(&calibration, &Silent)).unwrap();
        for method in ["shortgpt", "sleb", "laminate", "laminate-search", "mka", "laco"] {
            let options = Method::named(method).unwrap().options(1, 0);
            let report = run(session.plan(&options, &output(Container::Gguf), &Silent))
                .unwrap_or_else(|error| panic!("{method}: {error}"));
            let stays: Vec<usize> =
                (0..report.plan.groups.len()).filter_map(|place| report.plan.survivor(place)).collect();
            let groups = &report.plan.groups;
            let is_made_of = |layer| match options.operator.averages() {
                true => groups.iter().any(|group| group.contains(&layer)),
                false => stays.contains(&layer),
            };
            assert!([1, 2, 5].into_iter().all(is_made_of), "{method}: {groups:?}");
            let said = |warning: &String| warning.starts_with("Layers [1, 2] stay, because layers");
            if method == "shortgpt" {
                assert!(report.warnings.iter().any(said), "{method}: {:?}", report.warnings);
            }
        }
    }
}

/// llama.cpp takes the last two layers that have their own, the first with a window and the second without.
#[test]
fn a_file_whose_keys_llama_cpp_would_mistake_is_a_directory() {
    let mut files = hugging_face(SMALL, "config.json");
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    // Layers of other widths than the tensors: only the settings are asked.
    config["layer_types"] = json!([
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "sliding_attention",
        "sliding_attention",
        "full_attention"
    ]);
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    let config = laminate::internals::model::Config::parse(&files["config.json"]).unwrap();
    let groups: Vec<Vec<usize>> = (0..6).map(|layer| vec![layer]).collect();
    config.to_config_json(&groups, None).unwrap();
    let message = config.to_metadata(&groups, None).unwrap_err().to_string();
    assert!(
        message.contains("llama.cpp gives layer 3") && message.contains("Hugging Face folder"),
        "{message}"
    );
}

#[test]
fn keys_that_nobody_reads_are_left_out() {
    let mut files = hugging_face(SMALL, "config.json");
    let tensors = SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
    let mut views: Vec<(String, TensorView<'_>)> = tensors.tensors();
    for name in ["k_proj", "v_proj", "k_norm"] {
        let of = |layer: usize| format!("model.layers.{layer}.self_attn.{name}.weight");
        views.push((of(3), tensors.tensor(&of(0)).unwrap()));
    }
    let bytes = safetensors::serialize(views, None).unwrap();
    files.insert("model.safetensors".to_owned(), bytes);
    let model = open_files(&files).unwrap();
    assert!(model.tensor(TensorId::Layer(3, Role::Key)).is_none());
    assert!(model.tensor(TensorId::Layer(0, Role::Key)).is_some());
    assert!(model.notes.iter().any(|note| note.starts_with("3 tensors for keys")), "{:?}", model.notes);
}

#[test]
fn kinds_are_said_in_words() {
    let report = ModelReport::new(&open_files(&hugging_face(SMALL, "config.v5.json")).unwrap());
    let [windowed, full] = ["attention with a window", "attention"];
    let shared = [windowed, full].map(|kind| format!("{kind} on the keys of another layer"));
    let [windowed_shared, full_shared] = shared.each_ref().map(String::as_str);
    assert_eq!(report.kinds, [windowed, windowed, full, windowed_shared, windowed_shared, full_shared]);
    // Embeddings of 512 tokens for a layer count as its own.
    assert!(report.parameters_per_layer > 512 * 8);
}

/// The published models have encoders of images and sound.
#[test]
fn the_decoder_of_a_model_with_encoders_is_cut_likewise() {
    let mut files = hugging_face(SMALL, "config.v5.json");
    let plain = open_files(&files).unwrap();
    let text: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    let whole = json!({
        "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"], "text_config": text,
    });
    files.insert("config.json".to_owned(), serde_json::to_vec(&whole).unwrap());
    let tensors = SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
    let views = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name.replacen("model.", "model.language_model.", 1), view));
    let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    files.insert("model.safetensors".to_owned(), bytes);
    let rows = [(0..12u32).map(|i| 1 + 37 * i).collect::<Vec<u32>>()];
    let host = |model: &Model| run(to_host(at_once(model, &rows).chunks[0].clone(), "in a test")).unwrap();
    assert_eq!(host(&open_files(&files).unwrap()), host(&plain));
    let (said, measured, new) = written(&files, Operator::Drop, &[3], Container::Safetensors);
    assert!((said / measured - 1.0).abs() < 1e-4, "{said}, not {measured}");
    let written: Value = serde_json::from_slice(&new["config.json"]).unwrap();
    assert_eq!(written["text_config"]["num_kv_shared_layers"], 2);
    let tensors = SafeTensors::deserialize(&new["model.safetensors"]).unwrap();
    let table = tensors.tensor("model.language_model.embed_tokens_per_layer.weight").unwrap();
    assert_eq!(table.shape(), [512, 40]);
}

/// 35 layers of which the last 20 share keys, four with a window to one without: the depth of E2B.
#[test]
fn of_many_layers_all_but_three_can_go_in_both_kinds_of_files() {
    let mut files = hugging_face(SMALL, "config.json");
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    let kind = |layer: usize| if layer % 5 == 4 { "full_attention" } else { "sliding_attention" };
    config["num_hidden_layers"] = 35.into();
    config["num_kv_shared_layers"] = 20.into();
    config["layer_types"] = (0..35).map(kind).collect();
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    let config = laminate::Config::parse(&files["config.json"]).unwrap();
    assert_eq!((config.owners(), config.last_that_stays()), (vec![13, 14], Some(34)));
    let without = |gone: &[usize]| {
        let groups: Vec<Vec<usize>> =
            (0..35).filter(|layer| !gone.contains(layer)).map(|layer| vec![layer]).collect();
        let json = config.to_config_json(&groups, None)?;
        Ok::<_, Error>((serde_json::from_slice::<Value>(&json).unwrap(), config.to_metadata(&groups, None)?))
    };
    for layer in 0..35 {
        assert_eq!(without(&[layer]).is_err(), [13, 14, 34].contains(&layer), "layer {layer}");
    }
    let (json, metadata) = without(&[2, 3, 20, 21, 22]).unwrap();
    assert_eq!((&json["num_kv_shared_layers"], &json["num_hidden_layers"]), (&json!(17), &json!(30)));
    assert_eq!(metadata.get("gemma4.attention.shared_kv_layers").unwrap().as_u64(), Some(17));
    let widths = metadata.get("gemma4.feed_forward_length").unwrap().as_array().unwrap();
    let widths: Vec<u64> = widths.iter().filter_map(|value| value.as_u64()).collect();
    assert_eq!(widths, [vec![32; 13], vec![64; 17]].concat());
}
