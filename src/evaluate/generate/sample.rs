//! Random draw of the next token with the probabilities of a model.

use burn::tensor::Tensor;

use crate::forward::pass::Pass;
use crate::forward::states::to_host;
use crate::model::layers::head::Head;
use crate::{Error, Result};

/// Draws one token after each of the hidden states `[n, hidden]` that left the last layer of `pass`, with
/// the model's probabilities of all tokens except `barred`. `noise(row, token)` must be independent uniform
/// numbers in the open interval from 0 to 1.
///
/// By the Gumbel-max trick, the token with the largest `logit - ln(-ln(noise))` is such a draw, so the
/// vocabulary is processed slice by slice and no logits are kept.
///
/// # Errors
/// Those of [`Head::open`], [`Head::normalise`], [`Head::fetch`], [`Head::upload`],
/// [`HeadSlice::logits`](crate::model::layers::head::HeadSlice::logits) and [`to_host`], and [`Error::Numeric`] if all
/// logits of a state are NaN or minus infinity.
pub async fn sample(
    pass: &Pass<'_>,
    states: Tensor<2>,
    barred: &[u32],
    noise: impl Fn(usize, u32) -> f64,
) -> Result<Vec<u32>> {
    let [n, _] = states.dims();
    let head = Head::open(pass.model, pass.storage, pass.accelerator, n).await?;
    let states = head.normalise(states)?;
    let mut best = vec![(f64::NEG_INFINITY, 0u32); n];
    let mut next = head.fetch(0)?;
    while let Some(fetched) = next.take() {
        let slice = head.upload(fetched).await?;
        next = head.fetch(slice.first + slice.count)?;
        let logits = to_host(slice.logits(states.clone())?, "while drawing a token").await?;
        for (row, (logits, best)) in logits.chunks(slice.count).zip(&mut best).enumerate() {
            for (token, logit) in (slice.first as u32..).zip(logits) {
                let drawn = f64::from(*logit) - (-noise(row, token).ln()).ln();
                if drawn > best.0 && !barred.contains(&token) {
                    *best = (drawn, token);
                }
            }
        }
    }
    if best.iter().any(|(drawn, _)| *drawn == f64::NEG_INFINITY) {
        return Err(Error::Numeric(
            "no token can be drawn: the logits are not finite, because the model's weights are damaged"
                .to_owned(),
        ));
    }
    Ok(best.into_iter().map(|(_, token)| token).collect())
}
