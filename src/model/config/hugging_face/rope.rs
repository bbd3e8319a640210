//! How queries and keys are rotated, in `config.json`.

use serde_json::{Map, Value};

use super::json::shown;
use super::{CONFIG_NAME, FULL, Keys, LOCAL_BASE_KEY, ROPE_KEY, WINDOWED};
use crate::model::architectures::{Architecture, Rotation};
use crate::model::config::QueryGrowth;
use crate::model::rope::{LongRope, Rope, RopeScaling, Yarn};
use crate::{Error, Result};

/// Key of the share of each head, or of the frequencies, that is rotated.
pub(super) const SHARE_KEY: &str = "partial_rotary_factor";

impl Keys<'_> {
    /// Reads the rotations of layers without a window and with one (one rotation if they are alike), the share of each
    /// head that is rotated, and the growth of queries.
    pub(super) fn ropes(
        &self,
        architecture: &Architecture,
        context: usize,
        head_dim: usize,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Rope>, f64, Option<QueryGrowth>)> {
        let (key, object) = self.rope_object(notes)?;
        let of_kind = |kind: &str| object.and_then(|object| object.get(kind)).and_then(Value::as_object);
        let is_local = matches!(
            architecture.rotation,
            Rotation::LocalBase(_) | Rotation::LocalUnscaled | Rotation::ByKind { .. }
        );
        let lacks_kind = object.is_some() && [FULL, WINDOWED].into_iter().any(|kind| of_kind(kind).is_none());
        if let (Rotation::ByKind { .. }, true) = (architecture.rotation, lacks_kind) {
            return Err(Error::Format(format!(
                "{CONFIG_NAME}: {key} has no object for each of {FULL} and {WINDOWED}"
            )));
        }
        let by_kind = is_local && of_kind(FULL).is_some();
        let full = if by_kind { of_kind(FULL) } else { object };
        let theta = |object: Option<&Map<String, Value>>, usual: f64| match object
            .and_then(|o| o.get("rope_theta"))
        {
            Some(theta) => theta
                .as_f64()
                .filter(|t| t.is_finite() && *t > 0.0)
                .ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: rope_theta is not a positive number"))),
            None => Ok(usual),
        };
        let positive = |key: &str, usual: f64| match self.number(key)? {
            None => Ok(usual),
            Some(number) if number.is_finite() && number > 0.0 => Ok(number),
            Some(_) => Err(Error::Format(format!("{CONFIG_NAME}: {key} is not a positive number"))),
        };
        let usual = positive("rope_theta", architecture.usual.rope_theta)?;
        let (theta_of_full, mut scaling) =
            (theta(full, usual)?, self.rope_scaling(architecture, key, full, context, notes)?);
        let mut base = theta_of_full;
        if let (true, Some(alpha)) = (architecture.alpha_stretches, alpha(full)) {
            base *= alpha.powf(head_dim as f64 / (head_dim as f64 - 2.0));
            scaling = RopeScaling::None;
        }
        if let (Rotation::ByKind { share, .. }, None) = (architecture.rotation, object) {
            scaling = RopeScaling::Proportional { share };
        }
        let mut ropes = vec![Rope { theta: base, scaling }];
        let local = match architecture.rotation {
            Rotation::LocalBase(usual) => Some(positive(LOCAL_BASE_KEY, usual)?),
            Rotation::ByKind { base, .. } => Some(base),
            Rotation::LocalUnscaled => Some(theta_of_full),
            _ => None,
        };
        if let Some(usual) = local {
            let object = if by_kind { of_kind(WINDOWED) } else { None };
            let scaling = self.rope_scaling(architecture, key, object, context, notes)?;
            ropes.push(Rope { theta: theta(object, usual)?, scaling });
            ropes.dedup();
        }
        Ok((ropes, self.rotated_share(architecture, full)?, self.query_growth(full)?))
    }

    /// Reads the share of each head that is rotated.
    pub(super) fn rotated_share(
        &self,
        architecture: &Architecture,
        object: Option<&Map<String, Value>>,
    ) -> Result<f64> {
        let key = SHARE_KEY;
        // Proportional frequencies have their own share.
        if let Rotation::ByKind { .. } = architecture.rotation {
            return Ok(1.0);
        }
        let given = object.and_then(|object| object.get(key)).or(self.present(key)).filter(|v| !v.is_null());
        let share = match given {
            None => return Ok(architecture.usual.rotated_share.unwrap_or(1.0)),
            Some(value) => value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| {
                Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a share of a head", shown(value)))
            })?,
        };
        match architecture.usual.rotated_share {
            None if share != 1.0 => {
                Err(Error::Unsupported(format!("{CONFIG_NAME}: {key} {share} is not supported; 1 is")))
            }
            _ => Ok(share),
        }
    }

    /// Reads the growth of queries with their positions (`get_llama_4_attn_scale` of transformers).
    pub(super) fn query_growth(&self, object: Option<&Map<String, Value>>) -> Result<Option<QueryGrowth>> {
        let number = |key: &str| object.and_then(|object| object.get(key)).and_then(Value::as_f64);
        match number("llama_4_scaling_beta") {
            None | Some(0.0) => Ok(None),
            Some(beta) => match number("original_max_position_embeddings").filter(|context| *context > 0.0) {
                Some(context) => Ok(Some(QueryGrowth { beta, context })),
                None => Err(Error::Format(format!(
                    "{CONFIG_NAME}: llama_4_scaling_beta is {beta}, but no original_max_position_embeddings says \
                     where queries begin to grow"
                ))),
            },
        }
    }

    /// Returns whether there is an object `rope_parameters`, even an empty one: Python takes it for the default rope.
    fn has_rope_parameters(&self) -> bool {
        self.present("rope_parameters").is_some()
    }

    /// Finds the object that says how queries and keys are rotated, in the order of transformers 5
    /// (`convert_rope_params_to_dict`): `rope_scaling`, which older files have and users add, then `rope_parameters`.
    pub(super) fn rope_object(
        &self,
        notes: &mut Vec<String>,
    ) -> Result<(&'static str, Option<&Map<String, Value>>)> {
        // Python takes an empty object for none.
        let given = |key: &str| self.present(key).filter(|v| v.as_object().is_none_or(|o| !o.is_empty()));
        let (key, value) = match (given("rope_scaling"), given("rope_parameters")) {
            (Some(scaling), other) => {
                if other.is_some_and(|other| other != scaling) {
                    notes.push(format!(
                        "{CONFIG_NAME}: rope_scaling counts and rope_parameters does not, as in transformers."
                    ));
                }
                ("rope_scaling", Some(scaling))
            }
            (None, parameters) => (ROPE_KEY, parameters),
        };
        match value.map(|value| (value.as_object(), value)) {
            None => Ok((key, None)),
            Some((Some(object), _)) => Ok((key, Some(object))),
            Some((None, value)) => {
                Err(Error::Format(format!("{CONFIG_NAME}: {key} is {}, not an object", shown(value))))
            }
        }
    }

    /// Reads the change of the rotary frequencies from `object`, the value of `key` or a part of it, or takes that
    /// which the architecture has where nothing says one. The original context of llama3 is `context` if it is not
    /// given.
    pub(super) fn rope_scaling(
        &self,
        architecture: &Architecture,
        key: &str,
        object: Option<&Map<String, Value>>,
        context: usize,
        notes: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        let Some(object) = object else {
            let usual = architecture.usual.yarn.filter(|_| !self.has_rope_parameters());
            return Ok(usual.map_or(RopeScaling::None, RopeScaling::Yarn));
        };
        let unsupported = |what: String| Error::Unsupported(format!("{CONFIG_NAME}: {key}: {what}"));
        if let Some((name, _)) = object.iter().find(|(_, value)| value.is_object()) {
            return Err(unsupported(format!("rope of its own for {name} is not supported")));
        }
        let number =
            |key: &str| {
                object.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0).ok_or_else(
                    || Error::Format(format!("{CONFIG_NAME}: rope scaling lacks a positive {key}")),
                )
            };
        let kind = match object.get("rope_type").or_else(|| object.get("type")) {
            None => None,
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(other) => return Err(unsupported(format!("type {} is not supported", shown(other)))),
        };
        Ok(match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "proportional" if matches!(architecture.rotation, Rotation::ByKind { .. }) => {
                if object.contains_key("factor") && number("factor")? != 1.0 {
                    return Err(unsupported(
                        "a factor of proportional frequencies is not supported".to_owned(),
                    ));
                }
                let share = if object.contains_key(SHARE_KEY) { number(SHARE_KEY)? } else { 1.0 };
                if share > 1.0 {
                    return Err(unsupported(format!("{SHARE_KEY} is {share}, not a share of a head")));
                }
                RopeScaling::Proportional { share }
            }
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_frequency_factor: number("low_freq_factor")?,
                high_frequency_factor: number("high_freq_factor")?,
                original_context: self.original_context(object, context)?,
            },
            "yarn" => RopeScaling::Yarn(self.yarn(object, context, number("factor")?)?),
            "longrope" | "su" => RopeScaling::Long(self.long_rope(object, context)?),
            // Up to the context nothing changes, and no sequence is longer.
            "dynamic" if architecture.alpha_stretches || !object.contains_key("alpha") => {
                // What stretches the base from the first token on is not this scaling.
                if alpha(Some(object)).is_some() {
                    return Ok(RopeScaling::None);
                }
                notes.push(format!(
                    "{CONFIG_NAME}: rope scaling of type dynamic begins beyond the context of {context} tokens, and \
                     changes nothing here; a GGUF file cannot say it."
                ));
                RopeScaling::None
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "{CONFIG_NAME}: rope scaling of type {other} is not supported; default, linear, dynamic, llama3, \
                     yarn and longrope are"
                )));
            }
        })
    }

    /// Reads the parameters of LongRoPE from `object` (`_compute_longrope_parameters` of transformers).
    pub(super) fn long_rope(&self, object: &Map<String, Value>, context: usize) -> Result<LongRope> {
        let bad =
            |key: &str, what: &str| Error::Format(format!("{CONFIG_NAME}: {key} of the rope scaling {what}"));
        let divisors = |key: &str| {
            let list = object.get(key).and_then(Value::as_array).ok_or_else(|| bad(key, "is not a list"))?;
            let number = |value: &Value| {
                let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
                number.map(|x| x as f32).ok_or_else(|| bad(key, "has an entry that is not a positive number"))
            };
            list.iter().map(number).collect::<Result<Vec<f32>>>()
        };
        let original_context = match object.get("original_max_position_embeddings").and_then(Value::as_f64) {
            Some(inside) => inside,
            None => self.number("original_max_position_embeddings")?.unwrap_or(context as f64),
        };
        if !(original_context.is_finite() && original_context > 1.0) {
            return Err(bad("original_max_position_embeddings", "is not a number of tokens"));
        }
        let attention_factor = match object.get("attention_factor").filter(|value| !value.is_null()) {
            None => LongRope::attention_factor(context as f64, original_context),
            Some(value) => value
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| bad("attention_factor", "is not a positive number"))?,
        };
        let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
        Ok(LongRope { short, long, original_context, attention_factor })
    }

    /// Reads the parameters of YaRN from `object` (`_compute_yarn_parameters` of transformers).
    pub(super) fn yarn(&self, object: &Map<String, Value>, context: usize, factor: f64) -> Result<Yarn> {
        // Python takes 0 for none.
        let number = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|x| x.is_finite() && *x >= 0.0) {
                Some(x) => Ok(Some(x).filter(|x| *x > 0.0)),
                None => Err(Error::Format(format!(
                    "{CONFIG_NAME}: {key} of the rope scaling is {}, not a positive number",
                    shown(value)
                ))),
            },
        };
        let attention_factor =
            match (number("attention_factor")?, number("mscale")?, number("mscale_all_dim")?) {
                (Some(given), ..) => given,
                (None, Some(m), Some(all)) => {
                    Yarn::attention_factor(factor, m) / Yarn::attention_factor(factor, all)
                }
                _ => Yarn::attention_factor(factor, 1.0),
            };
        let rounds = match object.get("truncate") {
            None => true,
            Some(Value::Bool(rounds)) => *rounds,
            Some(other) => {
                return Err(Error::Format(format!(
                    "{CONFIG_NAME}: truncate of the rope scaling is {}, not true or false",
                    shown(other)
                )));
            }
        };
        Ok(Yarn {
            factor,
            attention_factor,
            fast_turns: number("beta_fast")?.unwrap_or(Yarn::FAST_TURNS),
            slow_turns: number("beta_slow")?.unwrap_or(Yarn::SLOW_TURNS),
            original_context: self.original_context(object, context)?,
            rounds,
        })
    }

    /// Reads the context that llama3 rope or YaRN was made for: `original_max_position_embeddings` of the rope object,
    /// or `context`. Versions of transformers differ in whether the same key outside of the object counts.
    pub(super) fn original_context(&self, object: &Map<String, Value>, context: usize) -> Result<f64> {
        let key = "original_max_position_embeddings";
        let bad = |value: &Value| {
            Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a positive number", shown(value)))
        };
        let positive = |value: &Value| value.as_f64().filter(|x| *x > 0.0).ok_or_else(|| bad(value));
        let inside = object.get(key).map(positive).transpose()?.unwrap_or(context as f64);
        match self.present(key).map(positive).transpose()? {
            Some(outside) if outside != inside => Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: {key} is {outside} beside a rope scaling with {inside}; make them equal"
            ))),
            _ => Ok(inside),
        }
    }
}

/// Returns the factor that stretches the base of the rotary frequencies from the first token on.
pub(super) fn alpha(object: Option<&Map<String, Value>>) -> Option<f64> {
    object?.get("alpha")?.as_f64().filter(|alpha| alpha.is_finite() && *alpha > 0.0)
}
