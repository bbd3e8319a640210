//! Models packed by compressed-tensors, GPTQ and AWQ: they are read as their loaders read them, copied byte for byte,
//! computed tensors go to the same grid, and what contradicts itself is refused.

use std::collections::BTreeMap;

use laminate::format::Container;
use laminate::format::element::Element;
use laminate::format::packed::{Layout, PackedType, Scheme};
use laminate::internals::evaluate::predict;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::fetch::{read_f32, read_rows};
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::internals::model::weights::whole::Reads;
use laminate::protocol::model::ModelReport;
use laminate::{Error, MergePlan, Model, Rounding, Session, Silent, WriteOptions};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::architectures;
use crate::common::{Files, MemoryFolder, cpu, data, files, open_files, run};

const VARIANTS: [&str; 8] =
    ["ct_int4", "ct_int4_asym", "ct_int8", "ct_w8a8", "gptq", "gptq_ordered", "gptq_int8", "awq"];

/// A tensor: type, shape and bytes.
type Tensor = (safetensors::Dtype, Vec<usize>, Vec<u8>);

fn packed(variant: &str) -> Files {
    let mut all = files("stories260K");
    for file in ["config.json", "model.safetensors"] {
        all.insert(file.to_owned(), std::fs::read(data(&format!("packed/{variant}/{file}"))).unwrap());
    }
    all
}

fn golden(variant: &str) -> Vec<u8> {
    std::fs::read(data(&format!("packed/{variant}/golden.safetensors"))).unwrap()
}

