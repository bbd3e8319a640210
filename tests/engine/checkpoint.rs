//! Runs that are stopped, and go on: the same result, and nothing but it from what is damaged or of another run.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use laminate::files::parts::DirectoryParts;
use laminate::maths::similarity::Metric;
use laminate::protocol::events::{Kept, Stage};
use laminate::protocol::similarity::SimilarityReport;
use laminate::protocol::text::PointRule;
use laminate::{
    CalibrationOptions, Error, Event, Observer, PartStore, PlanOptions, Result, RunOptions, Session, Silent,
    WriteOptions, demo,
};
use serde_json::Value;

use crate::common::{Files, MemoryParts, StopAt, cpu, files, open_files, run, session};

/// Quick, with states in two chunks.
fn options() -> CalibrationOptions {
    CalibrationOptions { samples: 48, tokens: 48, ..CalibrationOptions::default() }
}

fn demo_session() -> Session {
    Session::new(run(demo::open()).unwrap(), cpu())
}

/// Everything in a report but how long it took.
fn found(report: &SimilarityReport) -> Value {
    let mut value = serde_json::to_value(report).unwrap();
    for key in ["seconds", "peak_memory_bytes"] {
        value.as_object_mut().unwrap().remove(key);
    }
    value
}

/// What an observer was told about keeping, and which layers were run.
#[derive(Default)]
struct Seen {
    kept: RefCell<Vec<Kept>>,
    run: RefCell<Vec<String>>,
    rows: RefCell<Vec<usize>>,
}

impl Observer for Seen {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        match event {
            Event::Kept(kept) => self.kept.borrow_mut().push(kept),
            Event::Progress(p) if p.stage == Stage::Capture && p.done < p.total => {
                self.run.borrow_mut().push(p.detail);
            }
            Event::Layer(layer) => self.rows.borrow_mut().push(layer.layer),
            _ => {}
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Seen {
    fn troubles(&self) -> Vec<String> {
        self.kept.borrow().iter().filter_map(|kept| kept.trouble.clone()).collect()
    }
}

/// A store in which the demo was stopped before layer `layer` was run.
fn stopped_before(layer: u64, options: &CalibrationOptions) -> MemoryParts {
    let store = MemoryParts::default();
    let stop = StopAt(Stage::Capture, layer);
    let stopped = run(demo_session().similarity(options, kept(&store, &stop)));
    assert_eq!(stopped.unwrap_err(), Error::Cancelled);
    store
}

/// Watched by `observer` and kept in `store`.
fn kept<'a>(store: &MemoryParts, observer: &'a dyn Observer) -> RunOptions<'a> {
    RunOptions::watched_by(observer).kept_in(Some(Box::new(store.clone())))
}

fn go_on(store: &MemoryParts, options: &CalibrationOptions) -> (SimilarityReport, Seen) {
    let (seen, store) = (Seen::default(), store.clone());
    let report = run(demo_session().similarity(options, kept(&store, &seen))).unwrap();
    (report, seen)
}

#[test]
fn a_run_stopped_after_any_layer_ends_in_the_same_bits() {
    let options = options();
    let whole = found(&run(demo_session().similarity(&options, &Silent)).unwrap());
    for layer in 1..=12 {
        let store = stopped_before(layer, &options);
        let (report, seen) = go_on(&store, &options);
        assert_eq!(found(&report), whole, "stopped before layer {layer}");
        assert_eq!(seen.run.borrow().len() as u64, 12 - layer, "layers were run twice or not at all");
        assert_eq!(*seen.rows.borrow(), (0..12).collect::<Vec<_>>());
        assert_eq!(seen.troubles(), [""; 0]);
        assert_eq!(seen.kept.borrow()[0].layers as u64, layer);
    }
}

#[test]
fn a_finished_run_is_opened_without_running_a_layer_and_plans_the_same() {
    let options = options();
    let plan = PlanOptions { remove: Some(7), ..PlanOptions::default() };
    let mut first = demo_session();
    let store = MemoryParts::default();
    let report = run(first.similarity(&options, kept(&store, &Silent))).unwrap();
    let planned = run(first.plan(&plan, &WriteOptions::default(), &Silent)).unwrap();

    let (mut again, seen) = (demo_session(), Seen::default());
    let reopened = run(again.similarity(&options, kept(&store, &seen))).unwrap();
    assert_eq!(found(&reopened), found(&report));
    assert_eq!(seen.run.borrow().len(), 0);
    let planned_again = run(again.plan(&plan, &WriteOptions::default(), &Silent)).unwrap();
    assert_eq!(planned_again.plan, planned.plan);
    assert_eq!(planned_again.merged, planned.merged);
}

