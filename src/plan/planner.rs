//! Choice of pairs: the next pair, or all pairs from the first similarity matrix.

use std::fmt;
use std::ops::RangeInclusive;

use super::options::ValidPlanOptions;
use super::spans::cheapest;
use super::{MergePlan, MergeStep};
use crate::error::{Error, Result};
use crate::maths::similarity::SimilarityMatrix;

/// Two neighbouring layers to merge, `first` and `first + 1`, as indices in the model before the merge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index of the earlier layer; the merged layer takes its place.
    pub first: usize,
    /// Similarity of the two layers.
    pub similarity: f64,
}

/// Decision of the planner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Merge the pair.
    Merge(Pair),
    /// Merge no more.
    Stop(Stop),
}

/// Reason why a plan ends. Its text is a sentence for the report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// The number of layers asked for was removed.
    Done,
    /// One layer is left.
    OneLayer,
    /// Every remaining pair is barred: by an option, because its second layer is protected, or because the
    /// span would be too long.
    AllBarred,
    /// The best pair that is allowed has this similarity, which is less than asked.
    BelowSimilarity(f64),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Done => f.write_str("as many layers were removed as asked"),
            Stop::OneLayer => f.write_str("only one layer is left"),
            Stop::AllBarred => f.write_str(
                "no other pair may be merged: the rest is protected because it writes massive activations, kept as \
                 first or last layer, locked, or would make a span too long",
            ),
            Stop::BelowSimilarity(best) => {
                write!(f, "the most similar pair that may be merged has a similarity of only {best:.3}")
            }
        }
    }
}

/// Merges of a one-shot plan.
#[derive(Debug, Clone, PartialEq)]
pub struct OneShot {
    /// Pairs in the order of their merges; `first` is the index in the model at the time of the merge.
    pub pairs: Vec<Pair>,
    /// Reason why there are no more pairs.
    pub stop: Stop,
}

/// Plan in the making: the options and the steps so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Planner {
    options: ValidPlanOptions,
    plan: MergePlan,
}

impl Planner {
    /// Begins a plan without merges.
    pub fn new(options: ValidPlanOptions) -> Self {
        let plan =
            MergePlan { operator: options.options().operator, ..MergePlan::unmerged(options.n_layers) };
        Planner { options, plan }
    }

    /// Returns the plan of the steps so far.
    pub fn plan(&self) -> &MergePlan {
        &self.plan
    }

    /// Ends planning and returns the plan.
    pub fn into_plan(mut self) -> MergePlan {
        self.plan.set_weights();
        self.plan
    }

    /// Returns the last step, so that measurements after it can be recorded.
    pub fn last_step_mut(&mut self) -> Option<&mut MergeStep> {
        self.plan.steps.last_mut()
    }

    /// Returns the next pair of the iterative method: the neighbours of highest similarity among those that
    /// may be merged, the deepest of equal ones.
    ///
    /// A pair is barred if it contains a layer that an option keeps (the first, the last, a locked one), if
    /// its layers together hold too many original layers, or if its second layer was made from a protected
    /// layer, which must not be absorbed into its predecessor. A protected layer may absorb its successor.
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrix does not have the current model's number of layers.
    pub fn next_pair(&self, similarity: &SimilarityMatrix) -> Result<Next> {
        self.check_shape(similarity)?;
        if self.options.options().remove.is_some_and(|k| self.plan.steps.len() >= k) {
            return Ok(Next::Stop(Stop::Done));
        }
        let best = self
            .allowed(similarity)
            .into_iter()
            .reduce(|best, pair| if pair.similarity >= best.similarity { pair } else { best });
        Ok(match best {
            None => Next::Stop(self.nothing_allowed()),
            Some(pair) if self.is_too_low(pair) => Next::Stop(Stop::BelowSimilarity(pair.similarity)),
            Some(pair) => Next::Merge(pair),
        })
    }

