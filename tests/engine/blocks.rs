//! Block codecs: theorems, a naive decoder, gguf-py's values, llama.cpp's bytes, and hostile input.

use std::path::Path;

use half::f16;
use laminate::Error;
use laminate::format::blocks::BlockType;
use serde_json::Value;

/// Those whose values are proportional to binary16 numbers in the block.
const WITH_HALF_SCALES: [BlockType; 12] = [
    BlockType::Q4_0,
    BlockType::Q4_1,
    BlockType::Q5_0,
    BlockType::Q5_1,
    BlockType::Q8_0,
    BlockType::Q2K,
    BlockType::Q3K,
    BlockType::Q4K,
    BlockType::Q5K,
    BlockType::Q6K,
    BlockType::Iq4Nl,
    BlockType::Iq4Xs,
];
const SIMPLE: [BlockType; 5] =
    [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0];
/// Not Q3_K, whose descent goes by the sign of the largest value.
const SYMMETRIC: [BlockType; 7] = [
    BlockType::Q4_0,
    BlockType::Q5_0,
    BlockType::Q8_0,
    BlockType::Q6K,
    BlockType::Iq4Nl,
    BlockType::Iq4Xs,
    BlockType::Mxfp4,
];

/// Those that importances make a difference to.
fn weighted() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.into_iter().filter(|kind| !matches!(kind, BlockType::Q8_0 | BlockType::Mxfp4))
}

fn pairs<T: Copy>(of: &[T]) -> impl Iterator<Item = (T, T)> {
    of.iter().flat_map(|a| of.iter().map(|b| (*a, *b)))
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// Bell-shaped, of variance 1.
    fn normal(&mut self) -> f32 {
        let sum: u64 = (0..12).map(|_| self.next() >> 44).sum();
        sum as f32 / (1u64 << 20) as f32 - 6.0
    }

    fn weights(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * self.normal()).collect()
    }

    /// Blocks whose scales are of usual size, so that no value is subnormal or infinite.
    fn blocks(&mut self, kind: BlockType, n: usize) -> Vec<u8> {
        let mut bytes = self.bytes(n * kind.bytes());
        for block in bytes.chunks_exact_mut(kind.bytes()) {
            for offset in half_offsets(kind) {
                let half = f16::from_f32(0.01 + self.normal().abs()).to_le_bytes();
                block[*offset..offset + 2].copy_from_slice(&half);
            }
        }
        bytes
    }
}

fn half_offsets(kind: BlockType) -> &'static [usize] {
    match kind {
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
        BlockType::Mxfp4 => &[],
        _ => &[0],
    }
}

fn decode(kind: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / kind.bytes() * kind.weights()];
    kind.decode(bytes, &mut out).unwrap();
    out
}

fn round_trip(kind: BlockType, x: &[f32]) -> Vec<f32> {
    decode(kind, &kind.encode(x).unwrap())
}

