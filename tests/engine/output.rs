//! What is written: bytes, names, shards, configuration, recipe; and that nothing partial stays.

use std::collections::BTreeMap;

use laminate::files::sink::DirectoryFolder;
use laminate::format::Container;
use laminate::format::gguf::{Value, parse_header};
use laminate::plan::Operator;
use laminate::protocol::events::Stage;
use laminate::protocol::plan::Recipe;
use laminate::{
    CalibrationOptions, Error, MergePlan, Method, Observer, OutputFolder, PartStore, Result, Session, Silent,
    TextOptions, WriteOptions,
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

/// The model card and the recipe of a method that removes two layers.
fn card(method: &str) -> (String, Recipe) {
    let mut session = session(PLANTED);
    let options = CalibrationOptions { samples: 40, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&options, &Silent)).unwrap();
    session.judge_on(TextOptions { samples: 16, tokens: 24, ..TextOptions::default() });
    let plan = Method::named(method).unwrap().options(2, 0);
    let (output, folder) = (WriteOptions::default(), MemoryFolder::default());
    let report = run(session.plan(&plan, &output, &Silent)).unwrap();
    run(session.write(&report.plan, &output, &mut folder.clone(), &Silent)).unwrap();
    let files = &folder.state.borrow().files;
    let card = String::from_utf8(files["README.md"].clone()).unwrap();
    (card, serde_json::from_slice(&files["recipe.json"]).unwrap())
}

#[test]
fn the_card_says_which_rule_and_operator_made_the_model_and_which_text_judged_it() {
    let (calibration, evaluation) = (laminate::demo::TEXT_NAME, laminate::demo::EVALUATION_NAME);
    for (method, rule, operator, pools) in [
        ("mka", "`mka`", "`average`", false),
        ("shortgpt", "`bi`", "`drop`", false),
        ("laco", "`laco`", "`laco`", false),
        ("mka-code", "`tail`", "`drop`", false),
        ("bi+refit", "`bi`", "`refit`", false),
        ("flatten", "`pairs`", "`flatten`", true),
        ("laminate", "`redundancy`", "`pool-refit`", true),
    ] {
        let (card, recipe) = card(method);
        let lines: Vec<&str> = card.lines().collect();
        let of = |start: &str| *lines.iter().find(|line| line.starts_with(start)).unwrap();
        assert!(of("Made by").contains(&format!("The rule {rule} chose")), "{card}");
        assert!(of("Made by").contains(&format!("By the operator {operator},")), "{card}");
        assert_eq!(card.contains("weighted averages"), method == "mka", "{card}");
        assert_eq!(card.contains("2406.16330"), method == "mka", "{card}");
        let fits = recipe.plan.operator.needs_activations();
        let measured = of("Measured on");
        let judge =
            if fits { format!("{evaluation} (16 sequences of 24") } else { format!("{calibration} (40") };
        assert!(measured.starts_with(&format!("Measured on {judge}")), "{measured}");
        assert_eq!(measured.contains(&format!("fitted to {calibration} (40 sequences of 32 tokens)")), fits);
        // The last layers go whatever the text.
        let chosen_on_it = !fits && method != "mka-code";
        assert_eq!(measured.contains("the text that the layers were chosen on"), chosen_on_it, "{measured}");
        let table = of("| new layer");
        assert_eq!(table.contains("weights"), matches!(method, "mka" | "laco"), "{table}");
        assert_eq!(table.contains("stays"), !pools && !matches!(method, "mka" | "laco"), "{table}");
        assert_eq!(recipe.judged_on.is_some(), fits);
        assert_eq!(recipe.fit_bytes.is_some(), fits);
    }
}

