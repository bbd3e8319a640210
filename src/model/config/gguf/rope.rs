//! How queries and keys are rotated, in the metadata of GGUF files.

use super::keys::not_positive;
use super::{
    ATTENTION_FACTOR, Keys, LOCAL_BASE, LOG_MULTIPLIER, ORIGINAL_CONTEXT, ROTATES, SECTIONS, YARN, number_of,
};
use crate::Result;
use crate::model::architectures::{Architecture, Rotation};
use crate::model::rope::{LongRope, Rope, RopeScaling, Yarn};

/// Key of the share of YaRN in the frequencies.
pub(super) const EXTRAPOLATION: &str = "rope.scaling.yarn_ext_factor";

/// Keys below `rope.` that are read, and keys that say nothing where frequencies are scaled by none or linearly.
const ROPE: [&str; 13] = [
    SECTIONS,
    "rope.dimension_count_swa",
    "rope.dimension_count",
    "rope.freq_base",
    LOCAL_BASE,
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    ORIGINAL_CONTEXT,
    ROTATES,
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    LOG_MULTIPLIER,
];

/// Keys below `rope.` that llama.cpp obeys whatever the type of scaling, each with the value that changes nothing. The
/// second is what converters write beside YaRN, where llama.cpp has its own.
const NEUTRAL_ROPE: [(&str, f64); 3] =
    [(ATTENTION_FACTOR, 1.0), ("rope.scaling.yarn_attn_factor", 1.0), (EXTRAPOLATION, 0.0)];

impl Keys<'_> {
    /// Reads the rotations of layers without a window and with one (one rotation if they are alike).
    pub(super) fn ropes(
        &self,
        architecture: &Architecture,
        divisors: Option<Vec<f32>>,
        long: Option<[Vec<f32>; 2]>,
    ) -> Result<Vec<Rope>> {
        let theta = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let local = match architecture.rotation {
            Rotation::LocalBase(usual) => Some(usual),
            Rotation::ByKind { base, .. } => Some(base),
            Rotation::LocalUnscaled => Some(theta),
            _ => None,
        };
        let mut scaling = self.rope_scaling(divisors, long)?;
        if let Rotation::ByKind { .. } = architecture.rotation {
            scaling = match scaling {
                RopeScaling::Divisors(divisors) => {
                    RopeScaling::proportional_of(&divisors).unwrap_or(RopeScaling::Divisors(divisors))
                }
                _ => return Err(self.bad("rope_freqs.weight is missing; convert the model anew".to_owned())),
            };
        }
        let mut ropes = vec![Rope { theta, scaling }];
        if let Some(usual) = local {
            let theta = self.positive(LOCAL_BASE)?.unwrap_or(usual);
            ropes.push(Rope { theta, scaling: RopeScaling::None });
            ropes.dedup();
        }
        Ok(ropes)
    }

    /// Reads the change of the rotary frequencies as llama.cpp does: where the type is `none`, a factor says
    /// nothing; without a type a factor is linear; a factor of 0 is none; and divisors apply in any case.
    pub(super) fn rope_scaling(
        &self,
        divisors: Option<Vec<f32>>,
        long: Option<[Vec<f32>; 2]>,
    ) -> Result<RopeScaling> {
        self.check_rope(long.is_some())?;
        for divisor in divisors.iter().chain(long.iter().flatten()).flatten() {
            if !(divisor.is_finite() && *divisor > 0.0) {
                return Err(self.bad(format!(
                    "the rotary divisors hold {divisor}, which is not a positive number; convert the model anew"
                )));
            }
        }
        let kind = self.text(&self.key("rope.scaling.type"))?;
        if let Some([short, long]) = long {
            return match kind {
                None | Some("none" | "longrope") => Ok(RopeScaling::Long(LongRope {
                    short,
                    long,
                    original_context: self.size(ORIGINAL_CONTEXT)? as f64,
                    attention_factor: self.positive(ATTENTION_FACTOR)?.unwrap_or(1.0),
                })),
                Some(other) => self.refuse(format!(
                    "rope scaling of type {other} beside divisors for short and long sequences is not supported"
                )),
            };
        }
        let factor = match kind {
            Some("none") => 1.0,
            Some(YARN) if divisors.is_none() => return self.yarn(),
            None | Some("linear") => self.rope_factor()?,
            Some(other) => {
                self.refuse(format!(
                    "rope scaling of type {other} is not supported; none, linear and yarn are"
                ))?;
                1.0
            }
        };
        Ok(match divisors {
            None if factor == 1.0 => RopeScaling::None,
            None => RopeScaling::Linear { factor },
            Some(divisors) => RopeScaling::Divisors(divisors.iter().map(|d| d * factor as f32).collect()),
        })
    }

    /// Reads the parameters of YaRN. The original context is that of the model if it is not given, as in llama.cpp.
    pub(super) fn yarn(&self) -> Result<RopeScaling> {
        let factor = self.rope_factor()?;
        let context = match self.optional_size(ORIGINAL_CONTEXT)? {
            Some(context) => context,
            None => self.optional_size("context_length")?.unwrap_or(2048),
        };
        let usual = Yarn::attention_factor(factor, 1.0);
        // The multiplier comes before the factor.
        let attention_factor = match self.number(LOG_MULTIPLIER)?.filter(|m| *m != 0.0) {
            Some(multiplier) => usual / Yarn::attention_factor(factor, multiplier),
            None => usual * self.positive(ATTENTION_FACTOR)?.unwrap_or(1.0),
        };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            attention_factor,
            fast_turns: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(Yarn::FAST_TURNS),
            slow_turns: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(Yarn::SLOW_TURNS),
            original_context: context as f64,
            rounds: true,
        }))
    }

    /// Reads the divisor of all rotary frequencies, under its present key or else under its old one.
    pub(super) fn rope_factor(&self) -> Result<f64> {
        for name in ["rope.scaling.factor", "rope.scale_linear"] {
            match self.number(name)? {
                None => {}
                Some(0.0) => return Ok(1.0),
                Some(factor) if factor > 0.0 && (factor as f32).is_finite() => return Ok(factor),
                Some(factor) => return Err(self.bad(not_positive(&self.key(name), factor))),
            }
        }
        Ok(1.0)
    }

    /// Checks that every key below `rope.` is one that is read or that changes nothing. `is_long` says that the frequencies
    /// have divisors for short and long sequences.
    pub(super) fn check_rope(&self, is_long: bool) -> Result<()> {
        let prefix = self.key("");
        let is_yarn = self.text(&self.key("rope.scaling.type"))? == Some(YARN);
        for (full, value) in &self.metadata.entries {
            let Some(name) = full.strip_prefix(&prefix).filter(|name| name.starts_with("rope.")) else {
                continue;
            };
            let mut neutral =
                NEUTRAL_ROPE.iter().find(|(each, _)| *each == name).map(|(_, neutral)| *neutral);
            // The share of YaRN: all of it where the type is YaRN, nothing elsewhere.
            if name == EXTRAPOLATION && is_yarn {
                neutral = Some(1.0);
            }
            // Factors of cosines and sines: one is read beside YaRN and long divisors, the other is not.
            let is_factor = neutral.is_some() && name != EXTRAPOLATION && (is_yarn || is_long);
            if !ROPE.contains(&name) && !is_factor && (neutral.is_none() || number_of(value) != neutral) {
                return self.refuse(format!("{full} is {value}, which is not supported"));
            }
        }
        Ok(())
    }
}
