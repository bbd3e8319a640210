//! The page's types, generated from the types that cross the engine's border.
//!
//! `subjects!` lists the files of `www/engine/protocol/` and the types of each. `npm run protocol` writes these files, and
//! `npm test` fails if they are not what these types say.

#![cfg(test)]

use std::any::TypeId;
use std::path::PathBuf;

use ts_rs::{Config, TS, TypeVisitor};

use super::compare::{CompareReport, CompareRow, Paired, StoredOriginal};
use super::events::{Event, Kept, LayerDone, Progress, Stage, Unit};
use super::heal::{HealOptions, HealPoint, HealReport};
use super::model::ModelReport;
use super::options::{BuiltIn, CalibrationOptions, CompareOptions, TextOptions, WriteOptions};
use super::plan::{
    BeforeAfter, CalibrationPoint, ImatrixFile, JudgingText, PlanReport, Recipe, RemovedExperts, StoredSize,
    UsedImatrix, WriteReport, WrittenFile,
};
use super::similarity::{MetricReport, SimilarityReport};
use super::sizing::{MeasuredRemoval, PricedPart, PricedType, SizeRange, SizeReport, SizeSearch, SizedModel};
use super::text::{Draw, PointReport, PointRule, PointsReport, TextReport};
use super::verdict::{Candidate, Verdict};
use crate::analysis::atlas::MapOptions;
use crate::device::{DeviceKind, DeviceReport, Preference};
use crate::format::Container;
use crate::format::element::Element;
use crate::format::packed::PackedType;
use crate::maths::manifold::Normalise;
use crate::maths::similarity::Metric;
use crate::model::weights::file_type::FileType;
use crate::model::weights::part_types::{self, Part};
use crate::model::weights::storage::{Requantise, Rounding};
use crate::plan::{Alpha, ExpertSelection, MergePlan, MergeStep, Method, Operator, PlanOptions, Selection};
use crate::quality::Quality;
use crate::session::estimate::{Estimate, PlanEstimate};

/// Declares a TypeScript type of the name `$name` for a Rust type that writes itself as text, or as text or a number.
macro_rules! written {
    ($(#[doc = $about:literal])* $type:ty, $name:literal = $value:expr) => {
        impl TS for $type {
            type WithoutGenerics = Self;
            type OptionInnerType = Self;

            fn name(_: &Config) -> String {
                $name.to_owned()
            }

            fn inline(_: &Config) -> String {
                $value
            }

            fn decl(config: &Config) -> String {
                format!("type {} = {};", $name, Self::inline(config))
            }

            fn decl_concrete(config: &Config) -> String {
                Self::decl(config)
            }

            fn docs() -> Option<String> {
                Some(concat!("/**\n", $(" *", $about, "\n",)* " */\n").to_owned())
            }

            fn output_path() -> Option<PathBuf> {
                Some(PathBuf::from($name))
            }
        }
    };
}

/// File type of a model, or `keep` where each tensor keeps its own: `Option<FileType>` of the engine.
pub(super) struct NumberType;

/// File type of a quantised model.
struct QuantisedType;

/// File type that names a type for each part of a model.
struct PartTypes;

written! {
    /// File type; `keep` is the type that each tensor has.
    NumberType, "NumberType" = format!("{} | QuantisedType | PartTypes", union(
        std::iter::once("keep".to_owned()).chain(FileType::all().filter(|each| !is_quantised(each)).map(|each| each.to_string()))
    ))
}
written! {
    /// Quantised file type, for GGUF files only.
    QuantisedType, "QuantisedType" = union(FileType::all().filter(is_quantised).map(|each| each.to_string()))
}
written! {
    /// A type for each part of a model, such as `parts:head=q6_k+up=q4_k/q4_k/keep`.
    PartTypes, "PartTypes" = format!("`{}${{string}}`", part_types::PREFIX)
}
written! {
    /// Type in which the projections of a Hugging Face folder are packed, with the number of weights that share a scale.
    PackedType, "PackedType" = union(PackedType::all().map(|each| each.to_string()))
}
written! {
    /// Which parts of a longer text the sequences are: the first, evenly from all of the text, or drawn from a seed.
    Draw, "Draw" = "'first' | 'spread' | `random:${number}`".to_owned()
}
written! {
    /// Rule that chooses the hidden states of a sequence that are points.
    PointRule, "PointRule" = "'last' | 'mean' | `tokens:${number}`".to_owned()
}
written! {
    /// Share of the first of two merged layers.
    Alpha, "Alpha" = "'similarity' | 'search' | number".to_owned()
}

fn is_quantised(each: &FileType) -> bool {
    matches!(each.element(), Element::Block(_))
}

fn union(names: impl Iterator<Item = String>) -> String {
    names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" | ")
}

/// A type as TypeScript declares it.
struct Declaration {
    id: TypeId,
    name: String,
    text: String,
    /// Names of the types that it mentions.
    mentions: Vec<String>,
}

/// Collects the names of the types that another type mentions.
struct Mentions<'a> {
    config: &'a Config,
    names: Vec<String>,
}

impl TypeVisitor for Mentions<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if T::output_path().is_some() {
            self.names.push(T::ident(self.config));
        }
    }
}

fn declaration<T: TS + 'static + ?Sized>(config: &Config) -> Declaration {
    let mut mentions = Mentions { config, names: Vec::new() };
    T::visit_dependencies(&mut mentions);
    let docs = T::docs().unwrap_or_default();
    let text = in_javascript(&format!("{docs}export {}", T::decl(config)));
    Declaration { id: TypeId::of::<T>(), name: T::ident(config), text, mentions: mentions.names }
}

