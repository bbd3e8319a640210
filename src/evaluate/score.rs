//! Scores of a text: log-likelihood, KL divergence and top-1 agreement, streamed over the vocabulary.
//!
//! The rows of the head are read in slices. For each token a running maximum, sum of exponentials and
//! divergence numerator are kept, as in an online softmax, so that the logits of only one slice exist at a
//! time:
//!
//! `KL(p || q) = sum_v p_v (z_v - y_v) - lse(z) + lse(y)` for logits `z` of the original and `y` of the other
//! model, with `p = softmax(z)` and `q = softmax(y)`.

mod slice;
mod token;

use burn::tensor::Tensor;

use self::slice::{HostReference, rows_on_device, rows_on_host};
pub use self::token::Softmax;
use self::token::Token;
use crate::device::Accelerator;
use crate::error::OrInternal;
use crate::forward::context::Context;
use crate::forward::pass::Pass;
use crate::forward::sequences::Sequences;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::forward::stream::Stream;
use crate::kernels::rowwise;
use crate::model::Model;
use crate::model::layers::head::{Head, HeadSlice};
use crate::model::weights::storage::Storage;
use crate::protocol::events::{Observer, Stage, Unit};
use crate::quality::Scores;
use crate::{Error, Result};

/// A model and its hidden states after the last layer, ready for the head.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// Model whose head computes the logits.
    pub model: &'a Model,
    /// Storage of the head, so that the arithmetic sees the values that a file would hold.
    pub storage: Storage,
    /// Hidden states after the last layer.
    pub states: &'a HiddenStates,
}

impl<'a> Output<'a> {
    async fn head(self, accelerator: &'a Accelerator, n_rows: usize) -> Result<Head<'a>> {
        Head::open(self.model, self.storage, accelerator, n_rows).await
    }
}

/// Scores `sequences` by `own`, and compares `own` with the `original` if there is one. Both models must have
/// the same vocabulary.
///
/// # Errors
/// - [`Error::Numeric`] if a log-likelihood is not finite;
/// - [`Error::Device`] if the device fails;
/// - [`Error::Internal`] if the states are not those of `sequences`;
/// - those of [`Head::open`], [`Head::normalise`], [`Head::fetch`], [`Head::upload`], [`HeadSlice::logits`]
///   and [`Observer::event`].
pub async fn score(
    accelerator: &Accelerator,
    sequences: &Sequences,
    own: Output<'_>,
    original: Option<Output<'_>>,
    observer: &dyn Observer,
) -> Result<Scores> {
    let scores = score_through_head(accelerator, sequences, own, &[own.states], original, observer).await?;
    scores.into_iter().next().ok_or_else(|| Error::internal("a model was not scored"))
}

/// Scores several sets of hidden states of the sequences of `context`. All of them belong to models with the head of the
/// model of `context`, stored as `context` says, and the states of the `original` to that model as it is.
///
/// # Errors
/// Those of [`score`].
pub async fn score_all(
    context: &Context<'_>,
    states: &[&HiddenStates],
    original: Option<&HiddenStates>,
) -> Result<Vec<Scores>> {
    let Context { accelerator, sequences, observer, .. } = *context;
    let Some(own) = states.first().map(|states| context.output(states)) else { return Ok(Vec::new()) };
    let original = original.map(|states| context.original_output(states));
    score_through_head(accelerator, sequences, own, states, original, observer).await
}

async fn score_through_head(
    accelerator: &Accelerator,
    sequences: &Sequences,
    own: Output<'_>,
    owns: &[&HiddenStates],
    original: Option<Output<'_>>,
    observer: &dyn Observer,
) -> Result<Vec<Scores>> {
    let per_chunk = sequences_per_chunk(sequences.tokens());
    let n_rows = per_chunk * sequences.tokens();
    let head = own.head(accelerator, n_rows).await?;
    // A merged model has the head of its original, so each slice is read once for both, unless it is stored otherwise.
    let other_head = match original {
        Some(original)
            if !std::ptr::eq(original.model, own.model)
                || original.storage.head(original.model)? != head.element() =>
        {
            Some(original.head(accelerator, n_rows).await?)
        }
        _ => None,
    };
    let mut chunks = Vec::new();
    for place in 0..sequences.count().div_ceil(per_chunk) {
        let chunk = |states: &HiddenStates| {
            states.chunks.get(place).cloned().or_internal("states of some sequences are missing")
        };
        let targets: Vec<u32> = sequences
            .iter()
            .skip(place * per_chunk)
            .take(per_chunk)
            .flat_map(|s| s.get(1..).unwrap_or_default())
            .copied()
            .collect();
        let own = |states: &&HiddenStates| head.normalise(scored(&chunk(states)?));
        let reference = match original {
            Some(original) => {
                Some(other_head.as_ref().unwrap_or(&head).normalise(scored(&chunk(original.states)?))?)
            }
            None => None,
        };
        chunks.push(Chunk {
            tokens: vec![vec![Token::default(); targets.len()]; owns.len()],
            owns: owns.iter().map(own).collect::<Result<_>>()?,
            reference,
            targets,
        });
    }
    through_head(accelerator, &head, other_head.as_ref(), &mut chunks, observer).await?;
    let per_sequence = sequences.tokens() - 1;
    (0..owns.len()).map(|place| summed(&chunks, place, per_sequence, original.is_some())).collect()
}

/// Sums the scores of the states at index `place` over all tokens. Every `per_sequence` tokens belong to one
/// sequence; `compared` says whether there is an original.
fn summed(chunks: &[Chunk], place: usize, per_sequence: usize, compared: bool) -> Result<Scores> {
    let mut scores = Scores {
        original_nll: compared.then_some(0.0),
        kl: compared.then_some(0.0),
        agreements: compared.then_some(0),
        ..Scores::default()
    };
    for tokens in chunks.iter().filter_map(|chunk| chunk.tokens.get(place)) {
        for tokens in tokens.chunks(per_sequence.max(1)) {
            let before = scores.kl;
            tokens.iter().for_each(|token| token.add_to(&mut scores));
            let kl = scores.kl.zip(before).map(|(after, before)| (after - before) / tokens.len() as f64);
            scores.kl_by_sequence.extend(kl);
        }
    }
    if !scores.nll.is_finite() || scores.original_nll.is_some_and(|nll| !nll.is_finite()) {
        return Err(damaged());
    }
    Ok(scores)
}

/// Prediction of a model after one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Log-probability of the target token in nats.
    pub log_probability: f64,
    /// Most likely token.
    pub best: u32,
}

