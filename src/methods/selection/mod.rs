//! Selection rules: the layers that become one, and the order in which they do.

mod angular;
mod greedy;
mod laco;
pub mod neighbours;

use serde::Serialize;

use self::angular::LastTokens;
use crate::Result;
use crate::analysis::layers::LayerAnalysis;
use crate::error::{Error, OrInternal};
use crate::evaluate::reference::Reference;
use crate::methods::selection::neighbours::merge_neighbours;
use crate::methods::work::{Task, Work};
use crate::methods::{Resources, kept};
use crate::plan::{Alpha, MergePlan, PlanOptions, Selection, Stop, periodic, rules};

/// Counts the work of selecting layers.
pub fn work(task: &Task<'_>) -> Work {
    if task.options.keeps_layers() {
        return Work::default();
    }
    match task.options.selection {
        Selection::Mka | Selection::Redundancy => neighbours::work(task),
        Selection::Angular => angular::work(task),
        Selection::GreedyNll | Selection::GreedyKl => greedy::work(task),
        Selection::Windows => laco::work(task),
        Selection::Hand
        | Selection::BlockInfluence
        | Selection::Pairs
        | Selection::Tail
        | Selection::Reverse
        | Selection::Random => Work::default(),
    }
}

/// Selector of layers of one model on one text. It remembers expensive results, so that several methods and
/// numbers of layers share them.
pub struct Selector<'a> {
    reference: &'a Reference<'a>,
    resources: &'a Resources<'a>,
    analysis: &'a LayerAnalysis,
    last_tokens: Option<LastTokens>,
    /// Largest number of layers that will be removed. A search goes as far at once, and its first layers are
    /// the result for smaller numbers.
    most: usize,
    /// Results of searches: layers in the order of their removal.
    searched: Vec<(SearchKey, Vec<usize>)>,
}

/// Everything that the result of a search depends on.
#[derive(Debug, PartialEq, Serialize)]
struct SearchKey {
    selection: Selection,
    search_tokens: usize,
    candidates: Option<usize>,
    /// Whether each layer may be removed.
    may_go: Vec<bool>,
}

impl<'a> Selector<'a> {
    /// Makes a selector without results; at most `most` layers will be removed.
    pub fn new(
        reference: &'a Reference<'a>,
        resources: &'a Resources<'a>,
        analysis: &'a LayerAnalysis,
        most: usize,
    ) -> Self {
        Self { reference, resources, analysis, last_tokens: None, most, searched: Vec::new() }
    }

    /// Returns the original and its hidden states on the text.
    pub fn reference(&self) -> &'a Reference<'a> {
        self.reference
    }

    /// Returns the memory for fits, and the store of finished work.
    pub fn resources(&self) -> &'a Resources<'a> {
        self.resources
    }

