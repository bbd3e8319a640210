//! What types of groups and numbers of removed layers cost: measured, and kept for the next size.

use serde::{Deserialize, Serialize};

use super::Maker;
use super::choices::{Choice, GroupChoices, choices};
use super::costs::{PricedGroup, price, probes};
use crate::Result;
use crate::error::OrInternal;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::Reference;
use crate::evaluate::score_all;
use crate::forward::context::Context;
use crate::forward::identity::Identity;
use crate::forward::states::HiddenStates;
use crate::forward::stream::state_bytes;
use crate::methods::Weighing;
use crate::methods::importances::{collected, weighted_by};
use crate::methods::kept::rounds::{Rounds, key};
use crate::model::importances::Importances;
use crate::model::weights::file_type::FileType;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::part_types::PartTypes;
use crate::protocol::events::{Stage, Unit};
use crate::protocol::text::PointRule;

/// Version of what is measured on the same input. Raise the number with every change of the result, so that prices that are
/// kept from before are not used.
const VERSION: u32 = 1;

/// Most numbers of removed layers whose cost is measured.
pub const MEASURED_REMOVALS: usize = 4;

/// These numbers are the most layers that may go, divided by each of these.
const SHARES: [usize; MEASURED_REMOVALS] = [8, 4, 2, 1];

/// Most models whose hidden states wait to be scored together, and the most bytes of these states.
const SCORED_TOGETHER: usize = 8;
const STATES_BYTES: u64 = 128 << 20;

/// Measures of what types and removed layers cost on a part of a text. What was measured is kept in the store of the maker's
/// resources, so that a search that was interrupted goes on, and the search for another size begins with all prices.
///
/// Methods fail with the errors of [`Reference::new`], [`Reference::states_of`], [`score_all`], [`choices`] and of making a
/// plan.
pub(super) struct Prices<'a> {
    maker: &'a Maker<'a>,
    part: &'a HeldOut,
    key: String,
    measured: Measured,
}

/// Divergences in nats per token, as the bits of `f64`: JSON has no infinity.
#[derive(Default, Serialize, Deserialize)]
struct Measured {
    /// Of each group, in order, what its [`probes`] cost.
    groups: Vec<Vec<u64>>,
    /// Numbers of removed layers, and what they cost.
    removals: Vec<(usize, u64)>,
}

impl<'a> Prices<'a> {
    /// Begins with what the store has.
    pub async fn begin(maker: &'a Maker<'a>, part: &'a HeldOut) -> Result<Self> {
        let Maker { context, resources, target, .. } = maker;
        let text = Identity::of(context.model, &part.sequences, PointRule::default()).await?.text;
        let options = target.removals.first().map(|(_, options)| options);
        let may_go: Vec<usize> = target.removals.iter().map(|(removed, _)| *removed).collect();
        let key = key(&[VERSION], &(text, options, may_go, target.output, resources.weighing.identity()))?;
        maker.stored_as(context.storage);
        let measured = resources.found(Rounds::Priced, &key).await.unwrap_or_default();
        Ok(Self { maker, part, key, measured })
    }

    /// Returns what the types of the groups of the original cost.
    pub async fn of_groups(&mut self) -> Result<Vec<PricedGroup>> {
        let context = self.maker.context;
        let resources = self.maker.resources;
        let collected = match resources.weighing {
            Weighing::Collected => Some(collected(context, &NewLayer::originals(context.model)).await?),
            Weighing::Off | Weighing::Given(_) => None,
        };
        let importances = match resources.weighing {
            Weighing::Given(given) => Some(given),
            _ => collected.as_ref(),
        };
        let all = choices(context, importances).await?;
        if self.measured.groups.len() != all.len() {
            self.measured.groups = vec![Vec::new(); all.len()];
        }
        let each = all.iter().zip(&self.measured.groups).enumerate();
        let unmeasured: Vec<(usize, Choice)> = each
            .flat_map(|(group, (choices, known))| {
                probes(&choices.choices).into_iter().skip(known.len()).map(move |probe| (group, probe))
            })
            .collect();
        let mut done = 0;
        // Groups outside the layers may have another head than the original, and are scored by themselves.
        let in_layers = |(group, _): &(usize, Choice)| {
            all.get(*group).is_some_and(|choices| choices.group.part.is_of_layers())
        };
        for piece in unmeasured.chunk_by(|a, b| in_layers(a) && in_layers(b)) {
            for batch in piece.chunks(self.scored_together()) {
                let detail =
                    batch.first().and_then(|(group, _)| all.get(*group)).map(|of| of.group.to_string());
                let detail = format!("what types cost, from {} on", detail.unwrap_or_default());
                let total = unmeasured.len() as u64;
                context.observer.progress(Stage::Plan, done, total, Unit::Models, detail).await?;
                self.measure(&all, batch, importances).await?;
                done += batch.len() as u64;
            }
        }
        let priced = all.iter().zip(&self.measured.groups).map(|(of_group, costs)| {
            let costs = costs.iter().map(|bits| f64::from_bits(*bits));
            price(of_group, &probes(&of_group.choices).into_iter().zip(costs).collect::<Vec<_>>())
        });
        Ok(priced.collect())
    }

