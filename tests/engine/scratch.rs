//! Finished layers that wait in a scratch space: the model is the same, bit by bit, and memory holds one layer.

use laminate::format::Container;
use laminate::format::packed::PackedType;
use laminate::protocol::plan::PlanReport;
use laminate::{CalibrationOptions, Method, PartStore, PlanOptions, Rounding, Session, Silent, WriteOptions};

use crate::common::{Files, MemoryFolder, MemoryParts, cpu, files, open_files, run};
use crate::quantise::plain;

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() }
}

fn plan() -> PlanOptions {
    Method::named("laminate").unwrap().options(2, 0)
}

/// Kinds of files, and how matrices are rounded to them: fitted layers that are copied to a file as they are, rounded codes,
/// and blocks beside their numbers before they were encoded.
fn outputs() -> Vec<WriteOptions> {
    let packed = |pack: &str, rounding| WriteOptions {
        pack: Some(pack.parse::<PackedType>().unwrap()),
        rounding: Some(rounding),
        container: Some(Container::Safetensors),
        ..WriteOptions::default()
    };
    let blocks = WriteOptions {
        dtype: Some("q4_0".parse().unwrap()),
        rounding: Some(Rounding::Gptq),
        container: Some(Container::Gguf),
        ..WriteOptions::default()
    };
    vec![
        WriteOptions::default(),
        packed("int4-g32", Rounding::Gptq),
        packed("int4-g32", Rounding::Awq),
        packed("int8", Rounding::SmoothQuant),
        blocks,
    ]
}

/// Makes and writes the model, with finished layers in `scratch` if there is one.
fn made(output: &WriteOptions, scratch: Option<&MemoryParts>) -> (PlanReport, Files) {
    let mut session = Session::new(open_files(&plain()).unwrap(), cpu());
    if let Some(scratch) = scratch {
        session.spill_to(Box::new(scratch.clone()));
    }
    run(session.similarity(&calibration(), &Silent)).unwrap();
    let report = run(session.plan(&plan(), output, &Silent)).unwrap();
    let mut folder = MemoryFolder::default();
    run(session.write(&report.plan, output, &mut folder, &Silent)).unwrap();
    let files = folder.state.borrow().files.clone();
    (report, files.into_iter().filter(|(name, _)| !name.ends_with(".md")).collect())
}

#[test]
fn the_model_is_the_same_in_memory_or_not() {
    for output in outputs() {
        let (report, files) = made(&output, None);
        let scratch = MemoryParts::default();
        let (spilled, others) = made(&output, Some(&scratch));
        let parts = scratch.parts.borrow();
        assert!(!parts.is_empty() && parts.keys().all(|name| name.starts_with("scratch-")), "{parts:?}");
        assert_eq!(report.merged, spilled.merged, "{output:?}");
        assert_eq!(files.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
        for (name, bytes) in &files {
            assert!(bytes == &others[name], "{name} differs in {output:?}");
        }
    }
}

#[test]
fn a_full_scratch_space_leaves_layers_in_memory() {
    let output = &outputs()[1];
    let (_, files) = made(output, None);
    let (report, others) = made(output, Some(&MemoryParts::full_at(2_000)));
    assert!(files == others);
    let said = |warning: &&String| warning.contains("stay in memory") && warning.contains("the disk is full");
    assert_eq!(report.warnings.iter().filter(said).count(), 1, "{:?}", report.warnings);
}

#[test]
fn layers_of_models_that_are_gone_leave_the_scratch_space() {
    let scratch = MemoryParts::default();
    let mut session = Session::new(open_files(&plain()).unwrap(), cpu());
    session.spill_to(Box::new(scratch.clone()));
    run(session.similarity(&calibration(), &Silent)).unwrap();
    let mut most = 0;
    for _ in 0..4 {
        run(session.plan(&plan(), &WriteOptions::default(), &Silent)).unwrap();
        most = most.max(scratch.parts.borrow().len());
    }
    // Those of the last model, of the one that is made, and one that goes when the next is written.
    assert!(most <= 2 * 2 + 1, "{most} parts");
    assert!(run(scratch.names()).unwrap().len() <= most);
}

#[test]
fn the_estimate_counts_layers_that_wait_in_memory() {
    let fitted = (files("stories-planted-12L"), ("laminate", 7), WriteOptions::default());
    // Nothing else takes as much memory.
    let rounded = outputs().split_off(1).into_iter().map(|output| (plain(), ("mka", 1), output));
    for (files, (method, remove), output) in std::iter::once(fitted).chain(rounded) {
        let mut session = Session::new(open_files(&files).unwrap(), cpu());
        let plan = Method::named(method).unwrap().options(remove, 0);
        let peak = |session: &Session| {
            run(session.estimate_plan(&calibration(), &plan, &output)).unwrap().peak_bytes
        };
        let in_memory = peak(&session);
        session.spill_to(Box::new(MemoryParts::default()));
        assert!(peak(&session) < in_memory, "{output:?}");
    }
}
