//! What tells the layers of a model apart, in `config.json`.

use serde_json::Value;

use super::json::shown;
use super::keys::Keys;
use super::{
    ADJUSTS_KEY, ATTENTION_INTERVAL_KEY, ATTENTION_LAYERS_KEY, ATTENTION_PERIOD, CONFIG_NAME, CONVOLUTION,
    CONVOLUTION_TAPS_KEY, DELTA_NET, EXPERT_PERIOD, EXPERT_STEP_KEY, FULL, FULL_HEADS, HEADS,
    INPUT_VOCABULARY_KEY, LAYER_TYPES_KEY, LINEAR_ATTENTION, MLP_LAYERS_KEY, NORMALISED_KEY, OF_KINDS,
    PER_LAYER_KEY, ROTATED_KEY, STATES_KEY, STEP_RANK_KEY, TAPS_KEY, USED_EXPERTS_KEY, WINDOWED,
};
use crate::model::architectures::{
    self, Architecture, DeltaNetLayers, ExpertLayers, Experts, Gates, MambaLayers, Rotation, Windows,
};
use crate::model::binding::HeadOrder;
use crate::model::config::{
    DeltaNetSizes, ExpertSizes, FeedForward, FullHeads, LayerKind, LayerParts, MambaSizes, Mixer, not_dense,
    sensible_size,
};
use crate::{Error, Result};

