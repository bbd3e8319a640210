//! Roles of the tensors of a model, and their names in Hugging Face and GGUF files.

use super::Config;
use super::architectures::{Architecture, ExpertNames, HeadNorms};
use super::config::Biases;
use super::config::{FeedForward, LayerKind, Mixer};
use crate::format::Container;

/// Role of a tensor in a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// RMSNorm of what attention reads.
    AttentionNorm,
    /// Query projection.
    Query,
    /// Bias of the query projection.
    QueryBias,
    /// Key projection.
    Key,
    /// Bias of the key projection.
    KeyBias,
    /// Value projection.
    Value,
    /// Bias of the value projection.
    ValueBias,
    /// Attention output projection.
    Output,
    /// Bias of the attention output projection.
    OutputBias,
    /// RMSNorm of the query heads.
    QueryNorm,
    /// RMSNorm of the key heads.
    KeyNorm,
    /// Projection to the inputs and gates of the channels of a Mamba mixer.
    MambaInput,
    /// Taps of the convolution of a Mamba mixer.
    MambaConvolution,
    /// Bias of the convolution of a Mamba mixer.
    MambaConvolutionBias,
    /// Projection of the channels of a Mamba mixer to step, `B` and `C`.
    MambaSelection,
    /// RMSNorm of the step of a Mamba mixer.
    MambaStepNorm,
    /// RMSNorm of `B` of a Mamba mixer.
    MambaBNorm,
    /// RMSNorm of `C` of a Mamba mixer.
    MambaCNorm,
    /// Projection of the step of a Mamba mixer to the channels.
    MambaStep,
    /// Bias of the projection of the step of a Mamba mixer.
    MambaStepBias,
    /// Decays `A` of the states of a Mamba mixer.
    MambaDecay,
    /// What goes past the states of a Mamba mixer, `D`.
    MambaPast,
    /// Output projection of a Mamba mixer.
    MambaOutput,
    /// RMSNorm of what attention adds to the residual stream.
    AttentionAfterNorm,
    /// RMSNorm of what the MLP reads.
    MlpNorm,
    /// Router, whose rows score the experts.
    Router,
    /// Gate projection.
    Gate,
    /// Bias of the gate projection.
    GateBias,
    /// Up projection.
    Up,
    /// Bias of the up projection.
    UpBias,
    /// Down projection.
    Down,
    /// Bias of the down projection.
    DownBias,
    /// Gate projection of the expert that serves every token.
    SharedGate,
    /// Up projection of the expert that serves every token.
    SharedUp,
    /// Down projection of the expert that serves every token.
    SharedDown,
    /// Row that says how much the expert that serves every token adds.
    SharedRouter,
    /// RMSNorm of what the MLP adds to the residual stream.
    MlpAfterNorm,
    /// Rotary frequencies that old checkpoints store; never read, only carried along.
    RotaryFrequencies,
}

