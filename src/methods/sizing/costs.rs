//! What types and removed layers cost, as a model of few measurements, and the best of a size by that model.

use super::choices::{Choice, GroupChoices};
use crate::maths::knapsack::{Alternative, knapsack};
use crate::model::weights::part_types::{Group, PartTypes};

/// Bounds of the power of the error that a divergence grows with. To second order a divergence is quadratic in what storing
/// changes, that is, linear in the error.
const POWERS: (f64, f64) = (0.5, 2.0);

/// A type of a group and the divergence that it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priced {
    /// The type.
    pub choice: Choice,
    /// KL divergence from the original in nats per token, where all else is as it is.
    pub kl: f64,
}

/// A group and what its types cost.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedGroup {
    /// The group.
    pub group: Group,
    /// Its types, in ascending order of bytes.
    pub types: Vec<Priced>,
}

/// Costs of types and of removed layers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Costs {
    /// Groups of matrices.
    pub groups: Vec<PricedGroup>,
    /// Numbers of removed layers, ascending from 1 on, and the divergences that were measured for them.
    pub removals: Vec<(usize, f64)>,
    /// Number of layers of the original.
    pub n_layers: usize,
}

/// Types that are the best by [`Costs`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// Number of layers to remove.
    pub removed: usize,
    /// Types of the groups.
    pub types: PartTypes,
    /// Divergence from the original that is to be expected, in nats per token.
    pub kl: f64,
}

/// Returns those of the `choices` of a group whose divergence is to be measured: the smallest, and one in the middle. None
/// if the group can only stay as it is.
pub fn probes(choices: &[Choice]) -> Vec<Choice> {
    let inexact: Vec<Choice> = choices.iter().copied().filter(|choice| choice.error > 0.0).collect();
    let middle = inexact.get(inexact.len() / 2).filter(|_| inexact.len() > 1);
    inexact.first().into_iter().chain(middle).copied().collect()
}

/// Prices the types of a group by the divergences `measured` of its [`probes`]: the divergence is taken for a power of the
/// error, `a error^b` with b from 0.5 to 2, and b = 1 where one was measured.
pub fn price(of_group: &GroupChoices, measured: &[(Choice, f64)]) -> PricedGroup {
    let tiny = f64::MIN_POSITIVE;
    let log = |(choice, kl): &(Choice, f64)| (choice.error.max(tiny).ln(), kl.max(tiny).ln());
    let (offset, power) = match measured {
        [] => (f64::NEG_INFINITY, 1.0),
        [one] => {
            let (error, kl) = log(one);
            (kl - error, 1.0)
        }
        [coarse, fine, ..] => {
            let ((error, kl), (finer, less)) = (log(coarse), log(fine));
            let power = ((kl - less) / (error - finer)).clamp(POWERS.0, POWERS.1);
            // Through the finer of both, which is nearer to what is chosen mostly.
            (less - power * finer, power)
        }
    };
    let types = of_group.choices.iter().map(|choice| {
        let known = measured.iter().find(|(each, _)| each == choice).map(|(_, kl)| *kl);
        let kl = match choice.error > 0.0 {
            true => known.unwrap_or_else(|| (offset + power * choice.error.ln()).exp()),
            false => 0.0,
        };
        Priced { choice: *choice, kl }
    });
    PricedGroup { group: of_group.group, types: types.collect() }
}

impl Costs {
    /// Returns the divergence to be expected of removing `removed` layers and storing all others as they are: a power of
    /// their number between two that were measured, and in proportion to it before the first and after the last.
    pub fn removal(&self, removed: usize) -> f64 {
        let x = removed as f64;
        if removed == 0 {
            return 0.0;
        }
        let known = |(k, kl): &(usize, f64)| (*k as f64, *kl);
        let below = self.removals.iter().rfind(|(k, _)| *k <= removed).map(known);
        let above = self.removals.iter().find(|(k, _)| *k >= removed).map(known);
        match (below, above) {
            (Some((k, kl)), Some((l, more))) if k < l && kl > 0.0 && more > 0.0 => {
                kl * (x / k).powf((more / kl).ln() / (l / k).ln())
            }
            (Some((k, kl)), _) | (None, Some((k, kl))) => kl * x / k,
            (None, None) => f64::INFINITY,
        }
    }

    /// Returns the divergence to be expected of storing the groups as `types` say and removing `removed` layers; infinite if
    /// a group has a type that was not priced.
    pub fn expected(&self, removed: usize, types: &PartTypes) -> f64 {
        let of_group = |priced: &PricedGroup| {
            let kind = types.get(priced.group);
            let own = priced.types.iter().find(|each| each.choice.kind == kind);
            self.share(priced.group, removed) * own.map_or(f64::INFINITY, |each| each.kl)
        };
        self.removal(removed) + self.groups.iter().map(of_group).sum::<f64>()
    }

