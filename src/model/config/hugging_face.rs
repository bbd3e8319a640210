//! Settings in `config.json`. Its key names occur only here.

use serde_json::{Map, Value, json};

use super::{Biases, Config, Upstream};
use crate::model::rope::RopeScaling;
use crate::{Error, Result};

/// Name of the configuration file of a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";

/// Key of the name of the file that holds the weights, or of their index.
const WEIGHTS_KEY: &str = "transformers_weights";

/// Key of the list of the kinds of the layers, of which transformers demands one entry per layer.
const LAYER_TYPES_KEY: &str = "layer_types";

/// Class of transformers: its names, and the settings that it has where `config.json` lacks the key.
#[derive(Debug, PartialEq)]
struct Class {
    /// Name of the class with an output head.
    architecture: &'static str,
    /// Name of the class without an output head.
    base: &'static str,
    /// Name by which transformers finds the class.
    model_type: &'static str,
    intermediate_size: usize,
    /// Number of key and value heads; `None` is the number of query heads.
    n_kv_heads: Option<usize>,
    context: usize,
    /// Tokens that a position attends to; `None` for a class that knows no window, whatever the key says.
    sliding_window: Option<usize>,
    /// Whether the class knows biases.
    has_biases: bool,
}

/// The supported classes, with the defaults of `configuration_llama.py` and `configuration_mistral.py` in
/// transformers 5.
const CLASSES: [Class; 2] = [
    Class {
        architecture: "LlamaForCausalLM",
        base: "LlamaModel",
        model_type: "llama",
        intermediate_size: 11_008,
        n_kv_heads: None,
        context: 2048,
        sliding_window: None,
        has_biases: true,
    },
    Class {
        architecture: "MistralForCausalLM",
        base: "MistralModel",
        model_type: "mistral",
        intermediate_size: 14_336,
        n_kv_heads: Some(8),
        context: 131_072,
        sliding_window: Some(4096),
        has_biases: false,
    },
];

/// Default of both classes for the id of the token that begins a text.
const USUAL_BOS: u32 = 1;

/// Default of both classes for the id of the token that ends a text.
const USUAL_EOS: u32 = 2;

/// What the files of a tokenizer say about the tokens around a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AroundText {
    /// Id of the token that the tokenizer puts before a text; `None` if it puts none.
    pub begins_with: Option<u32>,
    /// Id of the token that the tokenizer's settings call BOS; `None` if they say nothing, `Some(None)` if
    /// they say that there is none.
    pub bos: Option<Option<u32>>,
    /// The same for EOS.
    pub eos: Option<Option<u32>>,
}

/// Keys of lists that are not per layer, although they may have as many entries as the model has layers.
const NOT_PER_LAYER: [&str; 5] = ["architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tags"];

impl Config {
    /// Parses and checks `config.json`. Every setting has the value that transformers gives it.
    ///
    /// # Errors
    /// Those of [`parse_noting`](Config::parse_noting).
    pub fn parse(json: &[u8]) -> Result<Self> {
        Self::parse_noting(json, &mut Vec::new())
    }

    /// Parses and checks `config.json` as [`parse`](Config::parse) does, and adds to `notes`, in sentences,
    /// what in it contradicts itself and how it is read.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key or the setting, if `json` is not a JSON object, or a value is
    /// senseless or contradicts another; [`Error::Unsupported`], naming the setting, for another
    /// architecture, activation, rope type or quantisation, for partial rotation and for layers of several
    /// types.
    pub fn parse_noting(json: &[u8], notes: &mut Vec<String>) -> Result<Self> {
        let raw = object(json)?;
        let keys = Keys(&raw);
        let class = keys.class(notes)?;
        keys.refuse_unknown_arithmetic()?;
        let n_layers = keys.size_or("num_hidden_layers", 32)?;
        keys.check_layer_types(n_layers, notes)?;
        let n_heads = keys.size_or("num_attention_heads", 32)?;
        let hidden_size = keys.size_or("hidden_size", 4096)?;
        let vocab_size = keys.size_or("vocab_size", 32_000)?;
        let context = keys.size_or("max_position_embeddings", class.context)?;
        let head_dim = match keys.optional_size("head_dim")? {
            Some(head_dim) => head_dim,
            None => hidden_size / n_heads,
        };
        let (rope_theta, rope_scaling) = keys.rope(context, notes)?;
        let biases = Biases {
            attention: [class.has_biases && keys.flag("attention_bias")?; 4],
            mlp: [class.has_biases && keys.flag("mlp_bias")?; 3],
        };
        let config = Self {
            n_layers,
            hidden_size,
            intermediate_size: keys.size_or("intermediate_size", class.intermediate_size)?,
            n_heads,
            n_kv_heads: keys.size_or_null("num_key_value_heads", class.n_kv_heads)?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context,
            norm_epsilon: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            tied_head: keys.flag("tie_word_embeddings")?,
            biases,
            sliding_window: match class.sliding_window {
                Some(usual) => keys.size_or_null("sliding_window", Some(usual))?,
                None => None,
            },
            bos_token_id: keys.token("bos_token_id", USUAL_BOS, vocab_size)?,
            eos_token_id: keys.token("eos_token_id", USUAL_EOS, vocab_size)?,
            architecture: class.architecture.to_owned(),
            upstream: Upstream::HuggingFace(raw),
        };
        config.check(CONFIG_NAME)
    }

