//! The program itself: what it refuses before any layer runs, what it repeats, and what it leaves behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::data;

/// A directory for the files of a test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, contents: &str) -> String {
        fs::create_dir_all(self.0.path().join(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn model(name: &str) -> String {
    data(&format!("models/{name}")).to_str().unwrap().to_owned()
}

/// The program with its arguments, each after a space.
fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laminate"));
    command.args(arguments.split(' ').filter(|argument| !argument.is_empty())).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn done(arguments: &str) -> Output {
    let output = program(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", said(&output));
    output
}

#[track_caller]
fn json(arguments: &str) -> Value {
    serde_json::from_slice(&done(&format!("{arguments} --json")).stdout).unwrap()
}

/// The arguments end the program with `code` and a sentence before any layer runs.
#[track_caller]
fn refused(code: i32, arguments: &str, says: &str) {
    let output = program(arguments).output().unwrap();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments}: {message}");
    assert!(message.contains(says), "{arguments}: {message}");
    assert!(!message.contains("capturing") && !message.contains("panicked"), "{arguments}: {message}");
}

const QUICK: &str = "--samples 24 --tokens 32 --device cpu --eval-samples 8";

#[test]
fn a_recipe_is_repeated_with_its_texts_and_settings_or_not_at_all() {
    let place = Place::new();
    let part = |skipped, taken| laminate::demo::TEXT.chars().skip(skipped).take(taken).collect::<String>();
    let [first, second, third] = [part(0, 50_000), part(50_000, 16_000), part(66_000, 14_000)];
    let text = place.file("a.txt", &first);
    let judge = place.file("e.txt", &second);
    let (small, x, y) = (model("stories260K"), place.path("x"), place.path("y"));
    let made = json(&format!(
        "compress {small} --method laminate --remove 1 --text {text} --eval-text {judge} --dtype f16 --fit-memory \
         1.5GB --out {x} {QUICK}"
    ));
    assert_eq!(made["recipe"]["fit_bytes"], 1_500_000_000);
    assert_eq!(made["recipe"]["judged_on"]["options"]["text_name"], "e.txt");
    assert_eq!(made["text"]["name"], "e.txt");
    let again = format!("compress {small} --recipe {x}/recipe.json --device cpu --out {y}");

    refused(2, &again, "calibrated on a.txt");
    refused(2, &format!("{again} --text {judge}"), "calibrated on a.txt, not on e.txt");
    let other = place.file("other/a.txt", &second);
    refused(2, &format!("{again} --text {other} --eval-text {judge}"), "a.txt is not the text");
    refused(2, &format!("{again} --text {text}"), "judged on e.txt");
    let other = place.file("other/e.txt", &first);
    refused(2, &format!("{again} --text {text} --eval-text {other}"), "e.txt is not the text");
    refused(2, &format!("{again} --text {text} --eval-text {judge} --method mka"), "cannot be used with");

    // A copy of another name is the same text.
    let copy = place.file("copy.txt", &first);
    let repeated = json(&format!("{again} --text {copy} --eval-text {judge}"));
    assert_eq!(repeated["merged"], made["merged"]);
    assert_eq!(repeated["text"], made["text"]);
    for key in ["output", "fit_bytes", "judged_on", "text_hash"] {
        assert_eq!(repeated["recipe"][key], made["recipe"][key], "{key}");
    }
    assert_eq!(repeated["groups"], made["groups"]);
    let weights = |folder: &str| fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    assert!(weights(&x) == weights(&y), "the weights differ");

    // What is given anew comes before the recipe.
    let (z, f) = (place.path("z"), place.file("f.txt", &third));
    let anew = json(&format!(
        "compress {small} --recipe {x}/recipe.json --device cpu --out {z} --text {text} --eval-text {f} --dtype f32 \
         --fit-memory 1GB"
    ));
    assert_eq!(anew["text"]["name"], "f.txt");
    assert_eq!(anew["recipe"]["output"]["dtype"], "f32");
    assert_eq!(anew["recipe"]["fit_bytes"], 1_000_000_000);
}

/// What a run uses is said before any layer runs.
#[track_caller]
fn said_first(output: &Output, sentences: &[&str]) {
    let said = said(output);
    let first = said.split("capturing").next().unwrap();
    for sentence in sentences {
        assert!(first.contains(sentence), "{sentence}: {first}");
    }
}

#[test]
fn a_model_is_refitted_and_judged_on_prose_where_nothing_else_is_asked_for() {
    use laminate::prose::{CALIBRATION_NAME, EVALUATION_NAME};

    let place = Place::new();
    let (small, x, y) = (model("stories260K"), place.path("x"), place.path("y"));
    let output = done(&format!("compress {small} --remove 1 --device cpu --out {x} --json"));
    said_first(
        &output,
        &[
            "laminate: layers are selected by redundancy, and spans become one layer by pool-refit",
            &format!("calibrating on {CALIBRATION_NAME}: 96 sequences of 256 tokens"),
            &format!("judging on {EVALUATION_NAME}: 32 sequences of 256 tokens"),
        ],
    );
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let recipe = &made["recipe"];
    assert_eq!(recipe["plan"]["operator"], "pool-refit");
    assert_eq!(recipe["calibration"]["text_name"], CALIBRATION_NAME);
    assert_eq!(recipe["calibration"]["points"], "tokens:8");
    assert_eq!(recipe["calibration"]["draw"], "spread");
    assert_eq!(made["text"]["name"], EVALUATION_NAME);

    // The text is built in: a recipe finds it again.
    let repeated = json(&format!("compress {small} --recipe {x}/recipe.json --device cpu --out {y}"));
    assert_eq!(repeated["merged"], made["merged"]);
    let weights = |folder: &str| fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    assert!(weights(&x) == weights(&y), "the weights differ");

    let judged = json(&format!("evaluate {x} --against {small} --device cpu"));
    assert_eq!(judged["text"], made["text"]);
    let (kl, known) = (judged["kl"].as_f64().unwrap(), made["merged"]["kl"].as_f64().unwrap());
    assert!((kl / known - 1.0).abs() < 1e-3, "{kl}, not {known}");
}

#[test]
fn the_demo_keeps_its_stories() {
    let place = Place::new();
    let output = done(&format!("compress demo --remove 7 --device cpu --out {} --json", place.path("x")));
    said_first(
        &output,
        &["calibrating on TinyStories, held-out part (built in): 128 sequences of 48 tokens"],
    );
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(made["text"]["name"], laminate::demo::EVALUATION_NAME);
    assert!(made["merged"]["kl"].as_f64().unwrap() < 0.002);
    let judged = json("evaluate demo --device cpu");
    assert_eq!(judged["text"]["name"], laminate::demo::EVALUATION_NAME);
    assert_eq!(judged["text"]["sequences"], 64);
}

#[test]
fn as_much_text_is_used_as_the_time_allows() {
    let (small, planted) = (model("stories260K"), model("stories-planted-12L"));
    // The fewest that say anything, of a time in which nothing can be done; all there are, of one that is endless.
    for (command, minutes, sequences) in [
        (format!("similarity {small}"), "0.0001", 24),
        (format!("similarity {small} --samples 40"), "0.0001", 24),
        (format!("compare {small} --remove 1 --methods shortgpt,laminate"), "0.0001", 24),
        (format!("similarity {planted} --tokens 512"), "600", 100),
    ] {
        let output = done(&format!("{command} --points last --minutes {minutes} --device cpu --json"));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = if report["calibration"].is_null() { &report["text"] } else { &report["calibration"] };
        let used = text["sequences"].as_u64().unwrap();
        if minutes == "600" {
            assert!(used > sequences, "{used}");
        } else {
            assert_eq!(used, sequences);
        }
        said_first(&output, &["as many as about"]);
    }
    // A number that is given stays.
    let report = json(&format!("similarity {small} --samples 30 --device cpu"));
    assert_eq!(report["text"]["sequences"], 30);
}

#[test]
fn what_cannot_be_done_is_said_before_any_layer_runs() {
    let place = Place::new();
    let (small, x) = (model("stories260K"), place.path("x"));
    let compress = format!("compress {small} --out {x} {QUICK}");
    let sizes = format!("{compress} --remove 1 --method mka --calibration-sizes 12");
    refused(2, &sizes, "operator average is not fitted");
    refused(2, &format!("{compress} --remove 1 --alpha 0.5"), "give --method mka");
    for size in ["0", "1"] {
        let sizes = format!("{compress} --remove 1 --method laminate --calibration-sizes 12,{size}");
        refused(2, &sizes, &format!("nothing can be fitted to {size} sequences"));
    }
    refused(2, &format!("{compress} --remove 1 --keep 0,1,2,3,4"), "to be kept: 0, 1, 2, 3, 4");
    refused(2, &format!("{compress} --remove 1 --dtype q4_0"), "q4_0 is for GGUF files");
    let ours = place.file("ours.txt", laminate::prose::CALIBRATION);
    let judged = format!("{compress} --remove 1 --method laminate --eval-text {ours}");
    refused(2, &judged, "ours.txt was seen in calibration");
    refused(
        2,
        &format!("{compress} --remove 1").replace("--eval-samples 8", "--eval-samples 0"),
        "--eval-samples",
    );
    refused(2, &format!("{compress} --remove 1 --minutes 0"), "not a time");
    refused(2, &format!("similarity {small} --minutes 1 --text self"), "give --text a file");
    for name in ["x.safetensors", "x.BIN", "x.json"] {
        refused(
            2,
            &format!("compress {small} --remove 1 --out {} {QUICK}", place.path(name)),
            "would be a directory",
        );
    }
    let compare = format!("compare {small} --remove 1 --methods shortgpt {QUICK}");
    refused(1, &format!("{compare} --csv {}", place.path("no/such/x.csv")), "choose another place");
    refused(1, &format!("{compare} --markdown {}", place.0.path().display()), "choose another place");
    refused(2, &format!("{compare} --dtype q4_k_x"), "type q4_k_x is not supported; f32, f16");
    refused(2, &format!("{compare} --sizes big"), "--sizes big is not a size");
    refused(2, &format!("similarity {small} --samples 0"), "--samples is 0");
    refused(2, &format!("evaluate {small} --samples 0"), "--samples is 0");
    refused(1, &format!("evaluate {small} --logits {}", place.path("no/such/x")), "choose another place");

    // A tokenizer that no GGUF file can say.
    let composed = place.path("composed");
    fs::create_dir(&composed).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&small).join(name), Path::new(&composed).join(name)).unwrap();
    }
    let mut tokenizer: Value =
        serde_json::from_slice(&fs::read(Path::new(&small).join("tokenizer.json")).unwrap()).unwrap();
    let steps = tokenizer["normalizer"]["normalizers"].as_array_mut().unwrap();
    steps.insert(0, serde_json::json!({"type": "NFKC"}));
    fs::write(Path::new(&composed).join("tokenizer.json"), tokenizer.to_string()).unwrap();
    refused(1, &format!("compress {composed} --remove 1 --out {x}.gguf {QUICK}"), "tokenizer.json: its");
    // Nothing is left of all that.
    assert_eq!(place.names(), ["composed", "ours.txt"]);
}

