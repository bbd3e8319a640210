//! The residual stream of all sequences at one depth, and its way from the device to the host.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{Error, Result};

/// Tokens that go through a layer at once: enough to keep a processor busy, few enough that the
/// widest activation of an 8B model (14336 columns) fits in WebGPU's guaranteed 128 MiB binding.
const TOKENS_PER_CHUNK: usize = 2048;

/// How many sequences of `tokens` tokens go through a layer at once.
pub fn sequences_per_chunk(tokens: usize) -> usize {
    (TOKENS_PER_CHUNK / tokens.max(1)).max(1)
}

/// The residual stream of all sequences at one depth, on the device, in chunks of sequences.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// `[sequences, tokens, hidden]` each.
    pub chunks: Vec<Tensor<3>>,
}

impl HiddenStates {
    /// The states `[places.len(), hidden]` at `places` of (sequence, position), in ascending order of sequences.
    ///
    /// # Errors
    /// [`Error::Internal`] for a place that does not exist.
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

    /// The states of the sequences at `places`, ascending, as one chunk.
    ///
    /// # Errors
    /// [`Error::Internal`] for a sequence that does not exist.
    pub fn sequences(&self, places: &[usize]) -> Result<Self> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for chunk in &self.chunks {
            let [count, ..] = chunk.dims();
            for place in places.iter().filter(|place| (first..first + count).contains(place)) {
                parts.push(chunk.clone().narrow(0, place - first, 1));
            }
            first += count;
        }
        let found = parts.len();
        Ok(Self { chunks: vec![all_of("sequences", parts, found, places.len())?] })
    }
}

/// `parts` one after the other, if as many were `found` as were `asked` for, and any.
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

/// Copies a tensor to the host; `what` says in an error what was going on.
pub async fn to_host<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>> {
    let lost = |e: String| {
        // Drivers answer in paragraphs; the first line says what happened.
        let first: String = e.lines().next().unwrap_or_default().chars().take(160).collect();
        Error::Device(format!("the device failed {what} ({first}); run again, on the CPU if it fails again"))
    };
    let data = tensor.into_data_async().await.map_err(|e| lost(format!("{e:?}")))?;
    data.try_into_vec::<f32>().map_err(|e| lost(format!("{e:?}")))
}

/// Rows `[batch tokens, hidden]` of states.
pub fn as_rows(states: &Tensor<3>) -> Tensor<2> {
    let [batch, tokens, hidden] = states.dims();
    states.clone().reshape([batch * tokens, hidden])
}
