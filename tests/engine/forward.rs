//! Our forward pass against numbers of transformers (f32), stored in `tests/data`.

use laminate::internals::analysis::observe::{LayerOutput, observe};
use laminate::internals::evaluate::{Output, score};
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::forward::states::HiddenStates;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::internals::quality::Scores;
use laminate::protocol::text::PointRule;
use laminate::{Model, Silent};

use crate::common::{cpu, json, numbers, open, run};

/// Runs all layers; what each gave, and the score of the sequences.
fn forward(model: &Model, sequences: &Sequences) -> (Vec<LayerOutput>, Scores) {
    run(async {
        let accelerator = cpu();
        let runner = Runner::new(model, &accelerator, sequences.tokens()).unwrap();
        let mut states: HiddenStates = runner.embed(sequences, Storage::of(model)).await.unwrap();
        let mut outputs = Vec::new();
        for layer in 0..model.config.n_layers {
            let tensors =
                runner.fetch(&NewLayer::original(layer), Storage::of(model)).unwrap().finish().await.unwrap();
            let after = runner.forward(&runner.upload(tensors).unwrap(), &states).await.unwrap();
            outputs.push(observe(layer, &states, &after, PointRule::Last, true).await.unwrap());
            states = after;
        }
        let output = Output { model, storage: Storage::of(model), states: &states };
        let scores = score(&accelerator, sequences, output, Some(output), &Silent).await.unwrap();
        (outputs, scores)
    })
}

#[track_caller]
fn assert_close(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} instead of {theirs}");
}

#[track_caller]
fn check_story_model(name: &str) {
    let golden = json(&format!("golden/{name}.json"));
    let model = open(name);
    let text = model.tokenizer.encode(laminate::demo::TEXT).unwrap();
    let sequences = Sequences::cut(&model.config, &text, 128, 48).unwrap();
    for sequence in [0, 127] {
        let ids = numbers(&golden["sequences"][sequence]);
        let ours: Vec<f64> = sequences.get(sequence).iter().map(|id| f64::from(*id)).collect();
        assert_eq!(ours, ids);
    }
    let (outputs, scores) = forward(&model, &sequences);
    for (layer, output) in outputs.iter().enumerate() {
        let first8 = numbers(&golden["hidden_after_layer"]["first8"][layer]);
        for (ours, theirs) in output.points.iter().zip(first8) {
            assert_close(&format!("state after layer {layer}"), f64::from(*ours), theirs, 2e-5);
        }
        if layer > 0 {
            let theirs = golden["block_influence_layers_1_on"][layer - 1].as_f64().unwrap();
            assert_close("block influence", output.block_influence, theirs, 1e-5);
        }
    }
    assert_eq!(scores.tokens, 6016);
    let perplexity = golden["perplexity"].as_f64().unwrap();
    assert_close("perplexity", scores.perplexity() / perplexity, 1.0, 1e-5);
    assert!(scores.mean_kl().unwrap() < 1e-6);
    assert_eq!(scores.top1_agreement(), Some(1.0));
}

#[test]
fn stories260k_gives_the_states_and_perplexity_of_transformers() {
    check_story_model("stories260K");
}

#[test]
fn stories_planted_12l_gives_the_states_and_perplexity_of_transformers() {
    check_story_model("stories-planted-12L");
}

#[track_caller]
fn check_variant(name: &str) {
    let folder = format!("models/variants/{name}");
    let golden = json(&format!("{folder}/golden.json"));
    let model = open(&format!("variants/{name}"));
    let ids: Vec<u32> = golden["ids"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| numbers(s).into_iter().skip(1).map(|id| id as u32))
        .collect();
    let sequences = Sequences::cut(&model.config, &ids, 2, 40).unwrap();
    let (outputs, scores) = forward(&model, &sequences);
    for (layer, output) in outputs.iter().enumerate() {
        let last = output.points.chunks(model.config.hidden_size).next_back().unwrap();
        for (ours, theirs) in last.iter().zip(numbers(&golden["last_state_first8"][layer])) {
            let tolerance = 1e-4 * theirs.abs().max(1.0);
            assert_close(&format!("{name}, state after layer {layer}"), f64::from(*ours), theirs, tolerance);
        }
    }
    let nll = golden["nll"].as_f64().unwrap();
    assert_close(&format!("{name}, log-likelihood"), scores.nll, nll, 1e-4 * nll);
}

#[test]
fn multi_query_attention_and_an_untied_head_agree() {
    check_variant("multi-query-untied");
}

#[test]
fn multi_head_attention_with_attention_and_mlp_biases_agrees() {
    check_variant("multi-head-biases");
}

#[test]
fn explicit_head_width_and_rope_base_agree() {
    check_variant("wide-heads-theta");
}

#[test]
fn llama3_rope_scaling_agrees() {
    check_variant("rope-llama3");
}

#[test]
fn linear_rope_scaling_agrees() {
    check_variant("rope-linear");
}

#[test]
fn yarn_rope_scaling_agrees() {
    check_variant("rope-yarn");
}

#[test]
fn yarn_between_places_with_an_attention_factor_of_its_own_agrees() {
    check_variant("rope-yarn-odd");
}

#[test]
fn dynamic_rope_scaling_agrees_within_the_context() {
    check_variant("rope-dynamic");
}

#[test]
fn mistral_with_a_sliding_window_agrees() {
    check_variant("mistral-window");
}

#[test]
fn bf16_weights_in_three_shards_agree() {
    check_variant("bf16-shards");
}
