//! Decoders that are a part of a model: beside an image encoder, and beside blocks that draft tokens.

use laminate::format::Container;
use laminate::format::element::Element;
use laminate::format::gguf::{self, Value};
use laminate::{Error, Model, WriteOptions};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::architectures::{check, hugging_face, written};
use crate::common::{Files, cpu, data, open_files, run, sources};

/// Fixtures, the classes of the whole models, and how their files begin the names of the decoder's layers.
const WRAPPED: [(&str, &str, &str); 4] = [
    ("gemma3", "Gemma3ForConditionalGeneration", "language_model.model."),
    ("gemma4_dense", "Gemma4ForConditionalGeneration", "model.language_model."),
    ("ministral3", "Mistral3ForConditionalGeneration", "language_model.model."),
    ("qwen3_5", "Qwen3_5ForConditionalGeneration", "model.language_model."),
];

const PROCESSORS: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];

/// A tensor of a safetensors file.
#[derive(Clone, PartialEq)]
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn wrapped(name: &str, config: &str) -> Files {
    let folder = format!("{name}_wrapped");
    let mut files = hugging_face(&folder, config);
    for file in PROCESSORS {
        let bytes = std::fs::read(data(&format!("architectures/{folder}/hf/{file}"))).unwrap();
        files.insert(file.to_owned(), bytes);
    }
    files
}

