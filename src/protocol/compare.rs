//! Comparison of methods, as JSON and as tables.

use serde::Serialize;

use super::model::ModelReport;
use super::options::{WriteOptions, dtype};
use super::plan::ImatrixFile;
use super::text::TextReport;
use super::verdict::Verdict;
use crate::device::DeviceReport;
use crate::model::weights::file_type::FileType;
use crate::plan::{Method, Operator, Selection};
use crate::quality::{Quality, mean_and_error};

/// Result of one method at one number of removed layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct CompareRow {
    /// Name of the method.
    pub method: String,
    /// Rule by which the method selects layers.
    pub selection: Selection,
    /// Operator that turns each span into one layer.
    pub operator: Operator,
    /// File type in which the model would be stored; `None` if each tensor keeps its type.
    #[serde(serialize_with = "dtype::serialize")]
    #[cfg_attr(test, ts(as = "Option<super::typescript::NumberType>", optional))]
    pub dtype: Option<FileType>,
    /// Number of layers that were to be removed.
    pub removed: usize,
    /// Number of layers of the compressed model.
    pub layers: usize,
    /// For each layer of the compressed model, the indices of the original layers that became this layer;
    /// empty if the method failed before it had a plan.
    pub groups: Vec<Vec<usize>>,
    /// Quality of the compressed model on the evaluation text; `None` if the method failed.
    pub quality: Option<Quality>,
    /// Mean KL divergence from the original on each sequence of the evaluation text, in nats per token.
    #[cfg_attr(test, ts(as = "Option<Vec<f64>>", optional))]
    pub kl_by_sequence: Vec<f64>,
    /// Number of parameters of the compressed model.
    pub parameters: u64,
    /// Stored size of the compressed model's tensors in bytes.
    pub bytes: u64,
    /// Wall-clock time of selecting, building and measuring, in seconds. Work that methods share counts for
    /// the first of them.
    pub seconds: f64,
    /// Reason why the method failed; `None` if it did not fail.
    pub error: Option<String>,
    /// Warnings to the reader, in sentences.
    pub warnings: Vec<String>,
}

impl CompareRow {
    /// Makes a row for `method` in which nothing is measured yet.
    pub fn new(method: &Method, removed: usize, layers: usize) -> Self {
        Self {
            method: method.name.to_string(),
            selection: method.selection,
            operator: method.operator,
            dtype: None,
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

/// The original in another file type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct StoredOriginal {
    /// File type.
    #[serde(serialize_with = "dtype::serialize")]
    #[cfg_attr(test, ts(as = "super::typescript::NumberType"))]
    pub dtype: Option<FileType>,
    /// Quality on the evaluation text.
    pub quality: Quality,
    /// Mean KL divergence from the original as it is on each sequence of the evaluation text, in nats per token.
    pub kl_by_sequence: Vec<f64>,
    /// Stored size of the tensors in bytes.
    pub bytes: u64,
    /// Wall-clock time of measuring in seconds.
    pub seconds: f64,
}

/// Difference between the KL divergences of two methods from the original, paired by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Paired {
    /// Mean difference of the KL divergences in nats per token.
    pub difference: f64,
    /// Half the width of the 95 % confidence interval of `difference` over sequences, by Student's
    /// distribution.
    pub margin: f64,
}

impl Paired {
    /// Subtracts the divergences `other` from the divergences `own`, sequence by sequence. `None` if the two were measured on
    /// different numbers of sequences, or on fewer than two.
    pub fn of(own: &[f64], other: &[f64]) -> Option<Self> {
        if own.len() != other.len() {
            return None;
        }
        let differences: Vec<f64> = own.iter().zip(other).map(|(own, other)| own - other).collect();
        let (difference, error) = mean_and_error(&differences)?;
        Some(Self { difference, margin: student(own.len() as f64 - 1.0) * error })
    }
}

/// Report of several methods, measured on the same text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct CompareReport {
    /// The original model.
    pub model: ModelReport,
    /// Calibration text, by which methods select layers and to which operators fit.
    pub calibration: TextReport,
    /// Evaluation text, on which the compressed models were measured.
    pub evaluation: TextReport,
    /// Share of the evaluation text that was seen in calibration, 0 to 1.
    pub overlap: f64,
    /// Quality of the original on the evaluation text.
    pub original: Quality,
    /// Number of parameters of the original.
    pub parameters: u64,
    /// Stored size of the original's tensors in bytes.
    pub bytes: u64,
    /// Seed of random choices.
    pub seed: u64,
    /// How the compressed models were assumed to be stored.
    #[cfg_attr(test, ts(as = "Option<WriteOptions>", optional))]
    pub output: WriteOptions,
    /// Importance matrix from a file that tensors were encoded by; `None` if there was none, or it was collected on the
    /// calibration text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub imatrix: Option<ImatrixFile>,
    /// The original in each file type that was asked for and is not that of its own files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<StoredOriginal>>", optional))]
    pub originals: Vec<StoredOriginal>,
    /// One row for each file type, method and number of removed layers, in the order asked for.
    pub rows: Vec<CompareRow>,
    /// What is best at each size; empty if only one file type was asked for and no size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<Verdict>>", optional))]
    pub verdicts: Vec<Verdict>,
    /// Whether the comparison was stopped before its end.
    pub cancelled: bool,
    /// Warnings to the reader, in sentences.
    pub warnings: Vec<String>,
    /// Device that ran the comparison.
    pub device: DeviceReport,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Peak memory of the process in bytes, 0 if it is unknown.
    pub peak_memory_bytes: u64,
}

