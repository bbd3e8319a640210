//! Token sequences to hidden states, layer-major: all sequences through one layer, then the next.

use burn::tensor::{Int, Tensor, TensorData};

use crate::calibration::{PointRule, Sequences};
use crate::device::Accelerator;
use crate::model::Model;
use crate::model::attention::Positions;
use crate::model::layer::DecoderLayer;
use crate::model::names::TensorId;
use crate::model::new_layer::NewLayer;
use crate::model::storage::Storage;
use crate::model::weights::{LayerFetch, LayerTensors, RowsFetch};
use crate::{Error, Result};

/// Tokens that go through a layer at once: enough to keep a processor busy, few enough that the
/// widest activation of an 8B model (14336 columns) fits in WebGPU's guaranteed 128 MiB binding.
const TOKENS_PER_CHUNK: usize = 2048;

/// Embedding rows are read in pieces of at most this many bytes.
const EMBEDDING_PIECE_BYTES: u64 = 16 << 20;

/// Rows further apart than this are read separately: what lies between would take longer than a request.
const EMBEDDING_GAP_BYTES: u64 = 256 << 10;

/// Pieces that are read at once.
const EMBEDDING_READS: usize = 8;

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
    /// The states `[places.len(), hidden]` at `places` of (sequence, position), which come in ascending order
    /// of sequences. Places that do not exist are left out.
    pub fn rows(&self, places: &[(usize, usize)]) -> Tensor<2> {
        let (mut rows, mut first) = (Vec::new(), 0);
        for chunk in &self.chunks {
            let [count, tokens, hidden] = chunk.dims();
            let own = |(sequence, _): &&(usize, usize)| (first..first + count).contains(sequence);
            let local: Vec<i32> = places
                .iter()
                .filter(own)
                .filter(|(_, position)| *position < tokens)
                .map(|(sequence, position)| ((sequence - first) * tokens + position) as i32)
                .collect();
            first += count;
            if !local.is_empty() {
                let shape = [local.len()];
                let local = Tensor::<1, Int>::from_data(TensorData::new(local, shape), &chunk.device());
                rows.push(chunk.clone().reshape([count * tokens, hidden]).select(0, local));
            }
        }
        Tensor::cat(rows, 0)
    }

    /// Those of the sequences at `places`, ascending, as one chunk. Places that do not exist are left out.
    #[must_use]
    pub fn sequences(&self, places: &[usize]) -> Self {
        let (mut parts, mut first) = (Vec::new(), 0);
        for chunk in &self.chunks {
            let [count, ..] = chunk.dims();
            for place in places.iter().filter(|place| (first..first + count).contains(place)) {
                parts.push(chunk.clone().narrow(0, place - first, 1));
            }
            first += count;
        }
        Self { chunks: vec![Tensor::cat(parts, 0)] }
    }
}

/// What a layer did, read back from the device.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerOutput {
    /// Points in `f32`, row-major `[n_points, hidden]`, sequence by sequence.
    pub points: Vec<f32>,
    /// The largest root mean square of a token's state after the layer, BOS included.
    pub largest_rms: f64,
    /// `1 - E cos(x_in, x_out)` over all tokens but BOS.
    pub block_influence: f64,
}

/// Everything that running layers needs besides the states.
pub struct Runner<'a> {
    model: &'a Model,
    accelerator: &'a Accelerator,
    positions: Positions,
}

impl<'a> Runner<'a> {
    /// Prepares for sequences of `tokens` tokens.
    pub fn new(model: &'a Model, accelerator: &'a Accelerator, tokens: usize) -> Self {
        let positions = Positions::new(&model.config, tokens, accelerator.device());
        Self { model, accelerator, positions }
    }

