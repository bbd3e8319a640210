//! Layers that go so that attention and experts stay at equal distances, as `config.json` of Jamba demands.

use laminate::format::Container;
use laminate::format::element::Element;
use laminate::plan::{MergePlan, Operator, Selection};
use laminate::{CalibrationOptions, Error, Model, PlanOptions, Session, Silent, WriteOptions};

use crate::architectures::hugging_face;
use crate::common::{MemoryFolder, cpu, open_files, run, sources};

const RULES: [Selection; 9] = [
    Selection::Mka,
    Selection::Redundancy,
    Selection::BlockInfluence,
    Selection::Angular,
    Selection::Pairs,
    Selection::GreedyNll,
    Selection::GreedyKl,
    Selection::Tail,
    Selection::Random,
];

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() }
}

fn output() -> WriteOptions {
    WriteOptions {
        container: Some(Container::Safetensors),
        dtype: Some(Element::F32.into()),
        ..WriteOptions::default()
    }
}

/// Jamba of 8 layers: attention in layers 2 and 6, experts in the odd ones.
fn session() -> Session {
    let mut session = Session::new(open_files(&hugging_face("jamba", "config.json")).unwrap(), cpu());
    run(session.similarity(&calibration(), &Silent)).unwrap();
    session
}

fn options(remove: usize, selection: Selection) -> PlanOptions {
    PlanOptions { remove: Some(remove), selection, operator: Operator::Drop, ..PlanOptions::default() }
}

fn gone(plan: &MergePlan) -> Vec<usize> {
    let stay: Vec<usize> = (0..plan.groups.len()).filter_map(|place| plan.survivor(place)).collect();
    (0..plan.n_layers).filter(|layer| !stay.contains(layer)).collect()
}

#[test]
fn every_rule_chooses_among_the_sets_that_a_folder_can_say() {
    let mut session = session();
    let mut chosen = Vec::new();
    for selection in RULES {
        for remove in [2, 4] {
            let what = format!("{remove} layers by {selection}");
            let options = options(remove, selection);
            session.check_removal(&options, &output()).unwrap();
            let report = run(session.plan(&options, &output(), &Silent)).unwrap();
            assert!(report.warnings.iter().any(|note| note.contains("stay at equal distances")), "{what}");
            let removed = gone(&report.plan);
            assert_eq!(removed.len(), remove, "{what}");
            let mut folder = MemoryFolder::default();
            run(session.write(&report.plan, &output(), &mut folder, &Silent)).unwrap();
            let files = folder.state.borrow().files.clone();
            let again = run(Model::open("written", &sources(&files))).unwrap();
            assert_eq!(again.config.n_layers, 8 - remove);
            let text = calibration().text_options();
            let measured = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent)).unwrap();
            let said = report.merged.perplexity;
            assert!((said / measured.perplexity - 1.0).abs() < 1e-4, "{what}: {said}");
            chosen.push(removed);
        }
    }
    chosen.sort();
    chosen.dedup();
    // The tail is a set of its own, and so are others.
    assert!(
        chosen.contains(&vec![6, 7]) && chosen.contains(&vec![4, 5, 6, 7]) && chosen.len() > 4,
        "{chosen:?}"
    );
}

#[test]
fn block_influence_finds_the_set_of_least_sum() {
    let mut session = session();
    let similarity = run(session.similarity(&calibration(), &Silent)).unwrap();
    let report = run(session.plan(&options(2, Selection::BlockInfluence), &output(), &Silent)).unwrap();
    let sum = |set: &[usize]| set.iter().map(|layer| similarity.block_influence[*layer]).sum::<f64>();
    // All pairs of layers without which both parts have a period.
    let sets = [[0, 1], [0, 7], [1, 2], [1, 5], [2, 3], [3, 7], [5, 6], [6, 7]];
    let least = sets.iter().map(|set| sum(set)).fold(f64::INFINITY, f64::min);
    assert!((sum(&gone(&report.plan)) - least).abs() < 1e-12);
}

#[track_caller]
fn refused<T>(result: laminate::Result<T>, expected: &[&str]) {
    let error = result.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    for part in expected {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn what_no_set_can_give_is_refused_with_the_nearest() {
    let mut session = session();
    let inner = |remove| PlanOptions {
        keep_first: true,
        keep_last: true,
        ..options(remove, Selection::BlockInfluence)
    };
    let expected = ["attention and with experts", "without 1 of 8 layers", "are 2 ([", "write a .gguf file"];
    refused(session.check_removal(&inner(1), &output()), &expected);
    refused(run(session.plan(&inner(1), &output(), &Silent)), &expected);
    let two = gone(&run(session.plan(&inner(2), &output(), &Silent)).unwrap().plan);
    assert!([[1, 2], [1, 5], [2, 3], [5, 6]].iter().any(|set| two == set), "{two:?}");
    let gguf = WriteOptions { container: Some(Container::Gguf), ..output() };
    session.check_removal(&inner(1), &gguf).unwrap();
    refused(run(session.plan(&options(2, Selection::Windows), &output(), &Silent)), &["selection laco"]);
}

#[test]
fn a_plan_by_hand_is_held_to_the_sets() {
    let mut session = session();
    let hand = |absorb: &[usize]| PlanOptions {
        absorb: absorb.to_vec(),
        remove: None,
        ..options(1, Selection::Hand)
    };
    let expected = ["without the layers [3]", "1 ([", "2 ([", "write a .gguf file"];
    refused(run(session.plan(&hand(&[3]), &output(), &Silent)), &expected);
    let report = run(session.plan(&hand(&[6, 5]), &output(), &Silent)).unwrap();
    assert_eq!(gone(&report.plan), [5, 6]);
    // So is a plan that comes from elsewhere.
    let plan = MergePlan::absorbing(8, Operator::Drop, &[(3, 0.5)], |_| 1.0).unwrap();
    refused(run(session.measure(&plan, &output(), &Silent)), &expected);
    let plan = MergePlan::absorbing(8, Operator::Drop, &[(5, 0.5), (6, 0.5)], |_| 1.0).unwrap();
    run(session.measure(&plan, &output(), &Silent)).unwrap();
}
