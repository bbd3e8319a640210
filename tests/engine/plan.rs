//! Plans: which pairs are chosen, what weights they make, and what an edited plan may not say.

use laminate::maths::similarity::SimilarityMatrix;
use laminate::plan::{Alpha, Next, Operator, Pair, Planner, Selection, Stop};
use laminate::{Error, MergePlan, PlanOptions};

use crate::geometry::{Random, assert_close};

fn options() -> PlanOptions {
    PlanOptions { remove: Some(2), ..PlanOptions::default() }
}

/// A matrix with the given similarities of neighbours and zeros elsewhere.
fn neighbours(adjacent: &[f64]) -> SimilarityMatrix {
    let n = adjacent.len() + 1;
    let entry = |l: usize, m: usize| match l.abs_diff(m) {
        0 => 1.0,
        1 => adjacent[l.min(m)],
        _ => 0.0,
    };
    let rows: Vec<Vec<f64>> = (0..n).map(|l| (0..n).map(|m| entry(l, m)).collect()).collect();
    SimilarityMatrix::from_rows(&rows).unwrap()
}

fn planner(options: PlanOptions, n_layers: usize, massive: &[usize]) -> Planner {
    Planner::new(options.check(n_layers, massive).unwrap())
}

#[track_caller]
fn assert_next(options: PlanOptions, massive: &[usize], adjacent: &[f64], expected: Option<usize>) {
    let next = planner(options, adjacent.len() + 1, massive).next_pair(&neighbours(adjacent)).unwrap();
    let expected = match expected {
        Some(first) => Next::Merge(Pair { first, similarity: adjacent[first] }),
        None => Next::Stop(Stop::AllBarred),
    };
    assert_eq!(next, expected);
}

// Choosing.

#[test]
fn the_most_similar_neighbours_are_next() {
    assert_next(options(), &[], &[0.1, 0.9, 0.3, 0.8], Some(1));
}

#[test]
fn ties_go_to_the_deeper_pair() {
    assert_next(options(), &[], &[0.9, 0.9, 0.3, 0.9, 0.2], Some(3));
}

#[test]
fn first_and_last_layers_may_be_kept() {
    let adjacent = [0.9, 0.2, 0.3, 0.8];
    assert_next(PlanOptions { keep_first: true, ..options() }, &[], &adjacent, Some(3));
    assert_next(PlanOptions { keep_first: true, keep_last: true, ..options() }, &[], &adjacent, Some(2));
    assert_next(PlanOptions { keep_last: true, ..options() }, &[], &adjacent, Some(0));
}

#[test]
fn a_locked_layer_takes_part_in_no_merge() {
    let adjacent = [0.5, 0.9, 0.8, 0.7, 0.6];
    let locked = |layers: &[usize]| PlanOptions { locked: layers.to_vec(), ..options() };
    assert_next(locked(&[2]), &[], &adjacent, Some(3));
    assert_next(locked(&[2, 4]), &[], &adjacent, Some(0));
    assert_next(locked(&[0, 2]), &[4, 5], &adjacent, None);
    // In one pass too, up to the end.
    let options = PlanOptions { one_shot: true, remove: Some(5), ..locked(&[2]) };
    let chosen = planner(options, 6, &[]).one_shot_pairs(&neighbours(&adjacent), None).unwrap();
    assert_eq!(chosen.pairs.iter().map(|pair| pair.first).collect::<Vec<_>>(), [3, 3, 0]);
    assert_eq!(chosen.stop, Stop::AllBarred);
    assert!(locked(&[6]).check(6, &[]).unwrap_err().to_string().contains("layer 6 cannot be locked"));
}