#[test]
fn a_recipe_knows_its_texts_again() {
    let (_, recipe) = card("laminate");
    let texts = [TextOptions::default(), CalibrationOptions::default().text_options()];
    let [evaluation, calibration] = &texts;
    assert_eq!(recipe.judged_on.as_ref().unwrap().hash, evaluation.hash());
    assert_eq!(recipe.judged_on.as_ref().unwrap().options.samples, 16);
    assert_eq!(recipe.text_hash, Some(calibration.hash()));
    assert_ne!(calibration.hash(), evaluation.hash());
    assert_eq!(recipe.check_text(calibration), Ok(()));
    let named = |name: &str, text: &str| TextOptions {
        text: Some(text.to_owned()),
        text_name: Some(name.to_owned()),
        ..TextOptions::default()
    };
    // A copy of another name is the same text, with a byte-order mark too.
    assert_eq!(recipe.check_text(&named("copy.txt", laminate::demo::TEXT)), Ok(()));
    assert_eq!(recipe.check_text(&named("copy.txt", &format!("\u{feff}{}", laminate::demo::TEXT))), Ok(()));
    let refused = |recipe: &Recipe, text: &TextOptions| recipe.check_text(text).unwrap_err().to_string();
    let other = refused(&recipe, &named("b.txt", "another text"));
    assert!(other.contains(laminate::demo::TEXT_NAME) && other.contains("not on b.txt"), "{other}");
    let changed = refused(&recipe, &named(laminate::demo::TEXT_NAME, "another text"));
    assert!(changed.contains("although it has its name"), "{changed}");
    // Without a hash, the name is all there is to go by.
    let mut old = Recipe { text_hash: None, ..recipe };
    assert_eq!(old.check_text(calibration), Ok(()));
    old.calibration.text_name = Some("b.txt".to_owned());
    assert_eq!(old.check_text(&named("b.txt", "another text")), Ok(()));
    assert!(refused(&old, calibration).contains("calibrated on b.txt"));
}

#[test]
fn a_type_that_the_files_cannot_hold_is_refused_by_every_stage() {
    let mut session = calibrated(PLANTED);
    for (dtype, container, says) in [
        ("q4_0", None, "q4_0 is for GGUF files"),
        ("iq4_xs", Some(Container::Safetensors), "iq4_xs is for GGUF files"),
    ] {
        let options =
            WriteOptions { dtype: Some(dtype.parse().unwrap()), container, ..WriteOptions::default() };
        let folder = MemoryFolder::default();
        for error in [
            run(session.check_output(&options)).unwrap_err(),
            run(session.plan(&remove(1), &options, &Silent)).unwrap_err(),
            run(session.measure(&plan(), &options, &Silent)).unwrap_err(),
            run(session.calibration_curve(&plan(), &[12], &options, &Silent)).unwrap_err(),
            write(&session, &options, &folder, &Silent).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(says), "{error}");
        }
        assert!(folder.state.borrow().files.is_empty());
    }
    let q4_0 = WriteOptions { dtype: Some("q4_0".parse().unwrap()), ..WriteOptions::default() };
    let as_gguf = WriteOptions { container: Some(Container::Gguf), ..q4_0 };
    run(session.check_output(&as_gguf)).unwrap();
}

/// The files of a model whose JSON file `name` is edited.
fn edited(model: &str, name: &str, edit: impl FnOnce(&mut serde_json::Value)) -> Files {
    let mut files = files(model);
    let mut json = serde_json::from_slice(&files[name]).unwrap();
    edit(&mut json);
    files.insert(name.to_owned(), json.to_string().into_bytes());
    files
}

fn to_gguf() -> WriteOptions {
    WriteOptions { container: Some(Container::Gguf), name: Some("x".to_owned()), ..WriteOptions::default() }
}

