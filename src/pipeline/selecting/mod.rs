//! Which layers go, by the rules that do not merge while they choose.

mod angles;
mod greedy;
mod windows;

use self::angles::LastTokens;
use crate::Result;
use crate::pipeline::measuring::Reference;
use crate::pipeline::similarity::Comparison;
use crate::plan::{PlanOptions, Selection, rules};

/// Chooses layers of one model on one text and remembers what was expensive to find out, so that several methods
/// and numbers of layers share it.
pub struct Selector<'a> {
    reference: &'a Reference<'a>,
    comparison: &'a Comparison,
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
    pub fn new(reference: &'a Reference<'a>, comparison: &'a Comparison, most: usize) -> Self {
        Self { reference, comparison, last_tokens: None, most, searched: Vec::new() }
    }

    /// The original and its states on the text.
    pub fn reference(&self) -> &'a Reference<'a> {
        self.reference
    }

    /// Its layers, compared.
    pub fn comparison(&self) -> &'a Comparison {
        self.comparison
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
        let influence = self.comparison.block_influence();
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
            Selection::Windows => {
                windows::collapse(self.reference.context(), self.reference, k, may_go).await?
            }
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
                let found = greedy::search(context, options, most, may_go, &format!("{key:?}")).await?;
                self.searched.push((key, found));
                self.searched.len() - 1
            }
        };
        Ok(self
            .searched
            .get(place)
            .map(|(_, found)| found.iter().copied().take(k).collect())
            .unwrap_or_default())
    }
}
