//! Multiple-choice questions and continued texts, on models of a few hundred kB.

use std::rc::Rc;

use laminate::files::source::{MemorySource, SharedSource, open_ending};
use laminate::internals::evaluate::generate::greedy::generate;
use laminate::internals::evaluate::questions::Subject;
use laminate::internals::evaluate::questions::ask::{ask, read_subjects};
use laminate::internals::evaluate::questions::reading::Readings;
use laminate::internals::evaluate::{predict, score};
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::methods::operators::weighted::mixed_layers;
use laminate::internals::model::weights::storage::Storage;
use laminate::protocol::answers::MmluReport;
use laminate::protocol::events::Stage;
use laminate::{
    Accelerator, CalibrationOptions, Error, Model, Observer, QuestionOptions, Result, Session, Silent,
    WriteOptions,
};

use crate::common::{Files, MemoryFolder, StopAt, cpu, data, files, open_files, remove, run};

const MODEL: &str = "stories-planted-12L";

/// The model with a tokenizer that writes a space and each letter alike: its own joins them in " B" only.
fn with_letters() -> Files {
    let mut files = files(MODEL);
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&files["tokenizer.json"]).unwrap();
    let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
    let before = merges.len();
    merges.retain(|merge| *merge != serde_json::json!(["▁", "B"]) && *merge != "▁ B");
    assert_eq!(merges.len(), before - 1);
    files.insert("tokenizer.json".into(), tokenizer.to_string().into_bytes());
    files
}

fn question_files() -> Vec<SharedSource> {
    let mut files = open_ending(&data("mmlu/test"), "_test.csv").unwrap();
    files.extend(open_ending(&data("mmlu/dev"), "_dev.csv").unwrap());
    files
}

fn subjects(options: &QuestionOptions) -> Result<Vec<Subject>> {
    run(read_subjects(&question_files(), options))
}

fn zero_shot(questions: usize) -> QuestionOptions {
    QuestionOptions { few_shot: 0, questions_per_subject: Some(questions), ..QuestionOptions::default() }
}

fn readings(model: &Model, subjects: &[Subject], options: &QuestionOptions) -> Result<Readings> {
    Readings::new(model, None, &cpu(), subjects, options)
}

fn asked(model: &Model, subjects: &[Subject], options: &QuestionOptions) -> MmluReport {
    let (accelerator, readings) = (cpu(), readings(model, subjects, options).unwrap());
    run(ask(&Pass::original(model, &accelerator, &Silent), &readings)).unwrap()
}

#[test]
fn a_question_has_the_same_answers_alone_and_in_a_batch() {
    let model = open_files(&with_letters()).unwrap();
    let options = QuestionOptions { full_answers: true, ..zero_shot(4) };
    let all = subjects(&options).unwrap();
    assert_eq!(all.iter().map(|s| s.questions.len()).sum::<usize>(), 12);
    let together = asked(&model, &all, &options);
    let mut alone = Vec::new();
    for subject in &all {
        for (number, question) in subject.questions.iter().enumerate() {
            let one = Subject { questions: vec![question.clone()], ..subject.clone() };
            let mut report = asked(&model, &[one], &options);
            let mut answer = report.answers.pop().unwrap();
            answer.question = number;
            alone.push(answer);
        }
    }
    assert_eq!(together.answers, alone);
    let answers = || together.answers.iter();
    let letters: std::collections::BTreeSet<_> = answers().map(|a| a.letter).collect();
    let texts: std::collections::BTreeSet<_> = answers().map(|a| a.full_answer).collect();
    assert!(letters.len() > 1 && texts.len() > 1, "{:?}", together.answers);
}

