//! Settings of a model, which its files declare, checked.
//!
//! The key names of `config.json` occur only in [`hugging_face`], those of GGUF metadata only in [`gguf`]
//! and, for special tokens, in [`special`].

pub mod gguf;
pub mod hugging_face;
pub mod special;

use serde_json::{Map, Value};

use super::architectures::{Architecture, HeadNorms, Rotation, Scaling, Windows, Wrapper};
use super::binding::{Form, HeadOrder, HeadRows, Numbers, Order, ValueHeads};
use super::packing::Packing;
use super::rope::Rope;
use super::tensors::{Role, Spelling, TensorId};
use crate::error::OrInternal;
use crate::format::Container;
use crate::format::gguf::Metadata;
use crate::{Error, Result};

/// Settings of a decoder, checked: every size is at least one, the query heads are a multiple of
/// the key heads, and every setting that changes the arithmetic is supported.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Architecture: what the family of the model has that others have not.
    pub architecture: &'static Architecture,
    /// Number of decoder layers, L.
    pub n_layers: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the MLP between its up and down projections, in the first layer. See [`LayerKind::mlp_width`].
    pub intermediate_size: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; divides `n_heads`. See [`kv_heads`](Self::kv_heads).
    pub n_kv_heads: usize,
    /// Width of a head; even. See [`head_width`](Self::head_width).
    pub head_dim: usize,
    /// Heads of the layers without a window, if they are other heads than those of the layers with one.
    pub full_heads: Option<FullHeads>,
    /// Number of rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Longest declared context in tokens.
    pub context: usize,
    /// Epsilon of the norms, added to the mean square.
    pub norm_epsilon: f64,
    /// Rotations of queries and keys, to which [`LayerKind::rope`] points; at least one. The first is that of the layers
    /// without a window, if layers differ.
    pub ropes: Vec<Rope>,
    /// Numbers of each head that are rotated, its first in files; even.
    pub rotated_width: usize,
    /// What tells the layers apart. One entry for each layer.
    pub layers: Vec<LayerKind>,
    /// Growth of queries with their positions, if any.
    pub query_growth: Option<QueryGrowth>,
    /// Whether the output head shares its weights with the embedding.
    pub tied_head: bool,
    /// Projections that have biases.
    pub biases: Biases,
    /// Constants that activations are multiplied by, and their caps.
    pub scales: Scales,
    /// Sizes of the experts, if any layer has experts.
    pub experts: Option<ExpertSizes>,
    /// Whether the projections of all experts are stored in MXFP4.
    pub mxfp4_experts: bool,
    /// Which matrices are packed, by GPTQ, AWQ or compressed-tensors, and how; `None` if none are.
    pub packing: Option<Packing>,
    /// Sizes of the Mamba mixers, if any layer has one.
    pub mamba: Option<MambaSizes>,
    /// Width of the input that each layer has of its own, if layers have one.
    pub layer_input: Option<usize>,
    /// Taps of the short convolutions, if any layer has one.
    pub short_convolution: Option<usize>,
    /// Sizes of the gated delta nets, if any layer has one.
    pub delta_net: Option<DeltaNetSizes>,
    /// Id of the token that begins every sequence; `None` if the model has none.
    pub bos_token_id: Option<u32>,
    /// Id of the token that ends a text; the first id if the model names several.
    pub eos_token_id: Option<u32>,
    /// Settings as the model's own file declares them, kept to write the settings of a compressed model.
    pub(crate) upstream: Upstream,
    /// The whole model, if the decoder is a part of one.
    pub(crate) whole: Option<Whole>,
}

/// A model that the decoder is a part of, beside an image encoder or the like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Whole {
    /// Table of the model's class.
    pub(crate) wrapper: &'static Wrapper,
    /// JSON object of `config.json`, in which the decoder's settings are an object of their own.
    pub(crate) object: Map<String, Value>,
    /// How the files spell the names of the decoder's tensors.
    pub(crate) spelling: Spelling,
}

