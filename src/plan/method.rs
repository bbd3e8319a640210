//! Selections, operators, and the methods of the literature, each of which is a pair of them.

use std::borrow::Cow;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::named::named;

named! {
    /// Selection rule: which layers are absorbed into their neighbours.
    Selection, "selection" {
        /// The most similar neighbours, by the metric of the similarity stage; iterative or one-shot (MKA,
        /// arXiv 2406.16330).
        #[default]
        Mka = "mka",
        /// The spans that change the diffusion map little and turn the residual stream little, one-shot: the
        /// least sum of `(1 - S(first, last))` times the Block Influences of the span's layers.
        Redundancy = "redundancy",
        /// The layers of least Block Influence, `1 - E cos(x_in, x_out)`, one-shot (ShortGPT, arXiv
        /// 2403.03853).
        BlockInfluence = "bi",
        /// The contiguous block of layers whose input and output hidden states differ least in angle at the
        /// last token (arXiv 2403.17887).
        Angular = "angular",
        /// Disjoint pairs of neighbours, those first whose first layer turns the residual stream least
        /// (FlattenGPT, arXiv 2602.08858).
        Pairs = "pairs",
        /// In each round, the layer whose removal leaves the least negative log-likelihood; the first and the
        /// last layer stay (SLEB, arXiv 2402.09025).
        GreedyNll = "greedy-nll",
        /// In each round, the layer whose removal leaves the least KL divergence from the original model.
        GreedyKl = "greedy-kl",
        /// Windows of layers, from the top down, whose collapse preserves the last hidden states (LaCo, arXiv
        /// 2402.11187).
        Windows = "laco",
        /// The last layers, as in the published code of MKA.
        Tail = "tail",
        /// The last layers before the very last layer, which stays (the simple rule of arXiv 2403.17887).
        Reverse = "reverse",
        /// Layers drawn at random from the seed: the baseline that every rule must beat.
        Random = "random",
        /// The layers that a person names, in that order.
        Hand = "hand",
    }
}

named! {
    /// Operator: how a span of layers becomes one layer.
    Operator, "operator" {
        /// Weighted averages of all tensors (MKA, arXiv 2406.16330).
        #[default]
        Average = "average",
        /// Weighted averages of all tensors, with the experts of the layers matched by what they make of the same inputs
        /// and averaged by use, where that serves the model better than the experts of one layer.
        MatchExperts = "match-experts",
        /// One layer of the span stays unchanged; the other layers are dropped.
        Drop = "drop",
        /// The first layer plus the differences of the other layers from it (LaCo, arXiv 2402.11187).
        Collapse = "laco",
        /// One layer stays, and what later layers add to the residual stream is scaled for the magnitude that
        /// the stream lost (Prune&Comp, arXiv 2507.18212).
        Scale = "scale",
        /// One layer stays, and its down projection is multiplied by the linear map that best fits the
        /// dropped layers (ReplaceMe, arXiv 2505.02819).
        ReplaceMe = "replaceme",
        /// All layers of the span side by side, of which the most important heads and neurons stay
        /// (FlattenGPT, arXiv 2602.08858).
        Flatten = "flatten",
        /// One layer stays, and its output and down projections are solved for anew by least squares, so that
        /// it yields the hidden states that left the span.
        Refit = "refit",
        /// Heads and neurons of all layers of the span are pooled, the ones that are needed stay, and the
        /// output and down projections are solved for by least squares.
        PoolRefit = "pool-refit",
    }
}

named! {
    /// Rule that chooses which experts of a layer are removed.
    ExpertSelection, "expert selection" {
        /// The experts of least mean over the tokens that were routed to them of gate times length of the output (REAP,
        /// arXiv 2510.13999).
        #[default]
        Reap = "reap",
        /// The experts to which the fewest tokens were routed.
        Frequency = "frequency",
        /// Experts drawn at random from the seed: the baseline that the other rules must beat.
        Random = "random",
    }
}

impl Selection {
    /// Returns whether neighbours are merged by their similarity, which may then say where to stop.
    pub fn merges_neighbours(self) -> bool {
        matches!(self, Selection::Mka | Selection::Redundancy)
    }
}

impl Operator {
    /// Returns whether tensors are computed from activations, so that the plan alone does not determine them.
    pub fn needs_activations(self) -> bool {
        !matches!(self, Operator::Average | Operator::Drop | Operator::Collapse)
    }

