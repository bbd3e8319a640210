//! Answers of a model to multiple-choice questions, batch by batch.
//!
//! Each question is a prompt that ends in `Answer:`, and is scored in two ways. *Letter*: the choice with the
//! largest of the logits of ` A`, ` B`, ` C` and ` D` after the prompt. *Full answer*: the choice with the
//! largest log-likelihood of ` ` and the text of the answer after the prompt, summed over the tokens of the
//! text and divided by its bytes of UTF-8, so that long answers are not worse for being long.

use burn::tensor::Tensor;

use super::reading::Readings;
use super::{Question, Subject, parse};
use crate::evaluate::predict;
use crate::evaluate::questions::reading::{Asked, Reading};
use crate::files::source::{SharedSource, read_checked};
use crate::forward::pass::Pass;
use crate::forward::sequences::Sequences;
use crate::forward::states::to_host;
use crate::model::layers::head::Head;
use crate::protocol::answers::{Answer, Choice, MmluReport};
use crate::protocol::events::{Observer, Share};
use crate::protocol::options::QuestionOptions;
use crate::{Error, Result};

/// Most tokens of a batch, padding included: enough that a layer's arithmetic outweighs reading the layer,
/// and little memory. A longer sequence is a batch of its own.
const TOKENS_PER_BATCH: usize = 8192;

/// Largest file of questions in bytes. The benchmark's largest file has 2 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Ending of the name of a file with a subject's questions.
const TEST_ENDING: &str = "_test.csv";
/// Ending of the name of a file with a subject's solved examples.
const DEV_ENDING: &str = "_dev.csv";

