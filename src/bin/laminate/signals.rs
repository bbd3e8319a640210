//! Signals that end the program: what it was writing is removed first.

use laminate::files::sink::DirectoryFolder;

/// Removes the unfinished files of `folder` when the user interrupts the program, when the system ends it, or when
/// the terminal goes away; the program then ends by that signal. A signal that the program was started to ignore,
/// as by `nohup`, stays ignored.
#[cfg(unix)]
pub fn clean_up(folder: &DirectoryFolder) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let partial = folder.partial().to_path_buf();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    // Without a handler or a thread, what is left is removed by the next run that writes there.
    let Ok(mut signals) = Signals::new(heard) else { return };
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            DirectoryFolder::discard(&partial);
            let _ = emulate_default_handler(signal);
        }
    };
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
}

#[cfg(not(unix))]
pub fn clean_up(_: &DirectoryFolder) {}

/// Whether the program was started to ignore `signal`. Where the system does not say, only SIGHUP counts as
/// ignored, because `nohup` is what programs that run for hours are started by.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    match mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
        Some(mask) => mask & (1 << (signal - 1)) != 0,
        None => signal == signal_hook::consts::SIGHUP,
    }
}
