//! Damaged files of both formats, at random: an error or a model, and never a panic. The seed of a case is in the
//! message where one fails.

use std::panic::AssertUnwindSafe;

use laminate::format::gguf;
use laminate::format::safetensors::{LENGTH_BYTES, header_length};
use laminate::protocol::plan::Recipe;
use laminate::{CalibrationOptions, Error, Method, Silent, TextOptions, WriteOptions};
use serde_json::{Value, json};

use crate::common::{Files, MemoryFolder, data, files, open_files, run, session};

/// Cases of a kind, unless `LAMINATE_FUZZ_CASES` says how many.
const CASES: u64 = 3000;

fn cases() -> u64 {
    std::env::var("LAMINATE_FUZZ_CASES")
        .map_or(CASES, |n| n.parse().expect("LAMINATE_FUZZ_CASES is no number"))
}

/// A hash of a counter (SplitMix64): the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A number that is likely to be taken for a length.
    fn length(&mut self) -> u64 {
        match self.below(6) {
            0 => self.next(),
            1 => self.next() % 300,
            2 => u64::MAX,
            3 => u64::from(u32::MAX),
            4 => 1 << 40,
            _ => u64::MAX - self.next() % 64,
        }
    }

    /// Damages one to three places of the first `front` bytes, where the headers are.
    fn damage(&mut self, bytes: &mut Vec<u8>, front: usize) {
        for _ in 0..=self.below(3) {
            let front = front.min(bytes.len());
            if front == 0 {
                return;
            }
            let at = self.below(front);
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(5) {
                0 => bytes[at] = self.next() as u8,
                1 => {
                    let word = self.length().to_le_bytes();
                    bytes[at..].iter_mut().zip(word).for_each(|(byte, new)| *byte = new);
                }
                2 => bytes.truncate(at),
                3 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => drop(bytes.drain(at..end)),
            }
        }
    }
}

/// Damages one file of a model in many ways and opens it each time.
fn damaged(model: &Files, name: &str, front: usize) {
    for seed in 0..cases() {
        let mut files = model.clone();
        Random(seed << 20).damage(files.get_mut(name).unwrap(), front);
        let opened = std::panic::catch_unwind(|| open(&files));
        assert!(opened.is_ok(), "{name} with seed {seed}");
    }
}

