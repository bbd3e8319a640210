//! Autoencoder of a layer: a small network that learns to squeeze the points through two numbers each.

use super::kernel::{exp_of_negative, squared_distances};
use super::map::Embedding;
use super::points::{Normalise, Points, dot};
use super::principal::principal_coordinates;
use crate::error::{Error, Result};
use crate::kernels::threads;
use crate::maths::random;

/// Most principal coordinates of the points that the network reads.
pub const INPUTS: usize = 32;

/// Hidden units before the code, and as many after it.
pub const HIDDEN: usize = 16;

/// Numbers that a point is squeezed into.
const CODE: usize = 2;

/// Penalty on the sum of squares of the weights behind the hidden units, where the points have variance 1. With as
/// many weights as there are numbers in the points, a network without a penalty learns the points by heart.
const PENALTY: f64 = 0.1;

/// Number of steps of the training, each over all points.
const STEPS: usize = 300;

/// Length of the first step of a weight; the length falls to 0 evenly.
const RATE: f64 = 0.01;

/// Number of points whose gradients are added by one thread, in about two milliseconds; blocks are added in order.
const BLOCK: usize = 1024;

/// Trained autoencoder of a layer, as what it makes of the points.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoencoder {
    codes: Embedding,
    lost: f64,
    lost_by_pca: f64,
}

impl Autoencoder {
    /// Returns the codes: two coordinates of every point.
    pub fn codes(&self) -> &Embedding {
        &self.codes
    }

    /// Returns the share of the variance of its inputs that the autoencoder does not give back, in [0, 1].
    pub fn lost(&self) -> f64 {
        self.lost
    }

    /// Returns the least share that codes of two numbers can lose without hidden units: that of a principal component
    /// analysis, from which the training starts.
    pub fn lost_by_pca(&self) -> f64 {
        self.lost_by_pca
    }
}

/// Trains an autoencoder on the points of a layer and returns its codes (Kramer, "Nonlinear principal component
/// analysis using autoassociative neural networks", AIChE Journal 37, 1991; Hinton and Salakhutdinov, "Reducing the
/// dimensionality of data with neural networks", Science 313, 2006).
///
/// ```text
/// c  = z A + tanh(z W1 + b1) W2               code of two numbers; z: at most 32 principal coordinates
/// z' = c B + tanh(c W3 + b3) W4 + b4          16 hidden units before the code and 16 after it
/// loss = 1/n sum_i |z'_i - z_i|^2 + 0.1 (|W2|^2 + |W4|^2)
/// ```
///
/// The principal coordinates are scaled together to variance 1. The start is the principal component analysis itself:
/// `A` and `B` keep the first two coordinates, `W2`, `W4` and `b4` are zero. `W1` and `b1` are uniform with variance 1
/// and `W3` and `b3` too, where `W3` is divided by the standard deviation of the first codes: numbers of seed 0
/// ([`random::unit`]), in this order, `W1` row by row. 300 steps of Adam (Kingma and Ba, ICLR 2015; `0.9`, `0.999`,
/// `1e-8`) over all points follow, whose rate falls from 0.01 to 0. So similar points have similar codes, which a
/// start from other random numbers, or steps over a few points each, would not give.
///
/// The result is the same for every number of threads, and it does not change when the points are turned, shifted or
/// scaled (but for rounding, and with [`Normalise::None`]). Equal points get equal codes.
///
/// A library with automatic derivatives stands above this folder, which knows no device; the derivatives of a network
/// of this size are twenty lines.
///
/// Cost: the eigenpairs of an `n x n` matrix, and `300 n` times 3500 multiply-adds.
///
/// # Errors
/// Those of [`squared_distances`]; [`Error::Numeric`], naming the layer, if the points lie on a line or the eigenvalues
/// do not converge.
pub fn autoencoder(points: &Points, layer: usize, normalise: Normalise) -> Result<Autoencoder> {
    let distances = squared_distances(points, layer, normalise)?;
    let coordinates = principal_coordinates(&distances, INPUTS.min(points.dim()), layer)?;
    let inputs = Inputs::new(&coordinates);
    if inputs.lies_on_a_line {
        return Err(Error::Numeric(format!(
            "the points of layer {layer} lie on a line, which leaves an autoencoder nothing for the second number of its \
             codes; use more varied text"
        )));
    }
    let mut network = Network::at_the_principal_components(&inputs, HIDDEN);
    let lost_by_pca = network.loss(&inputs).lost;
    network.train(&inputs, STEPS, RATE);
    let codes = network.codes(&inputs);
    let coordinates =
        [0, 1].map(|k| distances.representative().iter().map(|&i| codes[i][k]).collect()).into();
    Ok(Autoencoder {
        codes: Embedding::new(layer, coordinates)?,
        lost: network.loss(&inputs).lost,
        lost_by_pca,
    })
}