#[test]
fn another_metric_or_map_goes_on_from_the_same_points() {
    let store = MemoryParts::default();
    run(demo_session().similarity(&options(), kept(&store, &Silent))).unwrap();
    for other in [
        CalibrationOptions { metric: Metric::Cka, ..options() },
        CalibrationOptions { dims: 3, time: 2.0, density: 0.5, ..options() },
    ] {
        let (report, seen) = go_on(&store, &other);
        let fresh = run(demo_session().similarity(&other, &Silent)).unwrap();
        assert_eq!(found(&report), found(&fresh));
        assert_eq!((seen.run.borrow().len(), seen.troubles().len()), (0, 0));
    }
}

#[test]
fn only_states_that_are_needed_stay() {
    // So large that few depths are kept in memory: the others leave the store too.
    let store = stopped_before(5, &options());
    let names: Vec<String> = store.parts.borrow().keys().cloned().collect();
    let layers = names.iter().filter(|name| name.starts_with("layer-")).count();
    assert_eq!(layers, 5);
    assert!(names.contains(&"states-0005".to_owned()), "{names:?}");
    let kept = run(demo_session().estimate(&options())).unwrap();
    let bytes: usize = store.parts.borrow().values().map(Vec::len).sum();
    assert!((bytes as u64) < kept.checkpoint_bytes, "{bytes} of {}", kept.checkpoint_bytes);
}

#[track_caller]
fn damaged(name: &str, damage: impl Fn(&mut Vec<u8>), goes_on_at: usize, sentence: &str) {
    let options = options();
    let store = stopped_before(6, &options);
    damage(store.parts.borrow_mut().get_mut(name).unwrap());
    let (report, seen) = go_on(&store, &options);
    let whole = run(demo_session().similarity(&options, &Silent)).unwrap();
    assert_eq!(found(&report), found(&whole));
    let troubles = seen.troubles();
    assert!(troubles.len() == 1 && troubles[0].contains(sentence), "{troubles:?}");
    assert_eq!(seen.run.borrow().len(), 12 - goes_on_at);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let flip = |at: fn(usize) -> usize| {
        move |bytes: &mut Vec<u8>| {
            let at = at(bytes.len());
            bytes[at] ^= 1;
        }
    };
    // In the values, in the checksum itself, and in the length of the header.
    damaged(
        "layer-0003",
        flip(|n| n / 2),
        3,
        "damaged (its checksum differs): the run goes on after layer 2",
    );
    damaged("layer-0000", flip(|n| n - 1), 0, "damaged (its checksum differs): this one starts anew");
    damaged("states-0006", flip(|n| n - 1000), 5, "the run goes on after layer 4");
    damaged("layer-0002", flip(|_| 1), 2, "it is damaged");
}

#[test]
fn a_truncated_part_is_found() {
    for length in [0usize, 5, 100, 400] {
        damaged("layer-0004", |bytes| bytes.truncate(length), 4, "its header cannot be read");
    }
    damaged("states-0006", |bytes| bytes.truncate(bytes.len() - 1), 5, "it is damaged");
    damaged("layer-0001", |bytes| bytes.extend([0; 8]), 1, "it is damaged");
}

#[test]
fn a_part_of_a_newer_program_is_not_read() {
    let version = |bytes: &mut Vec<u8>| {
        let text = br#""laminate_checkpoint":"1""#;
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at + text.len() - 2] = b'2';
    };
    damaged("layer-0000", version, 0, "another version of this program: this one starts anew");
}

