//! Matched experts: all tensors of a span are averaged as by [`Operator::Average`](crate::plan::Operator::Average), and
//! instead of taking the experts of one layer, experts of the others are matched with them and averaged.
//!
//! The order of the experts of a layer is arbitrary, so that experts of the same number have nothing to do with each
//! other. Experts are alike if they make the same of the same inputs. So each expert of the layer whose experts would
//! stay is matched with one expert of each other layer of the span, so that the sum of the squared distances of their
//! outputs is least (a linear assignment problem, solved as in scipy: Crouse, IEEE Trans. Aerosp. Electron. Syst. 52,
//! 2016).
//! Both read what the experts of the new layer will read. Matched experts and their rows of the routers are averaged by
//! use: the sums of their gates on the calibration text.
//!
//! Neurons within matched experts are not aligned. Whether the averages serve the model better than copies is measured
//! on held-out text, and what is better is taken.

use burn::tensor::{Int, Tensor, TensorData};

use super::guard::{self, Guard};
use super::weighted::mixed_layers;
use crate::Result;
use crate::error::{Error, OrInternal};
use crate::forward::context::Context;
use crate::forward::states::to_host;
use crate::forward::stream::Stream;
use crate::methods::Resources;
use crate::methods::kept::fitted::Fitted;
use crate::methods::walk::span::{Built, Span};
use crate::methods::walk::walk;
use crate::methods::walk::walker::Walker;
use crate::methods::work::{Task, Work};
use crate::model::Config;
use crate::model::layers::beside::Beside;
use crate::model::layers::decoder::DecoderLayer;
use crate::model::layers::experts::Experts;
use crate::model::weights::fetch::ExpertFetch;
use crate::model::weights::new_experts::{ExpertPart, NewExperts};
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;

/// Version of what [`layers`] makes of the same input. Raise the number with every change of the result, so that
/// layers that are kept from before are not used.
const VERSION: u32 = 1;

/// Most tokens on which outputs of experts are compared.
const SAMPLE: usize = 512;

/// Most bytes of the outputs of the experts of one layer, which are held while those of the other layers are compared
/// with them: 128 tokens for 128 experts and a stream of width 2048.
const OUTPUT_BYTES: usize = 128 << 20;

/// Builds the layers of the new model. A span of layers without experts is averaged.
///
/// # Errors
/// Those of [`mixed_layers`], [`walk`], [`Guard::of`], [`matched`] and
/// [`Trial::divergences`](super::guard::Trial::divergences).
pub async fn layers(
    context: &Context<'_>,
    resources: &Resources<'_>,
    plan: &MergePlan,
    stream: &Stream,
) -> Result<Built> {
    let mut guard = None;
    let with_all = MergePlan { kept_experts: Vec::new(), ..plan.clone() };
    let averaged = mixed_layers(&with_all, &context.model.config)?;
    let versions = [VERSION, guard::VERSION];
    walk(context, resources, plan, stream, &versions, |_| false, async |walker, span| {
        let place = plan.groups.iter().position(|group| group == span.layers);
        let average = place.and_then(|place| averaged.get(place)).or_internal("a span is of no group")?;
        let copied = walker.weighted(average.clone().keeping(&plan.kept_experts)?)?;
        let Some(experts) = matched(walker, &span, average.mix().survivor()?, average).await? else {
            return Ok(copied.into());
        };
        let matched = average.clone().with_experts(experts).keeping(&plan.kept_experts)?;
        let matched = walker.weighted(matched)?;
        let trial = Guard::of(&mut guard, walker).await?.trial(walker, &span);
        let divergences = trial.divergences(&[&matched, &copied]).await?;
        let [with, without] = divergences[..] else {
            return Err(Error::internal("a layer was not scored"));
        };
        let remark = |taken: &str| {
            format!(
                "Layers {:?}: on held-out text the model has a KL of {with:.4} nats a token with matched and averaged \
                 experts, and of {without:.4} with the experts of layer {} alone: {taken} were taken.",
                span.layers, span.stays
            )
        };
        Ok(match with <= without {
            true => Fitted { layer: matched, remarks: vec![remark("the averages")] },
            false => Fitted { layer: copied, remarks: vec![remark("the latter")] },
        })
    })
    .await
}

