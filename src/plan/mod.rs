//! Merge plans: which layers are merged, in which order, with which weights.
//!
//! Planning is pure: similarities and options go in, a [`MergePlan`] comes out. The iterative method
//! alternates with captures of the merged model, so it asks for one pair at a time; the one-shot method needs
//! only the first similarity matrix:
//!
//! ```text
//! iterative:  repeat { Planner::next_pair(S) -> pair;  Planner::merge(pair, alpha);  capture from the pair on }
//! one-shot:   Planner::one_shot_pairs(S, BI?) -> pairs;  Planner::merge(pair, alpha) for each
//! ```
//!
//! A plan is plain JSON that a person can read and edit; [`MergePlan::validate`] says what is wrong with an
//! edited plan.

mod experts;
mod method;
mod options;
pub mod periodic;
mod planner;
pub mod rules;
mod spans;

use serde::{Deserialize, Serialize};

use crate::error::{Error, OrInternal, Result};
use crate::quality::Quality;

pub use method::{ExpertSelection, METHODS, Method, Operator, Selection};
pub use options::{Alpha, PlanOptions, SEARCH_TOKENS, ValidPlanOptions};
pub use planner::{Next, OneShot, Pair, Planner, Stop};

/// Largest difference of a plan's weights from those that its steps give, and of their sum from 1: room for
/// the decimals that an editor drops.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// Assignment of original layers to final layers.
///
/// For operators that mix weights, the final layer at index `g` is
/// `sum_i weights[g][i] * theta(groups[g][i])`, for every tensor of the layer. For other operators, the
/// weights say which layer of the group stays. The steps say how the groups came about: merging two layers
/// with share `alpha` multiplies the weights of the first by `alpha` and those of the second by `1 - alpha`.
///
/// # Examples
/// ```
/// use laminate::plan::MergePlan;
///
/// let plan = MergePlan::from_merges(4, &[([1, 2], 0.75), ([1, 2], 0.5)]).unwrap();
/// assert_eq!(plan.groups, [vec![0], vec![1, 2, 3]]);
/// assert_eq!(plan.weights, [vec![1.0], vec![0.375, 0.125, 0.5]]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MergePlan {
    /// Number of layers of the original model.
    pub n_layers: usize,
    /// Operator that turns each group into one layer.
    #[serde(default)]
    pub operator: Operator,
    /// Merges in the order in which they happen; may be empty in a plan written by hand.
    #[serde(default)]
    pub steps: Vec<MergeStep>,
    /// Original layer indices of each final layer: `0..n_layers` in order, cut into spans.
    pub groups: Vec<Vec<usize>>,
    /// Weight of each original layer in its final layer, in the shape of `groups`. Weights are in 0..=1 (any
    /// finite number for [`Operator::Collapse`]) and sum to 1 in each group. If the operator does not
    /// average, the layer that stays has the weight 1.
    pub weights: Vec<Vec<f64>>,
    /// For each original layer, the experts that stay if the layer does, ascending: as many in each layer that has
    /// experts, and none in other layers. Empty if all experts stay. Steps are measured with all experts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<Vec<usize>>>", optional))]
    pub kept_experts: Vec<Vec<usize>>,
}

/// One merge of two neighbouring layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MergeStep {
    /// Indices `[l, l + 1]` of the two layers, in the model before this step.
    pub merged: [usize; 2],
    /// Original layers that each of the two layers consists of.
    pub groups: [Vec<usize>; 2],
    /// Share of the first layer, in 0..=1.
    pub alpha: f64,
    /// Similarity of the two layers when they were chosen.
    pub similarity: f64,
    /// Number of layers after the step.
    pub layers: usize,
    /// Perplexity after the step; `None` if it was not measured.
    #[serde(default)]
    pub perplexity: Option<f64>,
    /// Mean `KL(original || merged)` in nats per token; `None` if it was not measured.
    #[serde(default)]
    pub kl: Option<f64>,
    /// Share of tokens, 0 to 1, whose most likely successor did not change; `None` if it was not measured.
    #[serde(default)]
    pub top1_agreement: Option<f64>,
    /// Whether the perplexity is more than ten times the original's.
    #[serde(default)]
    pub collapsed: bool,
    /// Quality of the model from which the layers absorbed so far are dropped instead; `None` if it was not
    /// measured.
    #[serde(default)]
    pub dropped: Option<Quality>,
    /// Bytes of the model's tensors after the step; `None` if they were not counted.
    #[serde(default)]
    pub bytes: Option<u64>,
}

