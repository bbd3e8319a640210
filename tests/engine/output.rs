//! What is written: bytes, names, shards, configuration, recipe; and that nothing partial stays.

use std::collections::BTreeMap;

use laminate::files::sink::DirectoryFolder;
use laminate::protocol::events::Stage;
use laminate::protocol::plan::Recipe;
use laminate::{
    CalibrationOptions, Error, MergePlan, Observer, OutputFolder, Result, Session, Silent, WriteOptions,
};
use safetensors::SafeTensors;

use crate::common::{Files, MemoryFolder, StopAt, files, open_files, remove, run, session};

const PLANTED: &str = "stories-planted-12L";

fn calibrated(model: &str) -> Session {
    let mut session = session(model);
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    session
}

fn plan() -> MergePlan {
    MergePlan::from_merges(12, &[([2, 3], 0.75), ([2, 3], 0.5)]).unwrap()
}

fn write(
    session: &Session,
    options: &WriteOptions,
    folder: &MemoryFolder,
    observer: &dyn Observer,
) -> Result<()> {
    run(session.write(&plan(), options, &mut folder.clone(), observer)).map(drop)
}

/// Tensors of all shards by name: dtype, shape and bytes.
fn tensors(files: &Files) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for (_, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        for (name, view) in SafeTensors::deserialize(bytes).unwrap().tensors() {
            all.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    all
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn untouched_tensors_are_byte_identical_and_merged_ones_are_the_weighted_sum() {
    let folder = MemoryFolder::default();
    write(&calibrated(PLANTED), &WriteOptions::default(), &folder, &Silent).unwrap();
    let (before, after) = (tensors(&files(PLANTED)), tensors(&folder.state.borrow().files));
    let layer = |i: usize, rest: &str| format!("model.layers.{i}.{rest}");
    let rests: Vec<&str> = before.keys().filter_map(|n| n.strip_prefix("model.layers.0.")).collect();
    assert_eq!(rests.len(), 9);
    // Layers 2, 3 and 4 became layer 2; those after it moved up by two.
    for rest in &rests {
        for (new, old) in [(0, 0), (1, 1), (3, 5), (9, 11)] {
            assert_eq!(after[&layer(new, rest)], before[&layer(old, rest)], "{rest}");
        }
        let merged = floats(&after[&layer(2, rest)].2);
        let parts = [2, 3, 4].map(|i| floats(&before[&layer(i, rest)].2));
        for (i, ours) in merged.iter().enumerate() {
            let expected = 0.375 * parts[0][i] + 0.125 * parts[1][i] + 0.5 * parts[2][i];
            assert!((ours - expected).abs() <= 2e-7 * expected.abs().max(1.0), "{rest}[{i}]");
        }
        assert!(!after.contains_key(&layer(10, rest)));
    }
    for name in ["model.embed_tokens.weight", "model.norm.weight"] {
        assert_eq!(after[name], before[name]);
    }
    assert_eq!(after.len(), before.len() - 2 * rests.len());
}

#[test]
fn the_configuration_and_the_recipe_say_what_was_done() {
    let folder = MemoryFolder::default();
    let mut session = calibrated(PLANTED);
    let output = WriteOptions::default();
    let report = run(session.plan(&remove(7), &output, &Silent)).unwrap();
    run(session.write(&report.plan, &output, &mut folder.clone(), &Silent)).unwrap();
    let state = folder.state.borrow();
    assert!(state.committed && !state.aborted);
    let config: serde_json::Value = serde_json::from_slice(&state.files["config.json"]).unwrap();
    assert_eq!(config["num_hidden_layers"], 5);
    assert_eq!(config["hidden_size"], 64);
    assert_eq!(state.files["tokenizer.json"], files(PLANTED)["tokenizer.json"]);
    let recipe: Recipe = serde_json::from_slice(&state.files["recipe.json"]).unwrap();
    assert_eq!(recipe.plan, report.plan);
    assert_eq!(recipe.options, Some(remove(7)));
    let card = String::from_utf8(state.files["README.md"].clone()).unwrap();
    assert!(card.contains("5 of 12 layers"), "{card}");
    assert!(card.contains(&format!("{:.3}", report.merged.perplexity)), "{card}");
}

#[test]
fn shards_stay_below_the_limit_and_the_index_finds_every_tensor() {
    let folder = MemoryFolder::default();
    let options = WriteOptions { max_shard_bytes: 300_000, ..WriteOptions::default() };
    write(&calibrated(PLANTED), &options, &folder, &Silent).unwrap();
    let state = folder.state.borrow();
    let shards: Vec<_> = state.files.iter().filter(|(n, _)| n.ends_with(".safetensors")).collect();
    assert!(shards.len() > 3);
    let index: serde_json::Value =
        serde_json::from_slice(&state.files["model.safetensors.index.json"]).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let mut total = 0;
    for (name, bytes) in &shards {
        let view = SafeTensors::deserialize(bytes).unwrap();
        let data: usize = view.tensors().iter().map(|(_, t)| t.data().len()).sum();
        assert!(data <= 300_000, "{name} has {data} bytes");
        total += data;
        for tensor in view.names() {
            assert_eq!(map[tensor], name.as_str());
        }
    }
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(open_files(&state.files).unwrap().config.n_layers, 10);
}

#[test]
fn every_dtype_is_written_and_named_in_the_configuration() {
    let session = calibrated(PLANTED);
    for (dtype, upstream, bytes) in [("f16", "float16", 2), ("bf16", "bfloat16", 2), ("f32", "float32", 4)] {
        let folder = MemoryFolder::default();
        let options = WriteOptions { dtype: Some(dtype.parse().unwrap()), ..WriteOptions::default() };
        write(&session, &options, &folder, &Silent).unwrap();
        let files = &folder.state.borrow().files;
        let config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
        assert_eq!(config["dtype"], upstream);
        for (name, (_, shape, data)) in tensors(files) {
            assert_eq!(data.len(), bytes * shape.iter().product::<usize>(), "{name}");
        }
    }
}

#[test]
fn a_plan_of_another_model_is_refused() {
    let folder = MemoryFolder::default();
    let error = write(&calibrated("stories260K"), &WriteOptions::default(), &folder, &Silent).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("12 layers"), "{error}");
    assert!(folder.state.borrow().files.is_empty());
}

#[test]
fn a_full_disk_leaves_nothing() {
    let session = calibrated(PLANTED);
    for capacity in [0, 10_000, 1_000_000, 1_900_000] {
        let folder = MemoryFolder::default();
        folder.state.borrow_mut().capacity = Some(capacity);
        let error = write(&session, &WriteOptions::default(), &folder, &Silent).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        let state = folder.state.borrow();
        assert!(state.aborted && !state.committed && state.files.is_empty());
    }
}

#[test]
fn a_medium_that_gives_other_bytes_back_is_noticed() {
    let session = calibrated(PLANTED);
    for file in ["model.safetensors", "recipe.json"] {
        let folder = MemoryFolder::default();
        folder.state.borrow_mut().corrupt = Some(file.to_owned());
        let error = write(&session, &WriteOptions::default(), &folder, &Silent).unwrap_err();
        assert!(error.to_string().starts_with(file), "{error}");
        assert!(folder.state.borrow().aborted);
    }
}

#[test]
fn cancelling_a_write_at_any_moment_leaves_nothing() {
    let session = calibrated(PLANTED);
    for (stage, at) in [(Stage::Write, 1), (Stage::Write, 500_000), (Stage::Check, 1)] {
        let folder = MemoryFolder::default();
        let error = write(&session, &WriteOptions::default(), &folder, &StopAt(stage, at)).unwrap_err();
        assert_eq!(error, Error::Cancelled);
        assert!(folder.state.borrow().aborted && folder.state.borrow().files.is_empty());
    }
}

#[test]
fn a_directory_appears_only_when_it_is_whole() {
    let session = calibrated(PLANTED);
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let entries = || std::fs::read_dir(parent.path()).unwrap().count();

    let mut folder = DirectoryFolder::create(&target).unwrap();
    let stop = StopAt(Stage::Write, 500_000);
    run(session.write(&plan(), &WriteOptions::default(), &mut folder, &stop)).unwrap_err();
    assert_eq!(entries(), 0);

    let mut dropped = DirectoryFolder::create(&target).unwrap();
    run(dropped.create("half")).unwrap();
    drop(dropped);
    assert_eq!(entries(), 0);

    let mut folder = DirectoryFolder::create(&target).unwrap();
    run(session.write(&plan(), &WriteOptions::default(), &mut folder, &Silent)).unwrap();
    drop(folder);
    assert_eq!(entries(), 1);
    assert!(target.join("model.safetensors").is_file());

    let error = DirectoryFolder::create(&target).err().unwrap();
    assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("something here already"));
}

