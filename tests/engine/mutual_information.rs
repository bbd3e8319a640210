//! The mutual-information estimator: theory, a naive version, ties, bad input.

use laminate::maths::manifold::Embedding;
use laminate::maths::similarity::mutual_information;

use crate::geometry::{Random, assert_close};

fn embedding(coordinates: Vec<Vec<f64>>) -> Embedding {
    Embedding::new(0, coordinates).unwrap()
}

fn information(x: &Embedding, y: &Embedding, k: usize) -> f64 {
    mutual_information((0, x), (1, y), k).unwrap()
}

/// `psi(n) = H_{n-1} - gamma` for a natural number.
fn digamma(n: usize) -> f64 {
    (1..n).map(|i| 1.0 / i as f64).sum::<f64>() - 0.577_215_664_901_532_9
}

/// The definition, with all distances sorted.
fn naive(x: &Embedding, y: &Embedding, k: usize) -> f64 {
    let standardise = |e: &Embedding| -> Vec<Vec<f64>> {
        let columns = e.coordinates().map(|c| {
            let mean = c.iter().sum::<f64>() / c.len() as f64;
            let deviation = (c.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c.len() as f64).sqrt();
            c.iter().map(|v| v / deviation).collect()
        });
        columns.collect()
    };
    let (x, y, n) = (standardise(x), standardise(y), x.n_points());
    let distance =
        |e: &[Vec<f64>], i: usize, j: usize| e.iter().fold(0.0, |a: f64, c| a.max((c[i] - c[j]).abs()));
    let mut sum = 0.0;
    for i in 0..n {
        let mut joint: Vec<f64> =
            (0..n).filter(|&j| j != i).map(|j| distance(&x, i, j).max(distance(&y, i, j))).collect();
        joint.sort_by(f64::total_cmp);
        // Closer than a radius of zero means: at distance zero, the limit of small radii.
        let radius = joint[k - 1].max(f64::MIN_POSITIVE);
        for e in [&x, &y] {
            sum += digamma((0..n).filter(|&j| distance(e, i, j) < radius).count());
        }
    }
    digamma(n) + digamma(k) - sum / n as f64
}

// Theory.

#[test]
fn of_independent_gaussians_is_about_zero() {
    let mut random = Random(1);
    for dims in [1, 2] {
        let mut sample = || embedding((0..dims).map(|_| random.normals(4000)).collect());
        let (x, y) = (sample(), sample());
        let found = information(&x, &y, 5);
        assert!(found.abs() < 0.03, "{found}");
    }
}

#[test]
fn of_correlated_gaussians_is_the_analytic_value() {
    let mut random = Random(2);
    for r in [0.3, 0.6, 0.9, 0.99] {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..4000 {
            let (a, b) = (random.normal(), random.normal());
            x.push(a);
            y.push(r * a + f64::sqrt(1.0 - r * r) * b);
        }
        let expected = -0.5 * f64::ln(1.0 - r * r);
        let found = information(&embedding(vec![x]), &embedding(vec![y]), 5);
        assert!((found - expected).abs() < 0.04, "r = {r}: {found}, expected {expected}");
    }
}

#[test]
fn of_a_sample_with_itself_is_what_the_neighbours_resolve() {
    for (n, k) in [(20, 5), (21, 1), (128, 5), (300, 17)] {
        let x = embedding(vec![Random(3).normals(n), Random(4).normals(n)]);
        assert_close("I(x; x)", &[information(&x, &x, k)], &[digamma(n) - digamma(k)], 1e-12, 0.0);
    }
}

#[test]
fn is_symmetric_and_ignores_scale_shift_sign_and_order() {
    let mut random = Random(5);
    let n = 150;
    let (a, b) = (vec![random.normals(n), random.normals(n)], vec![random.normals(n), random.normals(n)]);
    let mixed: Vec<Vec<f64>> =
        a.iter().zip(&b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + 0.2 * b).collect()).collect();
    let expected = information(&embedding(a.clone()), &embedding(mixed.clone()), 5);
    assert_close(
        "swapped",
        &[information(&embedding(mixed.clone()), &embedding(a.clone()), 5)],
        &[expected],
        1e-13,
        0.0,
    );
    let moved = a.iter().map(|c| c.iter().map(|v| 8.0 - 4.0 * v).collect()).collect();
    assert_close(
        "moved",
        &[information(&embedding(moved), &embedding(mixed.clone()), 5)],
        &[expected],
        1e-13,
        0.0,
    );
    let order = random.permutation(n);
    let shuffle =
        |e: &[Vec<f64>]| embedding(e.iter().map(|c| order.iter().map(|&i| c[i]).collect()).collect());
    assert_close("shuffled", &[information(&shuffle(&a), &shuffle(&mixed), 5)], &[expected], 1e-13, 0.0);
}

