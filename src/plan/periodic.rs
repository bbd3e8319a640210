//! Sets of layers that can go while parts of layers stay at equal distances.
//!
//! Some settings say which layers have a part, such as attention, by a period and an offset only: layer `l` has the part
//! if `l mod period = offset`. What is left of such a model must be periodic too, in each of its parts at once.

use std::collections::BTreeSet;

/// Returns whether there are a period and an offset, less than the period, such that the flags are set at the places whose
/// number is the offset when it is divided by the period; and if so, the least such period and its offset.
pub fn period(flags: &[bool]) -> Option<(usize, usize)> {
    let n = flags.len();
    let candidates = (1..=n + 1).flat_map(|period| (0..period).map(move |offset| (period, offset)));
    let says = |(period, offset): &(usize, usize)| {
        flags.iter().enumerate().all(|(layer, flag)| *flag == (layer % period == *offset))
    };
    candidates.into_iter().find(says)
}

/// Most layers of a model whose sets are looked for: places of layers are bits of a number.
const MAX_LAYERS: usize = 127;

/// Returns the `k` layers to remove, ascending, so that every list of `parts`, each with one flag a layer, is periodic
/// after that: of all such sets the one of least summed `costs`, with one cost a layer. A layer of infinite cost stays. Of
/// equal sets one with deeper layers goes. `None` if there is no such set, or if there are more than 127 layers.
///
/// The parts of what is left follow one of finitely many patterns, one for each period and offset. For each pattern of all
/// parts together, the cheapest removal is found exactly, by dynamic programming over the layers: `L (L - k)` steps for
/// `L` layers. Patterns that cannot be had from the layers in their order are left out before, first for each part alone.
pub fn cheapest(parts: &[Vec<bool>], k: usize, costs: &[f64]) -> Option<Vec<usize>> {
    let n = costs.len();
    let left = n.checked_sub(k).filter(|left| *left > 0 && n <= MAX_LAYERS)?;
    let free: Vec<bool> = costs.iter().map(|cost| cost.is_finite()).collect();
    let all = patterns(left);
    let mut combined: Vec<Vec<u128>> = vec![Vec::new()];
    for last in 0..parts.len() {
        let (own, so_far) = (parts.get(last..=last)?, parts.get(..=last)?);
        let single: Vec<u128> = all.iter().copied().filter(|each| fits(own, &[*each], &free, left)).collect();
        let longer = combined.iter().flat_map(|before| {
            single.iter().map(move |each| before.iter().copied().chain([*each]).collect::<Vec<_>>())
        });
        combined = longer.filter(|combined| fits(so_far, combined, &free, left)).collect();
    }
    let found = combined.iter().filter_map(|patterns| removal(parts, patterns, costs, left));
    found.reduce(|best, each| if each.0 < best.0 { each } else { best }).map(|(_, removed)| removed)
}

/// Returns sets for the numbers of layers nearest to `k` of which a set can go, one less and one greater: for each the set
/// of least summed `costs`.
pub fn nearest(parts: &[Vec<bool>], k: usize, costs: &[f64]) -> Vec<Vec<usize>> {
    let fewer = (1..k).rev().find_map(|k| cheapest(parts, k, costs));
    let more = (k + 1..costs.len()).find_map(|k| cheapest(parts, k, costs));
    fewer.into_iter().chain(more).collect()
}

/// Returns all lists of `n` flags that a period and an offset say, each as the bits of a number.
fn patterns(n: usize) -> BTreeSet<u128> {
    let periods = (1..=n + 1).flat_map(|period| (0..period).map(move |offset| (period, offset)));
    let bits = |(period, offset)| {
        (0..n).filter(|place| place % period == offset).fold(0, |bits, place| bits | 1 << place)
    };
    periods.map(bits).collect()
}

/// Returns the places, as bits, at which a model that follows `patterns` has the parts of layer `layer`.
fn places(parts: &[Vec<bool>], layer: usize, patterns: &[u128]) -> u128 {
    let of_part = |(part, pattern): (&Vec<bool>, &u128)| match part.get(layer) {
        Some(true) => *pattern,
        Some(false) => !*pattern,
        None => 0,
    };
    parts.iter().zip(patterns).map(of_part).fold(u128::MAX, |all, each| all & each)
}

/// Returns whether `left` of the layers can follow `patterns`, while the layers that are not `free` stay.
fn fits(parts: &[Vec<bool>], patterns: &[u128], free: &[bool], left: usize) -> bool {
    // Numbers of layers that may have been kept so far, as bits.
    let mut kept: u128 = 1;
    for (layer, free) in free.iter().enumerate() {
        let stays = (kept & places(parts, layer, patterns)) << 1;
        kept = if *free { kept | stays } else { stays };
    }
    kept >> left & 1 == 1
}