    /// What attention knows about positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Embeds `sequences`, reading only the rows of tokens that occur.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn embed(&self, sequences: &Sequences) -> Result<HiddenStates> {
        let hidden = self.model.config.hidden_size;
        let rows = EmbeddingRows::read(self.model, sequences.ids()).await?;
        let chunks = sequences
            .ids()
            .chunks(sequences_per_chunk(sequences.tokens()) * sequences.tokens())
            .map(|ids| {
                let values: Vec<f32> = ids.iter().flat_map(|id| rows.row(*id)).copied().collect();
                let shape = [ids.len() / sequences.tokens(), sequences.tokens(), hidden];
                Tensor::from_data(TensorData::new(values, shape), self.accelerator.device())
            })
            .collect();
        Ok(HiddenStates { chunks })
    }

    /// Begins fetching a layer, so that it can be used later without waiting.
    ///
    /// # Errors
    /// As [`LayerFetch::start`].
    pub fn fetch(&self, layer: &NewLayer, storage: Storage) -> Result<LayerFetch<'a>> {
        LayerFetch::start(self.model, layer, storage)
    }

    /// Uploads a fetched layer.
    ///
    /// # Errors
    /// As [`DecoderLayer::upload`].
    pub fn upload(&self, tensors: LayerTensors) -> Result<DecoderLayer> {
        DecoderLayer::upload(
            &self.model.config,
            tensors,
            self.accelerator.max_binding_bytes(),
            self.accelerator.device(),
        )
    }

    /// `layers` in order, ready to be run one after the other.
    ///
    /// # Errors
    /// As [`fetch`](Runner::fetch).
    pub fn ahead<'r>(&'r self, layers: &'r [NewLayer], storage: Storage) -> Result<Ahead<'r, 'a>> {
        let mut ahead = Ahead { runner: self, layers: layers.iter(), storage, next: None };
        ahead.begin()?;
        Ok(ahead)
    }

    /// All sequences through one layer.
    ///
    /// # Errors
    /// As [`DecoderLayer::forward`].
    pub fn forward(&self, layer: &DecoderLayer, states: &HiddenStates) -> Result<HiddenStates> {
        let through = |x: &Tensor<3>| layer.forward(x.clone(), &self.positions);
        Ok(HiddenStates { chunks: states.chunks.iter().map(through).collect::<Result<_>>()? })
    }
}

/// Layers one after the other; while one is run, the bytes of the next are on their way.
pub struct Ahead<'r, 'a> {
    runner: &'r Runner<'a>,
    layers: std::slice::Iter<'r, NewLayer>,
    storage: Storage,
    next: Option<LayerFetch<'a>>,
}

impl Ahead<'_, '_> {
    /// The next layer, uploaded; `None` after the last.
    ///
    /// # Errors
    /// What reading gives, and as [`Runner::upload`].
    pub async fn next(&mut self) -> Result<Option<DecoderLayer>> {
        let Some(fetched) = self.next.take() else { return Ok(None) };
        let tensors = fetched.finish().await?;
        self.begin()?;
        self.runner.upload(tensors).map(Some)
    }

    fn begin(&mut self) -> Result<()> {
        self.next = self.layers.next().map(|layer| self.runner.fetch(layer, self.storage)).transpose()?;
        Ok(())
    }
}

/// Reads what the later stages need of a layer: its points, its largest token and how much it
/// turned the stream.
///
/// # Errors
/// [`Error::Device`] if the device fails, [`Error::Numeric`] if a state is not finite, naming `layer`.
pub async fn observe(
    layer: usize,
    before: &HiddenStates,
    after: &HiddenStates,
    rule: PointRule,
    has_bos: bool,
) -> Result<LayerOutput> {
    let mut output = LayerOutput { points: Vec::new(), largest_rms: 0.0, block_influence: 0.0 };
    let at = format!("at layer {layer}");
    let (mut cosines, mut n_cosines) = (0.0, 0usize);
    for (x, y) in before.chunks.iter().zip(&after.chunks) {
        let [_, tokens, hidden] = y.dims();
        output.points.extend(read(points(y, rule, has_bos)?, &at).await?);
        let dot = (x.clone() * y.clone()).sum_dim(2);
        let norms = [x.clone().square().sum_dim(2), y.clone().square().sum_dim(2)];
        let [norm_in, norm_out] = norms;
        let sums = read(Tensor::cat(vec![dot, norm_in, norm_out], 2), &at).await?;
        for (position, token) in sums.chunks_exact(3).enumerate() {
            let [dot, a, b] = [token[0], token[1], token[2]].map(f64::from);
            if !(dot.is_finite() && a.is_finite() && b.is_finite()) {
                return Err(Error::Numeric(format!(
                    "the states after layer {layer} overflow; its weights are damaged"
                )));
            }
            output.largest_rms = output.largest_rms.max((b / hidden as f64).sqrt());
            if !(has_bos && position % tokens == 0) {
                // A zero state has no direction; it counts as unturned.
                cosines += if a > 0.0 && b > 0.0 { dot / (a.sqrt() * b.sqrt()) } else { 1.0 };
                n_cosines += 1;
            }
        }
    }
    output.block_influence = 1.0 - cosines / n_cosines.max(1) as f64;
    Ok(output)
}

