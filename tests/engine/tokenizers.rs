//! Tokenizers out of GGUF metadata and back: llama.cpp's ids, round trips, and hostile metadata.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use laminate::Error;
use laminate::format::gguf::{Array, Metadata, Value, ValueType, parse_header};
use laminate::internals::model::tokenizer::gguf::{
    SpecialIds, chat_template, from_metadata, to_metadata, to_metadata_with_merges, tokenizer_config,
};
use serde_json::{Value as Json, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, Tokenizer};

/// llama.cpp's test vocabularies.
const VOCABULARIES: [&str; 5] = ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn vocabulary(name: &str) -> Metadata {
    let packed = std::fs::read(data(&format!("tokenizers/ggml-vocab-{name}.gguf.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    parse_header(name, &bytes, bytes.len() as u64).unwrap().unwrap().metadata
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
}

/// llama.cpp's tests: a text, and the ids that Hugging Face's and its own tokenizer give it.
fn llama_cpp_tests(name: &str) -> Vec<(String, Vec<u32>)> {
    let texts = std::fs::read_to_string(data("tokenizers/texts.inp")).unwrap();
    let lines = std::fs::read_to_string(data(&format!("tokenizers/ggml-vocab-{name}.gguf.out"))).unwrap();
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let tests: Vec<_> =
        texts.split("\n__ggml_vocab_test__\n").map(str::to_owned).zip(lines.lines().map(ids)).collect();
    assert_eq!(tests.len(), lines.lines().count());
    assert!(tests.len() > 40);
    tests
}

/// Written by `make_llama_cpp.mjs`: texts, and llama.cpp's ids for each vocabulary and pre-tokenizer.
fn llama_cpp_ids() -> (Vec<String>, BTreeMap<String, Vec<Vec<u32>>>) {
    let json = std::fs::read(data("tokenizers/llama_cpp.json")).unwrap();
    let mut json: Json = serde_json::from_slice(&json).unwrap();
    let texts = serde_json::from_value(json["texts"].take()).unwrap();
    (texts, serde_json::from_value(json["ids"].take()).unwrap())
}

#[test]
fn llama_cpps_own_tests() {
    for name in VOCABULARIES {
        let tokenizer = from_metadata(name, &vocabulary(name)).unwrap();
        for (text, expected) in llama_cpp_tests(name) {
            assert_eq!(encode(&tokenizer, &text), expected, "{name}: {text:?}");
        }
        assert_eq!(encode(&tokenizer, ""), [0u32; 0]);
    }
}

#[test]
fn hard_texts_as_llama_cpp_has_them() {
    let (texts, all_ids) = llama_cpp_ids();
    for (name, expected) in &all_ids {
        let (vocabulary_name, pre) = name.split_once(' ').unwrap_or((name, ""));
        let mut metadata = vocabulary(vocabulary_name);
        if !pre.is_empty() {
            metadata.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
        }
        let tokenizer = from_metadata(name, &metadata).unwrap();
        assert_eq!(texts.len(), expected.len());
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(encode(&tokenizer, text), *expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn aliases_are_the_same_pre_tokenizer() {
    let mut metadata = vocabulary("gpt-2");
    let mut written = |pre: &str| {
        metadata.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
        let json: Json =
            serde_json::from_str(&from_metadata(pre, &metadata).unwrap().to_string(false).unwrap()).unwrap();
        (json["pre_tokenizer"].clone(), json["model"]["ignore_merges"].clone())
    };
    for aliases in [
        &["gpt-2", "phi-2", "olmo", "mpt"][..],
        &["smollm", "starcoder", "refact", "command-r"],
        &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        &["smaug-bpe", "dbrx"],
        &["qwen2", "deepseek-r1-qwen", "stablelm2"],
        &["gpt-4o", "llama4"],
    ] {
        let first = written(aliases[0]);
        for alias in aliases {
            assert_eq!(written(alias), first, "{alias}");
        }
    }
    assert_eq!(written("llama-bpe").0, written("smaug-bpe").0);
    assert_ne!(written("llama-bpe").1, written("smaug-bpe").1);
}

#[test]
fn qwen_3_5_keeps_marks_with_their_letters() {
    let mut metadata = vocabulary("qwen2");
    let mut pieces = |pre: &str| {
        metadata.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
        let tokenizer = from_metadata(pre, &metadata).unwrap();
        let mut text = PreTokenizedString::from("ne\u{301}e x");
        tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut text).unwrap();
        text.get_splits(OffsetReferential::Original, OffsetType::Byte).len()
    };
    assert_eq!((pieces("qwen2"), pieces("qwen35")), (3, 2));
}

#[test]
fn tekken_and_gpt_4o_know_case_beyond_ascii() {
    // As the models' own expressions, and unlike llama.cpp's.
    let mut metadata = vocabulary("llama-bpe");
    for (pre, number) in [("tekken", 4), ("gpt-4o", 2)] {
        metadata.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
        let tokenizer = from_metadata(pre, &metadata).unwrap();
        let words = |text: &str| {
            use tokenizers::PreTokenizer;
            let mut pieces = tokenizers::PreTokenizedString::from(text);
            tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
            let splits =
                pieces.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
            splits.iter().map(|(_, (from, to), _)| text[*from..*to].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words("HelloWorld éÉé"), ["Hello", "World", " é", "Éé"], "{pre}");
        assert_eq!(words("a/\n\n b"), ["a", "/\n\n", " b"], "{pre}");
        assert_eq!(words("1234").len(), number, "{pre}");
    }
}

#[test]
fn names_of_control_tokens_are_text() {
    let tokenizer = from_metadata("m", &vocabulary("llama-bpe")).unwrap();
    let ids = encode(&tokenizer, "<|eot_id|>");
    assert!(ids.iter().all(|id| *id < 128_000), "{ids:?}");
    // A caller may ask for them.
    let mut tokenizer = tokenizer;
    tokenizer.set_encode_special_tokens(false);
    assert_eq!(encode(&tokenizer, "a<|eot_id|>"), [64, 128_009]);
    // Where texts begin with a token, they do so only when special tokens are wanted.
    let ids = tokenizer.encode_fast("a", true).unwrap().get_ids().to_vec();
    assert_eq!(ids, [128_000, 64]);
}

#[test]
fn user_defined_tokens_are_cut_out_first() {
    let tokenizer = from_metadata("m", &vocabulary("qwen2")).unwrap();
    assert_eq!(encode(&tokenizer, " [PAD151646] x"), [220, 151_646, 856]);
}

#[test]
fn decoding_gives_the_text_back() {
    for name in VOCABULARIES {
        let tokenizer = from_metadata(name, &vocabulary(name)).unwrap();
        for (text, ids) in llama_cpp_tests(name) {
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn tokenizer_json_gives_the_same_ids() {
    let (texts, _) = llama_cpp_ids();
    for name in VOCABULARIES {
        let tokenizer = from_metadata(name, &vocabulary(name)).unwrap();
        let mut again = Tokenizer::from_bytes(tokenizer.to_string(true).unwrap()).unwrap();
        again.set_encode_special_tokens(true);
        for text in &texts {
            assert_eq!(encode(&again, text), encode(&tokenizer, text), "{name}: {text:?}");
        }
    }
}

#[test]
fn metadata_to_json_to_metadata() {
    let (texts, _) = llama_cpp_ids();
    for name in VOCABULARIES {
        let metadata = vocabulary(name);
        let tokenizer = from_metadata(name, &metadata).unwrap();
        let json = tokenizer.to_string(false).unwrap();
        let config = tokenizer_config(&metadata, 2048).unwrap();
        let n_tokens = metadata.get("tokenizer.ggml.tokens").unwrap().as_array().unwrap().len();
        let entries = to_metadata(json.as_bytes(), Some(&config), n_tokens, SpecialIds::default()).unwrap();
        let again = Metadata { entries };
        for key in ["model", "pre", "tokens", "merges", "bos_token_id", "eos_token_id", "padding_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(again.get(&key), metadata.get(&key), "{name}: {key}");
        }
        assert_eq!(chat_template(&again), chat_template(&metadata));
        let tokenizer_again = from_metadata(name, &again).unwrap();
        for text in &texts {
            assert_eq!(encode(&tokenizer_again, text), encode(&tokenizer, text), "{name}: {text:?}");
        }
    }
}

/// stories260K's own `tokenizer.json` and `tokenizer_config.json`.
fn stories() -> (Vec<u8>, Vec<u8>) {
    let file = |name: &str| std::fs::read(data(&format!("models/stories260K/{name}"))).unwrap();
    (file("tokenizer.json"), file("tokenizer_config.json"))
}

#[test]
fn hugging_face_to_metadata_and_back() {
    let (json, config) = stories();
    let special = SpecialIds { bos: Some(1), eos: Some(2) };
    let metadata = Metadata { entries: to_metadata(&json, Some(&config), 520, special).unwrap() };
    let get = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}")).unwrap();
    assert_eq!(get("model").as_str(), Some("llama"));
    assert_eq!(get("pre").as_str(), Some("default"));
    assert_eq!(get("bos_token_id"), &Value::U32(1));
    assert_eq!(get("eos_token_id"), &Value::U32(2));
    assert_eq!(get("unknown_token_id"), &Value::U32(0));
    assert_eq!(get("add_bos_token"), &Value::Bool(true));
    assert_eq!(get("add_space_prefix"), &Value::Bool(true));
    assert_eq!(get("tokens").as_array().unwrap()[519], Value::String("[PAD519]".to_owned()));
    let types = get("token_type").as_array().unwrap();
    let expected = [(0, 2), (1, 3), (2, 3), (3, 6), (258, 6), (259, 1), (511, 1), (512, 5)];
    for (id, kind) in expected {
        assert_eq!(types[id], Value::I32(kind), "{id}");
    }

    let tokenizer = from_metadata("m.gguf", &metadata).unwrap();
    let mut own = Tokenizer::from_bytes(&json).unwrap();
    own.set_encode_special_tokens(true);
    for text in llama_cpp_ids().0 {
        assert_eq!(encode(&tokenizer, &text), encode(&own, &text), "{text:?}");
    }
}

/// As Gemma's own: the normaliser leaves no space, so that cutting at spaces cuts nothing.
#[test]
fn merges_over_characters_are_listed_and_read_again() {
    let (json, config) = stories();
    let special = SpecialIds { bos: Some(1), eos: Some(2) };
    let listed = |json: &[u8]| to_metadata_with_merges(json, Some(&config), 512, special);
    let error = listed(&json).unwrap_err().to_string();
    assert!(error.contains("begin with a space"), "{error}");

    let mut json: Json = serde_json::from_slice(&json).unwrap();
    json["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let pattern = json!({"String": " "});
    json["pre_tokenizer"] =
        json!({"type": "Split", "pattern": pattern, "behavior": "MergedWithPrevious", "invert": false});
    let json = json.to_string();
    let metadata = Metadata { entries: listed(json.as_bytes()).unwrap() };
    let get = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"));
    assert_eq!(get("model").unwrap().as_str(), Some("gemma4"));
    assert_eq!((get("pre"), get("scores")), (None, None));
    assert_eq!(get("add_bos_token"), Some(&Value::Bool(true)));
    assert_eq!(get("add_space_prefix"), Some(&Value::Bool(false)));

    let tokenizer = from_metadata("m.gguf", &metadata).unwrap();
    let mut own = Tokenizer::from_bytes(&json).unwrap();
    own.set_encode_special_tokens(true);
    let mut longest = 0;
    for text in llama_cpp_ids().0 {
        let ids = encode(&tokenizer, &text);
        assert_eq!(ids, encode(&own, &text), "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.replace('▁', " "));
        longest = longest.max(ids.len());
    }
    assert!(longest > 100);
    assert_eq!(tokenizer.encode_fast("a", true).unwrap().get_ids()[0], 1);

    let written = tokenizer.to_string(false).unwrap();
    let again = Metadata { entries: listed(written.as_bytes()).unwrap() };
    for key in ["model", "merges", "tokens", "token_type"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(again.get(&key), metadata.get(&key), "{key}");
    }
    let mut without = metadata.clone();
    without.remove("tokenizer.ggml.merges");
    let error = from_metadata("m.gguf", &without).unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.merges is missing"), "{error}");
}

#[test]
fn tokenizer_config_for_transformers() {
    let metadata = vocabulary("phi-3");
    let config: Json = serde_json::from_slice(&tokenizer_config(&metadata, 4096).unwrap()).unwrap();
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(config["model_max_length"], 4096);
    assert_eq!(config["bos_token"], "<s>");
    assert_eq!(config["eos_token"], "<|endoftext|>");
    assert_eq!(config["unk_token"], "<unk>");
    assert_eq!(config["pad_token"], "<|endoftext|>");
    assert_eq!(config["add_bos_token"], true);
    assert_eq!(config["chat_template"].as_str(), chat_template(&metadata));
    assert!(config["chat_template"].as_str().unwrap().contains("<|assistant|>"));

    let config: Json =
        serde_json::from_slice(&tokenizer_config(&vocabulary("gpt-2"), 1024).unwrap()).unwrap();
    assert_eq!(config["add_bos_token"], false);
    assert!(config.get("chat_template").is_none() && config.get("unk_token").is_none(), "{config}");
}

#[test]
fn phi_3_strips_after_special_tokens() {
    let mut tokenizer = from_metadata("m", &vocabulary("phi-3")).unwrap();
    tokenizer.set_encode_special_tokens(false);
    let added = tokenizer.get_added_tokens_decoder();
    assert!(added[&32_007].rstrip && added[&2].rstrip && !added[&0].rstrip && !added[&32_000].rstrip);
}

#[test]
fn the_default_chat_template_of_several() {
    let (json, _) = stories();
    let config = json!({"chat_template": [
        {"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"},
    ]});
    let entries =
        to_metadata(&json, Some(config.to_string().as_bytes()), 512, SpecialIds::default()).unwrap();
    assert_eq!(chat_template(&Metadata { entries }), Some("D"));
}

// Hostile metadata.

/// A byte-level vocabulary of `a`, `b`, `ab` and a control token.
fn small_bpe() -> Metadata {
    let strings = |items: &[&str]| Value::strings(items.iter().map(|item| (*item).to_owned()));
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
    metadata.set("tokenizer.ggml.pre", Value::String("gpt-2".to_owned()));
    metadata.set("tokenizer.ggml.tokens", strings(&["a", "b", "ab", "<|end|>"]));
    metadata.set("tokenizer.ggml.token_type", numbers(&[1, 1, 1, 3]));
    metadata.set("tokenizer.ggml.merges", strings(&["a b"]));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(3));
    metadata
}

/// A SentencePiece vocabulary without bytes.
fn small_spm() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String("llama".to_owned()));
    let tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab"];
    metadata.set("tokenizer.ggml.tokens", Value::strings(tokens.map(str::to_owned)));
    metadata.set("tokenizer.ggml.scores", floats(&[0.0, 0.0, 0.0, -2.0, -3.0, -4.0, -1.0]));
    metadata.set("tokenizer.ggml.token_type", numbers(&[2, 3, 3, 1, 1, 1, 1]));
    metadata
}

fn numbers(items: &[i32]) -> Value {
    Value::Array(Array { of: ValueType::I32, items: items.iter().copied().map(Value::I32).collect() })
}

fn floats(items: &[f32]) -> Value {
    Value::Array(Array { of: ValueType::F32, items: items.iter().copied().map(Value::F32).collect() })
}

fn strings(items: &[&str]) -> Value {
    Value::strings(items.iter().map(|item| (*item).to_owned()))
}

/// `key` set to `value` must be refused in one line that names the file and all of `expected`.
#[track_caller]
fn refused(mut metadata: Metadata, key: &str, value: Option<Value>, expected: &[&str]) -> Error {
    let key = format!("tokenizer.ggml.{key}");
    match value {
        Some(value) => metadata.set(&key, value),
        None => metadata.remove(&key),
    }
    let error = from_metadata("m.gguf", &metadata).expect_err("this must be refused");
    let message = error.to_string();
    for part in ["m.gguf"].iter().chain(expected) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n') && message.len() < 300, "{message}");
    error
}

#[test]
fn the_small_vocabularies_are_good() {
    assert_eq!(encode(&from_metadata("m", &small_bpe()).unwrap(), "abba"), [2, 1, 0]);
    // An unknown character is one unknown token, and so are several in a row.
    assert_eq!(encode(&from_metadata("m", &small_spm()).unwrap(), "abxyb"), [3, 6, 0, 5]);
}

#[test]
fn unknown_tokenizer_model() {
    for model in ["bert", "t5", "no_vocab", ""] {
        let error = refused(small_bpe(), "model", Some(strings(&[])), &["tokenizer.ggml.model"]);
        assert_eq!(error.kind(), "format");
        let error = refused(
            small_bpe(),
            "model",
            Some(Value::String(model.to_owned())),
            &[&format!("{model:?}"), "tokenizer model"],
        );
        assert_eq!(error.kind(), "unsupported");
    }
    assert_eq!(refused(small_bpe(), "model", None, &["is missing"]).kind(), "format");
}

#[test]
fn unknown_pre_tokenizer() {
    let value = Value::String("klingon".to_owned());
    let error = refused(small_bpe(), "pre", Some(value), &["\"klingon\"", "pre-tokenizer"]);
    assert_eq!(error.kind(), "unsupported");
}

#[test]
fn a_file_that_names_no_pre_tokenizer_has_llama_cpps_default() {
    let mut metadata = small_bpe();
    metadata.remove("tokenizer.ggml.pre");
    assert_eq!(encode(&from_metadata("m", &metadata).unwrap(), "ab"), [2]);
}

#[test]
fn no_tokens() {
    refused(small_bpe(), "tokens", Some(strings(&[])), &["tokenizer.ggml.tokens", "0 entries"]);
    refused(small_bpe(), "tokens", None, &["tokenizer.ggml.tokens", "missing"]);
    refused(small_spm(), "tokens", Some(Value::U32(7)), &["tokenizer.ggml.tokens", "7", "not a list"]);
}

#[test]
fn tokens_that_are_no_text() {
    refused(small_bpe(), "tokens", Some(numbers(&[1, 2, 3, 4])), &["tokenizer.ggml.tokens", "not text"]);
}

#[test]
fn duplicate_tokens() {
    let tokens = strings(&["a", "b", "ab", "b"]);
    refused(small_bpe(), "tokens", Some(tokens), &["tokenizer.ggml.tokens", "\"b\" twice"]);
}

#[test]
fn an_empty_token_gets_a_name() {
    let mut metadata = small_bpe();
    metadata.set("tokenizer.ggml.tokens", strings(&["a", "b", "ab", ""]));
    let tokenizer = from_metadata("m", &metadata).unwrap();
    assert_eq!(tokenizer.token_to_id("[EMPTY_3]"), Some(3));
}

#[test]
fn scores_of_another_length() {
    for scores in [&[0.0; 6][..], &[0.0; 8], &[]] {
        let expected = format!("has {} entries for 7 tokens", scores.len());
        refused(small_spm(), "scores", Some(floats(scores)), &["tokenizer.ggml.scores", &expected]);
    }
    refused(small_spm(), "scores", None, &["tokenizer.ggml.scores", "missing"]);
}

#[test]
fn scores_that_are_no_numbers() {
    let mut scores = [0.0; 7];
    scores[5] = f32::NAN;
    refused(small_spm(), "scores", Some(floats(&scores)), &["tokenizer.ggml.scores", "NaN at 5"]);
    let words = strings(&["1", "2", "3", "4", "5", "6", "7"]);
    refused(small_spm(), "scores", Some(words), &["tokenizer.ggml.scores", "not a number"]);
}

#[test]
fn infinite_scores_are_an_order_too() {
    let mut metadata = small_spm();
    metadata.set("tokenizer.ggml.scores", floats(&[f32::NEG_INFINITY; 7]));
    assert_eq!(encode(&from_metadata("m", &metadata).unwrap(), "ab"), [3, 6]);
}

#[test]
fn types_of_another_length() {
    let expected = ["tokenizer.ggml.token_type", "has 3 entries for 4 tokens"];
    refused(small_bpe(), "token_type", Some(numbers(&[1, 1, 1])), &expected);
}

#[test]
fn types_that_nobody_knows() {
    for bad in [-1, 7, i32::MAX] {
        let expected = ["tokenizer.ggml.token_type", &bad.to_string()];
        refused(small_bpe(), "token_type", Some(numbers(&[1, 1, bad, 1])), &expected);
    }
}

#[test]
fn a_file_without_types_has_its_special_tokens() {
    let mut metadata = small_bpe();
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = from_metadata("m", &metadata).unwrap();
    assert!(tokenizer.get_added_tokens_decoder().contains_key(&3));
}

#[test]
fn ids_out_of_range() {
    for key in ["bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"] {
        for id in [Value::I32(-2), Value::String("3".to_owned())] {
            refused(small_bpe(), key, Some(id), &[key, "not the number of a token"]);
        }
        // llama.cpp ignores an id outside the vocabulary; -1 is what converters write for none.
        for id in [Value::U32(u32::MAX), Value::U32(7), Value::U64(1 << 40)] {
            let with = |mut metadata: Metadata| {
                metadata.set(&format!("tokenizer.ggml.{key}"), id.clone());
                metadata
            };
            let ids = |metadata: &Metadata| {
                from_metadata("m", metadata).unwrap().encode("aa b", true).unwrap().get_ids().to_vec()
            };
            let unnamed = |mut metadata: Metadata| {
                metadata.remove(&format!("tokenizer.ggml.{key}"));
                metadata
            };
            // SentencePiece has an id of its own for each.
            assert_eq!(ids(&with(small_spm())), ids(&unnamed(small_spm())), "{key} {id}");
            if key == "bos_token_id" && id != Value::U32(u32::MAX) {
                refused(small_bpe(), key, Some(id), &[key, "4 tokens"]);
            } else {
                assert_eq!(ids(&with(small_bpe())), ids(&unnamed(small_bpe())), "{key} {id}");
            }
        }
    }
}

#[test]
fn flags_that_are_no_flags() {
    for key in ["add_bos_token", "add_eos_token", "add_space_prefix"] {
        refused(small_spm(), key, Some(Value::U8(1)), &[key, "neither true nor false"]);
    }
}

#[test]
fn merges_that_are_no_pairs() {
    for merge in ["ab", "", "a", " ", "a ", " b"] {
        refused(small_bpe(), "merges", Some(strings(&[merge])), &["tokenizer.ggml.merges", "no pair"]);
    }
    refused(small_bpe(), "merges", Some(numbers(&[1])), &["tokenizer.ggml.merges", "no pair"]);
    refused(small_bpe(), "merges", None, &["tokenizer.ggml.merges", "missing"]);
}

#[test]
fn merges_that_name_no_token() {
    for merge in ["a c", "c a", "b a", "a b b"] {
        refused(small_bpe(), "merges", Some(strings(&[merge])), &["tokenizer.ggml.merges", "vocabulary"]);
    }
}

#[test]
fn some_bytes_but_not_all() {
    let tokens = strings(&["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"]);
    refused(small_spm(), "tokens", Some(tokens), &["tokenizer.ggml.tokens", "1 of the 256 bytes"]);
}

#[test]
fn a_piece_as_long_as_a_book() {
    let long = "a".repeat(100_000);
    let tokens = strings(&["<unk>", "<s>", "</s>", "▁", "a", "b", &long]);
    refused(small_spm(), "tokens", Some(tokens), &["tokenizer.ggml.tokens", "6", "longer"]);
}

#[test]
fn a_text_cannot_spell_a_control_token() {
    let mut metadata = small_spm();
    metadata.set("tokenizer.ggml.tokens", strings(&["<unk>", "<s>", "ab", "▁", "a", "b", "c"]));
    assert_eq!(encode(&from_metadata("m", &metadata).unwrap(), "ab"), [3, 4, 5]);
}

// Hugging Face files that llama.cpp cannot reproduce.

/// The edited `tokenizer.json` must be refused in one line that has all of `expected`.
#[track_caller]
fn unwritable(mut json: Json, edit: impl FnOnce(&mut Json), expected: &[&str]) -> Error {
    edit(&mut json);
    let error = to_metadata(json.to_string().as_bytes(), None, 512, SpecialIds::default()).err();
    let error = error.expect("this must be refused");
    let message = error.to_string();
    for part in ["tokenizer.json"].iter().chain(expected) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n') && message.len() < 300, "{message}");
    error
}

fn stories_json() -> Json {
    serde_json::from_slice(&stories().0).unwrap()
}

fn gpt_2_like() -> Json {
    serde_json::from_str(&from_metadata("m", &small_bpe()).unwrap().to_string(false).unwrap()).unwrap()
}

#[test]
fn another_algorithm() {
    let error = unwritable(
        stories_json(),
        |json| json["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}),
        &["Unigram"],
    );
    assert_eq!(error.kind(), "unsupported");
}

#[test]
fn not_a_tokenizer() {
    for json in [&b""[..], b"{}", b"[1]", b"{\"model\": {\"type\": \"BPE\"}}", b"\xff"] {
        let error = to_metadata(json, None, 512, SpecialIds::default()).unwrap_err();
        assert_eq!(error.kind(), "format", "{error}");
    }
    let (json, _) = stories();
    let error = to_metadata(&json, Some(b"{"), 512, SpecialIds::default()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json"), "{error}");
}

#[test]
fn a_pre_tokenizer_without_a_name() {
    let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let error = unwritable(
        gpt_2_like(),
        |json| json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split, bytes]}),
        &["pre-tokenizer has no name"],
    );
    assert_eq!(error.kind(), "unsupported");
    unwritable(
        gpt_2_like(),
        |json| json["pre_tokenizer"]["add_prefix_space"] = json!(true),
        &["pre-tokenizer has no name"],
    );
    unwritable(gpt_2_like(), |json| json["model"]["ignore_merges"] = json!(true), &["no name"]);
    unwritable(stories_json(), |json| json["pre_tokenizer"] = json!({"type": "Whitespace"}), &["neither"]);
}

#[test]
fn a_normalizer_that_llama_cpp_lacks() {
    unwritable(gpt_2_like(), |json| json["normalizer"] = json!({"type": "Lowercase"}), &["normalizer"]);
    unwritable(stories_json(), |json| json["normalizer"] = json!({"type": "NFKC"}), &["normalizer"]);
    let mut composing = gpt_2_like();
    composing["normalizer"] = json!({"type": "NFC"});
    to_metadata(composing.to_string().as_bytes(), None, 4, SpecialIds::default()).unwrap();
}

#[test]
fn merges_without_scores() {
    // A missing split: llama.cpp would merge what this tokenizer does not.
    let drop_last = |json: &mut Json| drop(json["model"]["merges"].as_array_mut().unwrap().pop());
    let error = unwritable(stories_json(), drop_last, &["merges do not follow from scores"]);
    assert_eq!(error.kind(), "unsupported");
    // "▁the" has two splits, which are neighbours; one of them behind everything else is an order that no
    // scores give.
    let move_one = |json: &mut Json| {
        let merges = json["model"]["merges"].as_array_mut().unwrap();
        assert_eq!(merges[7], "▁th e");
        merges[7..].rotate_left(1);
    };
    unwritable(stories_json(), move_one, &["merges do not follow from scores"]);
}

#[test]
fn more_tokens_than_the_model_has() {
    let (json, _) = stories();
    let error = to_metadata(&json, None, 511, SpecialIds::default()).unwrap_err();
    assert_eq!(error.kind(), "format");
    assert!(error.to_string().contains("511"), "{error}");
    let special = SpecialIds { bos: Some(512), eos: None };
    let error = to_metadata(&json, None, 512, special).unwrap_err().to_string();
    assert!(error.contains("512"), "{error}");
}

#[test]
fn merges_with_spaces() {
    let edit = |json: &mut Json| {
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        vocab.extend([("c d".to_owned(), json!(4)), ("ac d".to_owned(), json!(5))]);
        json["model"]["merges"] = json!([["a", "c d"]]);
    };
    unwritable(gpt_2_like(), edit, &["merges have spaces"]);
}

#[test]
fn two_tokens_with_one_id() {
    unwritable(stories_json(), |json| json["model"]["vocab"]["new"] = json!(300), &["are both 300"]);
    unwritable(stories_json(), |json| json["model"]["merges"][0] = json!("x yz"), &["names no token"]);
}
