//! Benchmark: a model of exactly Llama-3-8B's shapes, quantised as Q4_K_M, with random weights.
//!
//! usage: cargo bench --bench scale -- FOLDER [LAYERS] [--split] [--hollow]
//!
//! Writes the model into FOLDER (4.9 GB for all 32 layers, kept for the next time) and runs the command line on
//! it: seconds and peak memory of each command. Fewer layers show that memory does not depend on depth. A file of
//! Llama-3-70B's shapes, which has holes where the weights would be, is opened and a run on it estimated. In a file of
//! Mixtral-8x7B's shapes (but for the vocabulary) only the experts are holes: tokens are routed through all layers.
//! `--hollow` stops after these.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use futures::executor::block_on;
use laminate::files::source::open_path;
use laminate::format::blocks::BlockType;
use laminate::format::element::Element;
use laminate::format::gguf::{
    Metadata, OutputTensor, Value, ValueType, header_bytes, padding, parse_header, split_metadata, split_name,
};
use laminate::protocol::text::PointRule;
use laminate::{Accelerator, CalibrationOptions, Model, Session};

const KEYS: u64 = 1024;
const VOCABULARY: u64 = 128_256;

/// What sizes differ.
#[derive(Clone, Copy)]
struct Shapes {
    hidden: u64,
    inner: u64,
    heads: u32,
    layers: u64,
    experts: u64,
}

const EIGHT: Shapes = Shapes { hidden: 4096, inner: 14336, heads: 32, layers: 32, experts: 0 };
const SEVENTY: Shapes = Shapes { hidden: 8192, inner: 28672, heads: 64, layers: 80, experts: 0 };
const MIXTRAL: Shapes = Shapes { experts: 8, ..EIGHT };

/// Beginning of the random numbers.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Data in a shard of a split model.
const SHARD_BYTES: u64 = 1 << 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(folder) = arguments.first().filter(|a| !a.starts_with("--")).map(PathBuf::from) else {
        println!("scale: give a folder with room for 10 GB");
        return;
    };
    let layers = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(EIGHT.layers);
    std::fs::create_dir_all(&folder).unwrap();
    let split = arguments.iter().any(|a| a == "--split");
    seventy(&folder);
    mixtral(&folder);
    if arguments.iter().any(|a| a == "--hollow") {
        return;
    }
    let model = generate(&folder, Shapes { layers, ..EIGHT }, split);
    laminate(&model, &["inspect"]);
    let few = ["--samples", "8", "--tokens", "16", "--device", "cpu"];
    let points = ["--points", "tokens:4"];
    laminate(&model, &[&["similarity"], &few[..], &points[..]].concat());
    let out = folder.join("merged.gguf");
    let _ = std::fs::remove_file(&out);
    let compress = ["compress", "--remove", "1", "--method", "mka", "--out", out.to_str().unwrap()];
    let compress = [&compress[..], &["--max-shard-size", "9GB"]].concat();
    laminate(&model, &[&compress[..], &few[..], &points[..]].concat());
    std::fs::remove_file(out).unwrap();
}

/// Opens a model of 70 billion parameters and estimates a run on it.
fn seventy(folder: &Path) {
    let path = folder.join("hollow-70b-Q4_K_M.gguf");
    let bytes = hollow(&path, SEVENTY, |_| true);
    laminate(&path, &["inspect"]);
    let start = Instant::now();
    let model = block_on(Model::open("70B", &open_path(&path).unwrap())).unwrap();
    let session = Session::new(model, Accelerator::cpu("benchmark"));
    let options = CalibrationOptions { samples: 8, tokens: 16, ..CalibrationOptions::default() };
    let options = CalibrationOptions { points: PointRule::Tokens(4), ..options };
    let estimate = block_on(session.estimate(&options)).unwrap();
    println!(
        "scale: 70B of {:.0} GB, estimate in {:.1} s: {:.0} MB and {:.0} s for the similarities",
        bytes as f64 / 1e9,
        start.elapsed().as_secs_f64(),
        estimate.peak_bytes as f64 / 1e6,
        estimate.seconds
    );
    std::fs::remove_file(path).unwrap();
}

/// Routes 64 tokens through a model with 8 experts in each of 32 layers.
fn mixtral(folder: &Path) {
    let path = folder.join("hollow-8x7b-Q4_K_M.gguf");
    let bytes = hollow(&path, MIXTRAL, |name| name.contains("_exps."));
    println!("scale: 8 x 7B of {:.1} GB", bytes as f64 / 1e9);
    laminate(&path, &["inspect"]);
    laminate(
        &path,
        &["similarity", "--samples", "4", "--tokens", "16", "--points", "tokens:8", "--device", "cpu"],
    );
    std::fs::remove_file(path).unwrap();
}

