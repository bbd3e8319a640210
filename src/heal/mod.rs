//! Healing: the original's next-word distribution is distilled into the layers that were made of several, while all other
//! tensors stay as they are stored.
//!
//! A step goes forward through the new model with a few sequences, keeping the states that enter each layer, through the
//! head, and back down to the lowest layer that is trained. Each layer's forward pass is repeated when it goes back, so that
//! no activations but these states are kept (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost",
//! 2016). The weights that are trained, and their moments, are in `f32` in this process's memory. In the last steps, weights
//! are rounded as they will be stored, and their gradients passed on as if they were not.

mod adam;
mod loss;
mod student;
mod teacher;

use web_time::Instant;

use self::adam::Schedule;
use self::loss::{HeadSlices, distance};
use self::student::Student;
use self::teacher::Teacher;
use crate::error::OrInternal;
use crate::evaluate::reference::Reference;
use crate::forward::context::Context;
use crate::forward::states::as_rows;
use crate::maths::random::draw;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::protocol::events::{Event, Stage, Unit};
use crate::protocol::heal::{HealOptions, HealPoint, HealReport};
use crate::protocol::text::TextReport;
use crate::{Error, Result};

pub use self::student::{check, check_layers};

/// Share of the steps, the last ones, in which weights are rounded as they will be stored.
const ROUNDED: f64 = 0.2;

/// Steps after which the time of a step is known well enough to say how many fit into a time.
const TIMED_STEPS: u64 = 3;

/// A healed model.
pub struct Healed {
    /// Layers of the model.
    pub layers: Vec<NewLayer>,
    /// What was done.
    pub report: HealReport,
}

/// Heals the model of `layers`, which `plan` made and which can be healed ([`check`]), on the sequences of `context`, which are of the text `text`, and measures it
/// by `judge`. The best model by that is returned, which may be the model as it was. If the observer stops the run, the best
/// model so far is returned.
///
/// # Errors
/// Those of reading and running layers, and of the observer before the model was measured.
pub async fn heal(
    context: &Context<'_>,
    judge: &Reference<'_>,
    plan: &MergePlan,
    layers: Vec<NewLayer>,
    text: TextReport,
    options: &HealOptions,
) -> Result<Healed> {
    let start = Instant::now();
    let mut student = Student::new(context, plan, layers).await?;
    let mut seen = Seen::new(judge, start);
    seen.look(student.layers().to_vec(), 0, None).await?;
    let mut tokens = 0;
    let stopped = match train(context, options, &mut student, &mut seen, &mut tokens).await {
        Err(Error::Cancelled) => {
            Some("The healing was stopped before its end, and the best model until then was kept.".to_owned())
        }
        ended => ended?,
    };
    let Seen { points, best, layers, .. } = seen;
    let report = HealReport {
        options: options.clone(),
        text,
        layers: student.places(),
        parameters: student.parameters(),
        tokens,
        points,
        best,
        stopped,
        seconds: start.elapsed().as_secs_f64(),
    };
    Ok(Healed { layers, report })
}

/// Trains `student` and measures it into `seen`. `tokens` counts the tokens that it was trained on. Returns why the training
/// ended before it was to, in a sentence, if it did.
async fn train(
    context: &Context<'_>,
    options: &HealOptions,
    student: &mut Student<'_>,
    seen: &mut Seen<'_, '_>,
    tokens: &mut u64,
) -> Result<Option<String>> {
    let in_step = options.sequences.min(context.sequences.count());
    let rows = in_step * context.sequences.tokens();
    let head = HeadSlices::open(context, context.storage, rows).await?;
    let mut teacher = Teacher::open(context, rows).await?;
    let mut order = Order::new(context.sequences.count(), options.seed);
    let per_step = rows as u64;
    let mut steps = options.tokens.map(|tokens| tokens.div_ceil(per_step).max(1));
    let (mut losses, mut step, mut first_began) = (Vec::new(), 0, None);
    while steps.is_none_or(|steps| step < steps) {
        if let (Some(seconds), Some(began), TIMED_STEPS) = (options.seconds, first_began, step) {
            steps = Some(step + steps_within(seconds, seen.start, began));
        }
        // Until the time of a step is known, rates rise as if there were many steps.
        let expected = steps.unwrap_or(100 * TIMED_STEPS);
        let detail =
            steps.map_or("the first steps".to_owned(), |steps| format!("step {} of {steps}", step + 1));
        let (done, total) = (step * per_step, expected * per_step);
        context.observer.progress(Stage::Heal, done, total, Unit::Tokens, detail).await?;
        let batch = order.take(in_step);
        let aims = teacher.distributions(&batch, order.ahead()).await?;
        // The original runs for many steps at once, which says nothing about a step.
        first_began.get_or_insert_with(Instant::now);
        let rounded = steps.is_some_and(|steps| step as f64 >= (1.0 - ROUNDED) * steps as f64);
        let passed = student.forward(&context.sequences.at(&batch), rounded).await?;
        let (mut loss, mut gradients, mut first) = (0.0, Vec::new(), 0);
        for chunk in &passed.last()?.chunks {
            let [count, length, hidden] = chunk.dims();
            let own = aims.get(first..first + count).or_internal("a sequence has no distributions")?;
            first += count;
            let (of_chunk, gradient) = distance(&head, as_rows(chunk), own).await?;
            let share = count as f64 / batch.len().max(1) as f64;
            loss += share * of_chunk;
            gradients.push(gradient.mul_scalar(share).reshape([count, length, hidden]));
        }
        student.backward(passed, gradients).await?;
        if !loss.is_finite() || !student.update(Schedule { rate: options.rate, steps: expected }.at(step)) {
            return Ok(Some(
                "A gradient was no number any more, so the best model until then was kept.".to_owned(),
            ));
        }
        losses.push(loss);
        step += 1;
        *tokens = step * per_step;
        let Some(steps) = steps else { continue };
        let every = steps.div_ceil(options.checks as u64).max(1);
        if step.is_multiple_of(every) || step == steps {
            let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
            losses.clear();
            seen.look(student.stored()?, *tokens, Some(mean)).await?;
            if seen.got_worse_twice() && step < steps {
                return Ok(Some(
                    "The model got worse twice in a row on the text that it is judged on, so the healing ended and the \
                     best model was kept."
                        .to_owned(),
                ));
            }
        }
    }
    Ok(None)
}

