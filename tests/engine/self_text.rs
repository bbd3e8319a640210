//! Text that a model writes itself: token by token with what it remembers, as it would say it from the whole.

use laminate::internals::evaluate::generate::own_text::write_texts;
use laminate::internals::forward::pass::Pass;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::model::layers::attention::Positions;
use laminate::internals::model::layers::mixer::Past;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::{Silent, TextOptions, evaluate};

use crate::common::{cpu, open, run};

/// One token after the other gives the states that all at once give: with groups of heads, with a sliding window, and
/// in pieces of several tokens.
#[test]
fn what_is_remembered_stands_for_what_was_read() {
    for name in [
        "stories-planted-12L",
        "variants/rope-llama3",
        "variants/mistral-window",
        "variants/multi-query-untied",
    ] {
        let model = open(name);
        let ids: Vec<u32> = (0..24).map(|i| (7 * i + 3) % model.config.vocab_size as u32).collect();
        let sequences = Sequences::cut(&model.config, &ids, 2, 10).unwrap();
        let accelerator = cpu();
        let runner = Runner::new(&model, &accelerator, 10).unwrap();
        let fetched = runner.fetch(&NewLayer::original(0), Storage::of(&model)).unwrap();
        let layer = runner.upload(run(fetched.finish()).unwrap()).unwrap();
        let embedded = run(runner.embed(&sequences, Storage::of(&model))).unwrap();
        let whole = run(runner.forward(&layer, &embedded)).unwrap().chunks.remove(0);
        for piece in [1, 3] {
            let mut past = Past::default();
            for first in (0..10).step_by(piece) {
                let n = piece.min(10 - first);
                let positions = Positions::after(&model.config, first, n, accelerator.device()).unwrap();
                let x = embedded.chunks[0].clone().narrow(1, first, n);
                let beside = embedded.beside[0].clone();
                let after = runner.forward_after(&layer, x, beside, &positions, &mut past);
                let (y, _) = run(after).unwrap();
                let error = (y - whole.clone().narrow(1, first, n)).abs().max().into_scalar::<f32>();
                assert!(error < 1e-4, "{name}, tokens from {first} by {piece}: {error}");
            }
        }
    }
}

#[test]
fn a_model_knows_its_own_text_best() {
    let (model, accelerator) = (open("stories-planted-12L"), cpu());
    let pass = Pass::original(&model, &accelerator, &Silent);
    let text = run(write_texts(&pass, 12, 40, 1)).unwrap();
    assert_eq!(text, run(write_texts(&pass, 12, 40, 1)).unwrap());
    let other = run(write_texts(&pass, 12, 40, 2)).unwrap();
    assert_ne!(text, other);
    assert_eq!(text.split("\n\n").count().min(12), 12);

    // Drawn with the probabilities that the model gives, text has on average as much information as the model says:
    // it is far from what words in any order have.
    let perplexity = |text: &str| {
        let options = TextOptions { text: Some(text.to_owned()), samples: 8, ..TextOptions::default() };
        run(evaluate(&model, None, &accelerator, &options, &Silent)).unwrap().perplexity
    };
    let shuffled: Vec<&str> = {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.sort_unstable();
        words
    };
    let (own, mixed) = (perplexity(&text), perplexity(&shuffled.join(" ")));
    assert!(own < 15.0 && mixed > 3.0 * own, "{own} {mixed}");
}
