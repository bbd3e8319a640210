//! Settings in the metadata of GGUF files. The key names of the settings occur only here.

use super::{
    Biases, Config, ExpertSizes, FeedForward, LayerKind, MambaSizes, Mixer, QueryGrowth, Scales, Upstream,
    gguf_score_scale, gguf_windows,
};
use crate::format::element::Element;
use crate::format::gguf::{Array, Metadata, Value};
use crate::model::architectures::{
    self, Architecture, ExpertLayers, Experts, Gates, Rotation, Scaling, Windows,
};
use crate::model::rope::{LongRope, Rope, RopeScaling, Yarn};
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
const NEUTRAL: [(&str, f64); 1] = [("attention.clamp_kqv", 0.0)];

/// Key of the number of key and value heads, or of the list of such numbers.
const KEY_HEADS: &str = "attention.head_count_kv";

/// Keys of the sizes of Mamba mixers: channels, numbers of a state, width of the step, taps of the convolution.
const MAMBA: [&str; 4] = ["ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.conv_kernel"];

/// Keys of the number of experts and of those that are chosen for each token.
const EXPERTS: [&str; 2] = ["expert_count", "expert_used_count"];

/// Keys of the width of an expert, and of that of the expert that serves every token.
const EXPERT_WIDTHS: [&str; 2] = ["expert_feed_forward_length", "expert_shared_feed_forward_length"];

/// Keys of the factors of embeddings and residuals, and of the divisor of logits. An architecture without scales has
/// 1 there.
const SCALES: [&str; 3] = ["embedding_scale", "residual_scale", "logit_scale"];

/// Key of the factor of the attention scores.
const SCORE_SCALE: &str = "attention.scale";

/// Keys of the caps of attention scores and of logits.
const CAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];

/// Key of the window, where some layers have one or all.
const WINDOW: &str = "attention.sliding_window";

/// Key of the list that says which layers have a window, or of the number of layers of which the last has none.
const WINDOWED_LAYERS: &str = "attention.sliding_window_pattern";

/// Key of the base of the rotary frequencies of layers with a window.
const LOCAL_BASE: &str = "rope.freq_base_swa";

/// Key of the context of the first training, in tokens.
const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";

/// Key of a factor of cosines and sines beside that of YaRN.
const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";

/// Key that says that YaRN's factor of cosines and sines is divided by that of this multiplier.
const LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";

/// Key that says whether layers rotate at all, where an architecture can do without.
const ROTATES: &str = "rope.scaling.finetuned";

/// Key of the growth of queries.
const GROWTH: &str = "attention.temperature_scale";

