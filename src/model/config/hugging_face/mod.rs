//! Settings in `config.json`. Its key names occur only in this folder: read here, in `kinds.rs` and in `rope.rs`, written in
//! `writing.rs`.

mod json;
mod keys;
mod kinds;
mod packing;
mod rope;
mod writing;

pub(super) use self::writing::say_expert_count;

use serde_json::{Map, Value};

use self::json::{first, object, shown};
use self::keys::Keys;
use self::packing::METHOD_KEY;
use super::{Biases, Config, FeedForward, Scales, Upstream, Whole};
use crate::kernels::rowwise::{Activation, GLU_ALPHA, GLU_LIMIT};
use crate::model::architectures::{
    self, Architecture, ExpertNames, HeadNorms, Rotation, Scaling, Windows, Wrapper,
};
use crate::model::tensors::Spelling;
use crate::{Error, Result};

/// Name of the configuration file of a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";

/// Key of the object that has the settings of the decoder, where that is a part of a model.
const TEXT_KEY: &str = "text_config";

/// Key of the number of layers of the blocks that draft tokens.
const DRAFTING_KEY: &str = "mtp_num_hidden_layers";

/// Key that says whether the output head is the embedding.
const TIED_KEY: &str = "tie_word_embeddings";

/// Key of what quantised weights are like.
const QUANTISED_KEY: &str = "quantization_config";

/// Keys of the tokens that begin and end a text. Those of a whole model are its decoder's where the decoder has none.
const TOKEN_KEYS: [&str; 2] = ["bos_token_id", "eos_token_id"];

/// Key of the name of the file that holds the weights, or of their index.
const WEIGHTS_KEY: &str = "transformers_weights";

/// Key of the list of the kinds of the layers, of which transformers demands one entry per layer.
const LAYER_TYPES_KEY: &str = "layer_types";

/// Entry of the list of kinds for a layer that attends to all tokens before a position.
const FULL: &str = "full_attention";

/// Entry of the list of kinds for a layer with a window.
const WINDOWED: &str = "sliding_attention";

/// Old name of [`FULL`].
const PLAIN_ATTENTION: &str = "attention";

/// Key of the list of the layers that have an MLP where the others have experts.
const MLP_LAYERS_KEY: &str = "mlp_only_layers";

/// Key of the number of layers of which the last has experts.
const EXPERT_STEP_KEY: &str = "decoder_sparse_step";

/// Key of the number of experts that are chosen for each token.
const USED_EXPERTS_KEY: &str = "num_experts_per_tok";

/// Key that says whether the gates of the chosen experts add up to 1.
const NORMALISED_KEY: &str = "norm_topk_prob";

/// Keys of the period and the offset of the layers with attention where the others have Mamba mixers.
const ATTENTION_PERIOD: [&str; 2] = ["attn_layer_period", "attn_layer_offset"];

/// Keys of the period and the offset of the layers with experts.
const EXPERT_PERIOD: [&str; 2] = ["expert_layer_period", "expert_layer_offset"];

/// Key of the width of the step of a Mamba mixer.
const STEP_RANK_KEY: &str = "mamba_dt_rank";

/// Key of the numbers of the state of a channel of a Mamba mixer.
const STATES_KEY: &str = "mamba_d_state";

/// Key of the taps of the convolution of a Mamba mixer.
const TAPS_KEY: &str = "mamba_d_conv";

/// Entry of the list of kinds for a layer with a short convolution.
const CONVOLUTION: &str = "conv";

/// Entry of the list of kinds for a layer with a delta net.
const LINEAR_ATTENTION: &str = "linear_attention";

/// Key of the list of layers with attention where the others have short convolutions, which [`LAYER_TYPES_KEY`] replaces.
const ATTENTION_LAYERS_KEY: &str = "full_attn_idxs";

/// Key of the number of layers of which the last has attention where the others have delta nets, which
/// [`LAYER_TYPES_KEY`] replaces.
const ATTENTION_INTERVAL_KEY: &str = "full_attention_interval";

/// Key of the taps of short convolutions.
const CONVOLUTION_TAPS_KEY: &str = "conv_L_cache";

/// Keys of the sizes of delta nets: key heads, value heads, width of a key head, width of a value head, taps.
const DELTA_NET: [&str; 5] = [
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
];