fn tensors(files: &Files) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    for (_, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        for (name, view) in SafeTensors::deserialize(bytes).unwrap().tensors() {
            all.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    all
}

fn config(files: &Files) -> Value {
    serde_json::from_slice(&files["config.json"]).unwrap()
}

fn write(files: &Files, plan: &MergePlan, options: &WriteOptions) -> laminate::Result<Files> {
    let mut folder = MemoryFolder::default();
    run(Session::new(open_files(files).unwrap(), cpu()).write(plan, options, &mut folder, &Silent))?;
    let files = folder.state.borrow().files.clone();
    Ok(files)
}

fn stored(dtype: Option<Element>, pack: Option<PackedType>) -> WriteOptions {
    WriteOptions {
        dtype: dtype.map(Into::into),
        pack,
        container: Some(Container::Safetensors),
        ..WriteOptions::default()
    }
}

/// Log-likelihoods of the golden tokens by the layers `layers` of `model`, stored as `storage` says.
fn likelihoods(model: &Model, layers: &[NewLayer], storage: Storage) -> Vec<f64> {
    let bytes = golden("gptq");
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let ids = golden.tensor("token_ids").unwrap();
    let tokens = ids.shape()[1];
    let all: Vec<u32> = ids.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let rows: Vec<Vec<u32>> = all.chunks(tokens).map(<[u32]>::to_vec).collect();
    let sequences = Sequences::padded(&model.config, &rows, 0).unwrap();
    run(async {
        let accelerator = cpu();
        let runner = Runner::new(model, &accelerator, tokens).unwrap();
        let mut states = runner.embed(&sequences, Storage::of(model)).await.unwrap();
        for layer in layers {
            let tensors = runner.fetch(layer, storage).unwrap().finish().await.unwrap();
            states = runner.forward(&runner.upload(tensors).unwrap(), &states).await.unwrap();
        }
        let places: Vec<(usize, usize)> =
            (0..rows.len()).flat_map(|row| (0..tokens - 1).map(move |token| (row, token))).collect();
        let targets: Vec<u32> = places.iter().map(|(row, token)| rows[*row][token + 1]).collect();
        let last = states.rows(&places).unwrap();
        let predictions =
            predict(&Pass::original(model, &accelerator, &Silent), last, &targets, &Silent).await.unwrap();
        predictions.iter().map(|p| p.log_probability).collect()
    })
}

fn likelihoods_of(files: &Files) -> Vec<f64> {
    let model = open_files(files).unwrap();
    likelihoods(&model, &NewLayer::originals(&model), Storage::of(&model))
}

#[test]
fn weights_are_those_of_the_loaders_to_the_last_bit() {
    for variant in VARIANTS {
        let model = open_files(&packed(variant)).unwrap();
        let bytes = golden(variant);
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let mut n_packed = 0;
        for entry in model.tensors().iter().filter(|entry| entry.id.layer() == Some(1)) {
            let plain = golden.tensor(&format!("plain.{}", entry.name)).unwrap();
            let ours = run(Reads::default().start(&model, entry).unwrap()).unwrap();
            assert_eq!(ours, plain.data(), "{variant}: {}", entry.name);
            assert_eq!(plain.shape().iter().map(|n| *n as u64).collect::<Vec<_>>(), entry.shape);
            n_packed += usize::from(entry.packed.is_some());
            // Rows in the middle are the same when they are read by themselves.
            let (rows, row) = (entry.shape[0], ours.len() / entry.shape[0] as usize);
            for (first, count) in [(3, 9), (0, 1), (rows - 2, 2)] {
                let some = run(read_rows(&model, entry.id, first, count)).unwrap();
                let expected = &ours[first as usize * row..(first + count) as usize * row];
                assert_eq!(some.bytes, expected, "{variant}: {} {first}", entry.name);
            }
        }
        assert_eq!(n_packed, if variant == "ct_int4" || variant == "gptq_ordered" { 6 } else { 7 });
    }
}

#[test]
fn states_and_likelihoods_are_those_of_transformers() {
    for variant in VARIANTS {
        let bytes = golden(variant);
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let model = open_files(&packed(variant)).unwrap();
        architectures::check(variant, &model, &cpu(), &golden, "nll");
    }
}

#[test]
fn the_report_says_how_weights_are_stored() {
    for (variant, dtype) in [
        ("ct_int4_asym", "int4 in groups of 16"),
        ("ct_int8", "int8 in rows"),
        ("ct_int4", "mixed"),
        ("gptq", "int4 in groups of 32"),
    ] {
        let files = packed(variant);
        let report = ModelReport::new(&open_files(&files).unwrap());
        assert_eq!(report.dtype, dtype);
        let size: usize = tensors(&files).values().map(|(.., bytes)| bytes.len()).sum();
        assert_eq!(report.bytes, size as u64, "{variant}");
        assert!(report.notes.iter().any(|note| note.contains("are packed")), "{:?}", report.notes);
    }
    let notes = ModelReport::new(&open_files(&packed("ct_w8a8")).unwrap()).notes;
    assert!(notes.iter().any(|note| note.contains("multiply to 8 bits too")), "{notes:?}");
}

#[test]
fn a_model_without_its_packing_computes_the_same() {
    for variant in VARIANTS {
        let files = packed(variant);
        let element = open_files(&files).unwrap().tensors()[1].element;
        let plan = MergePlan::unmerged(4);
        let plain = write(&files, &plan, &stored(Some(element), None)).unwrap();
        assert!(config(&plain).get("quantization_config").is_none());
        let names: Vec<String> = tensors(&plain).into_keys().collect();
        assert!(names.iter().all(|name| name.ends_with(".weight")) && names.len() == 38, "{names:?}");
        // What W8A8 multiplies is rounded only while it is packed.
        assert_eq!(likelihoods_of(&plain) == likelihoods_of(&files), variant != "ct_w8a8", "{variant}");
        // And as it was, byte for byte.
        let same = write(&files, &plan, &stored(None, None)).unwrap();
        assert_eq!(tensors(&same), tensors(&files), "{variant}");
        assert_eq!(config(&same)["quantization_config"], config(&files)["quantization_config"]);
        let gguf = WriteOptions { container: Some(Container::Gguf), ..WriteOptions::default() };
        let gguf = write(&files, &plan, &gguf).unwrap();
        let [close, exact] = [likelihoods_of(&gguf), likelihoods_of(&plain)];
        for (ours, theirs) in close.iter().zip(&exact) {
            assert!((ours - theirs).abs() < 1e-5, "{variant}: {ours} {theirs}");
        }
    }
}

#[test]
fn layers_that_stay_keep_their_bytes_and_merged_ones_go_to_the_same_grid() {
    for variant in VARIANTS {
        let files = packed(variant);
        let plan = MergePlan::from_merges(4, &[([0, 1], 0.5)]).unwrap();
        let merged = write(&files, &plan, &stored(None, None)).unwrap();
        let (before, after) = (tensors(&files), tensors(&merged));
        for (new, old) in [(1, 2), (2, 3)] {
            let prefix = format!("model.layers.{old}.");
            for (name, tensor) in before.iter().filter(|(name, _)| name.starts_with(&prefix)) {
                let renamed = name.replace(&prefix, &format!("model.layers.{new}."));
                assert_eq!(&after[&renamed], tensor, "{variant}: {name}");
            }
        }
        // What is merged has the pieces of the first of its layers.
        let names = |all: &BTreeMap<String, Tensor>| {
            let of_layer = all.iter().filter(|(name, _)| name.starts_with("model.layers.0."));
            of_layer
                .map(|(name, (dtype, shape, _))| (name.clone(), *dtype, shape.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&after), names(&before), "{variant}");
        assert!(!after.keys().any(|name| name.contains("layers.3.")));
        // What is measured is what is written.
        let model = open_files(&files).unwrap();
        let layers: Vec<NewLayer> = [
            NewLayer::mixed(laminate::maths::mix::Mix::new(vec![(0, 0.5), (1, 0.5)]).unwrap()),
            NewLayer::original(2),
            NewLayer::original(3),
        ]
        .into();
        let measured = likelihoods(&model, &layers, Storage::of(&model));
        assert_eq!(measured, likelihoods_of(&merged), "{variant}");
        // The grid is near the average.
        let written = open_files(&merged).unwrap();
        let average = |role| -> Vec<f32> {
            let [a, b] = [0, 1].map(|layer| run(read_f32(&model, layer, role)).unwrap());
            a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect()
        };
        for role in [Role::Query, Role::Down] {
            let (ours, exact) = (run(read_f32(&written, 0, role)).unwrap(), average(role));
            let error: f32 = ours.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum();
            let size: f32 = exact.iter().map(|x| x.powi(2)).sum();
            let bits = written.tensor(TensorId::Layer(0, role)).unwrap().packed.as_ref().unwrap().scheme.bits;
            let share = (error / size).sqrt();
            let most = if bits == 4 { 0.15 } else { 0.02 };
            assert!(share > 0.0 && share < most, "{variant}, {role:?}: {share}");
        }
    }
}

#[test]
fn lists_of_plain_modules_go_with_their_layers() {
    let removed = |variant: &str, absorbed: usize| {
        let stays = MergePlan::from_merges(4, &[([absorbed - 1, absorbed], 1.0)]).unwrap();
        let files = write(&packed(variant), &stays, &stored(None, None)).unwrap();
        (config(&files)["quantization_config"].clone(), tensors(&files))
    };
    // Layer 1, whose projection is plain, becomes layer 0.
    let plan = MergePlan::from_merges(4, &[([0, 1], 0.0)]).unwrap();
    let files = write(&packed("ct_int4"), &plan, &stored(None, None)).unwrap();
    assert_eq!(
        config(&files)["quantization_config"]["ignore"],
        json!(["lm_head", "model.layers.0.mlp.down_proj"])
    );
    assert!(tensors(&files).contains_key("model.layers.0.mlp.down_proj.weight"));
    // Layer 1 goes into layer 0, whose projection is packed.
    let (settings, tensors) = removed("ct_int4", 1);
    assert_eq!(settings["ignore"], json!(["lm_head"]));
    assert!(tensors.contains_key("model.layers.0.mlp.down_proj.weight_packed"));
    let (settings, _) = removed("awq", 1);
    assert_eq!(settings["modules_to_not_convert"], json!(["lm_head", "model.layers.1.self_attn.v_proj"]));
}

#[test]
fn any_model_can_be_packed() {
    let files = packed("ct_int8");
    let plain = write(&files, &MergePlan::unmerged(4), &stored(Some(Element::Bf16), None)).unwrap();
    for (source, plan) in [
        (&plain, MergePlan::unmerged(4)),
        (&plain, MergePlan::from_merges(4, &[([1, 2], 0.5)]).unwrap()),
        (&files, MergePlan::unmerged(4)),
    ] {
        let rounding = Some(Rounding::Nearest);
        let options = WriteOptions { rounding, ..stored(None, Some("int4".parse().unwrap())) };
        let written = write(source, &plan, &options).unwrap();
        let model = open_files(&written).unwrap();
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(32), symmetric: true };
        let packed =
            model.tensors().iter().filter(|entry| entry.packed.as_ref().is_some_and(|p| p.scheme == scheme));
        assert_eq!(packed.count(), 7 * plan.groups.len());
        let settings = &config(&written)["quantization_config"];
        assert_eq!(settings["format"], "pack-quantized");
        assert_eq!(settings["config_groups"]["group_0"]["weights"]["group_size"], 32);
        assert_eq!(settings["ignore"], json!(["lm_head", "model.embed_tokens"]));
        // What is measured is what is written.
        let original = open_files(source).unwrap();
        let layers: Vec<NewLayer> = plan
            .groups
            .iter()
            .map(|group| {
                let weight = 1.0 / group.len() as f64;
                let parts = group.iter().map(|layer| (*layer, weight)).collect();
                NewLayer::mixed(laminate::maths::mix::Mix::new(parts).unwrap())
            })
            .collect();
        let measured = likelihoods(&original, &layers, options.storage(&original));
        assert_eq!(measured, likelihoods_of(&written));
        assert_ne!(measured, likelihoods(&original, &layers, Storage::of(&original)));
        let notes = run(laminate::internals::write::check::check_output(&original, &options)).unwrap();
        assert!(notes.iter().any(|note| note.contains("int4 in groups of 32")), "{notes:?}");
    }
}

#[test]
fn types_that_do_not_fit_are_refused_before_the_work() {
    let model = open_files(&packed("ct_int8")).unwrap();
    let check = |options: &WriteOptions| options.check(&model).unwrap_err().to_string();
    let packed = |name: &str| Some(name.parse::<PackedType>().unwrap());
    let message = check(&stored(None, packed("int4-g64")));
    assert!(message.contains("cannot be stored as int4-g64") && message.contains("width of 32"), "{message}");
    let gguf = WriteOptions { container: Some(Container::Gguf), ..stored(None, packed("int4")) };
    assert!(check(&gguf).contains("for Hugging Face folders"));
    assert!(check(&stored(Some(Element::F16), packed("int4"))).contains("two types"));
    assert!("int4-g7".parse::<PackedType>().is_err());
    let narrow = open_files(&files("stories260K")).unwrap();
    let message = stored(None, packed("int4")).check(&narrow).unwrap_err().to_string();
    assert!(message.contains("groups of 32 do not divide its width of 172"), "{message}");
}

#[test]
fn what_every_method_measures_is_what_is_written() {
    for variant in ["gptq", "ct_int4", "awq"] {
        for method in ["mka", "shortgpt", "laminate"] {
            for pack in [None, Some("int4".parse::<PackedType>().unwrap())] {
                let model = open_files(&packed(variant)).unwrap();
                let (said, measured, files) =
                    architectures::written(model, method, &stored(None, pack)).unwrap();
                let written = open_files(&files).unwrap();
                assert!(written.tensors().iter().any(|entry| entry.packed.is_some()));
                assert!((said / measured - 1.0).abs() < 1e-5, "{variant}, {method}: {said}, not {measured}");
            }
        }
    }
}

/// Opens a variant after `edit` has changed its tensors and settings; the error must contain all of `expected`.
#[track_caller]
fn refused(variant: &str, edit: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut Value), expected: &[&str]) {
    let mut files = packed(variant);
    let (mut all, mut settings) = (tensors(&files), config(&files));
    edit(&mut all, &mut settings);
    let views = all.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    files.insert("model.safetensors".into(), safetensors::serialize(views, None).unwrap());
    files.insert("config.json".into(), settings.to_string().into_bytes());
    let error: Error = open_files(&files).err().expect("this must be refused");
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
}

