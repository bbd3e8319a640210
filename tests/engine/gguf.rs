//! GGUF files as models, in and out: what they hold, what they give, and each way they can lie.

use laminate::format::Container;
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, decode, encode};
use laminate::format::gguf::{Header, Metadata, OutputTensor, Value, header_bytes, parse_header};
use laminate::internals::forward::sequences::Sequences;
use laminate::{
    CalibrationOptions, Error, FileType, MergePlan, Model, Session, Silent, WriteOptions, evaluate,
};

use crate::common::{Files, MemoryFolder, cpu, data, files, json, open_files, remove, run};

const SPLIT: [&str; 3] = [
    "stories260K-F16-split-00001-of-00003.gguf",
    "stories260K-F16-split-00002-of-00003.gguf",
    "stories260K-F16-split-00003-of-00003.gguf",
];

fn gguf(names: &[&str]) -> Files {
    let read =
        |name: &&str| ((*name).to_owned(), std::fs::read(data(&format!("models/gguf/{name}"))).unwrap());
    names.iter().map(read).collect()
}

fn open(name: &str) -> Model {
    open_files(&gguf(&[name])).unwrap()
}

fn header(bytes: &[u8]) -> Header {
    parse_header("test.gguf", bytes, bytes.len() as u64).unwrap().unwrap()
}

fn perplexity(model: &Model) -> f64 {
    run(evaluate(model, None, &cpu(), &CalibrationOptions::default().text_options(), &Silent))
        .unwrap()
        .perplexity
}

/// Values of every tensor of a set of GGUF files by name.
fn values(files: &Files) -> std::collections::BTreeMap<String, (Element, Vec<u8>)> {
    let mut all = std::collections::BTreeMap::new();
    for bytes in files.values() {
        for tensor in header(bytes).tensors {
            let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
            all.insert(tensor.name, (tensor.element, data.to_vec()));
        }
    }
    all
}

fn compress(files: &Files, plan: &MergePlan, options: WriteOptions) -> Files {
    let mut session = Session::new(open_files(files).unwrap(), cpu());
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    let folder = MemoryFolder::default();
    run(session.write(plan, &options, &mut folder.clone(), &Silent)).unwrap();
    let state = folder.state.borrow();
    assert!(state.committed);
    state.files.clone()
}

fn unmerged(n_layers: usize) -> MergePlan {
    MergePlan::from_merges(n_layers, &[]).unwrap()
}

// In.

#[test]
fn each_type_of_file_gives_nearly_the_perplexity_of_the_original() {
    let original = json("golden/stories260K.json")["perplexity"].as_f64().unwrap();
    let cases = [("F16", 1e-3), ("Q8_0", 5e-3), ("Q4_K_M", 0.05), ("Q4_0", 0.15)]
        .map(|(t, e)| (format!("stories260K-{t}.gguf"), e));
    for (name, tolerance) in cases {
        let model = open(&name);
        assert_eq!((model.config.n_layers, model.config.vocab_size, model.config.tied_head), (5, 512, true));
        let ours = perplexity(&model);
        assert!((ours / original - 1.0).abs() < tolerance, "{name}: {ours} for {original}");
    }
}

#[test]
fn the_tokenizer_in_the_file_is_the_one_beside_the_original() {
    let (ours, theirs) = (open("stories260K-F16.gguf"), crate::common::open("stories260K"));
    let text = laminate::demo::TEXT;
    assert_eq!(ours.tokenizer.encode(text).unwrap(), theirs.tokenizer.encode(text).unwrap());
    let ids = theirs.tokenizer.encode("Once upon a time").unwrap();
    assert_eq!(ours.tokenizer.decode(&ids).trim(), "Once upon a time");
}

#[test]
fn a_split_model_is_the_same_model() {
    let (one, three) = (open("stories260K-F16.gguf"), open_files(&gguf(&SPLIT)).unwrap());
    assert_eq!(three.shards.len(), 3);
    assert_eq!(one.total_bytes(), three.total_bytes());
    let ids: Vec<u32> = one.tokenizer.encode(laminate::demo::TEXT).unwrap();
    let sequences = Sequences::cut(&one.config, &ids, 4, 16).unwrap();
    assert_eq!(Sequences::cut(&three.config, &ids, 4, 16).unwrap(), sequences);
    assert_eq!(values(&gguf(&SPLIT)), values(&gguf(&["stories260K-F16.gguf"])));
    let options = CalibrationOptions { samples: 20, ..CalibrationOptions::default() };
    let score = |model: &Model| {
        run(evaluate(model, None, &cpu(), &options.text_options(), &Silent)).unwrap().perplexity
    };
    assert_eq!(score(&one), score(&three));
}

