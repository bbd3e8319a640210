//! Conversion of SentencePiece's scores to merges, and back.
//!
//! SentencePiece has no list of merges: of all neighbours that together are a piece, it joins the two whose
//! piece has the highest score. The equivalent list holds every split of every piece into two pieces, by
//! falling score of the piece. The splits of one piece are in the order of transformers' `generate_merges`:
//! the longer left side comes first.

use std::collections::{HashMap, HashSet};

use super::kind::Kind;

/// Returns all merges of a vocabulary in their order.
///
/// The cost is the number of characters of the vocabulary times the length of a piece.
pub(super) fn from_scores<'a, T: AsRef<str>>(
    tokens: &'a [T],
    kinds: &[Kind],
    scores: &[f32],
) -> Vec<(&'a str, &'a str)> {
    let pieces: HashSet<&str> = tokens.iter().map(AsRef::as_ref).collect();
    let mut merges = Vec::new();
    for ((token, kind), score) in tokens.iter().zip(kinds).zip(scores) {
        // A text cannot spell tokens of these kinds, and SentencePiece does not look them up.
        if !kind.has_text() {
            continue;
        }
        let token = token.as_ref();
        let length = token.chars().count();
        for (left_length, (at, _)) in token.char_indices().enumerate().skip(1) {
            if let Some((left, right)) = token.split_at_checked(at)
                && pieces.contains(left)
                && pieces.contains(right)
            {
                merges.push((*score, left_length, length - left_length, left, right));
            }
        }
    }
    // The sort is stable, so that pieces with the same score and lengths stay in the order of their ids.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    merges.into_iter().map(|(.., left, right)| (left, right)).collect()
}

/// Finds scores from which [`from_scores`] gives back `merges`, up to the order of the splits of one piece.
/// `None` if no scores do, because a split is missing or the merges are not ordered by piece.
///
/// The score of a piece is minus its place in the order in which the merges make pieces. Pieces whose merges
/// are interleaved have the same score, as Llama 2's sequences of spaces do. Control tokens and bytes have
/// the score 0, and pieces that no merge makes have the lowest one.
pub(super) fn to_scores(tokens: &[String], kinds: &[Kind], merges: &[(String, String)]) -> Option<Vec<f32>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    // Place of the first piece of each group of pieces with one score.
    let mut groups: Vec<usize> = Vec::new();
    for (left, right) in merges {
        let next = places.len();
        let place = *places.entry(format!("{left}{right}")).or_insert(next);
        if place == next {
            groups.push(place);
        }
        while groups.last().is_some_and(|first| *first > place) {
            groups.pop();
        }
    }
    let group = |place: usize| groups.get(groups.partition_point(|first| *first <= place).checked_sub(1)?);
    let score = |token: &String| {
        let group = places.get(token).and_then(|place| group(*place));
        -(group.copied().unwrap_or(places.len()) as f32)
    };
    let scored = tokens.iter().zip(kinds);
    let scores: Vec<f32> =
        scored.map(|(token, kind)| if kind.has_text() { score(token) } else { 0.0 }).collect();

    let derived = from_scores(tokens, kinds, &scores);
    let ranks: HashMap<(&str, &str), usize> = derived.iter().copied().zip(0..).collect();
    // Merges without a rank make control tokens, which older converters let a text spell.
    let known: Vec<(String, usize)> = merges
        .iter()
        .filter_map(|(left, right)| {
            Some((format!("{left}{right}"), *ranks.get(&(left.as_str(), right.as_str()))?))
        })
        .collect();
    let all_there = known.iter().map(|(_, rank)| rank).collect::<HashSet<_>>().len() == derived.len();
    let in_order = known.windows(2).all(|pair| match pair {
        [(piece, rank), (next_piece, next_rank)] => rank < next_rank || piece == next_piece,
        _ => true,
    });
    (all_there && in_order).then_some(scores)
}