const UP: &str = "model.layers.2.mlp.up_proj";

#[test]
fn missing_pieces() {
    for (variant, piece) in [
        ("ct_int4", "weight_scale"),
        ("ct_int4", "weight_shape"),
        ("ct_int4_asym", "weight_zero_point"),
        ("gptq", "qzeros"),
        ("awq", "scales"),
    ] {
        let name = format!("{UP}.{piece}");
        refused(variant, |all, _| drop(all.remove(&name)), &[&name, "is in none of the weight files"]);
    }
    // The groups of columns follow each other where nothing else is said.
    let mut files = packed("gptq");
    let expected = likelihoods_of(&files);
    let mut all = tensors(&files);
    all.retain(|name, _| !name.ends_with("g_idx"));
    let views = all.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    files.insert("model.safetensors".into(), safetensors::serialize(views, None).unwrap());
    assert_eq!(likelihoods_of(&files), expected);
}

#[test]
fn pieces_of_another_shape_or_type() {
    for (variant, piece) in
        [("ct_int4", "weight_packed"), ("ct_w8a8", "weight_scale"), ("gptq", "scales"), ("awq", "qweight")]
    {
        let name = format!("{UP}.{piece}");
        let flat = |all: &mut BTreeMap<String, Tensor>, _: &mut Value| {
            let (_, shape, _) = all.get_mut(&name).unwrap();
            *shape = vec![shape.iter().product()];
        };
        refused(variant, flat, &[&name, "has shape [", "demands"]);
    }
    let name = format!("{UP}.scales");
    let integers = |all: &mut BTreeMap<String, Tensor>, _: &mut Value| {
        all.get_mut(&name).unwrap().0 = safetensors::Dtype::I16;
    };
    refused("gptq", integers, &[&name, "is of type I16"]);
}