// The naive version.

#[test]
fn matches_the_definition_on_odd_shapes() {
    let mut random = Random(6);
    for (n, dims, k) in
        [(4, 1, 1), (20, 2, 5), (33, 1, 3), (63, 3, 5), (64, 2, 1), (65, 2, 16), (131, 2, 5), (257, 4, 2)]
    {
        let x: Vec<Vec<f64>> = (0..dims).map(|_| random.normals(n)).collect();
        for closeness in [0.0, 0.5, 3.0] {
            let mut near = |c: &Vec<f64>| c.iter().map(|v| closeness * v + random.normal()).collect();
            let (x, y) = (embedding(x.clone()), embedding(x.iter().map(&mut near).collect()));
            let what = format!("n = {n}, dims = {dims}, k = {k}, closeness = {closeness}");
            assert_close(&what, &[information(&x, &y, k)], &[naive(&x, &y, k)], 1e-12, 0.0);
        }
    }
}

#[test]
fn matches_the_definition_with_ties() {
    // Few distinct values: many distances are equal, and many are zero.
    let mut random = Random(7);
    for (n, values, k) in [(24, 3, 5), (80, 2, 5), (100, 4, 3), (150, 12, 5), (90, 40, 5)] {
        let mut column = || (0..n).map(|_| random.below(values) as f64).collect::<Vec<f64>>();
        let (x, y) = (embedding(vec![column(), column()]), embedding(vec![column(), column()]));
        for (x, y) in [(&x, &y), (&x, &x)] {
            let found = information(x, y, k);
            assert!(found.is_finite());
            assert_close(&format!("n = {n}, {values} values"), &[found], &[naive(x, y, k)], 1e-12, 0.0);
        }
    }
}

// Bad input.

#[test]
fn too_few_points_say_how_many_are_needed() {
    let x = embedding(vec![Random(8).normals(19)]);
    let error = mutual_information((0, &x), (1, &x), 5).unwrap_err();
    assert_eq!(error.kind(), "limit");
    assert!(error.to_string().contains("at least 20 points"), "{error}");
    assert_eq!(mutual_information((0, &x), (1, &x), usize::MAX).unwrap_err().kind(), "limit");
}

#[test]
fn no_neighbours_is_bad_usage() {
    let x = embedding(vec![Random(8).normals(19)]);
    assert_eq!(mutual_information((0, &x), (1, &x), 0).unwrap_err().kind(), "usage");
}

#[test]
fn constant_coordinate_names_the_layer() {
    let x = embedding(vec![Random(8).normals(40)]);
    for constant in [0.0, 0.1, 1e30] {
        let error = mutual_information((0, &x), (6, &embedding(vec![vec![constant; 40]])), 5).unwrap_err();
        assert_eq!(error.kind(), "numeric");
        assert!(error.to_string().contains("layer 6"), "{error}");
    }
}

#[test]
fn different_points_are_a_shape_error() {
    let (x, y) = (embedding(vec![Random(8).normals(40)]), embedding(vec![Random(8).normals(41)]));
    let error = mutual_information((2, &x), (3, &y), 5).unwrap_err();
    assert!(error.to_string().contains("layers 2 and 3: 40 and 41 points"), "{error}");
}

#[test]
fn malformed_embeddings_name_the_layer() {
    for (coordinates, kind) in [
        (vec![], "shape"),
        (vec![vec![]], "shape"),
        (vec![vec![1.0, 2.0], vec![1.0]], "shape"),
        (vec![vec![f64::NAN]], "numeric"),
    ] {
        let error = Embedding::new(9, coordinates).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("layer 9"), "{error}");
    }
}
