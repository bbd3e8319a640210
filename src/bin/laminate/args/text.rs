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
    /// Text to run through the model; built-in Wikipedia articles, or stories for the demo, if not given. With
    /// `self` or `self:SEED` the model writes the text; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Number of sequences to cut from the text; 96, or 128 for the demo, if not given, and 32 or 64 in
    /// `evaluate`.
    #[arg(long, value_parser = whole, allow_negative_numbers = true)]
    samples: Option<usize>,
    /// Number of tokens in each sequence, BOS included; 256, or 48 for the demo, if not given.
    #[arg(long, value_parser = whole, allow_negative_numbers = true)]
    tokens: Option<usize>,
    /// Parts of a longer text that become sequences: first, spread (evenly from all of it) or random:SEED;
    /// spread, or first for the demo, if not given.
    #[arg(long)]
    draw: Option<Draw>,
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

    /// Whether the number of sequences is given.
    pub fn counts(&self) -> bool {
        self.samples.is_some()
    }

    /// Makes the options of a text to measure on; what is not given is as in `usual`.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read, [`Error::Usage`] for no sequences.
    pub fn options(&self, usual: TextOptions) -> Result<TextOptions> {
        at_least_one("--samples", self.samples)?;
        let own = self.text.as_deref().filter(|_| self.by_itself().is_none());
        let (text, text_name) = match own {
            Some(path) => (Some(read_text(path)?), file_name(path)),
            None => (usual.text, usual.text_name),
        };
        Ok(TextOptions {
            text,
            text_name,
            samples: self.samples.unwrap_or(usual.samples),
            tokens: self.tokens.unwrap_or(usual.tokens),
            draw: self.draw.unwrap_or(usual.draw),
            ..usual
        })
    }
}

#[derive(Args)]
pub struct CalibrationArgs {
    #[command(flatten)]
    pub text: TextArgs,
    /// Hidden states that are points: last, mean or tokens:K; tokens:8, or last for the demo, if not given.
    #[arg(long)]
    points: Option<PointRule>,
    /// Metric of similarity: mi, cosine, angular, euclidean, mahalanobis, cka, tsne or autoencoder.
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
    /// Take as many sequences of the text as the run manages in about M minutes, whatever `--samples` says. If
    /// neither is given and the model is not the demo: 5, and 20 in `compare`, for at most 96 sequences.
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    minutes: Option<f64>,
    /// Keep finished layers in this directory, and resume from the layers of the same run that it holds.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
}

impl CalibrationArgs {
    /// Makes the options of calibration; what is not given is as in `usual`.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read, [`Error::Usage`] for no sequences.
    pub fn options(&self, usual: CalibrationOptions) -> Result<CalibrationOptions> {
        let TextOptions { text, text_name, samples, tokens, draw, .. } =
            self.text.options(usual.text_options())?;
        Ok(CalibrationOptions {
            text,
            text_name,
            samples,
            tokens,
            draw,
            points: self.points.unwrap_or(usual.points),
            metric: self.metric,
            dims: self.dims,
            time: self.time,
            density: self.density,
            normalise: self.normalise,
            bandwidth: self.bandwidth,
            neighbours: self.neighbours,
        })
    }

    /// Returns the time in seconds that the run may take, by which the number of sequences is chosen; `None`
    /// if that number does not depend on time. Without arguments that say one or the other, a model that is
    /// not the demo gets `usual` minutes.
    ///
    /// # Errors
    /// [`Error::Usage`] if the time is not a positive number, or if the model writes the text itself.
    pub fn seconds(&self, is_demo: bool, usual: f64) -> Result<Option<f64>> {
        let minutes = match self.minutes {
            Some(minutes) if !(minutes > 0.0 && minutes.is_finite()) => {
                return Err(Error::Usage(format!(
                    "--minutes {minutes} is not a time; give a number above 0"
                )));
            }
            Some(_) if self.text.by_itself().is_some() => {
                return Err(Error::Usage(
                    "--minutes needs a text that is there already; give --text a file".to_owned(),
                ));
            }
            Some(minutes) => Some(minutes),
            None if is_demo || self.text.counts() || self.text.by_itself().is_some() => None,
            None => Some(usual),
        };
        Ok(minutes.map(|minutes| 60.0 * minutes))
    }

    /// Returns the most sequences that a time may allow: no more than usual, unless the time is given.
    pub fn most_sequences(&self, usual: usize) -> usize {
        if self.minutes.is_some() { usize::MAX } else { usual }
    }
}

#[derive(Args)]
pub struct EvaluationArgs {
    /// Text to measure on, which must not be the calibration text; other built-in articles or stories, or the
    /// text of the recipe, if not given. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub eval_text: Option<PathBuf>,
    /// Number of sequences to measure on; 32, 64 for the demo, or as many as in the recipe, if not given.
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
    /// Makes the options of the evaluation text. What is not given is as in `recipe`, if that says on what its
    /// model was judged, and as in `usual` otherwise.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read; [`Error::Usage`] for no sequences, and if the text of
    /// the recipe is neither given nor replaced by one of another name.
    pub fn options(&self, usual: TextOptions, recipe: Option<&JudgingText>) -> Result<TextOptions> {
        let built_in = (usual.text.clone(), usual.text_name.clone());
        let mut options = recipe.map_or(usual, |judge| judge.options.clone());
        if options.text.is_none() && options.text_name == built_in.1 {
            options.text = built_in.0;
        }
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
        at_least_one("--eval-samples", self.eval_samples)?;
        Ok(options)
    }
}

fn at_least_one(argument: &str, samples: Option<usize>) -> Result<()> {
    match samples {
        Some(0) => Err(Error::Usage(format!("{argument} is 0, but must be at least 1"))),
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