/// Points as the network reads them: centred, of variance 1 together.
struct Inputs {
    width: usize,
    /// Row-major, `[n, width]`.
    rows: Vec<f64>,
    /// Standard deviation of the first two coordinates together.
    deviation_of_codes: f64,
    /// Whether the second coordinate is no more than rounding.
    lies_on_a_line: bool,
}

impl Inputs {
    fn new(coordinates: &[Vec<f64>]) -> Self {
        let width = coordinates.len();
        let n = coordinates.first().map_or(0, Vec::len);
        let squares: Vec<f64> = coordinates.iter().map(|c| c.iter().map(|x| x * x).sum()).collect();
        let all: f64 = squares.iter().sum();
        let scale = (n as f64 / all).sqrt();
        let rows = (0..n).flat_map(|i| coordinates.iter().map(move |c| c[i] * scale)).collect();
        let of_codes: f64 = squares.iter().take(CODE).sum();
        // Rounding of the Gram matrix leaves a share of its square root in a coordinate.
        let lies_on_a_line = squares.get(1).is_none_or(|second| *second <= 1e-12 * all);
        Inputs { width, rows, deviation_of_codes: (of_codes / all).sqrt(), lies_on_a_line }
    }

    fn n(&self) -> usize {
        self.rows.len() / self.width
    }
}

/// Loss of a network and what it depends on.
struct Loss {
    /// `1/n sum_i |z'_i - z_i|^2`.
    lost: f64,
    /// Derivative of the loss, penalty included, by each weight.
    gradient: Vec<f64>,
}

/// Autoencoder of `width` inputs, with `hidden` units before the code and as many after it.
#[derive(Clone)]
struct Network {
    width: usize,
    hidden: usize,
    /// `A`, `B`, `W1`, `b1`, `W2`, `W3`, `b3`, `W4` and `b4`, each row by row.
    weights: Vec<f64>,
}

impl Network {
    fn sizes(&self) -> [usize; 9] {
        let (r, h) = (self.width, self.hidden);
        [r * CODE, CODE * r, r * h, h, h * CODE, CODE * h, h, h * r, r]
    }

    fn parts(&self) -> [&[f64]; 9] {
        let mut rest = self.weights.as_slice();
        self.sizes().map(|size| {
            let (part, after) = rest.split_at(size);
            rest = after;
            part
        })
    }

    /// Makes the network that gives back the first two coordinates and nothing else.
    fn at_the_principal_components(inputs: &Inputs, hidden: usize) -> Self {
        let width = inputs.width;
        let mut network = Network { width, hidden, weights: Vec::new() };
        let mut place = 0;
        let mut draw = |scale: f64| {
            place += 1;
            3.0_f64.sqrt() * (2.0 * random::unit(0, place - 1) - 1.0) * scale
        };
        let kept = |row: usize, column: usize| if row == column { 1.0 } else { 0.0 };
        for (part, size) in network.sizes().into_iter().enumerate() {
            network.weights.extend((0..size).map(|at| match part {
                0 => kept(at / CODE, at % CODE),
                1 => kept(at / width, at % width),
                2 | 3 | 6 => draw(1.0),
                5 => draw(inputs.deviation_of_codes.recip()),
                _ => 0.0,
            }));
        }
        network
    }

    /// Writes `tanh(z W1 + b1)` to `hidden` and returns the code of the point `z`.
    fn encode(&self, [a, _, w1, b1, w2, ..]: &[&[f64]; 9], z: &[f64], hidden: &mut [f64]) -> [f64; CODE] {
        let mut code = [0.0; CODE];
        hidden.copy_from_slice(b1);
        for (i, x) in z.iter().enumerate() {
            add(&mut code, *x, &a[i * CODE..][..CODE]);
            add(hidden, *x, &w1[i * self.hidden..][..self.hidden]);
        }
        for (k, h) in hidden.iter_mut().enumerate() {
            *h = tanh(*h);
            add(&mut code, *h, &w2[k * CODE..][..CODE]);
        }
        code
    }

    /// Returns the code of every point.
    fn codes(&self, inputs: &Inputs) -> Vec<[f64; CODE]> {
        let parts = self.parts();
        let mut hidden = vec![0.0; self.hidden];
        inputs.rows.chunks_exact(self.width).map(|z| self.encode(&parts, z, &mut hidden)).collect()
    }

