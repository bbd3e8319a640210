//! The commands: arguments in, report or exit code out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use laminate::files::parts::DirectoryParts;
use laminate::files::sink::DirectoryFolder;
use laminate::files::source::{SharedSource, open_ending, open_path};
use laminate::internals::evaluate::generate::greedy::generate;
use laminate::internals::evaluate::generate::own_text::write_texts;
use laminate::internals::evaluate::questions::ask::{ask, read_subjects};
use laminate::internals::evaluate::questions::reading::Readings;
use laminate::internals::forward::pass::Pass;
use laminate::internals::memory;
use laminate::protocol::evaluate::{EvaluateReport, Sample};
use laminate::protocol::model::ModelReport;
use laminate::protocol::plan::{CalibrationPoint, CompressReport, PlanReport, Recipe, WriteReport};
use laminate::protocol::similarity::SimilarityReport;
use laminate::{
    Accelerator, CalibrationOptions, Error, Model, PartStore, PlanEstimate, PlanOptions, Result, RunOptions,
    Session, demo, evaluate,
};

use crate::args::{CalibrationArgs, Cli, Command, GenerationArgs, PlanArgs, QuestionArgs, TextArgs};
use crate::print;
use crate::signals;
use crate::table::{check_table, write_table};
use crate::watch::{Terminal, say};

/// Arguments of the calibration, which a recipe brings along.
const OF_A_CALIBRATION: [&str; 11] = [
    "samples",
    "tokens",
    "draw",
    "points",
    "metric",
    "dims",
    "time",
    "density",
    "normalise",
    "bandwidth",
    "neighbours",
];

/// Parses the arguments, runs the command and turns an error into one line and an exit code.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match futures::executor::block_on(run(cli.command, &given(&matches))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("laminate: {e}\n"));
            ExitCode::from(e.exit_code())
        }
    }
}

/// Lists the arguments of the calibration that the user gave.
fn given(matches: &ArgMatches) -> Vec<&'static str> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let of_user = |name: &&str| {
        matches!(matches.try_contains_id(name), Ok(true))
            && matches.value_source(name) == Some(ValueSource::CommandLine)
    };
    OF_A_CALIBRATION.into_iter().filter(of_user).collect()
}

/// Runs a command, for which the user gave the arguments `given` of the calibration.
async fn run(command: Command, given: &[&str]) -> Result<()> {
    match command {
        Command::Inspect { model, output } => {
            let report = ModelReport::new(&open(&model.model).await?);
            print::report(output.json, &report, || print::model(&report))
        }
        Command::Similarity { model, calibration, output } => {
            let mut session = session(&model.model, &calibration.text).await?;
            let watch = Terminal::new();
            let options = with_own_text(&session, &calibration.text, calibration.options()?, &watch).await?;
            let report = similarity(&mut session, &options, &calibration, &watch).await?;
            watch.clear();
            print::report(output.json, &report, || print::similarity(&report))
        }
        Command::Compress { model, calibration, plan, output } => {
            let (report, target) = compress(&model.model, &calibration, &plan, given).await?;
            print::report(output.json, &report, || print::compress(&report, &target))
        }
        Command::Compare { model, calibration, compare, output } => {
            let mut session = session(&model.model, &calibration.text).await?;
            let watch = Terminal::new();
            // All errors in the arguments are found before the first long stage.
            let options = compare.options(calibration.text.tokens)?;
            session.check_compare(&options)?;
            let calibrated = calibration.options()?;
            check_table(compare.csv.as_deref())?;
            check_table(compare.markdown.as_deref())?;
            let calibrated = with_own_text(&session, &calibration.text, calibrated, &watch).await?;
            let needed = session.estimate_compare(&calibrated, &options).await?;
            foretell(&session, &calibrated, &needed, &watch).await?;
            similarity(&mut session, &calibrated, &calibration, &watch).await?;
            let report = session.compare(&options, &watch).await?;
            watch.clear();
            // The report is printed whatever becomes of the tables.
            let printed = print::report(output.json, &report, || print::comparison(&report));
            let csv = write_table(compare.csv.as_deref(), || report.to_csv());
            let markdown = write_table(compare.markdown.as_deref(), || report.to_markdown());
            printed.and(csv).and(markdown)
        }
        Command::Evaluate { model, against, questions, generation, text, output } => {
            let report = judge(&model.model, against.as_deref(), &questions, &generation, &text).await?;
            print::report(output.json, &report, || print::evaluation(&report))
        }
    }
}

