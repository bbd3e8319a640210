//! Settings in the metadata of GGUF files. The key names of the settings occur only in this folder: read here, in `kinds.rs`
//! and in `rope.rs`, written in `writing.rs`.

mod keys;
mod kinds;
mod rope;
mod writing;

pub(super) use self::writing::say_expert_count;

use self::keys::{Keys, number_of};
use super::{
    Biases, Config, FeedForward, FullHeads, LayerKind, QueryGrowth, Scales, Upstream, gguf_score_scale,
    misread_keys, not_dense,
};
use crate::format::gguf::{Metadata, Value};
use crate::kernels::rowwise::NormKind;
use crate::model::architectures::{self, Architecture, Scaling};
use crate::model::tokenizer::gguf::SpecialIds;
use crate::{Error, Result};

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

/// Key of the taps of short convolutions.
const CONVOLUTION_TAPS: &str = "shortconv.l_cache";

/// Keys of the sizes of delta nets: key heads, value heads, width of a key head, width of all value heads, taps.
const DELTA_NET: [&str; 5] =
    ["ssm.group_count", "ssm.time_step_rank", "ssm.state_size", "ssm.inner_size", "ssm.conv_kernel"];

/// Key of the list of the layers that have delta nets, and of the number of layers of which the last has attention, which
/// the list replaces.
const DELTA_NET_LAYERS: [&str; 2] = ["attention.recurrent_layers", "full_attention_interval"];

/// Key of the numbers of frequencies for each axis of a position; the positions of text are the same on all.
const SECTIONS: &str = "rope.dimension_sections";

/// Keys of the number of experts and of those that are chosen for each token.
const EXPERTS: [&str; 2] = ["expert_count", "expert_used_count"];

/// Keys of the width of an expert, and of that of the expert that serves every token.
const EXPERT_WIDTHS: [&str; 2] = ["expert_feed_forward_length", "expert_shared_feed_forward_length"];

/// Keys of the factors of embeddings and residuals, and of the divisor of logits, which is a factor for
/// [`Scaling::Logits`]. An architecture without scales has
/// 1 there.
const SCALES: [&str; 3] = ["embedding_scale", "residual_scale", "logit_scale"];

/// Returns the key of the epsilon of the norms.
fn epsilon(architecture: &Architecture) -> &'static str {
    match architecture.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    }
}

/// Key of the factor of the attention scores.
const SCORE_SCALE: &str = "attention.scale";

/// Keys of the caps of attention scores and of logits.
const CAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];

/// Key of the window, where some layers have one or all.
const WINDOW: &str = "attention.sliding_window";

/// Key of the list that says which layers have a window, or of the number of layers of which the last has none.
const WINDOWED_LAYERS: &str = "attention.sliding_window_pattern";

/// Keys of the widths of keys and values and of the rotated numbers of a head; with [`OF_WINDOWED`] behind them, of layers
/// with a window where those have other heads.
const HEAD_WIDTHS: [&str; 3] = ["attention.key_length", "attention.value_length", "rope.dimension_count"];

/// Ending of keys of layers with a window.
const OF_WINDOWED: &str = "_swa";

/// Key of the number of layers, the last, that read the keys and values of others.
const SHARING: &str = "attention.shared_kv_layers";

/// Key of the width of the input that each layer has of its own.
const INPUT_WIDTH: &str = "embedding_length_per_layer_input";

/// Key of the width of the MLP, or of the list of such widths.
const MLP_WIDTH: &str = "feed_forward_length";

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

