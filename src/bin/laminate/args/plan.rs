//! Arguments of `compress`: which layers are removed, by which operator, and how the result is stored.

use std::path::PathBuf;

use clap::Args;
use laminate::format::Container;
use laminate::plan::{Alpha, ExpertSelection, Operator, SEARCH_TOKENS, Selection};
use laminate::protocol::heal::HealOptions;
use laminate::protocol::plan::Recipe;
use laminate::{Error, Method, PlanOptions, Requantise, Result, Rounding, WriteOptions};

use super::{EvaluationArgs, ImatrixArgs, output_type, parse_size, parse_time, whole};

/// Endings of names of files, with which no directory is made: whoever gives one expects a file.
const ENDINGS_OF_FILES: [&str; 12] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "onnx", "ggml", "ggjt", "npz", "json", "zip", "tar"];

/// Arguments that choose a plan, which a recipe brings along.
const OF_A_PLAN: [&str; 16] = [
    "method",
    "selection",
    "operator",
    "longest_span",
    "keep",
    "seed",
    "search_tokens",
    "candidates",
    "alpha",
    "one_shot",
    "release_massive",
    "keep_first",
    "keep_last",
    "minutes",
    "remove_experts",
    "expert_selection",
];

/// Method without `--method`: the page's, too.
const RECOMMENDED: &str = "laminate";

/// Fewest sequences that a plan can be fitted to: one to fit to and one to choose the strength by.
const FEWEST_FITTED: usize = 2;

#[derive(Args)]
pub struct PlanArgs {
    /// Directory to create, or .gguf file to write.
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    #[command(flatten)]
    pub evaluation: EvaluationArgs,
    /// Number of layers to remove; 0 if --remove-experts is given and no goal.
    #[arg(long, value_name = "K", group = "goal", value_parser = whole, allow_negative_numbers = true)]
    remove: Option<usize>,
    /// Size of the .gguf file to write, such as 60MB or 3.2GB, or bits for each weight of the original, such as 4.5bpw: of
    /// all numbers of layers removed, up to two thirds, and types of each part of the model, the best is searched for.
    /// With --remove, as many layers go.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["keep_ratio", "min_similarity", "recipe", "absorb", "dtype", "remove_experts"])]
    target_size: Option<String>,
    /// Share of the layers to keep, 0 to 1.
    #[arg(long, value_name = "R", group = "goal", allow_negative_numbers = true)]
    keep_ratio: Option<f64>,
    /// Merge while the most similar pair is at least this similar.
    #[arg(long, value_name = "S", group = "goal", allow_negative_numbers = true)]
    min_similarity: Option<f64>,
    /// Repeat the plan of this recipe.json instead of choosing one, on the same text, which must be given again
    /// if it is not built in. Element type, file size, evaluation and --fit-memory are those of the recipe if
    /// not given.
    #[arg(long, value_name = "FILE", group = "goal", conflicts_with_all = OF_A_PLAN)]
    pub recipe: Option<PathBuf>,
    /// Method that selects and merges layers: mka, mka-code, shortgpt, pruneme, sleb, greedy-kl, laco,
    /// prunecomp, replaceme, flatten, random, laminate or laminate-search.
    #[arg(long, default_value = RECOMMENDED)]
    method: String,
    /// Selection of layers, if not the method's: mka, redundancy, bi, angular, pairs, greedy-nll, greedy-kl,
    /// laco, tail, reverse, random or hand.
    #[arg(long)]
    selection: Option<Selection>,
    /// Operator that turns a span into one layer, if not the method's: average, match-experts, drop, laco, scale, replaceme,
    /// flatten, refit or pool-refit.
    #[arg(long)]
    operator: Option<Operator>,
    /// Most neighbouring layers that may become one, where layers are selected by similarity.
    #[arg(long = "longest-run", value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    longest_span: Option<usize>,
    /// Merge exactly these layers, in this order, each into the layer before it, such as 2,3,6.
    #[arg(long, value_name = "L,L", value_delimiter = ',', group = "goal", value_parser = whole)]
    #[arg(allow_negative_numbers = true)]
    absorb: Vec<usize>,
    /// Layers that take part in no merge, such as 3,11.
    #[arg(long, value_name = "L,L", value_delimiter = ',', value_parser = whole)]
    #[arg(allow_negative_numbers = true)]
    keep: Vec<usize>,
    /// Seed of random choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens on which a selection that searches tries each removal.
    #[arg(long, default_value_t = SEARCH_TOKENS, value_parser = whole, allow_negative_numbers = true)]
    search_tokens: usize,
    /// Number of layers that a selection that searches tries in each round but the first; if not given, ten
    /// for laminate-search and all otherwise.
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    candidates: Option<usize>,
    /// Number of experts to remove from each layer that has experts, besides layers or without.
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    remove_experts: Option<usize>,
    /// Choice of these experts: reap, frequency or random; reap if not given.
    #[arg(long, value_name = "RULE", requires = "remove_experts")]
    expert_selection: Option<ExpertSelection>,
    /// Weight of the first of two averaged layers: similarity, search or a number from 0 to 1; similarity if
    /// not given.
    #[arg(long, allow_negative_numbers = true)]
    alpha: Option<Alpha>,
    /// Memory that least squares may need beside the hidden states, such as 3GB: a span that would need more
    /// is refitted without pooling.
    #[arg(long, value_name = "SIZE")]
    fit_memory: Option<String>,
    /// Also fit the plan to each of these numbers of sequences, such as 12,24,48, to see whether more text
    /// would help.
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = whole)]
    #[arg(allow_negative_numbers = true)]
    pub calibration_sizes: Vec<usize>,
    /// Rank the pairs once instead of comparing again after each merge.
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
    /// Type of the result: keep, f32, f16, bf16, and in a .gguf file those of llama-quantize: q8_0, q6_k, q5_k_m, q5_k_s,
    /// q5_1, q5_0, q4_k_m, q4_k_s, iq4_nl, iq4_xs, q4_1, q4_0, q3_k_l, q3_k_m, q3_k_s, q2_k; also q5_k, q4_k, q3_k and
    /// mxfp4, where every matrix but the output head has the same type; in a directory int4, int8, which rounds what
    /// products read too (W8A8), or gptq-int4, which is int4 in the layout of GPTQ; int4-g128, int4-g64, int4-g32 and
    /// gptq-int4-g128 and its likes for groups of as many weights; keep if not given.
    #[arg(long)]
    dtype: Option<String>,
    /// How weights are rounded: nearest, gptq or awq for int4, nearest or smoothquant for int8; awq for int4, gptq for
    /// gptq-int4 and smoothquant for int8 if not given. In a .gguf file nearest or gptq, which is kept if the model is
    /// better with it on the evaluation text; nearest if not given.
    #[arg(long, value_name = "HOW")]
    rounding: Option<Rounding>,
    /// What is stored in the type of --dtype: all matrices, or only those computed because they were merged, scaled or
    /// fitted; all if not given.
    #[arg(long, value_name = "WHICH", requires = "dtype")]
    requantise: Option<Requantise>,
    #[command(flatten)]
    pub imatrix: ImatrixArgs,
    /// Write the importance matrix of the result, for llama-quantize, to this file; collected on the calibration text.
    #[arg(long, value_name = "FILE")]
    pub save_imatrix: Option<PathBuf>,
    /// Train the merged layers to give the original's next-word distribution for this time, such as 90s, 5m or 1h, on all of
    /// the calibration text.
    #[arg(long, value_name = "TIME", conflicts_with = "heal_tokens")]
    heal: Option<String>,
    /// The same for this number of tokens, text that is seen again included.
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    heal_tokens: Option<usize>,
    /// Largest rate of the training.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    heal_rate: Option<f64>,
    /// Most tensor data in a file, such as 5GB or 500MB; 5GB if not given.
    #[arg(long)]
    max_shard_size: Option<String>,
}

