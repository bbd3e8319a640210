//! Diffusion maps: what theory demands, then a naive version, then stored numbers, then bad input.

use laminate::Error;
use laminate::maths::manifold::{
    DiffusionMap, DiffusionOptions, Normalise, Points, ValidDiffusionOptions, align, diffusion_map,
    diffusion_maps, diffusion_operator, squared_distances,
};

use crate::geometry::{Golden, Random, assert_close, assert_rows_close};

fn default() -> ValidDiffusionOptions {
    DiffusionOptions::default().check().unwrap()
}

fn sheet(seed: u64, n: usize, dim: usize) -> Points {
    Points::from_f64(0, n, dim, Random(seed).sheet(n, dim)).unwrap()
}

fn coordinates(map: &DiffusionMap) -> Vec<Vec<f64>> {
    map.embedding().coordinates().map(<[f64]>::to_vec).collect()
}

/// Largest magnitudes of the coordinates, against which errors of coordinates are measured.
fn scale(map: &DiffusionMap) -> f64 {
    map.embedding().coordinates().flatten().fold(0.0, |a: f64, x| a.max(x.abs()))
}

// Theorems.

#[test]
fn rows_of_the_operator_sum_to_one() {
    for (seed, density) in [(1, 0.0), (2, 0.5), (3, 1.0)] {
        let options = DiffusionOptions { density, ..DiffusionOptions::default() }.check().unwrap();
        let operator = diffusion_operator(&sheet(seed, 61, 17), 0, &options).unwrap();
        let sums: Vec<f64> =
            (0..61).map(|i| (0..61).map(|j| operator.transition(i, j).unwrap()).sum()).collect();
        assert_close("row sums", &sums, &[1.0; 61], 1e-13, 0.0);
        assert_eq!(operator.transition(61, 0), None);
    }
}

#[test]
fn eigenvalues_begin_with_one_descend_and_stay_in_the_unit_interval() {
    for (n, dim) in [(5, 3), (40, 7), (97, 33), (200, 64)] {
        let map = diffusion_map(&sheet(n as u64, n, dim), 0, &default()).unwrap();
        assert_eq!(map.eigenvalues().len(), 5.min(n));
        assert!((map.eigenvalues()[0] - 1.0).abs() < 1e-13);
        assert!(map.eigenvalues().is_sorted_by(|a, b| a >= b));
        assert!(map.eigenvalues().iter().all(|x| (0.0..1.0 + 1e-12).contains(x)));
    }
}

#[test]
fn permuting_the_points_permutes_the_map() {
    for n in [70, 151] {
        let mut random = Random(n as u64);
        let (dim, data) = (19, random.sheet(n, 19));
        let order = random.permutation(n);
        let shuffled = order.iter().flat_map(|&i| data[i * dim..][..dim].to_vec()).collect();
        let map = diffusion_map(&Points::from_f64(0, n, dim, data).unwrap(), 0, &default()).unwrap();
        let other = diffusion_map(&Points::from_f64(0, n, dim, shuffled).unwrap(), 0, &default()).unwrap();
        assert_close("eigenvalues", other.eigenvalues(), map.eigenvalues(), 0.0, 1e-11);
        for (a, b) in coordinates(&map).iter().zip(coordinates(&other)) {
            let permuted: Vec<f64> = order.iter().map(|&i| a[i]).collect();
            assert_close("coordinate", &b, &permuted, 1e-9 * scale(&map), 0.0);
        }
    }
}

