//! What tells the layers of a model apart, in the metadata of GGUF files.

use super::keys::Keys;
use super::{
    DELTA_NET, DELTA_NET_LAYERS, EXPERT_WIDTHS, EXPERTS, KEY_HEADS, MAMBA, MLP_WIDTH, ROTATES, SHARING,
    WINDOW, WINDOWED_LAYERS,
};
use crate::Result;
use crate::format::gguf::{Array, Value};
use crate::model::architectures::{
    self, Architecture, DeltaNetLayers, ExpertLayers, Experts, Rotation, Windows,
};
use crate::model::config::{
    DeltaNetSizes, ExpertSizes, FeedForward, LayerKind, LayerParts, MambaSizes, Mixer, gguf_windows,
    sensible_size,
};

impl Keys<'_> {
    /// Reads the width of the MLP of each layer.
    pub(super) fn mlp_widths(&self, architecture: &Architecture, n_layers: usize) -> Result<Vec<usize>> {
        match self.list(MLP_WIDTH) {
            Some(list) if architecture.shares_keys && list.len() == n_layers => {
                let width = |value: &Value| value.as_u64().and_then(sensible_size);
                let bad =
                    || self.bad(format!("{} has an entry that is no sensible size", self.key(MLP_WIDTH)));
                list.iter().map(|value| width(value).ok_or_else(bad)).collect()
            }
            _ => Ok(vec![self.size(MLP_WIDTH)?; n_layers]),
        }
    }

    /// Reads what tells the layers apart: windows, the place of the rotation among `n_ropes`, mixers, experts, which the
    /// layers `routed` have where some have none, and MLPs, whose widths are `mlp_widths`.
    pub(super) fn kinds(
        &self,
        architecture: &Architecture,
        mlp_widths: Vec<usize>,
        n_ropes: usize,
        routed: &[usize],
    ) -> Result<Vec<LayerKind>> {
        let n_layers = mlp_widths.len();
        // 0 stands for no window.
        let none = self.metadata.get(&self.key(WINDOW)).and_then(|value| value.as_u64()) == Some(0);
        let window = if none { None } else { self.optional_size(WINDOW)? };
        let windows = match architecture.windows {
            Windows::Off => vec![None; n_layers],
            Windows::Never | Windows::All(_) => vec![window; n_layers],
            Windows::Some(_) if !gguf_windows(architecture, n_layers) || none => vec![None; n_layers],
            Windows::Some(_) if architecture.full_heads.is_some() && self.list(WINDOWED_LAYERS).is_none() => {
                return Err(self.bad(format!("{} is not there as a list", self.key(WINDOWED_LAYERS))));
            }
            Windows::Some(rule) => {
                let window = window.or(rule.gguf_usual);
                let has_window = self.windowed_layers(n_layers, rule.every)?;
                has_window.into_iter().map(|has| window.filter(|_| has)).collect()
            }
        };
        let rotated = match architecture.rotation {
            Rotation::AllBut(every) => Some(architectures::every(n_layers, every)),
            Rotation::Switched => {
                let switch = self.metadata.get(&self.key(ROTATES));
                Some(vec![switch != Some(&Value::Bool(false)); n_layers])
            }
            _ => None,
        };
        let feed_forward = |layer: usize| match architecture.experts.map(|rule| rule.layers) {
            Some(ExpertLayers::All | ExpertLayers::Listed) => FeedForward::Experts,
            Some(ExpertLayers::Periodic { .. }) if routed.contains(&layer) => FeedForward::Experts,
            Some(ExpertLayers::Periodic { .. }) | None => FeedForward::Mlp,
        };
        let parts = LayerParts {
            rotation: architecture.rotation,
            rotated,
            windows,
            mixers: self.mixers(architecture, n_layers)?,
            feed_forward: (0..n_layers).map(feed_forward).collect(),
            mlp_widths,
            n_sharing: if architecture.shares_keys { self.n_sharing(n_layers)? } else { 0 },
        };
        Ok(parts.kinds(n_ropes))
    }

    /// Reads how many layers, the last of `n_layers`, read the keys and values of others.
    fn n_sharing(&self, n_layers: usize) -> Result<usize> {
        let n = self.optional_count(SHARING)?.unwrap_or(0);
        if n >= n_layers {
            return self.refuse(format!("{} is {n} in a model of {n_layers} layers", self.key(SHARING)));
        }
        Ok(n)
    }

    /// Reads which layers have which mixer.
    fn mixers(&self, architecture: &Architecture, n_layers: usize) -> Result<Vec<Mixer>> {
        let Some(other) = architecture.other_mixer() else { return Ok(vec![Mixer::Attention; n_layers]) };
        let has_other: Vec<bool> = match architecture.delta_net {
            Some(rule) => {
                let [list, every] = DELTA_NET_LAYERS;
                self.flags(list, n_layers, self.optional_size(every)?.unwrap_or(rule.every))?
            }
            // Layers without key heads have no attention.
            None => {
                let heads = self.list(KEY_HEADS);
                let has_none = |layer: usize| heads.and_then(|list| list.get(layer)?.as_u64()) == Some(0);
                (0..n_layers).map(has_none).collect()
            }
        };
        Ok(has_other.into_iter().map(|has| if has { other } else { Mixer::Attention }).collect())
    }

    /// Reads the sizes of delta nets.
    pub(super) fn delta_net(&self, rule: DeltaNetLayers) -> Result<DeltaNetSizes> {
        let [key_heads, value_heads, width, values, taps] = DELTA_NET;
        let (n_values, values) = (self.size(value_heads)?, self.size(values)?);
        let value_width = values / n_values;
        let key_width = self.size(width)?;
        if value_width * n_values != values || value_width != key_width {
            return self.refuse(format!(
                "{n_values} value heads of a delta net are {values} wide and key heads {key_width} each, which is not \
                 supported"
            ));
        }
        Ok(DeltaNetSizes {
            key_heads: self.size(key_heads)?,
            value_heads: n_values,
            key_width,
            value_width,
            taps: self.size(taps)?,
            heads: rule.gguf_heads,
        })
    }

    /// Reads which layers have a window: all but every `usual`-th, unless a list or another number says otherwise.
    pub(super) fn windowed_layers(&self, n_layers: usize, usual: usize) -> Result<Vec<bool>> {
        self.flags(WINDOWED_LAYERS, n_layers, usual)
    }

    /// Reads a list of flags, one for each layer, under `name`; or a number of layers of which only the last lacks the
    /// flag, which is `usual` where nothing is given.
    fn flags(&self, name: &str, n_layers: usize, usual: usize) -> Result<Vec<bool>> {
        let key = self.key(name);
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
                let every = value.as_u64().and_then(sensible_size).ok_or_else(|| bad(value))?;
                Ok(architectures::every(n_layers, every))
            }
        }
    }

    /// Returns the entries of the list under `name`; `None` if there is no list.
    pub(super) fn list(&self, name: &str) -> Option<&[Value]> {
        self.metadata.get(&self.key(name)).and_then(|value| value.as_array())
    }

    /// Reads the sizes of the Mamba mixers.
    pub(super) fn mamba(&self) -> Result<MambaSizes> {
        let [channels, states, rank, taps] = MAMBA;
        Ok(MambaSizes {
            channels: self.size(channels)?,
            states: self.size(states)?,
            rank: self.size(rank)?,
            taps: self.size(taps)?,
        })
    }

    /// Reads the sizes of the experts; an MLP is `mlp_width` wide.
    pub(super) fn experts(&self, rule: Experts, mlp_width: usize) -> Result<ExpertSizes> {
        let ([count, used], [width, shared]) = (EXPERTS, EXPERT_WIDTHS);
        Ok(ExpertSizes {
            count: self.size(count)?,
            used: self.size(used)?,
            width: match rule.width {
                Some(_) => self.size(width)?,
                None => mlp_width,
            },
            normalised: rule.gates.gguf_normalised(),
            shared_width: rule.shared.map(|_| self.size(shared)).transpose()?,
        })
    }
}
