//! Similarities of layers: what must hold for every metric, naive versions, stored numbers, bad input.

#![allow(clippy::needless_range_loop, reason = "matrices are written with the indices of the definitions")]

use laminate::Error;
use laminate::maths::manifold::{
    Affinities, DiffusionMap, DiffusionOptions, Embedding, LEAST_POINTS_OF_TSNE, Normalise, Points,
    autoencoder, diffusion_map, diffusion_maps, squared_distances, tsne,
};
use laminate::maths::similarity::{
    Metric, SHRINKAGE, SimilarityBuilder, SimilarityMatrix, SimilarityOptions,
};

use crate::geometry::{Golden, Random, assert_close, assert_rows_close};

fn maps_of(layers: &[Points]) -> Vec<DiffusionMap> {
    diffusion_maps(layers, &DiffusionOptions::default().check().unwrap()).unwrap()
}

fn builder(metric: Metric) -> SimilarityBuilder {
    SimilarityBuilder::new(SimilarityOptions { metric, ..SimilarityOptions::default() }.check().unwrap())
}

fn matrix(metric: Metric, layers: &[Points]) -> SimilarityMatrix {
    let mut builder = builder(metric);
    builder.extend(layers, &maps_of(layers)).unwrap();
    builder.matrix()
}

/// Layers that drift away from the first.
fn drift(seed: u64, n_layers: usize, n: usize, dim: usize) -> Vec<Points> {
    let mut random = Random(seed);
    let mut data = random.sheet(n, dim);
    (0..n_layers)
        .map(|layer| {
            data.iter_mut().for_each(|x| *x += 0.15 * random.normal());
            Points::from_f64(layer, n, dim, data.clone()).unwrap()
        })
        .collect()
}

// What must hold for every metric.

#[test]
fn is_symmetric_with_ones_on_the_diagonal_and_in_range() {
    let layers = drift(1, 5, 60, 20);
    for &metric in Metric::ALL {
        let rows = matrix(metric, &layers).to_rows();
        for l in 0..5 {
            assert_eq!(rows[l][l], 1.0, "{metric}");
            for m in 0..5 {
                assert_eq!(rows[l][m], rows[m][l], "{metric}");
                assert!((0.0..=1.0).contains(&rows[l][m]), "{metric} of {l} and {m}: {}", rows[l][m]);
            }
        }
    }
}

#[test]
fn falls_with_distance_along_a_drift() {
    let layers = drift(2, 6, 200, 30);
    for &metric in Metric::ALL {
        let matrix = matrix(metric, &layers);
        let (near, far) = (matrix.between(0, 1).unwrap(), matrix.between(0, 5).unwrap());
        assert!(near > far, "{metric}: {near} {far}");
    }
}

#[test]
fn equal_layers_have_similarity_one() {
    let one = drift(3, 1, 50, 12).remove(0);
    let mut layers = vec![one.clone(), one];
    layers.extend(drift(4, 2, 50, 12));
    for &metric in Metric::ALL {
        let found = matrix(metric, &layers).between(0, 1).unwrap();
        assert!((found - 1.0).abs() < 1e-7, "{metric}: {found}");
    }
}

#[test]
fn ignores_the_order_of_points() {
    let layers = drift(5, 3, 70, 15);
    let order = Random(6).permutation(70);
    let shuffled: Vec<Points> = layers
        .iter()
        .map(|p| {
            Points::from_f64(0, 70, 15, order.iter().flat_map(|&i| p.row(i).unwrap().to_vec()).collect())
                .unwrap()
        })
        .collect();
    for &metric in Metric::ALL {
        let (a, b) = (matrix(metric, &layers).to_rows(), matrix(metric, &shuffled).to_rows());
        assert_rows_close(metric.name(), &a, &b, 1e-10, 0.0);
    }
}

#[test]
fn duplicate_points_are_finite() {
    let layers: Vec<Points> = drift(7, 3, 64, 10)
        .iter()
        .map(|p| {
            let data =
                (0..64).flat_map(|i| p.row(if i % 4 == 0 { 0 } else { i }).unwrap().to_vec()).collect();
            Points::from_f64(0, 64, 10, data).unwrap()
        })
        .collect();
    for &metric in Metric::ALL {
        for row in matrix(metric, &layers).to_rows() {
            assert!(row.iter().all(|s| (0.0..=1.0).contains(s)), "{metric}: {row:?}");
        }
    }
}

#[test]
fn one_layer_is_a_matrix_of_one() {
    for &metric in Metric::ALL {
        assert_eq!(matrix(metric, &drift(8, 1, 40, 6)).to_rows(), [[1.0]], "{metric}");
    }
}