    /// Returns the name of the file that holds the weights, or of their index, if `config.json` names it.
    pub fn weights_name(&self) -> Option<&str> {
        match &self.upstream {
            Upstream::HuggingFace(raw) => raw.get(WEIGHTS_KEY).and_then(Value::as_str),
            Upstream::Gguf(_) => None,
        }
    }

    /// Decides on BOS and EOS where `config.json` does not name them, or names an id outside the vocabulary,
    /// by what the tokenizer says. BOS is the token that the tokenizer puts before a text, else the token
    /// that its settings call BOS. Where these say nothing either, the default of the class stays. A key that
    /// is null means that there is no such token. Changes nothing in a GGUF model.
    pub fn complete_special_tokens(&mut self, tokenizer: AroundText, notes: &mut Vec<String>) {
        let Upstream::HuggingFace(raw) = &self.upstream else {
            return;
        };
        let vocab_size = self.vocab_size;
        let fits = |id: &u32| (*id as usize) < vocab_size;
        let mut complete = |key: &str, mut id: Option<u32>, said: Option<Option<u32>>| {
            match raw.get(key).map(first) {
                None => id = said.unwrap_or(id).filter(fits),
                Some(given) if !given.is_null() && id.is_none() => {
                    id = said.flatten().filter(fits);
                    notes.push(format!(
                        "{CONFIG_NAME}: {key} {given} is outside the vocabulary of {vocab_size}; {}.",
                        match id {
                            Some(id) => format!("token {id} of the tokenizer is taken instead"),
                            None => "the model is read without such a token".to_owned(),
                        }
                    ));
                }
                Some(_) => {}
            }
            id
        };
        let bos = tokenizer.begins_with.map(Some).or(tokenizer.bos);
        self.bos_token_id = complete("bos_token_id", self.bos_token_id, bos);
        self.eos_token_id = complete("eos_token_id", self.eos_token_id, tokenizer.eos);
    }

    /// Makes the `config.json` of the model that has one layer for each entry of `groups`.
    ///
    /// `groups[i]` are the original layers that became layer `i`. Every list with one entry per layer is
    /// reduced to one entry per group. `dtype` replaces the element type that the file names, if it names
    /// one. What in the file contradicts the model that was read is set right. A GGUF model gets a new file.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the list, if the layers of a group have different entries, and if
    /// `config.json` cannot express the rotary divisors of a GGUF model.
    pub fn to_config_json(&self, groups: &[Vec<usize>], dtype: Option<&str>) -> Result<Vec<u8>> {
        let mut raw = match &self.upstream {
            Upstream::HuggingFace(raw) => self.consistent(raw.clone()),
            Upstream::Gguf(_) => self.new_object()?,
        };
        raw.insert("num_hidden_layers".into(), groups.len().into());
        // It names the weight files of the original.
        raw.shift_remove("transformers_weights");
        for (key, value) in &mut raw {
            if let Value::Array(list) = value
                && list.len() == self.n_layers
                && !NOT_PER_LAYER.contains(&key.as_str())
            {
                *list = super::regroup(key, list, groups)?;
            }
        }
        // A list that was not of the original's length, all of whose entries are equal (see `Config::parse`).
        if let Some(Value::Array(types)) = raw.get_mut("layer_types")
            && let Some(first) = types.first().cloned()
        {
            types.resize(groups.len(), first);
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
        Ok(if bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()) {
            unmarked(&String::from_utf8_lossy(&bytes)).into_bytes()
        } else {
            bytes
        })
    }

