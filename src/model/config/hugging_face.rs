//! Settings in `config.json`. Its key names occur only here.

use serde_json::{Map, Value, json};

use super::{
    Biases, Config, ExpertSizes, FeedForward, LayerKind, MambaSizes, Mixer, QueryGrowth, Scales, Upstream,
};
use crate::kernels::rowwise::Activation;
use crate::model::architectures::{
    self, Architecture, ExpertLayers, Experts, Gates, MambaLayers, Presence, Rotation, Scaling, Windows,
};
use crate::model::rope::{LongRope, Rope, RopeScaling, Yarn};
use crate::{Error, Result};

/// Name of the configuration file of a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";

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

/// Key of the base of the frequencies of layers with a window.
const LOCAL_BASE_KEY: &str = "rope_local_base_freq";

/// Name of the gated activation by a sigmoid, and of that by a Gaussian as the hyperbolic tangent approximates it.
const ACTIVATIONS: [&str; 2] = ["silu", "gelu_pytorch_tanh"];

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
const NOT_PER_LAYER: [&str; 6] =
    [MLP_LAYERS_KEY, "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tags"];

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
        keys.refuse_unknown_arithmetic(architecture)?;
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
        let intermediate_size = keys.size_or(architecture.mlp_width, usual.intermediate_size)?;
        let layers = keys.kinds(architecture, n_layers, ropes.len())?;
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
            n_kv_heads: keys.size_or_null("num_key_value_heads", usual.n_kv_heads)?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context,
            norm_epsilon: keys.number("rms_norm_eps")?.unwrap_or(usual.norm_epsilon),
            ropes,
            rotated_width: (head_dim as f64 * share) as usize,
            layers,
            query_growth,
            experts,
            mamba: architecture.mamba.map(|rule| keys.mamba(rule, hidden_size)).transpose()?,
            tied_head: keys.flag_or("tie_word_embeddings", usual.tied_head)?,
            biases,
            scales: keys.scales(architecture.scaling, hidden_size)?,
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
        let of_layers =
            |entry: &dyn Fn(&LayerKind) -> Value| self.layers.iter().map(entry).collect::<Vec<_>>();
        if let Rotation::AllBut(_) = self.architecture.rotation {
            let rotated = of_layers(&|layer| u8::from(layer.rope.is_some()).into());
            raw.insert(ROTATED_KEY.into(), super::regroup(ROTATED_KEY, &rotated, groups)?.into());
        }
        self.say_periods(&mut raw, groups)?;
        if self.architecture.experts.is_some_and(|experts| experts.layers == ExpertLayers::Listed) {
            // A list of layers, not of entries for layers: those that have no experts, as they are numbered now.
            let feed_forward: Vec<FeedForward> = self.layers.iter().map(|layer| layer.feed_forward).collect();
            let kept = super::regroup(MLP_LAYERS_KEY, &feed_forward, groups)?;
            let without = kept.iter().enumerate().filter(|(_, kind)| **kind == FeedForward::Mlp);
            raw.insert(MLP_LAYERS_KEY.into(), without.map(|(layer, _)| layer).collect::<Vec<_>>().into());
            raw.insert(EXPERT_STEP_KEY.into(), 1.into());
        }
        if let Windows::Some(windowed) = self.hugging_face_architecture().windows {
            let types = of_layers(&|layer| if layer.window.is_some() { WINDOWED } else { FULL }.into());
            raw.insert(LAYER_TYPES_KEY.into(), super::regroup(LAYER_TYPES_KEY, &types, groups)?.into());
            // The list comes before a period, and a period that does not fit confuses.
            windowed.every_key.and_then(|key| raw.shift_remove(key));
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
        let rope = self.rope()?;
        let scaling = match &rope.scaling {
            RopeScaling::Divisors(divisors) => {
                RopeScaling::llama3_of(divisors, self.rotated_width, rope.theta).ok_or_else(|| {
                    Error::Unsupported(format!(
                        "the model's rotary frequencies are changed in a way that {CONFIG_NAME} cannot say; \
                         write a .gguf file instead"
                    ))
                })?
            }
            other => other.clone(),
        };
        let object = json!({
            "architectures": [architecture.class], "model_type": architecture.model_type,
            "num_hidden_layers": self.n_layers, "hidden_size": self.hidden_size,
            "num_attention_heads": self.n_heads, "num_key_value_heads": self.n_kv_heads, "head_dim": self.head_dim,
            "vocab_size": self.vocab_size, "max_position_embeddings": self.context,
            "rms_norm_eps": self.norm_epsilon, "tie_word_embeddings": self.tied_head,
            "sliding_window": self.window(), "bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id,
            "pad_token_id": Value::Null, "torch_dtype": "float16",
        });
        let Value::Object(object) = object else { return Ok(Map::new()) };
        // A token id that is not there would be taken for the class's own; null says that there is no such token. The
        // same is true of a window.
        let needed = |key: &str| {
            key.ends_with("_token_id") || architecture.windows != Windows::Never && key == "sliding_window"
        };
        let mut object: Map<_, _> =
            object.into_iter().filter(|(key, value)| !value.is_null() || needed(key)).collect();
        object.insert(architecture.mlp_width.into(), self.intermediate_size.into());
        let [silu, gelu] = ACTIVATIONS;
        match architecture.activation {
            Activation::Silu => object.insert("hidden_act".into(), silu.into()),
            Activation::GeluTanh => object.insert("hidden_activation".into(), gelu.into()),
        };
        self.say_rope(architecture, rope.theta, &scaling, &mut object);
        self.say_architecture(architecture, &mut object);
        Ok(object)
    }
}

