//! Architectures as tables: what a decoder of each family has that a plain Llama has not, and what both kinds of files
//! call it.
//!
//! To add an architecture that needs no new arithmetic, write a file with its table beside the others, name the table in
//! [`ALL`], and add a fixture to `tests/data/architectures/`, whose test then holds states and likelihoods against
//! transformers and llama.cpp.

mod cohere;
mod ernie;
mod exaone;
mod gemma;
mod glm;
mod gpt_oss;
mod granite;
mod hunyuan;
mod jamba;
mod lfm;
mod llama;
mod ministral;
mod mixtral;
mod olmo;
mod phi;
mod qwen;
mod seed_oss;
mod smollm3;

use super::binding::{HeadOrder, RowOrder};
use super::config::Mixer;
use super::rope::Yarn;
use super::tensors::Role;
use crate::format::Container;
use crate::kernels::rowwise::{Activation, NormKind};

/// The supported architectures. Where several have one name in GGUF files, the first is meant there, which
/// can say all that the others can.
pub static ALL: [&Architecture; 29] = [
    &llama::LLAMA,
    &llama::MISTRAL,
    &mixtral::MIXTRAL,
    &jamba::JAMBA,
    &ministral::MINISTRAL3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN2_MOE,
    &qwen::QWEN3_MOE,
    &qwen::QWEN3_5,
    &lfm::LFM2,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA4,
    &phi::PHI3,
    &smollm3::SMOLLM3,
    &granite::GRANITE4,
    &granite::GRANITE,
    &granite::GRANITE_MOE,
    &olmo::OLMO3,
    &olmo::OLMO2,
    &cohere::COHERE,
    &cohere::COHERE2,
    &gpt_oss::GPT_OSS,
    &glm::GLM4,
    &exaone::EXAONE4,
    &hunyuan::HUNYUAN,
    &seed_oss::SEED_OSS,
    &ernie::ERNIE_4_5,
];

/// Architecture: how the decoders of a family are built, named and stored. Settings that differ between models of the
/// family are in [`Config`](super::Config).
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// Name of the family in words.
    pub name: &'static str,
    /// Name of the class with an output head in transformers.
    pub class: &'static str,
    /// Name of the class without an output head.
    pub base: &'static str,
    /// Name by which transformers finds the class: `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Models with an image encoder or the like whose decoder is of this architecture, if there are any.
    pub wrapper: Option<&'static Wrapper>,
    /// Name in GGUF files: `general.architecture`, and the prefix of its keys.
    pub gguf: &'static str,
    /// Order of the rows of query and key projections in Hugging Face models.
    pub hugging_face_rows: RowOrder,
    /// Order of the rows of query and key projections in GGUF files.
    pub gguf_rows: RowOrder,
    /// Settings where `config.json` lacks their key.
    pub usual: Usual,
    /// Whether the query, key and value projections have biases.
    pub input_biases: Presence,
    /// Whether the output projection of attention has a bias.
    pub output_bias: Presence,
    /// Whether the projections of the MLP have biases.
    pub mlp_biases: Presence,
    /// How rows are normalised.
    pub norm: NormKind,
    /// Where a layer normalises what its attention and its MLP read or write.
    pub norms: Norms,
    /// How queries and keys are normalised.
    pub head_norms: HeadNorms,
    /// What is added to the stored weights of all norms in Hugging Face models, 0 or 1. GGUF files hold the sum.
    pub norm_offset: f32,
    /// Function of the gate of the MLP.
    pub activation: Activation,
    /// Number of tokens that a position attends to.
    pub windows: Windows,
    /// How layers rotate queries and keys.
    pub rotation: Rotation,
    /// Factors and caps of activations.
    pub scaling: Scaling,
    /// Whether `alpha` of a rope scaling of type `dynamic` stretches the base of the frequencies from the first token on.
    pub alpha_stretches: bool,
    /// Experts in the place of the MLP, in some layers or all; `None` if no layer has any.
    pub experts: Option<Experts>,
    /// Mamba mixers in the place of attention, in some layers; `None` if all layers have attention.
    pub mamba: Option<MambaLayers>,
    /// Short convolutions in the place of attention, in some layers: the number of taps where `conv_L_cache` is absent.
    pub short_convolution: Option<usize>,
    /// Gated delta nets in the place of attention, in some layers.
    pub delta_net: Option<DeltaNetLayers>,
    /// Whether the output of each head of attention is multiplied by the sigmoid of a gate of as many numbers, whose rows
    /// follow those of the head in the query projection.
    pub gated_heads: bool,
    /// Whether GGUF files hold an output head. Hugging Face models of every architecture may have one.
    pub gguf_head: GgufHead,
    /// Whether layers without a window have heads of another width than those with one, and may have another number of key
    /// heads, whose projections may serve as those of the values: the width where `global_head_dim` is absent.
    pub full_heads: Option<usize>,
    /// Whether each layer may have an input of its own, which follows from the token and its embedding: the width where
    /// `hidden_size_per_layer_input` is absent.
    pub layer_inputs: Option<usize>,
    /// Whether the last layers may read the keys and values of layers before them in the place of their own, as many as
    /// `num_kv_shared_layers` says, and have MLPs of double width.
    pub shares_keys: bool,
    /// Whether GGUF files list the merges of tokenizers over characters (tokenizer model `gemma4`), and not only scores of
    /// tokens.
    pub lists_merges: bool,
    /// Whether files may hold blocks that do nothing but draft tokens for speculative decoding. They are left out.
    pub drafts: bool,
    /// Whether each query head has one more score, which takes a share of its attention and gives nothing.
    pub sinks: bool,
    /// Whether GGUF files are written, with a note, for models with a YaRN ramp between whole places, although
    /// llama.cpp computes it between whole ones. Published models of the family have such a ramp.
    pub rounded_yarn: bool,
    /// Names of the norm before the head, in Hugging Face models and in GGUF files.
    pub final_norm: (&'static str, &'static str),
    /// Key of the width of the MLP in `config.json`.
    pub mlp_width: &'static str,
    /// Whether the MLP is narrower than its key says where `block_auto_adjust_ff_dim` is true or absent: two thirds,
    /// times `block_ffn_dim_multiplier`, rounded up to a multiple of `block_multiple_of`.
    pub adjusts_mlp: bool,
    /// Key of the epsilon of the norms in `config.json`, if it is not Llama's.
    pub norm_epsilon: Option<&'static str>,
    /// Former spellings of keys of `config.json`, which transformers prefers, and the keys as they are spelled now.
    pub former_keys: &'static [(&'static str, &'static str)],
    /// Names of tensors of a layer that are not Llama's: role, name after `model.layers.<n>.` in a Hugging Face model,
    /// and name after `blk.<n>.` in a GGUF file.
    pub names: &'static [(Role, &'static str, &'static str)],
    /// Tensors of a layer that hold the rows of several roles one after the other: the roles, and the names as in
    /// [`names`](Self::names). An empty name says that files of this kind hold the roles apart.
    pub joined: &'static [(&'static [Role], &'static str, &'static str)],
}