#[test]
fn logits_are_those_that_the_perplexity_is_of() {
    let place = Place::new();
    let file = place.path("logits.safetensors");
    // A Gemma caps its logits; sequences of 17 tokens are no chunk of any kind.
    for of in ["demo".to_owned(), "tests/data/architectures/gemma2/hf".to_owned()] {
        let report = json(&format!("evaluate {of} --samples 5 --tokens 17 --logits {file}"));
        let bytes = fs::read(&file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (tokens, logits) = (tensors.tensor("tokens").unwrap(), tensors.tensor("logits").unwrap());
        let width = report["model"]["vocab_size"].as_u64().unwrap() as usize;
        assert_eq!((tokens.shape(), logits.shape()), (&[5, 17][..], &[5, 17, width][..]));
        let tokens: Vec<usize> =
            tokens.data().chunks(4).map(|id| i32::from_le_bytes(id.try_into().unwrap()) as usize).collect();
        let logits: Vec<f64> =
            logits.data().chunks(4).map(|z| f32::from_le_bytes(z.try_into().unwrap()).into()).collect();
        let mut nll = 0.0;
        for (i, row) in logits.chunks(width).enumerate().filter(|(i, _)| i % 17 != 16) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|z| (z - largest).exp()).sum();
            nll += largest + sum.ln() - row[tokens[i + 1]];
        }
        let (own, reported) = ((nll / 80.0).exp(), report["perplexity"].as_f64().unwrap());
        assert!((own / reported - 1.0).abs() < 1e-5, "{of}: {own} against {reported}");
    }
}

