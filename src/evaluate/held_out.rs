//! The text that models are judged on, which they must not have been fitted to.

use std::collections::HashSet;

use crate::device::Accelerator;
use crate::forward::context::Context;
use crate::forward::sequences::{Sequences, sequences};
use crate::forward::stream::Stream;
use crate::model::Model;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::Operator;
use crate::protocol::events::{Observer, Stage};
use crate::protocol::options::TextOptions;
use crate::protocol::text::TextReport;
use crate::quality::Scores;
use crate::{Error, Result};

/// Tokens in a row that have to be the same for a text to count as seen before.
const SEEN_TOKENS: usize = 24;

/// The share of a text up to which it counts as unseen: stock phrases are in any two texts of a kind.
const MOST_SEEN: f64 = 0.01;

/// A text, what the original does on it, and how much of it was calibrated on.
pub struct HeldOut {
    /// The text.
    pub sequences: Sequences,
    /// Its name and size.
    pub text: TextReport,
    /// The original's states on it.
    pub stream: Stream,
    /// The original's scores.
    pub scores: Scores,
    /// The share of its tokens that calibration has seen, 0 to 1.
    pub seen: f64,
}

impl HeldOut {
    /// Runs the original on the text of `options`; `calibration` is what it was calibrated on.
    ///
    /// # Errors
    /// What is wrong with the text, and what running gives.
    pub async fn run(
        model: &Model,
        accelerator: &Accelerator,
        options: &TextOptions,
        calibration: &Sequences,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (sequences, text) = sequences(model, options)?;
        let seen = overlap(calibration, &sequences);
        let context = Context::new(model, accelerator, &sequences, observer);
        let mut stream = Stream::open(&context, NewLayer::originals(model)).await?;
        stream.run(&context, Stage::Evaluate, 0, async |_, _, _| Ok(())).await?;
        let scores = context.score(stream.last()?, None).await?;
        Ok(Self { sequences, text, stream, scores, seen })
    }

    /// Fails where a model of `operator` would be judged on what it was fitted to.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_judges(&self, operator: Operator) -> Result<()> {
        if self.seen <= MOST_SEEN || !operator.needs_activations() {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{:.1} % of {} was seen in calibration, and a model looks better than it is on text that it was fitted \
             to; give another text to judge on",
            100.0 * self.seen,
            self.text.name
        )))
    }
}

/// The share of the tokens of `text` that stand in a row of [`SEEN_TOKENS`] which `seen` has too, 0 to 1; BOS
/// aside. Texts of shorter sequences are compared by whole sequences.
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