#[test]
fn any_shard_on_disk_opens_the_set() {
    for name in SPLIT {
        let sources = laminate::files::source::open_path(&data(&format!("models/gguf/{name}"))).unwrap();
        assert_eq!(run(Model::open("m", &sources)).unwrap().shards.len(), 3);
    }
    let single = laminate::files::source::open_path(&data("models/gguf/stories260K-Q8_0.gguf")).unwrap();
    assert_eq!(run(Model::open("m", &single)).unwrap().shards.len(), 1);
}

#[test]
fn a_model_without_its_embedding_is_refused_by_the_name_of_the_tensor() {
    let mut files = gguf(&["stories260K-F16.gguf"]);
    let bytes = files.values_mut().next().unwrap();
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at..at + name.len()].copy_from_slice(b"rope_freqs.weight");
    let error = open_files(&files).err().unwrap().to_string();
    assert!(error.contains("tensor token_embd.weight is in none of the weight files"), "{error}");
}

/// stories260K in F16 with other metadata and tensors. Each tensor is its name, type, shape and bytes.
type Parts = Vec<(String, Element, Vec<u64>, Vec<u8>)>;

fn edited(edit: impl FnOnce(&mut Metadata, &mut Parts)) -> Files {
    let bytes = gguf(&["stories260K-F16.gguf"]).remove("stories260K-F16.gguf").unwrap();
    let Header { mut metadata, tensors, .. } = header(&bytes);
    let part = |t: laminate::format::gguf::TensorInfo| {
        let data = bytes[t.offset as usize..][..t.bytes as usize].to_vec();
        (t.name, t.element, t.shape, data)
    };
    let mut parts: Parts = tensors.into_iter().map(part).collect();
    edit(&mut metadata, &mut parts);
    let output = |(name, element, shape, data): &(String, Element, Vec<u64>, Vec<u8>)| OutputTensor {
        name: name.clone(),
        element: *element,
        shape: shape.clone(),
        bytes: data.len() as u64,
    };
    let mut file = header_bytes(&metadata, &parts.iter().map(output).collect::<Vec<_>>());
    for (.., data) in &parts {
        file.extend(data);
        file.resize(file.len().next_multiple_of(32), 0);
    }
    Files::from([("edited.gguf".to_owned(), file)])
}

fn with(entries: &[(&str, Value)]) -> Files {
    edited(|metadata, _| entries.iter().for_each(|(key, value)| metadata.set(key, value.clone())))
}