#[test]
fn padding_changes_no_state_before_it() {
    let model = open_files(&files(MODEL)).unwrap();
    let accelerator = cpu();
    let pass = Pass::original(&model, &accelerator, &Silent);
    let texts: Vec<Vec<u32>> = vec![vec![1, 5, 300, 17], vec![1, 9], vec![1, 40, 41, 42, 43, 44, 45]];
    let states = |texts: &[Vec<u32>], pad| {
        let sequences = Sequences::padded(&model.config, texts, pad).unwrap();
        assert!(sequences.has_bos() && sequences.tokens() == texts.iter().map(Vec::len).max().unwrap());
        run(pass.run(&sequences, &Silent)).unwrap()
    };
    for (place, text) in texts.iter().enumerate() {
        let places = |sequence| (0..text.len()).map(|p| (sequence, p)).collect::<Vec<_>>();
        let read = |rows: burn::tensor::Tensor<2>| rows.into_data().try_into_vec::<f32>().unwrap();
        let alone = read(states(std::slice::from_ref(text), 0).rows(&places(0)).unwrap());
        for pad in [0, 77] {
            let padded = read(states(&texts, pad).rows(&places(place)).unwrap());
            assert_eq!(padded.len(), text.len() * model.config.hidden_size);
            for (i, (a, b)) in alone.iter().zip(&padded).enumerate() {
                assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{place}, {i}: {a} {b}");
            }
        }
    }
    for (bad, pad) in [(vec![], 0), (vec![vec![]], 0), (vec![vec![1; 513]], 0), (vec![vec![1, 512]], 0)] {
        assert!(Sequences::padded(&model.config, &bad, pad).is_err());
    }
    assert!(Sequences::padded(&model.config, &texts, 512).is_err());
}

#[test]
fn predictions_add_up_to_the_score_of_the_text() {
    let model = open_files(&files(MODEL)).unwrap();
    let accelerator = cpu();
    let ids = model.tokenizer.encode(laminate::demo::TEXT).unwrap();
    let sequences = Sequences::cut(&model.config, &ids, 50, 48).unwrap();
    let states = run(Pass::original(&model, &accelerator, &Silent).run(&sequences, &Silent)).unwrap();
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for (sequence, ids) in sequences.iter().enumerate() {
        places.extend((0..47).map(|position| (sequence, position)));
        targets.extend_from_slice(&ids[1..]);
    }
    let said = run(predict(
        &Pass::original(&model, &accelerator, &Silent),
        states.rows(&places).unwrap(),
        &targets,
        &Silent,
    ))
    .unwrap();
    let output = laminate::internals::evaluate::Output {
        model: &model,
        storage: Storage::of(&model),
        states: &states,
    };
    let scores = run(score(&accelerator, &sequences, output, None, &Silent)).unwrap();
    assert_eq!(said.len() as u64, scores.tokens);
    let sum: f64 = said.iter().map(|s| s.log_probability).sum();
    assert!((sum / -scores.nll - 1.0).abs() < 1e-6, "{sum} {}", scores.nll);
    let right = said.iter().zip(&targets).filter(|(s, t)| s.best == **t).count();
    // A model of stories knows every second token of one.
    assert!(right > said.len() / 3, "{right} of {}", said.len());
}

#[test]
fn examples_that_do_not_fit_are_dropped_and_questions_too() {
    let model = open_files(&with_letters()).unwrap();
    let options = QuestionOptions { questions_per_subject: Some(6), ..QuestionOptions::default() };
    let mut subjects = subjects(&options).unwrap();
    subjects[0].questions[0].text = "How many words are these? ".repeat(60);
    let readings = readings(&model, &subjects, &options).unwrap();
    // Five examples of the other subjects are too much for a context of 512 tokens of one or two letters.
    assert_eq!((readings.skipped, readings.shortened, readings.questions().len()), (1, 17, 17));
    let batches = readings.batches(2000);
    assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 17);
    for batch in batches {
        let longest = batch.iter().map(|r| r.tokens()).max().unwrap();
        assert!(longest <= 512 && longest * batch.len() <= 2000);
        assert!(batch.iter().all(|r| r.ids().len() == r.tokens() && r.letter_at() == Some(r.tokens() - 1)));
    }
    assert!(readings.batches(1).iter().all(|batch| batch.len() == 1));
}

