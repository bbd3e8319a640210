//! Roles of the tensors of a layer, and their shapes.

use super::names::{LAYER_NAMES, pick};
use crate::format::Container;
use crate::model::Config;
use crate::model::architectures::{Architecture, HeadNorms, Norms, Scaling};
use crate::model::config::{Biases, FeedForward, LayerKind, Mixer};

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
    /// One more score for each query head.
    Sinks,
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
    /// Projection to what is convolved and to the gates around a short convolution.
    ConvolutionInput,
    /// Taps of a short convolution.
    ConvolutionTaps,
    /// Output projection of a short convolution.
    ConvolutionOutput,
    /// Projection to the queries, keys and values of a gated delta net.
    DeltaInput,
    /// Projection to the gates of the outputs of a gated delta net.
    DeltaGate,
    /// Projection to the rates of writing of a gated delta net.
    DeltaRate,
    /// Projection to the steps of a gated delta net, which decide how much is forgotten.
    DeltaStep,
    /// Bias of the steps of a gated delta net.
    DeltaStepBias,
    /// Taps of the convolution of queries, keys and values of a gated delta net.
    DeltaConvolution,
    /// Decays `A` of the states of a gated delta net.
    DeltaDecay,
    /// RMSNorm of the outputs of each head of a gated delta net.
    DeltaNorm,
    /// Output projection of a gated delta net.
    DeltaOutput,
    /// RMSNorm of what attention adds to the residual stream.
    AttentionAfterNorm,
    /// RMSNorm of what the MLP reads.
    MlpNorm,
    /// Router, whose rows score the experts.
    Router,
    /// Bias of the router.
    RouterBias,
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
    /// Number by which the residual stream after the layer is multiplied.
    LayerScale,
    /// Rows of a layer in the projection of embeddings to the inputs of layers.
    InputProjection,
    /// Projection of the stream to the gate of the layer's input.
    InputGate,
    /// Projection of the gated input to the stream.
    InputOutput,
    /// RMSNorm of what the layer's input adds to the stream.
    InputAfterNorm,
    /// Rotary frequencies that old checkpoints store; never read, only carried along.
    RotaryFrequencies,
}

