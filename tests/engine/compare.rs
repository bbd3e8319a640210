//! Methods side by side, and what operators that look at activations write.

use std::cell::{Cell, RefCell};

use futures::future::LocalBoxFuture;
use laminate::format::Container;
use laminate::plan::{METHODS, Operator, Selection};
use laminate::protocol::compare::{CompareReport, CompareRow};
use laminate::protocol::plan::CalibrationPoint;
use laminate::{
    CalibrationOptions, CompareOptions, Error, Event, FileType, Method, Observer, PlanOptions, Result,
    RunOptions, Session, Silent, TextOptions, WriteOptions, evaluate,
};

use crate::common::{MemoryFolder, MemoryParts, cpu, open, open_files, run, session};

const PLANTED: &str = "stories-planted-12L";

/// The session of a model whose layers were compared on few sequences.
fn calibrated(model: &str) -> Session {
    let mut session = session(model);
    let options = CalibrationOptions { samples: 40, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&options, &Silent)).unwrap();
    session
}

fn options(methods: &[&str], remove: &[usize]) -> CompareOptions {
    CompareOptions {
        methods: methods.iter().map(ToString::to_string).collect(),
        remove: remove.to_vec(),
        evaluation: TextOptions { samples: 16, tokens: 32, ..TextOptions::default() },
        ..CompareOptions::default()
    }
}

fn compare(session: &Session, options: &CompareOptions) -> CompareReport {
    run(session.compare(options, &Silent)).unwrap()
}

fn kl(row: &CompareRow) -> f64 {
    row.quality.unwrap().kl.unwrap()
}

/// The compared rows without times.
fn rows(report: &CompareReport) -> Vec<CompareRow> {
    let mut rows = report.rows.clone();
    rows.iter_mut().for_each(|row| row.seconds = 0.0);
    rows
}

#[test]
fn the_original_runs_once_on_each_evaluation_text() {
    let session = calibrated(PLANTED);
    let uploads = |options: &CompareOptions| {
        let before = session.accelerator().tally().uploads();
        let report = compare(&session, options);
        (rows(&report), session.accelerator().tally().uploads() - before)
    };
    let asked = options(&["shortgpt"], &[3]);
    let other = CompareOptions {
        evaluation: TextOptions { samples: 17, ..asked.evaluation.clone() },
        ..asked.clone()
    };
    let (first, with_original) = uploads(&asked);
    let (again, without) = uploads(&asked);
    assert_eq!(first, again);
    assert_eq!(with_original - without, 12, "one upload for each layer of the original");
    assert_eq!(uploads(&other).1, with_original, "another text");
    assert_eq!(uploads(&asked), (first, with_original), "the text before the last");
}

#[test]
fn a_store_saves_what_one_method_searched_and_fitted_for_other_numbers_of_layers() {
    let session = calibrated(PLANTED);
    let store = MemoryParts::default();
    let stored = |remove: usize| {
        let before = session.accelerator().tally().uploads();
        let kept = RunOptions::watched_by(&Silent).kept_in(Some(Box::new(store.clone())));
        let report = run(session.compare(&options(&["laminate"], &[remove]), kept)).unwrap();
        (rows(&report), session.accelerator().tally().uploads() - before)
    };
    let afresh = |remove: usize| rows(&compare(&calibrated(PLANTED), &options(&["laminate"], &[remove])));
    let (two, first) = stored(2);
    let (four, _) = stored(4);
    assert_eq!((two.clone(), four), (afresh(2), afresh(4)));
    let (again, second) = stored(2);
    assert_eq!(two, again);
    assert!(second < first, "{second} uploads after {first}");
}

#[test]
fn every_method_with_a_name_is_measured_in_the_order_asked_for() {
    let session = calibrated(PLANTED);
    let names: Vec<&str> = METHODS.iter().map(|method| &*method.name).collect();
    let report = compare(&session, &options(&names, &[2, 4]));
    let rows: Vec<(&str, usize)> = report.rows.iter().map(|row| (&*row.method, row.removed)).collect();
    let asked: Vec<(&str, usize)> = names.iter().flat_map(|name| [(*name, 2), (*name, 4)]).collect();
    assert_eq!(rows, asked);
    for row in &report.rows {
        assert_eq!(row.error, None, "{} {}", row.method, row.removed);
        assert_eq!(row.layers, row.groups.len());
        assert!(row.bytes < report.bytes && row.parameters < report.parameters, "{}", row.method);
    }
    let of = |name: &str| report.rows.iter().rfind(|row| row.method == name).map(kl).unwrap();
    // The planted layers do nothing: who finds them loses nothing, and whoever cuts the end loses all.
    for found in ["mka", "shortgpt", "greedy-kl", "prunecomp", "laminate", "laminate-search"] {
        assert!(of(found) < 0.1, "{found}: {}", of(found));
    }
    assert!(of("mka-code") > 0.5 && of("random") > 0.5);
    assert!(of("laminate") <= of("mka"), "a fit is no better than an average");
    assert!(!report.cancelled && report.overlap < 0.01);
    assert_ne!(report.calibration.name, report.evaluation.name);
}

