//! Maps made again from kept distances: equal to the last bit where they are exact, near where they are sketches.

use laminate::maths::manifold::{
    DiffusionMap, DiffusionOptions, Embedding, KeptDistances, Normalise, Points, Sketch,
    ValidDiffusionOptions, align_onto, diffusion_map, diffusion_map_and_distances,
};
use laminate::protocol::similarity::SimilarityReport;
use laminate::protocol::text::PointRule;
use laminate::{CalibrationOptions, Error, LayerMap, MapOptions, Session, Silent, demo};

use crate::common::{cpu, run};
use crate::geometry::{Golden, Random, assert_close};

fn default() -> ValidDiffusionOptions {
    DiffusionOptions::default().check().unwrap()
}

fn kept(points: &Points) -> (DiffusionMap, KeptDistances) {
    diffusion_map_and_distances(points, 0, &default()).unwrap()
}

/// Largest distance between the points of two embeddings after a rotation, as a share of the largest radius.
fn gap(found: &Embedding, expected: &Embedding) -> f64 {
    let turned = align_onto(found, expected, 0).unwrap().to_rows();
    let expected = expected.to_rows();
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    let radius = expected.iter().map(|row| norm(row)).fold(0.0, f64::max);
    let apart =
        |(a, b): (&Vec<f64>, &Vec<f64>)| norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>());
    turned.iter().zip(&expected).map(apart).fold(0.0, f64::max) / radius
}

#[test]
fn kept_distances_give_the_map_of_the_points_to_the_last_bit() {
    let other = DiffusionOptions { dims: 3, time: 2.5, density: 0.5, ..DiffusionOptions::default() };
    for name in ["stories260K", "stories-planted-12L"] {
        for points in &Golden::load(name).layers {
            let (map, distances) = kept(points);
            assert_eq!(map, diffusion_map(points, 0, &default()).unwrap());
            assert_eq!(map, distances.diffusion_map(0, &default()).unwrap());
            for bandwidth in [None, Some(map.epsilon()), Some(0.4 * map.epsilon()), Some(3.0 * map.epsilon())]
            {
                let options = DiffusionOptions { bandwidth, ..other }.check().unwrap();
                let fresh = diffusion_map(points, 0, &options).unwrap();
                assert_eq!(fresh, distances.diffusion_map(0, &options).unwrap(), "{name}, {bandwidth:?}");
            }
        }
    }
}

#[test]
fn equal_points_and_few_points_are_kept_too() {
    let mut data = Random(4).sheet(40, 9);
    data.copy_within(27..36, 63);
    let points = Points::from_f64(0, 40, 9, data).unwrap();
    let (map, distances) = kept(&points);
    assert_eq!(distances.diffusion_map(0, &default()).unwrap(), map);
    let rows = distances.sketch(0, &default(), None).unwrap().map().embedding().to_rows();
    assert_eq!(rows[7], rows[3]);

    let three = Points::from_f64(0, 3, 9, Random(5).sheet(3, 9)).unwrap();
    let (map, distances) = kept(&three);
    assert_eq!(distances.diffusion_map(0, &default()).unwrap(), map);
    assert_eq!(distances.sketch(0, &default(), None).unwrap().map().eigenvalues().len(), 3);
    assert_eq!(distances.eigenvalues(0, &default(), 20).unwrap().len(), 3);
    let four = DiffusionOptions { dims: 4, ..DiffusionOptions::default() }.check().unwrap();
    for error in
        [distances.diffusion_map(7, &four).unwrap_err(), distances.sketch(7, &four, None).unwrap_err()]
    {
        assert!(error.to_string().contains("layer 7 has 3 points"), "{error}");
    }
}

/// A hand on the sliders: the bandwidth down and up, the density, the time.
fn gesture(epsilon: f64) -> Vec<DiffusionOptions> {
    let of = |factor: f64, density, time| DiffusionOptions {
        bandwidth: Some(factor * epsilon),
        density,
        time,
        ..DiffusionOptions::default()
    };
    let bandwidth = (-8..=12).map(|i| of(2.0_f64.powf(f64::from(i) / 4.0), 0.0, 1.0));
    let density = (0..=10).map(|i| of(1.0, f64::from(i) / 10.0, 1.0));
    let time = (0..=8).map(|i| of(1.0, 1.0, f64::from(i)));
    bandwidth.chain(density).chain(time).collect()
}

