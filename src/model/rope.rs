//! Rotary position embedding: the tables of cosines and sines.

use std::f64::consts::TAU;

/// How the frequencies are changed for contexts longer than the model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// At least a small positive number; usually above one.
        factor: f64,
    },
    /// Llama 3.1's rule: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are long.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are short.
        high_frequency_factor: f64,
        /// Context of the first training, in tokens.
        original_context: f64,
    },
}

/// The `head_dim / 2` angular frequencies in radians per token:
/// `theta^(-2i / head_dim)`, changed by `scaling`.
pub fn frequencies(head_dim: usize, theta: f64, scaling: RopeScaling) -> Vec<f64> {
    (0..head_dim / 2).map(|i| scaled(theta.powf(-2.0 * i as f64 / head_dim as f64), scaling)).collect()
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: high,
            original_context,
        } => {
            let wavelength = TAU / frequency;
            if wavelength < original_context / high {
                frequency
            } else if wavelength > original_context / low {
                frequency / factor
            } else {
                let kept = (original_context / wavelength - low) / (high - low);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// Cosines and sines, each row-major `[n_tokens, head_dim]`, for the "rotate half" layout: column
/// `j` and column `j + head_dim / 2` share frequency `j`, and the first half of the sines is negated,
/// so that `rotated = x * cos + swap_halves(x) * sin`.
pub fn tables(n_tokens: usize, frequencies: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let half = frequencies.len();
    let mut cos = Vec::with_capacity(n_tokens * half * 2);
    let mut sin = Vec::with_capacity(n_tokens * half * 2);
    for position in 0..n_tokens {
        for sign in [-1.0, 1.0] {
            for frequency in frequencies {
                let angle = position as f64 * frequency;
                cos.push(angle.cos() as f32);
                sin.push((sign * angle.sin()) as f32);
            }
        }
    }
    (cos, sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of transformers' ROPE_INIT_FUNCTIONS["llama3"] with Llama-3.1-8B's parameters.
    #[test]
    fn llama3_keeps_short_wavelengths_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 8192.0,
        };
        let plain = frequencies(128, 500_000.0, RopeScaling::None);
        let scaled = frequencies(128, 500_000.0, scaling);
        assert_eq!(plain[0], scaled[0]);
        assert!((scaled[63] - plain[63] / 8.0).abs() < 1e-18);
        let between: Vec<_> =
            plain.iter().zip(&scaled).map(|(p, s)| p / s).filter(|r| *r > 1.0001 && *r < 7.999).collect();
        assert!(!between.is_empty() && between.is_sorted(), "{between:?}");
    }

    #[test]
    fn tables_rotate_by_the_angle() {
        let (cos, sin) = tables(3, &frequencies(4, 10_000.0, RopeScaling::None));
        assert_eq!(cos[..4], [1.0; 4]);
        assert_eq!(sin[..4], [0.0, 0.0, 0.0, 0.0]);
        assert!((cos[8] - 2f32.cos()).abs() < 1e-7);
        assert!((sin[8] + 2f32.sin()).abs() < 1e-7);
        assert!((sin[10] - 2f32.sin()).abs() < 1e-7);
    }
}
