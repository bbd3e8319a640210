//! Options of a plan: what may be merged, with which share, and until when.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::method::{ExpertSelection, Method, Operator, Selection};
use crate::error::{Error, Result};

/// Default number of tokens on which searching rules try removals.
pub const SEARCH_TOKENS: usize = 1024;

/// Share of the first of two merged layers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Alpha {
    /// The similarity of the two layers, the heuristic of the MKA paper.
    #[default]
    Similarity,
    /// The share that a line search on the calibration text finds best.
    Search,
    /// A fixed number in 0..=1.
    Fixed(f64),
}

impl Alpha {
    /// Makes a fixed share.
    ///
    /// # Errors
    /// [`Error::Usage`] if `alpha` is not in 0..=1.
    pub fn fixed(alpha: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&alpha) {
            return Ok(Alpha::Fixed(alpha));
        }
        Err(Error::Usage(format!(
            "alpha is {alpha}, but must be from 0 to 1, or \"similarity\" or \"search\""
        )))
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alpha::Similarity => f.write_str("similarity"),
            Alpha::Search => f.write_str("search"),
            Alpha::Fixed(alpha) => write!(f, "{alpha}"),
        }
    }
}

impl FromStr for Alpha {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "similarity" => Ok(Alpha::Similarity),
            "search" => Ok(Alpha::Search),
            _ => Alpha::fixed(s.parse().unwrap_or(f64::NAN)).map_err(|_| {
                Error::Usage(format!(
                    "alpha is \"{s}\", but must be similarity, search or a number from 0 to 1"
                ))
            }),
        }
    }
}

impl Serialize for Alpha {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Alpha::Fixed(alpha) => serializer.serialize_f64(*alpha),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for Alpha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum WordOrNumber {
            Word(String),
            Number(f64),
        }
        match WordOrNumber::deserialize(deserializer)? {
            WordOrNumber::Word(word) => word.parse(),
            WordOrNumber::Number(alpha) => Alpha::fixed(alpha),
        }
        .map_err(serde::de::Error::custom)
    }
}

/// Options of a plan: what may be merged, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PlanOptions {
    /// Number of layers to remove; 0 for a model that is only stored otherwise or loses experts. Exactly one of `remove` and `min_similarity` is set; both may be unset for
    /// [`Selection::Hand`].
    #[serde(default)]
    pub remove: Option<usize>,
    /// Similarity below which no pair is merged.
    #[serde(default)]
    pub min_similarity: Option<f64>,
    /// Rule that chooses the layers to absorb.
    #[serde(default)]
    pub selection: Selection,
    /// Operator that turns a span into one layer.
    #[serde(default)]
    pub operator: Operator,
    /// Share of the first of two merged layers, for operators that average ([`Operator::averages`]).
    pub alpha: Alpha,
    /// Whether all pairs are taken from the first similarity matrix, without new captures between merges.
    #[serde(default)]
    pub one_shot: bool,
    /// Whether layers that write massive activations may be absorbed into their predecessor.
    #[serde(default)]
    pub release_massive: bool,
    /// Whether the first layer takes part in no merge.
    #[serde(default)]
    pub keep_first: bool,
    /// Whether the last layer takes part in no merge.
    #[serde(default)]
    pub keep_last: bool,
    /// Largest number of original layers that may become one layer, if neighbours are merged
    /// ([`Selection::merges_neighbours`]); `None` allows any number. With every layer of a span, averages get worse and
    /// fits need more memory.
    #[serde(default, rename = "longest_run")]
    pub longest_span: Option<usize>,
    /// Layers that take part in no merge: nothing absorbs them, and they stay unchanged.
    #[serde(default)]
    pub locked: Vec<usize>,
    /// Layers that never become one with the layer before them, because the two are of different kinds. A session adds
    /// those of its model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>", optional))]
    pub apart: Vec<usize>,
    /// Parts of layers that stay at equal distances, each with one flag a layer that says whether the layer has it. The
    /// layers to remove are then one of the sets after which they do (see [`periodic`](super::periodic)). A session adds
    /// those of its model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<Vec<bool>>>", optional))]
    pub periodic: Vec<Vec<bool>>,
    /// For [`Selection::Hand`]: the layers to be absorbed into the layer before them, in this order.
    #[serde(default)]
    pub absorb: Vec<usize>,
    /// Seed of [`Selection::Random`].
    #[serde(default)]
    pub seed: u64,
    /// Number of calibration tokens on which searching rules try each removal: the first sequences that
    /// together have no more, but at least one sequence.
    #[serde(default = "search_tokens")]
    #[cfg_attr(test, ts(as = "Option<usize>", optional))]
    pub search_tokens: usize,
    /// Number of layers that a searching rule tries in each round but the first: the layers that did least
    /// harm when they were last tried. `None` tries all layers.
    #[serde(default)]
    pub candidates: Option<usize>,
    /// Number of experts to remove from each layer that has experts.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(test, ts(as = "Option<usize>", optional))]
    pub remove_experts: usize,
    /// Rule that chooses the experts.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(test, ts(as = "Option<ExpertSelection>", optional))]
    pub expert_selection: ExpertSelection,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn is_default(rule: &ExpertSelection) -> bool {
    *rule == ExpertSelection::default()
}