impl Config {
    /// Writes the periods of the kinds of layers into `object`, for the model that has one layer for each entry of
    /// `groups`.
    fn say_periods(&self, object: &mut Map<String, Value>, groups: &[Vec<usize>]) -> Result<()> {
        let say = |object: &mut Map<String, Value>, keys: [&str; 2], what: &str, flags: Vec<bool>| {
            let flags = super::regroup(what, &flags, groups)?;
            let (period, offset) = period(&flags).ok_or_else(|| {
                let layers: Vec<usize> = (0..flags.len()).filter(|layer| flags.get(*layer) == Some(&true)).collect();
                Error::Unsupported(format!(
                    "{CONFIG_NAME} can say layers with {what} only at equal distances, and they would be {layers:?} of \
                     {}; remove as many layers from each period, or write a .gguf file",
                    flags.len()
                ))
            })?;
            let [period_key, offset_key] = keys;
            object.insert(period_key.into(), period.into());
            object.insert(offset_key.into(), offset.into());
            Ok::<_, Error>(())
        };
        let of_layers = |f: &dyn Fn(&LayerKind) -> bool| self.layers.iter().map(f).collect();
        if self.architecture.mamba.is_some() {
            say(object, ATTENTION_PERIOD, "attention", of_layers(&|kind| kind.mixer == Mixer::Attention))?;
            // transformers makes these lists of the periods, and cannot load a file that has them.
            object.shift_remove("layers_block_type");
            object.shift_remove(LAYER_TYPES_KEY);
        }
        if let Some(Experts { layers: ExpertLayers::Periodic { .. }, .. }) = self.architecture.experts {
            say(
                object,
                EXPERT_PERIOD,
                "experts",
                of_layers(&|kind| kind.feed_forward == FeedForward::Experts),
            )?;
        }
        Ok(())
    }