/// Reads the subjects that `options` ask for, in alphabetical order, from files named `<subject>_test.csv`
/// and, for examples, `<subject>_dev.csv`. Other files are ignored.
///
/// # Errors
/// [`Error::Usage`] if a subject lacks a file or has fewer examples than asked for, or if there are no
/// questions or none are asked for; [`Error::Limit`] if a file is larger than 64 MiB; those of [`parse`] and
/// [`read_checked`].
pub async fn read_subjects(files: &[SharedSource], options: &QuestionOptions) -> Result<Vec<Subject>> {
    if options.questions_per_subject == Some(0) {
        return Err(Error::Usage("at least one question of each subject has to be asked".to_owned()));
    }
    let find = |name: &str, ending| files.iter().find(|f| base(f).strip_suffix(ending) == Some(name));
    let mut names = options.subjects.clone();
    if names.is_empty() {
        names.extend(files.iter().filter_map(|f| base(f).strip_suffix(TEST_ENDING)).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    let mut subjects = Vec::new();
    for name in names {
        let missing =
            |ending| Error::Usage(format!("there is no {name}{ending}; subjects are named like it"));
        let test = find(&name, TEST_ENDING).ok_or_else(|| missing(TEST_ENDING))?;
        let mut questions = read_questions(test).await?;
        questions.truncate(options.questions_per_subject.unwrap_or(usize::MAX));
        let mut examples = Vec::new();
        if options.few_shot > 0 {
            examples = read_questions(find(&name, DEV_ENDING).ok_or_else(|| missing(DEV_ENDING))?).await?;
        }
        if examples.len() < options.few_shot {
            return Err(Error::Usage(format!(
                "{name}{DEV_ENDING} has {} examples; ask for no more than that before each question",
                examples.len()
            )));
        }
        examples.truncate(options.few_shot);
        subjects.push(Subject { name, examples, questions });
    }
    if subjects.iter().all(|subject| subject.questions.is_empty()) {
        return Err(Error::Usage(format!(
            "there are no questions; give files named like anatomy{TEST_ENDING}"
        )));
    }
    Ok(subjects)
}

/// Returns the name of a file without its folders.
fn base(file: &SharedSource) -> &str {
    let name = file.name();
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

async fn read_questions(file: &SharedSource) -> Result<Vec<Question>> {
    if file.size() > MAX_FILE_BYTES {
        return Err(Error::Limit(format!(
            "{}: {} MB are more than a file of questions has; split it",
            file.name(),
            file.size() >> 20
        )));
    }
    parse(file.name(), &read_checked(file.as_ref(), 0, file.size()).await?)
}

/// Answers the questions of `readings` by the model `pass`. The answers are in the order of
/// [`Readings::questions`].
///
/// # Errors
/// [`Error::Numeric`] if a logit is not finite; those of [`Head::open`], [`Head::rows_of`],
/// [`Head::normalise`], [`Sequences::padded`], [`Pass::run`], [`predict`] and [`to_host`].
pub async fn ask(pass: &Pass<'_>, readings: &Readings) -> Result<MmluReport> {
    let letters = LetterHead::open(pass, readings.letters()).await?;
    let mut scores = vec![AnswerScores::default(); readings.questions().len()];
    let batches = readings.batches(TOKENS_PER_BATCH);
    for (index, batch) in batches.iter().enumerate() {
        let layers = pass.layers.len();
        let part = Share { whole: pass.observer, index, count: batches.len(), layers, name: "batch" };
        run_batch(pass, &letters, batch, &mut scores, &part).await?;
    }
    let answer = |(asked, scores): (&Asked, &AnswerScores)| Answer {
        subject: asked.subject.clone(),
        question: asked.question,
        correct: asked.correct,
        letter: Choice::best(&scores.letters),
        full_answer: readings.full_answers.then(|| Choice::best(&scores.answers)),
    };
    let answers = readings.questions().iter().zip(&scores).map(answer).collect();
    Ok(MmluReport::new(answers, readings.few_shot, readings.shortened, readings.skipped))
}

/// Scores of one question's answers.
#[derive(Debug, Clone, Copy, Default)]
struct AnswerScores {
    /// Logits of the letters.
    letters: [f64; 4],
    /// Log-likelihoods of the texts, in nats per byte.
    answers: [f64; 4],
}

/// Final norm, and the head's rows of the four letters.
struct LetterHead<'a> {
    head: Head<'a>,
    /// Row-major `[4, hidden]`.
    rows: Vec<f32>,
}

impl<'a> LetterHead<'a> {
    async fn open(pass: &Pass<'a>, letters: &[u32; 4]) -> Result<Self> {
        let head = Head::open(pass.model, pass.storage, pass.accelerator, 1).await?;
        let rows = head.rows_of(letters).await?;
        Ok(Self { head, rows })
    }

    /// Computes the logits of the letters after each of the hidden states `[n, hidden]`.
    async fn logits(&self, states: Tensor<2>) -> Result<Vec<[f64; 4]>> {
        let [_, hidden] = states.dims();
        let states = to_host(self.head.normalise(states)?, "while answering questions").await?;
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
        };
        let logits = |state: &[f32]| {
            let mut logits = [0.0; 4];
            for (logit, row) in logits.iter_mut().zip(self.rows.chunks(hidden)) {
                *logit = dot(state, row);
            }
            match logits.iter().all(|logit| logit.is_finite()) {
                true => Ok(logits),
                false => Err(Error::Numeric(
                    "the logits of the answers are not finite: the model's weights are damaged".to_owned(),
                )),
            }
        };
        states.chunks(hidden).map(logits).collect()
    }
}

/// Runs the sequences of a batch and adds their results to the scores of their questions.
async fn run_batch(
    pass: &Pass<'_>,
    letter_head: &LetterHead<'_>,
    batch: &[Reading],
    scores: &mut [AnswerScores],
    observer: &dyn Observer,
) -> Result<()> {
    let ids: Vec<Vec<u32>> = batch.iter().map(Reading::ids).collect();
    // The padding is never read, so any token will do.
    let sequences = Sequences::padded(&pass.model.config, &ids, 0)?;
    let states = pass.run(&sequences, observer).await?;

    let at = |(place, reading): (usize, &Reading)| Some((place, reading.letter_at()?));
    let letter_places: Vec<(usize, usize)> = batch.iter().enumerate().filter_map(at).collect();
    if !letter_places.is_empty() {
        let logits = letter_head.logits(states.rows(&letter_places)?).await?;
        for ((place, _), logits) in letter_places.iter().zip(logits) {
            if let Some(scores) = batch.get(*place).and_then(|reading| scores.get_mut(reading.question())) {
                scores.letters = logits;
            }
        }
    }

    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for (place, reading) in batch.iter().enumerate() {
        for (position, target) in reading.answer_tokens() {
            places.push((place, position));
            targets.push(target);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let rows = states.rows(&places)?;
    let predictions = predict(pass, rows, &targets, observer).await?;
    for ((place, _), prediction) in places.iter().zip(predictions) {
        let Some((reading, (choice, bytes))) = batch.get(*place).and_then(|r| Some((r, r.answer()?))) else {
            continue;
        };
        let slot = scores.get_mut(reading.question()).and_then(|s| s.answers.get_mut(choice as usize));
        if let Some(slot) = slot {
            *slot += prediction.log_probability / bytes as f64;
        }
    }
    Ok(())
}
