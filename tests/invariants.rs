//! The architecture invariants of the README that a look at the source can hold.

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
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
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

const IO: [&str; 5] = ["std::fs", "File::", "crate::source", "crate::sink", "read_checked"];
const DEVICES: [&str; 5] = ["burn::", "crate::device", "js_sys", "web_sys", "wasm_bindgen"];

#[test]
fn formats_do_no_io_and_know_no_device() {
    absent(&IO, |name| name.starts_with("format/"));
    absent(&DEVICES, |name| name.starts_with("format/"));
}

#[test]
fn maths_knows_no_file_no_device_and_no_browser() {
    let maths = |name: &str| {
        ["manifold/", "similarity/", "least_squares/", "plan", "evaluate/questions"]
            .iter()
            .any(|p| name.starts_with(p))
            || ["merge.rs", "evaluate/answers.rs"].contains(&name)
    };
    absent(&IO, maths);
    absent(&DEVICES, maths);
}

#[test]
fn the_wasm_door_is_one_file() {
    absent(&["wasm_bindgen"], |name| name != "wasm.rs");
}

#[test]
fn upstream_key_names_are_in_one_file_each() {
    let json = ["num_hidden_layers", "num_attention_heads", "rms_norm_eps", "rope_theta\"", "hidden_act"];
    absent(&json, |name| name != "model/config/hugging_face.rs");
    let metadata = ["block_count", "head_count", "freq_base", "feed_forward_length"];
    absent(&metadata, |name| name != "model/config/gguf.rs");
}

#[test]
fn only_source_and_sink_touch_files() {
    let outside = |name: &str| {
        !name.starts_with("bin/") && !["source.rs", "sink.rs", "sink/parts.rs", "memory.rs"].contains(&name)
    };
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
