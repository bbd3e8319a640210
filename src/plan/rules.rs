//! Selection rules that need only numbers: which layers are removed, in which order.
//!
//! Every function returns the layers to remove, the least missed layer first. `allowed` says which layers may
//! be removed.

use crate::maths::random::draw;

/// Returns the `k` layers of lowest score; of equal scores, deeper layers first.
pub fn lowest(scores: &[f64], k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut ranked = ranked(scores);
    ranked.retain(|layer| allowed(*layer));
    ranked.truncate(k);
    ranked
}

/// Returns the second layers of `k` disjoint pairs of neighbours, taken in ascending order of the first
/// layer's score.
pub fn pairs(scores: &[f64], k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut removed: Vec<usize> = Vec::new();
    let mut paired = vec![false; scores.len()];
    for first in ranked(scores) {
        let second = first + 1;
        if removed.len() == k {
            break;
        }
        if paired.get(first) == Some(&false) && paired.get(second) == Some(&false) && allowed(second) {
            removed.push(second);
            for layer in [first, second] {
                if let Some(paired) = paired.get_mut(layer) {
                    *paired = true;
                }
            }
        }
    }
    removed
}

/// Returns the block of `k` layers that begins where `distance` is least (of equal distances, the deepest),
/// from its last layer to its first; empty if no block is allowed. `distance[l]` is the distance between the
/// hidden states that enter layer `l` and those that enter layer `l + k`.
pub fn block(distance: &[f64], k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    let start = ranked(distance).into_iter().find(|start| (*start..start + k).all(&allowed));
    start.map(|start| (start..start + k).rev().collect()).unwrap_or_default()
}

/// Returns the deepest `k` layers, deepest first.
pub fn tail(n_layers: usize, k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..n_layers).rev().filter(|layer| allowed(*layer)).take(k).collect()
}

/// Returns `k` layers drawn at random from `seed` (see [`draw`]).
pub fn random(n_layers: usize, k: usize, seed: u64, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    draw((0..n_layers).filter(|layer| allowed(*layer)).collect(), k, seed)
}

/// Returns the indices by ascending score, deeper layers first among equals; NaN comes last.
fn ranked(scores: &[f64]) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = scores.iter().copied().enumerate().rev().collect();
    ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    ranked.into_iter().map(|(layer, _)| layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: fn(usize) -> bool = |_| true;

    #[test]
    fn the_lowest_scores_go_first_and_the_deeper_of_equal_ones() {
        let scores = [0.9, 0.1, 0.3, 0.1, f64::NAN];
        assert_eq!(lowest(&scores, 3, ANY), [3, 1, 2]);
        assert_eq!(lowest(&scores, 2, |layer| layer != 3), [1, 2]);
        assert_eq!(lowest(&scores, 9, ANY).len(), 5);
    }

    #[test]
    fn pairs_share_no_layer() {
        assert_eq!(pairs(&[0.5, 0.1, 0.2, 0.3, 0.4, 0.9], 3, ANY), [2, 4]);
        assert_eq!(pairs(&[0.5, 0.4, 0.2, 0.1], 2, ANY), [3, 1]);
        assert_eq!(pairs(&[0.1, 0.2], 1, |layer| layer != 1), [0usize; 0]);
    }

    #[test]
    fn a_block_is_where_the_distance_is_least() {
        assert_eq!(block(&[0.5, 0.2, 0.2, 0.4], 2, ANY), [3, 2]);
        assert_eq!(block(&[0.5, 0.2, 0.3], 2, |layer| layer != 2), [1, 0]);
        assert_eq!(block(&[0.5, 0.2, 0.3], 2, |layer| layer != 1), [3, 2]);
    }

    #[test]
    fn tails_and_draws_take_what_is_allowed() {
        assert_eq!(tail(5, 2, ANY), [4, 3]);
        assert_eq!(tail(5, 2, |layer| layer != 4), [3, 2]);
        let drawn = random(10, 4, 7, |layer| layer != 0);
        assert_eq!(drawn.len(), 4);
        assert!(!drawn.contains(&0));
    }
}