/// Opens what may be a model; an error is one line.
fn open(files: &Files) {
    if let Err(error) = open_files(files) {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn gguf_files() {
    let name = "stories260K-Q4_0.gguf";
    let bytes = std::fs::read(data(&format!("models/gguf/{name}"))).unwrap();
    let model = Files::from([(name.to_owned(), bytes)]);
    for front in [64, 1500, 24_000] {
        damaged(&model, name, front);
    }
}

/// Headers that are right but for values: other numbers, other types, bytes that are no text.
#[test]
fn metadata_of_gguf_files() {
    let name = "stories260K-Q4_0.gguf";
    let bytes = std::fs::read(data(&format!("models/gguf/{name}"))).unwrap();
    let header = gguf::parse_header(name, &bytes, bytes.len() as u64).unwrap().unwrap();
    let start = header.tensors.iter().map(|tensor| tensor.offset).min().unwrap();
    let output = |t: &gguf::TensorInfo| gguf::OutputTensor {
        name: t.name.clone(),
        element: t.element,
        shape: t.shape.clone(),
        bytes: t.bytes,
    };
    let outputs: Vec<_> = header.tensors.iter().map(output).collect();
    let names = ["scaling.type", "scaling.factor", "scale_linear", "freq_base", "scaling.attn_factor"];
    let rope = names.map(|name| (format!("llama.rope.{name}"), gguf::Value::F32(1.0)));
    for seed in 0..cases() {
        let mut random = Random(seed << 20);
        let mut metadata = header.metadata.clone();
        metadata.entries.extend(rope.clone());
        for _ in 0..=random.below(3) {
            let place = random.below(metadata.entries.len());
            metadata.entries[place].1 = match random.below(8) {
                0 => gguf::Value::U32(random.length() as u32),
                1 => gguf::Value::I64(random.next() as i64),
                2 => gguf::Value::F32(f32::from_bits(random.next() as u32)),
                3 => gguf::Value::F32([0.0, -1.0, f32::NAN, f32::INFINITY][random.below(4)]),
                4 => gguf::Value::Bool(random.below(2) == 0),
                5 => gguf::Value::String(["none", "linear", "yarn", "llama", ""][random.below(5)].to_owned()),
                6 => gguf::Value::Bytes(random.next().to_le_bytes().to_vec()),
                _ => gguf::Value::strings((0..random.below(4)).map(|n| n.to_string())),
            };
        }
        let mut damaged = gguf::header_bytes(&metadata, &outputs);
        damaged.extend(&bytes[start as usize..]);
        let files = Files::from([(name.to_owned(), damaged)]);
        let opened = std::panic::catch_unwind(|| open(&files));
        assert!(opened.is_ok(), "seed {seed}");
    }
}

#[test]
fn safetensors_files() {
    for front in [64, 5000] {
        damaged(&files("stories260K"), "model.safetensors", front);
    }
}

#[test]
fn configurations() {
    damaged(&files("stories260K"), "config.json", 2000);
}

/// A value of JSON, as likely to be of the kind that is wanted as not.
fn any_json(random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(random.below(14)),
        3 => json!(random.length()),
        4 => json!(-(random.below(9) as i64)),
        5 => json!([0.0, 0.5, 1.5, -0.5, 1e308][random.below(5)]),
        6 => json!(["average", "drop", "pool-refit", "mka", "keep", "q4_k", "spread", ""][random.below(8)]),
        7 => json!([]),
        8 => json!([[0, 1], [2]]),
        _ => json!({}),
    }
}

/// Replaces, repeats or removes one value anywhere in `value`.
fn damage_json(value: &mut Value, random: &mut Random) {
    let inner = match value {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(8) {
                0 => return drop(items.remove(at)),
                1 => return items.insert(at, items[at].clone()),
                _ => items.get_mut(at),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields.keys().nth(random.below(fields.len())).unwrap().clone();
            match random.below(12) {
                0 => return drop(fields.remove(&key)),
                _ => fields.get_mut(&key),
            }
        }
        _ => None,
    };
    match inner {
        Some(inner) if random.below(6) > 0 => damage_json(inner, random),
        Some(inner) => *inner = any_json(random),
        None => *value = any_json(random),
    }
}

/// Recipes whose JSON is damaged: refused, or carried out.
#[test]
fn recipes() {
    let mut session = session("stories260K");
    let calibration = CalibrationOptions { samples: 24, tokens: 8, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    session.judge_on(TextOptions { samples: 4, tokens: 8, ..TextOptions::default() });
    let (mut read, mut carried) = (0, 0);
    for method in ["mka", "laminate", "laco"] {
        let output = WriteOptions::default();
        let options = Method::named(method).unwrap().options(2, 0);
        let plan = run(session.plan(&options, &output, &Silent)).unwrap().plan;
        let written = run(session.write(&plan, &output, &mut MemoryFolder::default(), &Silent)).unwrap();
        let recipe = serde_json::to_value(&written.recipe).unwrap();
        // One that is carried out takes as long as a hundred that are refused.
        for seed in 0..cases() / 10 {
            let mut random = Random(seed << 20);
            let mut damaged = recipe.clone();
            for _ in 0..=random.below(3) {
                damage_json(&mut damaged, &mut random);
            }
            let mut bytes = damaged.to_string().into_bytes();
            if random.below(8) == 0 {
                let front = bytes.len();
                random.damage(&mut bytes, front);
            }
            let Ok(recipe) = serde_json::from_slice::<Recipe>(&bytes) else { continue };
            read += 1;
            let repeat = AssertUnwindSafe(|| {
                recipe.plan.validate_for(session.model().config.n_layers)?;
                recipe.check_text(&calibration.text_options())?;
                run(session.measure(&recipe.plan, &recipe.output, &Silent)).map(drop)
            });
            match std::panic::catch_unwind(repeat) {
                Ok(Ok(())) => carried += 1,
                Ok(Err(Error::Internal(what))) => panic!("{method} with seed {seed}: {what}"),
                Ok(Err(error)) => assert!(!error.to_string().contains('\n'), "{error}"),
                Err(_) => panic!("{method} with seed {seed}"),
            }
        }
    }
    assert!(read > 0 && carried > 0 && carried < read, "{carried} of {read}");
}

#[test]
fn bytes_that_are_no_file_at_all() {
    for seed in 0..cases() {
        let mut random = Random(seed << 20);
        let mut bytes: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
        if random.below(2) == 0 {
            bytes.splice(0..0, *b"GGUF\x03\0\0\0");
        }
        let _ = gguf::parse_header("noise", &bytes, bytes.len() as u64);
        let _ = gguf::parse_header("noise", &bytes, u64::MAX);
        let _ = header_length(
            "noise",
            bytes.get(..LENGTH_BYTES as usize).unwrap_or_default(),
            bytes.len() as u64,
        );
    }
}