/// Returns experts of which each is the average, by use, of an expert of layer `stays` and the experts of the other
/// layers of `span` that are matched with it; `None` if the layers have no experts. All read what the experts of the
/// new layer `average` read.
///
/// # Errors
/// Those of [`Walker::upload`], [`DecoderLayer::mlp_input`], [`Experts::route`], [`ExpertFetch::start`],
/// [`ExpertFetch::finish`] and [`assign`], and [`Error::Device`] if the device fails.
async fn matched(
    walker: &Walker<'_>,
    span: &Span<'_>,
    stays: usize,
    average: &NewLayer,
) -> Result<Option<NewExperts>> {
    let layer = walker.upload(average).await?;
    let Some(own) = layer.experts() else { return Ok(None) };
    let count = own.sizes.count;
    let inputs = inputs(walker, span, &layer)?;
    let sample = sample(&inputs, sample_size(&walker.context.model.config));
    let mut outputs = Vec::with_capacity(count);
    for e in 0..count {
        outputs.push(output(walker, own, e, &sample).await?);
    }
    let used = gates(own, &inputs).await?;
    let mut parts: Vec<Vec<(usize, usize, f64)>> =
        used.iter().enumerate().map(|(e, used)| vec![(stays, e, *used)]).collect();
    for other in span.layers.iter().filter(|other| **other != stays) {
        let layer = walker.original(*other).await?;
        let experts = layer.experts().or_internal("layers of different kinds are in a span")?;
        let mut costs = Vec::with_capacity(count * count);
        for e in 0..count {
            let theirs = output(walker, experts, e, &sample).await?;
            let distance = |own: &Tensor<2>| (own.clone() - theirs.clone()).square().sum().reshape([1]);
            let distances = Tensor::<1>::cat(outputs.iter().map(distance).collect(), 0);
            costs.extend(to_host(distances, "while experts were matched").await?);
        }
        let used = gates(experts, &inputs).await?;
        // Row `e` of the costs is of the other layer's expert `e`.
        for (e, own) in assign(&costs, count)?.into_iter().enumerate() {
            let parts = parts.get_mut(own).or_internal("an expert was matched with none")?;
            parts.push((*other, e, used.get(e).copied().unwrap_or(0.0)));
        }
    }
    Ok(Some(NewExperts::new(parts.into_iter().map(by_use).collect())))
}

/// Returns the parts of a new expert, given as layer, expert and use: each weighs as much as it is used. Experts that
/// no token was routed to are left out, but for the first if that is true of all.
fn by_use(mut parts: Vec<(usize, usize, f64)>) -> Vec<ExpertPart> {
    let total: f64 = parts.iter().map(|(.., used)| used).sum();
    match total > 0.0 {
        true => parts.retain(|(.., used)| *used > 0.0),
        false => parts.truncate(1),
    }
    let n = parts.len();
    let weight = |used: f64| if n == 1 { 1.0 } else { used / total };
    parts
        .into_iter()
        .map(|(layer, expert, used)| ExpertPart { layer, expert, weight: weight(used) })
        .collect()
}

/// Assigns to each of `n` rows of `costs` `[n, n]`, row-major, a column of its own, so that the sum of their costs is
/// least.
///
/// # Errors
/// [`Error::Numeric`] if a cost is not finite.
fn assign(costs: &[f32], n: usize) -> Result<Vec<usize>> {
    if costs.iter().any(|cost| !cost.is_finite()) {
        return Err(Error::Numeric(
            "outputs of experts are too large to be compared: the model's weights are damaged".to_owned(),
        ));
    }
    if costs.len() != n * n {
        return Err(Error::internal("distances of experts are missing"));
    }
    let costs: Vec<f64> = costs.iter().copied().map(f64::from).collect();
    // Of as many rows as columns, each row has its column in the order of the rows.
    let assigned = lsap::solve(n, n, &costs, false);
    assigned.map(|(_, columns)| columns).map_err(|_| Error::internal("experts could not be assigned"))
}

/// Returns what the experts of `layer` read in the new model, one tensor `[n, hidden]` for each chunk of the text.
fn inputs(walker: &Walker<'_>, span: &Span<'_>, layer: &DecoderLayer) -> Result<Vec<Tensor<2>>> {
    let read = |(x, beside): (&Tensor<3>, &Beside)| {
        layer.mlp_input(layer.after_attention(x.clone(), walker.runner.positions(), beside)?)
    };
    span.entering.with_beside().map(read).collect()
}

