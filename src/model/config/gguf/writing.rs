//! Writing of the metadata of GGUF files.

use super::{
    ARCHITECTURE_KEY, ATTENTION_FACTOR, CAPS, CONVOLUTION_TAPS, DELTA_NET, DELTA_NET_LAYERS, EXPERT_WIDTHS,
    EXPERTS, FILE_TYPE_KEY, GROWTH, HEAD_WIDTHS, INPUT_WIDTH, KEY_HEADS, LOCAL_BASE, LOG_MULTIPLIER, MAMBA,
    MLP_WIDTH, OF_WINDOWED, ORIGINAL_CONTEXT, QUANTIZATION_VERSION, ROTATES, SCALES, SCORE_SCALE, SECTIONS,
    SHARING, WINDOW, WINDOWED_LAYERS, YARN, epsilon, misread,
};
use crate::format::Container;
use crate::format::element::Element;
use crate::format::gguf::{Array, Metadata, Value, ValueType};
use crate::model::architectures::{self, Architecture, ExpertLayers, GgufHead, Rotation, Scaling, Windows};
use crate::model::config::{
    Config, DeltaNetSizes, FeedForward, LayerKind, MambaSizes, Mixer, QueryGrowth, Scales, Upstream,
    gguf_score_scale, gguf_windows, misread_keys, regroup,
};
use crate::model::rope::{Rope, RopeScaling, Yarn};
use crate::model::weights::file_type::FileType;
use crate::{Error, Result};

