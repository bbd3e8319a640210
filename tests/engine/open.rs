//! Models whose files contradict themselves, lack something or hold more than a model: each gives the number that
//! transformers gives, and what is written of it says the same.
//!
//! The perplexities are those of transformers 5.24 (float32, eager) on 16 sequences of 64 tokens.

use std::collections::BTreeMap;

use laminate::files::source::open_path;
use laminate::format::Container;
use laminate::{
    CalibrationOptions, Error, MergePlan, Model, Session, Silent, TextOptions, WriteOptions, evaluate,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use crate::architectures::{self, hugging_face};
use crate::common::{Files, MemoryFolder, cpu, data, files, open_files, run};

/// Of stories260K as it is.
const PERPLEXITY: f64 = 8.23023;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn perplexity(model: &Model) -> f64 {
    let text = laminate::demo::TEXT.to_owned();
    let options = TextOptions { text: Some(text), samples: 16, tokens: 64, ..TextOptions::default() };
    run(evaluate(model, None, &cpu(), &options, &Silent)).unwrap().perplexity
}

fn stories(edit: impl FnOnce(&mut Files)) -> Files {
    let mut files = files("stories260K");
    edit(&mut files);
    files
}

/// Sets keys of a JSON file; a key of `None` is removed.
fn edit_json(files: &mut Files, name: &str, edits: &[(&str, Option<Value>)]) {
    let mut value = read_json(files, name);
    let object = value.as_object_mut().unwrap();
    for (key, edit) in edits {
        match edit {
            Some(value) => object.insert((*key).to_owned(), value.clone()),
            None => object.remove(*key),
        };
    }
    files.insert(name.to_owned(), value.to_string().into_bytes());
}

fn edit_config(files: &mut Files, edits: &[(&str, Option<Value>)]) {
    edit_json(files, "config.json", edits);
}

fn read_json(files: &Files, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

fn tensors(bytes: &[u8]) -> Tensors {
    let parsed = SafeTensors::deserialize(bytes).unwrap();
    let owned = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    parsed.tensors().into_iter().map(|(name, view)| (name, owned(view))).collect()
}

fn packed(tensors: &Tensors) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, (d, shape, data))| (name, TensorView::new(*d, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn edit_tensors(files: &mut Files, edit: impl FnOnce(&mut Tensors)) {
    let mut all = tensors(&files["model.safetensors"]);
    edit(&mut all);
    files.insert("model.safetensors".into(), packed(&all));
}

fn map_values(tensor: &mut (Dtype, Vec<usize>, Vec<u8>), f: impl Fn(usize, f32) -> f32) {
    for (i, bytes) in tensor.2.chunks_mut(4).enumerate() {
        let value = f(i, f32::from_le_bytes(bytes.try_into().unwrap()));
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

fn vector(n: usize, f: impl Fn(usize) -> f32) -> (Dtype, Vec<usize>, Vec<u8>) {
    (Dtype::F32, vec![n], (0..n).flat_map(|i| f(i).to_le_bytes()).collect())
}

fn open(files: &Files) -> Model {
    open_files(files).unwrap()
}

/// Opens the files: the perplexity must be `expected`, and the only note must contain `note`.
#[track_caller]
fn gives(files: &Files, expected: f64, note: Option<&str>) -> Model {
    let model = open(files);
    let ours = perplexity(&model);
    assert!((ours / expected - 1.0).abs() < 1e-5, "{ours} instead of {expected}");
    match (note, model.notes.as_slice()) {
        (None, []) => {}
        (Some(note), [only]) if only.contains(note) => {}
        (_, notes) => panic!("{notes:?}"),
    }
    model
}

fn written(files: &Files, container: Container) -> Files {
    let mut session = Session::new(open(files), cpu());
    let options = CalibrationOptions { samples: 24, ..CalibrationOptions::default() };
    run(session.similarity(&options, &Silent)).unwrap();
    let plan = MergePlan::from_merges(5, &[]).unwrap();
    let options = WriteOptions { container: Some(container), ..WriteOptions::default() };
    let folder = MemoryFolder::default();
    run(session.write(&plan, &options, &mut folder.clone(), &Silent)).unwrap();
    let state = folder.state.borrow();
    state.files.clone()
}

/// Writes the model in both containers; both must give its perplexity again.
#[track_caller]
fn survives(files: &Files) -> Files {
    let before = perplexity(&open(files));
    let gguf = perplexity(&open(&written(files, Container::Gguf)));
    assert!((gguf / before - 1.0).abs() < 1e-4, "GGUF: {gguf} instead of {before}");
    let folder = written(files, Container::Safetensors);
    assert_eq!(perplexity(&open(&folder)), before);
    folder
}

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

// The head.

fn own_head(files: &mut Files) {
    edit_tensors(files, |all| {
        let mut head = all["model.embed_tokens.weight"].clone();
        map_values(&mut head, |i, x| 0.7 * x + 0.05 * ((i * 37 % 101) as f32 / 50.0 - 1.0));
        all.insert("lm_head.weight".into(), head);
    });
}

#[test]
fn a_stored_head_that_differs_from_the_embedding_is_not_tied() {
    let untied = stories(|f| {
        own_head(f);
        edit_config(f, &[("tie_word_embeddings", Some(false.into()))]);
    });
    let expected = perplexity(&open(&untied));
    assert!((expected - PERPLEXITY).abs() > 0.1);
    let files = stories(own_head);
    let model = gives(&files, expected, Some("the head that is stored counts"));
    assert!(!model.config.tied_head);
    let folder = survives(&files);
    assert_eq!(read_json(&folder, "config.json")["tie_word_embeddings"], false);
    assert!(tensors(&folder["model.safetensors"]).contains_key("lm_head.weight"));
}

#[test]
fn a_stored_head_that_is_the_embedding_stays_tied_and_is_not_written() {
    let files = stories(|f| {
        edit_tensors(f, |all| {
            let head = all["model.embed_tokens.weight"].clone();
            all.insert("lm_head.weight".into(), head);
        });
    });
    assert!(gives(&files, PERPLEXITY, None).config.tied_head);
    let folder = survives(&files);
    assert!(!tensors(&folder["model.safetensors"]).contains_key("lm_head.weight"));
}

#[test]
fn a_head_that_differs_in_its_last_value_only_is_found() {
    let files = stories(|f| {
        edit_tensors(f, |all| {
            let mut head = all["model.embed_tokens.weight"].clone();
            let last = head.2.len() / 4 - 1;
            map_values(&mut head, |i, x| if i == last { x + 1.0 } else { x });
            all.insert("lm_head.weight".into(), head);
        });
    });
    assert!(!open(&files).config.tied_head);
}

/// Perplexities, as measured when the model was made and of the GGUF file read again, of a model that lost a layer.
fn as_gguf(files: &Files) -> Result<(f64, f64, Files), Error> {
    let output = WriteOptions { container: Some(Container::Gguf), ..WriteOptions::default() };
    architectures::written(open_files(files).unwrap(), "shortgpt", &output)
}

#[test]
fn a_head_that_llama_cpp_would_ignore_is_not_written_as_gguf() {
    for name in ["cohere", "cohere2", "gemma2"] {
        let mut files = hugging_face(name, "config.json");
        assert!(as_gguf(&files).is_ok(), "{name}");
        edit_tensors(&mut files, |all| {
            let mut head = all["model.embed_tokens.weight"].clone();
            head.2.rotate_left(64);
            all.insert("lm_head.weight".into(), head);
        });
        let error = as_gguf(&files).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{name}: {error}");
        check_message(&error, &["has an output head of its own", "write a Hugging Face folder"]);
    }
}

#[test]
fn a_head_of_its_own_is_written_as_gguf_where_llama_cpp_reads_one() {
    for name in ["gemma3", "gemma4_dense"] {
        let mut files = hugging_face(name, "config.json");
        edit_tensors(&mut files, |all| {
            let mut head = all["model.embed_tokens.weight"].clone();
            head.2.rotate_left(64);
            all.insert("lm_head.weight".into(), head);
        });
        assert!(!open_files(&files).unwrap().config.tied_head, "{name}");
        let (said, measured, _) = as_gguf(&files).unwrap();
        assert!((said / measured - 1.0).abs() < 1e-4, "{name}: {said}, not {measured}");
    }
}

#[test]
fn a_tied_head_is_written_where_llama_cpp_needs_a_head() {
    for name in ["olmo2", "qwen2moe", "gptoss"] {
        let mut files = hugging_face(name, "config.json");
        edit_tensors(&mut files, |all| {
            all.remove("lm_head.weight");
        });
        // llama.cpp would round the rotary scaling of GPT-OSS.
        let unscaled = json!({ "rope_type": "default" });
        edit_config(
            &mut files,
            &[("tie_word_embeddings", Some(true.into())), ("rope_scaling", Some(unscaled))],
        );
        assert!(open_files(&files).unwrap().config.tied_head, "{name}");
        let (said, measured, folder) = as_gguf(&files).unwrap();
        assert!((said / measured - 1.0).abs() < 1e-4, "{name}: {said}, not {measured}");
        let file = folder.values().next().unwrap();
        // After the length of the name: the outputs of attention have longer names.
        let name_of_head = b"\x0d\0\0\0\0\0\0\0output.weight";
        assert!(file.windows(name_of_head.len()).any(|part| part == name_of_head), "{name}");
    }
}

// Rope.

#[test]
fn rope_scaling_counts_before_rope_parameters() {
    let files = stories(|f| {
        edit_config(
            f,
            &[
                ("rope_theta", None),
                ("rope_parameters", Some(json!({"rope_type": "default", "rope_theta": 10000.0}))),
                ("rope_scaling", Some(json!({"rope_type": "linear", "factor": 4.0}))),
            ],
        );
    });
    gives(&files, 73.522, Some("rope_scaling counts"));
    survives(&files);
}

#[test]
fn an_empty_rope_scaling_is_none() {
    let files = stories(|f| edit_config(f, &[("rope_scaling", Some(json!({})))]));
    gives(&files, PERPLEXITY, None);
}

#[test]
fn rope_that_is_not_understood_is_refused() {
    let cases = [
        (json!({"full_attention": {"rope_type": "default"}}), "full_attention"),
        (json!({"rope_type": 3}), "type 3"),
        (json!("linear"), "not an object"),
        (
            json!({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}),
            "partial_rotary_factor",
        ),
    ];
    for (rope, expected) in cases {
        let files = stories(|f| edit_config(f, &[("rope_parameters", Some(rope))]));
        refused(&files, &["config.json", expected]);
    }
}

// The class.

#[test]
fn the_class_is_that_of_the_model_type() {
    let files = stories(|f| {
        edit_config(f, &[("model_type", Some("mistral".into())), ("sliding_window", Some(8.into()))]);
    });
    let model = gives(&files, 8.4281, Some("model_type is mistral"));
    assert_eq!((model.config.window(), model.config.architecture_name()), (Some(8), "MistralForCausalLM"));
    let folder = survives(&files);
    assert_eq!(read_json(&folder, "config.json")["architectures"], json!(["MistralForCausalLM"]));
}

#[test]
fn a_model_type_that_is_not_supported_is_refused_whatever_the_architecture() {
    let files = stories(|f| edit_config(f, &[("model_type", Some("bert".into()))]));
    assert!(matches!(refused(&files, &["model_type bert"]), Error::Unsupported(_)));
}

#[test]
fn other_capitals_of_the_architecture_are_the_same_class() {
    for name in ["LLaMAForCausalLM", "LlamaModel"] {
        let files = stories(|f| edit_config(f, &[("architectures", Some(json!([name])))]));
        gives(&files, PERPLEXITY, None);
        let folder = written(&files, Container::Safetensors);
        assert_eq!(read_json(&folder, "config.json")["architectures"], json!(["LlamaForCausalLM"]));
    }
}

#[test]
fn absent_keys_have_the_defaults_of_the_class() {
    let config = |edits: &[(&str, Option<Value>)]| {
        let mut files = files("variants/mistral-window");
        edit_config(&mut files, edits);
        laminate::Config::parse(&files["config.json"]).unwrap()
    };
    let model = config(&[("sliding_window", None), ("max_position_embeddings", None)]);
    assert_eq!((model.window(), model.context), (Some(4096), 131_072));
    assert_eq!(config(&[("sliding_window", Some(Value::Null))]).window(), None);
    assert_eq!(
        config(&[("num_attention_heads", Some(16.into())), ("num_key_value_heads", None)]).n_kv_heads,
        8
    );
    let none =
        config(&[("num_attention_heads", Some(16.into())), ("num_key_value_heads", Some(Value::Null))]);
    assert_eq!(none.n_kv_heads, 16);
}

// Special tokens.

#[test]
fn a_bos_that_the_configuration_does_not_name_is_the_tokenizers() {
    let files = stories(|f| edit_config(f, &[("bos_token_id", None)]));
    assert_eq!(gives(&files, PERPLEXITY, None).config.bos_token_id, Some(1));
    survives(&files);
    // The tokenizer has another one than the default of the class.
    let files = stories(|f| {
        edit_config(f, &[("bos_token_id", None)]);
        let text = String::from_utf8(f["tokenizer.json"].clone()).unwrap();
        let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
        tokenizer["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([2]);
        f.insert("tokenizer.json".into(), tokenizer.to_string().into_bytes());
    });
    assert_eq!(open(&files).config.bos_token_id, Some(2));
}

#[test]
fn a_bos_of_null_is_none() {
    let files = stories(|f| edit_config(f, &[("bos_token_id", Some(Value::Null))]));
    assert_eq!(gives(&files, 5.7024, Some("No BOS")).config.bos_token_id, None);
}

#[test]
fn a_tokenizer_that_adds_no_bos_is_told_of() {
    let files = stories(|f| {
        edit_json(f, "tokenizer.json", &[("post_processor", Some(Value::Null))]);
        edit_json(f, "tokenizer_config.json", &[("add_bos_token", Some(false.into()))]);
    });
    gives(&files, PERPLEXITY, Some("tokenizer puts nothing before a text"));
    let files = stories(|f| edit_json(f, "tokenizer_config.json", &[("add_bos_token", Some(false.into()))]));
    gives(&files, PERPLEXITY, Some("tokenizer puts nothing before a text"));
    // Reports carry the note.
    let report = run(Session::new(open(&files), cpu()).similarity(&CalibrationOptions::default(), &Silent));
    assert!(report.unwrap().warnings.iter().any(|warning| warning.contains("nothing before a text")));
}

#[test]
fn a_gguf_tokenizer_that_adds_no_bos_is_told_of() {
    let name = "stories260K-F16.gguf";
    let bytes = std::fs::read(data(&format!("models/gguf/{name}"))).unwrap();
    let open = |bytes: Vec<u8>| open_files(&Files::from([(name.to_owned(), bytes)])).unwrap();
    assert!(open(bytes.clone()).notes.is_empty());
    // The key is followed by its type, 7 for a flag, and the flag.
    let key = b"tokenizer.ggml.add_bos_token\x07\0\0\0";
    let at = bytes.windows(key.len()).position(|part| part == key).expect("the flag");
    let mut without = bytes;
    without[at + key.len()] = 0;
    let model = open(without);
    // llama.cpp's number, whose arithmetic is in halves.
    assert!((perplexity(&model) / 8.2310 - 1.0).abs() < 1e-3);
    assert!(model.notes.iter().any(|note| note.contains("nothing before a text")), "{:?}", model.notes);
}

#[test]
fn special_ids_outside_the_vocabulary_are_not_used() {
    let files = stories(|f| edit_config(f, &[("bos_token_id", Some(128_000.into()))]));
    let model = gives(&files, PERPLEXITY, Some("128000 is outside the vocabulary of 512"));
    assert_eq!(model.config.bos_token_id, Some(1));
    survives(&files);
    let files = stories(|f| {
        edit_config(f, &[("eos_token_id", Some(json!([32_000, 2]))), ("pad_token_id", Some((-1).into()))]);
    });
    gives(&files, PERPLEXITY, Some("32000"));
    survives(&files);
}

#[test]
fn a_special_token_beyond_the_vocabulary_is_left_out_of_a_gguf_file() {
    let with = |special: bool| {
        stories(|f| {
            let mut tokenizer = read_json(f, "tokenizer.json");
            tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": 512, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special
            }));
            f.insert("tokenizer.json".into(), tokenizer.to_string().into_bytes());
        })
    };
    gives(&with(true), PERPLEXITY, Some("<pad>"));
    survives(&with(true));
    // A token that a text can give must have a row.
    refused(&with(false), &["tokenizer.json", "512", "another model"]);
}

// Which files are the model.

fn halved() -> Vec<u8> {
    let mut files = files("stories260K");
    edit_tensors(&mut files, |all| {
        for (_, tensor) in all.iter_mut().filter(|(name, _)| name.contains("mlp")) {
            map_values(tensor, |_, x| 0.5 * x);
        }
    });
    files.remove("model.safetensors").unwrap()
}

fn index(files: &mut Files, shards: [&str; 2]) {
    let names: Vec<String> = tensors(&files["model.safetensors"]).into_keys().collect();
    let map: BTreeMap<_, _> = names.iter().enumerate().map(|(i, name)| (name, shards[i % 2])).collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

#[test]
fn a_whole_model_counts_before_an_index_of_other_files() {
    // The shards are of an older save.
    let files = stories(|f| {
        index(f, SHARDS);
        let stale = tensors(&halved());
        for (i, shard) in SHARDS.iter().enumerate() {
            let part = stale.clone().into_iter().enumerate().filter(|(at, _)| at % 2 == i);
            f.insert((*shard).to_owned(), packed(&part.map(|(_, tensor)| tensor).collect()));
        }
    });
    gives(&files, PERPLEXITY, Some("is ignored"));
    // The shards are not there.
    gives(&stories(|f| index(f, SHARDS)), PERPLEXITY, Some("is ignored"));
    // The index cannot be read, and nobody needs it.
    let files = stories(|f| drop(f.insert("model.safetensors.index.json".into(), b"{".to_vec())));
    gives(&files, PERPLEXITY, Some("is ignored"));
}

#[test]
fn an_index_that_names_the_single_file_counts() {
    gives(&stories(|f| index(f, ["model.safetensors"; 2])), PERPLEXITY, None);
    refused(
        &stories(|f| index(f, ["model.safetensors", "more.safetensors"])),
        &["more.safetensors is missing"],
    );
}

#[test]
fn other_weight_files_beside_the_model_are_not_read() {
    let files = stories(|f| {
        for name in ["consolidated.safetensors", "adapter_extra.safetensors"] {
            f.insert(name.into(), packed(&Tensors::from([("lora_A.weight".into(), vector(4, |_| 0.0))])));
        }
    });
    gives(&files, PERPLEXITY, None);
}

#[test]
fn the_weights_that_the_configuration_names_count_and_the_name_is_not_written() {
    let files = stories(|f| {
        let good = f.insert("model.safetensors".into(), halved()).unwrap();
        f.insert("weights.safetensors".into(), good);
        edit_config(f, &[("transformers_weights", Some("weights.safetensors".into()))]);
    });
    gives(&files, PERPLEXITY, None);
    let folder = survives(&files);
    assert_eq!(read_json(&folder, "config.json").get("transformers_weights"), None);
    assert!(folder.contains_key("model.safetensors"));
    let mut missing = files;
    missing.remove("weights.safetensors");
    refused(&missing, &["weights.safetensors, which config.json names, is missing"]);
}

#[test]
fn what_is_there_instead_of_the_weights_or_the_tokenizer_is_said() {
    let instead = |gone: &str, there: &str| {
        stories(|f| {
            let bytes = f.remove(gone).unwrap();
            f.insert(there.into(), bytes);
        })
    };
    refused(&instead("model.safetensors", "pytorch_model.bin"), &["pytorch_model.bin", "save_pretrained"]);
    refused(&instead("model.safetensors", "m-Q8_0.gguf"), &["m-Q8_0.gguf", "open that file itself"]);
    refused(&instead("tokenizer.json", "tekken.json"), &["tekken.json", "AutoTokenizer"]);
}

// Tensors.

#[test]
fn names_without_the_prefix_of_the_base_model_are_read() {
    let files = stories(|f| {
        edit_tensors(f, |all| {
            *all = std::mem::take(all)
                .into_iter()
                .map(|(name, tensor)| (name.strip_prefix("model.").unwrap().to_owned(), tensor))
                .collect();
        });
    });
    gives(&files, PERPLEXITY, Some("prefix"));
    let folder = survives(&files);
    assert!(tensors(&folder["model.safetensors"]).keys().all(|name| name.starts_with("model.")));
    // Some names with it and some without it are no model.
    let mixed = stories(|f| {
        edit_tensors(f, |all| {
            let norm = all.remove("model.norm.weight").unwrap();
            all.insert("norm.weight".into(), norm);
        });
    });
    refused(&mixed, &["norm.weight"]);
}

#[test]
fn rotary_tables_and_cache_scales_are_left_out() {
    let files = stories(|f| {
        edit_tensors(f, |all| {
            all.insert("model.rotary_emb.inv_freq".into(), vector(4, |i| 10f32.powi(-(i as i32))));
            all.insert("model.layers.1.self_attn.rotary_emb.cos_cached".into(), vector(6, |_| 1.0));
        });
    });
    gives(&files, PERPLEXITY, None);
    let files = stories(|f| {
        edit_tensors(f, |all| {
            for layer in 0..5 {
                for scale in ["k_scale", "v_scale"] {
                    all.insert(format!("model.layers.{layer}.self_attn.{scale}"), vector(1, |_| 0.5));
                }
            }
        });
    });
    gives(&files, PERPLEXITY, Some("10 scales"));
    let folder = survives(&files);
    assert!(tensors(&folder["model.safetensors"]).keys().all(|name| !name.ends_with("_scale")));
    // A scale of a quantised weight is no such scale.
    let files = stories(|f| {
        edit_tensors(f, |all| {
            all.insert("model.layers.0.self_attn.k_proj.weight_scale".into(), vector(1, |_| 0.5));
        });
    });
    refused(&files, &["weight_scale"]);
}

fn biases(files: &mut Files, kinds: &[(&str, usize, f32)]) {
    edit_tensors(files, |all| {
        for layer in 0..5 {
            for (kind, n, scale) in kinds {
                let value = |i: usize| scale * ((i * 29 + layer * 13) % 17) as f32 / 16.0;
                all.insert(format!("model.layers.{layer}.self_attn.{kind}_proj.bias"), vector(*n, value));
            }
        }
    });
    edit_config(files, &[("attention_bias", Some(true.into()))]);
}

#[test]
fn a_bias_that_is_absent_is_zero_and_stays_absent() {
    let three = [("q", 64, 0.5), ("k", 32, -0.4), ("v", 32, 0.3)];
    let files = stories(|f| biases(f, &three));
    let with_zeros = stories(|f| biases(f, &[three[0], three[1], three[2], ("o", 64, 0.0)]));
    let expected = perplexity(&open(&with_zeros));
    assert!((expected - PERPLEXITY).abs() > 0.1, "{expected}");
    let model = gives(&files, expected, Some("o_proj.bias"));
    assert_eq!(model.config.biases.attention, [true, true, true, false]);
    let parameters =
        model.config.parameters_per_layer() - open(&stories(|_| ())).config.parameters_per_layer();
    assert_eq!(parameters, 128);
    let folder = survives(&files);
    let names: Vec<String> = tensors(&folder["model.safetensors"]).into_keys().collect();
    assert_eq!(names.iter().filter(|name| name.ends_with("bias")).count(), 15);
    // From a GGUF file, too.
    let gguf = open(&written(&files, Container::Gguf));
    assert_eq!(gguf.config.biases, model.config.biases);
}

#[test]
fn a_bias_in_some_layers_only_is_refused() {
    let files = stories(|f| {
        biases(f, &[("q", 64, 0.5), ("k", 32, 0.5), ("v", 32, 0.5), ("o", 64, 0.5)]);
        edit_tensors(f, |all| drop(all.remove("model.layers.3.self_attn.q_proj.bias")));
    });
    refused(&files, &["model.layers.3.self_attn.q_proj.bias"]);
}

#[test]
fn biases_that_the_configuration_does_not_have_are_left_out() {
    let files = stories(|f| {
        biases(f, &[("q", 64, 0.5)]);
        edit_config(f, &[("attention_bias", Some(false.into()))]);
    });
    gives(&files, PERPLEXITY, Some("left out"));
    survives(&files);
}

// The text of the configuration.

#[test]
fn layer_types_of_another_length_are_written_with_one_entry_a_layer() {
    let files = stories(|f| edit_config(f, &[("layer_types", Some(json!(vec!["full_attention"; 8])))]));
    gives(&files, PERPLEXITY, Some("8 entries for 5 layers"));
    let folder = survives(&files);
    assert_eq!(read_json(&folder, "config.json")["layer_types"], json!(vec!["full_attention"; 5]));
}

#[test]
fn numbers_that_are_not_finite_stay_as_python_writes_them() {
    let files = stories(|f| {
        let text = String::from_utf8(f["config.json"].clone()).unwrap();
        let extra = r#"{"time_step_limit": [0.0, Infinity, -Infinity], "said": "\"NaN, Infinity", "x": NaN,"#;
        f.insert("config.json".into(), text.replacen('{', extra, 1).into_bytes());
    });
    gives(&files, PERPLEXITY, None);
    let folder = written(&files, Container::Safetensors);
    let text = String::from_utf8(folder["config.json"].clone()).unwrap();
    let squeezed: String = text.split_whitespace().collect();
    for part in [r#""time_step_limit":[0.0,Infinity,-Infinity]"#, r#""said":"\"NaN,Infinity""#, r#""x":NaN"#]
    {
        assert!(squeezed.contains(part), "{text}");
    }
    assert_eq!(perplexity(&open(&folder)), perplexity(&open(&files)));
    // A setting that counts must be a number.
    let files = stories(|f| {
        let text = String::from_utf8(f["config.json"].clone()).unwrap();
        f.insert("config.json".into(), text.replace("10000.0", "Infinity").into_bytes());
    });
    refused(&files, &["config.json: rope_theta is Infinity"]);
}

// Files that are not what their name says.

#[test]
fn a_file_that_stands_for_another_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1048576\n";
    let page = "\n<!DOCTYPE html>\n<html><body>Sign in</body></html>";
    for name in ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"] {
        let with = |text: &str| stories(|f| drop(f.insert(name.into(), text.as_bytes().to_vec())));
        refused(&with(pointer), &[name, "git-lfs pointer", "git lfs pull"]);
        refused(&with(page), &[name, "web page"]);
    }
    let files = stories(|f| drop(f.insert("model.safetensors".into(), b"Entry not found".to_vec())));
    refused(&files, &["model.safetensors", "\"Entry not found\""]);
    let gguf = Files::from([("m.gguf".to_owned(), pointer.as_bytes().to_vec())]);
    refused(&gguf, &["m.gguf", "git-lfs pointer"]);
}

#[cfg(unix)]
#[test]
fn a_link_into_nowhere_and_the_top_of_a_cache_are_named() {
    let top = tempfile::tempdir().unwrap();
    let snapshot = top.path().join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    for (name, bytes) in files("stories260K") {
        std::fs::write(snapshot.join(name), bytes).unwrap();
    }
    let error = open_path(top.path()).err().unwrap();
    check_message(&error, &["directory below", "snapshots/0123abcd"]);
    let sources = open_path(&snapshot).unwrap();
    assert_eq!(run(Model::open("m", &sources)).unwrap().config.n_layers, 5);
    let weights = snapshot.join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink("../../blobs/4d7a", &weights).unwrap();
    for path in [&snapshot, &weights] {
        check_message(&open_path(path).err().unwrap(), &["model.safetensors", "link to ../../blobs/4d7a"]);
    }
    // A link that has nothing to do with the model.
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(&weights, files("stories260K").remove("model.safetensors").unwrap()).unwrap();
    std::os::unix::fs::symlink("../../blobs/5e8b", snapshot.join("README.md")).unwrap();
    assert!(open_path(&snapshot).is_ok());
}