#[test]
fn sketches_follow_the_exact_maps() {
    let sheet = Points::from_f64(0, 300, 40, Random(11).sheet(300, 40)).unwrap();
    let golden = Golden::load("stories-planted-12L").layers;
    for (at, points) in golden.iter().chain([&sheet]).enumerate() {
        let (map, distances) = kept(points);
        let mut sketch: Option<Sketch> = None;
        for options in gesture(map.epsilon()) {
            let valid = options.check().unwrap();
            let next = distances.sketch(0, &valid, sketch.take()).unwrap();
            let exact = distances.diffusion_map(0, &valid).unwrap();
            let lambda = exact.eigenvalues();
            assert_close("lambda_1", &next.map().eigenvalues()[1..2], &lambda[1..2], 0.0, 1e-4);
            // Where lambda_3 is near lambda_2 even exact vectors depend on rounding.
            if lambda[3] < 0.97 * lambda[2] {
                let gap = gap(next.map().embedding(), exact.embedding());
                assert!(gap < 0.01, "layer {at}, {options:?}: {gap:.1e} apart, eigenvalues {lambda:?}");
            }
            sketch = Some(next);
        }
    }
}

#[test]
fn a_sketch_of_another_time_has_the_same_vectors() {
    let (_, distances) = kept(&Points::from_f64(0, 200, 30, Random(3).sheet(200, 30)).unwrap());
    let at = |time| DiffusionOptions { time, ..DiffusionOptions::default() }.check().unwrap();
    let once = distances.sketch(0, &at(1.0), None).unwrap();
    let lambda = once.map().eigenvalues().to_vec();
    let first = once.map().embedding().coordinate(0).unwrap().to_vec();
    let thrice = distances.sketch(0, &at(3.0), Some(once)).unwrap();
    let expected: Vec<f64> = first.iter().map(|x| lambda[1].powi(2) * x).collect();
    assert_close("coordinate", thrice.map().embedding().coordinate(0).unwrap(), &expected, 0.0, 1e-12);
}

#[test]
fn extreme_bandwidths_are_sketched_without_failing() {
    for n in [20, 150] {
        let (map, distances) = kept(&Points::from_f64(0, n, 30, Random(3).sheet(n, 30)).unwrap());
        let mut sketch = None;
        for factor in [1.0, 0.01, 1e-9, 100.0, 1e9, 1.0] {
            let bandwidth = Some(factor * map.epsilon());
            let options = DiffusionOptions { bandwidth, ..DiffusionOptions::default() }.check().unwrap();
            let next = distances.sketch(0, &options, sketch).unwrap();
            assert!(next.map().eigenvalues().iter().all(|x| (0.0..1.0 + 1e-9).contains(x)), "{factor}");
            assert_eq!(next.map().nearly_disconnected(), factor < 0.1, "{factor}");
            sketch = Some(next);
        }
        let back = sketch.unwrap();
        let gap = gap(back.map().embedding(), map.embedding());
        assert!(gap < 0.01, "{n} points: {gap:.1e} apart");
    }
}

#[test]
fn more_eigenvalues_continue_those_of_the_map() {
    let points = &Golden::load("stories-planted-12L").layers[5];
    let (map, distances) = kept(points);
    let many = distances.eigenvalues(0, &default(), 12).unwrap();
    assert_eq!(many.len(), 12);
    assert!(many.is_sorted_by(|a, b| a >= b));
    assert_close("eigenvalues", &many[..5], map.eigenvalues(), 1e-14, 1e-9);
}

// The session.

fn options(bandwidth: f64, density: f64, time: f64, sketch: bool) -> MapOptions {
    MapOptions { layers: (0..12).collect(), bandwidth, density, time, sketch, eigenvalues: None }
}

fn captured(calibration: &CalibrationOptions) -> (Session, SimilarityReport) {
    let mut session = Session::new(run(demo::open()).unwrap(), cpu());
    let report = run(session.similarity(calibration, &Silent)).unwrap();
    (session, report)
}

fn small() -> CalibrationOptions {
    CalibrationOptions { samples: 40, tokens: 16, ..CalibrationOptions::default() }
}

fn assert_pictures(maps: &[LayerMap], report: &SimilarityReport, tolerance: f64) {
    for map in maps {
        let expected = report.embedding[map.layer].concat();
        let scale = expected.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
        let what = format!("picture of layer {}", map.layer);
        assert_close(&what, &map.picture.to_rows().concat(), &expected, tolerance * scale, 0.0);
    }
}

#[test]
fn the_parameters_of_the_run_give_the_maps_of_the_run() {
    let (mut session, report) = captured(&small());
    let maps = session.maps(&options(1.0, 0.0, 1.0, false)).unwrap();
    assert_eq!(maps.len(), 12);
    for map in &maps {
        assert_eq!(map.map.epsilon(), report.epsilon[map.layer]);
        assert_eq!(map.map.eigenvalues(), report.eigenvalues[map.layer]);
        assert_eq!(map.eigenvalues, report.eigenvalues[map.layer]);
    }
    assert_eq!(maps[0].map.embedding().to_rows(), report.embedding[0]);
    assert_pictures(&maps, &report, 1e-12);
    let sketches = session.maps(&options(1.0, 0.0, 1.0, true)).unwrap();
    assert_pictures(&sketches, &report, 0.01);
}

