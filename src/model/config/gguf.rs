//! Settings in the metadata of GGUF files. The key names of the settings occur only here.

use super::{Config, Upstream};
use crate::format::element::Element;
use crate::format::gguf::{Array, Metadata, Value};
use crate::model::rope::RopeScaling;
use crate::model::tokenizer::gguf::SpecialIds;
use crate::{Error, Result};

const ARCHITECTURE_KEY: &str = "general.architecture";

/// The only supported architecture: Llama 1 to 3, Mistral and similar models.
const LLAMA: &str = "llama";

/// Key of llama.cpp's number for the element type of most tensors.
const FILE_TYPE_KEY: &str = "general.file_type";

/// Key and value for the revision of the block types; llama.cpp requires the key in files with quantised
/// tensors.
const QUANTIZATION_VERSION: (&str, Value) = ("general.quantization_version", Value::U32(2));

/// Keys that can change the arithmetic, each with the value that leaves it unchanged.
const NEUTRAL: [(&str, f64); 5] = [
    ("expert_count", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("attention.clamp_kqv", 0.0),
];

/// Settings that follow from the tensors and that the metadata do not declare.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Number of rows of the embedding.
    pub vocab_size: u64,
    /// Whether the files hold no output head, so that the embedding serves as the head.
    pub tied_head: bool,
    /// Whether the first layer has a bias of the query, key, value or output projection.
    pub attention_bias: bool,
    /// Whether the first layer has a bias of the gate, up or down projection.
    pub mlp_bias: bool,
    /// Divisors of the rotary frequencies, if the files hold any.
    pub rotary_divisors: Option<Vec<f32>>,
}

impl Config {
    /// Reads the settings from the GGUF metadata of `file`, completes them by `facts` and checks them.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key or the setting, if a required key is missing or a value is senseless
    /// or contradicts another; [`Error::Unsupported`], naming the setting, for another architecture, experts,
    /// a rope scaling other than none and linear, or sizes that differ between layers.
    pub fn from_metadata(file: &str, metadata: Metadata, facts: Facts) -> Result<Self> {
        let keys = Keys { file, metadata: &metadata };
        keys.check_architecture()?;
        let n_heads = keys.size("attention.head_count")?;
        let hidden_size = keys.size("embedding_length")?;
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(width) => width,
            None => hidden_size / n_heads,
        };
        keys.check_heads(head_dim)?;
        let vocab_size = usize::try_from(facts.vocab_size).unwrap_or(usize::MAX);
        let SpecialIds { bos, eos } = SpecialIds::read(file, &metadata, vocab_size)?;
        let config = Self {
            architecture: LLAMA.to_owned(),
            n_layers: keys.size("block_count")?,
            hidden_size,
            intermediate_size: keys.size("feed_forward_length")?,
            n_heads,
            n_kv_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context: keys.optional_size("context_length")?.unwrap_or(2048),
            norm_epsilon: keys.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope_theta: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: keys.rope_scaling(facts.rotary_divisors)?,
            tied_head: facts.tied_head,
            attention_bias: facts.attention_bias,
            mlp_bias: facts.mlp_bias,
            sliding_window: keys.optional_size("attention.sliding_window")?,
            bos_token_id: bos,
            eos_token_id: eos,
            upstream: Upstream::Gguf(metadata),
        };
        config.check(file)
    }

    /// Makes the GGUF metadata of the model that has one layer for each entry of `groups`.
    ///
    /// `groups[i]` are the original layers that became layer `i`. Every list with one entry per layer is
    /// reduced to one entry per group. `element` is the type of most tensors; `None` leaves it as before. A
    /// Hugging Face model gets new metadata, without a tokenizer.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the list, if the layers of a group have different entries.
    pub fn to_metadata(&self, groups: &[Vec<usize>], element: Option<Element>) -> Result<Metadata> {
        let mut metadata = match &self.upstream {
            Upstream::Gguf(metadata) => metadata.clone(),
            Upstream::HuggingFace(_) => self.new_metadata(),
        };
        for key in crate::format::gguf::SPLIT_KEYS {
            metadata.remove(key);
        }
        for (key, value) in &mut metadata.entries {
            if let Value::Array(list) = value
                && key.starts_with("llama.")
                && list.items.len() == self.n_layers
            {
                list.items = super::regroup(key, &list.items, groups)?;
            }
        }
        metadata.set(&key("block_count"), Value::U32(groups.len() as u32));
        if let Some(kind) = element.and_then(file_type) {
            metadata.set(FILE_TYPE_KEY, Value::U32(kind));
        }
        if matches!(element, Some(Element::Block(_))) {
            metadata.set(QUANTIZATION_VERSION.0, QUANTIZATION_VERSION.1);
        }
        Ok(metadata)
    }

    /// Makes GGUF metadata from the settings.
    fn new_metadata(&self) -> Metadata {
        let size = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut metadata = Metadata::default();
        metadata.set(ARCHITECTURE_KEY, Value::String(LLAMA.to_owned()));
        for (name, value) in [
            ("vocab_size", size(self.vocab_size)),
            ("context_length", size(self.context)),
            ("embedding_length", size(self.hidden_size)),
            ("block_count", size(self.n_layers)),
            ("feed_forward_length", size(self.intermediate_size)),
            ("attention.head_count", size(self.n_heads)),
            ("attention.head_count_kv", size(self.n_kv_heads)),
            ("attention.key_length", size(self.head_dim)),
            ("attention.value_length", size(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(self.norm_epsilon as f32)),
            ("rope.dimension_count", size(self.head_dim)),
            ("rope.freq_base", Value::F32(self.rope_theta as f32)),
        ] {
            metadata.set(&key(name), value);
        }
        if let RopeScaling::Linear { factor } = self.rope_scaling {
            metadata.set(&key("rope.scaling.type"), Value::String("linear".to_owned()));
            metadata.set(&key("rope.scaling.factor"), Value::F32(factor as f32));
        }
        if let Some(window) = self.sliding_window {
            metadata.set(&key("attention.sliding_window"), size(window));
        }
        metadata
    }
}

