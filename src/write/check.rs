//! What writing can refuse, asked before the first long stage.

use std::borrow::Cow;

use super::{gguf, jobs::jobs};
use crate::format::Container;
use crate::format::packed::Layout;
use crate::model::architectures::Windows;
use crate::model::config::hugging_face::CONFIG_NAME;
use crate::model::rope::{RopeScaling, Yarn};
use crate::model::tokenizer::gguf::CHAT_TEMPLATE_KEY;
use crate::model::weights::new_layer::NewLayer;
use crate::model::weights::storage::{Rounding, Storage};
use crate::model::{Config, Model};
use crate::plan::periodic;
use crate::protocol::options::WriteOptions;
use crate::{Error, Result};

/// Checks that files stored as `options` say can hold `model`: its element types, settings and tokenizer.
/// Returns what the files will not hold, in sentences.
///
/// # Errors
/// - [`Error::Unsupported`] if the settings or the tokenizer of the model cannot be expressed in the files;
/// - [`Error::Shape`] if the values of a tensor are not a whole number of quantisation blocks;
/// - [`Error::Format`] and [`Error::Source`] for a small file that is damaged or cannot be read;
/// - those of [`WriteOptions::check`].
pub async fn check_output(model: &Model, options: &WriteOptions) -> Result<Vec<String>> {
    options.check(model)?;
    let storage = options.storage(model);
    let groups: Vec<Vec<usize>> = (0..model.config.n_layers).map(|layer| vec![layer]).collect();
    let mut notes = Vec::new();
    match storage.container {
        Container::Safetensors => {
            check_groups(model, options, &groups)?;
            model.tokenizer.new_files(&model.config)?;
            notes.extend(note_on_packing(model, storage));
        }
        Container::Gguf => {
            let metadata = gguf::metadata(model, &model.config, &groups, options, Vec::new()).await?;
            if model.container() == Container::Safetensors && metadata.get(CHAT_TEMPLATE_KEY).is_none() {
                notes.push("The model has no chat template, so the GGUF file has none.".to_owned());
            }
            if !model.carried.is_empty() {
                notes.push(
                    "The GGUF file holds the decoder only. A second file that llama.cpp made of the other parts (mmproj) \
                     fits the compressed decoder as it fits the original, because the stream stays as wide as it was."
                        .to_owned(),
                );
            }
            if let RopeScaling::Yarn(Yarn { rounds: false, .. }) = model.config.rope()?.scaling {
                notes.push(
                    "llama.cpp rounds where the YaRN scaling of the rotary frequencies begins and ends, and from a GGUF \
                     file computes something slightly else than was measured here. A Hugging Face folder keeps the \
                     scaling."
                        .to_owned(),
                );
            }
            if let (Some(window), Windows::Never | Windows::All(_)) =
                (model.config.window(), model.config.architecture.windows)
            {
                notes.push(format!(
                    "llama.cpp and transformers read a GGUF file of this architecture without its sliding window: \
                     beyond {window} tokens they compute something else than was measured here. A Hugging Face \
                     folder keeps the window."
                ));
            }
        }
    }
    jobs(model, &NewLayer::originals(model), storage)?;
    if periodic_parts(model, options).is_empty() {
        layers_apart(model, options, false)?;
    }
    Ok(notes)
}

/// Makes a note on the matrices that are packed in files stored as `storage` says, if any are.
fn note_on_packing(model: &Model, storage: Storage) -> Option<String> {
    if let Some(scheme) = storage.pack {
        let (layout, besides) = match scheme.layout {
            Layout::Bytes => (
                "compressed-tensors, int-quantized",
                " What they multiply is rounded to 8 bits too, each token by itself (W8A8), by programs that run such \
                 files so, such as vLLM, and where the model is measured here.",
            ),
            Layout::Gptq { .. } => ("GPTQ", ""),
            _ => ("compressed-tensors, pack-quantized", ""),
        };
        let rounding = match storage.rounding {
            Rounding::Nearest => "each weight rounded to the nearest",
            Rounding::Gptq => "rounded by GPTQ on the calibration text",
            Rounding::Awq => "rounded by AWQ on the calibration text",
            Rounding::SmoothQuant => {
                "each weight rounded to the nearest after SmoothQuant on the calibration text"
            }
        };
        return Some(format!(
            "The projections are stored as {scheme} that share a scale ({layout}), {rounding}; all else keeps its \
             type.{besides}"
        ));
    }
    let packing = storage.packing(&model.config)?;
    Some(format!(
        "Packed matrices ({}) stay packed: those that are copied keep their bytes, and each weight of those that are \
         computed is rounded to the nearest in the same layout. Another --dtype, such as bf16, unpacks all.",
        packing.method.name()
    ))
}