impl MergeStep {
    /// Returns the quality after the step, if it was measured.
    pub fn quality(&self) -> Option<Quality> {
        let Self { kl, top1_agreement, collapsed, .. } = *self;
        Some(Quality { perplexity: self.perplexity?, kl, top1_agreement, collapsed })
    }

    /// Records the quality after the step, and the quality of dropping the same layers.
    pub fn set_quality(&mut self, merged: Quality, dropped: Quality) {
        self.perplexity = Some(merged.perplexity);
        self.kl = merged.kl;
        self.top1_agreement = merged.top1_agreement;
        self.collapsed = merged.collapsed;
        self.dropped = Some(dropped);
    }

    /// Discards all measurements of the step.
    pub fn forget_quality(&mut self) {
        (self.perplexity, self.kl, self.top1_agreement) = (None, None, None);
        (self.collapsed, self.dropped, self.bytes) = (false, None, None);
    }
}

impl MergePlan {
    /// Returns the plan that merges no layers.
    pub fn unmerged(n_layers: usize) -> Self {
        MergePlan {
            n_layers,
            operator: Operator::default(),
            steps: Vec::new(),
            groups: (0..n_layers).map(|layer| vec![layer]).collect(),
            weights: vec![vec![1.0]; n_layers],
            kept_experts: Vec::new(),
        }
    }

    /// Makes the plan of the given merges, each `([l, l + 1], alpha)` with indices in the model before the
    /// merge. An edited list of steps becomes a plan in this way: each similarity is recorded as `alpha`,
    /// measured numbers as unknown.
    ///
    /// # Errors
    /// Those of [`MergePlan::merge`].
    pub fn from_merges(n_layers: usize, merges: &[([usize; 2], f64)]) -> Result<Self> {
        let mut plan = MergePlan::unmerged(n_layers);
        for &(merged, alpha) in merges {
            plan.merge(merged, alpha, alpha)?;
        }
        Ok(plan)
    }

    /// Makes the plan in which the layers `removed` are absorbed one after the other: into the nearest layer
    /// before that stays, or after if there is none. Each layer is given with its similarity to the layer
    /// that absorbs it. `alpha` maps a similarity to the share of the earlier layer; operators that do not
    /// average keep one layer.
    ///
    /// # Errors
    /// [`Error::Usage`] for a layer that does not exist or is named twice, and those of [`MergePlan::merge`].
    pub fn absorbing(
        n_layers: usize,
        operator: Operator,
        removed: &[(usize, f64)],
        alpha: impl Fn(f64) -> f64,
    ) -> Result<Self> {
        let mut plan = MergePlan { operator, ..MergePlan::unmerged(n_layers) };
        let mut gone = vec![false; n_layers];
        for &(layer, similarity) in removed {
            match gone.get_mut(layer) {
                Some(gone) if !*gone => *gone = true,
                _ => {
                    return Err(Error::Usage(format!(
                        "layer {layer} cannot be removed: the model has {n_layers} layers, each of which can go once"
                    )));
                }
            }
            let place = plan.groups.iter().position(|group| group.contains(&layer));
            let place = place.or_internal("a layer of the plan is in none of its groups")?;
            let averaged = operator.averages();
            if place == 0 {
                plan.merge([0, 1], if averaged { alpha(similarity) } else { 0.0 }, similarity)?;
            } else {
                let share = if averaged { alpha(similarity) } else { 1.0 };
                plan.merge([place - 1, place], share, similarity)?;
            }
        }
        plan.set_weights();
        Ok(plan)
    }

