//! A type for each part of a model, chosen one by one.

use std::fmt;
use std::str::FromStr;

use super::file_type::{Place, has_head};
use crate::format::Container;
use crate::format::blocks::BlockType;
use crate::model::Config;
use crate::model::tensors::{Role, TensorId};
use crate::named::named;
use crate::{Error, Result};

/// What the name of types by part begins with.
pub const PREFIX: &str = "parts:";

/// Word for a type that stays.
const KEEP: &str = "keep";

/// Numbers of parts of equal depth that the layers are divided in.
pub const DEPTHS: usize = 3;

named! {
    /// Part of a model whose matrices have one type, but for their depth.
    Part, "part of a model" {
        /// Token embeddings that are not the output head, and embeddings of the inputs of layers.
        Embedding = "embedding",
        /// Output head, or the embeddings where they are the output head, too.
        Head = "head",
        /// Queries and keys, tensors that hold queries, keys and values, and what other mixers read the stream by.
        #[default]
        Query = "query",
        /// Values.
        Value = "value",
        /// Output projections of attention and of other mixers.
        Output = "output",
        /// Gate and up projections of MLPs and experts.
        Up = "up",
        /// Down projections of MLPs and experts.
        Down = "down",
    }
}

impl Part {
    /// Returns the part of a model with the configuration `config` that the matrix `id` belongs to.
    pub fn of(config: &Config, id: TensorId) -> Self {
        // A tensor that holds several has one type.
        let joined = id.joined(Container::Gguf, config.architecture);
        let id = joined.and_then(|(_, whole)| whole.ids(config).first().copied()).unwrap_or(id);
        match id {
            TensorId::Embedding if !has_head(config) => Self::Head,
            TensorId::Head => Self::Head,
            TensorId::Layer(_, role) | TensorId::Expert(_, _, role) => match role {
                Role::Value => Self::Value,
                Role::Down | Role::SharedDown | Role::InputOutput => Self::Down,
                Role::Gate | Role::Up | Role::SharedGate | Role::SharedUp | Role::InputGate => Self::Up,
                role if role.writes() => Self::Output,
                _ => Self::Query,
            },
            _ => Self::Embedding,
        }
    }

    /// Whether the part lies in the layers, so that its types may differ by depth.
    pub fn is_of_layers(self) -> bool {
        !matches!(self, Self::Embedding | Self::Head)
    }
}

/// Part of a model, at a depth: matrices that have one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// Part of the model.
    pub part: Part,
    /// Third of the layers, from 0; 0 for a part outside the layers.
    pub depth: usize,
}

impl Group {
    /// Returns all groups.
    pub fn all() -> impl Iterator<Item = Self> {
        let depths = |part: &Part| if part.is_of_layers() { DEPTHS } else { 1 };
        Part::ALL.iter().flat_map(move |part| (0..depths(part)).map(|depth| Self { part: *part, depth }))
    }

    /// Returns the group of the matrix `id` of a model with the configuration `config`, whose layer is at `place`.
    pub fn of(config: &Config, id: TensorId, place: Place) -> Self {
        let part = Part::of(config, id);
        let depth = if part.is_of_layers() { place.part_of(DEPTHS) } else { 0 };
        Self { part, depth }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part.is_of_layers() {
            true => write!(f, "{} {}/{DEPTHS}", self.part, self.depth + 1),
            false => write!(f, "{}", self.part),
        }
    }
}

/// A quantised type, or none, for each [`Group`] of a model; a group without a type keeps what it has.
///
/// The name lists the parts that have a type, each with its types in the first, the second and the last third of
/// the layers, or with one type for all of them.
///
/// ```
/// use laminate::FileType;
///
/// let types: FileType = "parts:head=q6_k+value=q6_k/q5_k/q6_k+up=q4_k+down=q4_k/keep/keep".parse()?;
/// assert_eq!(types.to_string(), "parts:head=q6_k+value=q6_k/q5_k/q6_k+up=q4_k+down=q4_k/keep/keep");
/// assert!("parts:up=q4_k_m".parse::<FileType>().is_err());
/// # Ok::<(), laminate::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PartTypes([[Option<BlockType>; DEPTHS]; Part::ALL.len()]);

impl PartTypes {
    /// Returns the type of `group`; `None` if the group keeps its types.
    pub fn get(&self, group: Group) -> Option<BlockType> {
        let Group { part, depth } = group;
        self.row(part)?.get(depth).copied().flatten()
    }

    /// Sets the type of `group`; `None` lets the group keep its types.
    #[must_use]
    pub fn with(mut self, group: Group, kind: Option<BlockType>) -> Self {
        let place = Part::ALL.iter().position(|part| *part == group.part);
        let slot = place.and_then(|place| self.0.get_mut(place)?.get_mut(group.depth));
        if let Some(slot) = slot {
            *slot = kind;
        }
        self
    }

