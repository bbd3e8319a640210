//! Damaged files of both formats, at random: an error or a model, and never a panic. The seed of a case is in the
//! message where one fails.

use laminate::format::gguf;
use laminate::format::safetensors::{LENGTH_BYTES, header_length};

use crate::common::{Files, data, files, open_files};

const CASES: u64 = 3000;

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
    for seed in 0..CASES {
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
    for seed in 0..CASES {
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

#[test]
fn bytes_that_are_no_file_at_all() {
    for seed in 0..CASES {
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
