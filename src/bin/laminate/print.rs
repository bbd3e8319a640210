//! Prints reports, as text for people or as JSON for programs.

use std::io::{ErrorKind, Write};
use std::path::Path;

use laminate::plan::METHODS;
use laminate::protocol::answers::{Accuracy, Marks, MmluReport};
use laminate::protocol::compare::CompareReport;
use laminate::protocol::evaluate::EvaluateReport;
use laminate::protocol::model::ModelReport;
use laminate::protocol::plan::{CompressReport, ImatrixReport, RemovedExperts};
use laminate::protocol::similarity::SimilarityReport;
use laminate::protocol::sizing::SizeSearch;
use laminate::{Error, Estimate, PlanEstimate, PlanOptions, Quality, Result, TextOptions};
use serde::Serialize;

/// Prints `report` as one JSON document if `json` is set, else the text that `text` makes.
///
/// # Errors
/// [`Error::Numeric`] if the report cannot be written as JSON, [`Error::Source`] if standard output takes no more.
pub fn report<T: Serialize>(json: bool, report: &T, text: impl FnOnce() -> String) -> Result<()> {
    if json {
        let json = serde_json::to_string(report)
            .map_err(|e| Error::Numeric(format!("the report cannot be written as JSON ({e})")))?;
        output(&(json + "\n"))
    } else {
        output(&text())
    }
}

/// Writes `text` to standard output. If whoever reads it has gone away, nobody misses the rest.
fn output(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::Source(format!("standard output: {e}; the report could not be printed")))
        }
        _ => Ok(()),
    }
}

/// Formats a count with a unit, such as `134.5 M`.
fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// Formats the description of a model.
pub fn model(m: &ModelReport) -> String {
    let window = m.sliding_window.map_or("none".to_owned(), |w| format!("{w} tokens"));
    let mut out = format!(
        "{} ({})\n\
         layers        {}, {} parameters and {}B each\n\
         hidden size   {}, MLP {}\n\
         heads         {} query, {} key/value, {} wide\n\
         vocabulary    {}, head {}\n\
         context       {} tokens, sliding window {window}\n\
         weights       {}, {} parameters, {}B\n\
         files         {}\n",
        m.name,
        m.architecture,
        m.layers,
        count(m.parameters_per_layer),
        count(m.bytes_per_layer),
        m.hidden_size,
        m.intermediate_size,
        m.heads,
        m.kv_heads,
        m.head_dim,
        m.vocab_size,
        if m.tied_head { "tied" } else { "of its own" },
        m.context,
        m.dtype,
        count(m.parameters),
        count(m.bytes),
        m.files.join(", "),
    );
    if let Some([experts, used]) = m.experts {
        out.push_str(&format!("experts       {experts} in a layer, {used} for each token\n"));
    }
    if !m.kinds.is_empty() {
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for kind in &m.kinds {
            match counted.iter_mut().find(|(known, _)| known == kind) {
                Some((_, n)) => *n += 1,
                None => counted.push((kind, 1)),
            }
        }
        let counted: Vec<String> = counted.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        out.push_str(&format!("kinds         {}\n", counted.join(", ")));
    }
    warnings(&mut out, &m.notes);
    out
}

/// Formats the similarity matrix, with the second eigenvalue and the Block Influence of each layer.
pub fn similarity(r: &SimilarityReport) -> String {
    let mut out = format!(
        "{}: {} similarity of {} layers from {} points ({} of {}), on {}\n\n      ",
        r.model.name, r.metric, r.layers, r.points.count, r.points.rule, r.text.name, r.device.name
    );
    for layer in 0..r.layers {
        out.push_str(&format!("{layer:>5}"));
    }
    out.push_str("   lambda_1  influence\n");
    for (layer, row) in r.similarity.iter().enumerate() {
        out.push_str(&format!("{layer:>5} "));
        for value in row {
            out.push_str(&format!("{value:>5.2}"));
        }
        let lambda = r.eigenvalues.get(layer).and_then(|l| l.get(1)).copied().unwrap_or(f64::NAN);
        let influence = r.block_influence.get(layer).copied().unwrap_or(f64::NAN);
        out.push_str(&format!("   {lambda:>8.4}  {influence:>9.5}\n"));
    }
    out.push_str(&format!(
        "\nperplexity {:.3} on {} tokens; {:.1} s; peak memory {}B\n",
        r.perplexity,
        r.text.tokens_scored,
        r.seconds,
        count(r.peak_memory_bytes)
    ));
    warnings(&mut out, &r.warnings);
    out
}

/// Formats the search for the best model of a size: what was to be expected of each model that was made, and what came out.
fn search(search: &SizeSearch) -> String {
    let removals = search.removals.iter();
    let removals: Vec<String> =
        removals.map(|each| format!("{} layers KL {}", each.removed, kl(Some(each.kl)))).collect();
    let mut out = String::new();
    if !removals.is_empty() {
        out.push_str(&format!("removed, in the types that they have: {}\n", removals.join(", ")));
    }
    out.push_str("\nlayers      bytes  expected KL  measured KL  type\n");
    for model in &search.models {
        out.push_str(&format!(
            "{:>6}  {:>9}  {:>11}  {:>11}  {}\n",
            model.layers,
            count(model.bytes),
            kl(model.expected_kl),
            kl(model.quality.kl),
            model.dtype.map_or("keep".to_owned(), |dtype| dtype.to_string())
        ));
    }
    out.push_str(&format!("{}\n\n", search.sentence));
    out
}

