//! Healing of the model that was planned last.

use web_time::Instant;

use super::{Session, before_similarity};
use crate::error::OrInternal;
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::reference::Reference;
use crate::forward::context::Context;
use crate::forward::sequences::{Sequences, sequences};
use crate::heal;
use crate::plan::MergePlan;
use crate::protocol::heal::HealOptions;
use crate::protocol::options::{CalibrationOptions, TextOptions, WriteOptions};
use crate::protocol::plan::{JudgingText, PlanReport};
use crate::protocol::text::{Draw, TextReport};
use crate::quality::Quality;
use crate::session::RunOptions;
use crate::{Result, memory};

impl Session {
    /// Checks, before any layer runs, that a model that is stored as `output` says can be healed after a similarity stage with
    /// the options `calibration`.
    ///
    /// # Errors
    /// Those of [`HealOptions::check`]; [`Error::Usage`](crate::Error::Usage) if more than 1 % of the text of
    /// [`judge_on`](Session::judge_on) is in the calibration text; [`Error::Unsupported`](crate::Error::Unsupported) if no
    /// gradient goes through the last layer, or if weights are rounded by what their inputs are;
    /// [`Error::Limit`](crate::Error::Limit) for a text that does not fill a sequence.
    pub fn check_heal(
        &self,
        options: &HealOptions,
        calibration: &CalibrationOptions,
        output: &WriteOptions,
    ) -> Result<()> {
        options.check()?;
        // Whatever becomes one, a gradient comes through the last layer.
        let last = self.model.config.n_layers.checked_sub(1);
        heal::check_layers(&self.model, last.into_iter(), output.storage(&self.model))?;
        let (sequences, _) = self.text_to_heal_on(calibration)?;
        HeldOut::check(&self.model, &self.judge_on, &sequences, true)
    }

    /// Heals the model of `plan`, stored as `output` says, after [`similarity`](Session::similarity): the layers that were made
    /// of several are trained to give the original's next-word distribution on all of the calibration text, and the model is
    /// measured on the text of [`judge_on`](Session::judge_on). The best state is kept, and is what
    /// [`write`](Session::write) writes. A model that was not [planned](Session::plan) or [measured](Session::measure) last is
    /// made and measured first; one that was healed before is healed anew from where it was before that.
    ///
    /// # Errors
    /// Those of [`check_heal`](Session::check_heal) and [`measure`](Session::measure), and of running layers (see
    /// [`Session`]).
    pub async fn heal(
        &mut self,
        plan: &MergePlan,
        output: &WriteOptions,
        options: &HealOptions,
        run: impl Into<RunOptions<'_>>,
    ) -> Result<PlanReport> {
        let run = run.into();
        let (observer, start) = (run.observer, Instant::now());
        options.check()?;
        heal::check(&self.model, plan, output.storage(&self.model))?;
        let calibrated = self.calibrated.as_ref().ok_or_else(before_similarity)?;
        let (sequences, text) = self.text_to_heal_on(&calibrated.options)?;
        HeldOut::check(&self.model, &self.judge_on, &sequences, true)?;
        if self.planned_as(plan, output).is_none() {
            self.measure(plan, output, run).await?;
        }
        let calibrated = self.calibrated.as_ref().ok_or_else(before_similarity)?;
        let planned = self.planned.as_ref().or_internal("a plan that was measured is gone")?;
        let before = planned.unhealed.as_ref().unwrap_or(&planned.layers).clone();
        let held_out = self.held_out(calibrated, &self.judge_on, observer).await?;
        let context = Context { sequences: &sequences, ..self.context(calibrated, output, observer) };
        let judging = Context { sequences: &held_out.sequences, ..context };
        let reference = Reference::new(&judging, output, &held_out.stream, &held_out.scores).await?;
        let reference = reference.for_many().await?;
        // Before anything is healed: an observer that stops the healing stops whatever comes after it, too.
        let dropped = match planned.judged_on {
            Some(_) => planned.report.dropped,
            None => reference.drop_instead(plan).await?,
        };
        let healed = heal::heal(&context, &reference, plan, before.clone(), text, options).await?;
        let best = healed.report.points.get(healed.report.best);
        let merged = best.or_internal("a healed model was not measured")?.quality;
        let report = PlanReport {
            text: held_out.text.clone(),
            original: Quality::original(&held_out.scores),
            merged,
            dropped,
            healed: Some(healed.report),
            seconds: planned.report.seconds + start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak_bytes().unwrap_or(0),
            ..planned.report.clone()
        };
        let planned = self.planned.as_mut().or_internal("a plan that was healed is gone")?;
        planned.judged_on = Some(JudgingText::of(&self.judge_on));
        planned.layers = healed.layers;
        planned.unhealed = Some(before);
        planned.report = report.clone();
        Ok(report)
    }

    /// Returns all sequences of the calibration text.
    fn text_to_heal_on(&self, calibration: &CalibrationOptions) -> Result<(Sequences, TextReport)> {
        let all = TextOptions { samples: usize::MAX, draw: Draw::First, ..calibration.text_options() };
        sequences(&self.model, &all)
    }
}
