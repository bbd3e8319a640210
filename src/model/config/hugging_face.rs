//! Settings in `config.json`. Its key names occur only here.

use serde_json::{Map, Value, json};

use super::{Biases, Config, Scales, Upstream};
use crate::model::architectures::{self, Architecture, Presence, Unrotated, Window};
use crate::model::rope::{RopeScaling, Yarn};
use crate::{Error, Result};

/// Name of the configuration file of a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";

/// Key of the name of the file that holds the weights, or of their index.
const WEIGHTS_KEY: &str = "transformers_weights";

/// Key of the list of the kinds of the layers, of which transformers demands one entry per layer.
const LAYER_TYPES_KEY: &str = "layer_types";

/// Key of the list that says which layers are rotated, by 1, and which are not, by 0.
const ROTATED_KEY: &str = "no_rope_layers";

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
        let architecture = keys.architecture(notes)?;
        let usual = &architecture.usual;
        keys.refuse_unknown_arithmetic()?;
        let n_layers = keys.size_or("num_hidden_layers", usual.n_layers)?;
        keys.check_layer_types(n_layers, notes)?;
        let n_heads = keys.size_or("num_attention_heads", usual.n_heads)?;
        let hidden_size = keys.size_or("hidden_size", usual.hidden_size)?;
        let vocab_size = keys.size_or("vocab_size", usual.vocab_size)?;
        let context = keys.size_or("max_position_embeddings", usual.context)?;
        let head_dim = match keys.size_or_null("head_dim", usual.head_dim)? {
            Some(head_dim) => head_dim,
            None => hidden_size / n_heads,
        };
        let (rope_theta, rope_scaling) = keys.rope(context, usual.rope_theta, notes)?;
        let input = keys.presence(architecture.input_biases)?;
        let biases = Biases {
            attention: [input, input, input, keys.presence(architecture.output_bias)?],
            mlp: [keys.presence(architecture.mlp_biases)?; 3],
        };
        let config = Self {
            n_layers,
            hidden_size,
            intermediate_size: keys.size_or("intermediate_size", usual.intermediate_size)?,
            n_heads,
            n_kv_heads: keys.size_or_null("num_key_value_heads", usual.n_kv_heads)?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context,
            norm_epsilon: keys.number("rms_norm_eps")?.unwrap_or(usual.norm_epsilon),
            rope_theta,
            rope_scaling,
            tied_head: keys.flag_or("tie_word_embeddings", usual.tied_head)?,
            biases,
            rotated: keys.rotated(architecture.unrotated, n_layers)?,
            scales: if architecture.has_scales { keys.scales()? } else { Scales::default() },
            sliding_window: match architecture.window {
                Window::Key(usual) => keys.size_or_null("sliding_window", Some(usual))?,
                Window::Never => None,
                Window::Off => keys.no_window()?,
            },
            bos_token_id: keys.token("bos_token_id", usual.bos, vocab_size)?,
            eos_token_id: keys.token("eos_token_id", usual.eos, vocab_size)?,
            architecture,
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
        for (key, value) in &mut raw {
            if let Value::Array(list) = value
                && list.len() == self.n_layers
                && !NOT_PER_LAYER.contains(&key.as_str())
            {
                *list = super::regroup(key, list, groups)?;
            }
        }
        if self.architecture.unrotated != Unrotated::None {
            let rotated: Vec<u8> = self.rotated.iter().map(|rotated| u8::from(*rotated)).collect();
            raw.insert(ROTATED_KEY.into(), super::regroup(ROTATED_KEY, &rotated, groups)?.into());
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
        raw.shift_remove(WEIGHTS_KEY);
        let Architecture { class, model_type, .. } = self.architecture;
        if raw.get("architectures").is_some_and(|list| list != &json!([class])) {
            raw.insert("architectures".into(), json!([class]));
        }
        if !raw.get("model_type").is_some_and(Value::is_string) {
            raw.insert("model_type".into(), (*model_type).into());
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
        let architecture = self.hugging_face_architecture();
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
            "architectures": [architecture.class], "model_type": architecture.model_type, "hidden_act": "silu",
            "num_hidden_layers": self.n_layers, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size, "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads, "head_dim": self.head_dim, "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context, "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta, "tie_word_embeddings": self.tied_head,
            "sliding_window": self.sliding_window, "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id, "pad_token_id": Value::Null, "rope_scaling": scaling_object(&scaling),
            "torch_dtype": "float16",
        });
        match object {
            Value::Object(mut object) => {
                self.say_architecture(architecture, &mut object);
                // A token id that is not there would be taken for the class's own; null says that there is no such
                // token.
                let said = |(key, value): &(String, Value)| !value.is_null() || key.ends_with("_token_id");
                Ok(object.into_iter().filter(said).collect())
            }
            _ => Ok(Map::new()),
        }
    }
}

