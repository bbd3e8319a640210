//! t-SNE of a layer: exact, without random numbers.
//!
//! The libraries for t-SNE that were tried (`bhtsne`, which `linfa-tsne` wraps) add over threads in whatever order the
//! threads take the points, so that the layout depends on their number; they end the program where the perplexity is
//! too large; and they bring Fourier transforms and trees for sizes that a layer does not have. The exact method is
//! short, and a layer has some hundreds to a few thousand points.

use super::affinities::Affinities;
use super::kernel::{SquaredDistances, squared_distances};
use super::map::Embedding;
use super::points::{Normalise, Points};
use super::principal::principal_coordinates;
use crate::error::{Error, Result};
use crate::kernels::threads;
use crate::maths::random;

/// Least number of points of a layer: a third of the other points must be more than one neighbour.
pub const LEAST_POINTS: usize = 7;

/// Number of steps of the descent.
const STEPS: usize = 750;

/// Share of a step that is added to the next one.
const MOMENTUM: f64 = 0.8;

/// Standard deviation of the first coordinate at the start.
const START: f64 = 1e-4;

/// Pairs of points that a thread takes at a time: a millisecond of work. Threads that share less wait for each other
/// longer than they work, where other programs want the cores too.
const PAIRS: usize = 1 << 20;

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
/// Cost: 750 `n^2` pairs of points, at about 1 ns each on one core; three matrices `n x n` at a time.
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
        let gradient = gradient_of(&affinities, &layout);
        for (k, coordinate) in layout.iter_mut().enumerate() {
            for ((y, v), g) in coordinate.iter_mut().zip(&mut velocity).zip(&gradient) {
                v[k] = MOMENTUM * v[k] - rate * g[k];
                *y += v[k];
            }
            let mean = coordinate.iter().sum::<f64>() / n as f64;
            coordinate.iter_mut().for_each(|y| *y -= mean);
        }
    }
    let divergence = divergence(&affinities, &layout);
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

/// Maps `f` over the points; each thread takes points with [`PAIRS`] pairs at a time.
fn over_points<R: Send>(n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    let points = (PAIRS / n).max(1);
    let block = |b: usize| (b * points..n.min((b + 1) * points)).map(&f).collect::<Vec<R>>();
    threads::map_all(n.div_ceil(points), block).into_iter().flatten().collect()
}

/// Computes the gradient of the divergence, two numbers for each point. The order of all sums depends on the number of
/// points alone.
fn gradient_of(affinities: &Affinities, layout: &[Vec<f64>; 2]) -> Vec<[f64; 2]> {
    let forces = over_points(affinities.n(), |i| Forces::on(i, affinities.row(i), layout));
    let total: f64 = forces.iter().map(|f| f.weight).sum();
    let slope = |f: &Forces| [0, 1].map(|k| 4.0 * (f.attraction[k] - f.repulsion[k] / total));
    forces.iter().map(slope).collect()
}

/// Computes `sum p_ij ln(p_ij / q_ij)`.
fn divergence(affinities: &Affinities, layout: &[Vec<f64>; 2]) -> f64 {
    let n = affinities.n();
    let total: f64 = over_points(n, |i| Forces::on(i, affinities.row(i), layout).weight).iter().sum();
    let [x, y] = layout;
    let of_point = |i: usize| {
        let term = |(j, p): (usize, &f64)| {
            let away = (x[i] - x[j]).powi(2) + (y[i] - y[j]).powi(2);
            if *p > 0.0 { p * (p * (1.0 + away) * total).ln() } else { 0.0 }
        };
        affinities.row(i).iter().enumerate().map(term).sum::<f64>()
    };
    over_points(n, of_point).iter().sum()
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
    fn gradient_is_that_of_the_divergence() {
        let affinities = affinities(37);
        let mut layout =
            [0, 1].map(|k| (0..37).map(|i| ((i * (3 + k)) as f64).sin() * 2.0).collect::<Vec<f64>>());
        let gradient = gradient_of(&affinities, &layout);
        let step = 1e-5;
        for i in 0..37 {
            for k in 0..2 {
                let at = layout[k][i];
                let mut around = [step, -step].map(|s| {
                    layout[k][i] = at + s;
                    divergence(&affinities, &layout)
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
        let before = divergence(&Affinities::new(&distances), &start(&distances, 0).unwrap());
        let found = tsne(&points, 0, Normalise::None).unwrap();
        assert!(found.divergence() < 0.5 * before, "{before} {}", found.divergence());
        let layout = [0, 1].map(|k| found.embedding().coordinate(k).unwrap().to_vec());
        let gradient = gradient_of(&Affinities::new(&distances), &layout);
        let largest = gradient.iter().flatten().fold(0.0_f64, |a, g| a.max(g.abs()));
        assert!(largest < 1e-3, "{largest}");
    }
}