/// Returns how many more steps fit into `seconds` since `start`, of which [`TIMED_STEPS`] have been made since `began`; at least
/// one.
fn steps_within(seconds: f64, start: Instant, began: Instant) -> u64 {
    let of_step = began.elapsed().as_secs_f64() / TIMED_STEPS as f64;
    let left = seconds - start.elapsed().as_secs_f64();
    (left / of_step.max(1e-6)).max(1.0) as u64
}

/// Measurements of the model, and the best of its states.
struct Seen<'r, 'a> {
    judge: &'r Reference<'a>,
    start: Instant,
    points: Vec<HealPoint>,
    best: usize,
    /// Layers of the best.
    layers: Vec<NewLayer>,
}

impl<'r, 'a> Seen<'r, 'a> {
    fn new(judge: &'r Reference<'a>, start: Instant) -> Self {
        Self { judge, start, points: Vec::new(), best: 0, layers: Vec::new() }
    }

    /// Measures the model of `layers` after `tokens` tokens, and keeps it if it is the best.
    async fn look(&mut self, layers: Vec<NewLayer>, tokens: u64, loss: Option<f64>) -> Result<()> {
        let quality = self.judge.quality_of(layers.clone()).await?;
        quality.kl.or_internal("a model was not compared with its original")?;
        let point = HealPoint { tokens, loss, quality, seconds: self.start.elapsed().as_secs_f64() };
        self.judge.context().observer.event(Event::Heal(point)).await?;
        if self.points.get(self.best).is_none_or(|best| divergence(&point) < divergence(best)) {
            (self.best, self.layers) = (self.points.len(), layers);
        }
        self.points.push(point);
        Ok(())
    }

    fn got_worse_twice(&self) -> bool {
        let worse = |after: &HealPoint, before: &HealPoint| divergence(after) > divergence(before);
        matches!(self.points.as_slice(), [.., a, b, c] if worse(b, a) && worse(c, b))
    }
}

/// Returns how far a model is from its original.
fn divergence(point: &HealPoint) -> f64 {
    point.quality.kl.unwrap_or(f64::NAN)
}

/// Order of the sequences: all of them, in an order that is drawn anew each time.
struct Order {
    count: usize,
    seed: u64,
    rounds: u64,
    left: Vec<usize>,
}

impl Order {
    fn new(count: usize, seed: u64) -> Self {
        Self { count, seed, rounds: 0, left: Vec::new() }
    }

    /// Takes the next `n` sequences, each once, of at least as many. Ascending, as states are.
    fn take(&mut self, n: usize) -> Vec<usize> {
        if self.left.len() < n {
            let drawn = draw((0..self.count).collect(), self.count, self.seed.wrapping_add(self.rounds));
            self.rounds += 1;
            self.left = drawn;
        }
        let mut taken: Vec<usize> = self.left.drain(..n.min(self.count)).collect();
        taken.sort_unstable();
        taken
    }

    /// Returns the sequences that come next, as far as they are drawn.
    fn ahead(&self) -> &[usize] {
        &self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_comes_once_in_each_round() {
        let mut order = Order::new(12, 3);
        let first: Vec<Vec<usize>> = (0..3).map(|_| order.take(4)).collect();
        let mut all: Vec<usize> = first.concat();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
        assert!(first.iter().all(|batch| batch.is_sorted()));
        let second: Vec<Vec<usize>> = (0..3).map(|_| order.take(4)).collect();
        assert_ne!(first, second);
        let mut again = Order::new(12, 3);
        assert_eq!(first, (0..3).map(|_| again.take(4)).collect::<Vec<_>>());
        assert_eq!(Order::new(2, 0).take(4), [0, 1]);
    }
}
