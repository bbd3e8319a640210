//! Multiple-choice questions as token sequences, and the positions at which the model's output is read.

use std::rc::Rc;

use super::{Question, Subject};
use crate::device::Accelerator;
use crate::model::Model;
use crate::protocol::answers::Choice;
use crate::protocol::options::QuestionOptions;
use crate::{Error, Result};

/// Most tokens of a sequence whatever the model's context, as in the benchmark's own code. Examples are left
/// out of longer prompts.
const MAX_TOKENS: usize = 2048;

/// A question whose prompt fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Name of the subject.
    pub subject: String,
    /// Index among the questions of the subject, from 0.
    pub question: usize,
    /// Right answer.
    pub correct: Choice,
}

/// A token sequence, and the positions at which the model's output on it is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Index in [`Readings::questions`].
    question: usize,
    /// Tokens of the prompt, shared by all sequences of a question.
    prompt: Rc<[u32]>,
    /// Number of tokens of the prompt with which the sequence begins.
    kept: usize,
    /// Tokens after the kept part of the prompt.
    tail: Vec<u32>,
    /// Whether the logits of the letters are read at the end of the prompt.
    letters: bool,
    /// Answer that the tail spells, and the length of its text in bytes.
    answer: Option<(Choice, usize)>,
}

impl Reading {
    /// Returns the index of the sequence's question in [`Readings::questions`].
    pub fn question(&self) -> usize {
        self.question
    }

    /// Returns the tokens of the sequence.
    pub fn ids(&self) -> Vec<u32> {
        self.prompt.iter().take(self.kept).chain(&self.tail).copied().collect()
    }

    /// Returns the number of tokens of the sequence.
    pub fn tokens(&self) -> usize {
        self.kept + self.tail.len()
    }

    /// Returns the position after which a letter would follow; `None` if the letters are read on another
    /// sequence.
    pub fn letter_at(&self) -> Option<usize> {
        self.letters.then(|| self.prompt.len().saturating_sub(1))
    }

    /// Returns the answer with which the sequence ends, and the length of its text in bytes; `None` if the
    /// sequence ends with the prompt.
    pub fn answer(&self) -> Option<(Choice, usize)> {
        self.answer
    }

    /// Returns the tokens of the answer, each with the position before it.
    pub fn answer_tokens(&self) -> impl Iterator<Item = (usize, u32)> {
        let tail: &[u32] = if self.answer.is_some() { &self.tail } else { &[] };
        let before = self.kept.saturating_sub(1);
        tail.iter().enumerate().map(move |(i, id)| (before + i, *id))
    }
}

/// Questions as token sequences.
#[derive(Debug, Clone)]
pub struct Readings {
    /// Token ids of the letters A to D.
    letters: [u32; 4],
    asked: Vec<Asked>,
    /// Sequences, from the shortest to the longest.
    sequences: Vec<Reading>,
    /// Number of solved examples before each question.
    pub few_shot: usize,
    /// Whether the texts of the answers are scored.
    pub full_answers: bool,
    /// Number of questions with fewer examples than asked for, because longer prompts would not fit.
    pub shortened: usize,
    /// Number of questions left out, because they do not fit even without examples.
    pub skipped: usize,
}

impl Readings {
    /// Turns the questions of `subjects` into token sequences for `model`. If an `original` is to answer the
    /// same questions, prompts have to fit in the context of both models. A prompt that does not fit loses
    /// its last examples, one by one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the tokenizer has no single token for each letter; [`Error::Limit`] if no
    /// question fits; those of [`Tokenizer::encode`](crate::model::tokenizer::Tokenizer::encode).
    pub fn new(
        model: &Model,
        original: Option<&Model>,
        accelerator: &Accelerator,
        subjects: &[Subject],
        options: &QuestionOptions,
    ) -> Result<Self> {
        let longest = [Some(model), original].into_iter().flatten().map(|m| longest(m, accelerator)).min();
        let letters = Letters::of(model)?;
        let mut readings = Self {
            letters: letters.ids,
            asked: Vec::new(),
            sequences: Vec::new(),
            few_shot: options.few_shot,
            full_answers: options.full_answers,
            shortened: 0,
            skipped: 0,
        };
        let writer = Writer { model, letters, longest: longest.unwrap_or(MAX_TOKENS) };
        for subject in subjects {
            for (number, question) in subject.questions.iter().enumerate() {
                readings.add(&writer, subject, number, question)?;
            }
        }
        if readings.asked.is_empty() {
            return Err(Error::Limit(format!(
                "no question fits in the {} tokens that {} takes here; choose other subjects",
                writer.longest, model.name
            )));
        }
        // Sequences of similar length share a batch, which therefore needs little padding.
        readings.sequences.sort_by_key(Reading::tokens);
        Ok(readings)
    }

    fn add(
        &mut self,
        writer: &Writer<'_>,
        subject: &Subject,
        number: usize,
        question: &Question,
    ) -> Result<()> {
        for few_shot in (0..=self.few_shot).rev() {
            let prompt = subject.prompt(question, few_shot);
            let sequences = writer.sequences(self.asked.len(), &prompt, question, self.full_answers)?;
            if sequences.iter().all(|sequence| sequence.tokens() <= writer.longest) {
                self.shortened += usize::from(few_shot < self.few_shot);
                self.sequences.extend(sequences);
                let (subject, correct) = (subject.name.clone(), question.correct);
                self.asked.push(Asked { subject, question: number, correct });
                return Ok(());
            }
        }
        self.skipped += 1;
        Ok(())
    }

