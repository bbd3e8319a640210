//! Settings in the metadata of GGUF files. The key names of the settings occur only here.

use super::{Biases, Config, Scales, Upstream};
use crate::format::element::Element;
use crate::format::gguf::{Array, Metadata, Value};
use crate::model::architectures::{self, Architecture, Window};
use crate::model::rope::{RopeScaling, Yarn};
use crate::model::tokenizer::gguf::SpecialIds;
use crate::{Error, Result};

/// Key of the share of YaRN in the frequencies.
const EXTRAPOLATION: &str = "rope.scaling.yarn_ext_factor";

/// Name of YaRN among the types of rope scaling.
const YARN: &str = "yarn";

const ARCHITECTURE_KEY: &str = "general.architecture";

/// Key of what a file holds, and its value for a whole model. Adapters and image encoders have other values.
const TYPE: (&str, &str) = ("general.type", "model");

/// Key of llama.cpp's number for the element type of most tensors.
const FILE_TYPE_KEY: &str = "general.file_type";

/// Key and value for the revision of the block types; llama.cpp requires the key in files with quantised
/// tensors.
const QUANTIZATION_VERSION: (&str, Value) = ("general.quantization_version", Value::U32(2));

/// Keys that can change the arithmetic, each with the value that leaves it unchanged.
const NEUTRAL: [(&str, f64); 2] = [("expert_count", 0.0), ("attention.clamp_kqv", 0.0)];

/// Keys of the factors of embeddings and residuals, and of the divisor of logits. An architecture without scales has
/// 1 there.
const SCALES: [&str; 3] = ["embedding_scale", "residual_scale", "logit_scale"];

/// Key of the factor of the attention scores.
const SCORE_SCALE: &str = "attention.scale";

/// Keys below `rope.` that are read, and keys that say nothing where frequencies are scaled by none or linearly.
const ROPE: [&str; 10] = [
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
];

/// Keys below `rope.` that llama.cpp obeys whatever the type of scaling, each with the value that changes nothing.
const NEUTRAL_ROPE: [(&str, f64); 3] =
    [("rope.scaling.attn_factor", 1.0), ("rope.scaling.yarn_attn_factor", 1.0), (EXTRAPOLATION, 0.0)];

/// Settings that follow from the tensors and that the metadata do not declare.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Number of rows of the embedding.
    pub vocab_size: u64,
    /// Whether the files hold no output head, so that the embedding serves as the head.
    pub tied_head: bool,
    /// Projections that have biases in any layer.
    pub biases: Biases,
    /// Divisors of the rotary frequencies, if the files hold any.
    pub rotary_divisors: Option<Vec<f32>>,
}

