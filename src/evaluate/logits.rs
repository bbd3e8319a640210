//! Logits of a text, for a comparison with other programs.

use burn::tensor::Tensor;

use crate::forward::pass::Pass;
use crate::forward::sequences::Sequences;
use crate::forward::states::to_host;
use crate::model::layers::head::Head;
use crate::protocol::events::{Stage, Unit};
use crate::{Error, Result};

/// Runs `sequences` through `pass` and gives the logits of each sequence to `take`, in order: row-major
/// `[tokens, vocabulary]`, where row `i` predicts the token after token `i`. The logits of one sequence are in memory, and
/// the head is read once for each sequence.
///
/// # Errors
/// Those of [`Pass::run`], [`Head::open`], [`Head::normalise`], [`Head::fetch`], [`Head::upload`],
/// [`HeadSlice::logits`](crate::model::layers::head::HeadSlice::logits), [`to_host`],
/// [`Observer::event`](crate::protocol::events::Observer::event) and `take`.
pub async fn logits(
    pass: &Pass<'_>,
    sequences: &Sequences,
    mut take: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let states = pass.run(sequences, pass.observer).await?;
    let (tokens, width) = (sequences.tokens(), pass.model.config.vocab_size);
    let head = Head::open(pass.model, pass.storage, pass.accelerator, tokens).await?;
    let mut logits = vec![0.0; tokens * width];
    for place in 0..sequences.count() {
        let places: Vec<_> = (0..tokens).map(|token| (place, token)).collect();
        let states = head.normalise(states.rows(&places)?)?;
        fill(&head, states, &mut logits).await?;
        take(&logits)?;
        let detail = format!("logits of sequence {} of {}", place + 1, sequences.count());
        let rows = |sequences: usize| (sequences * width) as u64;
        let (done, total) = (rows(place + 1), rows(sequences.count()));
        pass.observer.progress(Stage::Evaluate, done, total, Unit::Rows, detail).await?;
    }
    Ok(())
}

/// Fills `logits`, row-major `[n, vocabulary]`, with those of the normalised `states` `[n, hidden]`.
async fn fill(head: &Head<'_>, states: Tensor<2>, logits: &mut [f32]) -> Result<()> {
    let mut next = head.fetch(0)?;
    while let Some(fetched) = next.take() {
        let slice = head.upload(fetched).await?;
        next = head.fetch(slice.first + slice.count)?;
        let part = to_host(slice.logits(states.clone())?, "while computing logits").await?;
        if part.len() * head.n_rows() != logits.len() * slice.count {
            return Err(Error::internal("a slice of the head has another number of logits"));
        }
        for (row, part) in logits.chunks_exact_mut(head.n_rows()).zip(part.chunks_exact(slice.count)) {
            if let Some(row) = row.get_mut(slice.first..slice.first + slice.count) {
                row.copy_from_slice(part);
            }
        }
    }
    Ok(())
}