    /// Returns the type of the matrix `id` of a model with the configuration `config`, whose layer is at `place`.
    pub fn of(&self, config: &Config, id: TensorId, place: Place) -> Option<BlockType> {
        self.get(Group::of(config, id, place))
    }

    /// Whether the type of a matrix depends on the place of its layer.
    pub fn goes_by_place(&self) -> bool {
        let of_layers = Part::ALL.iter().filter(|part| part.is_of_layers());
        of_layers
            .filter_map(|part| self.row(*part))
            .any(|row| row.windows(2).any(|pair| pair[..1] != pair[1..]))
    }

    /// Returns the type of most groups that have one; `None` if none has. Of types that are as common, the first group's.
    pub fn commonest(&self) -> Option<BlockType> {
        let kinds: Vec<BlockType> = Group::all().filter_map(|group| self.get(group)).collect();
        let count = |kind: &BlockType| kinds.iter().filter(|each| *each == kind).count();
        kinds.iter().rev().max_by_key(|kind| count(kind)).copied()
    }

    fn row(&self, part: Part) -> Option<&[Option<BlockType>; DEPTHS]> {
        self.0.get(Part::ALL.iter().position(|each| *each == part)?)
    }
}

fn word(kind: Option<BlockType>) -> String {
    kind.map_or_else(|| KEEP.to_owned(), |kind| kind.name().to_lowercase())
}

impl fmt::Display for PartTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        let mut plus = "";
        for part in Part::ALL {
            let Some(row) = self.row(*part) else { continue };
            if row.iter().all(Option::is_none) {
                continue;
            }
            let mut words: Vec<String> = row.iter().map(|kind| word(*kind)).collect();
            if !part.is_of_layers() || words.iter().all(|word| Some(word) == words.first()) {
                words.truncate(1);
            }
            write!(f, "{plus}{part}={}", words.join("/"))?;
            plus = "+";
        }
        Ok(())
    }
}

impl FromStr for PartTypes {
    type Err = Error;

    /// Parses the name of types by part, ignoring case.
    ///
    /// # Errors
    /// [`Error::Usage`] for a part that is not known or named twice, and for a number of types that is neither 1 nor
    /// [`DEPTHS`]; [`Error::Unsupported`] for a type that is not known.
    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_lowercase();
        let list = lower.strip_prefix(PREFIX).unwrap_or(&lower);
        let mut types = Self::default();
        let mut named = Vec::new();
        for entry in list.split('+').map(str::trim).filter(|entry| !entry.is_empty()) {
            let usage =
                |why: &str| Error::Usage(format!("{entry} in {name} does not say the type of a part: {why}"));
            let (part, kinds) = entry
                .split_once('=')
                .ok_or_else(|| usage("say which part has which type, such as up=q4_k"))?;
            let part: Part = part.trim().parse()?;
            if named.contains(&part) {
                return Err(usage("the part is named twice"));
            }
            named.push(part);
            let kind = |word: &str| -> Result<Option<BlockType>> {
                if word == KEEP { Ok(None) } else { word.parse().map(Some) }
            };
            let kinds = kinds.split('/').map(|word| kind(word.trim())).collect::<Result<Vec<_>>>()?;
            let depths = if part.is_of_layers() { DEPTHS } else { 1 };
            for depth in 0..depths {
                let kind = match kinds[..] {
                    [kind] => kind,
                    _ if kinds.len() == depths => kinds.get(depth).copied().flatten(),
                    _ => return Err(usage("give one type, or one for each third of the layers")),
                };
                types = types.with(Group { part, depth }, kind);
            }
        }
        Ok(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let names = [
            "parts:head=q6_k",
            "parts:embedding=q8_0+query=q4_0+value=q5_k/q4_k/q5_k+down=keep/q3_k/keep",
            "parts:up=iq4_xs+down=iq4_nl",
        ];
        for name in names {
            let types: PartTypes = name.parse().unwrap();
            assert_eq!(types.to_string(), name);
            assert_eq!(name.to_uppercase().parse::<PartTypes>().unwrap(), types);
        }
        let refused = [
            "parts:up",
            "parts:up=",
            "parts:up=q4_k+up=q5_k",
            "parts:up=q4_k/q4_k",
            "parts:norm=q4_k",
            "parts:head=q4_k/q4_k/q4_k",
        ];
        for name in refused {
            assert!(name.parse::<PartTypes>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_type_of_most_groups_names_the_file() {
        let types: PartTypes = "parts:head=q6_k+value=q5_k/q4_k/q5_k+up=q4_k".parse().unwrap();
        assert_eq!(types.commonest(), Some(BlockType::Q4K));
        assert!(types.goes_by_place());
        assert_eq!(PartTypes::default().commonest(), None);
        let same: PartTypes = "parts:head=q6_k+up=q4_k".parse().unwrap();
        assert!(!same.goes_by_place());
    }
}