impl Config {
    /// Reads the settings from the GGUF metadata of `file`, completes them by `facts` and checks them.
    ///
    /// # Errors
    /// [`Error::Format`], naming the key or the setting, if a required key is missing or a value is senseless
    /// or contradicts another; [`Error::Unsupported`], naming the setting, for a rope scaling other than none
    /// and linear, or sizes that differ between layers; those of [`check_architecture`].
    pub fn from_metadata(file: &str, metadata: Metadata, facts: Facts) -> Result<Self> {
        let architecture = check_architecture(file, &metadata)?;
        let keys = Keys { file, metadata: &metadata, prefix: architecture.gguf };
        let n_heads = keys.size("attention.head_count")?;
        let hidden_size = keys.size("embedding_length")?;
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(width) => width,
            None => hidden_size / n_heads,
        };
        keys.check_heads(head_dim)?;
        let vocab_size = usize::try_from(facts.vocab_size).unwrap_or(usize::MAX);
        let SpecialIds { bos, eos } = SpecialIds::read(file, &metadata, vocab_size)?;
        let n_layers = keys.size("block_count")?;
        let config = Self {
            architecture,
            n_layers,
            rotated: architecture.unrotated.in_gguf(n_layers),
            scales: if architecture.has_scales { keys.scales()? } else { Scales::default() },
            hidden_size,
            intermediate_size: keys.size("feed_forward_length")?,
            n_heads,
            n_kv_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context: keys.optional_size("context_length")?.unwrap_or(2048),
            norm_epsilon: keys.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope_theta: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: keys.rope_scaling(facts.rotary_divisors)?,
            tied_head: facts.tied_head,
            biases: facts.biases,
            sliding_window: match architecture.window {
                Window::Off => None,
                Window::Never | Window::Key(_) => keys.optional_size("attention.sliding_window")?,
            },
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
                && key.strip_prefix(self.architecture.gguf).is_some_and(|rest| rest.starts_with('.'))
                && list.items.len() == self.n_layers
            {
                list.items = super::regroup(key, &list.items, groups)?;
            }
        }
        self.check_rotated(groups)?;
        self.check_yarn()?;
        metadata.set(&self.key("block_count"), Value::U32(groups.len() as u32));
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
        metadata.set(ARCHITECTURE_KEY, Value::String(self.architecture.gguf.to_owned()));
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
            metadata.set(&self.key(name), value);
        }
        if self.architecture.has_scales {
            let Scales { embedding, residual, logits, .. } = self.scales;
            for (name, scale) in SCALES.iter().zip([embedding, residual, 1.0 / logits]) {
                metadata.set(&self.key(name), Value::F32(scale as f32));
            }
            metadata.set(&self.key(SCORE_SCALE), Value::F32(self.score_scale() as f32));
        }
        let scaled = match self.rope_scaling {
            RopeScaling::Linear { factor } => Some(("linear", factor)),
            RopeScaling::Yarn(Yarn { factor, .. }) => Some((YARN, factor)),
            _ => None,
        };
        if let Some((kind, factor)) = scaled {
            metadata.set(&self.key("rope.scaling.type"), Value::String(kind.to_owned()));
            metadata.set(&self.key("rope.scaling.factor"), Value::F32(factor as f32));
        }
        if let RopeScaling::Yarn(yarn) = self.rope_scaling {
            for (name, value) in [
                ("rope.scaling.original_context_length", size(yarn.original_context as usize)),
                ("rope.scaling.yarn_beta_fast", Value::F32(yarn.fast_turns as f32)),
                ("rope.scaling.yarn_beta_slow", Value::F32(yarn.slow_turns as f32)),
            ] {
                metadata.set(&self.key(name), value);
            }
        }
        if let Some(window) = self.sliding_window {
            metadata.set(&self.key("attention.sliding_window"), size(window));
        }
        metadata
    }

    /// Checks that the rope scaling is one that llama.cpp computes: YaRN with whole places and the usual factor of
    /// cosines and sines.
    fn check_yarn(&self) -> Result<()> {
        let RopeScaling::Yarn(yarn) = self.rope_scaling else { return Ok(()) };
        let usual = Yarn::attention_factor(yarn.factor, 1.0);
        if yarn.rounds && (yarn.attention_factor / usual - 1.0).abs() < 1e-6 {
            return Ok(());
        }
        Err(Error::Unsupported(
            "a GGUF file cannot say a YaRN scaling with a ramp between whole places or with a factor of attention of \
             its own; write a Hugging Face folder"
                .to_owned(),
        ))
    }

    /// Returns the whole key of the setting `name` of the model.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.gguf)
    }

    /// Checks that the layers which are rotated are those that every GGUF file of the architecture rotates, when the
    /// model has one layer for each entry of `groups`.
    fn check_rotated(&self, groups: &[Vec<usize>]) -> Result<()> {
        let rotated = super::regroup("the rotation of layers", &self.rotated, groups)?;
        let theirs = self.architecture.unrotated.in_gguf(groups.len());
        let mut layers = rotated.iter().zip(&theirs).enumerate();
        let Some((layer, (ours, _))) = layers.find(|(_, (ours, theirs))| ours != theirs) else {
            return Ok(());
        };
        let (says, does) = if *ours { ("does not rotate", "does") } else { ("rotates", "does not") };
        Err(Error::Unsupported(format!(
            "a GGUF file of the architecture {} {says} its layer {layer}, and the model {does}; remove whole periods \
             of layers, or write a Hugging Face folder",
            self.architecture.gguf
        )))
    }
}

