//! Importance matrices as llama.cpp's `llama-imatrix` writes them: GGUF files of sums of squares.
//!
//! For each matrix of a model by which something is multiplied, such a file has a tensor `<name>.in_sum2`, the sum over
//! tokens of the square of every column of the product's input, and a tensor `<name>.counts`, the number of tokens. A
//! tensor that holds the matrices of all experts has a row and a count for each. The metadata name the texts and the
//! sequences (llama.cpp's `tools/imatrix/imatrix.cpp`).

use std::collections::BTreeMap;

use super::element::{Element, decode_into};
use super::gguf::{
    Header, Metadata, OutputTensor, TensorInfo, Value, header_bytes, is_gguf, padding, parse_header,
};
use crate::{Error, Result};

/// Key of the kind of a GGUF file, and its value in an importance matrix.
const TYPE: (&str, &str) = ("general.type", "imatrix");

/// Key of the names of the texts.
const DATASETS_KEY: &str = "imatrix.datasets";

/// Key of the number of sequences.
const CHUNK_COUNT_KEY: &str = "imatrix.chunk_count";

/// Key of the number of tokens of a sequence.
const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";

/// End of the name of a tensor of sums of squares.
const SUMS_ENDING: &str = ".in_sum2";

/// End of the name of a tensor of counts.
const COUNTS_ENDING: &str = ".counts";

/// What to do about a file that is damaged.
const DAMAGED: &str = "make it again with llama-imatrix or with laminate imatrix";

/// An importance matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imatrix {
    /// Names of the texts that it was collected on.
    pub datasets: Vec<String>,
    /// Number of sequences; 0 if unknown.
    pub chunk_count: u32,
    /// Number of tokens of a sequence; 0 if unknown.
    pub chunk_size: u32,
    /// Sums by the name of the model's tensor in a GGUF file.
    pub tensors: BTreeMap<String, InputSums>,
}

/// Sums of squares of what the products with one tensor read.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSums {
    /// Number of columns.
    pub columns: usize,
    /// Sums over tokens of the square of each column, `[matrices, columns]`, row-major: one matrix, or one for each
    /// expert. Finite and not negative.
    pub sums: Vec<f32>,
    /// Number of tokens of each matrix; not negative.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Parses the bytes of the whole file called `file`.
    ///
    /// # Errors
    /// Those of [`parse_header`]; [`Error::Usage`] for a GGUF file that is no importance matrix and for a file in
    /// llama.cpp's older format; [`Error::Format`], naming the tensor, if sums have no counts or counts no sums, if
    /// their shapes do not fit each other, or if all sums or all counts are zero; [`Error::Numeric`] if a number is
    /// negative or not finite.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        if !is_gguf(bytes) {
            return Err(Error::Usage(format!(
                "{file}: not an importance matrix in a GGUF file; convert one of the older format with llama-imatrix \
                 --in-file {file} -o imatrix.gguf"
            )));
        }
        let header = parse_header(file, bytes, bytes.len() as u64)?;
        let header = header
            .ok_or_else(|| Error::Format(format!("{file}: it ends within its header; download it again")))?;
        let kind = header.metadata.get(TYPE.0).and_then(Value::as_str);
        if kind != Some(TYPE.1) {
            return Err(Error::Usage(format!(
                "{file}: a GGUF file of type {}, and not an importance matrix; give a file of llama-imatrix or of \
                 laminate imatrix",
                kind.unwrap_or("model")
            )));
        }
        let imatrix = Self {
            datasets: header.metadata.get(DATASETS_KEY).map(strings).unwrap_or_default(),
            chunk_count: number(&header, CHUNK_COUNT_KEY),
            chunk_size: number(&header, CHUNK_SIZE_KEY),
            tensors: tensors(file, &header, bytes)?,
        };
        imatrix.check(file)?;
        Ok(imatrix)
    }

    /// Checks that something was collected.
    fn check(&self, file: &str) -> Result<()> {
        let is_zero = |all: &[f32]| all.iter().all(|x| *x == 0.0);
        let what = if self.tensors.values().all(|tensor| is_zero(&tensor.counts)) {
            "it counts no tokens"
        } else if self.tensors.values().all(|tensor| is_zero(&tensor.sums)) {
            "all its sums are zero"
        } else {
            return Ok(());
        };
        Err(Error::Format(format!("{file}: {what}, so that nothing is important; {DAMAGED}")))
    }

    /// Encodes the file, in the layout of llama.cpp: tensors in the order of their names, without outer dimensions of 1.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = [
            (TYPE.0, Value::String(TYPE.1.to_owned())),
            (DATASETS_KEY, Value::strings(self.datasets.clone())),
            (CHUNK_COUNT_KEY, Value::U32(self.chunk_count)),
            (CHUNK_SIZE_KEY, Value::U32(self.chunk_size)),
        ];
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let metadata = Metadata { entries };
        let (mut outputs, mut values) = (Vec::new(), Vec::new());
        for (name, tensor) in &self.tensors {
            let parts = [(SUMS_ENDING, tensor.columns, &tensor.sums), (COUNTS_ENDING, 1, &tensor.counts)];
            for (ending, columns, numbers) in parts {
                let shape = match tensor.counts.len() {
                    1 => vec![columns as u64],
                    matrices => vec![matrices as u64, columns as u64],
                };
                let bytes = 4 * numbers.len() as u64;
                let name = format!("{name}{ending}");
                outputs.push(OutputTensor { name, element: Element::F32, shape, bytes });
                values.push(numbers);
            }
        }
        let mut out = header_bytes(&metadata, &outputs);
        for (output, numbers) in outputs.iter().zip(values) {
            out.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
            let zeros = padding(&metadata, output.bytes) as usize;
            out.resize(out.len() + zeros, 0);
        }
        out
    }
}

