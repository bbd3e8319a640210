//! Logits of a text in a safetensors file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use laminate::format::safetensors::{OutputTensor, header_bytes};
use laminate::internals::evaluate::logits::logits;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::sequences::sequences;
use laminate::{Result, TextOptions};
use safetensors::Dtype;

use crate::table::unwritable;

/// Runs the text of `options` through the model of `pass`, and writes to the file `path` its tokens, `tokens`
/// `[sequences, tokens]` in I32, and what the model predicts after each, `logits` `[sequences, tokens, vocabulary]` in F32.
///
/// # Errors
/// [`Error::Source`](laminate::Error::Source) if the file cannot be written, and those of [`sequences`] and [`logits`].
pub async fn write_logits(path: &Path, pass: &Pass<'_>, options: &TextOptions) -> Result<()> {
    let (sequences, _) = sequences(pass.model, options)?;
    let shape = [sequences.count(), sequences.tokens(), pass.model.config.vocab_size].map(|n| n as u64);
    let tensor = |name: &str, dtype, shape: &[u64]| OutputTensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes: 4 * shape.iter().product::<u64>(),
    };
    let [count, tokens, _] = shape;
    let header =
        header_bytes(&[tensor("tokens", Dtype::I32, &[count, tokens]), tensor("logits", Dtype::F32, &shape)]);
    let mut file = BufWriter::new(File::create(path).map_err(|e| unwritable(path, &e))?);
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| unwritable(path, &e));
    write(&header)?;
    // A token is an index in the vocabulary, so its bytes are the same as a signed number.
    write(&sequences.ids().iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
    let values = |logits: &[f32]| logits.iter().flat_map(|logit| logit.to_le_bytes()).collect::<Vec<_>>();
    logits(pass, &sequences, |logits| write(&values(logits))).await?;
    file.flush().map_err(|e| unwritable(path, &e))
}
