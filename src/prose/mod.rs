//! Embedded general prose, on which a model other than the demo is calibrated and judged where no text is given.
//!
//! Both texts are made of Wikipedia articles, from the validation part of WikiText-2 (Merity, Xiong, Bradbury and
//! Socher, "Pointer Sentinel Mixture Models", 2016). The articles' authors published them under the Creative Commons
//! Attribution-ShareAlike licence (CC BY-SA 3.0), which holds for these two files too. The files differ from WikiText-2:
//! its tokenisation is undone, and sentences with unknown words and halves of quotations are left out
//! (`tests/methods/make_texts.py`). No article is in both files.

use crate::model::Config;
use crate::protocol::options::{BuiltIn, CalibrationOptions, TextOptions};
use crate::protocol::text::{Draw, PointRule};

/// Text that models are calibrated on: about 45,000 tokens of a large vocabulary.
pub const CALIBRATION: &str = include_str!("calibration.txt");

/// Name of [`CALIBRATION`] in reports.
pub const CALIBRATION_NAME: &str = "Wikipedia articles (WikiText-2, built in)";

/// Text that models are judged on: about 14,000 tokens of a large vocabulary.
pub const EVALUATION: &str = include_str!("evaluation.txt");

/// Name of [`EVALUATION`] in reports.
pub const EVALUATION_NAME: &str = "other Wikipedia articles (WikiText-2, built in)";

/// Number of tokens in a sequence, in a model whose context is not shorter.
const TOKENS: usize = 256;

/// Number of sequences that models are calibrated on, if time allows.
const CALIBRATION_SEQUENCES: usize = 96;

/// Number of sequences that models are judged on.
const EVALUATION_SEQUENCES: usize = 32;

/// Number of hidden states of a sequence that are points.
const POINTS: usize = 8;

/// Makes the options of calibration on [`CALIBRATION`], for a model with the settings `config`: 96 sequences of 256
/// tokens, from all over the text, with 8 points each. Sequences are as long as the context of the model if that is
/// shorter, and have a point for every token but one if those are fewer than 8.
pub fn calibration(config: &Config) -> CalibrationOptions {
    let tokens = TOKENS.min(config.context);
    CalibrationOptions {
        text: Some(CALIBRATION.to_owned()),
        text_name: Some(CALIBRATION_NAME.to_owned()),
        samples: CALIBRATION_SEQUENCES,
        tokens,
        draw: Draw::Spread,
        points: PointRule::Tokens(tokens.saturating_sub(1).clamp(1, POINTS)),
        ..CalibrationOptions::default()
    }
}

/// Makes the options of judging on [`EVALUATION`], for a model with the settings `config`: 32 sequences of 256 tokens,
/// or as long as the context of the model if that is shorter, from all over the text.
pub fn evaluation(config: &Config) -> TextOptions {
    TextOptions {
        text: Some(EVALUATION.to_owned()),
        text_name: Some(EVALUATION_NAME.to_owned()),
        samples: EVALUATION_SEQUENCES,
        tokens: TOKENS.min(config.context),
        draw: Draw::Spread,
        builtin: BuiltIn::Evaluation,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Returns all runs of eight words of a text.
    fn runs(text: &str) -> HashSet<Vec<&str>> {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.windows(8).map(<[_]>::to_vec).collect()
    }

    #[test]
    fn no_sentence_is_in_both_texts() {
        let (calibration, evaluation) = (runs(CALIBRATION), runs(EVALUATION));
        assert!(calibration.len() > 30_000 && evaluation.len() > 9_000);
        let common: Vec<_> = calibration.intersection(&evaluation).collect();
        assert!(common.is_empty(), "{common:?}");
    }

    #[test]
    fn sequences_fit_the_context_of_the_model() {
        let mut config = futures::executor::block_on(crate::demo::open()).unwrap().config;
        for (context, tokens, points) in [(8192, 256, 8), (256, 256, 8), (64, 64, 8), (6, 6, 5), (2, 2, 1)] {
            config.context = context;
            let options = calibration(&config);
            assert_eq!((options.tokens, options.points), (tokens, PointRule::Tokens(points)));
            assert_eq!(evaluation(&config).tokens, tokens);
            assert!(options.points.positions(tokens, true).is_ok());
        }
    }
}
