//! What is compared.

use std::path::PathBuf;

use clap::Args;
use laminate::Result;
use laminate::protocol::options::{CompareOptions, WriteOptions};

use super::{EvaluationArgs, output_type};

#[derive(Args)]
pub struct CompareArgs {
    /// Methods, separated by commas; all that have a name if not given.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    /// How many layers to remove; several numbers are separated by commas.
    #[arg(long, value_name = "K", value_delimiter = ',', required = true)]
    remove: Vec<usize>,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// What random choices are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Type of the models' tensors: keep, or as in `compress`.
    #[arg(long, default_value = "keep")]
    dtype: String,
    /// Write the table as comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the table in Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

impl CompareArgs {
    /// What to compare, for calibration sequences of `tokens` tokens.
    pub fn options(&self, tokens: usize) -> Result<CompareOptions> {
        let dtype = match self.dtype.as_str() {
            "keep" => None,
            name => Some(output_type(name)?),
        };
        let all = CompareOptions::default();
        Ok(CompareOptions {
            methods: if self.methods.is_empty() { all.methods } else { self.methods.clone() },
            remove: self.remove.clone(),
            evaluation: self.evaluation.options(tokens)?,
            seed: self.seed,
            output: WriteOptions { dtype, ..WriteOptions::default() },
        })
    }
}