fn divisors(values: &[f32]) -> (String, Element, Vec<u64>, Vec<u8>) {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    ("rope_freqs.weight".to_owned(), Element::F32, vec![values.len() as u64], bytes)
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Perplexity on 16 sequences of 64 tokens, for which llama.cpp's numbers are known.
fn llama_cpp_perplexity(files: &Files) -> f64 {
    let options = CalibrationOptions { samples: 16, tokens: 64, ..CalibrationOptions::default() };
    let model = open_files(files).unwrap();
    run(evaluate(&model, None, &cpu(), &options.text_options(), &Silent)).unwrap().perplexity
}

#[track_caller]
fn as_in_llama_cpp(files: &Files, theirs: f64) {
    let ours = llama_cpp_perplexity(files);
    // llama.cpp attends to keys and values in F16.
    assert!((ours / theirs - 1.0).abs() < 1e-3, "{ours} where llama.cpp has {theirs}");
}

#[test]
fn rotary_scaling_is_that_of_llama_cpp() {
    let (kind, factor) = ("llama.rope.scaling.type", "llama.rope.scaling.factor");
    as_in_llama_cpp(&with(&[]), 8.2310);
    as_in_llama_cpp(&with(&[(kind, text("none")), (factor, Value::F32(4.0))]), 8.2310);
    let both = |n: f32| {
        edited(|metadata, parts| {
            metadata.set(kind, text("linear"));
            metadata.set(factor, Value::F32(n));
            parts.push(divisors(&[1.0, 1.5, 2.0, 8.0]));
        })
    };
    as_in_llama_cpp(&both(2.0), 38.934);
    // What is written has key and divisors again.
    let written = compress(&both(2.0), &unmerged(5), WriteOptions::default());
    assert!((llama_cpp_perplexity(&written) / llama_cpp_perplexity(&both(2.0)) - 1.0).abs() < 1e-9);
    let written = compress(
        &with(&[(kind, text("none")), (factor, Value::F32(4.0))]),
        &unmerged(5),
        WriteOptions::default(),
    );
    as_in_llama_cpp(&written, 8.2310);
}

#[test]
fn special_ids_outside_the_vocabulary_are_those_that_llama_cpp_takes() {
    let key = |name: &str| format!("tokenizer.ggml.{name}_token_id");
    for (name, id) in [("eos", 32_000), ("padding", 100_000), ("unknown", 512), ("bos", 100_000)] {
        as_in_llama_cpp(&with(&[(&key(name), Value::U32(id))]), 8.2310);
    }
    // The ids travel as they are, and a directory has SentencePiece's own.
    let foreign = with(&[(&key("bos"), Value::U32(100_000)), (&key("eos"), Value::U32(100_000))]);
    let options = WriteOptions { container: Some(Container::Safetensors), ..WriteOptions::default() };
    let folder = compress(&foreign, &unmerged(5), options);
    let config: serde_json::Value = serde_json::from_slice(&folder["config.json"]).unwrap();
    assert_eq!([&config["bos_token_id"], &config["eos_token_id"]], [1, 2]);
    refused(&with(&[(&key("eos"), text("</s>"))]), &["eos_token_id", "not the number of a token"]);
}

#[test]
fn queries_keys_and_values_in_one_tensor_are_parted() {
    let joined = edited(|_, parts| {
        for layer in 0..5 {
            let name = |part: &str| format!("blk.{layer}.attn_{part}.weight");
            let mut rows = (0, Vec::new());
            for part in ["q", "k", "v"] {
                let at = parts.iter().position(|(each, ..)| *each == name(part)).unwrap();
                let (_, _, shape, data) = parts.remove(at);
                rows = (rows.0 + shape[0], [rows.1, data].concat());
            }
            parts.push((name("qkv"), Element::F16, vec![rows.0, 64], rows.1));
        }
    });
    as_in_llama_cpp(&joined, 8.2310);
    let written = compress(&joined, &unmerged(5), WriteOptions::default());
    assert_eq!(values(&written), values(&gguf(&["stories260K-F16.gguf"])));
    let wrong = edited(|_, parts| {
        let at = parts.iter().position(|(name, ..)| name == "blk.1.attn_q.weight").unwrap();
        parts[at].0 = "blk.1.attn_qkv.weight".into();
    });
    refused(
        &wrong,
        &["edited.gguf", "blk.1.attn_qkv.weight", "[64, 64]", "the configuration demands [128, 64]"],
    );
}

#[test]
fn metadata_that_nobody_reads_need_not_be_text() {
    let latin = Value::Bytes(vec![0xff, 0xfe, 0xe9, 0x80]);
    let files = with(&[("general.author", latin.clone())]);
    as_in_llama_cpp(&files, 8.2310);
    let written = compress(&files, &unmerged(5), WriteOptions::default());
    assert_eq!(header(written.values().next().unwrap()).metadata.get("general.author"), Some(&latin));
    for key in
        ["general.architecture", "llama.rope.scaling.type", "tokenizer.ggml.model", "tokenizer.chat_template"]
    {
        refused(&with(&[(key, latin.clone())]), &["edited.gguf", key, "not UTF-8 text"]);
    }
    let bytes = small(|m, _| m.set("general.author", text("x")));
    lie(&patched(bytes, b"general.author", 0, &[0xe9]), "a metadata key is not UTF-8 text");
}

#[test]
fn the_architecture_is_judged_before_any_tensor() {
    // The tensors are those of the architectures, which no Llama has, or of types that are not read.
    let foreign = |architecture: &str, tensor: &str| {
        let (architecture, tensor) = (text(architecture), tensor.to_owned());
        edited(move |metadata, parts| {
            metadata.set("general.architecture", architecture);
            parts[0].0 = tensor;
        })
    };
    for (architecture, tensor) in [
        ("bert", "blk.0.attn_output_norm.weight"),
        ("falcon", "blk.0.attn_qkv.weight"),
        ("rwkv7", "blk.0.time_mix_w0.weight"),
        ("clip", "v.patch_embd.weight"),
    ] {
        let expected = format!("architecture {architecture} is not supported; Llama, Mistral, ");
        refused(&foreign(architecture, tensor), &["edited.gguf: ", &expected]);
    }
    let mut odd = foreign("bert", "blk.0.x");
    let bytes = odd.get_mut("edited.gguf").unwrap();
    // Name, number of dimensions and dimensions come before the type, which becomes IQ1_S.
    let name = b"blk.0.x";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let n_dimensions = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let at = at + 4 + 8 * n_dimensions;
    bytes[at..at + 4].copy_from_slice(&19u32.to_le_bytes());
    refused(&odd, &["architecture bert is not supported"]);

    let experts = with(&[("llama.expert_count", Value::U32(8))]);
    refused(&experts, &["llama.expert_used_count is missing"]);
    refused(&with(&[("general.type", text("adapter"))]), &["general.type is adapter", "whole model"]);
    refused(
        &edited(|metadata, _| metadata.remove("general.architecture")),
        &["general.architecture is missing"],
    );
}

#[test]
fn rotary_divisors_that_cannot_be_are_named() {
    let of = |values: &[f32]| {
        let tensor = divisors(values);
        edited(|_, parts| parts.push(tensor))
    };
    refused(&of(&[1.0, 0.0, 1.0, 1.0]), &["edited.gguf", "rotary divisors hold 0, which is not a positive"]);
    refused(&of(&[1.0; 3]), &["rope_freqs.weight has shape [3]"]);
    refused(&of(&[1.0; 1 << 17]), &["rope_freqs.weight has 131072 values"]);
    let base = |x: f32| with(&[("llama.rope.freq_base", Value::F32(x))]);
    refused(&base(0.0), &["llama.rope.freq_base is 0, not a positive number"]);
    refused(&base(-1.0), &["llama.rope.freq_base is -1, not a positive number"]);
}

// Out.

#[test]
fn untouched_tensors_are_byte_identical_and_merged_ones_are_the_weighted_sum() {
    for name in ["stories260K-Q4_0.gguf", "stories260K-Q4_K_M.gguf", "stories260K-F16.gguf"] {
        let plan = MergePlan::from_merges(5, &[([1, 2], 0.75)]).unwrap();
        let source = gguf(&[name]);
        let written =
            compress(&source, &plan, WriteOptions { name: Some("x".into()), ..WriteOptions::default() });
        assert_eq!(written.keys().collect::<Vec<_>>(), ["x.gguf"]);
        let (before, after) = (values(&source), values(&written));
        let rests: Vec<&str> = before.keys().filter_map(|n| n.strip_prefix("blk.0.")).collect();
        assert_eq!((rests.len(), after.len()), (9, before.len() - 9));
        for rest in rests {
            for (new, old) in [(0, 0), (2, 3), (3, 4)] {
                assert_eq!(
                    after[&format!("blk.{new}.{rest}")],
                    before[&format!("blk.{old}.{rest}")],
                    "{rest}"
                );
            }
            let tensor = |files: &std::collections::BTreeMap<String, (Element, Vec<u8>)>, layer: usize| {
                let (element, bytes) = &files[&format!("blk.{layer}.{rest}")];
                (*element, decode(rest, *element, bytes).unwrap())
            };
            let ((element, merged), (a, first), (b, second)) =
                (tensor(&after, 1), tensor(&before, 1), tensor(&before, 2));
            assert_eq!(element, a.wider(b), "{name} {rest}");
            let largest = first.iter().chain(&second).fold(0.0f32, |m, x| m.max(x.abs()));
            // A step of the coarsest type here is an eighth of the largest value.
            let tolerance = if matches!(element, Element::Block(_)) { largest / 8.0 } else { largest * 1e-3 };
            for (i, ours) in merged.iter().enumerate() {
                let expected = 0.75 * first[i] + 0.25 * second[i];
                assert!((ours - expected).abs() <= tolerance, "{name} {rest}[{i}]: {ours} {expected}");
            }
        }
        for name in ["token_embd.weight", "output_norm.weight"] {
            assert_eq!(after[name], before[name]);
        }
    }
}

#[test]
fn metadata_is_kept_and_only_what_changed_is_rewritten() {
    let source = gguf(&["stories260K-Q8_0.gguf"]);
    let plan = MergePlan::from_merges(5, &[([1, 2], 0.5)]).unwrap();
    let written = compress(&source, &plan, WriteOptions::default());
    let before = header(source.values().next().unwrap()).metadata;
    let after = header(written.values().next().unwrap()).metadata;
    assert_eq!(after.get("llama.block_count"), Some(&Value::U32(4)));
    for (key, value) in &before.entries {
        if key != "llama.block_count" {
            assert_eq!(after.get(key), Some(value), "{key}");
        }
    }
    let recipe: laminate::protocol::plan::Recipe =
        serde_json::from_str(after.get("laminate.recipe").unwrap().as_str().unwrap()).unwrap();
    assert_eq!(recipe.plan, plan);
}

#[test]
fn a_split_result_is_read_back_with_every_tensor() {
    let source = gguf(&["stories260K-F16.gguf"]);
    let options =
        WriteOptions { max_shard_bytes: 120_000, name: Some("s".into()), ..WriteOptions::default() };
    let written = compress(&source, &unmerged(5), options);
    assert!(written.len() > 4, "{:?}", written.keys());
    assert!(written.contains_key(&format!("s-00001-of-{:05}.gguf", written.len())));
    assert_eq!(values(&written), values(&source));
    for (place, bytes) in written.values().enumerate() {
        let header = header(bytes);
        assert_eq!(header.split.unwrap().number, place as u64);
        assert_eq!(header.metadata.get("general.architecture").is_some(), place == 0);
    }
}

#[test]
fn there_and_back_again_between_both_kinds_of_file() {
    for name in
        ["stories260K", "variants/rope-llama3", "variants/multi-head-biases", "variants/multi-query-untied"]
    {
        let source = files(name);
        let n_layers = open_files(&source).unwrap().config.n_layers;
        let to = |container| WriteOptions { container: Some(container), ..WriteOptions::default() };
        let as_gguf = compress(&source, &unmerged(n_layers), to(Container::Gguf));
        let model = open_files(&as_gguf).unwrap();
        let options = CalibrationOptions { samples: 30, tokens: 24, ..CalibrationOptions::default() };
        let score = |model: &Model| {
            run(evaluate(model, None, &cpu(), &options.text_options(), &Silent)).unwrap().perplexity
        };
        let (ours, theirs) = (score(&model), score(&open_files(&source).unwrap()));
        assert!((ours / theirs - 1.0).abs() < 1e-6, "{name}: {ours} {theirs}");

        let back = compress(&as_gguf, &unmerged(n_layers), to(Container::Safetensors));
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "recipe.json", "README.md"] {
            assert!(back.contains_key(file), "{name}: {file}");
        }
        // Norms are F32 in GGUF files whatever they were: the values are the same, the bytes need not be.
        let tensors = |files: &Files| {
            let file = safetensors::SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
            let of = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
                let element: Element = format!("{:?}", view.dtype()).parse().unwrap();
                let values = decode(&name, element, view.data()).unwrap();
                (name, values)
            };
            file.tensors().into_iter().map(of).collect::<std::collections::BTreeMap<_, _>>()
        };
        let (before, after) = (tensors(&source), tensors(&back));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (tensor, values) in &before {
            assert!(&after[tensor] == values, "{name}: {tensor}");
        }
    }
}