/// Models that consist of a decoder and other parts, such as an image encoder. `text_config` in their `config.json` has
/// the settings of the decoder. GGUF files hold the decoder only.
#[derive(Debug, PartialEq)]
pub struct Wrapper {
    /// Name of the class of the whole model in transformers.
    pub class: &'static str,
    /// Name of the class without an output head.
    pub base: &'static str,
    /// Name by which transformers finds the class: `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Whether the output head is the embedding where `tie_word_embeddings` is absent outside of `text_config`.
    pub tied_head: bool,
    /// Beginnings of the names of the tensors of the other parts, after `model.` or without it.
    pub parts: &'static [&'static str],
}

impl Architecture {
    /// Returns whether a layer normalises what attention and the MLP read.
    pub fn norms_before(&self) -> bool {
        self.norms != Norms::After
    }

    /// Returns the mixer that some layers have in the place of attention.
    pub fn other_mixer(&self) -> Option<Mixer> {
        let mamba = self.mamba.map(|_| Mixer::Mamba);
        let convolution = self.short_convolution.map(|_| Mixer::ShortConvolution);
        mamba.or(convolution).or(self.delta_net.map(|_| Mixer::DeltaNet))
    }

    /// Returns the order of the value heads of delta nets in files of kind `container`.
    pub fn value_heads(&self, container: Container) -> HeadOrder {
        match (container, self.delta_net) {
            (Container::Gguf, Some(rule)) => rule.gguf_heads,
            _ => HeadOrder::ByKey,
        }
    }

    /// Returns whether a layer normalises what attention and the MLP add to the residual stream.
    pub fn norms_after(&self) -> bool {
        matches!(self.norms, Norms::After | Norms::Around)
    }
}