#[test]
fn settings_of_another_model() {
    let group = |size: i64| {
        move |_: &mut BTreeMap<String, Tensor>, settings: &mut Value| {
            settings["quantization_config"]["group_size"] = size.into();
        }
    };
    refused("gptq", group(24), &["groups of 24 do not divide its width of 64"]);
    refused("gptq", group(16), &["has shape [2, 4]", "demands [4, 4]"]);
    let bits = |_: &mut BTreeMap<String, Tensor>, settings: &mut Value| {
        settings["quantization_config"]["bits"] = 8.into();
    };
    refused("gptq", bits, &["demands"]);
    let symmetric = |_: &mut BTreeMap<String, Tensor>, settings: &mut Value| {
        settings["quantization_config"]["config_groups"]["group_0"]["weights"]["symmetric"] = true.into();
    };
    refused("ct_int4_asym", symmetric, &["weight_zero_point does not belong to weights that are symmetric"]);
    let none = |_: &mut BTreeMap<String, Tensor>, settings: &mut Value| {
        settings.as_object_mut().unwrap().remove("quantization_config");
    };
    refused("gptq", none, &["g_idx", "is known here"]);
}

#[test]
fn settings_that_contradict_the_tensors() {
    let list = |key: &'static str, names: &'static [&'static str]| {
        move |_: &mut BTreeMap<String, Tensor>, settings: &mut Value| {
            settings["quantization_config"][key] = json!(names);
        }
    };
    let (ours, awq) = ("ignore", "modules_to_not_convert");
    let is_packed = &["mlp.up_proj", "is packed, but the settings say"];
    refused("ct_int4", list(ours, &[UP, "model.layers.1.mlp.down_proj"]), is_packed);
    refused("awq", list(awq, &["up_proj", "model.layers.2.self_attn.v_proj"]), is_packed);
    refused("ct_int4", list(ours, &["lm_head"]), &["model.layers.1.mlp.down_proj", "is stored plainly"]);
    refused("awq", list(awq, &["lm_head"]), &["layers.2.self_attn.v_proj", "is stored plainly"]);
}