impl Keys<'_> {
    /// Notes a list of layer types of another length than the model, and refuses it where it decides.
    pub(super) fn check_layer_types(
        &self,
        architecture: &Architecture,
        n_layers: usize,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let decides = matches!(architecture.windows, Windows::Some(_))
            || architecture.short_convolution.is_some()
            || architecture.delta_net.is_some();
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

    /// Reads what tells the layers apart: windows, the place of the rotation among `n_ropes`, and MLPs, which are
    /// `mlp_width` wide where nothing else is said.
    pub(super) fn kinds(
        &self,
        architecture: &Architecture,
        [n_layers, mlp_width]: [usize; 2],
        n_ropes: usize,
    ) -> Result<Vec<LayerKind>> {
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
                let has_window = self.with_last(architecture, has_window)?;
                has_window.into_iter().map(|has| window.filter(|_| has)).collect()
            }
        };
        let rotated = match architecture.rotation {
            Rotation::AllBut(usual) => Some(self.rotated(usual, n_layers)?),
            Rotation::Switched => {
                let kind = self.present("position_embedding_type").and_then(Value::as_str);
                Some(vec![kind == Some("rope"); n_layers])
            }
            _ => None,
        };
        let [_, sharing_key, _, wide_key] = OF_KINDS;
        let n_sharing = if architecture.shares_keys { self.n_sharing(sharing_key, n_layers)? } else { 0 };
        let is_wide = architecture.shares_keys && self.flag_or(wide_key, false)?;
        let width = |layer: usize| mlp_width * if is_wide && layer + n_sharing >= n_layers { 2 } else { 1 };
        let parts = LayerParts {
            rotation: architecture.rotation,
            rotated,
            windows,
            mixers: self.mixers(architecture, n_layers)?,
            feed_forward: self.feed_forward(architecture.experts, n_layers)?,
            mlp_widths: (0..n_layers).map(width).collect(),
            n_sharing,
        };
        Ok(parts.kinds(n_ropes))
    }

    /// Sees to it that the last layer has no window where transformers takes it for one without: a list that says otherwise
    /// is refused, and where there is no list the last layer is made so.
    fn with_last(&self, architecture: &Architecture, mut has_window: Vec<bool>) -> Result<Vec<bool>> {
        if architecture.full_heads.is_none() || has_window.last() != Some(&true) {
            return Ok(has_window);
        }
        if self.present(LAYER_TYPES_KEY).is_some() {
            return Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: {LAYER_TYPES_KEY} ends with {WINDOWED}, and transformers takes the last layer for one of \
                 type {FULL}"
            )));
        }
        if let Some(last) = has_window.last_mut() {
            *last = false;
        }
        Ok(has_window)
    }

    /// Reads how many layers, the last of `n_layers`, read the keys and values of others.
    fn n_sharing(&self, key: &str, n_layers: usize) -> Result<usize> {
        let given = self.present(key).map_or(Some(0), Value::as_u64);
        let n = given.and_then(|n| usize::try_from(n).ok()).filter(|n| *n < n_layers);
        n.ok_or_else(|| {
            let value = self.present(key).map(shown).unwrap_or_default();
            Error::Unsupported(format!(
                "{CONFIG_NAME}: {key} is {value}, which is not supported in a model of {n_layers} layers, of which some \
                 have keys and values of their own"
            ))
        })
    }

    /// Refuses experts beside the MLPs.
    pub(super) fn refuse_experts_beside(&self, architecture: &Architecture) -> Result<()> {
        let [_, _, experts, _] = OF_KINDS;
        match self.flag_or(experts, false)? {
            false => Ok(()),
            true => {
                let why = not_dense(architecture);
                Err(Error::Unsupported(format!("{CONFIG_NAME}: {experts} is true: {why}")))
            }
        }
    }

    /// Reads the width of the input that each layer has of its own, `usual` where the key is absent; `None` if layers have
    /// none. Their table has a row for each of `vocab_size` tokens; `usual_rows` where nothing is said.
    pub(super) fn layer_input(
        &self,
        usual: usize,
        usual_rows: usize,
        vocab_size: usize,
    ) -> Result<Option<usize>> {
        let [key, ..] = OF_KINDS;
        let width = match self.0.get(key) {
            None => Some(usual),
            Some(value) if value.is_null() || value.as_u64() == Some(0) => None,
            Some(_) => self.optional_size(key)?,
        };
        let rows = self.size_or(INPUT_VOCABULARY_KEY, usual_rows)?;
        if width.is_some() && rows != vocab_size {
            return Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: {INPUT_VOCABULARY_KEY} is {rows}, which is not supported beside a vocabulary of \
                 {vocab_size}"
            )));
        }
        Ok(width)
    }

    /// Reads the heads of layers without a window where they are other heads than those of layers with one, `windowed`: a
    /// width and a number of key and value heads.
    pub(super) fn full_heads(
        &self,
        architecture: &Architecture,
        windowed: [usize; 2],
        layers: &[LayerKind],
    ) -> Result<Option<FullHeads>> {
        let Some(usual) = architecture.full_heads else { return Ok(None) };
        let [width_key, heads_key, values_key] = FULL_HEADS;
        let keys_are_values = self.flag_or(values_key, false)?;
        let [_, kv_heads] = windowed;
        let mut full = [self.size_or(width_key, usual)?, kv_heads];
        if let (true, [_, heads]) = (keys_are_values, &mut full) {
            *heads = self.size_or(heads_key, kv_heads)?;
        }
        if self.present(PER_LAYER_KEY).is_some() {
            full = self.heads_of_layers(windowed, layers)?;
        }
        let [width, kv_heads] = full;
        Ok(Some(FullHeads { width, kv_heads, keys_are_values }))
    }

    /// Reads the heads of layers without a window from the settings of single layers, which have to agree.
    fn heads_of_layers(&self, windowed: [usize; 2], layers: &[LayerKind]) -> Result<[usize; 2]> {
        let unsupported = |what: String| Error::Unsupported(format!("{CONFIG_NAME}: {PER_LAYER_KEY} {what}"));
        let entries = self.present(PER_LAYER_KEY).and_then(Value::as_object);
        let entries = entries.ok_or_else(|| unsupported("is not an object".to_owned()))?;
        let is_layer = |key: &str| key.parse().is_ok_and(|layer: usize| layer < layers.len());
        if let Some(key) = entries.keys().find(|key| !is_layer(key)) {
            return Err(unsupported(format!("has {key}, which is none of {} layers", layers.len())));
        }
        let mut full = None;
        for (layer, kind) in layers.iter().enumerate() {
            let mut own = windowed;
            if let Some(entry) = entries.get(&layer.to_string()) {
                let entry =
                    entry.as_object().ok_or_else(|| unsupported(format!("has no object for {layer}")))?;
                if let Some(key) = entry.keys().find(|key| !HEADS.contains(&key.as_str())) {
                    return Err(unsupported(format!("has {key} for layer {layer}, which is not supported")));
                }
                for (slot, key) in own.iter_mut().zip(HEADS) {
                    *slot = Keys(entry).size_or(key, *slot)?;
                }
            }
            let expected = if kind.window.is_some() { windowed } else { *full.get_or_insert(own) };
            if own != expected {
                return Err(unsupported(format!(
                    "gives layer {layer} other heads than other layers of its kind, which is not supported"
                )));
            }
        }
        Ok(full.unwrap_or(windowed))
    }

    /// Reads which layers have which mixer.
    fn mixers(&self, architecture: &Architecture, n_layers: usize) -> Result<Vec<Mixer>> {
        let Some(other) = architecture.other_mixer() else { return Ok(vec![Mixer::Attention; n_layers]) };
        let attends = if let Some(rule) = architecture.mamba {
            self.periodic(ATTENTION_PERIOD, [rule.period, rule.offset], n_layers)?
        } else if let Some(Value::Array(types)) = self.present(LAYER_TYPES_KEY) {
            let word = layer_type(other);
            let attends = |kind: &Value| match kind.as_str() {
                Some(FULL) => Ok(true),
                Some(given) if given == word => Ok(false),
                _ => Err(Error::Unsupported(format!(
                    "{CONFIG_NAME}: {LAYER_TYPES_KEY} has {}, which is not supported; {FULL} and {word} are",
                    shown(kind)
                ))),
            };
            types.iter().map(attends).collect::<Result<_>>()?
        } else if let Some(rule) = architecture.delta_net {
            let every = self.size_or(ATTENTION_INTERVAL_KEY, rule.every)?;
            architectures::every(n_layers, every).into_iter().map(|other| !other).collect()
        } else {
            match self.layer_list(ATTENTION_LAYERS_KEY)? {
                Some(list) => (0..n_layers).map(|layer| list.contains(&layer)).collect(),
                None => vec![true; n_layers],
            }
        };
        Ok(attends.into_iter().map(|attends| if attends { Mixer::Attention } else { other }).collect())
    }

    /// Reads a list of layers by their numbers; `None` if the key is absent.
    fn layer_list(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        let bad = || Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a list of layers", shown(value)));
        let number = |layer: &Value| layer.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(bad);
        value.as_array().ok_or_else(bad)?.iter().map(number).collect::<Result<_>>().map(Some)
    }

    /// Reads the taps of short convolutions; `usual` where they are not given.
    pub(super) fn short_convolution(&self, usual: usize) -> Result<usize> {
        match self.flag_or("conv_bias", false)? {
            true => Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: conv_bias true is not supported; short convolutions without biases are"
            ))),
            false => self.size_or(CONVOLUTION_TAPS_KEY, usual),
        }
    }

    /// Reads the sizes of delta nets.
    pub(super) fn delta_net(&self, rule: DeltaNetLayers) -> Result<DeltaNetSizes> {
        let [key_heads, value_heads, key_width, value_width, taps] = DELTA_NET;
        let [usual_key_width, usual_value_width] = rule.widths;
        Ok(DeltaNetSizes {
            key_heads: self.size_or(key_heads, rule.key_heads)?,
            value_heads: self.size_or(value_heads, rule.value_heads)?,
            key_width: self.size_or(key_width, usual_key_width)?,
            value_width: self.size_or(value_width, usual_value_width)?,
            taps: self.size_or(taps, rule.taps)?,
            heads: HeadOrder::ByKey,
        })
    }

    /// Reads the width of an MLP.
    pub(super) fn mlp_width(&self, architecture: &Architecture) -> Result<usize> {
        let width = self.size_or(architecture.mlp_width, architecture.usual.intermediate_size)?;
        if !architecture.adjusts_mlp || !self.flag_or(ADJUSTS_KEY, true)? {
            return Ok(width);
        }
        let (key, multiple) = ("block_ffn_dim_multiplier", self.size_or("block_multiple_of", 256)?);
        let narrower = 2 * width / 3;
        // Null leaves the two thirds as they are; an absent key means 1.
        let factor = if self.0.contains_key(key) { self.number(key)? } else { Some(1.0) };
        let adjusted = match factor {
            Some(factor) => ((factor * narrower as f64) as usize).div_ceil(multiple) * multiple,
            None => narrower,
        };
        sensible_size(adjusted as u64).ok_or_else(|| {
            Error::Format(format!("{CONFIG_NAME}: {key} makes an MLP of width {adjusted}, no sensible size"))
        })
    }

    /// Reads a period and an offset under `keys` (`usual` where they are absent), and returns for each layer whether its
    /// number is the offset when it is divided by the period.
    pub(super) fn periodic(&self, keys: [&str; 2], usual: [usize; 2], n_layers: usize) -> Result<Vec<bool>> {
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
    pub(super) fn mamba(&self, rule: MambaLayers, hidden_size: usize) -> Result<MambaSizes> {
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
    pub(super) fn feed_forward(&self, experts: Option<Experts>, n_layers: usize) -> Result<Vec<FeedForward>> {
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
        let mut without: Vec<usize> =
            (0..n_layers).filter(|layer| !(layer + 1).is_multiple_of(step)).collect();
        without.extend(self.layer_list(MLP_LAYERS_KEY)?.unwrap_or_default());
        for layer in without {
            if let Some(slot) = all.get_mut(layer) {
                *slot = FeedForward::Mlp;
            }
        }
        Ok(all)
    }

    /// Reads the sizes of the experts; an MLP is `mlp_width` wide.
    pub(super) fn experts(&self, rule: Experts, mlp_width: usize) -> Result<ExpertSizes> {
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
    pub(super) fn every(&self, key: Option<&str>, usual: usize) -> Result<usize> {
        let Some((key, value)) = key.and_then(|key| Some((key, self.present(key)?))) else {
            return Ok(usual);
        };
        let pattern = value.as_str().map(|pattern| pattern.len() as u64);
        value.as_u64().or(pattern).and_then(sensible_size).ok_or_else(|| {
            Error::Format(format!("{CONFIG_NAME}: {key} is {}, not a number of layers", shown(value)))
        })
    }

    /// Reads which layers rotate their queries and keys: without a list, all but every `usual`-th. An empty list counts as
    /// none, as in Python.
    pub(super) fn rotated(&self, usual: usize, n_layers: usize) -> Result<Vec<bool>> {
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

    /// Refuses a window that is switched on.
    pub(super) fn no_window(&self) -> Result<Option<usize>> {
        match self.flag_or("use_sliding_window", false)? {
            false => Ok(None),
            true => Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: use_sliding_window is true, which is not supported; a model of this architecture is \
                 read without a window"
            ))),
        }
    }
}

/// Returns the entry of the list of kinds for a layer that has the mixer `mixer` and no window.
pub(super) fn layer_type(mixer: Mixer) -> &'static str {
    match mixer {
        Mixer::Attention => FULL,
        Mixer::Mamba => "mamba",
        Mixer::ShortConvolution => CONVOLUTION,
        Mixer::DeltaNet => LINEAR_ATTENTION,
    }
}
