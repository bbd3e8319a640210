//! Where tensor names meet their roles.

use super::Config;

/// What a tensor of a decoder layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// RMSNorm before attention.
    AttentionNorm,
    /// Query projection.
    Query,
    /// Its bias.
    QueryBias,
    /// Key projection.
    Key,
    /// Its bias.
    KeyBias,
    /// Value projection.
    Value,
    /// Its bias.
    ValueBias,
    /// Attention output projection.
    Output,
    /// Its bias.
    OutputBias,
    /// RMSNorm before the MLP.
    MlpNorm,
    /// Gate projection.
    Gate,
    /// Its bias.
    GateBias,
    /// Up projection.
    Up,
    /// Its bias.
    UpBias,
    /// Down projection.
    Down,
    /// Its bias.
    DownBias,
    /// Rotary frequencies that old checkpoints store; never read, only carried along.
    RotaryFrequencies,
}

/// The one table: role and its name after `model.layers.<n>.`.
const LAYER_NAMES: [(Role, &str); 17] = [
    (Role::AttentionNorm, "input_layernorm.weight"),
    (Role::Query, "self_attn.q_proj.weight"),
    (Role::QueryBias, "self_attn.q_proj.bias"),
    (Role::Key, "self_attn.k_proj.weight"),
    (Role::KeyBias, "self_attn.k_proj.bias"),
    (Role::Value, "self_attn.v_proj.weight"),
    (Role::ValueBias, "self_attn.v_proj.bias"),
    (Role::Output, "self_attn.o_proj.weight"),
    (Role::OutputBias, "self_attn.o_proj.bias"),
    (Role::MlpNorm, "post_attention_layernorm.weight"),
    (Role::Gate, "mlp.gate_proj.weight"),
    (Role::GateBias, "mlp.gate_proj.bias"),
    (Role::Up, "mlp.up_proj.weight"),
    (Role::UpBias, "mlp.up_proj.bias"),
    (Role::Down, "mlp.down_proj.weight"),
    (Role::DownBias, "mlp.down_proj.bias"),
    (Role::RotaryFrequencies, "self_attn.rotary_emb.inv_freq"),
];

const LAYER_PREFIX: &str = "model.layers.";

/// A tensor of the model by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// Token embedding, `[vocab, hidden]`.
    Embedding,
    /// RMSNorm before the head, `[hidden]`.
    FinalNorm,
    /// Output head, `[vocab, hidden]`; absent where it is tied to the embedding.
    Head,
    /// A tensor of the layer with this index.
    Layer(usize, Role),
}

impl TensorId {
    /// The tensor of an upstream name; `None` for a name that no Llama-family model has.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "model.embed_tokens.weight" => return Some(TensorId::Embedding),
            "model.norm.weight" => return Some(TensorId::FinalNorm),
            "lm_head.weight" => return Some(TensorId::Head),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix(LAYER_PREFIX)?.split_once('.')?;
        let (role, _) = LAYER_NAMES.iter().find(|(_, suffix)| *suffix == rest)?;
        // Canonical digits only, so that "01" is not a second name of layer 1.
        let index: usize = layer.parse().ok().filter(|i: &usize| i.to_string() == layer)?;
        Some(TensorId::Layer(index, *role))
    }

    /// The upstream name.
    pub fn name(self) -> String {
        match self {
            TensorId::Embedding => "model.embed_tokens.weight".to_owned(),
            TensorId::FinalNorm => "model.norm.weight".to_owned(),
            TensorId::Head => "lm_head.weight".to_owned(),
            TensorId::Layer(layer, role) => {
                let suffix = LAYER_NAMES.iter().find(|(r, _)| *r == role).map_or("", |(_, s)| s);
                format!("{LAYER_PREFIX}{layer}.{suffix}")
            }
        }
    }

    /// The shape that the configuration demands, outermost dimension first.
    pub fn shape(self, config: &Config) -> Vec<u64> {
        match self {
            TensorId::Embedding | TensorId::Head => {
                vec![config.vocab_size as u64, config.hidden_size as u64]
            }
            TensorId::FinalNorm => vec![config.hidden_size as u64],
            TensorId::Layer(_, role) => role.shape(config).iter().map(|n| *n as u64).collect(),
        }
    }
}

impl Role {
    /// The shape that the configuration demands: `[out, in]` for a projection.
    pub fn shape(self, config: &Config) -> Vec<usize> {
        let hidden = config.hidden_size;
        let inner = config.intermediate_size;
        let queries = config.n_heads * config.head_dim;
        let keys = config.n_kv_heads * config.head_dim;
        match self {
            Role::AttentionNorm | Role::MlpNorm | Role::OutputBias | Role::DownBias => vec![hidden],
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

    /// The roles that every layer of such a model must have.
    pub fn required(config: &Config) -> Vec<Role> {
        let attention_bias = [Role::QueryBias, Role::KeyBias, Role::ValueBias, Role::OutputBias];
        let mlp_bias = [Role::GateBias, Role::UpBias, Role::DownBias];
        LAYER_NAMES
            .iter()
            .map(|(role, _)| *role)
            .filter(|role| *role != Role::RotaryFrequencies)
            .filter(|role| config.attention_bias || !attention_bias.contains(role))
            .filter(|role| config.mlp_bias || !mlp_bias.contains(role))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_roles_are_one_to_one() {
        for (role, _) in LAYER_NAMES {
            let id = TensorId::Layer(17, role);
            assert_eq!(TensorId::parse(&id.name()), Some(id));
        }
        for id in [TensorId::Embedding, TensorId::FinalNorm, TensorId::Head] {
            assert_eq!(TensorId::parse(&id.name()), Some(id));
        }
    }

    #[test]
    fn foreign_names_have_no_role() {
        for name in
            ["model.layers.x.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight", "lm_head.bias"]
        {
            assert_eq!(TensorId::parse(name), None, "{name}");
        }
    }
}
