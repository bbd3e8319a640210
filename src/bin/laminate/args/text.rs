//! Arguments for the texts to calibrate on and to measure on.

use std::path::{Path, PathBuf};

use clap::Args;
use laminate::maths::manifold::Normalise;
use laminate::maths::similarity::Metric;
use laminate::protocol::text::{Draw, PointRule};
use laminate::{CalibrationOptions, Error, Preference, Result, TextOptions};

#[derive(Args)]
pub struct TextArgs {
    /// Text to run through the model; the built-in TinyStories text if not given. With `self` or `self:SEED`
    /// the model writes the text.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Number of sequences to cut from the text.
    #[arg(long, default_value_t = 128)]
    pub samples: usize,
    /// Number of tokens in each sequence, BOS included.
    #[arg(long, default_value_t = 48)]
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
    /// [`Error::Source`] for a text that cannot be read.
    pub fn options(&self) -> Result<CalibrationOptions> {
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
    #[arg(long, default_value_t = 2)]
    dims: usize,
    /// Diffusion time.
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// Density exponent: 0, 0.5 (Fokker-Planck) or 1 (Laplace-Beltrami).
    #[arg(long, default_value_t = 0.0)]
    density: f64,
    /// Normalisation of the points: rms or none.
    #[arg(long, default_value = "rms")]
    normalise: Normalise,
    /// Kernel bandwidth; if not given, the median of the squared distances between the points of each layer.
    #[arg(long)]
    bandwidth: Option<f64>,
    /// Neighbours of the mutual-information estimator.
    #[arg(long, default_value_t = 5)]
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
    /// Text to measure on, which must not be the calibration text; the built-in evaluation text if not given.
    #[arg(long, value_name = "FILE")]
    eval_text: Option<PathBuf>,
    /// Number of sequences to measure on.
    #[arg(long, default_value_t = 64)]
    eval_samples: usize,
    /// Number of tokens in each sequence of the evaluation text; as many as in calibration if not given.
    #[arg(long)]
    eval_tokens: Option<usize>,
    /// Parts of the evaluation text that become sequences, as `--draw`.
    #[arg(long, default_value = "first")]
    eval_draw: Draw,
}

impl EvaluationArgs {
    /// Makes the options of the evaluation text, for calibration sequences of `tokens` tokens.
    ///
    /// # Errors
    /// [`Error::Source`] for a text that cannot be read.
    pub fn options(&self, tokens: usize) -> Result<TextOptions> {
        Ok(TextOptions {
            text: self.eval_text.as_deref().map(read_text).transpose()?,
            text_name: self.eval_text.as_deref().and_then(file_name),
            samples: self.eval_samples,
            tokens: self.eval_tokens.unwrap_or(tokens),
            draw: self.eval_draw,
            ..TextOptions::default()
        })
    }
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::Source(format!("{}: {e}; give a UTF-8 text file", path.display())))
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}
