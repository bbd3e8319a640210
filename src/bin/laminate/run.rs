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
use laminate::protocol::compare::CompareReport;
use laminate::protocol::evaluate::{EvaluateReport, Sample};
use laminate::protocol::model::ModelReport;
use laminate::protocol::plan::{
    CalibrationPoint, CompressReport, ImatrixReport, PlanReport, Recipe, WriteReport, WrittenFile,
};
use laminate::protocol::similarity::SimilarityReport;
use laminate::protocol::sizing::SizeReport;
use laminate::{
    Accelerator, CalibrationOptions, Error, Model, Next, PartStore, PlanEstimate, PlanOptions, Result,
    RunOptions, Session, TextOptions, demo, evaluate,
};

use crate::args::{
    CalibrationArgs, Cli, Command, CompareArgs, GenerationArgs, PlanArgs, QuestionArgs, TextArgs,
};
use crate::logits::write_logits;
use crate::print;
use crate::signals;
use crate::table::{check_table, write_bytes, write_table};
use crate::usual::{self, Usual};
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
            let report = similarity(&model.model, &calibration).await?;
            print::report(output.json, &report, || print::similarity(&report))
        }
        Command::Compress { model, calibration, plan, output } => {
            let (report, target) = compress(&model.model, &calibration, &plan, given).await?;
            print::report(output.json, &report, || print::compress(&report, &target))
        }
        Command::Compare { model, calibration, compare: arguments, output } => {
            let report = compare(&model.model, &calibration, &arguments).await?;
            // The report is printed whatever becomes of the tables.
            let printed = print::report(output.json, &report, || print::comparison(&report));
            let csv = write_table(arguments.csv.as_deref(), || report.to_csv());
            let markdown = write_table(arguments.markdown.as_deref(), || report.to_markdown());
            printed.and(csv).and(markdown)
        }
        Command::Imatrix { model, out, text, output } => {
            let report = imatrix(&model.model, &out, &text).await?;
            print::report(output.json, &report, || print::imatrix(&report))
        }
        Command::Evaluate { model, against, logits, questions, generation, text, output } => {
            check_table(logits.as_deref())?;
            let asked = Asked { questions: &questions, generation: &generation, logits: logits.as_deref() };
            let report = judge(&model.model, against.as_deref(), &asked, &text).await?;
            print::report(output.json, &report, || print::evaluation(&report))
        }
    }
}

/// Compares the layers of a model.
async fn similarity(model: &str, arguments: &CalibrationArgs) -> Result<SimilarityReport> {
    let (mut session, usual) = session(model, &arguments.text).await?;
    let watch = Terminal::new();
    let options = arguments.options(usual.calibration.clone())?;
    let seconds = arguments.seconds(usual.is_demo, usual::MINUTES)?;
    let mut options = with_own_text(&session, &arguments.text, options, &watch).await?;
    let limited = limit(&session, &mut options, arguments, seconds, Next::Nothing).await?;
    foretell(&session, &options, limited, None, &watch).await?;
    let report = compare_layers(&mut session, &options, arguments, &watch).await?;
    watch.clear();
    Ok(report)
}

/// Collects the importance matrix of a model and writes it to the file `out`.
async fn imatrix(model: &str, out: &Path, arguments: &TextArgs) -> Result<ImatrixReport> {
    let start = Instant::now();
    let watch = Terminal::new();
    let (session, usual) = session(model, arguments).await?;
    let options = arguments.options(usual.calibration.text_options())?;
    check_table(Some(out))?;
    let options = match arguments.by_itself() {
        None => options,
        Some(seed) => {
            own_text(&Pass::original(session.model(), session.accelerator(), &watch), options, seed).await?
        }
    };
    let (bytes, text) = session.collect_imatrix(&options, &watch).await?;
    write_bytes(out, &bytes)?;
    watch.clear();
    Ok(ImatrixReport {
        model: session.model().name.clone(),
        text,
        file: WrittenFile { name: out.display().to_string(), bytes: bytes.len() as u64 },
        device: session.accelerator().report().clone(),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
    })
}

