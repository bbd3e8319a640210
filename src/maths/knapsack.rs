//! Choice of one of several alternatives for each item, of least total cost within a total size.

/// Steps that sizes are counted in: a size is rounded up to a whole number of steps, so that a choice may stay below the
/// limit by one step for each item.
const STEPS: usize = 4096;

/// An alternative of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative {
    /// What it takes of the limit.
    pub size: u64,
    /// What it costs; finite.
    pub cost: f64,
}

/// Chooses one alternative for each of `items` such that the sizes together are at most `limit` and the sum of the costs is
/// least. Returns the index of the alternative of each item; `None` if no choice is known to keep the limit. Sizes are
/// counted in steps of 1/4096 of the limit.
///
/// Multiple-choice knapsack by dynamic programming (Dudziński and Walukiewicz, European Journal of Operational Research 28,
/// 1987): takes about 4096 times the number of all alternatives.
pub fn knapsack(items: &[Vec<Alternative>], limit: u64) -> Option<Vec<usize>> {
    let step = (limit / STEPS as u64).max(1);
    let most = usize::try_from(limit / step).ok()?;
    // best[s]: least cost of the items so far in at most `s` steps.
    let mut best = vec![0.0f64; most + 1];
    let mut chosen: Vec<Vec<usize>> = Vec::with_capacity(items.len());
    let steps =
        |alternative: &Alternative| usize::try_from(alternative.size.div_ceil(step)).unwrap_or(usize::MAX);
    for item in items {
        let mut after = vec![f64::INFINITY; most + 1];
        let mut choice = vec![0; most + 1];
        for (place, alternative) in item.iter().enumerate() {
            let shift = steps(alternative);
            let slots = after.iter_mut().zip(choice.iter_mut()).skip(shift);
            for ((after, choice), before) in slots.zip(&best) {
                let cost = before + alternative.cost;
                if cost < *after {
                    (*after, *choice) = (cost, place);
                }
            }
        }
        best = after;
        chosen.push(choice);
    }
    if !best.last()?.is_finite() {
        return None;
    }
    let mut left = most;
    let mut places = Vec::with_capacity(items.len());
    for (item, choice) in items.iter().zip(&chosen).rev() {
        let place = *choice.get(left)?;
        left = left.checked_sub(steps(item.get(place)?))?;
        places.push(place);
    }
    places.reverse();
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        }
    }

    /// Least cost over all choices.
    fn naive(items: &[Vec<Alternative>], limit: u64) -> Option<f64> {
        let Some((first, rest)) = items.split_first() else { return Some(0.0) };
        let with = |each: &Alternative| Some(each.cost + naive(rest, limit.checked_sub(each.size)?)?);
        first.iter().filter_map(with).reduce(f64::min)
    }

    #[test]
    fn no_choice_within_the_limit_costs_less() {
        let mut draw = draws(5);
        for _ in 0..50 {
            // Up to 4095, a step is 1, so that nothing is rounded.
            let alternative = |draw: &mut dyn FnMut(u64) -> u64| Alternative {
                size: draw(900),
                cost: draw(1000) as f64 / 16.0,
            };
            let items: Vec<Vec<_>> =
                (0..6).map(|_| (0..draw(4) + 1).map(|_| alternative(&mut draw)).collect()).collect();
            let limit = draw(4095);
            let found = knapsack(&items, limit);
            let cost = found.as_ref().map(|places| {
                let chosen: Vec<_> = items.iter().zip(places).map(|(item, place)| item[*place]).collect();
                assert!(chosen.iter().map(|each| each.size).sum::<u64>() <= limit);
                chosen.iter().map(|each| each.cost).sum::<f64>()
            });
            assert_eq!(cost, naive(&items, limit), "{limit} {items:?}");
        }
    }

    #[test]
    fn large_sizes_keep_the_limit() {
        let mut draw = draws(9);
        let of_size = |size: u64| Alternative { size, cost: 1.0 / size as f64 };
        let items: Vec<Vec<_>> =
            (0..17).map(|_| (1..8).map(|n| of_size(n * (400_000_000 + draw(9_999_999)))).collect()).collect();
        let limit = 20_000_000_000;
        let places = knapsack(&items, limit).unwrap();
        let total: u64 = items.iter().zip(&places).map(|(item, place)| item[*place].size).sum();
        assert!(total <= limit && total > limit - limit / 16, "{total}");
        assert_eq!(knapsack(&items, 17 * 399_000_000), None);
    }

    #[test]
    fn nothing_takes_nothing() {
        assert_eq!(knapsack(&[], 0), Some(Vec::new()));
        assert_eq!(knapsack(&[Vec::new()], 10), None);
    }
}
