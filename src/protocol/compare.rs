//! Methods side by side, as JSON and as tables.

use serde::Serialize;

use super::model::ModelReport;
use super::options::WriteOptions;
use super::text::TextReport;
use crate::device::DeviceReport;
use crate::plan::{Method, Operator, Selection};
use crate::quality::{Quality, mean_and_error};

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
    /// Mean divergence from the original on each sequence of the evaluation text, in nats per token.
    pub kl_by_sequence: Vec<f64>,
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
            kl_by_sequence: Vec::new(),
            parameters: 0,
            bytes: 0,
            seconds: 0.0,
            error: None,
            warnings: Vec::new(),
        }
    }
}

/// How much further from the original one method is than another, on the same sequences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Mean difference of divergences in nats per token.
    pub difference: f64,
    /// Half the width of its 95 % confidence interval over sequences, by Student's distribution.
    pub margin: f64,
}

impl Paired {
    /// `row` less `baseline`, sequence by sequence; `None` where they were not measured on the same ones or on
    /// fewer than two.
    pub fn of(row: &CompareRow, baseline: &CompareRow) -> Option<Self> {
        let (own, other) = (&row.kl_by_sequence, &baseline.kl_by_sequence);
        if own.len() != other.len() {
            return None;
        }
        let differences: Vec<f64> = own.iter().zip(other).map(|(own, other)| own - other).collect();
        let (difference, error) = mean_and_error(&differences)?;
        Some(Self { difference, margin: student(own.len() as f64 - 1.0) * error })
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
            "method,selection,operator,removed,layers,perplexity,kl,kl_standard_error,top1_agreement,collapsed,parameters,bytes,seconds,error\n",
        );
        let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
        let quote = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut line = |cells: &[String]| out.push_str(&(cells.join(",") + "\n"));
        let quality = |q: Option<Quality>, kl: &[f64]| {
            [
                number(q.map(|q| q.perplexity)),
                number(q.and_then(|q| q.kl)),
                number(mean_and_error(kl).map(|(_, error)| error)),
                number(q.and_then(|q| q.top1_agreement)),
                q.map(|q| q.collapsed.to_string()).unwrap_or_default(),
            ]
        };
        let none = String::new;
        let layers = self.model.layers.to_string();
        let mut cells = vec!["original".to_owned(), none(), none(), "0".to_owned(), layers];
        cells.extend(quality(Some(self.original), &[]));
        cells.extend([self.parameters.to_string(), self.bytes.to_string(), none(), none()]);
        line(&cells);
        for row in &self.rows {
            let mut cells = vec![row.method.clone(), row.selection.to_string(), row.operator.to_string()];
            cells.extend([row.removed.to_string(), row.layers.to_string()]);
            cells.extend(quality(row.quality, &row.kl_by_sequence));
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
                    kl_with_error(q.kl, &row.kl_by_sequence),
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
        let mut counts: Vec<usize> = self.rows.iter().map(|row| row.removed).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
            .into_iter()
            .filter_map(|removed| self.differences(removed))
            .for_each(|line| out.push_str(&line));
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

impl CompareReport {
    /// A sentence on how far every method that removed `removed` layers is from the best of them; `None` where
    /// there are not two.
    fn differences(&self, removed: usize) -> Option<String> {
        let rows = || self.rows.iter().filter(|row| row.removed == removed);
        let kl = |row: &CompareRow| row.quality.and_then(|quality| quality.kl);
        let known = rows().filter_map(|row| Some((row, kl(row)?)));
        let (best, _) = known.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let others = rows().filter(|row| !std::ptr::eq(*row, best)).filter_map(|row| {
            let Paired { difference, margin } = Paired::of(row, best)?;
            Some(format!("{} {difference:.3} ± {margin:.3}", row.method))
        });
        let others = others.collect::<Vec<_>>().join(", ");
        (!others.is_empty()).then(|| {
            format!(
                "\nKL above that of {}, the least at {removed} layers, on the same sequences (95 % intervals): {others}.\n",
                best.method
            )
        })
    }
}

/// `0.524 ± 0.021`, as far as it is known.
fn kl_with_error(kl: Option<f64>, by_sequence: &[f64]) -> String {
    match (kl, mean_and_error(by_sequence)) {
        (Some(kl), Some((_, error))) => format!("{kl:.3} ± {error:.3}"),
        (Some(kl), None) => format!("{kl:.3}"),
        (None, _) => String::new(),
    }
}

/// The 97.5 % quantile of Student's distribution with `freedom` degrees of freedom, by its expansion about the
/// normal one (Abramowitz and Stegun 26.7.5): within 0.5 % from 3 degrees on.
fn student(freedom: f64) -> f64 {
    let z = 1.959_964_f64;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z)
            / 92160.0,
    ];
    z + terms.iter().zip(1..).map(|(term, power)| term / freedom.powi(power)).sum::<f64>()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student_are_the_known_ones() {
        for (freedom, known) in [(3.0, 3.182), (7.0, 2.365), (15.0, 2.131), (31.0, 2.040), (1e9, 1.960)] {
            assert!((student(freedom) - known).abs() < 0.005 * known, "{freedom} {}", student(freedom));
        }
    }

    #[test]
    fn paired_differences_do_not_know_how_hard_a_sequence_is() {
        let row = |kl: &[f64]| {
            let method = Method::named("shortgpt").unwrap();
            CompareRow { kl_by_sequence: kl.to_vec(), ..CompareRow::new(&method, 1, 1) }
        };
        let (easy, hard) = (row(&[0.1, 1.1, 4.1, 2.1]), row(&[0.3, 1.3, 4.3, 2.3]));
        let paired = Paired::of(&hard, &easy).unwrap();
        assert!((paired.difference - 0.2).abs() < 1e-12 && paired.margin < 1e-12);
        // Differences 1 and 3: mean 2, standard deviation sqrt 2, standard error 1.
        let paired = Paired::of(&row(&[1.0, 3.0]), &row(&[0.0, 0.0])).unwrap();
        assert!((paired.margin - student(1.0)).abs() < 1e-12);
        assert_eq!(Paired::of(&row(&[1.0]), &row(&[0.0])), None);
        assert_eq!(Paired::of(&row(&[1.0, 2.0]), &row(&[0.0])), None);
    }
}