#[test]
fn a_refit_of_the_planted_groups_is_at_least_as_good_as_their_average() {
    let report = compare(&calibrated(PLANTED), &options(&["mka", "mka+refit", "mka+pool-refit"], &[7]));
    let [average, refit, pooled] = [0, 1, 2].map(|i| kl(&report.rows[i]));
    assert!(refit <= average && pooled <= average, "{average} {refit} {pooled}");
}

#[test]
fn fewer_layers_of_a_search_are_the_first_of_more() {
    let session = calibrated(PLANTED);
    let alone = compare(&session, &options(&["sleb"], &[2]));
    let both = compare(&session, &options(&["sleb"], &[2, 4]));
    assert_eq!(alone.rows[0].groups, both.rows[0].groups);
    assert_eq!(alone.rows[0].quality, both.rows[0].quality);
}

#[test]
fn a_comparison_says_what_it_cannot_do_before_it_begins() {
    // Before the similarity stage, so that nothing has run.
    let session = session(PLANTED);
    let q4_0 = WriteOptions { dtype: Some("q4_0".parse().unwrap()), ..WriteOptions::default() };
    let text = |samples, tokens| TextOptions { samples, tokens, ..TextOptions::default() };
    for (asked, says) in [
        (CompareOptions { output: q4_0.clone(), ..options(&["mka"], &[2]) }, "q4_0 is for GGUF files"),
        (options(&["mka"], &[12]), "cannot remove 12 of 12"),
        (options(&["magic"], &[1]), "magic"),
        (CompareOptions { evaluation: text(0, 32), ..options(&["mka"], &[1]) }, "at least 1"),
        (CompareOptions { evaluation: text(16, 1), ..options(&["mka"], &[1]) }, "sequences of 1 tokens"),
    ] {
        let error = session.check_compare(&asked).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(says), "{error}");
    }
    let asked = CompareOptions { output: q4_0, ..options(&["shortgpt"], &[2]) };
    let refused = run(calibrated(PLANTED).compare(&asked, &Silent)).unwrap_err();
    assert!(refused.to_string().contains("q4_0 is for GGUF files"), "{refused}");
    // In a GGUF file the type is the one that is measured: 18 bytes for 32 weights instead of 128.
    let as_gguf =
        CompareOptions { output: WriteOptions { container: Some(Container::Gguf), ..asked.output }, ..asked };
    let report = compare(&calibrated(PLANTED), &as_gguf);
    assert!(report.rows[0].bytes * 3 < report.bytes, "{} {}", report.rows[0].bytes, report.bytes);
}

#[test]
fn a_text_that_was_calibrated_on_is_said_and_judges_no_fit() {
    let mut session = calibrated(PLANTED);
    let evaluation = TextOptions {
        text: Some(laminate::demo::TEXT.to_owned()),
        text_name: Some("the same".to_owned()),
        ..options(&[], &[]).evaluation
    };
    let asked = CompareOptions { evaluation: evaluation.clone(), ..options(&["shortgpt", "laminate"], &[1]) };
    let report = compare(&session, &asked);
    assert_eq!(report.rows[0].error, None);
    let refused = "100.0 % of the same was seen in calibration";
    assert!(report.rows[1].error.as_ref().unwrap().contains(refused), "{:?}", report.rows[1].error);

    session.judge_on(evaluation);
    let plan = PlanOptions { remove: Some(1), ..PlanOptions::default() };
    let fit = PlanOptions { operator: Operator::Refit, ..plan.clone() };
    let error = run(session.plan(&fit, &WriteOptions::default(), &Silent)).unwrap_err();
    assert!(error.to_string().contains(refused), "{error}");
    run(session.plan(&plan, &WriteOptions::default(), &Silent)).unwrap();
    assert!(report.overlap > 0.99, "{}", report.overlap);
    assert!(report.warnings[0].contains("100.0 % of the evaluation text was seen"), "{:?}", report.warnings);
}