#[test]
fn what_the_files_cannot_say_is_found_before_any_layer_runs() {
    let session = |files: &Files| Session::new(open_files(files).unwrap(), crate::common::cpu());
    let composed = edited("stories260K", "tokenizer.json", |json| {
        let steps = json["normalizer"]["normalizers"].as_array_mut().unwrap();
        steps.insert(0, serde_json::json!({"type": "NFKC"}));
    });
    let error = run(session(&composed).check_output(&to_gguf())).unwrap_err();
    assert!(error.to_string().starts_with("tokenizer.json"), "{error}");
    run(session(&composed).check_output(&WriteOptions::default())).unwrap();

    // Rotary divisors that follow from no rule, in a file made of a model with Llama 3.1's rule.
    let (mut ruled, folder) = (session(&files("variants/rope-llama3")), MemoryFolder::default());
    run(ruled.similarity(&CalibrationOptions { samples: 30, tokens: 24, ..Default::default() }, &Silent))
        .unwrap();
    let unmerged = MergePlan::unmerged(ruled.model().config.n_layers);
    run(ruled.write(&unmerged, &to_gguf(), &mut folder.clone(), &Silent)).unwrap();
    let mut bytes = folder.state.borrow().files["x.gguf"].clone();
    let header = parse_header("x.gguf", &bytes, bytes.len() as u64).unwrap().unwrap();
    let divisors = header.tensors.iter().find(|tensor| tensor.name == "rope_freqs.weight").unwrap();
    let second = divisors.offset as usize + 4;
    bytes[second..second + 4].copy_from_slice(&7.7f32.to_le_bytes());
    let odd = Files::from([("x.gguf".to_owned(), bytes)]);
    let as_folder = WriteOptions { container: Some(Container::Safetensors), ..WriteOptions::default() };
    let error = run(session(&odd).check_output(&as_folder)).unwrap_err();
    assert!(error.to_string().contains("rotary frequencies"), "{error}");
    run(session(&odd).check_output(&WriteOptions::default())).unwrap();
}

#[test]
fn layers_whose_entries_differ_are_kept_apart() {
    // Layers 0 to 3 have one number, the others another: layers 3 and 4 cannot become one.
    let differing = edited(PLANTED, "config.json", |json| {
        json["numbers"] = (0..12).map(|layer| usize::from(layer > 3)).collect::<Vec<_>>().into();
    });
    let mut session = Session::new(open_files(&differing).unwrap(), crate::common::cpu());
    run(session.similarity(&CalibrationOptions { samples: 40, ..Default::default() }, &Silent)).unwrap();
    for method in ["mka", "tail+average", "greedy-kl"] {
        let combines = method != "greedy-kl";
        let options = Method::named(method).unwrap().options(7, 0);
        let (output, folder) = (WriteOptions::default(), MemoryFolder::default());
        let report = run(session.plan(&options, &output, &Silent)).unwrap();
        let groups = &report.plan.groups;
        assert!(!combines || groups.iter().all(|g| !(g.contains(&3) && g.contains(&4))), "{groups:?}");
        // A layer that is dropped takes its entry along.
        let said = report.warnings.iter().any(|w| w.contains("do not become one with the layer before them"));
        assert_eq!(said, combines, "{:?}", report.warnings);
        run(session.write(&report.plan, &output, &mut folder.clone(), &Silent)).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&folder.state.borrow().files["config.json"]).unwrap();
        assert_eq!(config["numbers"].as_array().unwrap().len(), report.plan.groups.len());
    }
    let joins =
        MergePlan { operator: Operator::Average, ..MergePlan::from_merges(12, &[([3, 4], 0.5)]).unwrap() };
    let error = run(session.measure(&joins, &WriteOptions::default(), &Silent)).unwrap_err();
    assert!(error.to_string().contains("numbers"), "{error}");
}

