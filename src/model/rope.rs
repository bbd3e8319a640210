//! Rotary position embedding: the tables of cosines and sines.

use std::f64::consts::TAU;

/// Rotation of queries and keys by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies: positive.
    pub theta: f64,
    /// Change of the frequencies for long contexts.
    pub scaling: RopeScaling,
}

impl Rope {
    /// Computes cosines and sines for the positions `0..n_tokens` of heads of `head_dim` numbers, of which `width` are
    /// rotated, each row-major `[n_tokens, head_dim]`, as [`tables`] does. What is not rotated has the angle 0.
    pub fn tables(&self, n_tokens: usize, head_dim: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
        let frequencies = self.scaling.frequencies(width, self.theta, n_tokens);
        let magnitude = self.scaling.magnitude();
        tables(n_tokens, head_dim / 2, |place| match frequencies.get(place) {
            Some(frequency) => (*frequency, magnitude),
            None => (0.0, 1.0),
        })
    }
}

/// Divisor that stands for a frequency of zero.
const STILL: f32 = 1e30;

/// Change of the rotary frequencies for contexts longer than the model was first trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// The frequencies are unchanged.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// Divisor of every frequency: positive, usually above one.
        factor: f64,
    },
    /// Llama 3.1's rule: frequencies with a long wavelength are divided by `factor`, frequencies with a short
    /// one are kept, and a ramp joins the two ranges. Wavelengths are in tokens.
    Llama3 {
        /// Divisor of the frequencies with a long wavelength.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are long.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are short.
        high_frequency_factor: f64,
        /// Context of the first training, in tokens.
        original_context: f64,
    },
    /// YaRN (Peng et al., [2309.00071](https://arxiv.org/abs/2309.00071)): frequencies that turn often within the context
    /// of the first training are kept, those that turn seldom are divided by `factor`, and a ramp joins the two.
    Yarn(Yarn),
    /// LongRoPE (Ding et al., [2402.13753](https://arxiv.org/abs/2402.13753)): each frequency is divided by a divisor of
    /// its own.
    Long(LongRope),
    /// The first of the frequencies are unchanged, and the others are zero.
    Proportional {
        /// Share of the frequencies that are unchanged, rounded down to a whole number of them.
        share: f64,
    },
    /// Each of the `head_dim / 2` frequencies is divided by a divisor of its own, as GGUF files store Llama
    /// 3.1's rule.
    Divisors(Vec<f32>),
}

/// Parameters of LongRoPE.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    /// Divisors for sequences of at most `original_context` tokens.
    pub short: Vec<f32>,
    /// Divisors for longer sequences.
    pub long: Vec<f32>,
    /// Context of the first training, in tokens.
    pub original_context: f64,
    /// Factor of cosines and sines, whatever the length of the sequence.
    pub attention_factor: f64,
}

impl LongRope {
    /// Returns the factor of cosines and sines where nothing else is said: `sqrt(1 + ln s / ln o)` for contexts of `s`
    /// times the original context `o`, and 1 for no longer ones.
    pub fn attention_factor(context: f64, original_context: f64) -> f64 {
        let longer = context / original_context;
        if longer <= 1.0 { 1.0 } else { (1.0 + longer.ln() / original_context.ln()).sqrt() }
    }
}

/// Parameters of YaRN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divisor of the frequencies that turn seldom.
    pub factor: f64,
    /// Factor of cosines and sines.
    pub attention_factor: f64,
    /// Turns within the original context above which a frequency is kept.
    pub fast_turns: f64,
    /// Turns within the original context below which a frequency is divided.
    pub slow_turns: f64,
    /// Context of the first training, in tokens.
    pub original_context: f64,
    /// Whether the ends of the ramp are rounded outwards to whole places.
    pub rounds: bool,
}

impl Yarn {
    /// Turns above which a frequency is kept, where nothing else is said.
    pub const FAST_TURNS: f64 = 32.0;
    /// Turns below which a frequency is divided, where nothing else is said.
    pub const SLOW_TURNS: f64 = 1.0;