impl PlanArgs {
    /// Makes the options of a plan, for a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown method, for a ratio that is not between 0 and 1, and for a weight of averages
    /// with an operator that makes none.
    pub fn options(&self, n_layers: usize) -> Result<PlanOptions> {
        let method = Method::named(&self.method)?;
        let selection = self.selection.or((!self.absorb.is_empty()).then_some(Selection::Hand));
        let selection = selection.unwrap_or(method.selection);
        let operator = self.operator.unwrap_or(method.operator);
        // The same pair is the same method, however it was named.
        let method = match (selection, operator) == (method.selection, method.operator) {
            true => method,
            false => Method::pair(selection, operator),
        };
        if self.alpha.is_some() && !operator.averages() {
            return Err(Error::Usage(format!(
                "--alpha weighs layers that are averaged, and operator {operator} averages none; leave --alpha out, or \
                 give --method mka or --operator average"
            )));
        }
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
        let remove_experts = self.remove_experts.unwrap_or(0);
        // Whoever removes experts need not remove layers.
        let has_goal = remove.is_some() || self.min_similarity.is_some() || !self.absorb.is_empty();
        let remove = if remove_experts > 0 && !has_goal { Some(0) } else { remove };
        Ok(PlanOptions {
            remove,
            remove_experts,
            expert_selection: self.expert_selection.unwrap_or_default(),
            min_similarity: self.min_similarity,
            alpha: self.alpha.unwrap_or(options.alpha),
            one_shot: self.one_shot || options.one_shot,
            release_massive: self.release_massive,
            keep_first: self.keep_first,
            keep_last: self.keep_last,
            longest_span: self.longest_span.or(options.longest_span),
            locked: self.keep.clone(),
            absorb: self.absorb.clone(),
            search_tokens: self.search_tokens,
            candidates: self.candidates.or(options.candidates),
            ..options
        })
    }

