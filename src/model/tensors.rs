//! Roles of the tensors of a model, and their names in Hugging Face and GGUF files.

use super::Config;
use super::config::Biases;
use crate::format::Container;

/// Role of a tensor in a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// RMSNorm before attention.
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
    /// RMSNorm of each query head, before rotation.
    QueryNorm,
    /// RMSNorm of each key head, before rotation.
    KeyNorm,
    /// RMSNorm before the MLP.
    MlpNorm,
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
    /// Rotary frequencies that old checkpoints store; never read, only carried along.
    RotaryFrequencies,
}

/// Names of the tensors of a layer: role, name after `model.layers.<n>.` in a Hugging Face model, and name
/// after `blk.<n>.` in a GGUF file. An empty name means that files of this kind do not hold the tensor.
const LAYER_NAMES: [(Role, &str, &str); 19] = [
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
    (Role::MlpNorm, "post_attention_layernorm.weight", "ffn_norm.weight"),
    (Role::Gate, "mlp.gate_proj.weight", "ffn_gate.weight"),
    (Role::GateBias, "mlp.gate_proj.bias", "ffn_gate.bias"),
    (Role::Up, "mlp.up_proj.weight", "ffn_up.weight"),
    (Role::UpBias, "mlp.up_proj.bias", "ffn_up.bias"),
    (Role::Down, "mlp.down_proj.weight", "ffn_down.weight"),
    (Role::DownBias, "mlp.down_proj.bias", "ffn_down.bias"),
    (Role::RotaryFrequencies, "self_attn.rotary_emb.inv_freq", ""),
];

/// Names of the tensors outside the layers: identity, name in a Hugging Face model, and name in a GGUF file.
const MODEL_NAMES: [(TensorId, &str, &str); 4] = [
    (TensorId::Embedding, "model.embed_tokens.weight", "token_embd.weight"),
    (TensorId::FinalNorm, "model.norm.weight", "output_norm.weight"),
    (TensorId::Head, "lm_head.weight", "output.weight"),
    (TensorId::RotaryDivisors, "", "rope_freqs.weight"),
];

/// Other names of tensors of a layer in GGUF files of some architectures, after `blk.<n>.`.
const OTHER_GGUF_NAMES: [(&str, Role); 1] = [("post_attention_norm.weight", Role::MlpNorm)];

/// Names of tensors of a layer in a GGUF file, after `blk.<n>.`, that hold the rows of three roles one after the other.
const JOINED_NAMES: [(&str, [Role; 3]); 2] = [
    ("attn_qkv.weight", [Role::Query, Role::Key, Role::Value]),
    ("attn_qkv.bias", [Role::QueryBias, Role::KeyBias, Role::ValueBias]),
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

/// Identity of a tensor in the model, whatever the files call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// Token embedding, `[vocab, hidden]`.
    Embedding,
    /// RMSNorm before the head, `[hidden]`.
    FinalNorm,
    /// Output head, `[vocab, hidden]`; absent where it is tied to the embedding.
    Head,
    /// Divisors of the rotary frequencies, `[head_dim / 2]`; in GGUF files only.
    RotaryDivisors,
    /// Tensor with this role in the layer with this index, from 0.
    Layer(usize, Role),
}

impl TensorId {
    /// Identifies the tensor called `name` in files of kind `container`; `None` for a name that no
    /// Llama-family model has.
    pub fn parse(container: Container, name: &str) -> Option<Self> {
        let known = |hugging_face, gguf| pick(container, hugging_face, gguf);
        if name.is_empty() {
            return None;
        }
        if let Some((id, ..)) = MODEL_NAMES.iter().find(|(_, a, b)| known(a, b) == name) {
            return Some(*id);
        }
        let (layer, rest) = in_layer(container, name)?;
        if let Some((_, role)) = OTHER_GGUF_NAMES.iter().find(|(other, _)| *other == rest)
            && container == Container::Gguf
        {
            return Some(TensorId::Layer(layer, *role));
        }
        let (role, ..) = LAYER_NAMES.iter().find(|(_, a, b)| !rest.is_empty() && known(a, b) == rest)?;
        Some(TensorId::Layer(layer, *role))
    }

    /// Identifies the tensors whose rows the tensor called `name` in a GGUF file holds one after the other; `None`
    /// if it holds those of one tensor.
    pub fn parse_joined(name: &str) -> Option<[Self; 3]> {
        let (layer, rest) = in_layer(Container::Gguf, name)?;
        let (_, roles) = JOINED_NAMES.iter().find(|(known, _)| *known == rest)?;
        Some(roles.map(|role| TensorId::Layer(layer, role)))
    }