    /// Returns the architecture of the class that computes the model in transformers: of several architectures of one
    /// name in GGUF files, the one that has no more than the model needs.
    pub fn hugging_face_architecture(&self) -> &'static Architecture {
        if let Upstream::HuggingFace(_) = self.upstream {
            return self.architecture;
        }
        let rotates = self.layers.iter().any(|layer| layer.rope.is_some());
        let fits = |a: &&Architecture| {
            let windows = match a.windows {
                Windows::Some(_) => self.mixes_windows(),
                Windows::All(_) => self.window().is_some() && !self.mixes_windows(),
                Windows::Never | Windows::Off => self.window().is_none(),
            };
            let experts = a.experts.is_some() == self.architecture.experts.is_some();
            windows && experts && (a.rotation != Rotation::Switched || !rotates)
        };
        let mut alike = architectures::ALL.into_iter().filter(|a| a.gguf == self.architecture.gguf);
        alike.find(fits).unwrap_or(self.architecture)
    }

    /// Adds the base and the `scaling` of the rotary frequencies, and all that goes with them.
    fn say_rope(
        &self,
        architecture: &Architecture,
        theta: f64,
        scaling: &RopeScaling,
        object: &mut Map<String, Value>,
    ) {
        if architecture.rotation == Rotation::Never {
            return;
        }
        object.insert("rope_theta".into(), theta.into());
        let mut scaled = scaling_object(scaling);
        if let (Some(QueryGrowth { beta, context }), Value::Object(scaled)) = (self.query_growth, &mut scaled)
        {
            // This class reads all of its rope from one object.
            scaled.insert("llama_4_scaling_beta".into(), beta.into());
            scaled.insert("original_max_position_embeddings".into(), (context as u64).into());
        }
        if !scaled.is_null() {
            object.insert("rope_scaling".into(), scaled);
        }
        if let RopeScaling::Long(long) = scaling {
            object.insert("original_max_position_embeddings".into(), (long.original_context as u64).into());
        }
        if architecture.usual.rotated_share.is_some() {
            let share = self.rotated_width as f64 / self.head_dim as f64;
            object.insert("partial_rotary_factor".into(), share.into());
        }
        match architecture.rotation {
            Rotation::LocalBase(usual) => {
                let theta = self.ropes.get(1).map_or(usual, |rope| rope.theta);
                object.insert(LOCAL_BASE_KEY.into(), theta.into());
            }
            Rotation::Switched => {
                let rotates = self.layers.iter().any(|layer| layer.rope.is_some());
                object.insert("position_embedding_type".into(), if rotates { "rope" } else { "nope" }.into());
            }
            Rotation::All
            | Rotation::Never
            | Rotation::AllBut(_)
            | Rotation::LocalUnscaled
            | Rotation::Windowed => {}
        }
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
        let Scales { embedding, residual, logits, score_cap, logit_cap, .. } = self.scales;
        match architecture.scaling {
            Scaling::None => {}
            Scaling::Factors => object.extend([
                ("embedding_multiplier".to_owned(), json!(embedding)),
                ("attention_multiplier".to_owned(), json!(self.score_scale())),
                ("residual_multiplier".to_owned(), json!(residual)),
                ("logits_scaling".to_owned(), json!(1.0 / logits)),
            ]),
            Scaling::Gemma { .. } => object.extend([
                ("query_pre_attn_scalar".to_owned(), json!(self.score_scale().powi(-2).round() as u64)),
                ("attn_logit_softcapping".to_owned(), json!(score_cap)),
                ("final_logit_softcapping".to_owned(), json!(logit_cap)),
            ]),
        }
        if let (Some(rule), Some(sizes)) = (architecture.experts, self.experts) {
            let [count, _] = rule.count;
            object.insert(count.into(), sizes.count.into());
            object.insert(USED_EXPERTS_KEY.into(), sizes.used.into());
            if let Some((key, _)) = rule.width {
                object.insert(key.into(), sizes.width.into());
            }
            if let Some(((key, _), width)) = rule.shared.zip(sizes.shared_width) {
                object.insert(key.into(), width.into());
            }
            if matches!(rule.gates, Gates::Asked | Gates::AskedRaw) {
                object.insert(NORMALISED_KEY.into(), sizes.normalised.into());
            }
        }
        if let Some(MambaSizes { channels, states, rank, taps }) = self.mamba {
            object.extend([
                ("mamba_expand".to_owned(), json!(channels / self.hidden_size)),
                (STATES_KEY.to_owned(), json!(states)),
                (STEP_RANK_KEY.to_owned(), json!(rank)),
                (TAPS_KEY.to_owned(), json!(taps)),
            ]);
        }
        if architecture.mlp_width != "intermediate_size" {
            object.extend([
                ("num_local_experts".to_owned(), json!(0)),
                ("num_experts_per_tok".to_owned(), json!(0)),
                (LAYER_TYPES_KEY.to_owned(), json!(vec![PLAIN_ATTENTION; self.n_layers])),
            ]);
        }
    }
}