impl CompareReport {
    /// Returns the table as comma-separated values: a header, a line for the original, and a line for each
    /// row.
    pub fn to_csv(&self) -> String {
        let mut out = String::from(
            "method,selection,operator,removed,layers,perplexity,kl,kl_standard_error,top1_agreement,collapsed,parameters,bytes,seconds,error,dtype\n",
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
        cells.extend([self.parameters.to_string(), self.bytes.to_string(), none(), none(), none()]);
        line(&cells);
        let of_type = |dtype: Option<FileType>| dtype.map(|dtype| dtype.to_string()).unwrap_or_default();
        for each in &self.originals {
            let mut cells =
                vec!["original".to_owned(), none(), none(), "0".to_owned(), self.model.layers.to_string()];
            cells.extend(quality(Some(each.quality), &each.kl_by_sequence));
            cells.extend([
                self.parameters.to_string(),
                each.bytes.to_string(),
                format!("{:.2}", each.seconds),
            ]);
            cells.extend([none(), of_type(each.dtype)]);
            line(&cells);
        }
        for row in &self.rows {
            let mut cells = vec![row.method.clone(), row.selection.to_string(), row.operator.to_string()];
            cells.extend([row.removed.to_string(), row.layers.to_string()]);
            cells.extend(quality(row.quality, &row.kl_by_sequence));
            cells.extend([row.parameters.to_string(), row.bytes.to_string(), format!("{:.2}", row.seconds)]);
            cells.push(quote(row.error.as_deref().unwrap_or_default()));
            cells.push(of_type(row.dtype));
            line(&cells);
        }
        out
    }

    /// Returns the table in Markdown, with the paired differences, the texts and the seed below it.
    pub fn to_markdown(&self) -> String {
        let mut out = String::from(
            "| method | selection + operator | removed | perplexity | KL | same top token | MB | s |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let of_type = |dtype: Option<FileType>| dtype.map_or(String::new(), |dtype| format!(" in {dtype}"));
        let measured = |q: Quality, kl: &[f64], bytes: u64, seconds: f64| {
            format!(
                " {}{} | {} | {} | {} | {seconds:.1} |\n",
                significant(q.perplexity),
                if q.collapsed { " **collapsed**" } else { "" },
                kl_with_error(q.kl, kl),
                q.top1_agreement.map(|share| format!("{:.1} %", 100.0 * share)).unwrap_or_default(),
                megabytes(bytes),
            )
        };
        out.push_str(&format!(
            "| original | | 0 | {} | | | {} | |\n",
            significant(self.original.perplexity),
            megabytes(self.bytes)
        ));
        for each in &self.originals {
            let cells = measured(each.quality, &each.kl_by_sequence, each.bytes, each.seconds);
            out.push_str(&format!("| original{} | | 0 |{cells}", of_type(each.dtype)));
        }
        for row in &self.rows {
            let name = format!(
                "| {}{} | {} + {} | {} |",
                row.method,
                of_type(row.dtype),
                row.selection,
                row.operator,
                row.removed
            );
            let rest = match (row.quality, &row.error) {
                (Some(q), _) => measured(q, &row.kl_by_sequence, row.bytes, row.seconds),
                (None, error) => {
                    let error = error.as_deref().unwrap_or("not measured");
                    format!(" failed: {} | | | | |\n", error.replace('|', "\\|"))
                }
            };
            out.push_str(&(name + &rest));
        }
        let mut groups: Vec<(usize, Option<FileType>)> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&(row.removed, row.dtype)) {
                groups.push((row.removed, row.dtype));
            }
        }
        groups.sort_by_key(|(removed, _)| *removed);
        let lines = groups.into_iter().filter_map(|(removed, dtype)| self.differences(removed, dtype));
        lines.for_each(|line| out.push_str(&line));
        self.verdicts.iter().for_each(|verdict| out.push_str(&format!("\n{}\n", verdict.sentence)));
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
    /// Returns a sentence on how far every method that removed `removed` layers is from the best of these
    /// methods, all in the type `dtype`. `None` if no two of them can be compared.
    fn differences(&self, removed: usize, dtype: Option<FileType>) -> Option<String> {
        let rows = || self.rows.iter().filter(|row| (row.removed, row.dtype) == (removed, dtype));
        let kl = |row: &CompareRow| row.quality.and_then(|quality| quality.kl);
        let known = rows().filter_map(|row| Some((row, kl(row)?)));
        let (best, _) = known.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let others = rows().filter(|row| !std::ptr::eq(*row, best)).filter_map(|row| {
            let Paired { difference, margin } = Paired::of(&row.kl_by_sequence, &best.kl_by_sequence)?;
            Some(format!("{} {difference:.3} ± {margin:.3}", row.method))
        });
        let others = others.collect::<Vec<_>>().join(", ");
        (!others.is_empty()).then(|| {
            let stored = dtype.map_or(String::new(), |dtype| format!(" in {dtype}"));
            format!(
                "\nKL above that of {}, the least at {removed} layers{stored}, on the same sequences (95 % intervals): {others}.\n",
                best.method
            )
        })
    }
}

/// Formats a divergence and its standard error, such as `0.524 ± 0.021`, as far as they are known.
fn kl_with_error(kl: Option<f64>, by_sequence: &[f64]) -> String {
    match (kl, mean_and_error(by_sequence)) {
        (Some(kl), Some((_, error))) => format!("{kl:.3} ± {error:.3}"),
        (Some(kl), None) => format!("{kl:.3}"),
        (None, _) => String::new(),
    }
}

/// Returns the 97.5 % quantile of Student's distribution with `freedom` degrees of freedom, by its expansion
/// about the normal quantile (Abramowitz and Stegun 26.7.5): within 0.5 % from 3 degrees on.
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

/// Formats a number with up to two decimals and about four significant digits; from 1e6 on with a power of
/// ten.
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
        let (easy, hard) = ([0.1, 1.1, 4.1, 2.1], [0.3, 1.3, 4.3, 2.3]);
        let paired = Paired::of(&hard, &easy).unwrap();
        assert!((paired.difference - 0.2).abs() < 1e-12 && paired.margin < 1e-12);
        // Differences 1 and 3: mean 2, standard deviation sqrt 2, standard error 1.
        let paired = Paired::of(&[1.0, 3.0], &[0.0, 0.0]).unwrap();
        assert!((paired.margin - student(1.0)).abs() < 1e-12);
        assert_eq!(Paired::of(&[1.0], &[0.0]), None);
        assert_eq!(Paired::of(&[1.0, 2.0], &[0.0]), None);
    }
}
