//! Hidden states of all sequences at one depth of the residual stream, and their copy from the device to the
//! host.

use burn::tensor::{Int, Tensor, TensorData};

use crate::model::layers::beside::Beside;
use crate::{Error, Result};

/// Number of tokens that go through a layer at once: enough to keep a processor busy, few enough that the
/// widest activation of an 8B model (14336 columns) fits in the 128 MiB binding that WebGPU guarantees.
const TOKENS_PER_CHUNK: usize = 2048;

/// Returns the number of sequences of `tokens` tokens that go through a layer at once, at least 1.
pub fn sequences_per_chunk(tokens: usize) -> usize {
    (TOKENS_PER_CHUNK / tokens.max(1)).max(1)
}

/// Hidden states of all sequences at one depth of the residual stream, on the device, in chunks of sequences.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// One tensor `[sequences, tokens, hidden]` for each chunk.
    pub chunks: Vec<Tensor<3>>,
    /// What the layers from this depth on read besides the stream, for each chunk.
    pub beside: Vec<Beside>,
}

impl HiddenStates {
    /// Makes hidden states besides which layers read nothing.
    pub fn alone(chunks: Vec<Tensor<3>>) -> Self {
        Self { beside: vec![Beside::default(); chunks.len()], chunks }
    }

    /// Returns the chunks, each with what layers read besides it.
    pub fn with_beside(&self) -> impl Iterator<Item = (&Tensor<3>, &Beside)> {
        self.chunks.iter().zip(&self.beside)
    }

    /// Returns the hidden states `[places.len(), hidden]` at `places`, which are pairs of sequence and
    /// position in ascending order of sequences.
    ///
    /// # Errors
    /// [`Error::Internal`] if a place does not exist, or there are no places.
    pub fn rows(&self, places: &[(usize, usize)]) -> Result<Tensor<2>> {
        let (mut rows, mut first, mut found) = (Vec::new(), 0, 0);
        for chunk in &self.chunks {
            let [count, tokens, hidden] = chunk.dims();
            let own = |(sequence, position): &&(usize, usize)| {
                (first..first + count).contains(sequence) && *position < tokens
            };
            let local: Vec<i32> = places
                .iter()
                .filter(own)
                .map(|(sequence, position)| ((sequence - first) * tokens + position) as i32)
                .collect();
            first += count;
            found += local.len();
            if !local.is_empty() {
                let shape = [local.len()];
                let local = Tensor::<1, Int>::from_data(TensorData::new(local, shape), &chunk.device());
                rows.push(chunk.clone().reshape([count * tokens, hidden]).select(0, local));
            }
        }
        all_of("states", rows, found, places.len())
    }

    /// Returns the hidden states of the sequences with the ascending indices `places`, as one chunk.
    ///
    /// # Errors
    /// [`Error::Internal`] if a sequence does not exist, or there are no indices.
    pub fn sequences(&self, places: &[usize]) -> Result<Self> {
        let (mut parts, mut beside, mut first) = (Vec::new(), Vec::new(), 0);
        for (chunk, beside_chunk) in self.with_beside() {
            let [count, ..] = chunk.dims();
            for place in places.iter().filter(|place| (first..first + count).contains(place)) {
                parts.push(chunk.clone().narrow(0, place - first, 1));
                beside.push(beside_chunk.sequence(place - first));
            }
            first += count;
        }
        let found = parts.len();
        let chunks = vec![all_of("sequences", parts, found, places.len())?];
        Ok(Self { chunks, beside: vec![Beside::joined(&beside)] })
    }
}

/// Concatenates `parts`. Fails if there are none, or if the number `found` differs from the number `asked`
/// for.
fn all_of<const D: usize>(
    what: &str,
    parts: Vec<Tensor<D>>,
    found: usize,
    asked: usize,
) -> Result<Tensor<D>> {
    if found != asked || parts.is_empty() {
        return Err(Error::internal(format!("{found} of {asked} {what} were found")));
    }
    Ok(Tensor::cat(parts, 0))
}

/// Copies a tensor to the host, row-major. `what` names the work at hand in errors, such as "while scoring".
///
/// # Errors
/// [`Error::Device`] if the device fails or the tensor is not `f32`.
pub async fn to_host<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>> {
    let lost = |why| {
        Error::Device(format!("the device failed {what} ({why}); run again, on the CPU if it fails again"))
    };
    crate::device::read(tensor).await.map_err(lost)
}

/// Reshapes hidden states `[batch, tokens, hidden]` to rows `[batch tokens, hidden]`.
pub fn as_rows(states: &Tensor<3>) -> Tensor<2> {
    let [batch, tokens, hidden] = states.dims();
    states.clone().reshape([batch * tokens, hidden])
}