/// Formats a divergence, or its absence.
fn kl(kl: Option<f64>) -> String {
    kl.map_or("–".to_owned(), |kl| format!("{kl:.4}"))
}

/// Formats the method of a plan as a line.
pub fn method(options: &PlanOptions) -> String {
    let (selection, operator) = (options.selection, options.operator);
    let named = METHODS.iter().find(|m| (m.selection, m.operator) == (selection, operator));
    let name = named.map_or("method", |method| &method.name);
    let layers =
        format!("{name}: layers are selected by {selection}, and spans become one layer by {operator}");
    let experts = format!(
        "{} experts of each layer are removed by {}",
        options.remove_experts, options.expert_selection
    );
    match options.remove_experts {
        0 if options.keeps_layers() => "no layers are removed".to_owned(),
        0 => layers,
        _ if options.keeps_layers() => experts,
        _ => format!("{layers}; {experts}"),
    }
}

/// Formats the text that `doing` uses, and how much of it: `sequences` of the text, as many as `seconds` allow if they
/// decided.
pub fn text(doing: &str, text: &TextOptions, sequences: usize, seconds: Option<f64>) -> String {
    let allowed = seconds.map_or(String::new(), |s| format!(", as many as about {} allow", duration(s)));
    format!("{doing} {}: {sequences} sequences of {} tokens{allowed}", text.text_and_name().1, text.tokens)
}

/// Formats the estimated time and memory of a run: of the similarity stage, and of the stages after it if there are
/// any.
pub fn estimate(similarity: &Estimate, after: Option<&PlanEstimate>) -> String {
    let compared = format!("about {} to compare the layers", duration(similarity.seconds));
    match after {
        None => format!("{compared}, {}B of memory", count(similarity.peak_bytes)),
        Some(plan) => format!(
            "{compared} and {} to make and measure models, {}B of memory",
            duration(plan.seconds),
            count(plan.peak_bytes)
        ),
    }
}

/// Formats a time, such as `3 s` or `4 min`.
fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{:.0} s", seconds.max(1.0)),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

/// Formats a comparison of methods as its Markdown table, with all warnings below it.
pub fn comparison(r: &CompareReport) -> String {
    let mut out = r.to_markdown();
    out.push_str(&format!("{:.1} s, peak memory {}B\n", r.seconds, count(r.peak_memory_bytes)));
    warnings(&mut out, &r.warnings);
    for row in &r.rows {
        let about = |warning: &String| format!("{}, {} removed: {warning}", row.method, row.removed);
        warnings(&mut out, &row.warnings.iter().map(about).collect::<Vec<_>>());
    }
    out
}

fn warnings(out: &mut String, warnings: &[String]) {
    for warning in warnings {
        out.push_str(&format!("note: {warning}\n"));
    }
}

fn quality(q: &Quality) -> String {
    let mut out = format!("{:>12.3}", q.perplexity);
    match (q.kl, q.top1_agreement) {
        (Some(kl), Some(agreement)) => {
            out.push_str(&format!("  {kl:>8.4}  {:>7.1} %", 100.0 * agreement));
        }
        _ => out.push_str("         –          –"),
    }
    if q.collapsed {
        out.push_str("  COLLAPSED");
    }
    out
}

