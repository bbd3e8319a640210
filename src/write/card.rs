//! The model card and the recipe that travel with a compressed model.

use std::fmt::Write;

use crate::plan::{ExpertSelection, MergePlan, Operator, PlanOptions, Selection};
use crate::protocol::plan::{PlanReport, Recipe, RemovedExperts};
use crate::quality::Quality;
use crate::{Error, Result};

/// File name of the recipe.
pub const RECIPE_NAME: &str = "recipe.json";

/// File name of the model card.
pub const CARD_NAME: &str = "README.md";

/// Makes the files of the recipe and of the model card.
///
/// # Errors
/// [`Error::Numeric`] if a number of the recipe cannot be written as JSON.
pub fn files(recipe: &Recipe, report: Option<&PlanReport>) -> Result<Vec<ExtraFile>> {
    let mut json = serde_json::to_vec_pretty(recipe)
        .map_err(|e| Error::Numeric(format!("{RECIPE_NAME}: cannot be written ({e})")))?;
    json.push(b'\n');
    let card = card(recipe, report);
    Ok(vec![
        ExtraFile { name: RECIPE_NAME, contents: json },
        ExtraFile { name: CARD_NAME, contents: card.into_bytes() },
    ])
}

/// Makes the model card in Markdown: the hub's metadata on top, then what was done, the quality if there is a
/// `report`, and the layers.
pub fn card(recipe: &Recipe, report: Option<&PlanReport>) -> String {
    let mut card = String::new();
    let plan = &recipe.plan;
    let (before, after) = (plan.n_layers, plan.groups.len());
    let mut said = Vec::new();
    if after < before {
        said.extend([chosen_by(recipe), made_by(plan.operator)]);
    } else if plan.kept_experts.is_empty() {
        said.push("All layers stay; only the types in which their numbers are stored are others.".to_owned());
    }
    if !plan.kept_experts.is_empty() {
        said.push(experts_chosen_by(recipe));
    }
    // Writing to a String cannot fail, so the results are dropped.
    let _ = write!(
        card,
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- laminate\n- merge\n---\n\n\
         # {} with {after} of {before} layers\n\nMade by Laminate {}. {}\n\n`{RECIPE_NAME}` holds everything \
         needed to repeat it, except for the original model and the texts.\n\n",
        recipe.model,
        recipe.laminate,
        said.join(" ")
    );
    if let Some(report) = report {
        quality_table(&mut card, recipe, report);
    }
    layer_table(&mut card, plan);
    if let Some(report) = report {
        expert_table(&mut card, &report.experts);
    }
    card
}

/// Says in a sentence how experts were chosen that are removed.
fn experts_chosen_by(recipe: &Recipe) -> String {
    let how = match recipe.options.as_ref().map(|options| options.expert_selection) {
        None => "by hand or by another recipe",
        Some(ExpertSelection::Reap) => "by the mean of gate times length of output (REAP, arXiv 2510.13999)",
        Some(ExpertSelection::Frequency) => "because the fewest tokens were routed to them",
        Some(ExpertSelection::Random) => "at random",
    };
    let kept = recipe.plan.kept_experts.iter().map(Vec::len).max().unwrap_or(0);
    format!("Each layer with experts keeps {kept} of them; those that were removed were chosen {how}.")
}

/// Lists the experts that were removed.
fn expert_table(card: &mut String, experts: &[RemovedExperts]) {
    if experts.is_empty() {
        return;
    }
    let _ = write!(
        card,
        "\n## Experts\n\n| original layer | experts removed | their share of the gates |\n|---|---|---|\n"
    );
    for RemovedExperts { layer, removed, share } in experts {
        let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
        let share = share.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let _ = writeln!(card, "| {layer} | {} | {share} |", removed.join(", "));
    }
}

/// Says in a sentence how the layers were chosen.
fn chosen_by(recipe: &Recipe) -> String {
    let Some(options) = &recipe.options else {
        return "The layers were chosen by hand or by another recipe.".to_owned();
    };
    let how = match options.selection {
        Selection::Mka if options.one_shot => "the most similar neighbours, ranked once",
        Selection::Mka => {
            "the most similar neighbours, compared anew after each merge (MKA, arXiv 2406.16330)"
        }
        Selection::Redundancy => {
            "the spans of layers that change the diffusion map and turn the residual stream least"
        }
        Selection::BlockInfluence => "the layers of least Block Influence (ShortGPT, arXiv 2403.03853)",
        Selection::Angular => {
            "the block of layers whose input and output differ least in angle (arXiv 2403.17887)"
        }
        Selection::Pairs => {
            "pairs of neighbours whose first layer turns the residual stream least (FlattenGPT)"
        }
        Selection::GreedyNll => "the layers whose removal harms the likelihood least, one by one (SLEB)",
        Selection::GreedyKl => "the layers whose removal changes the predictions least, one by one",
        Selection::Windows => "windows of layers whose collapse preserves the last hidden states (LaCo)",
        Selection::Tail => "the last layers",
        Selection::Reverse => "the last layers before the very last",
        Selection::Random => "layers drawn at random",
        Selection::Hand => "layers that a person named",
    };
    format!("The rule `{}` chose {how}.", options.selection)
}

