//! File types as llama.cpp has them: in which element type each matrix of a model is stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::part_types::{self, PartTypes};
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::format::element::Element;
use crate::model::Config;
use crate::model::architectures::GgufHead;
use crate::model::config::{LayerKind, Mixer};
use crate::model::tensors::{Role, TensorId};
use crate::{Error, Result};

/// Element type of most matrices of a model, and which matrices get a more precise one.
///
/// The types that have the name of one of `llama-quantize` store each matrix as `llama-quantize` does
/// (`llama_tensor_get_type_impl` in llama.cpp's `src/llama-quant.cpp`). `q3_k`, `q4_k`, `q5_k` and `mxfp4`, as the floats,
/// store every matrix in the same type, but for the output head.
///
/// ```
/// use laminate::FileType;
///
/// let q4_k_m: FileType = "q4_k_m".parse()?;
/// assert_eq!(q4_k_m.element().to_string(), "Q4_K");
/// assert!("q4_k_xl".parse::<FileType>().is_err());
/// # Ok::<(), laminate::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileType {
    element: Element,
    rule: Rule,
}

/// Which matrices get another type than most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// None but the output head.
    Same,
    /// Those of llama.cpp's file type that is named like its element type.
    Plain,
    /// Those of llama.cpp's file type with `_S` at the end of its name.
    Small,
    /// Those with `_M`.
    Medium,
    /// Those with `_L`.
    Large,
    /// Those that are said for each part of the model.
    Parts(PartTypes),
}

/// All file types: name, llama.cpp's number (`llama_ftype`), type of most matrices, and rule.
#[rustfmt::skip]
const ALL: [(&str, u32, Element, Rule); 23] = [
    ("f32",    0,  Element::F32,                      Rule::Same),
    ("f16",    1,  Element::F16,                      Rule::Same),
    ("bf16",   32, Element::Bf16,                     Rule::Same),
    ("q8_0",   7,  Element::Block(BlockType::Q8_0),   Rule::Plain),
    ("q6_k",   18, Element::Block(BlockType::Q6K),    Rule::Plain),
    ("q5_k_m", 17, Element::Block(BlockType::Q5K),    Rule::Medium),
    ("q5_k_s", 16, Element::Block(BlockType::Q5K),    Rule::Small),
    ("q5_k",   16, Element::Block(BlockType::Q5K),    Rule::Same),
    ("q5_1",   9,  Element::Block(BlockType::Q5_1),   Rule::Plain),
    ("q5_0",   8,  Element::Block(BlockType::Q5_0),   Rule::Plain),
    ("q4_k_m", 15, Element::Block(BlockType::Q4K),    Rule::Medium),
    ("q4_k_s", 14, Element::Block(BlockType::Q4K),    Rule::Small),
    ("q4_k",   14, Element::Block(BlockType::Q4K),    Rule::Same),
    ("iq4_nl", 25, Element::Block(BlockType::Iq4Nl),  Rule::Plain),
    ("iq4_xs", 30, Element::Block(BlockType::Iq4Xs),  Rule::Plain),
    ("q4_1",   3,  Element::Block(BlockType::Q4_1),   Rule::Plain),
    ("q4_0",   2,  Element::Block(BlockType::Q4_0),   Rule::Plain),
    ("mxfp4",  38, Element::Block(BlockType::Mxfp4),  Rule::Same),
    ("q3_k_l", 13, Element::Block(BlockType::Q3K),    Rule::Large),
    ("q3_k_m", 12, Element::Block(BlockType::Q3K),    Rule::Medium),
    ("q3_k_s", 11, Element::Block(BlockType::Q3K),    Rule::Small),
    ("q3_k",   11, Element::Block(BlockType::Q3K),    Rule::Same),
    ("q2_k",   10, Element::Block(BlockType::Q2K),    Rule::Plain),
];