async fn judge(
    model: &str,
    against: Option<&str>,
    questions: &QuestionArgs,
    generation: &GenerationArgs,
    text: &TextArgs,
) -> Result<EvaluateReport> {
    let start = Instant::now();
    let watch = Terminal::new();
    let options = text.options()?;
    let accelerator = Accelerator::choose(text.device).await?;
    let model = open(model).await?;
    let options = match text.by_itself() {
        None => options,
        Some(seed) => own_text(&Pass::original(&model, &accelerator, &watch), options, seed).await?,
    };
    let options = options.text_options();
    let original = match against {
        Some(path) => Some(open(path).await?),
        None => None,
    };
    // Errors in the questions are found before the first long stage.
    let readings = match &questions.mmlu {
        Some(folder) => {
            let subjects = read_subjects(&question_files(folder, questions)?, &questions.options()).await?;
            Some(Readings::new(&model, original.as_ref(), &accelerator, &subjects, &questions.options())?)
        }
        None => None,
    };
    let mut report = evaluate(&model, original.as_ref(), &accelerator, &options, &watch).await?;
    let own = Pass::original(&model, &accelerator, &watch);
    let original = original.as_ref().map(|original| Pass::original(original, &accelerator, &watch));
    if let Some(readings) = &readings {
        report.mmlu = Some(ask(&own, readings).await?);
        if let Some(original) = &original {
            report.original_mmlu = Some(ask(original, readings).await?);
        }
    }
    if !generation.generate.is_empty() {
        report.samples = samples(&own, original.as_ref(), generation).await?;
    }
    watch.clear();
    report.seconds = start.elapsed().as_secs_f64();
    report.peak_memory_bytes = memory::peak_bytes().unwrap_or(0);
    Ok(report)
}

/// Returns `options` with a text that the model of `session` writes, if the arguments ask for one.
async fn with_own_text(
    session: &Session,
    arguments: &TextArgs,
    options: CalibrationOptions,
    watch: &Terminal,
) -> Result<CalibrationOptions> {
    match arguments.by_itself() {
        None => Ok(options),
        Some(seed) => {
            own_text(&Pass::original(session.model(), session.accelerator(), watch), options, seed).await
        }
    }
}

async fn own_text(pass: &Pass<'_>, options: CalibrationOptions, seed: u64) -> Result<CalibrationOptions> {
    let CalibrationOptions { samples, tokens, .. } = options;
    // More texts than sequences, because texts do not end where sequences do.
    let text = write_texts(pass, samples + samples / 8 + 1, tokens, seed).await?;
    let name = format!("text by {} itself, seed {seed}", pass.model.name);
    Ok(CalibrationOptions { text: Some(text), text_name: Some(name), ..options })
}

/// Opens the question files in the directory test of `folder` and, if examples are wanted, in its directory
/// dev.
fn question_files(folder: &Path, questions: &QuestionArgs) -> Result<Vec<SharedSource>> {
    let mut files = open_ending(&folder.join("test"), "_test.csv")?;
    if questions.options().few_shot > 0 {
        files.extend(open_ending(&folder.join("dev"), "_dev.csv")?);
    }
    Ok(files)
}

async fn samples(
    own: &Pass<'_>,
    original: Option<&Pass<'_>>,
    generation: &GenerationArgs,
) -> Result<Vec<Sample>> {
    let GenerationArgs { generate: prompts, new_tokens } = generation;
    let texts = generate(own, prompts, *new_tokens).await?;
    let mut originals = vec![None; texts.len()];
    if let Some(original) = original {
        originals = generate(original, prompts, *new_tokens).await?.into_iter().map(Some).collect();
    }
    let sample = |((prompt, model), original): ((&String, String), Option<String>)| Sample {
        prompt: prompt.clone(),
        original,
        model,
    };
    Ok(prompts.iter().zip(texts).zip(originals).map(sample).collect())
}