/// Names of the tensors of a layer where [`Architecture::names`] has no others: role, name after `model.layers.<n>.` in a
/// Hugging Face model, and name after `blk.<n>.` in a GGUF file. An empty name means that files of this kind do not hold
/// the tensor.
const LAYER_NAMES: [(Role, &str, &str); 38] = [
    (Role::AttentionNorm, "input_layernorm.weight", "attn_norm.weight"),
    (Role::Query, "self_attn.q_proj.weight", "attn_q.weight"),
    (Role::QueryBias, "self_attn.q_proj.bias", "attn_q.bias"),
    (Role::Key, "self_attn.k_proj.weight", "attn_k.weight"),
    (Role::KeyBias, "self_attn.k_proj.bias", "attn_k.bias"),
    (Role::Value, "self_attn.v_proj.weight", "attn_v.weight"),
    (Role::ValueBias, "self_attn.v_proj.bias", "attn_v.bias"),
    (Role::Output, "self_attn.o_proj.weight", "attn_output.weight"),
    (Role::OutputBias, "self_attn.o_proj.bias", "attn_output.bias"),
    (Role::QueryNorm, "self_attn.q_norm.weight", "attn_q_norm.weight"),
    (Role::KeyNorm, "self_attn.k_norm.weight", "attn_k_norm.weight"),
    (Role::MambaInput, "mamba.in_proj.weight", "ssm_in.weight"),
    (Role::MambaConvolution, "mamba.conv1d.weight", "ssm_conv1d.weight"),
    (Role::MambaConvolutionBias, "mamba.conv1d.bias", "ssm_conv1d.bias"),
    (Role::MambaSelection, "mamba.x_proj.weight", "ssm_x.weight"),
    (Role::MambaStepNorm, "mamba.dt_layernorm.weight", "ssm_dt_norm.weight"),
    (Role::MambaBNorm, "mamba.b_layernorm.weight", "ssm_b_norm.weight"),
    (Role::MambaCNorm, "mamba.c_layernorm.weight", "ssm_c_norm.weight"),
    (Role::MambaStep, "mamba.dt_proj.weight", "ssm_dt.weight"),
    (Role::MambaStepBias, "mamba.dt_proj.bias", "ssm_dt.bias"),
    (Role::MambaDecay, "mamba.A_log", "ssm_a"),
    (Role::MambaPast, "mamba.D", "ssm_d"),
    (Role::MambaOutput, "mamba.out_proj.weight", "ssm_out.weight"),
    (Role::AttentionAfterNorm, "post_self_attn_layernorm.weight", "post_attention_norm.weight"),
    (Role::MlpNorm, "post_attention_layernorm.weight", "ffn_norm.weight"),
    (Role::Router, "mlp.gate.weight", "ffn_gate_inp.weight"),
    (Role::Gate, "mlp.gate_proj.weight", "ffn_gate.weight"),
    (Role::GateBias, "mlp.gate_proj.bias", "ffn_gate.bias"),
    (Role::Up, "mlp.up_proj.weight", "ffn_up.weight"),
    (Role::UpBias, "mlp.up_proj.bias", "ffn_up.bias"),
    (Role::Down, "mlp.down_proj.weight", "ffn_down.weight"),
    (Role::DownBias, "mlp.down_proj.bias", "ffn_down.bias"),
    (Role::SharedGate, "mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"),
    (Role::SharedUp, "mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"),
    (Role::SharedDown, "mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"),
    (Role::SharedRouter, "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"),
    (Role::MlpAfterNorm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    (Role::RotaryFrequencies, "self_attn.rotary_emb.inv_freq", ""),
];

/// Names of the tensors outside the layers: identity, name in a Hugging Face model, and name in a GGUF file.
const MODEL_NAMES: [(TensorId, &str, &str); 6] = [
    (TensorId::Embedding, "model.embed_tokens.weight", "token_embd.weight"),
    (TensorId::FinalNorm, "model.norm.weight", "output_norm.weight"),
    (TensorId::Head, "lm_head.weight", "output.weight"),
    (TensorId::RotaryDivisors, "", "rope_freqs.weight"),
    (TensorId::ShortDivisors, "", "rope_factors_short.weight"),
    (TensorId::LongDivisors, "", "rope_factors_long.weight"),
];

/// Tensors of a layer that hold the rows of several roles one after the other in some GGUF files of any architecture:
/// llama.cpp reads the roles together or apart. See [`Architecture::joined`].
const JOINED_NAMES: [(&[Role], &str, &str); 2] = [
    (&[Role::Query, Role::Key, Role::Value], "", "attn_qkv.weight"),
    (&[Role::QueryBias, Role::KeyBias, Role::ValueBias], "", "attn_qkv.bias"),
];

/// Roles of attention.
const OF_ATTENTION: [Role; 10] = [
    Role::Query,
    Role::QueryBias,
    Role::Key,
    Role::KeyBias,
    Role::Value,
    Role::ValueBias,
    Role::Output,
    Role::OutputBias,
    Role::QueryNorm,
    Role::KeyNorm,
];

/// Roles of a Mamba mixer.
const OF_MAMBA: [Role; 12] = [
    Role::MambaInput,
    Role::MambaConvolution,
    Role::MambaConvolutionBias,
    Role::MambaSelection,
    Role::MambaStepNorm,
    Role::MambaBNorm,
    Role::MambaCNorm,
    Role::MambaStep,
    Role::MambaStepBias,
    Role::MambaDecay,
    Role::MambaPast,
    Role::MambaOutput,
];

/// Roles of the projections of an expert.
pub const OF_EXPERTS: [Role; 3] = [Role::Gate, Role::Up, Role::Down];

/// Roles of what decides between experts, and of the expert that serves every token.
const AROUND_EXPERTS: [Role; 5] =
    [Role::Router, Role::SharedGate, Role::SharedUp, Role::SharedDown, Role::SharedRouter];

/// Roles of the gate and up projections of an expert, whose rows lie one after the other in some files.
const GATE_AND_UP: [Role; 2] = [Role::Gate, Role::Up];

/// Names of tensors that hold projections of all experts: the roles, the name in Hugging Face models of any architecture
/// with experts, which are read but not written, and the name in GGUF files.
const EXPERT_NAMES: [(&[Role], &str, &str); 5] = [
    (&[Role::Gate], "", "ffn_gate_exps.weight"),
    (&[Role::Up], "", "ffn_up_exps.weight"),
    (&[Role::Down], "", "ffn_down_exps.weight"),
    (&GATE_AND_UP, "mlp.experts.gate_up_proj", ""),
    (&[Role::Down], "mlp.experts.down_proj", ""),
];

/// Roles of the norms.
const NORMS: [Role; 9] = [
    Role::MambaStepNorm,
    Role::MambaBNorm,
    Role::MambaCNorm,
    Role::AttentionNorm,
    Role::QueryNorm,
    Role::KeyNorm,
    Role::AttentionAfterNorm,
    Role::MlpNorm,
    Role::MlpAfterNorm,
];

/// Roles of the biases of attention, in the order of [`Biases::attention`].
const ATTENTION_BIASES: [Role; 4] = [Role::QueryBias, Role::KeyBias, Role::ValueBias, Role::OutputBias];

/// Roles of the biases of the MLP, in the order of [`Biases::mlp`].
const MLP_BIASES: [Role; 3] = [Role::GateBias, Role::UpBias, Role::DownBias];

/// Beginning of the Hugging Face names of all tensors but the head.
const BASE_PREFIX: &str = "model.";

/// Last parts of the names of scales for a cache of keys and values in 8 bits. The cache is not used here, and
/// transformers ignores the scales.
const CACHE_SCALES: [&str; 4] = [".k_scale", ".v_scale", ".q_scale", ".prob_scale"];

/// Whether the tensor called `name` in a Hugging Face model is a table of rotary positions, which follows from
/// the configuration. transformers leaves such tensors out.
pub fn is_rotary_table(name: &str) -> bool {
    name.starts_with("rotary_emb.") || name.contains(".rotary_emb.")
}

/// Whether the tensor called `name` in a Hugging Face model is a scale for a cache of keys and values in 8 bits.
pub fn is_cache_scale(name: &str) -> bool {
    CACHE_SCALES.iter().any(|end| name.ends_with(end))
}

/// Returns the full Hugging Face name of a tensor that a model without an output head calls `name`.
pub fn with_base_prefix(name: &str) -> String {
    let is_head = MODEL_NAMES.iter().any(|(id, full, _)| *id == TensorId::Head && *full == name);
    if is_head { name.to_owned() } else { format!("{BASE_PREFIX}{name}") }
}

/// Whether the tensor called `name` in a Hugging Face model is named as in a model with an output head.
pub fn has_base_prefix(name: &str) -> bool {
    name.starts_with(BASE_PREFIX)
}

/// Returns the part of the name of a layer's tensor that comes before the layer number.
fn layer_prefix(container: Container) -> &'static str {
    match container {
        Container::Safetensors => "model.layers.",
        Container::Gguf => "blk.",
    }
}