    /// Returns whether the new layer of a span has parts of several layers of the span, which must then be of one kind.
    /// Other operators keep one layer of the span.
    pub fn combines_layers(self) -> bool {
        self.is_weighted() || matches!(self, Operator::Flatten | Operator::PoolRefit)
    }

    /// Returns whether the weights of a plan say how its layers are mixed.
    pub fn is_weighted(self) -> bool {
        self.averages() || self == Operator::Collapse
    }

    /// Returns whether the tensors of neighbours are averaged with a share of the first.
    pub fn averages(self) -> bool {
        matches!(self, Operator::Average | Operator::MatchExperts)
    }
}

/// Method: a selection and an operator, with the options that go with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "NamedMethod"))]
pub struct Method {
    /// Name on the command line and in JSON.
    pub name: Cow<'static, str>,
    /// Usual name in prose.
    pub title: Cow<'static, str>,
    /// Rule that chooses the layers.
    pub selection: Selection,
    /// Operator that turns a span into one layer.
    pub operator: Operator,
    /// Whether pairs are ranked only once, for [`Selection::Mka`].
    pub one_shot: bool,
    /// Default of [`PlanOptions::longest_span`](super::PlanOptions::longest_span).
    #[serde(rename = "longest_run")]
    pub longest_span: Option<usize>,
    /// Default of [`PlanOptions::candidates`](super::PlanOptions::candidates).
    pub candidates: Option<usize>,
    /// Description in one sentence, with its source.
    pub about: &'static str,
}

const fn method(
    name: &'static str,
    title: &'static str,
    selection: Selection,
    operator: Operator,
    about: &'static str,
) -> Method {
    let (name, title) = (Cow::Borrowed(name), Cow::Borrowed(title));
    // Only averaging makes new layers while pairs are chosen, so other operators give no reason to compare
    // anew.
    let one_shot = !matches!(operator, Operator::Average);
    let pools = matches!(operator, Operator::PoolRefit);
    let searches = matches!(selection, Selection::GreedyKl);
    let longest_span = if pools { Some(LONGEST_SPAN) } else { None };
    let candidates = if pools && searches { Some(CANDIDATES) } else { None };
    Method { name, title, selection, operator, one_shot, longest_span, candidates, about }
}

/// Default longest span of [`Operator::PoolRefit`].
const LONGEST_SPAN: usize = 4;

/// Default number of layers that [`Selection::GreedyKl`] tries in a round for [`Operator::PoolRefit`]: the
/// spans found are fitted anyway, and a round then costs a third.
const CANDIDATES: usize = 10;

/// All methods that have a name.
pub const METHODS: &[Method] = &[
    method(
        "mka",
        "MKA",
        Selection::Mka,
        Operator::Average,
        "Merges the most similar neighbours by weighted average, comparing anew after each merge (EMNLP 2024).",
    ),
    method(
        "mka-code",
        "MKA, published code",
        Selection::Tail,
        Operator::Drop,
        "Drops the last layers, which is what the code published with MKA does.",
    ),
    method(
        "shortgpt",
        "ShortGPT",
        Selection::BlockInfluence,
        Operator::Drop,
        "Drops the layers that turn the residual stream least (arXiv 2403.03853).",
    ),
    method(
        "pruneme",
        "PruneMe",
        Selection::Angular,
        Operator::Drop,
        "Drops the contiguous block whose input and output differ least in angle (arXiv 2403.17887), without the \
         fine-tuning that its authors do afterwards.",
    ),
    method(
        "sleb",
        "SLEB",
        Selection::GreedyNll,
        Operator::Drop,
        "Drops, one after the other, the layer whose loss harms the likelihood least (ICML 2024).",
    ),
    method(
        "greedy-kl",
        "Greedy KL",
        Selection::GreedyKl,
        Operator::Drop,
        "Drops, one after the other, the layer whose loss changes the predictions least.",
    ),
    method(
        "laco",
        "LaCo",
        Selection::Windows,
        Operator::Collapse,
        "Collapses windows of layers into their first by adding up differences (EMNLP 2024).",
    ),
    method(
        "prunecomp",
        "Prune&Comp",
        Selection::BlockInfluence,
        Operator::Scale,
        "Drops by Block Influence and makes up for the magnitude that is lost (AAAI 2026).",
    ),
    method(
        "replaceme",
        "ReplaceMe",
        Selection::Angular,
        Operator::ReplaceMe,
        "Replaces a contiguous block by a linear map, folded into the layer before it (NeurIPS 2025).",
    ),
    method(
        "flatten",
        "FlattenGPT",
        Selection::Pairs,
        Operator::Flatten,
        "Puts neighbours side by side and keeps their most important heads and neurons (ICML 2026).",
    ),
    method(
        "random",
        "Random",
        Selection::Random,
        Operator::Drop,
        "Drops layers drawn by lot: what every rule must beat.",
    ),
    method(
        "laminate",
        "Laminate",
        Selection::Redundancy,
        Operator::PoolRefit,
        "Merges the spans of layers that change the diffusion map and turn the stream least, pooling their heads and \
         neurons and refitting them to the original's states.",
    ),
    method(
        "laminate-search",
        "Laminate, searched",
        Selection::GreedyKl,
        Operator::PoolRefit,
        "Searches for the layers that are missed least and merges them as Laminate does.",
    ),
];

