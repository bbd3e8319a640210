//! The command line's arguments.

mod compare;
mod imatrix;
mod plan;
mod questions;
mod text;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use laminate::format::packed::PackedType;
use laminate::{Error, FileType, Result, demo};

/// Result of a parser of one argument, whose error is a sentence.
type Parsed<T> = std::result::Result<T, String>;

pub use self::compare::CompareArgs;
pub use self::imatrix::ImatrixArgs;
pub use self::plan::PlanArgs;
pub use self::questions::{GenerationArgs, QuestionArgs};
pub use self::text::{CalibrationArgs, EvaluationArgs, TextArgs};

/// Compress a large language model by merging its similar layers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Describe a model: its layers, sizes and files.
    Inspect {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Compare the layers of a model.
    Similarity {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        calibration: CalibrationArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Merge similar layers and write the smaller model.
    Compress {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        calibration: CalibrationArgs,
        #[command(flatten)]
        plan: Box<PlanArgs>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Compare methods by models that are calibrated on one text and measured on another. No model is
    /// written.
    Compare {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        calibration: CalibrationArgs,
        #[command(flatten)]
        compare: Box<CompareArgs>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Collect the importance matrix of a model on a text, for llama-quantize or for `compress --imatrix`.
    Imatrix {
        #[command(flatten)]
        model: ModelArgs,
        /// File to write, such as imatrix.gguf.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        text: TextArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Measure a model: its perplexity, its distance from the original, and its answers to questions.
    Evaluate {
        #[command(flatten)]
        model: ModelArgs,
        /// Original model, for KL divergence and agreement.
        #[arg(long, value_name = "ORIGINAL")]
        against: Option<String>,
        /// Also write the logits of each token of the text to this file, as safetensors, for a comparison with other
        /// programs.
        #[arg(long, value_name = "FILE")]
        logits: Option<PathBuf>,
        #[command(flatten)]
        questions: QuestionArgs,
        #[command(flatten)]
        generation: GenerationArgs,
        #[command(flatten)]
        text: TextArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Args)]
pub struct ModelArgs {
    /// A Hugging Face directory, a .safetensors file in one, a .gguf file, any file of a split GGUF model, or
    /// `demo`.
    #[arg(default_value = demo::NAME)]
    pub model: String,
}

#[derive(Args)]
pub struct OutputArgs {
    /// Print one JSON document to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Parses the argument `--dtype`: a file type, a type in which matrices are packed, or `keep`.
fn output_type(name: &str) -> Result<(Option<FileType>, Option<PackedType>)> {
    match (name, name.parse()) {
        ("keep", _) => Ok((None, None)),
        (_, Ok(pack)) => Ok((None, Some(pack))),
        (name, _) => {
            let packed: Vec<String> = PackedType::all().map(|each| each.to_string()).collect();
            let refused = |e| Error::Usage(format!("--dtype: {e}, and so are {}", packed.join(", ")));
            name.parse().map(|file_type| (Some(file_type), None)).map_err(refused)
        }
    }
}

/// Parses a whole number, such as a layer in a list. Spaces around the number do not count.
fn whole(text: &str) -> Parsed<usize> {
    text.trim().parse().map_err(|_| "this is not a whole number from 0 up".to_owned())
}

/// Parses a word in a list. Spaces around the word do not count.
fn word(text: &str) -> Parsed<String> {
    Ok(text.trim().to_owned())
}

/// Parses the size of the argument `name` in bytes: `5GB`, `1.5GB`, `500MB`, `4GiB` or plain bytes.
fn parse_size(name: &str, size: &str) -> Result<u64> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match size.strip_prefix(digits).unwrap_or("").to_ascii_lowercase().as_str() {
        "" | "b" => Some(1u64),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let is_decimal = digits.contains('.') && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let bytes = match digits.parse::<f64>() {
        Ok(n) if is_decimal => factor.filter(|f| *f > 1).map(|f| (n * f as f64) as u64),
        _ => digits.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f)),
    };
    bytes
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::Usage(format!("{name} {size} is not a size such as 5GB or 500MB")))
}

/// Parses the time of the argument `name` in seconds: `90s`, `5m`, `1.5h`.
fn parse_time(name: &str, time: &str) -> Result<f64> {
    let digits = time.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match time.strip_prefix(digits) {
        Some("s") => Some(1.0),
        Some("m" | "min") => Some(60.0),
        Some("h") => Some(3600.0),
        _ => None,
    };
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number
        .zip(factor)
        .map(|(number, factor)| number * factor)
        .ok_or_else(|| Error::Usage(format!("{name} {time} is not a time such as 90s, 5m or 1h")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in
            [("5GB", 5_000_000_000), ("1.5GB", 1_500_000_000), (".5KiB", 512), ("1kib", 1024), ("7", 7)]
        {
            assert_eq!(parse_size("--size", text), Ok(bytes));
        }
        for text in ["", "GB", "0", "-1MB", "5XB", "99999999999999999999", "1.5", "1.5.1GB", ".GB", "1e3kB"] {
            assert!(parse_size("--size", text).is_err(), "{text}");
        }
    }

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
