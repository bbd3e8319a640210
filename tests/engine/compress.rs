//! The whole run on models whose answer is known.

use std::cell::Cell;

use futures::future::LocalBoxFuture;
use laminate::maths::similarity::Metric;
use laminate::plan::{Alpha, METHODS, Selection};
use laminate::protocol::events::Stage;
use laminate::protocol::plan::PlanReport;
use laminate::protocol::similarity::SimilarityReport;
use laminate::{
    Accelerator, CalibrationOptions, Event, Method, Next, Observer, PlanOptions, Result, RunOptions, Session,
    Silent, WriteOptions,
};

use crate::common::{MemoryFolder, json, numbers, open, remove, run, session};

const PLANTED: &str = "stories-planted-12L";

fn similarity(session: &mut Session, options: &CalibrationOptions) -> SimilarityReport {
    run(session.similarity(options, &Silent)).unwrap()
}

fn plan(model: &str, options: &PlanOptions) -> PlanReport {
    let mut session = session(model);
    similarity(&mut session, &CalibrationOptions::default());
    run(session.plan(options, &WriteOptions::default(), &Silent)).unwrap()
}

#[track_caller]
fn assert_near(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} instead of {theirs}");
}

#[test]
fn the_planted_plan_is_found_with_the_reference_alphas_and_perplexities() {
    let golden = json("golden/stories-planted-12L-merge.json");
    let steps = golden["steps"].as_array().unwrap();
    let report = plan(PLANTED, &remove(8));
    assert_near("perplexity", report.original.perplexity, steps[0]["perplexity"].as_f64().unwrap(), 1e-3);
    for (ours, theirs) in report.plan.steps.iter().zip(&steps[1..]) {
        assert_eq!(ours.merged.map(|l| l as f64).to_vec(), numbers(&theirs["merged"]));
        assert_near("alpha", ours.alpha, theirs["alpha"].as_f64().unwrap(), 0.02);
        let ratio = ours.perplexity.unwrap() / theirs["perplexity"].as_f64().unwrap();
        assert_near("perplexity ratio", ratio, 1.0, 0.01);
    }
    let groups: Vec<Vec<f64>> = golden["groups"].as_array().unwrap().iter().map(numbers).collect();
    let ours: Vec<Vec<f64>> =
        report.plan.groups.iter().map(|g| g.iter().map(|l| *l as f64).collect()).collect();
    assert_eq!(ours, groups);
}

#[test]
fn seven_merges_of_the_demo_are_nearly_free_and_the_eighth_is_not() {
    let run_demo = |options: &PlanOptions| {
        let mut session = Session::new(run(laminate::demo::open()).unwrap(), crate::common::cpu());
        similarity(&mut session, &CalibrationOptions::default());
        run(session.plan(options, &WriteOptions::default(), &Silent)).unwrap()
    };
    let report = run_demo(&remove(7));
    assert_eq!(report.plan.groups, [vec![0], vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9], vec![10, 11]]);
    assert!(report.merged.perplexity < 1.06 * report.original.perplexity);
    assert!(!report.merged.collapsed);
    // Stopping by similarity finds the same place by itself.
    let by_similarity = run_demo(&PlanOptions { remove: None, min_similarity: Some(0.8), ..remove(1) });
    assert_eq!(by_similarity.plan.groups, report.plan.groups);
    let one_more = run_demo(&remove(8));
    assert!(one_more.merged.perplexity > 5.0 * report.merged.perplexity);
}

