//! Damaged files of both formats, at random: an error or a model, and never a panic.

mod common;

use common::{Files, data, files, open_files};
use laminate::format::gguf;
use laminate::format::safetensors::{LENGTH_BYTES, header_length};
use proptest::prelude::*;

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// A byte becomes another.
    Byte(prop::sample::Index, u8),
    /// A word becomes a number that is likely to be taken for a length.
    Word(prop::sample::Index, u64),
    /// The file ends early.
    Cut(prop::sample::Index),
    /// A stretch stands twice.
    Double(prop::sample::Index, usize),
    /// A stretch is gone.
    Remove(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let lengths = prop_oneof![
        any::<u64>(),
        0u64..300,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 40),
        (0u64..64).prop_map(|n| u64::MAX - n)
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, to)| Damage::Byte(at, to)),
        (any::<prop::sample::Index>(), lengths).prop_map(|(at, to)| Damage::Word(at, to)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), 1usize..40).prop_map(|(at, n)| Damage::Double(at, n)),
        (any::<prop::sample::Index>(), 1usize..40).prop_map(|(at, n)| Damage::Remove(at, n)),
    ]
}

/// Applies damage to the first `front` bytes, where the headers are.
fn damaged(mut bytes: Vec<u8>, front: usize, damages: &[Damage]) -> Vec<u8> {
    for each in damages {
        let front = front.min(bytes.len());
        if front == 0 {
            break;
        }
        match each {
            Damage::Byte(at, to) => bytes[at.index(front)] = *to,
            Damage::Word(at, to) => {
                let at = at.index(front);
                for (byte, new) in bytes[at..].iter_mut().zip(to.to_le_bytes()) {
                    *byte = new;
                }
            }
            Damage::Cut(at) => bytes.truncate(at.index(front)),
            Damage::Double(at, n) => {
                let at = at.index(front);
                let piece = bytes[at..(at + n).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Remove(at, n) => {
                let at = at.index(front);
                bytes.drain(at..(at + n).min(bytes.len()));
            }
        }
    }
    bytes
}

/// Opens what may be a model; an error is one line.
fn open(files: &Files) {
    if let Err(error) = open_files(files) {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn gguf_files(damages in prop::collection::vec(damage(), 1..4)) {
        let name = "stories260K-Q4_0.gguf";
        let bytes = std::fs::read(data(&format!("models/gguf/{name}"))).unwrap();
        open(&Files::from([(name.to_owned(), damaged(bytes, 24_000, &damages))]));
    }

    #[test]
    fn the_metadata_of_gguf_files(damages in prop::collection::vec(damage(), 1..4)) {
        let name = "stories260K-Q4_0.gguf";
        let bytes = std::fs::read(data(&format!("models/gguf/{name}"))).unwrap();
        open(&Files::from([(name.to_owned(), damaged(bytes, 1500, &damages))]));
    }

    #[test]
    fn safetensors_files(damages in prop::collection::vec(damage(), 1..4)) {
        let mut model = files("stories260K");
        let bytes = model.remove("model.safetensors").unwrap();
        model.insert("model.safetensors".into(), damaged(bytes, 5000, &damages));
        open(&model);
    }

    #[test]
    fn configurations(damages in prop::collection::vec(damage(), 1..4)) {
        let mut model = files("stories260K");
        let bytes = model.remove("config.json").unwrap();
        let n = bytes.len();
        model.insert("config.json".into(), damaged(bytes, n, &damages));
        open(&model);
    }

    #[test]
    fn bytes_that_are_no_file_at_all(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let bytes = if magic { [&b"GGUF\x03\0\0\0"[..], &bytes].concat() } else { bytes };
        let _ = gguf::parse_header("noise", &bytes, bytes.len() as u64);
        let _ = gguf::parse_header("noise", &bytes, u64::MAX);
        let _ = header_length("noise", bytes.get(..LENGTH_BYTES as usize).unwrap_or_default(), bytes.len() as u64);
    }
}