#[test]
fn what_belongs_to_another_run_is_not_used_and_gives_way() {
    let store = stopped_before(6, &options());
    for other in [
        CalibrationOptions { samples: 40, ..options() },
        CalibrationOptions { points: PointRule::Mean, ..options() },
        CalibrationOptions { text: Some(demo::EVALUATION.to_owned()), samples: 30, ..options() },
    ] {
        let copy = MemoryParts::default();
        copy.parts.borrow_mut().extend(store.parts.borrow().clone());
        copy.parts.borrow_mut().insert("notes".to_owned(), b"mine".to_vec());
        let (report, seen) = go_on(&copy, &other);
        let fresh = run(demo_session().similarity(&other, &Silent)).unwrap();
        assert_eq!(found(&report), found(&fresh));
        let troubles = seen.troubles();
        assert_eq!(troubles.len(), 1);
        assert!(
            troubles[0].contains("another text or other points of it: this one starts anew"),
            "{troubles:?}"
        );
        assert_eq!(copy.parts.borrow()["notes"], b"mine");
    }
}

#[test]
fn a_model_that_differs_in_one_layer_is_another() {
    let mut changed: Files = files("stories260K");
    let weights = changed.get_mut("model.safetensors").unwrap();
    let options = CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() };
    let store = MemoryParts::default();
    run(session("stories260K").similarity(&options, kept(&store, &Silent))).unwrap();
    // The second half of the file holds whole layers; half of each value is scaled by the exponent's last bit.
    let half = weights.len() / 2;
    weights[half..].iter_mut().skip(3).step_by(64).for_each(|byte| *byte ^= 1);
    let seen = Seen::default();
    let mut other = Session::new(open_files(&changed).unwrap(), cpu());
    let report = run(other.similarity(&options, kept(&store, &seen)));
    assert!(seen.troubles()[0].contains("another model: this one starts anew"), "{:?}", seen.troubles());
    drop(report);
}

#[test]
fn a_full_disk_ends_the_keeping_and_not_the_run() {
    let whole = found(&run(demo_session().similarity(&options(), &Silent)).unwrap());
    for capacity in [0, 1_000_000, 3_000_000] {
        let (seen, store) = (Seen::default(), MemoryParts::full_at(capacity));
        let report = run(demo_session().similarity(&options(), kept(&store, &seen))).unwrap();
        assert_eq!(found(&report), whole);
        assert_eq!(seen.troubles(), ["finished layers are not kept, because memory: the disk is full"]);
        assert!(store.parts.borrow().is_empty(), "what cannot be of use is left");
    }
}

#[test]
fn a_slow_medium_holds_up_the_run_less_and_still_goes_on() {
    let options = options();
    let store = MemoryParts::slow(Duration::from_secs(1));
    let seen = Seen::default();
    let stop = StopAt(Stage::Capture, 8);
    run(demo_session().similarity(&options, kept(&store, &stop))).unwrap_err();
    let states = store.parts.borrow().keys().filter(|name| name.starts_with("states-")).count();
    assert!(states < 8, "states were written after every layer, although that takes longer than the layers");
    let report = run(demo_session().similarity(&options, kept(&store, &seen))).unwrap();
    assert_eq!(found(&report), found(&run(demo_session().similarity(&options, &Silent)).unwrap()));
    let layers: Vec<usize> = seen.kept.borrow().iter().map(|kept| kept.layers).collect();
    assert!(layers.is_sorted() && layers.last() == Some(&12), "{layers:?}");
    assert!((4..12).contains(&seen.run.borrow().len()), "{:?}", seen.run.borrow());
}

#[test]
fn a_directory_keeps_parts_whole_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("kept");
    let options = options();
    let stop = StopAt(Stage::Capture, 4);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("notes.txt"), "mine").unwrap();
    let directory = || Some(Box::new(DirectoryParts::open(&place).unwrap()) as Box<dyn PartStore>);
    let stopped = RunOptions::watched_by(&stop).kept_in(directory());
    run(demo_session().similarity(&options, stopped)).unwrap_err();
    // A run that was ended in the middle of a part leaves it without its name.
    let mut store = DirectoryParts::open(&place).unwrap();
    run(async {
        store.create("states-0011").await?;
        store.write(b"half").await
    })
    .unwrap();
    let seen = Seen::default();
    let again = RunOptions::watched_by(&seen).kept_in(directory());
    let report = run(demo_session().similarity(&options, again)).unwrap();
    assert_eq!(found(&report), found(&run(demo_session().similarity(&options, &Silent)).unwrap()));
    assert_eq!((seen.run.borrow().len(), seen.troubles().len()), (8, 0));
    assert_eq!(std::fs::read_to_string(place.join("notes.txt")).unwrap(), "mine");
}