/// Returns the ratio of perplexities that a model so small stays below in a type.
fn most_lost(element: Element) -> f64 {
    match element {
        // Two bits without importances are too few for stories260K.
        Element::Block(BlockType::Q2K) => 12.0,
        Element::Block(BlockType::Q3K) => 2.0,
        Element::Block(BlockType::Mxfp4) => 1.3,
        _ => 1.15,
    }
}

#[test]
fn every_type_that_can_be_written_is_and_measures_as_it_was_planned() {
    let original = json("golden/stories260K.json")["perplexity"].as_f64().unwrap();
    for dtype in
        BlockType::ALL.map(Element::Block).into_iter().chain([Element::F32, Element::F16, Element::Bf16])
    {
        let source = gguf(&["stories260K-F16.gguf"]);
        let written = compress(
            &source,
            &unmerged(5),
            WriteOptions { dtype: Some(dtype.into()), ..WriteOptions::default() },
        );
        let stored = values(&written);
        assert!(stored.iter().all(|(name, (element, _))| !name.contains("norm") || *element == Element::F32));
        let ours = perplexity(&open_files(&written).unwrap());
        assert!(ours / original < most_lost(dtype), "{dtype}: {ours} for {original}");
    }
}

/// A model of stories260K's values with rows of 256 weights: the stream and the neurons have zeros beside
/// them, and the norms half their gains, because the mean square is then over four times as many numbers.
fn widened() -> Files {
    let mut source = files("stories260K");
    let narrow = source["model.safetensors"].clone();
    let narrow = safetensors::SafeTensors::deserialize(&narrow).unwrap();
    let wide = |n: usize| if [64, 172].contains(&n) { 256 } else { n };
    let mut tensors = Vec::new();
    for (name, view) in narrow.tensors() {
        let element: Element = format!("{:?}", view.dtype()).parse().unwrap();
        let values = decode(&name, element, view.data()).unwrap();
        let shape = view.shape();
        let is_projection = |end: &str| name.ends_with(&format!("{end}.weight"));
        // The queries' and the heads' outputs are 64 numbers that stay.
        let rows = if is_projection("q_proj") || shape.len() < 2 { 1.max(shape[0]) } else { wide(shape[0]) };
        let (bytes, shape) = if let [_, columns] = *shape {
            let width = if is_projection("o_proj") { columns } else { wide(columns) };
            let mut wider = vec![0f32; rows * width];
            for (to, from) in wider.chunks_mut(width).zip(values.chunks(columns)) {
                to[..columns].copy_from_slice(from);
            }
            (encode(Element::F32, &wider).unwrap(), vec![rows, width])
        } else {
            let mut wider: Vec<f32> = values.iter().map(|x| x / 2.0).collect();
            wider.resize(256, 0.0);
            (encode(Element::F32, &wider).unwrap(), vec![256])
        };
        tensors.push((name, shape, bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    source.insert("model.safetensors".to_owned(), safetensors::serialize(views, None).unwrap());
    let config = String::from_utf8(source["config.json"].clone()).unwrap();
    let config = config.replace("\"hidden_size\": 64", "\"hidden_size\": 256");
    let config = config.replace("\"intermediate_size\": 172", "\"intermediate_size\": 256");
    let config = config.replace("1e-05", "2.5e-06");
    source.insert("config.json".to_owned(), config.into_bytes());
    source
}

#[test]
fn rows_of_whole_blocks_are_written_in_every_type_and_read_again() {
    let source = widened();
    let original = perplexity(&open_files(&source).unwrap());
    let known = json("golden/stories260K.json")["perplexity"].as_f64().unwrap();
    assert!((original / known - 1.0).abs() < 1e-3, "{original} {known}");
    let to = |dtype| WriteOptions {
        container: Some(Container::Gguf),
        dtype,
        importances: false,
        ..WriteOptions::default()
    };
    let exact = values(&compress(&source, &unmerged(5), to(Some(Element::F32.into()))));
    // llama.cpp's file type of this name has some matrices in another type.
    let wider = |kind| Element::Block(if kind == BlockType::Q2K { BlockType::Q3K } else { kind });
    for kind in BlockType::ALL {
        let written = compress(&source, &unmerged(5), to(Some(FileType::of(Element::Block(kind)))));
        for (name, (element, bytes)) in values(&written) {
            let values = decode(&name, Element::F32, &exact[&name].1).unwrap();
            let expected = match name.as_str() {
                _ if name.contains("norm") => Element::F32,
                // The head, whose embedding it shares.
                "token_embd.weight" => Element::Block(kind.wider(BlockType::Q6K)),
                _ if name.contains("attn_output") => wider(kind).fitting(64),
                _ if name.contains("attn_v") || name.contains("ffn_down") => wider(kind),
                _ => Element::Block(kind),
            };
            assert_eq!(element, expected, "{kind}: {name}");
            assert!(bytes == encode(expected, &values).unwrap(), "{kind}: {name}");
        }
        let ratio = perplexity(&open_files(&written).unwrap()) / original;
        assert!(ratio < most_lost(Element::Block(kind)), "{kind}: {ratio}");
    }
}

#[test]
fn a_plan_in_another_type_is_measured_in_that_type() {
    let mut session = Session::new(open("stories260K-F16.gguf"), cpu());
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    let options =
        WriteOptions { dtype: Some(Element::Block(BlockType::Q4_0).into()), ..WriteOptions::default() };
    let planned = run(session.plan(&remove(1), &options, &Silent)).unwrap();
    let folder = MemoryFolder::default();
    run(session.write(&planned.plan, &options, &mut folder.clone(), &Silent)).unwrap();
    let written = open_files(&folder.state.borrow().files).unwrap();
    let measured = perplexity(&written);
    assert!((measured / planned.merged.perplexity - 1.0).abs() < 1e-5, "{measured} {:?}", planned.merged);
}

// Lies.

#[track_caller]
fn refused(files: &Files, expected: &[&str]) -> Error {
    let error = open_files(files).err().expect("this must be refused");
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n') && message.len() < 500, "{message}");
    error
}

#[test]
fn a_missing_a_foreign_and_a_doubled_shard_are_named() {
    refused(&gguf(&[SPLIT[0], SPLIT[2]]), &["split-00002-of-00003.gguf is missing", "2 of 3"]);
    refused(&gguf(&[SPLIT[1], SPLIT[2]]), &["split-00001-of-00003.gguf is missing"]);
    refused(&gguf(&["stories260K-F16.gguf", "stories260K-Q8_0.gguf"]), &["different models"]);
    let mut doubled = gguf(&SPLIT);
    doubled.insert(SPLIT[2].into(), doubled[SPLIT[1]].clone());
    refused(&doubled, &["part 2", "twice"]);
    let mut whole = gguf(&SPLIT);
    whole.insert(SPLIT[2].into(), gguf(&["stories260K-F16.gguf"]).remove("stories260K-F16.gguf").unwrap());
    refused(&whole, &["whole model"]);
}

#[test]
fn a_truncated_file_is_named_wherever_it_ends() {
    let whole = gguf(&["stories260K-Q8_0.gguf"]).remove("stories260K-Q8_0.gguf").unwrap();
    for keep in [0, 3, 4, 8, 20, 30, 500, 9000, whole.len() - 5000] {
        let files = Files::from([("cut.gguf".to_owned(), whole[..keep].to_vec())]);
        let error = refused(&files, &["cut.gguf"]);
        assert!(matches!(error, Error::Format(_)), "{error:?}");
    }
}

/// A file of two tensors, changed before it is written.
fn small(edit: impl FnOnce(&mut Metadata, &mut Vec<OutputTensor>)) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    let tensor =
        |name: &str| OutputTensor { name: name.into(), element: Element::F32, shape: vec![2, 4], bytes: 32 };
    let mut tensors = vec![tensor("a"), tensor("b")];
    edit(&mut metadata, &mut tensors);
    let mut bytes = header_bytes(&metadata, &tensors);
    bytes.resize(bytes.len() + 64, 0);
    bytes
}

#[track_caller]
fn lie(bytes: &[u8], expected: &str) {
    let message =
        parse_header("lie.gguf", bytes, bytes.len() as u64).expect_err("must be refused").to_string();
    assert!(message.starts_with("lie.gguf: ") && message.contains(expected), "{message}");
}

/// Overwrites the first place where `find` stands.
fn patched(mut bytes: Vec<u8>, find: &[u8], offset: usize, with: &[u8]) -> Vec<u8> {
    let at = bytes.windows(find.len()).position(|w| w == find).unwrap() + offset;
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn a_header_that_is_right_is_read_from_any_prefix_that_holds_it() {
    let bytes = small(|_, _| {});
    let whole = header(&bytes);
    assert_eq!(whole.tensors.len(), 2);
    for keep in 0..bytes.len() {
        match parse_header("f", &bytes[..keep], bytes.len() as u64).unwrap() {
            Some(header) => assert_eq!(header, whole, "{keep}"),
            None => assert!(keep < bytes.len() - 64, "{keep}"),
        }
    }
}

/// A header of `metadata` alone, with a list of `n` items of `kind`, each of `size` zero bytes.
fn long_list(kind: u32, n: u64, size: u64) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(4u64.to_le_bytes());
    bytes.extend(b"list");
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(n.to_le_bytes());
    bytes.resize(bytes.len() + (n * size) as usize, 0);
    bytes
}

#[test]
fn a_header_that_would_fill_the_memory_is_refused() {
    let limit = laminate::format::gguf::MAX_HEADER_MEMORY;
    let item = size_of::<Value>() as u64;
    // Bytes, and empty strings.
    for (kind, size) in [(0, 1), (8, 8)] {
        let n = limit / item + 1;
        let bytes = long_list(kind, n, size);
        let error = parse_header("big.gguf", &bytes, bytes.len() as u64).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains("big.gguf: up to metadata key list") && message.contains("512 MB"),
            "{message}"
        );
        // A front that ends within the list asks for more bytes and reserves nothing.
        assert_eq!(parse_header("big.gguf", &bytes[..1 << 20], bytes.len() as u64).unwrap(), None);
    }
    // A list that is long, and longer than any vocabulary, is read.
    let bytes = long_list(0, 1 << 20, 1);
    let read = header(&bytes);
    assert_eq!(read.metadata.get("list").unwrap().as_array().unwrap().len(), 1 << 20);
}

#[test]
fn wrong_magic_and_versions() {
    lie(b"GGML\0\0\0\0....................", "not a GGUF file");
    lie(&patched(small(|_, _| {}), b"GGUF", 4, &1u32.to_le_bytes()), "version 1");
    lie(&patched(small(|_, _| {}), b"GGUF", 4, &3u32.to_be_bytes()), "big-endian");
}

#[test]
fn counts_beyond_the_file() {
    lie(&patched(small(|_, _| {}), b"GGUF", 8, &u64::MAX.to_le_bytes()), "list of tensors claims");
    lie(&patched(small(|_, _| {}), b"GGUF", 16, &(1u64 << 40).to_le_bytes()), "metadata claims");
}

#[test]
fn lengths_of_strings_and_lists_beyond_the_file() {
    let key = b"general.architecture";
    let before = |bytes: Vec<u8>| {
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap() - 8;
        (bytes, at)
    };
    let (mut bytes, at) = before(small(|_, _| {}));
    bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    lie(&bytes, "past the end");
    let bytes = small(|m, _| m.set("list", Value::strings(["xyzzy".to_owned()])));
    lie(&patched(bytes, b"list", 12, &(1u64 << 50).to_le_bytes()), "list claims");
}

#[test]
fn text_that_is_none_and_values_of_no_type() {
    let bytes = patched(small(|_, _| {}), b"llama", 0, &[0xff]);
    assert_eq!(
        header(&bytes).metadata.get("general.architecture"),
        Some(&Value::Bytes(b"\xfflama".to_vec()))
    );
    lie(&patched(small(|_, t| t[0].name = "name".into()), b"name", 0, &[0xff]), "not UTF-8");
    lie(&patched(small(|_, _| {}), b"architecture", 12, &77u32.to_le_bytes()), "type 77");
    let bytes = small(|m, _| m.set("flag", Value::Bool(true)));
    lie(&patched(bytes, b"flag", 8, &[7]), "neither true nor false");
}

#[test]
fn keys_and_tensors_that_occur_twice() {
    let bytes = small(|m, _| {
        m.set("key-1", Value::U8(1));
        m.set("key-2", Value::U8(1));
    });
    lie(&patched(bytes, b"key-2", 4, b"1"), "key-1 occurs twice");
    lie(&small(|_, t| t[1].name = "a".into()), "tensor a occurs twice");
}

#[test]
fn lists_in_lists_without_end() {
    let mut value = Value::U8(0);
    for _ in 0..40 {
        let of = value.kind();
        value = Value::Array(laminate::format::gguf::Array { of, items: vec![value] });
    }
    lie(&small(|m, _| m.set("deep", value)), "nests");
}

#[test]
fn an_alignment_that_is_none() {
    for alignment in [0, 3, 1 << 30] {
        let bytes = small(|m, _| m.set("general.alignment", Value::U32(32)));
        lie(&patched(bytes, b"alignment", 13, &u32::to_le_bytes(alignment)), "power of two");
    }
}

#[test]
fn dimensions_that_overflow_or_vanish_or_are_too_many() {
    lie(&small(|_, t| t[0].shape = vec![u64::MAX, u64::MAX]), "dimensions");
    lie(&small(|_, t| t[0].shape = vec![1 << 62, 1]), "impossibly large");
    lie(&small(|_, t| t[0].shape = vec![0, 4]), "dimensions");
    lie(&small(|_, t| t[0].shape = vec![1; 5]), "5 dimensions");
}

#[test]
fn offsets_that_overlap_leave_the_file_or_are_not_aligned() {
    // The name, its dimensions, its type and then its offset.
    let offset = 1 + 4 + 16 + 4;
    let place = [1, 0, 0, 0, 0, 0, 0, 0, b'b'];
    let with = |value: u64| patched(small(|_, _| {}), &place, 8 + offset, &value.to_le_bytes());
    lie(&with(0), "overlap");
    lie(&with(1 << 20), "past the end");
    lie(&with(u64::MAX - 31), "past the end");
    lie(&with(33), "multiple of 32");
}

#[test]
fn types_that_are_not_handled_are_refused_by_name() {
    let place = [1, 0, 0, 0, 0, 0, 0, 0, b'b'];
    let with = |id: u32| patched(small(|_, _| {}), &place, 8 + 1 + 4 + 16, &id.to_le_bytes());
    lie(&with(19), "IQ1_S");
    lie(&with(999), "number 999");
    lie(&with(12), "no whole blocks of Q4_K");
}

#[test]
fn a_scale_that_is_no_number_is_found_when_it_is_used() {
    let mut files = gguf(&["stories260K-Q8_0.gguf"]);
    let bytes = files.get_mut("stories260K-Q8_0.gguf").unwrap();
    let tensor = header(bytes).tensors.into_iter().find(|t| t.name == "blk.1.ffn_up.weight").unwrap();
    let at = tensor.offset as usize + 34 * 3;
    bytes[at..at + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let mut session = Session::new(open_files(&files).unwrap(), cpu());
    let error = run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("blk.1.ffn_up.weight") && message.contains("block 3"), "{message}");
}