/// How a layer mixes experts, MLPs of which a router chooses some for each token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Keys of the number of experts in `config.json`: the one that is written, and another spelling.
    pub count: [&'static str; 2],
    /// Number of experts where `config.json` lacks the keys.
    pub usual: usize,
    /// Number of experts that are chosen for a token where `config.json` lacks `num_experts_per_tok`.
    pub usual_used: usize,
    /// Key of the width of an expert in `config.json`, and the width where the key is absent. `None`: the experts are as
    /// wide as an MLP.
    pub width: Option<(&'static str, usize)>,
    /// Gates of the experts that were chosen.
    pub gates: Gates,
    /// Key of the width of the expert that serves every token in `config.json`, and the width where the key is absent;
    /// `None` if there is no such expert. A gate of its own, a sigmoid, multiplies what it adds.
    pub shared: Option<(&'static str, usize)>,
    /// Which layers have experts; the others have an MLP.
    pub layers: ExpertLayers,
    /// Whether the router and the projections of the experts have biases.
    pub biased: bool,
    /// Names in Hugging Face models.
    pub names: ExpertNames,
}

/// Which layers have experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertLayers {
    /// All.
    All,
    /// Every `decoder_sparse_step`-th, but not those in the list `mlp_only_layers`. A GGUF file has experts in all.
    Listed,
    /// Those whose number is `expert_layer_offset` when it is divided by `expert_layer_period`; without such keys, these
    /// two. In a GGUF file, those that have a router.
    Periodic {
        /// Period where its key is absent.
        period: usize,
        /// Offset where its key is absent.
        offset: usize,
    },
}

/// Mamba mixers in the place of attention: in all layers but those whose number is `attn_layer_offset` when it is divided
/// by `attn_layer_period`. In a GGUF file, layers without key heads have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MambaLayers {
    /// Period of the layers with attention where its key is absent.
    pub period: usize,
    /// Offset of the layers with attention where its key is absent.
    pub offset: usize,
    /// Numbers of the state of a channel where `mamba_d_state` is absent.
    pub states: usize,
    /// Taps of the convolution where `mamba_d_conv` is absent.
    pub taps: usize,
    /// Channels for each number of the stream where `mamba_expand` is absent.
    pub expand: usize,
}

/// Gated delta nets in the place of attention: in the layers that `layer_types` calls `linear_attention`, or, without such
/// a list, in all but every `full_attention_interval`-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaNetLayers {
    /// `full_attention_interval` where it is absent.
    pub every: usize,
    /// Number of key heads where `linear_num_key_heads` is absent.
    pub key_heads: usize,
    /// Number of value heads where `linear_num_value_heads` is absent.
    pub value_heads: usize,
    /// Widths of a key head and of a value head where `linear_key_head_dim` and `linear_value_head_dim` are absent.
    pub widths: [usize; 2],
    /// Taps of the convolution where `linear_conv_kernel_dim` is absent.
    pub taps: usize,
    /// Order of the value heads in GGUF files; those of a key head follow each other in Hugging Face models.
    pub gguf_heads: HeadOrder,
}

/// Gates by which the outputs of the experts that were chosen for a token are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// Softmax over the experts that were chosen.
    Normalised,
    /// Softmax over all experts.
    Raw,
    /// As `norm_topk_prob` says: [`Normalised`](Self::Normalised) if it is true, [`Raw`](Self::Raw) if it is false or
    /// absent. llama.cpp takes the former, whatever a file says.
    Asked,
    /// As `norm_topk_prob` says, but llama.cpp takes [`Raw`](Self::Raw).
    AskedRaw,
}

impl Gates {
    /// Returns whether llama.cpp takes the softmax over the experts that were chosen, whatever a file says.
    pub fn gguf_normalised(self) -> bool {
        matches!(self, Gates::Normalised | Gates::Asked)
    }
}

/// Names of the tensors of experts in Hugging Face models, after `model.layers.<n>.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertNames {
    /// One tensor for each projection of each expert: `<prefix><expert>.<name>`, with the names of gate, up and down.
    Apart(&'static str, [&'static str; 3]),
    /// One tensor for the gate and up projections of all experts, those of one expert after the other, and one for the
    /// down projections.
    Stacked(&'static str, &'static str),
    /// `mlp.experts.gate_up_proj` for the gate and up projections of all experts, and `mlp.experts.down_proj` for the
    /// down projections, both transposed: columns of the gate and up projections lie in turns. Their biases have names
    /// that end with `_bias`. In MXFP4 the tensors are not transposed; blocks and exponents lie apart, under names that
    /// end with `_blocks` and `_scales`.
    InTurns,
}

/// Where a layer normalises. `f` is attention or the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// `x + f(norm(x))`.
    Before,
    /// `x + norm(f(x))`.
    After,
    /// `x + norm(f(norm(x)))`, with norms of their own before and after.
    Around,
    /// `x + attention(norm(x)) + mlp(norm(x))`, with one norm for both.
    Shared,
}

