//! Names of tensors in Hugging Face and GGUF files.

use super::TensorId;
use super::role::{GATE_AND_UP, OF_EXPERTS, Role};
use crate::format::Container;
use crate::format::packed::{Layout, Piece};
use crate::model::architectures::{Architecture, ExpertNames};

/// Names of the tensors of a layer where [`Architecture::names`] has no others: role, name after `model.layers.<n>.` in a
/// Hugging Face model, and name after `blk.<n>.` in a GGUF file. An empty name means that files of this kind do not hold
/// the tensor.
pub(super) const LAYER_NAMES: [(Role, &str, &str); 57] = [
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
    (Role::Sinks, "self_attn.sinks", "attn_sinks.weight"),
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
    (Role::ConvolutionInput, "conv.in_proj.weight", "shortconv.in_proj.weight"),
    (Role::ConvolutionTaps, "conv.conv.weight", "shortconv.conv.weight"),
    (Role::ConvolutionOutput, "conv.out_proj.weight", "shortconv.out_proj.weight"),
    (Role::DeltaInput, "linear_attn.in_proj_qkv.weight", "attn_qkv.weight"),
    (Role::DeltaGate, "linear_attn.in_proj_z.weight", "attn_gate.weight"),
    (Role::DeltaRate, "linear_attn.in_proj_b.weight", "ssm_beta.weight"),
    (Role::DeltaStep, "linear_attn.in_proj_a.weight", "ssm_alpha.weight"),
    (Role::DeltaStepBias, "linear_attn.dt_bias", "ssm_dt.bias"),
    (Role::DeltaConvolution, "linear_attn.conv1d.weight", "ssm_conv1d.weight"),
    (Role::DeltaDecay, "linear_attn.A_log", "ssm_a"),
    (Role::DeltaNorm, "linear_attn.norm.weight", "ssm_norm.weight"),
    (Role::DeltaOutput, "linear_attn.out_proj.weight", "ssm_out.weight"),
    (Role::AttentionAfterNorm, "post_self_attn_layernorm.weight", "post_attention_norm.weight"),
    (Role::MlpNorm, "post_attention_layernorm.weight", "ffn_norm.weight"),
    (Role::Router, "mlp.gate.weight", "ffn_gate_inp.weight"),
    (Role::RouterBias, "mlp.router.bias", "ffn_gate_inp.bias"),
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
    (Role::LayerScale, "layer_scalar", "layer_output_scale.weight"),
    (Role::InputProjection, "", ""),
    (Role::InputGate, "per_layer_input_gate.weight", "inp_gate.weight"),
    (Role::InputOutput, "per_layer_projection.weight", "proj.weight"),
    (Role::InputAfterNorm, "post_per_layer_input_norm.weight", "post_norm.weight"),
    (Role::RotaryFrequencies, "self_attn.rotary_emb.inv_freq", ""),
];