// Filling in and replacing.

#[test]
fn rows_that_arrive_one_by_one_make_the_same_matrix() {
    let layers = drift(9, 5, 48, 11);
    let maps = maps_of(&layers);
    for &metric in Metric::ALL {
        let whole = matrix(metric, &layers).to_rows();
        let mut builder = builder(metric);
        for (layer, (points, map)) in layers.iter().zip(&maps).enumerate() {
            let row = builder.push(points, map).unwrap();
            if metric.needs_all_layers() {
                assert!(row.is_empty());
            } else {
                assert_eq!(row, whole[layer][..=layer], "{metric}");
            }
        }
        assert_eq!(builder.matrix().to_rows(), whole, "{metric}");
        assert_eq!(builder.mutual_information().is_some(), metric == Metric::MutualInformation);
    }
}

#[test]
fn replacing_the_layers_from_a_merge_on_equals_starting_again() {
    let mut layers = drift(10, 6, 48, 11);
    let (maps, changed) = (maps_of(&layers), drift(11, 3, 48, 11));
    for &metric in Metric::ALL {
        let mut builder = builder(metric);
        builder.extend(&layers, &maps).unwrap();
        builder.truncate(2);
        builder.extend(&changed, &maps_of(&changed)).unwrap();
        let expected: Vec<Points> = layers[..2].iter().chain(&changed).cloned().collect();
        assert_eq!(builder.n_layers(), 5);
        assert_rows_close(
            metric.name(),
            &builder.matrix().to_rows(),
            &matrix(metric, &expected).to_rows(),
            1e-12,
            0.0,
        );
    }
    layers.clear();
}

#[test]
fn a_failed_extension_leaves_the_builder_as_it_was() {
    let layers = drift(12, 3, 48, 11);
    let other = drift(13, 1, 50, 11);
    let mut builder = builder(Metric::MutualInformation);
    builder.extend(&layers, &maps_of(&layers)).unwrap();
    let before = builder.matrix();
    let error = builder.push(&other[0], &maps_of(&other)[0]).unwrap_err();
    assert!(error.to_string().contains("layer 3 has 50 points"), "{error}");
    assert_eq!(builder.matrix(), before);
}

// Maps of a layer by t-SNE and by an autoencoder.

/// The metrics of those maps.
const LEARNED: [Metric; 2] = [Metric::Tsne, Metric::Autoencoder];

fn learned(metric: Metric, points: &Points) -> Embedding {
    match metric {
        Metric::Tsne => tsne(points, 0, Normalise::None).unwrap().embedding().clone(),
        _ => autoencoder(points, 0, Normalise::None).unwrap().codes().clone(),
    }
}

#[test]
fn learned_maps_do_not_change_when_the_points_are_turned_shifted_and_scaled() {
    let (n, dim) = (90, 8);
    let layers = drift(20, 2, n, dim);
    let mut random = Random(21);
    // A reflection, a shift and a factor, of their own for each layer.
    let moved: Vec<Points> = layers
        .iter()
        .map(|points| {
            let (mirror, shift, factor) =
                (random.normals(dim), random.normals(dim), 0.1 + 3.0 * random.uniform());
            let norm: f64 = mirror.iter().map(|x| x * x).sum();
            let row = |row: &[f64]| -> Vec<f64> {
                let along = 2.0 * row.iter().zip(&mirror).map(|(x, m)| x * m).sum::<f64>() / norm;
                (0..dim).map(|j| factor * (row[j] - along * mirror[j]) + shift[j]).collect()
            };
            Points::from_f64(0, n, dim, points.rows().flat_map(row).collect()).unwrap()
        })
        .collect();
    for metric in LEARNED {
        for (a, b) in layers.iter().zip(&moved) {
            let (a, b) = (learned(metric, a), learned(metric, b));
            for k in 0..2 {
                assert_close(metric.name(), b.coordinate(k).unwrap(), a.coordinate(k).unwrap(), 1e-5, 0.0);
            }
        }
        let similarity = |layers: &[Points]| {
            let options =
                SimilarityOptions { metric, normalise: Normalise::None, ..SimilarityOptions::default() };
            let mut builder = SimilarityBuilder::new(options.check().unwrap());
            builder.extend(layers, &maps_of(layers)).unwrap();
            builder.matrix().between(0, 1).unwrap()
        };
        let (before, after) = (similarity(&layers), similarity(&moved));
        assert!((before - after).abs() < 1e-6 && before < 1.0, "{metric}: {before} {after}");
    }
}