#[test]
fn other_parameters_give_the_maps_of_a_run_with_them() {
    let (mut session, _) = captured(&small());
    let (_, fresh) = captured(&CalibrationOptions { density: 0.5, time: 3.0, ..small() });
    let maps = session.maps(&options(1.0, 0.5, 3.0, false)).unwrap();
    for map in &maps {
        assert_eq!(map.map.epsilon(), fresh.epsilon[map.layer]);
        assert_eq!(map.map.eigenvalues(), fresh.eigenvalues[map.layer]);
    }
    // The first layer is what the others are aligned to in a report, so there it is as it was computed.
    assert_eq!(maps[0].map.embedding().to_rows(), fresh.embedding[0]);
    // A picture is the same up to a rotation, so all distances within it are the same.
    for map in &maps {
        let spread = |rows: &[Vec<f64>]| -> Vec<f64> {
            rows.iter()
                .map(|row| row.iter().zip(&rows[0]).map(|(x, y)| (x - y).powi(2)).sum::<f64>())
                .collect()
        };
        let expected = spread(&fresh.embedding[map.layer]);
        let scale = expected.iter().copied().fold(0.0, f64::max);
        assert_close(
            "distances in the picture",
            &spread(&map.picture.to_rows()),
            &expected,
            1e-9 * scale,
            0.0,
        );
    }
}

#[test]
fn a_multiple_of_the_bandwidth_is_that_bandwidth() {
    let (mut session, report) = captured(&small());
    let fixed = Some(2.5 * report.epsilon[0]);
    let (_, fresh) = captured(&CalibrationOptions { bandwidth: fixed, ..small() });
    let wanted = MapOptions { layers: vec![0], eigenvalues: Some(9), ..options(2.5, 0.0, 1.0, false) };
    let maps = session.maps(&wanted).unwrap();
    assert_eq!(maps[0].map.embedding().to_rows(), fresh.embedding[0]);
    assert_eq!(maps[0].map.eigenvalues(), fresh.eigenvalues[0]);
    assert_eq!(maps[0].eigenvalues.len(), 9);
}

#[test]
fn a_plan_and_its_merges_leave_the_maps_alone() {
    use laminate::PlanOptions;
    use laminate::WriteOptions;
    let (mut session, report) = captured(&small());
    let plan = PlanOptions { remove: Some(2), ..PlanOptions::default() };
    run(session.plan(&plan, &WriteOptions::default(), &Silent)).unwrap();
    assert_pictures(&session.maps(&options(1.0, 0.0, 1.0, false)).unwrap(), &report, 1e-12);
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let check = |result: Result<Vec<LayerMap>, Error>, kind: &str, says: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    };
    let mut fresh = Session::new(run(demo::open()).unwrap(), cpu());
    check(fresh.maps(&options(1.0, 0.0, 1.0, true)), "usage", "similarity stage first");
    let (mut session, _) = captured(&small());
    let missing = MapOptions { layers: vec![3, 12], ..options(1.0, 0.0, 1.0, true) };
    check(session.maps(&missing), "usage", "no layer 12");
    for bandwidth in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(session.maps(&options(bandwidth, 0.0, 1.0, true)), "usage", "must be above 0");
    }
    check(session.maps(&options(1.0, 1.5, 1.0, true)), "usage", "density is 1.5");
    check(session.maps(&options(1.0, 0.0, -1.0, true)), "usage", "time is -1");
}

#[test]
fn points_name_their_token() {
    let (_, report) = captured(&CalibrationOptions { points: PointRule::Tokens(3), ..small() });
    assert_eq!(report.point_list.len(), 120);
    for point in &report.point_list {
        assert!(!point.token.is_empty() && point.text.ends_with(point.token.trim()), "{point:?}");
    }
    let (_, report) = captured(&CalibrationOptions { points: PointRule::Mean, ..small() });
    assert!(report.point_list.iter().all(|point| point.token.is_empty() && point.position == -1));
}

#[test]
fn raw_points_are_kept_as_the_run_had_them() {
    let (mut session, report) = captured(&CalibrationOptions { normalise: Normalise::None, ..small() });
    let maps = session.maps(&options(1.0, 0.0, 1.0, false)).unwrap();
    assert_eq!(maps[0].map.embedding().to_rows(), report.embedding[0]);
}