/// Names of the tensors outside the layers: identity, name in a Hugging Face model, and name in a GGUF file.
pub(super) const MODEL_NAMES: [(TensorId, &str, &str); 8] = [
    (TensorId::Embedding, "model.embed_tokens.weight", "token_embd.weight"),
    (TensorId::FinalNorm, "", ""),
    (TensorId::InputEmbedding, "model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    (TensorId::InputNorm, "model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    (TensorId::Head, "lm_head.weight", "output.weight"),
    (TensorId::RotaryDivisors, "", "rope_freqs.weight"),
    (TensorId::ShortDivisors, "", "rope_factors_short.weight"),
    (TensorId::LongDivisors, "", "rope_factors_long.weight"),
];

/// Tensors that hold the rows of a role of all layers, those of one layer after those of another: the role, name in a
/// Hugging Face model, and name in a GGUF file.
pub(super) const OF_ALL_LAYERS: [(&[Role], &str, &str); 1] =
    [(&[Role::InputProjection], "model.per_layer_model_projection.weight", "per_layer_model_proj.weight")];

/// Tensors of a layer that hold the rows of several roles one after the other in some GGUF files of any architecture:
/// llama.cpp reads the roles together or apart. See [`Architecture::joined`].
pub(super) const JOINED_NAMES: [(&[Role], &str, &str); 2] = [
    (&[Role::Query, Role::Key, Role::Value], "", "attn_qkv.weight"),
    (&[Role::QueryBias, Role::KeyBias, Role::ValueBias], "", "attn_qkv.bias"),
];

/// Names of tensors that hold projections of all experts: the roles, the name in Hugging Face models of any architecture
/// with experts, which are read but not written, and the name in GGUF files.
pub(super) const EXPERT_NAMES: [(&[Role], &str, &str); 8] = [
    (&[Role::Gate], "", "ffn_gate_exps.weight"),
    (&[Role::Up], "", "ffn_up_exps.weight"),
    (&[Role::Down], "", "ffn_down_exps.weight"),
    (&[Role::GateBias], "", "ffn_gate_exps.bias"),
    (&[Role::UpBias], "", "ffn_up_exps.bias"),
    (&[Role::DownBias], "", "ffn_down_exps.bias"),
    (&GATE_AND_UP, "mlp.experts.gate_up_proj", ""),
    (&[Role::Down], "mlp.experts.down_proj", ""),
];

/// The same for [`ExpertNames::InTurns`], without the endings of MXFP4.
const IN_TURNS: [(&[Role], &str, &str); 4] = [
    (&GATE_AND_UP, "mlp.experts.gate_up_proj", ""),
    (&[Role::Down], "mlp.experts.down_proj", ""),
    (&[Role::GateBias, Role::UpBias], "mlp.experts.gate_up_proj_bias", ""),
    (&[Role::DownBias], "mlp.experts.down_proj_bias", ""),
];

/// Endings of the names of the blocks and of the exponents of MXFP4 in Hugging Face models.
pub const MXFP4_ENDINGS: [&str; 2] = ["_blocks", "_scales"];

/// Returns the name of a tensor in MXFP4 in a Hugging Face model without its ending, and whether the tensor holds
/// exponents; `None` for the name of another tensor.
pub fn mxfp4_stem(name: &str) -> Option<(&str, bool)> {
    let [blocks, exponents] = MXFP4_ENDINGS;
    let stem = name.strip_suffix(blocks).map(|stem| (stem, false));
    stem.or_else(|| name.strip_suffix(exponents).map(|stem| (stem, true)))
}

/// Ending of the name of the weights of a module in Hugging Face models.
pub const WEIGHT: &str = ".weight";

/// Pieces of packed matrices, each with the ending of its name in a Hugging Face model, in the layouts of compressed-tensors.
const COMPRESSED_ENDINGS: [(Piece, &str); 4] = [
    (Piece::Codes, ".weight_packed"),
    (Piece::Scales, ".weight_scale"),
    (Piece::Zeros, ".weight_zero_point"),
    (Piece::Shape, ".weight_shape"),
];

/// The same in the layouts of GPTQ and AWQ.
const GPTQ_ENDINGS: [(Piece, &str); 4] = [
    (Piece::Codes, ".qweight"),
    (Piece::Scales, ".scales"),
    (Piece::Zeros, ".qzeros"),
    (Piece::Groups, ".g_idx"),
];

/// Returns the ending of the names of pieces of the kind `piece` in files of the layout `layout`, which takes the place of
/// [`WEIGHT`].
pub fn piece_ending(layout: Layout, piece: Piece) -> &'static str {
    let endings = match layout {
        Layout::Bytes if piece == Piece::Codes => return WEIGHT,
        Layout::Rows | Layout::Bytes => &COMPRESSED_ENDINGS,
        Layout::Gptq { .. } | Layout::Awq => &GPTQ_ENDINGS,
    };
    endings.iter().find(|(each, _)| *each == piece).map_or(WEIGHT, |(_, ending)| *ending)
}

/// Splits the name of a piece of a packed matrix into the name of the module and the kind of the piece; `None` for the name
/// of another tensor. `is_compressed` says whether compressed-tensors names the pieces, `is_integer` whether the tensor
/// consists of bytes that are codes.
pub fn piece_of(name: &str, is_compressed: bool, is_integer: bool) -> Option<(&str, Piece)> {
    let endings = if is_compressed { &COMPRESSED_ENDINGS } else { &GPTQ_ENDINGS };
    let own = endings.iter().find_map(|(piece, end)| Some((name.strip_suffix(end)?, *piece)));
    let codes = || name.strip_suffix(WEIGHT).filter(|_| is_compressed && is_integer);
    own.or_else(|| codes().map(|module| (module, Piece::Codes)))
}

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

/// Beginning of the Hugging Face names of the tensors of blocks that draft tokens.
const DRAFTING_PREFIX: &str = "mtp.";

/// Whether the tensor called `name` in a Hugging Face model is of a block that drafts tokens, which transformers leaves
/// out.
pub fn is_of_drafting(name: &str) -> bool {
    name.starts_with(DRAFTING_PREFIX)
}