    /// Returns the plan after the first `n` of its steps.
    ///
    /// # Errors
    /// Those of [`MergePlan::merge`], if a step is not possible.
    pub fn first_steps(&self, n: usize) -> Result<Self> {
        let mut plan = MergePlan { operator: self.operator, ..MergePlan::unmerged(self.n_layers) };
        for step in self.steps.iter().take(n) {
            let repeated = plan.merge(step.merged, step.alpha, step.similarity)?;
            *repeated = MergeStep { groups: repeated.groups.clone(), ..step.clone() };
        }
        plan.set_weights();
        Ok(plan)
    }

    /// Sets the weights of LaCo's `theta_l + sum_k (theta_{l+k} - theta_l)`, which the steps do not give.
    fn set_weights(&mut self) {
        if self.operator != Operator::Collapse {
            return;
        }
        for weights in &mut self.weights {
            let others = weights.len().saturating_sub(1);
            weights.fill(1.0);
            if let Some(first) = weights.first_mut() {
                *first = 1.0 - others as f64;
            }
        }
    }

    /// Returns the layer of group `g` that stays if the operator keeps one: the layer of largest weight (of
    /// equal weights, the first). `None` past the end.
    pub fn survivor(&self, g: usize) -> Option<usize> {
        let (group, weights) = self.groups.get(g).zip(self.weights.get(g))?;
        let best =
            group.iter().zip(weights).reduce(|best, each| if each.1 > best.1 { each } else { best })?;
        Some(*best.0)
    }

    /// Returns the number of layers of the final model.
    pub fn n_final_layers(&self) -> usize {
        self.groups.len()
    }

    /// Appends a step that merges the current layers `merged = [l, l + 1]`, with share `alpha` of the first.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the step, if the two layers are not neighbours in the current model, `alpha`
    /// is not in 0..=1 or `similarity` is not finite. The plan is then unchanged.
    pub fn merge(&mut self, merged: [usize; 2], alpha: f64, similarity: f64) -> Result<&mut MergeStep> {
        let step = self.steps.len();
        let [l, m] = merged;
        if l.checked_add(1) != Some(m) || m >= self.groups.len() || m >= self.weights.len() {
            return Err(Error::Usage(format!(
                "step {step} merges layers {l} and {m}, but must merge two neighbours of the {} layers then left",
                self.groups.len()
            )));
        }
        if !(0.0..=1.0).contains(&alpha) || !similarity.is_finite() {
            return Err(Error::Usage(format!(
                "step {step} has alpha {alpha} and similarity {similarity}, but needs an alpha from 0 to 1 and a \
                 finite similarity"
            )));
        }
        let (second, second_weights) = (self.groups.remove(m), self.weights.remove(m));
        let layers = self.groups.len();
        let mut first = Vec::new();
        if let (Some(group), Some(weights)) = (self.groups.get_mut(l), self.weights.get_mut(l)) {
            first.clone_from(group);
            group.extend(&second);
            weights.iter_mut().for_each(|w| *w *= alpha);
            weights.extend(second_weights.iter().map(|w| w * (1.0 - alpha)));
        }
        self.steps.push(MergeStep {
            merged,
            groups: [first, second],
            alpha,
            similarity,
            layers,
            perplexity: None,
            kl: None,
            top1_agreement: None,
            collapsed: false,
            dropped: None,
            bytes: None,
        });
        self.steps.last_mut().ok_or_else(|| Error::Usage(format!("step {step} was not recorded")))
    }

    /// Reads a plan from JSON and validates it.
    ///
    /// # Errors
    /// [`Error::Usage`] for JSON that is not a plan, and those of [`MergePlan::validate`].
    pub fn from_json(json: &str) -> Result<Self> {
        let plan: MergePlan =
            serde_json::from_str(json).map_err(|e| Error::Usage(format!("this is not a merge plan: {e}")))?;
        plan.validate()?;
        Ok(plan)
    }

