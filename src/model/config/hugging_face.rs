//! Settings in `config.json`. Its key names occur only here.

use serde_json::{Map, Value, json};

use super::{Config, Upstream};
use crate::model::rope::RopeScaling;
use crate::{Error, Result};

/// Name of the configuration file of a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";

/// Keys of lists that are not per layer, although they may have as many entries as the model has layers.
const NOT_PER_LAYER: [&str; 5] = ["architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tags"];

impl Config {
    /// Parses and checks `config.json`.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key or the setting, if `json` is not a JSON object, a required key is
    /// missing, or a value is senseless or contradicts another; [`Error::Unsupported`], naming the setting,
    /// for another architecture, activation, rope type or quantisation, for partial rotation and for layers
    /// of several types.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let raw: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|e| Error::Format(format!("{CONFIG_NAME}: not a JSON object ({e})")))?;
        let keys = Keys(&raw);
        let architecture = keys.architecture()?;
        keys.refuse_unknown_arithmetic()?;
        let n_heads = keys.size("num_attention_heads")?;
        let hidden_size = keys.size("hidden_size")?;
        let head_dim = match keys.optional_size("head_dim")? {
            Some(head_dim) => head_dim,
            None => hidden_size / n_heads,
        };
        let (rope_theta, rope_scaling) = keys.rope()?;
        let sliding_window = match architecture.as_str() {
            "MistralForCausalLM" => keys.optional_size("sliding_window")?,
            _ => None,
        };
        let config = Self {
            n_layers: keys.size("num_hidden_layers")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            n_heads,
            n_kv_heads: keys.optional_size("num_key_value_heads")?.unwrap_or(n_heads),
            head_dim,
            vocab_size: keys.size("vocab_size")?,
            context: keys.optional_size("max_position_embeddings")?.unwrap_or(2048),
            norm_epsilon: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            tied_head: keys.flag("tie_word_embeddings")?,
            attention_bias: keys.flag("attention_bias")?,
            mlp_bias: keys.flag("mlp_bias")?,
            sliding_window,
            bos_token_id: keys.token("bos_token_id")?,
            eos_token_id: keys.token("eos_token_id")?,
            architecture,
            upstream: Upstream::HuggingFace(raw),
        };
        config.check(CONFIG_NAME)
    }

    /// Makes the `config.json` of the model that has one layer for each entry of `groups`.
    ///
    /// `groups[i]` are the original layers that became layer `i`. Every list with one entry per layer is
    /// reduced to one entry per group. `dtype` replaces the element type that the file names, if it names
    /// one. A GGUF model gets a new file.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the list, if the layers of a group have different entries, and if
    /// `config.json` cannot express the rotary divisors of a GGUF model.
    pub fn to_config_json(&self, groups: &[Vec<usize>], dtype: Option<&str>) -> Result<Vec<u8>> {
        let mut raw = match &self.upstream {
            Upstream::HuggingFace(raw) => raw.clone(),
            Upstream::Gguf(_) => self.new_object()?,
        };
        raw.insert("num_hidden_layers".into(), groups.len().into());
        for (key, value) in &mut raw {
            if let Value::Array(list) = value
                && list.len() == self.n_layers
                && !NOT_PER_LAYER.contains(&key.as_str())
            {
                *list = super::regroup(key, list, groups)?;
            }
        }
        if let Some(dtype) = dtype {
            for key in ["dtype", "torch_dtype"] {
                if let Some(value) = raw.get_mut(key) {
                    *value = dtype.into();
                }
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&raw)
            .map_err(|e| Error::Format(format!("{CONFIG_NAME}: cannot be written ({e})")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Makes the object of `config.json` from the settings.
    fn new_object(&self) -> Result<Map<String, Value>> {
        let (architecture, kind) = match self.sliding_window {
            Some(_) => ("MistralForCausalLM", "mistral"),
            None => ("LlamaForCausalLM", "llama"),
        };
        let scaling = match &self.rope_scaling {
            RopeScaling::Divisors(divisors) => {
                RopeScaling::llama3_of(divisors, self.head_dim, self.rope_theta).ok_or_else(|| {
                    Error::Unsupported(format!(
                        "the model's rotary frequencies are changed in a way that {CONFIG_NAME} cannot say; \
                         write a .gguf file instead"
                    ))
                })?
            }
            other => other.clone(),
        };
        let object = json!({
            "architectures": [architecture], "model_type": kind, "hidden_act": "silu",
            "num_hidden_layers": self.n_layers, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size, "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads, "head_dim": self.head_dim, "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context, "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta, "tie_word_embeddings": self.tied_head,
            "attention_bias": self.attention_bias, "mlp_bias": self.mlp_bias,
            "sliding_window": self.sliding_window, "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id, "rope_scaling": scaling_object(&scaling),
            "torch_dtype": "float16",
        });
        match object {
            Value::Object(object) => Ok(object.into_iter().filter(|(_, value)| !value.is_null()).collect()),
            _ => Ok(Map::new()),
        }
    }
}

fn scaling_object(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None | RopeScaling::Divisors(_) => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_frequency_factor,
                "high_freq_factor": high_frequency_factor, "original_max_position_embeddings": *original_context as u64,
            })
        }
    }
}