/// Stops after so many rows.
struct StopAfter(Cell<usize>);

impl Observer for StopAfter {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        if let Event::Row(_) = event {
            self.0.set(self.0.get().saturating_sub(1));
        }
        let stop = self.0.get() == 0 && !matches!(event, Event::Row(_));
        Box::pin(std::future::ready(if stop { Err(Error::Cancelled) } else { Ok(()) }))
    }
}

#[test]
fn a_stop_keeps_the_rows_that_are_done() {
    let session = calibrated(PLANTED);
    let options = options(&["shortgpt", "mka-code", "laminate"], &[2]);
    let report = run(session.compare(&options, &StopAfter(Cell::new(2)))).unwrap();
    assert!(report.cancelled);
    assert_eq!(report.rows.iter().map(|row| &*row.method).collect::<Vec<_>>(), ["shortgpt", "mka-code"]);
}

#[test]
fn a_method_that_cannot_do_it_is_a_row_and_bad_options_are_an_error() {
    let session = calibrated("stories260K");
    let report = compare(&session, &options(&["flatten", "shortgpt"], &[4]));
    assert!(report.rows[0].warnings[0].contains("of 4 layers"), "{:?}", report.rows[0]);
    assert_eq!(report.rows[1].layers, 1);
    for (methods, remove, says) in [
        (vec!["magic"], 1, "magic"),
        (vec!["bi+magic"], 1, "operator"),
        (vec!["mka"], 5, "5 of 5"),
        (vec![], 1, "name"),
    ] {
        let error = run(session.compare(&options(&methods, &[remove]), &Silent)).unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if text.contains(says)), "{error}");
    }
}

#[test]
fn tables_have_a_line_for_each_row() {
    let report = compare(&calibrated(PLANTED), &options(&["shortgpt", "random"], &[2, 5]));
    let csv = report.to_csv();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2 + report.rows.len());
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    for (line, row) in lines.iter().skip(2).zip(&report.rows) {
        assert_eq!(line[0], row.method);
        assert_eq!(line[5].parse::<f64>().unwrap(), row.quality.unwrap().perplexity);
        assert_eq!(line[11].parse::<u64>().unwrap(), row.bytes);
    }
    let markdown = report.to_markdown();
    assert!(markdown.contains("**collapsed**") && markdown.contains("seed 0"), "{markdown}");
    assert_eq!(markdown.lines().filter(|line| line.starts_with("| ")).count(), 2 + report.rows.len());
}

/// A plan by an operator, written, and read again.
fn written(model: &str, operator: Operator, output: &WriteOptions) {
    let mut session = calibrated(model);
    let options = PlanOptions {
        remove: Some(if model == PLANTED { 2 } else { 1 }),
        selection: Selection::BlockInfluence,
        operator,
        keep_first: true,
        ..PlanOptions::default()
    };
    let report = run(session.plan(&options, output, &Silent)).unwrap();
    let folder = MemoryFolder::default();
    run(session.write(&report.plan, output, &mut folder.clone(), &Silent)).unwrap();
    let again = open_files(&folder.state.borrow().files.clone()).unwrap();
    assert_eq!(again.config.n_layers, report.plan.groups.len());
    let calibration = CalibrationOptions { samples: 40, tokens: 32, ..CalibrationOptions::default() };
    // What was fitted is measured on text that it was not fitted to.
    let text = if operator.needs_activations() { TextOptions::default() } else { calibration.text_options() };
    let evaluated = run(evaluate(&again, Some(&open(model)), &cpu(), &text, &Silent)).unwrap();
    let (ours, theirs) = (evaluated.kl.unwrap(), report.merged.kl.unwrap());
    assert!((ours - theirs).abs() < 1e-3 * theirs + 1e-5, "{model} {operator}: {ours} {theirs}");

    // A session that did not measure the plan builds the same layers.
    let anew = MemoryFolder::default();
    let plan = serde_json::from_str(&serde_json::to_string(&report.plan).unwrap()).unwrap();
    run(calibrated(model).write(&plan, output, &mut anew.clone(), &Silent)).unwrap();
    let weights = |folder: &MemoryFolder| {
        let files = folder.state.borrow().files.clone();
        files.into_iter().filter(|(name, _)| name.ends_with(".safetensors")).collect::<Vec<_>>()
    };
    assert!(weights(&anew) == weights(&folder), "{model} {operator}: other weights");
    if operator.needs_activations() {
        let error =
            run(crate::common::session(model).write(&plan, output, &mut MemoryFolder::default(), &Silent));
        assert!(matches!(error, Err(Error::Usage(_))), "{error:?}");
    }
}

