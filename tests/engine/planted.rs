//! Layers that change next to nothing, planted in random models of other kinds than the demo, are found.

use laminate::files::source::open_path;
use laminate::format::Container;
use laminate::format::element::Element;
use laminate::{CalibrationOptions, Method, Model, Session, Silent, TextOptions, WriteOptions};

use crate::common::{cpu, data, run};

/// A model, and the layers of it that change next to nothing (`tests/data/make_planted.py`).
const PLANTED: [(&str, [usize; 3]); 2] = [("qwen3", [3, 4, 7]), ("jamba", [4, 7, 10])];

fn session(name: &str) -> Session {
    let files = open_path(&data(&format!("planted/{name}"))).unwrap();
    Session::new(run(Model::open(name, &files)).unwrap(), cpu())
}

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 32, tokens: 32, ..CalibrationOptions::default() }
}

/// A planted layer is more similar to the layer before it than any other is: by diffusion maps and their mutual
/// information, whatever kinds the two layers are of.
#[test]
fn planted_layers_are_the_most_similar_to_those_before() {
    for (name, planted) in PLANTED {
        let mut session = session(name);
        let report = run(session.similarity(&calibration(), &Silent)).unwrap();
        let n = report.similarity.len();
        let before = |layer: usize| report.similarity[layer - 1][layer];
        let (found, others): (Vec<usize>, Vec<usize>) = (1..n).partition(|layer| planted.contains(layer));
        let least = found.iter().map(|layer| before(*layer)).fold(f64::INFINITY, f64::min);
        let most = others.iter().map(|layer| before(*layer)).fold(0.0, f64::max);
        assert!(least > most + 0.2, "{name}: {least} of the planted, {most} of the others");
    }
}

/// Rules that go by states remove the planted layers, and what is left computes what the model did. (Rules that go by the
/// likelihood of a text mean nothing here: the models are random.)
#[test]
fn planted_layers_are_removed() {
    for (name, planted) in PLANTED {
        for method in ["shortgpt", "laminate"] {
            let mut session = session(name);
            // A file that can hold the kinds of the layers in any order.
            let output = WriteOptions {
                container: Some(Container::Gguf),
                dtype: Some(Element::F32.into()),
                ..WriteOptions::default()
            };
            run(session.check_output(&output)).unwrap();
            run(session.similarity(&calibration(), &Silent)).unwrap();
            session.judge_on(TextOptions { samples: 8, tokens: 32, ..TextOptions::default() });
            let options = Method::named(method).unwrap().options(planted.len(), 0);
            let report = run(session.plan(&options, &output, &Silent)).unwrap();
            let kl = report.merged.kl.unwrap();
            assert!(kl < 0.01, "{name} by {method}: {:?} have a divergence of {kl}", report.plan.groups);
        }
    }
}

/// Averages find the planted layers where all layers are of one kind.
#[test]
fn planted_layers_are_merged_with_their_neighbours() {
    let (name, planted) = PLANTED[0];
    let mut session = session(name);
    run(session.similarity(&calibration(), &Silent)).unwrap();
    let options = Method::named("mka").unwrap().options(planted.len(), 0);
    let report = run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap();
    let groups: Vec<&Vec<usize>> = report.plan.groups.iter().filter(|group| group.len() > 1).collect();
    assert_eq!(groups, [&vec![2, 3, 4], &vec![6, 7]]);
}
