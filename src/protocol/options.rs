//! Options that a user can choose, with their defaults, as JSON and the command line carry them.

use serde::{Deserialize, Serialize};

use super::text::{Draw, PointRule};
use crate::demo;
use crate::format::Container;
use crate::format::element::Element;
use crate::format::packed::{Codes, PackedType};
use crate::maths::manifold::Normalise;
use crate::maths::similarity::Metric;
use crate::model::Model;
use crate::model::fingerprint::Fnv;
use crate::model::open::TensorEntry;
use crate::model::tensors::TensorId;
use crate::model::weights::file_type::{FileType, Place};
use crate::model::weights::storage::{Requantise, Rounding, Storage};
use crate::plan::METHODS;
use crate::{Error, Result};

/// Options of the similarity stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct CalibrationOptions {
    /// Calibration text; `None` is the built-in text. Recipes leave the text out.
    #[serde(skip_serializing)]
    pub text: Option<String>,
    /// Name of the text in reports.
    pub text_name: Option<String>,
    /// Number of sequences.
    pub samples: usize,
    /// Number of tokens in each sequence, BOS included.
    pub tokens: usize,
    /// Which parts of the text become sequences.
    #[serde(with = "as_text")]
    #[cfg_attr(test, ts(as = "Draw"))]
    pub draw: Draw,
    /// Which hidden states of a sequence are points.
    #[serde(with = "as_text")]
    #[cfg_attr(test, ts(as = "PointRule"))]
    pub points: PointRule,
    /// Metric of the similarity of two layers.
    #[serde(with = "as_text")]
    #[cfg_attr(test, ts(as = "Metric"))]
    pub metric: Metric,
    /// Number of dimensions of the diffusion map.
    pub dims: usize,
    /// Diffusion time.
    pub time: f64,
    /// Density exponent of the diffusion map.
    pub density: f64,
    /// Whether points are divided by their root mean square.
    #[serde(with = "as_text")]
    #[cfg_attr(test, ts(as = "Normalise"))]
    pub normalise: Normalise,
    /// Fixed kernel bandwidth; `None` means the median of the squared distances between the points of each
    /// layer.
    pub bandwidth: Option<f64>,
    /// Number of neighbours of the mutual-information estimator.
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
    /// Returns the options of the calibration text and of its sequences.
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

/// Built-in text that is used where no text is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum BuiltIn {
    /// Text that models are calibrated on.
    Calibration,
    /// Text that models are judged on.
    #[default]
    Evaluation,
}

/// Options of a text to measure on, and of its sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// Text; `None` is the built-in text `builtin`. The text is not serialised.
    #[serde(skip_serializing)]
    pub text: Option<String>,
    /// Name of the text in reports.
    pub text_name: Option<String>,
    /// Number of sequences.
    pub samples: usize,
    /// Number of tokens in each sequence, BOS included.
    pub tokens: usize,
    /// Which parts of the text become sequences.
    #[serde(with = "as_text")]
    #[cfg_attr(test, ts(as = "Option<Draw>", optional))]
    pub draw: Draw,
    /// Built-in text that is used where `text` is `None`.
    #[cfg_attr(test, ts(as = "Option<BuiltIn>", optional))]
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
    /// Returns the text and its name in reports. A byte-order mark that begins a file is no part of its text.
    pub fn text_and_name(&self) -> (&str, &str) {
        let name = self.text_name.as_deref();
        match (&self.text, self.builtin) {
            (Some(text), _) => (text.strip_prefix('\u{feff}').unwrap_or(text), name.unwrap_or("your text")),
            (None, BuiltIn::Calibration) => (demo::TEXT, name.unwrap_or(demo::TEXT_NAME)),
            (None, BuiltIn::Evaluation) => (demo::EVALUATION, name.unwrap_or(demo::EVALUATION_NAME)),
        }
    }

    /// Returns a hash of the text, as 16 hexadecimal digits, by which a recipe knows the text again.
    pub fn hash(&self) -> String {
        let mut hash = Fnv::default();
        hash.text(self.text_and_name().0);
        format!("{:016x}", hash.value())
    }
}