fn search_tokens() -> usize {
    SEARCH_TOKENS
}

impl Default for PlanOptions {
    /// Returns the options of MKA as published, without a goal.
    fn default() -> Self {
        Self {
            remove: None,
            min_similarity: None,
            selection: Selection::default(),
            operator: Operator::default(),
            alpha: Alpha::default(),
            one_shot: false,
            release_massive: false,
            keep_first: false,
            keep_last: false,
            longest_span: None,
            locked: Vec::new(),
            apart: Vec::new(),
            periodic: Vec::new(),
            absorb: Vec::new(),
            seed: 0,
            search_tokens: SEARCH_TOKENS,
            candidates: None,
            remove_experts: 0,
            expert_selection: ExpertSelection::default(),
        }
    }
}

impl Method {
    /// Returns the options that remove `remove` layers by this method, with `seed` and everything else at its
    /// default.
    pub fn options(&self, remove: usize, seed: u64) -> PlanOptions {
        PlanOptions {
            remove: Some(remove),
            selection: self.selection,
            operator: self.operator,
            one_shot: self.one_shot,
            longest_span: self.longest_span,
            candidates: self.candidates,
            seed,
            ..PlanOptions::default()
        }
    }
}

impl PlanOptions {
    /// Returns the number of layers to remove, if the options give it.
    pub fn goal(&self) -> Option<usize> {
        match self.selection {
            Selection::Hand => Some(self.absorb.len()),
            _ => self.remove,
        }
    }

    /// Returns whether the options remove no layers: experts at most, or nothing, where the model is only stored otherwise.
    pub fn keeps_layers(&self) -> bool {
        self.remove == Some(0) && self.selection != Selection::Hand
    }

    /// Returns whether the plan is made by merging neighbours by their similarity.
    pub fn merges_neighbours(&self) -> bool {
        self.selection.merges_neighbours() && self.periodic.is_empty()
    }

    /// Returns whether a rule that names layers one by one may remove `layer` of `n_layers`.
    ///
    /// A locked layer stays. A layer also stays if the layer that would absorb it, the layer before, is
    /// locked; the first layer would be absorbed by whichever layer comes next, so it stays if any layer is
    /// locked. With [`Operator::Drop`] the absorber stays unchanged, so it may be locked. A layer that never becomes one
    /// with the layer before it stays as well.
    pub fn may_go(&self, layer: usize, n_layers: usize) -> bool {
        let locked = |layer: usize| self.locked.contains(&layer);
        let kept = (self.keep_first && layer == 0) || (self.keep_last && layer + 1 == n_layers);
        let absorber = layer.checked_sub(1).map_or(!self.locked.is_empty(), locked);
        // The first layer goes into the one that follows.
        let apart = self.apart.contains(&layer.max(1));
        !(kept || apart || locked(layer) || (self.operator != Operator::Drop && absorber))
    }

