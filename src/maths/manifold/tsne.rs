//! t-SNE of a layer: exact, without random numbers.
//!
//! The libraries for t-SNE that were tried (`bhtsne`, which `linfa-tsne` wraps) add over threads in whatever order the
//! threads take the points, so that the layout depends on their number; they end the program where the perplexity is
//! too large; and they bring Fourier transforms and trees for sizes that a layer does not have. The exact method is
//! short, and a layer has some hundreds to a few thousand points.

use super::kernel::{SquaredDistances, exp_of_negative, squared_distances};
use super::map::Embedding;
use super::points::{Normalise, Points};
use super::principal::principal_coordinates;
use crate::error::{Error, Result};
use crate::kernels::threads;
use crate::maths::random;

/// Effective number of neighbours that each point has among the affinities, if there are at least three times as many
/// other points; else a third of the other points.
pub const PERPLEXITY: f64 = 30.0;

/// Least number of points of a layer: a third of the other points must be more than one neighbour.
pub const LEAST_POINTS: usize = 7;

/// Number of steps of the descent.
const STEPS: usize = 750;

/// Share of a step that is added to the next one.
const MOMENTUM: f64 = 0.8;

/// Standard deviation of the first coordinate at the start.
const START: f64 = 1e-4;

/// Largest difference of an entropy, in nats, from that of the perplexity.
const TOLERANCE: f64 = 1e-12;

/// Number of points whose forces are added in parallel running sums; their order is the same on every machine.
const LANES: usize = 8;

/// Layout of the points of a layer in two dimensions, by t-SNE.
#[derive(Debug, Clone, PartialEq)]
pub struct Tsne {
    embedding: Embedding,
    divergence: f64,
}

impl Tsne {
    /// Returns the two coordinates of every point.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Returns `KL(P || Q)` of the layout, in nats: at least 0, and 0 if the layout keeps every affinity.
    pub fn divergence(&self) -> f64 {
        self.divergence
    }
}

/// Lays the points of a layer out in two dimensions by t-SNE (van der Maaten and Hinton, "Visualizing data using
/// t-SNE", JMLR 9, 2008).
///
/// ```text
/// q_ij = (1 + |y_i - y_j|^2)^-1 / Z,   Z = sum over pairs       KL = sum p_ij ln(p_ij / q_ij) is made small
/// dKL/dy_i = 4 sum_j (p_ij - q_ij) (1 + |y_i - y_j|^2)^-1 (y_i - y_j)
/// v <- 0.8 v - n/4 dKL/dy,   y <- y + v                         750 times
/// ```
///
/// `p` are the [`Affinities`]. The start is the first two principal coordinates, divided so that the first has the
/// standard deviation `1e-4` (Kobak and Berens, "The art of using t-SNE for single-cell transcriptomics", Nature
/// Communications 10, 2019). The length `n` of a step along the gradient without its factor 4 is that of Belkina et
/// al. ("Automated optimized parameters for t-SNE", Nature Communications 10, 2019).
///
/// Two habits are left out, because they make the layout a matter of the last bits of the points, and layers that are
/// nearly the same would have layouts that have nothing in common: affinities that are exaggerated at first, which
/// draw all points of a layer onto each other before anything parts them, and a rate for each coordinate. A start
/// from the principal coordinates does without them, and ends at divergences that are not larger.
///
/// The layout is that of the points alone: it is the same for every number of threads, and it does not change when
/// the points are turned, shifted or scaled (but for rounding, and with [`Normalise::None`]). Equal points get equal
/// coordinates.
///
/// Cost: 750 `n^2` pairs of points, at about 2 ns each on one core; three matrices `n x n` at a time.
///
/// # Errors
/// [`Error::Limit`] for fewer than [`LEAST_POINTS`] points; those of [`squared_distances`]; [`Error::Numeric`] if the
/// eigenvalues of the start do not converge or a coordinate is not finite. All name the layer.
///
/// # Examples
/// ```
/// use laminate::maths::manifold::{Normalise, Points, tsne};
///
/// // Two groups of points on a line stay two groups.
/// let line = (0..40).map(|i| f64::from(i) + if i < 20 { 0.0 } else { 1000.0 });
/// let points = Points::from_f64(0, 40, 1, line.collect()).unwrap();
/// let map = tsne(&points, 0, Normalise::None).unwrap();
/// let x = map.embedding().coordinate(0).unwrap();
/// let (left, right) = x.split_at(20);
/// assert!(left.iter().all(|l| right.iter().all(|r| l.signum() != r.signum())));
/// ```
pub fn tsne(points: &Points, layer: usize, normalise: Normalise) -> Result<Tsne> {
    let n = points.n_points();
    if n < LEAST_POINTS {
        return Err(Error::Limit(format!(
            "layer {layer} has {n} points; t-SNE needs at least {LEAST_POINTS}: use more text or more points per \
             sequence"
        )));
    }
    let distances = squared_distances(points, layer, normalise)?;
    let mut layout = start(&distances, layer)?;
    let affinities = Affinities::new(&distances);
    let representative = distances.representative().to_vec();
    drop(distances);

    let mut velocity = vec![[0.0; 2]; n];
    let rate = n as f64 / 4.0;
    for _ in 0..STEPS {
        let gradient = affinities.gradient(&layout);
        for (k, coordinate) in layout.iter_mut().enumerate() {
            for ((y, v), g) in coordinate.iter_mut().zip(&mut velocity).zip(&gradient) {
                v[k] = MOMENTUM * v[k] - rate * g[k];
                *y += v[k];
            }
            let mean = coordinate.iter().sum::<f64>() / n as f64;
            coordinate.iter_mut().for_each(|y| *y -= mean);
        }
    }
    let divergence = affinities.divergence(&layout);
    let coordinates = layout.map(|c| representative.iter().map(|&i| c[i]).collect()).into();
    Ok(Tsne { embedding: Embedding::new(layer, coordinates)?, divergence })
}