/// Key of the epsilon of the norms where an architecture has no other.
const NORM_EPSILON_KEY: &str = "rms_norm_eps";

/// Name of the way to quantise weights that GPT-OSS has.
const MXFP4: &str = "mxfp4";

/// Key that says whether the width of an MLP is adjusted.
const ADJUSTS_KEY: &str = "block_auto_adjust_ff_dim";

/// Key of the base of the frequencies of layers with a window.
const LOCAL_BASE_KEY: &str = "rope_local_base_freq";

/// Name of the gated activation by a sigmoid, and of that by a Gaussian as the hyperbolic tangent approximates it.
const ACTIVATIONS: [&str; 2] = ["silu", "gelu_pytorch_tanh"];

/// Keys of the heads of layers without a window: width, number of key and value heads, and whether keys are values.
const FULL_HEADS: [&str; 3] = ["global_head_dim", "num_global_key_value_heads", "attention_k_eq_v"];

/// Key of an object that has settings of single layers under their numbers, which come before [`FULL_HEADS`].
const PER_LAYER_KEY: &str = "per_layer_config";

/// Keys of the width of a head and of the number of key and value heads.
const HEADS: [&str; 2] = ["head_dim", "num_key_value_heads"];

/// Key of the object of the rotations of each kind of layer.
const ROPE_KEY: &str = "rope_parameters";

/// Keys of what some models of an architecture have whose layers without a window have other heads: the width of the input
/// that each layer has of its own, the number of layers that read the keys and values of others, experts beside the MLPs,
/// and MLPs of double width in the former.
const OF_KINDS: [&str; 4] =
    ["hidden_size_per_layer_input", "num_kv_shared_layers", "enable_moe_block", "use_double_wide_mlp"];