/// Says in a sentence how several layers became one.
fn made_by(operator: Operator) -> String {
    let how = match operator {
        Operator::MatchExperts => {
            "layers were merged into weighted averages of their tensors, and their experts were matched and averaged \
             where that was better than keeping those of one layer"
        }
        Operator::Average => "layers were merged into weighted averages of their tensors",
        Operator::Drop => "one layer of each group stayed as it was, and the others were dropped",
        Operator::Collapse => "the differences of the later layers were added to the first (LaCo)",
        Operator::Scale => {
            "one layer of each group stayed, and later layers were scaled to make up (Prune&Comp)"
        }
        Operator::ReplaceMe => {
            "one layer of each group stayed, with a linear map fitted to the dropped ones (ReplaceMe)"
        }
        Operator::Flatten => {
            "layers were put side by side, and their most important heads and neurons stayed"
        }
        Operator::Refit => {
            "one layer of each group stayed, and its output and down projections were refitted by least squares"
        }
        Operator::PoolRefit => {
            "heads and neurons of each group were pooled, and output and down projections refitted by least squares"
        }
    };
    format!("By the operator `{operator}`, {how}.")
}

fn quality_table(card: &mut String, recipe: &Recipe, report: &PlanReport) {
    let text = &report.text;
    let reads_text = |options: &PlanOptions| {
        !matches!(
            options.selection,
            Selection::Tail | Selection::Reverse | Selection::Random | Selection::Hand
        )
    };
    let is_fitted = report.plan.operator.needs_activations();
    let what = if is_fitted || recipe.judged_on.is_some() {
        format!(
            ", a text that nothing was chosen by or fitted to. {} {} ({} sequences of {} tokens)",
            match (report.layers.before == report.layers.after, report.experts.is_empty()) {
                (false, _) if is_fitted => "The model was fitted to",
                (false, _) => "Its matrices were rounded by what they read of",
                (true, false) => "Experts were chosen on",
                (true, true) => "The importances of columns were collected on",
            },
            recipe.text.name,
            recipe.text.sequences,
            recipe.text.tokens_per_sequence
        )
    } else if recipe.options.as_ref().is_some_and(reads_text) {
        ", the text that the layers were chosen on".to_owned()
    } else {
        String::new()
    };
    let _ = write!(
        card,
        "## What it cost\n\nMeasured on {} ({} sequences of {} tokens){what}.\n\n\
         | model | perplexity | KL to the original, nats a token | same top token |\n|---|---|---|---|\n",
        text.name, text.sequences, text.tokens_per_sequence
    );
    for (name, quality) in [
        ("original", &report.original),
        ("this model", &report.merged),
        ("dropping the same layers", &report.dropped),
    ] {
        if name.starts_with("dropping") && report.layers.before == report.layers.after {
            continue;
        }
        quality_row(card, name, quality);
    }
    let _ = write!(
        card,
        "\n{} of {} parameters, {} of {} bytes.\n\n",
        report.parameters.after, report.parameters.before, report.bytes.after, report.bytes.before
    );
    if report.merged.collapsed {
        let _ = write!(card, "**Collapsed**: the perplexity is more than ten times the original's.\n\n");
    }
}

/// Lists the new layers: with their weights if the operator mixes by them, with the layer that stays if one does.
fn layer_table(card: &mut String, plan: &MergePlan) {
    let pools = matches!(plan.operator, Operator::Flatten | Operator::PoolRefit);
    let (head, line) = match (plan.operator.is_weighted(), pools) {
        (true, _) => (" weights |", "---|"),
        (false, false) => (" layer that stays |", "---|"),
        (false, true) => ("", ""),
    };
    let _ = write!(card, "## Layers\n\n| new layer | original layers |{head}\n|---|---|{line}\n");
    for (place, (group, weights)) in plan.groups.iter().zip(&plan.weights).enumerate() {
        let layers: Vec<String> = group.iter().map(ToString::to_string).collect();
        let weights: Vec<String> = weights.iter().map(|w| format!("{w:.3}")).collect();
        let last = match (plan.operator.is_weighted(), pools) {
            (true, _) => format!(" {} |", weights.join(", ")),
            (false, false) => plan.survivor(place).map(|layer| format!(" {layer} |")).unwrap_or_default(),
            (false, true) => String::new(),
        };
        let _ = writeln!(card, "| {place} | {} |{last}", layers.join(", "));
    }
}

fn quality_row(card: &mut String, name: &str, quality: &Quality) {
    let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.3}"));
    let collapsed = if quality.collapsed { " (collapsed)" } else { "" };
    let _ = writeln!(
        card,
        "| {name} | {:.3}{collapsed} | {} | {} |",
        quality.perplexity,
        number(quality.kl),
        quality.top1_agreement.map_or("–".to_owned(), |x| format!("{:.1} %", 100.0 * x))
    );
}

/// A file that is made rather than copied, such as the recipe.
pub struct ExtraFile {
    /// Name of the file in the folder.
    pub name: &'static str,
    /// Contents of the file.
    pub contents: Vec<u8>,
}