/// A map that hung on the last bits of the points would tell layers apart that are the same.
#[test]
fn learned_maps_hardly_change_when_the_points_hardly_do() {
    let layers = Golden::load("stories-planted-12L").layers;
    let mut random = Random(22);
    let moved: Vec<Points> = layers
        .iter()
        .map(|points| {
            let data = points.rows().flatten().map(|x| x * (1.0 + 1e-9 * random.normal())).collect();
            Points::from_f64(0, points.n_points(), points.dim(), data).unwrap()
        })
        .collect();
    for metric in LEARNED {
        let (a, b) = (matrix(metric, &layers).to_rows(), matrix(metric, &moved).to_rows());
        assert_rows_close(metric.name(), &b, &a, 0.01, 0.0);
    }
}

#[test]
fn learned_maps_are_the_same_for_every_number_of_threads() {
    // More than one thread takes at a time.
    let points = drift(23, 1, 1030, 20).remove(0);
    for metric in LEARNED {
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| learned(metric, &points))
        });
        assert_eq!(one, three, "{metric}");
        assert_eq!(one, learned(metric, &points), "{metric}");
    }
}

#[test]
fn equal_points_have_equal_learned_coordinates() {
    let points = drift(24, 1, 60, 10).remove(0);
    let order: Vec<usize> = (0..60).map(|i| if i % 5 == 0 { 10 } else { i }).collect();
    let data = order.iter().flat_map(|&i| points.row(i).unwrap().to_vec()).collect();
    let points = Points::from_f64(0, 60, 10, data).unwrap();
    for metric in LEARNED {
        for coordinate in learned(metric, &points).coordinates() {
            assert!((0..60).step_by(5).all(|i| coordinate[i] == coordinate[0]), "{metric}");
        }
    }
}

#[test]
fn points_on_a_line_have_a_layout_and_no_codes() {
    let line: Vec<f64> = (0..40).map(|i| f64::from(i) + f64::from(i).sin()).collect();
    let thin = Points::from_f64(0, 40, 1, line.clone()).unwrap();
    let wide =
        Points::from_f64(0, 40, 4, line.iter().flat_map(|x| [*x, -x, 2.0 * x, 1.0]).collect()).unwrap();
    for points in [&thin, &wide] {
        for coordinate in learned(Metric::Tsne, points).coordinates() {
            assert!(coordinate.iter().any(|x| (x - coordinate[0]).abs() > 0.1));
        }
        assert_error(autoencoder(points, 3, Normalise::None), "numeric", "points of layer 3 lie on a line");
    }
}

#[test]
fn the_planted_layers_are_found_by_learned_maps() {
    let layers = Golden::load("stories-planted-12L").layers;
    for metric in LEARNED {
        let adjacent: Vec<f64> = matrix(metric, &layers).adjacent().collect();
        let (mut works, mut planted) = (0.0_f64, 1.0_f64);
        for (l, similarity) in adjacent.iter().enumerate() {
            if [0, 3, 6, 9].contains(&l) {
                works = works.max(*similarity);
            } else {
                planted = planted.min(*similarity);
            }
        }
        assert!(planted > works + 0.15, "{metric}: {planted} {works}");
    }
}

// Naive versions.

#[test]
fn mahalanobis_matches_the_matrix_of_the_definition() {
    // With as many dimensions as is comfortable for a dense inverse, by Gauss-Jordan elimination.
    for (n, dim) in [(20, 3), (24, 40)] {
        let layers = drift(14, 3, n, dim);
        let rows: Vec<Vec<Vec<f64>>> = layers
            .iter()
            .map(|p| {
                p.normalised(0, laminate::maths::manifold::Normalise::Rms)
                    .unwrap()
                    .rows()
                    .map(<[f64]>::to_vec)
                    .collect()
            })
            .collect();
        let mut distances = vec![vec![0.0; 3]; 3];
        for l in 0..3 {
            for m in 0..l {
                distances[l][m] = naive_mahalanobis(&rows[l], &rows[m]);
            }
        }
        let mut sorted = [distances[1][0], distances[2][0], distances[2][1]];
        sorted.sort_by(f64::total_cmp);
        let found = matrix(Metric::Mahalanobis, &layers);
        for l in 0..3 {
            for m in 0..l {
                let expected = 1.0 / (1.0 + distances[l][m] / sorted[1]);
                assert_close("mahalanobis", &[found.between(l, m).unwrap()], &[expected], 1e-9, 0.0);
            }
        }
    }
}

