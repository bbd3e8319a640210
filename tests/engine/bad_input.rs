//! One test for each way that a model or a text can be wrong: each ends in one sentence that names
//! what is wrong, before any long work.

use laminate::protocol::events::Stage;
use laminate::{Accelerator, CalibrationOptions, Error, Preference, Session, Silent, WriteOptions};

use crate::architectures::hugging_face;
use crate::common::{Files, StopAt, cpu, files, open_files, remove, run, session};

const MODEL: &str = "stories260K";

/// Opens the damaged model; the error must contain all of `expected` and be one sentence in one line.
#[track_caller]
fn refused(files: &Files, expected: &[&str]) -> Error {
    let error = open_files(files).err().expect("this must be refused");
    check_message(&error, expected);
    error
}

#[track_caller]
fn check_message(error: &Error, expected: &[&str]) {
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
}

fn damaged(edit: impl FnOnce(&mut Files)) -> Files {
    let mut files = files(MODEL);
    edit(&mut files);
    files
}

fn edit_config(files: &mut Files, key: &str, value: serde_json::Value) {
    let mut config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
    config[key] = value;
    files.insert("config.json".into(), config.to_string().into_bytes());
}

/// Rewrites the header of the weights as text; the data stays.
fn edit_header(files: &mut Files, edit: impl FnOnce(String) -> String) {
    let bytes = &files["model.safetensors"];
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = edit(String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
    let mut new = (header.len() as u64).to_le_bytes().to_vec();
    new.extend(header.bytes());
    new.extend_from_slice(&bytes[8 + length..]);
    files.insert("model.safetensors".into(), new);
}

#[test]
fn truncated_file() {
    for keep in [0, 4, 8, 100, 500_000] {
        let files = damaged(|f| f.get_mut("model.safetensors").unwrap().truncate(keep));
        let error = refused(&files, &["model.safetensors"]);
        assert!(matches!(error, Error::Format(_)), "{error:?}");
    }
}

#[test]
fn header_longer_than_the_file() {
    let files = damaged(|f| {
        f.get_mut("model.safetensors").unwrap()[..8].copy_from_slice(&90_000_000u64.to_le_bytes());
    });
    refused(&files, &["model.safetensors", "claims 90000000 bytes"]);
}

#[test]
fn overlapping_offsets() {
    let files = damaged(|f| edit_header(f, |h| h.replacen("[0,", "[4,", 1)));
    refused(&files, &["model.safetensors", "tensor"]);
}

#[test]
fn out_of_range_offsets() {
    let files = damaged(|f| {
        let end = f["model.safetensors"].len().to_string();
        edit_header(f, |h| h.replacen("\"data_offsets\":[0,", &format!("\"data_offsets\":[{end},"), 1));
    });
    refused(&files, &["model.safetensors", "claims bytes"]);
}

#[test]
fn missing_shard() {
    let mut files = files("variants/bf16-shards");
    files.remove("model-00002-of-00003.safetensors");
    refused(&files, &["model-00002-of-00003.safetensors is missing", "2 of 3"]);
}

#[test]
fn missing_index() {
    let mut files = files("variants/bf16-shards");
    files.remove("model.safetensors.index.json");
    refused(&files, &["model.safetensors.index.json is missing"]);
}

#[test]
fn missing_configuration_weights_or_tokenizer() {
    for name in ["config.json", "tokenizer.json"] {
        refused(&damaged(|f| drop(f.remove(name))), &[name]);
    }
    refused(&damaged(|f| drop(f.remove("model.safetensors"))), &[".safetensors"]);
}

#[test]
fn wrong_dtype() {
    let files = damaged(|f| edit_header(f, |h| h.replacen("\"F32\"", "\"I32\"", 1)));
    refused(&files, &["model.safetensors", "I32", "F32, F16 and BF16"]);
}

#[test]
fn blocks_that_lack_exponents() {
    let without = |from: &str, to: &str| {
        let mut files = hugging_face("gptoss_mxfp4", "config.json");
        edit_header(&mut files, |header| {
            assert_eq!(header.matches(from).count(), 1, "{from}");
            header.replacen(from, to, 1)
        });
        files
    };
    let name = "model.layers.0.mlp.experts.down_proj";
    let lacks = [&*format!("{name}_scales"), "none of the weight files"];
    refused(&without(&format!("{name}_scales"), "model.layers.9.mlp.experts.down_proj_scales"), &lacks);
    let scales = |shape: &str| format!("\"{name}_scales\":{{\"dtype\":\"U8\",\"shape\":{shape}");
    refused(&without(&scales("[4,64,1]"), &scales("[4,32,2]")), &lacks);
    let blocks =
        |dtype: &str, shape: &str| format!("\"{name}_blocks\":{{\"dtype\":\"{dtype}\",\"shape\":{shape}");
    let as_they_are = blocks("U8", "[4,64,1,16]");
    refused(&without(&as_they_are, &blocks("I8", "[4,64,1,16]")), &[name, "I8", "F32, F16 and BF16"]);
    refused(&without(&as_they_are, &blocks("U8", "[4,64,16,1]")), &lacks);
}

#[test]
fn wrong_shape() {
    let files = damaged(|f| edit_config(f, "intermediate_size", 171.into()));
    refused(&files, &["shape", "172", "171"]);
}

#[test]
fn a_missing_layer() {
    refused(&damaged(|f| edit_config(f, "num_hidden_layers", 6.into())), &["model.layers.5."]);
    refused(&damaged(|f| edit_config(f, "num_hidden_layers", 4.into())), &["layer 4", "4 layers"]);
}

#[test]
fn an_unknown_tensor() {
    let files = damaged(|f| edit_header(f, |h| h.replacen("mlp.up_proj", "mlp.lora_A", 1)));
    refused(&files, &["mlp.lora_A", "not supported"]);
}

#[test]
fn an_unknown_architecture() {
    let files = damaged(|f| edit_config(f, "architectures", serde_json::json!(["MambaForCausalLM"])));
    assert!(matches!(refused(&files, &["MambaForCausalLM"]), Error::Unsupported(_)));
}

#[test]
fn a_rope_that_is_not_read() {
    let rope = serde_json::json!({"type": "longer", "factor": 2.0});
    refused(&damaged(|f| edit_config(f, "rope_scaling", rope)), &["type longer"]);
}

#[test]
fn a_tokenizer_of_another_model() {
    let files = damaged(|f| {
        let text = String::from_utf8(f["tokenizer.json"].clone()).unwrap();
        f.insert(
            "tokenizer.json".into(),
            text.replacen(": 511", ": 512", 1).replacen(":511", ":512", 1).into_bytes(),
        );
    });
    refused(&files, &["tokenizer.json", "512", "another model"]);
}

#[test]
fn a_tokenizer_that_is_none() {
    refused(&damaged(|f| drop(f.insert("tokenizer.json".into(), b"{}".to_vec()))), &["tokenizer.json"]);
}

#[test]
fn nan_weights() {
    let files = damaged(|f| {
        let bytes = f.get_mut("model.safetensors").unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    // Headers are read when a model is opened, weights when they are used.
    let mut session = Session::new(open_files(&files).unwrap(), cpu());
    let error = run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap_err();
    check_message(&error, &["tensor model.", "NaN"]);
    assert!(matches!(error, Error::Numeric(_)));
}

#[track_caller]
fn text_refused(text: &str, expected: &[&str]) {
    let options = CalibrationOptions { text: Some(text.to_owned()), ..CalibrationOptions::default() };
    let mut session = session(MODEL);
    let error = run(session.similarity(&options, &Silent)).unwrap_err();
    check_message(&error, expected);
    check_message(&run(session.estimate(&options)).err().unwrap_or(error), &["text"]);
}

#[test]
fn empty_text() {
    text_refused("", &["text has 0 tokens"]);
}

#[test]
fn too_short_text() {
    text_refused("Once upon a time.", &["does not fill one sequence"]);
    text_refused(&laminate::demo::TEXT[..1500], &["points", "20 are needed"]);
}

#[test]
fn identical_points() {
    // Every sequence is the same, so that no distance is larger than another.
    text_refused(&"Tom ".repeat(20_000), &["layer 0"]);
}

#[test]
fn as_many_layers_as_there_are() {
    let mut session = session(MODEL);
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    for k in [0, 5, 6] {
        let error = run(session.plan(&remove(k), &WriteOptions::default(), &Silent)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        check_message(&error, &["5 layers"]);
    }
    // The session is as usable as before.
    run(session.plan(&remove(1), &WriteOptions::default(), &Silent)).unwrap();
}

#[test]
fn too_long_sequences_and_too_many_points() {
    let mut session = session(MODEL);
    for options in [
        CalibrationOptions { tokens: 513, ..CalibrationOptions::default() },
        CalibrationOptions { tokens: 1, ..CalibrationOptions::default() },
        CalibrationOptions { points: "tokens:48".parse().unwrap(), ..CalibrationOptions::default() },
        CalibrationOptions { dims: 0, ..CalibrationOptions::default() },
        CalibrationOptions { time: f64::NAN, ..CalibrationOptions::default() },
        CalibrationOptions { neighbours: 0, ..CalibrationOptions::default() },
    ] {
        let error = run(session.similarity(&options, &Silent)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

#[test]
fn planning_before_comparing() {
    let error = run(session(MODEL).plan(&remove(1), &WriteOptions::default(), &Silent)).unwrap_err();
    check_message(&error, &["similarity stage first"]);
}

#[test]
fn cancelling_at_any_moment_leaves_a_usable_session() {
    let mut session = session(MODEL);
    let options = CalibrationOptions::default();
    for at in 0..5 {
        let stop = StopAt(Stage::Capture, at);
        assert_eq!(run(session.similarity(&options, &stop)).unwrap_err(), Error::Cancelled);
    }
    run(session.similarity(&options, &Silent)).unwrap();
    for stage in [Stage::Plan, Stage::Evaluate] {
        let stop = StopAt(stage, 1);
        let cancelled = run(session.plan(&remove(2), &WriteOptions::default(), &stop));
        assert_eq!(cancelled.unwrap_err(), Error::Cancelled);
    }
    run(session.plan(&remove(2), &WriteOptions::default(), &Silent)).unwrap();
}

#[test]
fn a_gpu_that_is_not_there() {
    match run(Accelerator::choose(Preference::Gpu)) {
        Ok(gpu) => println!("skipped: there is a GPU here, {}", gpu.report().name),
        Err(error) => check_message(&error, &["GPU", "choose the CPU"]),
    }
    assert!(run(Accelerator::choose(Preference::Auto)).is_ok());
}