    /// Checks the options against a model of `n_layers` layers, of which the layers in `massive` write a
    /// massive activation.
    ///
    /// # Errors
    /// [`Error::Usage`] if not exactly one goal is set, if the goal leaves no layer, if a number
    /// is out of range, if a plan by hand merges a locked layer, if nothing may be merged, if the selection needs a number of layers
    /// that is not given, or if a layer is named that does not exist.
    pub fn check(self, n_layers: usize, massive: &[usize]) -> Result<ValidPlanOptions> {
        let usage = |message: String| Err(Error::Usage(message));
        match (self.remove, self.min_similarity) {
            (Some(k), None) if k >= n_layers => {
                return usage(format!("cannot remove {k} of {n_layers} layers: at least 1 must stay"));
            }
            (None, Some(s)) if !(s.is_finite() && s <= 1.0) => {
                return usage(format!("the smallest similarity is {s}, but must be a number up to 1"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) if self.selection == Selection::Hand => {}
            _ => {
                return usage(
                    "give either the number of layers to remove or the smallest similarity".to_string(),
                );
            }
        }
        if let Alpha::Fixed(alpha) = self.alpha {
            Alpha::fixed(alpha)?;
        }
        if self.longest_span.is_some_and(|most| most < 2) {
            return usage("a run of less than 2 layers merges nothing".to_string());
        }
        self.check_hand(n_layers)?;
        if self.goal().is_none() && !self.selection.merges_neighbours() {
            return usage(format!(
                "selection {} has no similarity to stop at: give the number of layers to remove",
                self.selection
            ));
        }
        if let Some(layer) = massive.iter().find(|&&layer| layer >= n_layers) {
            return usage(format!("layer {layer} cannot be protected: the model has {n_layers} layers"));
        }
        if let Some(layer) = self.locked.iter().find(|&&layer| layer >= n_layers) {
            return usage(format!("layer {layer} cannot be locked: the model has {n_layers} layers"));
        }
        if self.selection != Selection::Hand && !self.keeps_layers() && !self.may_merge(n_layers) {
            if self.locked.is_empty() && !self.apart.is_empty() {
                return usage(
                    "nothing can be merged: no two neighbours of this model are of one kind that the files can say"
                        .to_owned(),
                );
            }
            return usage(format!(
                "nothing can be merged, because of the {n_layers} layers these are to be kept: {}; keep fewer",
                self.kept(n_layers)
            ));
        }
        let mut protected = if self.release_massive { Vec::new() } else { massive.to_vec() };
        protected.extend(&self.apart);
        Ok(ValidPlanOptions { options: self, n_layers, protected })
    }

    /// Returns whether any layer may be merged or removed, as far as locked layers decide that.
    fn may_merge(&self, n_layers: usize) -> bool {
        let free = |layer: usize| {
            let kept = (self.keep_first && layer == 0) || (self.keep_last && layer + 1 == n_layers);
            !kept && !self.locked.contains(&layer)
        };
        match self.selection.merges_neighbours() {
            true => (1..n_layers).any(|layer| free(layer - 1) && free(layer) && !self.apart.contains(&layer)),
            false => (0..n_layers).any(|layer| self.may_go(layer, n_layers)),
        }
    }

    /// Lists the layers that are to be kept.
    fn kept(&self, n_layers: usize) -> String {
        let ends = [self.keep_first.then_some(0), self.keep_last.then_some(n_layers.saturating_sub(1))];
        let mut kept: Vec<usize> = self.locked.iter().copied().chain(ends.into_iter().flatten()).collect();
        kept.sort_unstable();
        kept.dedup();
        kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Checks that the layers to be absorbed by hand can be.
    fn check_hand(&self, n_layers: usize) -> Result<()> {
        let usage = |message: String| Err(Error::Usage(message));
        if self.selection != Selection::Hand {
            return match self.absorb.first() {
                Some(layer) => usage(format!(
                    "layer {layer} is to be absorbed by hand, but the layers are chosen by selection {}",
                    self.selection
                )),
                None => Ok(()),
            };
        }
        if self.absorb.is_empty() {
            return usage("name at least one layer to absorb".to_string());
        }
        if self.remove.is_some_and(|k| k != self.absorb.len()) || self.min_similarity.is_some() {
            return usage("the layers to absorb are named, so no other goal can be given".to_string());
        }
        for (place, layer) in self.absorb.iter().enumerate() {
            if *layer == 0 || *layer >= n_layers {
                return usage(format!(
                    "layer {layer} cannot be absorbed into the one before it: layers 1 to {} can",
                    n_layers.saturating_sub(1)
                ));
            }
            if self.absorb.iter().take(place).any(|other| other == layer) {
                return usage(format!("layer {layer} cannot be absorbed twice"));
            }
            if self.apart.contains(layer) {
                return usage(format!(
                    "layer {layer} cannot be absorbed into the one before it: the two are of different kinds"
                ));
            }
            let in_a_merge = |locked: &&usize| *locked == layer || layer.checked_sub(1) == Some(**locked);
            if let Some(locked) = self.locked.iter().find(in_a_merge) {
                return usage(format!("layer {locked} is locked, but layer {layer} is to be absorbed"));
            }
        }
        Ok(())
    }
}

/// Plan options that fit a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidPlanOptions {
    options: PlanOptions,
    pub(super) n_layers: usize,
    /// Original layers that must not be absorbed into their predecessor.
    pub(super) protected: Vec<usize>,
}

impl ValidPlanOptions {
    /// Returns the number of layers of the model.
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// Returns the options as they were given.
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }
}