/// Writes a model that has holes in the place of the tensors for which `is_hole` holds, and returns its size in bytes.
fn hollow(path: &Path, shapes: Shapes, is_hole: impl Fn(&str) -> bool) -> u64 {
    let (metadata, tensors) = (metadata(shapes), tensors(shapes));
    let header = header_bytes(&metadata, &tensors);
    let mut file = BufWriter::with_capacity(1 << 22, File::create(path).unwrap());
    file.write_all(&header).unwrap();
    let mut random = SEED;
    let mut at = header.len() as u64;
    for tensor in &tensors {
        file.seek(SeekFrom::Start(at)).unwrap();
        if !is_hole(&tensor.name) {
            weights(&mut file, tensor, &mut random);
        }
        at += tensor.bytes + padding(&metadata, tensor.bytes);
    }
    file.into_inner().unwrap().set_len(at).unwrap();
    at
}

/// Runs the command line and says how long it took and what it needed.
fn laminate(model: &Path, arguments: &[&str]) {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_laminate"))
        .args(arguments)
        .arg("--json")
        .arg(model)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let peak =
        report["peak_memory_bytes"].as_f64().map_or(String::new(), |b| format!(", peak {:.0} MB", b / 1e6));
    println!("scale: {} {:.1} s{peak}", arguments[0], start.elapsed().as_secs_f64());
}

/// The tensors in the order of llama.cpp's files, `attn_v` and `ffn_down` of some layers in more bits.
fn tensors(Shapes { hidden, inner, layers: n_layers, experts, .. }: Shapes) -> Vec<OutputTensor> {
    let tensor = |name: String, element: Element, shape: Vec<u64>| {
        let bytes = element.bytes(shape.iter().product()).unwrap();
        OutputTensor { name, element, shape, bytes }
    };
    let [four, six] = [BlockType::Q4K, BlockType::Q6K].map(Element::Block);
    let mut all = vec![tensor("token_embd.weight".into(), four, vec![VOCABULARY, hidden])];
    for layer in 0..n_layers {
        let more =
            layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer.wrapping_sub(n_layers / 8)) % 3 == 2;
        let wide = if more { six } else { four };
        let mlp = match experts {
            0 => vec![
                ("ffn_down", wide, vec![hidden, inner]),
                ("ffn_gate", four, vec![inner, hidden]),
                ("ffn_up", four, vec![inner, hidden]),
            ],
            n => vec![
                ("ffn_gate_inp", Element::F32, vec![n, hidden]),
                ("ffn_down_exps", wide, vec![n, hidden, inner]),
                ("ffn_gate_exps", four, vec![n, inner, hidden]),
                ("ffn_up_exps", four, vec![n, inner, hidden]),
            ],
        };
        let others = [
            ("attn_norm", Element::F32, vec![hidden]),
            ("ffn_norm", Element::F32, vec![hidden]),
            ("attn_k", four, vec![KEYS, hidden]),
            ("attn_output", four, vec![hidden, hidden]),
            ("attn_q", four, vec![hidden, hidden]),
            ("attn_v", wide, vec![KEYS, hidden]),
        ];
        for (name, element, shape) in others.into_iter().chain(mlp) {
            all.push(tensor(format!("blk.{layer}.{name}.weight"), element, shape));
        }
    }
    all.push(tensor("output.weight".into(), six, vec![VOCABULARY, hidden]));
    all.push(tensor("output_norm.weight".into(), Element::F32, vec![hidden]));
    all
}

fn metadata(Shapes { hidden, inner, heads, layers, experts }: Shapes) -> Metadata {
    let mut metadata = vocabulary();
    let text = |s: &str| Value::String(s.to_owned());
    metadata.set("general.architecture", text("llama"));
    metadata.set("general.name", text("random weights"));
    for (key, n) in [
        ("block_count", layers),
        ("context_length", 8192),
        ("embedding_length", hidden),
        ("feed_forward_length", inner),
        ("attention.head_count", heads.into()),
        ("attention.head_count_kv", 8),
        ("rope.dimension_count", 128),
    ] {
        metadata.set(&format!("llama.{key}"), Value::U32(n as u32));
    }
    if experts > 0 {
        metadata.set("llama.expert_count", Value::U32(experts as u32));
        metadata.set("llama.expert_used_count", Value::U32(2));
    }
    metadata.set("llama.rope.freq_base", Value::F32(500_000.0));
    metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    metadata
}