    /// Returns what numbers of removed layers below `enough` cost where the others keep their types, ascending; below all that
    /// may go and at all of them, where none are enough.
    pub async fn of_removals(&mut self, enough: Option<usize>) -> Result<Vec<(usize, f64)>> {
        let target = self.maker.target;
        let may_go: Vec<usize> =
            target.removals.iter().map(|(removed, _)| *removed).filter(|k| *k > 0).collect();
        let Some(most) = may_go.last() else { return Ok(Vec::new()) };
        let wishes = SHARES.iter().map(|share| most.div_ceil(*share));
        let mut wanted: Vec<usize> =
            wishes.filter_map(|wish| may_go.iter().copied().find(|removed| *removed >= wish)).collect();
        wanted.retain(|removed| enough.is_none_or(|enough| *removed < enough));
        wanted.dedup();
        let mut costs = Vec::with_capacity(wanted.len());
        for removed in wanted {
            let known = self.measured.removals.iter().find(|(known, _)| *known == removed);
            if let Some((_, bits)) = known {
                costs.push((removed, f64::from_bits(*bits)));
                continue;
            }
            let judge = self.maker.judge.map(|_| self.part);
            let Some(made) = self.maker.make(removed, None, judge).await? else { continue };
            costs.push((removed, made.kl()));
            self.measured.removals.push((removed, made.kl().to_bits()));
            self.keep().await;
        }
        Ok(costs)
    }

    /// Measures the types `batch` of the groups `all`, each the only one that the model has.
    async fn measure(
        &mut self,
        all: &[GroupChoices],
        batch: &[(usize, Choice)],
        importances: Option<&Importances>,
    ) -> Result<()> {
        let context = self.maker.context;
        let mut states = Vec::with_capacity(batch.len());
        let mut of_head = context.storage;
        for (group, choice) in batch {
            let group = all.get(*group).or_internal("a group has no types")?.group;
            let output =
                self.maker.target.output(FileType::of_parts(PartTypes::default().with(group, choice.kind)));
            let storage = output.storage(context.model);
            let stored = Context { sequences: &self.part.sequences, storage, ..*context };
            let mut layers = NewLayer::originals(context.model);
            if let Some(importances) = importances {
                layers = weighted_by(context.model, storage, layers, importances)?;
            }
            let reference = Reference::new(&stored, &output, &self.part.stream, &self.part.scores).await?;
            states.push(reference.states_of(layers).await?);
            of_head = storage;
        }
        let scored = Context { sequences: &self.part.sequences, storage: of_head, ..*context };
        let states: Vec<&HiddenStates> = states.iter().collect();
        let scores = score_all(&scored, &states, Some(self.part.stream.last()?)).await?;
        for ((group, _), scores) in batch.iter().zip(scores) {
            let kl = scores.mean_kl().unwrap_or(f64::INFINITY);
            let costs = self.measured.groups.get_mut(*group).or_internal("a group has no types")?;
            costs.push(kl.to_bits());
        }
        self.keep().await;
        Ok(())
    }

    /// Returns how many models are scored together.
    fn scored_together(&self) -> usize {
        let bytes = state_bytes(self.maker.context.model, &self.part.sequences).max(1);
        SCORED_TOGETHER.min(usize::try_from(STATES_BYTES / bytes).unwrap_or(1)).max(1)
    }

    async fn keep(&self) {
        self.maker.stored_as(self.maker.context.storage);
        self.maker.resources.keep_found(Rounds::Priced, &self.key, &self.measured).await;
    }
}