/// Key of the number of tokens that have inputs of layers.
const INPUT_VOCABULARY_KEY: &str = "vocab_size_per_layer_input";

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
        let mut raw = object(json)?;
        let (architecture, wrapper) = Keys(&raw).architecture(notes)?;
        let whole =
            wrapper.map(|wrapper| Whole { wrapper, object: raw.clone(), spelling: Spelling::default() });
        if let Some(whole) = &whole {
            raw = whole.text()?;
        }
        for (former, key) in architecture.former_keys {
            if let Some(value) = raw.shift_remove(*former) {
                raw.insert((*key).to_owned(), value);
            }
        }
        let merged = whole.as_ref().map(|whole| whole.counting(&raw));
        let keys = Keys(merged.as_ref().unwrap_or(&raw));
        let usual = &architecture.usual;
        keys.refuse_unknown_arithmetic(architecture)?;
        let [bos_key, eos_key] = TOKEN_KEYS;
        let n_layers = keys.size_or("num_hidden_layers", usual.n_layers)?;
        keys.check_layer_types(architecture, n_layers, notes)?;
        let n_heads = keys.size_or("num_attention_heads", usual.n_heads)?;
        let hidden_size = keys.size_or("hidden_size", usual.hidden_size)?;
        let vocab_size = keys.size_or("vocab_size", usual.vocab_size)?;
        let context = keys.size_or("max_position_embeddings", usual.context)?;
        let head_dim = match keys.size_or_null("head_dim", usual.head_dim)? {
            Some(head_dim) => head_dim,
            None => hidden_size / n_heads,
        };
        let (ropes, share, query_growth) = keys.ropes(architecture, context, head_dim, notes)?;
        let intermediate_size = keys.mlp_width(architecture)?;
        let n_kv_heads = keys.size_or_null("num_key_value_heads", usual.n_kv_heads)?.unwrap_or(n_heads);
        let layers = keys.kinds(architecture, [n_layers, intermediate_size], ropes.len())?;
        let has_experts = layers.iter().any(|kind| kind.feed_forward == FeedForward::Experts);
        let experts = architecture.experts.filter(|_| has_experts);
        let experts = experts.map(|rule| keys.experts(rule, intermediate_size)).transpose()?;
        let input = keys.presence(architecture.input_biases)?;
        let biases = Biases {
            attention: [input, input, input, keys.presence(architecture.output_bias)?],
            mlp: [keys.presence(architecture.mlp_biases)?; 3],
        };
        let config = Self {
            n_layers,
            hidden_size,
            intermediate_size,
            n_heads,
            n_kv_heads,
            head_dim,
            full_heads: keys.full_heads(architecture, [head_dim, n_kv_heads], &layers)?,
            vocab_size,
            context,
            norm_epsilon: keys
                .number(architecture.norm_epsilon.unwrap_or(NORM_EPSILON_KEY))?
                .unwrap_or(usual.norm_epsilon),
            ropes,
            rotated_width: (head_dim as f64 * share) as usize,
            layers,
            query_growth,
            experts,
            mxfp4_experts: false,
            packing: keys.packing()?,
            mamba: architecture.mamba.map(|rule| keys.mamba(rule, hidden_size)).transpose()?,
            layer_input: match architecture.layer_inputs {
                Some(width) => keys.layer_input(width, usual.vocab_size, vocab_size)?,
                None => None,
            },
            short_convolution: architecture
                .short_convolution
                .map(|taps| keys.short_convolution(taps))
                .transpose()?,
            delta_net: architecture.delta_net.map(|rule| keys.delta_net(rule)).transpose()?,
            tied_head: keys.flag_or(TIED_KEY, usual.tied_head)?,
            biases,
            scales: keys.scales(architecture.scaling, hidden_size)?,
            bos_token_id: keys.token(bos_key, usual.bos, vocab_size)?,
            eos_token_id: keys.token(eos_key, usual.eos, vocab_size)?,
            architecture,
            upstream: Upstream::HuggingFace(raw),
            whole,
        };
        config.check(CONFIG_NAME)
    }

    /// Returns the name of the file that holds the weights, or of their index, if `config.json` names it.
    pub fn weights_name(&self) -> Option<&str> {
        self.outermost()?.get(WEIGHTS_KEY).and_then(Value::as_str)
    }

    /// Returns the object of `config.json`, of the whole model if the decoder is a part of one.
    fn outermost(&self) -> Option<&Map<String, Value>> {
        match (&self.upstream, &self.whole) {
            (Upstream::HuggingFace(_), Some(whole)) => Some(&whole.object),
            (Upstream::HuggingFace(raw), None) => Some(raw),
            (Upstream::Gguf(_), _) => None,
        }
    }

    /// Decides that the output head is the embedding, if the files hold no head and the settings of the decoder say so
    /// although those of the whole model do not. Returns whether they do.
    pub fn tie_without_head(&mut self) -> bool {
        let inside = match (&self.upstream, &self.whole) {
            (Upstream::HuggingFace(raw), Some(_)) => raw.get(TIED_KEY) == Some(&Value::Bool(true)),
            _ => false,
        };
        let decided = inside && !self.tied_head;
        self.tied_head |= inside;
        decided
    }

    /// Decides on BOS and EOS where `config.json` does not name them, or names an id outside the vocabulary,
    /// by what the tokenizer says. BOS is the token that the tokenizer puts before a text, else the token
    /// that its settings call BOS. Where these say nothing either, the default of the class stays. A key that
    /// is null means that there is no such token. Changes nothing in a GGUF model.
    pub fn complete_special_tokens(&mut self, tokenizer: AroundText, notes: &mut Vec<String>) {
        let Upstream::HuggingFace(raw) = &self.upstream else {
            return;
        };
        let given = |key: &str| {
            let outside = || self.whole.as_ref().and_then(|whole| whole.object.get(key));
            raw.get(key).or_else(outside)
        };
        let vocab_size = self.vocab_size;
        let fits = |id: &u32| (*id as usize) < vocab_size;
        let mut complete = |key: &str, mut id: Option<u32>, said: Option<Option<u32>>| {
            match given(key).map(first) {
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
        let [bos_key, eos_key] = TOKEN_KEYS;
        let bos = complete(bos_key, self.bos_token_id, bos);
        let eos = complete(eos_key, self.eos_token_id, tokenizer.eos);
        (self.bos_token_id, self.eos_token_id) = (bos, eos);
    }
}

impl Whole {
    /// Returns the settings of the decoder.
    fn text(&self) -> Result<Map<String, Value>> {
        match self.object.get(TEXT_KEY) {
            Some(Value::Object(text)) => Ok(text.clone()),
            _ => Err(Error::Format(format!(
                "{CONFIG_NAME}: it lacks {TEXT_KEY}, the settings of the decoder of {}; download the file again",
                self.wrapper.class
            ))),
        }
    }

    /// Returns the settings of the decoder that count, of which `text` are its own: as in transformers, the whole model
    /// says whether the head is tied and how weights are quantised. Tokens that only the whole model names are the
    /// decoder's.
    fn counting(&self, text: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = text.clone();
        for key in TOKEN_KEYS {
            if let (false, Some(value)) = (merged.contains_key(key), self.object.get(key)) {
                merged.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(value) = self.object.get(QUANTISED_KEY).filter(|value| !value.is_null()) {
            merged.insert(QUANTISED_KEY.to_owned(), value.clone());
        }
        let tied = self.object.get(TIED_KEY).filter(|value| !value.is_null()).cloned();
        merged.insert(TIED_KEY.to_owned(), tied.unwrap_or_else(|| self.wrapper.tied_head.into()));
        merged
    }
}

impl Keys<'_> {
    /// Returns the architecture of the model, which transformers finds by `model_type`, and the table of the whole model
    /// if that has other parts. `architectures` decides only where there is no `model_type`.
    fn architecture(
        &self,
        notes: &mut Vec<String>,
    ) -> Result<(&'static Architecture, Option<&'static Wrapper>)> {
        let text = |value: Option<&Value>| value.map(first).and_then(Value::as_str).map(str::to_owned);
        let name = text(self.present("architectures"));
        let kind = text(self.present("model_type"));
        let text_type = text(self.present(TEXT_KEY).and_then(|inner| inner.get("model_type")));
        let wrapped = |is_it: &dyn Fn(&Wrapper) -> bool| {
            architectures::by_wrapper(is_it, text_type.as_deref())
                .map(|(found, wrapper)| (found, Some(wrapper)))
        };
        let by_kind = kind.as_ref().map(|kind| {
            let plain = architectures::by_model_type(kind).map(|found| (found, None));
            plain.or_else(|| wrapped(&|wrapper| wrapper.model_type == kind))
        });
        let by_name = name.as_ref().map(|name| {
            let plain = architectures::by_class(name).map(|found| (found, None));
            let is_it = |class: &str| class.eq_ignore_ascii_case(name);
            plain.or_else(|| wrapped(&|wrapper| is_it(wrapper.class) || is_it(wrapper.base)))
        });
        let refuse = |what: String| {
            let supported = architectures::listed();
            Err(Error::Unsupported(format!("{CONFIG_NAME}: {what} is not supported; {supported} are")))
        };
        let class = |(found, wrapper): (&'static Architecture, Option<&'static Wrapper>)| {
            wrapper.map_or(found.class, |wrapper| wrapper.class)
        };
        let inside = text_type
            .as_ref()
            .map(|kind| format!(" with {TEXT_KEY} of model_type {kind}"))
            .unwrap_or_default();
        let (name, kind) = (name.unwrap_or_default(), kind.unwrap_or_default());
        match (by_kind, by_name) {
            (_, Some(None)) => refuse(format!("architecture {name}{inside}")),
            (Some(None), None) => refuse(format!("model_type {kind}{inside}")),
            (Some(None), Some(_)) => {
                refuse(format!("model_type {kind}{inside}, by which transformers goes,"))
            }
            (Some(Some(by_kind)), Some(Some(by_name))) if by_kind != by_name => {
                notes.push(format!(
                    "{CONFIG_NAME}: model_type is {kind}, but architectures names {name}; the model is read as \
                     {}, because transformers goes by model_type.",
                    class(by_kind)
                ));
                Ok(by_kind)
            }
            (Some(Some(found)), _) | (None, Some(Some(found))) => Ok(found),
            (None, None) => Err(Error::Format(format!("{CONFIG_NAME}: it names no architecture"))),
        }
    }

    /// Refuses every setting that transformers reads, that changes the arithmetic, and that is not
    /// implemented here.
    fn refuse_unknown_arithmetic(&self, architecture: &Architecture) -> Result<()> {
        let refuse = |what: String| Err(Error::Unsupported(format!("{CONFIG_NAME}: {what}")));
        if let Some(quantization) = self.present(QUANTISED_KEY) {
            let method = quantization.get(METHOD_KEY).and_then(Value::as_str).unwrap_or("unnamed");
            let has_mxfp4 = architecture.experts.is_some_and(|experts| experts.names == ExpertNames::InTurns);
            // Other methods are read, or refused, where the packing is.
            if method == MXFP4 && !has_mxfp4 {
                return refuse(format!(
                    "its weights are quantised ({method}), which is supported for GPT-OSS only; use the original F32, \
                     F16 or BF16 weights"
                ));
            }
        }
        if architecture.activation == Activation::ClampedGlu {
            for (key, only) in [("swiglu_alpha", GLU_ALPHA), ("swiglu_limit", GLU_LIMIT)] {
                if let Some(number) = self.number(key)?.filter(|number| *number as f32 != only) {
                    return refuse(format!("{key} {number} is not supported; {only} is"));
                }
            }
        }
        let [silu, gelu] = ACTIVATIONS;
        let (key, known) = match architecture.activation {
            Activation::Silu | Activation::ClampedGlu => ("hidden_act", [silu, "swish"]),
            Activation::GeluTanh => ("hidden_activation", [gelu, gelu]),
        };
        match self.present(key).map(Value::as_str) {
            None => {}
            Some(Some(given)) if known.contains(&given) => {}
            Some(other) => {
                return refuse(format!(
                    "{key} {} is not supported; {} is",
                    other.unwrap_or("of an unknown kind"),
                    known[0]
                ));
            }
        }
        if architecture.full_heads.is_some() {
            self.refuse_experts_beside(architecture)?;
        }
        let of_experts = architecture.experts.is_none().then_some(["num_local_experts", "num_experts"]);
        let of_heads = (architecture.head_norms == HeadNorms::None).then_some("use_qk_norm");
        // Where only images are seen from both sides, tokens of a text see those before them.
        let both_sides = "use_bidirectional_attention";
        let of_images = self.present(both_sides).and_then(Value::as_str) == Some("vision");
        let of_no_model = (architecture.full_heads.is_none() || !of_images).then_some(both_sides);
        for key in of_experts.into_iter().flatten().chain(of_heads).chain(of_no_model) {
            let neutral = |value: &Value| value.as_bool() == Some(false) || value.as_u64() == Some(0);
            if let Some(value) = self.present(key)
                && !neutral(value)
            {
                return refuse(format!("{key} {} is not supported", shown(value)));
            }
        }
        if matches!(architecture.windows, Windows::Some(_)) || architecture.other_mixer().is_some() {
            return Ok(());
        }
        let mut types = self.present(LAYER_TYPES_KEY).and_then(Value::as_array).into_iter().flatten();
        let first = types.next();
        if let (Some(first), Some(other)) = (first, types.find(|kind| Some(*kind) != first)) {
            return refuse(format!("{LAYER_TYPES_KEY} mixes {first} and {other}"));
        }
        match (architecture.rotation, first.and_then(Value::as_str)) {
            (Rotation::Switched, Some(kind)) if ![FULL, PLAIN_ATTENTION].contains(&kind) => {
                refuse(format!("layers of type {kind} are not supported; {FULL} is"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the constants that activations are multiplied by, and their caps.
    fn scales(&self, scaling: Scaling, hidden_size: usize) -> Result<Scales> {
        let number = |key: &str, usual: f64| Ok::<_, Error>(self.number(key)?.unwrap_or(usual));
        // Null says that there is no cap, which is not the same as an absent key.
        let cap = |key: &str, usual| if self.0.contains_key(key) { self.number(key) } else { Ok(usual) };
        match scaling {
            Scaling::None => Ok(Scales::default()),
            Scaling::Factors => Ok(Scales {
                embedding: number("embedding_multiplier", 1.0)?,
                scores: Some(number("attention_multiplier", 1.0)?),
                residual: number("residual_multiplier", 1.0)?,
                logits: 1.0 / number("logits_scaling", 1.0)?,
                ..Scales::default()
            }),
            Scaling::Logits(usual) => {
                Ok(Scales { logits: number("logit_scale", usual)?, ..Scales::default() })
            }
            Scaling::Layers => Ok(Scales {
                embedding: (hidden_size as f64).sqrt(),
                scores: Some(1.0),
                logit_cap: cap("final_logit_softcapping", None)?,
                ..Scales::default()
            }),
            Scaling::Gemma { scalar, caps: [scores, logits], .. } => Ok(Scales {
                embedding: (hidden_size as f64).sqrt(),
                scores: Some(number("query_pre_attn_scalar", scalar)?.powf(-0.5)),
                score_cap: cap("attn_logit_softcapping", scores)?,
                logit_cap: cap("final_logit_softcapping", logits)?,
                ..Scales::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::rope::RopeScaling;

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
        refused("rope_scaling", serde_json::json!({"type": "longer", "factor": 2.0}), "type longer");
        let long = serde_json::json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 0.0]});
        refused("rope_scaling", long, "long_factor of the rope scaling has an entry");
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
        assert_eq!(config.ropes[0].scaling, RopeScaling::None);
        assert!(notes.iter().any(|note| note.contains("beyond the context of 99 tokens")), "{notes:?}");
    }

    #[test]
    fn yarn_has_the_values_of_transformers() {
        let yarn = |object: Value| match config(|c| drop(c.insert("rope_scaling".into(), object))) {
            Ok(Config { ropes, .. }) => match ropes[0].scaling {
                RopeScaling::Yarn(yarn) => yarn,
                ref other => panic!("{other:?}"),
            },
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
    fn gpt_oss_scales_as_transformers_where_nothing_is_said() {
        let rope = |edits: Value| {
            let mut object = json!({ "model_type": "gpt_oss" });
            object.as_object_mut().unwrap().extend(edits.as_object().unwrap().clone());
            let config = Config::parse(object.to_string().as_bytes()).unwrap();
            (config.ropes[0].theta, config.ropes[0].scaling.clone())
        };
        let nothing = json!({});
        for silent in [nothing.clone(), json!({ "rope_scaling": null }), json!({ "rope_scaling": {} })] {
            let (150_000.0, RopeScaling::Yarn(yarn)) = rope(silent) else { panic!() };
            assert_eq!((yarn.factor, yarn.original_context, yarn.rounds), (32.0, 4096.0, false));
            assert_eq!((yarn.fast_turns, yarn.slow_turns), (32.0, 1.0));
            assert!((yarn.attention_factor - (0.1 * 32f64.ln() + 1.0)).abs() < 1e-12);
        }
        assert_eq!(rope(json!({ "rope_theta": 7.0 })), (7.0, rope(nothing).1));
        let default = json!({ "rope_type": "default" });
        for unscaled in [
            json!({ "rope_scaling": default }),
            json!({ "rope_parameters": {} }),
            json!({ "rope_parameters": { "rope_theta": 150_000.0 } }),
        ] {
            assert_eq!(rope(unscaled), (150_000.0, RopeScaling::None));
        }
    }

    #[test]
    fn quantised_weights_and_other_activations_are_refused_by_name() {
        refused("quantization_config", serde_json::json!({"quant_method": "hqq"}), "hqq");
        refused("quantization_config", serde_json::json!({"quant_method": "mxfp4"}), "for GPT-OSS only");
        refused("hidden_act", "gelu".into(), "gelu");
        refused("layer_types", serde_json::json!(["a", "b", "a"]), "mixes");
        // Command-R+ has norms of queries and keys.
        refused("use_qk_norm", true.into(), "use_qk_norm");
        let gpt_oss = |key: &str, value: Value| {
            Config::parse(json!({ "model_type": "gpt_oss", key: value }).to_string().as_bytes())
        };
        assert!(gpt_oss("quantization_config", json!({ "quant_method": "mxfp4" })).is_ok());
        for (key, value) in [
            ("quantization_config", json!({ "quant_method": "awq", "version": "gemv" })),
            ("swiglu_alpha", 1.5.into()),
            ("swiglu_limit", 8.into()),
        ] {
            let message = gpt_oss(key, value).unwrap_err().to_string();
            assert!(message.contains("gemv") || message.contains(key), "{message}");
        }
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
            (edited.ropes[0].theta, edited.ropes[0].scaling.clone())
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
        let RopeScaling::Llama3 { original_context, .. } = edited.unwrap().ropes[0].scaling else { panic!() };
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
            .window()
        };
        assert_eq!(window("MistralForCausalLM"), Some(16));
        assert_eq!(window("LlamaForCausalLM"), None);
    }
}
