//! Our forward pass against numbers of transformers (f32), stored in `tests/data/golden`.

mod common;

use common::{cpu, golden, open, run};
use laminate::calibration::{PointRule, Sequences};
use laminate::capture::{Runner, observe};
use laminate::evaluate::{Output, score};
use laminate::merge::Mix;
use laminate::progress::Silent;

#[track_caller]
fn check(model: &str, tolerance: f64) {
    run(async {
        let golden = golden(model);
        let model = open(model).await;
        let text = model.tokenizer.encode(laminate::demo::TEXT).unwrap();
        let sequences = Sequences::cut(&model.config, &text, 128, 48).unwrap();
        assert_eq!(sequences.get(0).to_vec(), golden.ids(0));
        assert_eq!(sequences.get(127).to_vec(), golden.ids(127));

        let accelerator = cpu();
        let runner = Runner::new(&model, &accelerator, 48);
        let mut states = runner.embed(&sequences).await.unwrap();
        for layer in 0..model.config.n_layers {
            let tensors = runner.fetch(&Mix::original(layer), None).unwrap().finish().await.unwrap();
            let after = runner.forward(&runner.upload(tensors).unwrap(), &states);
            let output = observe(layer, &states, &after, PointRule::Last, true).await.unwrap();
            let last = &output.points[..model.config.hidden_size];
            for (ours, theirs) in last.iter().zip(golden.first8(layer)) {
                assert!((f64::from(*ours) - theirs).abs() < tolerance, "layer {layer}: {ours} {theirs}");
            }
            if layer > 0 {
                let theirs = golden.block_influence(layer);
                assert!((output.block_influence - theirs).abs() < tolerance, "layer {layer}");
            }
            states = after;
        }
        let output = Output { model: &model, states: &states };
        let scores = score(&accelerator, &sequences, output, Some(output), &Silent).await.unwrap();
        assert_eq!(scores.tokens, golden.tokens_scored());
        let error = (scores.perplexity() / golden.perplexity() - 1.0).abs();
        assert!(error < tolerance, "perplexity {} against {}", scores.perplexity(), golden.perplexity());
        assert!(scores.mean_kl().unwrap() < 1e-6);
        assert_eq!(scores.top1_agreement(), Some(1.0));
    });
}

#[test]
fn stories260k_gives_the_states_and_perplexity_of_transformers() {
    check("stories260K", 2e-5);
}

// Stored in F16, so that it can differ from the F32 numbers by the rounding of the weights.
#[test]
fn the_demo_gives_the_states_and_perplexity_of_transformers() {
    check("stories-planted-12L", 2e-2);
}