    /// Checks a plan that came from outside the program.
    ///
    /// Groups must be `0..n_layers` cut into spans. Weights must have the shape of the groups, lie in 0..=1
    /// (be finite, for [`Operator::Collapse`]) and sum to 1 in each group; if the operator [mixes
    /// nothing](Operator::is_weighted), one weight of each group is 1. If there are steps, they must be
    /// possible and lead to these groups and (except for [`Operator::Collapse`]) weights. A plan without
    /// steps is taken as its groups and weights say.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the step, group or layer, if the plan is not valid.
    pub fn validate(&self) -> Result<()> {
        let usage = |message: String| Err(Error::Usage(message));
        if !self.groups.iter().flatten().copied().eq(0..self.n_layers) || self.groups.is_empty() {
            return usage(format!(
                "the plan's groups must hold the layers 0 to {} once each and in order",
                self.n_layers.saturating_sub(1)
            ));
        }
        if self.weights.len() != self.groups.len() {
            return usage(format!(
                "the plan has {} groups, but {} weights",
                self.groups.len(),
                self.weights.len()
            ));
        }
        for (g, (group, weights)) in self.groups.iter().zip(&self.weights).enumerate() {
            if group.is_empty() || group.len() != weights.len() {
                return usage(format!("group {g} has {} layers, but {} weights", group.len(), weights.len()));
            }
            let is_weight = |w: &&f64| match self.operator {
                Operator::Collapse => w.is_finite(),
                _ => (0.0..=1.0).contains(*w),
            };
            if let Some(w) = weights.iter().find(|w| !is_weight(w)) {
                return usage(format!("group {g} has the weight {w}, but weights are from 0 to 1"));
            }
            let sum: f64 = weights.iter().sum();
            if (sum - 1.0).abs() > WEIGHT_TOLERANCE {
                return usage(format!("the weights of group {g} sum to {sum}, but must sum to 1"));
            }
            // Otherwise the weights would mix layers although the operator keeps or fits one.
            if !self.operator.is_weighted() && weights.iter().any(|w| *w != 0.0 && *w != 1.0) {
                return usage(format!(
                    "group {g} has the weights {weights:?}, but operator {} averages nothing: one weight must be 1 \
                     and all others 0",
                    self.operator
                ));
            }
        }
        self.validate_experts()?;
        if self.steps.is_empty() {
            return Ok(());
        }
        self.validate_steps()
    }

    /// Checks a plan that came from outside the program, for a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Usage`] for a plan that is not valid (see [`validate`](MergePlan::validate)) or is for a
    /// model with another number of layers.
    pub fn validate_for(&self, n_layers: usize) -> Result<()> {
        self.validate()?;
        if self.n_layers != n_layers {
            return Err(Error::Usage(format!(
                "the plan is for a model of {} layers, but this one has {n_layers}",
                self.n_layers
            )));
        }
        Ok(())
    }

    /// Repeats the steps from the original layers, and compares the result with the groups and weights.
    fn validate_steps(&self) -> Result<()> {
        let mut replayed = MergePlan::unmerged(self.n_layers);
        for (i, step) in self.steps.iter().enumerate() {
            let again = replayed.merge(step.merged, step.alpha, step.similarity)?;
            if step.groups != again.groups || step.layers != again.layers {
                return Err(Error::Usage(format!(
                    "step {i} says that it merges {:?} into {:?} and leaves {} layers, but the steps before it make \
                     that {:?} into {:?} and {}",
                    step.groups[1],
                    step.groups[0],
                    step.layers,
                    again.groups[1],
                    again.groups[0],
                    again.layers
                )));
            }
        }
        if replayed.groups != self.groups {
            return Err(Error::Usage(format!(
                "the plan's steps lead to the groups {:?}, but it says {:?}",
                replayed.groups, self.groups
            )));
        }
        if self.operator == Operator::Collapse {
            return Ok(());
        }
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > WEIGHT_TOLERANCE;
        match self.weights.iter().zip(&replayed.weights).position(|(a, b)| a.iter().zip(b).any(far)) {
            Some(g) => Err(Error::Usage(format!(
                "the alphas of the plan's steps give group {g} the weights {:?}, but it says {:?}",
                replayed.weights.get(g),
                self.weights.get(g)
            ))),
            None => Ok(()),
        }
    }
}
