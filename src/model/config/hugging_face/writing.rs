//! Writing of `config.json`.

use serde_json::{Map, Value, json};

use super::json::{MARK, unmarked};
use super::kinds::layer_type;
use super::rope::SHARE_KEY;
use super::{
    ACTIVATIONS, ADJUSTS_KEY, ATTENTION_INTERVAL_KEY, ATTENTION_LAYERS_KEY, ATTENTION_PERIOD, CONFIG_NAME,
    CONVOLUTION_TAPS_KEY, DELTA_NET, DRAFTING_KEY, EXPERT_PERIOD, EXPERT_STEP_KEY, FULL, FULL_HEADS, HEADS,
    INPUT_VOCABULARY_KEY, LAYER_TYPES_KEY, LOCAL_BASE_KEY, MLP_LAYERS_KEY, MXFP4, NORM_EPSILON_KEY,
    NORMALISED_KEY, OF_KINDS, PER_LAYER_KEY, PLAIN_ATTENTION, QUANTISED_KEY, ROPE_KEY, ROTATED_KEY,
    STATES_KEY, STEP_RANK_KEY, TAPS_KEY, TEXT_KEY, TIED_KEY, USED_EXPERTS_KEY, WEIGHTS_KEY, WINDOWED,
};
use crate::kernels::rowwise::Activation;
use crate::model::architectures::{
    self, Architecture, ExpertLayers, ExpertNames, Experts, Gates, Presence, Rotation, Scaling, Windows,
};
use crate::model::config::{
    Config, DeltaNetSizes, FeedForward, LayerKind, MambaSizes, Mixer, QueryGrowth, Scales, Upstream, Whole,
    regroup,
};
use crate::model::rope::RopeScaling;
use crate::plan::periodic::period;
use crate::{Error, Result};

/// Keys of lists that are not per layer, although they may have as many entries as the model has layers.
const NOT_PER_LAYER: [&str; 6] =
    [MLP_LAYERS_KEY, "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tags"];