    /// Returns the name of the tensor in files of kind `container`; `None` if files of this kind do not hold
    /// the tensor.
    pub fn name(self, container: Container) -> Option<String> {
        let (hugging_face, gguf, prefix) = match self {
            TensorId::Layer(layer, role) => {
                let (_, a, b) = LAYER_NAMES.iter().find(|(each, ..)| *each == role)?;
                (a, b, format!("{}{layer}.", layer_prefix(container)))
            }
            other => {
                let (_, a, b) = MODEL_NAMES.iter().find(|(each, ..)| *each == other)?;
                (a, b, String::new())
            }
        };
        let name = pick(container, hugging_face, gguf);
        (!name.is_empty()).then(|| prefix + name)
    }

    /// Returns the name of the tensor in files of kind `container` that hold a model of the architecture of `config`;
    /// `None` if files of this kind do not hold the tensor.
    pub fn name_in(self, container: Container, config: &Config) -> Option<String> {
        match (container, self) {
            (Container::Gguf, TensorId::Layer(layer, Role::MlpNorm)) => {
                Some(format!("{}{layer}.{}", layer_prefix(container), config.architecture.gguf_mlp_norm))
            }
            _ => self.name(container),
        }
    }

    /// Returns the role of a layer's tensor; `None` for a tensor outside the layers.
    pub fn role(self) -> Option<Role> {
        match self {
            TensorId::Layer(_, role) => Some(role),
            _ => None,
        }
    }

    /// Returns a name of the tensor for messages: its name in files of kind `container`, or its identity if
    /// it has none.
    pub fn describe(self, container: Container) -> String {
        self.name(container).unwrap_or_else(|| format!("{self:?}"))
    }

    /// Returns the shape that the configuration demands, outermost dimension first.
    pub fn shape(self, config: &Config) -> Vec<u64> {
        match self {
            TensorId::Embedding | TensorId::Head => {
                vec![config.vocab_size as u64, config.hidden_size as u64]
            }
            TensorId::FinalNorm => vec![config.hidden_size as u64],
            TensorId::RotaryDivisors => vec![config.head_dim as u64 / 2],
            TensorId::Layer(_, role) => role.shape(config).iter().map(|n| *n as u64).collect(),
        }
    }
}

impl Role {
    /// Returns the shape that the configuration demands: `[out, in]` for a projection, one dimension for
    /// norms and biases.
    pub fn shape(self, config: &Config) -> Vec<usize> {
        let hidden = config.hidden_size;
        let inner = config.intermediate_size;
        let queries = config.n_heads * config.head_dim;
        let keys = config.n_kv_heads * config.head_dim;
        match self {
            Role::AttentionNorm | Role::MlpNorm | Role::OutputBias | Role::DownBias => vec![hidden],
            Role::QueryNorm | Role::KeyNorm => vec![config.head_dim],
            Role::Query => vec![queries, hidden],
            Role::QueryBias => vec![queries],
            Role::Key | Role::Value => vec![keys, hidden],
            Role::KeyBias | Role::ValueBias => vec![keys],
            Role::Output => vec![hidden, queries],
            Role::Gate | Role::Up => vec![inner, hidden],
            Role::GateBias | Role::UpBias => vec![inner],
            Role::Down => vec![hidden, inner],
            Role::RotaryFrequencies => vec![config.head_dim / 2],
        }
    }

    /// Returns the roles that every layer of a model with the configuration `config` must have.
    pub fn required(config: &Config) -> Vec<Role> {
        let roles = ATTENTION_BIASES.iter().chain(&MLP_BIASES);
        let stored = config.biases.attention.iter().chain(&config.biases.mlp);
        let without: Vec<Role> =
            roles.zip(stored).filter(|(_, stored)| !**stored).map(|(role, _)| *role).collect();
        LAYER_NAMES
            .iter()
            .map(|(role, ..)| *role)
            .filter(|role| *role != Role::RotaryFrequencies && !without.contains(role))
            .filter(|role| {
                config.architecture.norms_heads || !matches!(role, Role::QueryNorm | Role::KeyNorm)
            })
            .collect()
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

    #[test]
    fn names_and_roles_are_one_to_one() {
        for container in [Container::Safetensors, Container::Gguf] {
            let of_layer = LAYER_NAMES.into_iter().map(|(role, ..)| TensorId::Layer(17, role));
            let mut n = 0;
            for id in of_layer.chain(MODEL_NAMES.map(|(id, ..)| id)) {
                if let Some(name) = id.name(container) {
                    assert_eq!(TensorId::parse(container, &name), Some(id), "{name}");
                    n += 1;
                }
            }
            assert_eq!(n, 22);
        }
    }

    #[test]
    fn foreign_names_have_no_role() {
        for name in
            ["model.layers.x.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight", "lm_head.bias", ""]
        {
            assert_eq!(TensorId::parse(Container::Safetensors, name), None, "{name}");
        }
        for name in ["blk.0.", "blk.0.attn_qkv.weight", "model.norm.weight", ""] {
            assert_eq!(TensorId::parse(Container::Gguf, name), None, "{name}");
        }
    }
}