/// Splits the name of a layer's tensor in files of kind `container` into the number of the layer and the rest.
fn in_layer(container: Container, name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix(layer_prefix(container))?.split_once('.')?;
    // Canonical digits only, so that "01" is not a second name of layer 1.
    let index: usize = layer.parse().ok().filter(|i: &usize| i.to_string() == layer)?;
    Some((index, rest))
}

fn pick<'a>(container: Container, hugging_face: &'a str, gguf: &'a str) -> &'a str {
    match container {
        Container::Safetensors => hugging_face,
        Container::Gguf => gguf,
    }
}

/// Identifies the projection of an expert that is called `rest` after the prefix of its layer.
fn expert(container: Container, architecture: &Architecture, rest: &str) -> Option<(usize, Role)> {
    let (Container::Safetensors, ExpertNames::Apart(prefix, names)) =
        (container, architecture.experts?.names)
    else {
        return None;
    };
    let (number, name) = rest.strip_prefix(prefix)?.split_once('.')?;
    let e: usize = number.parse().ok().filter(|e: &usize| e.to_string() == number)?;
    let place = names.iter().position(|each| *each == name)?;
    Some((e, *OF_EXPERTS.get(place)?))
}

/// Returns the tensors of Hugging Face models of `architecture` that hold projections of all experts, as in
/// [`EXPERT_NAMES`].
fn stacked(architecture: &Architecture) -> Vec<(&'static [Role], &'static str, &'static str)> {
    match architecture.experts.map(|experts| experts.names) {
        Some(ExpertNames::Stacked(gate_and_up, down)) => {
            vec![(&GATE_AND_UP, gate_and_up, ""), (&[Role::Down], down, "")]
        }
        _ => Vec::new(),
    }
}

