//! What a user can choose, with the defaults, as JSON and as command-line options carry it.

use serde::{Deserialize, Serialize};

use super::text::{Draw, PointRule};
use crate::demo;
use crate::format::Container;
use crate::format::element::Element;
use crate::maths::manifold::Normalise;
use crate::maths::similarity::Metric;
use crate::model::Model;
use crate::model::weights::storage::Storage;
use crate::plan::METHODS;

/// Options of the similarity stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalibrationOptions {
    /// The text itself; `None` is the built-in text. Left out of recipes.
    #[serde(skip_serializing)]
    pub text: Option<String>,
    /// What to call the text in reports.
    pub text_name: Option<String>,
    /// Number of sequences.
    pub samples: usize,
    /// Tokens in each, BOS included.
    pub tokens: usize,
    /// Which parts of the text they are.
    #[serde(with = "as_text")]
    pub draw: Draw,
    /// Which hidden states are points.
    #[serde(with = "as_text")]
    pub points: PointRule,
    /// What the similarity of two layers is.
    #[serde(with = "as_text")]
    pub metric: Metric,
    /// Dimensions of the diffusion map.
    pub dims: usize,
    /// Diffusion time.
    pub time: f64,
    /// Density exponent.
    pub density: f64,
    /// Whether points are divided by their root mean square.
    #[serde(with = "as_text")]
    pub normalise: Normalise,
    /// Fixed kernel bandwidth; `None` is the median rule.
    pub bandwidth: Option<f64>,
    /// Neighbours of the mutual-information estimator.
    pub neighbours: usize,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        Self {
            text: None,
            text_name: None,
            samples: 128,
            tokens: 48,
            draw: Draw::First,
            points: PointRule::Last,
            metric: Metric::MutualInformation,
            dims: 2,
            time: 1.0,
            density: 0.0,
            normalise: Normalise::Rms,
            bandwidth: None,
            neighbours: 5,
        }
    }
}

impl CalibrationOptions {
    /// The text and how it is cut.
    pub fn text_options(&self) -> TextOptions {
        TextOptions {
            text: self.text.clone(),
            text_name: self.text_name.clone(),
            samples: self.samples,
            tokens: self.tokens,
            draw: self.draw,
            builtin: BuiltIn::Calibration,
        }
    }
}

/// Which built-in text stands in where none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltIn {
    /// That which models are calibrated on.
    Calibration,
    /// That which they are judged on.
    #[default]
    Evaluation,
}

/// A text to measure on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// The text itself; `None` is a built-in text.
    #[serde(skip_serializing)]
    pub text: Option<String>,
    /// What to call the text in reports.
    pub text_name: Option<String>,
    /// Number of sequences.
    pub samples: usize,
    /// Tokens in each, BOS included.
    pub tokens: usize,
    /// Which parts of the text they are.
    #[serde(with = "as_text")]
    pub draw: Draw,
    /// What stands in where no text is given.
    pub builtin: BuiltIn,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            text: None,
            text_name: None,
            samples: 64,
            tokens: 48,
            draw: Draw::First,
            builtin: BuiltIn::Evaluation,
        }
    }
}

impl TextOptions {
    /// The text, and what to call it.
    pub fn text_and_name(&self) -> (&str, &str) {
        let name = self.text_name.as_deref();
        match (&self.text, self.builtin) {
            (Some(text), _) => (text, name.unwrap_or("your text")),
            (None, BuiltIn::Calibration) => (demo::TEXT, name.unwrap_or(demo::TEXT_NAME)),
            (None, BuiltIn::Evaluation) => (demo::EVALUATION, name.unwrap_or(demo::EVALUATION_NAME)),
        }
    }
}

/// Which methods are compared, how far, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompareOptions {
    /// Names of methods.
    pub methods: Vec<String>,
    /// Numbers of layers to remove.
    pub remove: Vec<usize>,
    /// What the models are measured on.
    pub evaluation: TextOptions,
    /// What random choices are drawn from.
    pub seed: u64,
    /// How the models would be stored.
    pub output: WriteOptions,
}

impl Default for CompareOptions {
    /// Every method that has a name, at two layers.
    fn default() -> Self {
        Self {
            methods: METHODS.iter().map(|method| method.name.to_string()).collect(),
            remove: vec![2],
            evaluation: TextOptions::default(),
            seed: 0,
            output: WriteOptions::default(),
        }
    }
}

/// Which multiple-choice questions are asked, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionOptions {
    /// Subjects by name; none means all that there are.
    pub subjects: Vec<String>,
    /// Solved examples before each question.
    pub few_shot: usize,
    /// The first so many questions of each subject; `None` is all.
    pub questions_per_subject: Option<usize>,
    /// Whether the texts of the answers are scored besides the letters, which takes four times as long.
    pub full_answers: bool,
}

impl Default for QuestionOptions {
    fn default() -> Self {
        Self { subjects: Vec::new(), few_shot: 5, questions_per_subject: None, full_answers: false }
    }
}

/// How the result is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// Element type of all tensors; `None` keeps each tensor's own.
    #[serde(with = "dtype")]
    pub dtype: Option<Element>,
    /// Data bytes of a shard at most.
    pub max_shard_bytes: u64,
    /// Kind of file; `None` is the source's.
    pub container: Option<Container>,
    /// Name of a GGUF file without its ending; `None` is made of the model's.
    pub name: Option<String>,
}

impl WriteOptions {
    /// How the tensors of `model` will be stored.
    pub fn storage(&self, model: &Model) -> Storage {
        Storage { container: self.container.unwrap_or(model.container()), dtype: self.dtype }
    }

    /// The name of a GGUF file without its ending.
    pub fn stem(&self, model: &Model) -> String {
        let name = self.name.as_deref().unwrap_or(&model.name);
        let name = name.strip_suffix(".gguf").unwrap_or(name);
        let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = name.chars().map(safe).collect();
        if self.name.is_some() { name } else { format!("{name}-laminated") }
    }
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { dtype: None, max_shard_bytes: 5_000_000_000, container: None, name: None }
    }
}

/// Values that are words on the command line are the same words in JSON.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Display, S: Serializer>(x: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(x)
    }

    pub fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `keep` or an element type.
mod dtype {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::format::element::Element;

    pub fn serialize<S: Serializer>(x: &Option<Element>, s: S) -> Result<S::Ok, S::Error> {
        match x {
            None => s.serialize_str("keep"),
            Some(element) => s.serialize_str(&element.to_string().to_lowercase()),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Element>, D::Error> {
        let name = String::deserialize(d)?;
        match name.as_str() {
            "keep" => Ok(None),
            _ => name.parse().map(Some).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json_and_defaults_fill_gaps() {
        let options: CalibrationOptions = serde_json::from_str(r#"{"points":"tokens:3","dims":4}"#).unwrap();
        assert_eq!(options.points, PointRule::Tokens(3));
        assert_eq!(options.samples, 128);
        let again: CalibrationOptions =
            serde_json::from_str(&serde_json::to_string(&options).unwrap()).unwrap();
        assert_eq!(again, options);
        let write: WriteOptions = serde_json::from_str(r#"{"dtype":"bf16"}"#).unwrap();
        assert_eq!(write.dtype, Some(Element::Bf16));
        assert!(serde_json::from_str::<WriteOptions>(r#"{"dtyp":"bf16"}"#).is_err());
    }
}