/// Returns the number of the layer of the tensor called `name` in a GGUF file; `None` for a tensor outside the layers.
pub fn gguf_layer(name: &str) -> Option<usize> {
    in_layer(Container::Gguf, name).map(|(layer, _)| layer)
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

/// How files of a model that a decoder is a part of spell the names of the decoder's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// What stands in the place of [`BASE_PREFIX`].
    base: &'static str,
    /// What stands before the last part of the name of the head.
    head: &'static str,
}

/// What stands in the place of [`BASE_PREFIX`] in such files, as versions of transformers have written it.
const BASES: [&str; 4] =
    ["language_model.model.", "model.language_model.model.", "model.language_model.", "language_model."];

/// What stands before the name of the head in such files.
const HEADS: [&str; 3] = ["language_model.", "model.language_model.", ""];

impl Default for Spelling {
    fn default() -> Self {
        Self { base: "model.language_model.", head: "" }
    }
}

impl Spelling {
    /// Finds the spelling of the files that have tensors called `names`, by the names of the embedding and of the head;
    /// `None` if no name is that of an embedding.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let find = |id: TensorId| MODEL_NAMES.iter().find(|(each, ..)| *each == id).map(|(_, name, _)| *name);
        let (embedding, head) =
            (find(TensorId::Embedding)?.strip_prefix(BASE_PREFIX)?, find(TensorId::Head)?);
        let has = |name: &str| names.clone().any(|each| each == name);
        let base = BASES.into_iter().find(|base| has(&format!("{base}{embedding}")))?;
        let with_head = HEADS.into_iter().find(|prefix| has(&format!("{prefix}{head}")));
        Some(Self { base, head: with_head.unwrap_or_default() })
    }

    /// Returns the name that the tensor called `name` has where the decoder is the whole model; `None` if it is not of the
    /// decoder.
    pub fn plain(&self, name: &str) -> Option<String> {
        let is_head =
            |rest: &&str| MODEL_NAMES.iter().any(|(id, full, _)| *id == TensorId::Head && full == rest);
        if let Some(head) = name.strip_prefix(self.head).filter(is_head) {
            return Some(head.to_owned());
        }
        Some(format!("{BASE_PREFIX}{}", name.strip_prefix(self.base)?))
    }

    /// Returns the name in the files of the tensor called `name` where the decoder is the whole model.
    pub fn spelled(&self, name: &str) -> String {
        match name.strip_prefix(BASE_PREFIX) {
            Some(rest) => format!("{}{rest}", self.base),
            None => format!("{}{name}", self.head),
        }
    }
}

/// Returns whether the tensor called `name` in a Hugging Face model is of one of the `parts` beside a decoder, whose names
/// begin so.
pub fn is_of_part(name: &str, parts: &[&str]) -> bool {
    let name = name.strip_prefix(BASE_PREFIX).unwrap_or(name);
    parts.iter().any(|part| name.starts_with(part))
}

/// Returns the part of the name of a layer's tensor that comes before the layer number.
pub(super) fn layer_prefix(container: Container) -> &'static str {
    match container {
        Container::Safetensors => "model.layers.",
        Container::Gguf => "blk.",
    }
}

/// Splits the name of a layer's tensor in files of kind `container` into the number of the layer and the rest.
pub(super) fn in_layer(container: Container, name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix(layer_prefix(container))?.split_once('.')?;
    // Canonical digits only, so that "01" is not a second name of layer 1.
    let index: usize = layer.parse().ok().filter(|i: &usize| i.to_string() == layer)?;
    Some((index, rest))
}

pub(super) fn pick<'a>(container: Container, hugging_face: &'a str, gguf: &'a str) -> &'a str {
    match container {
        Container::Safetensors => hugging_face,
        Container::Gguf => gguf,
    }
}

/// Identifies the projection of an expert that is called `rest` after the prefix of its layer.
pub(super) fn expert(container: Container, architecture: &Architecture, rest: &str) -> Option<(usize, Role)> {
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
pub(super) fn stacked(architecture: &Architecture) -> Vec<(&'static [Role], &'static str, &'static str)> {
    match architecture.experts.map(|experts| experts.names) {
        Some(ExpertNames::Stacked(gate_and_up, down)) => {
            vec![(&GATE_AND_UP, gate_and_up, ""), (&[Role::Down], down, "")]
        }
        Some(ExpertNames::InTurns) => IN_TURNS.to_vec(),
        Some(ExpertNames::Apart(..)) | None => Vec::new(),
    }
}

/// Returns whether rows of the roles of an expert lie in turns in files of kind `container` that hold a model of
/// `architecture`.
pub(super) fn is_in_turns(container: Container, architecture: &Architecture) -> bool {
    let names = architecture.experts.map(|experts| experts.names);
    container == Container::Safetensors && names == Some(ExpertNames::InTurns)
}