#[test]
fn an_importance_matrix_goes_out_and_comes_in() {
    let place = Place::new();
    let (own, other) = (place.path("own.gguf"), place.path("other.gguf"));
    let report = json(&format!("imatrix demo --samples 8 --out {own}"));
    assert_eq!(report["file"]["bytes"], fs::metadata(&own).unwrap().len());
    assert_eq!(
        (&report["text"]["sequences"], &report["text"]["tokens_per_sequence"]),
        (&8.into(), &48.into())
    );
    done(&format!("imatrix {} --samples 8 --tokens 16 --out {other}", model("stories260K")));

    let out = place.path("new.gguf");
    let of_demo = format!("compress demo --remove 1 --method shortgpt --samples 24 --out {out}");
    refused(2, &format!("{of_demo} --imatrix {other}"), "is not in it");
    refused(1, &format!("{of_demo} --imatrix {}", place.path("none.gguf")), "none.gguf");
    let text = place.file("text.txt", "not an importance matrix");
    refused(2, &format!("{of_demo} --imatrix {text}"), "not an importance matrix");
    refused(2, &format!("{of_demo} --imatrix {own} --no-imatrix"), "cannot be used with");
    refused(1, &format!("{of_demo} --save-imatrix {}/", place.path("nowhere")), "choose another place");
    assert!(!Path::new(&out).exists());

    let saved = place.path("saved.gguf");
    let report = json(&format!("{of_demo} --dtype q4_0 --imatrix {own} --save-imatrix {saved}"));
    assert_eq!(report["recipe"]["imatrix"]["name"], "own.gguf");
    assert_eq!(report["recipe"]["output"]["importances"], true);
    // The demo has no chat template, which the file lacks; nothing else is to be said.
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().all(|said| said.as_str().unwrap().contains("chat template")), "{warnings:?}");
    // One layer less, whose tensors are as large.
    let bytes = |file: &str| fs::metadata(file).unwrap().len();
    assert!(bytes(&saved) < bytes(&own));
    let recipe = place.file("recipe.json", &report["recipe"].to_string());
    let again = format!("compress demo --recipe {recipe} --out {}", place.path("again.gguf"));
    refused(2, &again, "own.gguf, which a recipe does not hold");
    done(&format!("{again} --imatrix {own}"));
    let compare = |more: &str| -> f64 {
        let rows =
            json(&format!("compare {out} --remove 1 --methods shortgpt --samples 24 --tokens 48 {more}"));
        rows["rows"][0]["quality"]["perplexity"].as_f64().unwrap()
    };
    assert_ne!(compare("--dtype q4_1"), compare("--dtype q4_1 --no-imatrix"));
}