/// Returns the strings of an array of strings.
fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_default().iter();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns a count among the metadata; 0 if there is none. Nothing is computed from it.
fn number(header: &Header, key: &str) -> u32 {
    let value = header.metadata.get(key).and_then(Value::as_u64);
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn tensors(file: &str, header: &Header, bytes: &[u8]) -> Result<BTreeMap<String, InputSums>> {
    let find = |name: &str| header.tensors.iter().find(|tensor| tensor.name == name);
    let bad = |what: String| Error::Format(format!("{file}: {what}; {DAMAGED}"));
    let mut tensors = BTreeMap::new();
    for info in &header.tensors {
        if let Some(name) = info.name.strip_suffix(COUNTS_ENDING)
            && find(&format!("{name}{SUMS_ENDING}")).is_none()
        {
            return Err(bad(format!("tensor {name} has counts and no sums")));
        }
        let Some(name) = info.name.strip_suffix(SUMS_ENDING) else { continue };
        let counts = find(&format!("{name}{COUNTS_ENDING}"));
        let counts = counts.ok_or_else(|| bad(format!("tensor {name} has sums and no counts")))?;
        let [columns, matrices] = matrix(info).ok_or_else(|| bad(of_shape(info)))?;
        if matrix(counts) != Some([1, matrices]) {
            return Err(bad(format!("{}, and its sums are of {matrices} matrices", of_shape(counts))));
        }
        let (sums, counts) = (values(file, info, bytes)?, values(file, counts, bytes)?);
        tensors.insert(name.to_owned(), InputSums { columns, sums, counts });
    }
    match tensors.is_empty() {
        true => Err(bad("it has no sums of squares".to_owned())),
        false => Ok(tensors),
    }
}

/// Returns the row length and the number of rows of a tensor; `None` if it has more than two dimensions.
fn matrix(info: &TensorInfo) -> Option<[usize; 2]> {
    let mut inner = info.shape.iter().rev().map(|n| usize::try_from(*n).ok());
    let columns = inner.next().unwrap_or(Some(1))?;
    let rows = inner.next().unwrap_or(Some(1))?;
    inner.all(|n| n == Some(1)).then_some([columns, rows])
}

fn of_shape(info: &TensorInfo) -> String {
    format!("tensor {} has the shape {:?}", info.name, info.shape)
}

/// Decodes the numbers of a tensor, which are finite and not negative.
fn values(file: &str, info: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>> {
    if info.element != Element::F32 {
        return Err(Error::Format(format!(
            "{file}: tensor {} is of type {} instead of F32; {DAMAGED}",
            info.name, info.element
        )));
    }
    let range = usize::try_from(info.offset).ok().zip(usize::try_from(info.bytes).ok());
    let bytes = range.and_then(|(first, length)| bytes.get(first..first.checked_add(length)?));
    let bytes = bytes.ok_or_else(|| {
        Error::Format(format!("{file}: tensor {} runs past the end of the file; {DAMAGED}", info.name))
    })?;
    let wrong = |place: usize, x: f32| {
        Error::Numeric(format!(
            "{file}: number {place} of tensor {} is {x}, and sums and counts are finite and not negative; {DAMAGED}",
            info.name
        ))
    };
    let mut values = vec![0.0; bytes.len() / 4];
    decode_into(info.element, bytes, &mut values)?;
    match values.iter().enumerate().find(|(_, x)| !(x.is_finite() && **x >= 0.0)) {
        Some((place, x)) => Err(wrong(place, *x)),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Imatrix {
        let dense = InputSums { columns: 3, sums: vec![1.0, 0.0, 2.5], counts: vec![7.0] };
        let experts =
            InputSums { columns: 2, sums: vec![1.0, 2.0, 0.0, 0.0, 5.0, 6.0], counts: vec![4.0, 0.0, 3.0] };
        Imatrix {
            datasets: vec!["a text".to_owned()],
            chunk_count: 2,
            chunk_size: 8,
            tensors: [("blk.0.attn_q.weight", dense), ("blk.0.ffn_up_exps.weight", experts)]
                .map(|(name, sums)| (name.to_owned(), sums))
                .into(),
        }
    }

    fn refused(change: impl Fn(&mut Imatrix)) -> Error {
        let mut imatrix = example();
        change(&mut imatrix);
        Imatrix::parse("x.gguf", &imatrix.to_bytes()).unwrap_err()
    }

    #[test]
    fn a_file_survives_a_round_trip_bit_by_bit() {
        let bytes = example().to_bytes();
        let again = Imatrix::parse("x.gguf", &bytes).unwrap();
        assert_eq!(again, example());
        assert_eq!(again.to_bytes(), bytes);
        let header = parse_header("x.gguf", &bytes, bytes.len() as u64).unwrap().unwrap();
        let shapes: Vec<_> = header.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        assert_eq!(
            shapes,
            [
                ("blk.0.attn_q.weight.in_sum2", [3].as_slice()),
                ("blk.0.attn_q.weight.counts", &[1]),
                ("blk.0.ffn_up_exps.weight.in_sum2", &[3, 2]),
                ("blk.0.ffn_up_exps.weight.counts", &[3, 1]),
            ]
        );
    }

    #[test]
    fn bad_numbers_are_named() {
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            for of_counts in [false, true] {
                let error = refused(|imatrix| {
                    let tensor = imatrix.tensors.get_mut("blk.0.ffn_up_exps.weight").unwrap();
                    if of_counts { tensor.counts[1] = bad } else { tensor.sums[1] = bad }
                });
                assert_eq!(error.kind(), "numeric", "{error}");
                let name = if of_counts { "weight.counts" } else { "weight.in_sum2" };
                assert!(error.to_string().contains(&format!("number 1 of tensor blk.0.ffn_up_exps.{name}")));
            }
        }
        let zeros = refused(|imatrix| imatrix.tensors.values_mut().for_each(|t| t.sums.fill(0.0)));
        assert!(zeros.to_string().contains("all its sums are zero"), "{zeros}");
        let none = refused(|imatrix| imatrix.tensors.values_mut().for_each(|t| t.counts.fill(0.0)));
        assert!(none.to_string().contains("counts no tokens"), "{none}");
        let empty = refused(|imatrix| imatrix.tensors.clear());
        assert!(empty.to_string().contains("no sums"), "{empty}");
    }

    #[test]
    fn what_is_no_importance_matrix_is_refused() {
        let bytes = example().to_bytes();
        for length in 0..bytes.len() - 32 {
            assert!(Imatrix::parse("x.gguf", &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        let replaced = |from: &[u8], to: &[u8]| {
            assert_eq!(from.len(), to.len());
            let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
            let mut bytes = bytes.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            Imatrix::parse("x.gguf", &bytes).unwrap_err().to_string()
        };
        let other = replaced(b"attn_q.weight.counts", b"attn_q.weight.COUNTS");
        assert!(other.contains("blk.0.attn_q.weight has sums and no counts"), "{other}");
        let other = replaced(b"attn_q.weight.in_sum2", b"attn_q.weight.IN_sum2");
        assert!(other.contains("blk.0.attn_q.weight has counts and no sums"), "{other}");
        let other = replaced(b"\x07\0\0\0\0\0\0\0imatrix", b"\x07\0\0\0\0\0\0\0adapter");
        assert!(other.contains("type adapter"), "{other}");
        let old = Imatrix::parse("x.dat", b"\x02\0\0\0\x0e\0\0\0blk.0.attn_q.w").unwrap_err();
        assert!(old.to_string().contains("older format"), "{old}");
    }
}