/// Returns the cheapest layers to remove so that the `left` others follow `patterns`, with the sum of their costs; `None` if
/// there are none.
fn removal(parts: &[Vec<bool>], patterns: &[u128], costs: &[f64], left: usize) -> Option<(f64, Vec<usize>)> {
    // `ahead[l][p]`: the least cost of the layers from `l` on, if `p` were kept before, and whether layer `l` stays.
    let mut ahead = vec![vec![(f64::INFINITY, false); left + 1]; costs.len() + 1];
    ahead.last_mut()?.last_mut()?.0 = 0.0;
    for (layer, cost) in costs.iter().enumerate().rev() {
        let places = places(parts, layer, patterns);
        for place in 0..=left {
            let next = ahead.get(layer + 1)?;
            let goes = next.get(place)?.0 + cost;
            let stays = match next.get(place + 1) {
                Some((after, _)) if places >> place & 1 == 1 => *after,
                _ => f64::INFINITY,
            };
            *ahead.get_mut(layer)?.get_mut(place)? =
                if stays <= goes { (stays, true) } else { (goes, false) };
        }
    }
    let total = ahead.first()?.first()?.0;
    let (mut place, mut removed) = (0, Vec::new());
    for layer in 0..costs.len() {
        if ahead.get(layer)?.get(place)?.1 {
            place += 1;
        } else {
            removed.push(layer);
        }
    }
    total.is_finite().then_some((total, removed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maths::random::number;

    fn flags(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == 'x').collect()
    }

    fn every(n: usize, period: usize, offset: usize) -> Vec<bool> {
        (0..n).map(|layer| layer % period == offset).collect()
    }

    fn without(part: &[bool], removed: &[usize]) -> Vec<bool> {
        let kept = part.iter().enumerate().filter(|(layer, _)| !removed.contains(layer));
        kept.map(|(_, flag)| *flag).collect()
    }

    /// Tries all sets of `k` layers.
    fn by_force(parts: &[Vec<bool>], k: usize, costs: &[f64]) -> Option<f64> {
        let n = costs.len();
        let sets = (0u32..1 << n).filter(|set| set.count_ones() as usize == k);
        let sums = sets.filter_map(|set| {
            let removed: Vec<usize> = (0..n).filter(|layer| set >> layer & 1 == 1).collect();
            let sum: f64 = removed.iter().map(|layer| costs[*layer]).sum();
            let fits = parts.iter().all(|part| period(&without(part, &removed)).is_some());
            (fits && sum.is_finite()).then_some(sum)
        });
        sums.reduce(f64::min)
    }

    #[test]
    fn periods_are_found_where_there_are_any() {
        for (text, expected) in [
            ("--x---x-", Some((4, 2))),
            ("xxx", Some((1, 0))),
            ("---", Some((4, 3))),
            ("-x", Some((2, 1))),
            ("x-", Some((2, 0))),
            ("-x-x-", Some((2, 1))),
            ("xx-", None),
            ("x-xx", None),
        ] {
            assert_eq!(period(&flags(text)), expected, "{text}");
        }
    }

    #[test]
    fn the_cheapest_set_is_that_of_all_sets() {
        let mut seen = 0;
        for (n, parts) in [
            (8, vec![every(8, 4, 2), every(8, 2, 1)]),
            (10, vec![every(10, 5, 1), every(10, 2, 0)]),
            (12, vec![every(12, 4, 1), every(12, 3, 2)]),
            (9, vec![every(9, 3, 0)]),
            (9, vec![flags("x--xx----"), every(9, 2, 1)]),
        ] {
            for seed in 0..3 {
                let mut costs: Vec<f64> = (0..n).map(|l| (number(seed, l) % 1000) as f64).collect();
                if seed == 2 {
                    costs[n as usize - 1] = f64::INFINITY;
                }
                for k in 1..n as usize {
                    let found = cheapest(&parts, k, &costs);
                    let sum = found.as_ref().map(|set| set.iter().map(|layer| costs[*layer]).sum::<f64>());
                    assert_eq!(sum, by_force(&parts, k, &costs), "{n} layers without {k}, seed {seed}");
                    if let Some(set) = found {
                        assert_eq!(set.len(), k);
                        assert!(parts.iter().all(|part| period(&without(part, &set)).is_some()));
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 60, "{seen}");
    }

    #[test]
    fn thirty_two_layers_keep_their_periods() {
        // Attention in each eighth layer, experts in each second.
        let parts = [every(32, 8, 4), every(32, 2, 1)];
        let costs: Vec<f64> = (0..32).map(|layer| 1.0 + f64::from(layer % 7)).collect();
        for k in 1..32 {
            // Layers from the ends can always go.
            let removed = cheapest(&parts, k, &costs).unwrap();
            assert_eq!(removed.len(), k);
            assert!(parts.iter().all(|part| period(&without(part, &removed)).is_some()), "{removed:?}");
        }
        // Where the ends stay, only pairs of every period can go, or all but single layers with attention.
        let mut ends = costs;
        (ends[0], ends[31]) = (f64::INFINITY, f64::INFINITY);
        assert_eq!(cheapest(&parts, 1, &ends), None);
        let near = nearest(&parts, 1, &ends);
        assert_eq!(near.len(), 1);
        assert!(parts.iter().all(|part| period(&without(part, &near[0])).is_some()), "{near:?}");
        assert!((2..near[0].len()).all(|k| cheapest(&parts, k, &ends).is_none()));
    }

    #[test]
    fn layers_that_stay_are_no_part_of_a_set() {
        let parts = [every(8, 4, 2), every(8, 2, 1)];
        let costs = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
            .map(|cost| if cost == 0.0 { f64::INFINITY } else { cost });
        let set = cheapest(&parts, 2, &costs).unwrap();
        assert!(set.iter().all(|layer| *layer < 6), "{set:?}");
        assert_eq!(cheapest(&parts, 8, &costs), None);
        assert_eq!(cheapest(&parts, 2, &[f64::INFINITY; 8]), None);
    }
}
