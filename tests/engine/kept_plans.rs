//! Plans that are stopped between two fits, in a search or between merges, and go on: the same result, without doing
//! again what was kept.

use std::cell::Cell;

use futures::future::LocalBoxFuture;
use laminate::plan::{Alpha, Operator, Selection};
use laminate::protocol::plan::PlanReport;
use laminate::{
    CalibrationOptions, Error, Event, MergePlan, Observer, PartStore, PlanOptions, Result, RunOptions,
    Session, Silent, TextOptions, WriteOptions, demo,
};
use serde_json::Value;

use crate::common::{MemoryParts, cpu, run};

/// Stops where a progress report begins like this.
struct StopBefore(&'static str);

impl Observer for StopBefore {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let stop = matches!(&event, Event::Progress(p) if p.detail.starts_with(self.0));
        Box::pin(std::future::ready(if stop { Err(Error::Cancelled) } else { Ok(()) }))
    }
}

/// Counts what it is told, and stops at the round or step after so many.
struct Counting {
    rounds_left: Cell<u64>,
    progress: Cell<u64>,
    rounds: Cell<u64>,
    steps: Cell<u64>,
}

impl Counting {
    fn stopping_after(rounds: u64) -> Self {
        let zero = || Cell::new(0);
        Self { rounds_left: Cell::new(rounds), progress: zero(), rounds: zero(), steps: zero() }
    }

    fn whole() -> Self {
        Self::stopping_after(u64::MAX)
    }

    /// Whether the count was exhausted.
    fn count(&self, counted: &Cell<u64>) -> bool {
        counted.set(counted.get() + 1);
        counted.get() > self.rounds_left.get()
    }
}

impl Observer for Counting {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let stop = match &event {
            Event::Progress(p) if p.detail.starts_with("trying to do without") => self.count(&self.rounds),
            Event::Step(_) => self.count(&self.steps),
            Event::Progress(_) => {
                self.progress.set(self.progress.get() + 1);
                false
            }
            _ => false,
        };
        Box::pin(std::future::ready(if stop { Err(Error::Cancelled) } else { Ok(()) }))
    }
}

/// The demo, compared.
fn compared() -> Session {
    let mut session = Session::new(run(demo::open()).unwrap(), cpu());
    session.judge_on(TextOptions { samples: 4, tokens: 32, ..TextOptions::default() });
    let options = CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&options, &Silent)).unwrap();
    session
}

/// Three runs: 1-2, 4-5 and 7-8.
fn by_hand(operator: Operator) -> MergePlan {
    MergePlan::absorbing(12, operator, &[(2, 0.9), (5, 0.9), (8, 0.9)], |_| 1.0).unwrap()
}

fn measure(
    session: &mut Session,
    plan: &MergePlan,
    store: &MemoryParts,
    observer: &dyn Observer,
) -> Result<PlanReport> {
    let store: Box<dyn PartStore> = Box::new(store.clone());
    run(session.measure(
        plan,
        &WriteOptions::default(),
        RunOptions::watched_by(observer).kept_in(Some(store)),
    ))
}

fn plan(
    session: &mut Session,
    options: &PlanOptions,
    store: &MemoryParts,
    observer: &dyn Observer,
) -> Result<PlanReport> {
    let store: Box<dyn PartStore> = Box::new(store.clone());
    run(session.plan(
        options,
        &WriteOptions::default(),
        RunOptions::watched_by(observer).kept_in(Some(store)),
    ))
}

/// Everything in a report but how long it took, and with it what was said.
fn found(report: &PlanReport) -> (Value, Vec<String>) {
    let mut value = serde_json::to_value(report).unwrap();
    for key in ["seconds", "peak_memory_bytes", "warnings"] {
        value.as_object_mut().unwrap().remove(key);
    }
    (value, report.warnings.clone())
}

fn names(store: &MemoryParts) -> Vec<String> {
    store.parts.borrow().keys().cloned().collect()
}

/// As if another device had made the parts that are there.
fn made_elsewhere(store: &MemoryParts) {
    for bytes in store.parts.borrow_mut().values_mut() {
        let own = b"CPU (SIMD)";
        let at = bytes.windows(own.len()).position(|window| window == own).unwrap();
        bytes[at] = b'G';
        let end = bytes.len() - 4;
        let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
    }
}

