//! Progress on standard error: one line that is rewritten on a terminal, one line per stage elsewhere.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use laminate::protocol::compare::CompareRow;
use laminate::protocol::events::{Kept, Progress, Stage, Unit};
use laminate::{Event, Observer, Result};

/// Least time between two updates of the progress line.
const INTERVAL: Duration = Duration::from_millis(100);

/// Observer that writes progress to standard error.
pub struct Terminal {
    interactive: bool,
    state: RefCell<State>,
}

struct State {
    stage: Option<Stage>,
    began: Instant,
    shown: Option<Instant>,
}

impl Terminal {
    /// Makes an observer that rewrites one line if standard error is a terminal.
    pub fn new() -> Self {
        Self {
            interactive: std::io::stderr().is_terminal(),
            state: RefCell::new(State { stage: None, began: Instant::now(), shown: None }),
        }
    }

    /// Removes the progress line.
    pub fn clear(&self) {
        if self.interactive {
            say("\r\x1b[K");
        }
    }

    /// Prints a sentence that stays on the terminal.
    pub fn note(&self, sentence: &str) {
        self.clear();
        say(&format!("{sentence}\n"));
    }

    fn show(&self, progress: &Progress) {
        let mut state = self.state.borrow_mut();
        let new_stage = state.stage != Some(progress.stage) || progress.done == 0;
        let now = Instant::now();
        if new_stage {
            state.began = now;
        }
        if !self.interactive {
            if state.stage != Some(progress.stage) {
                say(&format!("{} ...\n", verb(progress.stage)));
            }
        } else if new_stage || state.shown.is_none_or(|t| now - t > INTERVAL) {
            say(&format!("\r\x1b[K{}", line(progress, now - state.began)));
            state.shown = Some(now);
        }
        state.stage = Some(progress.stage);
    }
}

impl Observer for Terminal {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        match &event {
            Event::Progress(progress) => self.show(progress),
            Event::Row(row) => {
                self.note(&compared(row));
            }
            Event::Heal(point) => {
                let kl = point.quality.kl.unwrap_or(f64::NAN);
                let loss =
                    point.loss.map_or(String::new(), |loss| format!(", {loss:.4} on what it was trained on"));
                self.note(&format!("after {} tokens: KL {kl:.4}{loss}", point.tokens));
            }
            Event::Kept(Kept { trouble: Some(why), .. }) => {
                self.note(&format!("note: {why}"));
            }
            _ => {}
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Writes `text` to standard error. A terminal or pipe that went away is no reason to stop the run.
pub fn say(text: &str) {
    let mut errors = std::io::stderr().lock();
    let _ = errors.write_all(text.as_bytes()).and_then(|()| errors.flush());
}

fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Read => "reading",
        Stage::Capture => "capturing",
        Stage::Similarity => "comparing",
        Stage::Plan => "merging",
        Stage::Evaluate => "scoring",
        Stage::Heal => "healing",
        Stage::Write => "writing",
        Stage::Check => "checking",
        _ => "working",
    }
}

fn compared(row: &CompareRow) -> String {
    let what = format!("{}, {} removed", row.method, row.removed);
    match (row.quality, &row.error) {
        (Some(q), _) => {
            let kl = q.kl.unwrap_or(f64::NAN);
            format!("{what}: perplexity {:.2}, KL {kl:.3}, {:.1} s", q.perplexity, row.seconds)
        }
        (None, error) => format!("{what}: {}", error.as_deref().unwrap_or("failed")),
    }
}

fn line(progress: &Progress, elapsed: Duration) -> String {
    let mut line = format!("{}: {}", verb(progress.stage), progress.detail);
    let seconds = elapsed.as_secs_f64();
    if progress.done > 0 && seconds > 0.5 {
        let rate = progress.done as f64 / seconds;
        let left = progress.total.saturating_sub(progress.done) as f64 / rate;
        let rate = match progress.unit {
            Unit::Bytes => format!("{:.0} MB/s", rate / 1e6),
            Unit::Layers => format!("{rate:.1} layers/s"),
            Unit::Rows => format!("{rate:.0} rows/s"),
            Unit::Tokens => format!("{rate:.1} tokens/s"),
            Unit::Parts => format!("{rate:.1} parts/s"),
            Unit::Models => format!("{:.0} s a model", 1.0 / rate),
            _ => format!("{rate:.1}/s"),
        };
        line.push_str(&format!(", {rate}, {left:.0} s left"));
    }
    line
}