/// What tells the layers of a model apart. Layers of different kinds are not made into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerKind {
    /// Place in [`Config::ropes`] of the rotation of queries and keys by position; `None` if there is none.
    pub rope: Option<usize>,
    /// Number of tokens that a position attends to, itself included; `None` means itself and all before it.
    pub window: Option<usize>,
    /// What mixes the tokens.
    pub mixer: Mixer,
    /// What comes after the mixer.
    pub feed_forward: FeedForward,
    /// Width of the MLP between its up and down projections.
    pub mlp_width: usize,
    /// Whether attention reads the keys and values of another layer in the place of its own: those of the last layer that
    /// has its own and that has a window, or none, as this one.
    pub shares_keys: bool,
}

impl LayerKind {
    /// Returns the place of the keys and values that layers of this kind share: 0 for layers with a window, 1 for others.
    pub fn key_place(self) -> usize {
        usize::from(self.window.is_none())
    }
}

/// Heads of layers without a window, where they are other heads than those of layers with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullHeads {
    /// Width of a head; even. All of it rotates, as far as the frequencies say.
    pub width: usize,
    /// Number of key and value heads; divides that of the query heads.
    pub kv_heads: usize,
    /// Whether the layers have no value projections: the values are the keys before they are normalised and rotated.
    pub keys_are_values: bool,
}

/// Part of a layer that mixes the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mixer {
    /// Attention.
    Attention,
    /// A state-space model.
    Mamba,
    /// A convolution over a few tokens between two gates.
    ShortConvolution,
    /// A memory of keys and values that is corrected token by token.
    DeltaNet,
}

/// Sizes of a gated delta net.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaNetSizes {
    /// Number of key heads, which is that of the query heads.
    pub key_heads: usize,
    /// Number of value heads; a multiple of the key heads.
    pub value_heads: usize,
    /// Width of a key head.
    pub key_width: usize,
    /// Width of a value head.
    pub value_width: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// Order in which the model's files hold the value heads, and the arithmetic reads them.
    pub heads: HeadOrder,
}

impl DeltaNetSizes {
    /// Returns the width of all key heads together.
    pub fn keys(self) -> usize {
        self.key_heads * self.key_width
    }

    /// Returns the width of all value heads together.
    pub fn values(self) -> usize {
        self.value_heads * self.value_width
    }

    /// Returns the number of channels of the convolution: queries, keys and values.
    pub fn convolved(self) -> usize {
        2 * self.keys() + self.values()
    }

    /// Returns the key head that serves the value head `head`.
    pub fn key_head(self, head: usize) -> usize {
        match self.heads {
            HeadOrder::ByKey => head * self.key_heads / self.value_heads.max(1),
            HeadOrder::InTurns => head % self.key_heads.max(1),
        }
    }

    /// Returns the order of the tensor of `role` in a file that holds value heads in `order`.
    fn order(self, order: HeadOrder, role: Role) -> Order {
        let Self { key_heads, value_heads, value_width, .. } = self;
        let of_each = value_heads / key_heads.max(1);
        if order == self.heads || of_each < 2 {
            return Order::Plain;
        }
        let rows = ValueHeads { key_heads, of_each, width: value_width, after: 0, columns: false, order };
        match role {
            Role::DeltaInput | Role::DeltaConvolution => {
                Order::ValueHeads(ValueHeads { after: 2 * self.keys(), ..rows })
            }
            Role::DeltaGate => Order::ValueHeads(rows),
            Role::DeltaRate | Role::DeltaStep | Role::DeltaStepBias | Role::DeltaDecay => {
                Order::ValueHeads(ValueHeads { width: 1, ..rows })
            }
            Role::DeltaOutput => Order::ValueHeads(ValueHeads { columns: true, ..rows }),
            _ => Order::Plain,
        }
    }
}