/// Returns the declaration `text` with the words of JavaScript in its documentation: `null` for `None`, and names without
/// their links. Examples are left out, because they are of Rust. What fits on one line stands on one line.
fn in_javascript(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in without_links(&text.replace("`None`", "`null`")).lines() {
        let is_text = |line: &String| line.starts_with(" * ") && line != " * # Examples";
        match lines.as_slice() {
            [.., open, only] if line.trim() == "*/" && open == "/**" && is_text(only) => {
                let only = format!("/** {} */", &only[3..]);
                lines.truncate(lines.len() - 2);
                lines.push(only);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    while let Some(start) = lines.iter().position(|line| line == " * # Examples") {
        let end = lines[start..].iter().position(|line| line.trim() == "*/").unwrap_or(0);
        // With the empty line before the examples.
        lines.drain(start - 1..start + end);
    }
    lines.join("\n")
}

/// Replaces ``[`name`](target)`` and ``[`name`]`` by the name.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        out += &format!("{before}`{name}`");
        let target = after.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        rest = target.map_or(after, |(_, after)| after);
    }
    out + rest
}

macro_rules! subjects {
    ($($file:literal, $about:literal: $($type:ty)*;)*) => {
        /// Returns the files, what each is about, and the declarations in it.
        fn subjects(config: &Config) -> Vec<(&'static str, &'static str, Vec<Declaration>)> {
            vec![$(($file, $about, vec![$(declaration::<$type>(config)),*])),*]
        }
    };
}

subjects! {
    "compare", "Methods side by side.":
        CompareOptions CompareRow StoredOriginal Candidate Paired Verdict CompareReport;
    "device", "What the engine computes on.": Preference DeviceKind DeviceReport;
    "estimate", "What a run will take.": Estimate PlanEstimate;
    "events", "What the engine tells while it works.": Stage Unit Progress LayerDone Kept Event;
    "heal", "Healing, and what it did.": HealOptions HealPoint HealReport;
    "imatrix", "Importances of the columns of matrices, as files hold them.": ImatrixFile UsedImatrix;
    "maps", "Maps made again with other parameters.": MapOptions;
    "method", "Which layers go, and what becomes of them.": Selection Operator ExpertSelection Method;
    "model", "What was opened.": Container ModelReport;
    "output", "How a model is stored, and what was written.":
        QuantisedType PartTypes NumberType PackedType Rounding Requantise WriteOptions WrittenFile WriteReport;
    "plan", "What is asked of a plan, the plan, and what it is worth.":
        Alpha PlanOptions MergeStep MergePlan RemovedExperts StoredSize BeforeAfter PlanReport;
    "quality", "How much was lost.": Quality CalibrationPoint;
    "recipe", "Everything that is needed to repeat a compression.": JudgingText Recipe;
    "similarity", "What the layers are compared by, and how alike they are.":
        Metric Normalise CalibrationOptions PointRule PointsReport PointReport SimilarityReport MetricReport;
    "sizing", "The best model of a size, and how it was found.":
        SizeRange Part PricedType PricedPart MeasuredRemoval SizedModel SizeSearch SizeReport;
    "text", "What is read: the calibration text, and the one that results are measured on.":
        Draw BuiltIn TextOptions TextReport;
}

/// Returns the text of each file, as yet without line breaks that a person would make.
fn files() -> Vec<(String, String)> {
    let config = Config::default().with_large_int("number");
    let subjects = subjects(&config);
    let place = |name: &str| {
        let mut places = subjects.iter().filter(|(_, _, all)| all.iter().any(|each| each.name == name));
        let (Some((file, ..)), None) = (places.next(), places.next()) else {
            panic!("{name} must be declared in one file of the page's types")
        };
        *file
    };
    let text = |(file, about, declarations): &(&str, &str, Vec<Declaration>)| {
        let mut imports: Vec<(&str, &str)> = Vec::new();
        for name in declarations.iter().flat_map(|each| &each.mentions) {
            let import = (place(name), name.as_str());
            if import.0 != *file && !imports.contains(&import) {
                imports.push(import);
            }
        }
        imports.sort_unstable();
        let imports = imports.chunk_by(|a, b| a.0 == b.0).map(|names| {
            let (from, _) = names[0];
            let names: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
            format!("import type {{ {} }} from './{from}'", names.join(", "))
        });
        let imports = imports.collect::<Vec<_>>().join("\n");
        let declarations =
            declarations.iter().map(|each| each.text.as_str()).collect::<Vec<_>>().join("\n\n");
        format!(
            "/** {about} Made by `npm run protocol` from src/protocol/; not to be edited. */\n\n{imports}\n\n{declarations}\n"
        )
    };
    subjects.iter().map(|each| (format!("{}.ts", each.0), text(each))).collect()
}

/// Writes the files into the folder that `LAMINATE_PROTOCOL` names, if it names one.
#[test]
fn every_type_that_crosses_is_declared_once() {
    let files = files();
    let config = Config::default();
    let mut ids: Vec<TypeId> =
        subjects(&config).into_iter().flat_map(|(.., all)| all).map(|each| each.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    if let Some(folder) = std::env::var_os("LAMINATE_PROTOCOL").map(PathBuf::from) {
        for (name, text) in &files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
}

#[test]
fn documentation_has_the_words_of_javascript() {
    let said = in_javascript("The [`dtype`](Self::dtype) of [`MergePlan`]; `None` if none, [sic] (so).");
    assert_eq!(said, "The `dtype` of `MergePlan`; `null` if none, [sic] (so).");
    assert_eq!(in_javascript("/**\n * One line.\n */\na: number"), "/** One line. */\na: number");
    let with_example = "/**\n * Two\n * lines.\n *\n * # Examples\n * ```\n * x\n * ```\n */\na: number";
    assert_eq!(in_javascript(with_example), "/**\n * Two\n * lines.\n */\na: number");
}