#[test]
fn what_operators_compute_is_what_is_written() {
    // Where no layer has experts there are none to match: `experts.rs` has that operator.
    for operator in Operator::ALL.iter().filter(|operator| **operator != Operator::MatchExperts) {
        written(PLANTED, *operator, &WriteOptions::default());
    }
}

#[test]
fn operators_keep_biases_groups_of_heads_and_heads_of_their_own() {
    let f32 = WriteOptions { dtype: Some("f32".parse().unwrap()), ..WriteOptions::default() };
    for model in ["variants/multi-head-biases", "variants/multi-query-untied", "variants/wide-heads-theta"] {
        for operator in
            [Operator::Scale, Operator::ReplaceMe, Operator::Flatten, Operator::Refit, Operator::PoolRefit]
        {
            written(model, operator, &f32);
        }
    }
}

#[test]
fn computed_layers_go_into_the_other_kind_of_file() {
    let gguf = WriteOptions { container: Some(Container::Gguf), ..WriteOptions::default() };
    for operator in [Operator::Flatten, Operator::PoolRefit] {
        written(PLANTED, operator, &gguf);
    }
}

#[test]
fn a_short_run_is_kept_short() {
    let mut session = calibrated(PLANTED);
    let options = PlanOptions { longest_span: Some(2), ..Method::named("laminate").unwrap().options(4, 0) };
    let report = run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap();
    assert!(report.plan.groups.iter().all(|group| group.len() <= 2), "{:?}", report.plan.groups);
    assert_eq!(report.plan.groups.len(), 8);
}

/// Remembers points of a calibration curve.
#[derive(Default)]
struct Points(RefCell<Vec<CalibrationPoint>>);

