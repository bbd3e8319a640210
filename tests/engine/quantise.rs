//! Rounding by what inputs are: GPTQ, AWQ and SmoothQuant after merging. What is measured is what is written, it is better
//! than rounding to the nearest, and what makes no sense is refused before the work.

use laminate::format::Container;
use laminate::format::packed::PackedType;
use laminate::protocol::plan::PlanReport;
use laminate::{
    CalibrationOptions, Error, MergePlan, Method, Model, Rounding, Session, Silent, TextOptions, WriteOptions,
};

use crate::architectures::{self, FIXTURES, hugging_face};
use crate::common::{Files, MemoryFolder, cpu, data, files, open_files, run, sources};

/// All pairs that make sense.
const ROUNDINGS: [(&str, Rounding); 8] = [
    ("int4", Rounding::Nearest),
    ("int4", Rounding::Gptq),
    ("int4", Rounding::Awq),
    ("gptq-int4", Rounding::Nearest),
    ("gptq-int4", Rounding::Gptq),
    ("gptq-int4", Rounding::Awq),
    ("int8", Rounding::Nearest),
    ("int8", Rounding::SmoothQuant),
];

fn stored(pack: &str, rounding: Option<Rounding>) -> WriteOptions {
    WriteOptions {
        pack: Some(pack.parse::<PackedType>().unwrap()),
        rounding,
        container: Some(Container::Safetensors),
        ..WriteOptions::default()
    }
}

/// A small random model whose widths are whole groups of 32, in BF16.
fn plain() -> Files {
    let mut all = files("stories260K");
    for file in ["config.json", "model.safetensors"] {
        all.insert(file.to_owned(), std::fs::read(data(&format!("packed/ct_int8/{file}"))).unwrap());
    }
    let options = WriteOptions {
        dtype: Some(laminate::format::element::Element::Bf16.into()),
        container: Some(Container::Safetensors),
        ..WriteOptions::default()
    };
    let mut folder = MemoryFolder::default();
    let session = Session::new(open_files(&all).unwrap(), cpu());
    run(session.write(&MergePlan::unmerged(4), &options, &mut folder, &Silent)).unwrap();
    folder.state.borrow().files.clone()
}

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 48, tokens: 24, ..CalibrationOptions::default() }
}

/// Removes one layer, writes the model and returns the report and the files.
fn compressed(model: Model, method: &str, output: &WriteOptions) -> laminate::Result<(PlanReport, Files)> {
    let mut session = Session::new(model, cpu());
    run(session.check_output(output))?;
    run(session.similarity(&calibration(), &Silent))?;
    session.judge_on(TextOptions { samples: 16, tokens: 24, ..TextOptions::default() });
    let report = run(session.plan(&Method::named(method)?.options(1, 0), output, &Silent))?;
    let mut folder = MemoryFolder::default();
    run(session.write(&report.plan, output, &mut folder, &Silent))?;
    let files = folder.state.borrow().files.clone();
    Ok((report, files))
}

#[test]
fn what_is_read_back_is_what_was_measured() {
    let files = plain();
    for (pack, rounding) in ROUNDINGS {
        for method in ["mka", "shortgpt", "laminate"] {
            let output = stored(pack, Some(rounding));
            let (report, written) = compressed(open_files(&files).unwrap(), method, &output).unwrap();
            let again = open_files(&written).unwrap();
            let scheme = output.storage(&open_files(&files).unwrap()).pack.unwrap();
            let packed = again.tensors().iter().filter_map(|entry| entry.packed.as_ref());
            assert_eq!(packed.filter(|packed| packed.scheme == scheme).count(), 7 * 3, "{pack} {rounding}");
            let text = match method {
                "laminate" => TextOptions { samples: 16, tokens: 24, ..TextOptions::default() },
                _ => calibration().text_options(),
            };
            let original = run(Model::open("original", &sources(&files))).unwrap();
            let measured = run(laminate::evaluate(&again, Some(&original), &cpu(), &text, &Silent)).unwrap();
            let (said, read) = (report.merged.kl.unwrap(), measured.kl.unwrap());
            println!("{pack} {rounding} {method}: {said}");
            assert!((said / read - 1.0).abs() < 1e-4, "{pack} {rounding} {method}: {said}, read {read}");
        }
    }
}

/// Each architecture whose matrices can be packed at all: GPTQ, AWQ and SmoothQuant go around what their layers have of their
/// own, and what is measured is what is written.
#[test]
fn architectures_are_rounded_as_they_are_written() {
    let mut done = 0;
    for name in FIXTURES {
        for (pack, rounding) in ROUNDINGS.into_iter().filter(|(_, rounding)| *rounding != Rounding::Nearest) {
            let output = stored(pack, Some(rounding));
            let model = || open_files(&hugging_face(name, "config.json")).unwrap();
            if let Err(refused) = output.check(&model()) {
                assert!(matches!(refused, Error::Usage(_)), "{name} {pack} {rounding}: {refused}");
                continue;
            }
            let (said, measured, files) = architectures::written(model(), "shortgpt", &output).unwrap();
            assert!((said / measured - 1.0).abs() < 2e-4, "{name} {pack} {rounding}: {said}, not {measured}");
            assert!(open_files(&files).unwrap().tensors().iter().any(|entry| entry.packed.is_some()));
            done += 1;
        }
    }
    assert!(done > 40, "{done}");
}