/// Keys below `rope.` that are read, and keys that say nothing where frequencies are scaled by none or linearly.
const ROPE: [&str; 11] = [
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
    /// Layers that have a router.
    pub routed: Vec<usize>,
    /// Divisors of the rotary frequencies for short sequences and for long ones, if the files hold any.
    pub long_divisors: Option<[Vec<f32>; 2]>,
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
        let rotated_width = keys.optional_size("rope.dimension_count")?.unwrap_or(head_dim);
        if rotated_width != head_dim && architecture.usual.rotated_share.is_none() {
            return keys.refuse(format!(
                "{} is {rotated_width} where heads are {head_dim} wide, which is not supported",
                keys.key("rope.dimension_count")
            ));
        }
        let vocab_size = usize::try_from(facts.vocab_size).unwrap_or(usize::MAX);
        let SpecialIds { bos, eos } = SpecialIds::read(file, &metadata, vocab_size)?;
        let n_layers = keys.size("block_count")?;
        let ropes = keys.ropes(architecture, facts.rotary_divisors, facts.long_divisors)?;
        let layers = keys.kinds(architecture, n_layers, ropes.len(), &facts.routed)?;
        let intermediate_size = keys.size("feed_forward_length")?;
        let has_experts = layers.iter().any(|kind| kind.feed_forward == FeedForward::Experts);
        let rule = architecture.experts.filter(|_| has_experts);
        let mut config = Self {
            architecture,
            n_layers,
            ropes,
            rotated_width,
            layers,
            query_growth: keys.query_growth()?,
            scales: keys.scales(architecture.scaling, hidden_size)?,
            hidden_size,
            intermediate_size,
            experts: rule.map(|rule| keys.experts(rule, intermediate_size)).transpose()?,
            n_heads,
            n_kv_heads: match keys.list(KEY_HEADS).filter(|_| architecture.mamba.is_some()) {
                // A layer without heads has a Mamba mixer.
                Some(list) => match list.iter().filter_map(Value::as_u64).find(|n| *n > 0) {
                    Some(heads) => super::sensible_size(heads).unwrap_or(n_heads),
                    None => n_heads,
                },
                None => keys.optional_size(KEY_HEADS)?.unwrap_or(n_heads),
            },
            mamba: architecture.mamba.map(|_| keys.mamba()).transpose()?,
            head_dim,
            vocab_size,
            context: keys.optional_size("context_length")?.unwrap_or(2048),
            norm_epsilon: keys.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            tied_head: facts.tied_head,
            biases: facts.biases,
            bos_token_id: bos,
            eos_token_id: eos,
            upstream: Upstream::Gguf(metadata),
        };
        if let Some(scale) = gguf_score_scale(&config, n_layers) {
            config.scales.scores = Some(scale);
        }
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
        self.check_kinds(groups)?;
        self.check_score_scale(groups.len())?;
        self.check_yarn()?;
        metadata.set(&self.key("block_count"), Value::U32(groups.len() as u32));
        if gguf_windows(self.architecture, groups.len()) && self.window().is_some() {
            let windowed: Vec<bool> = self.layers.iter().map(|layer| layer.window.is_some()).collect();
            let windowed = super::regroup(WINDOWED_LAYERS, &windowed, groups)?;
            let items = windowed.into_iter().map(Value::Bool).collect();
            let list = Array { of: crate::format::gguf::ValueType::Bool, items };
            metadata.set(&self.key(WINDOWED_LAYERS), Value::Array(list));
        }
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
            ("rope.dimension_count", size(self.rotated_width)),
        ] {
            metadata.set(&self.key(name), value);
        }
        let float = |number: f64| Value::F32(number as f32);
        let Scales { embedding, residual, logits, score_cap, logit_cap, .. } = self.scales;
        if self.architecture.scaling == Scaling::Factors {
            for (name, scale) in SCALES.iter().zip([embedding, residual, 1.0 / logits]) {
                metadata.set(&self.key(name), float(scale));
            }
            metadata.set(&self.key(SCORE_SCALE), float(self.score_scale()));
        }
        for (name, cap) in CAPS.iter().zip([score_cap, logit_cap]) {
            if let Some(cap) = cap {
                metadata.set(&self.key(name), float(cap));
            }
        }
        if let Some(QueryGrowth { beta, context }) = self.query_growth {
            metadata.set(&self.key(GROWTH), float(beta));
            metadata.set(&self.key(ORIGINAL_CONTEXT), size(context as usize));
        }
        if let Some(MambaSizes { channels, states, rank, taps }) = self.mamba {
            for (name, n) in MAMBA.iter().zip([channels, states, rank, taps]) {
                metadata.set(&self.key(name), size(n));
            }
            let heads = |kind: &LayerKind| if kind.mixer == Mixer::Mamba { 0 } else { self.n_kv_heads };
            let items = self.layers.iter().map(|kind| size(heads(kind))).collect();
            let list = Array { of: crate::format::gguf::ValueType::U32, items };
            metadata.set(&self.key(KEY_HEADS), Value::Array(list));
        }
        if self.architecture.rotation == Rotation::Switched {
            let rotates = self.layers.iter().any(|layer| layer.rope.is_some());
            metadata.set(&self.key(ROTATES), Value::Bool(rotates));
        }
        if let (Some(rule), Some(sizes)) = (self.architecture.experts, self.experts) {
            let ([count, used], [width, shared]) = (EXPERTS, EXPERT_WIDTHS);
            metadata.set(&self.key(count), size(sizes.count));
            metadata.set(&self.key(used), size(sizes.used));
            if rule.width.is_some() {
                metadata.set(&self.key(width), size(sizes.width));
            }
            if let Some(of_shared) = sizes.shared_width {
                metadata.set(&self.key(shared), size(of_shared));
            }
        }
        if self.architecture.rotation == Rotation::Never {
            metadata.remove(&self.key("rope.dimension_count"));
        } else {
            for (rope, name) in self.ropes.iter().zip(["rope.freq_base", LOCAL_BASE]) {
                metadata.set(&self.key(name), float(rope.theta));
            }
        }
        if let (Rotation::LocalBase(_) | Rotation::LocalUnscaled, [rope]) =
            (self.architecture.rotation, self.ropes.as_slice())
        {
            metadata.set(&self.key(LOCAL_BASE), float(rope.theta));
        }
        if let Some(rope) = self.ropes.first() {
            for (name, value) in scaling_entries(rope) {
                metadata.set(&self.key(name), value);
            }
        }
        if let Some(window) = self.window() {
            metadata.set(&self.key(WINDOW), size(window));
        }
        metadata
    }

    /// Checks that the attention scores are scaled as llama.cpp scales those of a file with `n_layers` layers.
    fn check_score_scale(&self, n_layers: usize) -> Result<()> {
        let Scaling::Gemma { .. } = self.architecture.scaling else { return Ok(()) };
        let theirs = gguf_score_scale(self, n_layers).unwrap_or_else(|| (self.head_dim as f64).powf(-0.5));
        if (self.score_scale() / theirs - 1.0).abs() < 1e-6 {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "llama.cpp goes by the number of layers for the scale of this architecture's attention scores, and with \
             {n_layers} layers takes {theirs:.5} in the place of {:.5}; write a Hugging Face folder",
            self.score_scale()
        )))
    }

    /// Checks that the rope scaling is one that llama.cpp computes: YaRN with whole places.
    fn check_yarn(&self) -> Result<()> {
        match self.rope()?.scaling {
            RopeScaling::Yarn(Yarn { rounds: false, .. }) => Err(Error::Unsupported(
                "a GGUF file cannot say a YaRN scaling with a ramp between whole places; write a Hugging Face folder"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Returns the whole key of the setting `name` of the model.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.gguf)
    }

    /// Checks that a GGUF file can say which layers rotate and which have windows, when the model has one layer for each
    /// entry of `groups`: llama.cpp derives from the architecture and the number of layers what no key says.
    fn check_kinds(&self, groups: &[Vec<usize>]) -> Result<()> {
        let kinds = super::regroup("the kinds of layers", &self.layers, groups)?;
        let unsaid = |layer: usize, does: &str, says: &str| {
            Err(Error::Unsupported(format!(
                "a GGUF file of the architecture {} {says} its layer {layer}, and the model {does}; remove whole \
                 periods of layers, or write a Hugging Face folder",
                self.architecture.gguf
            )))
        };
        let n = kinds.len();
        if let (Some(rule), Some(sizes)) = (self.architecture.experts, self.experts) {
            let theirs = matches!(rule.gates, Gates::Normalised | Gates::Asked);
            if sizes.normalised != theirs {
                return Err(Error::Unsupported(format!(
                    "llama.cpp {} the gates of the chosen experts of the architecture {}, and the model does not agree; \
                     write a Hugging Face folder",
                    if theirs { "normalises" } else { "does not normalise" },
                    self.architecture.gguf
                )));
            }
            let needs_all = !matches!(rule.layers, ExpertLayers::Periodic { .. });
            let without = kinds.iter().position(|kind| kind.feed_forward == FeedForward::Mlp);
            if let Some(layer) = without.filter(|_| needs_all) {
                return Err(Error::Unsupported(format!(
                    "a GGUF file of the architecture {} has experts in every layer, and layer {layer} has none; write a \
                     Hugging Face folder",
                    self.architecture.gguf
                )));
            }
        }
        let has_windows = kinds.iter().any(|kind| kind.window.is_some() || kind.rope.is_none());
        if let Windows::Some(_) = self.architecture.windows
            && has_windows
            && !gguf_windows(self.architecture, n)
        {
            return Err(Error::Unsupported(format!(
                "llama.cpp uses the windows of the architecture {} only with another number of layers than {n}; write \
                 a Hugging Face folder",
                self.architecture.gguf
            )));
        }
        if let Some(mamba) = self.mamba {
            let n_mamba = kinds.iter().filter(|kind| kind.mixer == Mixer::Mamba).count();
            if n_mamba == 0 || n_mamba == n {
                return Err(Error::Unsupported(
                    "llama.cpp cannot open a model of this architecture without at least one layer with attention and \
                     one without; keep both, or write a Hugging Face folder"
                        .to_owned(),
                ));
            }
            if mamba.channels != 2 * self.hidden_size {
                return Err(Error::Unsupported(format!(
                    "llama.cpp demands twice as many channels of a Mamba mixer as the stream is wide, and there are {}; \
                     write a Hugging Face folder",
                    mamba.channels
                )));
            }
        }
        let theirs = match self.architecture.rotation {
            Rotation::AllBut(every) => architectures::every(n, every),
            _ => return Ok(()),
        };
        let mut layers = kinds.iter().zip(&theirs).enumerate();
        match layers.find(|(_, (ours, theirs))| ours.rope.is_some() != **theirs) {
            None => Ok(()),
            Some((layer, (ours, _))) if ours.rope.is_some() => unsaid(layer, "does", "does not rotate"),
            Some((layer, _)) => unsaid(layer, "does not", "rotates"),
        }
    }
}

/// Returns the keys and values that say how the frequencies of `rope` are changed.
fn scaling_entries(rope: &Rope) -> Vec<(&'static str, Value)> {
    let size = |n: f64| Value::U32(n as u32);
    let float = |number: f64| Value::F32(number as f32);
    let kind = |name: &str| ("rope.scaling.type", Value::String(name.to_owned()));
    match &rope.scaling {
        RopeScaling::Linear { factor } => vec![kind("linear"), ("rope.scaling.factor", float(*factor))],
        RopeScaling::Yarn(yarn) => {
            let mut entries = vec![
                kind(YARN),
                ("rope.scaling.factor", float(yarn.factor)),
                (ORIGINAL_CONTEXT, size(yarn.original_context)),
                ("rope.scaling.yarn_beta_fast", float(yarn.fast_turns)),
                ("rope.scaling.yarn_beta_slow", float(yarn.slow_turns)),
            ];
            let usual = Yarn::attention_factor(yarn.factor, 1.0);
            let alike = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
            if alike(yarn.attention_factor, 1.0) {
                entries.push((LOG_MULTIPLIER, float(1.0)));
            } else if !alike(yarn.attention_factor, usual) {
                entries.push((ATTENTION_FACTOR, float(yarn.attention_factor / usual)));
            }
            entries
        }
        RopeScaling::Long(long) => {
            vec![
                (ORIGINAL_CONTEXT, size(long.original_context)),
                (ATTENTION_FACTOR, float(long.attention_factor)),
            ]
        }
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => Vec::new(),
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
        let [count, _] = EXPERTS;
        let n_experts = self.metadata.get(&format!("{name}.{count}")).and_then(number_of);
        let has_experts = n_experts.is_some_and(|n| n != 0.0);
        let Some(architecture) = architectures::by_gguf(name, has_experts) else {
            let supported = architectures::listed();
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
        let unscaled =
            SCALES.iter().filter(|_| architecture.scaling != Scaling::Factors).map(|name| (*name, 1.0));
        let is_capped = matches!(architecture.scaling, Scaling::Gemma { .. });
        let uncapped = CAPS.iter().filter(|_| !is_capped).map(|name| (*name, 0.0));
        let [count, _] = EXPERTS;
        let without_experts = architecture.experts.is_none().then_some((count, 0.0));
        for (name, neutral) in NEUTRAL.into_iter().chain(unscaled).chain(uncapped).chain(without_experts) {
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
        let name = "attention.value_length";
        match self.optional_size(name)? {
            Some(other) if other != head_dim => self.refuse(format!(
                "{} is {other} where heads are {head_dim} wide, which is not supported",
                self.key(name)
            )),
            _ => Ok(()),
        }
    }

    /// Reads the constants that activations are multiplied by, and their caps. 0 stands for a score scale that is not
    /// given, as in llama.cpp.
    fn scales(&self, scaling: Scaling, hidden_size: usize) -> Result<Scales> {
        let number = |name: &str| Ok::<_, Error>(self.number(name)?.filter(|n| *n != 0.0));
        match scaling {
            Scaling::None => Ok(Scales::default()),
            Scaling::Factors => {
                let [embedding, residual, logits] = SCALES;
                Ok(Scales {
                    embedding: number(embedding)?.unwrap_or(1.0),
                    scores: number(SCORE_SCALE)?,
                    residual: number(residual)?.unwrap_or(1.0),
                    logits: 1.0 / number(logits)?.unwrap_or(1.0),
                    ..Scales::default()
                })
            }
            Scaling::Gemma { caps: [usual_of_scores, usual_of_logits], .. } => {
                let [scores, logits] = CAPS;
                Ok(Scales {
                    embedding: (hidden_size as f64).sqrt(),
                    score_cap: number(scores)?.or(usual_of_scores),
                    logit_cap: number(logits)?.or(usual_of_logits),
                    ..Scales::default()
                })
            }
        }
    }

    /// Returns the entries of the list under `name`; `None` if there is no list.
    fn list(&self, name: &str) -> Option<&[Value]> {
        self.metadata.get(&self.key(name)).and_then(|value| value.as_array())
    }

    /// Reads the sizes of the Mamba mixers.
    fn mamba(&self) -> Result<MambaSizes> {
        let [channels, states, rank, taps] = MAMBA;
        Ok(MambaSizes {
            channels: self.size(channels)?,
            states: self.size(states)?,
            rank: self.size(rank)?,
            taps: self.size(taps)?,
        })
    }

    /// Reads the sizes of the experts; an MLP is `mlp_width` wide.
    fn experts(&self, rule: Experts, mlp_width: usize) -> Result<ExpertSizes> {
        let ([count, used], [width, shared]) = (EXPERTS, EXPERT_WIDTHS);
        Ok(ExpertSizes {
            count: self.size(count)?,
            used: self.size(used)?,
            width: match rule.width {
                Some(_) => self.size(width)?,
                None => mlp_width,
            },
            normalised: matches!(rule.gates, Gates::Normalised | Gates::Asked),
            shared_width: rule.shared.map(|_| self.size(shared)).transpose()?,
        })
    }

    /// Reads the growth of queries with their positions.
    fn query_growth(&self) -> Result<Option<QueryGrowth>> {
        match self.number(GROWTH)?.filter(|beta| *beta != 0.0) {
            None => Ok(None),
            Some(beta) => Ok(Some(QueryGrowth { beta, context: self.size(ORIGINAL_CONTEXT)? as f64 })),
        }
    }

    /// Reads what tells the layers apart: windows, the place of the rotation among `n_ropes`, mixers, and experts, which the
    /// layers `routed` have where some have none.
    fn kinds(
        &self,
        architecture: &Architecture,
        n_layers: usize,
        n_ropes: usize,
        routed: &[usize],
    ) -> Result<Vec<LayerKind>> {
        // 0 stands for no window.
        let none = self.metadata.get(&self.key(WINDOW)).and_then(|value| value.as_u64()) == Some(0);
        let window = if none { None } else { self.optional_size(WINDOW)? };
        let windows = match architecture.windows {
            Windows::Off => vec![None; n_layers],
            Windows::Never | Windows::All(_) => vec![window; n_layers],
            Windows::Some(_) if !gguf_windows(architecture, n_layers) || none => vec![None; n_layers],
            Windows::Some(rule) => {
                let window = window.or(rule.gguf_usual);
                let has_window = self.windowed_layers(n_layers, rule.every)?;
                has_window.into_iter().map(|has| window.filter(|_| has)).collect()
            }
        };
        let is_mixed = windows.iter().any(Option::is_some);
        let rotated = match architecture.rotation {
            Rotation::AllBut(every) => architectures::every(n_layers, every),
            Rotation::Switched => {
                let switch = self.metadata.get(&self.key(ROTATES));
                vec![switch != Some(&Value::Bool(false)); n_layers]
            }
            Rotation::Windowed if is_mixed => windows.iter().map(Option::is_some).collect(),
            Rotation::Never => vec![false; n_layers],
            Rotation::All | Rotation::LocalBase(_) | Rotation::LocalUnscaled | Rotation::Windowed => {
                vec![true; n_layers]
            }
        };
        let heads = self.list(KEY_HEADS).filter(|_| architecture.mamba.is_some());
        let kind = |(layer, (window, rotates)): (usize, (Option<usize>, bool))| {
            let has_experts = match architecture.experts.map(|rule| rule.layers) {
                None => false,
                Some(ExpertLayers::Periodic { .. }) => routed.contains(&layer),
                Some(ExpertLayers::All | ExpertLayers::Listed) => true,
            };
            let heads = heads.and_then(|list| list.get(layer)?.as_u64());
            LayerKind {
                rope: rotates.then_some(if window.is_some() { n_ropes.saturating_sub(1) } else { 0 }),
                window,
                mixer: if heads == Some(0) { Mixer::Mamba } else { Mixer::Attention },
                feed_forward: if has_experts { FeedForward::Experts } else { FeedForward::Mlp },
            }
        };
        Ok(windows.into_iter().zip(rotated).enumerate().map(kind).collect())
    }

    /// Reads which layers have a window: all but every `usual`-th, unless a list or another number says otherwise.
    fn windowed_layers(&self, n_layers: usize, usual: usize) -> Result<Vec<bool>> {
        let key = self.key(WINDOWED_LAYERS);
        let bad = |value: &Value| {
            self.bad(format!("{key} is {value}, not a list of {n_layers} entries or a number"))
        };
        match self.metadata.get(&key) {
            None => Ok(architectures::every(n_layers, usual)),
            Some(value @ Value::Array(Array { items, .. })) if items.len() == n_layers => items
                .iter()
                .map(|item| match item {
                    Value::Bool(windowed) => Ok(*windowed),
                    other => other.as_u64().map(|n| n != 0).ok_or_else(|| bad(value)),
                })
                .collect(),
            Some(value) => {
                let every = value.as_u64().and_then(super::sensible_size).ok_or_else(|| bad(value))?;
                Ok(architectures::every(n_layers, every))
            }
        }
    }

    /// Reads the rotations of layers without a window and with one (one rotation if they are alike).
    fn ropes(
        &self,
        architecture: &Architecture,
        divisors: Option<Vec<f32>>,
        long: Option<[Vec<f32>; 2]>,
    ) -> Result<Vec<Rope>> {
        let theta = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let local = match architecture.rotation {
            Rotation::LocalBase(usual) => Some(usual),
            Rotation::LocalUnscaled => Some(theta),
            _ => None,
        };
        let mut ropes = vec![Rope { theta, scaling: self.rope_scaling(divisors, long)? }];
        if let Some(usual) = local {
            let theta = self.positive(LOCAL_BASE)?.unwrap_or(usual);
            ropes.push(Rope { theta, scaling: RopeScaling::None });
            ropes.dedup();
        }
        Ok(ropes)
    }

    /// Reads the change of the rotary frequencies as llama.cpp does: where the type is `none`, a factor says
    /// nothing; without a type a factor is linear; a factor of 0 is none; and divisors apply in any case.
    fn rope_scaling(&self, divisors: Option<Vec<f32>>, long: Option<[Vec<f32>; 2]>) -> Result<RopeScaling> {
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
    fn yarn(&self) -> Result<RopeScaling> {
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

    /// Checks that every key below `rope.` is one that is read or that changes nothing. `is_long` says that the frequencies
    /// have divisors for short and long sequences.
    fn check_rope(&self, is_long: bool) -> Result<()> {
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
        refused("expert_count", Value::U32(8), "expert_used_count is missing");
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
        let yarn = |config: &Config| match config.ropes[0].scaling {
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
        for attention_factor in [1.0, 0.9] {
            again.ropes[0].scaling = RopeScaling::Yarn(Yarn { attention_factor, ..yarn(&again) });
            let facts = Facts { vocab_size: 512, ..Facts::default() };
            let metadata = again.to_metadata(&groups, None).unwrap();
            let third = yarn(&Config::from_metadata("m.gguf", metadata, facts).unwrap());
            assert!((third.attention_factor - attention_factor).abs() < 1e-6, "{third:?}");
        }
        again.ropes[0].scaling = RopeScaling::Yarn(Yarn { rounds: false, ..yarn(&again) });
        assert!(again.to_metadata(&groups, None).unwrap_err().to_string().contains("YaRN"));
        let message = with(&[(EXTRAPOLATION, Value::F32(0.0))]).unwrap_err().to_string();
        assert!(message.contains(EXTRAPOLATION), "{message}");
    }

    #[test]
    fn every_key_of_rope_is_obeyed_or_refused() {
        let with = |entries: &[(&str, Value)], divisors: Option<&[f32]>| {
            let mut metadata = self::entries();
            entries.iter().for_each(|(name, value)| metadata.set(&key(name), value.clone()));
            let rotary_divisors = divisors.map(<[f32]>::to_vec);
            let facts = Facts { vocab_size: 512, rotary_divisors, ..Facts::default() };
            Config::from_metadata("m.gguf", metadata, facts).map(|config| config.ropes[0].scaling.clone())
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
