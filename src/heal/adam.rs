//! Adam: steps along gradients, each weight's by the size of its own.
//!
//! Kingma and Ba, "Adam: A method for stochastic optimization", ICLR 2015.

use crate::kernels::threads::for_pieces;

/// Decays of the running means of gradients and of their squares.
const DECAYS: [f32; 2] = [0.9, 0.999];

/// Added to the root of the mean square, so that weights without gradients stay.
const EPSILON: f32 = 1e-8;

/// Largest length of the gradient of a step, by all weights together (Pascanu, Mikolov and Bengio, "On the difficulty of
/// training recurrent neural networks", ICML 2013).
const LONGEST: f64 = 1.0;

/// Share of the steps in which the rate rises.
const WARM_UP: f64 = 0.03;

/// Weights that a core steps at a time.
const PIECE: usize = 1 << 15;

/// Rates of all steps: a rise, and then a cosine down to zero.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Largest rate.
    pub rate: f64,
    /// Number of steps.
    pub steps: u64,
}

impl Schedule {
    /// Returns the rate of step `step`, from 0.
    pub fn at(self, step: u64) -> f64 {
        let (step, steps) = (step as f64 + 0.5, self.steps.max(1) as f64);
        let rise = (step / (WARM_UP * steps).max(1.0)).min(1.0);
        self.rate * rise * 0.5 * (1.0 + (std::f64::consts::PI * (step / steps).min(1.0)).cos())
    }
}

/// Weights and the running means of their gradients.
#[derive(Debug, Clone)]
pub struct Weights {
    /// The weights.
    pub values: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
}

impl Weights {
    /// Makes weights that have not seen a gradient.
    pub fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { values, means: zeros.clone(), squares: zeros }
    }

    /// Steps along `gradient`, multiplied by `factor`. `step` counts from 0.
    pub fn step(&mut self, gradient: &[f32], factor: f32, rate: f64, step: u64) {
        let [by_mean, by_square] = DECAYS;
        let left = |decay: f32| 1.0 - f64::from(decay).powf(step as f64 + 1.0);
        let (of_mean, of_square) = (1.0 / left(by_mean) as f32, 1.0 / left(by_square) as f32);
        let rate = rate as f32;
        let pieces = self.values.chunks_mut(PIECE).zip(gradient.chunks(PIECE));
        let pieces = pieces.zip(self.means.chunks_mut(PIECE).zip(self.squares.chunks_mut(PIECE)));
        for_pieces(pieces, |((values, gradient), (means, squares))| {
            for ((w, g), (m, v)) in values.iter_mut().zip(gradient).zip(means.iter_mut().zip(squares)) {
                let g = g * factor;
                *m += (1.0 - by_mean) * (g - *m);
                *v += (1.0 - by_square) * (g * g - *v);
                *w -= rate * (*m * of_mean) / ((*v * of_square).sqrt() + EPSILON);
            }
        });
    }
}

/// Returns the factor that shortens gradients to [`LONGEST`], if all together are longer.
pub fn shortened<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f32 {
    let square: f64 = gradients.map(|g| g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>()).sum();
    (LONGEST / square.sqrt().max(LONGEST)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recurrences of the paper, in `f64`, one weight at a time.
    #[test]
    fn steps_are_those_of_the_paper() {
        let n = PIECE + 7;
        let start: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut weights = Weights::new(start.clone());
        let mut naive: Vec<[f64; 3]> = start.iter().map(|w| [f64::from(*w), 0.0, 0.0]).collect();
        for step in 0..5u64 {
            let gradient: Vec<f32> = (0..n).map(|i| ((i as f32 + 10.0 * step as f32) * 0.11).cos()).collect();
            weights.step(&gradient, 0.5, 1e-2, step);
            for ([w, m, v], g) in naive.iter_mut().zip(&gradient) {
                let (g, t) = (0.5 * f64::from(*g), (step + 1) as i32);
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let (m, v) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                *w -= 1e-2 * m / (v.sqrt() + 1e-8);
            }
        }
        for (place, (w, [exact, ..])) in weights.values.iter().zip(&naive).enumerate() {
            assert!((f64::from(*w) - exact).abs() < 1e-5, "{w} for {exact} at {place}");
        }
    }

    #[test]
    fn rates_rise_and_fall_to_nothing() {
        let schedule = Schedule { rate: 4e-4, steps: 200 };
        let rates: Vec<f64> = (0..200).map(|step| schedule.at(step)).collect();
        let top = rates.iter().position(|r| *r == rates.iter().copied().fold(0.0, f64::max)).unwrap();
        assert!((4..=7).contains(&top), "{top}");
        assert!(rates[..top].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[top..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[199] < 1e-7 && rates.iter().all(|r| (0.0..=4e-4).contains(r)));
    }

    #[test]
    fn long_gradients_are_shortened_together() {
        let (a, b) = (vec![3.0f32; 100], vec![4.0f32; 100]);
        let factor = f64::from(shortened([a.as_slice(), &b].into_iter()));
        assert!((factor * (2500.0f64).sqrt() - 1.0).abs() < 1e-6);
        assert_eq!(shortened([[0.1f32].as_slice()].into_iter()), 1.0);
    }
}