fn rms_error(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x.iter().zip(y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    (sum / x.len() as f64).sqrt()
}

/// Returns the sum of importance times squared error.
fn weighted_error(x: &[f32], y: &[f32], importance: &[f32]) -> f64 {
    let columns = importance.iter().cycle();
    let terms = x.iter().zip(y).zip(columns);
    terms.map(|((x, y), h)| f64::from(*h) * (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// Squares of bell-shaped numbers, as the importances of columns are.
fn importances(seed: u64, n: usize) -> Vec<f32> {
    Random(seed).weights(n, 1.0).iter().map(|x| x * x).collect()
}

fn assert_same_bits(kind: BlockType, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{kind}: weight {i} is {a:e}, expected {b:e}");
    }
}

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

// Theorems.

#[test]
fn names_and_numbers_are_unique_and_read_back() {
    for kind in BlockType::ALL {
        assert_eq!(BlockType::from_ggml_id(kind.ggml_id()), Some(kind));
        assert_eq!(kind.name().parse::<BlockType>().unwrap(), kind);
        assert_eq!(kind.name().to_lowercase().parse::<BlockType>().unwrap(), kind);
    }
    assert_eq!(BlockType::from_ggml_id(0), None);
    let error = "Q9_K".parse::<BlockType>().unwrap_err();
    assert!(matches!(&error, Error::Unsupported(m) if m.contains("Q9_K") && m.contains("Q4_K")), "{error}");
    assert_eq!(BlockType::Q4K.bits_per_weight(), 4.5);
}

#[test]
fn merged_values_are_stored_in_a_type_as_precise_with_blocks_of_the_same_length() {
    for kind in BlockType::ALL {
        let stored = kind.stored_as();
        assert_eq!(stored.stored_as(), stored);
        assert_eq!(stored.wider(kind), stored);
        assert_eq!(stored.weights(), kind.weights());
        assert!(stored.encode(&vec![0.0; kind.weights()]).is_ok());
    }
}

#[test]
fn wider_is_an_order_and_follows_the_error_on_bell_shaped_weights() {
    for (a, b) in pairs(&BlockType::ALL) {
        assert_eq!(a.wider(b), b.wider(a));
    }
    let x = Random(1).weights(1 << 15, 0.02);
    let errors: Vec<_> =
        BlockType::ALL.into_iter().map(|kind| (kind, rms_error(&x, &round_trip(kind, &x)))).collect();
    for ((a, error_a), (b, error_b)) in pairs(&errors) {
        assert_eq!(a.wider(b) == a, error_a <= error_b, "{a} {error_a:e}, {b} {error_b:e}");
    }
}

#[test]
fn the_scale_of_a_block_scales_its_values() {
    let mut random = Random(2);
    for kind in WITH_HALF_SCALES {
        let mut bytes = random.blocks(kind, 20);
        let before = decode(kind, &bytes);
        for block in bytes.chunks_exact_mut(kind.bytes()) {
            // The exponent of a binary16 number starts at bit 10.
            half_offsets(kind).iter().for_each(|offset| block[offset + 1] += 4);
        }
        let doubled: Vec<f32> = before.iter().map(|x| 2.0 * x).collect();
        assert_same_bits(kind, &decode(kind, &bytes), &doubled);
    }
}

#[test]
fn encoding_commutes_with_powers_of_two_and_with_concatenation() {
    let mut random = Random(3);
    for kind in BlockType::ALL {
        let x = random.weights(1024, 0.5);
        let scaled: Vec<f32> = x.iter().map(|x| 16.0 * x).collect();
        let expected: Vec<f32> = round_trip(kind, &x).iter().map(|x| 16.0 * x).collect();
        assert_same_bits(kind, &round_trip(kind, &scaled), &expected);
        let halves = [kind.encode(&x[..256]).unwrap(), kind.encode(&x[256..]).unwrap()];
        assert_eq!(kind.encode(&x).unwrap(), halves.concat(), "{kind}");
    }
}

#[test]
fn types_without_an_offset_commute_with_negation() {
    let x = Random(4).weights(2048, 0.02);
    let negated: Vec<f32> = x.iter().map(|x| -x).collect();
    for kind in SYMMETRIC {
        let expected: Vec<f32> = round_trip(kind, &x).iter().map(|x| -x).collect();
        for (i, (a, b)) in round_trip(kind, &negated).iter().zip(&expected).enumerate() {
            assert_eq!(a, b, "{kind}: weight {i}");
        }
    }
}

#[test]
fn zeros_are_exact() {
    for kind in BlockType::ALL {
        assert!(round_trip(kind, &[0.0; 512]).iter().all(|x| *x == 0.0), "{kind}");
        assert!(round_trip(kind, &[-0.0; 512]).iter().all(|x| *x == 0.0), "{kind}");
        assert!(kind.encode(&[]).unwrap().is_empty());
    }
}

#[test]
fn importances_lower_the_error_that_counts() {
    let x = Random(12).weights(1 << 15, 0.02);
    let importance: Vec<f32> = importances(13, 512).iter().map(|h| h * h).collect();
    for kind in weighted() {
        let error = |bytes: Vec<u8>| weighted_error(&x, &decode(kind, &bytes), &importance);
        let (with, without) = (kind.encode_weighted(&x, &importance).unwrap(), kind.encode(&x).unwrap());
        let ratio = error(with) / error(without);
        assert!(ratio < 0.98, "{kind}: {ratio}");
    }
    for kind in [BlockType::Q8_0, BlockType::Mxfp4] {
        assert_eq!(kind.encode_weighted(&x, &importance).unwrap(), kind.encode(&x).unwrap());
    }
}

#[test]
fn rows_are_encoded_one_by_one_and_a_factor_of_all_importances_changes_nothing() {
    let mut random = Random(14);
    for kind in BlockType::ALL {
        for width in [kind.weights(), 3 * kind.weights(), 1280] {
            let x = random.weights(3 * width, 0.5);
            let importance = importances(15, width);
            let bytes = kind.encode_weighted(&x, &importance).unwrap();
            let rows: Vec<_> =
                x.chunks(width).map(|row| kind.encode_weighted(row, &importance).unwrap()).collect();
            assert_eq!(bytes, rows.concat(), "{kind}");
            for power in [-100, -40, -3, 20, 90] {
                let scaled: Vec<f32> = importance.iter().map(|h| h * 2f32.powi(power)).collect();
                assert!(bytes == kind.encode_weighted(&x, &scaled).unwrap(), "{kind}: 2^{power}");
            }
        }
    }
}

#[test]
fn columns_without_importance_are_not_lost() {
    let x = Random(16).weights(1024, 0.02);
    let mut importance = importances(17, 512);
    importance[32..64].fill(0.0);
    importance[256..].fill(0.0);
    for kind in weighted() {
        let all_zero = kind.encode_weighted(&x, &[0.0; 512]).unwrap();
        if !matches!(kind, BlockType::Q4_1 | BlockType::Q5_1) {
            assert_eq!(all_zero, kind.encode_weighted(&x, &[1.0; 512]).unwrap(), "{kind}");
        }
        let some_zero = kind.encode_weighted(&x, &importance).unwrap();
        let plain = round_trip(kind, &x);
        for (bytes, columns) in
            [(&all_zero, 0..512), (&some_zero, 32..64), (&some_zero, 256..512), (&some_zero, 0..32)]
        {
            let decoded = decode(kind, bytes);
            for row in [0, 512] {
                let columns = row + columns.start..row + columns.end;
                let error = rms_error(&x[columns.clone()], &decoded[columns.clone()]);
                let bound = 1.7 * rms_error(&x[columns.clone()], &plain[columns.clone()]);
                assert!(error < bound, "{kind}, {columns:?}: {error:e}, without importances {bound:e}");
            }
        }
    }
}

#[test]
fn what_a_simple_type_decodes_to_it_encodes_without_loss() {
    let mut random = Random(5);
    for kind in SIMPLE {
        for scale in [1e-4, 0.02, 1.0, 300.0] {
            let once = round_trip(kind, &random.weights(4096, scale));
            assert_same_bits(kind, &round_trip(kind, &once), &once);
        }
    }
}

#[test]
fn no_weight_is_farther_off_than_half_a_step() {
    // Steps between the extreme values of a block; a second half where the far side is cut short; and the
    // rounding of the scale to binary16, which counts as often as there are steps.
    let x = Random(6).weights(1 << 13, 0.02);
    for (kind, steps, halves) in [
        (BlockType::Q8_0, 127.0, 1.0),
        (BlockType::Q4_0, 8.0, 2.0),
        (BlockType::Q5_0, 16.0, 2.0),
        (BlockType::Q4_1, 15.0, 1.0),
        (BlockType::Q5_1, 31.0, 1.0),
    ] {
        for (x, y) in x.chunks(32).zip(round_trip(kind, &x).chunks(32)) {
            let low = x.iter().fold(f32::MAX, |a, x| a.min(*x));
            let high = x.iter().fold(f32::MIN, |a, x| a.max(*x));
            let largest = high.max(-low);
            let range = if halves == 1.0 && kind != BlockType::Q8_0 { high - low } else { largest };
            let bound = range / steps * halves / 2.0 + 3.0 * largest / 2048.0;
            let worst = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(worst <= bound, "{kind}: {worst:e} > {bound:e}");
        }
    }
}

#[test]
fn a_block_without_bad_scales_has_finite_values_and_one_with_them_has_none() {
    let mut random = Random(7);
    for kind in BlockType::ALL {
        for _ in 0..200 {
            let bytes = random.bytes(40 * kind.bytes());
            let values = decode(kind, &bytes);
            let bad = kind.first_not_finite(&bytes);
            let good = bad.unwrap_or(40) * kind.weights();
            assert!(values[..good].iter().all(|x| x.is_finite()), "{kind}");
            if bad.is_some() && kind != BlockType::Mxfp4 {
                assert!(values[good..good + kind.weights()].iter().all(|x| !x.is_finite()), "{kind}");
            }
        }
    }
}

#[test]
fn each_scale_is_looked_at() {
    for kind in WITH_HALF_SCALES {
        for offset in half_offsets(kind) {
            for bad in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
                let mut bytes = vec![0; 5 * kind.bytes()];
                let at = 3 * kind.bytes() + offset;
                bytes[at..at + 2].copy_from_slice(&f16::MAX.to_le_bytes());
                assert_eq!(kind.first_not_finite(&bytes), None, "{kind}");
                bytes[at..at + 2].copy_from_slice(&bad.to_le_bytes());
                assert_eq!(kind.first_not_finite(&bytes), Some(3), "{kind}");
            }
        }
    }
    let mut bytes = vec![0; 34];
    for (exponent, bad) in [(252, None), (253, Some(1)), (255, Some(1))] {
        bytes[17] = exponent;
        assert_eq!(BlockType::Mxfp4.first_not_finite(&bytes), bad);
    }
}

// A naive decoder: one weight at a time from the definition, in f64, where every product is exact.

fn naive(kind: BlockType, block: &[u8], i: usize) -> f64 {
    let half = |at: usize| f64::from(f16::from_le_bytes([block[at], block[at + 1]]).to_f32());
    let nibble = |at: usize, upper: bool| f64::from(if upper { block[at] >> 4 } else { block[at] & 15 });
    let bit = |at: usize, place: usize| f64::from(block[at] >> place & 1);
    let bits = |at: usize, place: usize| f64::from(block[at] >> place & 3);
    let six_bits = |first: usize, g: usize, upper: bool| match g {
        0..4 => f64::from(block[4 + first + g] & 63),
        _ => nibble(4 + 4 + g, upper) + 16.0 * bits(4 + first + g - 4, 6),
    };
    match kind {
        BlockType::Q4_0 => half(0) * (nibble(2 + i % 16, i >= 16) - 8.0),
        BlockType::Q5_1 => {
            let q = nibble(8 + i % 16, i >= 16) + 16.0 * bit(4 + i / 8, i % 8);
            half(0) * q + half(2)
        }
        BlockType::Q3K => {
            let g = i / 16;
            let scale = nibble(96 + g % 8, g >= 8) + 16.0 * bits(96 + 8 + g % 4, 2 * (g / 4)) - 32.0;
            let low = bits(32 + i / 128 * 32 + i % 32, i % 128 / 32 * 2);
            half(108) * scale * (low + 4.0 * bit(i % 32, i / 32) - 4.0)
        }
        BlockType::Q4K => {
            let g = i / 32;
            let q = nibble(16 + i / 64 * 32 + i % 32, g % 2 == 1);
            half(0) * six_bits(0, g, false) * q - half(2) * six_bits(4, g, true)
        }
        BlockType::Q6K => {
            let scale = f64::from(block[192 + i / 16].cast_signed());
            let low = nibble(i / 128 * 64 + i % 64, i % 128 >= 64);
            let q = low + 16.0 * bits(128 + i / 128 * 32 + i % 32, i % 128 / 32 * 2) - 32.0;
            half(208) * scale * q
        }
        BlockType::Iq4Xs => {
            let table = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
            let g = i / 32;
            let scale = nibble(4 + g / 2, g % 2 == 1) + 16.0 * bits(2 + g / 4, g % 4 * 2) - 32.0;
            half(0) * scale * f64::from(table[nibble(8 + g * 16 + i % 16, i % 32 >= 16) as usize])
        }
        _ => unreachable!("no naive decoder of {kind}"),
    }
}

#[test]
fn values_are_those_of_the_naive_decoder() {
    let mut random = Random(8);
    use BlockType::*;
    for kind in [Q4_0, Q5_1, Q3K, Q4K, Q6K, Iq4Xs] {
        let bytes = random.blocks(kind, 100);
        for (b, (block, ours)) in
            bytes.chunks(kind.bytes()).zip(decode(kind, &bytes).chunks(kind.weights())).enumerate()
        {
            for (i, x) in ours.iter().enumerate() {
                assert_eq!(*x, naive(kind, block, i) as f32, "{kind}: block {b}, weight {i}");
            }
        }
    }
}

// Fixtures.

#[test]
fn values_are_those_of_gguf_py_bit_for_bit() {
    for kind in BlockType::ALL {
        let file = data(&format!("decode/{kind}.bin"));
        let blocks = file.len() / (kind.bytes() + 4 * kind.weights());
        assert_eq!(blocks, 8);
        let (bytes, expected) = file.split_at(blocks * kind.bytes());
        assert_same_bits(kind, &decode(kind, bytes), &floats(expected));
        assert_eq!(kind.first_not_finite(bytes), None);
    }
}

#[test]
fn bytes_and_errors_are_those_of_llama_cpp() {
    let document: Value = serde_json::from_slice(&data("encode/errors.json")).unwrap();
    let length = document["length"].as_u64().unwrap() as usize;
    let weights = floats(&data("encode/weights.bin"));
    let names: Vec<&str> = document["tensors"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert_eq!(weights.len(), names.len() * length);
    for kind in BlockType::ALL {
        let expected = data(&format!("encode/{kind}.bin"));
        let tensor_bytes = length / kind.weights() * kind.bytes();
        for (i, (name, x)) in names.iter().zip(weights.chunks(length)).enumerate() {
            let bytes = kind.encode(x).unwrap();
            let error = rms_error(x, &decode(kind, &bytes));
            let theirs = document["rms_error_of_llama_cpp"][kind.name()][name].as_f64().unwrap();
            assert!(error <= 1.02 * theirs, "{kind}, {name}: {error:e}, llama.cpp {theirs:e}");
            let expected = &expected[i * tensor_bytes..(i + 1) * tensor_bytes];
            let differs = bytes.iter().zip(expected).position(|(a, b)| a != b);
            assert_eq!(differs.map(|at| at / kind.bytes()), None, "{kind}, {name}: first block that differs");
        }
    }
}

#[test]
fn bytes_and_errors_with_importances_are_those_of_llama_cpp() {
    let tensors: Value = serde_json::from_slice(&data("encode/errors.json")).unwrap();
    let length = tensors["length"].as_u64().unwrap() as usize;
    let names: Vec<&str> = tensors["tensors"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    let weights = floats(&data("encode/weights.bin"));
    let document: Value = serde_json::from_slice(&data("weighted/errors.json")).unwrap();
    let all = floats(&data("weighted/importance.bin"));
    for kind in weighted() {
        let theirs = data(&format!("weighted/{kind}.bin"));
        let (mut rest, mut theirs, mut compared) = (all.as_slice(), theirs.as_slice(), 0);
        for (set, width) in document["sets"].as_object().unwrap() {
            let importance = rest.split_off(..width.as_u64().unwrap() as usize).unwrap();
            let width = importance.len();
            if width % kind.weights() != 0 {
                continue;
            }
            for (name, x) in names.iter().zip(weights.chunks(length)) {
                let x = &x[..length / width * width];
                let bytes = kind.encode_weighted(x, importance).unwrap();
                let expected = theirs.split_off(..bytes.len()).unwrap();
                let error = weighted_error(x, &decode(kind, &bytes), importance) / x.len() as f64;
                let their_error =
                    document["rms_error_of_llama_cpp"][kind.name()][set][name].as_f64().unwrap();
                assert!(error <= 1.02 * their_error.powi(2), "{kind}, {set}, {name}: {error:e}");
                // Where no weight that shares a scale is in a column that counts, llama.cpp has zeros.
                let blocks = bytes.chunks(kind.bytes()).zip(expected.chunks(kind.bytes())).enumerate();
                for (block, (ours, theirs)) in blocks {
                    let columns = &importance[block * kind.weights() % width..][..kind.weights()];
                    if columns.chunks(16).any(|group| group.iter().all(|h| *h == 0.0)) {
                        assert_eq!(set, "blocks without");
                        continue;
                    }
                    assert_eq!(ours, theirs, "{kind}, {set}, {name}: block {block}");
                    compared += 1;
                }
            }
        }
        assert!(theirs.is_empty() && compared >= 9 * 6, "{kind}: {compared}");
    }
}

// Hostile input.

#[test]
fn wrong_lengths_are_shape_errors() {
    for kind in BlockType::ALL {
        let (bytes, weights) = (kind.bytes(), kind.weights());
        for length in (0..=2 * bytes + 1).filter(|length| length % bytes != 0) {
            let blocks = vec![0xff; length];
            let error = kind.decode(&blocks, &mut vec![0.0; length / bytes * weights]).unwrap_err();
            assert!(matches!(&error, Error::Shape(m) if m.contains(kind.name())), "{error}");
            // What is left of a block is not looked at.
            let first = (length > bytes).then_some(0);
            assert_eq!(kind.first_not_finite(&blocks), first, "{kind}: {length} bytes");
        }
        for length in [0, 1, weights - 1, weights, 2 * weights - 1, 2 * weights + 1, 3 * weights] {
            let error = kind.decode(&vec![0; 2 * bytes], &mut vec![0.0; length]).unwrap_err();
            assert!(matches!(error, Error::Shape(_)), "{kind}: {length} weights");
        }
        assert!(kind.decode(&[], &mut []).is_ok());
    }
    for kind in BlockType::ALL {
        for length in [1, kind.weights() - 1, kind.weights() + 1] {
            let error = kind.encode(&vec![0.0; length]).unwrap_err();
            assert!(matches!(&error, Error::Shape(m) if m.contains(kind.name())), "{error}");
        }
    }
}

#[test]
fn importances_that_do_not_fit_or_are_no_numbers_are_refused() {
    for kind in BlockType::ALL {
        let width = 2 * kind.weights();
        for (values, columns, says) in [
            (0, 0, "0 importances"),
            (width, kind.weights() + 1, "importances is not"),
            (width, kind.weights() - 1, "importances is not"),
            (width + kind.weights(), width, "rows of"),
            (1, width, "rows of"),
        ] {
            let error = kind.encode_weighted(&vec![0.0; values], &vec![1.0; columns]).unwrap_err();
            assert!(
                matches!(&error, Error::Shape(m) if m.contains(says) && m.contains(kind.name())),
                "{error}"
            );
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-30] {
            let mut importance = vec![1.0; width];
            importance[7] = bad;
            let error = kind.encode_weighted(&vec![0.0; width], &importance).unwrap_err();
            assert!(matches!(&error, Error::Numeric(m) if m.contains("importance 7 is")), "{error}");
        }
        assert!(kind.encode_weighted(&[], &vec![1.0; width]).unwrap().is_empty());
    }
}

#[test]
fn every_byte_pattern_decodes() {
    for kind in BlockType::ALL {
        for pattern in 0..=255 {
            decode(kind, &vec![pattern; 2 * kind.bytes()]);
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_index() {
    for kind in BlockType::ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 512];
            x[300] = bad;
            x[400] = f32::NAN;
            let error = kind.encode(&x).unwrap_err();
            assert!(matches!(&error, Error::Numeric(m) if m.contains("weight 300")), "{error}");
        }
    }
}

#[test]
fn weights_beyond_the_scale_are_refused_by_block() {
    for kind in BlockType::ALL {
        for large in [1e10, 1e20, f32::MAX, -1e10, -1e20, f32::MIN] {
            let mut x = Random(9).weights(1024, 1.0);
            x[700] = large;
            if kind == BlockType::Mxfp4 && large.abs() < f32::MAX {
                assert!((round_trip(kind, &x)[700] / large - 1.0).abs() < 0.25, "{large}");
                continue;
            }
            let most = if kind == BlockType::Mxfp4 { "2^125" } else { "65504" };
            let block = format!("block {} ", 700 / kind.weights());
            for result in [kind.encode(&x), kind.encode_weighted(&x, &importances(11, 256))] {
                let error = result.expect_err(&format!("{kind}: {large:e}"));
                assert!(
                    matches!(&error, Error::Numeric(m) if m.contains(&block) && m.contains(most)),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn no_scale_that_is_written_is_infinite() {
    let scales = [1e-45, 1e-38, 1e-20, 1.0, 1e20, 1e38];
    let extremes = [0.0, -0.0, 1e-45, -1e-45, 1e-40, 1e-38, -1e-30, 1e-15, 1e-7, 1.0, -1e3, 6e4, -1e6, 1e19];
    let mut random = Random(10);
    for kind in BlockType::ALL {
        for round in 0..400 {
            // A few magnitudes at a time, so that most tensors can be stored.
            let (first, span) = (random.next() as usize % extremes.len(), 1 + round % 4);
            let x: Vec<f32> = (0..256)
                .map(|_| extremes[(first + random.next() as usize % span) % extremes.len()] * random.normal())
                .collect();
            let importance: Vec<f32> = (0..256)
                .map(|_| scales[random.next() as usize % scales.len()] * random.normal().abs().min(3.0))
                .collect();
            for result in [kind.encode(&x), kind.encode_weighted(&x, &importance)] {
                match result {
                    Ok(bytes) => {
                        assert_eq!(kind.first_not_finite(&bytes), None, "{kind}: {x:?}");
                        assert!(decode(kind, &bytes).iter().all(|x| x.is_finite()));
                    }
                    Err(Error::Numeric(_)) => assert!(x.iter().any(|x| x.abs() > 6e4), "{kind}: {x:?}"),
                    Err(other) => panic!("{kind}: {other}"),
                }
            }
        }
    }
}