/// Key of the number of blocks that draft tokens, which are the last layers of a file.
const DRAFTING: &str = "nextn_predict_layers";

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
    /// Layers that have a value projection.
    pub valued: Vec<usize>,
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
        let (mut head_dim, mut rotated_width) = keys.heads(architecture, hidden_size / n_heads, "")?;
        let vocab_size = usize::try_from(facts.vocab_size).unwrap_or(usize::MAX);
        let SpecialIds { bos, eos } = SpecialIds::read(file, &metadata, vocab_size)?;
        let n_layers = keys.size("block_count")?;
        let ropes = keys.ropes(architecture, facts.rotary_divisors, facts.long_divisors)?;
        let mlp_widths = keys.mlp_widths(architecture, n_layers)?;
        let intermediate_size = mlp_widths.first().copied().unwrap_or(0);
        let layers = keys.kinds(architecture, mlp_widths, ropes.len(), &facts.routed)?;
        if let Some(layer) = misread_keys(&layers) {
            return keys.refuse(format!("{}: {}", keys.key(SHARING), misread(layer)));
        }
        let mut full_heads = None;
        if architecture.full_heads.is_some() {
            let [windowed, kv_heads] = keys.heads_by_window(&layers, n_heads)?;
            let has_own = |(_, kind): &(usize, &LayerKind)| kind.window.is_none() && !kind.shares_keys;
            let full: Vec<usize> =
                layers.iter().enumerate().filter(has_own).map(|(layer, _)| layer).collect();
            let without_values = full.iter().filter(|layer| !facts.valued.contains(layer)).count();
            let full = full.len();
            if without_values > 0 && without_values < full {
                return keys.refuse(format!(
                    "of {full} layers without a window {without_values} have no value projection, and the others have \
                     one, which is not supported"
                ));
            }
            let keys_are_values = without_values > 0;
            full_heads = Some((windowed, FullHeads { width: head_dim, kv_heads, keys_are_values }));
            (head_dim, rotated_width) = keys.heads(architecture, head_dim, OF_WINDOWED)?;
        }
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
            full_heads: full_heads.map(|(_, heads)| heads),
            n_kv_heads: match keys.list(KEY_HEADS).filter(|_| architecture.other_mixer().is_some()) {
                // A layer without heads has another mixer.
                Some(list) => match list.iter().filter_map(Value::as_u64).find(|n| *n > 0) {
                    Some(heads) => super::sensible_size(heads).unwrap_or(n_heads),
                    None => n_heads,
                },
                None if let Some((windowed, _)) = full_heads => windowed,
                None => keys.optional_size(KEY_HEADS)?.unwrap_or(n_heads),
            },
            mxfp4_experts: false,
            packing: None,
            mamba: architecture.mamba.map(|_| keys.mamba()).transpose()?,
            layer_input: architecture
                .layer_inputs
                .map(|_| keys.optional_count(INPUT_WIDTH))
                .transpose()?
                .flatten(),
            short_convolution: architecture
                .short_convolution
                .map(|_| keys.size(CONVOLUTION_TAPS))
                .transpose()?,
            delta_net: architecture.delta_net.map(|rule| keys.delta_net(rule)).transpose()?,
            head_dim,
            vocab_size,
            context: keys.optional_size("context_length")?.unwrap_or(2048),
            norm_epsilon: keys.number(epsilon(architecture))?.unwrap_or(1e-5),
            tied_head: facts.tied_head,
            biases: facts.biases,
            bos_token_id: bos,
            eos_token_id: eos,
            upstream: Upstream::Gguf(metadata),
            whole: None,
        };
        if let Some(scale) = gguf_score_scale(&config, n_layers) {
            config.scales.scores = Some(scale);
        }
        config.check(file)
    }
}

