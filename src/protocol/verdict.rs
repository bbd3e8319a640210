//! Fewer layers or fewer bits: the best merged model and the best unmerged one of each size in a comparison.

use serde::Serialize;

use super::compare::{CompareRow, Paired, StoredOriginal};
use super::options::dtype;
use crate::model::weights::file_type::FileType;

/// A model of a comparison that may be the best of its size.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct Candidate {
    /// Name of the method; `original` for the model of which no layer was removed.
    pub method: String,
    /// File type; without one, each tensor keeps its type.
    #[serde(serialize_with = "dtype::serialize")]
    #[cfg_attr(test, ts(as = "super::typescript::NumberType"))]
    pub dtype: Option<FileType>,
    /// Number of layers.
    pub layers: usize,
    /// Stored size of the tensors in bytes.
    pub bytes: u64,
    /// Mean KL divergence from the original in nats per token.
    pub kl: f64,
    #[serde(skip)]
    kl_by_sequence: Vec<f64>,
    #[serde(skip)]
    is_merged: bool,
}

/// The best models of at most one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct Verdict {
    /// Size in bytes that neither model exceeds.
    pub size: u64,
    /// Merged model of least KL divergence; `None` if no merged model is that small.
    pub merged: Option<Candidate>,
    /// Unmerged model of least KL divergence; `None` if none is that small.
    pub unmerged: Option<Candidate>,
    /// KL divergence of the merged model less that of the unmerged one, paired by sequence; `None` if one is missing.
    pub difference: Option<Paired>,
    /// The verdict in words.
    pub sentence: String,
}

/// Returns a verdict for each of `sizes` in bytes, or, if there are none, for the size of each model than which no smaller
/// one is as good. `bytes` is the size of the original as it is, whose divergence is 0, and `n_layers` the number of its
/// layers.
pub fn verdicts(
    rows: &[CompareRow],
    originals: &[StoredOriginal],
    (bytes, n_layers): (u64, usize),
    sizes: &[u64],
) -> Vec<Verdict> {
    let candidates = candidates(rows, originals, (bytes, n_layers));
    if !sizes.is_empty() {
        return sizes.iter().map(|size| verdict(&candidates, *size, n_layers)).collect();
    }
    let front = front(&candidates);
    // The original itself needs no verdict.
    front.iter().filter(|best| best.kl > 0.0).map(|best| verdict(&candidates, best.bytes, n_layers)).collect()
}

fn candidates(
    rows: &[CompareRow],
    originals: &[StoredOriginal],
    (bytes, n_layers): (u64, usize),
) -> Vec<Candidate> {
    let sequences = originals.first().map_or(0, |original| original.kl_by_sequence.len());
    let itself = Candidate {
        method: ORIGINAL.to_owned(),
        dtype: None,
        layers: n_layers,
        bytes,
        kl: 0.0,
        kl_by_sequence: vec![0.0; sequences],
        is_merged: false,
    };
    let unmerged = originals.iter().filter_map(|original| {
        Some(Candidate {
            dtype: original.dtype,
            bytes: original.bytes,
            kl: original.quality.kl?,
            kl_by_sequence: original.kl_by_sequence.clone(),
            ..itself.clone()
        })
    });
    let merged = rows.iter().filter_map(|row| {
        Some(Candidate {
            method: row.method.clone(),
            dtype: row.dtype,
            layers: row.layers,
            bytes: row.bytes,
            kl: row.quality?.kl?,
            kl_by_sequence: row.kl_by_sequence.clone(),
            is_merged: true,
        })
    });
    let all = unmerged.chain(merged).filter(|each| each.kl.is_finite()).collect::<Vec<_>>();
    std::iter::once(itself.clone()).chain(all).collect()
}

/// Returns the models than which no smaller one, or one of the same size, is as good, from the smallest to the largest.
fn front(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.kl.total_cmp(&b.kl)));
    let mut front: Vec<&Candidate> = Vec::new();
    for each in sorted {
        if front.last().is_none_or(|best| each.kl < best.kl) {
            front.push(each);
        }
    }
    front
}

fn verdict(candidates: &[Candidate], size: u64, n_layers: usize) -> Verdict {
    let best = |is_merged: bool| {
        let small = candidates.iter().filter(|each| each.is_merged == is_merged && each.bytes <= size);
        small.min_by(|a, b| a.kl.total_cmp(&b.kl)).cloned()
    };
    let (merged, unmerged) = (best(true), best(false));
    let difference = merged
        .as_ref()
        .zip(unmerged.as_ref())
        .and_then(|(merged, unmerged)| Paired::of(&merged.kl_by_sequence, &unmerged.kl_by_sequence));
    let words = |each: &Candidate| each.words(n_layers);
    let said = match (&merged, &unmerged, difference) {
        (Some(merged), Some(unmerged), Some(Paired { difference, margin })) => {
            let by = format!("by {} ± {} nats a token", figure(difference.abs()), figure(margin));
            match (difference.abs() <= margin, difference < 0.0) {
                (true, _) => {
                    format!("{} and {} are equally good within the noise", words(merged), words(unmerged))
                }
                (_, true) => format!("{} is better than {}, {by}", words(merged), words(unmerged)),
                (_, false) => {
                    format!(
                        "merging does not pay: {} is better than {}, {by}",
                        words(unmerged),
                        words(merged)
                    )
                }
            }
        }
        (Some(merged), Some(unmerged), None) => {
            format!("{} and {} cannot be told apart on so little text", words(merged), words(unmerged))
        }
        (Some(merged), None, _) => {
            format!("only merged models are that small, the best is {}", words(merged))
        }
        (None, Some(unmerged), _) => {
            format!("no merged model is that small, the best of the others is {}", words(unmerged))
        }
        (None, None, _) => match candidates.iter().min_by_key(|each| each.bytes) {
            Some(smallest) => format!("no model is that small, the smallest is {}", words(smallest)),
            None => "no model was measured".to_owned(),
        },
    };
    let sentence = format!("At most {}: {said}.", megabytes(size));
    Verdict { size, merged, unmerged, difference, sentence }
}

