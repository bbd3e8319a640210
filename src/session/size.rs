//! The stage that finds the best model of a size.

use web_time::Instant;

use super::bounds::bound;
use super::stages::keeping;
use super::{RunOptions, Session};
use crate::format::Container;
use crate::methods::operators::supports;
use crate::methods::sizing::{Found, Target, best_of_size, most_removed};
use crate::methods::{Resources, experts};
use crate::plan::PlanOptions;
use crate::protocol::compare::Paired;
use crate::protocol::options::WriteOptions;
use crate::protocol::sizing::{SizeRange, SizeReport, SizeSearch, SizedModel};
use crate::write::bytes_beside_tensors;
use crate::write::check::check_output;
use crate::{Error, Result};

impl Session {
    /// Checks, before any layer runs, that a GGUF file of at most `size` bytes can be made as `options` and `output` say;
    /// see [`best_of_size`](Session::best_of_size).
    ///
    /// # Errors
    /// [`Error::Usage`] if `output` is no GGUF file or gives a type, if the model is not larger than `size`, or, naming the
    /// smallest size, if it cannot become that small; [`Error::Unsupported`] if the files cannot hold what would be left.
    pub async fn check_size(&self, size: u64, options: &PlanOptions, output: &WriteOptions) -> Result<()> {
        self.bounds(options, output).await?.target(size, output).check(&self.model)
    }

    /// Returns the sizes between which the best model can be found as `options` and `output` say: the smallest that the model
    /// can become, and what it has without other types. Only headers are read.
    ///
    /// # Errors
    /// Those of [`check_size`](Session::check_size) that do not go by the size.
    pub async fn size_range(&self, options: &PlanOptions, output: &WriteOptions) -> Result<SizeRange> {
        let bounds = self.bounds(options, output).await?;
        let target = bounds.target(0, output);
        Ok(SizeRange { least: target.least(&self.model)?.0, most: target.most(&self.model)? })
    }

