//! Draws that are the same for the same seed on every machine.

/// `k` of `items` by lot, or all of them, in the order drawn: the first of a Fisher-Yates shuffle whose numbers come
/// from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub fn draw<T>(mut items: Vec<T>, k: usize, seed: u64) -> Vec<T> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for place in 0..k.min(items.len()) {
        let left = (items.len() - place) as u64;
        items.swap(place, place + (next() % left) as usize);
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