/// Name of the model of which no layer was removed.
const ORIGINAL: &str = "original";

impl Candidate {
    /// Returns the model in words, such as `laminate with 26 of 30 layers in q4_k_m (62.1 MB, KL 0.212)`.
    fn words(&self, n_layers: usize) -> String {
        let what = match self.is_merged {
            true => format!("{} with {} of {n_layers} layers", self.method, self.layers),
            false => format!("the {ORIGINAL}"),
        };
        let stored = match self.dtype {
            Some(dtype) => format!(" in {dtype}"),
            None => String::new(),
        };
        format!("{what}{stored} ({}, KL {})", megabytes(self.bytes), figure(self.kl))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Formats a divergence with three significant digits.
fn figure(x: f64) -> String {
    let digits = if x >= 5e-7 { (2.0 - x.log10().floor()).clamp(0.0, 6.0) } else { 0.0 };
    format!("{x:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blocks::BlockType;
    use crate::format::element::Element;
    use crate::plan::Method;
    use crate::quality::Quality;

    fn quality(kl: f64) -> Quality {
        Quality { perplexity: 10.0, kl: Some(kl), top1_agreement: Some(0.5), collapsed: false }
    }

    fn original(kind: BlockType, bytes: u64, kl: f64) -> StoredOriginal {
        let dtype = Some(FileType::of(Element::Block(kind)));
        StoredOriginal {
            dtype,
            quality: quality(kl),
            kl_by_sequence: vec![kl - 0.01, kl + 0.01, kl - 0.01, kl + 0.01],
            bytes,
            seconds: 1.0,
        }
    }

    fn row(removed: usize, bytes: u64, kl: f64) -> CompareRow {
        let method = Method::named("laminate").unwrap();
        CompareRow {
            bytes,
            quality: Some(quality(kl)),
            kl_by_sequence: vec![kl - 0.01, kl + 0.01, kl - 0.01, kl + 0.01],
            ..CompareRow::new(&method, removed, 30 - removed)
        }
    }

    #[test]
    fn the_best_of_each_size_is_named_and_what_is_not_known_is_said() {
        let originals =
            [original(BlockType::Q6K, 80_000_000, 0.02), original(BlockType::Q3K, 50_000_000, 0.4)];
        let rows = [
            row(2, 75_000_000, 0.1),
            row(4, 49_000_000, 0.2),
            row(8, 40_000_000, 0.3),
            row(9, 60_000_000, 0.5),
        ];
        let all = verdicts(&rows, &originals, (100_000_000, 30), &[]);
        let said: Vec<&str> = all.iter().map(|verdict| verdict.sentence.as_str()).collect();
        let expected = [
            "At most 40.0 MB: only merged models are that small, the best is laminate with 22 of 30 layers (40.0 MB, KL 0.300).",
            "At most 49.0 MB: only merged models are that small, the best is laminate with 26 of 30 layers (49.0 MB, KL 0.200).",
            "At most 75.0 MB: laminate with 28 of 30 layers (75.0 MB, KL 0.100) is better than the original in q3_k (50.0 MB, KL 0.400), by 0.300 ± 0 nats a token.",
            "At most 80.0 MB: merging does not pay: the original in q6_k (80.0 MB, KL 0.0200) is better than laminate with 28 of 30 layers (75.0 MB, KL 0.100), by 0.0800 ± 0 nats a token.",
        ];
        assert_eq!(said, expected);
        let [whole, none] = &verdicts(&rows, &originals, (100_000_000, 30), &[200_000_000, 1_000_000])[..]
        else {
            panic!("two sizes have two verdicts")
        };
        assert!(whole.sentence.contains("the original (100.0 MB, KL 0) is better"), "{}", whole.sentence);
        assert_eq!(
            none.sentence,
            "At most 1.0 MB: no model is that small, the smallest is laminate with 22 of 30 layers (40.0 MB, KL 0.300)."
        );
        // 0.3 and 0.31 are apart by half of the noise of two sequences.
        let close = CompareRow { kl_by_sequence: vec![0.25, 0.37], ..row(4, 50_000_000, 0.31) };
        let noisy =
            StoredOriginal { kl_by_sequence: vec![0.35, 0.25], ..original(BlockType::Q3K, 50_000_000, 0.3) };
        let [_, equal] = &verdicts(&[close], &[noisy], (60_000_000, 30), &[70_000_000, 50_000_000])[..]
        else {
            panic!("two sizes have two verdicts")
        };
        assert!(equal.sentence.ends_with("are equally good within the noise."), "{}", equal.sentence);
    }
}
