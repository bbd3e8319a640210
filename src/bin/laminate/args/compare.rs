//! Arguments of `compare`: methods, numbers of layers and the evaluation text.

use std::path::PathBuf;

use clap::Args;
use laminate::{CompareOptions, Error, Result, TextOptions, WriteOptions};

use super::{EvaluationArgs, ImatrixArgs, output_type, parse_size, whole, word};

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
    /// Types of the models, separated by commas: keep, or types as in `compress`. With a type, the original is measured in
    /// this type, too; with several, the best model of each size is named.
    #[arg(long, default_value = "keep", value_name = "TYPES", value_delimiter = ',', value_parser = word)]
    dtype: Vec<String>,
    /// Sizes for which the best model is named, such as 60MB,80MB.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = word)]
    sizes: Vec<String>,
    #[command(flatten)]
    pub imatrix: ImatrixArgs,
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
    /// [`Error::Usage`] for an unknown type,
    /// [`Error::Source`] for an evaluation text that cannot be read.
    pub fn options(&self, usual: TextOptions) -> Result<CompareOptions> {
        let types = self.dtype.iter().map(|name| output_type(name)).collect::<Result<Vec<_>>>()?;
        let pack = match types[..] {
            [(None, pack)] => pack,
            _ if types.iter().any(|(_, pack)| pack.is_some()) => {
                return Err(Error::Usage(
                    "--dtype: types that pack the projections of a directory cannot be compared with others; give one alone"
                        .to_owned(),
                ));
            }
            _ => None,
        };
        let dtypes =
            if pack.is_some() { Vec::new() } else { types.iter().map(|(dtype, _)| *dtype).collect() };
        let sizes = self.sizes.iter().map(|size| parse_size("--sizes", size)).collect::<Result<_>>()?;
        let all = CompareOptions::default();
        Ok(CompareOptions {
            methods: if self.methods.is_empty() { all.methods } else { self.methods.clone() },
            remove: self.remove.clone(),
            evaluation: self.evaluation.options(usual, None)?,
            seed: self.seed,
            output: WriteOptions {
                pack,
                importances: self.imatrix.importances(true),
                ..WriteOptions::default()
            },
            dtypes,
            sizes,
        })
    }
}