fn naive_mahalanobis(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let (n, dim) = (x.len(), x[0].len());
    let mut covariance = vec![vec![0.0; dim]; dim];
    for points in [x, y] {
        let mean: Vec<f64> = (0..dim).map(|j| points.iter().map(|p| p[j]).sum::<f64>() / n as f64).collect();
        for p in points {
            for i in 0..dim {
                for j in 0..dim {
                    covariance[i][j] += (p[i] - mean[i]) * (p[j] - mean[j]) / (2 * n - 2) as f64;
                }
            }
        }
    }
    let trace: f64 = (0..dim).map(|i| covariance[i][i]).sum();
    for (i, row) in covariance.iter_mut().enumerate() {
        row.iter_mut().for_each(|c| *c *= 1.0 - SHRINKAGE);
        row[i] += SHRINKAGE * trace / dim as f64;
    }
    let mut total = 0.0;
    for (p, q) in x.iter().zip(y) {
        let v: Vec<f64> = p.iter().zip(q).map(|(p, q)| p - q).collect();
        let mut system: Vec<Vec<f64>> =
            covariance.iter().zip(&v).map(|(row, v)| [&row[..], &[*v]].concat()).collect();
        for i in 0..dim {
            let pivot = system[i].clone();
            for (k, row) in system.iter_mut().enumerate() {
                if k != i {
                    let factor = row[i] / pivot[i];
                    row.iter_mut().zip(&pivot).for_each(|(r, p)| *r -= factor * p);
                }
            }
        }
        total += (0..dim).map(|i| v[i] * system[i][dim] / system[i][i]).sum::<f64>().sqrt();
    }
    total / n as f64
}

#[test]
fn cosine_may_be_negative() {
    let data = Random(15).sheet(40, 6);
    let opposite = data.iter().map(|x| -x).collect();
    let layers = [data, opposite].map(|data| Points::from_f64(0, 40, 6, data).unwrap());
    assert_close("cosine", &[matrix(Metric::Cosine, &layers).between(0, 1).unwrap()], &[-1.0], 1e-12, 0.0);
    assert_close("angular", &[matrix(Metric::Angular, &layers).between(0, 1).unwrap()], &[0.0], 1e-7, 0.0);
}

// Stored numbers.

#[test]
fn every_metric_of_stored_points_matches_numpy_and_scipy() {
    for name in ["stories260K", "stories-planted-12L"] {
        let golden = Golden::load(name);
        let maps = maps_of(&golden.layers);
        for &metric in Metric::ALL {
            let mut builder = builder(metric);
            builder.extend(&golden.layers, &maps).unwrap();
            let what = format!("{metric} of {name}");
            assert_rows_close(&what, &builder.matrix().to_rows(), &golden.rows(metric.name()), 1e-8, 0.0);
            if let Some(information) = builder.mutual_information() {
                assert_rows_close(
                    &what,
                    &information.to_rows(),
                    &golden.rows("mutual_information"),
                    1e-9,
                    0.0,
                );
            }
        }
    }
}

#[test]
fn t_sne_of_stored_points_has_the_affinities_and_a_divergence_of_scikit_learn() {
    for name in ["stories260K", "stories-planted-12L"] {
        let golden = Golden::load(name);
        let distances = squared_distances(&golden.layers[0], 0, Normalise::Rms).unwrap();
        let affinities = Affinities::new(&distances);
        let n = golden.layers[0].n_points();
        let row: Vec<f64> = (0..n).map(|j| affinities.between(0, j).unwrap()).collect();
        // scikit-learn has them in single precision, of an entropy within 1e-5.
        assert_close(name, &row, &golden.numbers("affinities_of_sklearn_of_point_0"), 1e-10, 3e-5);

        let theirs = golden.numbers("divergence_of_sklearn");
        let found: Vec<f64> = golden
            .layers
            .iter()
            .map(|points| tsne(points, 0, Normalise::Rms).unwrap().divergence())
            .collect();
        assert_close(name, &found, &golden.numbers("divergence"), 0.0, 1e-8);
        for (layer, (ours, theirs)) in found.iter().zip(&theirs).enumerate() {
            assert!(*ours < 1.02 * theirs && *ours > 0.75 * theirs, "{name} {layer}: {ours} {theirs}");
        }
    }
}