#[test]
fn rules_that_name_layers_leave_locked_ones_as_they_are() {
    let may_go = |operator| {
        let options = PlanOptions { locked: vec![3], operator, ..options() };
        (0..6).filter(|layer| options.may_go(*layer, 6)).collect::<Vec<_>>()
    };
    // Layer 4 would go into layer 3, and layer 0 into whatever is left after it.
    assert_eq!(may_go(Operator::Average), [1, 2, 5]);
    // Dropping leaves layer 3 as it is.
    assert_eq!(may_go(Operator::Drop), [0, 1, 2, 4, 5]);
    let ends = PlanOptions { keep_first: true, keep_last: true, ..options() };
    assert_eq!((0..4).filter(|layer| ends.may_go(*layer, 4)).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_plan_by_hand_says_what_cannot_be() {
    let hand = |absorb: &[usize]| PlanOptions {
        selection: Selection::Hand,
        absorb: absorb.to_vec(),
        locked: vec![4],
        ..PlanOptions::default()
    };
    assert_eq!(hand(&[2, 1]).goal(), Some(2));
    assert!(hand(&[2, 1]).check(8, &[]).is_ok());
    for (absorb, message) in [
        (vec![], "name at least one"),
        (vec![0], "layer 0 cannot be absorbed"),
        (vec![8], "layer 8 cannot be absorbed"),
        (vec![2, 2], "layer 2 cannot be absorbed twice"),
        (vec![4], "layer 4 is locked"),
        (vec![5], "layer 4 is locked"),
    ] {
        let error = hand(&absorb).check(8, &[]).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(message), "{error}");
    }
    let both = PlanOptions { remove: Some(1), ..hand(&[2, 1]) };
    assert!(both.check(8, &[]).is_err());
    let by_rule = PlanOptions { absorb: vec![2], ..options() };
    assert!(by_rule.check(8, &[]).unwrap_err().to_string().contains("selection mka"));
}

#[test]
fn a_massive_layer_is_not_absorbed_but_may_absorb() {
    let adjacent = [0.2, 0.9, 0.8];
    assert_next(options(), &[2], &adjacent, Some(2));
    assert_next(PlanOptions { release_massive: true, ..options() }, &[2], &adjacent, Some(1));
    assert_next(options(), &[1, 2, 3], &adjacent, None);
}

#[test]
fn a_layer_made_from_a_massive_one_stays_protected() {
    let mut planner = planner(PlanOptions { remove: Some(3), ..options() }, 5, &[2]);
    let Next::Merge(pair) = planner.next_pair(&neighbours(&[0.1, 0.2, 0.9, 0.1])).unwrap() else { panic!() };
    planner.merge(pair, 0.5).unwrap();
    assert_eq!(planner.plan().groups, [vec![0], vec![1], vec![2, 3], vec![4]]);
    let next = planner.next_pair(&neighbours(&[0.1, 0.9, 0.3])).unwrap();
    assert_eq!(next, Next::Merge(Pair { first: 2, similarity: 0.3 }));
}

#[test]
fn planning_stops_with_a_reason() {
    let two = neighbours(&[0.5]);
    let mut one = planner(PlanOptions { remove: Some(1), ..options() }, 2, &[]);
    one.merge(Pair { first: 0, similarity: 0.5 }, 0.5).unwrap();
    assert_eq!(one.next_pair(&neighbours(&[])).unwrap(), Next::Stop(Stop::Done));

    let threshold = |least| PlanOptions { remove: None, min_similarity: Some(least), ..options() };
    let low = planner(threshold(0.6), 2, &[]);
    assert_eq!(low.next_pair(&two).unwrap(), Next::Stop(Stop::BelowSimilarity(0.5)));
    let mut all = planner(threshold(0.1), 2, &[]);
    all.merge(Pair { first: 0, similarity: 0.5 }, 0.5).unwrap();
    assert_eq!(all.next_pair(&neighbours(&[])).unwrap(), Next::Stop(Stop::OneLayer));
    assert!(Stop::BelowSimilarity(0.5).to_string().contains("0.500"));
}

// One-shot.

fn one_shot(options: PlanOptions, massive: &[usize], adjacent: &[f64]) -> (MergePlan, Stop) {
    let mut planner = planner(PlanOptions { one_shot: true, ..options }, adjacent.len() + 1, massive);
    let plan = planner.one_shot_pairs(&neighbours(adjacent), None).unwrap();
    for pair in plan.pairs {
        planner.merge(pair, pair.similarity).unwrap();
    }
    planner.plan().validate().unwrap();
    (planner.into_plan(), plan.stop)
}

#[test]
fn with_block_influence_the_runs_of_least_change_go_first() {
    let rows: Vec<Vec<f64>> = vec![
        vec![1.0, 0.9, 0.8, 0.2, 0.2],
        vec![0.9, 1.0, 0.8, 0.4, 0.2],
        vec![0.8, 0.8, 1.0, 0.5, 0.4],
        vec![0.2, 0.4, 0.5, 1.0, 0.7],
        vec![0.2, 0.2, 0.4, 0.7, 1.0],
    ];
    let matrix = SimilarityMatrix::from_rows(&rows).unwrap();
    // Of pairs: .19, .2, .06, .036; of 0..=2 it is .4, of 2..=4 .132.
    let influence = [1.0, 0.9, 0.1, 0.02, 0.1];
    let ranked = |options: PlanOptions, massive: &[usize]| {
        let chosen = planner(options, 5, massive).one_shot_pairs(&matrix, Some(&influence)).unwrap();
        (chosen.pairs.iter().map(|pair| (pair.first, pair.similarity)).collect::<Vec<_>>(), chosen.stop)
    };
    let remove = |k| PlanOptions { remove: Some(k), ..options() };
    assert_eq!(ranked(remove(1), &[]), (vec![(3, 0.7)], Stop::Done));
    // One run of three, not two pairs that cost .226 together; its layers merge from left to right.
    assert_eq!(ranked(remove(2), &[]), (vec![(2, 0.5), (2, 0.7)], Stop::Done));
    let short = PlanOptions { longest_span: Some(2), ..remove(2) };
    assert_eq!(ranked(short.clone(), &[]), (vec![(3, 0.7), (0, 0.9)], Stop::Done));
    assert_eq!(ranked(PlanOptions { remove: Some(3), ..short }, &[]).1, Stop::AllBarred);
    // A protected layer is absorbed by none, and a similarity to stop at is one still.
    assert_eq!(ranked(remove(1), &[4]).0, [(0, 0.9)], "nor is the layer before it");
    assert_eq!(ranked(remove(1), &[3]).0, [(3, 0.7)], "but it may absorb");
    let released = PlanOptions { release_massive: true, ..remove(1) };
    assert_eq!(ranked(released, &[4]).0, [(3, 0.7)]);
    let stop = PlanOptions { remove: None, min_similarity: Some(0.75), ..options() };
    assert_eq!(ranked(stop, &[]), (vec![(0, 0.9), (0, 0.8)], Stop::BelowSimilarity(0.7)));
    let short = planner(options(), 5, &[]).one_shot_pairs(&matrix, Some(&influence[..3]));
    assert_eq!(short.unwrap_err().kind(), "shape");
}

#[test]
fn one_shot_takes_the_best_pairs_of_the_first_matrix() {
    let (plan, stop) = one_shot(options(), &[], &[0.1, 0.9, 0.3, 0.2, 0.8]);
    assert_eq!(plan.groups, [vec![0], vec![1, 2], vec![3], vec![4, 5]]);
    assert_eq!(plan.steps.iter().map(|s| s.merged).collect::<Vec<_>>(), [[1, 2], [3, 4]]);
    assert_eq!(stop, Stop::Done);
}

#[test]
fn one_shot_merges_a_chain_from_left_to_right() {
    // The best pair is inside the chain 1-2-3-4; the other chain, 6-7, ranks between.
    let (plan, _) =
        one_shot(PlanOptions { remove: Some(4), ..options() }, &[], &[0.1, 0.5, 0.75, 0.5, 0.1, 0.0, 0.6]);
    assert_eq!(plan.groups, [vec![0], vec![1, 2, 3, 4], vec![5], vec![6, 7]]);
    assert_eq!(plan.steps.iter().map(|s| s.merged).collect::<Vec<_>>(), [[1, 2], [1, 2], [1, 2], [3, 4]]);
    assert_eq!(plan.steps.iter().map(|s| s.similarity).collect::<Vec<_>>(), [0.5, 0.75, 0.5, 0.6]);
    assert_close("weights", &plan.weights[1], &[0.1875, 0.1875, 0.125, 0.5], 1e-15, 0.0);
}

#[test]
fn one_shot_prefers_deeper_pairs_among_equals() {
    let (plan, _) = one_shot(PlanOptions { remove: Some(1), ..options() }, &[], &[0.5, 0.2, 0.5]);
    assert_eq!(plan.groups, [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn one_shot_stops_with_a_reason() {
    let (plan, stop) = one_shot(PlanOptions { remove: Some(2), ..options() }, &[1], &[0.9, 0.8]);
    assert_eq!((plan.groups.len(), stop), (2, Stop::AllBarred));
    let threshold = PlanOptions { remove: None, min_similarity: Some(0.85), ..options() };
    let (plan, stop) = one_shot(threshold.clone(), &[], &[0.9, 0.8]);
    assert_eq!((plan.groups.len(), stop), (2, Stop::BelowSimilarity(0.8)));
    let (plan, stop) = one_shot(threshold, &[], &[0.9, 0.9]);
    assert_eq!((plan.groups.len(), stop), (1, Stop::OneLayer));
}

#[test]
fn one_shot_chains_on_random_matrices_are_the_connected_pairs() {
    let mut random = Random(1);
    for _ in 0..200 {
        let n = 2 + random.below(12);
        let adjacent: Vec<f64> = (1..n).map(|_| (random.uniform() * 8.0).floor() / 8.0).collect();
        let remove = 1 + random.below(n - 1);
        let (plan, _) = one_shot(PlanOptions { remove: Some(remove), ..options() }, &[], &adjacent);
        // Taken pairs: those inside a group. Their similarities are the largest.
        let joined: Vec<usize> = plan.groups.iter().flat_map(|g| g[..g.len() - 1].to_vec()).collect();
        assert_eq!(joined.len(), remove);
        let least = joined.iter().map(|&l| adjacent[l]).fold(1.0, f64::min);
        assert!((0..n - 1).filter(|l| !joined.contains(l)).all(|l| adjacent[l] <= least));
        // From left to right: the weights of a chain follow from its own similarities in order.
        for (group, weights) in plan.groups.iter().zip(&plan.weights) {
            let mut expected = vec![1.0];
            for &l in &group[..group.len() - 1] {
                expected.iter_mut().for_each(|w| *w *= adjacent[l]);
                expected.push(1.0 - adjacent[l]);
            }
            assert_close("weights", weights, &expected, 1e-14, 0.0);
        }
    }
}

// Weights.

#[test]
fn weights_are_coefficients_of_the_original_layers() {
    // Follow one number per layer through random merges.
    let mut random = Random(2);
    for _ in 0..100 {
        let n = 2 + random.below(10);
        let theta = random.normals(n);
        let (mut current, mut plan) = (theta.clone(), MergePlan::unmerged(n));
        for _ in 0..1 + random.below(n - 1) {
            let (l, alpha) = (random.below(current.len() - 1), random.uniform());
            current[l] = alpha * current[l] + (1.0 - alpha) * current[l + 1];
            current.remove(l + 1);
            let step = plan.merge([l, l + 1], alpha, 0.5).unwrap();
            assert_eq!(step.layers, current.len());
        }
        plan.validate().unwrap();
        let mixed: Vec<f64> = plan
            .groups
            .iter()
            .zip(&plan.weights)
            .map(|(group, weights)| group.iter().zip(weights).map(|(&l, w)| w * theta[l]).sum())
            .collect();
        assert_close("merged", &mixed, &current, 1e-14, 0.0);
    }
}

#[test]
fn alpha_one_keeps_the_first_layer_and_alpha_zero_the_second() {
    assert_eq!(MergePlan::from_merges(2, &[([0, 1], 1.0)]).unwrap().weights, [[1.0, 0.0]]);
    assert_eq!(MergePlan::from_merges(2, &[([0, 1], 0.0)]).unwrap().weights, [[0.0, 1.0]]);
}

// JSON.

#[test]
fn a_plan_survives_json_with_the_names_of_the_protocol() {
    let plan = MergePlan::from_merges(4, &[([1, 2], 0.75), ([0, 1], 0.5)]).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(MergePlan::from_json(&json).unwrap(), plan);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["steps"][1]["merged"], serde_json::json!([0, 1]));
    assert_eq!(value["steps"][1]["groups"], serde_json::json!([[0], [1, 2]]));
    let keys: Vec<&String> = value["steps"][0].as_object().unwrap().keys().collect();
    let expected = [
        "merged",
        "groups",
        "alpha",
        "similarity",
        "layers",
        "perplexity",
        "kl",
        "top1_agreement",
        "collapsed",
        "dropped",
        "bytes",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_plan_by_hand_needs_only_groups_and_weights() {
    let json = r#"{"n_layers": 3, "groups": [[0], [1, 2]], "weights": [[1], [0.25, 0.75]]}"#;
    assert_eq!(MergePlan::from_json(json).unwrap().n_final_layers(), 2);
}

#[test]
fn alpha_is_a_word_or_a_number() {
    for (json, alpha) in [
        ("\"similarity\"", Alpha::Similarity),
        ("\"search\"", Alpha::Search),
        ("0.25", Alpha::Fixed(0.25)),
        ("1", Alpha::Fixed(1.0)),
    ] {
        assert_eq!(serde_json::from_str::<Alpha>(json).unwrap(), alpha);
        assert_eq!(alpha.to_string().parse::<Alpha>().unwrap(), alpha);
    }
    assert_eq!(serde_json::to_string(&Alpha::Fixed(0.25)).unwrap(), "0.25");
    assert_eq!(serde_json::to_string(&Alpha::Search).unwrap(), "\"search\"");
}

// Bad input.

#[track_caller]
fn assert_usage<T: std::fmt::Debug>(result: Result<T, Error>, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), "usage", "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn options_need_exactly_one_stop() {
    assert_usage(PlanOptions { remove: None, ..options() }.check(4, &[]), "either");
    assert_usage(PlanOptions { min_similarity: Some(0.5), ..options() }.check(4, &[]), "either");
}

#[test]
fn removing_all_layers_is_bad_usage() {
    assert!(PlanOptions { remove: Some(0), ..options() }.check(4, &[]).is_ok());
    assert_usage(PlanOptions { remove: Some(4), ..options() }.check(4, &[]), "cannot remove 4 of 4");
}

#[test]
fn similarity_threshold_out_of_range_is_bad_usage() {
    for least in [f64::NAN, f64::INFINITY, 1.5] {
        let options = PlanOptions { remove: None, min_similarity: Some(least), ..options() };
        assert_usage(options.check(4, &[]), "smallest similarity");
    }
}

#[test]
fn alpha_out_of_range_is_bad_usage() {
    assert_usage(PlanOptions { alpha: Alpha::Fixed(1.5), ..options() }.check(4, &[]), "1.5");
    assert_usage("half".parse::<Alpha>(), "half");
    assert_usage("NaN".parse::<Alpha>(), "NaN");
    assert!(serde_json::from_str::<Alpha>("-0.5").unwrap_err().to_string().contains("-0.5"));
}

#[test]
fn protecting_a_layer_that_is_not_there_is_bad_usage() {
    assert_usage(options().check(4, &[4]), "layer 4");
}

#[test]
fn similarities_of_another_model_are_a_shape_error() {
    let planner = planner(options(), 4, &[]);
    assert_eq!(planner.next_pair(&neighbours(&[0.5])).unwrap_err().kind(), "shape");
    assert_eq!(planner.one_shot_pairs(&neighbours(&[0.5]), None).unwrap_err().kind(), "shape");
}

#[test]
fn one_shot_after_a_merge_is_bad_usage() {
    let mut planner = planner(options(), 4, &[]);
    planner.merge(Pair { first: 0, similarity: 0.5 }, 0.5).unwrap();
    assert_usage(planner.one_shot_pairs(&neighbours(&[0.5, 0.5]), None), "before any merge");
}

#[test]
fn merges_of_layers_that_are_not_neighbours_name_the_step() {
    for merged in [[0, 2], [1, 0], [2, 2], [3, 4], [usize::MAX, 0], [usize::MAX - 1, usize::MAX]] {
        assert_usage(MergePlan::from_merges(4, &[(merged, 0.5)]), "step 0");
    }
}

#[test]
fn merges_with_alpha_out_of_range_name_the_step() {
    for alpha in [-0.1, 1.1, f64::NAN] {
        assert_usage(MergePlan::from_merges(4, &[([0, 1], 0.5), ([0, 1], alpha)]), "step 1");
    }
}

/// A valid plan, edited.
#[track_caller]
fn assert_edit_fails(edit: impl Fn(&mut MergePlan), says: &str) {
    let mut plan = MergePlan::from_merges(5, &[([1, 2], 0.5), ([2, 3], 0.5)]).unwrap();
    plan.validate().unwrap();
    edit(&mut plan);
    assert_usage(plan.validate(), says);
}

#[test]
fn edited_plans_are_checked() {
    assert_edit_fails(|p| p.n_layers = 6, "0 to 5");
    assert_edit_fails(|p| p.groups[0] = vec![1], "once each and in order");
    assert_edit_fails(|p| p.groups.swap(0, 1), "once each and in order");
    assert_edit_fails(
        |p| p.groups.push(Vec::new()),
        "3 groups, but 3 weights".replace("3 groups", "4 groups").as_str(),
    );
    assert_edit_fails(|p| p.weights[1] = vec![1.0], "group 1 has 2 layers, but 1 weights");
    assert_edit_fails(|p| p.weights[1] = vec![1.5, -0.5], "weight 1.5");
    assert_edit_fails(|p| p.weights[1] = vec![f64::NAN, 0.5], "weight NaN");
    assert_edit_fails(|p| p.weights[1] = vec![0.5, 0.4], "group 1 sum to 0.9");
    assert_edit_fails(|p| p.weights[1] = vec![0.4, 0.6], "alphas");
    assert_edit_fails(|p| p.steps[0].merged = [3, 4], "step 0");
    assert_edit_fails(|p| p.steps[1].merged = [0, 1], "step 1");
    assert_edit_fails(|p| p.steps[1].layers = 2, "step 1");
    assert_edit_fails(|p| drop(p.steps.pop()), "groups");
}

#[test]
fn a_plan_whose_operator_averages_nothing_has_no_shares() {
    for operator in Operator::ALL.iter().filter(|operator| **operator != Operator::Collapse) {
        let plan = |weights: &[f64]| MergePlan {
            operator: *operator,
            groups: vec![vec![0], vec![1, 2], vec![3]],
            weights: vec![vec![1.0], weights.to_vec(), vec![1.0]],
            ..MergePlan::unmerged(4)
        };
        for whole in [[1.0, 0.0], [0.0, 1.0]] {
            assert_eq!(plan(&whole).validate(), Ok(()), "{operator}");
        }
        for shares in [[0.5, 0.5], [0.999_999_5, 5e-7]] {
            match operator {
                averages if averages.averages() => assert_eq!(plan(&shares).validate(), Ok(())),
                _ => assert_usage(plan(&shares).validate(), "group 1 has the weights"),
            }
        }
    }
    // The steps of such a plan give no shares either.
    let average = MergePlan::from_merges(3, &[([0, 1], 0.5)]).unwrap();
    assert_usage(
        MergePlan { operator: Operator::Drop, ..average }.validate(),
        "operator drop averages nothing",
    );
}

#[test]
fn layers_of_which_none_may_go_are_refused_at_once() {
    let check = |options: PlanOptions| options.check(5, &[]).map(drop);
    let keep = |locked: &[usize], selection| PlanOptions {
        locked: locked.to_vec(),
        remove: Some(1),
        selection,
        ..PlanOptions::default()
    };
    for selection in Selection::ALL.iter().filter(|selection| **selection != Selection::Hand) {
        assert_usage(check(keep(&[4, 0, 1, 2, 3], *selection)), "are to be kept: 0, 1, 2, 3, 4;");
        assert_eq!(check(keep(&[0, 1, 2], *selection)), Ok(()), "{selection}");
    }
    // Layers 1 and 3 have no neighbour to be merged with, nor a layer that may absorb them.
    assert_usage(check(keep(&[0, 2, 4], Selection::Mka)), "to be kept: 0, 2, 4;");
    assert_usage(check(keep(&[0, 2, 4], Selection::BlockInfluence)), "to be kept: 0, 2, 4;");
    let dropped = PlanOptions { operator: Operator::Drop, ..keep(&[0, 2, 4], Selection::BlockInfluence) };
    assert_eq!(check(dropped), Ok(()));
    let ends = PlanOptions { keep_first: true, keep_last: true, ..keep(&[2], Selection::Mka) };
    assert_usage(check(ends), "to be kept: 0, 2, 4;");
}

#[test]
fn json_that_is_not_a_plan_is_bad_usage() {
    assert_usage(MergePlan::from_json("[]"), "not a merge plan");
    assert_usage(
        MergePlan::from_json(r#"{"n_layers": 18446744073709551615, "groups": [[0]], "weights": [[1]]}"#),
        "groups",
    );
    assert_usage(MergePlan::from_json(r#"{"n_layers": 0, "groups": [], "weights": []}"#), "groups");
}