/// Rows of queries and keys stand in another order in GGUF files.
#[test]
fn matrices_of_gguf_files_are_rounded_as_they_are_written() {
    for (pack, rounding) in ROUNDINGS {
        let model = run(Model::open(
            "model.gguf",
            &laminate::files::source::open_path(&data("architectures/seed_oss/model.gguf")).unwrap(),
        ));
        let (said, measured, _) =
            architectures::written(model.unwrap(), "shortgpt", &stored(pack, Some(rounding))).unwrap();
        assert!((said / measured - 1.0).abs() < 2e-4, "{pack} {rounding}: {said}, not {measured}");
    }
}

/// The KL of a model by the text that it is judged on.
fn kl(files: &Files, output: &WriteOptions) -> f64 {
    compressed(open_files(files).unwrap(), "laminate", output).unwrap().0.merged.kl.unwrap()
}

#[test]
fn rounding_by_inputs_is_better_than_to_the_nearest() {
    let files = plain();
    let floats =
        kl(&files, &WriteOptions { container: Some(Container::Safetensors), ..WriteOptions::default() });
    let lost = |pack: &str, rounding| kl(&files, &stored(pack, rounding)) - floats;
    let nearest = lost("int4", Some(Rounding::Nearest));
    let gptq = lost("int4", Some(Rounding::Gptq));
    let awq = lost("int4", Some(Rounding::Awq));
    println!("{floats} {nearest} {gptq} {awq}");
    assert!(gptq < 0.9 * nearest, "{gptq} {nearest}");
    // What is usual is what is best, and the layout does not change the numbers.
    assert_eq!(lost("int4", None), gptq);
    assert_eq!(lost("gptq-int4", None), gptq);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = open_files(&plain()).unwrap();
    for (pack, rounding, expected) in [
        (
            "int4",
            Rounding::SmoothQuant,
            "rounding smoothquant is not for int4; choose nearest or gptq or awq",
        ),
        ("int8", Rounding::Gptq, "rounding gptq is not for int8; choose nearest or smoothquant"),
        ("int8", Rounding::Awq, "rounding awq is not for int8"),
        (
            "gptq-int4-g64",
            Rounding::Gptq,
            "cannot be stored as gptq-int4-g64, because groups of 64 do not divide its width of 32",
        ),
    ] {
        let message = stored(pack, Some(rounding)).check(&model).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let alone = WriteOptions { pack: None, ..stored("int4", Some(Rounding::Gptq)) };
    assert!(alone.check(&model).unwrap_err().to_string().contains("choose the type int4 or int8 too"));
    // Without a calibration text there is nothing to round by.
    let write = |rounding| {
        let session = Session::new(open_files(&plain()).unwrap(), cpu());
        let output = stored("int4", rounding);
        run(session.write(&MergePlan::unmerged(4), &output, &mut MemoryFolder::default(), &Silent)).map(drop)
    };
    assert!(matches!(write(Some(Rounding::Gptq)), Err(Error::Usage(_))));
    write(None).unwrap();
    write(Some(Rounding::Nearest)).unwrap();
}

#[test]
fn a_gram_matrix_that_is_too_large_leaves_a_matrix_to_the_nearest() {
    let files = plain();
    let mut session = Session::new(open_files(&files).unwrap(), cpu());
    run(session.similarity(&calibration(), &Silent)).unwrap();
    let output = stored("int4", Some(Rounding::Gptq));
    let of = |session: &mut Session| {
        run(session.plan(&Method::named("shortgpt").unwrap().options(1, 0), &output, &Silent)).unwrap()
    };
    let free = of(&mut session);
    session.limit_fits(1000);
    let bound = of(&mut session);
    let said = |report: &PlanReport| report.warnings.iter().filter(|w| w.contains("Gram matrix")).count();
    assert_eq!((said(&free), said(&bound)), (0, 2));
    assert_ne!(free.merged.kl, bound.merged.kl);
    let nearest = stored("int4", Some(Rounding::Nearest));
    let nearest =
        run(session.plan(&Method::named("shortgpt").unwrap().options(1, 0), &nearest, &Silent)).unwrap();
    assert_eq!(nearest.merged.kl, bound.merged.kl);
}

#[test]
fn options_and_recipes_keep_the_rounding() {
    let output = stored("gptq-int4-g128", Some(Rounding::Awq));
    let json = serde_json::to_value(&output).unwrap();
    assert_eq!((&json["pack"], &json["rounding"]), (&"gptq-int4-g128".into(), &"awq".into()));
    assert_eq!(serde_json::from_value::<WriteOptions>(json).unwrap(), output);
    assert!(serde_json::to_value(WriteOptions::default()).unwrap().get("rounding").is_none());
}