/// Identity of a tensor in the model, whatever the files call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// Token embedding, `[vocab, hidden]`.
    Embedding,
    /// RMSNorm before the head, `[hidden]`.
    FinalNorm,
    /// Output head, `[vocab, hidden]`; absent where it is tied to the embedding.
    Head,
    /// Divisors of the rotary frequencies, half as many as numbers of a head are rotated; in GGUF files only.
    RotaryDivisors,
    /// Divisors for contexts as long as those of the first training, and for longer ones, likewise.
    ShortDivisors,
    /// See [`ShortDivisors`](Self::ShortDivisors).
    LongDivisors,
    /// Tensor with this role in the layer with this index, from 0.
    Layer(usize, Role),
    /// Projection of an expert, one of [`OF_EXPERTS`]: layer, expert, both from 0, and role.
    Expert(usize, usize, Role),
}

/// A tensor of a layer that holds the rows of several, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    layer: usize,
    roles: &'static [Role],
    /// Whether it holds the roles of all experts, those of one expert after the other.
    of_experts: bool,
}

impl Joined {
    /// Returns the first of the tensors whose rows it holds.
    pub fn first(self) -> TensorId {
        let role = self.roles.first().copied().unwrap_or(Role::Query);
        if self.of_experts {
            TensorId::Expert(self.layer, 0, role)
        } else {
            TensorId::Layer(self.layer, role)
        }
    }

    /// Returns the tensors whose rows it holds, in order; nothing if they are of experts.
    pub fn of_layer(self) -> Vec<TensorId> {
        let roles = if self.of_experts { &[] } else { self.roles };
        roles.iter().map(|role| TensorId::Layer(self.layer, *role)).collect()
    }

    /// Returns the tensors whose rows it holds in a model with the configuration `config`, in order.
    pub fn ids(self, config: &Config) -> Vec<TensorId> {
        let Self { layer, roles, of_experts } = self;
        if !of_experts {
            return roles.iter().map(|role| TensorId::Layer(layer, *role)).collect();
        }
        let n = config.experts.map_or(0, |experts| experts.count);
        (0..n).flat_map(|e| roles.iter().map(move |role| TensorId::Expert(layer, e, *role))).collect()
    }