#[test]
fn what_the_walk_tells_about_the_demo_is_what_is_measured() {
    let told = json("../../www/walk/demo-facts.json");
    let mut session = Session::new(run(laminate::demo::open()).unwrap(), crate::common::cpu());
    similarity(&mut session, &CalibrationOptions::default());
    let report = run(session.plan(&remove(9), &WriteOptions::default(), &Silent)).unwrap();
    assert_near("perplexity", report.original.perplexity, told["perplexity"].as_f64().unwrap(), 1e-3);
    let merges = told["merges"].as_array().unwrap();
    assert_eq!(report.plan.steps.len(), merges.len());
    for (step, told) in report.plan.steps.iter().zip(merges) {
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let groups: Vec<Vec<f64>> = told["merged"].as_array().unwrap().iter().map(numbers).collect();
        let merged = step.groups.clone().map(|g| g.iter().map(|l| *l as f64).collect::<Vec<_>>()).to_vec();
        assert_eq!(merged, groups);
        let dropped = step.dropped.as_ref().unwrap();
        assert_near("alpha", step.alpha, number(&told["alpha"]), 0.01);
        assert_near("perplexity ratio", step.perplexity.unwrap() / number(&told["perplexity"]), 1.0, 0.02);
        assert_near("dropped", dropped.perplexity / number(&told["dropped"]["perplexity"]), 1.0, 0.02);
        assert_near("agreement", step.top1_agreement.unwrap(), number(&told["agreement"]), 0.01);
    }
}

#[test]
fn what_the_walk_tells_about_pooling_and_refitting_is_what_is_measured() {
    let told = json("../../www/walk/demo-facts.json");
    let told = &told["fits"];
    let mut session = Session::new(run(laminate::demo::open()).unwrap(), crate::common::cpu());
    similarity(&mut session, &CalibrationOptions::default());
    let methods = ["laminate", "mka", "redundancy+drop"].map(str::to_owned).to_vec();
    let options = laminate::CompareOptions {
        methods,
        remove: vec![2, 7],
        evaluation: laminate::TextOptions { samples: 64, tokens: 48, ..laminate::TextOptions::default() },
        ..laminate::CompareOptions::default()
    };
    let report = run(session.compare(&options, &Silent)).unwrap();
    assert_near("perplexity", report.original.perplexity, told["perplexity"].as_f64().unwrap(), 1e-3);
    assert_eq!(report.rows.len(), 6);
    for row in &report.rows {
        let way = if row.method == "laminate" {
            "refitted"
        } else if row.method == "mka" {
            "averaged"
        } else {
            "dropped"
        };
        let told = &told["models"][row.removed - 1][way];
        let (quality, told_kl) = (row.quality.as_ref().unwrap(), told["kl"].as_f64().unwrap());
        assert_near(&format!("{way}, {}", row.removed), quality.kl.unwrap() / told_kl, 1.0, 0.1);
    }
}

#[test]
fn the_similarity_of_our_own_activations_is_the_reference_one() {
    for model in ["stories260K", PLANTED] {
        let golden = json(&format!("golden/{model}.json"));
        for (rule, name) in [("last", "points_last"), ("mean", "points_mean")] {
            let options =
                CalibrationOptions { points: rule.parse().unwrap(), ..CalibrationOptions::default() };
            let report = similarity(&mut session(model), &options);
            let golden = &golden[name];
            for (l, row) in report.similarity.iter().enumerate() {
                for (ours, theirs) in row.iter().zip(numbers(&golden["similarity"][l])) {
                    assert_near(&format!("{model}, {rule}, row {l}"), *ours, theirs, 0.02);
                }
            }
            for (ours, theirs) in report.epsilon.iter().zip(numbers(&golden["epsilon"])) {
                assert_near("bandwidth", ours / theirs, 1.0, 1e-4);
            }
        }
    }
}

#[test]
fn a_model_without_redundancy_is_said_to_have_none_and_collapses() {
    let mut session = session("stories260K");
    let report = similarity(&mut session, &CalibrationOptions::default());
    assert!(
        report.warnings.iter().any(|w| w.contains("No two neighbouring layers")),
        "{:?}",
        report.warnings
    );
    let planned = run(session.plan(&remove(2), &WriteOptions::default(), &Silent)).unwrap();
    assert!(planned.merged.collapsed);
    assert!(planned.plan.steps[1].collapsed && !planned.plan.steps[0].collapsed);
    assert!(planned.warnings.iter().any(|w| w.contains("collapsed")), "{:?}", planned.warnings);
}