impl FileType {
    /// Returns all file types, from the largest files to the smallest, about.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(_, _, element, rule)| Self { element, rule })
    }

    /// Returns the file type that is named like `element`.
    pub fn of(element: Element) -> Self {
        let name = element.to_string();
        let found = ALL.iter().find(|(each, ..)| each.eq_ignore_ascii_case(&name));
        found.map_or(Self { element, rule: Rule::Same }, |(_, _, element, rule)| Self {
            element: *element,
            rule: *rule,
        })
    }

    /// Returns the file type that stores each part of a model as `types` say; `None` if all parts keep their types.
    pub fn of_parts(types: PartTypes) -> Option<Self> {
        Some(Self { element: Element::Block(types.commonest()?), rule: Rule::Parts(types) })
    }

    /// Returns the types of the parts of a model, if each has one of its own; `None` for a type with a name.
    pub const fn part_types(self) -> Option<PartTypes> {
        match self.rule {
            Rule::Parts(types) => Some(types),
            _ => None,
        }
    }

    /// Returns the element type of most matrices.
    pub const fn element(self) -> Element {
        self.element
    }

    /// Returns llama.cpp's number for files of this type (`llama_ftype`), for types by part that of the commonest; `None`
    /// if it has none.
    pub fn number(self) -> Option<u32> {
        match self.rule {
            Rule::Parts(_) => Self::of(self.element).number(),
            _ => self.row().map(|(_, number, ..)| number),
        }
    }

    fn row(self) -> Option<(&'static str, u32, Element, Rule)> {
        ALL.into_iter().find(|(_, _, element, rule)| (*element, *rule) == (self.element, self.rule))
    }

    /// Whether the type of a matrix depends on the place of its layer among the layers of the model.
    pub fn goes_by_place(self) -> bool {
        use BlockType::{Iq4Nl, Iq4Xs, Q2K, Q4_0, Q5_0};
        match (self.element, self.rule) {
            (_, Rule::Parts(types)) => types.goes_by_place(),
            (Element::Block(Q2K | Iq4Nl | Iq4Xs | Q4_0 | Q5_0), _) => true,
            (Element::Block(_), rule) => matches!(rule, Rule::Small | Rule::Medium | Rule::Large),
            _ => false,
        }
    }

    /// Returns the type in which the matrix `id` of a model with the configuration `config` is stored in a GGUF file,
    /// before it is known whether a row is a whole number of blocks; `None` if it keeps its type. `place` is that of the
    /// layer in the new model, `weighted` says whether matrices are encoded by the importances of their columns.
    pub(super) fn stored(
        self,
        config: &Config,
        id: TensorId,
        place: Place,
        weighted: bool,
    ) -> Option<Element> {
        let Element::Block(most) = self.element else { return Some(self.element) };
        if let Rule::Parts(types) = self.rule {
            return types.of(config, id, place).map(Element::Block);
        }
        let matrix = Matrix::of(config, id);
        if matrix == Matrix::Head {
            let row = id.shape(config).last().copied().unwrap_or(1);
            return Some(Element::Block(self.head(most, row)));
        }
        if self.rule == Rule::Same {
            return Some(self.element);
        }
        let experts = config.experts.map_or(1, |sizes| sizes.count);
        Some(Element::Block(self.inner(most, matrix, place, (experts, weighted)).unwrap_or(most)))
    }

    /// Returns the type of the output head, or of the embedding where it is the output head, too: errors of the head go
    /// straight to the logits.
    fn head(self, most: BlockType, row: u64) -> BlockType {
        if !row.is_multiple_of(most.weights() as u64) { BlockType::Q8_0 } else { most.wider(BlockType::Q6K) }
    }

    /// Returns the type of a matrix of a layer, if it is not that of most.
    fn inner(
        self,
        most: BlockType,
        matrix: Matrix,
        place: Place,
        (experts, weighted): (usize, bool),
    ) -> Option<BlockType> {
        use BlockType::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        use Rule::{Large, Medium, Plain, Small};
        let Place { layer, layers, value, values, queries_per_key, .. } = place;
        let is_first_eighth = layer < layers / 8;
        match (matrix, most, self.rule) {
            // Eight experts share matrices of attention that are small beside them.
            (Matrix::Value | Matrix::Joined | Matrix::Key, ..) if experts == 8 => Some(Q8_0),
            (Matrix::Output, Q2K | Q3K | Iq4Nl | Q4K | Iq4Xs, rule) if experts == 8 => {
                (rule != Large).then_some(Q5K)
            }
            (Matrix::Value | Matrix::Joined, ..) => {
                let own = match (most, self.rule) {
                    (Q2K, Plain) => Some(if queries_per_key >= 4 { Q4K } else { Q3K }),
                    (Q3K, Medium) => Some(if value < 2 { Q5K } else { Q4K }),
                    (Q3K, Large) => Some(Q5K),
                    (Iq4Nl | Iq4Xs, Plain) if queries_per_key >= 4 => Some(Q5K),
                    (Q4K | Q5K, Medium) if gets_more_bits(value, values) => Some(Q6K),
                    (Q4K, Small) if value < 4 => Some(Q5K),
                    _ => None,
                };
                match own.unwrap_or(most) {
                    // Models of 80 layers whose queries share keys are the 70B ones.
                    Q3K | Q4K if layers == 80 && queries_per_key > 1 => Some(Q5K),
                    _ => own,
                }
            }
            (Matrix::Down, Q2K, Plain) => Some(Q3K),
            (Matrix::Down, Q3K, Medium) => Some(if layer < layers / 16 { Q5K } else { Q4K }),
            (Matrix::Down, Q3K, Large) => Some(Q5K),
            (Matrix::Down, Q4K | Q5K, Medium) if gets_more_bits(layer, layers) => Some(Q6K),
            (Matrix::Down, Iq4Nl | Iq4Xs, Plain) if is_first_eighth && !weighted => Some(Q5K),
            (Matrix::Down, Q4K, Small) if is_first_eighth => Some(Q5K),
            (Matrix::Down, Q4_0, Plain) if is_first_eighth && weighted => Some(Q4_1),
            (Matrix::Down, Q5_0, Plain) if is_first_eighth && weighted => Some(Q5_1),
            (Matrix::Output, Q2K, Plain) => Some(Q3K),
            (Matrix::Output, Q3K, Medium) => Some(Q4K),
            (Matrix::Output, Q3K, Large) => Some(Q5K),
            _ => None,
        }
    }
}

