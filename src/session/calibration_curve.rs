//! Quality by amount of calibration text: one plan, fitted to more and more text.

use web_time::Instant;

use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::Reference;
use crate::forward::context::Context;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::operators::build;
use crate::methods::quantise::finished;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::protocol::events::Event;
use crate::protocol::options::WriteOptions;
use crate::protocol::plan::CalibrationPoint;
use crate::quality::Quality;
use crate::{Error, Result};

/// Fits `plan` to each of `sizes` numbers of calibration sequences, spread evenly over the text, and measures
/// each model on `judge`. The observer is told of each point as soon as it is measured. If the observer stops
/// the run, the points so far are returned.
///
/// # Errors
/// Those of [`MergePlan::validate_for`], [`Reference::new`], [`Reference::for_many`], [`Stream::open`],
/// [`build`], [`Reference::scores_of`] and [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn calibration_curve(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    sizes: &[usize],
    output: &WriteOptions,
    judge: &HeldOut,
) -> Result<Vec<CalibrationPoint>> {
    plan.validate_for(context.model.config.n_layers)?;
    let measuring = Context { sequences: &judge.sequences, ..*context };
    let reference =
        Reference::new(&measuring, output, &judge.stream, &judge.scores).await?.for_many().await?;
    let mut points = Vec::with_capacity(sizes.len());
    for size in sizes {
        let told = match point(context, resources, plan, *size, &reference).await {
            Ok(point) => {
                points.push(point.clone());
                context.observer.event(Event::Size(point)).await
            }
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => {}
            Err(Error::Cancelled) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(points)
}

async fn point(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    size: usize,
    reference: &Reference<'_>,
) -> Result<CalibrationPoint> {
    let start = Instant::now();
    let sequences = context.sequences.spread(size);
    let part = Context { sequences: &sequences, ..*context };
    let stream = Stream::open(&part, NewLayer::originals(context.model)).await?;
    let built = build(&part, resources, plan, &stream).await?;
    let layers = finished(&part, resources, built.layers).await?.better(reference).await?.layers;
    let scores = reference.scores_of(layers).await?;
    Ok(CalibrationPoint {
        sequences: sequences.count(),
        tokens: (sequences.count() * sequences.tokens()) as u64,
        quality: Quality::compressed(&scores, reference.perplexity()),
        seconds: start.elapsed().as_secs_f64(),
    })
}
