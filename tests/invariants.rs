//! The architecture invariants of docs/ARCHITECTURE.md that a look at the source can hold.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `src` with its code: without tests, comments and documentation.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 40);
    files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            // What follows is of tests only; a file of tests says so at its top.
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
            let code = code.split("#![cfg(test)]").next().unwrap();
            let code: Vec<&str> = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            (name, code.join("\n"))
        })
        .collect()
}

#[track_caller]
fn absent(words: &[&str], within: impl Fn(&str) -> bool) {
    let mut seen = 0;
    for (name, code) in sources().iter().filter(|(name, _)| within(name)) {
        seen += 1;
        for word in words {
            assert!(!code.contains(word), "{name} must not contain {word}");
        }
    }
    assert!(seen > 0, "no file was looked at");
}

/// The storeys of the engine, from the ground up. A file may name what stands before its own folder, and its own folder.
const STOREYS: [&str; 22] = [
    "error", "memory", "named", "format", "quality", "kernels", "maths", "plan", "device", "files", "model",
    "demo", "protocol", "prose", "forward", "write", "evaluate", "analysis", "methods", "heal", "session",
    "wasm",
];

/// The folder or file below `src` that a file lies in.
fn storey(file: &str) -> usize {
    let name = file.split('/').next().unwrap().trim_end_matches(".rs");
    STOREYS
        .iter()
        .position(|storey| *storey == name)
        .unwrap_or_else(|| panic!("{file} is in no storey: add {name}"))
}

/// The names that follow `crate::` in `code`, one for each path, also inside braces.
fn names_of_the_crate(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        let end = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        match after.strip_prefix('{') {
            None => names.push(after[..end(after)].to_owned()),
            Some(inside) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, c) in inside.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        c if begins && !c.is_whitespace() => {
                            names.push(inside[at..at + end(&inside[at..])].to_owned());
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

/// Each folder names only what stands before it in [`STOREYS`]: data types lie below the stages that fill them, and
/// `format`, `maths` and `plan` know no file, no model and no device, because those stand later.
#[test]
fn every_arrow_runs_down() {
    let mut arrows = 0;
    for (file, code) in sources() {
        if file == "lib.rs" || file.starts_with("bin/") {
            continue;
        }
        for name in names_of_the_crate(&code) {
            let Some(named) = STOREYS.iter().position(|storey| *storey == name) else {
                // `crate::Error`, `crate::Result`: of the lowest storey.
                assert!(
                    name.starts_with(char::is_uppercase) || file == "wasm.rs",
                    "{file} names crate::{name}"
                );
                continue;
            };
            assert!(named <= storey(&file), "{file} must not name crate::{name}, which stands above it");
            arrows += usize::from(named < storey(&file));
        }
    }
    assert!(arrows > 300, "only {arrows} arrows were seen");
}

#[test]
fn arrows_are_seen_in_braces_too() {
    let code = "use crate::{Error, maths::{a, b}, plan};\nlet x = crate::files::source::y();";
    assert_eq!(names_of_the_crate(code), ["Error", "maths", "plan", "files"]);
}

const DEVICES: [&str; 4] = ["burn::", "js_sys", "web_sys", "wasm_bindgen"];

#[test]
fn formats_maths_and_plans_know_no_device_and_no_browser() {
    absent(&DEVICES, |name| ["format/", "maths/", "plan/", "quality"].iter().any(|p| name.starts_with(p)));
}

#[test]
fn the_wasm_door_is_one_file() {
    absent(&["wasm_bindgen"], |name| name != "wasm.rs");
}

#[test]
fn upstream_key_names_are_in_one_folder_each() {
    let json = ["num_hidden_layers", "num_attention_heads", "rms_norm_eps", "rope_theta\"", "hidden_act"];
    absent(&json, |name| !name.starts_with("model/config/hugging_face/"));
    let metadata = ["block_count", "head_count", "freq_base", "feed_forward_length"];
    absent(&metadata, |name| !name.starts_with("model/config/gguf/"));
}

#[test]
fn only_the_folder_of_files_touches_files() {
    let outside =
        |name: &str| !name.starts_with("bin/") && !name.starts_with("files/") && name != "memory.rs";
    absent(&["std::fs", "fs::read", "File::open"], outside);
}

#[test]
fn nothing_panics_on_input() {
    absent(&[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("], |_| true);
}

#[test]
fn the_engine_has_no_dom_and_no_unsafe_code() {
    absent(&["web_sys::Document", "web_sys::window", "HtmlElement"], |_| true);
    absent(&["unsafe {", "unsafe fn"], |_| true);
}
