//! The best model of a size: how many layers go, and in which types the rest is stored.
//!
//! What each costs is measured, one by one, as KL divergence from the original on a part of the text that models are judged
//! on: every group of matrices in two types, and a few numbers of removed layers ([`prices`]). What they cost together is
//! taken for the sum ([`costs`]). That the divergences of single matrices add up where they are small is the linearity theorem of HIGGS
//! (Malinovskii et al., arXiv 2411.17525). The best few models by that sum are then made, fitted to what they are stored
//! as, and measured, beside the largest file type that is small enough and fewer layers in the types that they have.

pub mod choices;
pub mod costs;
pub mod prices;

use self::choices::smallest;
use self::costs::{Costs, PricedGroup};
use self::prices::Prices;
use super::outcome::{Beside, Outcome, make_plan, measure_dropped};
use super::work::Work;
use super::{Resources, megabytes};
use crate::analysis::layers::Baseline;
use crate::evaluate::held_out::HeldOut;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::forward::context::Context;
use crate::model::Model;
use crate::model::weights::file_type::FileType;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::part_types::{Group, PartTypes};
use crate::model::weights::storage::Storage;
use crate::plan::PlanOptions;
use crate::protocol::events::{Stage, Unit};
use crate::protocol::options::WriteOptions;
use crate::protocol::sizing::{MeasuredRemoval, PricedPart, PricedType, SizedModel};
use crate::protocol::text::TextReport;
use crate::write::planned_bytes;
use crate::{Error, Result};

/// Tokens of the part of the text on which costs are measured.
const PRICING_TOKENS: usize = 2048;

/// Most models by costs that are made and measured.
const MADE: usize = 3;

/// Returns the most layers that are removed from a model of `n_layers` where no number is given: two thirds.
pub fn most_removed(n_layers: usize) -> usize {
    2 * n_layers / 3
}

/// How often a model is made anew that turns out to be larger than it was counted.
const TRIES: usize = 2;

/// A size, and what may be done to reach it.
pub struct Target<'a> {
    /// Most bytes of the file.
    pub limit: u64,
    /// Bytes of the file that are not of tensors.
    pub beside: u64,
    /// Options of a plan for each number of layers that may be removed, ascending.
    pub removals: &'a [(usize, PlanOptions)],
    /// How the model is stored, but for its type.
    pub output: &'a WriteOptions,
}

/// The best model of a size, and how it was found.
pub struct Found {
    /// What the types of the groups cost, and which were chosen.
    pub parts: Vec<PricedPart>,
    /// What numbers of removed layers cost, the others being as they are.
    pub removals: Vec<MeasuredRemoval>,
    /// The models that were made, the best first.
    pub models: Vec<SizedModel>,
    /// Options of the plan of the best.
    pub options: PlanOptions,
    /// How the best is stored.
    pub output: WriteOptions,
    /// The best.
    pub outcome: Outcome,
}