/// Formats a finished compression: quality after each step, groups, sizes and warnings.
pub fn compress(r: &CompressReport, out_path: &Path) -> String {
    let mut out = r.search.as_ref().map_or_else(String::new, search);
    out.push_str(&format!("{:<34}{:>12}  {:>8}  {:>9}\n", "", "perplexity", "KL", "same top"));
    out.push_str(&format!("{:<34}{}\n", "original", quality(&r.original)));
    for step in &r.steps {
        let [l, m] = step.merged;
        let name = format!("{l} + {m}, alpha {:.3}, {} layers", step.alpha, step.layers);
        // A fitted model is measured once, after the last step.
        let measured =
            step.quality().map_or_else(|| format!("{:>12}         –          –", "–"), |q| quality(&q));
        out.push_str(&format!("{name:<34}{measured}\n"));
    }
    if !r.experts.is_empty() {
        out.push_str(&format!("{:<34}{}\n", "without the removed experts", quality(&r.merged)));
    }
    let merges = r.groups.iter().any(|group| group.len() > 1);
    if !r.steps.is_empty() || r.experts.is_empty() {
        let name = if !merges { "as stored" } else { "dropping the same layers" };
        out.push_str(&format!("{name:<34}{}\n", quality(&r.dropped)));
    }
    if let Some(healed) = &r.healed {
        for point in &healed.points {
            let name = match point.tokens {
                0 => "before it was healed".to_owned(),
                tokens => format!("healed on {} tokens", count(tokens)),
            };
            out.push_str(&format!("{name:<34}{}\n", quality(&point.quality)));
        }
        if let Some(stopped) = &healed.stopped {
            out.push_str(&format!("{stopped}\n"));
        }
    }
    for point in &r.calibration_curve {
        let name = format!("fitted to {} sequences", point.sequences);
        out.push_str(&format!("{name:<34}{}\n", quality(&point.quality)));
    }
    let groups: Vec<String> = r.groups.iter().map(|g| format!("[{}]", list(g))).collect();
    if !r.experts.is_empty() {
        out.push_str("\nlayer  share of gates  experts removed\n");
    }
    for RemovedExperts { layer, removed, share } in &r.experts {
        let share = share.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        out.push_str(&format!("{layer:>5}  {share:>14}  {}\n", list(removed)));
    }
    out.push_str(&format!(
        "\ngroups      {}\nparameters  {} -> {}\nbytes       {} -> {}\n\
         measured on {} ({} tokens)\n{:.1} s, peak memory {}B, written to {}\n",
        groups.concat(),
        count(r.parameters.before),
        count(r.parameters.after),
        count(r.bytes.before),
        count(r.bytes.after),
        r.text.name,
        r.text.tokens_scored,
        r.seconds,
        count(r.peak_memory_bytes),
        out_path.display()
    ));
    warnings(&mut out, &r.warnings);
    out
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Formats the quality of a model, its answers to questions and its continuations of prompts.
pub fn evaluation(r: &EvaluateReport) -> String {
    let mut out = format!("perplexity  {:.4} on {} tokens of {}\n", r.perplexity, r.tokens, r.text.name);
    if let (Some(original), Some(kl), Some(agreement)) = (r.original_perplexity, r.kl, r.top1_agreement) {
        out.push_str(&format!(
            "original    {original:.4}\nKL          {kl:.5} nats a token\nsame top    {:.2} %\n",
            100.0 * agreement
        ));
    }
    if r.collapsed {
        out.push_str("COLLAPSED: the perplexity is more than ten times the original's\n");
    }
    warnings(&mut out, &r.model.notes);
    if let Some(mmlu) = &r.mmlu {
        out.push_str(&questions(mmlu, r.original_mmlu.as_ref()));
    }
    for sample in &r.samples {
        out.push_str(&format!("\n{}\n  model     {}\n", sample.prompt, in_line(&sample.model)));
        if let Some(original) = &sample.original {
            out.push_str(&format!("  original  {}\n", in_line(original)));
        }
    }
    out
}

/// Formats the report of an importance matrix.
pub fn imatrix(r: &ImatrixReport) -> String {
    let text = &r.text;
    format!(
        "wrote {} ({}B): the importance matrix of {}\non {} ({} sequences of {} tokens) in {:.1} s\n",
        r.file.name,
        count(r.file.bytes),
        r.model,
        text.name,
        text.sequences,
        text.tokens_per_sequence,
        r.seconds
    )
}

/// Replaces the line breaks of a text by spaces, so that the text fits in one line.
fn in_line(text: &str) -> String {
    text.trim().replace(['\r', '\n'], " ")
}

fn questions(own: &MmluReport, original: Option<&MmluReport>) -> String {
    let and_text = if own.marks.full_answer.is_some() { ", then by text" } else { "" };
    let mut out = format!(
        "\n{} multiple-choice questions with {} solved before each: % right by letter{and_text}\n",
        own.questions, own.few_shot
    );
    let others = original.map(|o| o.by_subject.iter().map(|s| &s.marks).collect::<Vec<_>>());
    for (place, subject) in own.by_subject.iter().enumerate() {
        let other = others.as_ref().and_then(|o| o.get(place)).copied();
        out.push_str(&marks(&subject.subject, &subject.marks, other));
    }
    for (place, group) in own.by_group.iter().enumerate() {
        let other = original.and_then(|o| o.by_group.get(place)).map(|g| &g.marks);
        out.push_str(&marks(group.group.name(), &group.marks, other));
    }
    out.push_str(&marks("all", &own.marks, original.map(|o| &o.marks)));
    if own.shortened > 0 {
        out.push_str(&format!("note: {} prompts had to do with fewer examples, to fit\n", own.shortened));
    }
    if own.skipped > 0 {
        out.push_str(&format!("note: {} questions are too long and were left out\n", own.skipped));
    }
    out
}

fn marks(name: &str, own: &Marks, original: Option<&Marks>) -> String {
    let accuracy = |a: &Accuracy| format!("{:>7.1} ± {:<4.1}", 100.0 * a.accuracy, 100.0 * a.standard_error);
    let both = |m: &Marks| accuracy(&m.letter) + &m.full_answer.as_ref().map(accuracy).unwrap_or_default();
    let original = original.map(|m| format!("   original {}", both(m))).unwrap_or_default();
    format!("{name:<38}{}{original}\n", both(own))
}