/// Options of a comparison of methods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct CompareOptions {
    /// Names of the methods.
    pub methods: Vec<String>,
    /// Numbers of layers to remove; every method is measured at every number.
    pub remove: Vec<usize>,
    /// Evaluation text, on which the compressed models are measured.
    pub evaluation: TextOptions,
    /// Seed of random choices.
    pub seed: u64,
    /// How the compressed models would be stored.
    #[cfg_attr(test, ts(type = "Partial<WriteOptions>", optional))]
    pub output: WriteOptions,
    /// File types in which every model is measured, and the original besides; if none are listed, only the type of
    /// `output`. Quantised types stand for GGUF files, whatever `output` says.
    #[serde(with = "dtypes")]
    #[cfg_attr(test, ts(as = "Option<Vec<super::typescript::NumberType>>", optional))]
    pub dtypes: Vec<Option<FileType>>,
    /// Sizes in bytes for each of which the best model is named. If none are listed, the sizes of the original in `dtypes`
    /// serve.
    #[cfg_attr(test, ts(as = "Option<Vec<u64>>", optional))]
    pub sizes: Vec<u64>,
}

impl CompareOptions {
    /// Returns how the models of `model` would be stored, once for each file type.
    pub fn outputs(&self, model: &Model) -> Vec<WriteOptions> {
        if self.dtypes.is_empty() {
            return vec![self.output.clone()];
        }
        let stored = |dtype: &Option<FileType>| {
            let is_quantised = dtype.is_some_and(|each| matches!(each.element(), Element::Block(_)));
            let container = match is_quantised {
                true => Some(Container::Gguf),
                false => self.output.container.or(Some(model.container())),
            };
            WriteOptions { dtype: *dtype, container, ..self.output.clone() }
        };
        self.dtypes.iter().map(stored).collect()
    }
}

impl Default for CompareOptions {
    /// Every named method, removing two layers.
    fn default() -> Self {
        Self {
            methods: METHODS.iter().map(|method| method.name.to_string()).collect(),
            remove: vec![2],
            evaluation: TextOptions::default(),
            seed: 0,
            output: WriteOptions::default(),
            dtypes: Vec::new(),
            sizes: Vec::new(),
        }
    }
}

/// Options of multiple-choice questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionOptions {
    /// Names of the subjects; an empty list means all subjects.
    pub subjects: Vec<String>,
    /// Number of solved examples before each question.
    pub few_shot: usize,
    /// Number of questions of each subject, from the first on; `None` is all.
    pub questions_per_subject: Option<usize>,
    /// Whether the texts of the answers are scored besides the letters, which takes four times as long.
    pub full_answers: bool,
}

impl Default for QuestionOptions {
    fn default() -> Self {
        Self { subjects: Vec::new(), few_shot: 5, questions_per_subject: None, full_answers: false }
    }
}

/// Options by which a compressed model is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// File type; without one, each tensor keeps its type.
    #[serde(with = "dtype")]
    #[cfg_attr(test, ts(as = "super::typescript::NumberType"))]
    pub dtype: Option<FileType>,
    /// Which tensors are stored in the file type.
    #[cfg_attr(test, ts(as = "Option<Requantise>", optional))]
    pub requantise: Requantise,
    /// Type in which the projections of a Hugging Face folder are packed, as compressed-tensors packs them; all else keeps
    /// its type. `None` packs nothing anew. Not beside [`dtype`](Self::dtype).
    #[serde(with = "pack", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(as = "Option<PackedType>", optional))]
    pub pack: Option<PackedType>,
    /// How weights are rounded to the grids of [`pack`](Self::pack), where `None` is what
    /// [`usual_rounding`](Self::usual_rounding) says, or to the nearest without a calibration text; or to those of the blocks of
    /// [`dtype`](Self::dtype), where `None` is to the nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub rounding: Option<Rounding>,
    /// Most bytes of tensor data in a shard.
    pub max_shard_bytes: u64,
    /// Kind of file; `None` is that of the original.
    pub container: Option<Container>,
    /// Name of a GGUF file without its ending; `None` derives the name from the model's.
    #[cfg_attr(test, ts(optional = nullable))]
    pub name: Option<String>,
    /// Whether quantised tensors that are not copied are encoded by the importances of their columns, where these are known
    /// or can be collected on the calibration text.
    #[cfg_attr(test, ts(as = "Option<bool>", optional))]
    pub importances: bool,
}

impl WriteOptions {
    /// Returns the container and element type in which the tensors of `model` will be stored.
    pub fn storage(&self, model: &Model) -> Storage {
        let rounding = self.rounding();
        let widths = packable(model).map(|(_, [_, columns])| columns);
        let pack = self.pack.map(|pack| pack.scheme(widths, rounding != Rounding::Awq));
        Storage {
            container: self.container.unwrap_or(model.container()),
            dtype: self.dtype,
            requantise: self.requantise,
            weighted: self.importances,
            pack,
            rounding,
        }
    }