fn stored(files: &Files) -> Vec<Stored> {
    let tensors = SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
    let stored = |(name, view): (String, TensorView<'_>)| Stored {
        name,
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    tensors.tensors().into_iter().map(stored).collect()
}

fn store(files: &mut Files, tensors: &[Stored]) {
    let views =
        tensors.iter().map(|t| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    files.insert("model.safetensors".to_owned(), bytes);
}

fn edit_names(files: &mut Files, edit: impl Fn(&str) -> String) {
    let mut tensors = stored(files);
    tensors.iter_mut().for_each(|tensor| tensor.name = edit(&tensor.name));
    store(files, &tensors);
}

fn settings(files: &Files) -> serde_json::Value {
    serde_json::from_slice(&files["config.json"]).unwrap()
}

fn edit_settings(files: &mut Files, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut value = settings(files);
    edit(&mut value);
    files.insert("config.json".to_owned(), serde_json::to_vec(&value).unwrap());
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(data(&format!("architectures/{name}/golden.safetensors"))).unwrap()
}

fn check_states(what: &str, name: &str, model: &Model) {
    let bytes = golden(name);
    check(what, model, &cpu(), &SafeTensors::deserialize(&bytes).unwrap(), "nll");
}

fn to(container: Container) -> WriteOptions {
    WriteOptions { container: Some(container), dtype: Some(Element::F32.into()), ..WriteOptions::default() }
}

/// Writes the model without one of its layers.
fn shortened(files: &Files, container: Container) -> Files {
    written(open_files(files).unwrap(), "shortgpt", &to(container)).unwrap().2
}

/// Tensors whose names do not have `text` in them, which are those of other parts than the decoder, by their names.
fn others(files: &Files, text: &str) -> Vec<Stored> {
    let mut tensors = stored(files);
    tensors.retain(|tensor| !tensor.name.contains(text));
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

#[test]
fn states_and_likelihoods_are_those_of_the_decoder_alone() {
    for (name, class, _) in WRAPPED {
        for config in ["config.json", "config.v5.json"] {
            let model = open_files(&wrapped(name, config)).unwrap();
            check_states(&format!("{name}, {config}"), name, &model);
            assert_eq!(model.config.architecture_name(), class);
            assert!(model.notes.iter().any(|note| note.contains("beside its decoder")), "{:?}", model.notes);
        }
    }
}

#[test]
fn a_folder_keeps_the_other_parts_byte_for_byte() {
    for (name, class, prefix) in WRAPPED {
        let before = wrapped(name, "config.json");
        for method in ["shortgpt", "mka", "laminate"] {
            let model = open_files(&before).unwrap();
            let (said, measured, after) = written(model, method, &to(Container::Safetensors)).unwrap();
            assert!((said / measured - 1.0).abs() < 1e-4, "{name} by {method}: {said}, not {measured}");
            let kept = others(&after, "language_model");
            assert!(kept.len() >= 10 && kept == others(&before, "language_model"), "{name} by {method}");
            assert!(kept.iter().all(|tensor| tensor.dtype == Dtype::BF16));
            let spelled = stored(&after).iter().filter(|t| t.name.starts_with(prefix)).count();
            assert_eq!(spelled + kept.len(), stored(&after).len());
            for file in PROCESSORS {
                assert_eq!(after[file], before[file]);
            }
            let (mut old, mut new) = (settings(&before), settings(&after));
            let (old_text, new_text) = (old["text_config"].take(), new["text_config"].take());
            let layers = old_text["num_hidden_layers"].as_u64().unwrap();
            assert_eq!(new_text["num_hidden_layers"], layers - 1);
            if let Some(types) = new_text["layer_types"].as_array() {
                assert_eq!(types.len() as u64, layers - 1);
            }
            assert_eq!((&new["architectures"][0], &new["torch_dtype"]), (&class.into(), &"float32".into()));
            if !old_text["torch_dtype"].is_null() {
                assert_eq!(new_text["torch_dtype"], "float32");
            }
            old["torch_dtype"] = "float32".into();
            assert_eq!(new, old, "{name} by {method}");
        }
    }
}

#[test]
fn a_gguf_file_holds_the_decoder_only() {
    for (name, ..) in WRAPPED {
        let whole = shortened(&wrapped(name, "config.json"), Container::Gguf);
        let alone = shortened(&hugging_face(name, "config.json"), Container::Gguf);
        let read = |files: &Files| {
            let bytes = files.values().next().unwrap().clone();
            let header = gguf::parse_header("m.gguf", &bytes, bytes.len() as u64).unwrap().unwrap();
            let of = |t: &gguf::TensorInfo| bytes[t.offset as usize..(t.offset + t.bytes) as usize].to_vec();
            let tensors: Vec<_> = header.tensors.iter().map(|t| (t.name.clone(), of(t))).collect();
            let mut metadata = header.metadata;
            metadata.entries.retain(|(key, _)| !key.starts_with("general.name") && !key.contains("recipe"));
            metadata.entries.sort_by(|a, b| a.0.cmp(&b.0));
            let mut tensors = tensors;
            tensors.sort();
            (metadata, tensors)
        };
        assert!(read(&whole) == read(&alone), "{name}");
    }
}

#[test]
fn every_spelling_is_read_and_written_again() {
    let (name, _, from) = WRAPPED[0];
    for to_base in ["model.language_model.", "language_model.", "model.language_model.model."] {
        for with_model in [false, true] {
            let mut files = wrapped(name, "config.json");
            edit_names(&mut files, |name| match name.strip_prefix(from) {
                Some(rest) => format!("{to_base}{rest}"),
                None if with_model => format!("model.{name}"),
                None => name.to_owned(),
            });
            let model = open_files(&files).unwrap();
            assert_eq!(
                model.tensors().len(),
                open_files(&wrapped(name, "config.json")).unwrap().tensors().len()
            );
            let after = shortened(&files, Container::Safetensors);
            let names: Vec<String> = stored(&after).into_iter().map(|tensor| tensor.name).collect();
            let old: Vec<String> = stored(&files).into_iter().map(|tensor| tensor.name).collect();
            assert!(names.len() < old.len() && names.iter().all(|name| old.contains(name)), "{to_base}");
        }
    }
}

#[test]
fn heads_are_tied_as_the_whole_model_says() {
    for (name, _, prefix) in WRAPPED {
        let with_head = |head: &str| {
            let mut files = wrapped(name, "config.json");
            let mut tensors = stored(&files);
            let embedding = format!("{prefix}embed_tokens.weight");
            let embedding = tensors.iter().find(|tensor| tensor.name == embedding).unwrap();
            let mut bytes = embedding.bytes.clone();
            bytes.rotate_left(2);
            let added = Stored { name: head.to_owned(), bytes, ..embedding.clone() };
            tensors.push(added);
            store(&mut files, &tensors);
            files
        };
        for head in ["lm_head.weight", "language_model.lm_head.weight"] {
            // What is stored and differs from the embedding counts, and is said outside of the decoder's settings.
            let files = with_head(head);
            assert!(!open_files(&files).unwrap().config.tied_head);
            let after = shortened(&files, Container::Safetensors);
            assert_eq!(settings(&after)["tie_word_embeddings"], false);
            assert!(stored(&after).iter().any(|tensor| tensor.name == head));
        }
        // Inside, "true" counts where there is no head to be had.
        let mut files = wrapped(name, "config.json");
        edit_settings(&mut files, |value| {
            value["tie_word_embeddings"] = false.into();
            value["text_config"]["tie_word_embeddings"] = true.into();
        });
        assert!(open_files(&files).unwrap().config.tied_head);
        let after = shortened(&files, Container::Safetensors);
        assert_eq!(settings(&after)["tie_word_embeddings"], true);
        edit_settings(&mut files, |value| value["text_config"]["tie_word_embeddings"] = false.into());
        let message = open_files(&files).map(drop).unwrap_err().to_string();
        assert!(message.contains("lm_head.weight is in none of the weight files"), "{message}");
    }
}

#[test]
fn tokens_outside_count_where_the_decoder_names_none() {
    let mut files = wrapped("ministral3", "config.json");
    edit_settings(&mut files, |value| {
        value["text_config"].as_object_mut().unwrap().remove("bos_token_id");
        value["bos_token_id"] = 7.into();
    });
    assert_eq!(open_files(&files).unwrap().config.bos_token_id, Some(7));
    edit_settings(&mut files, |value| value["text_config"]["bos_token_id"] = 5.into());
    assert_eq!(open_files(&files).unwrap().config.bos_token_id, Some(5));
}

#[track_caller]
fn refused(files: &Files, expected: &[&str]) {
    let error = open_files(files).map(drop).unwrap_err();
    assert!(matches!(error, Error::Format(_) | Error::Unsupported(_)), "{error:?}");
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_not_known_of_a_whole_model_is_refused() {
    let mut files = wrapped("ministral3", "config.json");
    edit_settings(&mut files, |value| value["text_config"]["model_type"] = "mistral4".into());
    refused(&files, &["text_config of model_type mistral4", "is not supported"]);
    // The same class has decoders of several architectures.
    edit_settings(&mut files, |value| {
        value["text_config"]["model_type"] = "mistral".into();
        value["text_config"].as_object_mut().unwrap().remove("rope_scaling");
    });
    assert_eq!(open_files(&files).unwrap().config.architecture.class, "MistralForCausalLM");
    edit_settings(&mut files, |value| drop(value.as_object_mut().unwrap().remove("text_config")));
    refused(&files, &["lacks text_config", "Mistral3ForConditionalGeneration"]);
    let mut files = wrapped("ministral3", "config.json");
    edit_settings(&mut files, |value| {
        value["quantization_config"] = serde_json::json!({"quant_method": "fp8"})
    });
    refused(&files, &["quantised (fp8)"]);
    let mut files = wrapped("gemma3", "config.json");
    edit_names(&mut files, |name| name.replace("multi_modal_projector.", "audio_tower."));
    refused(&files, &["tensor audio_tower.", "parts that are not supported"]);
}

/// The tensors of a block that drafts tokens, as Qwen3.5 names them.
const DRAFTING: [&str; 3] = ["mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.norm.weight"];

#[test]
fn drafting_blocks_of_a_folder_are_left_out() {
    for files in [hugging_face("qwen3_5", "config.json"), wrapped("qwen3_5", "config.json")] {
        let mut with = files.clone();
        let mut tensors = stored(&with);
        let added = |name: &&str| Stored { name: (*name).to_owned(), ..tensors[0].clone() };
        let more: Vec<Stored> = DRAFTING.iter().map(added).collect();
        tensors.extend(more);
        store(&mut with, &tensors);
        edit_settings(&mut with, |value| {
            let text = if value["text_config"].is_object() { &mut value["text_config"] } else { value };
            text["mtp_num_hidden_layers"] = 1.into();
        });
        let model = open_files(&with).unwrap();
        assert!(model.notes.iter().any(|note| note.starts_with("The 3 tensors of blocks that only draft")));
        check_states("with drafting blocks", "qwen3_5", &model);
        let after = shortened(&with, Container::Safetensors);
        assert!(stored(&after).iter().all(|tensor| !tensor.name.contains("mtp")));
        let value = settings(&after);
        let text = if value["text_config"].is_object() { &value["text_config"] } else { &value };
        assert_eq!(text["mtp_num_hidden_layers"], 0);
    }
    // No other architecture has such blocks.
    let mut files = hugging_face("qwen3", "config.json");
    edit_names(&mut files, |name| name.replace("model.norm.", "mtp.norm."));
    refused(&files, &["mtp.norm.weight"]);
}

/// The file of Qwen3.5 with `blocks` more blocks, which have the tensors of an attention layer and some of their own.
fn with_drafting_blocks(blocks: usize) -> Vec<u8> {
    let bytes = std::fs::read(data("architectures/qwen3_5/model.gguf")).unwrap();
    let header = gguf::parse_header("m.gguf", &bytes, bytes.len() as u64).unwrap().unwrap();
    let (mut metadata, mut tensors) = (header.metadata, header.tensors);
    let n_layers = metadata.get("qwen35.block_count").and_then(Value::as_u64).unwrap();
    let originals = tensors.clone();
    for block in n_layers..n_layers + blocks as u64 {
        for tensor in originals.iter().filter(|tensor| tensor.name.starts_with("blk.1.")) {
            let copy = |name: String| gguf::TensorInfo { name, ..tensor.clone() };
            tensors.push(copy(tensor.name.replace("blk.1.", &format!("blk.{block}."))));
            if tensor.name.ends_with(".attn_norm.weight") {
                tensors.push(copy(format!("blk.{block}.nextn.enorm.weight")));
            }
        }
    }
    metadata.set("qwen35.block_count", Value::U32(n_layers as u32 + blocks as u32));
    metadata.set("qwen35.nextn_predict_layers", Value::U32(blocks as u32));
    let lists = metadata.entries.iter_mut().filter(|(key, _)| key.starts_with("qwen35.attention.recurrent"));
    for (_, value) in lists {
        let Value::Array(list) = value else { panic!("{value}") };
        assert_eq!(list.items.len() as u64, n_layers);
        list.items.resize(n_layers as usize + blocks, Value::Bool(false));
    }
    let output = |t: &gguf::TensorInfo| gguf::OutputTensor {
        name: t.name.clone(),
        element: t.element,
        shape: t.shape.clone(),
        bytes: t.bytes,
    };
    let outputs: Vec<gguf::OutputTensor> = tensors.iter().map(output).collect();
    let mut file = gguf::header_bytes(&metadata, &outputs);
    for tensor in &tensors {
        file.extend(&bytes[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize]);
        file.resize(file.len() + gguf::padding(&metadata, tensor.bytes) as usize, 0);
    }
    file
}

#[test]
fn drafting_blocks_of_a_gguf_file_are_left_out() {
    for blocks in [1, 2] {
        let files = Files::from([("m.gguf".to_owned(), with_drafting_blocks(blocks))]);
        let model = run(Model::open("m", &sources(&files))).unwrap();
        assert_eq!(model.config.n_layers, 4);
        let note = "of blocks that only draft tokens";
        assert!(model.notes.iter().any(|each| each.contains(note)), "{:?}", model.notes);
        check_states("with drafting blocks", "qwen3_5", &model);
        let (said, measured, after) = written(model, "shortgpt", &to(Container::Gguf)).unwrap();
        assert!((said / measured - 1.0).abs() < 1e-4, "{said}, not {measured}");
        let bytes = after.values().next().unwrap();
        let header = gguf::parse_header("m.gguf", bytes, bytes.len() as u64).unwrap().unwrap();
        assert_eq!(header.metadata.get("qwen35.block_count"), Some(&Value::U32(3)));
        assert_eq!(header.metadata.get("qwen35.nextn_predict_layers"), None);
        assert!(header.tensors.iter().all(|t| !t.name.contains("nextn") && !t.name.starts_with("blk.3.")));
        let recurrent = header.metadata.get("qwen35.attention.recurrent_layers");
        assert_eq!(recurrent.and_then(Value::as_array).map(<[_]>::len), Some(3));
    }
    let files = Files::from([("m.gguf".to_owned(), with_drafting_blocks(0))]);
    assert_eq!(run(Model::open("m", &sources(&files))).unwrap().config.n_layers, 4);
}

#[test]
fn more_drafting_blocks_than_layers_are_refused() {
    let bytes = with_drafting_blocks(1);
    let header = gguf::parse_header("m.gguf", &bytes, bytes.len() as u64).unwrap().unwrap();
    let mut metadata = header.metadata;
    metadata.set("qwen35.nextn_predict_layers", Value::U32(5));
    let file = gguf::header_bytes(&metadata, &[]);
    let error = run(Model::open("m", &sources(&Files::from([("m.gguf".to_owned(), file)])))).map(drop);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("qwen35.nextn_predict_layers is 5, but there are only 5 layers"), "{message}");
}
