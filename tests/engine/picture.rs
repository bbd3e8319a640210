//! The result that the page opens with is the one that the engine gives (`npm run picture` makes it anew).

use laminate::{CalibrationOptions, Session, Silent, demo};
use serde_json::Value;

use crate::common::{cpu, run};

/// Six digits are stored; processors differ by less in what the map of a layer depends on.
const TOLERANCE: f64 = 2e-4;

/// All numbers of lists in lists, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// Whether both are the same; JavaScript writes 1.0 as 1.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[test]
fn is_what_the_engine_gives() {
    let stored: Value = serde_json::from_str(include_str!("../../www/walk/demo-result.json")).unwrap();
    let mut session = Session::new(run(demo::open()).unwrap(), cpu());
    let options = CalibrationOptions::default();
    let report = run(session.similarity(&options, &Silent)).unwrap();
    let computed = serde_json::to_value(&report).unwrap();
    // The same question: model, text, points and every option that there was when it was asked.
    for key in ["model", "layers", "points", "metric", "dims", "options", "text", "massive", "disconnected"] {
        match &stored[key] {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| {
                    let computed = &computed[key][name];
                    assert!(same(computed, value), "{key}, {name}: {computed} and {value}");
                });
            }
            other => assert_eq!(&computed[key], other, "{key}"),
        }
    }
    for key in ["similarity", "mutual_information", "epsilon", "block_influence"] {
        let (ours, theirs) = (numbers(&computed[key]), numbers(&stored[key]));
        assert_eq!(ours.len(), theirs.len(), "{key}");
        let worst =
            ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
        assert!(worst < TOLERANCE, "{key} is {worst:e} off: run `npm run picture`");
    }
    let perplexity = stored["perplexity"].as_f64().unwrap();
    assert!(
        (report.perplexity / perplexity - 1.0).abs() < TOLERANCE,
        "{} and {perplexity}",
        report.perplexity
    );
}