/// Compares methods on a model.
async fn compare(
    model: &str,
    calibration: &CalibrationArgs,
    arguments: &CompareArgs,
) -> Result<CompareReport> {
    let (mut session, usual) = session(model, &calibration.text).await?;
    let watch = Terminal::new();
    // All errors in the arguments are found before the first long stage.
    let calibrated = calibration.options(usual.calibration.clone())?;
    let seconds = calibration.seconds(usual.is_demo, usual::COMPARING_MINUTES)?;
    let options = arguments.options(usual.judging(&calibrated))?;
    session.check_compare(&options)?;
    arguments.imatrix.read(&mut session)?;
    check_table(arguments.csv.as_deref())?;
    check_table(arguments.markdown.as_deref())?;
    let mut calibrated = with_own_text(&session, &calibration.text, calibrated, &watch).await?;
    let limited = limit(&session, &mut calibrated, calibration, seconds, Next::Compare(&options)).await?;
    let needed = session.estimate_compare(&calibrated, &options).await?;
    foretell(&session, &calibrated, limited, Some((&needed, &options.evaluation)), &watch).await?;
    compare_layers(&mut session, &calibrated, calibration, &watch).await?;
    let report = session.compare(&options, &watch).await?;
    watch.clear();
    Ok(report)
}

/// What `evaluate` is asked for besides the quality on a text.
struct Asked<'a> {
    questions: &'a QuestionArgs,
    generation: &'a GenerationArgs,
    /// File for the logits of the text.
    logits: Option<&'a Path>,
}

/// Measures a model, alone or `against` another.
async fn judge(
    model: &str,
    against: Option<&str>,
    asked: &Asked<'_>,
    text: &TextArgs,
) -> Result<EvaluateReport> {
    let Asked { questions, generation, logits } = *asked;
    let start = Instant::now();
    let watch = Terminal::new();
    let accelerator = Accelerator::choose(text.device).await?;
    let (argument, model) = (model, open(model).await?);
    let options = text.options(Usual::of(argument, &model).evaluation)?;
    let options = match text.by_itself() {
        None => options,
        Some(seed) => own_text(&Pass::original(&model, &accelerator, &watch), options, seed).await?,
    };
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
    if let Some(path) = logits {
        write_logits(path, &own, &options).await?;
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
            let pass = Pass::original(session.model(), session.accelerator(), watch);
            let TextOptions { text, text_name, .. } = own_text(&pass, options.text_options(), seed).await?;
            Ok(CalibrationOptions { text, text_name, ..options })
        }
    }
}