fn key(name: &str) -> String {
    format!("{LLAMA}.{name}")
}

/// Returns llama.cpp's number for files whose tensors are mostly of type `element`; `None` if it has none.
fn file_type(element: Element) -> Option<u32> {
    let name = element.to_string();
    let known = [
        ("F32", 0),
        ("F16", 1),
        ("Q4_0", 2),
        ("Q4_1", 3),
        ("Q8_0", 7),
        ("Q5_0", 8),
        ("Q5_1", 9),
        ("Q4_K", 14),
        ("Q5_K", 16),
        ("Q6_K", 18),
        ("BF16", 32),
    ];
    known.iter().find(|(each, _)| *each == name).map(|(_, number)| *number)
}

/// Typed look-ups in the metadata; errors name the file and the key.
struct Keys<'a> {
    file: &'a str,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn check_architecture(&self) -> Result<()> {
        match self.metadata.get(ARCHITECTURE_KEY).map(|value| value.as_str()) {
            Some(Some(LLAMA)) => {}
            Some(Some(other)) => {
                return self.refuse(format!("architecture {other} is not supported; {LLAMA} is"));
            }
            _ => return Err(self.bad(format!("{ARCHITECTURE_KEY} is missing; it is no language model"))),
        }
        for (name, neutral) in NEUTRAL {
            if let Some(value) = self.metadata.get(&key(name))
                && value.as_f64().or_else(|| value.as_u64().map(|n| n as f64)) != Some(neutral)
            {
                return self.refuse(format!("{} is {value}, which is not supported", key(name)));
            }
        }
        if self.metadata.get(&key("attention.causal")) == Some(&Value::Bool(false)) {
            return self.refuse("attention that is not causal is not supported".to_owned());
        }
        Ok(())
    }

    fn check_heads(&self, head_dim: usize) -> Result<()> {
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = self.optional_size(name)?
                && other != head_dim
            {
                return self.refuse(format!(
                    "{} is {other} where heads are {head_dim} wide, which is not supported",
                    key(name)
                ));
            }
        }
        Ok(())
    }

    fn rope_scaling(&self, divisors: Option<Vec<f32>>) -> Result<RopeScaling> {
        let kind = self.metadata.get(&key("rope.scaling.type")).and_then(Value::as_str).unwrap_or("none");
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        match (kind, factor, divisors) {
            ("none", None | Some(1.0), None) => Ok(RopeScaling::None),
            ("none", None | Some(1.0), Some(divisors)) => Ok(RopeScaling::Divisors(divisors)),
            ("linear" | "none", Some(factor), None) if factor > 0.0 => Ok(RopeScaling::Linear { factor }),
            (kind, _, _) => {
                self.refuse(format!("rope scaling of type {kind} is not supported; none and linear are"))?;
                Ok(RopeScaling::None)
            }
        }
    }

    fn bad(&self, what: String) -> Error {
        Error::Format(format!("{}: {what}", self.file))
    }

    fn refuse(&self, what: String) -> Result<()> {
        Err(Error::Unsupported(format!("{}: {what}", self.file)))
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.bad(format!("{} is missing", key(name))))
    }

    /// Reads a size that is given as one number, or as a list of equal numbers with one entry per layer.
    fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.metadata.get(&key(name)) else {
            return Ok(None);
        };
        let single = match value {
            Value::Array(Array { items, .. }) => match items.split_first() {
                Some((first, rest)) if rest.iter().all(|item| item == first) => first,
                _ => {
                    self.refuse(format!("{} differs between layers, which is not supported", key(name)))?;
                    value
                }
            },
            other => other,
        };
        match single.as_u64().and_then(super::sensible_size) {
            Some(size) => Ok(Some(size)),
            None => Err(self.bad(format!("{} is {value}, not a sensible size", key(name)))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.metadata.get(&key(name)) else {
            return Ok(None);
        };
        match value.as_f64().filter(|x| x.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(format!("{} is {value}, not a number", key(name)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Metadata {
        let mut metadata = Metadata::default();
        metadata.set(ARCHITECTURE_KEY, Value::String(LLAMA.into()));
        for (name, n) in [
            ("block_count", 3),
            ("embedding_length", 64),
            ("feed_forward_length", 172),
            ("attention.head_count", 8),
            ("attention.head_count_kv", 4),
        ] {
            metadata.set(&key(name), Value::U32(n));
        }
        metadata
    }

    fn parse(edit: impl FnOnce(&mut Metadata)) -> Result<Config> {
        let mut metadata = entries();
        edit(&mut metadata);
        Config::from_metadata("m.gguf", metadata, Facts { vocab_size: 512, ..Facts::default() })
    }

    #[track_caller]
    fn refused(name: &str, value: Value, expected: &str) {
        let message = parse(|m| m.set(&key(name), value)).unwrap_err().to_string();
        assert!(message.starts_with("m.gguf: ") && message.contains(expected), "{message}");
    }

    #[test]
    fn what_changes_the_arithmetic_is_refused_by_name() {
        let message = parse(|m| m.set(ARCHITECTURE_KEY, Value::String("mamba".into()))).unwrap_err();
        assert!(message.to_string().contains("mamba"), "{message}");
        refused("expert_count", Value::U32(8), "expert_count is 8");
        refused("rope.scaling.type", Value::String("yarn".into()), "yarn");
        refused("rope.dimension_count", Value::U32(4), "rope.dimension_count is 4");
        refused("attention.causal", Value::Bool(false), "not causal");
    }

    #[test]
    fn senseless_sizes_are_named() {
        refused("embedding_length", Value::U32(0), "embedding_length is 0");
        refused("block_count", Value::String("x".into()), "block_count is \"x\"");
        refused("attention.head_count_kv", Value::U32(3), "multiple");
        let message = parse(|m| m.remove("llama.feed_forward_length")).unwrap_err().to_string();
        assert!(message.contains("feed_forward_length is missing"), "{message}");
    }

    fn list(items: [u32; 3]) -> Value {
        Value::Array(Array {
            of: crate::format::gguf::ValueType::U32,
            items: items.into_iter().map(Value::U32).collect(),
        })
    }

    #[test]
    fn lists_with_an_entry_a_layer_follow_the_groups() {
        let config = parse(|m| {
            m.set(&key("attention.head_count_kv"), list([4, 4, 4]));
            m.set(&key("windows"), list([1, 2, 2]));
            m.set("tokenizer.ggml.odd", list([1, 2, 3]));
        })
        .unwrap();
        let written = config.to_metadata(&[vec![0], vec![1, 2]], None).unwrap();
        assert_eq!(written.get("llama.block_count"), Some(&Value::U32(2)));
        assert_eq!(written.get("llama.windows").unwrap().as_array().unwrap().len(), 2);
        assert_eq!(written.get("tokenizer.ggml.odd"), Some(&list([1, 2, 3])));
        let message = config.to_metadata(&[vec![0, 1], vec![2]], None).unwrap_err().to_string();
        assert!(message.contains("llama.windows"), "{message}");
        refused("attention.head_count", list([8, 4, 8]), "differs between layers");
    }

    #[test]
    fn the_tokens_around_a_text_are_those_that_llama_cpp_takes() {
        let of = |change: &dyn Fn(&mut Metadata)| {
            let config = parse(|m| change(m)).unwrap();
            (config.bos_token_id, config.eos_token_id)
        };
        let [bos, eos] = ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"];
        let sentence_piece = |m: &mut Metadata| m.set("tokenizer.ggml.model", Value::String("llama".into()));
        assert_eq!(of(&|_| ()), (None, None));
        assert_eq!(of(&sentence_piece), (Some(1), Some(2)));
        assert_eq!(of(&|m| m.set(bos, Value::U32(7))), (Some(7), None));
        // Converters write this id for a token that the model does not have.
        assert_eq!(
            of(&|m| [bos, eos].into_iter().for_each(|key| m.set(key, Value::U32(u32::MAX)))),
            (None, None)
        );
        let message = parse(|m| m.set(eos, Value::U32(100_000))).unwrap_err().to_string();
        assert!(message.contains(eos) && message.contains("100000"), "{message}");
    }

    #[test]
    fn both_spellings_of_a_model_say_the_same() {
        let config = parse(|m| m.set("tokenizer.ggml.bos_token_id", Value::U32(1))).unwrap();
        let groups: Vec<_> = (0..3).map(|layer| vec![layer]).collect();
        let json = config.to_config_json(&groups, None).unwrap();
        let mut again = Config::parse(&json).unwrap();
        let metadata = again.to_metadata(&groups, Some(Element::F16)).unwrap();
        assert_eq!(metadata.get(FILE_TYPE_KEY), Some(&Value::U32(1)));
        again.architecture = config.architecture.clone();
        again.upstream = config.upstream.clone();
        assert_eq!(again, config);
        let facts = Facts { vocab_size: 512, ..Facts::default() };
        let third = Config::from_metadata("m.gguf", metadata, facts).unwrap();
        assert_eq!((third.head_dim, third.n_kv_heads, third.norm_epsilon), (8, 4, f64::from(1e-5f32)));
    }
}