    /// Returns the object of `config.json` without what contradicts the settings: the class that another key
    /// overrules, the name of weight files that will have another name, a tied head that is not tied, and a
    /// list of layer types of another length than the model.
    fn consistent(&self, mut raw: Map<String, Value>) -> Map<String, Value> {
        raw.remove(WEIGHTS_KEY);
        if let Some(class) = CLASSES.iter().find(|class| class.architecture == self.architecture) {
            let named = raw.get("architectures").map(|list| list == &json!([class.architecture]));
            if named == Some(false) {
                raw.insert("architectures".into(), json!([class.architecture]));
            }
            if !raw.get("model_type").is_some_and(Value::is_string) {
                raw.insert("model_type".into(), class.model_type.into());
            }
        }
        if !self.tied_head && raw.get("tie_word_embeddings") == Some(&Value::Bool(true)) {
            raw.insert("tie_word_embeddings".into(), false.into());
        }
        if let Some(Value::Array(types)) = raw.get_mut(LAYER_TYPES_KEY)
            && let Some(first) = types.first().cloned()
        {
            types.resize(self.n_layers, first);
        }
        raw
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
            "attention_bias": self.biases.attention.contains(&true),
            "mlp_bias": self.biases.mlp.contains(&true),
            "sliding_window": self.sliding_window, "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id, "rope_scaling": scaling_object(&scaling),
            "torch_dtype": "float16",
        });
        match object {
            // A token id that is not there would be taken for the class's own; null says that there is no such token.
            Value::Object(object) => {
                let said = |(key, value): &(String, Value)| !value.is_null() || key.ends_with("_token_id");
                Ok(object.into_iter().filter(said).collect())
            }
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

/// Numbers that Python writes into JSON although JSON has no word for them.
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Beginning of the strings that stand for [`NOT_FINITE`] numbers in a parsed object, as JSON spells it.
const MARK: &str = "\"\\u0001";

/// Parses a JSON object, in which numbers that are not finite become strings (see [`MARK`]). No key that is
/// used may have such a value: it is neither a number nor absent.
fn object(json: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(json)
        .or_else(|error| serde_json::from_slice(&marked(json)).map_err(|_| error))
        .map_err(|e| Error::Format(format!("{CONFIG_NAME}: not a JSON object ({e})")))
}

/// Puts strings in the place of the numbers that are not finite.
fn marked(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut rest) = (false, json);
    while let Some((byte, after)) = rest.split_first() {
        let word = NOT_FINITE.iter().find(|word| !in_string && rest.starts_with(word.as_bytes()));
        if let Some(word) = word {
            out.extend_from_slice(format!("{MARK}{word}\"").as_bytes());
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        out.push(*byte);
        rest = after;
        if in_string && *byte == b'\\' {
            // What follows a backslash does not end the string.
            out.extend(rest.first());
            rest = rest.get(1..).unwrap_or_default();
        } else if *byte == b'"' {
            in_string = !in_string;
        }
    }
    out
}

/// Puts the numbers that are not finite back into the place of the strings that stand for them.
fn unmarked(json: &str) -> String {
    NOT_FINITE.iter().fold(json.to_owned(), |text, word| text.replace(&format!("{MARK}{word}\""), word))
}

/// Formats a value for a message.
fn shown(value: &Value) -> String {
    unmarked(&value.to_string())
}

/// Returns the first item of a list that is not empty, and any other value itself: a key names one token or
/// several.
fn first(value: &Value) -> &Value {
    match value {
        Value::Array(list) => list.first().unwrap_or(&Value::Null),
        other => other,
    }
}

/// Typed look-ups in the JSON object; errors name the key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    /// Returns the class of the model, which transformers finds by `model_type`. `architectures` decides only
    /// where there is no `model_type`.
    fn class(&self, notes: &mut Vec<String>) -> Result<&'static Class> {
        let text = |value: Option<&Value>| value.map(first).and_then(Value::as_str).map(str::to_owned);
        let name = text(self.present("architectures"));
        let kind = text(self.present("model_type"));
        let by_kind = kind.as_ref().map(|kind| CLASSES.iter().find(|class| class.model_type == kind));
        // The capitals of the name have changed over time.
        let fits = |class: &&Class, name: &str| {
            [class.architecture, class.base].iter().any(|each| each.eq_ignore_ascii_case(name))
        };
        let by_name = name.as_ref().map(|name| CLASSES.iter().find(|class| fits(class, name)));
        let refuse = |what: String| {
            Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: {what} is not supported; LlamaForCausalLM and MistralForCausalLM are"
            )))
        };
        let (name, kind) = (name.unwrap_or_default(), kind.unwrap_or_default());
        match (by_kind, by_name) {
            (_, Some(None)) => refuse(format!("architecture {name}")),
            (Some(None), None) => refuse(format!("model_type {kind}")),
            (Some(None), Some(_)) => refuse(format!("model_type {kind}, by which transformers goes,")),
            (Some(Some(by_kind)), Some(Some(by_name))) if by_kind != by_name => {
                notes.push(format!(
                    "{CONFIG_NAME}: model_type is {kind}, but architectures names {name}; the model is read as \
                     {}, because transformers goes by model_type.",
                    by_kind.architecture
                ));
                Ok(by_kind)
            }
            (Some(Some(class)), _) | (None, Some(Some(class))) => Ok(class),
            (None, None) => Err(Error::Format(format!("{CONFIG_NAME}: it names no architecture"))),
        }
    }

    /// Notes a list of layer types of another length than the model.
    fn check_layer_types(&self, n_layers: usize, notes: &mut Vec<String>) -> Result<()> {
        match self.present(LAYER_TYPES_KEY) {
            Some(Value::Array(types)) if types.len() != n_layers => notes.push(format!(
                "{CONFIG_NAME}: {LAYER_TYPES_KEY} has {} entries for {n_layers} layers, which transformers \
                 refuses; a model that is written has one entry per layer.",
                types.len()
            )),
            Some(Value::Array(_)) | None => {}
            Some(other) => {
                return Err(Error::Format(format!(
                    "{CONFIG_NAME}: {LAYER_TYPES_KEY} is {}, not a list",
                    shown(other)
                )));
            }
        }
        Ok(())
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

    /// Reads base and scaling of the rotary frequencies in the order of transformers 5
    /// (`convert_rope_params_to_dict`): `rope_scaling`, which older files have and users add, then
    /// `rope_parameters`. A base outside of the object that is taken is `rope_theta`. The original context
    /// of llama3 is `context` if it is not given.
    fn rope(&self, context: usize, notes: &mut Vec<String>) -> Result<(f64, RopeScaling)> {
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
            (None, parameters) => ("rope_parameters", parameters),
        };
        let object = match value.map(|value| (value.as_object(), value)) {
            None => None,
            Some((Some(object), _)) => Some(object),
            Some((None, value)) => {
                return Err(Error::Format(format!(
                    "{CONFIG_NAME}: {key} is {}, not an object",
                    shown(value)
                )));
            }
        };
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
        let unsupported = |what: String| Error::Unsupported(format!("{CONFIG_NAME}: {key}: {what}"));
        if let Some((name, _)) = object.iter().find(|(_, value)| value.is_object()) {
            return Err(unsupported(format!("rope of its own for {name} is not supported")));
        }
        if let Some(factor) = object.get("partial_rotary_factor").filter(|f| f.as_f64() != Some(1.0)) {
            return Err(unsupported(format!(
                "partial_rotary_factor {} is not supported; 1 is",
                shown(factor)
            )));
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
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_frequency_factor: number("low_freq_factor")?,
                high_frequency_factor: number("high_freq_factor")?,
                original_context: self.original_context(object, context)?,
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

    /// Reads the context that llama3 rope was made for: `original_max_position_embeddings` of the rope object,
    /// or `context`. Versions of transformers differ in whether the same key outside of the object counts.
    fn original_context(&self, object: &Map<String, Value>, context: usize) -> Result<f64> {
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

    fn size_or(&self, key: &str, usual: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(usual))
    }

    /// Reads a size that may be null, which is not the same as an absent key: that means `usual`.
    fn size_or_null(&self, key: &str, usual: Option<usize>) -> Result<Option<usize>> {
        if self.0.contains_key(key) { self.optional_size(key) } else { Ok(usual) }
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        self.present(key)
            .map(|value| {
                value.as_u64().and_then(super::sensible_size).ok_or_else(|| {
                    Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a sensible size", shown(value)))
                })
            })
            .transpose()
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.present(key)
            .map(|value| {
                value.as_f64().ok_or_else(|| {
                    Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a number", shown(value)))
                })
            })
            .transpose()
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.present(key).map_or(Ok(false), |value| {
            value.as_bool().ok_or_else(|| {
                Error::Format(format!("{CONFIG_NAME}: {key} is {}, not true or false", shown(value)))
            })
        })
    }

    /// Reads the id of a special token: `usual` if the key is absent, `None` if it is null or the id is outside
    /// the vocabulary. The first of several ids counts.
    fn token(&self, key: &str, usual: u32, vocab_size: usize) -> Result<Option<u32>> {
        let fits = |id: &u32| (*id as usize) < vocab_size;
        match self.0.get(key).map(first) {
            None => Ok(Some(usual).filter(fits)),
            Some(Value::Null) => Ok(None),
            Some(id) if id.is_i64() || id.is_u64() => {
                Ok(id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(fits))
            }
            Some(other) => {
                Err(Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a token id", shown(other))))
            }
        }
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
        refused("bos_token_id", "one".into(), "not a token id");
        refused("rope_theta", (-1).into(), "rope_theta");
    }

    #[test]
    fn special_tokens_have_the_defaults_of_the_class_and_null_means_none() {
        let of = |value: Option<Value>| {
            let edited = config(|c| match value {
                Some(value) => drop(c.insert("bos_token_id".into(), value)),
                None => drop(c.remove("bos_token_id")),
            });
            edited.unwrap().bos_token_id
        };
        assert_eq!(of(None), Some(1));
        assert_eq!(of(Some(Value::Null)), None);
        assert_eq!(of(Some(7.into())), Some(7));
        assert_eq!([of(Some(512.into())), of(Some((-1).into()))], [None, None]);
    }

    #[test]
    fn the_base_of_rope_scaling_is_its_own_or_the_top_level_one() {
        let rope = |edits: Value| {
            let edited = config(|c| c.extend(edits.as_object().unwrap().clone())).unwrap();
            (edited.rope_theta, edited.rope_scaling)
        };
        let linear = RopeScaling::Linear { factor: 2.0 };
        let parameters = json!({"rope_type": "default", "rope_theta": 5e5});
        let scaling = json!({"type": "linear", "factor": 2.0});
        let both = json!({"rope_scaling": scaling, "rope_parameters": parameters});
        assert_eq!(rope(both.clone()), (1e4, linear.clone()));
        let mut with_theta = both;
        with_theta["rope_theta"] = 7e4.into();
        assert_eq!(rope(with_theta), (7e4, linear.clone()));
        assert_eq!(rope(json!({"rope_parameters": parameters, "rope_theta": 7e4})), (5e5, RopeScaling::None));
        let own = json!({"type": "linear", "factor": 2.0, "rope_theta": 3e4});
        assert_eq!(rope(json!({"rope_scaling": own, "rope_theta": 7e4})), (3e4, linear));
    }

    #[test]
    fn the_original_context_of_llama3_is_the_context_where_it_is_not_given() {
        let llama3 =
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        let edited = config(|c| {
            c.insert("rope_parameters".into(), llama3.clone());
            c.insert("max_position_embeddings".into(), 256.into());
        });
        let RopeScaling::Llama3 { original_context, .. } = edited.unwrap().rope_scaling else { panic!() };
        assert_eq!(original_context, 256.0);
        let both = config(|c| {
            c.insert("rope_parameters".into(), llama3);
            c.insert("original_max_position_embeddings".into(), 64.into());
        });
        assert!(both.unwrap_err().to_string().contains("original_max_position_embeddings is 64"));
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
    fn keys_that_would_be_stale_are_put_right() {
        let stale = config(|c| {
            c.insert("layer_types".into(), serde_json::json!(["a", "a", "a", "a", "a", "a", "a"]));
            c.insert("transformers_weights".into(), "weights.safetensors".into());
        });
        let written = stale.unwrap().to_config_json(&[vec![0], vec![1, 2]], None).unwrap();
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["layer_types"], serde_json::json!(["a", "a"]));
        assert_eq!(value.get("transformers_weights"), None);
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