impl Observer for Points {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        if let Event::Size(point) = event {
            self.0.borrow_mut().push(point);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Stops with the first point.
struct StopAfterSize;

impl Observer for StopAfterSize {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let stop = matches!(event, Event::Size(_));
        Box::pin(std::future::ready(if stop { Err(Error::Cancelled) } else { Ok(()) }))
    }
}

#[test]
fn a_calibration_curve_ends_in_what_the_whole_text_gives() {
    let mut session = calibrated(PLANTED);
    session.judge_on(options(&[], &[]).evaluation);
    let output = WriteOptions::default();
    let fit = Method::named("laminate").unwrap().options(7, 0);
    let report = run(session.plan(&fit, &output, &Silent)).unwrap();
    let told = Points::default();
    let curve = run(session.calibration_curve(&report.plan, &[4, 20, 99], &output, &told)).unwrap();
    assert_eq!(*told.0.borrow(), curve);
    let sizes: Vec<_> = curve.iter().map(|point| (point.sequences, point.tokens)).collect();
    assert_eq!(sizes, [(4, 128), (20, 640), (40, 1280)]);
    let kl: Vec<f64> = curve.iter().map(|point| point.quality.kl.unwrap()).collect();
    assert!(kl[0] > kl[1] && kl[1] > kl[2], "{kl:?}");
    assert!((kl[2] - report.merged.kl.unwrap()).abs() < 1e-9, "{kl:?} {:?}", report.merged);

    let stopped = run(session.calibration_curve(&report.plan, &[4, 20], &output, &StopAfterSize)).unwrap();
    assert_eq!(stopped.len(), 1, "what is measured is kept");

    let average = PlanOptions { remove: Some(2), ..PlanOptions::default() };
    let average = run(session.plan(&average, &output, &Silent)).unwrap();
    let error = run(session.calibration_curve(&average.plan, &[4], &output, &Silent)).unwrap_err();
    assert!(error.to_string().contains("is not fitted to text"), "{error}");
}

#[test]
fn a_comparison_is_estimated_by_its_methods_and_a_search_counts_once() {
    let session = session(PLANTED);
    let of = |methods: &[&str], remove: &[usize]| {
        let calibration = CalibrationOptions::default();
        run(session.estimate_compare(&calibration, &options(methods, remove))).unwrap()
    };
    let seconds = |methods: &[&str], remove: &[usize]| of(methods, remove).seconds;
    assert!(
        0.0 < seconds(&["shortgpt"], &[2]) && seconds(&["shortgpt"], &[2]) < seconds(&["laminate"], &[2])
    );
    assert!(seconds(&["laminate"], &[2]) < seconds(&["laminate"], &[2, 4]));
    assert!(of(&["laminate"], &[4]).peak_bytes > of(&["shortgpt"], &[4]).peak_bytes);
    // The second method takes the layers that the first has found, and so do fewer layers.
    let searched = seconds(&["greedy-kl"], &[4]);
    assert!(seconds(&["greedy-kl", "greedy-kl+drop"], &[4]) < 1.5 * searched);
    assert!(seconds(&["greedy-kl"], &[2, 4]) < 1.5 * searched);
    let error =
        run(session.estimate_compare(&CalibrationOptions::default(), &options(&["best"], &[1]))).unwrap_err();
    assert!(error.to_string().contains("best"), "{error}");
}

#[test]
fn estimates_know_the_pass_for_importances_of_each_type() {
    let mut session = session(PLANTED);
    let calibration = CalibrationOptions::default();
    let q4_0 = Some("q4_0".parse().unwrap());
    let of = |session: &Session, dtypes: &[Option<FileType>], importances: bool| {
        let output = WriteOptions { importances, ..WriteOptions::default() };
        let options = CompareOptions { dtypes: dtypes.to_vec(), output, ..options(&["shortgpt"], &[2, 4]) };
        run(session.estimate_compare(&calibration, &options)).unwrap().seconds
    };
    let pass = |dtypes: &[Option<FileType>]| of(&session, dtypes, true) - of(&session, dtypes, false);
    let of_type = pass(&[q4_0]);
    assert!(of_type > 0.0, "{of_type}");
    assert!((pass(&[None, q4_0]) - of_type).abs() < 1e-9 * of_type, "{}", pass(&[None, q4_0]));
    assert!((pass(&[q4_0, None, q4_0]) - 2.0 * of_type).abs() < 1e-9 * of_type);
    assert!(pass(&[None]).abs() < 1e-12);

    let plan = Method::named("shortgpt").unwrap().options(2, 0);
    let output = |dtype, importances| WriteOptions {
        dtype,
        importances,
        container: Some(Container::Gguf),
        ..WriteOptions::default()
    };
    let planned = |session: &Session, output: &WriteOptions| {
        run(session.estimate_plan(&calibration, &plan, output)).unwrap().seconds
    };
    assert!(planned(&session, &output(q4_0, true)) > planned(&session, &output(q4_0, false)));

    // What is given need not be collected.
    let text = TextOptions { samples: 2, tokens: 16, ..calibration.text_options() };
    let (bytes, _) = run(session.collect_imatrix(&text, &Silent)).unwrap();
    session.use_imatrix("own.gguf", &bytes).unwrap();
    assert_eq!(of(&session, &[None, q4_0], true), of(&session, &[None, q4_0], false));
    assert_eq!(planned(&session, &output(q4_0, true)), planned(&session, &output(q4_0, false)));
}

#[test]
fn an_importance_matrix_is_named_in_reports_until_it_is_taken_away() {
    let mut session = calibrated(PLANTED);
    let text = TextOptions { samples: 3, tokens: 16, ..CalibrationOptions::default().text_options() };
    let (bytes, _) = run(session.collect_imatrix(&text, &Silent)).unwrap();
    session.use_imatrix("own.gguf", &bytes).unwrap();
    let used = session.used_imatrix().unwrap();
    assert_eq!((used.file.name.as_str(), used.tokens), ("own.gguf", 48));
    assert_eq!(used.datasets, [laminate::demo::TEXT_NAME]);

    let plan = Method::named("shortgpt").unwrap().options(2, 0);
    let output = WriteOptions::default();
    let report = run(session.plan(&plan, &output, &Silent)).unwrap();
    assert_eq!(report.imatrix.as_ref(), Some(&used.file));
    assert_eq!(compare(&session, &options(&["shortgpt"], &[2])).imatrix.as_ref(), Some(&used.file));
    let without = WriteOptions { importances: false, ..output.clone() };
    assert_eq!(run(session.measure(&report.plan, &without, &Silent)).unwrap().imatrix, None);

    session.forget_imatrix();
    assert_eq!(session.used_imatrix(), None);
    assert_eq!(run(session.plan(&plan, &output, &Silent)).unwrap().imatrix, None);
}
