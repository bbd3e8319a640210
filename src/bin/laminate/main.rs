//! The command line: the same engine as the page, for scripts, big machines and tests.
//!
//! Results go to standard output, progress to standard error. Exit code 0: done, 1: the run failed,
//! 2: bad usage.

#[cfg(not(target_arch = "wasm32"))]
mod args;
#[cfg(not(target_arch = "wasm32"))]
mod logits;
#[cfg(not(target_arch = "wasm32"))]
mod print;
#[cfg(not(target_arch = "wasm32"))]
mod run;
#[cfg(not(target_arch = "wasm32"))]
mod signals;
#[cfg(not(target_arch = "wasm32"))]
mod table;
#[cfg(not(target_arch = "wasm32"))]
mod usual;
#[cfg(not(target_arch = "wasm32"))]
mod watch;

fn main() -> std::process::ExitCode {
    #[cfg(not(target_arch = "wasm32"))]
    return run::main();
    // Tests for the browser compile every target of the package; the browser has no command line.
    #[cfg(target_arch = "wasm32")]
    std::process::ExitCode::FAILURE
}