/// Checks that the settings of `model` can say that each of `groups` became one layer.
///
/// # Errors
/// [`Error::Unsupported`], naming the list, if a list of the settings has different entries for the layers of a
/// group, and if the files cannot express the model's rotary divisors.
pub fn check_groups(model: &Model, options: &WriteOptions, groups: &[Vec<usize>]) -> Result<()> {
    match options.storage(model).container {
        Container::Safetensors => {
            let packing = options.storage(model).packing(&model.config);
            let config = match packing == model.config.packing {
                true => Cow::Borrowed(&model.config),
                false => Cow::Owned(Config { packing, ..model.config.clone() }),
            };
            config.to_config_json(groups, None).map(drop)
        }
        Container::Gguf => model.config.to_metadata(groups, options.whole_type()).map(drop),
    }
}

/// Returns the parts of layers that have to stay at equal distances in files stored as `options` say: each in words, and with
/// one flag a layer that says whether the layer has it. None for most models.
pub fn periodic_parts(model: &Model, options: &WriteOptions) -> Vec<(&'static str, Vec<bool>)> {
    match options.storage(model).container {
        Container::Safetensors => model.config.periodic_parts(),
        Container::Gguf => Vec::new(),
    }
}

/// Checks that `parts`, as [`periodic_parts`] returns them, can stay at equal distances without `k` layers, of which each may
/// go that `may_go` says; or, if these layers are `named`, without them.
///
/// # Errors
/// [`Error::Unsupported`], naming the nearest sets of layers that can go.
pub fn check_periodic(
    parts: &[(&'static str, Vec<bool>)],
    k: usize,
    may_go: impl Fn(usize) -> bool,
    named: Option<&[usize]>,
) -> Result<()> {
    let n_layers = parts.first().map_or(0, |(_, flags)| flags.len());
    let flags: Vec<Vec<bool>> = parts.iter().map(|(_, flags)| flags.clone()).collect();
    // Near is what has many of the named layers.
    let cost = |layer: usize| match named {
        Some(named) if named.contains(&layer) => 0.0,
        _ if may_go(layer) => 1.0,
        _ => f64::INFINITY,
    };
    let costs: Vec<f64> = (0..n_layers).map(cost).collect();
    let same = periodic::cheapest(&flags, k, &costs);
    let mut sorted = named.map(<[usize]>::to_vec);
    sorted.iter_mut().for_each(|named| named.sort_unstable());
    if same.is_some() && (sorted.is_none() || sorted == same) {
        return Ok(());
    }
    let sets: Vec<Vec<usize>> = same.into_iter().chain(periodic::nearest(&flags, k, &costs)).collect();
    let sets: Vec<String> = sets.iter().map(|set| format!("{} ({set:?})", set.len())).collect();
    let can = match sets.split_last() {
        None => "no layers can go".to_owned(),
        Some((only, [])) => format!("the nearest that can go are {only}"),
        Some((last, others)) => format!("the nearest that can go are {} or {last}", others.join(", ")),
    };
    let what: Vec<&str> = parts.iter().map(|(what, _)| *what).collect();
    let asked = match &sorted {
        Some(named) => format!("the layers {named:?}"),
        None => format!("{k} of {n_layers} layers"),
    };
    Err(Error::Unsupported(format!(
        "{CONFIG_NAME} can say layers with {} only at equal distances, as they cannot be without {asked}; {can}; or write \
         a .gguf file, which holds layers in any order",
        what.join(" and with ")
    )))
}

/// Returns the layers that cannot go: by becoming one with the layer before them if `combines`, because the settings have
/// different entries for the two, or by being dropped, because the settings cannot say what would stay. None for most
/// models.
///
/// # Errors
/// Those of [`check_groups`] other than for these reasons, and [`Error::Unsupported`] if no layer can go.
pub fn layers_apart(model: &Model, options: &WriteOptions, combines: bool) -> Result<Vec<usize>> {
    let n = model.config.n_layers;
    if check_groups(model, options, &[(0..n).collect()]).is_ok() {
        return Ok(Vec::new());
    }
    let (mut apart, mut first_reason) = (Vec::new(), None);
    for layer in 1..n {
        let others = (0..n).filter(|other| *other != layer);
        let group = |other| if combines && other + 1 == layer { vec![other, layer] } else { vec![other] };
        match check_groups(model, options, &others.map(group).collect::<Vec<_>>()) {
            Ok(()) => {}
            Err(reason @ Error::Unsupported(_)) => {
                apart.push(layer);
                first_reason.get_or_insert(reason);
            }
            Err(other) => return Err(other),
        }
    }
    match first_reason {
        // Where no layer can go, the reason is said.
        Some(reason) if apart.len() + 1 == n => Err(reason),
        _ => Ok(apart),
    }
}
