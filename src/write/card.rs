//! The model card and the recipe that travel with a compressed model.

use std::fmt::Write;

use crate::protocol::plan::{PlanReport, Recipe};
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

/// Makes the model card in Markdown: the hub's metadata on top, then the quality if there is a `report`, then
/// the layers.
pub fn card(recipe: &Recipe, report: Option<&PlanReport>) -> String {
    let mut card = String::new();
    let plan = &recipe.plan;
    let (before, after) = (plan.n_layers, plan.groups.len());
    // Writing to a String cannot fail, so the results are dropped.
    let _ = write!(
        card,
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- laminate\n- merge\n---\n\n\
         # {} with {after} of {before} layers\n\n\
         Made by Laminate {}: similar layers were merged into \
         weighted averages (MKA, arXiv 2406.16330). `{RECIPE_NAME}` holds everything needed to repeat it.\n\n",
        recipe.model, recipe.laminate
    );
    if let Some(report) = report {
        quality_table(&mut card, report);
    }
    let _ = write!(card, "## Layers\n\n| new layer | original layers | weights |\n|---|---|---|\n");
    for (place, (group, weights)) in plan.groups.iter().zip(&plan.weights).enumerate() {
        let weights: Vec<String> = weights.iter().map(|w| format!("{w:.3}")).collect();
        let layers: Vec<String> = group.iter().map(ToString::to_string).collect();
        let _ = writeln!(card, "| {place} | {} | {} |", layers.join(", "), weights.join(", "));
    }
    card
}

fn quality_table(card: &mut String, report: &PlanReport) {
    let text = &report.text;
    let _ = write!(
        card,
        "## What it cost\n\nMeasured on {} ({} sequences of {} tokens), the text that the merges were \
         chosen on.\n\n| model | perplexity | KL to the original, nats a token | same top token |\n|---|---|---|---|\n",
        text.name, text.sequences, text.tokens_per_sequence
    );
    for (name, quality) in [
        ("original", &report.original),
        ("this model", &report.merged),
        ("dropping the same layers", &report.dropped),
    ] {
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