#[test]
fn bad_numbers_are_answered_and_lists_may_have_spaces() {
    let place = Place::new();
    let compress = |more: &[&str]| {
        let output = program(&format!(
            "compress {} --method mka --out {} {QUICK} --json",
            model("stories260K"),
            place.path("o")
        ))
        .args(more)
        .output()
        .unwrap();
        (output.status.code(), said(&output), output.stdout)
    };
    for (more, says) in [
        (["--remove", "-1"], "not a whole number from 0 up"),
        (["--keep-ratio", "-1"], "--keep-ratio -1 is not between 0 and 1"),
        (["--absorb", "1,-2"], "not a whole number from 0 up"),
    ] {
        let (code, message, _) = compress(&more);
        assert!(code == Some(2) && message.contains(says), "{message}");
        assert!(!message.contains("unexpected argument"), "{message}");
    }
    // All similarities are above -1: of five layers, one is left.
    let (code, message, report) =
        compress(&["--min-similarity", "-1", "--keep", "0, 1", "--max-shard-size", "1.5GB"]);
    assert_eq!(code, Some(0), "{message}");
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["groups"], serde_json::json!([[0], [1], [2, 3, 4]]));
    assert_eq!(report["recipe"]["output"]["max_shard_bytes"], 1_500_000_000);
}

#[test]
fn a_name_in_capitals_is_a_gguf_file_too() {
    let place = Place::new();
    let source = model("gguf/stories260K-Q8_0.gguf");
    for (given, made) in [("UP.GGUF", "UP.gguf"), ("my,model.Gguf", "my-model.gguf")] {
        let report = json(&format!("compress {source} --remove 1 --out {} {QUICK}", place.path(given)));
        assert_eq!(report["files"][0]["name"], made);
        assert!(fs::read(place.path(made)).unwrap().starts_with(b"GGUF"));
        // What is there already is found before the run.
        let again = format!("compress {source} --remove 1 --out {} {QUICK}", place.path(given));
        refused(2, &again, "something here already");
    }
    assert_eq!(place.names(), ["UP.gguf", "my-model.gguf"]);
}