#[test]
fn rotating_the_points_changes_nothing() {
    for n in [70, 151] {
        let mut random = Random(n as u64);
        let (dim, mut data) = (23, random.sheet(n, 23));
        let map = diffusion_map(&Points::from_f64(0, n, dim, data.clone()).unwrap(), 0, &default()).unwrap();
        // A product of reflections; the root mean square of a point does not change.
        for _ in 0..5 {
            let v = random.normals(dim);
            let norm2: f64 = v.iter().map(|x| x * x).sum();
            for row in data.chunks_exact_mut(dim) {
                let along: f64 = row.iter().zip(&v).map(|(x, v)| x * v).sum();
                row.iter_mut().zip(&v).for_each(|(x, v)| *x -= 2.0 * along / norm2 * v);
            }
        }
        let other = diffusion_map(&Points::from_f64(0, n, dim, data).unwrap(), 0, &default()).unwrap();
        assert_close("eigenvalues", other.eigenvalues(), map.eigenvalues(), 0.0, 1e-11);
        assert_rows_close("coordinates", &coordinates(&other), &coordinates(&map), 1e-9 * scale(&map), 0.0);
    }
}

#[test]
fn scaling_and_shifting_raw_points_changes_nothing() {
    let options =
        DiffusionOptions { normalise: Normalise::None, ..DiffusionOptions::default() }.check().unwrap();
    let data = Random(9).sheet(80, 11);
    let moved = data.iter().map(|x| 1e4 + 3.0 * x).collect();
    let map = diffusion_map(&Points::from_f64(0, 80, 11, data).unwrap(), 0, &options).unwrap();
    let other = diffusion_map(&Points::from_f64(0, 80, 11, moved).unwrap(), 0, &options).unwrap();
    assert_close("epsilon", &[other.epsilon()], &[9.0 * map.epsilon()], 0.0, 1e-9);
    assert_close("eigenvalues", other.eigenvalues(), map.eigenvalues(), 0.0, 1e-9);
}

#[test]
fn the_largest_entry_of_each_coordinate_is_positive() {
    for column in coordinates(&diffusion_map(&sheet(5, 90, 12), 0, &default()).unwrap()) {
        let largest = column.iter().fold(0.0, |a: f64, x| if x.abs() > a.abs() { *x } else { a });
        assert!(largest > 0.0);
    }
}

#[test]
fn points_on_a_circle_have_paired_eigenvalues() {
    // The operator is circulant: its eigenvectors are sines and cosines, two for each eigenvalue. The second
    // solver must see both of each pair.
    for n in [60, 128] {
        let circle = (0..n).flat_map(|i| {
            let angle = std::f64::consts::TAU * i as f64 / n as f64;
            [angle.cos(), angle.sin()]
        });
        let map =
            diffusion_map(&Points::from_f64(0, n, 2, circle.collect()).unwrap(), 0, &default()).unwrap();
        let lambda = map.eigenvalues();
        assert!((lambda[1] - lambda[2]).abs() < 1e-12 && (lambda[3] - lambda[4]).abs() < 1e-12);
        assert!(lambda[2] > lambda[3] + 1e-3);
        // Coordinates of unit variance times lambda: radius sqrt(2) lambda_1 everywhere.
        let radius: Vec<f64> = map.embedding().to_rows().iter().map(|row| row[0].hypot(row[1])).collect();
        assert_close("radius", &radius, &vec![2.0_f64.sqrt() * lambda[1]; n], 1e-9, 0.0);
    }
}