    /// Returns all pairs of the one-shot method, from the similarities of the original model.
    ///
    /// Without `influence`, the pairs `(l, l + 1)` that may be merged are ranked by similarity, deeper pairs
    /// first among equals. The best `remove` of them (or all not below `min_similarity`) are taken, each
    /// once.
    ///
    /// With `influence`, the Block Influence of every layer, the pairs taken are those that make the spans
    /// `s..=t` with the least sum of `(1 - S(s, t)) (BI(s) + .. + BI(t))`: the change of the diffusion map by
    /// a span, times how far its layers turn the residual stream. The result is the cheapest of all ways to
    /// remove that number of layers. The layer before a protected layer is not absorbed either: small changes
    /// upset a layer that writes a massive activation, so its input should come from an original layer.
    ///
    /// Taken pairs that share a layer form a chain `l, l + 1, .., l + c`, which becomes one layer. A chain is
    /// merged from left to right: first `l` with `l + 1`, then the result with `l + 2`, and so on. Each merge
    /// has the similarity of its own original pair, here `(l + 1, l + 2)`. Every original layer therefore
    /// ends in exactly one final layer. Chains are merged in the order of their best pair.
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrix or `influence` does not have the original model's number of layers,
    /// [`Error::Usage`] if a merge was made before.
    pub fn one_shot_pairs(
        &self,
        similarity: &SimilarityMatrix,
        influence: Option<&[f64]>,
    ) -> Result<OneShot> {
        if !self.plan.steps.is_empty() {
            return Err(Error::Usage(
                "a one-shot plan is made from the original model, before any merge".to_string(),
            ));
        }
        self.check_shape(similarity)?;
        let mut ranked = self.allowed(similarity);
        if influence.is_some() {
            ranked.retain(|pair| !self.options.protected.contains(&(pair.first + 2)));
        }
        // A stable sort of the reversed list puts deeper pairs first among equals.
        ranked.reverse();
        ranked.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        let too_low = ranked.iter().find(|pair| self.is_too_low(**pair)).copied();
        ranked.retain(|pair| !self.is_too_low(*pair));
        let mut ranked = match influence {
            None => self.in_short_spans(&ranked),
            Some(influence) => self.in_cheap_spans(&ranked, similarity, influence)?,
        };
        let stop = match (self.options.options().remove, too_low) {
            (Some(k), _) if k <= ranked.len() => {
                ranked.truncate(k);
                Stop::Done
            }
            (_, Some(pair)) => Stop::BelowSimilarity(pair.similarity),
            _ if ranked.len() + 1 >= self.plan.n_final_layers() => Stop::OneLayer,
            _ => Stop::AllBarred,
        };
        Ok(OneShot { pairs: in_chain_order(&ranked), stop })
    }

    /// Appends the merge of a pair, with share `alpha` of its first layer.
    ///
    /// # Errors
    /// Those of [`MergePlan::merge`].
    pub fn merge(&mut self, pair: Pair, alpha: f64) -> Result<&mut MergeStep> {
        self.plan.merge([pair.first, pair.first.saturating_add(1)], alpha, pair.similarity)
    }

    fn check_shape(&self, similarity: &SimilarityMatrix) -> Result<()> {
        let (given, current) = (similarity.n_layers(), self.plan.n_final_layers());
        if given != current {
            return Err(Error::Shape(format!(
                "plan: similarities of {given} layers were given, but the model has {current} now"
            )));
        }
        Ok(())
    }

    /// Returns the pairs of the current model that may be merged, from the first layer on.
    fn allowed(&self, similarity: &SimilarityMatrix) -> Vec<Pair> {
        let options = self.options.options();
        let pairs = similarity.adjacent().zip(self.plan.groups.iter().skip(1)).enumerate();
        let n_pairs = self.plan.n_final_layers().saturating_sub(1);
        pairs
            .filter(|(first, (_, second_group))| {
                let is_kept =
                    (options.keep_first && *first == 0) || (options.keep_last && first + 1 == n_pairs);
                let first_group = self.plan.groups.get(*first).map_or(&[][..], Vec::as_slice);
                let is_locked =
                    first_group.iter().chain(*second_group).any(|layer| options.locked.contains(layer));
                let span = self.plan.groups.get(*first).map_or(0, Vec::len) + second_group.len();
                let is_long = options.longest_span.is_some_and(|most| span > most);
                !is_kept
                    && !is_locked
                    && !is_long
                    && !second_group.iter().any(|layer| self.options.protected.contains(layer))
            })
            .map(|(first, (similarity, _))| Pair { first, similarity })
            .collect()
    }