/// The perplexity of transformers on these tokens.
#[test]
fn a_text_comes_from_standard_input_and_without_its_byte_order_mark() {
    let place = Place::new();
    let text: String = laminate::demo::TEXT.chars().take(60_000).collect();
    let plain = place.file("plain.txt", &text);
    let marked = place.file("bom.txt", &format!("\u{feff}{text}"));
    let evaluate = format!(
        "evaluate {} --samples 8 --tokens 48 --draw first --device cpu --json --text",
        model("stories260K")
    );
    let piped = program(&format!("{evaluate} -")).stdin(fs::File::open(&marked).unwrap()).output().unwrap();
    for (output, name) in [
        (done(&format!("{evaluate} {plain}")), "plain.txt"),
        (done(&format!("{evaluate} {marked}")), "bom.txt"),
        (piped, "standard input"),
    ] {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let perplexity = report["perplexity"].as_f64().unwrap();
        assert!((perplexity / 9.87605 - 1.0).abs() < 1e-5, "{name}: {perplexity}");
        assert_eq!(report["text"]["name"], name);
    }
    let both = format!(
        "compress {} --remove 1 --text - --eval-text - --out {}",
        model("stories260K"),
        place.path("o")
    );
    refused(2, &both, "standard input");
}

#[test]
fn a_model_is_stored_in_fewer_bits_without_losing_layers() {
    let place = Place::new();
    let (kept, file) = (place.path("kept"), place.path("fewer.gguf"));
    let unchanged = "cannot remove 0 of 12 layers where nothing else changes";
    refused(2, &format!("compress demo --remove 0 {QUICK} --out {kept}"), unchanged);
    let report = json(&format!("compress demo --remove 0 --dtype q4_0 {QUICK} --out {file}"));
    assert_eq!(report["groups"].as_array().unwrap().len(), 12);
    let bytes = |which: &str| report["bytes"][which].as_u64().unwrap();
    assert!(bytes("after") < bytes("before") * 2 / 3, "{report}");
    let evaluation = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/evaluation.txt");
    let text = format!("--text {evaluation} --draw first --samples 8 --tokens 32 --device cpu");
    let read_back = json(&format!("evaluate {file} --against demo {text}"));
    let kl = |quality: &Value| quality["kl"].as_f64().unwrap();
    let [written, measured] = [kl(&read_back), kl(&report["merged"])];
    assert!(measured > 1e-4 && (written - measured).abs() < 1e-6, "{written} {measured}");
}

#[test]
fn the_same_pair_is_the_same_method_in_compress_and_compare() {
    let place = Place::new();
    let planted = model("stories-planted-12L");
    let compress = |name: &str, method: &str| {
        let out = place.path(name);
        json(&format!("compress {planted} --remove 3 {method} --out {out} {QUICK}"))
    };
    let [inherited, named, iterative] = [
        compress("a", "--method mka --operator refit"),
        compress("b", "--method mka+refit"),
        compress("c", "--method mka+refit+iterative"),
    ];
    for (report, one_shot) in [(&inherited, true), (&named, true), (&iterative, false)] {
        assert_eq!(report["recipe"]["options"]["one_shot"], one_shot);
    }
    let compared = json(&format!("compare {planted} --remove 3 --methods mka+refit {QUICK}"));
    assert_eq!(inherited["groups"], compared["rows"][0]["groups"]);
    assert_eq!(named["groups"], compared["rows"][0]["groups"]);
    let published = compress("d", "--method mka");
    assert_eq!(published["recipe"]["options"]["one_shot"], false);
}

#[test]
fn a_reader_that_goes_away_costs_nothing() {
    let small = model("stories260K");
    // Of standard output.
    let mut child = program(&format!("inspect {small} --json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()));

    // Of standard error and standard output, while the model is made.
    let place = Place::new();
    let mut child = program(&format!("compress {small} --remove 1 --out {} {QUICK}", place.path("o")))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(Path::new(&place.path("o")).join("config.json").is_file());
    assert_eq!(place.names(), ["o"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_said() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program(&format!("inspect {}", model("stories260K"))).stdout(full).output().unwrap();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("laminate: standard output:") && message.lines().count() == 1, "{message}");

    // The report is printed although the table cannot be.
    let table = format!(
        "compare {} --remove 1 --methods shortgpt --csv /dev/full --json {QUICK}",
        model("stories260K")
    );
    let output = program(&table).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rows"][0]["removed"], 1);
    assert!(said(&output).contains("/dev/full"), "{}", said(&output));
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing_behind() {
    use std::os::unix::process::ExitStatusExt;

    let place = Place::new();
    let arguments = format!(
        "compress {} --remove 3 --method greedy-kl --samples 600 --device cpu --out {}",
        model("stories-planted-12L"),
        place.path("o")
    );
    let mut child = program(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while place.names().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert_eq!(place.names(), [""; 0]);
}