/// Returns the two coordinates from which the descent starts. Points on a line have no second principal coordinate,
/// and without one they would never leave the line: its place take fixed numbers, equal for equal points.
fn start(distances: &SquaredDistances, layer: usize) -> Result<[Vec<f64>; 2]> {
    let n = distances.n_points();
    let mut principal = principal_coordinates(distances, 2, layer)?.into_iter();
    let [mut first, mut second] = [(); 2].map(|()| principal.next().unwrap_or_default());
    let deviation = |c: &[f64]| (c.iter().map(|x| x * x).sum::<f64>() / n as f64).sqrt();
    let scale = deviation(&first);
    first.iter_mut().for_each(|x| *x *= START / scale);
    second.iter_mut().for_each(|x| *x *= START / scale);
    if deviation(&second) < 1e-6 * START {
        let number = |i: &usize| START * (2.0 * random::unit(0, *i as u64) - 1.0);
        second = distances.representative().iter().map(number).collect();
    }
    Ok([first, second])
}

/// Symmetric affinities `p_ij` of the points of a layer: `p_ii = 0`, and all together sum to 1.
///
/// ```text
/// p_j|i = exp(-b_i d2_ij) / sum_k exp(-b_i d2_ik),   - sum_j p_j|i ln p_j|i = ln(perplexity)
/// p_ij  = (p_j|i + p_i|j) / 2n
/// ```
///
/// Each `b_i` is found to an entropy within `1e-12` of that of the perplexity. A point with more equally near
/// neighbours than the perplexity has them alone, in equal parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinities {
    n: usize,
    perplexity: f64,
    /// Row-major, `n x n`.
    p: Vec<f64>,
}

impl Affinities {
    /// Computes the affinities for the perplexity `min(30, (n - 1) / 3)`.
    ///
    /// Cost: about ten exponentials for each pair of points.
    pub fn new(distances: &SquaredDistances) -> Self {
        let n = distances.n_points();
        let perplexity = PERPLEXITY.min((n as f64 - 1.0) / 3.0);
        let mut d2 = vec![0.0; n * n];
        for (j, column) in distances.columns().enumerate() {
            for (i, value) in (j + 1..).zip(column) {
                d2[i * n + j] = *value;
                d2[j * n + i] = *value;
            }
        }
        let rows = threads::map_rows(n, |i| conditional(&d2[i * n..(i + 1) * n], i, perplexity));
        let mut p = d2;
        for (i, row) in rows.iter().enumerate() {
            for (j, other) in rows.iter().enumerate() {
                p[i * n + j] = (row[j] + other[i]) / (2.0 * n as f64);
            }
        }
        Affinities { n, perplexity, p }
    }

    /// Returns `p_ij`, or `None` past the end.
    pub fn between(&self, i: usize, j: usize) -> Option<f64> {
        if i < self.n && j < self.n { self.p.get(i * self.n + j).copied() } else { None }
    }

    /// Returns the perplexity: the effective number of neighbours of each point.
    pub fn perplexity(&self) -> f64 {
        self.perplexity
    }

    /// Computes the gradient of the divergence, two numbers for each point. The order of all sums depends on `n` alone.
    fn gradient(&self, layout: &[Vec<f64>; 2]) -> Vec<[f64; 2]> {
        let forces = threads::map_rows(self.n, |i| Forces::on(i, self.row(i), layout));
        let total: f64 = forces.iter().map(|f| f.weight).sum();
        let gradient = |f: &Forces| [0, 1].map(|k| 4.0 * (f.attraction[k] - f.repulsion[k] / total));
        forces.iter().map(gradient).collect()
    }