/// Llama 3's vocabulary out of the test data; all tokens but the first 256 are `<n>` where it is not there.
fn vocabulary() -> Metadata {
    let packed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers/ggml-vocab-llama-bpe.gguf.gz");
    let mut bytes = Vec::new();
    let file = File::open(&packed).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut bytes).unwrap();
    let header = parse_header("vocabulary", &bytes, bytes.len() as u64).unwrap().unwrap();
    let entries = header.metadata.entries.into_iter().filter(|(key, value)| {
        key.starts_with("tokenizer.") && (value.kind() != ValueType::Array || !key.ends_with("scores"))
    });
    Metadata { entries: entries.collect() }
}

fn generate(folder: &Path, shapes: Shapes, split: bool) -> PathBuf {
    let (metadata, tensors) = (metadata(shapes), tensors(shapes));
    let stem = format!("random-8b-{}l-Q4_K_M", shapes.layers);
    let mut shards: Vec<Vec<OutputTensor>> = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in tensors.iter().cloned() {
        if split && bytes > SHARD_BYTES {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += tensor.bytes;
        shards.last_mut().unwrap().push(tensor);
    }
    let name = |i: usize| match shards.len() {
        1 => format!("{stem}.gguf"),
        n => split_name(&stem, i, n),
    };
    for (i, shard) in shards.iter().enumerate() {
        let own = match shards.len() {
            1 => metadata.clone(),
            n => split_metadata(&metadata, i as u16, n as u16, tensors.len() as i32),
        };
        let path = folder.join(name(i));
        if !path.exists() {
            write(&path, &own, shard);
        }
    }
    folder.join(name(0))
}

fn write(path: &Path, metadata: &Metadata, tensors: &[OutputTensor]) {
    let partial = path.with_extension("partial");
    let mut file = BufWriter::with_capacity(1 << 22, File::create(&partial).unwrap());
    file.write_all(&header_bytes(metadata, tensors)).unwrap();
    let mut random = SEED;
    for tensor in tensors {
        weights(&mut file, tensor, &mut random);
        file.write_all(&vec![0; padding(metadata, tensor.bytes) as usize]).unwrap();
    }
    file.flush().unwrap();
    drop(file);
    std::fs::rename(&partial, path).unwrap();
}

/// Writes random weights of a tensor; norms are 1.
fn weights(file: &mut impl Write, tensor: &OutputTensor, random: &mut u64) {
    match tensor.element {
        Element::Block(block) => {
            let mut left = tensor.bytes as usize / block.bytes();
            while left > 0 {
                let n = left.min(1 << 14);
                file.write_all(&blocks(block, n, random)).unwrap();
                left -= n;
            }
        }
        _ if tensor.name.contains("ffn_gate_inp") => {
            for _ in 0..tensor.bytes / 4 {
                let value = (next(random) % 2001) as f32 / 1e5 - 0.01;
                file.write_all(&value.to_le_bytes()).unwrap();
            }
        }
        _ => (0..tensor.bytes / 4).for_each(|_| file.write_all(&1.0f32.to_le_bytes()).unwrap()),
    }
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Random codes, with scales that give weights of mean zero and deviation 0.01.
fn blocks(block: BlockType, n: usize, random: &mut u64) -> Vec<u8> {
    let mut bytes = vec![0u8; n * block.bytes()];
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&next(random).to_le_bytes()[..word.len()]);
    }
    for each in bytes.chunks_exact_mut(block.bytes()) {
        match block {
            // d and dmin; all six-bit scales and minimums are 32; 15 codes around their mean.
            BlockType::Q4K => {
                let d = 0.01 / (32.0 * 4.61);
                each[..2].copy_from_slice(&half::f16::from_f32(d).to_le_bytes());
                each[2..4].copy_from_slice(&half::f16::from_f32(7.5 * d).to_le_bytes());
                each[4..12].fill(0xa0);
                each[12..16].fill(0);
            }
            // Scales of 16 codes are 16; d is last.
            BlockType::Q6K => {
                each[192..208].fill(16);
                each[208..].copy_from_slice(&half::f16::from_f32(0.01 / (16.0 * 18.5)).to_le_bytes());
            }
            other => panic!("{other} is not in Q4_K_M"),
        }
    }
    bytes
}