impl Config {
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
                *list = regroup(key, list, groups)?;
            }
        }
        if self.architecture.drafts && raw.contains_key(DRAFTING_KEY) {
            raw.insert(DRAFTING_KEY.into(), 0.into());
        }
        let of_layers =
            |entry: &dyn Fn(&LayerKind) -> Value| self.layers.iter().map(entry).collect::<Vec<_>>();
        if let Rotation::AllBut(_) = self.architecture.rotation {
            let rotated = of_layers(&|layer| u8::from(layer.rope.is_some()).into());
            raw.insert(ROTATED_KEY.into(), regroup(ROTATED_KEY, &rotated, groups)?.into());
        }
        self.say_periods(&mut raw, groups)?;
        self.check_layers(groups)?;
        let [_, sharing_key, ..] = OF_KINDS;
        if raw.contains_key(sharing_key) {
            let sharing: Vec<bool> = self.layers.iter().map(|kind| kind.shares_keys).collect();
            let sharing =
                regroup(sharing_key, &sharing, groups)?.into_iter().filter(|shares| *shares).count();
            raw.insert(sharing_key.into(), sharing.into());
        }
        if let Some(Value::Object(entries)) = raw.get_mut(PER_LAYER_KEY) {
            // Settings of single layers, which are numbered anew.
            let of_layer = |layer: usize| entries.get(&layer.to_string()).cloned();
            let all: Vec<Option<Value>> = (0..self.n_layers).map(of_layer).collect();
            let kept = regroup(PER_LAYER_KEY, &all, groups)?.into_iter().enumerate();
            *entries = kept.filter_map(|(layer, entry)| Some((layer.to_string(), entry?))).collect();
        }
        if self.architecture.experts.is_some_and(|experts| experts.layers == ExpertLayers::Listed) {
            // A list of layers, not of entries for layers: those that have no experts, as they are numbered now.
            let feed_forward: Vec<FeedForward> = self.layers.iter().map(|layer| layer.feed_forward).collect();
            let kept = regroup(MLP_LAYERS_KEY, &feed_forward, groups)?;
            let without = kept.iter().enumerate().filter(|(_, kind)| **kind == FeedForward::Mlp);
            raw.insert(MLP_LAYERS_KEY.into(), without.map(|(layer, _)| layer).collect::<Vec<_>>().into());
            raw.insert(EXPERT_STEP_KEY.into(), 1.into());
        }
        if let Windows::Some(windowed) = self.hugging_face_architecture().windows {
            let types = of_layers(&|layer| if layer.window.is_some() { WINDOWED } else { FULL }.into());
            raw.insert(LAYER_TYPES_KEY.into(), regroup(LAYER_TYPES_KEY, &types, groups)?.into());
            // The list comes before a period, and a period that does not fit confuses.
            windowed.every_key.and_then(|key| raw.shift_remove(key));
        }
        if self.short_convolution.is_some() || self.delta_net.is_some() {
            let types = of_layers(&|layer| layer_type(layer.mixer).into());
            let kept = regroup(LAYER_TYPES_KEY, &types, groups)?;
            if !kept.contains(&FULL.into()) {
                return Err(Error::Unsupported(
                    "transformers cannot continue a text with a model of this architecture in which no layer has \
                     attention; keep one that has"
                        .to_owned(),
                ));
            }
            raw.insert(LAYER_TYPES_KEY.into(), kept.into());
            raw.shift_remove(ATTENTION_LAYERS_KEY);
            raw.shift_remove(ATTENTION_INTERVAL_KEY);
        }
        let packing = self.packing.as_ref().filter(|_| dtype.is_none());
        let packing = packing.map(|packing| packing.settings(groups, self.n_layers)).transpose()?.flatten();
        if packing.is_none() && (!self.mxfp4_experts || dtype.is_some()) {
            raw.shift_remove(QUANTISED_KEY);
        } else if self.mxfp4_experts
            && self.architecture.experts.is_some_and(|experts| experts.names == ExpertNames::InTurns)
            && !raw.contains_key(QUANTISED_KEY)
        {
            let others =
                ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"];
            raw.insert(
                QUANTISED_KEY.into(),
                json!({ "quant_method": MXFP4, "modules_to_not_convert": others }),
            );
        }
        let say_dtype = |object: &mut Map<String, Value>| {
            for key in ["dtype", "torch_dtype"] {
                if let (Some(dtype), Some(value)) = (dtype, object.get_mut(key)) {
                    *value = dtype.into();
                }
            }
        };
        say_dtype(&mut raw);
        let is_inside = self.whole.as_ref().is_some_and(|whole| !whole.object.contains_key(QUANTISED_KEY))
            && raw.contains_key(QUANTISED_KEY);
        if let (Some(packing), true) = (&packing, self.whole.is_none() || is_inside) {
            raw.insert(QUANTISED_KEY.into(), packing.clone());
        }
        if let Some(whole) = &self.whole {
            let mut object = self.consistent_whole(whole);
            say_dtype(&mut object);
            match packing {
                Some(packing) if !is_inside => drop(object.insert(QUANTISED_KEY.into(), packing)),
                _ if !self.mxfp4_experts => drop(object.shift_remove(QUANTISED_KEY)),
                _ => {}
            }
            object.insert(TEXT_KEY.into(), raw.into());
            raw = object;
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
        if !self.tied_head && raw.get(TIED_KEY) == Some(&Value::Bool(true)) {
            raw.insert(TIED_KEY.into(), false.into());
        }
        if let Some(Value::Array(types)) = raw.get_mut(LAYER_TYPES_KEY)
            && let Some(first) = types.first().cloned()
        {
            types.resize(self.n_layers, first);
        }
        raw
    }

    /// Returns the object of the whole model without what contradicts the settings, likewise; its decoder's settings are
    /// as they were.
    fn consistent_whole(&self, whole: &Whole) -> Map<String, Value> {
        let (mut object, wrapper) = (whole.object.clone(), whole.wrapper);
        object.shift_remove(WEIGHTS_KEY);
        if object.get("architectures").is_some_and(|list| list != &json!([wrapper.class])) {
            object.insert("architectures".into(), json!([wrapper.class]));
        }
        if !object.get("model_type").is_some_and(Value::is_string) {
            object.insert("model_type".into(), wrapper.model_type.into());
        }
        let tied = object.get(TIED_KEY).and_then(Value::as_bool).unwrap_or(wrapper.tied_head);
        if tied != self.tied_head {
            object.insert(TIED_KEY.into(), self.tied_head.into());
        }
        object
    }

    /// Makes the object of `config.json` from the settings.
    fn new_object(&self) -> Result<Map<String, Value>> {
        let architecture = self.hugging_face_architecture();
        let rope = self.rope()?;
        let is_wide = self.has_wide_mlps()?;
        let scaling = match &rope.scaling {
            RopeScaling::Divisors(divisors) => {
                let by_kind = matches!(architecture.rotation, Rotation::ByKind { .. });
                let rule = RopeScaling::llama3_of(divisors, self.rotated_width, rope.theta);
                rule.filter(|_| !by_kind).ok_or_else(|| {
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
            architecture.norm_epsilon.unwrap_or(NORM_EPSILON_KEY): self.norm_epsilon, TIED_KEY: self.tied_head,
            "sliding_window": self.window(), "bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id,
            "pad_token_id": Value::Null, "torch_dtype": "float16",
        });
        let Value::Object(object) = object else { return Ok(Map::new()) };
        // A token id that is not there would be taken for the class's own; null says that there is no such token. The
        // same is true of a window.
        let needed = |key: &str| {
            let has_windows = architecture.windows != Windows::Never && architecture.full_heads.is_none();
            key.ends_with("_token_id") || has_windows && key == "sliding_window"
        };
        let mut object: Map<_, _> =
            object.into_iter().filter(|(key, value)| !value.is_null() || needed(key)).collect();
        object.insert(architecture.mlp_width.into(), self.intermediate_size.into());
        let [silu, gelu] = ACTIVATIONS;
        match architecture.activation {
            Activation::Silu | Activation::ClampedGlu => object.insert("hidden_act".into(), silu.into()),
            Activation::GeluTanh => object.insert("hidden_activation".into(), gelu.into()),
        };
        self.say_rope(architecture, rope.theta, &scaling, &mut object);
        self.say_architecture(architecture, &mut object);
        if self.full_heads.is_some() {
            let n_sharing = self.layers.iter().filter(|kind| kind.shares_keys).count();
            let values =
                [json!(self.layer_input.unwrap_or(0)), json!(n_sharing), json!(false), json!(is_wide)];
            object.extend(OF_KINDS.iter().map(|key| (*key).to_owned()).zip(values));
            object.insert(INPUT_VOCABULARY_KEY.into(), self.vocab_size.into());
        }
        Ok(object)
    }

    /// Returns whether the layers that read the keys and values of others have MLPs of double width.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for any other widths than one, and the double of it in all such layers.
    fn has_wide_mlps(&self) -> Result<bool> {
        let of = |shares: bool| self.layers.iter().filter(move |kind| kind.shares_keys == shares);
        let width = of(false).next().map_or(self.intermediate_size, |kind| kind.mlp_width);
        let wide = of(true).next().map_or(width, |kind| kind.mlp_width);
        let is_said =
            of(false).all(|kind| kind.mlp_width == width) && of(true).all(|kind| kind.mlp_width == wide);
        if !is_said || ![width, 2 * width].contains(&wide) {
            return Err(Error::Unsupported(format!(
                "the model's MLPs are of widths that {CONFIG_NAME} cannot say; write a .gguf file instead"
            )));
        }
        Ok(wide != width)
    }

    /// Writes the periods of the kinds of layers into `object`, for the model that has one layer for each entry of
    /// `groups`.
    fn say_periods(&self, object: &mut Map<String, Value>, groups: &[Vec<usize>]) -> Result<()> {
        let say = |object: &mut Map<String, Value>, keys: [&str; 2], what: &str, flags: &[bool]| {
            let flags = regroup(what, flags, groups)?;
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
        for (keys, what, flags) in self.periodic() {
            say(object, keys, what, &flags)?;
        }
        if self.architecture.mamba.is_some() {
            // transformers makes these lists of the periods, and cannot load a file that has them.
            object.shift_remove("layers_block_type");
            object.shift_remove(LAYER_TYPES_KEY);
        }
        Ok(())
    }

    /// Returns the parts of layers that are said by periods: the keys, the part in words, and which layers have it.
    fn periodic(&self) -> Vec<([&'static str; 2], &'static str, Vec<bool>)> {
        let of_layers = |f: &dyn Fn(&LayerKind) -> bool| self.layers.iter().map(f).collect();
        let mut parts = Vec::new();
        if self.architecture.mamba.is_some() {
            let attends = of_layers(&|kind| kind.mixer == Mixer::Attention);
            parts.push((ATTENTION_PERIOD, "attention", attends));
        }
        if let Some(Experts { layers: ExpertLayers::Periodic { .. }, .. }) = self.architecture.experts {
            let routes = of_layers(&|kind| kind.feed_forward == FeedForward::Experts);
            parts.push((EXPERT_PERIOD, "experts", routes));
        }
        parts
    }

    /// Returns the parts of layers that `config.json` says by a period and an offset, each in words and with one flag a
    /// layer that says whether the layer has it. None for most architectures.
    pub fn periodic_parts(&self) -> Vec<(&'static str, Vec<bool>)> {
        self.periodic().into_iter().map(|(_, what, flags)| (what, flags)).collect()
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
        if let (Rotation::ByKind { .. }, Some(local)) = (architecture.rotation, self.ropes.last()) {
            let share = match scaling {
                RopeScaling::Proportional { share } => *share,
                _ => 1.0,
            };
            let full = json!({ "rope_type": "proportional", SHARE_KEY: share, "rope_theta": theta });
            let windowed = json!({ "rope_type": "default", "rope_theta": local.theta });
            object.insert(ROPE_KEY.into(), json!({ FULL: full, WINDOWED: windowed }));
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
        if scaled.is_null() && architecture.usual.yarn.is_some() {
            // Without a word transformers scales.
            scaled = json!({ "rope_type": "default" });
        }
        if !scaled.is_null() {
            object.insert("rope_scaling".into(), scaled);
        }
        if let RopeScaling::Long(long) = scaling {
            object.insert("original_max_position_embeddings".into(), (long.original_context as u64).into());
        }
        if architecture.usual.rotated_share.is_some() {
            let share = self.rotated_width as f64 / self.head_dim as f64;
            object.insert(SHARE_KEY.into(), share.into());
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
            | Rotation::ByKind { .. }
            | Rotation::Never
            | Rotation::AllBut(_)
            | Rotation::LocalUnscaled
            | Rotation::Windowed
            | Rotation::OnlyWindowed => {}
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
            Scaling::Logits(_) => object.extend([("logit_scale".to_owned(), json!(logits))]),
            Scaling::Layers => object.extend([("final_logit_softcapping".to_owned(), json!(logit_cap))]),
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
        if let Some(full) = self.full_heads {
            let values = [json!(full.width), json!(full.kv_heads), json!(full.keys_are_values)];
            object.extend(FULL_HEADS.iter().map(|key| (*key).to_owned()).zip(values));
            // The number of heads counts only where keys are values.
            if !full.keys_are_values && full.kv_heads != self.n_kv_heads {
                let [width_key, heads_key] = HEADS;
                let entry = json!({ width_key: full.width, heads_key: full.kv_heads });
                let of_full = self.layers.iter().enumerate().filter(|(_, kind)| kind.window.is_none());
                let entries: Map<String, Value> =
                    of_full.map(|(layer, _)| (layer.to_string(), entry.clone())).collect();
                object.insert(PER_LAYER_KEY.into(), entries.into());
            }
        }
        if let Some(taps) = self.short_convolution {
            object.insert(CONVOLUTION_TAPS_KEY.into(), taps.into());
        }
        if architecture.adjusts_mlp {
            object.insert(ADJUSTS_KEY.into(), false.into());
        }
        if let Some(sizes) = self.delta_net {
            let DeltaNetSizes { key_heads, value_heads, key_width, value_width, taps, .. } = sizes;
            for (key, n) in DELTA_NET.iter().zip([key_heads, value_heads, key_width, value_width, taps]) {
                object.insert((*key).into(), n.into());
            }
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

/// Writes the number of experts into the object of `config.json`, under each of the keys that it has for the number.
pub fn say_expert_count(raw: &mut Map<String, Value>, rule: architectures::Experts, count: usize) {
    let said: Vec<&str> =
        rule.count.into_iter().filter(|key| raw.get(*key).is_some_and(|value| !value.is_null())).collect();
    let [usual, _] = rule.count;
    for key in if said.is_empty() { vec![usual] } else { said } {
        raw.insert(key.to_owned(), count.into());
    }
}

pub(super) fn scaling_object(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None | RopeScaling::Proportional { .. } | RopeScaling::Divisors(_) => Value::Null,
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