    /// Computes `sum p_ij ln(p_ij / q_ij)`.
    fn divergence(&self, layout: &[Vec<f64>; 2]) -> f64 {
        let total: f64 =
            threads::map_rows(self.n, |i| Forces::on(i, self.row(i), layout).weight).iter().sum();
        let [x, y] = layout;
        let of_row = |i: usize| {
            let term = |(j, p): (usize, &f64)| {
                let away = (x[i] - x[j]).powi(2) + (y[i] - y[j]).powi(2);
                if *p > 0.0 { p * (p * (1.0 + away) * total).ln() } else { 0.0 }
            };
            self.row(i).iter().enumerate().map(term).sum::<f64>()
        };
        threads::map_rows(self.n, of_row).iter().sum()
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.p[i * self.n..(i + 1) * self.n]
    }
}

/// Computes the row `p_j|i` of point `at` from its squared distances `d2`.
///
/// Newton's method on `ln b` finds the entropy, whose derivative is `-b^2` times the variance of the squared
/// distances; a step that leaves the interval in which the solution lies is replaced by the middle.
fn conditional(d2: &[f64], at: usize, perplexity: f64) -> Vec<f64> {
    let others = || d2.iter().enumerate().filter(|(j, _)| *j != at);
    let nearest = others().map(|(_, d)| *d).fold(f64::INFINITY, f64::min);
    let mean = others().map(|(_, d)| d - nearest).sum::<f64>() / (d2.len() as f64 - 1.0);
    if mean <= 0.0 {
        // All others are equally far.
        let share = 1.0 / (d2.len() as f64 - 1.0);
        return (0..d2.len()).map(|j| if j == at { 0.0 } else { share }).collect();
    }
    let away: Vec<f64> = d2.iter().map(|d| (d - nearest) / mean).collect();
    let target = perplexity.ln();
    let mut p = vec![0.0; d2.len()];
    let (mut low, mut high) = (-30.0_f64, 60.0_f64);
    let mut log_b = 0.0_f64;
    for _ in 0..100 {
        let b = log_b.exp();
        p.iter_mut().zip(&away).for_each(|(p, d)| *p = exp_of_negative(-b * d));
        p[at] = 0.0;
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        let first: f64 = p.iter().zip(&away).map(|(p, d)| p * d).sum();
        let second: f64 = p.iter().zip(&away).map(|(p, d)| p * (d - first) * (d - first)).sum();
        let excess = sum.ln() + b * first - target;
        if excess.abs() <= TOLERANCE || high - low < 1e-14 {
            break;
        }
        if excess > 0.0 {
            low = log_b;
        } else {
            high = log_b;
        }
        let next = log_b + excess / (b * b * second);
        log_b = if next > low && next < high { next } else { 0.5 * (low + high) };
    }
    p
}

/// Forces on one point in a layout.
struct Forces {
    /// `sum_j (1 + |y_i - y_j|^2)^-1` over the other points.
    weight: f64,
    /// `sum_j p_ij (1 + |y_i - y_j|^2)^-1 (y_i - y_j)`.
    attraction: [f64; 2],
    /// `sum_j (1 + |y_i - y_j|^2)^-2 (y_i - y_j)`.
    repulsion: [f64; 2],
}

