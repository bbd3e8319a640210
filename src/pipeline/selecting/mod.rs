//! Which layers go, by the rules that do not merge while they choose.

mod angles;
mod greedy;
mod windows;

use self::angles::LastTokens;
use crate::Result;
use crate::pipeline::measuring::Reference;
use crate::pipeline::similarity::Comparison;
use crate::pipeline::stream::Context;
use crate::plan::{PlanOptions, Selection, rules};

/// Chooses layers of one model on one text and remembers what was expensive to find out, so that several methods
/// and numbers of layers share it.
pub struct Selector<'a> {
    context: Context<'a>,
    reference: &'a Reference<'a>,
    comparison: &'a Comparison,
    last_tokens: Option<LastTokens>,
    /// Rules whose first layers do not depend on how many are asked for, and what they gave.
    searched: Vec<(PlanOptions, Vec<usize>)>,
}

impl<'a> Selector<'a> {
    /// Nothing is known yet.
    pub fn new(context: Context<'a>, reference: &'a Reference<'a>, comparison: &'a Comparison) -> Self {
        Self { context, reference, comparison, last_tokens: None, searched: Vec::new() }
    }

    /// The model and the text.
    pub fn context(&self) -> &Context<'a> {
        &self.context
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
    /// but [`Selection::Mka`].
    ///
    /// # Errors
    /// What running gives.
    pub async fn removed(&mut self, options: &PlanOptions) -> Result<Vec<usize>> {
        let n_layers = self.reference.stored().layers().len();
        let k = options.remove.unwrap_or(0).min(n_layers.saturating_sub(1));
        let (keep_first, keep_last) = (options.keep_first, options.keep_last);
        let may_go = move |layer: usize| !(keep_first && layer == 0 || keep_last && layer + 1 == n_layers);
        let influence = self.comparison.block_influence();
        Ok(match options.selection {
            Selection::Mka => Vec::new(),
            Selection::BlockInfluence => rules::lowest(influence, k, may_go),
            Selection::Pairs => rules::pairs(influence, k, may_go),
            Selection::Tail => rules::tail(n_layers, k, may_go),
            Selection::Reverse => rules::tail(n_layers, k, |layer| may_go(layer) && layer + 1 < n_layers),
            Selection::Random => rules::random(n_layers, k, options.seed, may_go),
            Selection::Angular => rules::block(&self.last_tokens().await?.distances(k), k, may_go),
            Selection::GreedyNll | Selection::GreedyKl => self.search(options, k, may_go).await?,
            Selection::Windows => windows::collapse(&self.context, self.reference, k, may_go).await?,
        })
    }

    async fn last_tokens(&mut self) -> Result<&LastTokens> {
        let found = match self.last_tokens.take() {
            Some(found) => found,
            None => LastTokens::capture(&self.context, self.reference.stored()).await?,
        };
        Ok(self.last_tokens.insert(found))
    }

    async fn search(
        &mut self,
        options: &PlanOptions,
        k: usize,
        may_go: impl Fn(usize) -> bool,
    ) -> Result<Vec<usize>> {
        let alike = |known: &PlanOptions| {
            let same = PlanOptions { remove: known.remove, operator: known.operator, ..options.clone() };
            *known == PlanOptions { alpha: known.alpha, one_shot: known.one_shot, ..same }
        };
        let known = self.searched.iter().find(|(known, removed)| removed.len() >= k && alike(known));
        if let Some((_, removed)) = known {
            return Ok(removed.iter().copied().take(k).collect());
        }
        let removed = greedy::search(&self.context, options, k, may_go).await?;
        self.searched.push((options.clone(), removed.clone()));
        Ok(removed)
    }
}