    /// Returns its shape in a model with the configuration `config`, outermost dimension first.
    pub fn shape(self, config: &Config) -> Vec<u64> {
        let shapes: Vec<Vec<u64>> = self.ids(config).iter().map(|id| id.shape(config)).collect();
        let n = if self.of_experts { shapes.len() / self.roles.len().max(1) } else { 1 };
        let rows: u64 = shapes.iter().filter_map(|shape| shape.first()).sum();
        let mut shape = vec![rows / (n as u64).max(1)];
        if self.of_experts {
            shape.insert(0, n as u64);
        }
        shape.extend(shapes.first().into_iter().flat_map(|shape| shape.iter().skip(1)));
        shape
    }
}

impl TensorId {
    /// Identifies the tensor called `name` in files of kind `container` that hold a model of `architecture`; `None` for
    /// a name that no such model has.
    pub fn parse(container: Container, architecture: &Architecture, name: &str) -> Option<Self> {
        let of_model = MODEL_NAMES.iter().map(|(id, ..)| *id);
        let is_it = |id: &TensorId| id.name(container, architecture).is_some_and(|known| known == name);
        if let Some(id) = of_model.into_iter().find(is_it) {
            return Some(id);
        }
        let (layer, rest) = in_layer(container, name)?;
        let of_expert =
            || expert(container, architecture, rest).map(|(e, role)| TensorId::Expert(layer, e, role));
        let role = Role::of_architecture(architecture)
            .find(|role| !rest.is_empty() && role.name_in(container, architecture) == rest);
        role.map(|role| TensorId::Layer(layer, role)).or_else(of_expert)
    }

    /// Identifies the tensor called `name` as one that holds the rows of several, in files of kind `container` that hold
    /// a model of `architecture`; `None` if it holds the rows of one only.
    pub fn parse_joined(container: Container, architecture: &Architecture, name: &str) -> Option<Joined> {
        let (layer, rest) = in_layer(container, name)?;
        let is_it = |(_, a, b): &(&[Role], &str, &str)| !rest.is_empty() && pick(container, a, b) == rest;
        if let Some((roles, ..)) = architecture.joined.iter().chain(&JOINED_NAMES).find(|each| is_it(each)) {
            return Some(Joined { layer, roles, of_experts: false });
        }
        let stacked = stacked(architecture);
        let (roles, ..) = stacked.iter().chain(&EXPERT_NAMES).find(|each| is_it(each))?;
        architecture.experts.map(|_| Joined { layer, roles, of_experts: true })
    }