impl Method {
    /// Returns the method of a selection and an operator that have no name together; it is called
    /// `selection+operator`.
    pub fn pair(selection: Selection, operator: Operator) -> Self {
        let name = format!("{selection}+{operator}");
        let pair = method("", "", selection, operator, "A pair of your own.");
        Self { title: Cow::Owned(name.clone()), name: Cow::Owned(name), ..pair }
    }

    /// Returns the method of that name, or the pair written as `selection+operator`. The selection `mka`
    /// ranks pairs once unless the operator averages; `mka+operator+one-shot` and `mka+operator+iterative`
    /// say so explicitly.
    ///
    /// # Errors
    /// [`Error::Usage`], with all known names, if `name` is neither.
    pub fn named(name: &str) -> Result<Self> {
        if let Some((selection, rest)) = name.split_once('+') {
            let (operator, ranking) = rest.split_once('+').map_or((rest, None), |(o, r)| (o, Some(r)));
            let pair = Self::pair(selection.parse()?, operator.parse()?);
            let one_shot = match (ranking, pair.selection) {
                (None, _) => return Ok(pair),
                (Some("one-shot"), Selection::Mka) => true,
                (Some("iterative"), Selection::Mka) => false,
                _ => {
                    return Err(Error::Usage(format!(
                        "unknown method \"{name}\": after a pair only one-shot or iterative may stand, and only where \
                         its selection is mka"
                    )));
                }
            };
            let (name, title) = (Cow::Owned(name.to_owned()), Cow::Owned(name.to_owned()));
            return Ok(Self { name, title, one_shot, ..pair });
        }
        METHODS.iter().find(|method| method.name == name).cloned().ok_or_else(|| {
            let names: Vec<_> = METHODS.iter().map(|method| &*method.name).collect();
            Error::Usage(format!(
                "unknown method \"{name}\": use one of {}, or a pair such as bi+refit",
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_may_say_how_often_neighbours_are_ranked() {
        let one_shot = |name| Method::named(name).map(|method| (method.one_shot, method.name.into_owned()));
        for (name, once) in [
            ("mka+average", false),
            ("mka+average+one-shot", true),
            ("mka+drop", true),
            ("mka+drop+iterative", false),
        ] {
            assert_eq!(one_shot(name), Ok((once, name.to_owned())));
        }
        assert!(Method::named("bi+drop+one-shot").is_err() && Method::named("mka+drop+twice").is_err());
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        for selection in Selection::ALL {
            assert_eq!(selection.name().parse(), Ok(*selection));
        }
        for operator in Operator::ALL {
            assert_eq!(operator.name().parse(), Ok(*operator));
            assert_eq!(serde_json::to_string(operator).unwrap(), format!("\"{operator}\""));
        }
        for method in METHODS {
            assert_eq!(Method::named(&method.name).as_ref(), Ok(method));
        }
        let pair = Method::named("greedy-kl+refit").unwrap();
        assert_eq!((pair.selection, pair.operator), (Selection::GreedyKl, Operator::Refit));
        assert!(Method::named("magic+refit").is_err());
        assert!(Method::named("magic").unwrap_err().to_string().contains("shortgpt"));
        assert!("magic".parse::<Operator>().unwrap_err().to_string().contains("pool-refit"));
    }
}