#[test]
fn equidistant_points_have_one_eigenvalue_of_the_highest_multiplicity() {
    // The corners of a simplex: W has ones on the diagonal and exp(-1) elsewhere.
    let n = 110;
    let corners = (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let map = diffusion_map(&Points::from_f64(0, n, n, corners).unwrap(), 0, &default()).unwrap();
    let w = (-1.0_f64).exp();
    let expected = (1.0 - w) / (1.0 + (n - 1) as f64 * w);
    assert_close("eigenvalues", &map.eigenvalues()[1..], &[expected; 4], 0.0, 1e-9);
}

#[test]
fn equal_points_get_equal_coordinates() {
    let (n, dim) = (100, 9);
    let mut data = Random(4).sheet(n, dim);
    for (copy, of) in [(7, 3), (50, 3), (99, 20)] {
        data.copy_within(of * dim..(of + 1) * dim, copy * dim);
    }
    let rows = diffusion_map(&Points::from_f64(0, n, dim, data).unwrap(), 0, &default())
        .unwrap()
        .embedding()
        .to_rows();
    assert_eq!(rows[7], rows[3]);
    assert_eq!(rows[50], rows[3]);
    assert_eq!(rows[99], rows[20]);
}

#[test]
fn two_far_clusters_are_nearly_disconnected() {
    let mut data = Random(8).normals(60 * 4);
    for row in data.chunks_exact_mut(4).skip(45) {
        row[0] += 40.0;
    }
    let options =
        DiffusionOptions { normalise: Normalise::None, ..DiffusionOptions::default() }.check().unwrap();
    let map = diffusion_map(&Points::from_f64(0, 60, 4, data).unwrap(), 0, &options).unwrap();
    assert!(map.nearly_disconnected());
    let first = map.embedding().coordinate(0).unwrap();
    assert!(first[..45].iter().all(|x| x * first[50] < 0.0));
    assert!(!diffusion_map(&sheet(1, 60, 4), 0, &default()).unwrap().nearly_disconnected());
}

#[test]
fn diffusion_time_scales_each_coordinate_by_its_eigenvalue() {
    let points = sheet(6, 64, 10);
    let once = diffusion_map(&points, 0, &default()).unwrap();
    let options = DiffusionOptions { time: 3.0, ..DiffusionOptions::default() }.check().unwrap();
    let thrice = diffusion_map(&points, 0, &options).unwrap();
    for k in 0..2 {
        let factor = once.eigenvalues()[k + 1].powi(2);
        let expected: Vec<f64> = once.embedding().coordinate(k).unwrap().iter().map(|x| factor * x).collect();
        assert_close("coordinate", thrice.embedding().coordinate(k).unwrap(), &expected, 0.0, 1e-12);
    }
}

#[test]
fn alignment_undoes_a_reflection_and_keeps_distances() {
    let mut random = Random(12);
    let data = random.sheet(75, 8);
    let noisy: Vec<f64> = data.iter().map(|x| x + 0.01 * random.normal()).collect();
    let layers = [data, noisy].map(|data| Points::from_f64(0, 75, 8, data).unwrap());
    let maps = diffusion_maps(&layers, &default()).unwrap();
    let aligned = align(&maps).unwrap();
    assert_eq!(aligned[0], *maps[0].embedding());
    let (before, after, target) = (maps[1].embedding().to_rows(), aligned[1].to_rows(), aligned[0].to_rows());
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    for i in 0..75 {
        assert_close(
            "distance",
            &[square(&after[i], &after[0])],
            &[square(&before[i], &before[0])],
            1e-12,
            1e-9,
        );
    }
    let gap: f64 = after.iter().zip(&target).map(|(a, b)| square(a, b)).sum();
    let size: f64 = target.iter().map(|b| square(b, &[0.0, 0.0])).sum();
    assert!(gap < 0.05 * size, "{gap} of {size}");
}

// The naive version.

#[test]
fn squared_distances_match_the_definition() {
    for (seed, n, dim) in [(1, 2, 1), (2, 9, 300), (3, 33, 257), (4, 100, 31)] {
        let points = sheet(seed, n, dim);
        for normalise in [Normalise::Rms, Normalise::None] {
            if (n, dim, normalise) == (2, 1, Normalise::Rms) {
                continue; // One coordinate of root mean square 1 is a sign.
            }
            let found = squared_distances(&points, 0, normalise).unwrap();
            let rows: Vec<Vec<f64>> =
                points.normalised(0, normalise).unwrap().rows().map(<[f64]>::to_vec).collect();
            let mut all = Vec::new();
            for i in 0..n {
                for j in 0..n {
                    let naive: f64 = rows[i].iter().zip(&rows[j]).map(|(x, y)| (x - y).powi(2)).sum();
                    let what = format!("d2 of {i} and {j} of {n} points of {dim}");
                    assert_close(&what, &[found.between(i, j).unwrap()], &[naive], 1e-13, 1e-11);
                    if i < j {
                        all.push(naive);
                    }
                }
            }
            all.sort_by(f64::total_cmp);
            let median = 0.5 * (all[(all.len() - 1) / 2] + all[all.len() / 2]);
            assert_close("median", &[found.median(0).unwrap()], &[median], 0.0, 1e-11);
            assert_eq!(found.between(n, 0), None);
        }
    }
}

#[test]
fn coordinates_are_eigenvectors_of_the_operator() {
    for (n, dim, density) in [(6, 5, 0.0), (31, 300, 0.5), (95, 9, 1.0), (96, 9, 1.0), (203, 40, 0.0)] {
        let options = DiffusionOptions { density, dims: 3, ..DiffusionOptions::default() }.check().unwrap();
        let points = sheet(n as u64, n, dim);
        let map = diffusion_map(&points, 0, &options).unwrap();
        let operator = diffusion_operator(&points, 0, &options).unwrap();
        for k in 0..3 {
            let (psi, lambda) = (map.embedding().coordinate(k).unwrap(), map.eigenvalues()[k + 1]);
            let image: Vec<f64> =
                (0..n).map(|i| (0..n).map(|j| operator.transition(i, j).unwrap() * psi[j]).sum()).collect();
            let expected: Vec<f64> = psi.iter().map(|x| lambda * x).collect();
            assert_close("P psi", &image, &expected, 1e-10 * scale(&map), 0.0);
        }
    }
}

#[test]
fn one_layer_and_many_layers_agree() {
    let layers = [sheet(1, 130, 40), sheet(2, 130, 40)];
    let together = diffusion_maps(&layers, &default()).unwrap();
    for (layer, points) in layers.iter().enumerate() {
        let alone = diffusion_map(points, layer, &default()).unwrap();
        assert_close("eigenvalues", together[layer].eigenvalues(), alone.eigenvalues(), 0.0, 1e-12);
    }
}

// Stored numbers.

#[test]
fn maps_of_stored_points_match_numpy() {
    for name in ["stories260K", "stories-planted-12L"] {
        let golden = Golden::load(name);
        let maps = diffusion_maps(&golden.layers, &default()).unwrap();
        let epsilon: Vec<f64> = maps.iter().map(DiffusionMap::epsilon).collect();
        assert_close("epsilon", &epsilon, &golden.numbers("epsilon"), 0.0, 1e-9);
        let eigenvalues: Vec<Vec<f64>> = maps.iter().map(|map| map.eigenvalues().to_vec()).collect();
        assert_rows_close("eigenvalues", &eigenvalues, &golden.rows("eigenvalues"), 0.0, 1e-9);
        let absolute: Vec<Vec<f64>> =
            maps[0].embedding().to_rows().iter().map(|row| row.iter().map(|x| x.abs()).collect()).collect();
        assert_rows_close("embedding", &absolute, &golden.rows("absolute_embedding_of_layer_0"), 1e-9, 0.0);

        let options = DiffusionOptions { density: 1.0, ..DiffusionOptions::default() }.check().unwrap();
        let maps = diffusion_maps(&golden.layers, &options).unwrap();
        let eigenvalues: Vec<Vec<f64>> = maps.iter().map(|map| map.eigenvalues().to_vec()).collect();
        assert_rows_close("density 1", &eigenvalues, &golden.rows("eigenvalues_density_1"), 0.0, 1e-9);
    }
}

// Bad input.

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: Result<T, Error>, kind: &str, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn nan_coordinate_names_the_layer_and_point() {
    assert_error(Points::from_f32(7, 2, 2, &[0.0, 1.0, f32::NAN, 1.0]), "numeric", "layer 7: point 1");
}

#[test]
fn infinite_coordinate_is_an_error() {
    assert_error(Points::from_f64(7, 1, 2, vec![0.0, f64::INFINITY]), "numeric", "layer 7");
}

#[test]
fn wrong_length_is_an_error() {
    assert_error(Points::from_f64(7, 2, 3, vec![0.0; 5]), "shape", "layer 7");
    assert_error(Points::from_f64(7, usize::MAX, 2, vec![0.0; 5]), "shape", "layer 7");
    assert_error(Points::from_f64(7, 0, 2, Vec::new()), "shape", "layer 7");
}

#[test]
fn all_points_equal_names_the_layer() {
    let points = Points::from_f64(0, 50, 3, [0.1, 0.2, 0.3].repeat(50)).unwrap();
    assert_error(diffusion_map(&points, 4, &default()), "numeric", "layer 4");
    let fixed = DiffusionOptions { bandwidth: Some(1.0), ..DiffusionOptions::default() }.check().unwrap();
    assert_error(diffusion_map(&points, 4, &fixed), "numeric", "layer 4");
}

#[test]
fn median_of_zero_names_the_layer() {
    let mut data = [0.1, 0.2, 0.3].repeat(50);
    data.extend([3.0, 2.0, 1.0]);
    let points = Points::from_f64(0, 51, 3, data).unwrap();
    assert_error(diffusion_map(&points, 4, &default()), "numeric", "layer 4");
}

#[test]
fn zero_point_cannot_be_normalised() {
    let mut data = Random(1).normals(30);
    data[6..9].fill(0.0);
    let points = Points::from_f64(0, 10, 3, data).unwrap();
    assert_error(diffusion_map(&points, 4, &default()), "numeric", "layer 4: point 2");
}

#[test]
fn huge_points_are_an_error() {
    let data = Random(1).normals(30).iter().map(|x| x * 1e200).collect();
    let points = Points::from_f64(0, 10, 3, data).unwrap();
    for normalise in [Normalise::Rms, Normalise::None] {
        let options = DiffusionOptions { normalise, ..DiffusionOptions::default() }.check().unwrap();
        assert_error(diffusion_map(&points, 4, &options), "numeric", "layer 4");
    }
}

#[test]
fn too_few_points_say_how_many_are_needed() {
    let points = sheet(1, 2, 5);
    assert_error(diffusion_map(&points, 4, &default()), "limit", "at least 3");
    assert_error(squared_distances(&sheet(1, 1, 5), 4, Normalise::Rms), "limit", "layer 4");
}

#[test]
fn options_out_of_range_are_named() {
    let ok = DiffusionOptions::default();
    assert_error(DiffusionOptions { dims: 0, ..ok }.check(), "usage", "dims is 0");
    assert_error(DiffusionOptions { dims: 65, ..ok }.check(), "usage", "dims is 65");
    assert_error(DiffusionOptions { time: -1.0, ..ok }.check(), "usage", "time is -1");
    assert_error(DiffusionOptions { time: f64::NAN, ..ok }.check(), "usage", "time is NaN");
    assert_error(DiffusionOptions { density: 1.5, ..ok }.check(), "usage", "density is 1.5");
    assert_error(DiffusionOptions { bandwidth: Some(0.0), ..ok }.check(), "usage", "bandwidth is 0");
    assert_error("rsm".parse::<Normalise>(), "usage", "rsm");
}

#[test]
fn alignment_of_unequal_layers_names_the_layer() {
    let maps =
        [sheet(1, 20, 5), sheet(2, 21, 5)].map(|points| diffusion_map(&points, 0, &default()).unwrap());
    assert_error(align(&maps), "shape", "layer 1");
}

#[test]
fn a_tiny_bandwidth_isolates_every_point_without_nan() {
    let options =
        DiffusionOptions { bandwidth: Some(1e-300), ..DiffusionOptions::default() }.check().unwrap();
    let map = diffusion_map(&sheet(3, 100, 5), 0, &options).unwrap();
    assert_close("eigenvalues", map.eigenvalues(), &[1.0; 5], 1e-12, 0.0);
    assert!(map.nearly_disconnected());
}