    /// Computes the loss and its gradient. Blocks of points are added in order, whoever computed them.
    fn loss(&self, inputs: &Inputs) -> Loss {
        let blocks: Vec<&[f64]> = inputs.rows.chunks(BLOCK * self.width).collect();
        let mut sum = Loss { lost: 0.0, gradient: vec![0.0; self.weights.len()] };
        for block in threads::map_all(blocks.len(), |b| self.loss_of_block(blocks[b])) {
            sum.lost += block.lost;
            add(&mut sum.gradient, 1.0, &block.gradient);
        }
        let n = inputs.n() as f64;
        sum.lost /= n;
        sum.gradient.iter_mut().for_each(|g| *g /= n);
        let mut at = 0;
        for (part, size) in self.sizes().into_iter().enumerate() {
            if part == 4 || part == 7 {
                add(&mut sum.gradient[at..at + size], 2.0 * PENALTY, &self.weights[at..at + size]);
            }
            at += size;
        }
        sum
    }

    /// Computes the sum of the losses of some points, and of their gradients, without the penalty.
    fn loss_of_block(&self, rows: &[f64]) -> Loss {
        let parts = self.parts();
        let [_, b, _, _, w2, w3, b3, w4, b4] = parts;
        let (r, h) = (self.width, self.hidden);
        let mut gradient = vec![0.0; self.weights.len()];
        let mut rest = gradient.as_mut_slice();
        let [d_a, d_b, d_w1, d_b1, d_w2, d_w3, d_b3, d_w4, d_b4] = self.sizes().map(|size| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            part
        });
        let mut lost = 0.0;
        let (mut before, mut after) = (vec![0.0; h], vec![0.0; h]);
        let (mut d_before, mut d_after) = (vec![0.0; h], vec![0.0; h]);
        let mut error = vec![0.0; r];
        for z in rows.chunks_exact(r) {
            let code = self.encode(&parts, z, &mut before);
            after.copy_from_slice(b3);
            for (c, x) in code.iter().enumerate() {
                add(&mut after, *x, &w3[c * h..][..h]);
            }
            after.iter_mut().for_each(|x| *x = tanh(*x));
            error.iter_mut().zip(b4).zip(z).for_each(|((e, b), z)| *e = b - z);
            for (c, x) in code.iter().enumerate() {
                add(&mut error, *x, &b[c * r..][..r]);
            }
            for (k, x) in after.iter().enumerate() {
                add(&mut error, *x, &w4[k * r..][..r]);
            }
            lost += dot(&error, &error);

            // From the end to the start, by the chain rule.
            error.iter_mut().for_each(|e| *e *= 2.0);
            add(d_b4, 1.0, &error);
            for (k, x) in after.iter().enumerate() {
                add(&mut d_w4[k * r..][..r], *x, &error);
                d_after[k] = dot(&error, &w4[k * r..][..r]) * (1.0 - x * x);
            }
            add(d_b3, 1.0, &d_after);
            let mut d_code = [0.0; CODE];
            for (c, x) in code.iter().enumerate() {
                add(&mut d_b[c * r..][..r], *x, &error);
                add(&mut d_w3[c * h..][..h], *x, &d_after);
                d_code[c] = dot(&error, &b[c * r..][..r]) + dot(&d_after, &w3[c * h..][..h]);
            }
            for (k, x) in before.iter().enumerate() {
                add(&mut d_w2[k * CODE..][..CODE], *x, &d_code);
                d_before[k] = dot(&d_code, &w2[k * CODE..][..CODE]) * (1.0 - x * x);
            }
            add(d_b1, 1.0, &d_before);
            for (i, x) in z.iter().enumerate() {
                add(&mut d_a[i * CODE..][..CODE], *x, &d_code);
                add(&mut d_w1[i * h..][..h], *x, &d_before);
            }
        }
        Loss { lost, gradient }
    }

    /// Trains all weights by Adam on all points at once; the rate falls from `rate` to 0 evenly.
    fn train(&mut self, inputs: &Inputs, steps: usize, rate: f64) {
        const DECAY: [f64; 2] = [0.9, 0.999];
        let mut moments = vec![[0.0_f64; 2]; self.weights.len()];
        let mut powers = [1.0, 1.0];
        for step in 0..steps {
            let rate = rate * (1.0 - (step + 1) as f64 / steps as f64);
            let gradient = self.loss(inputs).gradient;
            powers = [powers[0] * DECAY[0], powers[1] * DECAY[1]];
            for ((w, [m, v]), g) in self.weights.iter_mut().zip(&mut moments).zip(&gradient) {
                *m = DECAY[0] * *m + (1.0 - DECAY[0]) * g;
                *v = DECAY[1] * *v + (1.0 - DECAY[1]) * g * g;
                *w -= rate * (*m / (1.0 - powers[0])) / ((*v / (1.0 - powers[1])).sqrt() + 1e-8);
            }
        }
    }
}

