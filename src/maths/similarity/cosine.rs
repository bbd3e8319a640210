//! Cosine and angle of paired points; both layers' points have root mean square 1.

use crate::maths::manifold::Points;

/// Computes `1/n sum_i cos(x_i, y_i)`, in [-1, 1].
pub(super) fn mean_cosine(x: &Points, y: &Points) -> f64 {
    mean(x, y, |a, b| {
        let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        (dot / a.len() as f64).clamp(-1.0, 1.0)
    })
}

/// Computes `1/n sum_i arccos(cos(x_i, y_i)) / pi`, in [0, 1].
///
/// Each angle is computed as `2 atan2(|x - y|, |x + y|)` (Kahan), because near-identical layers matter most,
/// and for them `arccos` keeps only half of the digits.
pub(super) fn mean_angle(x: &Points, y: &Points) -> f64 {
    mean(x, y, |a, b| {
        let (mut minus, mut plus) = (0.0, 0.0);
        for (a, b) in a.iter().zip(b) {
            minus += (a - b) * (a - b);
            plus += (a + b) * (a + b);
        }
        2.0 * minus.sqrt().atan2(plus.sqrt()) / std::f64::consts::PI
    })
}

fn mean(x: &Points, y: &Points, f: impl Fn(&[f64], &[f64]) -> f64) -> f64 {
    let sum: f64 = x.rows().zip(y.rows()).map(|(a, b)| f(a, b)).sum();
    sum / x.n_points() as f64
}