/// Predicts the token after each of the hidden states `[n, hidden]`, which left the last layer of `pass`.
/// The target of state `i` is `targets[i]`.
///
/// # Errors
/// Those of [`score`].
pub async fn predict(
    pass: &Pass<'_>,
    states: Tensor<2>,
    targets: &[u32],
    observer: &dyn Observer,
) -> Result<Vec<Prediction>> {
    // The states are independent, as if every sequence had one token.
    let per_chunk = sequences_per_chunk(1);
    let Pass { model, storage, accelerator, .. } = *pass;
    let head = Head::open(model, storage, accelerator, targets.len().min(per_chunk)).await?;
    let mut chunks = Vec::new();
    for (place, targets) in targets.chunks(per_chunk).enumerate() {
        let own = head.normalise(states.clone().narrow(0, place * per_chunk, targets.len()))?;
        let tokens = vec![vec![Token::default(); targets.len()]];
        chunks.push(Chunk { owns: vec![own], reference: None, tokens, targets: targets.to_vec() });
    }
    through_head(accelerator, &head, None, &mut chunks, observer).await?;
    let prediction = |token: &Token| {
        let log_probability = token.target - token.own.log_sum();
        let best = u32::try_from(token.own.argmax).unwrap_or(u32::MAX);
        if log_probability.is_finite() { Ok(Prediction { log_probability, best }) } else { Err(damaged()) }
    };
    chunks.iter().flat_map(|chunk| chunk.tokens.iter().flatten()).map(prediction).collect()
}

fn damaged() -> Error {
    Error::Numeric("the log-likelihood of the text is not finite: the model's weights are damaged".to_owned())
}

