//! Cheapest way to merge spans of layers into one layer each.

use std::ops::RangeInclusive;

/// Returns the spans of at least two and at most `longest` layers, of `n` layers in a row, that together
/// remove `k` layers at the least sum of `cost(first, last)`. If `k` layers cannot be removed, the largest
/// possible number below `k` is removed. The cost of a span that is not allowed is `None`; longer spans from
/// the same first layer are then not tried. Spans come in the order of the layers; of equal sums, the
/// solution with shorter earlier spans is returned.
///
/// The result is exact, by dynamic programming over the layers from the last to the first: `n * k * longest`
/// steps.
pub fn cheapest(
    n: usize,
    k: usize,
    longest: usize,
    cost: impl Fn(usize, usize) -> Option<f64>,
) -> Vec<RangeInclusive<usize>> {
    // `best[i][r]` is for the layers from `i` on with `r` of them removed: the least sum, and the length of
    // the first span (1 for a layer that stays alone).
    let unknown = (f64::INFINITY, 1);
    let mut best = vec![vec![unknown; k + 1]; n + 1];
    let at = |best: &[Vec<(f64, usize)>], i: usize, r: usize| {
        best.get(i).and_then(|row| row.get(r)).copied().unwrap_or(unknown)
    };
    if let Some(end) = best.last_mut().and_then(|row| row.first_mut()) {
        *end = (0.0, 1);
    }
    for i in (0..n).rev() {
        // The first span may be a single layer, or longer as far as spans are allowed.
        let mut row: Vec<_> = (0..=k).map(|r| (at(&best, i + 1, r).0, 1)).collect();
        for length in 2..=longest.min(n - i).min(k + 1) {
            let Some(cost) = cost(i, i + length - 1) else { break };
            for (r, place) in row.iter_mut().enumerate().skip(length - 1) {
                let sum = cost + at(&best, i + length, r + 1 - length).0;
                if sum < place.0 {
                    *place = (sum, length);
                }
            }
        }
        if let Some(place) = best.get_mut(i) {
            *place = row;
        }
    }
    let mut left = (0..=k).rev().find(|&r| at(&best, 0, r).0.is_finite()).unwrap_or(0);
    let mut spans = Vec::new();
    let mut i = 0;
    while i < n {
        let (_, length) = at(&best, i, left);
        if length > 1 {
            spans.push(i..=i + length - 1);
        }
        left = left.saturating_sub(length - 1);
        i += length;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the least sum over all ways to cut `n` layers into spans, tried one by one.
    fn tried(n: usize, k: usize, longest: usize, cost: &impl Fn(usize, usize) -> Option<f64>) -> f64 {
        let sums = (0..1u32 << (n - 1)).filter(|joined| joined.count_ones() as usize == k).map(|joined| {
            let (mut first, mut sum) = (0, 0.0);
            for layer in 0..n {
                if layer + 1 == n || joined & (1 << layer) == 0 {
                    if layer > first {
                        let cost = if layer - first < longest { cost(first, layer) } else { None };
                        sum += cost.unwrap_or(f64::INFINITY);
                    }
                    first = layer + 1;
                }
            }
            sum
        });
        sums.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn nothing_is_cheaper() {
        let numbers: Vec<f64> =
            (0..100u64).map(|i| ((i * 2_654_435_761) % 1000) as f64 / 1000.0 + 0.01).collect();
        let cost = |first: usize, last: usize| {
            // No layer absorbs layer 5.
            let barred = (first + 1..=last).contains(&5);
            (!barred).then(|| numbers[(7 * first + 13 * last) % 100] * (last - first) as f64)
        };
        for longest in [2, 3, 4, 9] {
            for k in 1..8 {
                let spans = cheapest(9, k, longest, cost);
                let removed: usize = spans.iter().map(|span| span.end() - span.start()).sum();
                let sum: f64 = spans.iter().map(|span| cost(*span.start(), *span.end()).unwrap()).sum();
                let least = tried(9, k, longest, &cost);
                if least.is_finite() {
                    assert_eq!((removed, (sum - least).abs() < 1e-12), (k, true), "{k} in runs of {longest}");
                } else {
                    assert!(removed < k && !tried(9, removed, longest, &cost).is_infinite());
                    assert!(tried(9, removed + 1, longest, &cost).is_infinite());
                }
            }
        }
    }

    #[test]
    fn what_may_not_be_is_not() {
        assert!(cheapest(4, 2, 4, |_, _| None).is_empty());
        assert!(cheapest(0, 2, 4, |_, _| Some(1.0)).is_empty());
        assert_eq!(cheapest(4, 9, 4, |_, _| Some(1.0)), [0..=3]);
    }
}