    /// Keeps the ranked pairs that, taken one after the other, make no span longer than allowed.
    fn in_short_spans(&self, ranked: &[Pair]) -> Vec<Pair> {
        let Some(most) = self.options.options().longest_span else { return ranked.to_vec() };
        let mut taken: Vec<usize> = Vec::new();
        let mut pairs = Vec::new();
        for pair in ranked {
            let before = (0..pair.first).rev().take_while(|first| taken.contains(first)).count();
            let after = (pair.first + 1..).take_while(|first| taken.contains(first)).count();
            if before + after + 2 <= most {
                taken.push(pair.first);
                pairs.push(*pair);
            }
        }
        pairs
    }

    /// Keeps the pairs that make the cheapest spans (see [`Planner::one_shot_pairs`]), in ascending order of
    /// their span's cost per layer removed.
    fn in_cheap_spans(
        &self,
        pairs: &[Pair],
        similarity: &SimilarityMatrix,
        influence: &[f64],
    ) -> Result<Vec<Pair>> {
        let n = similarity.n_layers();
        if influence.len() != n {
            return Err(Error::Shape(format!(
                "plan: Block Influences of {} layers were given, but the model has {n}",
                influence.len()
            )));
        }
        let of_first = |first: usize| pairs.iter().find(|pair| pair.first == first);
        let cost = |first: usize, last: usize| {
            let allowed = (first..last).all(|layer| of_first(layer).is_some());
            let turned: f64 = influence.get(first..=last).unwrap_or_default().iter().sum();
            similarity.between(first, last).filter(|_| allowed).map(|alike| (1.0 - alike) * turned)
        };
        let options = self.options.options();
        let most = options.remove.unwrap_or(n).min(n.saturating_sub(1));
        let mut spans = cheapest(n, most, options.longest_span.unwrap_or(n), cost);
        let each = |span: &RangeInclusive<usize>| {
            cost(*span.start(), *span.end()).unwrap_or(f64::INFINITY) / (span.end() - span.start()) as f64
        };
        spans.sort_by(|a, b| each(a).total_cmp(&each(b)));
        Ok(spans
            .into_iter()
            .flat_map(|span| *span.start()..*span.end())
            .filter_map(of_first)
            .copied()
            .collect())
    }

    fn is_too_low(&self, pair: Pair) -> bool {
        self.options.options().min_similarity.is_some_and(|least| pair.similarity < least)
    }

    fn nothing_allowed(&self) -> Stop {
        if self.plan.n_final_layers() <= 1 { Stop::OneLayer } else { Stop::AllBarred }
    }
}

/// Turns ranked pairs of the original model into merges, with indices in the model at the time of each merge.
fn in_chain_order(ranked: &[Pair]) -> Vec<Pair> {
    let mut by_depth = ranked.to_vec();
    by_depth.sort_by_key(|pair| pair.first);
    let mut merges: Vec<Pair> = Vec::with_capacity(ranked.len());
    // Original indices of absorbed layers; each of them before a layer shifts that layer's index by one.
    let mut absorbed: Vec<usize> = Vec::with_capacity(ranked.len());
    for best in ranked {
        if absorbed.contains(&(best.first + 1)) {
            continue;
        }
        for chain in by_depth.chunk_by(|a, b| a.first + 1 == b.first) {
            let Some(start) = chain.first().map(|pair| pair.first) else {
                continue;
            };
            if !chain.iter().any(|pair| pair.first == best.first) {
                continue;
            }
            let shift = absorbed.iter().filter(|&&layer| layer < start).count();
            for pair in chain {
                merges.push(Pair { first: start - shift, similarity: pair.similarity });
                absorbed.push(pair.first + 1);
            }
        }
    }
    merges
}