/// Adds all slices of `head` to each chunk, with the slices of `other_head` if the original has another head.
async fn through_head(
    accelerator: &Accelerator,
    head: &Head<'_>,
    other_head: Option<&Head<'_>>,
    chunks: &mut [Chunk],
    observer: &dyn Observer,
) -> Result<()> {
    let fetch = |first| -> Result<_> {
        let other = other_head.map(|head| head.fetch(first)).transpose()?.flatten();
        Ok(head.fetch(first)?.map(|own| (own, other)))
    };
    let mut next = fetch(0)?;
    while let Some((own, other)) = next.take() {
        let slice = head.upload(own).await?;
        let other_slice = match (other_head, other) {
            (Some(head), Some(fetched)) => Some(head.upload(fetched).await?),
            _ => None,
        };
        let first = slice.first + slice.count;
        // The bytes of the next slice are read while this slice is multiplied.
        next = fetch(first)?;
        for chunk in chunks.iter_mut() {
            chunk.add(&slice, other_slice.as_ref().unwrap_or(&slice), accelerator).await?;
        }
        let detail = format!("row {first} of {} of the head", head.n_rows());
        let (done, total) = (first as u64, head.n_rows() as u64);
        observer.progress(Stage::Evaluate, done, total, Unit::Rows, detail).await?;
    }
    Ok(())
}

/// Returns the states that predict a token, which are all but the last of each sequence, as rows
/// `[batch (tokens - 1), hidden]`.
fn scored(states: &Tensor<3>) -> Tensor<2> {
    let [batch, tokens, hidden] = states.dims();
    states.clone().narrow(1, 0, tokens - 1).reshape([batch * (tokens - 1), hidden])
}

/// Some sequences, with their hidden states in every model.
struct Chunk {
    /// Normalised hidden states `[n, hidden]` of each model.
    owns: Vec<Tensor<2>>,
    /// Normalised hidden states `[n, hidden]` of the original.
    reference: Option<Tensor<2>>,
    /// Token after each hidden state.
    targets: Vec<u32>,
    /// Running sums of each hidden state, for each of `owns`.
    tokens: Vec<Vec<Token>>,
}

impl Chunk {
    /// Adds a slice of the vocabulary; `other` is the same slice of the original's head.
    async fn add(&mut self, slice: &HeadSlice, other: &HeadSlice, accelerator: &Accelerator) -> Result<()> {
        let z = self.reference.as_ref().map(|states| other.logits(states.clone())).transpose()?;
        let is_host = rowwise::is_host(accelerator.device());
        // The original's logits are taken from the tensor and reduced once for all models.
        let (z, reference) = match (is_host, z) {
            (true, Some(z)) => (None, Some(HostReference::new(z, self.targets.len(), slice.count)?)),
            (_, z) => (z, None),
        };
        for (own, tokens) in self.owns.iter().zip(&mut self.tokens) {
            let y = slice.logits(own.clone())?;
            let rows = match is_host {
                true => rows_on_host(y, reference.as_ref(), &self.targets, slice)?,
                false => rows_on_device(y, z.clone(), &self.targets, slice, accelerator).await?,
            };
            for (token, row) in tokens.iter_mut().zip(rows) {
                token.absorb(&row);
            }
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Scores hidden states after the last layer, and compares them with the states of the `original` if
    /// there are any.
    ///
    /// # Errors
    /// Those of [`score`].
    pub async fn score(&self, states: &HiddenStates, original: Option<&HiddenStates>) -> Result<Scores> {
        let (own, original) = (self.output(states), original.map(|states| self.original_output(states)));
        score(self.accelerator, self.sequences, own, original, self.observer).await
    }

    /// Returns the output of a model that is stored as the context says.
    fn output<'s>(&'s self, states: &'s HiddenStates) -> Output<'s> {
        Output { model: self.model, storage: self.storage, states }
    }

    /// Returns the output of the original as it is.
    fn original_output<'s>(&'s self, states: &'s HiddenStates) -> Output<'s> {
        Output { storage: Storage::of(self.model), ..self.output(states) }
    }
}

impl Stream {
    /// Runs the layers from `from` on and scores the hidden states after the last layer.
    ///
    /// # Errors
    /// Those of [`Stream::run`] and [`Context::score`].
    pub async fn run_and_score(
        &mut self,
        context: &Context<'_>,
        from: usize,
        original: Option<&HiddenStates>,
    ) -> Result<Scores> {
        self.run(context, Stage::Evaluate, from, async |_, _, _| Ok(())).await?;
        context.score(self.last()?, original).await
    }
}