/// Roles of attention.
const OF_ATTENTION: [Role; 11] = [
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
    Role::Sinks,
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

/// Roles of a short convolution.
const OF_CONVOLUTION: [Role; 3] = [Role::ConvolutionInput, Role::ConvolutionTaps, Role::ConvolutionOutput];

/// Roles of a gated delta net.
const OF_DELTA_NET: [Role; 9] = [
    Role::DeltaInput,
    Role::DeltaGate,
    Role::DeltaRate,
    Role::DeltaStep,
    Role::DeltaStepBias,
    Role::DeltaConvolution,
    Role::DeltaDecay,
    Role::DeltaNorm,
    Role::DeltaOutput,
];

/// Roles of the projections of an expert.
pub const OF_EXPERTS: [Role; 3] = [Role::Gate, Role::Up, Role::Down];

/// Roles of the projections of an expert and of their biases.
const OF_BIASED_EXPERTS: [Role; 6] =
    [Role::Gate, Role::Up, Role::Down, Role::GateBias, Role::UpBias, Role::DownBias];

/// Roles of what decides between experts, and of the expert that serves every token.
const AROUND_EXPERTS: [Role; 6] =
    [Role::Router, Role::RouterBias, Role::SharedGate, Role::SharedUp, Role::SharedDown, Role::SharedRouter];

/// Roles of the gate and up projections of an expert, whose rows lie one after the other in some files.
pub(super) const GATE_AND_UP: [Role; 2] = [Role::Gate, Role::Up];

/// Roles of the input that a layer has of its own.
const OF_INPUT: [Role; 4] = [Role::InputProjection, Role::InputGate, Role::InputOutput, Role::InputAfterNorm];

/// Roles of keys and values, which layers lack that read those of others.
const OF_KEYS: [Role; 5] = [Role::Key, Role::KeyBias, Role::KeyNorm, Role::Value, Role::ValueBias];

/// Roles of the norms.
const NORMS: [Role; 11] = [
    Role::InputAfterNorm,
    Role::DeltaNorm,
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
pub(super) const ATTENTION_BIASES: [Role; 4] =
    [Role::QueryBias, Role::KeyBias, Role::ValueBias, Role::OutputBias];

/// Roles of the biases of the MLP, in the order of [`Biases::mlp`].
pub(super) const MLP_BIASES: [Role; 3] = [Role::GateBias, Role::UpBias, Role::DownBias];

/// Returns the roles of a mixer.
fn of_mixer(mixer: Mixer) -> &'static [Role] {
    match mixer {
        Mixer::Attention => &OF_ATTENTION,
        Mixer::Mamba => &OF_MAMBA,
        Mixer::ShortConvolution => &OF_CONVOLUTION,
        Mixer::DeltaNet => &OF_DELTA_NET,
    }
}

impl Role {
    /// Returns the shape that the configuration demands in layers of the kind `kind`: `[out, in]` for a projection, one
    /// dimension for norms and biases.
    pub fn shape(self, config: &Config, kind: LayerKind) -> Vec<usize> {
        let hidden = config.hidden_size;
        let (inner, input) = (kind.mlp_width, config.layer_input.unwrap_or(0));
        let (experts, shared) = config.experts.map_or((0, 0), |e| (e.count, e.shared_width.unwrap_or(0)));
        let mamba = config.mamba.unwrap_or_default();
        let delta = config.delta_net.unwrap_or_default();
        let width = config.head_width(kind);
        let (queries, keys) = (config.n_heads * width, config.kv_heads(kind) * width);
        match self {
            Role::AttentionNorm
            | Role::AttentionAfterNorm
            | Role::MlpNorm
            | Role::MlpAfterNorm
            | Role::InputAfterNorm
            | Role::OutputBias
            | Role::DownBias => vec![hidden],
            Role::QueryNorm if config.architecture.head_norms == HeadNorms::All => vec![queries],
            Role::KeyNorm if config.architecture.head_norms == HeadNorms::All => vec![keys],
            Role::QueryNorm | Role::KeyNorm => vec![width],
            Role::Query if config.architecture.gated_heads => vec![2 * queries, hidden],
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
            Role::ConvolutionInput => vec![3 * hidden, hidden],
            Role::ConvolutionTaps => vec![hidden, config.short_convolution.unwrap_or(0)],
            Role::ConvolutionOutput => vec![hidden, hidden],
            Role::DeltaInput => vec![delta.convolved(), hidden],
            Role::DeltaGate => vec![delta.values(), hidden],
            Role::DeltaRate | Role::DeltaStep => vec![delta.value_heads, hidden],
            Role::DeltaStepBias | Role::DeltaDecay => vec![delta.value_heads],
            Role::DeltaConvolution => vec![delta.convolved(), delta.taps],
            Role::DeltaNorm => vec![delta.value_width],
            Role::DeltaOutput => vec![hidden, delta.values()],
            Role::Router => vec![experts, hidden],
            Role::RouterBias => vec![experts],
            Role::Sinks => vec![config.n_heads],
            Role::SharedRouter => vec![1, hidden],
            Role::SharedGate | Role::SharedUp => vec![shared, hidden],
            Role::SharedDown => vec![hidden, shared],
            Role::Gate | Role::Up => vec![inner, hidden],
            Role::GateBias | Role::UpBias => vec![inner],
            Role::Down => vec![hidden, inner],
            Role::RotaryFrequencies => vec![width / 2],
            Role::LayerScale => vec![1],
            Role::InputProjection | Role::InputGate => vec![input, hidden],
            Role::InputOutput => vec![hidden, input],
        }
    }

    /// Returns the roles that a layer of `architecture` may have.
    pub(super) fn of_architecture(architecture: &Architecture) -> impl Iterator<Item = Role> {
        let has = |role: &Role| match role {
            Role::MlpNorm if architecture.norms == Norms::Shared => false,
            Role::AttentionNorm | Role::MlpNorm => architecture.norms_before(),
            Role::AttentionAfterNorm | Role::MlpAfterNorm => architecture.norms_after(),
            Role::QueryNorm | Role::KeyNorm => architecture.head_norms != HeadNorms::None,
            role if OF_MAMBA.contains(role) => architecture.mamba.is_some(),
            role if OF_CONVOLUTION.contains(role) => architecture.short_convolution.is_some(),
            role if OF_DELTA_NET.contains(role) => architecture.delta_net.is_some(),
            Role::Sinks => architecture.sinks,
            Role::Router => architecture.experts.is_some(),
            Role::RouterBias => architecture.experts.is_some_and(|experts| experts.biased),
            role if OF_INPUT.contains(role) => architecture.layer_inputs.is_some(),
            Role::LayerScale => architecture.scaling == Scaling::Layers,
            Role::SharedGate | Role::SharedUp | Role::SharedDown | Role::SharedRouter => {
                architecture.experts.is_some_and(|experts| experts.shared.is_some())
            }
            _ => true,
        };
        LAYER_NAMES.iter().map(|(role, ..)| *role).filter(has)
    }

    /// Returns the name after the prefix of the layer, in files of kind `container` that hold a model of `architecture`;
    /// empty if such files do not hold the role by itself.
    pub(super) fn name_in(self, container: Container, architecture: &Architecture) -> &'static str {
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
        let own_mixer = of_mixer(kind.mixer);
        let other_mixers = [Mixer::Attention, Mixer::Mamba, Mixer::ShortConvolution, Mixer::DeltaNet];
        let is_of_other_mixer = |role: &Role| {
            !own_mixer.contains(role) && other_mixers.iter().any(|mixer| of_mixer(*mixer).contains(role))
        };
        let other: &[Role] = match kind.feed_forward {
            FeedForward::Mlp => &AROUND_EXPERTS,
            FeedForward::Experts => &OF_EXPERTS,
        };
        let without_values = config.full_heads(kind).is_some_and(|heads| heads.keys_are_values);
        let without_input = config.layer_input.is_none();
        Role::of_architecture(config.architecture)
            .filter(|role| !(without_input && OF_INPUT.contains(role)))
            .filter(|role| !(kind.shares_keys && OF_KEYS.contains(role)))
            .filter(|role| *role != Role::RotaryFrequencies && !without.contains(role))
            .filter(|role| !(without_values && *role == Role::Value))
            .filter(|role| !other.contains(role) && !is_of_other_mixer(role))
            .collect()
    }

    /// Returns the roles of the tensors of each expert of a model of `architecture`: gate, up and down projections,
    /// then their biases if they have any.
    pub fn of_expert(architecture: &Architecture) -> &'static [Role] {
        match architecture.experts {
            Some(experts) if experts.biased => &OF_BIASED_EXPERTS,
            _ => &OF_EXPERTS,
        }
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

    /// Whether tensors of the role have a row for each expert: the router that chooses among experts, and its bias.
    pub fn has_row_per_expert(self) -> bool {
        matches!(self, Role::Router | Role::RouterBias)
    }

    /// Whether the role is that of a router.
    pub fn is_router(self) -> bool {
        matches!(self, Role::Router | Role::SharedRouter)
    }

    /// Whether llama.cpp reads the role in no other type than F32: that of a router, taps of convolutions, decays.
    pub fn is_small(self) -> bool {
        self.is_router() || self.is_convolution() || self.is_decay()
    }

    /// Returns the role of the output projection of a mixer.
    pub fn output_of(mixer: Mixer) -> Role {
        match mixer {
            Mixer::Attention => Role::Output,
            Mixer::Mamba => Role::MambaOutput,
            Mixer::ShortConvolution => Role::ConvolutionOutput,
            Mixer::DeltaNet => Role::DeltaOutput,
        }
    }

    /// Whether the role is that of a projection that writes to the residual stream, or of its bias.
    pub fn writes(self) -> bool {
        use Role::{ConvolutionOutput, DeltaOutput, Down, DownBias, MambaOutput, Output, OutputBias};
        matches!(self, Output | MambaOutput | ConvolutionOutput | DeltaOutput | OutputBias | Down | DownBias)
    }

    /// Whether the role is of keys and values, which layers lack that read those of others.
    pub fn is_of_keys(self) -> bool {
        OF_KEYS.contains(&self)
    }

    /// Whether the role is that of a projection of attention, of an MLP, of an expert or of the shared one.
    pub fn is_projection(self) -> bool {
        use Role::{Down, Gate, Key, Output, Query, SharedDown, SharedGate, SharedUp, Up, Value};
        matches!(self, Query | Key | Value | Output | Gate | Up | Down | SharedGate | SharedUp | SharedDown)
    }

    /// Whether the role is that of the taps of a convolution.
    pub fn is_convolution(self) -> bool {
        matches!(self, Role::MambaConvolution | Role::ConvolutionTaps | Role::DeltaConvolution)
    }

    /// Whether the role is that of the decays of states, which are negative.
    pub fn is_decay(self) -> bool {
        matches!(self, Role::MambaDecay | Role::DeltaDecay)
    }

    /// Whether the role is that of a norm.
    pub fn is_norm(self) -> bool {
        NORMS.contains(&self)
    }

    /// Whether the role is that of a norm whose weights may be stored less one: any but that within a delta net.
    pub fn is_offset_norm(self) -> bool {
        self.is_norm() && self != Role::DeltaNorm
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