#[test]
fn one_shot_merges_the_same_groups_without_comparing_anew() {
    let report = plan(PLANTED, &PlanOptions { one_shot: true, ..remove(7) });
    assert_eq!(report.plan.groups, [vec![0], vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9], vec![10, 11]]);
    assert!(report.merged.perplexity < 1.06 * report.original.perplexity);
}

#[test]
fn searched_alpha_is_at_least_as_close_to_the_original_as_any_fixed_one() {
    let kl = |alpha| {
        let report = plan("stories260K", &PlanOptions { alpha, ..remove(1) });
        report.merged.kl.unwrap()
    };
    let searched = kl(Alpha::Search);
    for alpha in [0.0, 0.5, 1.0] {
        assert!(searched <= kl(Alpha::Fixed(alpha)) + 1e-9, "{alpha}");
    }
    assert!(searched < kl(Alpha::Similarity));
}

#[test]
fn alpha_one_is_dropping_the_second_layer() {
    let report = plan("stories260K", &PlanOptions { alpha: Alpha::Fixed(1.0), ..remove(1) });
    assert_eq!(report.merged, report.dropped);
}

#[test]
fn what_was_measured_is_what_the_written_model_gives() {
    let mut session = session(PLANTED);
    similarity(&mut session, &CalibrationOptions::default());
    let output = WriteOptions { dtype: Some("f16".parse().unwrap()), ..WriteOptions::default() };
    let report = run(session.plan(&remove(7), &output, &Silent)).unwrap();
    let folder = MemoryFolder::default();
    run(session.write(&report.plan, &output, &mut folder.clone(), &Silent)).unwrap();
    let files = folder.state.borrow().files.clone();
    let written = crate::common::open_files(&files).unwrap();
    let options = CalibrationOptions::default();
    let accelerator: Accelerator = crate::common::cpu();
    let original = open(PLANTED);
    let evaluated =
        run(laminate::evaluate(&written, Some(&original), &accelerator, &options.text_options(), &Silent))
            .unwrap();
    let ratio = evaluated.perplexity / report.merged.perplexity;
    // Norms of unchanged layers and the embedding are rounded too when everything becomes F16.
    assert_near("perplexity ratio", ratio, 1.0, 1e-3);
    assert_near("KL", evaluated.kl.unwrap(), report.merged.kl.unwrap(), 1e-3);
    assert!(!evaluated.collapsed);
}

#[test]
fn a_repeated_plan_measures_the_same() {
    let mut session = session(PLANTED);
    similarity(&mut session, &CalibrationOptions::default());
    let output = WriteOptions::default();
    let report = run(session.plan(&remove(3), &output, &Silent)).unwrap();
    let again = run(session.measure(&report.plan, &output, &Silent)).unwrap();
    assert_near("KL", again.merged.kl.unwrap(), report.merged.kl.unwrap(), 1e-6);
    assert_eq!((&again.plan.groups, &again.plan.weights), (&report.plan.groups, &report.plan.weights));
    assert_eq!(again.plan.steps.len(), 3);
    // What the recipe's text gave after each step says nothing about this text.
    assert_eq!((again.plan.steps[0].perplexity, again.plan.steps[2].kl), (None, again.merged.kl));
}

#[test]
fn the_estimate_knows_the_text_and_grows_with_it() {
    let session = session(PLANTED);
    let of = |samples| {
        let options = CalibrationOptions { samples, ..CalibrationOptions::default() };
        run(session.estimate(&options)).unwrap()
    };
    let (few, many) = (of(16), of(64));
    assert_eq!((few.sequences, few.tokens), (16, 16 * 48));
    assert!(many.seconds > few.seconds && few.seconds > 0.0);
    assert!((many.flop / few.flop - 4.0).abs() < 1e-9);
    assert!(many.state_bytes == 4 * few.state_bytes && many.peak_bytes > few.peak_bytes);
    // More is asked for than there is.
    assert!(of(1_000_000).sequences < 2000);
}