    /// Returns the factor of cosines and sines that goes with `factor`: for a `multiplier` of 1 where nothing else is
    /// said.
    pub fn attention_factor(factor: f64, multiplier: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * multiplier * factor.ln() + 1.0 }
    }

    /// Returns the place among the frequencies of one that makes `turns` turns within the original context.
    fn place(&self, turns: f64, head_dim: usize, theta: f64) -> f64 {
        head_dim as f64 * (self.original_context / (turns * TAU)).ln() / (2.0 * theta.ln())
    }

    /// Returns the `head_dim / 2` frequencies (`_compute_yarn_parameters` of transformers).
    fn frequencies(&self, head_dim: usize, theta: f64) -> Vec<f64> {
        let (mut low, mut high) =
            (self.place(self.fast_turns, head_dim, theta), self.place(self.slow_turns, head_dim, theta));
        if self.rounds {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        if low == high {
            high += 1e-3;
        }
        let plain = plain(head_dim, theta).into_iter().enumerate();
        plain
            .map(|(place, frequency)| {
                let divided = ((place as f64 - low) / (high - low)).clamp(0.0, 1.0);
                divided * frequency / self.factor + (1.0 - divided) * frequency
            })
            .collect()
    }
}

impl RopeScaling {
    /// Returns the factor of cosines and sines.
    pub fn magnitude(&self) -> f64 {
        match self {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::Long(long) => long.attention_factor,
            _ => 1.0,
        }
    }

    /// Recovers the parameters of Llama 3.1's rule from the `head_dim / 2` divisors that it gave; `None` if
    /// no parameters give these divisors.
    ///
    /// The divisor of the longest wavelength is the factor. The ramp is a straight line in the inverse
    /// wavelength and determines the other parameters up to a common scale. The scale is chosen so that the
    /// low-frequency factor is 1, as in all published models. If fewer than two frequencies are on the ramp,
    /// the high-frequency factor is taken to be 4, also as in all published models.
    pub fn llama3_of(divisors: &[f32], head_dim: usize, theta: f64) -> Option<Self> {
        let factor = f64::from(*divisors.last()?);
        let frequencies = plain(head_dim, theta);
        // Points (1 / wavelength, share of the plain frequency that is kept) of the frequencies on the ramp.
        let ramp: Vec<(f64, f64)> = frequencies
            .iter()
            .zip(divisors)
            .map(|(frequency, divisor)| {
                let kept = (1.0 / f64::from(*divisor) - 1.0 / factor) / (1.0 - 1.0 / factor);
                (frequency / TAU, kept)
            })
            .filter(|(_, kept)| *kept > 1e-4 && *kept < 1.0 - 1e-4)
            .collect();
        // kept = (original_context * x - 1) / (high - 1)
        let (high, original_context) = match ramp.as_slice() {
            [] => {
                let n_kept = divisors.iter().take_while(|divisor| f64::from(**divisor) < 1.0 + 1e-4).count();
                let (kept, divided) = (frequencies.get(n_kept.checked_sub(1)?)?, frequencies.get(n_kept)?);
                (4.0, (4.0 * TAU / kept * TAU / divided).sqrt())
            }
            [(x, y)] => (4.0, (3.0 * y + 1.0) / x),
            [(x0, y0), .., (x1, y1)] => {
                let high = 1.0 + (x1 - x0) / (y1 * x0 - y0 * x1);
                (high, (y0 * (high - 1.0) + 1.0) / x0)
            }
        };
        let original_context = original_context.round();
        let rule = Self::llama3([factor, 1.0, (high * 1e3).round() / 1e3, original_context]);
        let theirs = rule.divisors(head_dim, theta);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
        (theirs.len() == divisors.len() && theirs.iter().zip(divisors).all(close)).then_some(rule)
    }

