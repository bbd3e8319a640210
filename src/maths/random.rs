//! Random draws that depend only on the seed and are equal on every machine.

/// Returns the pseudorandom number at `place` of the sequence that `seed` defines, by SplitMix64 (Steele, Lea
/// and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub fn number(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the number at `place` of the sequence that `seed` defines, as a fraction in [0, 1) with 53 bits.
pub fn unit(seed: u64, place: u64) -> f64 {
    (number(seed, place) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws `k` of `items` at random without repetition, or all of them if there are fewer. The order is that of
/// the draw: the first `k` of a Fisher-Yates shuffle.
pub fn draw<T>(mut items: Vec<T>, k: usize, seed: u64) -> Vec<T> {
    for place in 0..k.min(items.len()) {
        let left = (items.len() - place) as u64;
        items.swap(place, place + (number(seed, place as u64) % left) as usize);
    }
    items.truncate(k);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_of_the_seed_and_repeat_nothing() {
        let items: Vec<usize> = (0..10).collect();
        let drawn = draw(items.clone(), 4, 7);
        assert_eq!(drawn, draw(items.clone(), 4, 7));
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 4);
        assert!((0..20).any(|seed| draw(items.clone(), 4, seed) != draw(items.clone(), 4, 0)));
        assert_eq!(draw(items, 99, 1).len(), 10);
    }
}