#[test]
fn a_plan_stopped_between_fits_ends_in_the_same_bits() {
    let mut session = compared();
    for operator in [Operator::PoolRefit, Operator::Refit, Operator::Flatten, Operator::ReplaceMe] {
        let plan = by_hand(operator);
        let whole = found(&run(session.measure(&plan, &WriteOptions::default(), &Silent)).unwrap());
        for (stop, kept) in
            [("layers [1, 2]", 0), ("layers [4, 5]", 1), ("layers [7, 8]", 2), ("layers [9]", 3)]
        {
            let store = MemoryParts::default();
            let stopped = measure(&mut session, &plan, &store, &StopBefore(stop));
            assert_eq!(stopped.unwrap_err(), Error::Cancelled);
            assert_eq!(names(&store).len(), kept, "{operator} stopped before {stop}");
            assert_eq!(found(&measure(&mut session, &plan, &store, &Silent).unwrap()), whole);
        }
    }
}

#[test]
fn what_was_kept_is_used_and_said_where_another_device_made_it() {
    let (mut session, plan, store) = (compared(), by_hand(Operator::PoolRefit), MemoryParts::default());
    let stopped = measure(&mut session, &plan, &store, &StopBefore("layers [7, 8]"));
    assert_eq!(stopped.unwrap_err(), Error::Cancelled);
    made_elsewhere(&store);
    let warnings = measure(&mut session, &plan, &store, &Silent).unwrap().warnings;
    let said = |layer: usize| {
        let sentence =
            format!("Layer {layer} was fitted on GPU (SIMD) before the run went on, on CPU (SIMD)");
        warnings.iter().any(|warning| warning.starts_with(&sentence))
    };
    assert_eq!([1, 4, 7].map(said), [true, true, false], "{warnings:?}");
}

#[test]
fn damaged_parts_are_fitted_anew() {
    let (mut session, plan, store) = (compared(), by_hand(Operator::Refit), MemoryParts::default());
    let whole = found(&measure(&mut session, &plan, &store, &Silent).unwrap());
    made_elsewhere(&store);
    for (place, bytes) in store.parts.borrow_mut().values_mut().enumerate() {
        match place {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.clear(),
            _ => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
        }
    }
    assert_eq!(found(&measure(&mut session, &plan, &store, &Silent).unwrap()), whole);
}

#[test]
fn a_plan_uses_what_another_began_alike_and_removes_the_rest() {
    let (mut session, store) = (compared(), MemoryParts::default());
    measure(&mut session, &by_hand(Operator::Refit), &store, &Silent).unwrap();
    let before = names(&store);
    let other = MergePlan::absorbing(12, Operator::Refit, &[(2, 0.9), (5, 0.9), (10, 0.9)], |_| 1.0).unwrap();
    measure(&mut session, &other, &store, &Silent).unwrap();
    let after = names(&store);
    assert_eq!((before.len(), after.len()), (3, 3));
    assert_eq!(after.iter().filter(|name| before.contains(name)).count(), 2);

    // What is stored otherwise is fitted otherwise, and another text gives other layers.
    let f16 = WriteOptions { dtype: Some("f16".parse().unwrap()), ..WriteOptions::default() };
    let kept = RunOptions::default().kept_in(Some(Box::new(store.clone())));
    run(session.measure(&other, &f16, kept)).unwrap();
    assert!(names(&store).iter().all(|name| !after.contains(name)));
}

#[test]
fn a_store_that_refuses_ends_the_keeping_and_not_the_run() {
    let (mut session, plan) = (compared(), by_hand(Operator::Refit));
    let (whole, _) = found(&measure(&mut session, &plan, &MemoryParts::default(), &Silent).unwrap());
    let (without, warnings) =
        found(&measure(&mut session, &plan, &MemoryParts::full_at(100), &Silent).unwrap());
    assert_eq!(without, whole);
    assert_eq!(
        warnings
            .iter()
            .filter(|w| w.starts_with("What the plan has finished was not kept, because "))
            .count(),
        1
    );
}