    /// Recovers the share of proportional frequencies from the divisors that say them to llama.cpp: ones, then numbers so
    /// large that nothing rotates; `None` if they are others.
    pub fn proportional_of(divisors: &[f32]) -> Option<Self> {
        let kept = divisors.iter().take_while(|divisor| **divisor == 1.0).count();
        let still = divisors.iter().skip(kept).all(|divisor| *divisor >= STILL);
        (still && !divisors.is_empty())
            .then(|| Self::Proportional { share: kept as f64 / divisors.len() as f64 })
    }

    fn llama3([factor, low_frequency_factor, high_frequency_factor, original_context]: [f64; 4]) -> Self {
        Self::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context }
    }

    /// Returns the divisor of each of the `head_dim / 2` frequencies, for short sequences.
    pub fn divisors(&self, head_dim: usize, theta: f64) -> Vec<f32> {
        let plain = plain(head_dim, theta);
        let divisor = |(a, b): (&f64, f64)| if b == 0.0 { STILL } else { (a / b) as f32 };
        plain.iter().zip(self.frequencies(head_dim, theta, 0)).map(divisor).collect()
    }

    /// Returns the `head_dim / 2` angular frequencies `theta^(-2i / head_dim)`, changed as this scaling says for
    /// sequences of `n_tokens` tokens, in radians per token. Only [`Long`](Self::Long) depends on the number of tokens.
    pub fn frequencies(&self, head_dim: usize, theta: f64, n_tokens: usize) -> Vec<f64> {
        let changed = |divisors: &[f32]| {
            let divisor = |place: usize| divisors.get(place).map_or(1.0, |d| f64::from(*d));
            plain(head_dim, theta).into_iter().enumerate().map(|(place, f)| f / divisor(place)).collect()
        };
        match self {
            RopeScaling::Yarn(yarn) => yarn.frequencies(head_dim, theta),
            RopeScaling::Long(long) if n_tokens as f64 > long.original_context => changed(&long.long),
            RopeScaling::Long(long) => changed(&long.short),
            RopeScaling::Divisors(divisors) => changed(divisors),
            RopeScaling::Proportional { share } => {
                // The share may be a quotient of whole numbers, which is rounded.
                let kept = (share * head_dim as f64 / 2.0 + 1e-6) as usize;
                let keep = |(place, frequency)| if place < kept { frequency } else { 0.0 };
                plain(head_dim, theta).into_iter().enumerate().map(keep).collect()
            }
            other => plain(head_dim, theta).into_iter().map(|frequency| scaled(frequency, other)).collect(),
        }
    }
}

