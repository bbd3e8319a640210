//! Methods side by side, as JSON and as tables.

use serde::Serialize;

use super::{ModelReport, TextReport};
use crate::device::DeviceReport;
use crate::evaluate::Quality;
use crate::pipeline::options::WriteOptions;
use crate::plan::{Method, Operator, Selection};

/// One method at one number of layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareRow {
    /// Its name.
    pub method: String,
    /// How it chooses layers.
    pub selection: Selection,
    /// What it makes of them.
    pub operator: Operator,
    /// Layers that were to be removed.
    pub removed: usize,
    /// Layers that are left.
    pub layers: usize,
    /// Original layer indices per final layer.
    pub groups: Vec<Vec<usize>>,
    /// What the model is worth on the evaluation text; `None` where the method failed.
    pub quality: Option<Quality>,
    /// Parameters of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Wall-clock time of choosing, building and measuring; what methods share counts for the first.
    pub seconds: f64,
    /// Why the method failed, if it did.
    pub error: Option<String>,
    /// Remarks.
    pub warnings: Vec<String>,
}

impl CompareRow {
    /// Nothing was measured yet.
    pub fn new(method: &Method, removed: usize, layers: usize) -> Self {
        Self {
            method: method.name.to_string(),
            selection: method.selection,
            operator: method.operator,
            removed,
            layers,
            groups: Vec::new(),
            quality: None,
            parameters: 0,
            bytes: 0,
            seconds: 0.0,
            error: None,
            warnings: Vec::new(),
        }
    }
}

/// Many methods, measured on the same text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareReport {
    /// The original model.
    pub model: ModelReport,
    /// What methods chose and fitted on.
    pub calibration: TextReport,
    /// What they were measured on.
    pub evaluation: TextReport,
    /// Share of the evaluation text that was seen in calibration, 0 to 1.
    pub overlap: f64,
    /// The original on the evaluation text.
    pub original: Quality,
    /// The original's parameters.
    pub parameters: u64,
    /// The original's bytes.
    pub bytes: u64,
    /// What random choices were drawn from.
    pub seed: u64,
    /// How the models were assumed to be stored.
    pub output: WriteOptions,
    /// One for each method and number of layers, in the order asked for.
    pub rows: Vec<CompareRow>,
    /// Whether it was stopped before its end.
    pub cancelled: bool,
    /// Remarks.
    pub warnings: Vec<String>,
    /// What ran it.
    pub device: DeviceReport,
    /// Wall-clock time.
    pub seconds: f64,
    /// Peak memory of the process, 0 where it is not known.
    pub peak_memory_bytes: u64,
}

impl CompareReport {
    /// The table as comma-separated values, one line for each row and a header.
    pub fn to_csv(&self) -> String {
        let mut out = String::from(
            "method,selection,operator,removed,layers,perplexity,kl,top1_agreement,collapsed,parameters,bytes,seconds,error\n",
        );
        let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
        let quote = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut line = |cells: &[String]| out.push_str(&(cells.join(",") + "\n"));
        let quality = |q: Option<Quality>| {
            [
                number(q.map(|q| q.perplexity)),
                number(q.and_then(|q| q.kl)),
                number(q.and_then(|q| q.top1_agreement)),
                q.map(|q| q.collapsed.to_string()).unwrap_or_default(),
            ]
        };
        let none = String::new;
        let layers = self.model.layers.to_string();
        let mut cells = vec!["original".to_owned(), none(), none(), "0".to_owned(), layers];
        cells.extend(quality(Some(self.original)));
        cells.extend([self.parameters.to_string(), self.bytes.to_string(), none(), none()]);
        line(&cells);
        for row in &self.rows {
            let mut cells = vec![row.method.clone(), row.selection.to_string(), row.operator.to_string()];
            cells.extend([row.removed.to_string(), row.layers.to_string()]);
            cells.extend(quality(row.quality));
            cells.extend([row.parameters.to_string(), row.bytes.to_string(), format!("{:.2}", row.seconds)]);
            cells.push(quote(row.error.as_deref().unwrap_or_default()));
            line(&cells);
        }
        out
    }

    /// The table in Markdown, with what it was measured on below it.
    pub fn to_markdown(&self) -> String {
        let mut out = String::from(
            "| method | selection + operator | removed | perplexity | KL | same top token | MB | s |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        out.push_str(&format!(
            "| original | | 0 | {} | | | {} | |\n",
            significant(self.original.perplexity),
            megabytes(self.bytes)
        ));
        for row in &self.rows {
            let name = format!("| {} | {} + {} | {} |", row.method, row.selection, row.operator, row.removed);
            let rest = match (row.quality, &row.error) {
                (Some(q), _) => format!(
                    " {}{} | {} | {} | {} | {:.1} |\n",
                    significant(q.perplexity),
                    if q.collapsed { " **collapsed**" } else { "" },
                    q.kl.map(|kl| format!("{kl:.3}")).unwrap_or_default(),
                    q.top1_agreement.map(|share| format!("{:.1} %", 100.0 * share)).unwrap_or_default(),
                    megabytes(row.bytes),
                    row.seconds
                ),
                (None, error) => {
                    let error = error.as_deref().unwrap_or("not measured");
                    format!(" failed: {} | | | | |\n", error.replace('|', "\\|"))
                }
            };
            out.push_str(&(name + &rest));
        }
        let text = |text: &TextReport| {
            format!("{} ({} x {} tokens)", text.name, text.sequences, text.tokens_per_sequence)
        };
        out.push_str(&format!(
            "\n{}; calibrated on {}, measured on {}; seed {}.\n",
            self.model.name,
            text(&self.calibration),
            text(&self.evaluation),
            self.seed
        ));
        out
    }
}

/// Four significant digits, as far as there is a point; powers of ten for what has too many.
fn significant(x: f64) -> String {
    match x.abs() {
        a if a >= 1e6 => format!("{x:.2e}"),
        a if a >= 1000.0 => format!("{x:.0}"),
        a if a >= 100.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}