    /// Returns how weights are rounded where nothing is chosen: as measures best with a calibration text (docs/RESULTS.md,
    /// "Rounding by inputs"). In the layout of GPTQ that is GPTQ, whose symmetric grids all its programs read.
    pub fn usual_rounding(pack: PackedType) -> Rounding {
        match pack.codes {
            Codes::Int4 => Rounding::Awq,
            Codes::GptqInt4 => Rounding::Gptq,
            Codes::Int8 => Rounding::SmoothQuant,
        }
    }

    fn rounding(&self) -> Rounding {
        let usual = self.pack.map_or(Rounding::Nearest, Self::usual_rounding);
        self.rounding.unwrap_or(usual)
    }

    /// Returns the file type of the whole model; `None` if at least the copied tensors keep their types.
    pub fn whole_type(&self) -> Option<FileType> {
        self.dtype.filter(|_| self.requantise == Requantise::All)
    }

    /// Checks that the files of `model` can hold the element type, and that matrices are rounded where that is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] for a quantised type in a file of the other kind, for one that does not fit a tensor, which is
    /// named, and for a way of rounding that is not for the type.
    pub fn check(&self, model: &Model) -> Result<()> {
        if let Some(pack) = self.pack {
            return self.check_packed(model, pack);
        }
        if self.requantise == Requantise::Computed && self.dtype.is_some() && model.config.packing.is_some() {
            return Err(Error::Usage(
                "the matrices of the model are packed, and all of them are unpacked where a type is asked for: leave out \
                 the choice of what to requantise, or the type"
                    .to_owned(),
            ));
        }
        let Some(name) = self.dtype.filter(|dtype| matches!(dtype.element(), Element::Block(_))) else {
            return match self.rounding {
                None => Ok(()),
                Some(rounding) => Err(Error::Usage(format!(
                    "rounding {rounding} is of matrices that are stored in fewer bits, and none are: choose the type int4 or \
                     int8 for a directory, or q4_k or another type of GGUF files, or leave the rounding out"
                ))),
            };
        };
        if self.storage(model).container == Container::Safetensors {
            return Err(Error::Usage(format!(
                "{name} is for GGUF files, and the result would be a Hugging Face folder: give a .gguf file, or \
                 choose f16, bf16 or f32"
            )));
        }
        match self.rounding {
            Some(rounding @ (Rounding::Awq | Rounding::SmoothQuant)) => Err(Error::Usage(format!(
                "rounding {rounding} is not for {name}; choose {} or {}, or leave the rounding out",
                Rounding::Nearest,
                Rounding::Gptq
            ))),
            _ => self.check_rounded(model, true),
        }
    }