/// Compresses a model; returns the report and the path of the directory or file that was written.
async fn compress(
    model: &str,
    calibration: &CalibrationArgs,
    arguments: &PlanArgs,
    given: &[&str],
) -> Result<(CompressReport, PathBuf)> {
    let start = Instant::now();
    let mut session = session(model, &calibration.text).await?;
    let watch = Terminal::new();
    // All errors in the arguments are found before the first long stage.
    let recipe = arguments.recipe.as_deref().map(read_recipe).transpose()?;
    let goal = goal(&session, arguments, recipe)?;
    let (recipe, operator) = match &goal {
        Goal::Repeat(recipe) => (Some(recipe.as_ref()), recipe.plan.operator),
        Goal::Plan(options) => (None, options.operator),
    };
    if let (Some(_), [first, ..]) = (recipe, given) {
        watch.note(&format!("note: the recipe says how to calibrate; --{first} and the like are not used"));
    }
    let output = arguments.write_options(recipe)?;
    session.check_output(&output).await?;
    arguments.check_sizes(operator)?;
    if let Some(bytes) = arguments.fit_bytes(recipe)? {
        session.limit_fits(bytes);
    }
    let seconds = arguments.seconds()?;
    if seconds.is_some() && calibration.text.by_itself().is_some() {
        return Err(Error::Usage(
            "--minutes needs a text that is there already; give --text a file".to_owned(),
        ));
    }
    let mut options = calibration_options(calibration, arguments, recipe)?;
    let writes_itself = calibration.text.by_itself().is_some();
    if let Some(recipe) = recipe.filter(|_| !writes_itself) {
        recipe.check_text(&options.text_options())?;
    }
    let judged_on = recipe.and_then(|recipe| recipe.judged_on.as_ref());
    session.judge_on(arguments.evaluation.options(options.tokens, judged_on)?);
    let target = match arguments.writes_gguf() {
        true => arguments.out.with_file_name(format!("{}.gguf", output.stem(session.model()))),
        false => arguments.out.clone(),
    };
    if !writes_itself {
        session.check_texts(&options, operator)?;
    }
    let mut folder = match arguments.writes_gguf() {
        true => DirectoryFolder::beside(&target)?,
        false => DirectoryFolder::create(&target)?,
    };
    signals::clean_up(&folder);
    if writes_itself {
        options = with_own_text(&session, &calibration.text, options, &watch).await?;
        if let Some(recipe) = recipe {
            recipe.check_text(&options.text_options())?;
        }
        session.check_texts(&options, operator)?;
    }
    if let Goal::Plan(plan) = &goal {
        if let Some(seconds) = seconds {
            options.samples = session.sequences_within(seconds, &options, plan).await?;
        }
        let needed = session.estimate_plan(&options, plan).await?;
        foretell(&session, &options, &needed, &watch).await?;
    }
    similarity(&mut session, &options, calibration, &watch).await?;
    let run = RunOptions::watched_by(&watch).kept_in(store(calibration)?);
    let mut planned = match &goal {
        Goal::Repeat(recipe) => session.measure(&recipe.plan, &output, run).await?,
        Goal::Plan(options) => session.plan(options, &output, run).await?,
    };
    // The model comes first: what more is measured may fail.
    let written = session.write(&planned.plan, &output, &mut folder, &watch).await?;
    let calibration_curve = match arguments.calibration_sizes.as_slice() {
        [] => Vec::new(),
        sizes => match session.calibration_curve(&planned.plan, sizes, &output, &watch).await {
            Ok(points) => points,
            Err(e) => {
                planned.warnings.push(format!("--calibration-sizes could not be measured: {e}."));
                Vec::new()
            }
        },
    };
    watch.clear();
    Ok((compress_report(planned, written, calibration_curve, start), target))
}

/// What a compression is to do.
enum Goal {
    /// Carry out the plan of a recipe.
    Repeat(Box<Recipe>),
    /// Make a plan.
    Plan(PlanOptions),
}