    /// Returns the token ids of the letters A to D as they follow the prompt.
    pub fn letters(&self) -> &[u32; 4] {
        &self.letters
    }

    /// Returns the questions that fit, subject by subject.
    pub fn questions(&self) -> &[Asked] {
        &self.asked
    }

    /// Splits the sequences into batches of at most `tokens` tokens, counted after padding to the longest
    /// sequence of the batch. A longer sequence is a batch of its own.
    pub fn batches(&self, tokens: usize) -> Vec<&[Reading]> {
        let (mut batches, mut rest) = (Vec::new(), self.sequences.as_slice());
        while !rest.is_empty() {
            let fits = |(place, sequence): &(usize, &Reading)| (place + 1) * sequence.tokens() <= tokens;
            let count = rest.iter().enumerate().take_while(fits).count().max(1);
            let (batch, later) = rest.split_at(count);
            batches.push(batch);
            rest = later;
        }
        batches
    }
}

/// Returns the most tokens that a sequence may have: attention makes a square matrix of scores for each head,
/// and the scores of all heads have to fit in one buffer of the device.
fn longest(model: &Model, accelerator: &Accelerator) -> usize {
    let scores = accelerator.max_binding_bytes() / (4 * model.config.n_heads.max(1) as u64);
    let square = usize::try_from(scores.isqrt()).unwrap_or(usize::MAX);
    model.config.context.min(square).min(MAX_TOKENS)
}

/// Tokens that the letters become after `Answer:`.
struct Letters {
    /// Tokens that stand before every letter, such as a space that is a token of its own; mostly none.
    shared: Vec<u32>,
    ids: [u32; 4],
}

impl Letters {
    fn of(model: &Model) -> Result<Self> {
        let plain = model.tokenizer.encode("Answer:")?;
        let mut shared: Option<Vec<u32>> = None;
        let mut ids = [0; 4];
        for (id, choice) in ids.iter_mut().zip(Choice::ALL) {
            let with_letter = model.tokenizer.encode(&format!("Answer: {}", choice.letter()))?;
            let (last, before) = with_letter
                .strip_prefix(plain.as_slice())
                .and_then(<[u32]>::split_last)
                .ok_or_else(|| no_letters(model))?;
            *id = *last;
            if shared.get_or_insert_with(|| before.to_vec()) != before {
                return Err(no_letters(model));
            }
        }
        let distinct = ids.iter().enumerate().all(|(i, id)| !ids.iter().take(i).any(|other| other == id));
        if distinct { Ok(Self { shared: shared.unwrap_or_default(), ids }) } else { Err(no_letters(model)) }
    }
}

fn no_letters(model: &Model) -> Error {
    Error::Unsupported(format!(
        "the tokenizer of {} has no single token for each of the answers A, B, C and D, so that it cannot be \
         asked to choose between them; measure its perplexity instead",
        model.name
    ))
}

/// Converter of prompts to token sequences.
struct Writer<'a> {
    model: &'a Model,
    letters: Letters,
    longest: usize,
}

impl Writer<'_> {
    /// Returns the sequences of one question. Without `full_answers` there is one, for the letters. With
    /// `full_answers` there is one for each answer; the first of them also serves for the letters if it
    /// contains the whole prompt, otherwise one more is added for them.
    fn sequences(
        &self,
        place: usize,
        prompt: &str,
        question: &Question,
        full_answers: bool,
    ) -> Result<Vec<Reading>> {
        let begin = self.model.config.bos_token_id;
        let mut ids: Vec<u32> = begin.into_iter().collect();
        let n_begin = ids.len();
        ids.extend(self.model.tokenizer.encode(prompt)?);
        let n_prompt = ids.len();
        ids.extend(&self.letters.shared);
        let ids: Rc<[u32]> = ids.into();
        let reading = |kept, tail, letters, answer| Reading {
            question: place,
            prompt: Rc::clone(&ids),
            kept,
            tail,
            letters,
            answer,
        };
        let mut sequences = Vec::new();
        for (choice, text) in Choice::ALL.into_iter().zip(&question.answers).filter(|_| full_answers) {
            // A tokenizer may join the end of the prompt with the answer. The tokens that both texts have in
            // common belong to the prompt, all others to the answer.
            let whole = self.model.tokenizer.encode(&format!("{prompt} {text}"))?;
            let own = ids.iter().take(n_prompt).skip(n_begin);
            let common = own.zip(&whole).take_while(|(a, b)| a == b).count();
            let common = common.min(whole.len().saturating_sub(1));
            let tail = whole.get(common..).unwrap_or_default().to_vec();
            let kept = n_begin + common;
            let letters = sequences.is_empty() && kept == ids.len();
            sequences.push(reading(kept, tail, letters, Some((choice, text.len().max(1)))));
        }
        if !sequences.iter().any(|sequence| sequence.letters) {
            sequences.push(reading(ids.len(), Vec::new(), true, None));
        }
        Ok(sequences)
    }
}