/// Lets so many events pass, then waits until it is told to go on.
struct Gate {
    passes: Cell<usize>,
    waited: Cell<usize>,
}

impl Observer for Gate {
    fn event(&self, _: Event) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(std::future::poll_fn(|_| match self.passes.get() {
            0 => {
                self.waited.set(self.waited.get() + 1);
                Poll::Pending
            }
            left => {
                self.passes.set(left - 1);
                Poll::Ready(Ok(()))
            }
        }))
    }
}

#[test]
fn a_paused_run_waits_where_it_is_and_ends_in_the_same_bits() {
    let whole = found(&run(demo_session().similarity(&options(), &Silent)).unwrap());
    let gate = Gate { passes: Cell::new(9), waited: Cell::new(0) };
    let (mut session, options) = (demo_session(), options());
    let mut going = Box::pin(session.similarity(&options, &gate));
    let mut context = Context::from_waker(Waker::noop());
    while gate.waited.get() == 0 {
        assert!(going.as_mut().poll(&mut context).is_pending());
    }
    for _ in 0..5 {
        assert!(going.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(gate.waited.get(), 6, "a run that waits does nothing but wait");
    gate.passes.set(usize::MAX);
    assert_eq!(found(&run(going).unwrap()), whole);
}

#[test]
fn layers_of_another_device_are_used_and_said() {
    let store = stopped_before(6, &options());
    for (name, bytes) in store.parts.borrow_mut().iter_mut().filter(|(name, _)| name.as_str() < "layer-0004")
    {
        let own = b"CPU (SIMD)";
        let at = bytes.windows(own.len()).position(|window| window == own).expect(name);
        bytes[at] = b'G';
        let end = bytes.len() - 4;
        let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
    }
    let (report, seen) = go_on(&store, &options());
    assert_eq!((seen.run.borrow().len(), seen.troubles().len()), (6, 0));
    let sentence = "The first 4 layers were computed on GPU (SIMD) before the run went on, on CPU (SIMD)";
    assert!(report.warnings.iter().any(|warning| warning.starts_with(sentence)), "{:?}", report.warnings);
}

/// Multiplies the first tensor whose name ends in `end` by 1.25 in all its values.
fn change(files: &mut Files, end: &str) {
    let bytes = files.get_mut("model.safetensors").unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (_, tensor) = header.as_object().unwrap().iter().find(|(name, _)| name.ends_with(end)).unwrap();
    let [from, to] = [0, 1].map(|i| 8 + length + tensor["data_offsets"][i].as_u64().unwrap() as usize);
    for value in bytes[from..to].chunks_mut(4) {
        let changed = 1.25 * f32::from_le_bytes(value.try_into().unwrap());
        value.copy_from_slice(&changed.to_le_bytes());
    }
}

#[test]
fn a_fine_tune_of_any_kind_of_tensor_is_another_model() {
    let options = options();
    let opened = |files: &Files| Session::new(open_files(files).unwrap(), cpu());
    let base = files("stories260K");
    let store = MemoryParts::default();
    run(opened(&base).similarity(&options, kept(&store, &Silent))).unwrap();
    for end in [
        "q_proj.weight",
        "k_proj.weight",
        "v_proj.weight",
        "o_proj.weight",
        "gate_proj.weight",
        "up_proj.weight",
        "down_proj.weight",
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "model.norm.weight",
        "embed_tokens.weight",
    ] {
        let mut tuned = base.clone();
        change(&mut tuned, end);
        let fresh = found(&run(opened(&tuned).similarity(&options, &Silent)).unwrap());
        let seen = Seen::default();
        let own = store.parts.borrow().clone();
        let kept_too = MemoryParts::default();
        *kept_too.parts.borrow_mut() = own;
        let report = run(opened(&tuned).similarity(&options, kept(&kept_too, &seen))).unwrap();
        assert_eq!(seen.run.borrow().len(), 5, "{end}: layers of the base were taken");
        let mut report = found(&report);
        report["warnings"] = fresh["warnings"].clone();
        assert_eq!(report, fresh, "{end}");
    }
}