/// Finds a period and an offset, less than the period, so that the flags are set of the layers whose number is the offset
/// when it is divided by the period; `None` if there are none.
fn period(flags: &[bool]) -> Option<(usize, usize)> {
    let n = flags.len();
    let candidates = (1..=n + 1).flat_map(|period| (0..period).map(move |offset| (period, offset)));
    let says = |(period, offset): &(usize, usize)| {
        flags.iter().enumerate().all(|(layer, flag)| *flag == (layer % period == *offset))
    };
    candidates.into_iter().find(says)
}

fn scaling_object(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None | RopeScaling::Divisors(_) => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Long(long) => json!({
            "type": "longrope", "short_factor": long.short, "long_factor": long.long,
            "attention_factor": long.attention_factor,
        }),
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

/// Returns the factor that stretches the base of the rotary frequencies from the first token on.
fn alpha(object: Option<&Map<String, Value>>) -> Option<f64> {
    object?.get("alpha")?.as_f64().filter(|alpha| alpha.is_finite() && *alpha > 0.0)
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
            let supported = architectures::listed();
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

    /// Notes a list of layer types of another length than the model, and refuses it where it decides.
    fn check_layer_types(
        &self,
        architecture: &Architecture,
        n_layers: usize,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let decides = matches!(architecture.windows, Windows::Some(_));
        match self.present(LAYER_TYPES_KEY) {
            Some(Value::Array(types)) if types.len() != n_layers && decides => Err(Error::Format(format!(
                "{CONFIG_NAME}: {LAYER_TYPES_KEY} has {} entries for {n_layers} layers",
                types.len()
            ))),
            Some(Value::Array(types)) if types.len() != n_layers => {
                notes.push(format!(
                    "{CONFIG_NAME}: {LAYER_TYPES_KEY} has {} entries for {n_layers} layers, which transformers \
                     refuses; a model that is written has one entry per layer.",
                    types.len()
                ));
                Ok(())
            }
            Some(Value::Array(_)) | None => Ok(()),
            Some(other) => Err(Error::Format(format!(
                "{CONFIG_NAME}: {LAYER_TYPES_KEY} is {}, not a list",
                shown(other)
            ))),
        }
    }

    /// Reads what tells the layers apart: windows, and the place of the rotation among `n_ropes`.
    fn kinds(&self, architecture: &Architecture, n_layers: usize, n_ropes: usize) -> Result<Vec<LayerKind>> {
        let windows = match architecture.windows {
            Windows::Never => vec![None; n_layers],
            Windows::All(usual) => vec![self.size_or_null("sliding_window", usual)?; n_layers],
            Windows::Off => vec![self.no_window()?; n_layers],
            Windows::Some(rule) => {
                let window = self.size_or_null("sliding_window", Some(rule.usual))?;
                let has_window = match (window, self.present(LAYER_TYPES_KEY)) {
                    (_, Some(Value::Array(types))) => types
                        .iter()
                        .map(|kind| match kind.as_str() {
                            Some(WINDOWED) if window.is_some() => Ok(true),
                            Some(FULL) => Ok(false),
                            _ => Err(Error::Unsupported(format!(
                                "{CONFIG_NAME}: {LAYER_TYPES_KEY} has {}, which is not supported beside a \
                                 sliding_window of {window:?}; {FULL} and {WINDOWED} are",
                                shown(kind)
                            ))),
                        })
                        .collect::<Result<Vec<_>>>()?,
                    (None, _) => vec![false; n_layers],
                    (Some(_), _) => architectures::every(n_layers, self.every(rule.every_key, rule.every)?),
                };
                has_window.into_iter().map(|has| window.filter(|_| has)).collect()
            }
        };
        let rotated = match architecture.rotation {
            Rotation::AllBut(usual) => self.rotated(usual, n_layers)?,
            Rotation::Switched => {
                let kind = self.present("position_embedding_type").and_then(Value::as_str);
                vec![kind == Some("rope"); n_layers]
            }
            Rotation::Windowed if windows.iter().any(Option::is_some) => {
                windows.iter().map(Option::is_some).collect()
            }
            Rotation::Never => vec![false; n_layers],
            Rotation::All | Rotation::LocalBase(_) | Rotation::LocalUnscaled | Rotation::Windowed => {
                vec![true; n_layers]
            }
        };
        let mixers = self.mixers(architecture.mamba, n_layers)?;
        let feed_forward = self.feed_forward(architecture.experts, n_layers)?;
        let parts = mixers.into_iter().zip(feed_forward);
        let kind =
            |((window, rotates), (mixer, feed_forward)): ((Option<usize>, bool), (Mixer, FeedForward))| {
                let rope = rotates.then_some(if window.is_some() { n_ropes.saturating_sub(1) } else { 0 });
                LayerKind { rope, window, mixer, feed_forward }
            };
        Ok(windows.into_iter().zip(rotated).zip(parts).map(kind).collect())
    }

    /// Reads which layers have Mamba mixers.
    fn mixers(&self, mamba: Option<MambaLayers>, n_layers: usize) -> Result<Vec<Mixer>> {
        let Some(rule) = mamba else { return Ok(vec![Mixer::Attention; n_layers]) };
        let attends = self.periodic(ATTENTION_PERIOD, [rule.period, rule.offset], n_layers)?;
        Ok(attends.into_iter().map(|attends| if attends { Mixer::Attention } else { Mixer::Mamba }).collect())
    }

    /// Reads a period and an offset under `keys` (`usual` where they are absent), and returns for each layer whether its
    /// number is the offset when it is divided by the period.
    fn periodic(&self, keys: [&str; 2], usual: [usize; 2], n_layers: usize) -> Result<Vec<bool>> {
        let ([period_key, offset_key], [period, offset]) = (keys, usual);
        let period = self.size_or(period_key, period)?;
        let offset = match self.present(offset_key) {
            None => offset,
            Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
                Error::Format(format!(
                    "{CONFIG_NAME}: {offset_key} is {}, not a number of layers",
                    shown(value)
                ))
            })?,
        };
        if offset >= period {
            return Err(Error::Format(format!(
                "{CONFIG_NAME}: {offset_key} is {offset}, which must be less than {period_key}, {period}"
            )));
        }
        Ok((0..n_layers).map(|layer| layer % period == offset).collect())
    }

    /// Reads the sizes of the Mamba mixers.
    fn mamba(&self, rule: MambaLayers, hidden_size: usize) -> Result<MambaSizes> {
        for (key, neutral) in [("mamba_conv_bias", true), ("mamba_proj_bias", false)] {
            if self.flag_or(key, neutral)? != neutral {
                return Err(Error::Unsupported(format!(
                    "{CONFIG_NAME}: {key} {} is not supported",
                    !neutral
                )));
            }
        }
        let rank = match self.present(STEP_RANK_KEY).and_then(Value::as_str) {
            Some("auto") => hidden_size.div_ceil(16),
            _ => self.size_or(STEP_RANK_KEY, hidden_size.div_ceil(16))?,
        };
        let channels = self.size_or("mamba_expand", rule.expand)?.saturating_mul(hidden_size);
        Ok(MambaSizes {
            channels,
            states: self.size_or(STATES_KEY, rule.states)?,
            rank,
            taps: self.size_or(TAPS_KEY, rule.taps)?,
        })
    }

    /// Reads which layers have experts.
    fn feed_forward(&self, experts: Option<Experts>, n_layers: usize) -> Result<Vec<FeedForward>> {
        let Some(rule) = experts else { return Ok(vec![FeedForward::Mlp; n_layers]) };
        let mut all = vec![FeedForward::Experts; n_layers];
        match rule.layers {
            ExpertLayers::All => return Ok(all),
            ExpertLayers::Listed => {}
            ExpertLayers::Periodic { period, offset } => {
                let has = self.periodic(EXPERT_PERIOD, [period, offset], n_layers)?;
                // One expert is no choice: the layers have MLPs.
                let [first, second] = rule.count;
                let is_one =
                    [first, second].iter().any(|key| self.present(key).and_then(Value::as_u64) == Some(1));
                let kind = |has| if has && !is_one { FeedForward::Experts } else { FeedForward::Mlp };
                return Ok(has.into_iter().map(kind).collect());
            }
        }
        let step = self.size_or(EXPERT_STEP_KEY, 1)?;
        let bad = |value: &Value| {
            Error::Format(format!(
                "{CONFIG_NAME}: {MLP_LAYERS_KEY} is {}, not a list of layers",
                shown(value)
            ))
        };
        let mut without: Vec<usize> =
            (0..n_layers).filter(|layer| !(layer + 1).is_multiple_of(step)).collect();
        if let Some(value) = self.present(MLP_LAYERS_KEY) {
            for layer in value.as_array().ok_or_else(|| bad(value))? {
                without.push(layer.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| bad(value))?);
            }
        }
        for layer in without {
            if let Some(slot) = all.get_mut(layer) {
                *slot = FeedForward::Mlp;
            }
        }
        Ok(all)
    }

    /// Reads the sizes of the experts; an MLP is `mlp_width` wide.
    fn experts(&self, rule: Experts, mlp_width: usize) -> Result<ExpertSizes> {
        let [first, second] = rule.count;
        let count = match self.optional_size(first)? {
            Some(count) => count,
            None => self.size_or(second, rule.usual)?,
        };
        Ok(ExpertSizes {
            count,
            used: self.size_or(USED_EXPERTS_KEY, rule.usual_used)?,
            width: match rule.width {
                Some((key, usual)) => self.size_or(key, usual)?,
                None => mlp_width,
            },
            normalised: match rule.gates {
                Gates::Normalised => true,
                Gates::Raw => false,
                Gates::Asked | Gates::AskedRaw => self.flag_or(NORMALISED_KEY, false)?,
            },
            shared_width: rule.shared.map(|(key, usual)| self.size_or(key, usual)).transpose()?,
        })
    }

    /// Reads how many layers follow each other of which the last has no window, from the number or the pattern under
    /// `key`.
    fn every(&self, key: Option<&str>, usual: usize) -> Result<usize> {
        let Some((key, value)) = key.and_then(|key| Some((key, self.present(key)?))) else {
            return Ok(usual);
        };
        let pattern = value.as_str().map(|pattern| pattern.len() as u64);
        value.as_u64().or(pattern).and_then(super::sensible_size).ok_or_else(|| {
            Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a number of layers", shown(value)))
        })
    }

    /// Refuses every setting that transformers reads, that changes the arithmetic, and that is not
    /// implemented here.
    fn refuse_unknown_arithmetic(&self, architecture: &Architecture) -> Result<()> {
        let refuse = |what: String| Err(Error::Unsupported(format!("{CONFIG_NAME}: {what}")));
        if let Some(quantization) = self.present("quantization_config") {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            return refuse(format!(
                "its weights are quantised ({method}), which is not supported; use the original F32, \
                 F16 or BF16 weights"
            ));
        }
        let [silu, gelu] = ACTIVATIONS;
        let (key, known) = match architecture.activation {
            Activation::Silu => ("hidden_act", [silu, "swish"]),
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
        let of_experts = architecture.experts.is_none().then_some(["num_local_experts", "num_experts"]);
        for key in of_experts.into_iter().flatten().chain(["use_bidirectional_attention"]) {
            let neutral = |value: &Value| value.as_bool() == Some(false) || value.as_u64() == Some(0);
            if let Some(value) = self.present(key)
                && !neutral(value)
            {
                return refuse(format!("{key} {} is not supported", shown(value)));
            }
        }
        if matches!(architecture.windows, Windows::Some(_)) {
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

    /// Reads the rotations of layers without a window and with one (one rotation if they are alike), the share of each
    /// head that is rotated, and the growth of queries.
    fn ropes(
        &self,
        architecture: &Architecture,
        context: usize,
        head_dim: usize,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Rope>, f64, Option<QueryGrowth>)> {
        let (key, object) = self.rope_object(notes)?;
        let of_kind = |kind: &str| object.and_then(|object| object.get(kind)).and_then(Value::as_object);
        let is_local = matches!(architecture.rotation, Rotation::LocalBase(_) | Rotation::LocalUnscaled);
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
        let mut ropes = vec![Rope { theta: base, scaling }];
        let local = match architecture.rotation {
            Rotation::LocalBase(usual) => Some(positive(LOCAL_BASE_KEY, usual)?),
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
    fn rotated_share(&self, architecture: &Architecture, object: Option<&Map<String, Value>>) -> Result<f64> {
        let key = "partial_rotary_factor";
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
    fn query_growth(&self, object: Option<&Map<String, Value>>) -> Result<Option<QueryGrowth>> {
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

    /// Finds the object that says how queries and keys are rotated, in the order of transformers 5
    /// (`convert_rope_params_to_dict`): `rope_scaling`, which older files have and users add, then `rope_parameters`.
    fn rope_object(&self, notes: &mut Vec<String>) -> Result<(&'static str, Option<&Map<String, Value>>)> {
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
        match value.map(|value| (value.as_object(), value)) {
            None => Ok((key, None)),
            Some((Some(object), _)) => Ok((key, Some(object))),
            Some((None, value)) => {
                Err(Error::Format(format!("{CONFIG_NAME}: {key} is {}, not an object", shown(value))))
            }
        }
    }

    /// Reads the change of the rotary frequencies from `object`, the value of `key` or a part of it. The original context
    /// of llama3 is `context` if it is not given.
    fn rope_scaling(
        &self,
        architecture: &Architecture,
        key: &str,
        object: Option<&Map<String, Value>>,
        context: usize,
        notes: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        let Some(object) = object else { return Ok(RopeScaling::None) };
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
    fn long_rope(&self, object: &Map<String, Value>, context: usize) -> Result<LongRope> {
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

    /// Reads which layers rotate their queries and keys: without a list, all but every `usual`-th. An empty list counts as
    /// none, as in Python.
    fn rotated(&self, usual: usize, n_layers: usize) -> Result<Vec<bool>> {
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
            Scaling::Gemma { scalar, caps: [scores, logits], .. } => Ok(Scales {
                embedding: (hidden_size as f64).sqrt(),
                scores: Some(number("query_pre_attn_scalar", scalar)?.powf(-0.5)),
                score_cap: cap("attn_logit_softcapping", scores)?,
                logit_cap: cap("final_logit_softcapping", logits)?,
                ..Scales::default()
            }),
        }
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
    fn periods_are_found_where_there_are_any() {
        let flags = |text: &str| text.chars().map(|c| c == 'x').collect::<Vec<_>>();
        for (text, expected) in [
            ("--x---x-", Some((4, 2))),
            ("xxx", Some((1, 0))),
            ("---", Some((4, 3))),
            ("-x", Some((2, 1))),
            ("x-", Some((2, 0))),
            ("-x-x-", Some((2, 1))),
            ("xx-", None),
            ("x-xx", None),
        ] {
            assert_eq!(period(&flags(text)), expected, "{text}");
        }
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