/// Returns `n` evenly spaced rows of all chunks, or all rows if there are fewer.
fn sample(inputs: &[Tensor<2>], n: usize) -> Tensor<2> {
    let total: usize = inputs.iter().map(|x| x.dims()[0]).sum();
    let n = n.min(total);
    let (mut first, mut rows) = (0, Vec::new());
    for x in inputs {
        let [count, _] = x.dims();
        let of_chunk: Vec<i32> = (0..n)
            .map(|i| i * total / n)
            .filter(|row| (first..first + count).contains(row))
            .map(|row| (row - first) as i32)
            .collect();
        first += count;
        if !of_chunk.is_empty() {
            let indices = TensorData::new(of_chunk.clone(), [of_chunk.len()]);
            rows.push(x.clone().select(0, Tensor::<1, Int>::from_data(indices, &x.device())));
        }
    }
    Tensor::cat(rows, 0)
}

/// Returns what expert `e` makes of the rows `x` `[n, hidden]`. No other expert is in memory.
async fn output(walker: &Walker<'_>, experts: &Experts, e: usize, x: &Tensor<2>) -> Result<Tensor<2>> {
    let model = walker.context.model;
    let fetched = ExpertFetch::start(model, &experts.made_of, e, &experts.stored)?.finish().await?;
    let expert = experts.upload(fetched, model.config.hidden_size, walker.context.accelerator)?;
    expert.forward(x.clone(), 1.0)
}

/// Returns the sum of the gates of each expert if all rows of `inputs` are routed by the router of `experts`.
async fn gates(experts: &Experts, inputs: &[Tensor<2>]) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; experts.sizes.count];
    for x in inputs {
        let scores = to_host(experts.router.forward(x.clone())?, "while routing").await?;
        for (sum, routed) in sums.iter_mut().zip(experts.route(&scores)?) {
            *sum += routed.gates.iter().map(|gate| f64::from(*gate)).sum::<f64>();
        }
    }
    Ok(sums)
}

/// Returns on how many tokens outputs of experts are compared.
fn sample_size(config: &Config) -> usize {
    let each = config.experts.map_or(1, |experts| 4 * experts.count * config.hidden_size).max(1);
    (OUTPUT_BYTES / each).clamp(1, SAMPLE)
}

/// Returns the work for a span of `n_layers` layers: the new layer and the others are read, the text passes through the
/// new one's mixer, and all experts work on the sample.
pub fn work(task: &Task<'_>, n_layers: usize) -> Work {
    let layers = n_layers as f64;
    let each = task.config.experts.map_or(1.0, |experts| experts.count as f64 / experts.used as f64);
    let tokens = sample_size(task.config).min(task.n_rows());
    let experts = Work { passes: layers * each, ..Work::default() }.of_tokens(tokens);
    Work { bytes: OUTPUT_BYTES as u64, ..Work::layers(1.0) } + Work { uploads: layers - 1.0, ..experts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_the_cheapest_of_all() {
        let costs = [4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0];
        // Of the six assignments the cheapest is 1 + 2 + 2.
        assert_eq!(assign(&costs, 3), Ok(vec![1, 0, 2]));
        assert_eq!(
            assign(&[0.0; 4], 2).map(|mut columns| {
                columns.sort_unstable();
                columns
            }),
            Ok(vec![0, 1])
        );
        assert!(matches!(assign(&[0.0, f32::INFINITY, 0.0, 0.0], 2), Err(Error::Numeric(_))));
        assert!(assign(&[0.0; 3], 2).is_err());
    }

    #[test]
    fn experts_weigh_as_much_as_they_are_used() {
        let weights = |parts: &[(usize, usize, f64)]| -> Vec<(usize, usize, f64)> {
            by_use(parts.to_vec()).iter().map(|part| (part.layer, part.expert, part.weight)).collect()
        };
        assert_eq!(weights(&[(1, 0, 3.0), (2, 5, 1.0)]), [(1, 0, 0.75), (2, 5, 0.25)]);
        assert_eq!(weights(&[(1, 0, 0.0), (2, 5, 0.7)]), [(2, 5, 1.0)]);
        assert_eq!(weights(&[(1, 0, 0.0), (2, 5, 0.0)]), [(1, 0, 1.0)]);
    }
}
