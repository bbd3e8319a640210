//! Gradients of the kernels on the CPU, each beside a form in operations of burn for GPUs.
//!
//! With a loss `L`, the gradient of what goes into a kernel follows from the gradient of what comes out of it. Names begin
//! with `d` for gradients: `dy` is that of `L` by `y`.

pub mod attention;
pub mod product;
pub mod rowwise;

#[cfg(test)]
pub(crate) mod differences {
    //! Central differences in `f64`, which gradients are held to.

    /// Returns `n` numbers of either sign, of size about 1.
    pub fn noise(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * seed + seed / 3) % 2027) as f64 / 1013.0 - 1.0).collect()
    }

    /// Rounds to `f32`.
    pub fn single(x: &[f64]) -> Vec<f32> {
        x.iter().map(|x| *x as f32).collect()
    }

    /// Returns the gradient of `loss` at `x` by central differences.
    pub fn gradient(x: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        const STEP: f64 = 1e-5;
        let mut x = x.to_vec();
        let one = |i: usize, x: &mut Vec<f64>| {
            let at = x[i];
            x[i] = at + STEP;
            let above = loss(x);
            x[i] = at - STEP;
            let below = loss(x);
            x[i] = at;
            (above - below) / (2.0 * STEP)
        };
        (0..x.len()).map(|i| one(i, &mut x)).collect()
    }

    /// Checks that `found` differs from `expected` by less than `most`, measured by the largest number expected.
    #[track_caller]
    pub fn assert_close(what: &str, found: &[f32], expected: &[f64], most: f64) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(1e-12f64, |most, x| most.max(x.abs()));
        let errors = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() / largest);
        let (place, worst) =
            errors.enumerate().fold((0, 0.0), |worst, each| if each.1 > worst.1 { each } else { worst });
        assert!(
            worst < most,
            "{what}: worst relative error {worst:.2e} at {place}: {} for {}",
            found[place],
            expected[place]
        );
    }
}
