//! The best model of a size: the search as a whole, on models that run in a second.

use std::cell::Cell;

use futures::future::LocalBoxFuture;
use laminate::format::Container;
use laminate::internals::forward::context::Context;
use laminate::internals::forward::sequences::sequences;
use laminate::internals::forward::states::to_host;
use laminate::internals::forward::stream::Stream;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::protocol::events::{Event, Observer, Stage};
use laminate::protocol::sizing::{SizeReport, SizeSearch};
use laminate::{
    CalibrationOptions, Error, FileType, Method, PartTypes, PlanOptions, RunOptions, Session, Silent,
    TextOptions, WriteOptions, demo,
};

use crate::common::{MemoryFolder, MemoryParts, cpu, run, session};

const GGUF: WriteOptions = WriteOptions {
    dtype: None,
    container: Some(Container::Gguf),
    requantise: laminate::Requantise::All,
    pack: None,
    rounding: None,
    max_shard_bytes: 5_000_000_000,
    name: None,
    importances: true,
};

fn calibrated() -> Session {
    let mut session = Session::new(run(demo::open()).unwrap(), cpu());
    let calibration = CalibrationOptions { samples: 32, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    session.judge_on(TextOptions { samples: 24, tokens: 32, ..TextOptions::default() });
    session
}

fn any_number() -> PlanOptions {
    PlanOptions { remove: None, ..Method::named("laminate").unwrap().options(0, 0) }
}

fn best(session: &mut Session, size: u64, options: &PlanOptions) -> SizeReport {
    run(session.best_of_size(size, options, &GGUF, &Silent)).unwrap()
}

#[test]
fn the_best_of_a_size_is_that_small_and_better_than_what_else_is() {
    let mut session = calibrated();
    for size in [600_000, 380_000] {
        let SizeReport { search, plan, .. } = best(&mut session, size, &any_number());
        let kl = plan.merged.kl.unwrap();
        assert!(search.models.len() >= 3, "{search:?}");
        assert_eq!(search.models[0].quality, plan.merged);
        for model in &search.models {
            assert!(model.bytes <= size && kl <= model.quality.kl.unwrap(), "{model:?}");
        }
        // All but tensors is counted, too.
        let mut folder = MemoryFolder::default();
        let written = run(session.write(&plan.plan, &plan.output, &mut folder, &Silent)).unwrap();
        let [file] = &written.files[..] else { panic!("{:?}", written.files) };
        assert!(file.bytes <= size && file.bytes > size - size / 12, "{} of {size}", file.bytes);
        // What is written repeats the choice.
        let recipe = serde_json::to_string(&written.recipe).unwrap();
        let recipe: laminate::protocol::plan::Recipe = serde_json::from_str(&recipe).unwrap();
        let again = run(session.measure(&recipe.plan, &recipe.output, &Silent)).unwrap();
        assert_eq!(again.merged, plan.merged);
    }
}

#[test]
fn every_part_of_a_model_is_priced_and_the_chosen_types_are_those_of_the_file() {
    let mut session = calibrated();
    let few = PlanOptions { remove: Some(6), ..any_number() };
    let SizeReport { search, plan, .. } = best(&mut session, 420_000, &few);
    assert!(search.models.iter().all(|model| model.removed == 6), "{:?}", search.models);
    assert_eq!(plan.layers.after, 6);
    // Costs that were measured one by one add up, about.
    let ratio = plan.merged.kl.unwrap() / search.models[0].expected_kl.unwrap();
    assert!((0.4..2.5).contains(&ratio), "{ratio}");
    let [head, layers @ ..] = &search.parts[..] else { panic!("nothing was priced") };
    assert_eq!((head.part.name(), head.third, layers.len()), ("head", None, 5 * 3));
    for part in &search.parts {
        let kept = part.types.last().unwrap();
        assert_eq!((kept.dtype.as_ref(), kept.kl), (None, 0.0));
        for pair in part.types.windows(2) {
            assert!(pair[0].bytes < pair[1].bytes && pair[0].kl > 0.0, "{part:?}");
        }
        let chosen = part.chosen.as_ref().unwrap();
        assert!(part.types.iter().any(|each| each.dtype == *chosen), "{part:?}");
    }
    let dtype = plan.output.dtype.unwrap();
    let types: PartTypes = dtype.to_string().parse().unwrap();
    assert_eq!(FileType::of_parts(types), Some(dtype));
}

#[test]
fn sizes_that_cannot_be_are_refused_before_any_layer_runs() {
    let demo = || Session::new(run(demo::open()).unwrap(), cpu());
    let refused = |session: &Session, size: u64, options: &PlanOptions, output: &WriteOptions, says: &str| {
        let error = run(session.check_size(size, options, output)).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(says), "{error}");
    };
    refused(&demo(), 5_000_000, &any_number(), &GGUF, "nothing has to go");
    refused(&demo(), 100_000, &any_number(), &GGUF, "the smallest that this model becomes is 0.");
    let none = PlanOptions { remove: Some(0), ..any_number() };
    refused(&demo(), 250_000, &none, &GGUF, "with 12 of 12 layers");
    let folder = WriteOptions { container: Some(Container::Safetensors), ..GGUF };
    refused(&demo(), 500_000, &any_number(), &folder, "name a .gguf file");
    let typed = WriteOptions { dtype: Some("q4_k_m".parse().unwrap()), ..GGUF };
    refused(&demo(), 500_000, &any_number(), &typed, "leave out the type");
    assert!(run(demo().check_size(500_000, &any_number(), &GGUF)).is_ok());
}

