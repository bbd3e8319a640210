//! The command line's arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use laminate::calibration::{Draw, PointRule};
use laminate::device::Preference;
use laminate::format::Container;
use laminate::format::element::Element;
use laminate::manifold::Normalise;
use laminate::pipeline::{CalibrationOptions, CompareOptions, QuestionOptions, TextOptions, WriteOptions};
use laminate::plan::{Alpha, Method, Operator, PlanOptions, SEARCH_TOKENS, Selection};
use laminate::similarity::Metric;
use laminate::{Error, Result, demo};

/// Compress a large language model by merging its similar layers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// What a model is: its layers, sizes and files.
    Inspect {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// How alike the layers are.
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
        plan: PlanArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Methods side by side: models calibrated on one text and measured on another. Nothing is written.
    Compare {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        calibration: CalibrationArgs,
        #[command(flatten)]
        compare: CompareArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Perplexity of a model, its distance from the original, and its answers to questions.
    Evaluate {
        #[command(flatten)]
        model: ModelArgs,
        /// The original, for KL divergence and agreement.
        #[arg(long, value_name = "ORIGINAL")]
        against: Option<String>,
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
    /// A Hugging Face directory, a .safetensors file in one, a .gguf file or any of a split one, or `demo`.
    #[arg(default_value = demo::NAME)]
    pub model: String,
}

#[derive(Args)]
pub struct OutputArgs {
    /// Print one JSON document to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct TextArgs {
    /// Text to run through the model; the built-in TinyStories text if not given. With `self` or `self:SEED` the
    /// model writes it.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Sequences to cut from the text.
    #[arg(long, default_value_t = 128)]
    pub samples: usize,
    /// Tokens in each sequence, BOS included.
    #[arg(long, default_value_t = 48)]
    pub tokens: usize,
    /// Which parts of a longer text they are: first, spread (evenly from all of it) or random:SEED.
    #[arg(long, default_value = "first")]
    pub draw: Draw,
    /// Where to run: auto, gpu or cpu.
    #[arg(long, default_value = "auto")]
    pub device: Preference,
}

impl TextArgs {
    /// What the model's own text is drawn from, if it is to write one.
    pub fn by_itself(&self) -> Option<u64> {
        match self.text.as_deref()?.to_str()?.strip_prefix("self")? {
            "" => Some(0),
            seed => seed.strip_prefix(':')?.parse().ok(),
        }
    }

    /// The options of calibration with everything else at its default.
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

fn read_text(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::Source(format!("{}: {e}; give a UTF-8 text file", path.display())))
}

#[derive(Args)]
pub struct QuestionArgs {
    /// Ask the questions of MMLU: a directory that has test/ and dev/ with CSV files.
    #[arg(long, value_name = "DIR")]
    pub mmlu: Option<PathBuf>,
    /// Subjects to ask, such as anatomy,virology; all if not given.
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "mmlu")]
    subjects: Vec<String>,
    /// Solved examples before each question, 0 to 5 in MMLU's own files.
    #[arg(long, value_name = "K", default_value_t = 5, requires = "mmlu")]
    few_shot: usize,
    /// Ask only the first N questions of each subject.
    #[arg(long, value_name = "N", requires = "mmlu")]
    questions_per_subject: Option<usize>,
    /// Also score the texts of the answers, not only their letters.
    #[arg(long, requires = "mmlu")]
    full_answers: bool,
}

impl QuestionArgs {
    pub fn options(&self) -> QuestionOptions {
        QuestionOptions {
            subjects: self.subjects.clone(),
            few_shot: self.few_shot,
            questions_per_subject: self.questions_per_subject,
            full_answers: self.full_answers,
        }
    }
}

#[derive(Args)]
pub struct GenerationArgs {
    /// Continue this text by the most likely tokens; may be given several times.
    #[arg(long, value_name = "PROMPT")]
    pub generate: Vec<String>,
    /// Tokens to continue it by; each costs a pass over the model.
    #[arg(long, value_name = "N", default_value_t = 48, requires = "generate")]
    pub new_tokens: usize,
}

