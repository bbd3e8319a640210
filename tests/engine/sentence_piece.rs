//! SentencePiece models in the place of `tokenizer.json`.

use laminate::internals::model::tokenizer::sentence_piece::to_json;
use laminate::{Error, Model};
use tokenizers::Tokenizer;

use crate::common::{data, files, run, sources};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(data(&format!("tokenizers/sentencepiece/{name}"))).unwrap()
}

#[test]
fn ids_are_those_of_sentencepiece() {
    let tokenizer = Tokenizer::from_bytes(to_json(&fixture("tokenizer.model"), None, None).unwrap()).unwrap();
    let texts: Vec<(String, Vec<u32>)> = serde_json::from_slice(&fixture("ids.json")).unwrap();
    for (text, ids) in texts {
        assert_eq!(tokenizer.encode(text.as_str(), false).unwrap().get_ids(), ids, "{text:?}");
    }
}

/// Tokens are added by either file, special ones never come out of a text, and places between them are not used.
#[test]
fn tokens_are_added() {
    let settings = br#"{"added_tokens_decoder": {"1": {"content": "<s>", "special": true},
        "514": {"content": "<|mark|>", "special": false}}, "add_bos_token": false}"#;
    let added = br#"{"<|im_end|>": 512}"#;
    let json = to_json(&fixture("tokenizer.model"), Some(settings), Some(added)).unwrap();
    let tokenizer = Tokenizer::from_bytes(json).unwrap();
    assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(512));
    assert!(tokenizer.encode("a<|mark|>b", true).unwrap().get_ids().contains(&514));
    assert!(!tokenizer.encode("a", true).unwrap().get_ids().contains(&1));
    let with_bos = Tokenizer::from_bytes(to_json(&fixture("tokenizer.model"), None, None).unwrap()).unwrap();
    assert_eq!(with_bos.encode("a", true).unwrap().get_ids()[0], 1);
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let model = fixture("tokenizer.model");
    let format = |json: laminate::Result<Vec<u8>>, file: &str| match json {
        Err(Error::Format(message)) => assert!(message.starts_with(file), "{message}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{file} was read"),
    };
    format(to_json(b"\xff\xff\xff", None, None), "tokenizer.model");
    format(to_json(&model[..model.len() / 2], None, None), "tokenizer.model");
    format(to_json(&model, Some(b"{"), None), "tokenizer_config.json");
    format(to_json(&model, None, Some(br#"{"a": -1}"#)), "added_tokens.json");
    format(to_json(&model, None, Some(br#"{"a": 4294967295}"#)), "added_tokens.json");
    // Field 3 of field 2 (the algorithm) says unigrams; field 3 without the flag of field 4 removes spaces.
    for (specs, expected) in [
        (&[0x12, 2, 0x18, 1, 0x1a, 2, 0x20, 0][..], "is not BPE"),
        (&[0x12, 2, 0x18, 2, 0x1a, 0], "removes spaces"),
        (&[0x12, 2, 0x18, 2, 0x1a, 5, 0x12, 1, 7, 0x20, 0], "replaces characters"),
    ] {
        match to_json(specs, None, None) {
            Err(Error::Unsupported(message)) => assert!(message.contains(expected), "{message}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{expected}"),
        }
    }
}

/// A directory without `tokenizer.json` is a model, and is written with one.
#[test]
fn a_directory_with_a_sentencepiece_model_opens() {
    let mut files = files("stories260K");
    files.remove("tokenizer.json").unwrap();
    files.insert("tokenizer.model".to_owned(), fixture("tokenizer.model"));
    let model = run(Model::open("stories", &sources(&files))).unwrap();
    assert!(
        model.notes.iter().any(|note| note.contains("was made from tokenizer.model")),
        "{:?}",
        model.notes
    );
    assert!(model.companions.iter().any(|file| file.name() == "tokenizer.json"));
    let ids = model.tokenizer.encode("Once upon a time").unwrap();
    let texts: Vec<(String, Vec<u32>)> = serde_json::from_slice(&fixture("ids.json")).unwrap();
    assert_eq!(ids, texts[0].1);
}
