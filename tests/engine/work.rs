//! The work that methods count before it is done, against the work that the device saw.

use laminate::internals::methods::work::{Task, Work};
use laminate::internals::methods::{FIT_BYTES, operators, outcome, selection};
use laminate::plan::METHODS;
use laminate::{CalibrationOptions, Method, PlanOptions, Session, Silent, TextOptions, WriteOptions};

use crate::common::{run, session};

/// Uploads, and passes and products with the head in tokens.
fn of_work(work: Work, tokens: usize) -> [f64; 3] {
    let tokens = tokens as f64;
    [work.uploads, work.token_passes + tokens * work.passes, work.token_heads + tokens * work.heads]
}

fn seen(session: &Session) -> [f64; 3] {
    let (tally, config) = (session.accelerator().tally(), &session.model().config);
    let mlp =
        (3 * config.hidden_size * config.intermediate_size) as f64 / config.parameters_per_layer() as f64;
    let passes = (1.0 - mlp) * tally.attention() as f64 + mlp * tally.mlp() as f64;
    [tally.uploads() as f64, passes, tally.head() as f64 / config.vocab_size as f64]
}

/// The counts are no less than the work that is done, but for a tenth, and no more than 2.5 times as much: where the chosen
/// layers lie decides how much of the model is run again. LaCo's windows on this model are the last layers of all.
#[test]
fn work_is_counted_before_as_it_is_seen_after() {
    let calibration = CalibrationOptions { samples: 64, tokens: 32, ..CalibrationOptions::default() };
    let judge = TextOptions { samples: 16, tokens: 32, ..TextOptions::default() };
    let mut wrong = Vec::new();
    for method in METHODS {
        let mut session = session("stories-planted-12L");
        run(session.similarity(&calibration, &Silent)).unwrap();
        session.judge_on(judge.clone());
        let options: PlanOptions = Method::named(&method.name).unwrap().options(5, 0);
        let before = seen(&session);
        run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap();
        let after = seen(&session);
        let config = &session.model().config;
        let task = Task {
            config,
            options: &options,
            sequences: 64,
            tokens: 32,
            fit_bytes: FIT_BYTES,
            spills: false,
        };
        let work = selection::work(&task) + operators::work(&task) + outcome::work(&task, 16 * 32);
        let counted = of_work(work, 64 * 32);
        for (what, (counted, (before, after))) in ["uploads", "passes", "heads"]
            .into_iter()
            .zip(counted.into_iter().zip(before.into_iter().zip(after)))
        {
            let done = after - before;
            eprintln!(
                "{:16} {what:8} counted {counted:10.0} done {done:10.0} ratio {:.2}",
                method.name,
                counted / done
            );
            if done > 1.1 * counted || counted > done * if method.name == "laco" { 6.0 } else { 2.5 } {
                wrong.push(format!(
                    "{}: {what} counted as {counted:.0}, but {done:.0} were done",
                    method.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// More layers take more arithmetic, counted in multiply-adds.
#[test]
fn removing_more_is_more_work() {
    let session = session("stories-planted-12L");
    let config = &session.model().config;
    let arithmetic = |name: &str, remove| {
        let options = Method::named(name).unwrap().options(remove, 0);
        let task = Task {
            config,
            options: &options,
            sequences: 128,
            tokens: 48,
            fit_bytes: FIT_BYTES,
            spills: false,
        };
        let work = selection::work(&task) + operators::work(&task) + outcome::work(&task, 64 * 48);
        let rows = (task.sequences * task.tokens) as f64;
        let passes = rows * work.passes + work.token_passes;
        passes * config.parameters_per_layer() as f64 + rows * work.sums + work.solutions
    };
    for name in ["mka", "sleb", "flatten", "laminate"] {
        assert!(arithmetic(name, 2) < arithmetic(name, 6), "{name}");
    }
}