    /// Returns the measurements of the original's layers.
    pub fn analysis(&self) -> &'a LayerAnalysis {
        self.analysis
    }

    /// Makes the plan of `options`, and returns it with the reason why it ends; experts are not chosen here. With `measured`, a rule that
    /// [merges neighbours](Selection::merges_neighbours) measures the model after each step (see
    /// [`merge_neighbours`]).
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing may be merged; those of [`PlanOptions::check`], [`merge_neighbours`],
    /// [`removed`](Self::removed) and [`MergePlan::absorbing`].
    pub async fn plan(&mut self, options: &PlanOptions, measured: bool) -> Result<(MergePlan, Stop)> {
        let n_layers = self.reference.stored().layers().len();
        let valid = options.clone().check(n_layers, &self.analysis.massive())?;
        if options.keeps_layers() {
            let plan = MergePlan { operator: options.operator, ..MergePlan::unmerged(n_layers) };
            return Ok((plan, Stop::Done));
        }
        let (plan, stop) = match options.merges_neighbours() {
            true => merge_neighbours(self.reference, self.resources, valid, self.analysis, measured).await?,
            false => {
                let mut removed = self.removed(options).await?;
                let stop =
                    if removed.len() < options.goal().unwrap_or(0) { Stop::AllBarred } else { Stop::Done };
                if options.operator.averages() && options.selection != Selection::Hand {
                    // Spans are averaged from left to right, whatever the order in which a rule chose their
                    // layers.
                    removed.sort_unstable();
                }
                let matrix = self.analysis.matrix();
                let similar = |layer: usize| {
                    let similarity = matrix.adjacent().nth(layer.saturating_sub(1));
                    Ok((layer, similarity.or_internal("a layer that was chosen was not compared")?))
                };
                let removed = removed.into_iter().map(similar).collect::<Result<Vec<_>>>()?;
                let alpha = |similarity: f64| match options.alpha {
                    Alpha::Fixed(alpha) => alpha,
                    _ => similarity.clamp(0.0, 1.0),
                };
                (MergePlan::absorbing(n_layers, options.operator, &removed, alpha)?, stop)
            }
        };
        match plan.steps.is_empty() {
            true => Err(Error::Usage(format!("nothing was merged: {stop}"))),
            false => Ok((plan, stop)),
        }
    }

    /// Returns the layers to remove, in the order of their removal; fewer than asked for if no more may go.
    /// Rules that [merge neighbours](Selection::merges_neighbours) give no layers here.
    ///
    /// # Errors
    /// For rules that run the model, those of [`Stream::run`](crate::forward::stream::Stream::run),
    /// [`score_all`](crate::evaluate::score_all) and [`Head::open`](crate::model::layers::head::Head::open).
    pub async fn removed(&mut self, options: &PlanOptions) -> Result<Vec<usize>> {
        let n_layers = self.reference.stored().layers().len();
        let k = options.goal().unwrap_or(0).min(n_layers.saturating_sub(1));
        let may_go = |layer: usize| options.may_go(layer, n_layers);
        let influence = self.analysis.block_influence();
        if !options.periodic.is_empty() && options.selection != Selection::Hand {
            return self.periodic(options, k).await;
        }
        Ok(match options.selection {
            Selection::Mka | Selection::Redundancy => Vec::new(),
            Selection::Hand => options.absorb.clone(),
            Selection::BlockInfluence => rules::lowest(influence, k, may_go),
            Selection::Pairs => rules::pairs(influence, k, may_go),
            Selection::Tail => rules::tail(n_layers, k, may_go),
            Selection::Reverse => rules::tail(n_layers, k, |layer| may_go(layer) && layer + 1 < n_layers),
            Selection::Random => rules::random(n_layers, k, options.seed, may_go),
            Selection::Angular => rules::block(&self.last_tokens().await?.distances(k), k, may_go),
            Selection::GreedyNll | Selection::GreedyKl => self.search(options, k, may_go).await?,
            Selection::Windows => laco::collapse(self.reference.context(), self.reference, k, may_go).await?,
        })
    }

    /// Returns the set of `k` layers of least summed scores after which the parts of layers that `options` name stay at
    /// equal distances, in ascending order of the scores. Each rule gives the score of one layer alone: what the rule
    /// minimises where it removes that layer only.
    async fn periodic(&mut self, options: &PlanOptions, k: usize) -> Result<Vec<usize>> {
        let n_layers = self.reference.stored().layers().len();
        let influence = self.analysis.block_influence().to_vec();
        let similarity = self.analysis.matrix();
        // The first layer goes into the one that follows.
        let alike = |layer: usize| similarity.between(layer.max(1) - 1, layer.max(1));
        let unlike = |layer: usize| alike(layer).map_or(f64::INFINITY, |alike| 1.0 - alike);
        let turned = |layer: usize| influence.get(layer).copied().unwrap_or(f64::INFINITY);
        let depth = |layer: usize| (n_layers - layer) as f64;
        let scores: Vec<f64> = match options.selection {
            Selection::Mka => (0..n_layers).map(unlike).collect(),
            Selection::Redundancy => {
                let both = |layer: usize| turned(layer.max(1) - 1) + turned(layer.max(1));
                (0..n_layers).map(|layer| unlike(layer) * both(layer)).collect()
            }
            Selection::BlockInfluence => influence,
            Selection::Pairs => (0..n_layers).map(|layer| turned(layer.max(1) - 1)).collect(),
            Selection::Tail => (0..n_layers).map(depth).collect(),
            Selection::Reverse => {
                let last = |layer: usize| if layer + 1 == n_layers { f64::INFINITY } else { depth(layer) };
                (0..n_layers).map(last).collect()
            }
            Selection::Random => {
                let order = rules::random(n_layers, n_layers, options.seed, |_| true);
                (0..n_layers).map(|l| order.iter().position(|each| *each == l).unwrap_or(0) as f64).collect()
            }
            Selection::Angular => self.last_tokens().await?.distances(1),
            Selection::GreedyNll | Selection::GreedyKl => {
                greedy::harms(self.reference.context(), self.resources, options).await?
            }
            Selection::Windows | Selection::Hand => {
                return Err(Error::Unsupported(format!(
                    "selection {} does not choose among sets of layers that stay at equal distances; choose another \
                     rule, or write a .gguf file",
                    options.selection
                )));
            }
        };
        let massive = self.analysis.massive();
        let protected = |layer: usize| {
            options.selection.merges_neighbours() && !options.release_massive && massive.contains(&layer)
        };
        let stays = |layer: usize| !options.may_go(layer, n_layers) || protected(layer);
        let cost = |(layer, score): (usize, &f64)| if stays(layer) { f64::INFINITY } else { *score };
        let costs: Vec<f64> = scores.iter().enumerate().map(cost).collect();
        let mut removed = periodic::cheapest(&options.periodic, k, &costs).unwrap_or_default();
        let score = |layer: &usize| scores.get(*layer).copied().unwrap_or(f64::INFINITY);
        removed.sort_by(|a, b| score(a).total_cmp(&score(b)));
        Ok(removed)
    }

    async fn last_tokens(&mut self) -> Result<&LastTokens> {
        let found = match self.last_tokens.take() {
            Some(found) => found,
            None => LastTokens::capture(self.reference.context(), self.reference.stored()).await?,
        };
        Ok(self.last_tokens.insert(found))
    }

    async fn search(
        &mut self,
        options: &PlanOptions,
        k: usize,
        may_go: impl Fn(usize) -> bool,
    ) -> Result<Vec<usize>> {
        let key = SearchKey {
            selection: options.selection,
            search_tokens: options.search_tokens,
            candidates: options.candidates,
            may_go: (0..self.reference.stored().layers().len()).map(&may_go).collect(),
        };
        let place = match self.searched.iter().position(|(known, _)| *known == key) {
            Some(place) => place,
            None => {
                let (context, most) = (self.reference.context(), self.most.max(k));
                let name = kept::rounds::key(&[greedy::VERSION], &key)?;
                let found = greedy::search(context, self.resources, options, most, may_go, &name).await?;
                self.searched.push((key, found));
                self.searched.len() - 1
            }
        };
        let (_, found) = self.searched.get(place).or_internal("what a search found is gone")?;
        Ok(found.iter().copied().take(k).collect())
    }
}