/// Adds `factor` times `row` to `target`.
fn add(target: &mut [f64], factor: f64, row: &[f64]) {
    target.iter_mut().zip(row).for_each(|(t, x)| *t += factor * x);
}

/// Computes the hyperbolic tangent, to `1e-16`, from arithmetic that every machine rounds alike.
fn tanh(x: f64) -> f64 {
    let e = exp_of_negative(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curved(n: usize, width: usize) -> Inputs {
        let value = |i: usize, k: usize| {
            let (s, t) = ((i as f64 * 0.7).sin(), (i as f64 * 1.3).cos());
            let terms = [2.0 * s, 1.5 * t, s * t, s * s - 0.5, t * t * t, (3.0 * s).sin()];
            terms[k % 6] / (1.0 + (k / 6) as f64) + 0.05 * ((i * (k + 2)) as f64).sin()
        };
        let data = (0..n * width).map(|at| value(at / width, at % width)).collect();
        let points = Points::from_f64(0, n, width, data).unwrap();
        let distances = squared_distances(&points, 0, Normalise::None).unwrap();
        Inputs::new(&principal_coordinates(&distances, width, 0).unwrap())
    }

    #[test]
    fn tanh_is_that_of_the_library() {
        for i in -4000..4000 {
            let x = f64::from(i) / 100.0;
            assert!((tanh(x) - x.tanh()).abs() < 4e-16, "{x}");
        }
        assert_eq!([tanh(0.0), tanh(1e9), tanh(-1e9)], [0.0, 1.0, -1.0]);
    }

    #[test]
    fn gradient_is_that_of_the_loss() {
        let inputs = curved(70, 7);
        let mut network = Network::at_the_principal_components(&inputs, 3);
        for (k, w) in network.weights.iter_mut().enumerate() {
            *w += 0.3 * (k as f64 * 1.1).sin();
        }
        let gradient = network.loss(&inputs).gradient;
        let penalised = |network: &Network| {
            let [_, _, _, _, w2, _, _, w4, _] = network.parts();
            network.loss(&inputs).lost + PENALTY * (dot(w2, w2) + dot(w4, w4))
        };
        for (k, found) in gradient.iter().enumerate() {
            let [up, down] = [1e-5, -1e-5].map(|s| {
                let mut moved = network.clone();
                moved.weights[k] += s;
                penalised(&moved)
            });
            let expected = (up - down) / 2e-5;
            assert!((found - expected).abs() < 1e-8 * (1.0 + expected.abs()), "{k}: {found} {expected}");
        }
    }

    /// Without hidden units no autoencoder is better than the principal component analysis (Baldi and Hornik, "Neural
    /// networks and principal component analysis", Neural Networks 2, 1989), and training finds it from any start.
    #[test]
    fn a_linear_autoencoder_learns_the_principal_components() {
        let inputs = curved(150, 7);
        let optimum = 1.0 - inputs.deviation_of_codes.powi(2);
        let mut network = Network::at_the_principal_components(&inputs, 0);
        assert!((network.loss(&inputs).lost - optimum).abs() < 1e-12);
        for (k, w) in network.weights.iter_mut().enumerate() {
            *w = 0.5 * ((k * k) as f64 * 0.9 + 1.0).sin();
        }
        assert!(network.loss(&inputs).lost > 1.2 * optimum);
        network.train(&inputs, 3000, 0.02);
        let lost = network.loss(&inputs).lost;
        assert!(lost > optimum * (1.0 - 1e-9) && lost < optimum * (1.0 + 1e-6), "{lost} {optimum}");
    }

    #[test]
    fn hidden_units_give_back_more_than_the_principal_components() {
        let inputs = curved(150, 12);
        let mut network = Network::at_the_principal_components(&inputs, HIDDEN);
        let before = network.loss(&inputs).lost;
        assert!((before - (1.0 - inputs.deviation_of_codes.powi(2))).abs() < 1e-12);
        network.train(&inputs, STEPS, RATE);
        let after = network.loss(&inputs).lost;
        assert!(after < 0.8 * before, "{before} {after}");
    }
}