impl Forces {
    fn on(i: usize, p: &[f64], [x, y]: &[Vec<f64>; 2]) -> Forces {
        let (at_x, at_y) = (x[i], y[i]);
        let term = |p: f64, x: f64, y: f64| {
            let (dx, dy) = (at_x - x, at_y - y);
            let w = 1.0 / (1.0 + dx * dx + dy * dy);
            let (pull, push) = (p * w, w * w);
            [w, pull * dx, pull * dy, push * dx, push * dy]
        };
        let mut sums = [[0.0; LANES]; 5];
        let (p8, p_rest) = p.as_chunks::<LANES>();
        let (x8, x_rest) = x.as_chunks::<LANES>();
        let (y8, y_rest) = y.as_chunks::<LANES>();
        for ((p, x), y) in p8.iter().zip(x8).zip(y8) {
            for lane in 0..LANES {
                let terms = term(p[lane], x[lane], y[lane]);
                for (sum, term) in sums.iter_mut().zip(terms) {
                    sum[lane] += term;
                }
            }
        }
        let mut totals = sums.map(|lanes| lanes.iter().sum::<f64>());
        for ((p, x), y) in p_rest.iter().zip(x_rest).zip(y_rest) {
            totals.iter_mut().zip(term(*p, *x, *y)).for_each(|(total, term)| *total += term);
        }
        // The point itself has added 1 to the weight, and nothing to the forces.
        let [weight, pull_x, pull_y, push_x, push_y] = totals;
        Forces { weight: weight - 1.0, attraction: [pull_x, pull_y], repulsion: [push_x, push_y] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curved(n: usize, dim: usize) -> Points {
        let value = |i: usize, j: usize| {
            let t = i as f64 * 0.37;
            (t * (1.0 + j as f64 * 0.3)).sin() + 0.3 * (t * t * (j as f64 + 1.0)).cos() + 0.01 * t
        };
        Points::from_f64(0, n, dim, (0..n * dim).map(|k| value(k / dim, k % dim)).collect()).unwrap()
    }

    fn affinities(n: usize) -> Affinities {
        Affinities::new(&squared_distances(&curved(n, 6), 0, Normalise::None).unwrap())
    }

    #[test]
    fn every_row_has_the_entropy_of_the_perplexity() {
        for n in [7, 20, 91, 150] {
            let points = curved(n, 6);
            let distances = squared_distances(&points, 0, Normalise::None).unwrap();
            let perplexity = PERPLEXITY.min((n as f64 - 1.0) / 3.0);
            for i in 0..n {
                let d2: Vec<f64> = (0..n).map(|j| distances.between(i, j).unwrap()).collect();
                let p = conditional(&d2, i, perplexity);
                let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
                assert!((entropy - perplexity.ln()).abs() < 1e-11, "{n} {i}: {entropy}");
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-14 && p[i] == 0.0);
                // Nearer points are not less likely.
                for (a, p_a) in d2.iter().zip(&p) {
                    let wrong = d2.iter().zip(&p).any(|(b, p_b)| *b > 0.0 && *a > 0.0 && a < b && p_a < p_b);
                    assert!(!wrong);
                }
            }
            assert_eq!(affinities(n).perplexity(), perplexity);
        }
    }

    #[test]
    fn affinities_are_symmetric_and_sum_to_one() {
        let found = affinities(61);
        let mut sum = 0.0;
        for i in 0..61 {
            assert_eq!(found.between(i, i), Some(0.0));
            for j in 0..61 {
                assert_eq!(found.between(i, j), found.between(j, i));
                sum += found.between(i, j).unwrap();
            }
        }
        assert!((sum - 1.0).abs() < 1e-13, "{sum}");
        assert_eq!([found.between(61, 0), found.between(0, 61)], [None, None]);
    }

    #[test]
    fn more_equal_points_than_neighbours_share_the_affinity() {
        let d2: Vec<f64> = (0..40).map(|j| if j < 20 { 0.0 } else { f64::from(j) }).collect();
        let p = conditional(&d2, 0, 5.0);
        assert!(p[1..20].iter().all(|p| (p - 1.0 / 19.0).abs() < 1e-12), "{p:?}");
        let equal = conditional(&[0.0, 2.0, 2.0, 2.0], 0, 1.5);
        assert!(equal[1..].iter().all(|p| *p == 1.0 / 3.0) && equal[0] == 0.0);
    }

    #[test]
    fn gradient_is_that_of_the_divergence() {
        let affinities = affinities(37);
        let mut layout =
            [0, 1].map(|k| (0..37).map(|i| ((i * (3 + k)) as f64).sin() * 2.0).collect::<Vec<f64>>());
        let gradient = affinities.gradient(&layout);
        let step = 1e-5;
        for i in 0..37 {
            for k in 0..2 {
                let at = layout[k][i];
                let mut around = [step, -step].map(|s| {
                    layout[k][i] = at + s;
                    affinities.divergence(&layout)
                });
                layout[k][i] = at;
                around[0] -= around[1];
                let expected = around[0] / (2.0 * step);
                assert!((gradient[i][k] - expected).abs() < 1e-9, "{i} {k}: {} {expected}", gradient[i][k]);
            }
        }
        // The forces of all points are in balance.
        for k in 0..2 {
            assert!(gradient.iter().map(|g| g[k]).sum::<f64>().abs() < 1e-14);
        }
    }

    #[test]
    fn the_descent_ends_near_a_minimum() {
        let points = curved(150, 6);
        let distances = squared_distances(&points, 0, Normalise::None).unwrap();
        let before = Affinities::new(&distances).divergence(&start(&distances, 0).unwrap());
        let found = tsne(&points, 0, Normalise::None).unwrap();
        assert!(found.divergence() < 0.5 * before, "{before} {}", found.divergence());
        let layout = [0, 1].map(|k| found.embedding().coordinate(k).unwrap().to_vec());
        let gradient = Affinities::new(&distances).gradient(&layout);
        let largest = gradient.iter().flatten().fold(0.0_f64, |a, g| a.max(g.abs()));
        assert!(largest < 1e-3, "{largest}");
    }
}