impl Target<'_> {
    /// Returns how a model is stored whose type is `dtype`.
    fn output(&self, dtype: Option<FileType>) -> WriteOptions {
        WriteOptions { dtype, ..self.output.clone() }
    }

    /// Returns about the size of the file of `model` without `removed` layers and with the type `dtype`.
    fn size(&self, model: &Model, removed: usize, dtype: Option<FileType>) -> Result<u64> {
        let n_layers = model.config.n_layers;
        let left = n_layers.saturating_sub(removed).max(1);
        let layers: Vec<NewLayer> =
            (0..left).map(|place| NewLayer::original(place * n_layers / left)).collect();
        Ok(self.beside + planned_bytes(model, &layers, &self.output(dtype))?)
    }

    /// Returns about the smallest size that `model` can become, and the number of layers that then go.
    ///
    /// # Errors
    /// [`Error::Usage`] if no layers can be removed from the model and none can stay; those of [`planned_bytes`].
    pub fn least(&self, model: &Model) -> Result<(u64, usize)> {
        let Some((most, _)) = self.removals.last() else {
            return Err(Error::Usage("no layers can be removed from this model".to_owned()));
        };
        let with = |types: PartTypes, (group, kind)| types.with(group, kind);
        let coarsest = smallest(model).into_iter().fold(PartTypes::default(), with);
        Ok((self.size(model, *most, FileType::of_parts(coarsest))?, *most))
    }

    /// Returns about the size of `model` as it is, where no layer has to go.
    ///
    /// # Errors
    /// Those of [`planned_bytes`].
    pub fn most(&self, model: &Model) -> Result<u64> {
        self.size(model, self.removals.first().map_or(0, |(removed, _)| *removed), None)
    }

    /// Checks that `model` can become as small as is asked for, and is not already.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the smallest size that can be reached, or the size that the model has; those of
    /// [`least`](Self::least).
    pub fn check(&self, model: &Model) -> Result<()> {
        let most = self.most(model)?;
        if most <= self.limit {
            return Err(Error::Usage(format!(
                "the model has {} in the types that it has, which is not more than {}: nothing has to go",
                megabytes(most),
                megabytes(self.limit)
            )));
        }
        let (least, removed) = self.least(model)?;
        match least <= self.limit {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "{} cannot be reached: the smallest that this model becomes is {}, with {} of {} layers in the smallest \
                 types; ask for that, or allow more layers to go",
                megabytes(self.limit),
                megabytes(least),
                model.config.n_layers - removed,
                model.config.n_layers
            ))),
        }
    }

    /// Returns the least number of layers to remove so that the model is small enough with the type `dtype`.
    fn enough(&self, model: &Model, dtype: Option<FileType>) -> Result<Option<usize>> {
        for (removed, _) in self.removals {
            if self.size(model, *removed, dtype)? <= self.limit {
                return Ok(Some(*removed));
            }
        }
        Ok(None)
    }
}

/// Finds, makes and measures the best model of the size of `target`, of the model of `context`, whose text is the calibration
/// text and whose `baseline` is the original on that text. Models are judged on `judge`, or without one on the calibration
/// text. Among the models that are made, the one of least divergence on that text is the best. Prices that the store of
/// `resources` has are not measured again.
///
/// # Errors
/// Those of [`Target::check`], [`choices::choices`], [`HeldOut::part`], [`Reference::new`](crate::evaluate::reference::Reference::new),
/// [`Reference::states_of`](crate::evaluate::reference::Reference::states_of) and [`make_plan`].
pub async fn best_of_size(
    context: &Context<'_>,
    resources: &Resources<'_>,
    target: &Target<'_>,
    baseline: Baseline<'_>,
    judge: Option<&HeldOut>,
    text: &TextReport,
) -> Result<Found> {
    let model = context.model;
    target.check(model)?;
    let part = match judge {
        Some(judge) => {
            let on_judge = Context { sequences: &judge.sequences, ..*context };
            HeldOut::part(&on_judge, &judge.text, judge.seen, PRICING_TOKENS).await?
        }
        None => HeldOut::part(context, text, 1.0, PRICING_TOKENS).await?,
    };
    let maker = Maker { context, resources, target, baseline, judge };
    let mut prices = Prices::begin(&maker, &part).await?;
    let groups = prices.of_groups().await?;
    let enough = target.enough(model, None)?;
    let mut removals = prices.of_removals(enough).await?;
    let mut made = MadeModels::default();
    if let Some(enough) = enough {
        // Fewer layers in the types that they have are a rival, and what they cost is measured with that.
        if let Some(each) = maker.make(enough, None, judge).await? {
            let kl = each.kl_on_first(part.sequences.count());
            removals.push((enough, kl));
            made.add(&maker, each, Some(kl))?;
        }
    }
    let costs = Costs { groups, removals, n_layers: model.config.n_layers };
    let proposals = proposals(model, target, &costs)?;
    let total = proposals.len() as u64;
    for (place, proposed) in proposals.into_iter().enumerate() {
        let detail = format!("model {} of {total}", place + 1);
        context.observer.progress(Stage::Plan, place as u64, total, Unit::Models, detail).await?;
        made.make_small_enough(&maker, &costs, proposed).await?;
    }
    let MadeModels { mut models, best } = made;
    let Some(Made { options, output, mut outcome, .. }) = best else {
        return Err(Error::Usage(format!(
            "no model of at most {} bytes was found; allow more layers to go, or ask for a larger size",
            target.limit
        )));
    };
    // Of the best alone it is of interest what its fits are worth.
    let context = Context { storage: output.storage(model), ..*context };
    measure_dropped(&context, resources, &output, baseline, judge, &mut outcome).await?;
    let kl = |model: &SizedModel| model.quality.kl.unwrap_or(f64::INFINITY);
    models.sort_by(|a, b| kl(a).total_cmp(&kl(b)));
    let parts = parts(&costs, &output);
    let removals =
        costs.removals.iter().map(|(removed, kl)| MeasuredRemoval { removed: *removed, kl: *kl }).collect();
    Ok(Found { parts, removals, models, options, output, outcome })
}