    /// Returns the size in bytes that the file may have, if one is given, of a model of `parameters` weights.
    ///
    /// # Errors
    /// [`Error::Usage`] if the argument is neither a size nor a number of bits.
    pub fn target_size(&self, parameters: u64) -> Result<Option<u64>> {
        let Some(given) = &self.target_size else { return Ok(None) };
        let Some(bits) = given.trim().to_lowercase().strip_suffix("bpw").map(str::to_owned) else {
            return parse_size("--target-size", given).map(Some);
        };
        match bits.trim().parse::<f64>() {
            Ok(bits) if bits > 0.0 && bits <= 32.0 => Ok(Some((bits * parameters as f64 / 8.0) as u64)),
            _ => Err(Error::Usage(format!(
                "--target-size {given} is no number of bits from 0 to 32 for each weight, such as 4.5bpw"
            ))),
        }
    }

    /// Returns how the model is healed, if it is asked for here or in `recipe`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the argument is no time, or a rate is given for nothing.
    pub fn heal_options(&self, recipe: Option<&Recipe>) -> Result<Option<HealOptions>> {
        let usual = HealOptions { seed: self.seed, ..HealOptions::default() };
        let seconds = self.heal.as_deref().map(|time| parse_time("--heal", time)).transpose()?;
        let tokens = self.heal_tokens.map(|tokens| tokens as u64);
        let asked = match (seconds, tokens) {
            (None, None) => recipe.and_then(|recipe| recipe.heal.clone()),
            (seconds, tokens) => Some(HealOptions { seconds, tokens, ..usual }),
        };
        match (asked, self.heal_rate) {
            (None, Some(_)) => {
                Err(Error::Usage("--heal-rate needs --heal or --heal-tokens, which say how long".to_owned()))
            }
            (asked, rate) => Ok(asked.map(|asked| HealOptions { rate: rate.unwrap_or(asked.rate), ..asked })),
        }
    }

    /// Returns the memory in bytes that least squares may need beside the hidden states, if it is limited here
    /// or in `recipe`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the argument is not a size.
    pub fn fit_bytes(&self, recipe: Option<&Recipe>) -> Result<Option<u64>> {
        match &self.fit_memory {
            Some(size) => parse_size("--fit-memory", size).map(Some),
            None => Ok(recipe.and_then(|recipe| recipe.fit_bytes)),
        }
    }

    /// Checks that a plan of `operator` can be fitted to `--calibration-sizes`.
    ///
    /// # Errors
    /// [`Error::Usage`] if sizes are given and `operator` fits nothing, and for a size of which nothing could
    /// be held out.
    pub fn check_sizes(&self, operator: Operator) -> Result<()> {
        if !self.calibration_sizes.is_empty() && !operator.needs_activations() {
            return Err(Error::Usage(format!(
                "--calibration-sizes: operator {operator} is not fitted to text, so that more of it changes nothing; \
                 leave the sizes out, or choose an operator such as pool-refit"
            )));
        }
        match self.calibration_sizes.iter().find(|size| **size < FEWEST_FITTED) {
            Some(size) => Err(Error::Usage(format!(
                "--calibration-sizes: nothing can be fitted to {size} sequences; give at least {FEWEST_FITTED}"
            ))),
            None => Ok(()),
        }
    }

    /// Makes the options by which the result is stored; what is not given is as in `recipe`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown type, for an argument that is not a size, and for a directory that is
    /// named like a file.
    pub fn write_options(&self, recipe: Option<&Recipe>) -> Result<WriteOptions> {
        let usual = recipe.map_or_else(WriteOptions::default, |recipe| recipe.output.clone());
        let (dtype, pack) = match &self.dtype {
            Some(name) => output_type(name)?,
            None => (usual.dtype, usual.pack),
        };
        // What a recipe says of its own type says nothing of another.
        let usual_rounding = usual.rounding.filter(|_| pack == usual.pack && dtype == usual.dtype);
        let max_shard_bytes = match &self.max_shard_size {
            Some(size) => parse_size("--max-shard-size", size)?,
            None => usual.max_shard_bytes,
        };
        let is_gguf = self.writes_gguf();
        if let Some(ending) = ENDINGS_OF_FILES.into_iter().find(|ending| self.ends_in(ending)) {
            return Err(Error::Usage(format!(
                "--out {} would be a directory, although its name ends in .{ending}: give the name of a directory, or \
                 of a .gguf file",
                self.out.display()
            )));
        }
        let stem = self.out.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        Ok(WriteOptions {
            dtype,
            requantise: self.requantise.unwrap_or(usual.requantise),
            pack,
            rounding: self.rounding.or(usual_rounding),
            max_shard_bytes,
            container: Some(if is_gguf { Container::Gguf } else { Container::Safetensors }),
            name: stem.filter(|_| is_gguf),
            importances: self.imatrix.importances(usual.importances),
        })
    }

    /// Whether the result is a GGUF file and not a directory.
    pub fn writes_gguf(&self) -> bool {
        self.ends_in("gguf")
    }

    /// Whether the name of the result ends in `.` and `ending`, in letters of either case.
    fn ends_in(&self, ending: &str) -> bool {
        self.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
    }
}