    /// Checks that blocks of `model` would be rounded if they are to be, in a plan that computes layers if it `computes`.
    ///
    /// # Errors
    /// [`Error::Usage`] if none would be.
    pub fn check_rounded(&self, model: &Model, computes: bool) -> Result<()> {
        let storage = self.storage(model);
        if !storage.rounds_blocks() {
            return Ok(());
        }
        let places = match storage.goes_by_place() {
            true => Place::of_all(&model.config, &model.config.layers),
            false => vec![Place::default()],
        };
        let is_encoded = |entry: &TensorEntry| {
            places.iter().any(|place| {
                let of = |computed| storage.element(model, entry.id, entry.element, computed, *place);
                let is_block = |element| matches!(element, Element::Block(_));
                is_block(of(false)) && of(false) != entry.element || computes && is_block(of(true))
            })
        };
        let is_rounded = |entry: &TensorEntry| {
            matches!(entry.id, TensorId::Layer(_, role) if role.is_projection()) && is_encoded(entry)
        };
        match model.tensors().iter().any(is_rounded) {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "rounding {} would round nothing: no projection of attention or of an MLP is encoded anew; choose another \
                 type, or leave the rounding out",
                storage.rounding
            ))),
        }
    }

    fn check_packed(&self, model: &Model, pack: PackedType) -> Result<()> {
        let Storage { container, pack: scheme, .. } = self.storage(model);
        if let Some(dtype) = self.dtype {
            return Err(Error::Usage(format!("{pack} and {dtype} are two types; choose one of them")));
        }
        if container == Container::Gguf {
            return Err(Error::Usage(format!(
                "{pack} is for Hugging Face folders, and the result would be a GGUF file: name a folder, or choose q4_k or \
                 another type of GGUF files"
            )));
        }
        let architecture = model.config.hugging_face_architecture();
        let is_joined = |entry: &TensorEntry| entry.id.joined(Container::Safetensors, architecture).is_some();
        if let Some((entry, _)) = packable(model).find(|(entry, _)| is_joined(entry)) {
            return Err(Error::Usage(format!(
                "{pack} is not for this architecture, whose folders hold several matrices in one tensor, such as {}; \
                 choose f16 or bf16",
                model.describe(entry.id)
            )));
        }
        let fits = match pack.codes {
            Codes::Int4 | Codes::GptqInt4 => [Rounding::Gptq, Rounding::Awq].as_slice(),
            Codes::Int8 => &[Rounding::SmoothQuant],
        };
        if let Some(rounding) =
            self.rounding.filter(|each| *each != Rounding::Nearest && !fits.contains(each))
        {
            let fits: Vec<&str> = fits.iter().map(|each| each.name()).collect();
            return Err(Error::Usage(format!(
                "rounding {rounding} is not for {pack}; choose {} or {}, or leave the rounding out",
                Rounding::Nearest,
                fits.join(" or ")
            )));
        }
        let misfit = |(entry, shape)| Some((entry, scheme?.misfit(shape)?));
        if let Some((entry, why)) = packable(model).find_map(misfit) {
            return Err(Error::Usage(format!(
                "tensor {} cannot be stored as {pack}, because {why}; choose {}f16 or bf16",
                entry.name,
                if pack.group.is_some() { "another group, " } else { "" }
            )));
        }
        match packable(model).next() {
            None => Err(Error::Usage(format!(
                "{pack} packs projections that are tensors of their own, of which this architecture has none; choose f16 or \
                 bf16"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Returns the name of a GGUF file without its ending: the chosen name, or the name of `model` with
    /// `-laminated` at its end. Characters other than letters, digits, `-`, `_` and `.` become `-`.
    pub fn stem(&self, model: &Model) -> String {
        let name = self.name.as_deref().unwrap_or(&model.name);
        let name = match name.rsplit_once('.') {
            Some((stem, ending)) if ending.eq_ignore_ascii_case("gguf") => stem,
            _ => name,
        };
        let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = name.chars().map(safe).collect();
        if self.name.is_some() { name } else { format!("{name}-laminated") }
    }
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            dtype: None,
            requantise: Requantise::All,
            pack: None,
            rounding: None,
            max_shard_bytes: 5_000_000_000,
            container: None,
            name: None,
            importances: true,
        }
    }
}

/// Returns the matrices of `model` that can be packed, each with its shape.
fn packable(model: &Model) -> impl Iterator<Item = (&TensorEntry, [usize; 2])> + Clone {
    let architecture = model.config.hugging_face_architecture();
    model.tensors().iter().filter(|entry| entry.id.can_be_packed(architecture)).filter_map(|entry| {
        let sizes: Vec<usize> = entry.shape.iter().map(|n| *n as usize).collect();
        Some((entry, <[usize; 2]>::try_from(sizes).ok()?))
    })
}

/// Serialises a type of packed matrices as its name.
mod pack {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::format::packed::PackedType;

    pub fn serialize<S: Serializer>(x: &Option<PackedType>, s: S) -> Result<S::Ok, S::Error> {
        match x {
            None => s.serialize_none(),
            Some(pack) => s.collect_str(pack),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PackedType>, D::Error> {
        let name = Option::<String>::deserialize(d)?;
        name.map(|name| name.parse()).transpose().map_err(serde::de::Error::custom)
    }
}

/// Serialises a value as the word that the command line takes.
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

/// Serialises file types as their names, and `None` as `keep`.
mod dtypes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::weights::file_type::FileType;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Named(#[serde(with = "super::dtype")] Option<FileType>);

    pub fn serialize<S: Serializer>(all: &[Option<FileType>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().map(|each| Named(*each)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Option<FileType>>, D::Error> {
        Ok(Vec::<Named>::deserialize(d)?.into_iter().map(|Named(each)| each).collect())
    }
}

/// Serialises a file type as its name, and `None` as `keep`.
pub(super) mod dtype {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::weights::file_type::FileType;

    pub fn serialize<S: Serializer>(x: &Option<FileType>, s: S) -> Result<S::Ok, S::Error> {
        match x {
            None => s.serialize_str("keep"),
            Some(file_type) => s.collect_str(file_type),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<FileType>, D::Error> {
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
        assert_eq!(write.dtype, Some(FileType::of(Element::Bf16)));
        assert!(serde_json::from_str::<WriteOptions>(r#"{"dtyp":"bf16"}"#).is_err());
    }
}