#[test]
fn a_chat_template_of_its_own_file_goes_into_a_gguf_file() {
    let template = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}";
    let in_json = serde_json::json!({ "chat_template": format!("json {template}") }).to_string();
    let in_settings = serde_json::json!({ "chat_template": "settings" }).to_string();
    for (names, expected, notes) in [
        (
            vec!["chat_template.jinja", "chat_template.json", "tokenizer_config.json"],
            Some(template.to_owned()),
            0,
        ),
        (vec!["chat_template.json", "tokenizer_config.json"], Some(format!("json {template}")), 0),
        (vec!["tokenizer_config.json"], Some("settings".to_owned()), 0),
        (vec![], None, 1),
    ] {
        let mut files = files("variants/mistral-window");
        for name in names {
            let contents = match name {
                "chat_template.jinja" => template.to_owned(),
                "chat_template.json" => in_json.clone(),
                _ => in_settings.clone(),
            };
            files.insert(name.to_owned(), contents.into_bytes());
        }
        let session = Session::new(open_files(&files).unwrap(), crate::common::cpu());
        let told = run(session.check_output(&to_gguf())).unwrap();
        assert_eq!(told.iter().filter(|note| note.contains("no chat template")).count(), notes, "{told:?}");
        // llama.cpp reads no window of this architecture, whatever the file says.
        let window = session.model().config.window().unwrap();
        assert!(told.iter().any(|note| note.contains(&format!("beyond {window} tokens"))), "{told:?}");
        assert_eq!(run(session.check_output(&WriteOptions::default())), Ok(vec![]));
        let folder = MemoryFolder::default();
        let unmerged = MergePlan::unmerged(session.model().config.n_layers);
        run(session.write(&unmerged, &to_gguf(), &mut folder.clone(), &Silent)).unwrap();
        let bytes = &folder.state.borrow().files["x.gguf"];
        let metadata = parse_header("x.gguf", bytes, bytes.len() as u64).unwrap().unwrap().metadata;
        assert_eq!(metadata.get("tokenizer.chat_template"), expected.map(Value::String).as_ref());
    }
}

#[test]
fn what_killed_runs_left_is_removed_and_what_runs_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let names = || {
        let entries = std::fs::read_dir(parent.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // Under the name that process 1 of a container had, of another target, and of no run at all.
    for left in [".model.partial-1", ".other.partial-1", ".model.partial-my own"] {
        std::fs::create_dir(parent.path().join(left)).unwrap();
        std::fs::write(parent.path().join(left).join("half"), b"half").unwrap();
    }
    let target = parent.path().join("model");
    let mut first = DirectoryFolder::create(&target).unwrap();
    run(first.create("file")).unwrap();
    if cfg!(unix) {
        assert_eq!(names().iter().filter(|name| *name == ".model.partial-1").count(), 0, "{:?}", names());
    }
    let second = DirectoryFolder::create(&target).unwrap();
    assert!(first.partial().is_dir() && second.partial().is_dir() && first.partial() != second.partial());
    // As on a signal, in the middle of a file.
    DirectoryFolder::discard(first.partial());
    run(first.write(b"more")).unwrap();
    assert!(run(first.commit()).is_err() && !target.exists());
    drop((first, second));
    assert!(names().starts_with(&[".model.partial-my own".to_owned()]), "{:?}", names());
    assert_eq!(names().len(), if cfg!(unix) { 2 } else { 3 });
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

/// Scratch space lies in the hidden directory while a run goes on, and is no file of the model.
#[test]
fn scratch_space_goes_before_the_files_appear() {
    let session = calibrated(PLANTED);
    let parent = tempfile::tempdir().unwrap();
    let names = |directory: &std::path::Path| {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let gguf = WriteOptions {
        container: Some(Container::Gguf),
        name: Some("one".into()),
        ..WriteOptions::default()
    };
    let of = |path: &str, is_file| {
        let target = parent.path().join(path);
        let folder =
            if is_file { DirectoryFolder::beside(&target) } else { DirectoryFolder::create(&target) };
        let folder = folder.unwrap();
        let mut scratch = folder.scratch().unwrap();
        run(scratch.create("scratch-0")).unwrap();
        run(scratch.write(b"left")).unwrap();
        run(scratch.close()).unwrap();
        folder
    };
    let mut directory = of("model", false);
    run(session.write(&plan(), &WriteOptions::default(), &mut directory, &Silent)).unwrap();
    assert!(!names(&parent.path().join("model")).iter().any(|name| name.contains("scratch")));
    let mut file = of("one.gguf", true);
    run(session.write(&plan(), &gguf, &mut file, &Silent)).unwrap();
    drop(of("stopped", false));
    drop((directory, file));
    let mut left = names(parent.path());
    left.retain(|name| !name.starts_with("one."));
    assert_eq!(left, ["model"]);
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