/// Typed look-ups in the JSON object; errors name the key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn architecture(&self) -> Result<String> {
        let name =
            self.present("architectures").and_then(|list| list.get(0)).and_then(Value::as_str).or_else(
                || match self.present("model_type").and_then(Value::as_str) {
                    Some("llama") => Some("LlamaForCausalLM"),
                    Some("mistral") => Some("MistralForCausalLM"),
                    other => other,
                },
            );
        match name {
            Some(name @ ("LlamaForCausalLM" | "MistralForCausalLM")) => Ok(name.to_owned()),
            Some(name) => Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: architecture {name} is not supported; LlamaForCausalLM and \
                 MistralForCausalLM are"
            ))),
            None => Err(Error::Format(format!("{CONFIG_NAME}: it names no architecture"))),
        }
    }

    /// Refuses every setting that transformers reads, that changes the arithmetic, and that is not
    /// implemented here.
    fn refuse_unknown_arithmetic(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Unsupported(format!("{CONFIG_NAME}: {what}")));
        if let Some(quantization) = self.present("quantization_config") {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            return refuse(format!(
                "its weights are quantised ({method}), which is not supported; use the original F32, \
                 F16 or BF16 weights"
            ));
        }
        match self.present("hidden_act").map(Value::as_str) {
            None | Some(Some("silu" | "swish")) => {}
            Some(other) => {
                return refuse(format!(
                    "hidden_act {} is not supported; silu is",
                    other.unwrap_or("of an unknown kind")
                ));
            }
        }
        if let Some(factor) = self.number("partial_rotary_factor")?
            && factor != 1.0
        {
            return refuse(format!("partial_rotary_factor {factor} is not supported; 1 is"));
        }
        if let Some(Value::Array(types)) = self.present("layer_types")
            && let Some(other) = types.iter().find(|t| Some(*t) != types.first())
        {
            return refuse(format!("layer_types mixes {} and {other}", types[0]));
        }
        Ok(())
    }

    fn rope(&self) -> Result<(f64, RopeScaling)> {
        // transformers 5 keeps theta and scaling in rope_parameters, older files in rope_theta and
        // rope_scaling.
        let object = self.present("rope_parameters").or_else(|| self.present("rope_scaling"));
        let theta = match object.and_then(|o| o.get("rope_theta")) {
            Some(theta) => theta.as_f64(),
            None => self.number("rope_theta")?.or(Some(10_000.0)),
        };
        let theta = theta
            .filter(|t| t.is_finite() && *t > 0.0)
            .ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: rope_theta is not a positive number")))?;
        let Some(object) = object else {
            return Ok((theta, RopeScaling::None));
        };
        let number =
            |key: &str| {
                object.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0).ok_or_else(
                    || Error::Format(format!("{CONFIG_NAME}: rope scaling lacks a positive {key}")),
                )
            };
        let kind = object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_frequency_factor: number("low_freq_factor")?,
                high_frequency_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            },
            other => {
                return Err(Error::Unsupported(format!(
                    "{CONFIG_NAME}: rope scaling of type {other} is not supported; default, linear \
                     and llama3 are"
                )));
            }
        };
        Ok((theta, scaling))
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: {key} is missing")))
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        self.present(key)
            .map(|value| {
                value.as_u64().and_then(super::sensible_size).ok_or_else(|| {
                    Error::Format(format!("{CONFIG_NAME}: {key} is {value}, not a sensible size"))
                })
            })
            .transpose()
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.present(key)
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: {key} is {value}, not a number")))
            })
            .transpose()
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.present(key).map_or(Ok(false), |value| {
            value
                .as_bool()
                .ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: {key} is {value}, not true or false")))
        })
    }

    fn token(&self, key: &str) -> Result<Option<u32>> {
        let first = match self.present(key) {
            Some(Value::Array(list)) => list.first(),
            other => other,
        };
        first
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| Error::Format(format!("{CONFIG_NAME}: {key} is {value}, not a token id")))
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(edit: impl FnOnce(&mut Map<String, Value>)) -> Result<Config> {
        let mut value = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 3, "hidden_size": 64,
            "intermediate_size": 172, "num_attention_heads": 8, "num_key_value_heads": 4,
            "vocab_size": 512, "bos_token_id": 1, "eos_token_id": [2, 3, 4], "rms_norm_eps": 1e-5,
            "hidden_act": "silu", "layer_types": ["a", "a", "a"], "torch_dtype": "float32"
        });
        edit(value.as_object_mut().unwrap());
        Config::parse(value.to_string().as_bytes())
    }

    #[track_caller]
    fn refused(key: &str, value: Value, expected: &str) {
        let message = config(|c| drop(c.insert(key.into(), value))).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        refused("architectures", serde_json::json!(["GPT2LMHeadModel"]), "GPT2LMHeadModel");
    }

    #[test]
    fn dynamic_rope_is_refused_by_name() {
        refused("rope_scaling", serde_json::json!({"type": "dynamic", "factor": 2.0}), "type dynamic");
        refused("rope_parameters", serde_json::json!({"rope_type": "yarn"}), "type yarn");
    }

    #[test]
    fn quantised_weights_and_other_activations_are_refused_by_name() {
        refused("quantization_config", serde_json::json!({"quant_method": "gptq"}), "gptq");
        refused("hidden_act", "gelu".into(), "gelu");
        refused("layer_types", serde_json::json!(["a", "b", "a"]), "mixes");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        refused("hidden_size", 0.into(), "hidden_size");
        refused("num_key_value_heads", 3.into(), "multiple");
        refused("head_dim", 7.into(), "even");
        refused("vocab_size", (1u64 << 40).into(), "vocab_size");
        refused("bos_token_id", 512.into(), "outside the vocabulary");
        refused("rope_theta", (-1).into(), "rope_theta");
    }

    #[test]
    fn per_layer_lists_follow_the_groups_and_token_lists_stay() {
        let written =
            config(|_| {}).unwrap().to_config_json(&[vec![0], vec![1, 2]], Some("float16")).unwrap();
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["num_hidden_layers"], 2);
        assert_eq!(value["layer_types"], serde_json::json!(["a", "a"]));
        assert_eq!(value["eos_token_id"], serde_json::json!([2, 3, 4]));
        assert_eq!(value["torch_dtype"], "float16");
    }

    #[test]
    fn per_layer_lists_that_differ_within_a_group_are_refused() {
        let config = config(|c| drop(c.insert("windows".into(), serde_json::json!([1, 2, 2])))).unwrap();
        assert!(config.to_config_json(&[vec![0], vec![1, 2]], None).is_ok());
        let message = config.to_config_json(&[vec![0, 1], vec![2]], None).unwrap_err().to_string();
        assert!(message.contains("windows"), "{message}");
    }

    #[test]
    fn sliding_window_counts_for_mistral_only() {
        let window = |architecture: &str| {
            config(|c| {
                c.insert("architectures".into(), serde_json::json!([architecture]));
                c.insert("sliding_window".into(), 16.into());
            })
            .unwrap()
            .sliding_window
        };
        assert_eq!(window("MistralForCausalLM"), Some(16));
        assert_eq!(window("LlamaForCausalLM"), None);
    }
}
