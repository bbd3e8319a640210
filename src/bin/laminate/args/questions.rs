//! Arguments of `evaluate`: questions to answer and prompts to continue.

use std::path::PathBuf;

use clap::Args;
use laminate::QuestionOptions;

use super::word;

#[derive(Args)]
pub struct QuestionArgs {
    /// Ask the questions of MMLU: a directory that has test/ and dev/ with CSV files.
    #[arg(long, value_name = "DIR")]
    pub mmlu: Option<PathBuf>,
    /// Subjects to ask, such as anatomy,virology; all if not given.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = word, requires = "mmlu")]
    subjects: Vec<String>,
    /// Solved examples before each question, 0 to 5 in MMLU's own files.
    #[arg(long, value_name = "K", default_value_t = 5, requires = "mmlu")]
    few_shot: usize,
    /// Ask only the first N questions of each subject.
    #[arg(long, value_name = "N", requires = "mmlu")]
    questions_per_subject: Option<usize>,
    /// Also score the texts of the answers, not only their letters.
    #[arg(long, requires = "mmlu")]
    full_answers: bool,
}

impl QuestionArgs {
    /// Makes the options of the questions.
    pub fn options(&self) -> QuestionOptions {
        QuestionOptions {
            subjects: self.subjects.clone(),
            few_shot: self.few_shot,
            questions_per_subject: self.questions_per_subject,
            full_answers: self.full_answers,
        }
    }
}

#[derive(Args)]
pub struct GenerationArgs {
    /// Continue this text by the most likely tokens; may be given several times.
    #[arg(long, value_name = "PROMPT")]
    pub generate: Vec<String>,
    /// Number of tokens to continue a text by; each token costs a pass over the model.
    #[arg(long, value_name = "N", default_value_t = 48, requires = "generate")]
    pub new_tokens: usize,
}