#[test]
fn a_plan_is_estimated_and_text_is_taken_as_time_allows() {
    let session = session(PLANTED);
    let calibration = CalibrationOptions::default();
    let of = |name: &str, remove, samples| {
        let calibration = CalibrationOptions { samples, ..calibration.clone() };
        let options = Method::named(name).unwrap().options(remove, 0);
        run(session.estimate_plan(&calibration, &options, &WriteOptions::default())).unwrap()
    };
    for method in METHODS {
        let (few, longer) = (of(&method.name, 2, 32), of(&method.name, 2, 128));
        assert!(
            few.seconds > 0.0 && few.seconds < longer.seconds && longer.seconds.is_finite(),
            "{}",
            method.name
        );
        assert!(few.peak_bytes <= longer.peak_bytes, "{}", method.name);
    }
    assert!(of("laminate", 6, 128).peak_bytes > of("mka", 6, 128).peak_bytes);

    let laminate = Method::named("laminate").unwrap().options(6, 0);
    let output = WriteOptions::default();
    let within = |seconds| {
        run(session.sequences_within(seconds, &calibration, Next::Plan(&laminate, &output))).unwrap()
    };
    let takes = |samples| {
        let options = CalibrationOptions { samples, ..calibration.clone() };
        let similarity = run(session.estimate(&options)).unwrap().seconds;
        similarity + of("laminate", 6, samples).seconds
    };
    let budget = takes(200);
    assert!(within(budget).abs_diff(200) <= 1, "{}", within(budget));
    // A few are needed at any price, and there are no more than there are.
    assert_eq!((within(0.0), within(f64::INFINITY)), (24, takes_all(&session)));
}

fn takes_all(session: &Session) -> usize {
    let all = CalibrationOptions { samples: usize::MAX, ..CalibrationOptions::default() };
    run(session.estimate(&all)).unwrap().sequences
}

/// Pooling in little memory: what the layers read in the original is run again instead of kept, to the same bits; in
/// still less there is no pooling, and in hardly any the down projection alone is solved for.
#[test]
fn fits_do_with_the_memory_that_they_are_given() {
    let fitted = |bytes: Option<u64>| {
        let mut session = session(PLANTED);
        if let Some(bytes) = bytes {
            session.limit_fits(bytes);
        }
        similarity(&mut session, &CalibrationOptions { samples: 80, ..CalibrationOptions::default() });
        let options = Method::named("laminate").unwrap().options(7, 0);
        run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap()
    };
    let usual = fitted(None);
    assert_eq!(usual.warnings, [""; 0]);
    // Of three layers of width 64 and 172 neurons, pooled: 9.3 MB; what they read and wrote on 80 x 48 tokens: 3.9 MB.
    let again = fitted(Some(10_000_000));
    assert_eq!((&again.warnings, again.merged), (&usual.warnings, usual.merged));

    let told = |report: &PlanReport, what: &str| report.warnings.iter().filter(|w| w.contains(what)).count();
    let single = fitted(Some(5_000_000));
    assert_eq!(
        (told(&single, "without pooling"), told(&single, "Only down")),
        (4, 0),
        "{:?}",
        single.warnings
    );
    let down = fitted(Some(500_000));
    assert_eq!((told(&down, "without pooling"), told(&down, "Only down")), (4, 1), "{:?}", down.warnings);
    let kl = |report: &PlanReport| report.merged.kl.unwrap();
    assert!(kl(&usual) < kl(&single) && kl(&single) < 0.01, "{} {}", kl(&usual), kl(&single));
    assert!(kl(&down) < 0.01 && kl(&down) != kl(&single), "{}", kl(&down));
}