    /// Finds the best model whose GGUF file has at most `size` bytes, after [`similarity`](Session::similarity): how many
    /// layers go, if `options` do not say, and in which type each part of the model is stored (see
    /// [`crate::internals::methods::sizing`]). At most two thirds of the layers go. The best model is then the plan of the session,
    /// which [`write`](Session::write) writes with [`PlanReport::output`](crate::protocol::plan::PlanReport::output).
    ///
    /// # Errors
    /// Those of [`check_size`](Session::check_size) and [`plan`](Session::plan).
    pub async fn best_of_size(
        &mut self,
        size: u64,
        options: &PlanOptions,
        output: &WriteOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<SizeReport> {
        let RunOptions { observer, store, .. } = run.into();
        let start = Instant::now();
        self.planned = None;
        experts::check(&self.model.config, options.remove_experts)?;
        let calibrated = self.calibrated()?;
        let bounds = self.bounds(options, output).await?;
        let target = bounds.target(size, output);
        target.check(&self.model)?;
        let context = self.context(calibrated, output, observer);
        let kept = keeping(store, &context).await?;
        let resources = Resources { kept: kept.as_ref(), ..self.resources(output) };
        let judge = self.judge(calibrated, options.operator, output, observer).await?;
        let found = best_of_size(
            &context,
            &resources,
            &target,
            calibrated.baseline(),
            judge.as_deref(),
            &calibrated.text,
        );
        let Found { parts, removals, models, options, output, mut outcome } = found.await?;
        outcome.warnings.extend(bounds.notes);
        let planned = self.report(calibrated, judge.as_deref(), Some(options), outcome, &output, start)?;
        let difference = match &models[..] {
            [best, next, ..] => Paired::of(&next.kl_by_sequence, &best.kl_by_sequence),
            _ => None,
        };
        let sentence = sentence(&models, difference, self.model.config.n_layers);
        let plan = self.keep(planned);
        let search = SizeSearch {
            size,
            bytes_beside_tensors: bounds.beside,
            parts,
            removals,
            models,
            difference,
            sentence,
        };
        Ok(SizeReport { search, plan })
    }

    /// Finds out what may be done to reach a size. Only headers are read.
    ///
    /// # Errors
    /// Those of [`check_size`](Session::check_size) that do not go by the size.
    async fn bounds(&self, options: &PlanOptions, output: &WriteOptions) -> Result<Bounds> {
        if output.storage(&self.model).container != Container::Gguf {
            return Err(Error::Usage(
                "types for a size are chosen among those of GGUF files: name a .gguf file to write"
                    .to_owned(),
            ));
        }
        if output.dtype.is_some() || output.pack.is_some() {
            return Err(Error::Usage(
                "a size chooses the types of the matrices: leave out the type, or the size".to_owned(),
            ));
        }
        supports(options.operator, &self.model.config)?;
        let notes = check_output(&self.model, output).await?;
        let removals = self.removals(options, output)?;
        Ok(Bounds { removals, beside: bytes_beside_tensors(&self.model, output).await?, notes })
    }

    /// Lists the numbers of layers that may go, each with the options of a plan: the number that `options` give, or all from
    /// none to two thirds of the layers that the files can do without.
    fn removals(&self, options: &PlanOptions, output: &WriteOptions) -> Result<Vec<(usize, PlanOptions)>> {
        let n_layers = self.model.config.n_layers;
        let all = match options.goal() {
            Some(given) => given..given + 1,
            None => 0..most_removed(n_layers) + 1,
        };
        let mut removals = Vec::new();
        for removed in all {
            let mut own = PlanOptions { remove: Some(removed), ..options.clone() };
            own.clone().check(n_layers, &[])?;
            if removed > 0 {
                match bound(&self.model, output, &mut own) {
                    Err(Error::Unsupported(_)) if options.goal().is_none() => continue,
                    other => other?,
                };
            }
            removals.push((removed, own));
        }
        Ok(removals)
    }
}

/// What may be done to reach a size.
struct Bounds {
    /// Numbers of layers that may go, each with the options of a plan.
    removals: Vec<(usize, PlanOptions)>,
    /// Bytes of the file that are not of tensors.
    beside: u64,
    /// Notes on the file to the reader.
    notes: Vec<String>,
}

impl Bounds {
    fn target<'a>(&'a self, limit: u64, output: &'a WriteOptions) -> Target<'a> {
        Target { limit, beside: self.beside, removals: &self.removals, output }
    }
}

/// Says in words which model is the best, and by how much: `difference` is what the divergence of the next is larger.
fn sentence(models: &[SizedModel], difference: Option<Paired>, n_layers: usize) -> String {
    let words = |model: &SizedModel| {
        let layers = match model.removed {
            0 => format!("all {n_layers} layers"),
            _ => format!("{} of {n_layers} layers", model.layers),
        };
        let dtype = match model.dtype {
            None => "in the types that they have".to_owned(),
            Some(dtype) if dtype.part_types().is_some() => "in types chosen part by part".to_owned(),
            Some(dtype) => format!("in {dtype}"),
        };
        let kl = model.quality.kl.unwrap_or(f64::NAN);
        format!("{layers} {dtype} ({:.1} MB, KL {kl:.4})", model.bytes as f64 / 1e6)
    };
    match models {
        [] => String::new(),
        [only] => format!("The best is {}.", words(only)),
        [best, next, ..] => match difference {
            Some(Paired { difference, margin }) if difference.abs() <= margin => format!(
                "The best is {}; {} is as good within the noise of the text.",
                words(best),
                words(next)
            ),
            Some(Paired { difference, margin }) => format!(
                "The best is {}, by {difference:.4} ± {margin:.4} nats a token before {}.",
                words(best),
                words(next)
            ),
            None => format!("The best is {}, before {}.", words(best), words(next)),
        },
    }
}