async fn own_text(pass: &Pass<'_>, options: TextOptions, seed: u64) -> Result<TextOptions> {
    let TextOptions { samples, tokens, .. } = options;
    // More texts than sequences, because texts do not end where sequences do.
    let text = write_texts(pass, samples + samples / 8 + 1, tokens, seed).await?;
    let name = format!("text by {} itself, seed {seed}", pass.model.name);
    Ok(TextOptions { text: Some(text), text_name: Some(name), ..options })
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
    let (mut session, usual) = session(model, &calibration.text).await?;
    let watch = Terminal::new();
    // All errors in the arguments are found before the first long stage.
    let recipe = arguments.recipe.as_deref().map(read_recipe).transpose()?;
    let goal = goal(&session, arguments, recipe)?;
    let (recipe, operator) = match &goal {
        Goal::Repeat(recipe) => (Some(recipe.as_ref()), recipe.plan.operator),
        Goal::Plan(options) | Goal::Size(_, options) => (None, options.operator),
    };
    if let (Some(_), [first, ..]) = (recipe, given) {
        watch.note(&format!("note: the recipe says how to calibrate; --{first} and the like are not used"));
    }
    let output = arguments.write_options(recipe)?;
    session.check_output(&output).await?;
    arguments.imatrix.read(&mut session)?;
    if let Some(recipe) = recipe.filter(|_| output.importances) {
        recipe.check_imatrix(session.imatrix())?;
    }
    check_table(arguments.save_imatrix.as_deref())?;
    match &goal {
        Goal::Repeat(recipe) => session.check_plan(&recipe.plan, &output)?,
        Goal::Plan(options) => session.check_removal(options, &output)?,
        Goal::Size(size, options) => session.check_size(*size, options, &output).await?,
    }
    arguments.check_sizes(operator)?;
    let heal = arguments.heal_options(recipe)?;
    if let Some(bytes) = arguments.fit_bytes(recipe)? {
        session.limit_fits(bytes);
    }
    let mut options = calibration_options(calibration, arguments, &usual, recipe)?;
    let seconds = match recipe {
        None => calibration.seconds(usual.is_demo, usual::MINUTES)?,
        Some(_) => None,
    };
    let writes_itself = calibration.text.by_itself().is_some();
    if let Some(recipe) = recipe.filter(|_| !writes_itself) {
        recipe.check_text(&options.text_options())?;
    }
    let judged_on = recipe.and_then(|recipe| recipe.judged_on.as_ref());
    let judging = arguments.evaluation.options(usual.judging(&options), judged_on)?;
    session.judge_on(judging.clone());
    let target = match arguments.writes_gguf() {
        true => arguments.out.with_file_name(format!("{}.gguf", output.stem(session.model()))),
        false => arguments.out.clone(),
    };
    let check_texts = |session: &Session, options: &CalibrationOptions| {
        session.check_texts(options, operator, &output)?;
        heal.as_ref().map_or(Ok(()), |heal| session.check_heal(heal, options, &output))
    };
    if !writes_itself {
        check_texts(&session, &options)?;
    }
    let mut folder = match arguments.writes_gguf() {
        true => DirectoryFolder::beside(&target)?,
        false => DirectoryFolder::create(&target)?,
    };
    signals::clean_up(&folder);
    session.spill_to(Box::new(folder.scratch()?));
    if writes_itself {
        options = with_own_text(&session, &calibration.text, options, &watch).await?;
        if let Some(recipe) = recipe {
            recipe.check_text(&options.text_options())?;
        }
        check_texts(&session, &options)?;
    }
    let next = match &goal {
        Goal::Repeat(_) => None,
        Goal::Plan(plan) => Some((plan, Next::Plan(plan, &output))),
        Goal::Size(_, plan) => Some((plan, Next::Size(plan, &output))),
    };
    if let Some((plan, next)) = next {
        let limited = limit(&session, &mut options, calibration, seconds, next).await?;
        watch.note(&print::method(plan));
        let needed = match next {
            Next::Size(..) => session.estimate_size(&options, plan, &output).await?,
            _ => session.estimate_plan(&options, plan, &output).await?,
        };
        let judged = if session.is_fitted(operator, &output) { judging } else { options.text_options() };
        foretell(&session, &options, limited, Some((&needed, &judged)), &watch).await?;
    }
    compare_layers(&mut session, &options, calibration, &watch).await?;
    let run = RunOptions::watched_by(&watch).kept_in(store(calibration)?);
    let (mut planned, search) = match &goal {
        Goal::Repeat(recipe) => (session.measure(&recipe.plan, &output, run).await?, None),
        Goal::Plan(options) => (session.plan(options, &output, run).await?, None),
        Goal::Size(size, options) => {
            let SizeReport { search, plan, .. } = session.best_of_size(*size, options, &output, run).await?;
            (plan, Some(search))
        }
    };
    if let Some(heal) = &heal {
        planned = session.heal(&planned.plan, &planned.output, heal, &watch).await?;
    }
    let output = planned.output.clone();
    // The model comes first: what more is measured may fail.
    let written = session.write(&planned.plan, &output, &mut folder, &watch).await?;
    if let Some(path) = &arguments.save_imatrix {
        let bytes = session.imatrix_of(&planned.plan, &output, &watch).await;
        if let Err(e) = bytes.and_then(|bytes| write_bytes(path, &bytes)) {
            planned.warnings.push(format!("--save-imatrix could not be carried out: {e}."));
        }
    }
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
    let report = CompressReport { search, ..compress_report(planned, written, calibration_curve, start) };
    Ok((report, target))
}

/// What a compression is to do.
enum Goal {
    /// Carry out the plan of a recipe.
    Repeat(Box<Recipe>),
    /// Make a plan.
    Plan(PlanOptions),
    /// Find the best model of at most this many bytes.
    Size(u64, PlanOptions),
}