fn points(states: &Tensor<3>, rule: PointRule, has_bos: bool) -> Result<Tensor<3>> {
    let [_, tokens, _] = states.dims();
    let first = usize::from(has_bos).min(tokens.saturating_sub(1));
    if rule == PointRule::Mean {
        return Ok(states.clone().narrow(1, first, tokens - first).mean_dim(1));
    }
    let columns = rule
        .positions(tokens, has_bos)?
        .into_iter()
        .map(|position| states.clone().narrow(1, position, 1))
        .collect();
    Ok(Tensor::cat(columns, 1))
}

/// Copies a tensor to the host; `what` says in an error what was going on.
pub(crate) async fn read<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>> {
    let lost = |e: String| {
        // Drivers answer in paragraphs; the first line says what happened.
        let first: String = e.lines().next().unwrap_or_default().chars().take(160).collect();
        Error::Device(format!("the device failed {what} ({first}); run again, on the CPU if it fails again"))
    };
    let data = tensor.into_data_async().await.map_err(|e| lost(format!("{e:?}")))?;
    data.try_into_vec::<f32>().map_err(|e| lost(format!("{e:?}")))
}

/// The embedding rows of the tokens that occur.
struct EmbeddingRows {
    hidden: usize,
    /// Sorted ids; row `i` of `values` belongs to `ids[i]`.
    ids: Vec<u32>,
    values: Vec<f32>,
}

impl EmbeddingRows {
    async fn read(model: &Model, ids: &[u32]) -> Result<Self> {
        let hidden = model.config.hidden_size;
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let row_bytes = model
            .tensor(TensorId::Embedding)
            .map_or(4 * hidden as u64, |t| t.bytes / t.shape.first().copied().unwrap_or(1).max(1));
        let mut values = Vec::with_capacity(ids.len() * hidden);
        let runs =
            runs(&ids, EMBEDDING_PIECE_BYTES / row_bytes.max(1), EMBEDDING_GAP_BYTES / row_bytes.max(1));
        for group in runs.chunks(EMBEDDING_READS) {
            // All of a group are on their way before the first is awaited.
            let reads = group.iter().map(|run| {
                let (first, last) = run.first().zip(run.last()).map_or((0, 0), |(a, b)| (*a, *b));
                let count = u64::from(last - first) + 1;
                Ok((first, run, RowsFetch::start(model, TensorId::Embedding, first.into(), count)?))
            });
            for (first, run, fetch) in reads.collect::<Result<Vec<_>>>()? {
                let rows = fetch.finish().await?;
                for id in run.iter() {
                    values.extend_from_slice(&rows.rows((id - first) as usize, 1, hidden)?);
                }
            }
        }
        Ok(Self { hidden, ids, values })
    }

    fn row(&self, id: u32) -> &[f32] {
        let place = self.ids.binary_search(&id).unwrap_or(0);
        self.values.get(place * self.hidden..(place + 1) * self.hidden).unwrap_or_default()
    }
}

/// Cuts sorted ids into runs that span at most `longest` rows and have no gap of more than `gap`.
fn runs(ids: &[u32], longest: u64, gap: u64) -> Vec<&[u32]> {
    let mut runs = Vec::new();
    let mut rest = ids;
    while let Some(first) = rest.first() {
        let near = |(before, id): &(&u32, &u32)| {
            u64::from(*id - *before) <= gap.max(1) && u64::from(*id - first) < longest.max(1)
        };
        let n = 1 + rest.iter().zip(rest.iter().skip(1)).take_while(near).count();
        let (run, later) = rest.split_at(n);
        runs.push(run);
        rest = later;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_short_have_no_gaps_and_hold_every_id() {
        assert_eq!(runs(&[1, 2, 5, 50, 51, 60], 100, 9), [&[1, 2, 5][..], &[50, 51, 60]]);
        assert_eq!(runs(&[1, 2, 3, 4, 5], 2, 9), [&[1, 2][..], &[3, 4], &[5]]);
        assert_eq!(runs(&[7, 9], 0, 0), [[7], [9]]);
        assert!(runs(&[], 5, 5).is_empty());
    }
}