/// Models that were made and measured, and the best of them.
#[derive(Default)]
struct MadeModels {
    models: Vec<SizedModel>,
    best: Option<Made>,
}

impl MadeModels {
    /// Makes the `proposed` model, and again with smaller types, by `costs`, if it turns out to be too large.
    async fn make_small_enough(
        &mut self,
        maker: &Maker<'_>,
        costs: &Costs,
        proposed: Proposed,
    ) -> Result<()> {
        let (model, target) = (maker.context.model, maker.target);
        let (removed, mut dtype, mut expected) = proposed;
        let mut limit = target.limit;
        for _ in 0..TRIES {
            let Some(made) = maker.make(removed, dtype, maker.judge).await? else { break };
            let Some(over) = self.add(maker, made, expected)? else { break };
            // What is computed may need a wider type than what it is computed from.
            limit = limit.saturating_sub(over);
            let size = |types: &PartTypes| target.size(model, removed, FileType::of_parts(*types)).ok();
            let Some(smaller) = expected.and_then(|_| costs.best(removed, limit, size)) else { break };
            (dtype, expected) = (FileType::of_parts(smaller.types), Some(smaller.kl));
        }
        Ok(())
    }

    /// Adds a model whose divergence was `expected`. Returns by how many bytes the model is larger than it may be, in which
    /// case it is not added.
    fn add(&mut self, maker: &Maker<'_>, made: Made, expected: Option<f64>) -> Result<Option<u64>> {
        let (model, target) = (maker.context.model, maker.target);
        let bytes = target.beside + planned_bytes(model, &made.outcome.layers, &made.output)?;
        if bytes > target.limit {
            return Ok(Some(bytes - target.limit));
        }
        self.models.push(SizedModel {
            removed: made.removed,
            layers: model.config.n_layers - made.removed,
            dtype: made.output.dtype,
            bytes,
            expected_kl: expected,
            quality: made.outcome.merged,
            kl_by_sequence: made.outcome.kl_by_sequence.clone(),
        });
        if self.best.as_ref().is_none_or(|best| made.kl() < best.kl()) {
            self.best = Some(made);
        }
        Ok(None)
    }
}

/// Maker of plans and of their models.
struct Maker<'a> {
    context: &'a Context<'a>,
    resources: &'a Resources<'a>,
    target: &'a Target<'a>,
    baseline: Baseline<'a>,
    judge: Option<&'a HeldOut>,
}

/// A model that was made.
struct Made {
    removed: usize,
    options: PlanOptions,
    output: WriteOptions,
    outcome: Outcome,
}

impl Made {
    fn kl(&self) -> f64 {
        self.outcome.merged.kl.unwrap_or(f64::INFINITY)
    }

    /// Returns the mean divergence on the first `n` sequences of those that the model was judged on, as far as they are known
    /// one by one.
    fn kl_on_first(&self, n: usize) -> f64 {
        match self.outcome.kl_by_sequence.get(..n) {
            Some(first) if n > 0 => first.iter().sum::<f64>() / n as f64,
            _ => self.kl(),
        }
    }
}

