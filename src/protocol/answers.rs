//! Reports of a model's answers to multiple-choice questions.

use serde::Serialize;

use super::subjects::Group;

/// Accuracy on some questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of right answers.
    pub correct: usize,
    /// Number of questions answered.
    pub questions: usize,
    /// `correct / questions`, 0 to 1; guessing gives 0.25.
    pub accuracy: f64,
    /// Binomial standard error of `accuracy`, `sqrt(p (1 - p) / n)`.
    pub standard_error: f64,
}

impl Accuracy {
    /// Computes the accuracy of some answers, of which the `true` ones are right. Without answers the
    /// accuracy is 0.
    pub fn of(right: impl Iterator<Item = bool>) -> Self {
        let (mut correct, mut questions) = (0, 0);
        for right in right {
            correct += usize::from(right);
            questions += 1;
        }
        let n = questions.max(1) as f64;
        let p = correct as f64 / n;
        Self { correct, questions, accuracy: p, standard_error: (p * (1.0 - p) / n).sqrt() }
    }
}

/// A model's answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Name of the subject.
    pub subject: String,
    /// Index of the question among those of its subject, from 0.
    pub question: usize,
    /// Right answer.
    pub correct: Choice,
    /// Choice whose letter has the largest logit.
    pub letter: Choice,
    /// Choice whose text is the most likely; `None` if texts were not scored.
    pub full_answer: Option<Choice>,
}

/// Accuracy by each of the two scores that choose an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Marks {
    /// Accuracy of choosing by the logits of the four letters after `Answer:`.
    pub letter: Accuracy,
    /// Accuracy of choosing by the log-likelihood of each answer's text, divided by its bytes of UTF-8;
    /// `None` if texts were not scored.
    pub full_answer: Option<Accuracy>,
}

impl Marks {
    fn of<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> Self {
        let full: Option<Vec<bool>> =
            answers.clone().map(|a| a.full_answer.map(|choice| choice == a.correct)).collect();
        Self {
            letter: Accuracy::of(answers.map(|a| a.letter == a.correct)),
            full_answer: full.filter(|f| !f.is_empty()).map(|f| Accuracy::of(f.into_iter())),
        }
    }
}

/// Accuracy on a group of subjects, over all questions of the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupMarks {
    /// Group of subjects.
    pub group: Group,
    /// Number of questions answered.
    pub questions: usize,
    /// Accuracy by each of the two scores that choose an answer.
    #[serde(flatten)]
    pub marks: Marks,
}

/// Accuracy on a subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectMarks {
    /// Name of the subject.
    pub subject: String,
    /// Group of the subject; `None` for a subject that is not one of MMLU's.
    pub group: Option<Group>,
    /// Number of questions answered.
    pub questions: usize,
    /// Accuracy by each of the two scores that choose an answer.
    #[serde(flatten)]
    pub marks: Marks,
}

/// Report of a model's answers to multiple-choice questions.
///
/// Letter accuracy alone hides a destroyed model: read it beside perplexity and KL divergence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MmluReport {
    /// Number of questions answered.
    pub questions: usize,
    /// Number of solved examples before each question.
    pub few_shot: usize,
    /// Number of questions with fewer examples than `few_shot`, because the prompt did not fit.
    pub shortened: usize,
    /// Number of questions that were left out, because they did not fit even without examples.
    pub skipped: usize,
    /// Accuracy over all questions.
    #[serde(flatten)]
    pub marks: Marks,
    /// Accuracy on each group that has questions.
    pub by_group: Vec<GroupMarks>,
    /// Accuracy on each subject, in the order of their names.
    pub by_subject: Vec<SubjectMarks>,
    /// Answers to all questions.
    pub answers: Vec<Answer>,
}