#[test]
fn packed_tensors_that_are_no_projections() {
    let head = |all: &mut BTreeMap<String, Tensor>, _: &mut Value| {
        let embedding = all.remove("model.embed_tokens.weight").unwrap();
        for piece in ["qweight", "qzeros", "scales"] {
            all.insert(format!("model.embed_tokens.{piece}"), embedding.clone());
        }
    };
    refused("gptq", head, &["model.embed_tokens", "not supported here"]);
    let foreign = |all: &mut BTreeMap<String, Tensor>, _: &mut Value| {
        let tensor = all[&format!("{UP}.scales")].clone();
        all.insert("model.layers.0.mlp.other.scales".into(), tensor);
    };
    refused("gptq", foreign, &["mlp.other.weight belongs to no"]);
}

#[test]
fn columns_of_groups_that_do_not_exist() {
    let mut files = packed("gptq_ordered");
    let mut all = tensors(&files);
    let (_, _, bytes) = all.get_mut(&format!("{UP}.g_idx")).unwrap();
    bytes[..4].copy_from_slice(&9i32.to_le_bytes());
    let views = all.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    files.insert("model.safetensors".into(), safetensors::serialize(views, None).unwrap());
    let model = open_files(&files).unwrap();
    let error = run(read_f32(&model, 2, Role::Up)).unwrap_err().to_string();
    assert!(error.contains(UP) && error.contains("a column is of a group"), "{error}");
}