    /// Returns the tensor that holds the rows of this tensor among those of others, and its name, in files of kind
    /// `container` that hold a model of `architecture`; `None` if such files hold this tensor by itself.
    pub fn joined(self, container: Container, architecture: &Architecture) -> Option<(String, Joined)> {
        let find = |all: &[(&'static [Role], &'static str, &'static str)], role: Role| {
            let named = |(roles, a, b): &&(&[Role], &str, &str)| {
                roles.contains(&role) && !pick(container, a, b).is_empty()
            };
            all.iter().find(named).map(|(roles, a, b)| (*roles, pick(container, a, b)))
        };
        let (layer, of_experts, (roles, name)) = match self {
            TensorId::Layer(layer, role) => (layer, false, find(architecture.joined, role)?),
            TensorId::Expert(layer, _, role) => {
                let own = find(&stacked(architecture), role);
                let gguf = || if container == Container::Gguf { find(&EXPERT_NAMES, role) } else { None };
                (layer, true, own.or_else(gguf)?)
            }
            _ => return None,
        };
        let name = format!("{}{layer}.{name}", layer_prefix(container));
        Some((name, Joined { layer, roles, of_experts }))
    }

    /// Returns the name of the tensor in files of kind `container` that hold a model of `architecture`; `None` if such
    /// files do not hold the tensor, or not by itself.
    pub fn name(self, container: Container, architecture: &Architecture) -> Option<String> {
        match self {
            TensorId::Layer(layer, role) => {
                let name = role.name_in(container, architecture);
                (!name.is_empty()).then(|| format!("{}{layer}.{name}", layer_prefix(container)))
            }
            TensorId::Expert(layer, e, role) => match (container, architecture.experts?.names) {
                (Container::Safetensors, ExpertNames::Apart(prefix, names)) => {
                    let place = OF_EXPERTS.iter().position(|each| *each == role)?;
                    Some(format!("{}{layer}.{prefix}{e}.{}", layer_prefix(container), names.get(place)?))
                }
                _ => None,
            },
            TensorId::FinalNorm if container == Container::Safetensors => {
                Some(architecture.final_norm.to_owned())
            }
            other => {
                let (_, a, b) = MODEL_NAMES.iter().find(|(each, ..)| *each == other)?;
                let name = pick(container, a, b);
                (!name.is_empty()).then(|| name.to_owned())
            }
        }
    }

    /// Returns the role of a layer's tensor in words; the identity of any other.
    pub fn describe_role(self) -> String {
        match self {
            TensorId::Layer(_, role) => format!("{role:?}"),
            TensorId::Expert(_, e, role) => format!("{role:?} of expert {e}"),
            other => format!("{other:?}"),
        }
    }

    /// Returns the layer of the tensor, from 0; `None` for a tensor outside the layers.
    pub fn layer(self) -> Option<usize> {
        match self {
            TensorId::Layer(layer, _) | TensorId::Expert(layer, ..) => Some(layer),
            _ => None,
        }
    }

    /// Returns the role of a layer's tensor; `None` for a tensor outside the layers and for one of an expert.
    pub fn role(self) -> Option<Role> {
        match self {
            TensorId::Layer(_, role) => Some(role),
            _ => None,
        }
    }

    /// Returns a name of the tensor for messages: its name in files of kind `container` that hold a model of
    /// `architecture`, or its identity if it has none.
    pub fn describe(self, container: Container, architecture: &Architecture) -> String {
        let joined = || self.joined(container, architecture).map(|(name, _)| name);
        let name = self.name(container, architecture).or_else(joined);
        name.unwrap_or_else(|| format!("{self:?}"))
    }

    /// Returns the shape in files of kind `container`, outermost dimension first: [`shape`](Self::shape), but for a
    /// dimension of 1 that Hugging Face models have in convolutions.
    pub fn shape_in(self, container: Container, config: &Config) -> Vec<u64> {
        let mut shape = self.shape(config);
        if container == Container::Safetensors && self.role() == Some(Role::MambaConvolution) {
            shape.insert(1, 1);
        }
        shape
    }

    /// Returns the shape that the configuration demands, outermost dimension first.
    pub fn shape(self, config: &Config) -> Vec<u64> {
        match self {
            TensorId::Embedding | TensorId::Head => {
                vec![config.vocab_size as u64, config.hidden_size as u64]
            }
            TensorId::FinalNorm => vec![config.hidden_size as u64],
            TensorId::RotaryDivisors | TensorId::ShortDivisors | TensorId::LongDivisors => {
                vec![config.rotated_width as u64 / 2]
            }
            TensorId::Layer(_, role) => role.shape(config).iter().map(|n| *n as u64).collect(),
            TensorId::Expert(_, _, role) => {
                let inner = config.experts.map_or(0, |experts| experts.width) as u64;
                let hidden = config.hidden_size as u64;
                if role == Role::Down { vec![hidden, inner] } else { vec![inner, hidden] }
            }
        }
    }
}

impl Role {
    /// Returns the shape that the configuration demands: `[out, in]` for a projection, one dimension for
    /// norms and biases.
    pub fn shape(self, config: &Config) -> Vec<usize> {
        let hidden = config.hidden_size;
        let inner = config.intermediate_size;
        let (experts, shared) = config.experts.map_or((0, 0), |e| (e.count, e.shared_width.unwrap_or(0)));
        let mamba = config.mamba.unwrap_or_default();
        let queries = config.n_heads * config.head_dim;
        let keys = config.n_kv_heads * config.head_dim;
        match self {
            Role::AttentionNorm
            | Role::AttentionAfterNorm
            | Role::MlpNorm
            | Role::MlpAfterNorm
            | Role::OutputBias
            | Role::DownBias => vec![hidden],
            Role::QueryNorm if config.architecture.head_norms == HeadNorms::All => vec![queries],
            Role::KeyNorm if config.architecture.head_norms == HeadNorms::All => vec![keys],
            Role::QueryNorm | Role::KeyNorm => vec![config.head_dim],
            Role::Query => vec![queries, hidden],
            Role::QueryBias => vec![queries],
            Role::Key | Role::Value => vec![keys, hidden],
            Role::KeyBias | Role::ValueBias => vec![keys],
            Role::Output => vec![hidden, queries],
            Role::MambaInput => vec![2 * mamba.channels, hidden],
            Role::MambaConvolution => vec![mamba.channels, mamba.taps],
            Role::MambaSelection => vec![mamba.rank + 2 * mamba.states, mamba.channels],
            Role::MambaStepNorm => vec![mamba.rank],
            Role::MambaBNorm | Role::MambaCNorm => vec![mamba.states],
            Role::MambaStep => vec![mamba.channels, mamba.rank],
            Role::MambaConvolutionBias | Role::MambaStepBias | Role::MambaPast => vec![mamba.channels],
            Role::MambaDecay => vec![mamba.channels, mamba.states],
            Role::MambaOutput => vec![hidden, mamba.channels],
            Role::Router => vec![experts, hidden],
            Role::SharedRouter => vec![1, hidden],
            Role::SharedGate | Role::SharedUp => vec![shared, hidden],
            Role::SharedDown => vec![hidden, shared],
            Role::Gate | Role::Up => vec![inner, hidden],
            Role::GateBias | Role::UpBias => vec![inner],
            Role::Down => vec![hidden, inner],
            Role::RotaryFrequencies => vec![config.head_dim / 2],
        }
    }

