//! Arguments of `compare`: methods, numbers of layers and the evaluation text.

use std::path::PathBuf;

use clap::Args;
use laminate::{CompareOptions, Result, TextOptions, WriteOptions};

use super::{EvaluationArgs, output_type, whole, word};

#[derive(Args)]
pub struct CompareArgs {
    /// Names of methods, separated by commas; all named methods if not given.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = word)]
    methods: Vec<String>,
    /// Numbers of layers to remove, separated by commas.
    #[arg(long, value_name = "K", value_delimiter = ',', required = true, value_parser = whole)]
    #[arg(allow_negative_numbers = true)]
    remove: Vec<usize>,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Seed of random choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Element type of the models: keep, or a type as in `compress`.
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
    /// Makes the options of a comparison. What is not given of the evaluation text is as in `usual`.
    ///
    /// # Errors
    /// [`Error::Usage`](laminate::Error::Usage) for an unknown type,
    /// [`Error::Source`](laminate::Error::Source) for an evaluation text that cannot be read.
    pub fn options(&self, usual: TextOptions) -> Result<CompareOptions> {
        let (dtype, pack) = output_type(&self.dtype)?;
        let all = CompareOptions::default();
        Ok(CompareOptions {
            methods: if self.methods.is_empty() { all.methods } else { self.methods.clone() },
            remove: self.remove.clone(),
            evaluation: self.evaluation.options(usual, None)?,
            seed: self.seed,
            output: WriteOptions { dtype, pack, ..WriteOptions::default() },
        })
    }
}