    /// Finds the types with which the model without `removed` layers is to be expected to diverge least from the original,
    /// where `size` gives the bytes of a model with given types, and `limit` is the most that they may be. `None` if no
    /// types are known to be that small.
    pub fn best(
        &self,
        removed: usize,
        limit: u64,
        size: impl Fn(&PartTypes) -> Option<u64>,
    ) -> Option<Proposal> {
        let scaled = |bytes: u64, group: Group| (bytes as f64 * self.share(group, removed)).ceil() as u64;
        let items: Vec<Vec<Alternative>> = self
            .groups
            .iter()
            .map(|priced| {
                let alternative = |each: &Priced| Alternative {
                    size: scaled(each.choice.bytes, priced.group),
                    cost: self.share(priced.group, removed) * each.kl,
                };
                priced.types.iter().map(alternative).collect()
            })
            .collect();
        let of_places = |places: &[usize]| {
            let mut types = PartTypes::default();
            for (priced, place) in self.groups.iter().zip(places) {
                let kind = priced.types.get(*place).and_then(|each| each.choice.kind);
                types = types.with(priced.group, kind);
            }
            types
        };
        let sum = |places: &[usize]| {
            let sizes = items.iter().zip(places).filter_map(|(item, place)| Some(item.get(*place)?.size));
            sizes.sum::<u64>()
        };
        // What is in no group: norms and the like.
        let smallest: Vec<usize> = vec![0; items.len()];
        let rest = size(&of_places(&smallest))?.saturating_sub(sum(&smallest));
        let mut budget = limit.checked_sub(rest)?;
        // Thirds of layers are not of equal numbers of layers, so that sums of groups are near the size only.
        for _ in 0..ROUNDS {
            let places = knapsack(&items, budget)?;
            let types = of_places(&places);
            let bytes = size(&types)?;
            if bytes <= limit {
                return Some(Proposal { removed, types, kl: self.expected(removed, &types) });
            }
            budget = budget.checked_sub(bytes - limit)?;
        }
        None
    }

    /// Returns the share of a group that is left when `removed` layers are.
    fn share(&self, group: Group, removed: usize) -> f64 {
        match group.part.is_of_layers() {
            true => 1.0 - removed as f64 / self.n_layers.max(1) as f64,
            false => 1.0,
        }
    }
}

/// Most times that the budget is lowered until the model is small enough.
const ROUNDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blocks::BlockType;

    fn choice(kind: Option<BlockType>, bytes: u64, error: f64) -> Choice {
        Choice { kind, bytes, error }
    }

    fn group(place: usize, choices: Vec<Choice>) -> GroupChoices {
        GroupChoices { group: Group::all().nth(place).unwrap(), choices }
    }

    #[test]
    fn a_divergence_is_a_power_of_the_error_through_what_was_measured() {
        let all = [
            choice(Some(BlockType::Q2K), 2, 16.0),
            choice(Some(BlockType::Q3K), 3, 8.0),
            choice(Some(BlockType::Q4K), 4, 4.0),
            choice(Some(BlockType::Q6K), 6, 1.0),
            choice(None, 8, 0.0),
        ];
        let measured = probes(&all);
        assert_eq!(measured, [all[0], all[2]]);
        // b = 1.5: 64 = a 16^1.5, 8 = a 4^1.5.
        let priced = price(&group(3, all.to_vec()), &[(all[0], 64.0), (all[2], 8.0)]);
        let kl: Vec<f64> = priced.types.iter().map(|each| each.kl).collect();
        let expected = [64.0, 8f64.powf(1.5), 8.0, 1.0, 0.0];
        assert!(kl.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{kl:?}");
        let one = price(&group(3, all[2..].to_vec()), &[(all[2], 8.0)]);
        assert!((one.types[1].kl - 2.0).abs() < 1e-12);
        assert_eq!(probes(&all[4..]), []);
    }

    #[test]
    fn removals_between_those_measured_follow_a_power() {
        let costs = Costs { removals: vec![(2, 0.1), (8, 0.8)], n_layers: 30, ..Costs::default() };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(costs.removal(0), 0.0);
        near(costs.removal(1), 0.05);
        near(costs.removal(2), 0.1);
        near(costs.removal(4), 0.1 * 8f64.sqrt());
        near(costs.removal(8), 0.8);
        near(costs.removal(10), 1.0);
        assert!(Costs::default().removal(1).is_infinite());
    }

    #[test]
    fn the_best_types_of_a_size_are_found() {
        let priced = |place: usize, of: [(Option<BlockType>, u64, f64); 3]| PricedGroup {
            group: Group::all().nth(place).unwrap(),
            types: of
                .into_iter()
                .map(|(kind, bytes, kl)| Priced { choice: choice(kind, bytes, kl), kl })
                .collect(),
        };
        let (q2, q4) = (Some(BlockType::Q2K), Some(BlockType::Q4K));
        let costs = Costs {
            // The head, and queries of the first third.
            groups: vec![
                priced(1, [(q2, 20, 9.0), (q4, 40, 1.0), (None, 90, 0.0)]),
                priced(2, [(q2, 30, 2.0), (q4, 60, 0.5), (None, 120, 0.0)]),
            ],
            removals: vec![(15, 0.3)],
            n_layers: 30,
        };
        let bytes = |removed: usize| {
            let costs = &costs;
            move |types: &PartTypes| {
                let of_group = |group: &PricedGroup| {
                    let own = group.types.iter().find(|each| each.choice.kind == types.get(group.group));
                    (own.unwrap().choice.bytes as f64 * costs.share(group.group, removed)) as u64
                };
                Some(10 + costs.groups.iter().map(of_group).sum::<u64>())
            }
        };
        let all = costs.best(0, 110, bytes(0)).unwrap();
        assert_eq!((all.types.get(costs.groups[0].group), all.types.get(costs.groups[1].group)), (q4, q4));
        assert!((all.kl - 1.5).abs() < 1e-12);
        let fewer = costs.best(15, 110, bytes(15)).unwrap();
        assert_eq!(
            (fewer.types.get(costs.groups[0].group), fewer.types.get(costs.groups[1].group)),
            (q4, None)
        );
        assert!((fewer.kl - 1.3).abs() < 1e-12);
        assert_eq!(costs.best(0, 59, bytes(0)), None);
        assert_eq!(costs.expected(0, &all.types), all.kl);
    }
}