/// Says that llama.cpp gives layer `layer` other keys and values than are meant.
fn misread(layer: usize) -> String {
    format!(
        "llama.cpp gives layer {layer} the keys and values of one of the last two layers that have their own, of which the \
         first has to have a window and the second none, and they have not"
    )
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

/// Changes `metadata`, of the GGUF file `file` that holds a model of `architecture`, to those of a file without blocks that
/// draft tokens. Returns the number of layers that are left; `None` if there is no such block.
///
/// # Errors
/// [`Error::Format`] if the number of blocks is senseless or not less than that of the layers.
pub fn leave_out_drafting(
    file: &str,
    architecture: &Architecture,
    metadata: &mut Metadata,
) -> Result<Option<usize>> {
    if !architecture.drafts {
        return Ok(None);
    }
    let keys = Keys { file, metadata, prefix: architecture.gguf };
    let key = keys.key(DRAFTING);
    let given = keys.metadata.get(&key).map(|value| (value.as_u64(), value.to_string()));
    let drafting = match given {
        None | Some((Some(0), _)) => return Ok(None),
        Some((Some(n), _)) => n as usize,
        Some((None, other)) => return Err(keys.bad(format!("{key} is {other}, not a number of layers"))),
    };
    let all = keys.size("block_count")?;
    let Some(n_layers) = all.checked_sub(drafting).filter(|n| *n > 0) else {
        return Err(keys.bad(format!("{key} is {drafting}, but there are only {all} layers")));
    };
    let (count, prefix) = (keys.key("block_count"), keys.key(""));
    for (key, value) in &mut metadata.entries {
        if let Value::Array(list) = value
            && key.starts_with(&prefix)
            && !key.ends_with(SECTIONS)
            && list.items.len() == all
        {
            list.items.truncate(n_layers);
        }
    }
    metadata.set(&count, Value::U32(n_layers as u32));
    metadata.remove(&key);
    Ok(Some(n_layers))
}

impl Keys<'_> {
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
        let is_scaled = |place: usize| match architecture.scaling {
            Scaling::Factors => true,
            Scaling::Logits(_) => place == 2,
            Scaling::None | Scaling::Gemma { .. } | Scaling::Layers => false,
        };
        let unscaled = SCALES.iter().enumerate().filter(|(place, _)| !is_scaled(*place));
        let unscaled = unscaled.map(|(_, name)| (*name, 1.0));
        let is_capped = |place: usize| match architecture.scaling {
            Scaling::Gemma { .. } => true,
            Scaling::Layers => place == 1,
            _ => false,
        };
        let uncapped = CAPS.iter().enumerate().filter(|(place, _)| !is_capped(*place));
        let uncapped = uncapped.map(|(_, name)| (*name, 0.0));
        let [count, _] = EXPERTS;
        let without_experts = architecture.experts.is_none().then_some((count, 0.0));
        let key = self.key(count);
        let experts = self.metadata.get(&key).filter(|value| number_of(value) != Some(0.0));
        if let Some(value) = experts.filter(|_| architecture.full_heads.is_some()) {
            return self.refuse(format!("{key} is {value}: {}", not_dense(architecture)));
        }
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

    /// Reads the width of a head, `usual` where it is not given, and how many of its numbers are rotated, from keys that
    /// end with `ending`.
    fn heads(&self, architecture: &Architecture, usual: usize, ending: &str) -> Result<(usize, usize)> {
        let [keys, values, rotated] = HEAD_WIDTHS.map(|name| format!("{name}{ending}"));
        let width = self.optional_size(&keys)?.unwrap_or(usual);
        let is_wide = |name: &str, can_differ: bool| match self.optional_size(name)? {
            Some(other) if other != width && !can_differ => self.refuse(format!(
                "{} is {other} where heads are {width} wide, which is not supported",
                self.key(name)
            )),
            given => Ok(given.unwrap_or(width)),
        };
        is_wide(&values, false)?;
        Ok((width, is_wide(&rotated, architecture.usual.rotated_share.is_some())?))
    }

    /// Reads the numbers of key and value heads of layers with a window and of those without one.
    fn heads_by_window(&self, layers: &[LayerKind], n_heads: usize) -> Result<[usize; 2]> {
        let Some(list) = self.list(KEY_HEADS) else {
            return Ok([self.optional_size(KEY_HEADS)?.unwrap_or(n_heads); 2]);
        };
        let of = |windowed: bool| {
            let own = layers.iter().zip(list).filter(|(kind, _)| kind.window.is_some() == windowed);
            let mut own = own.map(|(_, heads)| heads.as_u64().and_then(super::sensible_size));
            match own.next() {
                None => Ok(None),
                Some(Some(first)) if own.all(|other| other == Some(first)) => Ok(Some(first)),
                _ => self.refuse(format!(
                    "{} differs between layers of one kind, which is not supported",
                    self.key(KEY_HEADS)
                )),
            }
        };
        let (windowed, full) = (of(true)?, of(false)?);
        let any = windowed.or(full).unwrap_or(n_heads);
        Ok([windowed.unwrap_or(any), full.unwrap_or(any)])
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
            Scaling::Logits(_) => {
                let [_, _, logits] = SCALES;
                Ok(Scales { logits: number(logits)?.unwrap_or(1.0), ..Scales::default() })
            }
            Scaling::Layers => {
                let [_, logits] = CAPS;
                let embedding = (hidden_size as f64).sqrt();
                Ok(Scales { embedding, scores: Some(1.0), logit_cap: number(logits)?, ..Scales::default() })
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

    /// Reads the growth of queries with their positions.
    fn query_growth(&self) -> Result<Option<QueryGrowth>> {
        match self.number(GROWTH)?.filter(|beta| *beta != 0.0) {
            None => Ok(None),
            Some(beta) => Ok(Some(QueryGrowth { beta, context: self.size(ORIGINAL_CONTEXT)? as f64 })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rope::EXTRAPOLATION;
    use super::*;
    use crate::format::element::Element;
    use crate::format::gguf::Array;
    use crate::model::rope::{RopeScaling, Yarn};

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

    /// Gemma 4 with a layer of each kind, without values in the second.
    fn gemma(edit: impl FnOnce(&mut Metadata), edit_facts: impl FnOnce(&mut Facts)) -> Result<Config> {
        let mut metadata = Metadata::default();
        metadata.set(ARCHITECTURE_KEY, Value::String("gemma4".into()));
        for (name, n) in [
            ("block_count", 2),
            ("embedding_length", 64),
            ("feed_forward_length", 32),
            ("attention.head_count", 4),
            ("attention.key_length", 32),
            ("attention.value_length", 32),
            ("attention.key_length_swa", 16),
            ("attention.value_length_swa", 16),
            ("rope.dimension_count", 32),
            ("rope.dimension_count_swa", 16),
            ("attention.sliding_window", 8),
        ] {
            metadata.set(&format!("gemma4.{name}"), Value::U32(n));
        }
        let list = |of, items| Value::Array(Array { of, items });
        let heads = list(crate::format::gguf::ValueType::I32, vec![Value::I32(2), Value::I32(1)]);
        metadata.set("gemma4.attention.head_count_kv", heads);
        let windows = vec![Value::Bool(true), Value::Bool(false)];
        let windows = list(crate::format::gguf::ValueType::Bool, windows);
        metadata.set("gemma4.attention.sliding_window_pattern", windows);
        edit(&mut metadata);
        let divisors = (0..16).map(|place| if place < 4 { 1.0 } else { 1e30 }).collect();
        let mut facts =
            Facts { vocab_size: 512, rotary_divisors: Some(divisors), valued: vec![0], ..Facts::default() };
        edit_facts(&mut facts);
        Config::from_metadata("m.gguf", metadata, facts)
    }

    #[test]
    fn heads_of_layers_without_a_window_are_read_apart() {
        let config = gemma(|_| (), |_| ()).unwrap();
        let full = FullHeads { width: 32, kv_heads: 1, keys_are_values: true };
        assert_eq!((config.head_dim, config.n_kv_heads, config.full_heads), (16, 2, Some(full)));
        assert_eq!(config.ropes[0].scaling, RopeScaling::Proportional { share: 0.25 });
        assert_eq!(config.ropes[1].scaling, RopeScaling::None);
        let key = |name: &str| format!("gemma4.{name}");
        let mut refusals = Vec::new();
        for (name, value, expected) in [
            ("expert_count", Value::U32(128), "with experts"),
            ("attention.shared_kv_layers", Value::U32(1), "llama.cpp gives layer 1"),
            ("attention.shared_kv_layers", Value::U32(2), "is 2 in a model of 2 layers"),
            ("attention.value_length_swa", Value::U32(32), "where heads are 16 wide"),
            ("rope.dimension_count", Value::U32(8), "where heads are 32 wide"),
            ("attention.sliding_window_pattern", Value::U32(2), "not there as a list"),
            ("attn_logit_softcapping", Value::F32(50.0), "attn_logit_softcapping is 50"),
        ] {
            refusals.push((gemma(|m| m.set(&key(name), value), |_| ()), expected));
        }
        refusals.push((gemma(|_| (), |facts| facts.rotary_divisors = None), "rope_freqs.weight is missing"));
        for (refused, expected) in refusals {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        // Of three layers without a window, one has values.
        let three = gemma(
            |m| {
                m.set(&key("block_count"), Value::U32(3));
                m.set(&key("attention.head_count_kv"), Value::U32(1));
                let items = vec![Value::Bool(false); 3];
                let of = crate::format::gguf::ValueType::Bool;
                m.set(&key("attention.sliding_window_pattern"), Value::Array(Array { of, items }));
            },
            |_| (),
        );
        let message = three.unwrap_err().to_string();
        assert!(message.contains("of 3 layers without a window 2 have no value projection"), "{message}");
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
        let metadata = again.to_metadata(&groups, Some(Element::F16.into())).unwrap();
        assert_eq!(metadata.get(FILE_TYPE_KEY), Some(&Value::U32(1)));
        again.architecture = config.architecture;
        again.upstream = config.upstream.clone();
        assert_eq!(again, config);
        let facts = Facts { vocab_size: 512, ..Facts::default() };
        let third = Config::from_metadata("m.gguf", metadata, facts).unwrap();
        assert_eq!((third.head_dim, third.n_kv_heads, third.norm_epsilon), (8, 4, f64::from(1e-5f32)));
    }
}