#[test]
fn an_unwritable_target_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let error = DirectoryFolder::create(&parent.path().join("missing/model")).err().unwrap();
    assert!(error.to_string().contains("missing/model"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn every_list_with_an_entry_per_layer_is_cut() {
    let mut damaged = files(PLANTED);
    let mut config: serde_json::Value = serde_json::from_slice(&damaged["config.json"]).unwrap();
    config["layer_types"] = vec!["full_attention"; 12].into();
    config["per_layer_numbers"] = (0..12).collect::<Vec<_>>().into();
    damaged.insert("config.json".into(), config.to_string().into_bytes());
    let model = open_files(&damaged).unwrap();
    let mut session = Session::new(model, crate::common::cpu());
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    // Layers 2, 3 and 4 have different numbers, so they cannot become one.
    let folder = MemoryFolder::default();
    let error = write(&session, &WriteOptions::default(), &folder, &Silent).unwrap_err();
    assert!(error.to_string().contains("per_layer_numbers"), "{error}");

    for number in config["per_layer_numbers"].as_array_mut().unwrap() {
        *number = 7.into();
    }
    damaged.insert("config.json".into(), config.to_string().into_bytes());
    let mut session = Session::new(open_files(&damaged).unwrap(), crate::common::cpu());
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    write(&session, &WriteOptions::default(), &folder, &Silent).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&folder.state.borrow().files["config.json"]).unwrap();
    for key in ["layer_types", "per_layer_numbers"] {
        assert_eq!(written[key].as_array().unwrap().len(), 10, "{key}");
    }
}