impl Maker<'_> {
    /// Says to the store that what follows is of models that are stored as `storage` says.
    fn stored_as(&self, storage: Storage) {
        if let Some(kept) = self.resources.kept {
            kept.stored_as(storage);
        }
    }

    /// Makes the model without `removed` layers, stored as `dtype` says, and measures it on `judge`; `None` if that many
    /// layers cannot go by these options.
    async fn make(
        &self,
        removed: usize,
        dtype: Option<FileType>,
        judge: Option<&HeldOut>,
    ) -> Result<Option<Made>> {
        let found = self.target.removals.iter().find(|(each, _)| *each == removed);
        let options = match found {
            Some((_, options)) => options.clone(),
            None => return Err(Error::internal("a number of layers is removed that was not asked for")),
        };
        let output = self.target.output(dtype);
        let context = Context { storage: output.storage(self.context.model), ..*self.context };
        self.stored_as(context.storage);
        match make_plan(&context, self.resources, &options, &output, self.baseline, (judge, Beside::Nothing))
            .await
        {
            Ok(outcome) => Ok(Some(Made { removed, options, output, outcome })),
            Err(Error::Usage(_) | Error::Unsupported(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A model to make: layers to remove, its type, and the divergence to be expected, where it is.
type Proposed = (usize, Option<FileType>, Option<f64>);

/// Lists the models to make: the best by `costs`, and the largest named type that is small enough with all layers.
fn proposals(model: &Model, target: &Target<'_>, costs: &Costs) -> Result<Vec<Proposed>> {
    let mut best = Vec::new();
    for (removed, _) in target.removals {
        let size = |types: &PartTypes| target.size(model, *removed, FileType::of_parts(*types)).ok();
        best.extend(costs.best(*removed, target.limit, size));
    }
    best.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    let mut proposed: Vec<Proposed> = best
        .iter()
        // Where all keep their types, the model is made already.
        .filter(|each| FileType::of_parts(each.types).is_some())
        .take(MADE)
        .map(|each| (each.removed, FileType::of_parts(each.types), Some(each.kl)))
        .collect();
    if let Some((all, _)) = target.removals.first() {
        let mut named: Option<(u64, FileType)> = None;
        // Nobody stores a whole model in MXFP4, whose grid is made for experts that were trained in it.
        let is_usual =
            |dtype: &FileType| matches!(dtype.element(), Element::Block(block) if block != BlockType::Mxfp4);
        for dtype in FileType::all().filter(is_usual) {
            let bytes = target.size(model, *all, Some(dtype))?;
            if bytes <= target.limit && named.is_none_or(|(most, _)| bytes > most) {
                named = Some((bytes, dtype));
            }
        }
        proposed.extend(named.map(|(_, dtype)| (*all, Some(dtype), None)));
    }
    Ok(proposed)
}

/// Counts the work of finding the best of a size, where `of_plan` is that of making one plan and measuring its model:
/// besides the models, the importances of the original and the costs of types are measured.
pub fn work(n_layers: usize, removes: bool, of_plan: Work) -> Work {
    // Fewer layers in their own types are made, too, and about half of the numbers of removed layers are below theirs. The
    // named type, for which nothing is fitted, is left out.
    let plans = MADE + if removes { prices::MEASURED_REMOVALS / 2 + 1 } else { 0 };
    let probes = 2.0 * Group::all().count() as f64;
    // Two thirds of the layers are run, from the first that is stored otherwise on.
    let once = Work::layers(n_layers as f64 * 2.0 / 3.0) + Work::heads(1.0);
    of_plan.times(plans as f64) + Work::layers(n_layers as f64) + once.times(probes).of_tokens(PRICING_TOKENS)
}

/// Says what the types of the groups cost, how large they are, and in which of them `output` stores the groups.
fn parts(costs: &Costs, output: &WriteOptions) -> Vec<PricedPart> {
    let name = |kind: Option<BlockType>| kind.map(|kind| kind.name().to_lowercase());
    let part = |priced: &PricedGroup| {
        let is_of_layers = priced.group.part.is_of_layers();
        let types = priced.types.iter().map(|each| PricedType {
            dtype: name(each.choice.kind),
            bytes: each.choice.bytes,
            kl: each.kl,
        });
        // A named type goes by other rules than parts.
        let chosen = output.dtype.map_or(Some(PartTypes::default()), FileType::part_types);
        PricedPart {
            part: priced.group.part,
            third: is_of_layers.then_some(priced.group.depth),
            types: types.collect(),
            chosen: chosen.map(|types| name(types.get(priced.group))),
        }
    };
    costs.groups.iter().map(part).collect()
}