impl Config {
    /// Makes the GGUF metadata of the model that has one layer for each entry of `groups`.
    ///
    /// `groups[i]` are the original layers that became layer `i`. Every list with one entry per layer is
    /// reduced to one entry per group. `file_type` is that of the file; `None` leaves it as before. A
    /// Hugging Face model gets new metadata, without a tokenizer.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the list, if the layers of a group have different entries.
    pub fn to_metadata(&self, groups: &[Vec<usize>], file_type: Option<FileType>) -> Result<Metadata> {
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
                && !key.ends_with(SECTIONS)
            {
                list.items = regroup(key, &list.items, groups)?;
            }
        }
        self.check_head()?;
        self.check_layers(groups)?;
        self.check_kinds(groups)?;
        self.check_score_scale(groups.len())?;
        self.check_yarn()?;
        metadata.set(&self.key("block_count"), Value::U32(groups.len() as u32));
        let lists_windows = self.window().is_some() || self.full_heads.is_some();
        if gguf_windows(self.architecture, groups.len()) && lists_windows {
            let windowed: Vec<bool> = self.layers.iter().map(|layer| layer.window.is_some()).collect();
            let windowed = regroup(WINDOWED_LAYERS, &windowed, groups)?;
            let items = windowed.into_iter().map(Value::Bool).collect();
            let list = Array { of: ValueType::Bool, items };
            metadata.set(&self.key(WINDOWED_LAYERS), Value::Array(list));
        }
        if metadata.get(&self.key(SHARING)).is_some() {
            let sharing: Vec<bool> = self.layers.iter().map(|layer| layer.shares_keys).collect();
            let sharing = regroup(SHARING, &sharing, groups)?.into_iter().filter(|shares| *shares).count();
            metadata.set(&self.key(SHARING), Value::U32(sharing as u32));
        }
        if self.delta_net.is_some() {
            let [list, _] = DELTA_NET_LAYERS;
            let others: Vec<bool> = self.layers.iter().map(|layer| layer.mixer != Mixer::Attention).collect();
            let items = regroup(list, &others, groups)?.into_iter().map(Value::Bool).collect();
            metadata.set(&self.key(list), Value::Array(Array { of: ValueType::Bool, items }));
        }
        if let Some(number) = file_type.and_then(FileType::number) {
            metadata.set(FILE_TYPE_KEY, Value::U32(number));
        }
        if file_type.is_none() && self.mxfp4_experts && self.container() == Container::Safetensors {
            metadata.set(FILE_TYPE_KEY, Value::U32(MXFP4_EXPERTS));
            metadata.set(QUANTIZATION_VERSION.0, QUANTIZATION_VERSION.1);
        }
        if matches!(file_type.map(FileType::element), Some(Element::Block(_))) {
            metadata.set(QUANTIZATION_VERSION.0, QUANTIZATION_VERSION.1);
        }
        Ok(metadata)
    }

    /// # Errors
    /// [`Error::Unsupported`] if the output head is not the embedding, and llama.cpp would take the embedding for it.
    fn check_head(&self) -> Result<()> {
        if self.tied_head || self.architecture.gguf_head != GgufHead::Never {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "this {} model has an output head of its own, and llama.cpp takes the embedding in its place, whatever a GGUF file \
             of this architecture holds; write a Hugging Face folder instead",
            self.architecture.name
        )))
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
            (MLP_WIDTH, size(self.intermediate_size)),
            ("attention.head_count", size(self.n_heads)),
            ("attention.head_count_kv", size(self.n_kv_heads)),
            ("attention.key_length", size(self.head_dim)),
            ("attention.value_length", size(self.head_dim)),
            (epsilon(self.architecture), Value::F32(self.norm_epsilon as f32)),
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
        if let ([_, _, name], Scaling::Logits(_)) = (SCALES, self.architecture.scaling) {
            metadata.set(&self.key(name), float(logits));
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
        }
        if let Some(taps) = self.short_convolution {
            metadata.set(&self.key(CONVOLUTION_TAPS), size(taps));
        }
        if self.mamba.is_some() || self.short_convolution.is_some() {
            let attends = |kind: &LayerKind| kind.mixer == Mixer::Attention;
            let heads = |kind: &LayerKind| if attends(kind) { self.n_kv_heads } else { 0 };
            let items = self.layers.iter().map(|kind| size(heads(kind))).collect();
            metadata.set(&self.key(KEY_HEADS), Value::Array(Array { of: ValueType::U32, items }));
        }
        if let Some(full) = self.full_heads {
            for name in HEAD_WIDTHS {
                metadata.set(&self.key(name), size(full.width));
                metadata.set(&self.key(&format!("{name}{OF_WINDOWED}")), size(self.head_dim));
            }
            let n_sharing = self.layers.iter().filter(|kind| kind.shares_keys).count();
            metadata.set(&self.key(SHARING), size(n_sharing));
            metadata.set(&self.key(INPUT_WIDTH), size(self.layer_input.unwrap_or(0)));
            if self.layers.iter().any(|kind| kind.mlp_width != self.intermediate_size) {
                let items = self.layers.iter().map(|kind| size(kind.mlp_width)).collect();
                metadata.set(&self.key(MLP_WIDTH), Value::Array(Array { of: ValueType::U32, items }));
            }
            let items = self.layers.iter().map(|kind| size(self.kv_heads(*kind))).collect();
            metadata.set(&self.key(KEY_HEADS), Value::Array(Array { of: ValueType::U32, items }));
        }
        if let Some(sizes) = self.delta_net {
            let DeltaNetSizes { key_heads, value_heads, key_width, taps, .. } = sizes;
            let given = [key_heads, value_heads, key_width, sizes.values(), taps];
            for (name, n) in DELTA_NET.iter().zip(given) {
                metadata.set(&self.key(name), size(n));
            }
            // Three axes share the frequencies as evenly as can be.
            let n = self.rotated_width / 2;
            let items = [n.div_ceil(3), (n + 1) / 3, n / 3, 0].map(size).to_vec();
            metadata.set(&self.key(SECTIONS), Value::Array(Array { of: ValueType::I32, items }));
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
        if let (Rotation::LocalBase(_) | Rotation::ByKind { .. } | Rotation::LocalUnscaled, [rope]) =
            (self.architecture.rotation, self.ropes.as_slice())
        {
            metadata.set(&self.key(LOCAL_BASE), float(rope.theta));
        }
        if let Some(rope) = self.ropes.first() {
            for (name, value) in scaling_entries(rope) {
                metadata.set(&self.key(name), value);
            }
        }
        // A file of an architecture whose layers are of two kinds has a window, used or not.
        let window = self.window().or(self.full_heads.map(|_| self.context));
        if let Some(window) = window {
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

    /// Checks that the rope scaling is one that llama.cpp computes: YaRN with whole places, and proportional frequencies in
    /// layers without a window. Of architectures whose models have YaRN with other places, a note says before writing that
    /// llama.cpp computes it with whole places.
    fn check_yarn(&self) -> Result<()> {
        let local =
            self.ropes.get(1).filter(|_| matches!(self.architecture.rotation, Rotation::ByKind { .. }));
        let plain = [RopeScaling::None, RopeScaling::Proportional { share: 1.0 }];
        let full = matches!(
            self.rope()?.scaling,
            RopeScaling::None | RopeScaling::Proportional { .. } | RopeScaling::Divisors(_)
        );
        if local.is_some_and(|rope| !plain.contains(&rope.scaling) || !full) {
            return Err(Error::Unsupported(
                "a GGUF file of this architecture can say no rope scaling but proportional frequencies of layers without a \
                 window; write a Hugging Face folder"
                    .to_owned(),
            ));
        }
        match self.rope()?.scaling {
            RopeScaling::Yarn(Yarn { rounds: false, .. }) if !self.architecture.rounded_yarn => Err(Error::Unsupported(
                "a GGUF file cannot say a YaRN scaling with a ramp between whole places; write a Hugging Face folder"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that a GGUF file can say which layers rotate and which have windows, when the model has one layer for each
    /// entry of `groups`: llama.cpp derives from the architecture and the number of layers what no key says.
    fn check_kinds(&self, groups: &[Vec<usize>]) -> Result<()> {
        let kinds = regroup("the kinds of layers", &self.layers, groups)?;
        let unsaid = |layer: usize, does: &str, says: &str| {
            Err(Error::Unsupported(format!(
                "a GGUF file of the architecture {} {says} its layer {layer}, and the model {does}; remove whole \
                 periods of layers, or write a Hugging Face folder",
                self.architecture.gguf
            )))
        };
        let n = kinds.len();
        if let Some(layer) = misread_keys(&kinds) {
            return Err(Error::Unsupported(format!("{}; write a Hugging Face folder", misread(layer))));
        }
        if let (Some(rule), Some(sizes)) = (self.architecture.experts, self.experts) {
            let theirs = rule.gates.gguf_normalised();
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
        if self.architecture.other_mixer().is_some() {
            let n_attends = kinds.iter().filter(|kind| kind.mixer == Mixer::Attention).count();
            if n_attends == 0 || n_attends == n {
                return Err(Error::Unsupported(
                    "llama.cpp cannot open a model of this architecture without at least one layer with attention and \
                     one without; keep both, or write a Hugging Face folder"
                        .to_owned(),
                ));
            }
        }
        if let Some(mamba) = self.mamba
            && mamba.channels != 2 * self.hidden_size
        {
            return Err(Error::Unsupported(format!(
                "llama.cpp demands twice as many channels of a Mamba mixer as the stream is wide, and there are {}; \
                 write a Hugging Face folder",
                mamba.channels
            )));
        }
        if let Some(sizes) = self.delta_net
            && sizes.key_width != sizes.value_width
        {
            return Err(Error::Unsupported(format!(
                "llama.cpp demands key and value heads of a delta net of one width, and there are {} and {}; write a \
                 Hugging Face folder",
                sizes.key_width, sizes.value_width
            )));
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

    /// Returns the whole key of the setting `name` of the model.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.gguf)
    }
}

/// Writes the number of experts into the metadata of a model of `architecture`.
pub fn say_expert_count(metadata: &mut Metadata, architecture: &Architecture, count: usize) {
    let [key, _] = EXPERTS;
    let value = Value::U32(u32::try_from(count).unwrap_or(u32::MAX));
    metadata.set(&format!("{}.{key}", architecture.gguf), value);
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
        RopeScaling::None
        | RopeScaling::Llama3 { .. }
        | RopeScaling::Proportional { .. }
        | RopeScaling::Divisors(_) => Vec::new(),
    }
}

/// llama.cpp's number for files whose experts are of type MXFP4.
const MXFP4_EXPERTS: u32 = 38;
