//! Arguments for the texts to calibrate on and to measure on.

use std::path::{Path, PathBuf};

use clap::Args;
use laminate::maths::manifold::Normalise;
use laminate::maths::similarity::Metric;
use laminate::protocol::plan::JudgingText;
use laminate::protocol::text::{Draw, PointRule};
use laminate::{CalibrationOptions, Error, Preference, Result, TextOptions};

use super::whole;

/// Argument that stands for standard input in place of a file.
const STANDARD_INPUT: &str = "-";

#[derive(Args)]
pub struct TextArgs {
    /// Text to run through the model; the built-in TinyStories text if not given. With `self` or `self:SEED`
    /// the model writes the text; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Number of sequences to cut from the text.
    #[arg(long, default_value_t = 128, value_parser = whole, allow_negative_numbers = true)]
    pub samples: usize,
    /// Number of tokens in each sequence, BOS included.
    #[arg(long, default_value_t = 48, value_parser = whole, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Parts of a longer text that become sequences: first, spread (evenly from all of it) or random:SEED.
    #[arg(long, default_value = "first")]
    pub draw: Draw,
    /// Device: auto, gpu or cpu.
    #[arg(long, default_value = "auto")]
    pub device: Preference,
}

impl TextArgs {
    /// Returns the seed of the model's own text, if the model is to write one.
    pub fn by_itself(&self) -> Option<u64> {
        match self.text.as_deref()?.to_str()?.strip_prefix("self")? {
            "" => Some(0),
            seed => seed.strip_prefix(':')?.parse().ok(),
        }
    }

    /// Makes the options of calibration, with everything but the text at its default.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read, [`Error::Usage`] for no sequences.
    pub fn options(&self) -> Result<CalibrationOptions> {
        at_least_one("--samples", self.samples)?;
        let file = self.text.as_deref().filter(|_| self.by_itself().is_none());
        Ok(CalibrationOptions {
            text: file.map(read_text).transpose()?,
            text_name: file.and_then(file_name),
            samples: self.samples,
            tokens: self.tokens,
            draw: self.draw,
            ..CalibrationOptions::default()
        })
    }
}

#[derive(Args)]
pub struct CalibrationArgs {
    #[command(flatten)]
    pub text: TextArgs,
    /// Hidden states that are points: last, mean or tokens:K.
    #[arg(long, default_value = "last")]
    points: PointRule,
    /// Metric of similarity: mi, cosine, angular, euclidean, mahalanobis or cka.
    #[arg(long, default_value = "mi")]
    metric: Metric,
    /// Dimensions of the diffusion map.
    #[arg(long, default_value_t = 2, value_parser = whole, allow_negative_numbers = true)]
    dims: usize,
    /// Diffusion time.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    time: f64,
    /// Density exponent: 0, 0.5 (Fokker-Planck) or 1 (Laplace-Beltrami).
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    density: f64,
    /// Normalisation of the points: rms or none.
    #[arg(long, default_value = "rms")]
    normalise: Normalise,
    /// Kernel bandwidth; if not given, the median of the squared distances between the points of each layer.
    #[arg(long, allow_negative_numbers = true)]
    bandwidth: Option<f64>,
    /// Neighbours of the mutual-information estimator.
    #[arg(long, default_value_t = 5, value_parser = whole, allow_negative_numbers = true)]
    neighbours: usize,
    /// Keep finished layers in this directory, and resume from the layers of the same run that it holds.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
}

impl CalibrationArgs {
    pub fn options(&self) -> Result<CalibrationOptions> {
        Ok(CalibrationOptions {
            points: self.points,
            metric: self.metric,
            dims: self.dims,
            time: self.time,
            density: self.density,
            normalise: self.normalise,
            bandwidth: self.bandwidth,
            neighbours: self.neighbours,
            ..self.text.options()?
        })
    }
}

#[derive(Args)]
pub struct EvaluationArgs {
    /// Text to measure on, which must not be the calibration text; the built-in evaluation text, or that of
    /// the recipe, if not given. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub eval_text: Option<PathBuf>,
    /// Number of sequences to measure on; 64, or as many as in the recipe, if not given.
    #[arg(long, value_parser = whole, allow_negative_numbers = true)]
    eval_samples: Option<usize>,
    /// Number of tokens in each sequence of the evaluation text; as many as in the recipe or in calibration if
    /// not given.
    #[arg(long, value_parser = whole, allow_negative_numbers = true)]
    eval_tokens: Option<usize>,
    /// Parts of the evaluation text that become sequences, as `--draw`.
    #[arg(long)]
    eval_draw: Option<Draw>,
}

impl EvaluationArgs {
    /// Makes the options of the evaluation text, for calibration sequences of `tokens` tokens. What is not given
    /// is as in `recipe`, if that says on what its model was judged.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read; [`Error::Usage`] for no sequences, and if the text of
    /// the recipe is neither given nor replaced by one of another name.
    pub fn options(&self, tokens: usize, recipe: Option<&JudgingText>) -> Result<TextOptions> {
        let usual = TextOptions { tokens, ..TextOptions::default() };
        let mut options = recipe.map_or(usual, |judge| judge.options.clone());
        if let Some(path) = &self.eval_text {
            options.text = Some(read_text(path)?);
            options.text_name = file_name(path);
        }
        if let Some(judge) = recipe
            && (self.eval_text.is_none() || options.text_name == judge.options.text_name)
            && options.hash() != judge.hash
        {
            let (_, name) = judge.options.text_and_name();
            return Err(Error::Usage(match self.eval_text {
                None => format!(
                    "the recipe's model was judged on {name}, which the recipe does not hold: give it with --eval-text"
                ),
                Some(_) => format!(
                    "{name} is not the text that the recipe's model was judged on, although it has its name: give the \
                     text as it was then, or one of another name"
                ),
            }));
        }
        options.samples = self.eval_samples.unwrap_or(options.samples);
        options.tokens = self.eval_tokens.unwrap_or(options.tokens);
        options.draw = self.eval_draw.unwrap_or(options.draw);
        at_least_one("--eval-samples", options.samples)?;
        Ok(options)
    }
}

fn at_least_one(argument: &str, samples: usize) -> Result<()> {
    match samples {
        0 => Err(Error::Usage(format!("{argument} is 0, but must be at least 1"))),
        _ => Ok(()),
    }
}

fn read_text(path: &Path) -> Result<String> {
    let (name, text) = match path.to_str() {
        Some(STANDARD_INPUT) => ("standard input".into(), std::io::read_to_string(std::io::stdin())),
        _ => (path.display().to_string(), std::fs::read_to_string(path)),
    };
    text.map_err(|e| Error::Source(format!("{name}: {e}; give a UTF-8 text file")))
}

fn file_name(path: &Path) -> Option<String> {
    if path.to_str() == Some(STANDARD_INPUT) {
        return Some("standard input".to_owned());
    }
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}
