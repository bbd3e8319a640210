//! Architectures as tables: what a decoder of each family has that a plain Llama has not, and what both kinds of files
//! call it.
//!
//! To add an architecture that needs no new arithmetic, write a file with its table beside the others, name the table in
//! [`ALL`], and add a fixture to `tests/data/architectures/`, whose test then holds states and likelihoods against
//! transformers and llama.cpp.

mod ernie;
mod granite;
mod llama;
mod qwen;
mod seed_oss;
mod smollm3;

use super::binding::RowOrder;

/// The supported architectures. Where several have one name in GGUF files, the first is meant there.
pub static ALL: [&Architecture; 8] = [
    &llama::LLAMA,
    &llama::MISTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &smollm3::SMOLLM3,
    &granite::GRANITE,
    &seed_oss::SEED_OSS,
    &ernie::ERNIE_4_5,
];

/// Architecture: how the decoders of a family are built, named and stored. Settings that differ between models of the
/// family are in [`Config`](super::Config).
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// Name of the class with an output head in transformers.
    pub class: &'static str,
    /// Name of the class without an output head.
    pub base: &'static str,
    /// Name by which transformers finds the class: `model_type` in `config.json`.
    pub model_type: &'static str,
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
    /// Whether each head of queries and keys is normalised before it is rotated.
    pub norms_heads: bool,
    /// Number of tokens that a position attends to.
    pub window: Window,
    /// Layers whose queries and keys are not rotated.
    pub unrotated: Unrotated,
    /// Whether `config.json` scales embeddings, scores, residuals and logits.
    pub has_scales: bool,
    /// Name of the norm before the MLP in a GGUF file, after `blk.<n>.`.
    pub gguf_mlp_norm: &'static str,
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
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// Id of the token that begins a text.
    pub bos: Option<u32>,
    /// Id of the token that ends a text.
    pub eos: Option<u32>,
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
pub enum Window {
    /// All tokens before the position, whatever `config.json` says.
    Never,
    /// As `sliding_window` says; the number is what its absence means.
    Key(usize),
    /// All tokens before the position, unless `use_sliding_window` is true, which is refused.
    Off,
}

/// Rule for the layers whose queries and keys are not rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrotated {
    /// Every layer is rotated.
    None,
    /// Layers with 0 in the list `no_rope_layers` are not rotated; without the list, every `n`-th layer is not, where
    /// `n` is `no_rope_layer_interval` or else this number. In a GGUF file every `n`-th layer is not rotated, for this
    /// number `n`, whatever the metadata say.
    Every(usize),
}

impl Unrotated {
    /// Returns, for each of `n_layers` layers, whether a GGUF file's model rotates it.
    pub fn in_gguf(self, n_layers: usize) -> Vec<bool> {
        match self {
            Unrotated::None => vec![true; n_layers],
            Unrotated::Every(n) => every(n_layers, n),
        }
    }
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

/// Returns the architecture that GGUF files call `name`.
pub fn by_gguf(name: &str) -> Option<&'static Architecture> {
    ALL.into_iter().find(|a| a.gguf == name)
}

/// Lists names for a message: `a, b and c`.
pub fn listed(name: impl Fn(&Architecture) -> &'static str) -> String {
    let mut names: Vec<&str> = ALL.iter().map(|a| name(a)).collect();
    names.dedup();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
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
            assert_eq!(by_gguf(architecture.gguf).unwrap().gguf, architecture.gguf);
        }
        assert_eq!(by_gguf("llama").unwrap().class, "LlamaForCausalLM");
        assert_eq!(listed(|a| a.gguf), "llama, qwen2, qwen3, smollm3, granite, seed_oss and ernie4_5");
    }

    #[test]
    fn every_fourth_layer_counts_from_one() {
        assert_eq!(every(5, 4), [true, true, true, false, true]);
        assert_eq!(Unrotated::None.in_gguf(2), [true, true]);
    }
}
