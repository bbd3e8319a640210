//! What writing can refuse, asked before the first long stage.

use super::{gguf, jobs::jobs};
use crate::format::Container;
use crate::model::Model;
use crate::model::architectures::Windows;
use crate::model::rope::{RopeScaling, Yarn};
use crate::model::tokenizer::gguf::CHAT_TEMPLATE_KEY;
use crate::model::weights::new_layer::NewLayer;
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
        }
        Container::Gguf => {
            let metadata = gguf::metadata(model, &groups, options, Vec::new()).await?;
            if model.container() == Container::Safetensors && metadata.get(CHAT_TEMPLATE_KEY).is_none() {
                notes.push("The model has no chat template, so the GGUF file has none.".to_owned());
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
    layers_apart(model, options, false)?;
    Ok(notes)
}

/// Checks that the settings of `model` can say that each of `groups` became one layer.
///
/// # Errors
/// [`Error::Unsupported`], naming the list, if a list of the settings has different entries for the layers of a
/// group, and if the files cannot express the model's rotary divisors.
pub fn check_groups(model: &Model, options: &WriteOptions, groups: &[Vec<usize>]) -> Result<()> {
    match options.storage(model).container {
        Container::Safetensors => model.config.to_config_json(groups, None).map(drop),
        Container::Gguf => model.config.to_metadata(groups, options.dtype).map(drop),
    }
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