impl Config {
    /// Returns the architecture of the class that computes a GGUF model in transformers: of several architectures of
    /// one name in GGUF files, the one that knows a window if the model has one.
    fn hugging_face_architecture(&self) -> &'static Architecture {
        let has_window =
            |a: &&Architecture| matches!(a.window, Window::Key(_)) == self.sliding_window.is_some();
        let mut alike = architectures::ALL.into_iter().filter(|a| a.gguf == self.architecture.gguf);
        alike.find(has_window).unwrap_or(self.architecture)
    }

    /// Adds the keys to `object` that only some architectures have.
    fn say_architecture(&self, architecture: &Architecture, object: &mut Map<String, Value>) {
        let [query, key, value, output] = self.biases.attention;
        for (presence, is_there) in [
            (architecture.output_bias, output),
            (architecture.input_biases, query || key || value),
            (architecture.mlp_biases, self.biases.mlp.contains(&true)),
        ] {
            if let Presence::Key(key, _) = presence {
                let before = object.get(key) == Some(&Value::Bool(true));
                object.insert(key.into(), (before || is_there).into());
            }
        }
        if architecture.has_scales {
            let Scales { embedding, residual, logits, .. } = self.scales;
            for (key, scale) in [
                ("embedding_multiplier", embedding),
                ("attention_multiplier", self.score_scale()),
                ("residual_multiplier", residual),
                ("logits_scaling", 1.0 / logits),
            ] {
                object.insert(key.into(), scale.into());
            }
        }
    }
}