/// Sizes of a Mamba mixer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MambaSizes {
    /// Number of channels.
    pub channels: usize,
    /// Numbers of the state of a channel.
    pub states: usize,
    /// Width of the step before it is projected to the channels.
    pub rank: usize,
    /// Taps of the convolution.
    pub taps: usize,
}

/// Part of a layer that comes after the mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedForward {
    /// An MLP.
    Mlp,
    /// Experts, of which a router chooses some for each token.
    Experts,
}

/// Sizes of the experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertSizes {
    /// Number of experts.
    pub count: usize,
    /// Number of experts that are chosen for each token; at most `count`.
    pub used: usize,
    /// Width of an expert between its up and down projections.
    pub width: usize,
    /// Whether the gates of the chosen experts add up to 1; otherwise those of all experts do.
    pub normalised: bool,
    /// Width of the expert that serves every token, if there is one.
    pub shared_width: Option<usize>,
}

/// Growth of queries with their positions: the query at position `i`, from 0, is multiplied by
/// `1 + beta ln(1 + floor(i / context))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// Factor of the logarithm.
    pub beta: f64,
    /// Tokens up to which nothing grows.
    pub context: f64,
}

/// Constants that activations are multiplied by, and their caps. All factors are 1 for most models, but that of the
/// scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Factor of the embeddings.
    pub embedding: f64,
    /// Factor of the attention scores; `None` is `head_dim^-1/2`.
    pub scores: Option<f64>,
    /// Factor of what attention and the MLP add to the residual stream.
    pub residual: f64,
    /// Factor of the logits.
    pub logits: f64,
    /// Cap `c` of the attention scores `s`, which become `c tanh(s / c)`.
    pub score_cap: Option<f64>,
    /// Cap of the logits, likewise.
    pub logit_cap: Option<f64>,
}

impl Default for Scales {
    fn default() -> Self {
        Self { embedding: 1.0, scores: None, residual: 1.0, logits: 1.0, score_cap: None, logit_cap: None }
    }
}

/// Projections of a layer that have biases. The bias of any other projection is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Whether the query, key, value and output projections have one, in this order.
    pub attention: [bool; 4],
    /// Whether the gate, up and down projections have one, in this order.
    pub mlp: [bool; 3],
}

/// Settings as the model's own file declares them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Upstream {
    /// JSON object of `config.json`, or the part of it that is the decoder's.
    HuggingFace(Map<String, Value>),
    /// Metadata of the first GGUF file.
    Gguf(Metadata),
}

impl Config {
    /// Returns the kind of file that holds the model.
    pub fn container(&self) -> Container {
        match self.upstream {
            Upstream::HuggingFace(_) => Container::Safetensors,
            Upstream::Gguf(_) => Container::Gguf,
        }
    }

