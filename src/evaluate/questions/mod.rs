//! Multiple-choice questions in the layout of MMLU, and their prompts.
//!
//! A subject is two files: `<subject>_test.csv` with the questions and `<subject>_dev.csv` with solved
//! examples. Each record is a question, four answers and the letter of the right answer; there is no header.
//! Prompts are equal, byte for byte, to the prompts of the benchmark's own `evaluate.py` (Hendrycks et al.,
//! "Measuring Massive Multitask Language Understanding", ICLR 2021).

pub mod ask;
pub mod csv;
pub mod reading;

use self::csv::Record;
use crate::protocol::answers::Choice;
use crate::{Error, Result};

/// A question with four answers, one of which is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Text of the question.
    pub text: String,
    /// Answers A to D.
    pub answers: [String; 4],
    /// Right answer.
    pub correct: Choice,
}

/// A subject with its questions and examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the subject as in file names, such as `abstract_algebra`.
    pub name: String,
    /// Solved examples to begin a prompt with.
    pub examples: Vec<Question>,
    /// Questions to ask.
    pub questions: Vec<Question>,
}

/// Parses the questions of the CSV file `file`.
///
/// # Errors
/// [`Error::Format`], naming the file, if `bytes` are not UTF-8; naming the line as well, if a record does
/// not consist of a question, four answers and a letter from A to D; those of [`csv::records`].
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Question>> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Error::Format(format!("{file}: not UTF-8 from byte {} on; convert it", e.valid_up_to()))
    })?;
    csv::records(file, text)?.into_iter().map(|record| question(file, record)).collect()
}

fn question(file: &str, record: Record) -> Result<Question> {
    let Record { line, fields } = record;
    let n_fields = fields.len();
    let [text, a, b, c, d, letter] = <[String; 6]>::try_from(fields).map_err(|_| {
        Error::Format(format!(
            "{file}, line {line}: {n_fields} fields instead of 6 (question, four answers, letter); give MMLU's \
             own files"
        ))
    })?;
    let correct = Choice::ALL.into_iter().find(|choice| choice.letter() == letter).ok_or_else(|| {
        let letter: String = letter.chars().take(20).collect();
        Error::Format(format!("{file}, line {line}: the right answer is {letter:?}, not A, B, C or D"))
    })?;
    Ok(Question { text, answers: [a, b, c, d], correct })
}

impl Subject {
    /// Returns the prompt for `question` after the first `few_shot` examples, or all if there are fewer. The
    /// prompt ends in `Answer:`.
    ///
    /// ```
    /// # use laminate::internals::evaluate::questions::{Subject, parse};
    /// let questions = parse("x_test.csv", b"1 + 1?,1,2,3,4,B\n").unwrap();
    /// let subject = Subject { name: "number_theory".into(), examples: vec![], questions };
    /// assert_eq!(
    ///     subject.prompt(&subject.questions[0], 0),
    ///     "The following are multiple choice questions (with answers) about  number theory.\n\n\
    ///      1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    /// );
    /// ```
    pub fn prompt(&self, question: &Question, few_shot: usize) -> String {
        // The benchmark's own code puts a space before each word of the subject, so two spaces follow
        // "about".
        let name: String = self.name.split('_').map(|word| format!(" {word}")).collect();
        let mut prompt =
            format!("The following are multiple choice questions (with answers) about {name}.\n\n");
        for example in self.examples.iter().take(few_shot) {
            push_question(&mut prompt, example);
            prompt.push_str(&format!(" {}\n\n", example.correct.letter()));
        }
        push_question(&mut prompt, question);
        prompt
    }
}

fn push_question(prompt: &mut String, question: &Question) {
    prompt.push_str(&question.text);
    for (choice, answer) in Choice::ALL.into_iter().zip(&question.answers) {
        prompt.push_str(&format!("\n{}. {answer}", choice.letter()));
    }
    prompt.push_str("\nAnswer:");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        let examples = parse("x_dev.csv", b"2 + 2?,1,2,3,4,D\n3 + 3?,6,7,8,9,A\n").unwrap();
        let questions = parse("x_test.csv", b"\"What, then?\",\"a \"\"b\"\"\",b,c,d,C\n").unwrap();
        Subject { name: "high_school_mathematics".into(), examples, questions }
    }

    #[test]
    fn a_prompt_is_the_benchmarks_own() {
        let subject = subject();
        let head =
            "The following are multiple choice questions (with answers) about  high school mathematics.\n\n";
        let first = "2 + 2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\n";
        let second = "3 + 3?\nA. 6\nB. 7\nC. 8\nD. 9\nAnswer: A\n\n";
        let last = "What, then?\nA. a \"b\"\nB. b\nC. c\nD. d\nAnswer:";
        let prompt = |few_shot| subject.prompt(&subject.questions[0], few_shot);
        assert_eq!(prompt(0), format!("{head}{last}"));
        assert_eq!(prompt(1), format!("{head}{first}{last}"));
        assert_eq!(prompt(2), format!("{head}{first}{second}{last}"));
        assert_eq!(prompt(5), prompt(2));
    }

    #[test]
    fn what_is_not_a_question_is_named_by_file_and_line() {
        let error = |bytes: &[u8]| parse("x_test.csv", bytes).unwrap_err().to_string();
        assert!(error(b"q,1,2,3,4,A\nq,1,2,3,A\n").starts_with("x_test.csv, line 2: 5 fields"));
        assert!(error(b"q,1,2,3,4,A\n\nq,1,2,3,4,a\n").starts_with("x_test.csv, line 3: the right answer"));
        assert!(error(b"q,1,2,3,4,5,A\n").contains("7 fields"));
        assert!(error(b"caf\xe9,1,2,3,4,A\n").contains("not UTF-8 from byte 3"));
        assert_eq!(parse("x_test.csv", b""), Ok(vec![]));
    }

    #[test]
    fn the_best_choice_is_the_first_of_the_largest() {
        assert_eq!(Choice::best(&[-3.0, -1.0, -1.0, -2.0]), Choice::B);
        assert_eq!(Choice::best(&[f64::NAN, f64::NEG_INFINITY, 0.0, -1.0]), Choice::C);
    }
}