/// Returns the `head_dim / 2` angular frequencies `theta^(-2i / head_dim)`, in radians per token.
fn plain(head_dim: usize, theta: f64) -> Vec<f64> {
    (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect()
}

fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None
        | RopeScaling::Yarn(_)
        | RopeScaling::Long(_)
        | RopeScaling::Proportional { .. }
        | RopeScaling::Divisors(_) => frequency,
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

/// Computes cosines and sines for the positions `0..n_tokens`, each row-major `[n_tokens, 2 half]`, in the "rotate half"
/// layout: columns `j` and `j + half` share the frequency and the magnitude that `turn` gives for `j`, and the first half
/// of the sines is negated, so that `rotated = x * cos + swap_halves(x) * sin`.
fn tables(n_tokens: usize, half: usize, turn: impl Fn(usize) -> (f64, f64)) -> (Vec<f32>, Vec<f32>) {
    let turns: Vec<(f64, f64)> = (0..half).map(turn).collect();
    let mut cos = Vec::with_capacity(n_tokens * half * 2);
    let mut sin = Vec::with_capacity(n_tokens * half * 2);
    for position in 0..n_tokens {
        for sign in [-1.0, 1.0] {
            for (frequency, magnitude) in &turns {
                let angle = position as f64 * frequency;
                cos.push((magnitude * angle.cos()) as f32);
                sin.push((magnitude * sign * angle.sin()) as f32);
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
        let plain = RopeScaling::None.frequencies(128, 500_000.0, 4);
        let scaled = scaling.frequencies(128, 500_000.0, 4);
        assert_eq!(plain[0], scaled[0]);
        assert!((scaled[63] - plain[63] / 8.0).abs() < 1e-18);
        let between: Vec<_> =
            plain.iter().zip(&scaled).map(|(p, s)| p / s).filter(|r| *r > 1.0001 && *r < 7.999).collect();
        assert!(!between.is_empty() && between.is_sorted(), "{between:?}");
    }

    #[test]
    fn divisors_say_the_same_as_the_rule_and_tell_it_back() {
        let rule = RopeScaling::llama3([32.0, 1.0, 4.0, 8192.0]);
        let divisors = rule.divisors(64, 500_000.0);
        let by_divisors = RopeScaling::Divisors(divisors.clone()).frequencies(64, 500_000.0, 4);
        for (a, b) in by_divisors.iter().zip(rule.frequencies(64, 500_000.0, 4)) {
            assert!((a / b - 1.0).abs() < 1e-6);
        }
        assert_eq!(RopeScaling::llama3_of(&divisors, 64, 500_000.0), Some(rule));
        assert_eq!(RopeScaling::llama3_of(&[1.0; 32], 64, 500_000.0), None);
    }

    #[test]
    fn proportional_frequencies_are_said_by_divisors_and_told_back() {
        let rule = RopeScaling::Proportional { share: 1.0 / 3.0 };
        let frequencies = rule.frequencies(12, 100.0, 4);
        assert_eq!(frequencies[..2], RopeScaling::None.frequencies(12, 100.0, 4)[..2]);
        assert_eq!(frequencies[2..], [0.0; 4]);
        let divisors = rule.divisors(12, 100.0);
        assert_eq!(divisors, [1.0, 1.0, 1e30, 1e30, 1e30, 1e30]);
        assert_eq!(RopeScaling::proportional_of(&divisors), Some(rule));
        let all = RopeScaling::Proportional { share: 1.0 };
        assert_eq!(RopeScaling::proportional_of(&RopeScaling::None.divisors(12, 100.0)), Some(all));
        assert_eq!(RopeScaling::proportional_of(&[1.0, 8.0]), None);
        assert_eq!(RopeScaling::proportional_of(&[]), None);
    }

    #[test]
    fn tables_rotate_by_the_angle() {
        let rope = Rope { theta: 10_000.0, scaling: RopeScaling::None };
        let (cos, sin) = rope.tables(3, 4, 4);
        assert_eq!(cos[..4], [1.0; 4]);
        assert_eq!(sin[..4], [0.0, 0.0, 0.0, 0.0]);
        assert!((cos[8] - 2f32.cos()).abs() < 1e-7);
        assert!((sin[8] + 2f32.sin()).abs() < 1e-7);
        assert!((sin[10] - 2f32.sin()).abs() < 1e-7);
    }
    #[test]
    fn what_is_not_rotated_has_the_angle_zero() {
        let long = LongRope {
            short: vec![2.0],
            long: vec![4.0],
            original_context: 2.0,
            attention_factor: LongRope::attention_factor(4.0, 2.0),
        };
        assert!((long.attention_factor - 2f64.sqrt()).abs() < 1e-12);
        let rope = Rope { theta: 10_000.0, scaling: RopeScaling::Long(long) };
        // Heads of four, of which two are rotated: columns 0 and 2.
        for (n_tokens, divisor) in [(2, 2f32), (3, 4f32)] {
            let (cos, sin) = rope.tables(n_tokens, 4, 2);
            assert_eq!((cos[5], sin[5], cos[7], sin[7]), (1.0, 0.0, 1.0, 0.0));
            assert!((cos[4] - 2f32.sqrt() * divisor.recip().cos()).abs() < 1e-6);
            assert!((sin[6] - 2f32.sqrt() * divisor.recip().sin()).abs() < 1e-6);
        }
    }
}