    /// Returns the roles that a layer of `architecture` may have.
    fn of_architecture(architecture: &Architecture) -> impl Iterator<Item = Role> {
        let has = |role: &Role| match role {
            Role::AttentionNorm | Role::MlpNorm => architecture.norms_before(),
            Role::AttentionAfterNorm | Role::MlpAfterNorm => architecture.norms_after(),
            Role::QueryNorm | Role::KeyNorm => architecture.head_norms != HeadNorms::None,
            role if OF_MAMBA.contains(role) => architecture.mamba.is_some(),
            Role::Router => architecture.experts.is_some(),
            Role::SharedGate | Role::SharedUp | Role::SharedDown | Role::SharedRouter => {
                architecture.experts.is_some_and(|experts| experts.shared.is_some())
            }
            _ => true,
        };
        LAYER_NAMES.iter().map(|(role, ..)| *role).filter(has)
    }

    /// Returns the name after the prefix of the layer, in files of kind `container` that hold a model of `architecture`;
    /// empty if such files do not hold the role by itself.
    fn name_in(self, container: Container, architecture: &Architecture) -> &'static str {
        let joined = architecture
            .joined
            .iter()
            .find(|(roles, a, b)| roles.contains(&self) && !pick(container, a, b).is_empty());
        let mut all = architecture.names.iter().chain(&LAYER_NAMES);
        match (joined, all.find(|(role, ..)| *role == self)) {
            (None, Some((_, a, b))) => pick(container, a, b),
            _ => "",
        }
    }

