//! What the files that are to be written leave of the choice of layers.

use crate::methods::operators::{combines_layers, kept_groups};
use crate::model::Model;
use crate::plan::{MergePlan, Operator, PlanOptions, Selection};
use crate::protocol::options::WriteOptions;
use crate::write::check::{check_groups, check_periodic, layers_apart, periodic_parts};
use crate::{Error, Result};

/// Adds to `options` what files stored as `output` says demand of the layers of `model` that go. Returns notes on it, in
/// sentences.
///
/// # Errors
/// [`Error::Usage`] if nothing of the model would change, or nothing would be rounded that shall be; [`Error::Unsupported`] if no such layers can go, or if the files cannot hold what the operator makes of experts;
/// those of [`layers_apart`].
pub fn bound(model: &Model, output: &WriteOptions, options: &mut PlanOptions) -> Result<Vec<String>> {
    output.check_rounded(model, !options.keeps_layers() && options.operator != Operator::Drop)?;
    if options.keeps_layers() {
        let storage = output.storage(model);
        let changes = storage.container != model.container() || storage.changes(model);
        return match options.remove_experts > 0 || changes {
            true => Ok(Vec::new()),
            false => Err(Error::Usage(format!(
                "cannot remove 0 of {} layers where nothing else changes: at least 1 must go, or ask for another type or kind \
                 of file",
                model.config.n_layers
            ))),
        };
    }
    let combines = combines_layers(options.operator, &model.config);
    let parts = periodic_parts(model, output);
    // How many layers a model has to have is checked later.
    let k = options.goal().filter(|k| *k < model.config.n_layers);
    if let (false, false, Some(k)) = (parts.is_empty(), combines, k) {
        let named = (options.selection == Selection::Hand).then_some(options.absorb.as_slice());
        check_periodic(&parts, k, |layer| options.may_go(layer, model.config.n_layers), named)?;
        let what: Vec<&str> = parts.iter().map(|(what, _)| *what).collect();
        options.periodic = parts.iter().map(|(_, flags)| flags.clone()).collect();
        return Ok(match named {
            Some(_) => Vec::new(),
            None => vec![format!(
                "The layers to remove are one of the sets after which layers with {} stay at equal distances, because \
                 files of this kind can say no other; files of the other kind may.",
                what.join(" and with ")
            )],
        });
    }
    if let (Selection::Hand, false) = (options.selection, combines) {
        let absorbed: Vec<(usize, f64)> = options.absorb.iter().map(|layer| (*layer, 1.0)).collect();
        // What is no plan at all is said later.
        if let Ok(plan) = MergePlan::absorbing(model.config.n_layers, options.operator, &absorbed, |_| 1.0) {
            check_groups(model, output, &kept_groups(&plan, &model.config))?;
        }
    }
    let mut apart = layers_apart(model, output, combines)?;
    check_averages(model, output, options.operator)?;
    if options.selection == Selection::Hand && !combines {
        // The files can say what the named layers leave, whatever else they could not.
        apart.clear();
    }
    let mut notes = Vec::new();
    // Of several such layers one would do, but the rules do not know of that.
    let last = model.config.last_that_stays();
    if let (Some(last), false) = (last, combines || options.selection == Selection::Hand) {
        notes.push(format!(
            "Layer {last} stays, because transformers takes the last layer for one without a window."
        ));
        apart.retain(|layer| *layer != last);
        options.apart.push(last);
    }
    // Two of them may be the first layer, or bound together with it.
    let owners = model.config.owners();
    if !combines && options.selection != Selection::Hand && !owners.is_empty() {
        notes.push(format!(
            "Layers {owners:?} stay, because layers that have no keys and values of their own read theirs."
        ));
        apart.retain(|layer| !owners.contains(layer));
        options.apart.extend(owners);
    }
    if apart.is_empty() {
        return Ok(notes);
    }
    let note = match combines {
        true => {
            format!(
                "Layers {apart:?} do not become one with the layer before them, which is of another kind."
            )
        }
        false => format!(
            "Layers {apart:?} stay, because files of this kind cannot say the rest without them; files of the other \
             kind may."
        ),
    };
    options.apart.extend(apart);
    notes.push(note);
    Ok(notes)
}

/// Checks that files stored as `output` says can hold the averages of experts of `model` that `operator` may make.
fn check_averages(model: &Model, output: &WriteOptions, operator: Operator) -> Result<()> {
    if operator != Operator::MatchExperts || !output.storage(model).keeps_mxfp4(&model.config) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "operator {operator} averages experts, and a Hugging Face folder of this model holds its experts in MXFP4, in \
         which averages cannot be stored; ask for another element type, such as bf16, or for a GGUF file"
    )))
}

/// Checks that files stored as `output` says can hold what `plan` leaves of `model`: averages of experts, and the
/// layers, where files demand equal distances.
///
/// # Errors
/// [`Error::Unsupported`], naming the nearest sets of layers that can go, or the types of files that can hold averages;
/// [`Error::Usage`] if nothing would be rounded that shall be.
pub fn check_plan(model: &Model, output: &WriteOptions, plan: &MergePlan) -> Result<()> {
    let merges = plan.groups.iter().any(|group| group.len() > 1);
    output.check_rounded(model, merges && plan.operator != Operator::Drop)?;
    if merges {
        check_averages(model, output, plan.operator)?;
    }
    let parts = periodic_parts(model, output);
    if parts.is_empty() || combines_layers(plan.operator, &model.config) {
        return Ok(());
    }
    let stay: Vec<usize> = (0..plan.groups.len()).filter_map(|place| plan.survivor(place)).collect();
    let gone: Vec<usize> = (0..plan.n_layers).filter(|layer| !stay.contains(layer)).collect();
    check_periodic(&parts, gone.len(), |_| true, Some(&gone))
}