/// Returns what the arguments ask for, checked against the model.
fn goal(session: &Session, arguments: &PlanArgs, recipe: Option<Recipe>) -> Result<Goal> {
    let n_layers = session.model().config.n_layers;
    if let Some(recipe) = recipe {
        return Ok(Goal::Repeat(Box::new(recipe)));
    }
    let options = arguments.options(n_layers)?;
    session.check_experts(options.remove_experts)?;
    if let Some(size) = arguments.target_size(session.model().total_parameters())? {
        return Ok(Goal::Size(size, options));
    }
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
        experts: planned.experts,
        collapsed: planned.merged.collapsed,
        parameters: planned.parameters,
        bytes: written.bytes,
        files: written.files,
        search: None,
        healed: planned.healed,
        calibration_curve,
        warnings: planned.warnings,
        device: planned.device,
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
    }
}

/// Lowers the number of sequences of `options`, or chooses the number if `--minutes` is given, so that comparing layers
/// and the stage `next` take at most `seconds`. Returns `seconds` if they decided the number.
async fn limit(
    session: &Session,
    options: &mut CalibrationOptions,
    arguments: &CalibrationArgs,
    seconds: Option<f64>,
    next: Next<'_>,
) -> Result<Option<f64>> {
    let Some(seconds) = seconds else { return Ok(None) };
    let within = session.sequences_within(seconds, options, next).await?;
    let most = arguments.most_sequences(options.samples);
    options.samples = within.min(most);
    Ok((within < most).then_some(seconds))
}

/// Notes what a run uses and its estimated cost, before the run begins: the text to calibrate on, the time `limited`
/// if it decided how much of the text is used, and the cost of the stages after the similarity stage with the text
/// that they judge on.
async fn foretell(
    session: &Session,
    calibration: &CalibrationOptions,
    limited: Option<f64>,
    after: Option<(&PlanEstimate, &TextOptions)>,
    watch: &Terminal,
) -> Result<()> {
    let similarity = session.estimate(calibration).await?;
    watch.note(&print::text("calibrating on", &calibration.text_options(), similarity.sequences, limited));
    if let Some((_, judged)) = after {
        watch.note(&print::text("judging on", judged, judged.samples, None));
    }
    watch.note(&print::estimate(&similarity, after.map(|(needed, _)| needed)));
    Ok(())
}

/// Returns the calibration options of the recipe, or those of the arguments without a recipe. The text of a recipe comes
/// from the arguments, because a recipe does not hold it, unless the text is built in.
///
/// # Errors
/// [`Error::Source`] for a text that cannot be read, [`Error::Usage`] if it would be read twice from standard
/// input.
fn calibration_options(
    arguments: &CalibrationArgs,
    plan: &PlanArgs,
    usual: &Usual,
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
    let given = arguments.options(usual.calibration.clone())?;
    Ok(match recipe {
        None => given,
        // The recipe of a run on stories, whatever the model.
        Some(Recipe { calibration, .. })
            if arguments.text.text.is_none() && calibration.text_name != usual.calibration.text_name =>
        {
            CalibrationOptions { text_name: None, ..calibration.clone() }
        }
        Some(Recipe { calibration, .. }) => {
            CalibrationOptions { text: given.text, text_name: given.text_name, ..calibration.clone() }
        }
    })
}

/// Runs the similarity stage, and keeps its layers in the directory `--checkpoint` if the arguments name one.
async fn compare_layers(
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

/// Opens a model and a device, and returns what is usual for the model.
async fn session(argument: &str, text: &TextArgs) -> Result<(Session, Usual)> {
    let model = open(argument).await?;
    let usual = Usual::of(argument, &model);
    let accelerator = Accelerator::choose(text.device).await?;
    Ok((Session::new(model, accelerator), usual))
}

async fn open(model: &str) -> Result<Model> {
    if model == demo::NAME {
        return demo::open().await;
    }
    let path = Path::new(model);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or(model);
    Model::open(name, &open_path(path)?).await
}