#[test]
fn a_size_is_met_by_methods_that_fit_nothing_and_from_gguf_files() {
    let mut session = session("stories-planted-12L");
    let calibration = CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() };
    run(session.similarity(&calibration, &Silent)).unwrap();
    let options = PlanOptions { remove: None, ..Method::named("shortgpt").unwrap().options(0, 0) };
    let SizeReport { search, plan, .. } = best(&mut session, 500_000, &options);
    assert!(search.models.iter().all(|model| model.bytes <= 500_000));
    // Models that fit nothing are judged on the calibration text.
    assert_eq!(plan.text.name, calibration.text_options().text_and_name().1);
}

#[test]
fn another_size_begins_with_the_prices_that_are_known() {
    let store = MemoryParts::default();
    let runs = Cell::new(0);
    let search = |size: u64| {
        let count = Pricing(&runs);
        let kept = RunOptions::watched_by(&count).kept_in(Some(Box::new(store.clone())));
        run(calibrated().best_of_size(size, &any_number(), &GGUF, kept)).unwrap().search
    };
    let first = search(450_000);
    assert!(runs.take() > 0);
    let second = search(400_000);
    assert_eq!(runs.take(), 0, "prices were measured again");
    let types = |search: &SizeSearch| search.parts.iter().map(|part| part.types.clone()).collect::<Vec<_>>();
    assert_eq!(types(&first), types(&second));
    let [first_of_all, next, ..] = &second.models[..] else { panic!("{second:?}") };
    let mean = |kl: &[f64]| kl.iter().sum::<f64>() / kl.len() as f64;
    let difference = second.difference.unwrap().difference;
    assert!((mean(&next.kl_by_sequence) - mean(&first_of_all.kl_by_sequence) - difference).abs() < 1e-12);
    // What is found goes neither by the store nor by the sizes before.
    assert_eq!(second, best(&mut calibrated(), 400_000, &any_number()).search);
}

/// Counts the batches of types that are priced.
struct Pricing<'a>(&'a Cell<usize>);

impl Observer for Pricing<'_> {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, laminate::Result<()>> {
        if let Event::Progress(progress) = &event {
            self.0.set(self.0.get() + usize::from(progress.detail.starts_with("what types cost")));
        }
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn layers_before_the_first_that_is_stored_otherwise_are_not_run_again() {
    let model = run(demo::open()).unwrap();
    let text = TextOptions { samples: 4, tokens: 32, ..TextOptions::default() };
    let (sequences, _) = sequences(&model, &text).unwrap();
    let accelerator = cpu();
    let as_it_is = Context::new(&model, &accelerator, &sequences, &Silent);
    let nothing = async |_: usize, _: &_, _: &_| Ok(());
    let mut original = run(Stream::open(&as_it_is, NewLayer::originals(&model))).unwrap();
    run(original.run(&as_it_is, Stage::Evaluate, 0, nothing)).unwrap();
    for (types, unchanged) in [
        ("parts:output=keep/keep/q4_0", 8),
        ("parts:up=keep/q8_0/keep", 4),
        ("parts:value=q4_0", 0),
        ("parts:head=q4_0", 0),
    ] {
        let output = WriteOptions { dtype: Some(types.parse().unwrap()), ..GGUF };
        let storage = output.storage(&model);
        assert_eq!(storage.unchanged_layers(&model), unchanged, "{types}");
        let context = Context { storage, ..as_it_is };
        let mut stored = run(original.as_stored(&context)).unwrap();
        let (known, _) = stored.nearest(model.config.n_layers).unwrap();
        assert_eq!(known, unchanged, "{types}");
        run(stored.run(&context, Stage::Evaluate, known, nothing)).unwrap();
        let mut anew = run(Stream::open(&context, NewLayer::originals(&model))).unwrap();
        run(anew.run(&context, Stage::Evaluate, 0, nothing)).unwrap();
        let numbers =
            |stream: &Stream| run(to_host(stream.last().unwrap().chunks[0].clone(), "in a test")).unwrap();
        assert_eq!(numbers(&stored), numbers(&anew), "{types}");
    }
}

#[test]
fn finished_work_of_one_model_is_not_taken_for_that_of_another_type() {
    let bare = best(&mut calibrated(), 450_000, &any_number());
    let store = MemoryParts::default();
    // The second search goes on with what the first one kept.
    for _ in 0..2 {
        let kept = RunOptions::default().kept_in(Some(Box::new(store.clone())));
        let report = run(calibrated().best_of_size(450_000, &any_number(), &GGUF, kept)).unwrap();
        assert_eq!(report.search, bare.search);
        assert!(!store.parts.borrow().is_empty());
    }
}