/// Whether llama.cpp's medium types give more bits to layer `layer` of `layers`: the first and the last eighth, and every
/// third layer between.
fn gets_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Whether a GGUF file of a model with the configuration `config` has an output head besides the embeddings.
pub(super) fn has_head(config: &Config) -> bool {
    !config.tied_head || config.architecture.gguf_head == GgufHead::Required
}

/// What llama.cpp goes by when it chooses the type of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matrix {
    /// The output head, or the embeddings where one is the output head, too.
    Head,
    /// Value projection.
    Value,
    /// Queries, keys and values in one tensor.
    Joined,
    /// Key projection.
    Key,
    /// Output projection of attention.
    Output,
    /// Down projection of an MLP or of experts.
    Down,
    /// Any other.
    Other,
}

impl Matrix {
    /// llama.cpp goes by parts of the names in GGUF files, so that some matrices of other mixers count as those of
    /// attention.
    fn of(config: &Config, id: TensorId) -> Self {
        let architecture = config.architecture;
        let embeds = matches!(id, TensorId::Embedding | TensorId::InputEmbedding);
        if id == TensorId::Head || (embeds && !has_head(config)) {
            return Self::Head;
        }
        let joined = id.joined(Container::Gguf, architecture).map(|(name, _)| name);
        let name = joined.or_else(|| id.name(Container::Gguf, architecture)).unwrap_or_default();
        let parts = [
            ("attn_qkv.weight", Self::Joined),
            ("attn_v.weight", Self::Value),
            ("attn_k.weight", Self::Key),
            ("attn_output.weight", Self::Output),
            ("ffn_down", Self::Down),
        ];
        parts.into_iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |(_, matrix)| matrix)
    }
}

/// Place of a layer among the layers of a model, as far as [`FileType`] goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// Index of the layer.
    layer: usize,
    /// Number of layers.
    layers: usize,
    /// Number of layers before it that have values.
    value: usize,
    /// Number of layers that have values.
    values: usize,
    /// Number of queries that share a key in the first layer; 0 if that layer has no keys.
    queries_per_key: usize,
}

impl Place {
    /// Returns in which of `n` parts of equal depth the layer lies, from 0.
    pub fn part_of(self, n: usize) -> usize {
        self.layer * n / self.layers.max(1)
    }

    /// Returns the places of layers of the kinds `kinds` in a model with the configuration `config`.
    pub fn of_all(config: &Config, kinds: &[LayerKind]) -> Vec<Self> {
        let has_values = |kind: &LayerKind| {
            let roles = Role::required(config, *kind);
            roles.contains(&Role::Value) || roles.contains(&Role::DeltaInput)
        };
        let with_values: Vec<bool> = kinds.iter().map(has_values).collect();
        let values = with_values.iter().filter(|has| **has).count();
        let queries_per_key = match kinds.first() {
            Some(first) if matches!(first.mixer, Mixer::Attention | Mixer::DeltaNet) => {
                config.n_heads / config.kv_heads(*first).max(1)
            }
            _ => 0,
        };
        let mut before = 0;
        let mut places = Vec::with_capacity(kinds.len());
        for (layer, has) in with_values.iter().enumerate() {
            places.push(Self { layer, layers: kinds.len(), value: before, values, queries_per_key });
            before += usize::from(*has);
        }
        places
    }
}

impl From<Element> for FileType {
    fn from(element: Element) -> Self {
        Self::of(element)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Rule::Parts(types) => types.fmt(f),
            _ => f.write_str(self.row().map_or("", |(name, ..)| name)),
        }
    }
}

impl FromStr for FileType {
    type Err = Error;

