//! Quality of a model on a text, alone or against its original.

use web_time::Instant;

use super::{Output, score};
use crate::device::Accelerator;
use crate::forward::pass::Pass;
use crate::forward::sequences::{Sequences, sequences};
use crate::model::Model;
use crate::model::weights::storage::Storage;
use crate::protocol::evaluate::EvaluateReport;
use crate::protocol::events::Observer;
use crate::protocol::model::ModelReport;
use crate::protocol::options::TextOptions;
use crate::quality::{Quality, is_collapsed};
use crate::{Error, Result, memory};

/// Measures the perplexity of `model` on the text of `options`. With an `original`, the original's
/// perplexity, the KL divergence from the original and the top-1 agreement with the original are measured on
/// the same tokens.
///
/// # Errors
/// [`Error::Usage`] if the two models have different vocabularies or turn the text into different tokens, or
/// if sequences of that length are not possible; [`Error::Limit`] if the text does not fill a sequence or is
/// larger than 64 MiB; [`Error::Source`], [`Error::Format`] or [`Error::Shape`] if weights cannot be read or
/// do not fit the configuration; [`Error::Numeric`] if a weight or a log-likelihood is not finite;
/// [`Error::Device`] if the device fails; those of [`Observer::event`].
pub async fn evaluate(
    model: &Model,
    original: Option<&Model>,
    accelerator: &Accelerator,
    options: &TextOptions,
    observer: &dyn Observer,
) -> Result<EvaluateReport> {
    let start = Instant::now();
    let (sequences, text) = sequences(model, options)?;
    if let Some(original) = original {
        check_same_tokens(model, original, &sequences, options)?;
    }
    let states = async |model| Pass::original(model, accelerator, observer).run(&sequences, observer).await;
    let own = states(model).await?;
    let reference = match original {
        Some(original) => Some((original, states(original).await?)),
        None => None,
    };
    let own = Output { model, storage: Storage::of(model), states: &own };
    let reference =
        reference.as_ref().map(|(model, states)| Output { model, storage: Storage::of(model), states });
    let scores = score(accelerator, &sequences, own, reference, observer).await?;
    let original_perplexity = scores.original_perplexity();
    let quality = match original_perplexity {
        None => Quality::original(&scores),
        Some(original) => Quality::compressed(&scores, original),
    };
    Ok(EvaluateReport {
        model: ModelReport::new(model),
        text,
        perplexity: quality.perplexity,
        tokens: scores.tokens,
        original_perplexity,
        kl: quality.kl,
        top1_agreement: quality.top1_agreement,
        collapsed: original_perplexity.is_some_and(|o| is_collapsed(quality.perplexity, o)),
        mmlu: None,
        original_mmlu: None,
        samples: Vec::new(),
        device: accelerator.report().clone(),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
    })
}

fn check_same_tokens(model: &Model, original: &Model, own: &Sequences, options: &TextOptions) -> Result<()> {
    let (theirs, _) = sequences(original, options)?;
    if model.config.vocab_size != original.config.vocab_size || *own != theirs {
        return Err(Error::Usage(format!(
            "{} and {} turn text into different tokens, so their predictions cannot be compared",
            model.name, original.name
        )));
    }
    Ok(())
}