fn scaling_object(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None | RopeScaling::Divisors(_) => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Yarn(yarn) => json!({
            "rope_type": "yarn", "factor": yarn.factor, "attention_factor": yarn.attention_factor,
            "beta_fast": yarn.fast_turns, "beta_slow": yarn.slow_turns, "truncate": yarn.rounds,
            "original_max_position_embeddings": yarn.original_context as u64,
        }),
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

    /// Returns the architecture of the model, which transformers finds by `model_type`. `architectures` decides only
    /// where there is no `model_type`.
    fn architecture(&self, notes: &mut Vec<String>) -> Result<&'static Architecture> {
        let text = |value: Option<&Value>| value.map(first).and_then(Value::as_str).map(str::to_owned);
        let name = text(self.present("architectures"));
        let kind = text(self.present("model_type"));
        let by_kind = kind.as_ref().map(|kind| architectures::by_model_type(kind));
        let by_name = name.as_ref().map(|name| architectures::by_class(name));
        let refuse = |what: String| {
            let supported = architectures::listed(|architecture| architecture.class);
            Err(Error::Unsupported(format!("{CONFIG_NAME}: {what} is not supported; {supported} are")))
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
                    by_kind.class
                ));
                Ok(by_kind)
            }
            (Some(Some(found)), _) | (None, Some(Some(found))) => Ok(found),
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
    /// `rope_parameters`. A base outside of the object that is taken is `rope_theta`, or else `usual`. The original context
    /// of llama3 is `context` if it is not given.
    fn rope(&self, context: usize, usual: f64, notes: &mut Vec<String>) -> Result<(f64, RopeScaling)> {
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
            None => self.number("rope_theta")?.or(Some(usual)),
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
            "yarn" => RopeScaling::Yarn(self.yarn(object, context, number("factor")?)?),
            // Up to the context nothing changes, and no sequence is longer.
            "dynamic" if !object.contains_key("alpha") => {
                notes.push(format!(
                    "{CONFIG_NAME}: rope scaling of type dynamic begins beyond the context of {context} tokens, and \
                     changes nothing here; a GGUF file cannot say it."
                ));
                RopeScaling::None
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "{CONFIG_NAME}: rope scaling of type {other} is not supported; default, linear, dynamic, llama3 \
                     and yarn are"
                )));
            }
        };
        Ok((theta, scaling))
    }

    /// Reads the parameters of YaRN from `object` (`_compute_yarn_parameters` of transformers).
    fn yarn(&self, object: &Map<String, Value>, context: usize, factor: f64) -> Result<Yarn> {
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

    /// Reads whether layers have a part.
    fn presence(&self, presence: Presence) -> Result<bool> {
        match presence {
            Presence::Never => Ok(false),
            Presence::Always => Ok(true),
            Presence::Key(key, usual) => self.flag_or(key, usual),
        }
    }

    /// Reads which layers rotate their queries and keys. An empty list counts as none, as in Python.
    fn rotated(&self, rule: Unrotated, n_layers: usize) -> Result<Vec<bool>> {
        let Unrotated::Every(usual) = rule else { return Ok(vec![true; n_layers]) };
        let bad = |what: String| Error::Format(format!("{CONFIG_NAME}: {ROTATED_KEY} {what}"));
        match self.present(ROTATED_KEY) {
            Some(Value::Array(list)) if list.len() == n_layers => list
                .iter()
                .map(|entry| match entry {
                    Value::Bool(rotated) => Ok(*rotated),
                    Value::Number(number) if number.as_f64().is_some_and(|n| n == 0.0 || n == 1.0) => {
                        Ok(number.as_f64() == Some(1.0))
                    }
                    other => Err(bad(format!("has {}, which is neither 0 nor 1", shown(other)))),
                })
                .collect(),
            Some(Value::Array(list)) => Err(bad(format!("has {} entries for {n_layers} layers", list.len()))),
            Some(other) => Err(bad(format!("is {}, not a list", shown(other)))),
            None => Ok(architectures::every(n_layers, self.size_or("no_rope_layer_interval", usual)?)),
        }
    }

    /// Reads the constants that activations are multiplied by.
    fn scales(&self) -> Result<Scales> {
        let number = |key: &str| Ok::<_, Error>(self.number(key)?.unwrap_or(1.0));
        Ok(Scales {
            embedding: number("embedding_multiplier")?,
            scores: Some(number("attention_multiplier")?),
            residual: number("residual_multiplier")?,
            logits: 1.0 / number("logits_scaling")?,
        })
    }

    /// Refuses a window that is switched on.
    fn no_window(&self) -> Result<Option<usize>> {
        match self.flag_or("use_sliding_window", false)? {
            false => Ok(None),
            true => Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: use_sliding_window is true, which is not supported; a model of this architecture is \
                 read without a window"
            ))),
        }
    }

    fn flag_or(&self, key: &str, usual: bool) -> Result<bool> {
        self.present(key).map_or(Ok(usual), |value| {
            value.as_bool().ok_or_else(|| {
                Error::Format(format!("{CONFIG_NAME}: {key} is {}, not true or false", shown(value)))
            })
        })
    }

    /// Reads the id of a special token: `usual` if the key is absent, `None` if it is null or the id is outside
    /// the vocabulary. The first of several ids counts.
    fn token(&self, key: &str, usual: Option<u32>, vocab_size: usize) -> Result<Option<u32>> {
        let fits = |id: &u32| (*id as usize) < vocab_size;
        match self.0.get(key).map(first) {
            None => Ok(usual.filter(fits)),
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
    fn other_rope_is_refused_by_name() {
        refused("rope_scaling", serde_json::json!({"type": "longrope", "factor": 2.0}), "type longrope");
        // Stretched from the first token on.
        refused(
            "rope_scaling",
            serde_json::json!({"type": "dynamic", "factor": 2.0, "alpha": 50.0}),
            "dynamic",
        );
        refused("rope_parameters", serde_json::json!({"rope_type": "yarn"}), "lacks a positive factor");
        let yarn = serde_json::json!({"rope_type": "yarn", "factor": 2.0, "truncate": 1});
        refused("rope_parameters", yarn, "truncate of the rope scaling is 1");
    }

    #[test]
    fn dynamic_rope_is_noted() {
        let mut notes = Vec::new();
        let json = serde_json::json!({
            "model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 99
        });
        let config = Config::parse_noting(json.to_string().as_bytes(), &mut notes).unwrap();
        assert_eq!(config.rope_scaling, RopeScaling::None);
        assert!(notes.iter().any(|note| note.contains("beyond the context of 99 tokens")), "{notes:?}");
    }

    #[test]
    fn yarn_has_the_values_of_transformers() {
        let yarn = |object: Value| match config(|c| drop(c.insert("rope_scaling".into(), object))) {
            Ok(Config { rope_scaling: RopeScaling::Yarn(yarn), .. }) => yarn,
            other => panic!("{other:?}"),
        };
        let plain = yarn(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}));
        assert!((plain.attention_factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
        assert_eq!((plain.fast_turns, plain.slow_turns, plain.rounds), (32.0, 1.0, true));
        let scaled =
            json!({"type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 0});
        assert_eq!((yarn(scaled.clone()).attention_factor, yarn(scaled).fast_turns), (1.0, 32.0));
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