impl MmluReport {
    /// Makes the report of `answers`, which come subject by subject, to prompts with `few_shot` solved
    /// examples.
    pub fn new(answers: Vec<Answer>, few_shot: usize, shortened: usize, skipped: usize) -> Self {
        let by_subject: Vec<SubjectMarks> = answers
            .chunk_by(|a, b| a.subject == b.subject)
            .filter_map(|answers| {
                let subject = answers.first()?.subject.clone();
                let group = Group::of(&subject);
                Some(SubjectMarks {
                    subject,
                    group,
                    questions: answers.len(),
                    marks: Marks::of(answers.iter()),
                })
            })
            .collect();
        let by_group = Group::ALL.into_iter().filter_map(|group| {
            let marks = Marks::of(answers.iter().filter(|a| Group::of(&a.subject) == Some(group)));
            let questions = marks.letter.questions;
            (questions > 0).then_some(GroupMarks { group, questions, marks })
        });
        Self {
            questions: answers.len(),
            few_shot,
            shortened,
            skipped,
            marks: Marks::of(answers.iter()),
            by_group: by_group.collect(),
            by_subject,
            answers,
        }
    }
}

/// One of the four answers to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Choice {
    /// First answer.
    A,
    /// Second answer.
    B,
    /// Third answer.
    C,
    /// Fourth answer.
    D,
}

impl Choice {
    /// All four choices, in order.
    pub const ALL: [Choice; 4] = [Choice::A, Choice::B, Choice::C, Choice::D];

    /// Returns the letter of the choice.
    pub fn letter(self) -> &'static str {
        match self {
            Choice::A => "A",
            Choice::B => "B",
            Choice::C => "C",
            Choice::D => "D",
        }
    }

    /// Returns the choice with the largest of four scores; of equal scores, the first.
    pub fn best(scores: &[f64; 4]) -> Choice {
        let mut best = (Choice::A, f64::NEG_INFINITY);
        for (choice, score) in Self::ALL.into_iter().zip(scores) {
            if *score > best.1 {
                best = (choice, *score);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(subject: &str, letter: Choice, full_answer: Option<Choice>) -> Answer {
        Answer { subject: subject.into(), question: 0, correct: Choice::A, letter, full_answer }
    }

    #[test]
    fn accuracy_has_a_binomial_standard_error() {
        let accuracy = Accuracy::of((0..100).map(|i| i % 5 == 0));
        assert_eq!((accuracy.correct, accuracy.questions, accuracy.accuracy), (20, 100, 0.2));
        assert!((accuracy.standard_error - 0.04).abs() < 1e-12);
        assert_eq!(Accuracy::of(std::iter::empty()).accuracy, 0.0);
    }

    #[test]
    fn questions_are_counted_by_subject_and_by_group() {
        let answers = vec![
            answer("anatomy", Choice::A, Some(Choice::A)),
            answer("anatomy", Choice::B, Some(Choice::A)),
            answer("mine", Choice::A, Some(Choice::C)),
            answer("virology", Choice::D, Some(Choice::A)),
        ];
        let report = MmluReport::new(answers, 5, 1, 2);
        assert_eq!((report.questions, report.marks.letter.correct), (4, 2));
        assert_eq!(report.marks.full_answer.unwrap().correct, 3);
        let subjects: Vec<(&str, usize)> =
            report.by_subject.iter().map(|s| (s.subject.as_str(), s.marks.letter.correct)).collect();
        assert_eq!(subjects, [("anatomy", 1), ("mine", 1), ("virology", 0)]);
        assert_eq!(report.by_subject[1].group, None);
        assert_eq!(report.by_group.len(), 1);
        assert_eq!((report.by_group[0].group, report.by_group[0].questions), (Group::Other, 3));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["letter"]["accuracy"], 0.5);
        assert_eq!(json["by_group"][0]["full_answer"]["correct"], 3);
        assert_eq!(json["answers"][1]["letter"], "B");
    }

    #[test]
    fn full_answers_that_were_not_asked_are_not_counted() {
        let report = MmluReport::new(vec![answer("anatomy", Choice::A, None)], 0, 0, 0);
        assert_eq!(report.marks.full_answer, None);
    }
}