/// How queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// Not at all.
    None,
    /// Each head by itself, before it is rotated.
    Each,
    /// Each head by itself, before it is rotated, and each value head by a norm without weights.
    EachAndValues,
    /// Each head by itself, after it is rotated.
    EachRotated,
    /// All heads as one vector, before they are rotated.
    All,
}

/// Factors and caps of activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// None but the usual factor of the attention scores.
    None,
    /// Factors of embeddings, scores, residuals and logits, as `config.json` says.
    Factors,
    /// Logits are multiplied by `logit_scale`, or else by this number. In a GGUF file, by the number under the key that
    /// is a divisor elsewhere.
    Logits(f64),
    /// Embeddings are multiplied by the root of their width, scores by the root of 1 / `query_pre_attn_scalar`, and
    /// both scores and logits may be capped.
    Gemma {
        /// `query_pre_attn_scalar` where `config.json` lacks the key.
        scalar: f64,
        /// Caps of scores and of logits where `config.json` lacks their keys.
        caps: [Option<f64>; 2],
        /// Number of layers for which llama.cpp takes the width of the stream for each head in the place of
        /// `query_pre_attn_scalar`, which a GGUF file cannot hold; for any other number, it takes the width of a head.
        largest: usize,
    },
    /// Embeddings are multiplied by the root of their width, scores by 1, and the stream after each layer by a number that
    /// the layer stores; logits may be capped.
    Layers,
}

/// Settings of a class in transformers where `config.json` lacks their key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Number of decoder layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; `None` is the number of query heads.
    pub n_kv_heads: Option<usize>,
    /// Width of a head; `None` is the width of the stream divided by the number of heads.
    pub head_dim: Option<usize>,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub context: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// YaRN scaling of the rotary frequencies where `config.json` has neither `rope_scaling` nor `rope_parameters`.
    pub yarn: Option<Yarn>,
    /// Share of each head that is rotated; `None` means all of it, whatever `config.json` says.
    pub rotated_share: Option<f64>,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// Id of the token that begins a text.
    pub bos: Option<u32>,
    /// Id of the token that ends a text.
    pub eos: Option<u32>,
}

/// Whether llama.cpp finds an output head in the GGUF files of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufHead {
    /// llama.cpp takes the embedding, whatever else the file holds.
    Never,
    /// llama.cpp takes the embedding where the file holds no head.
    Optional,
    /// llama.cpp refuses a file without one.
    Required,
}

/// Whether layers have a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No layer has the part, whatever `config.json` says.
    Never,
    /// Every layer has the part.
    Always,
    /// As the key of this name in `config.json` says; the flag is what its absence means.
    Key(&'static str, bool),
}

/// Rule for the number of tokens that a position attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// All tokens before the position, whatever `config.json` says.
    Never,
    /// In all layers as `sliding_window` says, which llama.cpp does not obey; the number is what its absence means.
    All(Option<usize>),
    /// All tokens before the position, unless `use_sliding_window` is true, which is refused.
    Off,
    /// As `sliding_window` says, but in some layers all tokens before the position.
    Some(Windowed),
}

/// Rule for the layers that have a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windowed {
    /// Window where `sliding_window` is absent.
    pub usual: usize,
    /// Every so manyth layer has no window, counted from 1, where no list names the layers.
    pub every: usize,
    /// Key in `config.json` that replaces `every`.
    pub every_key: Option<&'static str>,
    /// Window where a GGUF file gives none.
    pub gguf_usual: Option<usize>,
    /// The only number of layers with which llama.cpp uses the window of a GGUF file; `None` if it always does.
    pub gguf_layers: Option<usize>,
}

impl Windowed {
    /// Returns, for each of `n_layers` layers, whether the layer has a window where no list says so.
    pub fn usual_layers(&self, n_layers: usize) -> Vec<bool> {
        every(n_layers, self.every)
    }
}

