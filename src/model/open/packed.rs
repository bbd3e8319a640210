//! Packed matrices of a Hugging Face model: their pieces are gathered and held against the settings.

use std::rc::Rc;

use safetensors::Dtype;

use super::{PackedMatrix, PieceEntry, TensorEntry};
use crate::files::source::SharedSource;
use crate::format::element::Element;
use crate::format::packed::{Layout, Number, Piece, Scheme};
use crate::format::safetensors::TensorInfo;
use crate::model::Config;
use crate::model::packing::{Matcher, Method, Packing, Said};
use crate::model::tensors::{TensorId, WEIGHT, piece_ending, piece_of};
use crate::{Error, Result};

/// Pieces of all packed matrices, by the modules that they are of, in the order of the files.
pub(super) struct Pieces {
    method: Method,
    matcher: Matcher,
    modules: Vec<(String, Vec<PieceEntry>)>,
}

impl Pieces {
    pub(super) fn new(packing: &Packing) -> Self {
        Self { method: packing.method, matcher: packing.matcher(), modules: Vec::new() }
    }

    /// Takes the tensor called `name` if it is a piece of a packed matrix; returns whether it is.
    pub(super) fn take(&mut self, name: &str, shard: usize, info: &TensorInfo) -> bool {
        let is_compressed = self.method == Method::CompressedTensors;
        let is_integer = matches!(info.dtype, Dtype::I8 | Dtype::U8);
        let Some((module, piece)) = piece_of(name, is_compressed, is_integer) else { return false };
        let TensorInfo { dtype, shape, offset, bytes } = info.clone();
        let entry = PieceEntry { piece, name: name.to_owned(), dtype, shape, shard, offset, bytes };
        // Files are sorted by name, so that the pieces of a module are near each other.
        match self.modules.iter_mut().rev().find(|(known, _)| known == module) {
            Some((_, pieces)) => pieces.push(entry),
            None => self.modules.push((module.to_owned(), vec![entry])),
        }
        true
    }

    /// Makes the entries of the packed matrices. `identify` finds the tensor that has the name of the plain weights, and
    /// says whether the name is of a tensor that holds several.
    pub(super) fn entries(
        self,
        config: &Config,
        shards: &[SharedSource],
        identify: impl Fn(&str, &str) -> Result<(TensorId, bool)>,
    ) -> Result<Vec<TensorEntry>> {
        let Self { method, matcher, modules } = self;
        let mut entries = Vec::with_capacity(modules.len());
        for (module, pieces) in modules {
            let Some(first) = pieces.first() else { continue };
            let file = shards.get(first.shard).map_or("", |shard| shard.name());
            let name = format!("{module}{WEIGHT}");
            let (id, is_joined) = identify(file, &name)?;
            if is_joined || !id.can_be_packed(config.architecture) {
                return Err(Error::Unsupported(format!(
                    "{file}: tensor {}: packed weights of {} are not supported here; use a model in which this matrix is \
                     F32, F16 or BF16",
                    first.name,
                    if is_joined { "several matrices in one" } else { "such a matrix" }
                )));
            }
            let scheme = match matcher.says(&module) {
                Said::Packed(scheme) | Said::Unknown(Some(scheme)) => scheme,
                Said::Plain | Said::Unknown(None) => {
                    return Err(Error::Format(format!(
                        "{file}: tensor {} is packed, but the settings say that {module} is not; the file and the settings \
                         are of different models: download both again",
                        first.name
                    )));
                }
            };
            let shape = id.shape(config);
            entries.push(entry(id, name, shape, scheme, pieces, (file, method))?);
        }
        Ok(entries)
    }

    /// Refuses a plain matrix that the settings say is packed.
    pub(super) fn check_plain(&self, file: &str, name: &str, id: TensorId, config: &Config) -> Result<()> {
        let module = name.strip_suffix(WEIGHT).unwrap_or(name);
        if let (true, Said::Packed(scheme)) =
            (id.can_be_packed(config.architecture), self.matcher.says(module))
        {
            return Err(Error::Format(format!(
                "{file}: the settings say that {name} is packed ({} {scheme}), although it is stored plainly; the file and the \
                 settings are of different models: download both again",
                self.method.name()
            )));
        }
        Ok(())
    }
}