#[test]
fn a_plan_by_hand_merges_what_it_names_in_its_order() {
    let options = PlanOptions {
        selection: Selection::Hand,
        absorb: vec![3, 2],
        locked: vec![7],
        ..PlanOptions::default()
    };
    let report = plan(PLANTED, &options);
    assert_eq!(report.plan.groups[1], [1, 2, 3]);
    assert_eq!(report.plan.groups.len(), 10);
    let steps = &report.plan.steps;
    assert_eq!(steps.iter().map(|step| step.merged).collect::<Vec<_>>(), [[2, 3], [1, 2]]);
    assert!(steps.iter().all(|step| step.perplexity.is_some() && step.alpha > 0.9));
    // The first merge is the best one, which MKA makes first too.
    let first = plan(PLANTED, &remove(1)).plan.steps.remove(0);
    assert_eq!(first.merged, steps[0].merged);
    assert_near("perplexity", steps[0].perplexity.unwrap(), first.perplexity.unwrap(), 1e-3);
}

#[test]
fn another_metric_is_taken_from_what_was_captured() {
    let by = |metric| CalibrationOptions { metric, samples: 40, ..CalibrationOptions::default() };
    let mut session = session(PLANTED);
    assert!(run(session.similarity_by(Metric::Cosine, &Silent)).is_err());
    similarity(&mut session, &by(Metric::MutualInformation));
    let maps = similarity(&mut session, &by(Metric::MutualInformation));
    for &metric in Metric::ALL {
        let fresh = similarity(&mut crate::common::session(PLANTED), &by(metric));
        let report = run(session.similarity_by(metric, &Silent)).unwrap();
        assert_eq!(report.similarity, fresh.similarity, "{metric}");
        assert_eq!(report.mutual_information, fresh.mutual_information, "{metric}");
    }
    // The comparison itself goes over to another metric without a word from the layers.
    let told = Told::default();
    let switched = run(session.similarity(&by(Metric::Cosine), &told)).unwrap();
    assert_eq!(told.0.get(), 0);
    let fresh = similarity(&mut crate::common::session(PLANTED), &by(Metric::Cosine));
    assert_eq!(switched.similarity, fresh.similarity);
    assert_eq!((switched.metric.as_str(), &switched.warnings), ("cosine", &fresh.warnings));
    assert_eq!((&switched.embedding, switched.perplexity), (&maps.embedding, maps.perplexity));
    // Plans go by it from then on, and anything else is captured anew.
    let planned = run(session.plan(&remove(1), &WriteOptions::default(), &Silent)).unwrap();
    let best = (1..12).max_by(|a, b| fresh.similarity[*a][a - 1].total_cmp(&fresh.similarity[*b][b - 1]));
    assert_eq!(planned.plan.steps[0].merged[1], best.unwrap());
    run(session.similarity(&CalibrationOptions { samples: 41, ..by(Metric::Cosine) }, &told)).unwrap();
    assert!(told.0.get() > 0);
}

/// How many events came, without those of comparing layers.
#[derive(Default)]
struct Told(Cell<usize>);

impl Observer for Told {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let compares = matches!(&event, Event::Progress(progress) if progress.stage == Stage::Similarity);
        self.0.set(self.0.get() + usize::from(!compares));
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_repeated_plan_is_measured_after_each_step_where_that_is_asked() {
    let mut session = session(PLANTED);
    similarity(&mut session, &CalibrationOptions { samples: 40, ..CalibrationOptions::default() });
    let given = run(session.plan(&remove(3), &WriteOptions::default(), &Silent)).unwrap();
    let end = run(session.measure(&given.plan, &WriteOptions::default(), &Silent)).unwrap();
    let each = run(session.measure(
        &given.plan,
        &WriteOptions::default(),
        RunOptions::default().measuring_each_step(),
    ))
    .unwrap();
    assert_eq!(end.plan.steps[0].perplexity, None);
    for (again, step) in each.plan.steps.iter().zip(&given.plan.steps) {
        assert_near("perplexity", again.perplexity.unwrap(), step.perplexity.unwrap(), 1e-3);
    }
    assert_eq!(each.plan.weights, given.plan.weights);
}
