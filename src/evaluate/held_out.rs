//! Held-out text, on which compressed models are judged and to which they must not have been fitted.

use std::collections::HashSet;

use crate::device::Accelerator;
use crate::forward::context::Context;
use crate::forward::sequences::{Sequences, sequences};
use crate::forward::stream::Stream;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::Storage;
use crate::protocol::events::{Observer, Stage};
use crate::protocol::options::TextOptions;
use crate::protocol::text::TextReport;
use crate::quality::Scores;
use crate::{Error, Result};

/// Number of consecutive tokens that have to be equal for a passage to count as seen before.
const SEEN_TOKENS: usize = 24;

/// Largest share of seen tokens in a text that counts as unseen: stock phrases occur in any two texts of a
/// kind.
const MOST_SEEN: f64 = 0.01;

/// A text, the original's hidden states and scores on it, and the share of it that calibration has seen.
pub struct HeldOut {
    /// Token sequences of the text.
    pub sequences: Sequences,
    /// Name and size of the text.
    pub text: TextReport,
    /// Original layers, with their hidden states on the text.
    pub stream: Stream,
    /// Scores of the original.
    pub scores: Scores,
    /// Share of the text's tokens that occur in passages of the calibration text, 0 to 1.
    pub seen: f64,
}

impl HeldOut {
    /// Runs the original `model` on the text of `options`, and compares the text with the `calibration`
    /// sequences.
    ///
    /// # Errors
    /// Those of [`sequences`], [`Stream::open`], [`Stream::run`] and [`Context::score`].
    pub async fn run(
        model: &Model,
        accelerator: &Accelerator,
        options: &TextOptions,
        calibration: &Sequences,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (sequences, text) = sequences(model, options)?;
        let seen = overlap(calibration, &sequences);
        let (stream, scores) = original_on(&Context::new(model, accelerator, &sequences, observer)).await?;
        Ok(Self { sequences, text, stream, scores, seen })
    }

    /// Runs the original model of `context` on the first of its sequences that together have at most `tokens` tokens, but
    /// on at least one, and returns them as a text of which a share `seen` was seen in calibration.
    ///
    /// # Errors
    /// Those of [`Stream::open`], [`Stream::run`] and [`Context::score`].
    pub async fn part(context: &Context<'_>, text: &TextReport, seen: f64, tokens: usize) -> Result<Self> {
        let per_sequence = context.sequences.tokens().max(1);
        let sequences = context.sequences.first((tokens / per_sequence).max(1));
        let part = Context { sequences: &sequences, storage: Storage::of(context.model), ..*context };
        let (stream, scores) = original_on(&part).await?;
        let text = TextReport {
            sequences: sequences.count(),
            tokens_scored: (sequences.count() * (per_sequence - 1)) as u64,
            ..text.clone()
        };
        Ok(Self { sequences, text, stream, scores, seen })
    }

    /// Checks before any layer runs that models can be judged on the text of `options` after calibration on `calibration`,
    /// to which they are fitted if `is_fitted`.
    ///
    /// # Errors
    /// Those of [`sequences`] and [`check_judges`](HeldOut::check_judges).
    pub fn check(
        model: &Model,
        options: &TextOptions,
        calibration: &Sequences,
        is_fitted: bool,
    ) -> Result<()> {
        let (sequences, text) = sequences(model, options)?;
        check_seen(overlap(calibration, &sequences), &text.name, is_fitted)
    }

    /// Checks that a model, which is fitted to the calibration text if `is_fitted`, would not be judged on text to which it was
    /// fitted.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model is fitted and more than 1 % of the text was seen in calibration.
    pub fn check_judges(&self, is_fitted: bool) -> Result<()> {
        check_seen(self.seen, &self.text.name, is_fitted)
    }
}

/// Runs the layers of the original as they are, and scores them.
async fn original_on(context: &Context<'_>) -> Result<(Stream, Scores)> {
    let mut stream = Stream::open(context, NewLayer::originals(context.model)).await?;
    stream.run(context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
    let scores = context.score(stream.last()?, None).await?;
    Ok((stream, scores))
}

fn check_seen(seen: f64, name: &str, is_fitted: bool) -> Result<()> {
    if seen <= MOST_SEEN || !is_fitted {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{:.1} % of {name} was seen in calibration, and a model looks better than it is on text that it was fitted \
         to; give another text to judge on",
        100.0 * seen
    )))
}

/// Returns the share, 0 to 1, of the tokens of `text` that lie in a passage of [`SEEN_TOKENS`] tokens which
/// also occurs in `seen`; BOS is not counted. If the sequences of a text are not longer than [`SEEN_TOKENS`],
/// a passage is one token shorter than these sequences.
fn overlap(seen: &Sequences, text: &Sequences) -> f64 {
    let length = SEEN_TOKENS.min(seen.tokens() - 1).min(text.tokens() - 1).max(1);
    let after_bos = |sequences: &Sequences| usize::from(sequences.has_bos());
    let windows: HashSet<&[u32]> =
        seen.iter().flat_map(|ids| ids.get(after_bos(seen)..).unwrap_or_default().windows(length)).collect();
    let (mut covered, mut total) = (0usize, 0usize);
    for ids in text.iter() {
        let ids = ids.get(after_bos(text)..).unwrap_or_default();
        let mut end = 0;
        for (start, window) in ids.windows(length).enumerate() {
            if windows.contains(window) {
                covered += start + length - end.max(start);
                end = start + length;
            }
        }
        total += ids.len();
    }
    covered as f64 / total.max(1) as f64
}