    /// Parses the name of a file type, ignoring case, or [types by part](PartTypes).
    ///
    /// # Errors
    /// [`Error::Unsupported`], with all known names, for an unknown name; those of [`PartTypes::from_str`].
    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(part_types::PREFIX) {
            let nothing = || Error::Usage(format!("{name} changes no type; leave it out"));
            return Self::of_parts(lower.parse()?).ok_or_else(nothing);
        }
        let found = ALL.iter().find(|(each, ..)| each.eq_ignore_ascii_case(name));
        found.map(|(_, _, element, rule)| Self { element: *element, rule: *rule }).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|(name, ..)| *name).collect();
            Error::Unsupported(format!("type {name} is not supported; {} are", names.join(", ")))
        })
    }
}

impl Serialize for FileType {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::model::config::FeedForward;

    #[test]
    fn names_are_read_back() {
        for each in FileType::all() {
            assert_eq!(each.to_string().parse::<FileType>().unwrap(), each);
            assert_eq!(each.to_string().to_uppercase().parse::<FileType>().unwrap(), each);
            assert!(each.number().is_some());
        }
        let parts: FileType = "parts:head=q6_k+down=q4_k/keep/q5_k".parse().unwrap();
        assert_eq!(parts.to_string().to_uppercase().parse::<FileType>().unwrap(), parts);
        for element in Element::FLOATS.into_iter().chain(BlockType::ALL.map(Element::Block)) {
            assert_eq!(FileType::of(element).to_string(), element.to_string().to_lowercase());
        }
    }

    /// One model of the fixture: what llama.cpp's quantiser chose (`tests/data/make_file_types.py`).
    #[derive(Deserialize)]
    struct Chosen {
        folder: String,
        config: serde_json::Map<String, serde_json::Value>,
        types: BTreeMap<String, Types>,
    }

    #[derive(Deserialize)]
    struct Types {
        most: String,
        same: usize,
        others: BTreeMap<String, String>,
    }

    #[test]
    fn every_matrix_is_of_the_type_that_llama_cpp_chooses() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let read = |name: &str| std::fs::read(data.join(name)).unwrap();
        let models: Vec<Chosen> = serde_json::from_slice(&read("file_types/llama_cpp.json")).unwrap();
        assert_eq!(models.len(), 10);
        for Chosen { folder, config, types } in models {
            let own = read(&format!("architectures/{folder}/hf/config.json"));
            let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&own).unwrap();
            json.extend(config);
            let config = Config::parse(&serde_json::to_vec(&json).unwrap()).unwrap();
            let places = Place::of_all(&config, &config.layers);
            let row = config.hidden_size as u64;
            assert_eq!(types.len(), 20);
            for (name, Types { most, same, others }) in types {
                let weighted = name.strip_suffix(" by importances");
                let file_type: FileType = weighted.unwrap_or(&name).parse().unwrap();
                // Every matrix of the model by its name in a GGUF file; tensors that hold several go by each of them.
                let mut chosen: BTreeMap<String, String> = BTreeMap::new();
                let mut choose = |id: TensorId, place: Place| {
                    let joined = id.joined(Container::Gguf, config.architecture).map(|(name, _)| name);
                    let name = joined.or_else(|| id.name(Container::Gguf, config.architecture)).unwrap();
                    let element = file_type
                        .stored(&config, id, place, weighted.is_some())
                        .unwrap()
                        .fitting(row)
                        .to_string();
                    assert_eq!(*chosen.entry(name.clone()).or_insert(element.clone()), element, "{name}");
                };
                for (layer, (kind, place)) in config.layers.iter().zip(&places).enumerate() {
                    for role in Role::required(&config, *kind) {
                        let is_matrix = role.shape(&config, *kind).len() > 1;
                        if is_matrix && !role.is_small() && !matches!(role, Role::MambaDecay) {
                            choose(TensorId::Layer(layer, role), *place);
                        }
                    }
                    if kind.feed_forward == FeedForward::Experts {
                        for role in Role::of_expert(config.architecture) {
                            choose(TensorId::Expert(layer, 0, *role), *place);
                        }
                    }
                }
                choose(TensorId::Embedding, Place::default());
                if !config.tied_head {
                    choose(TensorId::Head, Place::default());
                }
                let what = format!("{folder} of {} layers as {name}", config.n_layers);
                for (tensor, kind) in &others {
                    assert_eq!(chosen.get(tensor), Some(kind), "{what}: {tensor}");
                }
                let ours = chosen.values().filter(|kind| **kind == most).count();
                assert_eq!((ours, chosen.len() - ours), (same, others.len()), "{what}");
            }
        }
    }

    #[test]
    fn more_bits_go_to_both_ends_and_to_every_third_layer_between() {
        let more = (0..32).filter(|layer| gets_more_bits(*layer, 32)).collect::<Vec<_>>();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!((0..5).filter(|layer| gets_more_bits(*layer, 5)).collect::<Vec<_>>(), [2, 4]);
    }
}