/// Rule for the rotation of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rotation {
    /// Every layer rotates alike.
    All,
    /// No layer rotates.
    Never,
    /// Every layer rotates if `position_embedding_type` is `rope`, none otherwise. In a GGUF file
    /// `rope.scaling.finetuned` says so, and its absence means that every layer rotates.
    Switched,
    /// Layers with 0 in the list `no_rope_layers` do not rotate; without the list, every `n`-th layer does not, where
    /// `n` is `no_rope_layer_interval` or else this number. In a GGUF file every `n`-th layer does not rotate, for this
    /// number `n`, whatever the metadata say.
    AllBut(usize),
    /// Layers with a window rotate by frequencies of their own, whose base is `rope_local_base_freq` or else this
    /// number; scalings are of the other layers.
    LocalBase(f64),
    /// Layers with a window rotate by frequencies of their own, and those of the others are proportional: both are in
    /// `rope_parameters`, each under its kind of layer. In a GGUF file, the former have a base of their own, and the latter
    /// the divisors.
    ByKind {
        /// Base of the frequencies of layers with a window where nothing is given.
        base: f64,
        /// Share of the frequencies of the others that rotate where nothing is given.
        share: f64,
    },
    /// Layers with a window rotate without the scaling of the others.
    LocalUnscaled,
    /// Only layers with a window rotate, or all if none has a window.
    Windowed,
    /// Only layers with a window rotate.
    OnlyWindowed,
}

/// Returns `false` for every `n`-th of `n_layers` layers, and `true` for the others.
pub fn every(n_layers: usize, n: usize) -> Vec<bool> {
    (1..=n_layers).map(|place| n == 0 || !place.is_multiple_of(n)).collect()
}

/// Returns the architecture whose class with or without an output head is called `name`. Capitals do not count: they
/// have changed over time.
pub fn by_class(name: &str) -> Option<&'static Architecture> {
    ALL.into_iter().find(|a| [a.class, a.base].iter().any(|each| each.eq_ignore_ascii_case(name)))
}

/// Returns the architecture that transformers finds by `model_type`.
pub fn by_model_type(model_type: &str) -> Option<&'static Architecture> {
    ALL.into_iter().find(|a| a.model_type == model_type)
}

/// Returns the architecture of the decoder of a model that `is_it` knows by the table of its wrapper, and that table. Of
/// several such architectures it is that called `text_type`, the `model_type` of the decoder, or the first if that is
/// `None`; of one, whatever it is called, as in transformers.
pub fn by_wrapper(
    is_it: impl Fn(&Wrapper) -> bool,
    text_type: Option<&str>,
) -> Option<(&'static Architecture, &'static Wrapper)> {
    let wrapped = ALL.into_iter().filter_map(|a| Some((a, a.wrapper.filter(|wrapper| is_it(wrapper))?)));
    let found: Vec<_> = wrapped.collect();
    match (found.as_slice(), text_type) {
        ([only], _) => Some(*only),
        (several, None) => several.first().copied(),
        (several, Some(name)) => several.iter().find(|(a, _)| a.model_type == name).copied(),
    }
}

/// Returns the architecture that GGUF files call `name`; of several, one with experts if `has_experts`, and one without
/// otherwise.
pub fn by_gguf(name: &str, has_experts: bool) -> Option<&'static Architecture> {
    let mut alike = ALL.into_iter().filter(|a| a.gguf == name);
    let first = alike.clone().next();
    alike.find(|a| a.experts.is_some() == has_experts).or(first)
}

/// Lists the names of the families for a message: `a, b and c`.
pub fn listed() -> String {
    let names = ALL.map(|architecture| architecture.name);
    match names.split_last() {
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_found_by_its_names() {
        for architecture in ALL {
            assert_eq!(by_class(architecture.class), Some(architecture));
            assert_eq!(by_class(&architecture.base.to_uppercase()), Some(architecture));
            assert_eq!(by_model_type(architecture.model_type), Some(architecture));
            if let Some(wrapper) = architecture.wrapper {
                let name = Some(architecture.model_type);
                assert_eq!(by_wrapper(|w| w.class == wrapper.class, name), Some((architecture, wrapper)));
                assert_eq!(by_wrapper(|w| w.model_type == wrapper.model_type, name).unwrap().0, architecture);
                assert_eq!(by_model_type(wrapper.model_type), None);
            }
            let found = by_gguf(architecture.gguf, architecture.experts.is_some()).unwrap();
            assert_eq!(
                (found.gguf, found.experts.is_some()),
                (architecture.gguf, architecture.experts.is_some())
            );
        }
        assert_eq!(by_gguf("llama", false).unwrap().class, "LlamaForCausalLM");
        assert_eq!(by_gguf("llama", true).unwrap().class, "MixtralForCausalLM");
        let names = listed();
        assert!(
            names.starts_with("Llama, Mistral, ") && names.ends_with("Seed-OSS and ERNIE 4.5"),
            "{names}"
        );
    }

    #[test]
    fn every_fourth_layer_counts_from_one() {
        assert_eq!(every(5, 4), [true, true, true, false, true]);
        assert_eq!(every(2, 0), [true, true]);
    }
}