#[test]
fn autoencoders_of_stored_points_lose_what_those_of_numpy_lose() {
    for name in ["stories260K", "stories-planted-12L"] {
        let golden = Golden::load(name);
        let made = golden.layers.iter().map(|points| autoencoder(points, 0, Normalise::Rms).unwrap());
        let (lost, by_pca): (Vec<f64>, Vec<f64>) = made.map(|a| (a.lost(), a.lost_by_pca())).unzip();
        assert_close(name, &lost, &golden.numbers("lost"), 0.0, 1e-7);
        for (lost, by_pca) in lost.iter().zip(&by_pca) {
            assert!(*lost < 0.9 * by_pca && *by_pca < 1.0, "{name}: {lost} {by_pca}");
        }
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
fn too_few_points_for_the_neighbours_say_how_many_are_needed() {
    let layers = drift(16, 2, 19, 5);
    assert_error(
        builder(Metric::MutualInformation).extend(&layers, &maps_of(&layers)),
        "limit",
        "at least 20 points",
    );
    builder(Metric::Cka).extend(&layers, &maps_of(&layers)).unwrap();
    for metric in LEARNED {
        assert_error(builder(metric).extend(&layers, &maps_of(&layers)), "limit", "at least 20 points");
    }
    // With one neighbour the estimator would do with four.
    let few = drift(16, 2, 6, 5);
    let options = SimilarityOptions { metric: Metric::Tsne, neighbours: 1, ..SimilarityOptions::default() };
    let mut builder = SimilarityBuilder::new(options.check().unwrap());
    assert_error(
        builder.extend(&few, &maps_of(&few)),
        "limit",
        "layer 0 has 6 points; t-SNE needs at least 7",
    );
    let enough = drift(16, 2, 7, 5);
    builder.extend(&enough, &maps_of(&enough)).unwrap();
}

#[test]
fn every_metric_says_beforehand_how_many_points_it_needs() {
    for &metric in Metric::ALL {
        for neighbours in [1, 3] {
            let n = metric.least_points(neighbours);
            let options = SimilarityOptions { metric, neighbours, ..SimilarityOptions::default() };
            // A diffusion map of two coordinates has three points.
            for (n, is_enough) in [(n.max(3), true), (n - 1, false)] {
                if n < 3 {
                    continue;
                }
                let layers = drift(25, 2, n, 5);
                let mut builder = SimilarityBuilder::new(options.check().unwrap());
                let result = builder.extend(&layers, &maps_of(&layers));
                assert_eq!(result.is_ok(), is_enough, "{metric} of {n} points with {neighbours}: {result:?}");
            }
        }
    }
    assert_eq!(Metric::Tsne.least_points(1), LEAST_POINTS_OF_TSNE);
}

#[test]
fn no_neighbours_is_bad_usage() {
    assert_error(
        SimilarityOptions { neighbours: 0, ..SimilarityOptions::default() }.check(),
        "usage",
        "neighbours is 0",
    );
}

#[test]
fn unknown_metric_lists_the_known_ones() {
    assert_error("jaccard".parse::<Metric>(), "usage", "euclidean, mahalanobis, cka, tsne, autoencoder");
    for &metric in Metric::ALL {
        assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
        assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{metric}\""));
    }
}

#[test]
fn zero_point_names_the_layer() {
    let mut layers = drift(17, 2, 30, 4);
    let maps = maps_of(&layers);
    let mut data: Vec<f64> = layers[1].rows().flatten().copied().collect();
    data[8..12].fill(0.0);
    layers[1] = Points::from_f64(1, 30, 4, data).unwrap();
    for &metric in Metric::ALL.iter().filter(|m| **m != Metric::MutualInformation) {
        assert_error(builder(metric).extend(&layers, &maps), "numeric", "layer 1: point 2");
    }
}

#[test]
fn points_without_variance_name_the_layer() {
    let varied = drift(18, 1, 30, 4).remove(0);
    let map = diffusion_map(&varied, 0, &DiffusionOptions::default().check().unwrap()).unwrap();
    let equal = Points::from_f64(0, 30, 4, [1.0, 2.0, 3.0, 4.0].repeat(30)).unwrap();
    for metric in [Metric::Cka, Metric::Mahalanobis, Metric::Tsne, Metric::Autoencoder] {
        let result = builder(metric).extend(&[equal.clone(), equal.clone()], &[map.clone(), map.clone()]);
        assert_error(result, "numeric", "layer");
    }
}

#[test]
fn malformed_matrices_name_the_entry() {
    let rows = |rows: [[f64; 2]; 2]| SimilarityMatrix::from_rows(&rows.map(Vec::from));
    assert_error(rows([[1.0, f64::NAN], [0.5, 1.0]]), "numeric", "layers 0 and 1");
    assert_error(rows([[1.0, 0.4], [0.5, 1.0]]), "shape", "0,1");
    assert_error(SimilarityMatrix::from_rows(&[vec![1.0], vec![0.5, 1.0]]), "shape", "row 0");
    assert_eq!(rows([[1.0, 0.5], [0.5, 1.0]]).unwrap().adjacent().collect::<Vec<f64>>(), [0.5]);
}