    /// Checks the constraints that the arithmetic relies on; errors name `file`.
    fn check(self, file: &str) -> Result<Self> {
        let bad = |what: String| Err(Error::Format(format!("{file}: {what}")));
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return bad(format!(
                "{} attention heads are not a multiple of {} key and value heads",
                self.n_heads, self.n_kv_heads
            ));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return bad(format!(
                "heads of width {} are not possible: it must be a positive even number",
                self.head_dim
            ));
        }
        if let Some(bos) = self.bos_token_id
            && bos as usize >= self.vocab_size
        {
            return bad(format!("BOS token {bos} is outside the vocabulary of {}", self.vocab_size));
        }
        if self.rotated_width == 0
            || self.rotated_width > self.head_dim
            || !self.rotated_width.is_multiple_of(2)
        {
            return bad(format!(
                "{} numbers of heads of width {} cannot be rotated: it must be a positive even number",
                self.rotated_width, self.head_dim
            ));
        }
        if let Some(sizes) = self.delta_net
            && !sizes.value_heads.is_multiple_of(sizes.key_heads)
        {
            return bad(format!(
                "{} value heads of a delta net are not a multiple of {} key heads",
                sizes.value_heads, sizes.key_heads
            ));
        }
        if let Some(FullHeads { width, kv_heads, .. }) = self.full_heads
            && !(self.n_heads.is_multiple_of(kv_heads) && width > 0 && width.is_multiple_of(2))
        {
            return bad(format!(
                "layers without a window have {} attention heads of width {width} and {kv_heads} key and value heads, \
                 which is not possible",
                self.n_heads
            ));
        }
        let lacks_keys = |kind: &&LayerKind| kind.shares_keys && self.owner(kind.key_place()).is_none();
        if let Some(kind) = self.layers.iter().find(lacks_keys) {
            let what = if kind.window.is_some() { "with a window" } else { "without a window" };
            return bad(format!(
                "layers {what} read the keys and values of another such layer, and none has its own"
            ));
        }
        if self.layers.len() != self.n_layers {
            return Err(Error::internal(format!("{} kinds of {} layers", self.layers.len(), self.n_layers)));
        }
        if let Some(ExpertSizes { count, used, .. }) = self.experts
            && used > count
        {
            return bad(format!("{used} experts are to be chosen for a token, but there are {count}"));
        }
        let Scales { embedding, scores, residual, logits, score_cap, logit_cap } = self.scales;
        for (name, number) in [
            ("embeddings are scaled by", Some(embedding)),
            ("scores are scaled by", scores),
            ("residuals are scaled by", Some(residual)),
            ("logits are scaled by", Some(logits)),
            ("scores are capped at", score_cap),
            ("logits are capped at", logit_cap),
        ] {
            let number = number.unwrap_or(1.0);
            if !(number.is_finite() && number > 0.0 && (number as f32) > 0.0 && (number as f32).is_finite()) {
                return bad(format!("{name} {number}, which is not a positive number"));
            }
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon >= 0.0) {
            return bad(format!(
                "the epsilon of the norms is {}, not a small positive number",
                self.norm_epsilon
            ));
        }
        Ok(self)
    }

    /// Returns the configuration with `count` experts in each layer that has experts.
    ///
    /// # Errors
    /// [`Error::Internal`] if the model has no experts.
    pub fn with_experts(&self, count: usize) -> Result<Self> {
        let mut config = self.clone();
        let rule = self.architecture.experts.zip(config.experts.as_mut());
        let (rule, sizes) = rule.or_internal("a model without experts was to get others")?;
        sizes.count = count;
        match &mut config.upstream {
            Upstream::HuggingFace(raw) => hugging_face::say_expert_count(raw, rule, count),
            Upstream::Gguf(metadata) => gguf::say_expert_count(metadata, self.architecture, count),
        }
        Ok(config)
    }

    /// Returns the factor of the attention scores.
    pub fn score_scale(&self) -> f64 {
        self.scales.scores.unwrap_or_else(|| (self.head_dim as f64).sqrt().recip())
    }

    /// Returns the name of the architecture in files of the model's own kind: that of the class in transformers, such
    /// as `LlamaForCausalLM`, or `llama` in a GGUF file. The class is that of the whole model, if the decoder is a part of
    /// one.
    pub fn architecture_name(&self) -> &'static str {
        match (self.container(), &self.whole) {
            (Container::Safetensors, Some(whole)) => whole.wrapper.class,
            (Container::Safetensors, None) => self.architecture.class,
            (Container::Gguf, _) => self.architecture.gguf,
        }
    }

    /// Returns the name of a tensor of the decoder in files of kind `container`, which is `name` where the decoder is the
    /// whole model.
    pub fn spelled(&self, container: Container, name: String) -> String {
        match (container, &self.whole) {
            (Container::Safetensors, Some(whole)) => whole.spelling.spelled(&name),
            _ => name,
        }
    }

    /// Returns how files of kind `container` hold the tensor `id`, next to how the arithmetic reads it.
    pub fn form(&self, container: Container, id: TensorId) -> Form {
        let is_norm = id == TensorId::FinalNorm || id.role().is_some_and(Role::is_offset_norm);
        let numbers = match container {
            Container::Safetensors if id.role().is_some_and(Role::is_decay) => Numbers::Logarithm,
            Container::Safetensors if is_norm && self.architecture.norm_offset != 0.0 => {
                Numbers::Less(self.architecture.norm_offset)
            }
            _ => Numbers::Plain,
        };
        Form { order: id.role().map_or(Order::Plain, |role| self.order(container, role)), numbers }
    }

    /// Returns the order in which files of kind `container` hold the rows or columns of the tensor of `role`.
    fn order(&self, container: Container, role: Role) -> Order {
        let architecture = self.architecture;
        let order = match container {
            Container::Safetensors => architecture.hugging_face_rows,
            Container::Gguf => architecture.gguf_rows,
        };
        let per_norm = |heads: usize| if architecture.head_norms == HeadNorms::All { heads } else { 1 };
        let rows = HeadRows { heads: 1, width: self.head_dim, rotated: self.rotated_width, followed_by: 0 };
        let gate = if architecture.gated_heads { self.head_dim } else { 0 };
        match role {
            Role::Query | Role::QueryBias => {
                HeadRows { heads: self.n_heads, followed_by: gate, ..rows }.order(order)
            }
            Role::Key | Role::KeyBias => HeadRows { heads: self.n_kv_heads, ..rows }.order(order),
            Role::QueryNorm => HeadRows { heads: per_norm(self.n_heads), ..rows }.order(order),
            Role::KeyNorm => HeadRows { heads: per_norm(self.n_kv_heads), ..rows }.order(order),
            _ => match self.delta_net {
                Some(sizes) => sizes.order(architecture.value_heads(container), role),
                None => Order::Plain,
            },
        }
    }

    /// Returns what tells the layer `layer` apart.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no such layer.
    pub fn kind(&self, layer: usize) -> Result<LayerKind> {
        self.layers.get(layer).copied().or_internal("a layer is asked for that does not exist")
    }

    /// Returns the heads of layers of the kind `kind`, if they are other heads than those of the layers with a window.
    pub fn full_heads(&self, kind: LayerKind) -> Option<FullHeads> {
        self.full_heads.filter(|_| kind.window.is_none())
    }

    /// Returns the width of a head in layers of the kind `kind`.
    pub fn head_width(&self, kind: LayerKind) -> usize {
        self.full_heads(kind).map_or(self.head_dim, |heads| heads.width)
    }

    /// Returns the number of key and value heads in layers of the kind `kind`.
    pub fn kv_heads(&self, kind: LayerKind) -> usize {
        self.full_heads(kind).map_or(self.n_kv_heads, |heads| heads.kv_heads)
    }

    /// Returns how many numbers of each head are rotated in layers of the kind `kind`.
    pub fn rotated_width(&self, kind: LayerKind) -> usize {
        self.full_heads(kind).map_or(self.rotated_width, |heads| heads.width)
    }

    /// Returns the layer that files of any kind demand as the last: the last without a window, where transformers takes the
    /// last layer for such a one.
    pub fn last_that_stays(&self) -> Option<usize> {
        let last = self.layers.iter().rposition(|kind| kind.window.is_none());
        last.filter(|_| self.full_heads.is_some())
    }

    /// Returns the layer whose keys and values layers of the place `place` ([`LayerKind::key_place`]) read that have none of
    /// their own; `None` if no layer of that place has its own.
    pub fn owner(&self, place: usize) -> Option<usize> {
        self.layers.iter().rposition(|kind| !kind.shares_keys && kind.key_place() == place)
    }

    /// Returns the layers whose keys and values others read, ascending; none for most models.
    pub fn owners(&self) -> Vec<usize> {
        let is_read =
            |place: &usize| self.layers.iter().any(|kind| kind.shares_keys && kind.key_place() == *place);
        let mut owners: Vec<usize> = (0..2).filter(is_read).filter_map(|place| self.owner(place)).collect();
        owners.sort_unstable();
        owners
    }

    /// Returns whether any layer reads keys and values of another, or has an input of its own.
    pub fn reads_beside(&self) -> bool {
        self.layer_input.is_some() || self.layers.iter().any(|kind| kind.shares_keys)
    }

    /// Returns the numbers of the keys and values of a token that layers share.
    pub fn shared_numbers(&self) -> usize {
        let kinds = self.owners().into_iter().filter_map(|layer| self.layers.get(layer));
        kinds.map(|kind| 2 * self.kv_heads(*kind) * self.head_width(*kind)).sum()
    }

    /// Returns the width of the widest MLP.
    pub fn widest_mlp(&self) -> usize {
        self.layers.iter().map(|kind| kind.mlp_width).max().unwrap_or(self.intermediate_size)
    }

    /// Checks that a model that has one layer for each entry of `groups` may have these layers in files of any kind:
    /// the last may be the last, and none lacks the keys and values that it reads.
    fn check_layers(&self, groups: &[Vec<usize>]) -> Result<()> {
        let kinds = regroup("the kinds of layers", &self.layers, groups)?;
        self.check_last(&kinds)?;
        if kinds.iter().all(|kind| !kind.shares_keys) {
            return Ok(());
        }
        let stays = |layer: &usize| groups.iter().any(|group| group.contains(layer));
        match self.owners().into_iter().find(|layer| !stays(layer)) {
            None => Ok(()),
            Some(layer) => Err(Error::Unsupported(format!(
                "layers without keys and values of their own read those of layer {layer}: keep layer {layer}, or remove \
                 all layers that have none"
            ))),
        }
    }

    /// Checks that the last of the layers of `kinds` may be the last in files of any kind.
    fn check_last(&self, kinds: &[LayerKind]) -> Result<()> {
        match (self.full_heads, kinds) {
            (Some(_), [.., LayerKind { window: Some(_), .. }]) => {
                let keep = self.last_that_stays().map(|layer| format!("; keep layer {layer}"));
                Err(Error::Unsupported(format!(
                    "transformers takes the last layer of this architecture for one without a window, and the layer that \
                     would be the last has one{}",
                    keep.unwrap_or_default()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns the rotation of the layers without a window, or of all layers.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is none.
    pub fn rope(&self) -> Result<&Rope> {
        self.ropes.first().or_internal("the configuration has no rope")
    }

    /// Returns the number of tokens that a position attends to in the layers that have a window; `None` if no layer has
    /// one.
    pub fn window(&self) -> Option<usize> {
        self.layers.iter().find_map(|layer| layer.window)
    }

    /// Returns whether some layers have a window and others have none.
    pub fn mixes_windows(&self) -> bool {
        self.window().is_some() && self.layers.iter().any(|layer| layer.window.is_none())
    }

    /// Returns the number of parameters of a layer, norms, biases and experts included, averaged over the layers.
    pub fn parameters_per_layer(&self) -> u64 {
        self.mean_parameters(|experts| experts.count)
    }

    /// Returns the number of parameters of a layer that work on a token, averaged over the layers: of the experts only
    /// those that are chosen.
    pub fn active_parameters_per_layer(&self) -> u64 {
        self.mean_parameters(|experts| experts.used)
    }

    /// Returns the number of parameters of a layer that are in memory while it runs, averaged over the layers: of the experts
    /// one, and the next.
    pub fn held_parameters_per_layer(&self) -> u64 {
        self.mean_parameters(|_| 2)
    }

    fn mean_parameters(&self, counted: impl Fn(ExpertSizes) -> usize) -> u64 {
        let of_layer = |kind: &LayerKind| self.parameters_with(*kind, &counted);
        self.layers.iter().map(of_layer).sum::<u64>() / (self.layers.len() as u64).max(1)
    }

    /// Returns the number of parameters of a layer of the kind `kind`, norms, biases and experts included.
    pub fn parameters_of(&self, kind: LayerKind) -> u64 {
        self.parameters_with(kind, |experts| experts.count)
    }

    fn parameters_with(&self, kind: LayerKind, counted: impl Fn(ExpertSizes) -> usize) -> u64 {
        let size = |role: Role| role.shape(self, kind).iter().map(|n| *n as u64).product::<u64>();
        let roles: u64 = Role::required(self, kind).into_iter().map(size).sum();
        let experts = self.experts.filter(|_| kind.feed_forward == FeedForward::Experts);
        roles + experts.map_or(0, |experts| counted(experts) as u64 * self.parameters_of_one(experts))
    }

    /// Returns the number of parameters of an expert, biases included, without its row of the router.
    fn parameters_of_one(&self, experts: ExpertSizes) -> u64 {
        let (width, hidden) = (experts.width as u64, self.hidden_size as u64);
        let biases = if self.has_biased_experts() { 2 * width + hidden } else { 0 };
        3 * width * hidden + biases
    }

    /// Returns the number of embeddings of tokens that are a part of the input of one layer, in numbers; 0 if layers have no
    /// input of their own. They are not among the tensors of the layer.
    pub fn input_parameters(&self) -> u64 {
        self.vocab_size as u64 * self.layer_input.unwrap_or(0) as u64
    }

    /// Returns the number of parameters of an expert, with its row of the router; 0 if no layer has experts.
    pub fn parameters_per_expert(&self) -> u64 {
        let row = self.hidden_size as u64 + u64::from(self.has_biased_experts());
        self.experts.map_or(0, |experts| self.parameters_of_one(experts) + row)
    }

    /// Returns whether the router and the projections of the experts have biases.
    fn has_biased_experts(&self) -> bool {
        self.architecture.experts.is_some_and(|rule| rule.biased)
    }

    /// Returns whether any layer has a mixer other than attention.
    pub fn has_other_mixers(&self) -> bool {
        self.layers.iter().any(|kind| kind.mixer != Mixer::Attention)
    }

    /// Returns the number of columns of what the output projection of the mixer of a layer of the kind `kind` reads.
    pub fn mixer_width(&self, kind: LayerKind) -> usize {
        match kind.mixer {
            Mixer::Attention => self.n_heads * self.head_width(kind),
            Mixer::Mamba => self.mamba.map_or(0, |mamba| mamba.channels),
            Mixer::ShortConvolution => self.hidden_size,
            Mixer::DeltaNet => self.delta_net.map_or(0, DeltaNetSizes::values),
        }
    }

    /// Returns whether any layer has experts.
    pub fn has_experts(&self) -> bool {
        self.layers.iter().any(|kind| kind.feed_forward == FeedForward::Experts)
    }
}

/// Says that models of `architecture` with experts beside the MLPs are not supported.
fn not_dense(architecture: &Architecture) -> String {
    format!(
        "{} with experts beside the MLPs (such as 26B-A4B) is not supported; its other kinds are",
        architecture.name
    )
}

/// Returns a layer of `kinds` that llama.cpp gives the keys and values of another layer than those that are meant: those
/// of the last layer that has its own to layers without a window, and those of the one before it to layers with one.
fn misread_keys(kinds: &[LayerKind]) -> Option<usize> {
    let own: Vec<&LayerKind> = kinds.iter().filter(|kind| !kind.shares_keys).collect();
    let theirs =
        |kind: &LayerKind| own.len().checked_sub(2 - kind.key_place()).and_then(|place| own.get(place));
    let is_read = |kind: &LayerKind| theirs(kind).is_some_and(|read| read.key_place() == kind.key_place());
    kinds.iter().position(|kind| kind.shares_keys && !is_read(kind))
}

/// Converts a size from a file; `None` outside `1 ..= 2^28`. The bound keeps products of two sizes within 64
/// bits and catches garbage early.
fn sensible_size(given: u64) -> Option<usize> {
    usize::try_from(given).ok().filter(|n| (1..=1 << 28).contains(n))
}

/// What a file says about the parts of each layer.
struct LayerParts {
    rotation: Rotation,
    /// Which layers rotate, where the file says so.
    rotated: Option<Vec<bool>>,
    windows: Vec<Option<usize>>,
    mixers: Vec<Mixer>,
    feed_forward: Vec<FeedForward>,
    mlp_widths: Vec<usize>,
    /// Number of layers, the last, that have no keys and values of their own.
    n_sharing: usize,
}

impl LayerParts {
    /// Returns the kinds of the layers; of `n_ropes` rotations, the last is that of layers with a window.
    fn kinds(self, n_ropes: usize) -> Vec<LayerKind> {
        let Self { rotation, rotated, windows, mixers, feed_forward, mlp_widths, n_sharing } = self;
        let has_windows = windows.iter().any(Option::is_some);
        let n_layers = windows.len();
        let rotated = match (rotation, rotated) {
            (Rotation::Never, _) => vec![false; n_layers],
            (Rotation::OnlyWindowed, _) => windows.iter().map(Option::is_some).collect(),
            (Rotation::Windowed, _) if has_windows => windows.iter().map(Option::is_some).collect(),
            (_, Some(rotated)) => rotated,
            (_, None) => vec![true; n_layers],
        };
        let parts =
            windows.into_iter().zip(rotated).zip(mixers.into_iter().zip(feed_forward)).zip(mlp_widths);
        type Parts = (((Option<usize>, bool), (Mixer, FeedForward)), usize);
        let kind = |(layer, (((window, rotates), (mixer, feed_forward)), mlp_width)): (usize, Parts)| {
            let rope = rotates.then_some(if window.is_some() { n_ropes.saturating_sub(1) } else { 0 });
            let shares_keys = layer + n_sharing >= n_layers;
            LayerKind { rope, window, mixer, feed_forward, mlp_width, shares_keys }
        };
        parts.enumerate().map(kind).collect()
    }
}

/// Returns the factor of the attention scores that llama.cpp takes for a file of `n_layers` layers, where it is not that
/// of the width of a head.
fn gguf_score_scale(config: &Config, n_layers: usize) -> Option<f64> {
    match config.architecture.scaling {
        Scaling::Gemma { largest, .. } if n_layers == largest => {
            Some((config.hidden_size as f64 / config.n_heads as f64).powf(-0.5))
        }
        _ => None,
    }
}

/// Returns whether llama.cpp uses the windows of a GGUF file of `architecture` with `n_layers` layers.
fn gguf_windows(architecture: &Architecture, n_layers: usize) -> bool {
    match architecture.windows {
        Windows::Some(windowed) => windowed.gguf_layers.is_none_or(|only| only == n_layers),
        Windows::All(_) | Windows::Never | Windows::Off => false,
    }
}

/// Reduces `list`, which has one entry per layer, to one entry per group. The layers of a group must have
/// equal entries.
fn regroup<T: Clone + PartialEq>(key: &str, list: &[T], groups: &[Vec<usize>]) -> Result<Vec<T>> {
    groups
        .iter()
        .map(|group| {
            let mut entries = group.iter().filter_map(|layer| list.get(*layer));
            let first = entries.next();
            match first {
                Some(first) if entries.all(|entry| entry == first) => Ok(first.clone()),
                _ => Err(Error::Unsupported(format!(
                    "layers {group:?} cannot become one, because their entries in {key} differ"
                ))),
            }
        })
        .collect()
}