#[derive(Args)]
pub struct CalibrationArgs {
    #[command(flatten)]
    pub text: TextArgs,
    /// Hidden states that are points: last, mean or tokens:K.
    #[arg(long, default_value = "last")]
    points: PointRule,
    /// What similarity is: mi, cosine, angular, euclidean, mahalanobis or cka.
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
    /// Scale of the points: rms or none.
    #[arg(long, default_value = "rms")]
    normalise: Normalise,
    /// Kernel bandwidth; the median of squared distances if not given.
    #[arg(long)]
    bandwidth: Option<f64>,
    /// Neighbours of the mutual-information estimator.
    #[arg(long, default_value_t = 5)]
    neighbours: usize,
    /// Keep finished layers in this directory, and go on from what it holds of the same run.
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
pub struct PlanArgs {
    /// Directory to create, or a .gguf file.
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    #[command(flatten)]
    pub evaluation: EvaluationArgs,
    /// How many layers to remove.
    #[arg(long, value_name = "K", group = "goal")]
    remove: Option<usize>,
    /// Share of the layers to keep, 0 to 1.
    #[arg(long, value_name = "R", group = "goal")]
    keep_ratio: Option<f64>,
    /// Merge while the most similar pair is at least this similar.
    #[arg(long, value_name = "S", group = "goal")]
    min_similarity: Option<f64>,
    /// Repeat the plan of this recipe.json instead of choosing one.
    #[arg(long, value_name = "FILE", group = "goal")]
    pub recipe: Option<PathBuf>,
    /// How layers are chosen and joined: mka, mka-code, shortgpt, pruneme, sleb, greedy-kl, laco, prunecomp,
    /// replaceme, flatten, random, laminate or laminate-search.
    #[arg(long, default_value = "mka")]
    method: String,
    /// Choose layers by another rule than the method's: mka, redundancy, bi, angular, pairs, greedy-nll, greedy-kl,
    /// laco, tail, reverse, random or hand.
    #[arg(long)]
    selection: Option<Selection>,
    /// Join layers in another way than the method's: average, drop, laco, scale, replaceme, flatten, refit or
    /// pool-refit.
    #[arg(long)]
    operator: Option<Operator>,
    /// Make no run of more than N layers into one, where layers are chosen by similarity.
    #[arg(long, value_name = "N")]
    longest_run: Option<usize>,
    /// Merge exactly these layers into what is before them, in this order, such as 2,3,6.
    #[arg(long, value_name = "L,L", value_delimiter = ',', group = "goal")]
    absorb: Vec<usize>,
    /// Layers that take part in no merge, such as 3,11.
    #[arg(long, value_name = "L,L", value_delimiter = ',')]
    keep: Vec<usize>,
    /// What random choices are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens on which rules that search try each removal.
    #[arg(long, default_value_t = SEARCH_TOKENS)]
    search_tokens: usize,
    /// How many layers they try in each round but the first; all, or for laminate-search ten, if not given.
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Weight of the first of two layers: similarity, search or a number from 0 to 1.
    #[arg(long, default_value = "similarity")]
    alpha: Alpha,
    /// Also fit to only so many of the sequences each, such as 12,24,48, to see whether more text would help.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub calibration_sizes: Vec<usize>,
    /// Rank the pairs once instead of comparing anew after each merge.
    #[arg(long)]
    one_shot: bool,
    /// Allow layers that write massive activations to be absorbed.
    #[arg(long)]
    release_massive: bool,
    /// Never merge the first layer.
    #[arg(long)]
    keep_first: bool,
    /// Never merge the last layer.
    #[arg(long)]
    keep_last: bool,
    /// Type of the result: keep, f32, f16, bf16, and in a .gguf file q8_0, q6_k, q5_k, q4_k, q5_1, q5_0, q4_1, q4_0.
    #[arg(long, default_value = "keep")]
    dtype: String,
    /// Data in a file at most, such as 5GB or 500MB.
    #[arg(long, default_value = "5GB")]
    max_shard_size: String,
}

impl PlanArgs {
    /// The goal and the rules, for a model of `n_layers` layers.
    pub fn options(&self, n_layers: usize) -> Result<PlanOptions> {
        let method = Method::named(&self.method)?;
        let selection = self.selection.or((!self.absorb.is_empty()).then_some(Selection::Hand));
        let method = match (selection, self.operator) {
            (None, None) => method,
            (selection, operator) => {
                let (selection, operator) =
                    (selection.unwrap_or(method.selection), operator.unwrap_or(method.operator));
                let one_shot = method.one_shot;
                Method { one_shot, ..Method::pair(selection, operator) }
            }
        };
        let options = method.options(0, self.seed);
        let remove = match self.keep_ratio {
            None => self.remove,
            Some(ratio) if ratio > 0.0 && ratio < 1.0 => {
                Some(n_layers - ((n_layers as f64 * ratio).round() as usize).clamp(1, n_layers))
            }
            Some(ratio) => {
                return Err(Error::Usage(format!("--keep-ratio {ratio} is not between 0 and 1")));
            }
        };
        Ok(PlanOptions {
            remove,
            min_similarity: self.min_similarity,
            alpha: self.alpha,
            one_shot: self.one_shot || options.one_shot,
            release_massive: self.release_massive,
            keep_first: self.keep_first,
            keep_last: self.keep_last,
            longest_run: self.longest_run.or(options.longest_run),
            locked: self.keep.clone(),
            absorb: self.absorb.clone(),
            search_tokens: self.search_tokens,
            candidates: self.candidates.or(options.candidates),
            ..options
        })
    }