/// Returns what the arguments ask for, checked against the model.
fn goal(session: &Session, arguments: &PlanArgs, recipe: Option<Recipe>) -> Result<Goal> {
    let n_layers = session.model().config.n_layers;
    if let Some(recipe) = recipe {
        recipe.plan.validate_for(n_layers)?;
        return Ok(Goal::Repeat(Box::new(recipe)));
    }
    let options = arguments.options(n_layers)?;
    options.clone().check(n_layers, &[])?;
    Ok(Goal::Plan(options))
}

/// Puts the report of a compression together from those of its stages.
fn compress_report(
    planned: PlanReport,
    written: WriteReport,
    calibration_curve: Vec<CalibrationPoint>,
    start: Instant,
) -> CompressReport {
    CompressReport {
        recipe: written.recipe,
        groups: planned.plan.groups,
        steps: planned.plan.steps,
        text: planned.text,
        original: planned.original,
        merged: planned.merged,
        dropped: planned.dropped,
        collapsed: planned.merged.collapsed,
        parameters: planned.parameters,
        bytes: written.bytes,
        files: written.files,
        calibration_curve,
        warnings: planned.warnings,
        device: planned.device,
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
    }
}

/// Notes the estimated cost of a run before it begins: of the similarity stage, and of the stages `after` it.
async fn foretell(
    session: &Session,
    calibration: &CalibrationOptions,
    after: &PlanEstimate,
    watch: &Terminal,
) -> Result<()> {
    watch.note(&print::estimate(&session.estimate(calibration).await?, after));
    Ok(())
}

/// Returns the calibration options of the recipe, or those of the arguments without a recipe. The text always
/// comes from the arguments, because a recipe does not hold it.
///
/// # Errors
/// [`Error::Source`] for a text that cannot be read, [`Error::Usage`] if it would be read twice from standard
/// input.
fn calibration_options(
    arguments: &CalibrationArgs,
    plan: &PlanArgs,
    recipe: Option<&Recipe>,
) -> Result<CalibrationOptions> {
    let standard_input = Some(Path::new("-"));
    if arguments.text.text.as_deref() == standard_input
        && plan.evaluation.eval_text.as_deref() == standard_input
    {
        return Err(Error::Usage(
            "--text and --eval-text cannot both be standard input; give one of them a file".to_owned(),
        ));
    }
    let given = arguments.options()?;
    Ok(match recipe {
        None => given,
        Some(recipe) => {
            CalibrationOptions { text: given.text, text_name: given.text_name, ..recipe.calibration.clone() }
        }
    })
}

/// Runs the similarity stage, and keeps its layers in the directory `--checkpoint` if the arguments name one.
async fn similarity(
    session: &mut Session,
    options: &CalibrationOptions,
    arguments: &CalibrationArgs,
    watch: &Terminal,
) -> Result<SimilarityReport> {
    session.similarity(options, RunOptions::watched_by(watch).kept_in(store(arguments)?)).await
}

/// Opens the directory `--checkpoint`, if the arguments name one.
fn store(arguments: &CalibrationArgs) -> Result<Option<Box<dyn PartStore>>> {
    Ok(match &arguments.checkpoint {
        Some(directory) => Some(Box::new(DirectoryParts::open(directory)?)),
        None => None,
    })
}

fn read_recipe(path: &Path) -> Result<Recipe> {
    let json = std::fs::read(path).map_err(|e| Error::Source(format!("{}: {e}", path.display())))?;
    serde_json::from_slice(&json)
        .map_err(|e| Error::Format(format!("{}: not a recipe ({e})", path.display())))
}

async fn session(model: &str, text: &TextArgs) -> Result<Session> {
    let model = open(model).await?;
    let accelerator = Accelerator::choose(text.device).await?;
    Ok(Session::new(model, accelerator))
}

async fn open(model: &str) -> Result<Model> {
    if model == demo::NAME {
        return demo::open().await;
    }
    let path = Path::new(model);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or(model);
    Model::open(name, &open_path(path)?).await
}