    /// Returns the roles that layers of the kind `kind` of a model with the configuration `config` must have, experts aside.
    pub fn required(config: &Config, kind: LayerKind) -> Vec<Role> {
        let roles = ATTENTION_BIASES.iter().chain(&MLP_BIASES);
        let stored = config.biases.attention.iter().chain(&config.biases.mlp);
        let without: Vec<Role> =
            roles.zip(stored).filter(|(_, stored)| !**stored).map(|(role, _)| *role).collect();
        let other_mixer: &[Role] = match kind.mixer {
            Mixer::Attention => &OF_MAMBA,
            Mixer::Mamba => &OF_ATTENTION,
        };
        let other: &[Role] = match kind.feed_forward {
            FeedForward::Mlp => &AROUND_EXPERTS,
            FeedForward::Experts => &OF_EXPERTS,
        };
        Role::of_architecture(config.architecture)
            .filter(|role| *role != Role::RotaryFrequencies && !without.contains(role))
            .filter(|role| !other.contains(role) && !other_mixer.contains(role))
            .collect()
    }

    /// Returns the roles that some layers of a model with the configuration `config` must have, experts aside.
    pub fn required_anywhere(config: &Config) -> Vec<Role> {
        let mut roles: Vec<Role> =
            config.layers.iter().flat_map(|kind| Self::required(config, *kind)).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Whether the role is that of a router or of the expert that serves every token. Like the experts, such tensors of
    /// several layers are not mixed: the experts of one layer have nothing to do with those of another.
    pub fn goes_with_experts(self) -> bool {
        AROUND_EXPERTS.contains(&self)
    }

    /// Whether the role is that of a router.
    pub fn is_router(self) -> bool {
        matches!(self, Role::Router | Role::SharedRouter)
    }

    /// Whether llama.cpp reads the role in no other type than F32: that of a router, and what is small in a Mamba mixer.
    pub fn is_small(self) -> bool {
        self.is_router() || matches!(self, Role::MambaConvolution | Role::MambaDecay)
    }

    /// Whether the role is that of a norm.
    pub fn is_norm(self) -> bool {
        NORMS.contains(&self)
    }

    /// Whether the role is that of a bias.
    pub fn is_bias(self) -> bool {
        ATTENTION_BIASES.contains(&self) || MLP_BIASES.contains(&self)
    }
}

impl Biases {
    /// Returns the biases for whose role `is_there` holds.
    pub fn of(is_there: impl Fn(Role) -> bool) -> Self {
        Self { attention: ATTENTION_BIASES.map(&is_there), mlp: MLP_BIASES.map(&is_there) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::architectures::{ALL, by_gguf};

    #[test]
    fn names_and_roles_are_one_to_one() {
        for architecture in ALL {
            for container in [Container::Safetensors, Container::Gguf] {
                let of_layer = Role::of_architecture(architecture).map(|role| TensorId::Layer(17, role));
                let experts = OF_EXPERTS.map(|role| TensorId::Expert(17, 3, role));
                let of_layer = of_layer.chain(architecture.experts.into_iter().flat_map(|_| experts));
                for id in of_layer.chain(MODEL_NAMES.map(|(id, ..)| id)) {
                    match (id.name(container, architecture), id.joined(container, architecture)) {
                        (Some(name), None) => {
                            assert_eq!(TensorId::parse(container, architecture, &name), Some(id), "{name}");
                        }
                        (None, Some((name, joined))) => {
                            assert_eq!(TensorId::parse(container, architecture, &name), None, "{name}");
                            let parsed = TensorId::parse_joined(container, architecture, &name);
                            assert_eq!(parsed, Some(joined), "{name}");
                        }
                        (None, None) => {}
                        both => panic!("{both:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn foreign_names_have_no_role() {
        let llama = by_gguf("llama", false).unwrap();
        for name in [
            "model.layers.x.mlp.up_proj.weight",
            "model.layers.01.mlp.up_proj.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "lm_head.bias",
            "",
        ] {
            assert_eq!(TensorId::parse(Container::Safetensors, llama, name), None, "{name}");
        }
        for name in
            ["blk.0.", "blk.0.attn_qkv.weight", "blk.0.post_attention_norm.weight", "model.norm.weight", ""]
        {
            assert_eq!(TensorId::parse(Container::Gguf, llama, name), None, "{name}");
        }
    }
}