/// Four layers by a search, as `laminate-search` and SLEB choose them.
fn searching(selection: Selection) -> PlanOptions {
    let operator = Operator::Drop;
    PlanOptions { selection, operator, remove: Some(4), search_tokens: 256, ..PlanOptions::default() }
}

#[test]
fn a_search_goes_on_after_its_last_round() {
    let mut session = compared();
    for selection in [Selection::GreedyKl, Selection::GreedyNll] {
        for candidates in [None, Some(3)] {
            let options = PlanOptions { candidates, ..searching(selection) };
            let observer = Counting::whole();
            let whole = found(&plan(&mut session, &options, &MemoryParts::default(), &observer).unwrap());
            assert_eq!(observer.rounds.get(), 4);
            for done in 1..4 {
                let store = MemoryParts::default();
                let stopped = plan(&mut session, &options, &store, &Counting::stopping_after(done));
                assert_eq!(stopped.unwrap_err(), Error::Cancelled);
                assert_eq!(names(&store).len(), 1);
                let observer = Counting::whole();
                assert_eq!(found(&plan(&mut session, &options, &store, &observer).unwrap()), whole);
                assert_eq!(observer.rounds.get(), 4 - done, "{selection} stopped after {done} rounds");
            }
        }
    }
}

#[test]
fn a_search_for_more_layers_goes_on_and_one_for_other_layers_begins_anew() {
    let (mut session, store) = (compared(), MemoryParts::default());
    let options = searching(Selection::GreedyKl);
    plan(&mut session, &options, &store, &Silent).unwrap();
    for (more, rounds) in [(6, 2), (5, 0), (3, 0)] {
        let options = PlanOptions { remove: Some(more), ..options.clone() };
        let observer = Counting::whole();
        let resumed = found(&plan(&mut session, &options, &store, &observer).unwrap());
        assert_eq!(observer.rounds.get(), rounds, "{more} layers");
        assert_eq!(resumed, found(&plan(&mut session, &options, &MemoryParts::default(), &Silent).unwrap()));
    }
    let observer = Counting::whole();
    let locked = PlanOptions { locked: vec![5], ..options.clone() };
    plan(&mut session, &locked, &store, &observer).unwrap();
    let searches = names(&store).iter().filter(|name| name.starts_with("searched-")).count();
    assert_eq!((observer.rounds.get(), searches), (4, 1));
    // What was begun elsewhere is gone on with, and said.
    made_elsewhere(&store);
    let warnings = plan(&mut session, &locked, &store, &Silent).unwrap().warnings;
    assert!(warnings.iter().any(|w| w.starts_with("The plan was begun on GPU (SIMD)")), "{warnings:?}");
}

#[test]
fn merging_goes_on_after_its_last_step() {
    let mut session = compared();
    let published = PlanOptions { remove: Some(4), ..PlanOptions::default() };
    let cases = [
        published.clone(),
        PlanOptions { alpha: Alpha::Search, ..published.clone() },
        PlanOptions { one_shot: true, ..published.clone() },
        PlanOptions { selection: Selection::BlockInfluence, operator: Operator::Drop, ..published },
    ];
    for options in cases {
        let observer = Counting::whole();
        let whole = found(&plan(&mut session, &options, &MemoryParts::default(), &observer).unwrap());
        assert_eq!(observer.steps.get(), 4);
        for done in 1..4 {
            let store = MemoryParts::default();
            let stopped = plan(&mut session, &options, &store, &Counting::stopping_after(done));
            assert_eq!(stopped.unwrap_err(), Error::Cancelled);
            let resumed = Counting::whole();
            assert_eq!(found(&plan(&mut session, &options, &store, &resumed).unwrap()), whole);
            // All steps are told, those that were kept without running them.
            assert_eq!(resumed.steps.get(), 4);
            assert!(resumed.progress.get() < observer.progress.get());
            // What is damaged is done again.
            store.parts.borrow_mut().values_mut().for_each(|part| part.truncate(part.len() / 2));
            assert_eq!(found(&plan(&mut session, &options, &store, &Silent).unwrap()), whole);
        }
    }
}
