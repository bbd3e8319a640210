//! Selection rules, operators, and the methods of the literature that are pairs of them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::options::PlanOptions;
use crate::error::{Error, Result};

/// Declares an enum whose variants have a name each, the same on the command line and in JSON.
macro_rules! named {
    ($(#[$about:meta])* $enum:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        pub enum $enum {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl $enum {
            /// All of them, in the order of this documentation.
            pub const ALL: &[$enum] = &[$($enum::$variant),*];

            /// The name on the command line and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $enum {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                $enum::ALL.iter().copied().find(|each| each.name() == name).ok_or_else(|| {
                    let names: Vec<_> = $enum::ALL.iter().map(|each| each.name()).collect();
                    Error::Usage(format!("unknown {} \"{name}\": use one of {}", $what, names.join(", ")))
                })
            }
        }
    };
}

named! {
    /// Which layers are absorbed into their neighbours.
    Selection, "selection" {
        /// The most similar neighbours, by the metric of the similarity stage; iterative or one-shot (MKA,
        /// arXiv 2406.16330).
        #[default]
        Mka = "mka",
        /// The runs that change the map little and turn the stream little, one-shot: the least sum of
        /// `(1 - S(first, last))` times the Block Influences of the run.
        Redundancy = "redundancy",
        /// The layers of least Block Influence, `1 - E cos(x_in, x_out)`, one-shot (ShortGPT, arXiv 2403.03853).
        BlockInfluence = "bi",
        /// The contiguous block whose input and output differ least in angle at the last token (arXiv
        /// 2403.17887).
        Angular = "angular",
        /// Disjoint neighbours, the first of which turns the stream least (FlattenGPT, arXiv 2602.08858).
        Pairs = "pairs",
        /// In each round the layer whose removal leaves the least negative log-likelihood; the first and the
        /// last stay (SLEB, arXiv 2402.09025).
        GreedyNll = "greedy-nll",
        /// In each round the layer whose removal leaves the least KL divergence from the original.
        GreedyKl = "greedy-kl",
        /// Windows from the top down whose collapse keeps the last hidden states (LaCo, arXiv 2402.11187).
        Windows = "laco",
        /// The last layers: what the published code of MKA does.
        Tail = "tail",
        /// The last layers but one, the very last of which stays (the simple rule of arXiv 2403.17887).
        Reverse = "reverse",
        /// Any layers, drawn from the seed: what every rule must beat.
        Random = "random",
        /// The layers that a person names, in that order.
        Hand = "hand",
    }
}

named! {
    /// What becomes of a run of layers that turns into one.
    Operator, "operator" {
        /// Weighted averages of all tensors (MKA, arXiv 2406.16330).
        #[default]
        Average = "average",
        /// One layer of the run stays as it is.
        Drop = "drop",
        /// The first layer plus its differences from the others (LaCo, arXiv 2402.11187).
        Collapse = "laco",
        /// One layer stays, and what later layers add is scaled to the stream that was lost (Prune&Comp, arXiv
        /// 2507.18212).
        Scale = "scale",
        /// One layer stays, and its down projection is multiplied by the linear map that fits the lost layers
        /// best (ReplaceMe, arXiv 2505.02819).
        ReplaceMe = "replaceme",
        /// All layers side by side, of which the most important heads and neurons stay (FlattenGPT, arXiv
        /// 2602.08858).
        Flatten = "flatten",
        /// One layer stays, and its output and down projections are solved for anew by least squares, so that
        /// it yields what left the run.
        Refit = "refit",
        /// Heads and neurons of the whole run are pooled, the ones that are needed stay, and the output and down
        /// projections are solved for by least squares.
        PoolRefit = "pool-refit",
    }
}

impl Selection {
    /// Whether neighbours are merged by their similarity, which may then say where to stop.
    pub fn merges_neighbours(self) -> bool {
        matches!(self, Selection::Mka | Selection::Redundancy)
    }
}

impl Operator {
    /// Whether tensors are computed from activations, so that the plan alone does not say what they are.
    pub fn needs_activations(self) -> bool {
        !matches!(self, Operator::Average | Operator::Drop | Operator::Collapse)
    }

    /// Whether the weights of a plan say how its layers are mixed.
    pub fn is_weighted(self) -> bool {
        matches!(self, Operator::Average | Operator::Collapse)
    }
}

/// A method: a selection and an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Method {
    /// The name on the command line and in JSON.
    pub name: Cow<'static, str>,
    /// What people call it.
    pub title: Cow<'static, str>,
    /// Which layers.
    pub selection: Selection,
    /// What becomes of them.
    pub operator: Operator,
    /// Whether pairs are ranked once, for [`Selection::Mka`].
    pub one_shot: bool,
    /// See [`PlanOptions::longest_span`].
    #[serde(rename = "longest_run")]
    pub longest_span: Option<usize>,
    /// See [`PlanOptions::candidates`].
    pub candidates: Option<usize>,
    /// One sentence with its source.
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
    // Layers that are not averaged while pairs are chosen give no reason to compare anew.
    let one_shot = !matches!(operator, Operator::Average);
    let pools = matches!(operator, Operator::PoolRefit);
    let searches = matches!(selection, Selection::GreedyKl);
    let longest_span = if pools { Some(LONGEST_SPAN) } else { None };
    let candidates = if pools && searches { Some(CANDIDATES) } else { None };
    Method { name, title, selection, operator, one_shot, longest_span, candidates, about }
}

/// The longest run of [`Operator::PoolRefit`] unless told otherwise.
const LONGEST_SPAN: usize = 4;

/// How many layers [`Selection::GreedyKl`] tries in a round for [`Operator::PoolRefit`] unless told otherwise: what is
/// found is fitted anyway, and a round costs a third.
const CANDIDATES: usize = 10;

/// The methods that have a name.
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
    /// A rule and an operator that have no name together.
    pub fn pair(selection: Selection, operator: Operator) -> Self {
        let name = format!("{selection}+{operator}");
        let pair = method("", "", selection, operator, "A pair of your own.");
        Self { title: Cow::Owned(name.clone()), name: Cow::Owned(name), ..pair }
    }

    /// The method of that name, or any pair written as `selection+operator`; the selection `mka` then ranks
    /// pairs once unless the operator averages, or as `mka+operator+one-shot` or `mka+operator+iterative` say.
    ///
    /// # Errors
    /// [`Error::Usage`] listing the names.
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

    /// The options that remove `remove` layers by this method, with everything else at its default.
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