/// Makes the entry of the matrix `name` of the shape `shape`, whose pieces are `pieces`, after they were checked.
fn entry(
    id: TensorId,
    name: String,
    shape: Vec<u64>,
    scheme: Scheme,
    pieces: Vec<PieceEntry>,
    (file, method): (&str, Method),
) -> Result<TensorEntry> {
    let sizes: Vec<usize> = shape.iter().filter_map(|n| usize::try_from(*n).ok()).collect();
    let [rows, columns] = sizes[..] else {
        return Err(Error::Format(format!("{file}: tensor {name} is packed, but it is no matrix")));
    };
    if let Some(why) = scheme.misfit([rows, columns]) {
        return Err(Error::Shape(format!(
            "{file}: tensor {name} cannot be packed as the settings say ({} {scheme}), because {why}; the settings are of \
             another model: download both again",
            method.name()
        )));
    }
    let find = |piece: Piece| pieces.iter().find(|each| each.piece == piece);
    let module = name.strip_suffix(WEIGHT).unwrap_or(&name);
    let ending = |piece: Piece| format!("{module}{}", piece_ending(scheme.layout, piece));
    let mut found = Vec::new();
    for piece in scheme.pieces() {
        match find(*piece) {
            Some(entry) => found.push(entry.clone()),
            None if scheme.is_optional(*piece) => {}
            None => {
                return Err(Error::Format(format!(
                    "tensor {} is in none of the weight files, although {name} is packed ({} {scheme}); a shard is \
                     missing, or the settings are of another model",
                    ending(*piece),
                    method.name()
                )));
            }
        }
    }
    if let Some(other) = pieces.iter().find(|each| !scheme.pieces().contains(&each.piece)) {
        return Err(Error::Format(format!(
            "{file}: tensor {} does not belong to weights that are {} {scheme}{}; the settings are of another model, or \
             this order of columns is not supported",
            other.name,
            if scheme.symmetric { "symmetric " } else { "" },
            if scheme.layout == Layout::Rows { ", packed in rows" } else { "" }
        )));
    }
    if pieces.len() != found.len() {
        return Err(Error::Format(format!(
            "tensor {name} has a piece in more than one shard; download the model again"
        )));
    }
    let mut element = None;
    for PieceEntry { piece, name, dtype, shape, .. } in &found {
        let expected = scheme.shape(*piece, [rows, columns]);
        if *shape != expected {
            return Err(Error::Shape(format!(
                "{file}: tensor {name} has shape {shape:?}, but a matrix of {rows} by {columns} that is {} {scheme} \
                 demands {expected:?}",
                method.name()
            )));
        }
        let known = match (scheme.number(*piece), dtype) {
            (Number::Float, Dtype::F32) => Some(Element::F32),
            (Number::Float, Dtype::F16) => Some(Element::F16),
            (Number::Float, Dtype::BF16) => Some(Element::Bf16),
            (Number::I8, Dtype::I8) | (Number::I32, Dtype::I32) | (Number::I64, Dtype::I64) => None,
            // What the shape is follows from the settings.
            (Number::I64, Dtype::I32) => None,
            _ => {
                return Err(Error::Unsupported(format!(
                    "{file}: tensor {name} is of type {dtype:?}, which weights that are {} {scheme} do not have; download \
                     the model again",
                    method.name()
                )));
            }
        };
        element = element.or(known);
    }
    let codes = found.iter().find(|each| each.piece == Piece::Codes);
    let bytes = element.and_then(|element| element.bytes(shape.iter().product()));
    let (Some(element), Some(bytes), Some(codes)) = (element, bytes, codes) else {
        return Err(Error::internal("a packed matrix has no codes or no scales"));
    };
    let (shard, offset) = (codes.shard, codes.offset);
    let packed = Some(Rc::new(PackedMatrix { scheme, pieces: found }));
    Ok(TensorEntry { id, name, element, shape, shard, offset, bytes, turns: None, packed })
}
