//! Healing: the merged layers of the demo and of models of other kinds, trained towards their original.

use std::cell::Cell;

use futures::future::LocalBoxFuture;
use laminate::format::Container;
use laminate::protocol::heal::{HealOptions, HealReport};
use laminate::protocol::plan::PlanReport;
use laminate::{
    CalibrationOptions, Error, Event, Method, Model, Observer, Result, Session, Silent, TextOptions,
    WriteOptions,
};

use crate::architectures::hugging_face;
use crate::common::{MemoryFolder, cpu, open_files, remove, run, sources};

/// A session of the demo whose layers have been compared.
fn compared() -> Session {
    let mut session = Session::new(run(laminate::demo::open()).unwrap(), cpu());
    let calibration = CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    session
}

fn of(tokens: u64) -> HealOptions {
    HealOptions { tokens: Some(tokens), sequences: 8, checks: 4, rate: 1e-3, ..HealOptions::default() }
}

fn healed(report: &PlanReport) -> &HealReport {
    report.healed.as_ref().unwrap()
}

fn divergences(report: &HealReport) -> Vec<f64> {
    report.points.iter().map(|point| point.quality.kl.unwrap()).collect()
}

#[test]
fn a_healed_model_is_nearer_its_original_and_is_what_is_written() {
    let mut session = compared();
    let output = WriteOptions { container: Some(Container::Gguf), ..WriteOptions::default() };
    let before = run(session.plan(&Method::named("mka").unwrap().options(8, 0), &output, &Silent)).unwrap();
    let report = run(session.heal(&before.plan, &output, &of(4096), &Silent)).unwrap();
    let all = divergences(healed(&report));
    let best = all.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 0.7 * all[0], "{all:?}");
    assert_eq!(all.len(), 5);
    assert_eq!(all[healed(&report).best], best);
    assert_eq!(report.merged.kl, Some(best));
    assert_eq!((healed(&report).tokens, report.plan.groups.len()), (4096, 4));
    assert_eq!(report.bytes.after, before.bytes.after);
    // What is written is the healed model: read again, it is as far from the original as was measured.
    let mut folder = MemoryFolder::default();
    let written = run(session.write(&report.plan, &output, &mut folder, &Silent)).unwrap();
    assert_eq!(written.recipe.heal, Some(of(4096)));
    let files = folder.state.borrow().files.clone();
    let smaller = run(Model::open("healed", &sources(&files))).unwrap();
    let original = run(laminate::demo::open()).unwrap();
    let text = TextOptions::default();
    let again = run(laminate::evaluate(&smaller, Some(&original), &cpu(), &text, &Silent)).unwrap();
    assert!((again.kl.unwrap() - best).abs() < 1e-3 * best, "{:?} for {best}", again.kl);
}

#[test]
fn the_same_healing_gives_the_same_bits_and_starts_where_the_merging_ended() {
    let mut session = compared();
    let output = WriteOptions::default();
    let plan = run(session.plan(&remove(7), &output, &Silent)).unwrap().plan;
    let first = run(session.heal(&plan, &output, &of(1024), &Silent)).unwrap();
    let again = run(session.heal(&plan, &output, &of(1024), &Silent)).unwrap();
    assert_eq!(divergences(healed(&first)), divergences(healed(&again)));
    let mut other = compared();
    // A plan that was not measured before is made first.
    let fresh = run(other.heal(&plan, &output, &of(1024), &Silent)).unwrap();
    assert_eq!(divergences(healed(&first)), divergences(healed(&fresh)));
    let seed = HealOptions { seed: 1, ..of(1024) };
    let differently = run(session.heal(&plan, &output, &seed, &Silent)).unwrap();
    assert_ne!(divergences(healed(&first))[1..], divergences(healed(&differently))[1..]);
}

/// Stops the run when the model has been measured so often.
struct StopAfter(Cell<usize>);

impl Observer for StopAfter {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        if matches!(event, Event::Heal(_)) {
            self.0.set(self.0.get().saturating_sub(1));
        }
        let is_over = self.0.get() == 0 && matches!(event, Event::Progress(_));
        Box::pin(std::future::ready(if is_over { Err(Error::Cancelled) } else { Ok(()) }))
    }
}

