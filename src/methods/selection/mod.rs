//! Selection rules: which layers become one, and in which order.

mod angular;
mod greedy;
mod laco;
pub mod neighbours;

use self::angular::LastTokens;
use crate::Result;
use crate::analysis::layers::LayerAnalysis;
use crate::error::{Error, OrInternal};
use crate::evaluate::reference::Reference;
use crate::methods::Resources;
use crate::methods::selection::neighbours::merge_neighbours;
use crate::methods::work::{Task, Work};
use crate::plan::{Alpha, MergePlan, Operator, PlanOptions, Selection, Stop, rules};

/// The work of choosing layers.
pub fn work(task: &Task<'_>) -> Work {
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

/// Chooses layers of one model on one text and remembers what was expensive to find out, so that several methods
/// and numbers of layers share it.
pub struct Selector<'a> {
    reference: &'a Reference<'a>,
    resources: &'a Resources<'a>,
    analysis: &'a LayerAnalysis,
    last_tokens: Option<LastTokens>,
    /// The largest number of layers that will be asked for: a search goes that far at once, and fewer layers are the
    /// first of it.
    most: usize,
    searched: Vec<(SearchKey, Vec<usize>)>,
}

/// What the outcome of a search depends on.
#[derive(Debug, PartialEq)]
struct SearchKey {
    selection: Selection,
    search_tokens: usize,
    candidates: Option<usize>,
    /// Of each layer, whether it may go.
    may_go: Vec<bool>,
}

impl<'a> Selector<'a> {
    /// Nothing is known yet; at most `most` layers will be asked for.
    pub fn new(
        reference: &'a Reference<'a>,
        resources: &'a Resources<'a>,
        analysis: &'a LayerAnalysis,
        most: usize,
    ) -> Self {
        Self { reference, resources, analysis, last_tokens: None, most, searched: Vec::new() }
    }

    /// The original and its states on the text.
    pub fn reference(&self) -> &'a Reference<'a> {
        self.reference
    }

    /// Memory for fits, and where what is found is kept.
    pub fn resources(&self) -> &'a Resources<'a> {
        self.resources
    }

    /// Its layers, compared.
    pub fn analysis(&self) -> &'a LayerAnalysis {
        self.analysis
    }

    /// The plan that `options` lead to, and why it ends; measured step by step if `measured`.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit the model or where nothing may be merged, and what running gives.
    pub async fn plan(&mut self, options: &PlanOptions, measured: bool) -> Result<(MergePlan, Stop)> {
        let n_layers = self.reference.stored().layers().len();
        let valid = options.clone().check(n_layers, &self.analysis.massive())?;
        let (plan, stop) = match options.selection.merges_neighbours() {
            true => merge_neighbours(self.reference, self.resources, valid, self.analysis, measured).await?,
            false => {
                let mut removed = self.removed(options).await?;
                let stop =
                    if removed.len() < options.goal().unwrap_or(0) { Stop::AllBarred } else { Stop::Done };
                if options.operator == Operator::Average && options.selection != Selection::Hand {
                    // Runs are averaged from left to right, whatever the order in which a rule chose their layers.
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

    /// The layers that go, the first to go first; fewer than asked where no more may. `options.selection` is any
    /// that [does not merge neighbours](Selection::merges_neighbours).
    ///
    /// # Errors
    /// What running gives.
    pub async fn removed(&mut self, options: &PlanOptions) -> Result<Vec<usize>> {
        let n_layers = self.reference.stored().layers().len();
        let k = options.goal().unwrap_or(0).min(n_layers.saturating_sub(1));
        let may_go = |layer: usize| options.may_go(layer, n_layers);
        let influence = self.analysis.block_influence();
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
                let found =
                    greedy::search(context, self.resources, options, most, may_go, &format!("{key:?}"))
                        .await?;
                self.searched.push((key, found));
                self.searched.len() - 1
            }
        };
        let (_, found) = self.searched.get(place).or_internal("what a search found is gone")?;
        Ok(found.iter().copied().take(k).collect())
    }
}