/// Returns whether `metadata` name an architecture, as the first file of a model does.
pub fn names_architecture(metadata: &Metadata) -> bool {
    metadata.get(ARCHITECTURE_KEY).is_some()
}

/// Checks that `metadata`, of the GGUF file `file`, are of a whole model of a supported architecture. No tensor need
/// be known.
///
/// # Errors
/// [`Error::Format`] if the metadata name no architecture; [`Error::Unsupported`], naming the key and its value, for
/// another architecture, for a file that is no whole model, such as an adapter, and for experts, clamped or scaled
/// activations and attention that is not causal.
pub fn check_architecture(file: &str, metadata: &Metadata) -> Result<&'static Architecture> {
    Keys { file, metadata, prefix: "" }.check_architecture()
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

fn not_positive(key: &str, number: f64) -> String {
    format!("{key} is {number}, not a positive number; convert the model anew")
}

/// Returns a float or an integer as a number; `None` for other values.
fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|n| n as f64))
}

/// Typed look-ups in the metadata; errors name the file and the key.
struct Keys<'a> {
    file: &'a str,
    metadata: &'a Metadata,
    /// Name of the architecture, with which the keys of settings begin.
    prefix: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn check_architecture(&self) -> Result<&'static Architecture> {
        let Some(name) = self.text(ARCHITECTURE_KEY)? else {
            return Err(self.bad(format!("{ARCHITECTURE_KEY} is missing; it is no language model")));
        };
        let Some(architecture) = architectures::by_gguf(name) else {
            let supported = architectures::listed(|architecture| architecture.gguf);
            return self.refuse(format!("architecture {name} is not supported; {supported} are"));
        };
        Keys { prefix: architecture.gguf, ..*self }.check_settings(architecture)?;
        Ok(architecture)
    }

    /// Checks that the file holds a whole model, and that its settings have no arithmetic of their own.
    fn check_settings(&self, architecture: &Architecture) -> Result<()> {
        let (key_of_type, whole) = TYPE;
        if let Some(other) = self.text(key_of_type)?
            && other != whole
        {
            return self.refuse(format!(
                "{key_of_type} is {other}, which is no whole model; open the model that it belongs to"
            ));
        }
        let unscaled = SCALES.iter().filter(|_| !architecture.has_scales).map(|name| (*name, 1.0));
        for (name, neutral) in NEUTRAL.into_iter().chain(unscaled) {
            let key = self.key(name);
            if let Some(value) = self.metadata.get(&key)
                && number_of(value) != Some(neutral)
            {
                return self.refuse(format!("{key} is {value}, which is not supported"));
            }
        }
        if self.metadata.get(&self.key("attention.causal")).is_some_and(|value| *value != Value::Bool(true)) {
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
                    self.key(name)
                ));
            }
        }
        Ok(())
    }

    /// Reads the constants that activations are multiplied by. 0 stands for a score scale that is not given, as in
    /// llama.cpp.
    fn scales(&self) -> Result<Scales> {
        let [embedding, residual, logits] = SCALES;
        let number = |name: &str| Ok::<_, Error>(self.number(name)?.filter(|n| *n != 0.0));
        Ok(Scales {
            embedding: number(embedding)?.unwrap_or(1.0),
            scores: number(SCORE_SCALE)?,
            residual: number(residual)?.unwrap_or(1.0),
            logits: 1.0 / number(logits)?.unwrap_or(1.0),
        })
    }

    /// Reads the change of the rotary frequencies as llama.cpp does: where the type is `none`, a factor says
    /// nothing; without a type a factor is linear; a factor of 0 is none; and divisors apply in any case.
    fn rope_scaling(&self, divisors: Option<Vec<f32>>) -> Result<RopeScaling> {
        self.check_rope()?;
        let factor = match self.text(&self.key("rope.scaling.type"))? {
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
        if let Some(divisor) = divisors.iter().flatten().find(|d| !(d.is_finite() && **d > 0.0)) {
            return Err(self.bad(format!(
                "the rotary divisors hold {divisor}, which is not a positive number; convert the model anew"
            )));
        }
        Ok(match divisors {
            None if factor == 1.0 => RopeScaling::None,
            None => RopeScaling::Linear { factor },
            Some(divisors) => RopeScaling::Divisors(divisors.iter().map(|d| d * factor as f32).collect()),
        })
    }

    /// Reads the parameters of YaRN. The original context is that of the model if it is not given, as in llama.cpp.
    fn yarn(&self) -> Result<RopeScaling> {
        let multiplier = "rope.scaling.yarn_log_multiplier";
        if let Some(other) = self.number(multiplier)?.filter(|m| *m != 0.0) {
            return self.refuse(format!("{} is {other}, which is not supported", self.key(multiplier)));
        }
        let factor = self.rope_factor()?;
        let context = match self.optional_size("rope.scaling.original_context_length")? {
            Some(context) => context,
            None => self.optional_size("context_length")?.unwrap_or(2048),
        };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            attention_factor: Yarn::attention_factor(factor, 1.0),
            fast_turns: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(Yarn::FAST_TURNS),
            slow_turns: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(Yarn::SLOW_TURNS),
            original_context: context as f64,
            rounds: true,
        }))
    }

    /// Reads the divisor of all rotary frequencies, under its present key or else under its old one.
    fn rope_factor(&self) -> Result<f64> {
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

    /// Checks that every key below `rope.` is one that is read or that changes nothing.
    fn check_rope(&self) -> Result<()> {
        let prefix = self.key("");
        for (full, value) in &self.metadata.entries {
            let Some(name) = full.strip_prefix(&prefix).filter(|name| name.starts_with("rope.")) else {
                continue;
            };
            let mut neutral =
                NEUTRAL_ROPE.iter().find(|(each, _)| *each == name).map(|(_, neutral)| *neutral);
            // The share of YaRN: all of it where the type is YaRN, nothing elsewhere.
            if name == EXTRAPOLATION && self.text(&self.key("rope.scaling.type"))? == Some(YARN) {
                neutral = Some(1.0);
            }
            if !ROPE.contains(&name) && (neutral.is_none() || number_of(value) != neutral) {
                return self.refuse(format!("{full} is {value}, which is not supported"));
            }
        }
        Ok(())
    }

    /// Reads text under the whole key `key`; `None` if the key is absent.
    fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.bad(format!("{key} is {value}, not text")))
    }

    fn bad(&self, what: String) -> Error {
        Error::Format(format!("{}: {what}", self.file))
    }

    fn refuse<T>(&self, what: String) -> Result<T> {
        Err(Error::Unsupported(format!("{}: {what}", self.file)))
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.bad(format!("{} is missing", self.key(name))))
    }

    /// Reads a size that is given as one number, or as a list of equal numbers with one entry per layer.
    fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.metadata.get(&self.key(name)) else {
            return Ok(None);
        };
        let single = match value {
            Value::Array(Array { items, .. }) => match items.split_first() {
                Some((first, rest)) if rest.iter().all(|item| item == first) => first,
                _ => {
                    self.refuse(format!(
                        "{} differs between layers, which is not supported",
                        self.key(name)
                    ))?;
                    value
                }
            },
            other => other,
        };
        match single.as_u64().and_then(super::sensible_size) {
            Some(size) => Ok(Some(size)),
            None => Err(self.bad(format!("{} is {value}, not a sensible size", self.key(name)))),
        }
    }

    fn positive(&self, name: &str) -> Result<Option<f64>> {
        match self.number(name)? {
            Some(number) if number <= 0.0 => Err(self.bad(not_positive(&self.key(name), number))),
            number => Ok(number),
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.metadata.get(&self.key(name)) else {
            return Ok(None);
        };
        match value.as_f64().filter(|x| x.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(format!("{} is {value}, not a number", self.key(name)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str = "llama";

    fn key(name: &str) -> String {
        format!("{LLAMA}.{name}")
    }

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
        refused("rope.scaling.type", Value::String("longrope".into()), "longrope");
        refused("rope.dimension_count", Value::U32(4), "rope.dimension_count is 4");
        refused("attention.causal", Value::Bool(false), "not causal");
        let message =
            parse(|m| m.set("general.type", Value::String("adapter".into()))).unwrap_err().to_string();
        assert!(message.contains("general.type is adapter"), "{message}");
    }

    #[test]
    fn yarn_goes_into_metadata_and_back_where_they_can_say_it() {
        let with = |entries: &[(&str, Value)]| {
            let mut metadata = self::entries();
            metadata.set(&key("rope.scaling.type"), Value::String(YARN.into()));
            metadata.set(&key("rope.scaling.factor"), Value::F32(4.0));
            entries.iter().for_each(|(name, value)| metadata.set(&key(name), value.clone()));
            let facts = Facts { vocab_size: 512, ..Facts::default() };
            Config::from_metadata("m.gguf", metadata, facts)
        };
        let yarn = |config: &Config| match config.rope_scaling {
            RopeScaling::Yarn(yarn) => yarn,
            ref other => panic!("{other:?}"),
        };
        let fast = [
            ("rope.scaling.yarn_beta_fast", Value::F32(4.0)),
            ("rope.scaling.original_context_length", Value::U32(64)),
            (EXTRAPOLATION, Value::F32(1.0)),
        ];
        let config = with(&fast).unwrap();
        assert_eq!((yarn(&config).fast_turns, yarn(&config).original_context), (4.0, 64.0));
        let json = config.to_config_json(&[vec![0], vec![1], vec![2]], None).unwrap();
        let mut again = Config::parse(&json).unwrap();
        assert_eq!(yarn(&again), yarn(&config));
        let groups = [vec![0], vec![1], vec![2]];
        let written = again.to_metadata(&groups, None).unwrap();
        assert_eq!(written.get(&key("rope.scaling.yarn_beta_fast")), Some(&Value::F32(4.0)));
        again.rope_scaling = RopeScaling::Yarn(Yarn { attention_factor: 0.9, ..yarn(&again) });
        assert!(again.to_metadata(&groups, None).unwrap_err().to_string().contains("YaRN"));
        for (name, value) in [(EXTRAPOLATION, 0.0), ("rope.scaling.yarn_log_multiplier", 0.1)] {
            let message = with(&[(name, Value::F32(value))]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn every_key_of_rope_is_obeyed_or_refused() {
        let with = |entries: &[(&str, Value)], divisors: Option<&[f32]>| {
            let mut metadata = self::entries();
            entries.iter().for_each(|(name, value)| metadata.set(&key(name), value.clone()));
            let rotary_divisors = divisors.map(<[f32]>::to_vec);
            let facts = Facts { vocab_size: 512, rotary_divisors, ..Facts::default() };
            Config::from_metadata("m.gguf", metadata, facts).map(|config| config.rope_scaling)
        };
        let kind = |name: &str| ("rope.scaling.type", Value::String(name.into()));
        let factor = |x: f32| ("rope.scaling.factor", Value::F32(x));
        let old_factor = |x: f32| ("rope.scale_linear", Value::F32(x));
        let linear = |factor: f64| RopeScaling::Linear { factor };
        for (entries, scaling) in [
            (vec![kind("none"), factor(4.0)], RopeScaling::None),
            (vec![kind("none"), old_factor(4.0)], RopeScaling::None),
            (vec![kind("linear")], RopeScaling::None),
            (vec![kind("linear"), factor(0.0), old_factor(4.0)], RopeScaling::None),
            (vec![kind("linear"), factor(4.0), old_factor(2.0)], linear(4.0)),
            (vec![factor(4.0)], linear(4.0)),
            (vec![old_factor(2.0)], linear(2.0)),
            (
                vec![
                    ("rope.scaling.attn_factor", Value::F32(1.0)),
                    ("rope.scaling.yarn_beta_fast", Value::F32(32.0)),
                    ("rope.scaling.original_context_length", Value::U32(8192)),
                ],
                RopeScaling::None,
            ),
        ] {
            assert_eq!(with(&entries, None).unwrap(), scaling, "{entries:?}");
        }
        // llama.cpp divides by the divisors and by the factor.
        let both = with(&[kind("linear"), factor(2.0)], Some(&[1.0, 1.5, 2.0, 8.0])).unwrap();
        assert_eq!(both, RopeScaling::Divisors(vec![2.0, 3.0, 4.0, 16.0]));
        let alone = with(&[kind("none"), factor(2.0)], Some(&[1.0, 1.5, 2.0, 8.0])).unwrap();
        assert_eq!(alone, RopeScaling::Divisors(vec![1.0, 1.5, 2.0, 8.0]));

        refused("rope.scaling.type", Value::U32(1), "rope.scaling.type is 1, not text");
        refused("rope.scaling.type", Value::String("longrope".into()), "of type longrope");
        refused("rope.scaling.factor", Value::F32(-2.0), "rope.scaling.factor is -2, not a positive number");
        refused("rope.scaling.attn_factor", Value::F32(0.5), "rope.scaling.attn_factor is 0.5");
        refused("rope.scaling.yarn_ext_factor", Value::F32(1.0), "yarn_ext_factor is 1");
        refused("rope.scaling.alpha", Value::F32(1000.0), "rope.scaling.alpha is 1000");
        for base in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            refused("rope.freq_base", Value::F32(base), "rope.freq_base is ");
        }
        for divisor in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let message = with(&[], Some(&[1.0, divisor, 1.0, 1.0])).unwrap_err().to_string();
            assert!(message.contains("the rotary divisors hold"), "{message}");
        }
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
        // An id outside the vocabulary names no token: SentencePiece's own id stands for it, as in llama.cpp.
        let foreign = |key: &'static str| move |m: &mut Metadata| m.set(key, Value::U32(100_000));
        for key in [bos, eos] {
            let named = |m: &mut Metadata| {
                sentence_piece(m);
                foreign(key)(m);
            };
            assert_eq!(of(&named), (Some(1), Some(2)), "{key}");
        }
        assert_eq!(of(&foreign(eos)), (None, None));
        // llama.cpp has no BOS of its own for a byte-level vocabulary but the one of GPT-2.
        let message = parse(foreign(bos)).unwrap_err().to_string();
        assert!(message.contains(bos) && message.contains("100000"), "{message}");
    }

    #[test]
    fn both_spellings_of_a_model_say_the_same() {
        let config = parse(|m| m.set("tokenizer.ggml.bos_token_id", Value::U32(1))).unwrap();
        let groups: Vec<_> = (0..3).map(|layer| vec![layer]).collect();
        let json = config.to_config_json(&groups, None).unwrap();
        let mut again = Config::parse(&json).unwrap();
        let metadata = again.to_metadata(&groups, Some(Element::F16)).unwrap();
        assert_eq!(metadata.get(FILE_TYPE_KEY), Some(&Value::U32(1)));
        again.architecture = config.architecture;
        again.upstream = config.upstream.clone();
        assert_eq!(again, config);
        let facts = Facts { vocab_size: 512, ..Facts::default() };
        let third = Config::from_metadata("m.gguf", metadata, facts).unwrap();
        assert_eq!((third.head_dim, third.n_kv_heads, third.norm_epsilon), (8, 4, f64::from(1e-5f32)));
    }
}