#[test]
fn a_merged_model_answers_as_it_does_when_it_was_written() {
    let original = open_files(&with_letters()).unwrap();
    let mut session = Session::new(open_files(&with_letters()).unwrap(), cpu());
    run(session.similarity(&CalibrationOptions::default(), &Silent)).unwrap();
    let output = WriteOptions::default();
    let plan = run(session.plan(&remove(7), &output, &Silent)).unwrap().plan;
    let folder = MemoryFolder::default();
    run(session.write(&plan, &output, &mut folder.clone(), &Silent)).unwrap();
    let written = open_files(&folder.state.borrow().files).unwrap();

    let options = QuestionOptions { full_answers: true, ..zero_shot(5) };
    let subjects = subjects(&options).unwrap();
    let readings = readings(&original, &subjects, &options).unwrap();
    let accelerator = cpu();
    let layers = mixed_layers(&plan, &original.config).unwrap();
    let merged = Pass { layers, ..Pass::original(&original, &accelerator, &Silent) };
    let merged = run(ask(&merged, &readings)).unwrap();
    assert_eq!(merged, asked(&written, &subjects, &options));
    assert_ne!(merged.answers, asked(&original, &subjects, &options).answers);
}

#[test]
fn what_is_wrong_with_the_questions_is_said_in_one_sentence() {
    let message = |error: Error| {
        let message = error.to_string();
        assert!(!message.contains('\n') && message.len() < 300, "{message}");
        message
    };
    let wrong = |options: QuestionOptions| message(subjects(&options).unwrap_err());
    let named = |name: &str| QuestionOptions { subjects: vec![name.into()], ..QuestionOptions::default() };
    assert!(wrong(named("alchemy")).contains("alchemy_test.csv"));
    assert!(wrong(QuestionOptions { few_shot: 6, ..named("world_religions") }).contains("has 5 examples"));
    assert!(wrong(zero_shot(0)).contains("at least one question"));
    let file = |name: &str, bytes: &'static [u8]| Rc::new(MemorySource::new(name, bytes)) as SharedSource;
    let read = |files: &[SharedSource]| message(run(read_subjects(files, &zero_shot(9))).unwrap_err());
    assert!(read(&[file("x/y_test.csv", b"q,1,2,3,4,E\n")]).contains("x/y_test.csv, line 1"));
    assert!(read(&[file("notes.csv", b"")]).contains("there are no questions"));
    assert!(read(&[file("y_test.csv", b"\n")]).contains("there are no questions"));

    let options = zero_shot(1);
    let own_tokenizer = open_files(&files(MODEL)).unwrap();
    let error = readings(&own_tokenizer, &subjects(&options).unwrap(), &options).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)));
    assert!(message(error).contains("no single token"));
    let model = open_files(&with_letters()).unwrap();
    let mut long = subjects(&options).unwrap();
    long.truncate(1);
    long[0].questions[0].text = "long ".repeat(600);
    assert!(message(readings(&model, &long, &options).unwrap_err()).contains("512 tokens"));
}

#[test]
fn asking_can_be_stopped_between_layers() {
    let model = open_files(&with_letters()).unwrap();
    let options = zero_shot(2);
    let readings = readings(&model, &subjects(&options).unwrap(), &options).unwrap();
    let accelerator = cpu();
    let stop: &dyn Observer = &StopAt(Stage::Evaluate, 5);
    let result = run(ask(&Pass::original(&model, &accelerator, stop), &readings));
    assert_eq!(result, Err(Error::Cancelled));
}

#[test]
fn texts_are_continued_alike_alone_and_together() {
    let model = run(laminate::demo::open()).unwrap();
    let accelerator: Accelerator = cpu();
    let pass = Pass::original(&model, &accelerator, &Silent);
    let prompts = ["Once upon a time".to_owned(), "Lily saw a".to_owned(), String::new()];
    let together = run(generate(&pass, &prompts, 24)).unwrap();
    assert!(together[0].starts_with(", there was a little girl named Lily."), "{:?}", together[0]);
    for (prompt, text) in prompts.iter().zip(&together) {
        assert_eq!(
            run(generate(&pass, std::slice::from_ref(prompt), 24)).unwrap(),
            std::slice::from_ref(text)
        );
    }
    assert_eq!(run(generate(&pass, &prompts, 0)).unwrap(), ["", "", ""]);
    let too_long = ["word ".repeat(600)];
    assert!(matches!(run(generate(&pass, &too_long, 1)), Err(Error::Usage(_))));
}