#[test]
fn a_stop_keeps_the_best_model_until_then() {
    let mut session = compared();
    let output = WriteOptions::default();
    let plan = run(session.plan(&remove(8), &output, &Silent)).unwrap().plan;
    let report = run(session.heal(&plan, &output, &of(1 << 20), &StopAfter(Cell::new(1)))).unwrap();
    assert_eq!(healed(&report).points.len(), 1);
    let many = HealOptions { checks: 1000, ..of(256_000) };
    let report = run(session.heal(&plan, &output, &many, &StopAfter(Cell::new(4)))).unwrap();
    let report = healed(&report);
    assert_eq!(report.points.len(), 4);
    assert!(report.stopped.as_ref().unwrap().contains("stopped before its end"));
    assert!(report.tokens < 2048 && divergences(report)[report.best] < divergences(report)[0]);
    run(session.write(&plan, &output, &mut MemoryFolder::default(), &Silent)).unwrap();
}

#[test]
fn a_time_says_when_to_end() {
    let mut session = compared();
    let output = WriteOptions::default();
    let plan = run(session.plan(&remove(7), &output, &Silent)).unwrap().plan;
    let options = HealOptions { tokens: None, seconds: Some(2.0), ..of(1) };
    let report = run(session.heal(&plan, &output, &options, &Silent)).unwrap();
    let report = healed(&report);
    assert!(report.tokens > 0 && report.points.len() > 1, "{} tokens", report.tokens);
    assert_eq!(report.repeated().tokens, Some(report.tokens));
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, said: &str) {
    match result {
        Err(error) => assert!(error.to_string().contains(said), "{error}"),
        Ok(_) => panic!("not refused: {said}"),
    }
}

#[test]
fn what_cannot_be_healed_is_refused_before_anything_runs() {
    let mut session = compared();
    let output = WriteOptions::default();
    let report = run(session.plan(&remove(7), &output, &Silent)).unwrap();
    let plan = report.plan;
    for options in [
        HealOptions::default(),
        HealOptions { tokens: Some(0), ..of(1) },
        HealOptions { seconds: Some(5.0), ..of(1) },
        HealOptions { tokens: None, seconds: Some(f64::NAN), ..of(1) },
        HealOptions { rate: f64::NAN, ..of(1) },
        HealOptions { rate: -1.0, ..of(1) },
        HealOptions { sequences: 0, ..of(1) },
        HealOptions { checks: 0, ..of(1) },
    ] {
        assert_refused(run(session.heal(&plan, &output, &options, &Silent)), "healing needs");
    }
    let none = laminate::MergePlan::unmerged(12);
    assert_refused(run(session.heal(&none, &output, &of(64), &Silent)), "this plan makes none");
    let packed = WriteOptions { pack: Some("int8".parse().unwrap()), ..WriteOptions::default() };
    assert_refused(run(session.heal(&plan, &packed, &of(64), &Silent)), "before its weights are rounded");
    // Text that is judged on is never trained on.
    let text = Some(laminate::demo::TEXT.to_owned());
    session.judge_on(TextOptions { text, text_name: Some("the same".to_owned()), ..TextOptions::default() });
    assert_refused(run(session.heal(&plan, &output, &of(64), &Silent)), "was seen in calibration");
    // What was healed for one type is not written in another as if it were not healed.
    session.judge_on(TextOptions::default());
    run(session.heal(&plan, &output, &of(256), &Silent)).unwrap();
    let half = WriteOptions { dtype: Some("f16".parse().unwrap()), ..WriteOptions::default() };
    let refused = run(session.write(&plan, &half, &mut MemoryFolder::default(), &Silent));
    assert_refused(refused, "healed for another way of storing");
}

#[test]
fn models_through_which_no_gradient_goes_are_refused_by_name_of_the_layer() {
    for (name, said) in [
        ("mixtral", "has experts"),
        ("jamba", "no gradient goes"),
        ("lfm2", "no gradient goes"),
        ("qwen3_5", "no gradient goes"),
    ] {
        let model = open_files(&hugging_face(name, "config.json")).unwrap();
        let session = Session::new(model, cpu());
        let calibration = CalibrationOptions { samples: 4, tokens: 16, ..CalibrationOptions::default() };
        assert_refused(session.check_heal(&of(64), &calibration, &WriteOptions::default()), said);
    }
}
