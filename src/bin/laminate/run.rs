//! The commands: arguments in, report or exit code out.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
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
    Accelerator, CalibrationOptions, Error, Model, PartStore, PlanEstimate, Result, RunOptions, Session,
    demo, evaluate,
};

use crate::args::{CalibrationArgs, Cli, Command, GenerationArgs, PlanArgs, QuestionArgs, TextArgs};
use crate::print;
use crate::watch::Terminal;

/// Parses the arguments, runs the command and turns an error into one line and an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match futures::executor::block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("laminate: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<()> {
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
            let report = compress(&model.model, &calibration, &plan).await?;
            print::report(output.json, &report, || print::compress(&report, &plan.out))
        }
        Command::Compare { model, calibration, compare, output } => {
            let mut session = session(&model.model, &calibration.text).await?;
            let watch = Terminal::new();
            let options = compare.options(calibration.text.tokens)?;
            let calibrated =
                with_own_text(&session, &calibration.text, calibration.options()?, &watch).await?;
            let needed = session.estimate_compare(&calibrated, &options).await?;
            foretell(&session, &calibrated, &needed, &watch).await?;
            similarity(&mut session, &calibrated, &calibration, &watch).await?;
            let report = session.compare(&options, &watch).await?;
            watch.clear();
            write_table(compare.csv.as_deref(), || report.to_csv())?;
            write_table(compare.markdown.as_deref(), || report.to_markdown())?;
            print::report(output.json, &report, || print::comparison(&report))
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

fn write_table(path: Option<&Path>, table: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, table())
        .map_err(|e| Error::Source(format!("{}: {e}; choose another place for the table", path.display())))
}

async fn compress(
    model: &str,
    calibration: &CalibrationArgs,
    arguments: &PlanArgs,
) -> Result<CompressReport> {
    let start = Instant::now();
    let mut session = session(model, &calibration.text).await?;
    let output = arguments.write_options()?;
    let recipe = arguments.recipe.as_deref().map(read_recipe).transpose()?;
    // All errors in the arguments are found before the first long stage.
    let options = match &recipe {
        Some(_) => None,
        None => {
            let options = arguments.options(session.model().config.n_layers)?;
            options.clone().check(session.model().config.n_layers, &[])?;
            Some(options)
        }
    };
    let options_used = calibration_options(calibration, recipe.as_ref())?;
    let mut folder = match arguments.writes_gguf() {
        true => DirectoryFolder::beside(&arguments.out)?,
        false => DirectoryFolder::create(&arguments.out)?,
    };
    if let Some(bytes) = arguments.fit_bytes()? {
        session.limit_fits(bytes);
    }
    let seconds = arguments.seconds()?;
    if seconds.is_some() && calibration.text.by_itself().is_some() {
        return Err(Error::Usage(
            "--minutes needs a text that is there already; give --text a file".to_owned(),
        ));
    }
    let watch = Terminal::new();
    let mut options_used = with_own_text(&session, &calibration.text, options_used, &watch).await?;
    session.judge_on(arguments.evaluation.options(options_used.tokens)?);
    if let Some(plan) = &options {
        if let Some(seconds) = seconds {
            options_used.samples = session.sequences_within(seconds, &options_used, plan).await?;
        }
        let needed = session.estimate_plan(&options_used, plan).await?;
        foretell(&session, &options_used, &needed, &watch).await?;
    }
    similarity(&mut session, &options_used, calibration, &watch).await?;
    let run = RunOptions::watched_by(&watch).kept_in(store(calibration)?);
    let planned = match (recipe, options) {
        (Some(recipe), _) => session.measure(&recipe.plan, &output, run).await?,
        (None, Some(options)) => session.plan(&options, &output, run).await?,
        (None, None) => return Err(Error::Usage("say how many layers to remove".to_owned())),
    };
    let calibration_curve = match arguments.calibration_sizes.as_slice() {
        [] => Vec::new(),
        sizes => session.calibration_curve(&planned.plan, sizes, &output, &watch).await?,
    };
    let written = session.write(&planned.plan, &output, &mut folder, &watch).await?;
    watch.clear();
    Ok(compress_report(planned, written, calibration_curve, start))
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
fn calibration_options(arguments: &CalibrationArgs, recipe: Option<&Recipe>) -> Result<CalibrationOptions> {
    let given = arguments.options()?;
    Ok(match recipe {
        None => given,
        Some(recipe) => CalibrationOptions { text: given.text, ..recipe.calibration.clone() },
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