    /// How the result is stored.
    pub fn write_options(&self) -> Result<WriteOptions> {
        let dtype = match self.dtype.as_str() {
            "keep" => None,
            name => Some(output_type(name)?),
        };
        let is_gguf = self.writes_gguf();
        if !is_gguf && matches!(dtype, Some(Element::Block(_))) {
            return Err(Error::Usage(format!(
                "--dtype {} is for .gguf files: give --out a name that ends in .gguf",
                self.dtype
            )));
        }
        let stem = self.out.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        Ok(WriteOptions {
            dtype,
            max_shard_bytes: parse_size(&self.max_shard_size)?,
            container: Some(if is_gguf { Container::Gguf } else { Container::Safetensors }),
            name: stem.filter(|_| is_gguf),
        })
    }

    /// Whether the result is a GGUF file and not a directory.
    pub fn writes_gguf(&self) -> bool {
        self.out.extension().is_some_and(|extension| extension == "gguf")
    }
}

#[derive(Args)]
pub struct EvaluationArgs {
    /// Text to measure on, which must not be the calibration text; the built-in evaluation text if not given.
    #[arg(long, value_name = "FILE")]
    eval_text: Option<PathBuf>,
    /// Sequences to measure on.
    #[arg(long, default_value_t = 64)]
    eval_samples: usize,
    /// Tokens in each of them; as many as in calibration if not given.
    #[arg(long)]
    eval_tokens: Option<usize>,
    /// Which parts of that text they are, as `--draw`.
    #[arg(long, default_value = "first")]
    eval_draw: Draw,
}

impl EvaluationArgs {
    /// The text; `tokens` are in each sequence of the calibration text.
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

fn file_name(path: &std::path::Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}

/// A type that can be written.
fn output_type(name: &str) -> Result<Element> {
    let element: Element = name.parse().map_err(|e| Error::Usage(format!("--dtype: {e}")))?;
    match element {
        Element::Block(block) if block.encodable() != block => Err(Error::Usage(format!(
            "--dtype {name} can be read but not written; {} is the nearest that can",
            block.encodable()
        ))),
        other => Ok(other),
    }
}

/// `5GB`, `500MB`, `4GiB` or plain bytes.
fn parse_size(size: &str) -> Result<u64> {
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
    let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    bytes
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::Usage(format!("--max-shard-size {size} is not a size such as 5GB or 500MB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("5GB", 5_000_000_000), ("1kib", 1024), ("7", 7)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "GB", "0", "-1MB", "5XB", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
