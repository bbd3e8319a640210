//! Tensors of a model: their identity and shape, whatever files call them, and their names in Hugging Face and GGUF files.

mod names;
mod role;

use self::names::{
    EXPERT_NAMES, JOINED_NAMES, MODEL_NAMES, OF_ALL_LAYERS, expert, in_layer, is_in_turns, layer_prefix,
    pick, stacked,
};
use super::Config;
use super::architectures::{Architecture, ExpertNames};
use crate::format::Container;

pub use self::names::{
    MXFP4_ENDINGS, Spelling, WEIGHT, gguf_layer, has_base_prefix, is_cache_scale, is_of_drafting, is_of_part,
    is_rotary_table, mxfp4_stem, piece_ending, piece_of, with_base_prefix,
};
pub use self::role::{OF_EXPERTS, Role};

/// Identity of a tensor in the model, whatever the files call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// Token embedding, `[vocab, hidden]`.
    Embedding,
    /// RMSNorm before the head, `[hidden]`.
    FinalNorm,
    /// Embeddings of the tokens that are a part of the inputs of layers, `[vocab, layers * width]`: those of a layer in a
    /// row follow those of the layer before.
    InputEmbedding,
    /// RMSNorm of the other part of the inputs of layers, `[width]`.
    InputNorm,
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
    /// Tensor of an expert, one of [`Role::of_expert`]: layer, expert, both from 0, and role.
    Expert(usize, usize, Role),
}

/// A tensor of a layer that holds the rows of several, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    layer: usize,
    roles: &'static [Role],
    /// Whether it holds the roles of all experts, those of one expert after the other.
    of_experts: bool,
    /// Whether it holds the role of all layers, of which `layer` is the first.
    of_all_layers: bool,
    /// Whether rows of the roles of an expert lie in turns ([`ExpertNames::InTurns`]).
    in_turns: bool,
}

/// A tensor that holds no rows yet.
const ONE: Joined = Joined { layer: 0, roles: &[], of_experts: false, of_all_layers: false, in_turns: false };

/// Returns the tensors of models of `architecture` that hold rows of all layers, as in [`OF_ALL_LAYERS`].
fn of_all_layers(architecture: &Architecture) -> &'static [(&'static [Role], &'static str, &'static str)] {
    if architecture.layer_inputs.is_some() { &OF_ALL_LAYERS } else { &[] }
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
        let Self { layer, roles, of_experts, of_all_layers, .. } = self;
        if of_all_layers {
            let of_layer = |layer: usize| roles.iter().map(move |role| TensorId::Layer(layer, *role));
            return (0..config.n_layers).flat_map(of_layer).collect();
        }
        if !of_experts {
            return roles.iter().map(|role| TensorId::Layer(layer, *role)).collect();
        }
        let n = config.experts.map_or(0, |experts| experts.count);
        (0..n).flat_map(|e| roles.iter().map(move |role| TensorId::Expert(layer, e, *role))).collect()
    }

    /// Returns of how many tensors it holds the rows in turns; `None` if it holds them one tensor after the other.
    pub fn turns(self) -> Option<usize> {
        self.in_turns.then_some(self.roles.len())
    }

    /// Returns whether it holds rows of all layers.
    pub fn is_of_all_layers(self) -> bool {
        self.of_all_layers
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
        if self.in_turns && shape.len() == 3 {
            shape.swap(1, 2);
        }
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
        let is_it = |(_, a, b): &&(&[Role], &str, &str)| pick(container, a, b) == name;
        if let Some((roles, ..)) = of_all_layers(architecture).iter().find(is_it) {
            return Some(Joined { roles, of_all_layers: true, ..ONE });
        }
        let (layer, rest) = in_layer(container, name)?;
        if Role::of_architecture(architecture).any(|role| role.name_in(container, architecture) == rest) {
            return None;
        }
        let is_it = |(_, a, b): &(&[Role], &str, &str)| !rest.is_empty() && pick(container, a, b) == rest;
        if let Some((roles, ..)) = architecture.joined.iter().chain(&JOINED_NAMES).find(|each| is_it(each)) {
            return Some(Joined { layer, roles, ..ONE });
        }
        let stacked = stacked(architecture);
        let in_turns = is_in_turns(container, architecture);
        let rest = if in_turns { mxfp4_stem(rest).map_or(rest, |(stem, _)| stem) } else { rest };
        let is_it = |(_, a, b): &(&[Role], &str, &str)| !rest.is_empty() && pick(container, a, b) == rest;
        let (roles, ..) = stacked.iter().chain(&EXPERT_NAMES).find(|each| is_it(each))?;
        architecture.experts.map(|_| Joined { layer, roles, of_experts: true, in_turns, ..ONE })
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
        if let TensorId::Layer(_, role) = self
            && let Some((roles, name)) = find(of_all_layers(architecture), role)
        {
            return Some((name.to_owned(), Joined { roles, of_all_layers: true, ..ONE }));
        }
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
        let in_turns = of_experts && is_in_turns(container, architecture);
        Some((name, Joined { layer, roles, of_experts, in_turns, ..ONE }))
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
            TensorId::InputEmbedding | TensorId::InputNorm if architecture.layer_inputs.is_none() => None,
            TensorId::FinalNorm => {
                let (a, b) = architecture.final_norm;
                Some(pick(container, a, b).to_owned())
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

    /// Returns whether the tensor is of a matrix that the programs for packed weights pack: a projection of attention, of an
    /// MLP or of an expert, but for experts that Hugging Face models of `architecture` hold together.
    pub fn can_be_packed(self, architecture: &Architecture) -> bool {
        let experts = architecture.experts.map(|experts| experts.names);
        match self {
            TensorId::Layer(_, role) => role.is_projection(),
            TensorId::Expert(_, _, role) => {
                role.is_projection() && matches!(experts, Some(ExpertNames::Apart(..)))
            }
            _ => false,
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
        if container == Container::Safetensors && self.role().is_some_and(Role::is_convolution) {
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
            TensorId::InputEmbedding => {
                let width = config.layer_input.unwrap_or(0) as u64;
                vec![config.vocab_size as u64, config.n_layers as u64 * width]
            }
            TensorId::InputNorm => vec![config.layer_input.unwrap_or(0) as u64],
            TensorId::RotaryDivisors | TensorId::ShortDivisors | TensorId::LongDivisors => {
                let full = config.full_heads.map(|heads| heads.width);
                vec![full.unwrap_or(config.rotated_width) as u64 / 2]
            }
            TensorId::Layer(layer, role) => {
                // A layer that does not exist is found elsewhere.
                let kind = config.layers.get(layer).or(config.layers.first());
                let shape = kind.map(|kind| role.shape(config, *kind)).unwrap_or_default();
                shape.into_iter().map(|n| n as u64).collect()
            }
            TensorId::Expert(_, _, role) => {
                let inner = config.experts.map_or(0, |experts| experts.width) as u64;
                let hidden = config.hidden_size as u64;
                match role {
                    Role::Down => vec![hidden, inner],
                    Role::DownBias => vec![hidden],
                    Role::GateBias | Role::UpBias => vec![inner],
                    _ => vec![inner, hidden],
                }
            }
        }
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
                let experts = Role::of_expert(architecture).iter().map(|role| TensorId::Expert(17, 3, *role));
                let of_layer = of_layer.chain(architecture.experts.into_iter().flat_map(|_| experts.clone()));
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
